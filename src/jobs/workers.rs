//! Workers and their state: started and stopped in one database, and `upkeep.status`.

use std::time::Duration;

use pgrx::prelude::*;
use serde_json::{Value, json};

use super::{activity, advice, launcher};
use crate::calls::standing;
use crate::error::*;
use crate::server::json::JsonB;
use crate::server::lock::{Lock, Purpose};
use crate::server::raise::{self, Level};
use crate::server::{catalog, worker};
use crate::settings;

#[pg_extern(sql = false)]
fn start_workers() -> i32 {
    raise::answer(start_launcher())
}

#[pg_extern(sql = false)]
fn stop_workers() -> i32 {
    raise::answer(stop_launcher())
}

/// The facts behind the view `upkeep.status`.
#[pg_extern(sql = false)]
fn status() -> JsonB {
    raise::answer(status_facts().map(JsonB))
}

/// Why nothing runs here, as `upkeep.jobs` says it of jobs that nobody works on; null: jobs run.
#[pg_extern(sql = false)]
fn standstill() -> Option<String> {
    let why = raise::answer(advice::standstill());
    why.map(|why| format!("waits, because {}", why.reason))
}

fn start_launcher() -> Result<i32> {
    standing::refuse_in_recovery("start workers")?;
    if let Some(running) = activity::launcher()? {
        raise::report(
            Level::Notice,
            Error::new(
                SqlState(0),
                if running.preloaded {
                    "workers are running already: pg_upkeep is in shared_preload_libraries"
                } else {
                    "workers are running already in this database"
                },
            ),
        );
        return Ok(0);
    }
    // What this transaction has asked for is seen at its commit.
    Lock::new(Purpose::Uncommitted, 0).share_for_transaction();
    let handle = launcher::start_for_this_database().ok_or_else(|| {
        Error::new(INSUFFICIENT_RESOURCES, "could not start a background worker")
            .detail("All of max_worker_processes are in use.")
            .hint("Raise max_worker_processes (needs a restart), or end other background workers.")
    })?;
    handle.wait_for_startup()?;
    // It can be asked for work once it has published its segment.
    for _ in 0..500 {
        if activity::launcher()?.is_some() {
            return Ok(1);
        }
        worker::wait_in_session(Duration::from_millis(10));
    }
    Err(Error::new(INTERNAL_ERROR, "the launcher was started but does not answer")
        .hint("The reason is in the server's log."))
}

fn stop_launcher() -> Result<i32> {
    let Some(running) = activity::launcher()? else { return Ok(0) };
    if running.preloaded {
        return Err(Error::new(
            OBJECT_NOT_IN_PREREQUISITE_STATE,
            "the workers belong to shared_preload_libraries and are not this database's to stop",
        )
        .hint("ALTER SYSTEM SET upkeep.enabled = off; SELECT pg_reload_conf(); or pause the jobs: SELECT upkeep.pause_all('why');"));
    }
    running.segment.stop();
    worker::wake(running.pid);
    let workers = activity::workers_in(catalog::my_database())?;
    for &process in &workers {
        worker::terminate(process);
    }
    for _ in 0..500 {
        if activity::launcher()?.is_none() && activity::workers_in(catalog::my_database())?.is_empty() {
            break;
        }
        worker::wait_in_session(Duration::from_millis(10));
    }
    Ok(1 + workers.len() as i32)
}

fn status_facts() -> Result<Value> {
    let launcher = activity::launcher()?;
    let (schedulers, executors) = activity::worker_counts()?;
    let advice = advice::all(launcher.as_ref())?.join("\n");
    Ok(json!({
        "workers": launcher.as_ref().map_or("not running", |l| if l.preloaded { "preloaded" } else { "dynamic" }),
        "launcher_pid": launcher.as_ref().map(|l| l.pid),
        "schedulers": schedulers,
        "executors": executors,
        "enabled": settings::enabled(),
        "max_workers": settings::max_workers(),
        "databases": settings::databases(),
        "advice": Some(advice).filter(|advice| !advice.is_empty()),
    }))
}
