//! The launcher's shared memory: who wants to be visited, and when.
//!
//! One dynamic segment serves a preloaded server and one that was never
//! restarted alike. Its handle goes to workers in `bgw_extra`; everybody else
//! reads it from the launcher's application name.

use std::cell::{Cell, RefCell};
use std::sync::atomic::{AtomicI32, AtomicI64, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use pgrx::pg_sys::{self, Oid};

use crate::server::system::micros;

use pg_upkeep_memory::board::Board;

/// More databases than this are visited as well, but only when the launcher
/// starts and when one of these entries becomes free.
pub const DATABASES: usize = 1024;

/// No work is known: come when woken.
pub const NEVER: i64 = i64::MAX;

/// More than there can be workers: those that are on their way out still have theirs.
pub const SEATS: usize = 128;

/// More than there are.
pub const MOST_CHORES: usize = 16;

/// What a chore remembers of a database from one look to the next.
#[repr(C)]
pub struct Memory {
    /// When it was last done; 0: not since the launcher started.
    pub done_at: AtomicI64,
    /// Something will be due by the clock, which must be watched therefore.
    pub watches_clock: AtomicI32,
}

/// What launcher, scheduler and the callers of verbs say to each other about one database.
#[repr(C)]
pub struct Database {
    oid: AtomicU32,
    /// Increased by whoever has work for the scheduler.
    pub wake: AtomicU32,
    /// The last `wake` that a scheduler has looked at.
    pub seen: AtomicU32,
    /// When the scheduler wants to come back: microseconds since 2000, as `timestamptz`.
    pub next_due: AtomicI64,
    pub scheduler: AtomicI32,
    /// The extension is not there.
    pub absent: AtomicI32,
    /// Of each chore, by its place among them.
    chores: [Memory; MOST_CHORES],
    /// Increased by whoever prepares a transaction that may have work for the scheduler.
    pub prepared: AtomicU32,
    /// Slots of jobs that wait for a worker, as of the scheduler's last look; when that was, and since when there are
    /// any: microseconds of the shared clock.
    pub wants: AtomicU32,
    pub wants_at: AtomicU64,
    pub wants_since: AtomicU64,
    /// When our workers were last asked to leave this database for a statement on it.
    sent_away: AtomicI64,
    /// What the last look that gave something up has said in the log (a hash), and when.
    pub complaint: AtomicU64,
    pub complained_at: AtomicI64,
    /// How much the last look has given up.
    pub passed_over: AtomicU32,
}

/// A worker at work, for whoever shares out the workers. Its process alone writes it, but for `asked`. Times are
/// microseconds of the shared clock.
#[repr(C)]
pub struct Seat {
    pid: AtomicI32,
    /// 0: nobody sits here, or he is just coming.
    pub database: AtomicU32,
    pub role: AtomicU32,
    /// What it does cannot be interrupted between steps.
    pub long: AtomicU32,
    /// The last bytes of the job's id.
    pub job: AtomicU64,
    pub since: AtomicU64,
    /// Since when it has only waited; 0: it works.
    pub resting: AtomicU64,
    /// What it waits for is its own pace.
    pub paced: AtomicU32,
    /// Since when it has been at a portion of its work, which is not on the board's account yet; 0: it is at none.
    pub busy: AtomicU64,
    /// When it was asked to leave after its step; 0: it was not.
    pub asked: AtomicU64,
}

/// How a worker left that could not write it down, because somebody had its slot locked.
#[repr(C)]
struct Departure {
    job: AtomicU64,
    slot: AtomicI32,
    pid: AtomicI32,
    /// 0: this is none (any more).
    how: AtomicU32,
}

/// Many more than workers that leave before somebody takes their slots. Of one that is forgotten nothing is known, as of one that
/// was killed.
const DEPARTURES: usize = 512;

#[repr(C)]
pub struct Segment {
    version: u32,
    /// Set by `stop_workers()`: the launcher leaves for good.
    stopping: AtomicU32,
    /// The launcher has ended: nobody looks in here any more.
    abandoned: AtomicU32,
    /// Held for a moment by whoever takes a place below for a database that has none.
    claiming: AtomicU32,
    /// The server has no place for another background worker: a scheduler that is due could not be started.
    pub without_room: AtomicU32,
    databases: [Database; DATABASES],
    pub seats: [Seat; SEATS],
    departures: [Departure; DEPARTURES],
    next_departure: AtomicU32,
    /// What jobs are held back by.
    pub board: Board,
}

const VERSION: u32 = 8;

thread_local! {
    static ATTACHED: RefCell<Kept<*mut pg_sys::dsm_segment>> = const { RefCell::new(Kept::new()) };
    /// Of the launcher, while this process is it.
    static MINE: Cell<Option<&'static Segment>> = const { Cell::new(None) };
}

/// How many segments of launchers a session keeps mapped, the current one included.
const KEPT: usize = 4;

/// What a session is attached to. Whoever has a reference into a segment got it in this transaction, or is a worker that
/// keeps to one segment for life: nothing of this transaction, and nothing that was taken for good, is ever let go.
struct Kept<T>(Vec<Attached<T>>);

struct Attached<T> {
    handle: u32,
    what: T,
    /// The last transaction that asked for it.
    transaction: u32,
    for_good: bool,
}

impl<T: Copy> Kept<T> {
    const fn new() -> Self {
        Kept(Vec::new())
    }

    fn find(&mut self, handle: u32, transaction: u32, for_good: bool) -> Option<T> {
        let known = self.0.iter_mut().find(|known| known.handle == handle)?;
        known.transaction = transaction;
        known.for_good |= for_good;
        Some(known.what)
    }

    /// Keeps another one. Gives the oldest that nobody needs, if there are too many.
    fn add(&mut self, attached: Attached<T>) -> Option<T> {
        let transaction = attached.transaction;
        self.0.push(attached);
        if self.0.len() <= KEPT {
            return None;
        }
        let oldest = self.0.iter().position(|known| !known.for_good && known.transaction != transaction)?;
        Some(self.0.remove(oldest).what)
    }
}

/// Creates the segment; it lives as long as the launcher does.
pub fn create() -> (u32, &'static Segment) {
    // SAFETY: the segment is of this size, pinned for as long as the process lives, and nobody else knows it yet;
    // zeros are valid for all of it.
    unsafe {
        let segment = pg_sys::dsm_create(size_of::<Segment>() as pg_sys::Size, 0);
        pg_sys::dsm_pin_mapping(segment);
        let address = pg_sys::dsm_segment_address(segment).cast::<Segment>();
        std::ptr::write_bytes(address, 0, 1);
        (*address).version = VERSION;
        MINE.set(Some(&*address));
        pg_sys::before_shmem_exit(Some(abandon), pg_sys::Datum::from(0));
        (pg_sys::dsm_segment_handle(segment), &*address)
    }
}

/// Safety: called by the server, once, as the process ends: before it lets go of segments.
unsafe extern "C-unwind" fn abandon(_code: i32, _arg: pg_sys::Datum) {
    if let Some(segment) = MINE.take() {
        segment.abandoned.store(1, Ordering::Release);
    }
}

/// Attaches a launcher's segment. What it gives is there for the rest of this transaction, what hangs on its commit
/// included. `None`: that launcher is gone.
pub fn attach(handle: u32) -> Option<&'static Segment> {
    attach_segment(handle, false)
}

/// The same for a worker that keeps to this segment for as long as it lives.
pub fn attach_for_good(handle: u32) -> Option<&'static Segment> {
    attach_segment(handle, true)
}

fn attach_segment(handle: u32, for_good: bool) -> Option<&'static Segment> {
    let transaction = local_transaction();
    let known = ATTACHED.with_borrow_mut(|attached| attached.find(handle, transaction, for_good));
    // SAFETY: a segment is pinned when it is attached, and let go only if nobody in this transaction has asked for it
    // and nobody keeps it for good. Its version is looked at first, and stands at the same place in all; behind it
    // there are atomics only.
    unsafe {
        let segment = match known {
            Some(segment) => segment,
            None => {
                let segment = pg_sys::dsm_attach(handle);
                if segment.is_null() {
                    return None;
                }
                pg_sys::dsm_pin_mapping(segment);
                let attached = Attached { handle, what: segment, transaction, for_good };
                if let Some(old) = ATTACHED.with_borrow_mut(|kept| kept.add(attached)) {
                    pg_sys::dsm_detach(old);
                }
                segment
            }
        };
        let address = pg_sys::dsm_segment_address(segment).cast::<Segment>();
        ((*address).version == VERSION).then(|| &*address)
    }
}

/// The number of this session's transaction; no other of its has it. 0 between transactions.
fn local_transaction() -> u32 {
    // SAFETY: our own entry in the list of processes.
    unsafe {
        let me = pg_sys::MyProc;
        #[cfg(any(feature = "pg15", feature = "pg16"))]
        let transaction = if me.is_null() { 0 } else { (*me).lxid };
        #[cfg(not(any(feature = "pg15", feature = "pg16")))]
        let transaction = if me.is_null() { 0 } else { (*me).vxid.lxid };
        transaction
    }
}

/// The place that has the number `wanted`, or else the first free one, which then has it. Everybody who takes a place
/// holds `claiming` and looks through all of them before: a lower one may have become free since his was taken.
/// `None`: all are taken, or whoever holds `claiming` does not get on.
fn place_of<'a, T>(
    places: &'a [T],
    number: impl Fn(&T) -> &AtomicU32,
    claiming: &AtomicU32,
    wanted: u32,
) -> Option<&'a T> {
    /// Some 10 ms: what is done meanwhile takes a microsecond.
    const TRIES: u32 = 100_000;
    let find = |wanted| places.iter().find(|place| number(place).load(Ordering::Acquire) == wanted);
    if let Some(place) = find(wanted) {
        return Some(place);
    }
    (0..TRIES).find(|_| {
        std::hint::spin_loop();
        claiming.compare_exchange(0, 1, Ordering::AcqRel, Ordering::Acquire).is_ok()
    })?;
    let place = find(wanted).or_else(|| {
        let free = find(0)?;
        number(free).store(wanted, Ordering::Release);
        Some(free)
    });
    claiming.store(0, Ordering::Release);
    place
}

/// The segment that this process keeps to, if it does to one. It attaches nothing: also for a process that ends.
pub fn attached() -> Option<&'static Segment> {
    ATTACHED.with(|attached| {
        let attached = attached.try_borrow().ok()?;
        let kept = attached.0.iter().find(|kept| kept.for_good)?;
        // SAFETY: what was taken for good is mapped as long as this process lives.
        Some(unsafe { &*pg_sys::dsm_segment_address(kept.what).cast::<Segment>() })
    })
}

impl Segment {
    /// The entry of a database, made if there is none yet. `None`: all are taken.
    pub fn database(&self, oid: Oid) -> Option<&Database> {
        place_of(&self.databases, |entry| &entry.oid, &self.claiming, oid.to_u32())
    }

    /// The databases that have an entry.
    pub fn databases(&self) -> impl Iterator<Item = (u32, &Database)> {
        let entries = self.databases.iter().map(|entry| (entry.oid.load(Ordering::Acquire), entry));
        entries.filter(|(oid, _)| *oid != 0)
    }

    /// Has the launcher ended whose segment this is?
    pub fn is_abandoned(&self) -> bool {
        self.abandoned.load(Ordering::Acquire) != 0
    }

    /// A seat for a worker that is this process. `None`: all are taken.
    pub fn sit_down(&self, pid: i32, (database, role): (Oid, Oid), job: u64, now: Duration) -> Option<&Seat> {
        let seat = self
            .seats
            .iter()
            .find(|seat| seat.pid.compare_exchange(0, pid, Ordering::AcqRel, Ordering::Acquire).is_ok())?;
        seat.role.store(role.to_u32(), Ordering::Relaxed);
        seat.job.store(job, Ordering::Relaxed);
        seat.long.store(0, Ordering::Relaxed);
        seat.since.store(micros(now), Ordering::Relaxed);
        seat.resting.store(0, Ordering::Relaxed);
        seat.paced.store(0, Ordering::Relaxed);
        seat.busy.store(0, Ordering::Relaxed);
        seat.asked.store(0, Ordering::Relaxed);
        seat.database.store(database.to_u32(), Ordering::Release);
        Some(seat)
    }

    /// Notes how a worker leaves. Neither waits nor fails.
    pub fn note_departure(&self, job: u64, slot: i32, pid: i32, how: u32) {
        let number = self.next_departure.fetch_add(1, Ordering::Relaxed) as usize % DEPARTURES;
        let departure = &self.departures[number];
        departure.how.store(0, Ordering::Release);
        departure.job.store(job, Ordering::Relaxed);
        departure.slot.store(slot, Ordering::Relaxed);
        departure.pid.store(pid, Ordering::Relaxed);
        departure.how.store(how, Ordering::Release);
    }

    /// How that worker has left, once.
    pub fn departure(&self, job: u64, slot: i32, pid: i32) -> Option<u32> {
        let departure = self.departures.iter().find(|departure| {
            departure.how.load(Ordering::Acquire) != 0
                && departure.job.load(Ordering::Relaxed) == job
                && departure.slot.load(Ordering::Relaxed) == slot
                && departure.pid.load(Ordering::Relaxed) == pid
        })?;
        Some(departure.how.swap(0, Ordering::AcqRel)).filter(|&how| how != 0)
    }

    pub fn stop(&self) {
        self.stopping.store(1, Ordering::Release);
    }

    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire) != 0
    }

    /// Has every database visited once, as after a start.
    pub fn make_all_due(&self) {
        for entry in &self.databases {
            entry.next_due.store(0, Ordering::Release);
        }
    }

    /// Will anything be due by the clock, in any database?
    pub fn watches_clock(&self) -> bool {
        let watches = |memory: &Memory| memory.watches_clock.load(Ordering::Acquire) != 0;
        self.databases.iter().any(|entry| entry.chores.iter().any(watches))
    }

    /// Frees the entries of databases that are gone.
    pub fn retain(&self, exists: impl Fn(Oid) -> bool) {
        for entry in &self.databases {
            let oid = entry.oid.load(Ordering::Acquire);
            if oid != 0 && !exists(Oid::from(oid)) {
                entry.next_due.store(0, Ordering::Relaxed);
                entry.absent.store(0, Ordering::Relaxed);
                entry.scheduler.store(0, Ordering::Relaxed);
                for memory in &entry.chores {
                    memory.done_at.store(0, Ordering::Relaxed);
                    memory.watches_clock.store(0, Ordering::Relaxed);
                }
                entry.wants.store(0, Ordering::Relaxed);
                entry.sent_away.store(0, Ordering::Relaxed);
                entry.complaint.store(0, Ordering::Relaxed);
                entry.complained_at.store(0, Ordering::Relaxed);
                entry.passed_over.store(0, Ordering::Relaxed);
                entry.oid.store(0, Ordering::Release);
            }
        }
    }
}

impl Database {
    /// What the chore of this place among all remembers.
    pub fn memory(&self, place: usize) -> &Memory {
        &self.chores[place]
    }

    /// Our workers are asked to leave, now.
    pub fn note_sent_away(&self, now: i64) {
        self.sent_away.store(now, Ordering::Release);
    }

    pub fn was_sent_away_since(&self, then: i64) -> bool {
        self.sent_away.load(Ordering::Acquire) >= then
    }

    /// Has anybody asked for a visit since the last look, or is one due?
    pub fn is_due(&self, now: i64) -> bool {
        self.wake.load(Ordering::Acquire) != self.seen.load(Ordering::Acquire)
            || self.next_due.load(Ordering::Acquire) <= now
    }
}

impl Seat {
    /// Whoever sat here is leaving.
    pub fn stand_up(&self) {
        self.database.store(0, Ordering::Release);
        self.pid.store(0, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(numbers: &[u32]) -> Vec<AtomicU32> {
        numbers.iter().map(|&number| AtomicU32::new(number)).collect()
    }

    fn numbers(places: &[AtomicU32]) -> Vec<u32> {
        places.iter().map(|place| place.load(Ordering::Relaxed)).collect()
    }

    fn find<'a>(places: &'a [AtomicU32], claiming: &AtomicU32, wanted: u32) -> Option<&'a AtomicU32> {
        place_of(places, |place| place, claiming, wanted)
    }

    #[test]
    fn a_database_keeps_its_place_when_a_lower_one_becomes_free() {
        let (places, claiming) = (places(&[0, 7, 0]), AtomicU32::new(0));
        assert!(std::ptr::eq(find(&places, &claiming, 7).unwrap(), &places[1]));
        assert_eq!(numbers(&places), [0, 7, 0]);
        assert!(std::ptr::eq(find(&places, &claiming, 8).unwrap(), &places[0]));
        find(&places, &claiming, 9);
        assert!(find(&places, &claiming, 10).is_none(), "all are taken");
        assert_eq!(numbers(&places), [8, 7, 9]);
    }

    #[test]
    fn somebody_who_does_not_get_on_is_not_waited_for_for_ever() {
        assert!(find(&places(&[0]), &AtomicU32::new(1), 7).is_none());
    }

    #[test]
    fn two_at_once_take_one_place_while_others_become_free() {
        for round in 0..200 {
            let (places, claiming) = (places(&[3, 3, 0, 0]), AtomicU32::new(0));
            std::thread::scope(|scope| {
                for _ in 0..2 {
                    scope.spawn(|| find(&places, &claiming, 7).unwrap());
                }
                scope.spawn(|| places[round % 2].store(0, Ordering::Release));
            });
            assert_eq!(numbers(&places).iter().filter(|&&number| number == 7).count(), 1);
        }
    }

    fn attached(handle: u32, transaction: u32, for_good: bool) -> Attached<u32> {
        Attached { handle, what: handle, transaction, for_good }
    }

    #[test]
    fn nothing_that_somebody_may_point_into_is_unmapped() {
        let mut kept = Kept::new();
        assert_eq!(kept.add(attached(1, 10, true)), None);
        // All in one transaction: whatever hangs on its commit may point into each of them.
        for handle in 2..20 {
            assert_eq!(kept.add(attached(handle, 11, false)), None);
        }
        assert_eq!(kept.find(5, 12, false), Some(5));
        // The next one lets go of the oldest that it has not asked for itself, one at a time.
        assert_eq!(kept.add(attached(20, 12, false)), Some(2));
        assert_eq!(kept.add(attached(21, 12, false)), Some(3));
        assert_eq!(kept.add(attached(22, 12, false)), Some(4));
        assert_eq!(kept.add(attached(23, 12, false)), Some(6), "5 is in use");
        assert_eq!(kept.find(1, 12, false), Some(1), "taken for good");
        assert_eq!(kept.find(2, 12, false), None);
    }

    #[test]
    fn few_are_kept_in_the_long_run() {
        let mut kept = Kept::new();
        for handle in 0..100 {
            kept.add(attached(handle, handle, false));
        }
        assert_eq!(kept.0.len(), KEPT);
    }
}
