//! A standby that replays less than a job writes: how late it gets, with a limit and without.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use rustix::process::{Pid, Signal, kill_process};

use super::{DATABASE, Plan, run_job};
use crate::cluster::{Cluster, PATIENCE};
use crate::measure::report::Report;
use crate::measure::series::{Sample, Variant, alternate};
use crate::measure::verdict::{Bound, Comparison, Measure};
use crate::session::Session;
use crate::wait::wait_for;

/// Of each stretch the standby replays the first part and sleeps through the other.
const AWAKE: Duration = Duration::from_millis(60);
const ASLEEP: Duration = Duration::from_millis(540);
const LOOK: Duration = Duration::from_millis(100);
/// Rows of the table: without a limit the standby takes minutes for more.
const MOST_ROWS: u64 = 1_000_000;

pub fn measure(cluster: &Cluster, plan: &Plan, report: &mut Report) -> Result<()> {
    let plan = Plan { rows: plan.rows.min(MOST_ROWS), runs: plan.runs, at: Vec::new(), groups: Vec::new() };
    plan.shape().make_base(&mut cluster.connect(DATABASE)?)?;
    let standby = cluster.standby("slow")?;
    let variant = |name: &str, arguments: &'static str| {
        let (plan, standby) = (&plan, &standby);
        Variant { name: name.into(), run: Box::new(move || run(cluster, standby, plan, arguments)) }
    };
    let mut variants = [
        variant("no limit but the default", "workers => 1"),
        variant("max_replica_lag = 1 s", "max_replica_lag => '1 s'"),
    ];
    let series = alternate(plan.runs, &mut variants)?;
    let mut worst = Comparison::new("lag with a limit of 1 s, ms", &series[1], &series[1], Measure::Median("lag_ms"));
    // The worst of all runs: a median would hide the one that hurt.
    worst.value = series[1].range("lag_ms").1;
    let speed =
        Comparison::new("rows/s with the limit, x without", &series[1], &series[0], Measure::Ratio("rows_per_s"));
    let title = format!("A standby that sleeps {} ms of every {} ms", ASLEEP.as_millis(), (ASLEEP + AWAKE).as_millis());
    report.add(&title, &series, &[worst.must(Bound::AtMost(3000.0)), speed])
}

fn run(cluster: &Cluster, standby: &Cluster, plan: &Plan, arguments: &str) -> Result<Sample> {
    let mut session = cluster.connect(DATABASE)?;
    plan.shape().make_table(&mut session)?;
    catch_up(cluster, standby)?;
    let slow = Slowed::start(standby)?;
    let watch = Watch::start(cluster.connect(DATABASE)?, standby.connect(DATABASE)?);
    let speed = run_job(&mut session, &plan.shape(), arguments);
    let lag = watch.end();
    drop(slow);
    catch_up(cluster, standby)?;
    Ok(Sample::from([("rows_per_s", speed?), ("lag_ms", lag?)]))
}

/// The table alone takes a standby a while, on a busy machine more than a test would wait.
fn catch_up(cluster: &Cluster, standby: &Cluster) -> Result<()> {
    let here: String = cluster.connect(DATABASE)?.value("SELECT pg_current_wal_lsn()::text")?;
    let mut there = standby.connect(DATABASE)?;
    let replayed = format!("SELECT pg_last_wal_replay_lsn() >= '{here}'::pg_lsn");
    wait_for("the standby to catch up", 10 * PATIENCE, || Ok(there.value::<bool>(&replayed)?.then_some(())))
}

/// While it lives, the standby's replay sleeps most of the time.
struct Slowed {
    enough: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Slowed {
    fn start(standby: &Cluster) -> Result<Self> {
        let replay: i32 =
            standby.connect(DATABASE)?.value("SELECT pid FROM pg_stat_activity WHERE backend_type = 'startup'")?;
        let replay = Pid::from_raw(replay).context("no process id")?;
        let enough = Arc::new(AtomicBool::new(false));
        let stop = Arc::clone(&enough);
        let thread = thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                let _ = kill_process(replay, Signal::STOP);
                thread::sleep(ASLEEP);
                let _ = kill_process(replay, Signal::CONT);
                thread::sleep(AWAKE);
            }
        });
        Ok(Self { enough, thread: Some(thread) })
    }
}

impl Drop for Slowed {
    fn drop(&mut self) {
        self.enough.store(true, Ordering::Relaxed);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// Asks both servers ten times a second, and knows by itself when the primary was where the standby is now.
struct Watch {
    enough: Arc<AtomicBool>,
    thread: JoinHandle<Result<f64>>,
}

impl Watch {
    fn start(mut primary: Session, mut standby: Session) -> Self {
        let enough = Arc::new(AtomicBool::new(false));
        let stop = Arc::clone(&enough);
        let thread = thread::spawn(move || {
            let mut places: Vec<(f64, Instant)> = Vec::new();
            let mut worst = Duration::ZERO;
            while !stop.load(Ordering::Relaxed) {
                let written: f64 = primary.value("SELECT (pg_current_wal_flush_lsn() - '0/0')::float8")?;
                places.push((written, Instant::now()));
                let replayed: f64 = standby.value("SELECT (pg_last_wal_replay_lsn() - '0/0')::float8")?;
                // The first place beyond it: since then the standby lacks something.
                if let Some((_, since)) = places.iter().find(|(place, _)| *place > replayed) {
                    worst = worst.max(since.elapsed());
                }
                thread::sleep(LOOK);
            }
            Ok(worst.as_secs_f64() * 1e3)
        });
        Self { enough, thread }
    }

    fn end(self) -> Result<f64> {
        self.enough.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| anyhow!("the watch panicked"))?
    }
}
