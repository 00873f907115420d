//! `cargo measure soft-delete-purge`: does a purge stay as fast as it began?

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use super::report::Report;
use super::series::{Sample, Variant, alternate};
use super::verdict::{Bound, Comparison, Measure};
use crate::args::Args;
use crate::cluster::Cluster;
use crate::session::Session;

const DATABASE: &str = "purge";
const RATIO: &str = "last tenth / first tenth";

pub struct Plan {
    rows: i64,
    runs: usize,
}

impl Plan {
    pub fn from_args(args: &mut Args) -> Result<Self> {
        Ok(Self { rows: args.parsed("--rows")?.unwrap_or(1_000_000), runs: args.parsed("--runs")?.unwrap_or(9) })
    }
}

pub fn measure(cluster: &Cluster, plan: &Plan, report: &mut Report) -> Result<()> {
    cluster.connect("postgres")?.run(&format!("CREATE DATABASE {DATABASE}"))?;
    cluster.connect(DATABASE)?.run("CREATE EXTENSION pg_upkeep")?;
    let variant = |name: &str, sets: &'static str| Variant {
        name: name.to_owned(),
        run: Box::new(move || purge(cluster, plan.rows, sets)),
    };
    let series = alternate(
        plan.runs,
        &mut [
            variant("one deletion", "deleted_at = now() - interval '1 day'"),
            variant(
                "deleted one by one",
                "deleted_at = now() - interval '1 day' + (hashint8(id) & 16777215) * interval '1 ms'",
            ),
        ],
    )?;
    let verdict: Vec<Comparison> = series
        .iter()
        .map(|one| {
            let what = format!("{}: rows/s of the last tenth against the first", one.name);
            Comparison::new(what, one, one, Measure::Median(RATIO)).must(Bound::AtLeast(0.9))
        })
        .collect();
    report.add(&format!("purge of {} rows", plan.rows), &series, &verdict)
}

fn purge(cluster: &Cluster, rows: i64, sets: &str) -> Result<Sample> {
    let mut session = cluster.connect(DATABASE)?;
    session.run("DROP TABLE IF EXISTS t CASCADE")?;
    session.run(&format!(
        "CREATE TABLE t (id bigint PRIMARY KEY, payload text);
         SELECT upkeep.enable_soft_delete('t');
         CREATE INDEX ON t (deleted_at) WHERE deleted_at IS NOT NULL;
         INSERT INTO t SELECT g, repeat('x', 100) FROM generate_series(1, {rows}) g;
         SET session_replication_role = replica;
         UPDATE t SET {sets}, deletion_id = '00000000-0000-0000-0000-000000000001';
         RESET session_replication_role;"
    ))?;
    session.run("VACUUM ANALYZE t")?;
    session.run("CHECKPOINT")?;
    let job = session.text("SELECT upkeep.purge_deleted('t', '0')")?;
    let marks = watch(&mut session, &job, rows)?;
    let speed = |from: usize, to: usize| rows as f64 / 10.0 / (marks[to] - marks[from]).as_secs_f64();
    let (first, last) = (speed(0, 1), speed(9, 10));
    Ok(Sample::from([
        ("seconds", (marks[10] - marks[0]).as_secs_f64()),
        ("rows/s, first tenth", first),
        ("rows/s, last tenth", last),
        (RATIO, last / first),
    ]))
}

/// When each tenth of the rows was gone; the first mark is the first batch's.
fn watch(session: &mut Session, job: &str, rows: i64) -> Result<Vec<Instant>> {
    let look = format!("SELECT rows_done || ' ' || state FROM upkeep.jobs WHERE id = '{job}'");
    let mut points: Vec<(Instant, i64)> = Vec::new();
    loop {
        let seen = session.text(&look)?;
        let (done, state) = seen.split_once(' ').unwrap_or(("0", ""));
        let done: i64 = done.parse().unwrap_or(0);
        if done > 0 && points.last().is_none_or(|&(_, last)| done > last) {
            points.push((Instant::now(), done));
        }
        match state {
            "done" => break,
            "failed" | "canceled" => bail!("the purge is {state}"),
            _ => thread::sleep(Duration::from_millis(10)),
        }
    }
    (0..=10i64).map(|tenth| at(&points, (rows * tenth / 10).max(points[0].1))).collect()
}

/// Between two looks rows went evenly.
fn at(points: &[(Instant, i64)], rows: i64) -> Result<Instant> {
    let Some(next) = points.iter().position(|&(_, done)| done >= rows) else { bail!("{rows} rows were not purged") };
    let Some(before) = next.checked_sub(1) else { return Ok(points[next].0) };
    let ((from, low), (to, high)) = (points[before], points[next]);
    Ok(from + (to - from).mul_f64((rows - low) as f64 / (high - low) as f64))
}
