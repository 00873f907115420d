//! What it takes to read a month of history, and how often the test for regressions is right.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use super::Plan;
use crate::cluster::Cluster;
use crate::measure::report::Report;
use crate::measure::series::{Sample, Series, Variant, alternate};
use crate::measure::verdict::{Bound, Comparison, Measure};
use crate::prepare::Postgres;
use crate::query_history::{Chance, Level, Statement, insert};
use crate::session::Session;

const DATABASE: &str = "reading";
const DAYS: i64 = 30;
/// Of the simulated workloads the one that a power is promised for.
const PROMISED: &str = "a day of 200 calls against 14 days";
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

pub fn measure(cluster: &Cluster, plan: &Plan, report: &mut Report) -> Result<()> {
    let mut session = cluster.with_extension(DATABASE)?;
    println!("writing {DAYS} days of {} statements, as the defaults keep them ...", plan.statements);
    fill(&mut session, plan.statements)?;
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
    let series = alternate(plan.rounds.min(7), &mut variants)?;
    let comparisons: Vec<_> = series
        .iter()
        .zip(LOOKS)
        .map(|(s, (name, _, most))| {
            let comparison = Comparison::new(format!("{name}: ms"), s, s, Measure::Median("ms"));
            if let Some(most) = most { comparison.must(Bound::AtMost(most)) } else { comparison }
        })
        .collect();
    report.add(&format!("{} statements, {DAYS} days, {size}", plan.statements), &series, &comparisons)
}

/// Days in days, the same days in hours, and the last of them in minutes.
fn fill(session: &mut Session, statements: i64) -> Result<()> {
    let user: u32 = session.value("SELECT current_user::text::regrole::oid")?;
    let mut chance = Chance(5);
    let mut active = |share: f64, calls: usize| -> Vec<Statement> {
        let mut some = Vec::new();
        for queryid in 1..=statements {
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
pub fn regressions(_shared: &Cluster, plan: &Plan, report: &mut Report) -> Result<()> {
    let rounds = plan.simulations;
    println!("simulating workloads with a daily cycle ({rounds} times the rounds of the unit tests) ...");
    let compiler = Postgres::new(None)?.compiler;
    let mut cargo = compiler.cargo("test");
    cargo.args(["--quiet", "--lib", "--release"]).args(compiler.package_args(""));
    cargo.args(["regressions::simulation", "--", "--nocapture"]).env(ROUNDS, rounds.to_string());
    let output = cargo.output().context("the simulation")?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    let lines = said.lines().filter(|line| line.contains("false discoveries"));
    let (mut series, mut comparisons) = (Vec::new(), Vec::new());
    for line in lines {
        let (name, rates) = line.trim_start_matches('.').split_once(": ").context("a line of the simulation")?;
        let numbers: Vec<f64> = rates.split(' ').filter_map(|word| word.parse().ok()).collect();
        let [nothing, some, power] = numbers[..] else { bail!("{line}") };
        let sample = Sample::from([("false %", nothing.max(some)), ("power %", power)]);
        let one = Series { name: name.to_owned(), samples: vec![sample] };
        let found = |what, figure| Comparison::new(format!("{name}: {what}, %"), &one, &one, Measure::Median(figure));
        comparisons.push(found("false discoveries", "false %").must(Bound::AtMost(5.0)));
        if name == PROMISED {
            comparisons.push(found("found of +30 %", "power %").must(Bound::AtLeast(80.0)));
        }
        series.push(one);
    }
    ensure!(series.iter().any(|one| one.name == PROMISED), "{said}");
    report.add("simulated workloads with a daily cycle", &series, &comparisons)
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}
