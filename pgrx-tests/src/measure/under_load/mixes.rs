//! Other applications than the usual one, and another kind of work: at half of what they can do.

use anyhow::Result;

use super::Plan;
use super::beside::{self, Load, Script, Work};
use crate::cluster::Cluster;
use crate::measure::report::Report;
use crate::measure::series::{Variant, alternate};
use crate::measure::verdict::{Bound, Comparison, Measure};

struct Mix {
    name: &'static str,
    script: Script,
    work: Work,
    /// At most: must, goal.
    p99: Option<(f64, f64)>,
}

const MIXES: [Mix; 4] = [
    Mix { name: "select only, beside a job", script: Script::SelectOnly, work: Work::Job(1), p99: None },
    Mix { name: "simple update, beside a job", script: Script::SimpleUpdate, work: Work::Job(1), p99: None },
    Mix {
        name: "updates of the job's table, half of them of a thousandth of its rows",
        script: Script::HotRows,
        work: Work::Job(1),
        p99: Some((2.0, 1.3)),
    },
    Mix {
        name: "TPC-B, beside a purge of deleted rows",
        script: Script::TpcB,
        work: Work::Purge,
        p99: Some((2.0, 1.3)),
    },
];

pub fn measure(cluster: &Cluster, plan: &Plan, report: &mut Report) -> Result<()> {
    beside::prepare(cluster, plan)?;
    for Mix { name, script, work, p99 } in MIXES {
        let rate = (script.capacity(cluster, plan)? / 2.0) as u32;
        let beside = |name: &str, work| Variant {
            name: name.into(),
            run: Box::new(move || Ok(beside::run(cluster, plan, work, Load { script, rate })?.sample())),
        };
        let series = alternate(plan.runs, &mut [beside("beside nothing", Work::Nothing), beside(name, work)])?;
        let mut lines = Vec::new();
        for (at, series) in series.iter().enumerate() {
            for (what, figure) in [("p50", "p50_x"), ("p95", "p95_x"), ("p99", "p99_x")] {
                let what = format!("{}: {what}, x alone", series.name);
                let line = Comparison::new(what, series, series, Measure::Median(figure));
                lines.push(match p99.filter(|_| at == 1 && figure == "p99_x") {
                    Some((must, goal)) => line.must(Bound::AtMost(must)).goal(Bound::AtMost(goal)),
                    None => line,
                });
            }
        }
        report.add(&format!("{name}, at {rate} transactions/s"), &series, &lines)?;
    }
    Ok(())
}
