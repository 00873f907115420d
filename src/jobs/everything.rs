//! `pause_all()` and `resume_all()`: all jobs and schedules of the database that nobody has locked, at once. Somebody's
//! open transaction keeps what it has locked, and the caller is told which (LAW 32).

use std::collections::HashSet;
use std::fmt::Write;
use std::time::{Duration, Instant};

use pgrx::Uuid;
use pgrx::prelude::*;

use super::owners::{self, Owned};
use super::{forget, queue, store};
use crate::backfill;
use crate::calls::{arguments, standing};
use crate::error::*;
use crate::schedules;
use crate::server::raise::{self, Level};
use crate::server::{catalog, spi, worker};

/// Rows are locked for moments all the time, by steps of executors and looks of schedulers: those are waited for so long.
const PATIENCE: Duration = Duration::from_secs(1);
const AGAIN: Duration = Duration::from_millis(50);

/// So many are named.
const MOST_NAMED: usize = 20;

#[pg_extern(sql = false)]
fn pause_all(reason: Option<&str>) -> i32 {
    raise::answer(pause(reason))
}

#[pg_extern(sql = false)]
fn resume_all() -> i32 {
    raise::answer(resume())
}

fn pause(reason: Option<&str>) -> Result<i32> {
    arguments::check_text("reason", reason)?;
    standing::refuse_in_recovery("pause jobs")?;
    standing::refuse_other_version()?;
    let found = lock(
        "state OPERATOR(pg_catalog.=) 'queued'
         OR state OPERATOR(pg_catalog.=) 'running'
            AND (kind OPERATOR(pg_catalog.<>) 'command'
                 OR NOT EXISTS (SELECT 1 FROM upkeep._job_slot s
                                WHERE s.job OPERATOR(pg_catalog.=) id AND s.cursor IS NOT NULL))",
        "NOT paused AND hold IS NULL",
    )?;
    spi::bookkeeping(|| {
        pause_jobs(&found.jobs, reason)?;
        schedules::hold_all(&found.schedules, reason)
    })?;
    found.tell("paused", "pause_all")?;
    Ok(found.count())
}

/// Resumes everything, and lets what came with a dump or a copy go on here: the table is looked up again by name,
/// and the owner too if it is of another server.
fn resume() -> Result<i32> {
    standing::refuse_in_recovery("resume jobs")?;
    standing::refuse_other_version()?;
    let found = lock(
        "state OPERATOR(pg_catalog.=) 'paused'
         OR state OPERATOR(pg_catalog.=) ANY (ARRAY['queued', 'running'])
            AND NOT upkeep._is_here(system_identifier, database)",
        "hold IS NOT NULL OR NOT upkeep._is_here(system_identifier, database)",
    )?;
    spi::bookkeeping(|| {
        forget::orphans()?;
        resume_jobs(&found.jobs)?;
        schedules::release_all(&found.schedules)?;
        owners::follow_all()
    })?;
    if found.count() > 0 {
        queue::wake_or_warn()?;
    }
    found.tell("resumed", "resume_all")?;
    Ok(found.count())
}

fn pause_jobs(jobs: &[Uuid], reason: Option<&str>) -> Result<()> {
    spi::execute(
        "UPDATE upkeep._job SET state = 'paused', reason = $2, reason_detail = NULL
         WHERE id OPERATOR(pg_catalog.=) ANY ($1)",
        &[jobs.to_vec().into(), reason.into()],
    )?;
    jobs.iter().try_for_each(|job| store::add_event(*job, "paused", reason))
}

fn resume_jobs(jobs: &[Uuid]) -> Result<()> {
    // Executors of those that came with a dump are elsewhere, and did not end without a word.
    spi::execute(
        "UPDATE upkeep._job_slot s SET pid = NULL, backend_start = NULL
         FROM upkeep._job j
         WHERE j.id OPERATOR(pg_catalog.=) s.job AND j.id OPERATOR(pg_catalog.=) ANY ($1)
           AND NOT upkeep._is_here(j.system_identifier, j.database)",
        &[jobs.to_vec().into()],
    )?;
    backfill::list::restore(jobs, catalog::system_identifier(), catalog::my_database())?;
    spi::execute(
        "UPDATE upkeep._job j SET
             relid = CASE WHEN j.relid IS NOT NULL THEN pg_catalog.to_regclass(j.target)::pg_catalog.oid END,
             -- What names meant there says nothing here: the first run takes their meaning anew.
             params = j.params OPERATOR(pg_catalog.-) 'fingerprint'
         WHERE j.id OPERATOR(pg_catalog.=) ANY ($1) AND NOT upkeep._is_here(j.system_identifier, j.database)",
        &[jobs.to_vec().into()],
    )?;
    owners::adopt(Owned::Jobs, jobs)?;
    spi::execute(
        "UPDATE upkeep._job SET state = 'queued', reason = NULL, reason_detail = NULL, not_before = NULL, waits_for = NULL
         WHERE id OPERATOR(pg_catalog.=) ANY ($1)",
        &[jobs.to_vec().into()],
    )?;
    jobs.iter().try_for_each(|job| store::add_event(*job, "queued", Some("resumed by resume_all()")))
}

/// What is meant, as far as it could be locked, and the rest.
struct Found {
    jobs: Vec<Uuid>,
    schedules: Vec<Uuid>,
    locked_jobs: Vec<Uuid>,
    locked_schedules: Vec<Uuid>,
}

/// Locks all that these conditions mean, but for what somebody else keeps locked.
fn lock(jobs: &str, schedules: &str) -> Result<Found> {
    let started = Instant::now();
    loop {
        let found = spi::bookkeeping(|| {
            let (jobs, locked_jobs) = lock_rows("_job", jobs)?;
            let (schedules, locked_schedules) = lock_rows("_schedule", schedules)?;
            Ok(Found { jobs, schedules, locked_jobs, locked_schedules })
        })?;
        if found.is_complete() || started.elapsed() >= PATIENCE {
            return Ok(found);
        }
        worker::wait_in_session(AGAIN);
    }
}

/// What is locked now, with what was before, and what could not be. As strongly as an UPDATE of a state does: steps that
/// write events or rows of a job hold its row in a weaker mode, one after the other.
fn lock_rows(table: &str, condition: &str) -> Result<(Vec<Uuid>, Vec<Uuid>)> {
    let select = |locking: &str| {
        spi::execute_returning(
            &format!("SELECT id FROM upkeep.{table} WHERE {condition} ORDER BY created_at, id {locking}"),
            &[],
            |row| row.require::<Uuid>(1),
        )
    };
    let locked = select("FOR NO KEY UPDATE SKIP LOCKED")?;
    let known: HashSet<[u8; 16]> = locked.iter().map(|id| *id.as_bytes()).collect();
    let left = select("")?.into_iter().filter(|id| !known.contains(id.as_bytes())).collect();
    Ok((locked, left))
}

impl Found {
    fn is_complete(&self) -> bool {
        self.locked_jobs.is_empty() && self.locked_schedules.is_empty()
    }

    fn count(&self) -> i32 {
        i32::try_from(self.jobs.len() + self.schedules.len()).unwrap_or(i32::MAX)
    }

    /// Says what was passed over, who may have it locked, and what to do.
    fn tell(&self, done: &str, verb: &str) -> Result<()> {
        if self.is_complete() {
            return Ok(());
        }
        let mut what = Vec::new();
        let mut which = Vec::new();
        for (one, many, locked) in
            [("job", "jobs", &self.locked_jobs), ("schedule", "schedules", &self.locked_schedules)]
        {
            let words = if locked.len() == 1 { one } else { many };
            if !locked.is_empty() {
                what.push(format!("{} {words}", locked.len()));
                which.push(named(words, locked));
            }
        }
        let were = if self.locked_jobs.len() + self.locked_schedules.len() == 1 { "was" } else { "were" };
        let message = format!("{} {were} not {done}: locked by other transactions", what.join(" and "));
        let holders = spi::bookkeeping(holders)?;
        let mut hint = format!("As soon as those have ended: SELECT upkeep.{verb}();");
        if let [first, ..] = &holders[..] {
            let _ = write!(
                hint,
                " What a process does: SELECT usename, query FROM pg_stat_activity WHERE pid = {first}; to end it: SELECT pg_terminate_backend({first});"
            );
        }
        if verb == "pause_all" {
            // The switch that no lock is in the way of.
            hint += " All work of the server stops after the batches in hand with ALTER SYSTEM SET upkeep.enabled = off; SELECT pg_reload_conf();";
        }
        let mut detail = format!("{}.", which.join("; "));
        if !holders.is_empty() {
            let pids: Vec<String> = holders.iter().map(i32::to_string).collect();
            let _ = write!(detail, " Processes that have rows of these tables locked: {}.", pids.join(", "));
        }
        raise::report(Level::Warning, Error::new(LOCK_NOT_AVAILABLE, message).detail(detail).hint(hint));
        Ok(())
    }
}

fn named(words: &str, ids: &[Uuid]) -> String {
    let names: Vec<String> = ids.iter().take(MOST_NAMED).map(Uuid::to_string).collect();
    let more = ids.len().saturating_sub(MOST_NAMED);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{words} {}{more}", names.join(", "))
}

/// Processes with row locks in these tables, our own workers at their steps too. Prepared transactions have none.
fn holders() -> Result<Vec<i32>> {
    spi::query(
        "SELECT DISTINCT l.pid FROM pg_catalog.pg_lock_status() l
         WHERE l.relation OPERATOR(pg_catalog.=) ANY (ARRAY['upkeep._job'::pg_catalog.regclass::pg_catalog.oid,
                                                            'upkeep._schedule'::pg_catalog.regclass::pg_catalog.oid])
           AND l.database OPERATOR(pg_catalog.=) $1
           AND l.mode OPERATOR(pg_catalog.=) ANY (ARRAY['RowShareLock', 'RowExclusiveLock'])
           AND l.pid OPERATOR(pg_catalog.<>) pg_catalog.pg_backend_pid()
         ORDER BY 1 LIMIT 10",
        &[catalog::my_database().into()],
        |row| row.require::<i32>(1),
    )
}
