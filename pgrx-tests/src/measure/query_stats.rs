//! `cargo measure query-stats`: what counting statements costs, beside pg_stat_statements, and what the history costs to keep
//! and to read.

mod drain;
mod execution;
mod reading;
mod storage;
mod throughput;

use std::time::Duration;

use anyhow::Result;

use super::groups::{Group, chosen, measure_each};
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
    groups: Vec<&'static Group<Plan>>,
}

const GROUPS: &[Group<Plan>] = &[
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
        Ok(Self {
            rounds: args.parsed("--rounds")?.unwrap_or(60),
            executions: args.parsed("--executions")?.unwrap_or(10_000),
            drains: args.parsed("--drains")?.unwrap_or(5),
            seconds: Duration::from_secs(args.parsed("--seconds")?.unwrap_or(10)),
            statements: args.parsed("--statements")?.unwrap_or(5000),
            simulations: args.parsed("--simulations")?.unwrap_or(10),
            groups: chosen(GROUPS, args)?,
        })
    }
}

pub fn measure(cluster: &Cluster, plan: &Plan, report: &mut Report) -> Result<()> {
    measure_each(&plan.groups, cluster, plan, report)
}
