//! A table as storage: its lock, its blocks, and how far behind its pages can be pruned.

use pgrx::pg_sys;

use super::catch::undone;
use super::encoding;
use super::unguarded::{RelationGetPartitionQual, has_subclass};
use crate::error::Result;

/// Locks the table for writing until the transaction ends, so that neither its
/// name nor its shape changes under a step. `false`: it is gone.
pub fn lock_for_update(relid: pg_sys::Oid) -> bool {
    lock(relid, pg_sys::RowExclusiveLock)
}

/// Locks the table as a SELECT does, until the transaction ends: its shape does not change. `false`: it is gone.
pub fn lock_for_reading(relid: pg_sys::Oid) -> bool {
    lock(relid, pg_sys::AccessShareLock)
}

/// Locks the table against everybody until the transaction ends. `false`: it is gone.
pub fn lock_exclusively(relid: pg_sys::Oid) -> bool {
    lock(relid, pg_sys::AccessExclusiveLock)
}

fn lock(relid: pg_sys::Oid, mode: u32) -> bool {
    // SAFETY: the relation is closed again; the lock stays.
    unsafe {
        let relation = pg_sys::try_relation_open(relid, mode as pg_sys::LOCKMODE);
        if relation.is_null() {
            return false;
        }
        pg_sys::relation_close(relation, pg_sys::NoLock as pg_sys::LOCKMODE);
        true
    }
}

/// Reads the partition constraint that an UPDATE of a partition by itself will check, for which the
/// server needs a lock of the parent, unless it knows it already. Here the whole step can still be tried
/// again, and the lock goes at once: others may want to change the parent.
pub fn know_partition(relid: pg_sys::Oid) -> Result<()> {
    let read = |relation: pg_sys::Relation| unsafe {
        // SAFETY: an open relation; nothing to drop in the inner closure. What it reads the server keeps.
        if (*(*relation).rd_rel).relispartition {
            pg_sys::ffi::pg_guard_ffi_boundary(|| RelationGetPartitionQual(relation));
        }
    };
    undone(|| Ok(with_open(relid, read))).map(drop)
}

/// The number of blocks, without waiting for a lock; `None`: somebody has locked the table, or it is gone.
pub fn blocks_if_free(relid: pg_sys::Oid) -> Option<u32> {
    let lock = pg_sys::AccessShareLock as pg_sys::LOCKMODE;
    // SAFETY: opened with the lock that was just taken, and given back together.
    unsafe {
        if !pg_sys::ConditionalLockRelationOid(relid, lock) {
            return None;
        }
        let relation = pg_sys::try_relation_open(relid, pg_sys::NoLock as pg_sys::LOCKMODE);
        if relation.is_null() {
            pg_sys::UnlockRelationOid(relid, lock);
            return None;
        }
        let blocks = main_blocks(relation);
        pg_sys::relation_close(relation, lock);
        Some(blocks)
    }
}

/// Schema and name of a relation as they are now.
pub fn name(relid: pg_sys::Oid) -> Option<(String, String)> {
    // SAFETY: both functions give null for an unknown OID, else a palloc'd string.
    unsafe {
        let relation = pg_sys::get_rel_name(relid);
        let schema = pg_sys::get_namespace_name(pg_sys::get_rel_namespace(relid));
        (!relation.is_null() && !schema.is_null()).then(|| (text(schema), text(relation)))
    }
}

/// The schema that a relation is in now.
pub fn schema(relid: pg_sys::Oid) -> Option<pg_sys::Oid> {
    // SAFETY: looks it up in the catalog cache; an unknown OID gives 0.
    let schema = unsafe { pg_sys::get_rel_namespace(relid) };
    (schema != pg_sys::InvalidOid).then_some(schema)
}

/// From here on the catalog caches are as of what has been committed, as after waiting for a lock.
pub fn learn_of_changes() {
    // SAFETY: in a transaction.
    unsafe { pg_sys::AcceptInvalidationMessages() };
}

/// Is there (still) a relation with this OID?
pub fn exists(relid: pg_sys::Oid) -> bool {
    name(relid).is_some()
}

/// Has it partitions, and no rows of its own?
pub fn is_partitioned(relid: pg_sys::Oid) -> bool {
    // SAFETY: looks it up in the catalog cache; an unknown OID gives 0.
    unsafe { pg_sys::get_rel_relkind(relid) as u8 == pg_sys::RELKIND_PARTITIONED_TABLE }
}

/// May other tables inherit from it, not as partitions do?
pub fn has_heirs(relid: pg_sys::Oid) -> bool {
    // SAFETY: looks it up in the catalog cache, where the relation is.
    exists(relid) && !is_partitioned(relid) && unsafe { has_subclass(relid) }
}

/// Safety: it ends in a zero.
unsafe fn text(text: *mut std::ffi::c_char) -> String {
    // SAFETY: as the caller promises.
    unsafe { encoding::text(text) }
}

/// Runs `f` with the relation open; `None`: it is gone.
fn with_open<T>(relid: pg_sys::Oid, f: impl FnOnce(pg_sys::Relation) -> T) -> Option<T> {
    // SAFETY: opened and closed here; an error in between releases it with the transaction.
    unsafe {
        let lock = pg_sys::AccessShareLock as pg_sys::LOCKMODE;
        let relation = pg_sys::try_relation_open(relid, lock);
        if relation.is_null() {
            return None;
        }
        let result = f(relation);
        pg_sys::relation_close(relation, lock);
        Some(result)
    }
}

/// Of a range of blocks, those that the log will get a whole image of when they are changed: nobody has changed them since the last
/// checkpoint began. None on a server without `full_page_writes`.
pub fn unlogged_since_checkpoint(relid: pg_sys::Oid, (from, to): (u32, u32)) -> Vec<u32> {
    // SAFETY: a variable that the server's processes have in common; reads shared memory under its own lock.
    let (full_pages, redo) = unsafe { (pg_sys::fullPageWrites, pg_sys::GetRedoRecPtr()) };
    let look = |relation: pg_sys::Relation| {
        // SAFETY: open and locked here.
        let end = to.min(unsafe { main_blocks(relation) });
        // SAFETY: the block was there when they were counted, and the lock keeps them from being cut off.
        (from..end).filter(|&block| unsafe { page_lsn(relation, block) } <= redo).collect()
    };
    if full_pages { with_open(relid, look).unwrap_or_default() } else { Vec::new() }
}

unsafe fn page_lsn(relation: pg_sys::Relation, block: u32) -> u64 {
    // SAFETY: the block exists; pinned while it is looked at.
    unsafe {
        let buffer = pg_sys::ReadBuffer(relation, block);
        let lsn = pg_sys::BufferGetLSNAtomic(buffer);
        pg_sys::ReleaseBuffer(buffer);
        lsn
    }
}

/// The number of blocks of the table itself.
pub fn blocks(relid: pg_sys::Oid) -> u32 {
    // SAFETY: open and locked here.
    with_open(relid, |relation| unsafe { main_blocks(relation) }).unwrap_or(0)
}

/// Safety: the relation is open.
unsafe fn main_blocks(relation: pg_sys::Relation) -> u32 {
    // SAFETY: as the caller promises.
    unsafe { pg_sys::RelationGetNumberOfBlocksInFork(relation, pg_sys::ForkNumber::MAIN_FORKNUM) }
}

/// The oldest transaction whose dead rows in this table somebody may still see.
pub fn horizon(relid: pg_sys::Oid) -> Option<u32> {
    // SAFETY: open and locked here.
    with_open(relid, |relation| unsafe { u32::from(pg_sys::GetOldestNonRemovableTransactionId(relation)) })
}

/// Is transaction `a` older than `b`, the counter wrapping round?
pub fn precedes(a: u32, b: u32) -> bool {
    (a.wrapping_sub(b) as i32) < 0
}

/// The transaction id that this (sub)transaction writes with.
pub fn current_xid() -> u32 {
    // SAFETY: in a transaction.
    unsafe { u32::from(pg_sys::GetCurrentTransactionId()) }
}

/// Was it written by this transaction, or a part of it that was not rolled back?
pub fn is_of_this_transaction(xid: u32) -> bool {
    // SAFETY: looks at this backend's own list.
    unsafe { pg_sys::TransactionIdIsCurrentTransactionId(xid.into()) }
}

/// The next transaction id that anyone will get, with its epoch.
pub fn next_full_xid() -> u64 {
    // SAFETY: reads shared memory under its own lock.
    unsafe { pg_sys::ReadNextFullTransactionId().value }
}

/// Free bytes of some pages spread over the table, for rows that grow.
pub fn free_space(relid: pg_sys::Oid, pages: u32) -> Result<Vec<usize>> {
    Ok(with_open(relid, |relation| {
        // SAFETY: open and locked here.
        let blocks = unsafe { main_blocks(relation) };
        // SAFETY: the block was there when they were counted, and the lock keeps them from being cut off.
        spread(blocks, pages).map(|block| unsafe { page_free_space(relation, block) }).collect()
    })
    .unwrap_or_default())
}

/// At most `pages` block numbers, evenly spread over `0..blocks`.
pub fn spread(blocks: u32, pages: u32) -> impl Iterator<Item = u32> {
    let count = blocks.min(pages);
    (0..count).map(move |i| (u64::from(i) * u64::from(blocks) / u64::from(count)) as u32)
}

unsafe fn page_free_space(relation: pg_sys::Relation, block: u32) -> usize {
    // SAFETY: the block exists; pinned and share-locked while it is read.
    unsafe {
        let buffer = pg_sys::ReadBufferExtended(
            relation,
            pg_sys::ForkNumber::MAIN_FORKNUM,
            block,
            pg_sys::ReadBufferMode::RBM_NORMAL,
            std::ptr::null_mut(),
        );
        pg_sys::LockBuffer(buffer, pg_sys::BUFFER_LOCK_SHARE as i32);
        let free = pg_sys::PageGetHeapFreeSpace(pg_sys::BufferGetPage(buffer).cast());
        pg_sys::UnlockReleaseBuffer(buffer);
        free
    }
}

/// Pages of shared buffers.
pub fn shared_buffers() -> u32 {
    // SAFETY: set once at server start.
    unsafe { pg_sys::NBuffers as u32 }
}
