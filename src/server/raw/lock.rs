//! Locks that mean something (LAW 7): an advisory lock tag whose fourth field no
//! SQL function can produce (theirs is 1 or 2), so nobody can squat on it.

use std::cell::Cell;

use pgrx::pg_sys::{self, Oid};

/// What a lock protects.
#[derive(Clone, Copy)]
pub enum Purpose {
    /// Creating jobs on one table, so that two requests see each other.
    Target = 0x7571,
    /// Creating jobs of one name.
    Name = 0x7572,
    /// Held, shared, by each transaction that has asked for an unfinished job: of a role, so that others count it.
    Owner = 0x7577,
    /// Held, shared, by each transaction that will wake the launcher, from the request until it has ended, prepared or not.
    Uncommitted = 0x7578,
    /// Held, shared, by a statement that needs the database to itself: a worker that is only just coming leaves again.
    Alone = 0x7579,
    /// Held by a worker that changes the indexes of a table: shared for what the table is a part of.
    Turn = 0x757A,
}

/// A lock of this database on a 64-bit key.
#[derive(Clone, Copy)]
pub struct Lock {
    database: Oid,
    purpose: Purpose,
    key: u64,
}

impl Lock {
    pub fn new(purpose: Purpose, key: u64) -> Self {
        // SAFETY: a variable of this process.
        Lock { database: unsafe { pg_sys::MyDatabaseId }, purpose, key }
    }

    /// The same lock of another database.
    pub fn of(self, database: Oid) -> Self {
        Lock { database, ..self }
    }

    fn tag(self) -> pg_sys::LOCKTAG {
        pg_sys::LOCKTAG {
            locktag_field1: self.database.to_u32(),
            locktag_field2: (self.key >> 32) as u32,
            locktag_field3: self.key as u32,
            locktag_field4: self.purpose as u16,
            locktag_type: pg_sys::LockTagType::LOCKTAG_ADVISORY as u8,
            locktag_lockmethodid: pg_sys::USER_LOCKMETHOD as u8,
        }
    }

    /// Waits for the lock (bounded by `lock_timeout`) and holds it until the transaction ends.
    pub fn for_transaction(self) {
        // SAFETY: in a transaction, whose end lets go of it; the tag is copied.
        unsafe { pg_sys::LockAcquire(&self.tag(), pg_sys::ExclusiveLock as i32, false, false) };
    }

    /// The same without waiting. `false`: somebody else has it.
    pub fn for_transaction_at_once(self) -> bool {
        // SAFETY: in a transaction, whose end lets go of it; the tag is copied.
        let result = unsafe { pg_sys::LockAcquire(&self.tag(), pg_sys::ExclusiveLock as i32, false, true) };
        result != pg_sys::LockAcquireResult::LOCKACQUIRE_NOT_AVAIL
    }

    /// Takes it without waiting for as long as `work` lasts. `None`: somebody else has it. For what is done to many things in one
    /// transaction, which has room for a few thousand locks only.
    pub fn during<T>(self, work: impl FnOnce() -> T) -> Option<T> {
        if !self.for_transaction_at_once() {
            return None;
        }
        let done = work();
        // SAFETY: taken above, in the same mode; an error in between ends the transaction, and the lock with it.
        unsafe { pg_sys::LockRelease(&self.tag(), pg_sys::ExclusiveLock as i32, false) };
        Some(done)
    }

    /// Holds it beside others that share it, until the transaction ends.
    pub fn share_for_transaction(self) {
        // SAFETY: in a transaction, whose end lets go of it; the tag is copied.
        unsafe { pg_sys::LockAcquire(&self.tag(), pg_sys::ShareLock as i32, false, false) };
    }

    /// Takes it for as long as this process lives, without waiting; `shared`: beside others that share it. `false`: somebody else has it.
    pub fn keep(self, shared: bool) -> bool {
        // SAFETY: in a transaction; a lock of the session outlives it.
        let result = unsafe { pg_sys::LockAcquire(&self.tag(), Self::mode(shared), true, true) };
        result != pg_sys::LockAcquireResult::LOCKACQUIRE_NOT_AVAIL
    }

    /// Lets go of what [`keep`](Self::keep) has taken.
    pub fn let_go(self, shared: bool) {
        // SAFETY: in a transaction; of a lock that is not held the server only warns.
        unsafe { pg_sys::LockRelease(&self.tag(), Self::mode(shared), true) };
    }

    fn mode(shared: bool) -> pg_sys::LOCKMODE {
        (if shared { pg_sys::ShareLock } else { pg_sys::ExclusiveLock }) as pg_sys::LOCKMODE
    }

    /// Is there nobody who has it, shared or for himself? Asks without waiting, in a transaction. Others who ask at the same moment are
    /// nobody: the mode is not in its own way.
    pub fn is_free(self) -> bool {
        self.could_be_had(false)
    }

    /// The same; `shared`: those who share it do not count.
    pub fn could_be_had(self, shared: bool) -> bool {
        let mode = (if shared { pg_sys::RowShareLock } else { pg_sys::RowExclusiveLock }) as i32;
        // SAFETY: what was taken is let go of at once.
        unsafe {
            let taken =
                pg_sys::LockAcquire(&self.tag(), mode, false, true) != pg_sys::LockAcquireResult::LOCKACQUIRE_NOT_AVAIL;
            if taken {
                pg_sys::LockRelease(&self.tag(), mode, false);
            }
            taken
        }
    }
}

thread_local! {
    static WAITED: Cell<bool> = const { Cell::new(false) };
}

/// Notes whether [`somebody_waits`]. To be called before a part of the transaction ends, or all of it: afterwards they are gone.
pub fn note_waiters() {
    if somebody_waits() {
        WAITED.set(true);
    }
}

/// Does anybody wait for the end of this transaction, or of the part of it that is open, which is what waiting for one of its rows
/// is? Whoever waited for a part that is over waits for the whole.
pub fn somebody_waits() -> bool {
    // SAFETY: in a transaction.
    let (top, open) = unsafe { (pg_sys::GetTopTransactionIdIfAny(), pg_sys::GetCurrentTransactionIdIfAny()) };
    is_waited_for(top.into_inner()) || open != top && is_waited_for(open.into_inner())
}

fn is_waited_for(xid: u32) -> bool {
    if xid == pg_sys::InvalidTransactionId.into_inner() {
        return false;
    }
    let tag = pg_sys::LOCKTAG {
        locktag_field1: xid,
        locktag_field2: 0,
        locktag_field3: 0,
        locktag_field4: 0,
        locktag_type: pg_sys::LockTagType::LOCKTAG_TRANSACTION as u8,
        locktag_lockmethodid: pg_sys::DEFAULT_LOCKMETHOD as u8,
    };
    // SAFETY: this transaction holds the lock on its id, and on that of its part that is open; they are never in the fast path.
    unsafe { pg_sys::LockHasWaiters(&tag, pg_sys::ExclusiveLock as i32, false) }
}

/// Did [`note_waiters`] see anybody since the last call?
pub fn somebody_waited() -> bool {
    WAITED.take()
}
