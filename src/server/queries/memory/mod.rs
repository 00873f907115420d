//! Counters of statements in shared memory: a fixed number of entries, no lock on the way to a known one.
//!
//! What runs in everybody's sessions (all that hooks call) neither allocates nor waits nor fails (LAW 13): counting is a look
//! into a cache of this process, one word written to say which entry is being written to, and some atomic additions. Before an
//! entry changes hands its generation is changed and then everybody's word is looked at, so that nothing is ever
//! counted for the wrong statement. Who cannot have an entry counts for "others" of the database: sums stay exact.
//!
//! Memory: 3.6 kB for each of `upkeep.query_max` entries, about 18 MB by default, and 1 kB for its text on the way to a table.

use std::ptr;
use std::sync::atomic::{AtomicI64, AtomicU32, AtomicU64, Ordering};

use pgrx::pg_sys;

use super::{Global, texts};
use crate::queries::figures::COUNTERS;
use crate::queries::histogram::{BUCKETS, index_of};

mod entries;
mod look;
mod moves;

pub use look::*;

use self::entries::{MOST_USES, entry};

/// Parts of an entry that are counted apart, so that many processes do not fight for one cache line.
const SHARDS: usize = 4;
/// Databases with "others" of their own; one more for all the rest.
pub const DATABASES: usize = 64;
const LOCK_TRIES: u32 = 100;

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
struct Shard {
    ns: AtomicU64,
    rows: AtomicU64,
    /// `u64::MAX` less the least latency, so that 0 means none.
    inverted_min: AtomicU64,
    max: AtomicU64,
    failures: [AtomicU64; 4],
    buckets: [AtomicU32; BUCKETS],
}

/// What has been drained since the last reset.
#[repr(C, align(64))]
struct Total {
    ns: AtomicU64,
    rows: AtomicU64,
    inverted_min: AtomicU64,
    max: AtomicU64,
    failures: [AtomicU64; 4],
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
    toplevel: AtomicU32,
    uses: AtomicU32,
    /// Something has not been drained.
    touched: AtomicU32,
    /// Odd: counts are being moved from the shards to the total.
    moving: AtomicU32,
    since: AtomicI64,
    shards: [Shard; SHARDS],
    total: Total,
    /// Of pg_stat_statements, as of the last drain; belongs to the scheduler of the database.
    counters: [AtomicU64; COUNTERS],
    counters_since: AtomicI64,
}

/// What is known of a database; the entry with the same number holds its "others".
#[repr(C, align(64))]
pub struct Database {
    oid: AtomicU32,
    /// 1: the extension is not there: everything is counted for "others".
    absent: AtomicU32,
    /// When something was first counted that has not been drained; 0: nothing is waiting.
    pub first_use: AtomicI64,
    /// When this database was last drained; 0: not since the server started.
    pub drained_at: AtomicI64,
    /// Last value of pg_stat_statements' count of evictions, + 1.
    pub dealloc: AtomicI64,
}

#[repr(C)]
struct Header {
    /// Held by who enters or evicts a statement, for microseconds; nobody in a session waits for it.
    lock: AtomicU32,
    hand: AtomicU32,
    free: AtomicU32,
    fresh: AtomicU32,
    slots: u32,
    heads: u32,
    writers: u32,
    evictions: AtomicU64,
    databases: [Database; DATABASES + 1],
}

/// Where a process says which entry (+ 1) it is writing to.
#[repr(C, align(64))]
struct Writing(AtomicU32);

struct Memory {
    header: *const Header,
    heads: *const AtomicU32,
    writing: *const Writing,
    slots: *const Slot,
}

static MEMORY: Global<Memory> =
    Global::new(Memory { header: ptr::null(), heads: ptr::null(), writing: ptr::null(), slots: ptr::null() });

unsafe extern "C-unwind" {
    /// Declared here without pgrx's guard: it does not raise.
    fn GetCurrentTimestamp() -> i64;
}

/// Microseconds since 2000.
fn now() -> i64 {
    // SAFETY: reads the clock.
    unsafe { GetCurrentTimestamp() }
}

fn memory() -> Option<&'static Memory> {
    // SAFETY: written once, by the postmaster.
    let memory = unsafe { &*MEMORY.get() };
    (!memory.header.is_null()).then_some(memory)
}

pub fn is_available() -> bool {
    memory().is_some()
}

fn sizes(entries: u32, writers: u32) -> (u32, [usize; 5]) {
    let slots = entries as usize + DATABASES + 1;
    let heads = (2 * slots).next_power_of_two();
    let texts = texts::size(entries);
    let parts = [
        size_of::<Header>().next_multiple_of(64),
        heads * size_of::<AtomicU32>(),
        writers as usize * size_of::<Writing>(),
        slots * size_of::<Slot>(),
        texts,
    ];
    (heads as u32, parts)
}

fn writers() -> u32 {
    // SAFETY: computed before shared memory is asked for.
    (unsafe { pg_sys::MaxBackends }).max(0) as u32 + 1
}

/// Bytes to ask for.
pub fn size(entries: u32) -> usize {
    sizes(entries, writers()).1.iter().sum::<usize>() + 64
}

/// Makes the memory at `address`, which is of [`size`] bytes. In the postmaster, when shared memory is made.
///
/// # Safety
/// Nobody uses that memory yet.
pub unsafe fn create(address: *mut u8, entries: u32) {
    let writers = writers();
    let (heads, parts) = sizes(entries, writers);
    // SAFETY: as promised; zeros are valid for all parts.
    unsafe {
        ptr::write_bytes(address, 0, size(entries));
        let start = address.add(address.align_offset(64));
        let at = |part: usize| start.add(parts[..part].iter().sum::<usize>());
        let header = at(0).cast::<Header>();
        (*header).slots = entries + DATABASES as u32 + 1;
        (*header).heads = heads;
        (*header).writers = writers;
        (*header).hand.store(DATABASES as u32 + 1, Ordering::Relaxed);
        (*header).fresh.store(DATABASES as u32 + 1, Ordering::Relaxed);
        *MEMORY.get() =
            Memory { header, heads: at(1).cast(), writing: at(2).cast(), slots: at(3).cast::<Slot>().cast_const() };
        let now = now();
        for i in 0..=DATABASES {
            let slot = &*(*MEMORY.get()).slots.add(i);
            slot.generation.store(1, Ordering::Relaxed);
            slot.since.store(now, Ordering::Relaxed);
        }
        texts::create(at(4), entries);
    }
}

impl Memory {
    fn header(&self) -> &'static Header {
        // SAFETY: not null once [`memory`] gave it.
        unsafe { &*self.header }
    }

    /// `number` is below `slots`: all numbers come from this module.
    #[inline]
    fn slot(&self, number: u32) -> &'static Slot {
        unsafe { &*self.slots.add(number as usize) }
    }

    #[inline]
    fn head(&self, hash: u64) -> &'static AtomicU32 {
        // SAFETY: the number of heads is a power of two.
        unsafe { &*self.heads.add((hash as u32 & (self.header().heads - 1)) as usize) }
    }

    /// This process's word; `None` in a process that has none.
    #[inline]
    fn writing(&self) -> Option<&'static AtomicU32> {
        let number = my_number();
        // SAFETY: within the array.
        (number < self.header().writers).then(|| unsafe { &(*self.writing.add(number as usize)).0 })
    }

    fn try_lock(&self) -> bool {
        let lock = &self.header().lock;
        let mut tries = 0;
        while tries < LOCK_TRIES {
            if lock.load(Ordering::Relaxed) == 0
                && lock.compare_exchange(0, 1, Ordering::Acquire, Ordering::Relaxed).is_ok()
            {
                return true;
            }
            tries += 1;
            std::hint::spin_loop();
        }
        false
    }

    fn unlock(&self) {
        self.header().lock.store(0, Ordering::Release);
    }
}

#[inline]
fn my_number() -> u32 {
    // SAFETY: set when the process started.
    #[cfg(any(feature = "pg15", feature = "pg16"))]
    let number = unsafe { pg_sys::MyBackendId };
    #[cfg(not(any(feature = "pg15", feature = "pg16")))]
    let number = unsafe { pg_sys::MyProcNumber };
    number as u32
}

/// The number of this process's database.
fn my_database(memory: &Memory) -> u32 {
    static MINE: Global<(u32, u32)> = Global::new((0, 0));
    // SAFETY: one thread.
    unsafe {
        let oid = pg_sys::MyDatabaseId.to_u32();
        if (*MINE.get()).0 != oid {
            *MINE.get() = (oid, number_of(memory, oid));
        }
        (*MINE.get()).1
    }
}

fn number_of(memory: &Memory, oid: u32) -> u32 {
    let mut number = 0;
    for database in memory.header().databases.iter().take(DATABASES) {
        match database.oid.compare_exchange(0, oid, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => return number,
            Err(taken) if taken == oid => return number,
            Err(_) => number += 1,
        }
    }
    number
}

fn database_at(memory: &Memory, number: u32) -> &'static Database {
    // SAFETY: at most DATABASES, where the one for the rest is.
    unsafe { memory.header().databases.get_unchecked((number as usize).min(DATABASES)) }
}

/// A statement has ended well.
#[inline]
pub fn count_call(queryid: i64, user: u32, toplevel: bool, ns: u64, rows: u64) {
    with_entry(queryid, user, toplevel, |shard| {
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
pub fn count_failure(queryid: i64, user: u32, toplevel: bool, failure: Failure) {
    with_entry(queryid, user, toplevel, |shard| {
        // SAFETY: four kinds.
        unsafe { shard.failures.get_unchecked(failure as usize) }.fetch_add(1, Ordering::SeqCst);
    });
}

#[inline]
fn with_entry(queryid: i64, user: u32, toplevel: bool, count: impl FnOnce(&Shard)) {
    let Some(memory) = memory() else { return };
    let Some(writing) = memory.writing() else { return };
    // SAFETY: set when the process connected; 0 without a database.
    let oid = unsafe { pg_sys::MyDatabaseId.to_u32() };
    if oid == 0 {
        return;
    }
    let number = my_database(memory);
    let database = database_at(memory, number);
    let toplevel = u32::from(toplevel);
    let who = u64::from(oid) << 32 | u64::from(user);
    let slot = if number as usize >= DATABASES || database.absent.load(Ordering::Relaxed) != 0 || queryid == 0 {
        memory.slot(number)
    } else {
        match entry(memory, writing, queryid, who, toplevel) {
            Some(slot) => slot,
            None => memory.slot(number),
        }
    };
    // SAFETY: the remainder is below SHARDS.
    count(unsafe { slot.shards.get_unchecked(my_number() as usize % SHARDS) });
    if slot.touched.load(Ordering::SeqCst) == 0 {
        slot.touched.store(1, Ordering::SeqCst);
    }
    let uses = slot.uses.load(Ordering::Relaxed);
    if uses < MOST_USES {
        slot.uses.store(uses + 1, Ordering::Relaxed);
    }
    writing.store(0, Ordering::Release);
    if database.first_use.load(Ordering::SeqCst) == 0 {
        let _ = database.first_use.compare_exchange(0, now(), Ordering::SeqCst, Ordering::Relaxed);
    }
}

/// Somebody may just have created the extension in this database: from here on statements are kept apart again.
pub fn extension_may_exist() {
    if let Some(memory) = memory() {
        database_at(memory, my_database(memory)).absent.store(0, Ordering::SeqCst);
        // Its table of texts is empty.
        if let Some(texts) = texts::texts() {
            texts.forget_all();
        }
    }
}
