//! Counters of statements in shared memory: a fixed number of entries, no lock on the way to a known one.
//!
//! What runs in everybody's sessions (all that hooks call) neither allocates nor waits nor fails (LAW 13): counting is a look
//! into a cache of this process, one word written to say which entry is being written to, and some atomic additions. Before an
//! entry changes hands its generation is changed and then everybody's word is looked at, so that nothing is ever
//! counted for the wrong statement. Who cannot have an entry counts for "others" of the database: sums stay exact.
//!
//! Memory: 3.6 kB for each of `upkeep.query_max` entries, about 18 MB by default, and 2.5 MB for texts on their way to a table.

use std::cell::UnsafeCell;
use std::ptr;
use std::sync::atomic::{AtomicI64, AtomicU32, AtomicU64, Ordering};

use pgrx::pg_sys;

use super::query_texts::{self, Texts};
use crate::queries::figures::COUNTERS;
use crate::queries::histogram::{BUCKETS, index_of};

/// Parts of an entry that are counted apart, so that many processes do not fight for one cache line.
const SHARDS: usize = 4;
/// Databases with "others" of their own; one more for all the rest.
pub const DATABASES: usize = 64;
/// Most entries that a look for a statement, or for one to evict, passes.
const LONGEST_CHAIN: u32 = 64;
const LONGEST_SEARCH: u32 = 128;
/// An entry used this often since the search last passed it is passed this often.
const MOST_USES: u32 = 4;
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

struct Global<T>(UnsafeCell<T>);
// SAFETY: backends have one thread; the postmaster fills it before it forks.
unsafe impl<T> Sync for Global<T> {}

static MEMORY: Global<Memory> = Global(UnsafeCell::new(Memory {
    header: ptr::null(),
    heads: ptr::null(),
    writing: ptr::null(),
    slots: ptr::null(),
}));

/// What this process has found before.
#[derive(Clone, Copy)]
struct Known {
    queryid: i64,
    user: u32,
    toplevel: u32,
    slot: u32,
    generation: u32,
}
const CACHE: usize = 1024;
static CACHED: Global<[Known; CACHE]> =
    Global(UnsafeCell::new([Known { queryid: 0, user: 0, toplevel: 0, slot: 0, generation: 0 }; CACHE]));

unsafe extern "C-unwind" {
    /// Declared here without pgrx's guard: neither raises.
    fn GetCurrentTimestamp() -> i64;
}

fn memory() -> Option<&'static Memory> {
    // SAFETY: written once, by the postmaster.
    let memory = unsafe { &*MEMORY.0.get() };
    (!memory.header.is_null()).then_some(memory)
}

pub fn is_available() -> bool {
    memory().is_some()
}

fn sizes(entries: u32, writers: u32) -> (u32, [usize; 5]) {
    let slots = entries as usize + DATABASES + 1;
    let heads = (2 * slots).next_power_of_two();
    let texts = query_texts::size(entries);
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
        *MEMORY.0.get() =
            Memory { header, heads: at(1).cast(), writing: at(2).cast(), slots: at(3).cast::<Slot>().cast_const() };
        let now = GetCurrentTimestamp();
        for i in 0..=DATABASES {
            let slot = &*(*MEMORY.0.get()).slots.add(i);
            slot.generation.store(1, Ordering::Relaxed);
            slot.since.store(now, Ordering::Relaxed);
        }
        query_texts::create(at(4), entries);
    }
}

pub fn texts() -> Option<&'static Texts> {
    query_texts::texts()
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

#[inline]
fn hash_of(queryid: i64, who: u64, toplevel: u32) -> u64 {
    let mixed =
        (queryid as u64 ^ who.rotate_left(29) ^ (u64::from(toplevel) << 61)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    mixed ^ (mixed >> 32)
}

/// The number of this process's database.
fn my_database(memory: &Memory) -> u32 {
    static MINE: Global<(u32, u32)> = Global(UnsafeCell::new((0, 0)));
    // SAFETY: one thread.
    unsafe {
        let oid = pg_sys::MyDatabaseId.to_u32();
        if (*MINE.0.get()).0 != oid {
            *MINE.0.get() = (oid, number_of(memory, oid));
        }
        (*MINE.0.get()).1
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
        // SAFETY: reads the clock.
        let now = unsafe { GetCurrentTimestamp() };
        let _ = database.first_use.compare_exchange(0, now, Ordering::SeqCst, Ordering::Relaxed);
    }
}

/// The entry of a statement, which cannot change hands until `writing` is cleared.
#[inline]
fn entry(memory: &Memory, writing: &AtomicU32, queryid: i64, who: u64, toplevel: u32) -> Option<&'static Slot> {
    let hash = hash_of(queryid, who, toplevel);
    // SAFETY: one thread, and the remainder is within the array.
    let known = unsafe { (*CACHED.0.get()).get_unchecked_mut((hash >> 16) as usize % CACHE) };
    if known.queryid == queryid && known.user == who as u32 && known.toplevel == toplevel {
        let slot = memory.slot(known.slot);
        writing.store(known.slot + 1, Ordering::SeqCst);
        if slot.generation.load(Ordering::SeqCst) == known.generation {
            return Some(slot);
        }
    }
    let (number, generation) = find(memory, writing, hash, queryid, who, toplevel)
        .or_else(|| enter(memory, writing, hash, queryid, who, toplevel))
        .or_else(|| {
            writing.store(0, Ordering::Release);
            None
        })?;
    *known = Known { queryid, user: who as u32, toplevel, slot: number, generation };
    Some(memory.slot(number))
}

/// Looks without a lock; may miss an entry while others enter or evict.
fn find(memory: &Memory, writing: &AtomicU32, hash: u64, queryid: i64, who: u64, toplevel: u32) -> Option<(u32, u32)> {
    let mut next = memory.head(hash).load(Ordering::Acquire);
    let mut steps = 0;
    while next != 0 && steps < LONGEST_CHAIN {
        let slot = memory.slot(next - 1);
        if slot.queryid.load(Ordering::Relaxed) == queryid
            && slot.who.load(Ordering::Relaxed) == who
            && slot.toplevel.load(Ordering::Relaxed) == toplevel
        {
            writing.store(next, Ordering::SeqCst);
            let generation = slot.generation.load(Ordering::SeqCst);
            // Now it cannot change hands: is it still what it looked like?
            if generation % 2 == 1
                && slot.queryid.load(Ordering::Relaxed) == queryid
                && slot.who.load(Ordering::Relaxed) == who
                && slot.toplevel.load(Ordering::Relaxed) == toplevel
            {
                return Some((next - 1, generation));
            }
        }
        next = slot.next.load(Ordering::Acquire);
        steps += 1;
    }
    None
}

fn enter(memory: &Memory, writing: &AtomicU32, hash: u64, queryid: i64, who: u64, toplevel: u32) -> Option<(u32, u32)> {
    if !memory.try_lock() {
        return None;
    }
    writing.store(0, Ordering::Relaxed);
    let found = find(memory, writing, hash, queryid, who, toplevel)
        .or_else(|| take_slot(memory).map(|number| fill(memory, writing, number, hash, queryid, who, toplevel)));
    memory.unlock();
    found
}

/// Under the lock: gives an empty entry to a statement.
fn fill(
    memory: &Memory,
    writing: &AtomicU32,
    number: u32,
    hash: u64,
    queryid: i64,
    who: u64,
    toplevel: u32,
) -> (u32, u32) {
    let slot = memory.slot(number);
    slot.queryid.store(queryid, Ordering::Relaxed);
    slot.who.store(who, Ordering::Relaxed);
    slot.toplevel.store(toplevel, Ordering::Relaxed);
    slot.uses.store(0, Ordering::Relaxed);
    slot.touched.store(0, Ordering::Relaxed);
    // SAFETY: reads the clock.
    slot.since.store(unsafe { GetCurrentTimestamp() }, Ordering::Relaxed);
    for counter in &slot.counters {
        counter.store(0, Ordering::Relaxed);
    }
    slot.counters_since.store(0, Ordering::Relaxed);
    let head = memory.head(hash);
    slot.next.store(head.load(Ordering::Relaxed), Ordering::Relaxed);
    writing.store(number + 1, Ordering::SeqCst);
    let generation = slot.generation.load(Ordering::Relaxed).wrapping_add(1);
    slot.generation.store(generation, Ordering::SeqCst);
    head.store(number + 1, Ordering::Release);
    (number, generation)
}

/// Under the lock: an empty entry, if need be of the statement that was used least.
fn take_slot(memory: &Memory) -> Option<u32> {
    let header = memory.header();
    let free = header.free.load(Ordering::Relaxed);
    if free != 0 {
        header.free.store(memory.slot(free - 1).next.load(Ordering::Relaxed), Ordering::Relaxed);
        return Some(free - 1);
    }
    let fresh = header.fresh.load(Ordering::Relaxed);
    if fresh < header.slots {
        header.fresh.store(fresh + 1, Ordering::Relaxed);
        return Some(fresh);
    }
    let mut hand = header.hand.load(Ordering::Relaxed);
    let mut steps = 0;
    let mut taken = None;
    while taken.is_none() && steps < LONGEST_SEARCH {
        hand = if hand + 1 < header.slots { hand + 1 } else { DATABASES as u32 + 1 };
        steps += 1;
        let slot = memory.slot(hand);
        let uses = slot.uses.load(Ordering::Relaxed);
        if uses > 0 {
            slot.uses.store(uses - 1, Ordering::Relaxed);
        } else if evict(memory, hand) {
            header.evictions.fetch_add(1, Ordering::Relaxed);
            taken = Some(hand);
        }
    }
    header.hand.store(hand, Ordering::Relaxed);
    taken
}

/// Under the lock: what an entry holds goes to "others" of its database, the entry is in no chain any more.
fn evict(memory: &Memory, number: u32) -> bool {
    let slot = memory.slot(number);
    let generation = slot.generation.load(Ordering::Relaxed);
    if generation.is_multiple_of(2) || !slot.begin_move() {
        return false;
    }
    slot.generation.store(generation.wrapping_add(1), Ordering::SeqCst);
    let writers = memory.header().writers as usize;
    let mut i = 0;
    while i < writers {
        // SAFETY: within the array.
        if unsafe { &(*memory.writing.add(i)).0 }.load(Ordering::SeqCst) == number + 1 {
            slot.generation.store(generation, Ordering::SeqCst);
            slot.end_move();
            return false;
        }
        i += 1;
    }
    unlink(memory, number);
    let database = number_of(memory, (slot.who.load(Ordering::Relaxed) >> 32) as u32);
    slot.give_to(memory.slot(database));
    slot.end_move();
    true
}

fn unlink(memory: &Memory, number: u32) {
    let slot = memory.slot(number);
    let hash = hash_of(
        slot.queryid.load(Ordering::Relaxed),
        slot.who.load(Ordering::Relaxed),
        slot.toplevel.load(Ordering::Relaxed),
    );
    let mut link = memory.head(hash);
    loop {
        let next = link.load(Ordering::Relaxed);
        if next == 0 {
            return;
        }
        if next == number + 1 {
            link.store(slot.next.load(Ordering::Relaxed), Ordering::Release);
            return;
        }
        link = &memory.slot(next - 1).next;
    }
}

impl Slot {
    fn begin_move(&self) -> bool {
        let moving = self.moving.load(Ordering::Relaxed);
        moving.is_multiple_of(2)
            && self.moving.compare_exchange(moving, moving.wrapping_add(1), Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }

    fn end_move(&self) {
        self.moving.fetch_add(1, Ordering::Release);
    }

    /// For those that may wait: counts move in microseconds.
    fn begin_move_patiently(&self) {
        while !self.begin_move() {
            std::thread::yield_now();
        }
    }

    /// All counts of this entry go to `others`.
    fn give_to(&self, others: &Slot) {
        for shard in &self.shards {
            others.shards[0].add(shard);
        }
        others.total.add(&self.total);
        others.touched.store(1, Ordering::SeqCst);
    }
}

/// Moves what `from` holds, if that is anything.
macro_rules! pour {
    ($from:expr => $($to:expr),+) => {
        if $from.load(Ordering::Relaxed) != 0 {
            let value = $from.swap(0, Ordering::SeqCst);
            $($to.fetch_add(value.into(), Ordering::SeqCst);)+
        }
    };
}

macro_rules! pour_most {
    ($from:expr => $($to:expr),+) => {
        if $from.load(Ordering::Relaxed) != 0 {
            let value = $from.swap(0, Ordering::SeqCst);
            $($to.fetch_max(value, Ordering::SeqCst);)+
        }
    };
}

macro_rules! add_all {
    ($name:ident) => {
        fn add(&self, from: &$name) {
            pour!(from.ns => self.ns);
            pour!(from.rows => self.rows);
            pour_most!(from.inverted_min => self.inverted_min);
            pour_most!(from.max => self.max);
            for (from, to) in from.failures.iter().zip(&self.failures) {
                pour!(from => to);
            }
            for (from, to) in from.buckets.iter().zip(&self.buckets) {
                pour!(from => to);
            }
        }
    };
}

impl Shard {
    add_all!(Shard);
}

impl Total {
    add_all!(Total);
}

/// Somebody may just have created the extension in this database: from here on statements are kept apart again.
pub fn extension_may_exist() {
    if let Some(memory) = memory() {
        database_at(memory, my_database(memory)).absent.store(0, Ordering::SeqCst);
        // Its table of texts is empty.
        if let Some(texts) = texts() {
            texts.forget_all();
        }
    }
}

mod look;
pub use look::*;
