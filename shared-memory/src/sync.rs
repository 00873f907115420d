//! Words of shared memory: plain atomics in the server, loom's in models.

#[cfg(not(loom))]
pub use core::sync::atomic::{AtomicI64, AtomicU32, AtomicU64, Ordering, fence};
#[cfg(loom)]
pub use loom::sync::atomic::{AtomicI64, AtomicU32, AtomicU64, Ordering, fence};

/// Between a write and a read of another word that no process may see the other way round. Both are sequentially consistent, and
/// all such accesses have one order; loom takes them for acquire and release, but knows this fence.
#[inline(always)]
pub fn in_order() {
    #[cfg(loom)]
    fence(Ordering::SeqCst);
}

/// Mistakes that were made once or would be easy to make. Models make them on purpose, to see that they find them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mistake {
    /// A database takes the first free place before it is known that it has none further on.
    FirstFreePlace,
    /// An entry's generation is changed after the look whether somebody writes to it.
    LookBeforeGeneration,
    /// Whoever waits does so for ever, also for a process that is gone.
    WaitForTheGone,
    /// A database's place is looked for and taken by two processes at once.
    ClaimWithoutLock,
    /// A place is given to another database after the look whether somebody counts there.
    LookBeforePlace,
    /// Whoever counts for a place believes that it is still its database's.
    BelieveThePlace,
    /// It is said of a database's place whether the extension is there while that place goes to another one.
    SayWithoutLock,
    /// A place of a database that was dropped is cleared though another database has it by now.
    ClearUnseen,
    /// The board's lease is taken without a look whether somebody else has just taken it.
    LeaseWithoutLooking,
    /// A sample is taken for whole if nobody has begun to write one: two may have written it.
    BelieveTheSequence,
    /// Positions of the log are believed though they were written over while they were read.
    BelieveOverwritten,
}

#[cfg(not(all(test, loom)))]
#[inline(always)]
pub const fn made(_mistake: Mistake) -> bool {
    false
}

#[cfg(all(test, loom))]
pub use self::on_purpose::{made, make};

#[cfg(all(test, loom))]
mod on_purpose {
    use std::cell::Cell;

    use super::Mistake;

    std::thread_local! {
        /// All threads of a model run on one thread.
        static MADE: Cell<Option<Mistake>> = const { Cell::new(None) };
    }

    pub fn made(mistake: Mistake) -> bool {
        MADE.get() == Some(mistake)
    }

    pub fn make(mistake: Option<Mistake>) {
        MADE.set(mistake);
    }
}
