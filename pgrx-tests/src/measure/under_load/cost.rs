//! What looking costs: the scheduler's time on a processor while it watches what an application feels.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::beside::{self, Load, Script};
use super::{DATABASE, Plan};
use crate::cluster::Cluster;
use crate::demo::pgbench::Span;
use crate::measure::backfill::table::TABLE;
use crate::measure::report::Report;
use crate::measure::series::{Sample, Variant, alternate};
use crate::measure::verdict::{Bound, Comparison, Measure};
use crate::observe::time_on_cpu;

const WATCHED: Duration = Duration::from_secs(10);
const SETTLE: Duration = Duration::from_secs(4);

pub fn measure(cluster: &Cluster, plan: &Plan, report: &mut Report) -> Result<()> {
    let rate = (beside::prepare(cluster, plan)? / 2.0) as u32;
    let variant = |name: &str, slowdown: &'static str| Variant {
        name: name.into(),
        run: Box::new(move || run(cluster, plan, slowdown, Load { script: Script::TpcB, rate })),
    };
    let series = alternate(plan.runs, &mut [variant("max_slowdown = 0", "0"), variant("max_slowdown = 1.2", "1.2")])?;
    let lines: Vec<_> = series
        .iter()
        .map(|series| {
            let what = format!("{}: the scheduler, % of a core", series.name);
            let line = Comparison::new(what, series, series, Measure::Median("scheduler_percent"));
            line.must(Bound::AtMost(0.5)).goal(Bound::AtMost(0.1))
        })
        .collect();
    report.add(&format!("What looking costs, at {rate} transactions/s"), &series, &lines)
}

fn run(cluster: &Cluster, plan: &Plan, slowdown: &str, load: Load) -> Result<Sample> {
    let mut session = cluster.connect(DATABASE)?;
    session.run(&format!("ALTER SYSTEM SET upkeep.max_slowdown = {slowdown}"))?;
    session.run("SELECT pg_reload_conf()")?;
    plan.shape().make_table(&mut session)?;
    let pgbench = load.start(cluster, plan)?;
    // Otherwise it would be done before it has been watched for long enough.
    let assignments = plan.shape().assignments();
    let job = session.text(&format!(
        "SELECT upkeep.backfill('{TABLE}', $${assignments}$$, 'label IS NULL', throttle_work_ratio => 0.2)"
    ))?;
    Span::pass(SETTLE);
    let pid: i32 = session
        .values("SELECT pid FROM pg_stat_activity WHERE backend_type = 'pg_upkeep scheduler'")?
        .pop()
        .context("no scheduler")?;
    let (clock, before) = (Instant::now(), time_on_cpu(pid)?);
    Span::pass(WATCHED);
    let percent = 100.0 * (time_on_cpu(pid)? - before).as_secs_f64() / clock.elapsed().as_secs_f64();
    beside::end(&mut session, &job)?;
    pgbench.stop()?;
    session.run("ALTER SYSTEM RESET upkeep.max_slowdown")?;
    session.run("SELECT pg_reload_conf()")?;
    Ok(Sample::from([("scheduler_percent", percent)]))
}
