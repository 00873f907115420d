//! Counters of statements in shared memory, as a process of the server uses them; what happens there is in `pg_upkeep_memory`.
//!
//! Memory: 3.6 kB for each of `upkeep.query_max` entries, about 18 MB by default, and 1 kB for its text on the way to a table.

use std::sync::atomic::AtomicU32;
use std::time::Duration;

use pg_upkeep_memory::Host;
use pg_upkeep_memory::counters::{self, Eye, Me, Memory, Own, Statement, Whose};
pub use pg_upkeep_memory::counters::{Database, Drained, Entry, Failure, Presence};
use pgrx::pg_sys;

use super::{Global, texts};
use crate::queries::figures::COUNTERS;
use crate::queries::histogram::Histogram;
use crate::server::quiet;
use crate::server::raw::unguarded::{GetCurrentTimestamp, GetCurrentTransactionStartTimestamp, RecoveryInProgress};

static MEMORY: Global<Memory> = Global::new(Memory::none());
/// What this process remembers; the postmaster counts nothing.
static OWN: Global<Own> = Global::new(Own::new());

#[inline]
fn statement(queryid: i64, user: u32, toplevel: bool) -> Statement {
    Statement { queryid, user, toplevel, by_job: quiet::works_for_a_job() }
}

/// Microseconds since 2000.
fn now() -> i64 {
    // SAFETY: reads the clock.
    unsafe { GetCurrentTimestamp() }
}

fn memory() -> Option<Memory> {
    // SAFETY: written once, by the postmaster.
    let memory = unsafe { *MEMORY.get() };
    (!memory.is_none()).then_some(memory)
}

pub fn is_available() -> bool {
    memory().is_some()
}

fn writers() -> u32 {
    // SAFETY: computed before shared memory is asked for.
    (unsafe { pg_sys::MaxBackends }).max(0) as u32 + 1
}

/// Bytes to ask for.
pub fn size(entries: u32) -> usize {
    Memory::size(entries, writers()) + texts::size(entries) + 64
}

/// Makes the memory at `address`, which is of [`size`] bytes. In the postmaster, when shared memory is made.
///
/// # Safety
/// Nobody uses that memory yet.
pub unsafe fn create(address: *mut u8, entries: u32) {
    // SAFETY: as promised; zeros are valid for all parts.
    unsafe {
        std::ptr::write_bytes(address, 0, size(entries));
        let start = address.add(address.align_offset(64));
        *MEMORY.get() = Memory::create(start, entries, writers(), now());
        texts::create(start.add(Memory::size(entries, writers())), entries);
    }
}

#[inline]
fn my_number() -> u32 {
    #[cfg(any(feature = "pg15", feature = "pg16"))]
    // SAFETY: set when the process started.
    let number = unsafe { pg_sys::MyBackendId };
    #[cfg(not(any(feature = "pg15", feature = "pg16")))]
    // SAFETY: set when the process started.
    let number = unsafe { pg_sys::MyProcNumber };
    number as u32
}

fn my_pid() -> u32 {
    // SAFETY: set when the process started.
    (unsafe { pg_sys::MyProcPid }) as u32
}

#[inline]
fn me() -> Me {
    // SAFETY: set when the process connected; 0 without a database.
    Me { number: my_number(), pid: my_pid(), database: unsafe { pg_sys::MyDatabaseId.to_u32() } }
}

/// A statement has ended well.
#[inline]
pub fn count_call(queryid: i64, user: u32, toplevel: bool, ns: u64, rows: u64) {
    let Some(memory) = memory() else { return };
    // SAFETY: one thread.
    let own = unsafe { &mut *OWN.get() };
    memory.count_call(own, me(), statement(queryid, user, toplevel), ns, rows, now);
}

/// A statement has failed.
pub fn count_failure(queryid: i64, user: u32, toplevel: bool, failure: Failure) {
    let Some(memory) = memory() else { return };
    // SAFETY: one thread.
    let own = unsafe { &mut *OWN.get() };
    memory.count_failure(own, me(), statement(queryid, user, toplevel), failure, now);
}

/// This process as one that takes down texts; `None`: nobody will fetch them. Where statements are analyzed: it neither waits nor fails.
#[inline]
pub fn taker_of_texts(user: u32) -> Option<texts::Taker> {
    let memory = memory()?;
    let me = me();
    if me.database == 0 {
        return None;
    }
    // SAFETY: one thread.
    let place = unsafe { &mut *OWN.get() }.database(&memory, me);
    if place as usize >= counters::DATABASES {
        return None;
    }
    let database = memory.place(place);
    let is_read = match database.presence() {
        Presence::Absent => return None,
        Presence::Present => true,
        // On a standby no scheduler comes, and what runs is shown all the same.
        // SAFETY: looks at a word of shared memory.
        Presence::Unknown => unsafe { RecoveryInProgress() },
    };
    let who = u64::from(me.database) << 32 | u64::from(user);
    Some(texts::Taker { who, database, place, is_read, pid: me.pid })
}

/// Where the pieces of texts of the database at a place are counted.
pub fn pieces_of(place: u32) -> Option<&'static AtomicU32> {
    Some(memory()?.place(place).pieces())
}

/// Somebody may just have created the extension in this database: from here on statements are kept apart again.
pub fn extension_may_exist() {
    let Some(memory) = memory() else { return };
    // Who creates an extension may wait for a moment. If that is undone, the next scheduler says so.
    memory.set_presence(&AT_WORK, me().database, Presence::Present, free_texts);
    // Its table of texts is empty.
    if let Some(texts) = texts::texts() {
        texts.forget_all();
    }
}

/// Turns of waiting that only let others run; later ones sleep.
const EAGER_TURNS: u32 = 200;
const NAP: Duration = Duration::from_millis(1);

/// This process, where it may wait.
struct Waiter {
    /// Where the caller may be interrupted. Not in the middle of a drain, nor while the process ends.
    interruptible: bool,
}

const IN_A_FUNCTION: Waiter = Waiter { interruptible: true };
const AT_WORK: Waiter = Waiter { interruptible: false };

impl Host for Waiter {
    fn pid(&self) -> u32 {
        my_pid()
    }

    fn is_alive(&self, pid: u32) -> bool {
        // SAFETY: looks through the list of processes, under a lock that is held for microseconds; the one given is not used.
        pid != my_pid() && unsafe { !pg_sys::BackendPidGetProc(pid as i32).is_null() }
    }

    fn wait(&self, turn: u32) {
        if self.interruptible {
            pgrx::check_for_interrupts!();
        }
        if turn < EAGER_TURNS {
            std::thread::yield_now();
        } else {
            std::thread::sleep(NAP);
        }
    }

    fn now(&self) -> i64 {
        now()
    }
}

/// Everything since the last reset: of database `oid`, and the others of all databases. In a function.
pub fn live(oid: u32) -> Vec<Entry> {
    memory().map_or_else(Vec::new, |memory| memory.live(&IN_A_FUNCTION, oid))
}

/// What clients have executed since the last look with this eye. `false`: nothing is counted.
pub fn look_at_clients(eye: &mut Eye, see: &mut dyn FnMut(Whose, &Histogram)) -> bool {
    memory().map(|memory| memory.look_at_clients(eye, see)).is_some()
}

/// How many statements clients have executed, in the arithmetic that wraps round.
pub fn calls_of_clients() -> Option<u32> {
    memory().map(|memory| memory.calls_of_clients())
}

/// A client's transaction that wrote something has been committed, which took this long.
#[inline]
pub fn count_commit(ns: u64) {
    if let Some(memory) = memory()
        && !quiet::works_for_a_job()
    {
        // SAFETY: reads what the transaction remembers.
        let began = unsafe { GetCurrentTransactionStartTimestamp() };
        memory.count_commit(me(), ns / 1000, u64::try_from(now().wrapping_sub(began)).unwrap_or(0));
    }
}

/// Since when something waits to be drained in a database that, as far as is known, has the extension.
pub fn waiting_since(oid: u32) -> Option<i64> {
    memory()?.waiting_since(oid)
}

/// What is known of a database. `None`: too many databases came before.
pub fn database(oid: u32) -> Option<&'static Database> {
    memory()?.database(oid, my_pid())
}

/// The same if there is a place for it already.
pub fn known(oid: u32) -> Option<&'static Database> {
    let memory = memory()?;
    Some(memory.place(memory.find_database(oid)?))
}

/// Says whether the extension is in a database, and lets go of the texts that nobody will fetch.
pub fn set_presence(oid: u32, presence: Presence) {
    let Some(memory) = memory() else { return };
    let before = memory.set_presence(&AT_WORK, oid, presence, free_texts);
    if presence != Presence::Present && before != Some(presence) {
        free_texts(oid);
    }
}

/// Nobody will fetch the texts of a database.
fn free_texts(oid: u32) {
    if let Some(texts) = texts::texts() {
        texts.free(oid);
    }
}

/// Nobody is sent to a database: whether the extension is there is not known any more.
pub fn leave_alone(oid: u32) {
    if known(oid).is_some_and(|database| database.presence() == Presence::Present) {
        set_presence(oid, Presence::Unknown);
    }
}

/// Looks whether a process that is gone has left something half done.
pub fn tend() {
    if let Some(memory) = memory() {
        memory.tend(&AT_WORK);
    }
    if let Some(texts) = texts::texts() {
        texts.tend(|pid| AT_WORK.is_alive(pid));
    }
}

/// Makes room for other databases, and for their texts.
pub fn forget_databases(exists: impl Fn(u32) -> bool) {
    let Some(memory) = memory() else { return };
    memory.forget_databases(&AT_WORK, exists, free_texts);
}

/// Takes what has been counted in a database since it was last drained. Nothing interrupts it.
pub fn drain(oid: u32) -> Option<Drained> {
    memory()?.drain(&AT_WORK, oid)
}

/// It could not be stored: it waits for the next time.
pub fn give_back(drained: &Drained) {
    if let Some(memory) = memory() {
        memory.give_back(&AT_WORK, my_number(), drained);
    }
}

/// What pg_stat_statements said of an entry last time, and since when it had been counting; `None` for others.
pub fn counters(entry: &Entry) -> Option<([u64; COUNTERS], i64)> {
    memory()?.counters(entry)
}

pub fn set_counters(entry: &Entry, counters: &[u64; COUNTERS], since: i64) {
    if let Some(memory) = memory() {
        memory.set_counters(entry, counters, since);
    }
}

/// Lets the live figures of matching entries of a database begin at `now`. False: not of all of them. In a function.
#[must_use]
pub fn reset(oid: u32, now: i64, matches: impl Fn(i64, u32) -> bool) -> bool {
    memory().is_none_or(|memory| memory.reset(&IN_A_FUNCTION, oid, now, matches))
}
