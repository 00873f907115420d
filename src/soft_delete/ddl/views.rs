//! The two views of a table: brought in line with its columns where the server lets a view be replaced, made anew with all
//! that people have put on them where it does not.

use pgrx::pg_sys::{self, Oid};

use crate::backfill::statements::identifier;
use crate::error::Result;
use crate::server::view::{self, Shown};
use crate::server::{catalog, heap, spi};
use crate::soft_delete::managed::{self, Managed, qualified};
use crate::soft_delete::objects;

/// Renames and adds columns of both views as the table's are now. Never drops one.
pub fn follow(managed: &Managed) -> Result<bool> {
    let mut changed = false;
    for (view, condition) in [(managed.live_view, "IS NULL"), (managed.deleted_view, "IS NOT NULL")] {
        let Some(view) = view.filter(|&view| heap::exists(view)) else { continue };
        changed |= follow_one(managed, view, condition)?;
    }
    Ok(changed)
}

fn follow_one(managed: &Managed, view: Oid, condition: &str) -> Result<bool> {
    let Some((schema, name)) = heap::name(view) else { return Ok(false) };
    let sql = qualified(&schema, &name);
    if objects::owner(view)? != managed.owner {
        give_to_owner(managed, &sql)?;
    }
    let shown = view::columns(view)?;
    let columns = managed::columns(managed.relid)?;
    let called = |number: i16| columns.iter().find(|column| column.number == number).map(|column| &column.name);
    let renamed: Vec<(&Shown, &String)> = shown
        .iter()
        .filter_map(|column| called(column.number).filter(|name| **name != column.name).map(|name| (column, name)))
        .collect();
    let added: Vec<&str> = columns
        .iter()
        .filter(|column| !shown.iter().any(|shown| shown.number == column.number))
        .map(|column| column.name.as_str())
        .collect();
    if renamed.is_empty() && added.is_empty() {
        return Ok(false);
    }
    let options = options(view)?;
    spi::as_owner(managed.owner, || {
        for (column, name) in &renamed {
            spi::execute(
                &format!("ALTER VIEW {sql} RENAME COLUMN {} TO {}", identifier(&column.name), identifier(name)),
                &[],
            )?;
        }
        if !added.is_empty() {
            let known = shown.iter().map(|column| called(column.number).map_or(&*column.name, |name| name));
            let list: Vec<String> = known.chain(added).map(|name| format!("t.{}", identifier(name))).collect();
            let with = if options.is_empty() { String::new() } else { format!(" WITH ({})", options.join(", ")) };
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
    })?;
    Ok(true)
}

/// Who gave the table away need not be a member of both roles any more.
fn give_to_owner(managed: &Managed, view: &str) -> Result<()> {
    let Some(owner) = catalog::role_name(managed.owner) else { return Ok(()) };
    spi::as_owner(pg_sys::Oid::from(pg_sys::BOOTSTRAP_SUPERUSERID), || {
        spi::execute(&format!("ALTER VIEW {view} OWNER TO {}", identifier(&owner)), &[])?;
        Ok(())
    })
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
    /// What is to be typed for it: grants, options, a comment, rules, triggers.
    statements: Vec<String>,
}

/// Triggers of ours are made with the view.
const EVERYTHING: &str = "
    SELECT s.statement FROM (
        SELECT 1 AS step, 0::pg_catalog.int8 AS number,
               pg_catalog.format('REVOKE ALL ON %s FROM %s', v.sql, CASE a.grantee WHEN 0::pg_catalog.oid THEN 'PUBLIC'
                   ELSE pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(a.grantee)) END) AS statement
        FROM v CROSS JOIN LATERAL (
            SELECT DISTINCT x.grantee FROM pg_catalog.aclexplode(v.base_acl) x WHERE x.grantee OPERATOR(pg_catalog.<>) v.relowner) a
        UNION ALL
        SELECT 2, pg_catalog.row_number() OVER (),
               pg_catalog.format('GRANT %s ON %s TO %s%s', a.privilege_type, v.sql, CASE a.grantee WHEN 0::pg_catalog.oid THEN 'PUBLIC'
                   ELSE pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(a.grantee)) END,
                   CASE WHEN a.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END)
        FROM v CROSS JOIN LATERAL pg_catalog.aclexplode(v.relacl) a
        WHERE a.grantee OPERATOR(pg_catalog.<>) v.relowner
        UNION ALL
        SELECT 3, 0, pg_catalog.format('ALTER VIEW %s SET (%s)', v.sql, pg_catalog.array_to_string(v.reloptions, ', '))
        FROM v WHERE v.reloptions IS NOT NULL
        UNION ALL
        SELECT 3, 1, pg_catalog.format('ALTER VIEW %s RESET (security_invoker)', v.sql)
        FROM v WHERE NOT EXISTS (SELECT FROM pg_catalog.unnest(v.reloptions) o WHERE pg_catalog.starts_with(o, 'security_invoker='))
        UNION ALL
        SELECT 4, 0, pg_catalog.format('COMMENT ON VIEW %s IS %L', v.sql, d.description)
        FROM v JOIN pg_catalog.pg_description d ON d.objoid OPERATOR(pg_catalog.=) v.oid AND d.objsubid OPERATOR(pg_catalog.=) 0
             AND d.classoid OPERATOR(pg_catalog.=) 'pg_catalog.pg_class'::pg_catalog.regclass
        UNION ALL
        SELECT 6, r.oid::pg_catalog.int8, pg_catalog.pg_get_ruledef(r.oid)
        FROM v JOIN pg_catalog.pg_rewrite r ON r.ev_class OPERATOR(pg_catalog.=) v.oid AND r.rulename OPERATOR(pg_catalog.<>) '_RETURN'
        UNION ALL
        SELECT 7, t.oid::pg_catalog.int8, pg_catalog.pg_get_triggerdef(t.oid)
        FROM v JOIN pg_catalog.pg_trigger t ON t.tgrelid OPERATOR(pg_catalog.=) v.oid AND NOT t.tgisinternal
        WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_proc p WHERE p.oid OPERATOR(pg_catalog.=) t.tgfoid
                            AND p.pronamespace OPERATOR(pg_catalog.=) 'upkeep'::pg_catalog.regnamespace)
    ) s ORDER BY s.step, s.number";

/// What comes before and after a column's name, which may be another one by then.
const OF_COLUMNS: &str = "
    SELECT s.column, s.before, s.after FROM (
        SELECT a.attname::pg_catalog.text AS column, 1 AS step,
               pg_catalog.format('ALTER VIEW %s ALTER COLUMN ', v.sql) AS before,
               pg_catalog.concat(' SET DEFAULT ', pg_catalog.pg_get_expr(f.adbin, f.adrelid)) AS after
        FROM v JOIN pg_catalog.pg_attribute a ON a.attrelid OPERATOR(pg_catalog.=) v.oid
        JOIN pg_catalog.pg_attrdef f ON f.adrelid OPERATOR(pg_catalog.=) v.oid AND f.adnum OPERATOR(pg_catalog.=) a.attnum
        UNION ALL
        SELECT a.attname::pg_catalog.text, 2, pg_catalog.format('COMMENT ON COLUMN %s.', v.sql),
               pg_catalog.format(' IS %L', d.description)
        FROM v JOIN pg_catalog.pg_attribute a ON a.attrelid OPERATOR(pg_catalog.=) v.oid
        JOIN pg_catalog.pg_description d ON d.objoid OPERATOR(pg_catalog.=) v.oid AND d.objsubid OPERATOR(pg_catalog.=) a.attnum
             AND d.classoid OPERATOR(pg_catalog.=) 'pg_catalog.pg_class'::pg_catalog.regclass
        UNION ALL
        SELECT a.attname::pg_catalog.text, 3, pg_catalog.format('GRANT %s (', x.privilege_type),
               pg_catalog.format(') ON %s TO %s%s', v.sql, CASE x.grantee WHEN 0::pg_catalog.oid THEN 'PUBLIC'
                   ELSE pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(x.grantee)) END,
                   CASE WHEN x.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END)
        FROM v JOIN pg_catalog.pg_attribute a ON a.attrelid OPERATOR(pg_catalog.=) v.oid
        CROSS JOIN LATERAL pg_catalog.aclexplode(a.attacl) x
    ) s ORDER BY s.step";

/// `v`: the view ($1), its table ($2).
const VIEW: &str = "
    WITH v AS (
        SELECT c.oid, c.relowner, c.relacl, c.reloptions, pg_catalog.format('%I.%I', n.nspname, c.relname) AS sql, b.relacl AS base_acl
        FROM pg_catalog.pg_class c
        JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace
        JOIN pg_catalog.pg_class b ON b.oid OPERATOR(pg_catalog.=) $2
        WHERE c.oid OPERATOR(pg_catalog.=) $1)";

/// A statement around a column's name, and the table's column it is about: its number outlives a new name.
struct OfColumn {
    number: i16,
    before: String,
    after: String,
}

/// Both views, dropped, and what is to be done when they are there again.
pub struct Dropped {
    live: (Saved, Vec<OfColumn>),
    deleted: (Saved, Vec<OfColumn>),
}

/// Drops both views. `None`: there are none. What depends on them is the server's to say.
pub fn drop_both(managed: &Managed) -> Result<Option<Dropped>> {
    let (Some(live), Some(deleted)) = (managed.live_view, managed.deleted_view) else { return Ok(None) };
    if !heap::exists(live) || !heap::exists(deleted) {
        return Ok(None);
    }
    let dropped = Dropped { live: save(live, managed.relid)?, deleted: save(deleted, managed.relid)? };
    spi::as_owner(managed.owner, || {
        for (saved, _) in [&dropped.live, &dropped.deleted] {
            spi::execute(&format!("DROP VIEW {}", qualified(&saved.schema, &saved.name)), &[])?;
        }
        Ok(())
    })?;
    Ok(Some(dropped))
}

fn save(view: Oid, table: Oid) -> Result<(Saved, Vec<OfColumn>)> {
    let (schema, name) = heap::name(view).unwrap_or_default();
    let shown = view::columns(view)?;
    spi::unambiguous(|| {
        let args = [view.into(), table.into()];
        let statements =
            spi::execute_returning(&format!("{VIEW} {EVERYTHING}"), &args, |row| row.require::<String>(1))?;
        let of_columns = spi::execute_returning(&format!("{VIEW} {OF_COLUMNS}"), &args, |row| {
            Ok((row.require::<String>(1)?, row.require::<String>(2)?, row.require::<String>(3)?))
        })?;
        let of_columns = of_columns
            .into_iter()
            .filter_map(|(column, before, after)| {
                let number = shown.iter().find(|shown| shown.name == column)?.number;
                Some(OfColumn { number, before, after })
            })
            .collect();
        Ok((Saved { schema, name, statements }, of_columns))
    })
}

/// Makes both views again, under their names.
pub fn restore(managed: &Managed, dropped: &Dropped) -> Result<()> {
    let ((live, live_columns), (deleted, deleted_columns)) = (&dropped.live, &dropped.deleted);
    make(managed, &live.name, &deleted.name)?;
    let columns = managed::columns(managed.relid)?;
    spi::as_owner(managed.owner, || {
        spi::unambiguous(|| {
            for (saved, of_columns) in [(live, live_columns), (deleted, deleted_columns)] {
                for statement in &saved.statements {
                    spi::execute(statement, &[])?;
                }
                for OfColumn { number, before, after } in of_columns {
                    if let Some(column) = columns.iter().find(|column| column.number == *number) {
                        spi::execute(&format!("{before}{}{after}", identifier(&column.name)), &[])?;
                    }
                }
            }
            Ok(())
        })
    })
}

/// Creates both views and remembers them.
pub fn make(managed: &Managed, live: &str, deleted: &str) -> Result<()> {
    let (live, deleted) = objects::create_views(managed, live, deleted)?;
    spi::bookkeeping(|| {
        spi::execute(
            "UPDATE upkeep._soft_delete_table SET live_view = $2, deleted_view = $3 WHERE relid OPERATOR(pg_catalog.=) $1",
            &[managed.relid.into(), live.into(), deleted.into()],
        )
    })
    .map(drop)
}
