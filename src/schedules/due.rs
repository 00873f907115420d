//! The scheduler's part: what is due becomes jobs while there is room, what could not run is noted.

use std::sync::atomic::Ordering;
use std::time::Duration;

use pgrx::Uuid;

use super::clock::{Finding, GRACE, find};
use super::store::{self, Entry, entry_columns};
use super::{history, hold, runs};
use crate::error::{Error, Result};
use crate::jobs::activity;
use crate::server::catch::transaction;
use crate::server::segment::Database;
use crate::server::{catalog, spi};
use crate::settings;

/// Schedules handled in one transaction.
const PORTION: i64 = 500;

/// What the scheduler must know afterwards.
#[derive(Default)]
pub struct Outlook {
    /// Something is due, and there is no room for it or somebody is changing it.
    pub waiting: bool,
    /// How long nothing more is due.
    pub next: Option<Duration>,
}

/// Looks at all schedules of this database. In a worker, between transactions.
pub fn look(database: &Database, retention: Option<Duration>) -> Result<Outlook> {
    let any = transaction(|| {
        spi::bookkeeping(|| spi::query_one("SELECT EXISTS (SELECT 1 FROM upkeep._schedule)", &[], |row| row.require(1)))
    })?;
    if any != Some(true) {
        database.scheduled.store(0, Ordering::Release);
        return Ok(Outlook::default());
    }
    let now = catalog::now();
    let before = database.looked.load(Ordering::Acquire);
    transaction(|| {
        spi::bookkeeping(|| {
            hold::hold_foreign()?;
            history::collect()?;
            retention.map_or(Ok(()), history::prune)
        })
    })?;
    if before == 0 || before > now {
        after_a_clock_went_back(now)?;
    }
    note_missed(now, before.min(now))?;
    note_skipped(now)?;
    transaction(|| spi::bookkeeping(|| start(now)))?;
    database.looked.store(now, Ordering::Release);

    let next = transaction(|| spi::bookkeeping(next_due))?;
    database.scheduled.store(i32::from(next.is_some()), Ordering::Release);
    Ok(match next {
        Some(next) if next <= now => Outlook { waiting: true, next: None },
        Some(next) => {
            let left = next.saturating_sub(catalog::now()).max(0) as u64;
            Outlook { waiting: false, next: Some(Duration::from_micros(left)) }
        }
        None => Outlook::default(),
    })
}

/// When the next active schedule is due, or was.
fn next_due() -> Result<Option<i64>> {
    let next = spi::query_one(
        "SELECT pg_catalog.min(next_run) FROM upkeep._schedule WHERE NOT paused AND hold IS NULL",
        &[],
        |row| row.get::<pgrx::datum::TimestampWithTimeZone>(1),
    )?;
    Ok(next.flatten().map(|at| at.into_inner()))
}

/// Schedules that are due, and the job of their unfinished run; after these it is `each`'s to change them.
fn each_of(
    sql: &str,
    args: impl Fn() -> [pgrx::datum::DatumWithOid<'static>; 3],
    each: impl Fn(&Entry, Option<Uuid>) -> Result<()>,
) -> Result<()> {
    loop {
        let handled = transaction(|| {
            spi::bookkeeping(|| {
                let found = spi::execute_returning(sql, &args(), |row| Ok((Entry::read(&row)?, row.get::<Uuid>(10)?)))?;
                for (entry, job) in &found {
                    each(entry, *job).or_else(|error| give_up(entry, &error))?;
                }
                Ok(found.len())
            })
        })?;
        if (handled as i64) < PORTION {
            return Ok(());
        }
    }
}

/// A schedule that cannot be understood any more (its time zone is gone) stops, and the others go on. What the
/// server raises does not come here.
fn give_up(entry: &Entry, error: &Error) -> Result<()> {
    store::set_hold(entry.id, &error.message)
}

/// Works out anew what was worked out at a time that has not come yet.
fn after_a_clock_went_back(now: i64) -> Result<()> {
    let last = std::cell::Cell::new(Uuid::from_bytes([0; 16]));
    each_of(
        concat!(
            "SELECT ",
            entry_columns!(),
            ", NULL::pg_catalog.uuid FROM upkeep._schedule s
             WHERE s.based_on OPERATOR(pg_catalog.>) $1 AND s.id OPERATOR(pg_catalog.>) $3 AND s.next_run IS NOT NULL
             ORDER BY s.id LIMIT $2 FOR UPDATE"
        ),
        || [store::timestamp(now).into(), PORTION.into(), last.get().into()],
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
fn note_missed(now: i64, before: i64) -> Result<()> {
    each_of(
        concat!(
            "SELECT ",
            entry_columns!(),
            ", NULL::pg_catalog.uuid FROM upkeep._schedule s
             WHERE NOT s.paused AND s.hold IS NULL AND NOT s.owed
               AND s.next_run OPERATOR(pg_catalog.<) $1 AND s.next_run OPERATOR(pg_catalog.>) $3
             ORDER BY s.next_run LIMIT $2 FOR UPDATE SKIP LOCKED"
        ),
        || [store::timestamp(now - GRACE).into(), PORTION.into(), store::timestamp(before).into()],
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
fn note_skipped(now: i64) -> Result<()> {
    each_of(
        concat!(
            "SELECT ",
            entry_columns!(),
            ", r.job FROM upkeep._schedule_run r
             JOIN upkeep._schedule s ON s.id OPERATOR(pg_catalog.=) r.schedule
             WHERE r.finished_at IS NULL AND NOT s.paused AND s.hold IS NULL AND NOT s.owed
               AND s.next_run OPERATOR(pg_catalog.<=) $1 AND $3 IS NULL
             LIMIT $2 FOR UPDATE OF s SKIP LOCKED"
        ),
        || [store::timestamp(now).into(), PORTION.into(), None::<Uuid>.into()],
        |entry, job| {
            let Some(due) = entry.next_run else { return Ok(()) };
            let (next, passed) = entry.rhythm()?.advance(due, now);
            store::add_not_run(entry.id, "skipped", job, due, passed + 1)?;
            store::set_next_run(entry.id, next, now, false)
        },
    )
}

/// Makes jobs of the most overdue schedules, as many as there are workers free.
fn start(now: i64) -> Result<()> {
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
               AND NOT EXISTS (SELECT 1 FROM upkeep._schedule_run r
                               WHERE r.schedule OPERATOR(pg_catalog.=) s.id AND r.finished_at IS NULL)
             ORDER BY s.next_run LIMIT $2 FOR UPDATE OF s SKIP LOCKED"
        ),
        &[store::timestamp(now).into(), room.into()],
        |row| Entry::read(&row),
    )?;
    for entry in &due {
        start_one(entry, now).or_else(|error| give_up(entry, &error))?;
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
