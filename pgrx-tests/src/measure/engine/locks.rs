//! Attempts at locks: how long others wait behind them, and how soon an autovacuum lets one through.

use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::Result;

use super::Plan;
use crate::beside::Longest;
use crate::cluster::{Cluster, PATIENCE};
use crate::in_the_way::{self, InTheWay};
use crate::jobs::wait;
use crate::measure::report::Report;
use crate::measure::series::{Sample, Variant, alternate};
use crate::measure::verdict::{Bound, Comparison, Measure};
use crate::session::Session;
use crate::testing::wait_for_text;
use crate::wait::wait_for;

/// Until attempts have waited for all of `upkeep.ddl_lock_timeout`, as they do from here on.
const LOOK: Duration = Duration::from_secs(12);

pub fn measure(cluster: &Cluster, plan: &Plan, report: &mut Report) -> Result<()> {
    let everybody = InTheWay::PATIENTLY.into_iter().chain([InTheWay::Autovacuum]);
    let variant = |who: InTheWay| Variant { name: format!("{who:?}"), run: Box::new(move || run(cluster, who)) };
    let mut variants: Vec<_> = everybody.map(variant).collect();
    let series = alternate(plan.runs, &mut variants)?;
    let mut lines = Vec::new();
    for (series, who) in series.iter().zip(InTheWay::PATIENTLY.into_iter().chain([InTheWay::Autovacuum])) {
        for (figure, whose) in [("reader_ms", "reader"), ("writer_ms", "writer")] {
            let what = format!("longest wait of a {whose}, {who:?}: ms");
            let mut line = Comparison::new(what, series, series, Measure::Median(figure));
            // The worst of all runs: a median would hide the one that hurt.
            line.value = series.range(figure).1;
            lines.push(line.must(Bound::AtMost(250.0)).goal(Bound::AtMost(60.0)));
        }
        if who == InTheWay::Autovacuum {
            let line = Comparison::new(
                "first attempt to trigger, through it: s",
                series,
                series,
                Measure::Median("through_s"),
            );
            lines.push(line.must(Bound::AtMost(3.0)).goal(Bound::AtMost(1.5)));
        }
    }
    report.add("Others beside an attempt", &series, &lines)
}

/// A fresh database with somebody in the way of a job.
fn run(cluster: &Cluster, who: InTheWay) -> Result<Sample> {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let name = format!("locks_{}", COUNT.fetch_add(1, Ordering::Relaxed));
    let mut session = cluster.with_extension(&name)?;
    in_the_way::make_table(&mut session)?;
    let holder = who.take(cluster, &name)?;
    let beside = in_the_way::beside(|| cluster.connect(&name))?;
    let job = in_the_way::start_job(&mut session)?;
    let mut sample = if who == InTheWay::Autovacuum {
        let through =
            wait_for("the trigger", PATIENCE, || in_the_way::time_to_trigger(&mut session, &job))?.as_secs_f64();
        Sample::from([("through_s", through)])
    } else {
        wait_for_text(&mut session, &format!("SELECT state FROM upkeep.jobs WHERE id = '{job}'"), "waiting")?;
        thread::sleep(LOOK);
        Sample::new()
    };
    let Longest { reader, writer, .. } = beside.end()?;
    sample.insert("reader_ms", reader.as_secs_f64() * 1e3);
    sample.insert("writer_ms", writer.as_secs_f64() * 1e3);
    if who != InTheWay::AutovacuumAgainstWraparound {
        holder.let_go()?;
        wait(&mut session, &job)?;
    }
    drop(session);
    drop_database(&mut cluster.connect("postgres")?, &name)?;
    Ok(sample)
}

fn drop_database(session: &mut Session, name: &str) -> Result<()> {
    session.run(&format!("DROP DATABASE {name} WITH (FORCE)"))
}
