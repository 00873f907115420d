//! `cargo measure schedules-idle`: what an installed, preloaded extension costs while nothing is due.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::report::Report;
use super::series::{Sample, Series};
use super::verdict::{Bound, Comparison, Measure};
use crate::args::Args;
use crate::cluster::{Cluster, PATIENCE};
use crate::session::Session;
use crate::testing::workers;
use crate::wait::wait_until;

const SCHEDULES: u32 = 1000;
const DATABASE: &str = "idle";

pub struct Plan {
    minutes: f64,
}

impl Plan {
    pub fn from_args(args: &mut Args) -> Result<Self> {
        Ok(Self { minutes: args.parsed("--minutes")?.unwrap_or(5.0) })
    }
}

/// The same server without schedules and with a thousand of them, for some minutes each.
pub fn measure(cluster: &Cluster, plan: &Plan, report: &mut Report) -> Result<()> {
    let mut admin = cluster.connect("postgres")?;
    admin.run(&format!("CREATE DATABASE {DATABASE}"))?;
    let mut session = cluster.connect(DATABASE)?;
    session.run("CREATE EXTENSION pg_upkeep")?;
    let without = series("no schedules", watch(&mut admin, plan)?);
    session.run(&format!(
        "SELECT upkeep.schedule('s' || i, (i % 60) || ' ' || (i % 24) || ' 29 2 *', 'SELECT 1') FROM generate_series(1, {SCHEDULES}) i"
    ))?;
    let with = series(&format!("{SCHEDULES} schedules"), watch(&mut admin, plan)?);
    let verdict = [
        ("wake-ups of the launcher per minute", "wake-ups per minute", Bound::AtMost(1.0)),
        ("transaction ids", "transaction ids", Bound::AtMost(0.0)),
        ("other workers seen", "other workers", Bound::AtMost(0.0)),
    ]
    .map(|(what, figure, must)| Comparison::new(what, &with, &without, Measure::Median(figure)).must(must));
    let title = format!("{} minutes in which nothing is due", plan.minutes);
    report.add(&title, &[without, with], &verdict)
}

fn series(name: &str, sample: Sample) -> Series {
    Series { name: name.to_owned(), samples: vec![sample] }
}

fn watch(session: &mut Session, plan: &Plan) -> Result<Sample> {
    wait_until("the scheduler to leave", PATIENCE, || others(session).is_ok_and(|count| count == 0.0))?;
    let [launcher] = workers(session, "launcher")?[..] else { anyhow::bail!("one launcher is expected") };
    // What its workers left to say has been said: it sleeps.
    let mut last = 0;
    wait_until("the launcher to sleep", PATIENCE, || {
        thread::sleep(Duration::from_secs(1));
        let now = wake_ups(launcher).unwrap_or(0);
        std::mem::replace(&mut last, now) == now
    })?;
    let (woken, ids, processor) = (wake_ups(launcher)?, transaction_ids(session)?, processor_time(launcher)?);
    let clock = Instant::now();
    let mut seen: f64 = 0.0;
    while clock.elapsed().as_secs_f64() < plan.minutes * 60.0 {
        thread::sleep(Duration::from_millis(200));
        seen = seen.max(others(session)?);
    }
    let minutes = clock.elapsed().as_secs_f64() / 60.0;
    Ok(Sample::from([
        ("wake-ups per minute", (wake_ups(launcher)? - woken) as f64 / minutes),
        ("transaction ids", transaction_ids(session)? - ids),
        ("other workers", seen),
        ("launcher ms per minute", (processor_time(launcher)? - processor) / minutes),
    ]))
}

/// How often a process has gone to sleep, by the kernel's own count.
fn wake_ups(pid: i32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let count = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
    Ok(count.context("the kernel does not count context switches")?.trim().parse()?)
}

/// Time on a processor, in ms.
fn processor_time(pid: i32) -> Result<f64> {
    let schedstat = fs::read_to_string(format!("/proc/{pid}/schedstat")).unwrap_or_default();
    let nanoseconds: f64 = schedstat.split_whitespace().next().and_then(|word| word.parse().ok()).unwrap_or(f64::NAN);
    Ok(nanoseconds / 1e6)
}

/// The next transaction id, read without taking one.
fn transaction_ids(session: &mut Session) -> Result<f64> {
    session.value("SELECT pg_snapshot_xmax(pg_current_snapshot())::text::float8")
}

fn others(session: &mut Session) -> Result<f64> {
    session.value(
        "SELECT count(*)::float8 FROM pg_stat_activity
          WHERE backend_type IN ('pg_upkeep scheduler', 'pg_upkeep executor')",
    )
}
