//! What SQL can only ask while waiting for a lock, or not at all: sizes, definitions and predicates of indexes.
//! Migrations hold ACCESS EXCLUSIVE locks; who only looks must neither queue behind them nor fail when they drop something.

use std::ffi::CStr;

use pgrx::pg_sys::{self, Oid};
use pgrx::prelude::*;

use super::encoding;

/// Bytes of a relation's main fork, from the sizes of its files; `None` if there are none (any more).
#[pg_extern(sql = false)]
fn file_size(filenode: Oid, tablespace: Oid) -> Option<i64> {
    let path = format!("{}/{}", database_path(tablespace), filenode.to_u32());
    crate::server::relation_file::size(&path).map(|bytes| bytes as i64)
}

/// This database's directory in a tablespace, relative to the server's working directory.
fn database_path(tablespace: Oid) -> String {
    // SAFETY: paths of the server end in a zero; the one that was made for us is copied before it is freed.
    unsafe {
        if tablespace == Oid::INVALID || tablespace == pg_sys::MyDatabaseTableSpace {
            return CStr::from_ptr(pg_sys::DatabasePath).to_string_lossy().into_owned();
        }
        let path = pg_sys::GetDatabasePath(pg_sys::MyDatabaseId, tablespace);
        let text = CStr::from_ptr(path).to_string_lossy().into_owned();
        pg_sys::pfree(path.cast());
        text
    }
}

/// When this database was created here, be it by CREATE DATABASE, a base backup or pg_upgrade: each writes this file
/// anew, and with each the counters of use begin at nothing.
pub fn database_created() -> Option<std::time::SystemTime> {
    std::fs::metadata(format!("{}/PG_VERSION", database_path(Oid::INVALID))).ok()?.modified().ok()
}

/// When this data directory was made, by initdb or as a copy.
pub fn server_created() -> Option<std::time::SystemTime> {
    std::fs::metadata("PG_VERSION").ok()?.modified().ok()
}

/// The files of the transaction log: number and time of the last write.
pub fn transaction_log_segments() -> Vec<(u64, std::time::SystemTime)> {
    let Ok(files) = std::fs::read_dir("pg_xact") else { return Vec::new() };
    let segment = |file: std::fs::DirEntry| {
        let number = u64::from_str_radix(file.file_name().to_str()?, 16).ok()?;
        Some((number, file.metadata().ok()?.modified().ok()?))
    };
    files.flatten().filter_map(segment).collect()
}

/// The transaction id that comes next, with its epoch.
pub fn next_transaction_id() -> u64 {
    // SAFETY: a counter in shared memory, read under the server's own lock.
    unsafe { pg_sys::ReadNextFullTransactionId().value }
}

pub fn in_recovery() -> bool {
    // SAFETY: a plain read of shared memory.
    unsafe { pg_sys::RecoveryInProgress() }
}

pub fn counts_are_tracked() -> bool {
    // SAFETY: a variable of this process.
    unsafe { pg_sys::pgstat_track_counts }
}

#[pg_extern(sql = false)]
fn last_index_scan(index: Oid) -> Option<TimestampWithTimeZone> {
    #[cfg(feature = "pg15")]
    {
        let _ = index;
        None
    }
    #[cfg(not(feature = "pg15"))]
    // SAFETY: null, or a copy in this process that lives as long as the transaction.
    unsafe {
        let entry = pg_sys::pgstat_fetch_stat_tabentry(index);
        if entry.is_null() || (*entry).lastscan == 0 {
            return None;
        }
        TimestampWithTimeZone::try_from((*entry).lastscan).ok()
    }
}

/// The server's own words for an index, if table and index can be locked at once and are still there.
#[pg_extern(sql = false)]
fn index_definition(index: Oid, with_tablespace: bool) -> Option<String> {
    // SAFETY: both locks are let go of before we return, or with the transaction; what is looked up is there under
    // them.
    unsafe {
        let table = pg_sys::IndexGetRelation(index, true);
        if table == Oid::INVALID || !try_lock(table) {
            return None;
        }
        let mut definition = None;
        if try_lock(index) {
            if exists(pg_sys::SysCacheIdentifier::INDEXRELID, index)
                && exists(pg_sys::SysCacheIdentifier::RELOID, index)
                && exists(pg_sys::SysCacheIdentifier::RELOID, table)
            {
                definition = if with_tablespace {
                    let text = pg_sys::pg_get_indexdef_string(index);
                    Some(encoding::text(text))
                } else {
                    pgrx::direct_function_call::<String>(pg_sys::pg_get_indexdef, &[index.into_datum()])
                };
            }
            unlock(index);
        }
        unlock(table);
        definition
    }
}

const LOCK: pg_sys::LOCKMODE = pg_sys::AccessShareLock as pg_sys::LOCKMODE;

fn try_lock(relation: Oid) -> bool {
    // SAFETY: in a transaction; without waiting.
    unsafe { pg_sys::ConditionalLockRelationOid(relation, LOCK) }
}

fn unlock(relation: Oid) {
    // SAFETY: taken by `try_lock`, once.
    unsafe { pg_sys::UnlockRelationOid(relation, LOCK) }
}

fn exists(cache: pg_sys::SysCacheIdentifier::Type, key: Oid) -> bool {
    let nothing = pg_sys::Datum::from(0);
    // SAFETY: in a transaction; a key of this cache is one OID.
    unsafe { pg_sys::SearchSysCacheExists(cache as i32, key.into(), nothing, nothing, nothing) }
}

/// Does every row that the predicate of index `narrow` lets in satisfy that of index `wide`? By the planner's own proof, on the
/// predicates as they are stored: nothing in them is executed. False if an index is gone.
#[pg_extern(sql = false)]
fn predicate_covers(wide: Oid, narrow: Oid) -> bool {
    // SAFETY: in a transaction; both lists live in the current memory.
    unsafe {
        match (predicate(wide), predicate(narrow)) {
            (Some(wide), Some(narrow)) => pg_sys::predicate_implied_by(wide, narrow, false),
            _ => false,
        }
    }
}

/// A partial index's predicate as a list of conditions that all hold.
///
/// Safety: in a transaction.
unsafe fn predicate(index: Oid) -> Option<*mut pg_sys::List> {
    // SAFETY: the row is pinned until it is released; what is read of it is copied by then.
    unsafe {
        let cache = pg_sys::SysCacheIdentifier::INDEXRELID as i32;
        let nothing = pg_sys::Datum::from(0);
        let tuple = pg_sys::SearchSysCache(cache, index.into(), nothing, nothing, nothing);
        if tuple.is_null() {
            return None;
        }
        let mut is_null = false;
        let attribute = pg_sys::Anum_pg_index_indpred as pg_sys::AttrNumber;
        let stored = pg_sys::SysCacheGetAttr(cache, tuple, attribute, &mut is_null);
        let list = (!is_null).then(|| {
            let text = pg_sys::text_to_cstring(stored.cast_mut_ptr());
            pg_sys::make_ands_implicit(pg_sys::stringToNode(text).cast())
        });
        pg_sys::ReleaseSysCache(tuple);
        list
    }
}
