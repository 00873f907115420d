//! Is a view still what soft delete has written, or did somebody put text of their own into it? A view acts with its owner's
//! rights, and shows what its author wanted to show: only what is ours, node for node, is given to another owner, gets a new
//! column, or is taken down and made again (LAW 29). Who wrote the rest the server does not know.

use pgrx::prelude::*;

use crate::error::{Error, OBJECT_NOT_IN_PREREQUISITE_STATE, Result};
use crate::server::raise::{self, Level, answer};
use crate::server::spi::{self, Row};
use crate::server::view::{self, Shape};
use crate::server::{Oid, catalog, heap};
use crate::soft_delete::managed::Managed;
use crate::sql::quote::literal;

/// A view of soft delete, as the catalogs have it.
pub struct View {
    pub oid: Oid,
    /// Quoted and qualified.
    pub sql: String,
    pub owner: Oid,
    table: Oid,
    table_sql: String,
    table_owner: Oid,
    is_live: bool,
    shape: Option<Shape>,
    deleted_at: Option<i16>,
    security_invoker: bool,
    /// Rules, triggers, defaults of columns, rights to add triggers.
    additions: Vec<String>,
    /// Triggers that may be somebody else's than the owner's.
    foreign_triggers: Vec<String>,
}

/// Of a trigger of ours on a live view nothing can be chosen: a condition or an argument is somebody's text.
const LOOK: &str = "
    WITH v AS (
        SELECT c.oid, c.relowner, c.relacl, c.reloptions, pg_catalog.format('%I.%I', n.nspname, c.relname) AS sql,
               b.oid AS relid, b.relowner AS table_owner, b.relacl AS table_acl,
               pg_catalog.format('%I.%I', bn.nspname, b.relname) AS table_sql, s.deleted_at,
               s.live_view OPERATOR(pg_catalog.=) c.oid AS is_live
        FROM upkeep._soft_delete s
        JOIN pg_catalog.pg_class b ON b.oid OPERATOR(pg_catalog.=) s.relid
        JOIN pg_catalog.pg_namespace bn ON bn.oid OPERATOR(pg_catalog.=) b.relnamespace
        JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) $1 AND c.relkind OPERATOR(pg_catalog.=) 'v'
        JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace
        WHERE s.live_view OPERATOR(pg_catalog.=) $1 OR s.deleted_view OPERATOR(pg_catalog.=) $1
    ), foreign_trigger AS (
        SELECT t.tgname, t.tgqual, p.proowner FROM v
        JOIN pg_catalog.pg_trigger t ON t.tgrelid OPERATOR(pg_catalog.=) v.oid AND NOT t.tgisinternal
        JOIN pg_catalog.pg_proc p ON p.oid OPERATOR(pg_catalog.=) t.tgfoid
        WHERE NOT coalesce(v.is_live, false) OR t.tgqual IS NOT NULL OR t.tgnargs OPERATOR(pg_catalog.<>) 0
           OR p.pronamespace OPERATOR(pg_catalog.<>) 'upkeep'::pg_catalog.regnamespace
           OR NOT EXISTS (
               SELECT FROM upkeep._soft_delete_triggers() o
               WHERE o.tgname OPERATOR(pg_catalog.=) t.tgname AND o.proname OPERATOR(pg_catalog.=) p.proname
                 AND o.tgtype OPERATOR(pg_catalog.=) t.tgtype))
    SELECT v.sql, v.relowner, v.relid, v.table_sql, v.table_owner, coalesce(v.is_live, false),
           (SELECT pg_catalog.convert_to(r.ev_action::pg_catalog.text, pg_catalog.getdatabaseencoding())
            FROM pg_catalog.pg_rewrite r
            WHERE r.ev_class OPERATOR(pg_catalog.=) v.oid AND r.rulename OPERATOR(pg_catalog.=) '_RETURN'),
           (SELECT a.attnum FROM pg_catalog.pg_attribute a
            WHERE a.attrelid OPERATOR(pg_catalog.=) v.relid AND a.attname OPERATOR(pg_catalog.=) v.deleted_at
              AND NOT a.attisdropped),
           coalesce((SELECT o.option_value::pg_catalog.bool FROM pg_catalog.pg_options_to_table(v.reloptions) o
                     WHERE o.option_name OPERATOR(pg_catalog.=) 'security_invoker'), false),
           ARRAY(SELECT pg_catalog.format('rule %I', r.rulename) FROM pg_catalog.pg_rewrite r
                 WHERE r.ev_class OPERATOR(pg_catalog.=) v.oid AND r.rulename OPERATOR(pg_catalog.<>) '_RETURN'
                 ORDER BY r.rulename)
               OPERATOR(pg_catalog.||)
           ARRAY(SELECT pg_catalog.format('trigger %I', f.tgname) FROM foreign_trigger f ORDER BY f.tgname)
               OPERATOR(pg_catalog.||)
           ARRAY(SELECT pg_catalog.format('the default of column %I', a.attname) FROM pg_catalog.pg_attrdef f
                 JOIN pg_catalog.pg_attribute a ON a.attrelid OPERATOR(pg_catalog.=) f.adrelid
                      AND a.attnum OPERATOR(pg_catalog.=) f.adnum
                 WHERE f.adrelid OPERATOR(pg_catalog.=) v.oid ORDER BY f.adnum)
               OPERATOR(pg_catalog.||)
           ARRAY(SELECT pg_catalog.format('the right to add triggers that %s has', CASE a.grantee
                            WHEN 0::pg_catalog.oid THEN 'PUBLIC'
                            ELSE pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(a.grantee)) END)
                 FROM pg_catalog.aclexplode(v.relacl) a
                 WHERE a.privilege_type OPERATOR(pg_catalog.=) 'TRIGGER'
                   AND a.grantee OPERATOR(pg_catalog.<>) v.relowner
                   AND NOT EXISTS (SELECT FROM pg_catalog.aclexplode(v.table_acl) b
                                   WHERE b.privilege_type OPERATOR(pg_catalog.=) 'TRIGGER'
                                     AND b.grantee OPERATOR(pg_catalog.=) a.grantee)),
           ARRAY(SELECT pg_catalog.format('trigger %I', f.tgname) FROM foreign_trigger f
                 WHERE f.tgqual IS NOT NULL OR f.proowner OPERATOR(pg_catalog.<>) ALL (ARRAY[v.relowner, 10::pg_catalog.oid])
                 ORDER BY f.tgname)
    FROM v";

fn read(view: Oid, row: &Row<'_>) -> Result<View> {
    Ok(View {
        oid: view,
        sql: row.next()?,
        owner: row.next()?,
        table: row.next()?,
        table_sql: row.next()?,
        table_owner: row.next()?,
        is_live: row.next()?,
        shape: row.next_or_null::<Vec<u8>>()?.and_then(|action| view::shape(&action, view)),
        deleted_at: row.next_or_null()?,
        security_invoker: row.next()?,
        additions: row.next()?,
        foreign_triggers: row.next()?,
    })
}

/// A view of soft delete as it is now. `None`: it is none, or is gone.
pub fn look(view: Oid) -> Result<Option<View>> {
    let found = spi::bookkeeping(|| spi::look_up(LOOK, &[view.into()], |row| read(view, &row)))?;
    Ok(found.into_iter().next())
}

impl View {
    /// What of the view itself is not ours. Empty: its query and its rights are those that we would write.
    pub fn differences(&self) -> Vec<String> {
        let query = self.shape.as_ref().is_some_and(|shape| {
            shape.table == self.table && Some(shape.tested) == self.deleted_at && shape.is_null == self.is_live
        });
        let mut differences = Vec::new();
        if !query {
            differences.push("its query".to_owned());
        }
        if !self.security_invoker {
            differences.push("its option security_invoker".to_owned());
        }
        differences
    }

    /// The same, and what has been put on it.
    pub fn all_differences(&self) -> Vec<String> {
        let mut differences = self.differences();
        differences.extend(self.additions.iter().cloned());
        differences
    }

    pub fn additions(&self) -> &[String] {
        &self.additions
    }

    pub fn is_live(&self) -> bool {
        self.is_live
    }

    /// Does soft delete change it when the table changes? What belongs to somebody else only while it says nothing but what soft
    /// delete says: it is the table's owner's then.
    pub fn follows(&self) -> bool {
        self.is_the_tables_owners() || self.all_differences().is_empty()
    }

    pub fn is_the_tables_owners(&self) -> bool {
        self.owner == self.table_owner
    }

    /// Columns of the table, if the query is of our kind, whatever the columns of soft delete are called now.
    pub fn trusted_shape(&self) -> Option<&Shape> {
        self.shape.as_ref().filter(|shape| shape.table == self.table && self.is_the_tables_owners())
    }

    /// May it be taken down and made again as its owner? What may not, by name.
    pub fn in_the_way_of_making_anew(&self) -> Vec<String> {
        let mut reasons = self.differences();
        if self.is_the_tables_owners() {
            reasons.extend(self.foreign_triggers.iter().cloned());
        } else {
            reasons.insert(0, format!("its owner, {}", role(self.owner)));
        }
        reasons
    }

    /// What makes it ours again; safe to be typed by anybody who may.
    fn repair(&self) -> String {
        format!(
            "BEGIN; DROP VIEW {}; SELECT upkeep.repair_soft_delete({}); COMMIT;",
            self.sql,
            literal(&self.table_sql)
        )
    }

    /// Says that the view stays as it is.
    pub fn warn(&self, what: &str, differences: &[String]) {
        raise::report(
            Level::Warning,
            Error::new(OBJECT_NOT_IN_PREREQUISITE_STATE, format!("{what} view {}", self.sql))
                .detail(format!(
                    "It is not as soft delete has written it, which does not change what somebody else wrote: {}.",
                    differences.join(", ")
                ))
                .hint(format!(
                    "Look at it: SELECT pg_get_viewdef({}); to have that of soft delete: {}",
                    literal(&self.sql),
                    self.repair()
                )),
        );
    }
}

fn role(oid: Oid) -> String {
    catalog::role_name(oid).map_or_else(|| oid.to_u32().to_string(), |name| pgrx::spi::quote_identifier(&name))
}

/// The views that there are of a table.
pub fn views(managed: &Managed) -> Result<Vec<View>> {
    let mut found = Vec::new();
    for view in [managed.live_view, managed.deleted_view].into_iter().flatten() {
        found.extend(look(view)?);
    }
    Ok(found)
}

/// Locks a view against everybody and looks again: what is found stays so.
pub fn locked(view: Oid) -> Result<Option<View>> {
    if heap::lock_exclusively(view) { look(view) } else { Ok(None) }
}

/// Refuses to take down, or to make anew, what is not ours.
pub fn refuse(what: &str, view: &View, reasons: &[String], hint: String) -> Error {
    Error::new(OBJECT_NOT_IN_PREREQUISITE_STATE, format!("{what} view {}", view.sql))
        .detail(format!(
            "Somebody else may have written what would be lost or changed with it: {}.",
            reasons.join(", ")
        ))
        .hint(hint)
}

/// For the view of what has drifted.
#[pg_extern(sql = false)]
fn soft_delete_view_differs(view: Option<Oid>, completely: Option<bool>) -> Option<String> {
    answer((|| {
        let Some(view) = view else { return Ok(None) };
        let found = spi::bookkeeping(|| spi::query_one(LOOK, &[view.into()], |row| read(view, &row)))?;
        // What is on a view is nobody else's to know.
        let user = catalog::current_user();
        let may_know = |owner| catalog::has_privileges_of(user, owner);
        let found = found.filter(|found| may_know(found.owner) || may_know(found.table_owner));
        let differences =
            found.map(|found| if completely == Some(true) { found.all_differences() } else { found.differences() });
        Ok(differences.filter(|differences| !differences.is_empty()).map(|differences| differences.join(", ")))
    })())
}
