//! `pause_all()` and `resume_all()`: all jobs of the database that nobody has locked, and what else is held with them, at once. Somebody's
//! open transaction keeps what it has locked, and the caller is told which (LAW 32).

use std::collections::HashSet;
use std::fmt::Write;
use std::time::{Duration, Instant};

use pgrx::Uuid;
use pgrx::prelude::*;

use super::chore::Held;
use super::claims::Wait;
use super::kind::Job;
use super::owners::Adopted;
use super::{children, claims, forget, owners, queue, registry, store};
use crate::calls::{arguments, standing};
use crate::error::*;
use crate::server::json::JsonB;
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
            AND (kind OPERATOR(pg_catalog.<>) ALL ($1)
                 OR NOT EXISTS (SELECT 1 FROM upkeep._job_slot s
                                WHERE s.job OPERATOR(pg_catalog.=) id AND s.cursor IS NOT NULL))",
        |held| held.to_hold(),
    )?;
    spi::bookkeeping(|| {
        pause_jobs(&found.jobs.locked, reason)?;
        found.others.iter().try_for_each(|(held, rows)| held.hold(&rows.locked, reason))
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
        |held| held.to_release(),
    )?;
    let stay = spi::bookkeeping(|| {
        forget::orphans()?;
        let jobs = resume_jobs(&found.jobs.locked)?;
        let mut stay: Vec<_> = jobs.into_iter().map(|(job, why)| ("job", job, why)).collect();
        for (held, rows) in &found.others {
            let [one, _] = held.words();
            stay.extend(held.release(&rows.locked)?.into_iter().map(|(row, why)| (one, row, why)));
        }
        owners::follow_all()?;
        Ok(stay)
    })?;
    let resumed = found.count() - stay.len() as i32;
    if resumed > 0 {
        queue::wake_or_warn()?;
    }
    found.tell("resumed", "resume_all")?;
    for (what, which, why) in stay.into_iter().take(MOST_NAMED) {
        let message = format!("{what} {which} stays paused: {}", why.message);
        raise::report(Level::Warning, Error { message, ..why });
    }
    Ok(resumed)
}

fn pause_jobs(jobs: &[Uuid], reason: Option<&str>) -> Result<()> {
    spi::execute(
        "UPDATE upkeep._job SET state = 'paused', reason = $2, reason_detail = NULL, parked = NULL, answered = false
         WHERE id OPERATOR(pg_catalog.=) ANY ($1)",
        &[jobs.to_vec().into(), reason.into()],
    )?;
    jobs.iter().try_for_each(|job| store::add_event(*job, "paused", reason))
}

/// Those that stay paused, because they have no owner here or another job has what they need, and why.
fn resume_jobs(jobs: &[Uuid]) -> Result<Vec<(Uuid, Error)>> {
    let Adopted { mut moved, mut stay } = owners::adopt(owners::JOBS, jobs)?;
    // What has ended below them is tried again with them, if it is.
    let below: Vec<Uuid> = children::below(&moved)?.into_iter().filter(|child| !jobs.contains(child)).collect();
    moved.extend(owners::adopt(owners::JOBS, &below)?.moved);
    // Executors of those that came with a dump are elsewhere, and did not end without a word.
    spi::execute(
        "UPDATE upkeep._job_slot SET pid = NULL, backend_start = NULL WHERE job OPERATOR(pg_catalog.=) ANY ($1)",
        &[moved.clone().into()],
    )?;
    // OIDs of another place: of none of them, before any takes its own here.
    claims::let_go(&moved)?;
    for job in as_written(&moved)? {
        store::steps::moved_here(job.id)?;
        // One of a kind that is not known has nothing to look up, and fails when it is started.
        if let Ok(kind) = registry::kind(&job.kind, &job.params) {
            kind.moved_here(job.id)?;
        }
    }
    spi::execute(
        "UPDATE upkeep._job SET
             relid = CASE WHEN relid IS NOT NULL THEN pg_catalog.to_regclass(target)::pg_catalog.oid END
         WHERE id OPERATOR(pg_catalog.=) ANY ($1)",
        &[moved.into()],
    )?;
    let here: Vec<Uuid> = jobs.iter().filter(|job| !stay.iter().any(|(other, _)| other == *job)).copied().collect();
    for job in as_written(&here)? {
        // One of a kind that is not known, or that makes no sense, fails when it is started.
        let wanted = registry::kind(&job.kind, &job.params).and_then(|kind| kind.claims(job.relid, &job.params));
        match wanted.map_or(Ok(()), |wanted| claims::keep_or_take(job.id, &wanted, Wait::Never)) {
            Err(refused) if [OBJECT_IN_USE, LOCK_NOT_AVAILABLE].contains(&refused.sqlstate) => {
                stay.push((job.id, refused.hint(format!("Then: SELECT upkeep.resume('{}');", job.id))));
            }
            other => other?,
        }
    }
    spi::execute(
        "UPDATE upkeep._job SET state = 'queued', reason = NULL, reason_detail = NULL, not_before = NULL, waits_for = NULL,
                parked = NULL, answered = false
         WHERE id OPERATOR(pg_catalog.=) ANY ($1) AND id OPERATOR(pg_catalog.<>) ALL ($2)",
        &[jobs.to_vec().into(), stay.iter().map(|(job, _)| *job).collect::<Vec<_>>().into()],
    )?;
    for job in jobs {
        match stay.iter().find(|(other, _)| other == job) {
            None => store::add_event(*job, "queued", Some("resumed by resume_all()"))?,
            Some((_, refused)) => {
                store::stay_paused(*job, &refused.message)?;
                store::add_event(*job, "paused", Some(&refused.message))?;
            }
        }
    }
    Ok(stay)
}

/// Jobs as they are written down now.
fn as_written(jobs: &[Uuid]) -> Result<Vec<Job>> {
    spi::execute_returning(
        "SELECT id, kind, owner, relid, target, params FROM upkeep._job
         WHERE id OPERATOR(pg_catalog.=) ANY ($1) ORDER BY created_at, id",
        &[jobs.to_vec().into()],
        |row| {
            Ok(Job {
                id: row.next()?,
                kind: row.next()?,
                owner: row.next()?,
                relid: row.next_or_null()?,
                target: row.next()?,
                params: row.next::<JsonB>()?.0,
            })
        },
    )
}

/// Rows that are meant: those that could be locked, and the rest.
struct Rows {
    locked: Vec<Uuid>,
    left: Vec<Uuid>,
}

struct Found {
    jobs: Rows,
    others: Vec<(&'static dyn Held, Rows)>,
}

/// Locks all that these conditions mean, but for what somebody else keeps locked. `$1` of that on jobs: the kinds that cannot stop
/// half way.
fn lock(jobs: &str, of: impl Fn(&dyn Held) -> &'static str) -> Result<Found> {
    let started = Instant::now();
    loop {
        let found = spi::bookkeeping(|| {
            let others = registry::chores().iter().filter_map(|chore| chore.held());
            Ok(Found {
                jobs: lock_rows(owners::JOBS, jobs)?,
                others: others.map(|held| Ok((held, lock_rows(held.table(), of(held))?))).collect::<Result<_>>()?,
            })
        })?;
        if found.is_complete() || started.elapsed() >= PATIENCE {
            return Ok(found);
        }
        worker::wait_in_session(AGAIN);
    }
}

/// What is locked now, with what was before, and what could not be. As strongly as an UPDATE of a state does: steps that
/// write events or rows of a job hold its row in a weaker mode, one after the other.
fn lock_rows(table: &str, condition: &str) -> Result<Rows> {
    let in_one_go = registry::names(|nature| !nature.resumable);
    let select = |locking: &str| {
        spi::execute_returning(
            &format!("SELECT id FROM upkeep.{table} WHERE {condition} ORDER BY created_at, id {locking}"),
            &[in_one_go.clone().into()],
            |row| row.require::<Uuid>(1),
        )
    };
    let locked = select("FOR NO KEY UPDATE SKIP LOCKED")?;
    let known: HashSet<[u8; 16]> = locked.iter().map(|id| *id.as_bytes()).collect();
    let left = select("")?.into_iter().filter(|id| !known.contains(id.as_bytes())).collect();
    Ok(Rows { locked, left })
}

impl Found {
    /// What is called how, and which of it is meant.
    fn rows(&self) -> impl Iterator<Item = ([&'static str; 2], &Rows)> {
        let others = self.others.iter().map(|(held, rows)| (held.words(), rows));
        std::iter::once((["job", "jobs"], &self.jobs)).chain(others)
    }

    fn is_complete(&self) -> bool {
        self.rows().all(|(_, rows)| rows.left.is_empty())
    }

    fn count(&self) -> i32 {
        i32::try_from(self.rows().map(|(_, rows)| rows.locked.len()).sum::<usize>()).unwrap_or(i32::MAX)
    }

    /// Says what was passed over, who may have it locked, and what to do.
    fn tell(&self, done: &str, verb: &str) -> Result<()> {
        if self.is_complete() {
            return Ok(());
        }
        let mut what = Vec::new();
        let mut which = Vec::new();
        for ([one, many], Rows { left, .. }) in self.rows().filter(|(_, rows)| !rows.left.is_empty()) {
            let words = if left.len() == 1 { one } else { many };
            what.push(format!("{} {words}", left.len()));
            which.push(named(words, left));
        }
        let were = if self.rows().map(|(_, rows)| rows.left.len()).sum::<usize>() == 1 { "was" } else { "were" };
        let message = format!("{} {were} not {done}: locked by other transactions", what.join(" and "));
        let holders = spi::bookkeeping(holders)?;
        let mut hint = format!("As soon as those have ended: SELECT upkeep.{verb}();");
        if let [first, ..] = &holders[..] {
            let _ = write!(
                hint,
                " What a process does: SELECT usename, query FROM pg_stat_activity WHERE pid = {first}; \
                to end it: SELECT pg_terminate_backend({first});"
            );
        }
        if verb == "pause_all" {
            // The switch that no lock is in the way of.
            hint += " All work of the server stops after the batches in hand with \
                ALTER SYSTEM SET upkeep.enabled = off; SELECT pg_reload_conf();";
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
    let tables: Vec<String> = owners::owned().map(str::to_owned).collect();
    spi::query(
        "SELECT DISTINCT l.pid FROM pg_catalog.pg_lock_status() l
         JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) l.relation
         JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace
         WHERE n.nspname OPERATOR(pg_catalog.=) 'upkeep' AND c.relname::pg_catalog.text OPERATOR(pg_catalog.=) ANY ($2)
           AND l.database OPERATOR(pg_catalog.=) $1
           AND l.mode OPERATOR(pg_catalog.=) ANY (ARRAY['RowShareLock', 'RowExclusiveLock'])
           AND l.pid OPERATOR(pg_catalog.<>) pg_catalog.pg_backend_pid()
         ORDER BY 1 LIMIT 10",
        &[catalog::my_database().into(), tables.into()],
        |row| row.require::<i32>(1),
    )
}
