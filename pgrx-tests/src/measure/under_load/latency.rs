//! pgbench at parts of what it can do, alone and beside a job, one UPDATE, or nothing but somebody else on the processor.

use anyhow::Result;

use super::Plan;
use super::beside::{self, Load, Script, Slower, Work};
use crate::cluster::Cluster;
use crate::measure::report::Report;
use crate::measure::series::{Series, Variant, alternate};
use crate::measure::verdict::{Comparison, Measure, Promise};

/// A part of what pgbench can do, and what it may feel then.
struct Part {
    percent: u32,
    felt: Slower,
    /// The job's speed, of what it is alone.
    speed: Promise,
    /// Beside whom else.
    others: &'static [(&'static str, Work)],
}

const LIGHT: Slower =
    Slower { p50: Promise::at_most(1.1, 1.05), p95: Promise::at_most(1.25, 1.15), p99: Promise::at_most(1.6, 1.25) };
const BUSY: Slower = Slower { p50: Promise::NONE, p95: Promise::at_most(1.5, 1.2), p99: Promise::at_most(2.5, 1.5) };

const PROCESSOR: (&str, Work) = ("beside a quarter of a processor", Work::Spinner);
const RUDE: (&str, Work) = ("beside a job, upkeep.worker_nice = 0", Work::RudeJob);
const UPDATE: (&str, Work) = ("beside one UPDATE", Work::OneUpdate);

const PARTS: [Part; 4] = [
    Part { percent: 25, felt: LIGHT, speed: Promise::at_least(0.4, 0.7), others: &[PROCESSOR] },
    Part { percent: 50, felt: LIGHT, speed: Promise::at_least(0.25, 0.5), others: &[PROCESSOR, RUDE, UPDATE] },
    Part { percent: 75, felt: BUSY, speed: Promise::at_least(0.05, 0.2), others: &[PROCESSOR] },
    Part { percent: 95, felt: Slower::UNPROMISED, speed: Promise::NONE, others: &[] },
];

pub fn measure(cluster: &Cluster, plan: &Plan, report: &mut Report) -> Result<()> {
    let capacity = beside::prepare(cluster, plan)?;
    let alone = |name: &str, workers| Variant {
        name: name.into(),
        run: Box::new(move || beside::alone(cluster, plan, workers)),
    };
    let idle = alternate(plan.runs, &mut [alone("job alone, one worker", 1), alone("job alone, two workers", 2)])?;
    let is_asked_for = |part: &&Part| plan.at.is_empty() || plan.at.contains(&part.percent.to_string());
    PARTS.iter().filter(is_asked_for).try_for_each(|part| {
        at(cluster, plan, report, part, (capacity * f64::from(part.percent) / 100.0) as u32, &idle)
    })
}

fn at(cluster: &Cluster, plan: &Plan, report: &mut Report, part: &Part, rate: u32, idle: &[Series]) -> Result<()> {
    let beside = |name: &str, work| Variant {
        name: name.into(),
        run: Box::new(move || Ok(beside::run(cluster, plan, work, Load { script: Script::TpcB, rate })?.sample())),
    };
    let mut variants = vec![
        beside("beside nothing", Work::Nothing),
        beside("beside a job, one worker", Work::Job(1)),
        beside("beside a job, two workers", Work::Job(2)),
    ];
    variants.extend(part.others.iter().map(|(name, work)| beside(name, *work)));
    let series = alternate(plan.runs, &mut variants)?;
    let mut lines = Vec::new();
    for (at, series) in series.iter().enumerate() {
        let of_jobs = at.checked_sub(1).and_then(|at| idle.get(at));
        lines.extend(if of_jobs.is_some() { part.felt.lines(series) } else { Slower::UNPROMISED.lines(series) });
        lines.extend(of_jobs.map(|alone| {
            let name = format!("{}: rows/s, x the job's alone", series.name);
            Comparison::new(name, series, alone, Measure::Ratio("rows_per_s")).promised(part.speed)
        }));
    }
    report.add(&format!("pgbench at {} % of what it can do, {rate} transactions/s", part.percent), &series, &lines)
}
