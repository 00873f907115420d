//! Those who have a table for long, and what becomes of a job that needs a lock of it meanwhile: for tests, and for measuring how
//! long others wait beside.

use std::process::Stdio;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result, anyhow};

use crate::beside::Beside;
use crate::cluster::{Cluster, ClusterBuilder, PATIENCE};
use crate::session::Session;
use crate::wait::wait_for;

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum InTheWay {
    LongSelect,
    IdleTransaction,
    PreparedTransaction,
    Autovacuum,
    AutovacuumAgainstWraparound,
    ConcurrentIndex,
    Dump,
}

impl InTheWay {
    /// Those who are left alone.
    pub const PATIENTLY: [InTheWay; 6] = [
        InTheWay::LongSelect,
        InTheWay::IdleTransaction,
        InTheWay::PreparedTransaction,
        InTheWay::AutovacuumAgainstWraparound,
        InTheWay::ConcurrentIndex,
        InTheWay::Dump,
    ];
}

/// A server on which all of them can be.
pub fn server(server: ClusterBuilder) -> ClusterBuilder {
    server.set("max_prepared_transactions", 5).set("autovacuum_naptime", 1).set("autovacuum_max_workers", 3)
}

/// The table `t` that somebody has, of a few hundred pages; `d` is to be filled.
pub fn make_table(session: &mut Session) -> Result<()> {
    session.run(
        "CREATE TABLE t (id int PRIMARY KEY, n int NOT NULL, d int, other int DEFAULT 0, wide text) WITH (autovacuum_enabled = off);
         ALTER TABLE t ALTER wide SET STORAGE PLAIN;
         INSERT INTO t SELECT g, g, NULL, 0, repeat('x', 1500) FROM generate_series(1, 2000) g;
         CREATE TABLE zzz (id int)",
    )
}

/// A job that makes a trigger on `t`, and drops it in the end.
pub fn start_job(session: &mut Session) -> Result<String> {
    session.text("SELECT upkeep.backfill('t', 'd = 2 * n', 'd IS NULL', fill_new_rows => true, workers => 1)")
}

/// A reader and a writer of `t`.
pub fn beside(connect: impl Fn() -> Result<Session>) -> Result<Beside> {
    Beside::start(connect, "SELECT n FROM t WHERE id = 7", "UPDATE t SET other = other + 1 WHERE id = 1")
}

/// Somebody who has `t` until he is told to let go.
pub struct Holder {
    /// As he is called to people, or the beginning of it.
    pub called: String,
    let_go: Box<dyn FnOnce() -> Result<()>>,
}

impl Holder {
    fn new(called: impl Into<String>, let_go: impl FnOnce() -> Result<()> + 'static) -> Self {
        Self { called: called.into(), let_go: Box::new(let_go) }
    }

    pub fn let_go(self) -> Result<()> {
        (self.let_go)()
    }
}

impl InTheWay {
    /// Takes `t`, and comes back when it is had.
    pub fn take(self, cluster: &Cluster, database: &str) -> Result<Holder> {
        let mut session = cluster.connect(database)?;
        match self {
            Self::LongSelect => {
                let (pid, running) = in_background(session, "SELECT pg_sleep(3600) FROM t LIMIT 1")?;
                let mut other = cluster.connect(database)?;
                wait_for_lock(&mut other, &format!("l.pid = {pid}"))?;
                Ok(Holder::new(format!("pid {pid} (postgres, active for"), move || {
                    other.run(&format!("SELECT pg_cancel_backend({pid})"))?;
                    // It was canceled.
                    let _ = join(running)?;
                    Ok(())
                }))
            }
            Self::IdleTransaction => {
                session.run("BEGIN; UPDATE t SET other = 0 WHERE id = 2")?;
                let pid = session.pid()?;
                Ok(Holder::new(format!("pid {pid} (postgres, idle in transaction for"), move || session.run("COMMIT")))
            }
            Self::PreparedTransaction => {
                session.run("BEGIN; UPDATE t SET other = 0 WHERE id = 2; PREPARE TRANSACTION 'left over'")?;
                Ok(Holder::new("prepared transaction \"left over\" of postgres", move || {
                    session.run("COMMIT PREPARED 'left over'")
                }))
            }
            Self::Autovacuum => vacuum(session, "autovacuum, pid", "autovacuum_enabled = on"),
            Self::AutovacuumAgainstWraparound => {
                // The table is old enough from one moment on, with all that makes the vacuum slow: no quick one comes before.
                session.run("SET synchronous_commit = off")?;
                session
                    .run("DO $$BEGIN FOR i IN 1..110000 LOOP PERFORM pg_current_xact_id(); COMMIT; END LOOP; END$$")?;
                vacuum(session, "autovacuum (to prevent wraparound), pid", "autovacuum_freeze_max_age = 100000")
            }
            Self::ConcurrentIndex => {
                // It waits for a writer, and has the table meanwhile.
                let mut writer = cluster.connect(database)?;
                writer.run("BEGIN; UPDATE t SET other = 0 WHERE id = 2")?;
                let (pid, running) = in_background(session, "CREATE INDEX CONCURRENTLY t_n ON t (n)")?;
                let mut other = cluster.connect(database)?;
                wait_for_lock(&mut other, &format!("l.pid = {pid} AND l.mode = 'ShareUpdateExclusiveLock'"))?;
                Ok(Holder::new(format!("pid {pid} (postgres, active for"), move || {
                    writer.run("COMMIT")?;
                    join(running)?
                }))
            }
            Self::Dump => {
                // It stands before the last table, and has all others.
                session.run("BEGIN; LOCK TABLE zzz")?;
                let mut pg_dump = cluster.client_command("pg_dump", database);
                let mut dump = pg_dump.stdout(Stdio::null()).spawn().context("pg_dump")?;
                let mut other = cluster.connect(database)?;
                let pid = wait_for_lock(&mut other, "a.application_name = 'pg_dump'")?;
                Ok(Holder::new(format!("pid {pid} (postgres, active for"), move || {
                    session.run("ROLLBACK")?;
                    dump.wait()?.success().then_some(()).context("pg_dump has failed")
                }))
            }
        }
    }
}

/// An autovacuum that takes its time: a moment for each page. `wanted`: because of this it comes.
fn vacuum(mut session: Session, called: &str, wanted: &str) -> Result<Holder> {
    session.run(&format!(
        "UPDATE t SET other = 1 WHERE id % 2 = 0;
         ALTER TABLE t SET ({wanted}, autovacuum_vacuum_threshold = 1, autovacuum_vacuum_scale_factor = 0,
             autovacuum_vacuum_cost_delay = 100, autovacuum_vacuum_cost_limit = 1)"
    ))?;
    let pid =
        wait_for_lock(&mut session, "a.backend_type = 'autovacuum worker' AND l.mode = 'ShareUpdateExclusiveLock'")?;
    Ok(Holder::new(format!("{called} {pid}"), move || {
        session.run("ALTER TABLE t SET (autovacuum_enabled = off)").or(Ok(()))
    }))
}

/// The process that has this lock of `t`.
fn wait_for_lock(session: &mut Session, which: &str) -> Result<i32> {
    let look = format!(
        "SELECT l.pid FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid
         WHERE l.relation = 't'::regclass AND l.granted AND {which}"
    );
    wait_for(&format!("a lock: {which}"), PATIENCE, || Ok(session.values::<i32>(&look)?.first().copied()))
}

fn in_background(mut session: Session, sql: &'static str) -> Result<(i32, JoinHandle<Result<()>>)> {
    let pid = session.pid()?;
    Ok((pid, thread::spawn(move || session.run(sql))))
}

fn join(thread: JoinHandle<Result<()>>) -> Result<Result<()>> {
    thread.join().map_err(|_| anyhow!("somebody panicked"))
}

/// How long a job had to try for its trigger.
pub fn time_to_trigger(session: &mut Session, job: &str) -> Result<Option<Duration>> {
    let look = format!(
        "SELECT extract(epoch FROM c.at - l.at)::float8
         FROM (SELECT min(happened_at) AS at FROM upkeep.job_events WHERE job = '{job}' AND event = 'locked out') l,
              (SELECT min(happened_at) AS at FROM upkeep.job_events WHERE job = '{job}' AND event = 'trigger created') c
         WHERE c.at > l.at"
    );
    Ok(session.values::<f64>(&look)?.first().map(|&seconds| Duration::from_secs_f64(seconds)))
}
