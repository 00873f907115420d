//! Parts of a measurement that can be asked for by name: `--only plain,busy`.

use anyhow::{Result, bail};

use super::report::Report;
use crate::args::Args;
use crate::cluster::Cluster;

/// A part, which reads what it was asked for from the measurement's plan.
pub struct Group<Plan: 'static> {
    pub name: &'static str,
    pub measure: fn(&Cluster, &Plan, &mut Report) -> Result<()>,
}

/// Those that `--only` names, or all.
pub fn chosen<Plan>(groups: &'static [Group<Plan>], args: &mut Args) -> Result<Vec<&'static Group<Plan>>> {
    let only = args.list("--only")?;
    if let Some(unknown) = only.iter().find(|name| groups.iter().all(|group| group.name != **name)) {
        let known: Vec<_> = groups.iter().map(|group| group.name).collect();
        bail!("there is no part {unknown}; there are {}", known.join(", "));
    }
    Ok(groups.iter().filter(|group| only.is_empty() || only.iter().any(|name| name == group.name)).collect())
}

pub fn measure_each<Plan>(groups: &[&Group<Plan>], cluster: &Cluster, plan: &Plan, report: &mut Report) -> Result<()> {
    groups.iter().try_for_each(|group| {
        println!("\n--- {}", group.name);
        (group.measure)(cluster, plan, report)
    })
}
