//! Of which tables does a command of the user's build, rebuild or drop indexes, or which does it need for itself?
//!
//! A concurrent build waits for every transaction that may still use the table as it was, and a command that waits for the table's
//! lock with a snapshot is such a transaction: two of them on one table wait for each other. VACUUM alone waits without one.

use std::ffi::{CStr, CString};

use pgrx::PgList;
use pgrx::pg_sys::{self, Node, NodeTag, Oid};

use super::catch::subtransaction;
use super::{encoding, script};
use crate::error::{Error, Result, SYNTAX_ERROR};

#[derive(Debug, PartialEq)]
pub enum Extent {
    Tables(Vec<Oid>),
    Schema(Oid),
    Database,
}

/// Of one statement, by the names that the session finds. What is not found is the command's to complain of.
pub fn extent(text: &str) -> Result<Extent> {
    let source = CString::new(encoding::to_server(text))
        .map_err(|_| Error::new(SYNTAX_ERROR, "the command contains a zero byte"))?;
    // SAFETY: the tree lives in the current memory context; tags are checked before casts.
    let found = subtransaction(|| unsafe {
        let statement = script::tree(&source)?;
        Ok(of_statement((*statement).stmt))
    });
    Ok(found.unwrap_or(Extent::Tables(Vec::new())))
}

/// Safety: a statement's raw tree, in a transaction.
unsafe fn of_statement(statement: *mut Node) -> Extent {
    // SAFETY: a node is cast to what its tag says; lists of RangeVar and of VacuumRelation are what the grammar makes
    // of these.
    unsafe {
        let tables = match (*statement).type_ {
            NodeTag::T_IndexStmt => vec![relation((*statement.cast::<pg_sys::IndexStmt>()).relation)],
            NodeTag::T_ReindexStmt => {
                let reindex = &*statement.cast::<pg_sys::ReindexStmt>();
                match reindex.kind {
                    pg_sys::ReindexObjectType::REINDEX_OBJECT_INDEX => vec![table_of(relation(reindex.relation))],
                    pg_sys::ReindexObjectType::REINDEX_OBJECT_TABLE => vec![relation(reindex.relation)],
                    pg_sys::ReindexObjectType::REINDEX_OBJECT_SCHEMA => {
                        return Extent::Schema(pg_sys::get_namespace_oid(reindex.name, true));
                    }
                    _ => return Extent::Database,
                }
            }
            NodeTag::T_DropStmt => {
                let drop = &*statement.cast::<pg_sys::DropStmt>();
                if drop.removeType != pg_sys::ObjectType::OBJECT_INDEX {
                    return Extent::Tables(Vec::new());
                }
                let names = PgList::<pg_sys::List>::from_pg(drop.objects);
                let index = |name| relation(pg_sys::makeRangeVarFromNameList(name));
                names.iter_ptr().map(|name| table_of(index(name))).collect()
            }
            NodeTag::T_RefreshMatViewStmt => vec![relation((*statement.cast::<pg_sys::RefreshMatViewStmt>()).relation)],
            NodeTag::T_AlterTableStmt => vec![relation((*statement.cast::<pg_sys::AlterTableStmt>()).relation)],
            NodeTag::T_CreateTrigStmt => vec![relation((*statement.cast::<pg_sys::CreateTrigStmt>()).relation)],
            NodeTag::T_ClusterStmt => match (*statement.cast::<pg_sys::ClusterStmt>()).relation {
                table if table.is_null() => return Extent::Database,
                table => vec![relation(table)],
            },
            NodeTag::T_TruncateStmt => {
                let names = PgList::<pg_sys::RangeVar>::from_pg((*statement.cast::<pg_sys::TruncateStmt>()).relations);
                names.iter_ptr().map(|name| relation(name)).collect()
            }
            NodeTag::T_VacuumStmt => {
                let vacuum = &*statement.cast::<pg_sys::VacuumStmt>();
                if waits_without_snapshot(vacuum) {
                    return Extent::Tables(Vec::new());
                }
                if vacuum.rels.is_null() {
                    return Extent::Database;
                }
                let named = PgList::<pg_sys::VacuumRelation>::from_pg(vacuum.rels);
                named.iter_ptr().map(|named| relation((*named).relation)).collect()
            }
            _ => Vec::new(),
        };
        let mut tables: Vec<Oid> = tables.into_iter().filter(|&table| table != pg_sys::InvalidOid).collect();
        tables.sort_unstable_by_key(|table| table.to_u32());
        tables.dedup();
        Extent::Tables(tables)
    }
}

/// Neither ANALYZE nor VACUUM FULL.
///
/// Safety: of a raw tree.
unsafe fn waits_without_snapshot(vacuum: &pg_sys::VacuumStmt) -> bool {
    // SAFETY: the options of VACUUM are DefElem.
    unsafe {
        let options = PgList::<pg_sys::DefElem>::from_pg(vacuum.options);
        let asks_for = |name: &CStr| {
            options.iter_ptr().any(|option| CStr::from_ptr((*option).defname) == name && pg_sys::defGetBoolean(option))
        };
        vacuum.is_vacuumcmd && !asks_for(c"full") && !asks_for(c"analyze")
    }
}

/// Safety: null, or a name in a raw tree.
unsafe fn relation(name: *const pg_sys::RangeVar) -> Oid {
    const NO_LOCK: pg_sys::LOCKMODE = pg_sys::NoLock as pg_sys::LOCKMODE;
    if name.is_null() {
        return pg_sys::InvalidOid;
    }
    // SAFETY: as the caller promises; without a lock or a callback it only looks up.
    unsafe {
        pg_sys::RangeVarGetRelidExtended(name, NO_LOCK, pg_sys::RVROption::RVR_MISSING_OK, None, std::ptr::null_mut())
    }
}

/// A table that is named where an index should be counts as itself.
///
/// Safety: in a transaction.
unsafe fn table_of(index: Oid) -> Oid {
    // SAFETY: looks an OID up, which may be no index.
    unsafe {
        match index {
            pg_sys::InvalidOid => index,
            _ => match pg_sys::IndexGetRelation(index, true) {
                pg_sys::InvalidOid => index,
                table => table,
            },
        }
    }
}
