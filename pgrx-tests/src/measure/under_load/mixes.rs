//! Other applications than the usual one, and another kind of work: at half of what they can do.

use anyhow::{Result, bail};

use super::Plan;
use super::beside::{self, Load, Script, Slower, Work};
use crate::cluster::Cluster;
use crate::measure::report::Report;
use crate::measure::series::{Variant, alternate};
use crate::measure::verdict::Promise;

struct Mix {
    name: &'static str,
    script: Script,
    work: Work,
    p99: Promise,
}

const MIXES: [Mix; 4] = [
    Mix { name: "select only, beside a job", script: Script::SelectOnly, work: Work::Job(1), p99: Promise::NONE },
    Mix { name: "simple update, beside a job", script: Script::SimpleUpdate, work: Work::Job(1), p99: Promise::NONE },
    Mix {
        name: "updates of the job's table, half of them of a thousandth of its rows",
        script: Script::HotRows,
        work: Work::Job(1),
        p99: Promise::at_most(2.0, 1.3),
    },
    Mix {
        name: "TPC-B, beside a purge of deleted rows",
        script: Script::TpcB,
        work: Work::Purge,
        p99: Promise::at_most(2.0, 1.3),
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
        let [alone, felt] = &series[..] else { bail!("two variants have {} series", series.len()) };
        let mut lines = Slower::UNPROMISED.lines(alone);
        lines.extend(Slower { p99, ..Slower::UNPROMISED }.lines(felt));
        report.add(&format!("{name}, at {rate} transactions/s"), &series, &lines)?;
    }
    Ok(())
}
