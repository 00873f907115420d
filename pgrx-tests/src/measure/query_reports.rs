//! `cargo measure query-reports`: what it takes to read a month of history, and how often the test for regressions is right.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::report::Report;
use super::series::{Sample, Variant, alternate};
use super::verdict::{Bound, Comparison, Measure};
use crate::args::Args;
use crate::cluster::Cluster;
use crate::prepare::Postgres;
use crate::query_history::{Chance, Level, Statement, insert};
use crate::session::Session;

const DATABASE: &str = "measure";
const STATEMENTS: i64 = 5000;
const DAYS: i64 = 30;
/// As the simulation in `src/queries/regressions/simulation.rs` reads it.
const ROUNDS: &str = "UPKEEP_SIMULATION_ROUNDS";

/// What is looked at, and what it may take at most, in ms.
const LOOKS: [(&str, &str, Option<f64>); 6] = [
    (
        "percentile of one statement over 30 days",
        "SELECT upkeep.query_percentile(2500, 0.95, now() - interval '30 days')",
        Some(50.0),
    ),
    ("top 20 over 7 days", "SELECT * FROM upkeep.top_queries('p95', now() - interval '7 days')", Some(200.0)),
    ("top 20 over 30 days", "SELECT * FROM upkeep.top_queries('total', now() - interval '30 days')", None),
    ("slow queries", "SELECT * FROM upkeep.slow_queries", None),
    ("regressions of a day against 14", "SELECT * FROM upkeep.query_regressions()", None),
    ("report of a day", "SELECT upkeep.performance_report_html()", None),
];

pub struct Plan {
    runs: usize,
    /// Of the simulation; 0 leaves it out.
    rounds: usize,
}

impl Plan {
    pub fn from_args(args: &mut Args) -> Result<Self> {
        Ok(Self { runs: args.parsed("--runs")?.unwrap_or(7), rounds: args.parsed("--rounds")?.unwrap_or(10) })
    }
}

pub fn measure(cluster: &Cluster, plan: &Plan, report: &mut Report) -> Result<()> {
    if plan.rounds > 0 {
        simulate(plan.rounds)?;
    }
    cluster.create_database(DATABASE)?;
    let mut session = cluster.connect(DATABASE)?;
    session.run("CREATE EXTENSION pg_upkeep")?;
    println!("writing {DAYS} days of {STATEMENTS} statements, as the defaults keep them ...");
    fill(&mut session)?;
    session.run("VACUUM ANALYZE")?;
    let size: String = session.text("SELECT pg_size_pretty(pg_database_size(current_database()))")?;
    println!("  {size}");

    let look = |&(name, sql, _): &(&str, &'static str, Option<f64>)| Variant {
        name: name.to_owned(),
        run: Box::new(move || {
            let mut session = cluster.connect(DATABASE)?;
            // The library is loaded and the catalogs are read.
            session.run("SELECT upkeep.query_percentile(1, 0.5, now() - interval '1 minute')")?;
            let clock = Instant::now();
            session.run(&format!("COPY ({sql}) TO '/dev/null'"))?;
            Ok(Sample::from([("ms", milliseconds(clock.elapsed()))]))
        }),
    };
    let mut variants: Vec<_> = LOOKS.iter().map(look).collect();
    let series = alternate(plan.runs, &mut variants)?;
    let comparisons: Vec<_> = series
        .iter()
        .zip(LOOKS)
        .map(|(s, (name, _, most))| {
            let comparison = Comparison::new(format!("{name}: ms"), s, s, Measure::Median("ms"));
            if let Some(most) = most { comparison.must(Bound::AtMost(most)) } else { comparison }
        })
        .collect();
    report.add(&format!("{STATEMENTS} statements, {DAYS} days, {size}"), &series, &comparisons)
}

/// Days in days, the same days in hours, and the last of them in minutes.
fn fill(session: &mut Session) -> Result<()> {
    let user: u32 = session.value("SELECT current_user::text::regrole::oid")?;
    let mut chance = Chance(5);
    let mut active = |share: f64, calls: usize| -> Vec<Statement> {
        let mut some = Vec::new();
        for queryid in 1..=STATEMENTS {
            if chance.uniform() < share {
                let median = 50.0 + 20.0 * queryid as f64;
                some.push(Statement::new(queryid, user).latencies((0..calls).map(|_| chance.latency(median, 0.5))));
            }
        }
        some
    };
    session.run("BEGIN")?;
    let midnight = "date_trunc('day', now(), 'UTC')";
    for day in 1..=DAYS {
        insert(session, Level::Days, &format!("{midnight} - interval '{day} days'"), "1 day", &active(1.0, 100))?;
    }
    for hour in 1..=24 * DAYS {
        let started = format!("date_trunc('hour', now(), 'UTC') - interval '{hour} hours'");
        insert(session, Level::Hours, &started, "1 hour", &active(0.5, 10))?;
    }
    for minute in 1..=24 * 60 {
        let started = format!("date_trunc('minute', now(), 'UTC') - interval '{minute} minutes'");
        insert(session, Level::Minutes, &started, "1 minute", &active(0.05, 2))?;
    }
    session.run("COMMIT")
}

/// Simulated workloads, in the extension's own unit tests: they say how often they were wrong and right, and fail above the limits.
fn simulate(rounds: usize) -> Result<()> {
    println!("simulating workloads with a daily cycle ({rounds} times the rounds of the unit tests) ...");
    let compiler = Postgres::new(None)?.compiler;
    let mut cargo = compiler.cargo("test");
    cargo.args(["--quiet", "--lib", "--release"]).args(compiler.package_args(""));
    cargo.args(["regressions::simulation", "--", "--nocapture"]).env(ROUNDS, rounds.to_string());
    let output = cargo.output().context("the simulation")?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    said.lines()
        .filter(|line| line.contains("false discoveries"))
        .for_each(|line| println!("  {}", line.trim_start_matches('.')));
    Ok(())
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}
