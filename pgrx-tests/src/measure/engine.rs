//! `cargo measure engine`: what the engine of jobs costs, and what others notice of it.

mod locks;
mod work;

use anyhow::Result;

use super::groups::{self, Group};
use super::report::Report;
use crate::args::Args;
use crate::cluster::{Cluster, ClusterBuilder};
use crate::in_the_way;

pub struct Plan {
    pub runs: usize,
    /// Of a job that does nothing but steps, and of the scheduler.
    pub steps: u32,
    pub looks: u32,
    groups: Vec<&'static Group<Plan>>,
}

/// One file each.
const GROUPS: &[Group<Plan>] = &[
    Group { name: "locks", measure: locks::measure },
    Group { name: "steps", measure: work::steps },
    Group { name: "children", measure: work::children },
    Group { name: "looks", measure: work::looks },
];

impl Plan {
    pub fn from_args(args: &mut Args) -> Result<Self> {
        Ok(Self {
            runs: args.parsed("--runs")?.unwrap_or(3),
            steps: args.parsed("--steps")?.unwrap_or(5000),
            looks: args.parsed("--looks")?.unwrap_or(100),
            groups: groups::chosen(GROUPS, args)?,
        })
    }
}

pub fn server(server: ClusterBuilder) -> ClusterBuilder {
    in_the_way::server(server.durable())
}

pub fn measure(cluster: &Cluster, plan: &Plan, report: &mut Report) -> Result<()> {
    groups::measure_each(&plan.groups, cluster, plan, report)
}
