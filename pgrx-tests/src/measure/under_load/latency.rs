//! pgbench at 60 % of what it can do, alone and beside a job or one UPDATE.

use std::time::Duration;

use anyhow::{Context, Result};

use super::{DATABASE, Plan, run_job};
use crate::cluster::{Cluster, PATIENCE};
use crate::command;
use crate::demo::pgbench::{Pgbench, Span};
use crate::measure::backfill::table::TABLE;
use crate::measure::report::Report;
use crate::measure::series::{Sample, Variant, alternate};
use crate::measure::verdict::{Bound, Comparison, Measure};
use crate::session::Session;
use crate::wait::wait_until;

const SCALE: &str = "--scale=20";
/// pgbench's own CPU time is on the same machine: few clients, prepared statements.
const CLIENTS: [&str; 2] = ["--jobs=2", "--protocol=prepared"];
const CALM: Duration = Duration::from_secs(15);
/// From its first transaction until it runs evenly.
const WARM_UP: Duration = Duration::from_secs(3);

#[derive(Clone, Copy)]
enum Work {
    Nothing,
    Job(u32),
    /// One worker that gives way to nobody.
    RudeJob,
    OneUpdate,
}

pub fn measure(cluster: &Cluster, plan: &Plan, report: &mut Report) -> Result<()> {
    command::capture(cluster.client_command("pgbench", DATABASE).args(["--initialize", "--quiet", SCALE]))?;
    let capacity = capacity(cluster)?;
    let rate = (capacity * 0.6) as u32;
    println!("  pgbench alone: {capacity:.0} transactions/s; from here on {rate}/s");

    let beside =
        |name: &str, work| Variant { name: name.into(), run: Box::new(move || run(cluster, plan, work, rate)) };
    let mut variants = [
        beside("pgbench alone", Work::Nothing),
        Variant { name: "job alone, one worker".into(), run: Box::new(|| job_alone(cluster, plan, 1)) },
        Variant { name: "job alone, two workers".into(), run: Box::new(|| job_alone(cluster, plan, 2)) },
        beside("beside a job, one worker", Work::Job(1)),
        beside("beside a job, two workers", Work::Job(2)),
        beside("beside a job, upkeep.worker_nice = 0", Work::RudeJob),
        beside("beside one UPDATE", Work::OneUpdate),
    ];
    let series = alternate(plan.runs, &mut variants)?;
    let [calm, idle, idle_two, one, two, rude, update] = &series[..] else { unreachable!() };
    let p99 = |s, o| Comparison::new("p99 beside it, x alone", s, o, Measure::Ratio("p99_ms"));
    let speed = |what: &str, s, o| Comparison::new(what, s, o, Measure::Ratio("rows_per_s"));
    let named = |name: &str, line: Comparison| Comparison { what: format!("{name}: {}", line.what), ..line };
    let lines = [
        named(&one.name, p99(one, calm).must(Bound::AtMost(1.5))),
        named(&one.name, speed("rows/s, x alone", one, idle).must(Bound::AtLeast(0.5))),
        named(&two.name, p99(two, calm)),
        named(&two.name, speed("rows/s, x alone", two, idle_two)),
        named(&rude.name, p99(rude, calm)),
        named(&rude.name, speed("rows/s, x alone", rude, idle)),
        named(&update.name, p99(update, calm)),
        speed("two workers under load: rows/s, x one worker", two, one),
    ];
    report.add(&format!("pgbench at {rate} transactions/s"), &series, &lines)
}

/// Transactions a second as fast as it can.
fn capacity(cluster: &Cluster) -> Result<f64> {
    let mut pgbench = cluster.client_command("pgbench", DATABASE);
    let said = command::capture(pgbench.args(["--no-vacuum", "--client=4", "--time=15"]).args(CLIENTS))?;
    let tps = said.lines().find_map(|line| line.strip_prefix("tps = ")?.split(' ').next()?.parse().ok());
    tps.context("pgbench does not say how fast it was")
}

fn job_alone(cluster: &Cluster, plan: &Plan, workers: u32) -> Result<Sample> {
    let mut session = cluster.connect(DATABASE)?;
    plan.shape().make_table(&mut session)?;
    let speed = run_job(&mut session, &plan.shape(), &format!("workers => {workers}"))?;
    Ok(Sample::from([("rows_per_s", speed)]))
}

fn run(cluster: &Cluster, plan: &Plan, work: Work, rate: u32) -> Result<Sample> {
    let shape = plan.shape();
    let mut session = cluster.connect(DATABASE)?;
    shape.make_table(&mut session)?;
    let pgbench = Pgbench::start_with(cluster, DATABASE, rate, &CLIENTS)?;
    Span::pass(WARM_UP);
    let (span, speed) = match work {
        Work::Nothing => (Span::pass(CALM), Ok(None)),
        Work::Job(workers) => {
            Span::during(|| run_job(&mut session, &shape, &format!("workers => {workers}")).map(Some))
        }
        Work::RudeJob => {
            set_nice(&mut session, "= 0", "0")?;
            let worked = Span::during(|| run_job(&mut session, &shape, "workers => 1").map(Some));
            set_nice(&mut session, "TO DEFAULT", "10")?;
            worked
        }
        Work::OneUpdate => Span::during(|| {
            let clock = std::time::Instant::now();
            session.run(&format!("UPDATE {TABLE} SET {} WHERE label IS NULL", shape.assignments()))?;
            Ok(Some(shape.rows as f64 / clock.elapsed().as_secs_f64()))
        }),
    };
    let felt = pgbench.latency(span)?;
    pgbench.stop()?;
    let mut sample = Sample::from([("p50_ms", felt.median), ("p99_ms", felt.p99), ("worst_ms", felt.worst)]);
    if let Some(speed) = speed? {
        sample.insert("rows_per_s", speed);
    }
    Ok(sample)
}

fn set_nice(session: &mut Session, to: &str, shown_as: &str) -> Result<()> {
    session.run(&format!("ALTER SYSTEM SET upkeep.worker_nice {to}"))?;
    session.run("SELECT pg_reload_conf()")?;
    let shown = "SELECT setting FROM pg_settings WHERE name = 'upkeep.worker_nice'";
    wait_until("the new nice value", PATIENCE, || session.text(shown).is_ok_and(|text| text == shown_as))
}
