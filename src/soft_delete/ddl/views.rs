//! The two views of a table: brought in line with its columns where the server lets a view be replaced, made anew with all
//! that people have put on them where it does not. Only while they are ours (`ours`).

use super::ours::{self, View};
use crate::error::*;
use crate::server::view::{self, Shown};
use crate::server::{Oid, heap, spi};
use crate::soft_delete::managed::{self, Managed};
use crate::soft_delete::objects;
use crate::sql::quote::{identifier, literal, qualified};

/// Renames and adds columns of both views as the table's are now, and gives them to its owner. Never drops one, and leaves
/// alone, with a warning, what somebody else may have written.
pub fn follow(managed: &Managed) -> Result<()> {
    for view in [managed.live_view, managed.deleted_view].into_iter().flatten() {
        follow_one(managed, view)?;
    }
    Ok(())
}

/// What a view lacks.
struct Change<'a> {
    shown: &'a [Shown],
    renamed: Vec<(&'a Shown, &'a String)>,
    added: Vec<&'a str>,
}

fn change<'a>(shown: &'a [Shown], columns: &'a [managed::Column]) -> Option<Change<'a>> {
    let called = |number: i16| columns.iter().find(|column| column.number == number).map(|column| &column.name);
    let renamed: Vec<_> = shown
        .iter()
        .filter_map(|column| called(column.number).filter(|name| **name != column.name).map(|name| (column, name)))
        .collect();
    let added: Vec<_> = columns
        .iter()
        .filter(|column| !shown.iter().any(|shown| shown.number == column.number))
        .map(|column| column.name.as_str())
        .collect();
    (!renamed.is_empty() || !added.is_empty()).then_some(Change { shown, renamed, added })
}

fn follow_one(managed: &Managed, view: Oid) -> Result<()> {
    let Some(seen) = ours::look(view)? else { return Ok(()) };
    if !seen.is_the_tables_owners() && !give_to_owner(managed, seen)? {
        return Ok(());
    }
    let shown = view::columns(view)?;
    let columns = managed::columns(managed.relid)?;
    let Some(change) = change(&shown, &columns) else { return Ok(()) };
    // Looked at again under the lock: what is replaced is what was looked at.
    let Some(seen) = ours::locked(view)? else { return Ok(()) };
    let differences = seen.differences();
    if differences.is_empty() {
        replace(managed, &seen, &change)
    } else {
        seen.warn("columns of the table do not follow in", &differences);
        Ok(())
    }
}

fn replace(managed: &Managed, view: &View, change: &Change<'_>) -> Result<()> {
    let options = options(view.oid)?;
    let sql = &view.sql;
    spi::as_owner(managed.owner, || {
        for (column, name) in &change.renamed {
            spi::execute(
                &format!("ALTER VIEW {sql} RENAME COLUMN {} TO {}", identifier(&column.name), identifier(name)),
                &[],
            )?;
        }
        if !change.added.is_empty() {
            let called = |column: &Shown| {
                change
                    .renamed
                    .iter()
                    .find(|(shown, _)| *shown == column)
                    .map_or(column.name.clone(), |(_, name)| (*name).clone())
            };
            let known = change.shown.iter().map(called);
            let added = change.added.iter().map(|name| (*name).to_owned());
            let list: Vec<String> = known.chain(added).map(|name| format!("t.{}", identifier(&name))).collect();
            let with = if options.is_empty() { String::new() } else { format!(" WITH ({})", options.join(", ")) };
            let condition = if Some(view.oid) == managed.live_view { "IS NULL" } else { "IS NOT NULL" };
            spi::execute(
                &format!(
                    "CREATE OR REPLACE VIEW {sql}{with} AS SELECT {} FROM {} AS t WHERE t.{} {condition}",
                    list.join(", "),
                    managed.sql(),
                    identifier(&managed.deleted_at)
                ),
                &[],
            )?;
        }
        Ok(())
    })
}

/// Who gave the table away need not be a member of both roles any more; hence as superuser, which only a view may see that
/// says nothing but what we say. `false`: it stays with its owner, whose text it is.
fn give_to_owner(managed: &Managed, seen: View) -> Result<bool> {
    let is_refused = |seen: &View| {
        let differences = seen.all_differences();
        if !differences.is_empty() {
            seen.warn("the table's owner does not get", &differences);
        }
        !differences.is_empty()
    };
    // What somebody else has written is not waited for either.
    if is_refused(&seen) {
        return Ok(false);
    }
    match ours::locked(seen.oid)? {
        Some(seen) if !is_refused(&seen) => view::hand_over(seen.oid, managed.owner).map(|()| true),
        _ => Ok(false),
    }
}

/// `security_invoker=true`
fn options(view: Oid) -> Result<Vec<String>> {
    let found = spi::execute_returning(
        "SELECT coalesce(c.reloptions, '{}') FROM pg_catalog.pg_class c WHERE c.oid OPERATOR(pg_catalog.=) $1",
        &[view.into()],
        |row| row.require::<Vec<String>>(1),
    )?;
    Ok(found.into_iter().next().unwrap_or_default())
}

/// A view with everything on it that a new one lacks.
pub struct Saved {
    schema: String,
    name: String,
    owner: Oid,
    /// What is to be typed for it, and by whom: grants, options, a comment, rules, triggers.
    statements: Vec<(Oid, String)>,
    of_columns: Vec<OfColumn>,
    grants: Vec<String>,
    /// What acts as the view's owner, or may be another's.
    additions: Vec<String>,
}

/// Triggers of ours are made with the view. A grant is its grantor's, in the order in which they were made: who granted
/// something further had been granted it before.
const EVERYTHING: &str = "
    SELECT s.actor, s.statement FROM (
        SELECT 1 AS step, a.number, a.grantor AS actor,
               pg_catalog.format('GRANT %s ON %s TO %s%s', a.privilege_type, v.sql, CASE a.grantee WHEN 0::pg_catalog.oid THEN 'PUBLIC'
                   ELSE pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(a.grantee)) END,
                   CASE WHEN a.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END) AS statement
        FROM v CROSS JOIN LATERAL ROWS FROM (pg_catalog.aclexplode(v.relacl))
            WITH ORDINALITY a (grantor, grantee, privilege_type, is_grantable, number)
        WHERE a.grantee OPERATOR(pg_catalog.<>) v.relowner
        UNION ALL
        SELECT 3, 0, v.relowner, pg_catalog.format('ALTER VIEW %s SET (%s)', v.sql, pg_catalog.array_to_string(v.reloptions, ', '))
        FROM v WHERE v.reloptions IS NOT NULL
        UNION ALL
        SELECT 4, 0, v.relowner, pg_catalog.format('COMMENT ON VIEW %s IS %L', v.sql, d.description)
        FROM v JOIN pg_catalog.pg_description d ON d.objoid OPERATOR(pg_catalog.=) v.oid AND d.objsubid OPERATOR(pg_catalog.=) 0
             AND d.classoid OPERATOR(pg_catalog.=) 'pg_catalog.pg_class'::pg_catalog.regclass
        UNION ALL
        SELECT 6, r.oid::pg_catalog.int8, v.relowner, pg_catalog.pg_get_ruledef(r.oid)
        FROM v JOIN pg_catalog.pg_rewrite r ON r.ev_class OPERATOR(pg_catalog.=) v.oid AND r.rulename OPERATOR(pg_catalog.<>) '_RETURN'
        UNION ALL
        SELECT 7, t.oid::pg_catalog.int8, v.relowner, pg_catalog.pg_get_triggerdef(t.oid)
        FROM v JOIN pg_catalog.pg_trigger t ON t.tgrelid OPERATOR(pg_catalog.=) v.oid AND NOT t.tgisinternal
        WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_proc p WHERE p.oid OPERATOR(pg_catalog.=) t.tgfoid
                            AND p.pronamespace OPERATOR(pg_catalog.=) 'upkeep'::pg_catalog.regnamespace)
    ) s ORDER BY s.step, s.number";

/// What comes before and after a column's name, which may be another one by then.
const OF_COLUMNS: &str = "
    SELECT s.column, s.before, s.after, s.actor FROM (
        SELECT a.attname::pg_catalog.text AS column, 1 AS step, 0::pg_catalog.int8 AS number, v.relowner AS actor,
               pg_catalog.format('ALTER VIEW %s ALTER COLUMN ', v.sql) AS before,
               pg_catalog.concat(' SET DEFAULT ', pg_catalog.pg_get_expr(f.adbin, f.adrelid)) AS after
        FROM v JOIN pg_catalog.pg_attribute a ON a.attrelid OPERATOR(pg_catalog.=) v.oid
        JOIN pg_catalog.pg_attrdef f ON f.adrelid OPERATOR(pg_catalog.=) v.oid AND f.adnum OPERATOR(pg_catalog.=) a.attnum
        UNION ALL
        SELECT a.attname::pg_catalog.text, 2, 0, v.relowner, pg_catalog.format('COMMENT ON COLUMN %s.', v.sql),
               pg_catalog.format(' IS %L', d.description)
        FROM v JOIN pg_catalog.pg_attribute a ON a.attrelid OPERATOR(pg_catalog.=) v.oid
        JOIN pg_catalog.pg_description d ON d.objoid OPERATOR(pg_catalog.=) v.oid AND d.objsubid OPERATOR(pg_catalog.=) a.attnum
             AND d.classoid OPERATOR(pg_catalog.=) 'pg_catalog.pg_class'::pg_catalog.regclass
        UNION ALL
        SELECT a.attname::pg_catalog.text, 3, x.number, x.grantor, pg_catalog.format('GRANT %s (', x.privilege_type),
               pg_catalog.format(') ON %s TO %s%s', v.sql, CASE x.grantee WHEN 0::pg_catalog.oid THEN 'PUBLIC'
                   ELSE pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(x.grantee)) END,
                   CASE WHEN x.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END)
        FROM v JOIN pg_catalog.pg_attribute a ON a.attrelid OPERATOR(pg_catalog.=) v.oid
        CROSS JOIN LATERAL ROWS FROM (pg_catalog.aclexplode(a.attacl))
            WITH ORDINALITY x (grantor, grantee, privilege_type, is_grantable, number)
    ) s ORDER BY s.step, s.number";

/// Who has granted what to whom, but for the owner's own rights.
const GRANTS: &str = "
    SELECT pg_catalog.concat_ws(' ', g.attname, a.privilege_type, a.grantee, a.grantor, a.is_grantable) FROM v
    CROSS JOIN LATERAL (
        SELECT NULL::pg_catalog.name AS attname, v.relacl AS acl
        UNION ALL
        SELECT x.attname, x.attacl FROM pg_catalog.pg_attribute x
        WHERE x.attrelid OPERATOR(pg_catalog.=) v.oid AND NOT x.attisdropped) g
    CROSS JOIN LATERAL pg_catalog.aclexplode(g.acl) a
    WHERE a.grantee OPERATOR(pg_catalog.<>) v.relowner ORDER BY 1";

/// `v`: the view ($1).
const VIEW: &str = "
    WITH v AS (
        SELECT c.oid, c.relowner, c.relacl, c.reloptions, pg_catalog.format('%I.%I', n.nspname, c.relname) AS sql
        FROM pg_catalog.pg_class c
        JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace
        WHERE c.oid OPERATOR(pg_catalog.=) $1)";

/// A statement around a column's name, and the table's column it is about: its number outlives a new name.
struct OfColumn {
    column: String,
    number: i16,
    before: String,
    after: String,
    actor: Oid,
}

/// Both views, dropped, and what is to be done when they are there again.
pub struct Dropped {
    live: Saved,
    deleted: Saved,
}

/// Drops both views. `None`: there are none. What depends on them is the server's to say; what is not ours, or not the
/// owner's to make again, is refused.
pub fn drop_both(managed: &Managed) -> Result<Option<Dropped>> {
    let (Some(live), Some(deleted)) = (managed.live_view, managed.deleted_view) else { return Ok(None) };
    let (Some(live), Some(deleted)) = (ours::locked(live)?, ours::locked(deleted)?) else { return Ok(None) };
    for seen in [&live, &deleted] {
        let reasons = seen.in_the_way_of_making_anew();
        if !reasons.is_empty() {
            return Err(ours::refuse(
                "alter_soft_deleted does not make anew",
                seen,
                &reasons,
                format!(
                    "Look at it: SELECT pg_get_viewdef({sql}); take down what stands in the way by hand \
                    (DROP VIEW {}; or DROP TRIGGER) and put it up again afterwards; \
                    SELECT upkeep.repair_soft_delete({}); makes a view of soft delete where there is none.",
                    seen.sql,
                    literal(&managed.sql()),
                    sql = literal(&seen.sql),
                ),
            ));
        }
    }
    let dropped = Dropped { live: save(&live)?, deleted: save(&deleted)? };
    spi::as_owner(managed.owner, || {
        for saved in [&dropped.live, &dropped.deleted] {
            spi::execute(&format!("DROP VIEW {}", qualified(&saved.schema, &saved.name)), &[])?;
        }
        Ok(())
    })?;
    Ok(Some(dropped))
}

fn save(seen: &View) -> Result<Saved> {
    let (schema, name) = heap::name(seen.oid).unwrap_or_default();
    let shown = view::columns(seen.oid)?;
    spi::unambiguous(|| {
        let args = [seen.oid.into()];
        let statements = spi::execute_returning(&format!("{VIEW} {EVERYTHING}"), &args, |row| {
            Ok((row.require::<Oid>(1)?, row.require::<String>(2)?))
        })?;
        let of_columns = spi::execute_returning(&format!("{VIEW} {OF_COLUMNS}"), &args, |row| {
            let column: String = row.next()?;
            let number = shown.iter().find(|shown| shown.name == column).map_or(0, |shown| shown.number);
            Ok(OfColumn { column, number, before: row.next()?, after: row.next()?, actor: row.next()? })
        })?;
        Ok(Saved {
            schema,
            name,
            owner: seen.owner,
            statements,
            of_columns,
            grants: grants(seen.oid)?,
            additions: seen.additions().to_vec(),
        })
    })
}

fn grants(view: Oid) -> Result<Vec<String>> {
    spi::execute_returning(&format!("{VIEW} {GRANTS}"), &[view.into()], |row| row.require(1))
}

/// Makes both views again, under their names.
pub fn restore(managed: &Managed, dropped: &Dropped) -> Result<()> {
    make(managed, &dropped.live.schema, &dropped.live.name, true)?;
    make(managed, &dropped.deleted.schema, &dropped.deleted.name, false)?;
    let Some(managed) = managed::find(managed.relid)? else { return Ok(()) };
    for (saved, view) in [(&dropped.live, managed.live_view), (&dropped.deleted, managed.deleted_view)] {
        restore_one(&managed, saved, view.unwrap_or(Oid::INVALID))?;
    }
    Ok(())
}

fn restore_one(managed: &Managed, saved: &Saved, view: Oid) -> Result<()> {
    let sql = qualified(&saved.schema, &saved.name);
    let other_owner = managed.owner != saved.owner;
    if other_owner && !saved.additions.is_empty() {
        // They would be the new owner's, who has not written them.
        return Err(Error::new(
            OBJECT_NOT_IN_PREREQUISITE_STATE,
            format!("view {sql} has been given things that its new owner has not written"),
        )
        .detail(format!("They are: {}.", saved.additions.join(", ")))
        .hint("Remove them first, and let the new owner have them made."));
    }
    // What the old owner granted is the new one's grant, as after ALTER TABLE .. OWNER TO.
    let actor = |actor: Oid| if actor == saved.owner { managed.owner } else { actor };
    let columns = managed::columns(managed.relid)?;
    spi::unambiguous(|| {
        spi::as_owner(managed.owner, || revoke_all(view, &sql))?;
        for (by, statement) in &saved.statements {
            spi::as_owner(actor(*by), || spi::execute(statement, &[]))?;
        }
        for OfColumn { number, before, after, actor: by, .. } in &saved.of_columns {
            if let Some(column) = columns.iter().find(|column| column.number == *number) {
                let statement = format!("{before}{}{after}", identifier(&column.name));
                spi::as_owner(actor(*by), || spi::execute(&statement, &[]))?;
            }
        }
        Ok(())
    })?;
    if other_owner || saved.grants == grants(view)? || saved.lost_columns(&columns) {
        return Ok(());
    }
    Err(Error::new(
        OBJECT_NOT_IN_PREREQUISITE_STATE,
        format!("the grants on view {sql} cannot be made again as they were"),
    )
    .detail("Somebody who has granted rights on it further would grant them as another role now.")
    .hint("Revoke them first, and grant them again afterwards."))
}

impl Saved {
    /// Has a column gone, or got another name, on which something was granted?
    fn lost_columns(&self, columns: &[managed::Column]) -> bool {
        let is_there = |of: &OfColumn| columns.iter().any(|now| now.number == of.number && now.name == of.column);
        !self.of_columns.iter().all(is_there)
    }
}

/// A new view has the table's grants, and those of ALTER DEFAULT PRIVILEGES.
fn revoke_all(view: Oid, sql: &str) -> Result<()> {
    let grantees: Vec<String> = spi::execute_returning(
        "SELECT DISTINCT CASE a.grantee WHEN 0::pg_catalog.oid THEN 'PUBLIC'
                         ELSE pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(a.grantee)) END
         FROM pg_catalog.pg_class c CROSS JOIN LATERAL pg_catalog.aclexplode(c.relacl) a
         WHERE c.oid OPERATOR(pg_catalog.=) $1 AND a.grantee OPERATOR(pg_catalog.<>) c.relowner",
        &[view.into()],
        |row| row.require(1),
    )?;
    for grantee in grantees {
        spi::execute(&format!("REVOKE ALL ON {sql} FROM {grantee}"), &[])?;
    }
    Ok(())
}

/// Creates one of the views and remembers it.
pub fn make(managed: &Managed, schema: &str, name: &str, live: bool) -> Result<()> {
    let view = objects::create_view(managed, schema, name, live)?;
    let sql = if live {
        "UPDATE upkeep._soft_delete_table SET live_view = $2 WHERE relid OPERATOR(pg_catalog.=) $1"
    } else {
        "UPDATE upkeep._soft_delete_table SET deleted_view = $2 WHERE relid OPERATOR(pg_catalog.=) $1"
    };
    spi::bookkeeping(|| spi::execute(sql, &[managed.relid.into(), view.into()])).map(drop)
}
