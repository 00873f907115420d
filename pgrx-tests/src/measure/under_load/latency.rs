//! pgbench at a part of what it can do, alone and beside a job or one UPDATE.

use anyhow::Result;

use super::Plan;
use super::beside::{self, Work};
use crate::cluster::Cluster;
use crate::measure::report::Report;
use crate::measure::series::{Series, Variant, alternate};
use crate::measure::verdict::{Bound, Comparison, Measure};

pub fn measure(cluster: &Cluster, plan: &Plan, report: &mut Report) -> Result<()> {
    let rate = beside::prepare(cluster)?;

    let beside = |name: &str, work| Variant {
        name: name.into(),
        run: Box::new(move || Ok(beside::run(cluster, plan, work, rate)?.sample())),
    };
    let mut variants = [
        beside("pgbench alone", Work::Nothing),
        Variant { name: "job alone, one worker".into(), run: Box::new(|| beside::alone(cluster, plan, 1)) },
        Variant { name: "job alone, two workers".into(), run: Box::new(|| beside::alone(cluster, plan, 2)) },
        beside("beside a job, one worker", Work::Job(1)),
        beside("beside a job, two workers", Work::Job(2)),
        beside("beside a job, upkeep.worker_nice = 0", Work::RudeJob),
        beside("beside one UPDATE", Work::OneUpdate),
    ];
    let series = alternate(plan.runs, &mut variants)?;
    let [_, idle, idle_two, one, two, rude, update] = &series[..] else { unreachable!() };
    let felt = |series: &Series, what: &str, figure| {
        Comparison::new(format!("{}: {what}, x alone", series.name), series, series, Measure::Median(figure))
    };
    let speed = |series: &Series, other| {
        Comparison::new(format!("{}: rows/s, x alone", series.name), series, other, Measure::Ratio("rows_per_s"))
    };
    let mut lines = Vec::new();
    for (series, alone) in [(one, idle), (two, idle_two)] {
        lines.extend([
            felt(series, "p50", "p50_x").must(Bound::AtMost(1.1)).goal(Bound::AtMost(1.05)),
            felt(series, "p95", "p95_x").must(Bound::AtMost(1.25)).goal(Bound::AtMost(1.15)),
            felt(series, "p99", "p99_x").must(Bound::AtMost(1.6)).goal(Bound::AtMost(1.25)),
            speed(series, alone).must(Bound::AtLeast(0.25)).goal(Bound::AtLeast(0.5)),
        ]);
    }
    lines.extend([felt(rude, "p99", "p99_x"), speed(rude, idle), felt(update, "p99", "p99_x")]);
    report.add(&format!("pgbench at {rate} transactions/s"), &series, &lines)
}
