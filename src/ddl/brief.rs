//! DDL of ours on tables that others use. Who waits for an exclusive lock has everybody who comes later wait behind him, readers
//! too. So an attempt takes all of its locks first, waits for a moment only, lets go of everything, and lets those pass who have
//! queued up; then it is made again.

use std::cell::Cell;
use std::time::{Duration, Instant};

use super::holders::{self, Blockers};
use super::locks::{Waits, Wanted, lock_all};
use super::patience::{Tries, insistence};
use crate::error::{
    CONFIGURATION_LIMIT_EXCEEDED, DEADLOCK_DETECTED, Error, LOCK_NOT_AVAILABLE, QUERY_CANCELED, Result,
};
use crate::server::catch::subtransaction;
use crate::server::{catalog, spi, timeout, worker};
use crate::settings;

/// What came of it.
pub enum Attempt<T> {
    Done(T),
    Blocked(Blocked),
}

/// Nothing is left of the attempt.
pub struct Blocked {
    began: i64,
    /// It was not made: the rest after the last one is not over.
    rests: Option<Duration>,
    blockers: Blockers,
    /// Nobody was in the way, and the change took all the time.
    too_long: bool,
}

/// How to go on after an attempt in vain.
pub struct Rest {
    pub reason: String,
    pub time: Duration,
    /// What has not been told yet, for the history of the job: an event and its detail.
    pub news: Option<(&'static str, String)>,
}

impl Blocked {
    /// Notes the attempt in its series. An error if the change takes too long again and again.
    pub fn rest(self, tries: &mut Tries, purpose: &str) -> Result<Rest> {
        let reason = self.reason(purpose);
        if let Some(time) = self.rests {
            return Ok(Rest { reason, time, news: None });
        }
        if !tries.note(self.began, self.too_long) {
            return Err(takes_too_long(purpose));
        }
        let mut news = tries.is_first_too_long().then(|| ("waiting", reason.clone()));
        if self.blockers.are_news(&tries.told, tries.is_first()) {
            news = self.blockers.describe().map(|who| ("locked out", who));
            tries.told = self.blockers.identities();
        }
        let time = tries.rest(settings::ddl_lock_timeout(), catalog::now(), catalog::chance());
        Ok(Rest { reason, time, news })
    }

    /// For people who see a job wait.
    pub fn reason(&self, purpose: &str) -> String {
        match self.too_long {
            true => format!("waits to {purpose}: the change itself takes longer than upkeep.ddl_lock_timeout"),
            false => self.blockers.reason(purpose),
        }
    }
}

fn takes_too_long(purpose: &str) -> Error {
    let budget = length(settings::ddl_lock_timeout());
    Error::new(
        CONFIGURATION_LIMIT_EXCEEDED,
        format!("to {purpose} takes longer than upkeep.ddl_lock_timeout ({budget})"),
    )
    .detail("Nobody was in the way: the change itself took all the time. Nothing has been changed.")
    .hint(
        "ALTER SYSTEM SET upkeep.ddl_lock_timeout = ..; SELECT pg_reload_conf(); whoever uses the table waits as long. \
            Then upkeep.retry().",
    )
}

/// One attempt of a worker's, in its transaction: all locks, and then `f`, within `upkeep.ddl_lock_timeout` together.
pub fn attempt<T>(wanted: &[Wanted], tries: &Tries, f: impl FnOnce() -> Result<T>) -> Result<Attempt<T>> {
    let budget = settings::ddl_lock_timeout();
    let began = catalog::now();
    if let Some(left) = tries.rests(began) {
        let blockers = holders::blockers(wanted, began)?;
        return Ok(Attempt::Blocked(Blocked { began, rests: Some(left), blockers, too_long: tries.has_warmed_up() }));
    }
    let began_at = Instant::now();
    let wait = tries.wait(budget);
    let once = Once { waits: Waits::new(wait), insists: tries.insists(began) };
    let at_work: Cell<Option<Instant>> = Cell::new(None);
    let (done, cut) = timeout::cut_short(budget, || {
        once.make(wanted, || {
            at_work.set(Some(Instant::now()));
            f()
        })
    });
    let total = began_at.elapsed();
    let held = at_work.get().map_or(Duration::ZERO, |begin| begin.elapsed());
    TIMES.set(Some(Times { waited: total - held.min(total), held, in_vain: i32::from(done.is_err()) }));
    let too_long = match &done {
        Ok(_) => {
            if wanted.iter().any(|wanted| wanted.mode.is_strong()) {
                hold_locks_briefly();
            }
            return done.map(Attempt::Done);
        }
        Err(error) if is_blocked(error) => false,
        // If it was waiting that has left too little time for the rest, that is what there is to tell.
        Err(error) if error.sqlstate == QUERY_CANCELED && cut => once.waits.used() <= budget / 2,
        Err(_) => return done.map(Attempt::Done),
    };
    let blockers = if too_long { Blockers::default() } else { holders::blockers(wanted, began)? };
    Ok(Attempt::Blocked(Blocked { began, rests: None, blockers, too_long }))
}

fn is_blocked(error: &Error) -> bool {
    [LOCK_NOT_AVAILABLE, DEADLOCK_DETECTED].contains(&error.sqlstate)
}

thread_local! {
    static ATTEMPTING: Cell<bool> = const { Cell::new(false) };
    static HOLDS_STRONG_LOCKS: Cell<bool> = const { Cell::new(false) };
    static TIMES: Cell<Option<Times>> = const { Cell::new(None) };
}

/// How long an attempt has waited for its locks, and then held them.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    pub waited: Duration,
    pub held: Duration,
    /// 1: it was in vain.
    pub in_vain: i32,
}

/// Of the last attempt since the last call.
pub fn times_of_attempts() -> Option<Times> {
    TIMES.take()
}

/// A commit that waits for a standby keeps its locks all the while, even when its client is gone. So a transaction that others wait
/// for is not to wait itself.
fn hold_locks_briefly() {
    spi::set_transaction("synchronous_commit", "off");
    HOLDS_STRONG_LOCKS.set(true);
}

/// Has an attempt since the last call left locks to this transaction for which writers wait?
pub fn holds_strong_locks() -> bool {
    HOLDS_STRONG_LOCKS.take()
}

/// Is a lock that was not to be had a reason to undo everything, and to try again?
pub fn is_attempt() -> bool {
    ATTEMPTING.get()
}

/// How one attempt waits.
struct Once {
    waits: Waits,
    /// Whoever is in the way and only vacuums by himself is asked to yield.
    insists: bool,
}

impl Once {
    /// In a subtransaction, of which nothing stays if it fails: its locks go with it, and settings in any case.
    fn make<T>(&self, wanted: &[Wanted], f: impl FnOnce() -> Result<T>) -> Result<T> {
        subtransaction(|| {
            spi::without_settings(|| {
                // Who is in the way is told by us, once; the server would log it at each attempt.
                spi::set_transaction("log_lock_waits", "off");
                if self.insists {
                    let insistence = insistence(self.waits.left());
                    spi::set_transaction("deadlock_timeout", &insistence.as_millis().to_string());
                }
                lock_all(wanted, &self.waits)?;
                self.waits.bound();
                let _attempting = Attempting(ATTEMPTING.replace(true));
                f()
            })
        })
    }
}

struct Attempting(bool);

impl Drop for Attempting {
    fn drop(&mut self) {
        ATTEMPTING.set(self.0);
    }
}

/// Attempts in a transaction of the caller's own: it cannot rest for long, since its snapshot and its locks are his.
const TRIES: u32 = 3;

/// Makes a change that a session asks for itself: the last attempt waits for all of `upkeep.ddl_lock_timeout`. No lock is waited for
/// longer than the session's own `lock_timeout`. 55P03, with who is in the way, if none gets its locks. What `f` does is not cut short:
/// the locks are held until the caller's transaction ends.
pub fn in_callers_transaction<T>(
    table: &str,
    wanted: impl Fn() -> Result<Vec<Wanted>>,
    f: impl Fn() -> Result<T>,
) -> Result<T> {
    let budget = settings::ddl_lock_timeout();
    let budget = timeout::of_locks().map_or(budget, |own| own.min(budget));
    let mut tries = Tries::default();
    let mut last = Vec::new();
    let mut began = catalog::now();
    for left in (0..TRIES).rev() {
        let once = match left {
            0 => Once { waits: Waits::new(budget), insists: true },
            _ => Once { waits: Waits::new(tries.wait(budget)), insists: false },
        };
        last = wanted()?;
        began = catalog::now();
        match once.make(&last, &f) {
            Err(error) if is_blocked(&error) => {}
            done => return done,
        }
        tries.note(0, false);
        if left > 0 {
            rest_in_session(tries.rest(budget, catalog::now(), catalog::chance()));
        }
    }
    Err(gave_up(table, &holders::blockers(&last, began)?))
}

/// All of it, whoever wakes the session up.
fn rest_in_session(time: Duration) {
    let start = Instant::now();
    while let Some(left) = time.checked_sub(start.elapsed()).filter(|left| *left >= Duration::from_millis(1)) {
        worker::wait_in_session(left);
    }
}

fn gave_up(table: &str, blockers: &Blockers) -> Error {
    let (what, who) = match (blockers.table(), blockers.describe()) {
        (Some(table), Some(who)) => (table, format!("{who}.")),
        _ => (table, "Whoever was in the way has just let go of it.".to_owned()),
    };
    Error::new(LOCK_NOT_AVAILABLE, format!("could not get the lock on {what} in {TRIES} attempts"))
        .detail(format!("{who} Nothing has been changed, and nobody had to wait behind this for longer than a moment."))
        .hint("Call it again when that transaction has ended.")
}

fn length(time: Duration) -> String {
    match time.as_millis() {
        ms if ms % 1000 == 0 => format!("{} s", ms / 1000),
        ms => format!("{ms} ms"),
    }
}
