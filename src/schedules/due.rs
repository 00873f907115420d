//! The scheduler's part: what is due becomes jobs, what could not run is noted.

use std::cell::{Cell, RefCell};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use pgrx::Uuid;

use super::clock::{Finding, GRACE, find};
use super::hold::{self, Schedules};
use super::store::{self, Entry, entry_columns};
use super::{history, runs};
use crate::error::{Error, Result};
use crate::jobs::chore::{Chore, Held, Memory, Visit};
use crate::jobs::retry;
use crate::server::catch::{subtransaction, transaction};
use crate::server::{Oid, catalog, spi};
use crate::settings;

/// Schedules handled in one transaction.
const PORTION: i64 = 500;
/// Portions are begun for so long at one look. After an outage there can be any number of runs to note, and everything else
/// that is due in this database waits meanwhile.
const LONGEST: Duration = Duration::from_secs(2);

/// A clock that is corrected bit by bit never shows this much less.
const CLOCK_STEP: i64 = 1_000_000;

/// The chore: what is due becomes jobs.
pub struct Due;

impl Chore for Due {
    fn name(&self) -> &'static str {
        "the schedules"
    }

    fn visit(&self, memory: &Memory) -> Result<Visit> {
        look(memory, settings::job_retention())
    }

    fn held(&self) -> Option<&'static dyn Held> {
        Some(&Schedules)
    }

    /// What came of a run is taken over first.
    fn still_needs(&self, jobs: &[Uuid]) -> Result<Vec<Uuid>> {
        history::not_collected(jobs)
    }

    fn job_will_be_dropped(&self, job: Uuid) -> Result<()> {
        history::collect_run_of(job)
    }
}

/// Looks at all schedules of this database.
fn look(memory: &Memory, retention: Option<Duration>) -> Result<Visit> {
    let any = transaction(|| {
        spi::bookkeeping(|| spi::query_one("SELECT EXISTS (SELECT 1 FROM upkeep._schedule)", &[], |row| row.require(1)))
    })?;
    let mut visit = Visit::default();
    if any != Some(true) {
        memory.watches_clock.store(0, Ordering::Release);
        return Ok(visit);
    }
    let now = catalog::now();
    let before = memory.done_at.load(Ordering::Acquire);
    let alone = |part: &dyn Fn() -> Result<()>| transaction(|| spi::bookkeeping(part));
    visit.attempt("schedules that came with a dump or a copy", || alone(&hold::hold_foreign));
    visit.attempt("how runs of schedules ended", || alone(&history::collect));
    visit.attempt("runs to be forgotten", || alone(&|| retention.map_or(Ok(()), history::prune)));
    // Of each, what could not be worked out is passed over, and looked at again: then it is not noted as looked at.
    let passed_over = RefCell::new(Vec::new());
    let went_back = before == 0 || before > now;
    let before = before.min(now);
    let unfinished = Cell::new(false);
    let noted = visit.attempt("schedules, which the clock was set for", || {
        after_a_clock_went_back(if went_back { now } else { now + CLOCK_STEP }, now, &passed_over)
    }) && visit
        .attempt("missed runs of schedules", || note_missed(now, before, &passed_over).map(|all| unfinished.set(!all)))
        && visit.attempt("skipped runs of schedules", || note_skipped(now, &passed_over))
        && visit.attempt("schedules that are due", || start(now, before, &passed_over));
    let passed_over = passed_over.into_inner();
    if unfinished.get() {
        visit.again_in(Duration::ZERO);
    } else if noted && passed_over.is_empty() {
        memory.done_at.store(now, Ordering::Release);
    }
    for (schedule, error) in passed_over {
        visit.give_up(format!("schedule {schedule}"), error);
    }

    let next = transaction(|| spi::bookkeeping(next_due))?;
    memory.watches_clock.store(i32::from(next.is_some()), Ordering::Release);
    match next {
        Some(next) if next <= now => visit.waiting = true,
        Some(next) => {
            let left = next.saturating_sub(catalog::now()).max(0) as u64;
            visit.again_in(Duration::from_micros(left));
        }
        None => {}
    }
    Ok(visit)
}

/// When the next active schedule is due, or was.
fn next_due() -> Result<Option<i64>> {
    let next = spi::query_one(
        "SELECT pg_catalog.min(next_run) FROM upkeep._schedule
         WHERE NOT paused AND hold IS NULL AND upkeep._is_here(system_identifier, database)",
        &[],
        |row| row.get::<pgrx::datum::TimestampWithTimeZone>(1),
    )?;
    Ok(next.flatten().map(|at| at.into_inner()))
}

/// Schedules and errors because of which they were passed over.
type PassedOver = RefCell<Vec<(Uuid, Error)>>;

/// Schedules that are due, and the job of their unfinished run; after these it is `each`'s to change them. What somebody
/// has locked is skipped by `sql`. No portion is begun after `until`. False: there was no time for all.
fn each_of(
    sql: &str,
    args: impl Fn() -> [pgrx::datum::DatumWithOid<'static>; 3],
    until: Option<Instant>,
    passed_over: &PassedOver,
    each: impl Fn(&Entry, Option<Uuid>) -> Result<()>,
) -> Result<bool> {
    loop {
        let (found, done) = transaction(|| {
            spi::bookkeeping(|| {
                let found = spi::execute_returning(sql, &args(), |row| Ok((Entry::read(&row)?, row.get::<Uuid>(10)?)))?;
                let mut done = 0;
                for (entry, job) in &found {
                    done += i64::from(one(entry, passed_over, || each(entry, *job))?);
                }
                Ok((found.len() as i64, done))
            })
        })?;
        // The next portion begins with those that were passed over.
        if found < PORTION || done < found {
            return Ok(true);
        }
        if until.is_some_and(|until| Instant::now() >= until) {
            return Ok(false);
        }
    }
}

/// Handles one schedule, by itself. One that cannot be understood any more (its time zone is gone, its row damaged) is
/// held, and the others go on. False: something was in the way, and it is as it was.
fn one(entry: &Entry, passed_over: &PassedOver, handle: impl FnOnce() -> Result<()>) -> Result<bool> {
    let Err(error) = subtransaction(handle) else { return Ok(true) };
    let transient = retry::is_transient(&error);
    if !transient {
        // Its pattern and time zone are there for everybody to see who sees the schedule; other errors are not (LAW 5).
        let reason = match subtransaction(|| entry.rhythm().map(drop)) {
            Err(not_understood) => not_understood.message,
            Ok(()) => format!("its runs cannot be worked out: SQLSTATE {}", error.sqlstate),
        };
        store::set_hold(entry.id, &reason)?;
    }
    passed_over.borrow_mut().push((entry.id, error));
    Ok(!transient)
}

/// Works out anew what was worked out at a time that has not come yet.
fn after_a_clock_went_back(later_than: i64, now: i64, passed_over: &PassedOver) -> Result<()> {
    let last = Cell::new(Uuid::from_bytes([0; 16]));
    each_of(
        concat!(
            "SELECT ",
            entry_columns!(),
            ", NULL::pg_catalog.uuid FROM upkeep._schedule s
             WHERE s.based_on OPERATOR(pg_catalog.>) $1 AND s.id OPERATOR(pg_catalog.>) $3 AND s.next_run IS NOT NULL
             ORDER BY s.id LIMIT $2 FOR UPDATE SKIP LOCKED"
        ),
        || [store::timestamp(later_than).into(), PORTION.into(), last.get().into()],
        // It begins anew each time.
        None,
        passed_over,
        |entry, _| {
            last.set(entry.id);
            let Some(next_run) = entry.next_run else { return Ok(()) };
            let held = entry.rhythm()?.resolve(now, entry.based_on, next_run);
            if held == Some(next_run) {
                return Ok(());
            }
            store::set_next_run(entry.id, held, now, false)
        },
    )
    .map(drop)
}

/// Runs that nobody was there to start are noted; one of them is owed if the schedule says so.
fn note_missed(now: i64, before: i64, passed_over: &PassedOver) -> Result<bool> {
    each_of(
        concat!(
            "SELECT ",
            entry_columns!(),
            ", NULL::pg_catalog.uuid FROM upkeep._schedule s
             WHERE NOT s.paused AND s.hold IS NULL AND NOT s.owed
               AND upkeep._is_here(s.system_identifier, s.database)
               AND s.next_run OPERATOR(pg_catalog.<) $1 AND s.next_run OPERATOR(pg_catalog.>) $3
               -- A run that has not begun yet stands for these as well: they are skipped.
               AND NOT EXISTS (SELECT 1 FROM upkeep._schedule_run r
                               JOIN upkeep._job j ON j.id OPERATOR(pg_catalog.=) r.job
                               WHERE r.schedule OPERATOR(pg_catalog.=) s.id AND r.finished_at IS NULL
                                 AND j.started_at IS NULL)
             ORDER BY s.next_run LIMIT $2 FOR UPDATE OF s SKIP LOCKED"
        ),
        || [store::timestamp(now - GRACE).into(), PORTION.into(), store::timestamp(before).into()],
        Some(Instant::now() + LONGEST),
        passed_over,
        |entry, _| {
            let Some(due) = entry.next_run else { return Ok(()) };
            debug_assert_eq!(find(now, before, due), Finding::Missed);
            let rhythm = entry.rhythm()?;
            let (next, passed) = rhythm.advance(due, now);
            if !entry.catch_up {
                store::add_not_run(entry.id, "missed", None, due, passed + 1)?;
                return store::set_next_run(entry.id, next, now, false);
            }
            if passed > 0 {
                store::add_not_run(entry.id, "missed", None, rhythm.next(due).unwrap_or(due), passed)?;
            }
            store::set_next_run(entry.id, Some(due), now, true)
        },
    )
}

/// What is due while its run before has not ended is skipped: runs of one schedule never overlap.
fn note_skipped(now: i64, passed_over: &PassedOver) -> Result<()> {
    each_of(
        concat!(
            "SELECT ",
            entry_columns!(),
            ", r.job FROM upkeep._schedule_run r
             JOIN upkeep._schedule s ON s.id OPERATOR(pg_catalog.=) r.schedule
             WHERE r.finished_at IS NULL AND NOT s.paused AND s.hold IS NULL AND NOT s.owed
               AND upkeep._is_here(s.system_identifier, s.database)
               AND s.next_run OPERATOR(pg_catalog.<=) $1 AND $3 IS NULL
             LIMIT $2 FOR UPDATE OF s SKIP LOCKED"
        ),
        || [store::timestamp(now).into(), PORTION.into(), None::<Uuid>.into()],
        None,
        passed_over,
        |entry, job| {
            let Some(due) = entry.next_run else { return Ok(()) };
            let (next, passed) = entry.rhythm()?.advance(due, now);
            store::add_not_run(entry.id, "skipped", job, due, passed + 1)?;
            store::set_next_run(entry.id, next, now, false)
        },
    )
    .map(drop)
}

/// Makes jobs of what is due. Who gets a worker is not said here: they wait for their turn among all jobs
/// ([`crate::jobs::shares`]). Each role by itself, so that none waits for another's: neither for what there are too many
/// of nor for what goes wrong.
fn start(now: i64, before: i64, passed_over: &PassedOver) -> Result<()> {
    let mut result = Ok(());
    for owner in transaction(|| spi::bookkeeping(|| owners_of_due(now)))? {
        let started = transaction(|| spi::bookkeeping(|| start_of(owner, now, before, passed_over)));
        result = result.and(started);
    }
    result
}

/// Roles with schedules that are due. From one to the next in the index, whatever number of schedules each has.
fn owners_of_due(now: i64) -> Result<Vec<Oid>> {
    spi::query(
        "WITH RECURSIVE o (owner) AS (
             (SELECT s.owner FROM upkeep._schedule s WHERE NOT s.paused AND s.hold IS NULL ORDER BY s.owner LIMIT 1)
             UNION ALL
             SELECT (SELECT s.owner FROM upkeep._schedule s
                     WHERE NOT s.paused AND s.hold IS NULL AND s.owner OPERATOR(pg_catalog.>) o.owner
                     ORDER BY s.owner LIMIT 1)
             FROM o WHERE o.owner IS NOT NULL)
         SELECT o.owner FROM o
         WHERE EXISTS (SELECT 1 FROM upkeep._schedule s
                       WHERE s.owner OPERATOR(pg_catalog.=) o.owner AND NOT s.paused AND s.hold IS NULL
                         AND s.next_run OPERATOR(pg_catalog.<=) $1)",
        &[store::timestamp(now).into()],
        |row| row.require(1),
    )
}

/// The most overdue schedules of one role, as many as it may have runs. What was missed is noted first.
fn start_of(owner: Oid, now: i64, before: i64, passed_over: &PassedOver) -> Result<()> {
    let room = runs::room_for(owner)?;
    if room <= 0 {
        return Ok(());
    }
    let due = spi::execute_returning(
        concat!(
            "SELECT ",
            entry_columns!(),
            " FROM upkeep._schedule s
             WHERE s.owner OPERATOR(pg_catalog.=) $3 AND NOT s.paused AND s.hold IS NULL
               AND s.next_run OPERATOR(pg_catalog.<=) $1
               AND (s.owed OR s.next_run OPERATOR(pg_catalog.>=) $4 OR s.next_run OPERATOR(pg_catalog.<=) $5)
               AND upkeep._is_here(s.system_identifier, s.database)
               AND NOT EXISTS (SELECT 1 FROM upkeep._schedule_run r
                               WHERE r.schedule OPERATOR(pg_catalog.=) s.id AND r.finished_at IS NULL)
             ORDER BY s.next_run LIMIT $2 FOR UPDATE OF s SKIP LOCKED"
        ),
        &[
            store::timestamp(now).into(),
            room.into(),
            owner.into(),
            store::timestamp(now - GRACE).into(),
            store::timestamp(before).into(),
        ],
        |row| Entry::read(&row),
    )?;
    for entry in &due {
        one(entry, passed_over, || start_one(entry, now))?;
    }
    Ok(())
}

fn start_one(entry: &Entry, now: i64) -> Result<()> {
    let Some(due) = entry.next_run else { return Ok(()) };
    // By somebody's run_now() that ended just before the row was locked.
    if runs::unfinished(entry.id)?.is_some() {
        return Ok(());
    }
    if catalog::role_name(entry.owner).is_none() {
        return store::set_hold(entry.id, "the owner was dropped");
    }
    let rhythm = entry.rhythm()?;
    let (next, mut passed) = rhythm.advance(due, now);
    if entry.owed {
        // Those before the run was found missing are noted as missed.
        passed -= rhythm.advance(due, entry.based_on.min(now)).1;
    }
    let job = runs::start(entry.id, due)?;
    if passed > 0 {
        // They came while this one waited, with too many others of its role before it.
        store::add_not_run(entry.id, "skipped", Some(job), rhythm.next(due).unwrap_or(due), passed)?;
    }
    store::set_next_run(entry.id, next, now, false)
}
