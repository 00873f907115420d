//! One run: pgbench at a rate, alone, then beside some work, then alone again. What it feels is compared within the run, so that a
//! busy minute of the machine hits both.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::looks::{Look, Looks};
use super::{DATABASE, Plan};
use crate::cluster::{Cluster, PATIENCE};
use crate::command;
use crate::demo::pgbench::{Latency, Pgbench, Span, Transaction};
use crate::jobs::executors_of;
use crate::measure::backfill::table::TABLE;
use crate::measure::series::Sample;
use crate::session::Session;
use crate::wait::{wait_for, wait_until};

const SCALE: &str = "--scale=20";
/// pgbench's own CPU time is on the same machine: prepared statements.
const CLIENTS: [&str; 3] = ["--client=8", "--jobs=2", "--protocol=prepared"];
/// Alone, before the work and after it.
const CALM: Duration = Duration::from_secs(6);
/// From its first transaction until it runs evenly.
const WARM_UP: Duration = Duration::from_secs(3);
/// The work is looked at for so long, or until half of it is done: its end is not what is measured.
const LONGEST: Duration = Duration::from_secs(12);

#[derive(Clone, Copy)]
pub enum Work {
    Nothing,
    /// With so many workers.
    Job(u32),
    /// One worker that gives way to nobody.
    RudeJob,
    OneUpdate,
}

/// What became of one run.
pub struct Felt {
    pub calm: Vec<Transaction>,
    pub during: Vec<Transaction>,
    pub looks: Vec<Look>,
    rows_per_s: Option<f64>,
}

impl Felt {
    /// Milliseconds, and how many times what it was alone.
    pub fn sample(&self) -> Sample {
        let (calm, during) = (Latency::of(&self.calm), Latency::of(&self.during));
        let mut sample = Sample::from([
            ("p50_ms", during.median),
            ("p95_ms", during.p95),
            ("p99_ms", during.p99),
            ("worst_ms", during.worst),
            ("p50_x", during.median / calm.median),
            ("p95_x", during.p95 / calm.p95),
            ("p99_x", during.p99 / calm.p99),
        ]);
        sample.extend(self.rows_per_s.map(|speed| ("rows_per_s", speed)));
        sample
    }
}

/// Makes pgbench's tables. Gives half of the transactions a second that it can do.
pub fn prepare(cluster: &Cluster) -> Result<u32> {
    command::capture(cluster.client_command("pgbench", DATABASE).args(["--initialize", "--quiet", SCALE]))?;
    let capacity = capacity(cluster)?;
    let rate = (capacity / 2.0) as u32;
    println!("  pgbench alone: {capacity:.0} transactions/s; from here on {rate}/s");
    Ok(rate)
}

/// Transactions a second as fast as it can.
fn capacity(cluster: &Cluster) -> Result<f64> {
    let mut pgbench = cluster.client_command("pgbench", DATABASE);
    let said = command::capture(pgbench.args(["--no-vacuum", "--time=15"]).args(CLIENTS))?;
    let tps = said.lines().find_map(|line| line.strip_prefix("tps = ")?.split(' ').next()?.parse().ok());
    tps.context("pgbench does not say how fast it was")
}

pub fn run(cluster: &Cluster, plan: &Plan, work: Work, rate: u32) -> Result<Felt> {
    let mut session = cluster.connect(DATABASE)?;
    plan.shape().make_table(&mut session)?;
    let pgbench = Pgbench::start_with(cluster, DATABASE, rate, &CLIENTS)?;
    Span::pass(WARM_UP);
    let before = Span::pass(CALM);
    let looks = Looks::start(cluster, DATABASE)?;
    let (span, speed) = Span::during(|| do_work(&mut session, plan, work));
    let looks = looks.end()?;
    let after = Span::pass(CALM);
    let mut calm = pgbench.within(before)?;
    calm.extend(pgbench.within(after)?);
    let during = pgbench.within(span)?;
    pgbench.stop()?;
    Ok(Felt { calm, during, looks, rows_per_s: speed? })
}

/// A job with nobody beside it: rows a second.
pub fn alone(cluster: &Cluster, plan: &Plan, workers: u32) -> Result<Sample> {
    let mut session = cluster.connect(DATABASE)?;
    plan.shape().make_table(&mut session)?;
    Ok(Sample::from([("rows_per_s", half_a_job(&mut session, plan, workers)?)]))
}

fn do_work(session: &mut Session, plan: &Plan, work: Work) -> Result<Option<f64>> {
    match work {
        Work::Nothing => std::thread::sleep(LONGEST),
        Work::Job(workers) => return half_a_job(session, plan, workers).map(Some),
        Work::RudeJob => {
            set_nice(session, "= 0", "0")?;
            let speed = half_a_job(session, plan, 1);
            set_nice(session, "TO DEFAULT", "10")?;
            return speed.map(Some);
        }
        Work::OneUpdate => {
            let clock = Instant::now();
            let assignments = plan.shape().assignments();
            session.run(&format!("UPDATE {TABLE} SET {assignments} WHERE label IS NULL"))?;
            return Ok(Some(plan.rows as f64 / clock.elapsed().as_secs_f64()));
        }
    }
    Ok(None)
}

/// Rows a second until half of them are done, or it has been looked at for long enough. Then it is canceled.
fn half_a_job(session: &mut Session, plan: &Plan, workers: u32) -> Result<f64> {
    let assignments = plan.shape().assignments();
    let clock = Instant::now();
    let job = session.text(&format!(
        "SELECT upkeep.backfill('{TABLE}', $${assignments}$$, 'label IS NULL', workers => {workers})"
    ))?;
    let look = format!("SELECT rows_done::float8 FROM upkeep.jobs WHERE id = '{job}'");
    let speed = loop {
        std::thread::sleep(Duration::from_millis(50));
        let rows: f64 = session.value(&look)?;
        let elapsed = clock.elapsed();
        if rows >= plan.rows as f64 / 2.0 || elapsed >= LONGEST {
            break rows / elapsed.as_secs_f64();
        }
    };
    session.run(&format!("SELECT upkeep.cancel('{job}')"))?;
    wait_for("the workers to leave", PATIENCE, || Ok(executors_of(session, &job)?.is_empty().then_some(())))?;
    Ok(speed)
}

fn set_nice(session: &mut Session, to: &str, shown_as: &str) -> Result<()> {
    session.run(&format!("ALTER SYSTEM SET upkeep.worker_nice {to}"))?;
    session.run("SELECT pg_reload_conf()")?;
    let shown = "SELECT setting FROM pg_settings WHERE name = 'upkeep.worker_nice'";
    wait_until("the new nice value", PATIENCE, || session.text(shown).is_ok_and(|text| text == shown_as))
}
