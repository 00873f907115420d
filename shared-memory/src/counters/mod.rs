//! Counters of statements in shared memory: a fixed number of entries, no lock on the way to a known one.
//!
//! What runs in everybody's sessions ([`Memory::count`]) neither allocates nor waits nor fails (LAW 13): counting is a look into a
//! cache of this process, one word written to say which entry is being written to, and some atomic additions. Before an
//! entry changes hands its generation is changed and then everybody's word is looked at, so that nothing is ever
//! counted for the wrong statement. Who cannot have an entry counts for "others" of the database: sums stay exact.
//!
//! Whatever is held for a moment (the lock, an entry whose counts move) says which process holds it. If that is gone, whoever
//! may wait goes on in its place; nobody waits for ever (LAW 23).

use crate::figures::{COUNTERS, FAILURES, Key};
use crate::histogram::{BUCKETS, index_of};
use crate::sync::{AtomicI64, AtomicU32, AtomicU64, Ordering, in_order};

mod clients;
mod databases;
mod entries;
mod lock;
mod look;
mod moves;
#[cfg(all(test, loom))]
mod owned;
#[cfg(all(test, not(loom)))]
mod tests;

pub use self::clients::{COMMITS, Commits, Eye, TRANSACTIONS, Whose};
pub use self::databases::{DATABASES, Database, Presence};
use self::entries::MOST_USES;
pub use self::entries::Own;
pub use self::look::{Drained, Entry};
#[cfg(all(test, loom))]
pub use self::owned::Owned;

/// Parts of an entry that are counted apart, so that many processes do not fight for one cache line.
#[cfg(not(loom))]
const SHARDS: usize = 4;
#[cfg(loom)]
const SHARDS: usize = 1;

/// How a statement ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum Failure {
    Error = 0,
    Cancellation = 1,
    Timeout = 2,
    Unknown = 3,
}

/// What has not been drained yet.
#[repr(C, align(64))]
pub struct Shard {
    ns: AtomicU64,
    rows: AtomicU64,
    /// `u64::MAX` less the least latency, so that 0 means none.
    inverted_min: AtomicU64,
    max: AtomicU64,
    failures: [AtomicU64; FAILURES],
    buckets: [AtomicU32; BUCKETS],
}

/// What has been drained since the last reset.
#[repr(C, align(64))]
struct Total {
    ns: AtomicU64,
    rows: AtomicU64,
    inverted_min: AtomicU64,
    max: AtomicU64,
    failures: [AtomicU64; FAILURES],
    buckets: [AtomicU64; BUCKETS],
}

#[repr(C, align(64))]
struct Slot {
    /// Odd: in use. Changed whenever the entry changes hands.
    generation: AtomicU32,
    /// The next entry of the same hash, or free entry, + 1.
    next: AtomicU32,
    queryid: AtomicI64,
    /// Database and role.
    who: AtomicU64,
    /// [`Statement::traits`].
    traits: AtomicU32,
    uses: AtomicU32,
    /// Something has not been drained.
    touched: AtomicU32,
    /// Who is moving counts from the shards to the total, and how often that was begun or ended.
    moving: AtomicU64,
    since: AtomicI64,
    shards: [Shard; SHARDS],
    total: Total,
    /// Of pg_stat_statements, as of the last drain; belongs to the scheduler of the database.
    counters: [AtomicU64; COUNTERS],
    counters_since: AtomicI64,
}

#[repr(C)]
struct Header {
    /// The process that enters or evicts a statement, for microseconds; nobody in a session waits for it. 0: nobody.
    lock: AtomicU32,
    hand: AtomicU32,
    free: AtomicU32,
    fresh: AtomicU32,
    slots: u32,
    heads: u32,
    writers: u32,
    /// How often a database's place has become free.
    vacated: AtomicU32,
    evictions: AtomicU64,
    databases: [Database; DATABASES + 1],
}

/// Where a process says which entry (+ 1) it is writing to, and how much it has counted for clients.
#[repr(C, align(64))]
struct Writing {
    entry: AtomicU32,
    calls: AtomicU32,
}

/// All of it, as one process sees it.
#[derive(Clone, Copy)]
pub struct Memory {
    header: *const Header,
    heads: *const AtomicU32,
    writing: *const Writing,
    commits: *const Commits,
    slots: *const Slot,
}

// SAFETY: only atomics are behind the pointers.
unsafe impl Send for Memory {}
// SAFETY: as above.
unsafe impl Sync for Memory {}

/// What the calling process is at this moment.
#[derive(Clone, Copy)]
pub struct Me {
    /// Its number among the server's processes.
    pub number: u32,
    pub pid: u32,
    /// 0: none.
    pub database: u32,
}

/// A statement, in the database of whoever counts it.
#[derive(Clone, Copy)]
pub struct Statement {
    pub queryid: i64,
    pub user: u32,
    pub toplevel: bool,
    /// Executed by the worker of a job.
    pub by_job: bool,
}

const TOPLEVEL: u32 = 1;
const BY_JOB: u32 = 2;

impl Statement {
    /// What tells it from the same text executed otherwise, in one word.
    #[inline]
    fn traits(&self) -> u32 {
        u32::from(self.toplevel) * TOPLEVEL + u32::from(self.by_job) * BY_JOB
    }
}

fn key_of(queryid: i64, who: u64, traits: u32) -> Key {
    Key { queryid, user: who as u32, toplevel: traits & TOPLEVEL != 0, by_job: traits & BY_JOB != 0 }
}

#[cfg(not(loom))]
mod layout {
    use super::*;

    fn parts(entries: u32, writers: u32) -> (u32, [usize; 5]) {
        let slots = entries as usize + DATABASES + 1;
        let heads = (2 * slots).next_power_of_two();
        let parts = [
            size_of::<Header>().next_multiple_of(64),
            heads * size_of::<AtomicU32>(),
            writers as usize * size_of::<Writing>(),
            size_of::<Commits>(),
            slots * size_of::<Slot>(),
        ];
        (heads as u32, parts)
    }

    impl Memory {
        /// Bytes that it takes, a multiple of 64.
        pub fn size(entries: u32, writers: u32) -> usize {
            parts(entries, writers).1.iter().sum::<usize>().next_multiple_of(64)
        }

        /// Makes it of [`Memory::size`] bytes at `address`, when the server starts.
        ///
        /// # Safety
        /// The address is aligned to 64, these bytes are zero, live as long as the process, and nobody uses them yet.
        pub unsafe fn create(address: *mut u8, entries: u32, writers: u32, now: i64) -> Memory {
            let (heads, parts) = parts(entries, writers);
            // SAFETY: as promised; zeros are valid for all parts.
            unsafe {
                let at = |part: usize| address.add(parts[..part].iter().sum::<usize>());
                let header = at(0).cast::<Header>();
                (*header).slots = entries + DATABASES as u32 + 1;
                (*header).heads = heads;
                (*header).writers = writers;
                let memory = Memory {
                    header,
                    heads: at(1).cast(),
                    writing: at(2).cast(),
                    commits: at(3).cast(),
                    slots: at(4).cast::<Slot>().cast_const(),
                };
                memory.begin(now);
                memory
            }
        }
    }
}

impl Memory {
    const NONE: Memory = Memory {
        header: std::ptr::null(),
        heads: std::ptr::null(),
        writing: std::ptr::null(),
        commits: std::ptr::null(),
        slots: std::ptr::null(),
    };

    /// Where there is none.
    pub const fn none() -> Memory {
        Memory::NONE
    }

    pub fn is_none(&self) -> bool {
        self.header.is_null()
    }

    #[cfg(any(test, not(loom)))]
    fn begin(&self, now: i64) {
        let header = self.header();
        header.hand.store(DATABASES as u32 + 1, Ordering::Relaxed);
        header.fresh.store(DATABASES as u32 + 1, Ordering::Relaxed);
        for number in 0..=DATABASES as u32 {
            let slot = self.slot(number);
            slot.generation.store(1, Ordering::Relaxed);
            slot.since.store(now, Ordering::Relaxed);
        }
    }

    fn header(&self) -> &'static Header {
        // SAFETY: nobody calls anything of [`Memory::none`].
        unsafe { &*self.header }
    }

    /// `number` is below `slots`: all numbers come from this module.
    #[inline]
    fn slot(&self, number: u32) -> &'static Slot {
        // SAFETY: there are `slots` of them, which live as long as the memory.
        unsafe { &*self.slots.add(number as usize) }
    }

    #[inline]
    fn head(&self, hash: u64) -> &'static AtomicU32 {
        // SAFETY: the number of heads is a power of two.
        unsafe { &*self.heads.add((hash as u32 & (self.header().heads - 1)) as usize) }
    }

    #[inline]
    fn commits(&self) -> &'static Commits {
        // SAFETY: nobody calls anything of [`Memory::none`].
        unsafe { &*self.commits }
    }

    /// A process's words; `None` for a process that has none.
    #[inline]
    fn writing(&self, process: u32) -> Option<&'static Writing> {
        // SAFETY: within the array.
        (process < self.header().writers).then(|| unsafe { &*self.writing.add(process as usize) })
    }

    /// A statement has ended well.
    #[inline]
    pub fn count_call(
        &self,
        own: &mut Own,
        me: Me,
        statement: Statement,
        ns: u64,
        rows: u64,
        now: impl FnOnce() -> i64 + Copy,
    ) {
        self.count(own, me, statement, now, |shard| {
            shard.ns.fetch_add(ns, Ordering::Relaxed);
            if rows > 0 {
                shard.rows.fetch_add(rows, Ordering::Relaxed);
            }
            let inverted = u64::MAX - ns;
            if shard.inverted_min.load(Ordering::Relaxed) < inverted {
                shard.inverted_min.fetch_max(inverted, Ordering::Relaxed);
            }
            if shard.max.load(Ordering::Relaxed) < ns {
                shard.max.fetch_max(ns, Ordering::Relaxed);
            }
            // SAFETY: the index is below BUCKETS.
            unsafe { shard.buckets.get_unchecked(index_of(ns / 1000)) }.fetch_add(1, Ordering::SeqCst);
        });
    }

    /// A statement has failed.
    pub fn count_failure(
        &self,
        own: &mut Own,
        me: Me,
        statement: Statement,
        failure: Failure,
        now: impl FnOnce() -> i64 + Copy,
    ) {
        self.count(own, me, statement, now, |shard| {
            if let Some(count) = shard.failures.get(failure as usize) {
                count.fetch_add(1, Ordering::SeqCst);
            }
        });
    }

    #[inline]
    fn count(
        &self,
        own: &mut Own,
        me: Me,
        statement: Statement,
        now: impl FnOnce() -> i64 + Copy,
        count: impl FnOnce(&Shard),
    ) {
        let Some(Writing { entry: writing, calls }) = self.writing(me.number) else { return };
        if me.database == 0 {
            return;
        }
        let number = own.database(self, me);
        let database = self.database_at(number);
        let apart = (number as usize) < DATABASES && database.presence() != Presence::Absent && statement.queryid != 0;
        let entry = if apart { self.entry(own, writing, me, statement, now) } else { None };
        let slot = match entry {
            Some(slot) => slot,
            None => self.announce_others(writing, number, me.database),
        };
        // SAFETY: the remainder is below SHARDS.
        count(unsafe { slot.shards.get_unchecked(me.number as usize % SHARDS) });
        in_order();
        if slot.touched.load(Ordering::SeqCst) == 0 {
            slot.touched.store(1, Ordering::SeqCst);
        }
        let uses = slot.uses.load(Ordering::Relaxed);
        if uses < MOST_USES {
            slot.uses.store(uses + 1, Ordering::Relaxed);
        }
        writing.store(0, Ordering::Release);
        if !statement.by_job {
            // Nobody else writes it.
            calls.store(calls.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
        }
        in_order();
        if database.first_use.load(Ordering::SeqCst) == 0 {
            let _ = database.first_use.compare_exchange(0, now(), Ordering::SeqCst, Ordering::Relaxed);
        }
    }
}
