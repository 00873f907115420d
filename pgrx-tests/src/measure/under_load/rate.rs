//! `max_wal_rate`: how near to the limit the server's WAL is, and how even.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use super::{DATABASE, Plan};
use crate::cluster::Cluster;
use crate::jobs::executors_of;
use crate::measure::backfill::table::TABLE;
use crate::measure::report::Report;
use crate::measure::series::{Sample, Variant, alternate};
use crate::measure::verdict::{Bound, Comparison, Measure};

const SECONDS: u32 = 10;

pub fn measure(cluster: &Cluster, plan: &Plan, report: &mut Report) -> Result<()> {
    let limits = [1_000, 5_000];
    let mut variants = limits.map(|limit| Variant {
        name: format!("max_wal_rate = {limit} kB/s"),
        run: Box::new(move || run(cluster, plan, limit)),
    });
    let series = alternate(plan.runs, &mut variants)?;
    let lines: Vec<_> = series
        .iter()
        .flat_map(|series| {
            let line = |what: &str, figure| {
                Comparison::new(format!("{}: {what}", series.name), series, series, Measure::Median(figure))
            };
            [
                line("over 10 s, x limit", "rate_x").must(Bound::AtMost(1.1)),
                line("over 10 s, x limit (not less)", "rate_x").must(Bound::AtLeast(0.9)),
                line("the fullest second, x limit", "fullest_second_x"),
                line("the emptiest second, x limit", "emptiest_second_x"),
            ]
        })
        .collect();
    report.add("WAL at its limit", &series, &lines)
}

fn run(cluster: &Cluster, plan: &Plan, limit: u32) -> Result<Sample> {
    let shape = plan.shape();
    let mut session = cluster.connect(DATABASE)?;
    shape.make_table(&mut session)?;
    let job = session.text(&format!(
        "SELECT upkeep.backfill('{TABLE}', $${}$$, 'label IS NULL', max_wal_rate => {limit})",
        shape.assignments()
    ))?;
    std::thread::sleep(Duration::from_secs(3));
    let mut places = Vec::new();
    for _ in 0..=SECONDS {
        let place: f64 = session.value("SELECT (pg_current_wal_insert_lsn() - '0/0')::float8 / 1024")?;
        places.push((place, Instant::now()));
        std::thread::sleep(Duration::from_secs(1));
    }
    let state = session.text(&format!("SELECT state FROM upkeep.jobs WHERE id = '{job}'"))?;
    if state == "done" {
        bail!("the job ended too soon: more --rows are needed");
    }
    session.run(&format!("SELECT upkeep.cancel('{job}')"))?;
    while !executors_of(&mut session, &job)?.is_empty() {
        std::thread::sleep(Duration::from_millis(20));
    }
    let rate = |from: (f64, Instant), to: (f64, Instant)| {
        (to.0 - from.0) / to.1.duration_since(from.1).as_secs_f64() / f64::from(limit)
    };
    let seconds: Vec<f64> = places.windows(2).map(|pair| rate(pair[0], pair[1])).collect();
    Ok(Sample::from([
        ("rate_x", rate(places[0], places[SECONDS as usize])),
        ("fullest_second_x", crate::figures::max(&seconds)),
        ("emptiest_second_x", crate::figures::min(&seconds)),
    ]))
}
