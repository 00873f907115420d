//! What a view's columns are, by its own parse tree, and what an ALTER TABLE is about.

use std::ffi::CStr;

use pgrx::pg_sys::{self, NodeTag, Oid};

use super::catch::subtransaction;
use super::encoding::{self, to_c};
use crate::error::{Error, FEATURE_NOT_SUPPORTED, Result, SYNTAX_ERROR};

/// A column of a view on one table, and the table's column that it shows; 0: it is something else.
#[derive(Clone, Debug, PartialEq)]
pub struct Shown {
    pub name: String,
    pub number: i16,
}

/// The columns of a view in their order. Empty: it is no view (any more).
pub fn columns(view: Oid) -> Result<Vec<Shown>> {
    subtransaction(|| {
        // SAFETY: opened under a lock and closed here, or by the abort; the query belongs to the relation's cache entry.
        unsafe {
            let lock = pg_sys::AccessShareLock as pg_sys::LOCKMODE;
            let relation = pg_sys::try_relation_open(view, lock);
            if relation.is_null() {
                return Ok(Vec::new());
            }
            let mut shown = Vec::new();
            if (*(*relation).rd_rel).relkind == pg_sys::RELKIND_VIEW as std::ffi::c_char {
                let query = pg_sys::get_view_query(relation);
                let entries = pgrx::PgList::<pg_sys::TargetEntry>::from_pg((*query).targetList);
                for entry in entries.iter_ptr().filter(|entry| !(**entry).resjunk) {
                    let name = pg_sys::get_attname(view, (*entry).resno, true);
                    if name.is_null() {
                        continue;
                    }
                    let name = encoding::text(name);
                    let expression = (*entry).expr.cast::<pg_sys::Node>();
                    let number = match (*expression).type_ {
                        NodeTag::T_Var => (*expression.cast::<pg_sys::Var>()).varattno,
                        _ => 0,
                    };
                    shown.push(Shown { name, number });
                }
            }
            pg_sys::relation_close(relation, pg_sys::NoLock as pg_sys::LOCKMODE);
            Ok(shown)
        }
    })
}

/// Parses one ALTER TABLE and finds the table it is about, by the caller's search_path.
pub fn altered_table(ddl: &str) -> Result<Oid> {
    subtransaction(|| {
        let text = to_c(ddl)?;
        // SAFETY: the tree lives in the current memory context; tags are checked before casts.
        unsafe {
            let statements = pg_sys::raw_parser(text.as_ptr(), pg_sys::RawParseMode::RAW_PARSE_DEFAULT);
            let count = if statements.is_null() { 0 } else { (*statements).length };
            if count != 1 {
                return Err(Error::new(SYNTAX_ERROR, format!("ddl must be exactly one statement, but it has {count}")));
            }
            let statement = (*pg_sys::list_nth(statements, 0).cast::<pg_sys::RawStmt>()).stmt;
            let table = pg_sys::ObjectType::OBJECT_TABLE;
            let relation = match (*statement).type_ {
                NodeTag::T_AlterTableStmt => {
                    let alter = &*statement.cast::<pg_sys::AlterTableStmt>();
                    (alter.objtype == table).then_some(alter.relation)
                }
                NodeTag::T_RenameStmt => {
                    let rename = &*statement.cast::<pg_sys::RenameStmt>();
                    let column = rename.renameType == pg_sys::ObjectType::OBJECT_COLUMN && rename.relationType == table;
                    let constraint = rename.renameType == pg_sys::ObjectType::OBJECT_TABCONSTRAINT;
                    (column || constraint).then_some(rename.relation)
                }
                _ => None,
            };
            let Some(relation) = relation else {
                let tag = CStr::from_ptr(pg_sys::GetCommandTagName(pg_sys::CreateCommandTag(statement)));
                return Err(Error::new(
                    FEATURE_NOT_SUPPORTED,
                    format!("alter_soft_deleted does not run this {}", tag.to_string_lossy()),
                )
                .detail(
                    "It runs ALTER TABLE of columns, constraints and options; nothing else is in the way of the views.",
                )
                .hint("Run it by itself."));
            };
            Ok(pg_sys::RangeVarGetRelidExtended(
                relation,
                pg_sys::NoLock as pg_sys::LOCKMODE,
                0,
                None,
                std::ptr::null_mut(),
            ))
        }
    })
    .map_err(|mut error| {
        if let Some(position) = &mut error.position
            && position.query.is_empty()
        {
            position.query = ddl.to_owned();
        }
        error
    })
}
