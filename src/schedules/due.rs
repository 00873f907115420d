//! The scheduler's part: what is due becomes jobs while there is room, what could not run is noted.

use std::cell::RefCell;
use std::sync::atomic::Ordering;
use std::time::Duration;

use pgrx::Uuid;

use super::clock::{Finding, GRACE, find};
use super::store::{self, Entry, entry_columns};
use super::{history, hold, runs};
use crate::error::{Error, Result};
use crate::jobs::chore::Visit;
use crate::jobs::{activity, retry};
use crate::server::catch::{subtransaction, transaction};
use crate::server::segment::Database;
use crate::server::{catalog, spi};
use crate::settings;

/// Schedules handled in one transaction.
const PORTION: i64 = 500;

/// A clock that is corrected bit by bit never shows this much less.
const CLOCK_STEP: i64 = 1_000_000;

/// Looks at all schedules of this database. In a worker, between transactions.
pub fn look(database: &Database, retention: Option<Duration>) -> Result<Visit> {
    let any = transaction(|| {
        spi::bookkeeping(|| spi::query_one("SELECT EXISTS (SELECT 1 FROM upkeep._schedule)", &[], |row| row.require(1)))
    })?;
    let mut visit = Visit::default();
    if any != Some(true) {
        database.scheduled.store(0, Ordering::Release);
        return Ok(visit);
    }
    let now = catalog::now();
    let before = database.looked.load(Ordering::Acquire);
    let alone = |part: &dyn Fn() -> Result<()>| transaction(|| spi::bookkeeping(part));
    visit.attempt("schedules that came with a dump or a copy", || alone(&hold::hold_foreign));
    visit.attempt("how runs of schedules ended", || alone(&history::collect));
    visit.attempt("runs to be forgotten", || alone(&|| retention.map_or(Ok(()), history::prune)));
    // Of each, what could not be worked out is passed over, and looked at again: then it is not noted as looked at.
    let passed_over = RefCell::new(Vec::new());
    let went_back = before == 0 || before > now;
    let noted = visit.attempt("schedules, which the clock was set for", || {
        after_a_clock_went_back(if went_back { now } else { now + CLOCK_STEP }, now, &passed_over)
    }) && visit.attempt("missed runs of schedules", || note_missed(now, before.min(now), &passed_over))
        && visit.attempt("skipped runs of schedules", || note_skipped(now, &passed_over))
        && visit.attempt("schedules that are due", || start(now, &passed_over));
    let passed_over = passed_over.into_inner();
    if noted && passed_over.is_empty() {
        database.looked.store(now, Ordering::Release);
    }
    for (schedule, error) in passed_over {
        visit.give_up(format!("schedule {schedule}"), error);
    }

    let next = transaction(|| spi::bookkeeping(next_due))?;
    database.scheduled.store(i32::from(next.is_some()), Ordering::Release);
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
/// has locked is skipped by `sql`.
fn each_of(
    sql: &str,
    args: impl Fn() -> [pgrx::datum::DatumWithOid<'static>; 3],
    passed_over: &PassedOver,
    each: impl Fn(&Entry, Option<Uuid>) -> Result<()>,
) -> Result<()> {
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
            return Ok(());
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
    let last = std::cell::Cell::new(Uuid::from_bytes([0; 16]));
    each_of(
        concat!(
            "SELECT ",
            entry_columns!(),
            ", NULL::pg_catalog.uuid FROM upkeep._schedule s
             WHERE s.based_on OPERATOR(pg_catalog.>) $1 AND s.id OPERATOR(pg_catalog.>) $3 AND s.next_run IS NOT NULL
             ORDER BY s.id LIMIT $2 FOR UPDATE SKIP LOCKED"
        ),
        || [store::timestamp(later_than).into(), PORTION.into(), last.get().into()],
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
}

/// Runs that nobody was there to start are noted; one of them is owed if the schedule says so.
fn note_missed(now: i64, before: i64, passed_over: &PassedOver) -> Result<()> {
    each_of(
        concat!(
            "SELECT ",
            entry_columns!(),
            ", NULL::pg_catalog.uuid FROM upkeep._schedule s
             WHERE NOT s.paused AND s.hold IS NULL AND NOT s.owed
               AND upkeep._is_here(s.system_identifier, s.database)
               AND s.next_run OPERATOR(pg_catalog.<) $1 AND s.next_run OPERATOR(pg_catalog.>) $3
             ORDER BY s.next_run LIMIT $2 FOR UPDATE SKIP LOCKED"
        ),
        || [store::timestamp(now - GRACE).into(), PORTION.into(), store::timestamp(before).into()],
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
        passed_over,
        |entry, job| {
            let Some(due) = entry.next_run else { return Ok(()) };
            let (next, passed) = entry.rhythm()?.advance(due, now);
            store::add_not_run(entry.id, "skipped", job, due, passed + 1)?;
            store::set_next_run(entry.id, next, now, false)
        },
    )
}

/// Makes jobs of the most overdue schedules, as many as there are workers free.
fn start(now: i64, passed_over: &PassedOver) -> Result<()> {
    transaction(|| spi::bookkeeping(|| start_due(now, passed_over)))
}

fn start_due(now: i64, passed_over: &PassedOver) -> Result<()> {
    let room = room()?;
    if room <= 0 {
        return Ok(());
    }
    let due = spi::execute_returning(
        concat!(
            "SELECT ",
            entry_columns!(),
            " FROM upkeep._schedule s
             WHERE NOT s.paused AND s.hold IS NULL AND s.next_run OPERATOR(pg_catalog.<=) $1
               AND upkeep._is_here(s.system_identifier, s.database)
               AND NOT EXISTS (SELECT 1 FROM upkeep._schedule_run r
                               WHERE r.schedule OPERATOR(pg_catalog.=) s.id AND r.finished_at IS NULL)
             ORDER BY s.next_run LIMIT $2 FOR UPDATE OF s SKIP LOCKED"
        ),
        &[store::timestamp(now).into(), room.into()],
        |row| Entry::read(&row),
    )?;
    for entry in &due {
        one(entry, passed_over, || start_one(entry, now))?;
    }
    Ok(())
}

fn start_one(entry: &Entry, now: i64) -> Result<()> {
    let Some(due) = entry.next_run else { return Ok(()) };
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
        // They came while this one waited for room.
        store::add_not_run(entry.id, "skipped", Some(job), rhythm.next(due).unwrap_or(due), passed)?;
    }
    store::set_next_run(entry.id, next, now, false)
}

/// Workers that are neither busy nor about to be with runs that were started before.
fn room() -> Result<i64> {
    let waiting = spi::query_one(
        "SELECT pg_catalog.count(*) FROM upkeep._schedule_run r
         JOIN upkeep._job j ON j.id OPERATOR(pg_catalog.=) r.job
         WHERE r.finished_at IS NULL AND j.state OPERATOR(pg_catalog.=) 'queued'
           AND (j.not_before IS NULL OR j.not_before OPERATOR(pg_catalog.<=) pg_catalog.clock_timestamp())",
        &[],
        |row| row.require::<i64>(1),
    )?;
    let (_, executors) = activity::worker_counts()?;
    Ok(i64::from(settings::max_workers()) - executors - waiting.unwrap_or(0))
}
