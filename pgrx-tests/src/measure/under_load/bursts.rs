//! An application that comes and goes: how soon a job gives way, and how soon it is at full pace again.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use super::beside::{self, Load, Script};
use super::{DATABASE, Plan};
use crate::cluster::{Cluster, PATIENCE};
use crate::demo::pgbench::{Latency, Span, Transaction};
use crate::measure::report::Report;
use crate::measure::series::{Sample, Variant, alternate};
use crate::measure::verdict::{Bound, Comparison, Measure};
use crate::session::Session;
use crate::wait::wait_until;

/// Of one run, alone and beside a job.
const BURSTS: usize = 2;
const BURST: Duration = Duration::from_secs(10);
const BETWEEN: Duration = Duration::from_secs(5);
/// A second is a bad one if its p95 is so many times that of all seconds alone.
const BAD: f64 = 1.5;

pub fn measure(cluster: &Cluster, plan: &Plan, report: &mut Report) -> Result<()> {
    let rate = (beside::prepare(cluster, plan)? * 0.75) as u32;
    let variant = |name: &str, workers| Variant {
        name: name.into(),
        run: Box::new(move || run(cluster, plan, workers, Load { script: Script::TpcB, rate })),
    };
    let series = alternate(plan.runs, &mut [variant("one worker", 1), variant("two workers", 2)])?;
    let lines: Vec<_> = series
        .iter()
        .flat_map(|series| {
            let line = |what: &str, figure| {
                Comparison::new(format!("{}: {what}", series.name), series, series, Measure::Median(figure))
            };
            [
                line("% of seconds with p95 above 1.5x, alone", "bad_alone"),
                line("% of seconds with p95 above 1.5x", "bad").must(Bound::AtMost(5.0)).goal(Bound::AtMost(1.0)),
                line("s from a burst's end to full pace", "to_full_s")
                    .must(Bound::AtMost(3.0))
                    .goal(Bound::AtMost(1.0)),
            ]
        })
        .collect();
    report.add(&format!("Bursts of 10 s, {rate} transactions/s"), &series, &lines)
}

fn run(cluster: &Cluster, plan: &Plan, workers: u32, load: Load) -> Result<Sample> {
    let mut session = cluster.connect(DATABASE)?;
    // Whoever looks is not to be taken for an application.
    session.run("SET upkeep.track_queries = none")?;
    plan.shape().make_table(&mut session)?;
    let mut alone = Vec::new();
    for _ in 0..BURSTS {
        alone.push(burst(cluster, plan, load)?);
        thread::sleep(BETWEEN);
    }
    let all: Vec<Transaction> = alone.iter().flat_map(|burst| burst.0.iter().copied()).collect();
    let usual = Latency::of(&all).p95;
    let job = beside::begin(&mut session, plan, workers)?;
    wait_until("the job to be at full pace", PATIENCE, || at_full_pace(&mut session).unwrap_or(false))?;
    let (mut felt, mut to_full) = (Vec::new(), Duration::ZERO);
    for _ in 0..BURSTS {
        felt.push(burst(cluster, plan, load)?);
        let ended = Instant::now();
        while !at_full_pace(&mut session)? {
            if ended.elapsed() > PATIENCE {
                bail!("the job is not at full pace a minute after the burst");
            }
            thread::sleep(Duration::from_millis(50));
        }
        to_full = to_full.max(ended.elapsed());
        thread::sleep(BETWEEN.saturating_sub(ended.elapsed()));
    }
    let state = session.text(&format!("SELECT state FROM upkeep.jobs WHERE id = '{job}'"))?;
    if state == "done" {
        bail!("the job ended too soon: more --rows are needed");
    }
    beside::end(&mut session, &job)?;
    Ok(Sample::from([
        ("bad_alone", bad_seconds(&alone, usual)),
        ("bad", bad_seconds(&felt, usual)),
        ("to_full_s", to_full.as_secs_f64()),
    ]))
}

/// The transactions of one, and when it was.
fn burst(cluster: &Cluster, plan: &Plan, load: Load) -> Result<(Vec<Transaction>, Span)> {
    let pgbench = load.start(cluster, plan)?;
    let span = Span::pass(BURST);
    let transactions = pgbench.within(span)?;
    pgbench.stop()?;
    Ok((transactions, span))
}

fn at_full_pace(session: &mut Session) -> Result<bool> {
    let pace = "SELECT value FROM upkeep.throttle WHERE input = 'slowdown' AND subject = 'pace of each worker'";
    Ok(session.values::<f64>(pace)?.first().is_some_and(|percent| *percent >= 100.0))
}

/// Which part of the seconds of bursts has a p95 far above the usual one, in percent.
fn bad_seconds(bursts: &[(Vec<Transaction>, Span)], usual: f64) -> f64 {
    let (mut seconds, mut bad) = (0.0, 0.0);
    for (transactions, span) in bursts {
        for second in 0..BURST.as_secs() as u32 {
            let from = span.from + f64::from(second);
            let inside: Vec<_> =
                transactions.iter().filter(|t| t.ended >= from && t.ended < from + 1.0).copied().collect();
            seconds += 1.0;
            bad += f64::from(u8::from(Latency::of(&inside).p95 > BAD * usual));
        }
    }
    100.0 * bad / seconds
}
