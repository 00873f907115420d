//! The scheduler: comes to a database when something is due, starts the
//! executors, leaves when nothing is. Nothing of what it knows is lost when it dies.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use pgrx::Uuid;
use std::cell::Cell;
use std::sync::atomic::Ordering;

use super::assignment::Assignment;
use super::chore::{GivenUp, SOON, Visit, locked};
use super::part::Part;
use super::room::{self, Room};
use super::slowdown::watch::Watch;
use super::store::{self, Candidate};
use super::throttle::sampler::Sampler;
use super::{activity, make_way, registry, retry};
use crate::error::*;
use crate::jobs::raw::segment;
use crate::jobs::raw::segment::{Database, NEVER, Segment};
use crate::server::catch::transaction;
use crate::server::lock::{Lock, Purpose};
use crate::server::worker::{self, Handle};
use crate::server::{Oid, catalog, spi};
use crate::settings;
use pg_upkeep_memory::board::Board;

/// While executors run, their end sets our latch; this is for what nobody tells us.
const WHILE_RUNNING: Duration = Duration::from_secs(10);
/// Work waits for another database's executors to end.
const WHILE_FULL: Duration = Duration::from_secs(1);
/// A job waits for its turn. The end of a worker of this database is told us; a new launcher's scheduler asks.
const NEXT_TURN: Duration = Duration::from_secs(1);
/// How often to look whether the extension has been updated to the library's version.
const OTHER_VERSION: Duration = Duration::from_secs(60);
/// A look waits at most this long for a lock: below `deadlock_timeout`, so that a DROP EXTENSION or a migration of
/// our tables that waits for us as well never loses (LAW 14). Of rows none is waited for.
const LOCK_TIMEOUT: &str = "500ms";
/// After a termination the database is left alone for a while: somebody may be dropping it.
pub const HANDS_OFF: Duration = Duration::from_secs(10);

thread_local! {
    static ENTRY: Cell<Option<&'static Database>> = const { Cell::new(None) };
}

/// A scheduler's whole life.
pub fn main(database: Oid) {
    worker::accept_signals();
    let extra = worker::my_extra();
    let handle = u32::from_ne_bytes([extra[0], extra[1], extra[2], extra[3]]);
    let Some(segment) = segment::attach_for_good(handle) else { worker::leave() };
    let Some(entry) = segment.database(database) else { worker::leave() };
    ENTRY.set(Some(entry));
    worker::before_exit(at_exit);
    worker::connect(database, Oid::INVALID);
    spi::set_session("lock_timeout", LOCK_TIMEOUT);
    worker::report_application_name("pg_upkeep");
    crate::server::quiet::ignore_this_process();

    let board = &segment.board;
    Scheduler {
        entry,
        running: HashMap::new(),
        segment: handle,
        shared: segment,
        board,
        sampler: Sampler::default(),
        slowdown: Watch::default(),
        samples_wanted: false,
        elsewhere: false,
    }
    .run();
    board.let_go(worker::my_pid());
    ENTRY.set(None);
    worker::leave();
}

/// Whatever ended us, the launcher must know when to come back.
fn at_exit() {
    registry::chores().iter().for_each(|chore| chore.scheduler_ends());
    if let Some(entry) = ENTRY.take() {
        entry.scheduler.store(0, Ordering::Release);
        entry.seen.store(entry.wake.load(Ordering::Acquire), Ordering::Release);
        entry.next_due.store(after(HANDS_OFF), Ordering::Release);
    }
}

/// A moment from now, as a timestamp.
fn after(time: Duration) -> i64 {
    catalog::now().saturating_add(i64::try_from(time.as_micros()).unwrap_or(i64::MAX))
}

struct Scheduler {
    entry: &'static Database,
    running: HashMap<(Uuid, i32), (Handle, Instant)>,
    /// Where samples of the server are put, for executors to judge by, and who takes them.
    segment: u32,
    shared: &'static Segment,
    board: &'static Board,
    sampler: Sampler,
    slowdown: Watch,
    samples_wanted: bool,
    /// Executors that another scheduler has started were at work in the last look.
    elsewhere: bool,
}

/// What a look around found.
enum Found {
    /// No extension, or nothing may run: leave and come back only when woken.
    Nothing,
    /// Nothing is due before this much time has passed.
    Idle(Option<Duration>),
    /// Executors run; look again then or when one ends.
    Busy(Duration),
}

impl Scheduler {
    fn run(mut self) {
        self.entry.scheduler.store(worker::my_pid(), Ordering::Release);
        // One that ends before the first look has read its job is missed by that.
        self.elsewhere = transaction(|| Ok(activity::workers_in(catalog::my_database())?.len() > 1)).unwrap_or(true);
        loop {
            let wake = self.entry.wake.load(Ordering::Acquire);
            self.entry.seen.store(wake, Ordering::Release);
            let next_due = match self.look(wake) {
                Ok(Found::Busy(time)) => {
                    worker::report_activity(None);
                    self.watch(time);
                    continue;
                }
                Ok(Found::Idle(Some(time))) => after(time),
                Ok(Found::Idle(None) | Found::Nothing) => NEVER,
                Err(error) => {
                    let pause = if retry::is_transient(&error) { SOON } else { HANDS_OFF };
                    GivenUp::one("everything that is due in this database", error).tell(self.entry);
                    after(pause)
                }
            };
            self.entry.next_due.store(next_due, Ordering::Release);
            // A wake-up between our look and now would be lost with us.
            if self.entry.wake.load(Ordering::Acquire) == wake {
                self.entry.scheduler.store(0, Ordering::Release);
                return;
            }
        }
    }

    /// Sleeps while executors run, and looks at the server for them.
    fn watch(&mut self, time: Duration) {
        let end = Instant::now() + time;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let next = if self.samples_wanted { self.take_samples() } else { left };
            if left.is_zero() || worker::wait(next.min(left)) {
                return;
            }
        }
    }

    /// Looks at the server, and at what the application feels. Returns when to come again.
    fn take_samples(&mut self) -> Duration {
        let next = self.sampler.visit(self.board);
        if !self.sampler.is_ours() {
            return next;
        }
        let workers = room::paced(self.shared);
        next.min(self.slowdown.visit(self.board, workers)).max(Duration::from_millis(1))
    }

    fn look(&mut self, wake: u32) -> Result<Found> {
        // The next launcher has a segment of its own, and sends a scheduler of its own: whoever we started now would leave at once.
        if self.shared.is_abandoned() {
            return Ok(Found::Nothing);
        }
        // The launcher asks the same, and sends nobody meanwhile. It may have seen a setting come back that we have not.
        if !settings::enabled() {
            return Ok(Found::Idle(Some(HANDS_OFF)));
        }
        let began = Instant::now();
        let ended = self.ended();
        let (allowed, present, current, wanted_alone) = transaction(|| {
            let (present, current) = (catalog::extension_exists(), catalog::extension_is_current()?);
            Ok((may_work_here(), present, current, make_way::is_wanted_alone()))
        })?;
        // Whoever creates it may ask for work in the same transaction.
        let absent = !present && nothing_is_uncommitted()?;
        self.entry.absent.store(i32::from(absent), Ordering::Release);
        // Whoever creates it has had his statements counted apart from that moment on, and calls us at his commit.
        if absent && self.entry.wake.load(Ordering::Acquire) == wake {
            registry::chores().iter().for_each(|chore| chore.extension_is_absent());
        }
        if !allowed {
            return Ok(Found::Idle(Some(HANDS_OFF)));
        }
        if !present {
            return Ok(Found::Nothing);
        }
        if wanted_alone {
            return Ok(Found::Idle(Some(HANDS_OFF)));
        }
        if !current {
            // Its tables are not the ones that this library knows: until ALTER EXTENSION UPDATE.
            return Ok(Found::Idle(Some(OTHER_VERSION)));
        }
        let mut visit = self.visit_chores();
        let attended_elsewhere = match self.start_executors(&mut visit, &ended) {
            Ok(attended_elsewhere) => attended_elsewhere,
            Err(error) => {
                visit.give_up("jobs that are to be started", error);
                false
            }
        };
        visit.given_up.tell(self.entry);
        self.when_to_come_back(&visit, attended_elsewhere, |key, started| started >= began || !ended.contains(key))
    }

    /// Those of our executors that are not at work any more.
    fn ended(&self) -> HashSet<(Uuid, i32)> {
        self.running.iter().filter(|(_, (handle, _))| !handle.is_running()).map(|(key, _)| *key).collect()
    }

    /// Each chore by itself: what ends one is nothing to the next.
    fn visit_chores(&self) -> Visit {
        let mut all = Visit::default();
        for (place, chore) in registry::chores().iter().enumerate() {
            match chore.visit(self.entry.memory(place)) {
                Ok(visit) => all.add(visit),
                Err(error) => all.give_up(chore.name(), error),
            }
        }
        all
    }

    /// Starts an executor for every slot that wants one, as far as there is room. Does an earlier scheduler's work on?
    fn start_executors(&mut self, visit: &mut Visit, ended: &HashSet<(Uuid, i32)>) -> Result<bool> {
        let (candidates, executors) =
            transaction(|| spi::bookkeeping(|| Ok((store::candidates()?, activity::worker_counts()?.1))))?;
        let at_work = executors.max(self.running_count());
        let is_running =
            |slot: &Candidate| self.running.get(&(slot.job, slot.slot)).is_some_and(|(handle, _)| handle.is_running());
        let in_hand = candidates.iter().filter(|slot| slot.attended || is_running(slot));
        let mut room = Room::look(self.shared, self.entry, at_work, in_hand);
        let candidates = room.order(candidates);
        let mut attended_elsewhere = false;
        // Turns that somebody gets in this look.
        let mut given: HashSet<Part> = HashSet::new();
        let waiting: Vec<(Part, Duration)> =
            candidates.iter().filter_map(|candidate| Some((candidate.waits_for?, candidate.age))).collect();
        self.samples_wanted = candidates.iter().any(|candidate| candidate.throttled);
        if self.samples_wanted {
            self.take_samples();
        }
        for mut candidate in candidates {
            let key = (candidate.job, candidate.slot);
            if self.running.get(&key).is_some_and(|(handle, _)| handle.is_running()) {
                continue;
            }
            if self.running.contains_key(&key) && !ended.contains(&key) {
                // It has ended since its job was read, which may want to wait by now: for a retry, for its hours.
                visit.again_in(Duration::ZERO);
                continue;
            }
            if let Err(error) = self.note_ended_executor(&mut candidate) {
                visit.give_up(format!("a note that job {} could not start", candidate.job), error);
            }
            if candidate.attended {
                attended_elsewhere = true;
                continue;
            }
            let comes_later = |part: Part| {
                given.contains(&part)
                    || waiting.iter().any(|(other, age)| *age > candidate.age && other.goes_before(part))
            };
            if candidate.waits_for.is_some_and(comes_later) {
                visit.again_in(NEXT_TURN);
                continue;
            }
            match stands_in_the_way(&candidate, room.has_free()) {
                Ok(None) => {}
                Ok(Some(pause)) => {
                    visit.again_in(pause);
                    continue;
                }
                Err(error) => {
                    visit.give_up(format!("job {}", candidate.job), error);
                    continue;
                }
            }
            if !room.admits(&candidate) {
                visit.waiting = true;
                if candidate.queued && !candidate.has_reason {
                    visit.attempt("the reason why a job waits", || {
                        transaction(|| spi::bookkeeping(|| store::set_reason(candidate.job, store::WAITS_FOR_WORKER)))
                    });
                }
                continue;
            }
            let assignment =
                Assignment { owner: candidate.owner, slot: candidate.slot, job: candidate.job, segment: self.segment };
            match assignment.start() {
                Some(handle) => {
                    room.started(&candidate);
                    given.extend(candidate.waits_for);
                    self.running.insert(key, (handle, Instant::now()));
                }
                None => {
                    let reason = "no free background worker (max_worker_processes)";
                    visit.attempt("the reason why a job waits", || {
                        transaction(|| spi::bookkeeping(|| store::set_reason(candidate.job, reason)))
                    });
                    visit.waiting = true;
                    break;
                }
            }
        }
        room.close();
        Ok(attended_elsewhere)
    }

    /// `new`: was this executor at work in this look?
    fn when_to_come_back(
        &mut self,
        visit: &Visit,
        attended_elsewhere: bool,
        new: impl Fn(&(Uuid, i32), Instant) -> bool,
    ) -> Result<Found> {
        let elsewhere = std::mem::replace(&mut self.elsewhere, attended_elsewhere);
        let has_ended = self.running.iter().any(|(key, (handle, started))| !handle.is_running() && new(key, *started));
        if has_ended || elsewhere && !attended_elsewhere {
            // What it has left came after we had read: a job that wants another worker, the end of somebody's child.
            return Ok(Found::Busy(Duration::ZERO));
        }
        self.running.retain(|_, (handle, _)| handle.is_running());
        let earliest = |times: [Option<Duration>; 2]| times.into_iter().flatten().min();
        let next = transaction(|| spi::bookkeeping(|| store::seconds_to_next(settings::job_retention())))?
            .map(|seconds| Duration::from_secs_f64(seconds.clamp(0.0, 1e9)));
        if !self.running.is_empty() || attended_elsewhere {
            let time = if visit.waiting || attended_elsewhere { WHILE_FULL } else { WHILE_RUNNING };
            let next = earliest([next.filter(|time| !time.is_zero()), super::clean_up::next()?]);
            return Ok(Found::Busy(earliest([next, visit.next]).map_or(time, |next| time.min(next))));
        }
        if visit.waiting {
            // Others use all the room: give them our own process too.
            let room = if settings::max_workers() > 0 { WHILE_FULL } else { HANDS_OFF };
            return Ok(Found::Idle(earliest([Some(room), visit.next])));
        }
        // This look has passed it over: somebody has it locked.
        let next = next.map(|time| if time.is_zero() { SOON } else { time });
        Ok(Found::Idle(earliest([next, visit.next])))
    }

    fn running_count(&self) -> i64 {
        self.running.values().filter(|(handle, _)| handle.is_running()).count() as i64
    }

    /// An executor that has ended and whose job still wants one: did it ever take its slot, or find that it is not its
    /// turn? If it could not (its role was refused, say), it is started again with growing pauses. The slot remembers,
    /// for the next scheduler too.
    fn note_ended_executor(&mut self, candidate: &mut Candidate) -> Result<()> {
        let key = (candidate.job, candidate.slot);
        let Some((_, started)) = self.running.remove(&key) else { return Ok(()) };
        let has_done = |ago: Option<Duration>| ago.is_some_and(|ago| ago <= started.elapsed());
        if has_done(candidate.last_taken) || has_done(candidate.sent_back) {
            return Ok(());
        }
        candidate.ends += 1;
        candidate.last_end = Some(Duration::ZERO);
        transaction(|| spi::bookkeeping(|| store::note_failed_start(candidate.job, candidate.slot)))
    }
}

/// May this slot not be started now? `Some`: look again after this time.
fn stands_in_the_way(candidate: &Candidate, has_room: bool) -> Result<Option<Duration>> {
    if let Some(error) = objection(candidate) {
        let failed = transaction(|| spi::bookkeeping(|| store::fail_unless_locked(candidate.job, &error)))?;
        return if failed { Ok(Some(SOON)) } else { Err(locked()) };
    }
    if let Some(part) = candidate.waits_for
        && !transaction(|| Ok(part.is_free()))?
    {
        return Ok(Some(NEXT_TURN));
    }
    let pause = retry::pause_before_restart(candidate.ends);
    if let Some(left) = pause.checked_sub(candidate.last_end.unwrap_or(pause)).filter(|left| !left.is_zero()) {
        return Ok(Some(left));
    }
    // Further workers of a job that runs need nothing of its row; whoever comes first has it run.
    if has_room
        && (candidate.slot == 0 || candidate.queued)
        && !transaction(|| spi::bookkeeping(|| store::is_free(candidate.job)))?
    {
        return Err(locked());
    }
    Ok(None)
}

/// The launcher sends no scheduler to a template, nor where `upkeep.databases` does not allow it; a database may
/// have become one since.
fn may_work_here() -> bool {
    let databases = catalog::connectable_databases();
    let here = databases.iter().find(|database| database.oid == catalog::my_database());
    here.is_some_and(|database| settings::allows_database(&database.name))
}

/// No transaction that is at work in this database has asked for a scheduler at its commit.
fn nothing_is_uncommitted() -> Result<bool> {
    transaction(|| Ok(Lock::new(Purpose::Uncommitted, 0).is_free()))
}

/// What forbids to run this job now (LAW 10).
fn objection(candidate: &Candidate) -> Option<Error> {
    if !candidate.owner_exists {
        return Some(
            Error::new(UNDEFINED_OBJECT, "the job's owner was dropped").hint("Create the job again as another role."),
        );
    }
    let (message, hint) = if !candidate.may_connect {
        (
            "the job's owner may no longer connect to this database",
            "GRANT CONNECT ON DATABASE .. TO ..; then SELECT upkeep.retry(job);",
        )
    } else if !candidate.may_log_in {
        (
            "the job's owner may no longer log in",
            "ALTER ROLE .. LOGIN VALID UNTIL 'infinity'; then SELECT upkeep.retry(job);",
        )
    } else {
        return None;
    };
    Some(Error::new(INSUFFICIENT_PRIVILEGE, message).hint(hint))
}

/// Starts a scheduler for a database; `None`: no free background worker.
pub fn start(database: Oid, segment: u32) -> Option<Handle> {
    worker::Registration {
        kind: activity::SCHEDULER,
        function: c"upkeep_scheduler_main",
        argument: database.to_u32(),
        extra: &segment.to_ne_bytes(),
        restart: None,
    }
    .start()
}
