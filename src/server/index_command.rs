//! Which tables' indexes does a command of the user's build, rebuild or drop?
//!
//! Such a command waits for every transaction that may still use the table as it was, and one that waits for the table's lock
//! with a snapshot is such a transaction: two of them on one table wait for each other.

use std::ffi::CString;

use pgrx::PgList;
use pgrx::pg_sys::{self, Node, NodeTag, Oid};

use super::catch::subtransaction;
use super::encoding;
use crate::error::{Error, Result, SYNTAX_ERROR};

#[derive(Debug, PartialEq)]
pub enum Extent {
    Tables(Vec<Oid>),
    /// Of the whole database, or of a schema.
    Everything,
}

/// Of one statement, by the names that the session finds. What is not found is the command's to complain of.
pub fn extent(text: &str) -> Result<Extent> {
    let source = CString::new(encoding::to_server(text))
        .map_err(|_| Error::new(SYNTAX_ERROR, "the command contains a zero byte"))?;
    // SAFETY: the tree lives in the current memory context; tags are checked before casts.
    let found = subtransaction(|| unsafe {
        let statements = pg_sys::raw_parser(source.as_ptr(), pg_sys::RawParseMode::RAW_PARSE_DEFAULT);
        let statements = PgList::<pg_sys::RawStmt>::from_pg(statements);
        let found = statements.get_ptr(0).map(|first| of_statement((*first).stmt));
        Ok(found.unwrap_or(Extent::Tables(Vec::new())))
    });
    Ok(found.unwrap_or(Extent::Tables(Vec::new())))
}

unsafe fn of_statement(statement: *mut Node) -> Extent {
    unsafe {
        let tables = match (*statement).type_ {
            NodeTag::T_IndexStmt => vec![relation((*statement.cast::<pg_sys::IndexStmt>()).relation)],
            NodeTag::T_ReindexStmt => {
                let reindex = &*statement.cast::<pg_sys::ReindexStmt>();
                match reindex.kind {
                    pg_sys::ReindexObjectType::REINDEX_OBJECT_INDEX => vec![table_of(relation(reindex.relation))],
                    pg_sys::ReindexObjectType::REINDEX_OBJECT_TABLE => vec![relation(reindex.relation)],
                    _ => return Extent::Everything,
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
            NodeTag::T_AlterTableStmt => {
                let alter = &*statement.cast::<pg_sys::AlterTableStmt>();
                let commands = PgList::<pg_sys::AlterTableCmd>::from_pg(alter.cmds);
                let detaches = commands.iter_ptr().any(|command| detaches_concurrently(command));
                if detaches { vec![relation(alter.relation)] } else { Vec::new() }
            }
            _ => Vec::new(),
        };
        let mut tables: Vec<Oid> = tables.into_iter().filter(|&table| table != pg_sys::InvalidOid).collect();
        tables.sort_unstable_by_key(|table| table.to_u32());
        tables.dedup();
        Extent::Tables(tables)
    }
}

unsafe fn detaches_concurrently(command: *const pg_sys::AlterTableCmd) -> bool {
    unsafe {
        match (*command).subtype {
            pg_sys::AlterTableType::AT_DetachPartitionFinalize => true,
            pg_sys::AlterTableType::AT_DetachPartition => (*(*command).def.cast::<pg_sys::PartitionCmd>()).concurrent,
            _ => false,
        }
    }
}

unsafe fn relation(name: *const pg_sys::RangeVar) -> Oid {
    const NO_LOCK: pg_sys::LOCKMODE = pg_sys::NoLock as pg_sys::LOCKMODE;
    if name.is_null() {
        return pg_sys::InvalidOid;
    }
    unsafe {
        pg_sys::RangeVarGetRelidExtended(name, NO_LOCK, pg_sys::RVROption::RVR_MISSING_OK, None, std::ptr::null_mut())
    }
}

/// A table that is named where an index should be counts as itself.
unsafe fn table_of(index: Oid) -> Oid {
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
