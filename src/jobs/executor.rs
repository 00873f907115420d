//! The executor: one process per worker slot of a job, connected as the job's
//! owner. It owns transactions, crash safety, waiting and errors; what a step
//! does is the kind's.

use std::cell::{Cell, RefCell};
use std::time::{Duration, Instant};

use super::assignment::Assignment;
use super::kind::{Completion, Context, Event, Job, Kind, Nature, Outcome, Restart, Work};
use super::retry::{self, Tries, Verdict, WaitsFor};
use super::slot::{Taken, take};
use super::slowdown::unpaced;
use super::store::{self, End, Live, Told};
use super::throttle::Throttle;
use super::{children, queue, registry, seat, statement_of};
use crate::ddl;
use crate::error::{Error, LOCK_NOT_AVAILABLE, QUERY_CANCELED, Result};
use crate::jobs::raw::segment;
use crate::server::catch::transaction;
use crate::server::raise::{self, Level};
use crate::server::table_lock::Mode;
use crate::server::worker;
use crate::server::{Oid, catalog, commit, lock, spi, step, system, timeout, top_level};
use crate::settings;

/// A batch waits at most this long for a lock: below `deadlock_timeout`, so that
/// we lose and never the application (LAW 14).
const LOCK_TIMEOUT: Duration = Duration::from_millis(100);

fn limit_lock_waits() {
    let time = LOCK_TIMEOUT.min(timeout::of_deadlocks() / 2).max(Duration::from_millis(1));
    spi::set_session("lock_timeout", &format!("{}ms", time.as_millis()));
}

thread_local! {
    /// The slot that this process has taken, for the exit callback.
    static ATTENDED: Cell<Option<Assignment>> = const { Cell::new(None) };
    /// A step is being made: what ends this process now may be the user's own text.
    static AT_STEP: Cell<bool> = const { Cell::new(false) };
}

fn at_step<T>(f: impl FnOnce() -> T) -> T {
    AT_STEP.set(true);
    let result = f();
    AT_STEP.set(false);
    result
}

/// An executor's whole life.
pub fn main(database: Oid) {
    let assignment = Assignment::decode(&worker::my_extra());
    crate::server::quiet::work_for_a_job();
    worker::accept_signals();
    worker::connect(database, assignment.owner);
    limit_lock_waits();
    worker::report_application_name("pg_upkeep");
    worker::before_exit(at_exit);
    timeout::register();
    step::register();

    let ended = Executor::start(assignment).and_then(|executor| executor.map_or(Ok(()), Executor::run));
    if let Err(error) = &ended {
        let message = format!("job {}: {}", assignment.job, error.message);
        raise::report(Level::Log, Error { message, ..error.clone() });
    }
    release(if ended.is_err() { End::Interrupted } else { End::Orderly });
    worker::leave();
}

/// A termination that we live to report is no strike (LAW 18). In the middle of a step it counts all the same: a text
/// of the user's can send one too, at each start anew.
fn at_exit() {
    timeout::the_end_goes_on();
    seat::give_back();
    if worker::was_terminated() {
        release_in_passing(match AT_STEP.get() && !are_all_asked_to_leave() {
            false => End::Orderly,
            true if timeout::has_overrun() => End::Overran,
            true => End::Interrupted,
        });
    }
}

/// The server shuts down, workers are stopped, or a statement on this database wants them gone: nothing that the job
/// has to do with.
fn are_all_asked_to_leave() -> bool {
    /// From the request to our end; workers take signals at once.
    const MOMENT: i64 = 5_000_000;
    system::is_server_stopping()
        || segment::attached().is_some_and(|segment| {
            segment.is_stopping()
                || segment
                    .database(catalog::my_database())
                    .is_some_and(|entry| entry.was_sent_away_since(catalog::now() - MOMENT))
        })
}

fn release(end: End) {
    let Some(assignment) = ATTENDED.take() else { return };
    let Assignment { job, slot, .. } = assignment;
    crate::server::catch::clean_up_after_error();
    // If the extension is gone there is nothing to release.
    if transaction(|| spi::bookkeeping(|| store::release_slot(job, slot, worker::my_pid(), end))).is_err() {
        seat::note_departure(&assignment, end);
    }
}

/// The same while the process ends, where the server lets nobody interrupt it: it would wait for a lock as long as somebody likes, and
/// the server for it. Hence the note, which waits for nothing. The slot is for when there is nobody any more to read that: after a
/// restart.
fn release_in_passing(end: End) {
    let Some(assignment) = ATTENDED.take() else { return };
    let Assignment { job, slot, .. } = assignment;
    seat::note_departure(&assignment, end);
    crate::server::catch::clean_up_after_error();
    timeout::bounded_at_exit(|| {
        // A command may have made its session read-only.
        worker::forget_settings();
        limit_lock_waits();
        spi::set_session("synchronous_commit", "off");
        let _ = transaction(|| {
            spi::bookkeeping(|| match store::lock_slot_at_once(job, slot)? {
                true => store::release_slot(job, slot, worker::my_pid(), end),
                false => Ok(()),
            })
        });
    });
}

pub(super) struct Executor {
    assignment: Assignment,
    kind: &'static dyn Kind,
    pub(super) nature: Nature,
    pub(super) work: Box<dyn Work>,
    pub(super) throttle: Throttle,
    pub(super) context: Context,
    retries: i32,
    /// The job was parked until this executor was started, and has got nothing done since.
    pub(super) woken: bool,
    /// Its row says so, until a step is committed.
    says_parked: bool,
    /// The step at hand is one that knows.
    heard: bool,
    /// The settings captured with the job.
    session: serde_json::Value,
    /// The server's setting. Most steps commit asynchronously instead: cursor and rows are lost together or
    /// not at all.
    synchronous_commit: String,
    /// A step of this run has been committed for good, and with it the end of earlier strikes.
    settled: bool,
    /// The last step was to be committed for good, but for its locks, which nobody was to wait for meanwhile.
    unsafe_yet: bool,
    /// The run before ended without a word: if this one does too, nothing it has done may be
    /// forgotten, or the same steps would end the strikes each time.
    struck: bool,
    /// Another executor has our slot: there is nothing here that we may still write.
    lost: bool,
    /// What was in the way of the step at hand, also of executors before.
    tries: Tries,
    /// Until when the slot has the time that it was in our hands; and until when it will have it once this step is committed.
    pub(super) written: Instant,
    writing: Option<Instant>,
    /// The settings under which this worker was last found to have a place.
    pub(super) placed: RefCell<Option<seat::Place>>,
}

/// What the loop does after a step.
pub(super) enum Next {
    Step,
    Wait(Duration),
    TopLevel(String),
    Leave,
}

impl Executor {
    /// Takes the slot. `None`: there is nothing to do here (any more).
    fn start(assignment: Assignment) -> Result<Option<Self>> {
        let Assignment { job, slot, .. } = assignment;
        // The previous executor of this slot may still be on its way out.
        let taken = (0..20).find_map(|_| match take(&assignment) {
            Ok(Taken::Busy) => {
                worker::wait(Duration::from_millis(50));
                None
            }
            other => Some(other),
        });
        let Some(Taken::Slot(taken)) = taken.transpose()? else { return Ok(None) };
        let (opened, store::Slot { cursor, strikes, tries, .. }) = *taken;
        ATTENDED.set(Some(assignment));
        // For figures of the server, and to know whether all workers are sent away.
        segment::attach(assignment.segment);
        let synchronous_commit = catalog::setting(c"synchronous_commit");
        spi::set_session("synchronous_commit", "off");
        worker::report_activity(Some(&format!("{} of {} (job {job})", opened.job.kind, opened.job.target)));

        let (kind, work) = match open(&opened.job) {
            Ok(opened) => opened,
            Err(error) => {
                log(&opened.job, &error);
                insist(&opened.job, || spi::bookkeeping(|| store::fail(job, &error)))?;
                return Ok(None);
            }
        };
        let context = Context::new(opened.job.clone(), slot, cursor, settings::batch_time());
        context.portions().view.follow(assignment.segment, registry::clients());
        context.portions().busy.set(seat::busy().filter(|_| kind.nature().is_paced()));
        Ok(Some(Executor {
            throttle: transaction(|| {
                Ok(Throttle::new(assignment.segment, &opened.job, opened.limits.clone(), tries.held_until))
            })?,
            assignment,
            kind,
            nature: kind.nature(),
            work,
            context: context.after(tries.caught, opened.answered, tries.locks.clone()),
            woken: opened.parked && opened.has_started,
            says_parked: opened.parked || opened.answered,
            heard: false,
            retries: opened.retries,
            session: opened.session,
            struck: strikes > 0,
            lost: false,
            tries: tries.taken_over(),
            written: Instant::now(),
            writing: None,
            placed: RefCell::default(),
            synchronous_commit,
            settled: false,
            unsafe_yet: false,
        }))
    }

    fn run(mut self) -> Result<()> {
        let mut unrecorded = 0;
        // Of a top-level statement. It is kept until the transaction that records it has committed (LAW 33).
        let mut answer = None;
        loop {
            worker::reload_configuration();
            system::be_nice(settings::worker_nice());
            if answer.is_none() && self.nature.throttled && !self.hold_back()? {
                return Ok(());
            }
            let cursor = self.context.written_cursor().cloned();
            let started = Instant::now();
            self.writing = None;
            match at_step(|| self.step(answer.as_ref())) {
                Ok(next) => {
                    self.wait_until_safe();
                    unrecorded = 0;
                    answer = None;
                    self.settled = true;
                    if std::mem::take(&mut self.heard) {
                        self.says_parked = false;
                        self.woken &= !self.context.has_progressed();
                        self.context.answer_is_taken();
                        self.throttle.history.written();
                    }
                    self.written = self.writing.take().unwrap_or(self.written);
                    self.tries = self.tries_left();
                    self.note_step(started.elapsed());
                    self.make_wal_segment();
                    match next {
                        Next::Step => seat::works(),
                        Next::Wait(time) => {
                            seat::rests();
                            worker::wait(time);
                        }
                        Next::TopLevel(sql) => answer = Some(at_step(|| self.top_level(&sql))),
                        Next::Leave => return Ok(()),
                    }
                }
                Err(error) if self.lost => {
                    log(self.context.job(), &error);
                    // The text of the step may have taken the slot away from itself, which is undone by now. If another
                    // worker has it, this counts nothing.
                    release(End::Interrupted);
                    return Ok(());
                }
                Err(error) => {
                    self.context.put_cursor(cursor.clone());
                    match &answer {
                        Some(answer) if retry::may_pass(&error) => {
                            self.keep(answer, &error, unrecorded);
                            seat::rests();
                            worker::wait(retry::delay(unrecorded));
                            unrecorded += 1;
                        }
                        _ => {
                            unrecorded = 0;
                            answer = None;
                            if !self.try_again(error, &cursor)? {
                                return Ok(());
                            }
                        }
                    }
                }
            }
        }
    }

    /// Beside others, so that none of them has to: one after a step. A disk that is full is told of by whoever needs it.
    fn make_wal_segment(&self) {
        const AHEAD: u64 = 2;
        let portions = self.context.portions();
        if portions.wants_segment() {
            portions.is_busy_since(system::monotonic());
            let made = transaction(|| Ok(system::make_wal_segment(AHEAD)));
            portions.is_busy_since(Duration::ZERO);
            portions.has_segments(!made.unwrap_or(false));
        }
    }

    /// After an error of a step: waits, and opens the work anew. `false`: leave.
    fn try_again(&mut self, mut error: Error, cursor: &Option<serde_json::Value>) -> Result<bool> {
        loop {
            let Some((pause, wait)) = self.after_error(error)? else { return Ok(false) };
            if self.parked_between_tries(pause, wait) {
                return Ok(false);
            }
            seat::rests();
            worker::wait(pause);
            // What the work remembers may have been rolled back.
            match open(self.context.job()) {
                Ok((_, work)) => {
                    self.work = work;
                    return Ok(true);
                }
                Err(next) => {
                    self.context.put_cursor(cursor.clone());
                    error = next;
                }
            }
        }
    }

    /// An answer could not be recorded: somebody has the job's row locked, the disk is full. It is tried again for as long
    /// as it takes; should we be ended meanwhile, the next executor finds it in the slot.
    fn keep(&self, answer: &Result<Completion>, error: &Error, tries: u32) {
        if tries == 0 {
            let message = format!("how a statement ended could not be recorded yet: {}", error.message);
            log(self.context.job(), &Error { message, ..error.clone() });
        }
        let Assignment { job, slot, .. } = self.assignment;
        if let Some(cursor) = self.work.keep_answer(&self.context, answer) {
            // If not even this works, the next try may.
            let _ = transaction(|| {
                self.commit_for_good();
                spi::bookkeeping(|| store::keep_answer(job, slot, cursor))
            });
        }
    }

    /// One transaction: the step, and what it changed in the slot.
    fn step(&mut self, answer: Option<&Result<Completion>>) -> Result<Next> {
        let started = Instant::now();
        self.context.begin_step(self.throttle.history.pending().to_vec());
        // To record how a statement ended takes as long as it takes.
        let limit = match answer {
            None => longest_step(settings::batch_time().max(self.context.usual_batch_time())),
            Some(_) => None,
        };
        within(limit, || self.transact(answer, started))
    }

    fn transact(&mut self, answer: Option<&Result<Completion>>, started: Instant) -> Result<Next> {
        self.unsafe_yet = false;
        self.heard = false;
        transaction(|| {
            ddl::holds_strong_locks();
            let Some(live) = spi::bookkeeping(|| store::live(self.context.job().id))? else { return Ok(Next::Leave) };
            // A statement that has run is recorded, whatever the settings say by now, and whoever paused or canceled the
            // job meanwhile.
            if answer.is_none() && (!live.is_runnable() || self.must_leave(live.workers, &live.limits)?) {
                self.tell_pending()?;
                return Ok(Next::Leave);
            }
            let (runnable, ended) = (live.is_runnable(), live.is_final());
            let Live { workers, batch_time, limits, .. } = live;
            self.throttle.set_limits(limits);
            let now = self.throttle.begin_step(batch_time, self.context.portions());
            self.context.set_pace(workers, batch_time, now);
            if answer.is_none() && !self.context.has_cursor() && self.adopt_leftover(workers)? {
                return Ok(Next::Step);
            }
            let outcome = match answer {
                None => spi::without_settings(|| self.work.step(&mut self.context))?,
                Some(answer) => self.work.top_level_done(&mut self.context, answer.clone())?,
            };
            let next = self.conclude(outcome, started, answer.is_some(), ended)?;
            step::before_commit();
            Ok(if runnable { next } else { Next::Leave })
        })
    }

    /// The tries in vain that still count after this step.
    fn tries_left(&self) -> Tries {
        let tries = if self.context.has_progressed() { Tries::default() } else { self.tries.clone() };
        tries.with_locks(self.context.lock_tries())
    }

    /// Stores the outcome of a step in its transaction. `answered`: it records a top-level statement; `ended`: of a job that
    /// has an end already.
    fn conclude(&mut self, outcome: Outcome, started: Instant, answered: bool, ended: bool) -> Result<Next> {
        let job = self.context.job().id;
        let outcome = self.parked_if_long(outcome)?;
        let wait_reason = match &outcome {
            Outcome::Wait { reason, .. } => Some(reason.clone()),
            _ => self.throttle.history.pacing().map(str::to_owned),
        };
        let told = Told { wait_reason, pace: self.throttle.slowed() };
        // To say what will be tried, and that a try came to nothing, is no progress.
        let announced = matches!(outcome, Outcome::TopLevel(_))
            || answered
                && matches!(outcome, Outcome::Continue | Outcome::Wait { .. } | Outcome::Park { .. })
                && !self.context.has_progressed();
        if self.context.has_progressed() || matches!(outcome, Outcome::Done { .. }) {
            if self.tries.told.is_some() {
                let tries = self.tries.describe();
                self.context.event_before("resumed", tries);
            } else if self.woken {
                self.context.event_before("resumed", String::new());
            }
        }
        self.write_slot(&told, started.elapsed(), announced)?;
        if self.says_parked {
            spi::bookkeeping(|| store::unpark(job))?;
        }
        self.heard = true;
        if answered && ended {
            spi::bookkeeping(|| children::note_late(job))?;
        }
        // A crash must not forget that a command was started, how a job ended, or that the strikes are over.
        if !self.settled
            || self.struck
            || self.context.step_done().for_good
            || !matches!(outcome, Outcome::Continue | Outcome::Wait { .. } | Outcome::Park { .. })
        {
            self.unsafe_yet = ddl::holds_strong_locks();
            if !self.unsafe_yet {
                self.commit_for_good();
            }
        }
        lock::note_waiters();
        match outcome {
            Outcome::Continue => Ok(Next::Step),
            Outcome::Wait { time, .. } => Ok(Next::Wait(time)),
            Outcome::Park { reason, until } => self.park(&reason, None, until),
            Outcome::TopLevel(sql) => Ok(Next::TopLevel(sql)),
            Outcome::Done { rows_left } => {
                spi::bookkeeping(|| store::finish(job, rows_left, answered))?;
                Ok(Next::Leave)
            }
            Outcome::Fail(error) | Outcome::Undo(error) => {
                // What a canceled command was interrupted by is no news.
                if !ended {
                    self.fail(&error)?;
                }
                Ok(Next::Leave)
            }
        }
    }

    /// Writes what a step changed into the slot. Nothing of a step whose slot was taken over is committed.
    fn write_slot(&mut self, told: &Told, busy: Duration, announced: bool) -> Result<()> {
        let tries = self.tries_left();
        let now = Instant::now();
        let wall = now.saturating_duration_since(self.writing.replace(now).unwrap_or(self.written));
        if spi::bookkeeping(|| store::save(&self.context, told, busy, wall, announced, &tries))? {
            return Ok(());
        }
        self.lost = true;
        Err(Error::new(
            crate::error::OBJECT_NOT_IN_PREREQUISITE_STATE,
            "another worker has taken this one's place; its last step is rolled back",
        ))
    }

    /// As the server does, but at least to this server's disk.
    fn commit_for_good(&self) {
        spi::set_transaction("synchronous_commit", self.for_good());
    }

    fn for_good(&self) -> &str {
        if self.synchronous_commit == "off" { "local" } else { &self.synchronous_commit }
    }

    /// What a commit for good waits for, after it: a standby that is lost would keep its locks.
    fn wait_until_safe(&mut self) {
        if std::mem::take(&mut self.unsafe_yet) {
            spi::set_session("synchronous_commit", self.for_good());
            commit::wait_until_safe();
            spi::set_session("synchronous_commit", "off");
        }
    }

    /// Fails the job, or puts it back into the queue if its creator allowed that.
    fn fail(&mut self, error: &Error) -> Result<()> {
        log(self.context.job(), error);
        let job = self.context.job();
        // Whoever ended its schedule wants no more of it.
        self.retries = self.retries.min(spi::bookkeeping(|| store::retries(job.id))?);
        if self.retries <= 0 {
            return spi::bookkeeping(|| store::fail(job.id, error));
        }
        let id = job.id;
        let Restart { shared, .. } = self.kind.restart(serde_json::Value::Null, false);
        store::write_shared(id, shared)?;
        // What this step has to tell is told already.
        let cursor = self.context.written_cursor().cloned();
        let step = self.context.take_step();
        self.context.clear_cursor();
        let tries = std::mem::take(&mut self.tries);
        let written = self.write_slot(&Told::default(), Duration::ZERO, true);
        if written.is_err() {
            self.context.put_cursor(cursor);
            self.context.put_step(step);
            self.tries = tries;
            return written;
        }
        let delay = self.work.retry_delay(self.retries);
        spi::bookkeeping(|| store::requeue(id, delay, self.retries - 1, error))
    }

    /// Runs a statement between two steps. The executor's lock timeout is for our own
    /// batches; a command of the user's waits as it would in his session.
    fn top_level(&self, sql: &str) -> Result<Completion> {
        spi::set_session("lock_timeout", "0");
        spi::set_session("synchronous_commit", &self.synchronous_commit);
        unpaced::be_considerate();
        if self.work.writes_its_statements() {
            spi::unambiguous_session();
        }
        let run = || statement_of::run(self.context.job().id, self.context.job().owner, || top_level::run(sql));
        let answer = timeout::limited_for_good(self.work.time_limit(), || match seat::request_to_leave() {
            Some(asked) => timeout::canceled_when(asked, run),
            None => run(),
        });
        // The statement may have been a SET: a read-only session could not even record its end.
        worker::forget_settings();
        queue::restore_session(&self.session);
        limit_lock_waits();
        spi::set_session("synchronous_commit", "off");
        step::drop_temporary_objects();
        answer
    }

    /// A step was rolled back. `Some`: try again after this pause, for which the job says why it waits.
    fn after_error(&mut self, error: Error) -> Result<Option<(Duration, Option<WaitsFor>)>> {
        let Assignment { job, slot, .. } = self.assignment;
        let still_wanted = transaction(|| {
            if !catalog::extension_exists() {
                return Ok(false);
            }
            Ok(spi::bookkeeping(|| store::live(job))?.is_some_and(|live| live.is_runnable()))
        });
        match still_wanted {
            Ok(true) => {}
            Ok(false) => return Ok(None),
            // Somebody holds our own tables: DROP or ALTER EXTENSION. Look again in a moment.
            Err(busy) if retry::is_transient(&busy) => {
                return Ok(Some((Duration::from_millis(200), None)));
            }
            Err(other) => return Err(other),
        }
        match self.tries.judge(&error) {
            Verdict::Again(pause) => {
                let sqlstate = error.sqlstate.to_string();
                let reason = format!("waits to try again after SQLSTATE {sqlstate}");
                let error = self.with_holders(error);
                // The first of a series is news, and one for another reason; the rest is in wait_reason.
                let news = (self.tries.told.as_ref() != Some(&sqlstate))
                    .then(|| Event { event: "waiting", detail: error.message.clone() });
                self.tries.told = Some(sqlstate);
                let told = transaction(|| {
                    spi::bookkeeping(|| {
                        store::note_try(job, slot, &reason, &error.message, &self.tries)?;
                        news.as_ref().map_or(Ok(()), |news| store::add_event(job, news.event, Some(&news.detail)))
                    })
                });
                match told {
                    Ok(()) => {}
                    // Then with the next step.
                    Err(busy) if retry::is_transient(&busy) => {
                        if let Some(news) = news {
                            self.throttle.history.tell(news);
                        }
                    }
                    Err(other) => return Err(other),
                }
                Ok(Some((pause, Some(WaitsFor { reason, detail: error.message }))))
            }
            Verdict::Fail => {
                let error = if error.sqlstate == QUERY_CANCELED && error.hint.is_none() {
                    error.hint(format!("SELECT upkeep.retry('{job}');"))
                } else {
                    error
                };
                let job = self.context.job().clone();
                insist(&job, || {
                    self.tell_pending()?;
                    self.fail(&error)
                })?;
                Ok(None)
            }
        }
    }

    /// A table's lock that was not to be had: who has it. (Of a row that is known no more.)
    fn with_holders(&self, error: Error) -> Error {
        let relid = self.work.relid().or(self.context.job().relid);
        let Some(relid) = relid.filter(|_| error.sqlstate == LOCK_NOT_AVAILABLE) else { return error };
        let wanted = ddl::Wanted { relid, mode: Mode::RowExclusive, with_children: false };
        match transaction(|| Ok(ddl::blockers(&[wanted], catalog::now())?.describe())) {
            Ok(Some(who)) => Error { message: format!("{}; {who}", error.message), ..error },
            _ => error,
        }
    }

    /// After `alter_job(workers => fewer)` somebody must finish what the others had in hand.
    fn adopt_leftover(&mut self, workers: i32) -> Result<bool> {
        let (job, slot) = (self.context.job().id, self.context.slot());
        let left = spi::bookkeeping(|| store::adopt_leftover(job, workers, slot))?;
        let found = left.is_some();
        self.context.put_cursor(left);
        Ok(found)
    }
}

/// What a step may take: a row that takes as long as it may, and what else there is in a step. So long at most a worker
/// is out of reach of those who wait for one.
fn longest_step(batch_time: Duration) -> Option<Duration> {
    settings::max_row_time().map(|row_time| row_time + 2 * batch_time + Duration::from_secs(30))
}

/// Runs (a part of) a step, its commit included: deferred triggers may defer others.
fn within<T>(limit: Option<Duration>, f: impl FnOnce() -> Result<T>) -> Result<T> {
    let started = Instant::now();
    timeout::limited_for_good(limit, f).map_err(|error| match limit {
        Some(limit) if error.sqlstate == QUERY_CANCELED && started.elapsed() >= limit => {
            Error::new(QUERY_CANCELED, retry::TOO_SLOW)
                .detail(format!("It was ended after {} s.", limit.as_secs_f64()))
                .hint(
                    "Something in the job's text or in a trigger does not end: correct it, or raise \
                    upkeep.max_row_time; then upkeep.retry().",
                )
        }
        _ => error,
    })
}

/// Opening reads catalogs and plans the user's text: as the owner, in a transaction.
fn open(job: &Job) -> Result<(&'static dyn Kind, Box<dyn Work>)> {
    let open = || {
        let kind = registry::kind(&job.kind, &job.params)?;
        Ok((kind, transaction(|| spi::without_settings(|| kind.open(job)))?))
    };
    at_step(|| within(longest_step(settings::batch_time()), open))
}

/// Writes down how something ended, for as long as it takes: somebody may have the job's row locked. Not if this worker is to leave:
/// then the next one finds out the same.
fn insist(job: &Job, mut write: impl FnMut() -> Result<()>) -> Result<()> {
    for tries in 0.. {
        match transaction(&mut write) {
            Err(busy) if retry::may_pass(&busy) => {
                if tries == 0 {
                    let message = format!("how it ended could not be recorded yet: {}", busy.message);
                    log(job, &Error { message, ..busy });
                }
                seat::rests();
                worker::wait(retry::delay(tries));
                if seat::is_unwanted() {
                    return Ok(());
                }
            }
            other => return other,
        }
    }
    Ok(())
}

/// Caught errors are not in the server's log unless somebody puts them there.
fn log(job: &Job, error: &Error) {
    raise::report(
        Level::Log,
        Error {
            message: format!("pg_upkeep job {} ({} of {}): {}", job.id, job.kind, job.target, error.message),
            ..error.clone()
        },
    );
}
