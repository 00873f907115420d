//! What was asked for and does not happen, and what to type about it: `upkeep.status.advice`, the warnings of new jobs, and why a job
//! waits that nobody works on.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::activity;
use super::activity::Launcher;
use super::registry;
use crate::error::Result;
use crate::server::{catalog, spi, system, worker};
use crate::settings;

/// What jobs are held back by is measured every second while they run.
const STALE: Duration = Duration::from_secs(10);

/// Why no job runs in this database.
pub struct Standstill {
    pub reason: &'static str,
    pub hint: &'static str,
}

pub const NO_WORKER: Standstill = Standstill {
    reason: "no pg_upkeep worker is running",
    hint: "SELECT upkeep.start_workers(); and for good: add pg_upkeep to shared_preload_libraries and restart.",
};

/// `None`: jobs run here, as far as there is room. In a transaction.
pub fn standstill() -> Result<Option<Standstill>> {
    why_nothing_runs(activity::launcher()?.is_some())
}

fn why_nothing_runs(has_launcher: bool) -> Result<Option<Standstill>> {
    let name = catalog::my_database_name();
    let because = |reason, hint| Ok(Some(Standstill { reason, hint }));
    if worker::in_recovery() {
        because("this is a standby", "Jobs carry on here after a promotion.")
    } else if !catalog::extension_is_current()? {
        because(
            "this database has another version of pg_upkeep than the installed library",
            "ALTER EXTENSION pg_upkeep UPDATE;",
        )
    } else if !settings::enabled() {
        because("upkeep.enabled is off", "ALTER SYSTEM SET upkeep.enabled = on; SELECT pg_reload_conf();")
    } else if !has_launcher {
        Ok(Some(NO_WORKER))
    } else if !settings::allows_database(&name) {
        because(
            "upkeep.databases does not list this database",
            "Add this database to upkeep.databases and reload the configuration.",
        )
    } else if settings::max_workers() == 0 {
        because("upkeep.max_workers is 0", "ALTER SYSTEM SET upkeep.max_workers = 4; SELECT pg_reload_conf();")
    } else if !catalog::connectable_databases().iter().any(|database| database.name == name) {
        because(
            "this database is a template, or takes no connections",
            "Jobs run in databases that are neither: ALTER DATABASE .. IS_TEMPLATE false;",
        )
    } else {
        Ok(None)
    }
}

/// All there is to say, one line each.
pub fn all(launcher: Option<&Launcher>) -> Result<Vec<String>> {
    let standstill = why_nothing_runs(launcher.is_some())?;
    let no_job_runs = |why: &Standstill| format!("No job runs, because {}. {}", why.reason, why.hint);
    let mut lines: Vec<String> = standstill.iter().map(no_job_runs).collect();
    if standstill.is_none()
        && let Some(launcher) = launcher
    {
        lines.extend(about_workers(launcher)?);
    }
    if worker::in_recovery() {
        return Ok(lines);
    }
    lines.extend(registry::chores().iter().flat_map(|chore| chore.advice(standstill.is_none())));
    Ok(lines)
}

/// Workers could come, and do they?
fn about_workers(launcher: &Launcher) -> Result<Vec<String>> {
    let mut lines = Vec::new();
    if launcher.segment.without_room.load(Ordering::Acquire) != 0 {
        lines.push(
            "Workers cannot be started: all of max_worker_processes are in use. \
            Raise it (needs a restart), or end other background workers."
                .into(),
        );
    }
    match launcher.segment.database(catalog::my_database()) {
        None => lines.push(
            "No job runs, because too many databases of this server have pg_upkeep. \
            List those that are to have jobs in upkeep.databases."
                .into(),
        ),
        Some(entry) => {
            if entry.passed_over.load(Ordering::Acquire) != 0 {
                lines.push(
                    "Something that is due could not be done and is tried again: \
                    look for \"pg_upkeep scheduler passed over\" in the server's log."
                        .into(),
                );
            }
        }
    }
    if throttled_jobs_run()? {
        let age = launcher.segment.board.taken_at().map(|taken| system::monotonic().saturating_sub(taken));
        if age.is_none_or(|age| age > STALE) {
            lines.push(
                "Jobs wait, because what may hold them back could not be measured for a while: \
                the reason is in the server's log (\"pg_upkeep\")."
                    .into(),
            );
        }
    }
    Ok(lines)
}

/// Does a worker of this database wait or work under limits of the server?
fn throttled_jobs_run() -> Result<bool> {
    let found = spi::bookkeeping(|| {
        spi::query_one(
            "SELECT true FROM upkeep._job_slot s JOIN upkeep._job j ON j.id OPERATOR(pg_catalog.=) s.job
             WHERE j.state OPERATOR(pg_catalog.=) 'running' AND j.kind OPERATOR(pg_catalog.=) ANY ($2)
               AND s.backend_start OPERATOR(pg_catalog.<)
                   (pg_catalog.clock_timestamp() OPERATOR(pg_catalog.-) pg_catalog.make_interval(secs => $1))
               AND upkeep._is_executor(s.pid, s.backend_start)",
            &[STALE.as_secs_f64().into(), registry::names(|nature| nature.throttled).into()],
            |row| row.require::<bool>(1),
        )
    })?;
    Ok(found.is_some())
}
