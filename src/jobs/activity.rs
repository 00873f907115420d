//! Who of us is running, read from the server's own list of processes: it cannot
//! be out of date, and nothing has to be cleaned up after a crash.

use std::time::Duration;

use pgrx::datum::TimestampWithTimeZone;

use super::chore::Visit;
use crate::error::Result;
use crate::jobs::raw::segment::{self, Segment};
use crate::server::catch::transaction;
use crate::server::commit::Counters;
use crate::server::lock::{Lock, Purpose};
use crate::server::process::Process;
use crate::server::{Oid, catalog, commit, spi, timeout, worker};

pub const LAUNCHER: &str = "pg_upkeep launcher";
pub const SCHEDULER: &str = "pg_upkeep scheduler";
pub const EXECUTOR: &str = "pg_upkeep executor";

/// The launcher that looks after this database.
pub struct Launcher {
    pub pid: i32,
    pub preloaded: bool,
    pub handle: u32,
    pub segment: &'static Segment,
}

/// How a launcher tells everybody where its segment is and whom it serves
/// (database 0: all). An application name may have 63 bytes.
pub fn launcher_name(segment: u32, database: u32) -> String {
    format!("segment={segment} database={database}")
}

fn parse_launcher_name(name: &str) -> Option<(u32, u32)> {
    let (segment, database) = name.strip_prefix("segment=")?.split_once(" database=")?;
    Some((segment.parse().ok()?, database.parse().ok()?))
}

/// The segment of the launcher of this database. Called in a transaction.
pub fn current_segment() -> Result<Option<u32>> {
    Ok(launcher()?.map(|launcher| launcher.handle))
}

/// The launcher of this database, if there is one. Called in a transaction.
pub fn launcher() -> Result<Option<Launcher>> {
    let mine = catalog::my_database().to_u32();
    let found = processes(
        "SELECT a.pid, a.application_name FROM pg_catalog.pg_stat_get_activity(NULL) a
         WHERE a.backend_type OPERATOR(pg_catalog.=) 'pg_upkeep launcher'
         ORDER BY a.backend_start",
        |row| Ok((row.require::<i32>(1)?, row.get::<String>(2)?.unwrap_or_default())),
    )?;
    Ok(found.into_iter().find_map(|(pid, name)| {
        let (handle, database) = parse_launcher_name(&name)?;
        if database != 0 && database != mine {
            return None;
        }
        Some(Launcher { pid, preloaded: database == 0, handle, segment: segment::attach(handle)? })
    }))
}

/// Asks for a scheduler in this database once the caller's transaction has
/// committed. False: there is no launcher to ask.
pub fn wake_at_commit() -> Result<bool> {
    // Ours until we end, also if that is long after PREPARE TRANSACTION: the launcher asks for it, and one that comes later, too.
    Lock::new(Purpose::Uncommitted, 0).share_for_transaction();
    let Some(launcher) = launcher()? else { return Ok(false) };
    let Some(entry) = launcher.segment.database(catalog::my_database()) else { return Ok(false) };
    commit::count(launcher.pid, Counters { committed: &entry.wake, prepared: &entry.prepared });
    Ok(true)
}

/// How many executors started before this one: it may stay while that is less
/// than `upkeep.max_workers`, so that two schedulers cannot overrun it together.
pub fn executors_before_me() -> Result<i64> {
    let counts = processes(
        "SELECT pg_catalog.count(*)
         FROM pg_catalog.pg_stat_get_activity(NULL) a,
              pg_catalog.pg_stat_get_activity(pg_catalog.pg_backend_pid()) me
         WHERE a.backend_type OPERATOR(pg_catalog.=) 'pg_upkeep executor'
           AND (a.backend_start OPERATOR(pg_catalog.<) me.backend_start
                OR a.backend_start OPERATOR(pg_catalog.=) me.backend_start
                   AND a.pid OPERATOR(pg_catalog.<) me.pid)",
        |row| row.require(1),
    )?;
    Ok(counts.into_iter().next().unwrap_or(0))
}

/// Our workers that are connected to a database.
pub fn workers_in(database: Oid) -> Result<Vec<Process>> {
    spi::bookkeeping(|| {
        catalog::forget_process_list();
        spi::query(
            "SELECT a.pid, a.backend_start FROM pg_catalog.pg_stat_get_activity(NULL) a
             WHERE a.datid OPERATOR(pg_catalog.=) $1
               AND a.backend_type OPERATOR(pg_catalog.=) ANY (ARRAY['pg_upkeep scheduler', 'pg_upkeep executor'])
             ORDER BY a.backend_type DESC",
            &[database.into()],
            |row| process(&row),
        )
    })
}

/// Schedulers and executors on the whole server.
pub fn worker_counts() -> Result<(i64, i64)> {
    let counts = processes(
        "SELECT pg_catalog.count(*) FILTER (WHERE a.backend_type OPERATOR(pg_catalog.=) 'pg_upkeep scheduler'),
                pg_catalog.count(*) FILTER (WHERE a.backend_type OPERATOR(pg_catalog.=) 'pg_upkeep executor')
         FROM pg_catalog.pg_stat_get_activity(NULL) a",
        |row| Ok((row.require(1)?, row.require(2)?)),
    )?;
    Ok(counts.into_iter().next().unwrap_or((0, 0)))
}

/// Cancels at commit what the executors of a job are doing.
pub fn interrupt_executors(job: pgrx::Uuid) -> Result<()> {
    executors(job)?.into_iter().for_each(commit::interrupt);
    Ok(())
}

/// When a job that was canceled is canceled once more, and how often from then on.
const CANCEL_AGAIN: Duration = Duration::from_secs(2);

/// Ends what is still being done for jobs that were canceled a while ago. The signal at the commit may have hit their
/// executor between two statements: it is canceled again. What catches that is ended with its worker; not one that has
/// the answer of its command in hand and cannot record it yet. In a worker, between transactions.
pub fn end_canceled() -> Result<Visit> {
    let left = transaction(|| {
        spi::bookkeeping(|| {
            catalog::forget_process_list();
            spi::query(
                "SELECT s.pid, s.backend_start,
                        pg_catalog.date_part('epoch', pg_catalog.clock_timestamp() OPERATOR(pg_catalog.-) j.finished_at),
                        coalesce(s.cursor OPERATOR(pg_catalog.?) 'answered', false)
                 FROM upkeep._job_slot s
                 JOIN upkeep._job j ON j.id OPERATOR(pg_catalog.=) s.job
                 WHERE s.pid IS NOT NULL AND j.state OPERATOR(pg_catalog.=) 'canceled'
                   AND upkeep._is_executor(s.pid, s.backend_start)",
                &[],
                |row| {
                    let since: f64 = row.require(3)?;
                    Ok((process(&row)?, Duration::from_secs_f64(since.clamp(0.0, 1e9)), row.require::<bool>(4)?))
                },
            )
        })
    })?;
    let mut visit = Visit::default();
    for (executor, since, has_answer) in left {
        visit.again_in(CANCEL_AGAIN);
        if since >= CANCEL_AGAIN + timeout::GRACE && !has_answer {
            worker::terminate(executor);
        } else if since >= CANCEL_AGAIN {
            executor.signal(libc::SIGINT);
        }
    }
    Ok(visit)
}

/// Has the executors of a job look at it at commit, where they wait.
pub fn wake_executors(job: pgrx::Uuid) -> Result<()> {
    executors(job)?.into_iter().for_each(|executor| commit::wake(executor.pid));
    Ok(())
}

fn executors(job: pgrx::Uuid) -> Result<Vec<Process>> {
    spi::bookkeeping(|| {
        spi::query(
            "SELECT s.pid, s.backend_start FROM upkeep._job_slot s
             WHERE s.job OPERATOR(pg_catalog.=) $1 AND upkeep._is_executor(s.pid, s.backend_start)",
            &[job.into()],
            |row| process(&row),
        )
    })
}

/// The first two columns of a row.
fn process(row: &spi::Row<'_>) -> Result<Process> {
    Ok(Process { pid: row.require(1)?, start: row.require::<TimestampWithTimeZone>(2)?.into_inner() })
}

/// Other people's processes are hidden from ordinary roles; ours must not be.
fn processes<T>(sql: &str, each: impl Fn(spi::Row<'_>) -> Result<T>) -> Result<Vec<T>> {
    catalog::forget_process_list();
    spi::bookkeeping(|| spi::query(sql, &[], each))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_launcher_name_can_be_read_back_and_fits() {
        let name = launcher_name(u32::MAX, u32::MAX);
        assert!(name.len() < 64);
        assert_eq!(parse_launcher_name(&name), Some((u32::MAX, u32::MAX)));
        assert_eq!(parse_launcher_name("psql"), None);
    }
}
