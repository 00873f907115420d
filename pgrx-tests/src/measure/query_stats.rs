//! `cargo measure query-stats`: what counting statements costs, beside pg_stat_statements, and what the history costs to keep
//! and to read.

mod drain;
mod execution;
mod reading;
mod storage;
mod throughput;

use std::time::Duration;

use anyhow::{Result, bail};

use super::report::Report;
use crate::args::Args;
use crate::cluster::Cluster;

pub struct Plan {
    rounds: usize,
    executions: u32,
    drains: usize,
    seconds: Duration,
    statements: i64,
    /// So many times the rounds of the unit tests.
    simulations: usize,
    groups: Vec<&'static Group>,
}

struct Group {
    name: &'static str,
    measure: fn(&Cluster, &Plan, &mut Report) -> Result<()>,
}

const GROUPS: &[Group] = &[
    Group { name: "execution", measure: execution::nanoseconds },
    Group { name: "instructions", measure: execution::instructions },
    Group { name: "pgbench", measure: throughput::pgbench },
    Group { name: "distinct", measure: throughput::distinct },
    Group { name: "drain", measure: drain::measure },
    Group { name: "storage", measure: storage::measure },
    Group { name: "reading", measure: reading::measure },
    Group { name: "regressions", measure: reading::regressions },
];

impl Plan {
    pub fn from_args(args: &mut Args) -> Result<Self> {
        let only = args.list("--only")?;
        if let Some(unknown) = only.iter().find(|o| GROUPS.iter().all(|g| g.name != **o)) {
            let known: Vec<_> = GROUPS.iter().map(|g| g.name).collect();
            bail!("there is no group {unknown}; there are {}", known.join(", "));
        }
        Ok(Self {
            rounds: args.parsed("--rounds")?.unwrap_or(60),
            executions: args.parsed("--executions")?.unwrap_or(10_000),
            drains: args.parsed("--drains")?.unwrap_or(5),
            seconds: Duration::from_secs(args.parsed("--seconds")?.unwrap_or(10)),
            statements: args.parsed("--statements")?.unwrap_or(5000),
            simulations: args.parsed("--simulations")?.unwrap_or(10),
            groups: GROUPS.iter().filter(|g| only.is_empty() || only.iter().any(|o| o == g.name)).collect(),
        })
    }
}

pub fn measure(cluster: &Cluster, plan: &Plan, report: &mut Report) -> Result<()> {
    plan.groups.iter().try_for_each(|group| (group.measure)(cluster, plan, report))
}
