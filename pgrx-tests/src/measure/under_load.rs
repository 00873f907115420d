//! `cargo measure backfill-under-load`: what an application feels of a job, and what a job leaves of its standbys.

mod beside;
mod bursts;
mod cost;
mod latency;
mod looks;
mod mixes;
mod rate;
mod sizes;
mod standby;
mod waits;

use anyhow::{Result, bail};

use super::backfill::table::{Shape, TABLE};
use super::groups::{Group, chosen, measure_each};
use super::report::Report;
use crate::args::Args;
use crate::cluster::Cluster;
use crate::session::Session;

const DATABASE: &str = "measure";

pub struct Plan {
    rows: u64,
    runs: usize,
    /// Percents of what pgbench can do; empty: all of them.
    at: Vec<String>,
    groups: Vec<&'static Group<Plan>>,
}

const GROUPS: &[Group<Plan>] = &[
    Group { name: "waits", measure: waits::measure },
    Group { name: "latency", measure: latency::measure },
    Group { name: "mixes", measure: mixes::measure },
    Group { name: "bursts", measure: bursts::measure },
    Group { name: "sizes", measure: sizes::measure },
    Group { name: "cost", measure: cost::measure },
    Group { name: "standby", measure: standby::measure },
    Group { name: "rate", measure: rate::measure },
];

impl Plan {
    pub fn from_args(args: &mut Args) -> Result<Self> {
        Ok(Self {
            rows: args.parsed("--rows")?.unwrap_or(2_000_000),
            runs: args.parsed("--runs")?.unwrap_or(5),
            at: args.list("--at")?,
            groups: chosen(GROUPS, args)?,
        })
    }

    fn shape(&self) -> Shape {
        Shape::usual(self.rows)
    }
}

pub fn measure(cluster: &Cluster, plan: &Plan, report: &mut Report) -> Result<()> {
    let mut session = cluster.with_extension(DATABASE)?;
    println!(
        "{} rows, {} runs in turns; a job's time is the server's from the request to its end",
        plan.rows, plan.runs
    );
    plan.shape().make_base(&mut session)?;
    measure_each(&plan.groups, cluster, plan, report)
}

/// Rows a second of a job with these arguments, from the request to its end.
fn run_job(session: &mut Session, shape: &Shape, arguments: &str) -> Result<f64> {
    let job = session.text(&format!(
        "SELECT upkeep.backfill('{TABLE}', $${}$$, 'label IS NULL', {arguments})",
        shape.assignments()
    ))?;
    session.run(&format!("CALL upkeep.wait('{job}')"))?;
    let look =
        format!("SELECT extract(epoch FROM finished_at - created_at)::float8 FROM upkeep.jobs WHERE id = '{job}'");
    let seconds: f64 = session.value(&look)?;
    let wrong = shape.wrong_rows(session)?;
    if wrong > 0 {
        bail!("{wrong} rows were not filled");
    }
    Ok(shape.rows as f64 / seconds)
}
