//! Pages of a btree index, one at a time, as bytes.

use pgrx::pg_sys::{self, Oid};

/// Bytes of a page.
pub const PAGE: usize = pg_sys::BLCKSZ as usize;

/// An index held open under ACCESS SHARE, the lock of a plain SELECT.
pub struct OpenIndex {
    relation: pg_sys::Relation,
    strategy: pg_sys::BufferAccessStrategy,
}

impl OpenIndex {
    /// `None`: it is gone, or no longer a btree index.
    pub fn open(indexrelid: Oid) -> Option<Self> {
        // SAFETY: closed by Drop; after an error the transaction's abort releases lock and pins.
        unsafe {
            let relation = pg_sys::try_relation_open(indexrelid, LOCK);
            if relation.is_null() {
                return None;
            }
            // A ring of its own: a sample must not push an application's pages out of shared buffers.
            let index = OpenIndex {
                relation,
                strategy: pg_sys::GetAccessStrategy(pg_sys::BufferAccessStrategyType::BAS_BULKREAD),
            };
            let class = (*relation).rd_rel;
            let is_btree =
                (*class).relkind == pg_sys::RELKIND_INDEX as std::ffi::c_char && (*class).relam == pg_sys::BTREE_AM_OID;
            is_btree.then_some(index)
        }
    }

    pub fn blocks(&self) -> u32 {
        // SAFETY: the relation is open.
        unsafe { pg_sys::RelationGetNumberOfBlocksInFork(self.relation, pg_sys::ForkNumber::MAIN_FORKNUM) }
    }

    /// Copies a page that exists: what is looked at longer than a copy takes would hold up writers.
    pub fn read(&self, block: u32, page: &mut [u8; PAGE]) {
        pgrx::check_for_interrupts!();
        // SAFETY: pinned and share-locked while PAGE bytes are copied out of it.
        unsafe {
            let buffer = pg_sys::ReadBufferExtended(
                self.relation,
                pg_sys::ForkNumber::MAIN_FORKNUM,
                block,
                pg_sys::ReadBufferMode::RBM_NORMAL,
                self.strategy,
            );
            pg_sys::LockBuffer(buffer, pg_sys::BUFFER_LOCK_SHARE as i32);
            std::ptr::copy_nonoverlapping(pg_sys::BufferGetPage(buffer).cast::<u8>(), page.as_mut_ptr(), PAGE);
            pg_sys::UnlockReleaseBuffer(buffer);
        }
    }
}

const LOCK: pg_sys::LOCKMODE = pg_sys::AccessShareLock as pg_sys::LOCKMODE;

impl Drop for OpenIndex {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        // SAFETY: both were made in `open`, in this same transaction.
        unsafe {
            pg_sys::FreeAccessStrategy(self.strategy);
            pg_sys::relation_close(self.relation, LOCK);
        }
    }
}
