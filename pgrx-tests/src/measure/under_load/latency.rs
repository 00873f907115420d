//! pgbench at parts of what it can do, alone and beside a job, one UPDATE, or nothing but somebody else on the processor.

use anyhow::Result;

use super::Plan;
use super::beside::{self, Load, Script, Work};
use crate::cluster::Cluster;
use crate::measure::report::Report;
use crate::measure::series::{Series, Variant, alternate};
use crate::measure::verdict::{Bound, Comparison, Measure};

/// A part of what pgbench can do, and what it may feel then: must, goal.
struct Part {
    percent: u32,
    p50: Option<(f64, f64)>,
    p95: Option<(f64, f64)>,
    p99: Option<(f64, f64)>,
    /// The job's speed, of what it is alone: at least.
    speed: Option<(f64, f64)>,
}

const PARTS: [Part; 4] = [
    Part {
        percent: 25,
        p50: Some((1.1, 1.05)),
        p95: Some((1.25, 1.15)),
        p99: Some((1.6, 1.25)),
        speed: Some((0.4, 0.7)),
    },
    Part {
        percent: 50,
        p50: Some((1.1, 1.05)),
        p95: Some((1.25, 1.15)),
        p99: Some((1.6, 1.25)),
        speed: Some((0.25, 0.5)),
    },
    Part { percent: 75, p50: None, p95: Some((1.5, 1.2)), p99: Some((2.5, 1.5)), speed: Some((0.05, 0.2)) },
    Part { percent: 95, p50: None, p95: None, p99: None, speed: None },
];

pub fn measure(cluster: &Cluster, plan: &Plan, report: &mut Report) -> Result<()> {
    let capacity = beside::prepare(cluster, plan)?;
    let alone = |name: &str, workers| Variant {
        name: name.into(),
        run: Box::new(move || beside::alone(cluster, plan, workers)),
    };
    let idle = alternate(plan.runs, &mut [alone("job alone, one worker", 1), alone("job alone, two workers", 2)])?;
    PARTS.iter().try_for_each(|part| {
        at(cluster, plan, report, part, (capacity * f64::from(part.percent) / 100.0) as u32, &idle)
    })
}

fn at(cluster: &Cluster, plan: &Plan, report: &mut Report, part: &Part, rate: u32, idle: &[Series]) -> Result<()> {
    let beside = |name: &str, work| Variant {
        name: name.into(),
        run: Box::new(move || Ok(beside::run(cluster, plan, work, Load { script: Script::TpcB, rate })?.sample())),
    };
    let mut variants = [
        beside("beside nothing", Work::Nothing),
        beside("beside a job, one worker", Work::Job(1)),
        beside("beside a job, two workers", Work::Job(2)),
        beside("beside a quarter of a processor", Work::Spinner),
        beside("beside a job, upkeep.worker_nice = 0", Work::RudeJob),
        beside("beside one UPDATE", Work::OneUpdate),
    ];
    let series = alternate(plan.runs, &mut variants)?;
    let mut lines = Vec::new();
    for (at, series) in series.iter().enumerate() {
        let felt = |what: &str, figure, bounds: Option<(f64, f64)>| {
            let line =
                Comparison::new(format!("{}: {what}, x alone", series.name), series, series, Measure::Median(figure));
            match bounds.filter(|_| matches!(at, 1 | 2)) {
                Some((must, goal)) => line.must(Bound::AtMost(must)).goal(Bound::AtMost(goal)),
                None => line,
            }
        };
        lines.extend([felt("p50", "p50_x", part.p50), felt("p95", "p95_x", part.p95), felt("p99", "p99_x", part.p99)]);
        if let Some(alone) = at.checked_sub(1).and_then(|at| idle.get(at)) {
            let name = format!("{}: rows/s, x the job's alone", series.name);
            let line = Comparison::new(name, series, alone, Measure::Ratio("rows_per_s"));
            lines.push(match part.speed {
                Some((must, goal)) => line.must(Bound::AtLeast(must)).goal(Bound::AtLeast(goal)),
                None => line,
            });
        }
    }
    report.add(&format!("pgbench at {} % of what it can do, {rate} transactions/s", part.percent), &series, &lines)
}
