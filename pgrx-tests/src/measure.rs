//! `cargo measure NAME`: figures that can be repeated. Variants run in turns, so that a busy minute of the machine hits
//! all of them; what is reported is the median, with the least and the greatest value.

mod backfill;
mod index_bloat;
mod report;
mod series;
mod verdict;

use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result, bail};

use self::report::Report;
use crate::args::Args;
use crate::cluster::Cluster;
use crate::extension::Flavour;
use crate::prepare::Postgres;

const NAMES: &str = "backfill, index-bloat";

enum Plan {
    Backfill(backfill::Plan),
    IndexBloat(index_bloat::Plan),
}

pub fn run(mut args: Args) -> Result<ExitCode> {
    let Some(name) = args.positional() else { bail!("measure what? There is: {NAMES}") };
    let plan = match name.as_str() {
        "backfill" => Plan::Backfill(backfill::Plan::from_args(&mut args)?),
        "index-bloat" => Plan::IndexBloat(index_bloat::Plan::from_args(&mut args)?),
        _ => bail!("there is no measurement {name}; there is: {NAMES}"),
    };
    let postgres = Postgres::from_args(&mut args)?;
    args.finish()?;

    let tree = postgres.tree(Flavour::Release)?;
    let clock = Instant::now();
    let cluster = Cluster::builder(&tree, &Cluster::unique_name("measure"))
        .preloaded()
        .durable()
        .set("shared_buffers", "1GB")
        // Checkpoints are ours alone: one before each run, none within.
        .set("max_wal_size", "32GB")
        .set("min_wal_size", "4GB")
        .set("checkpoint_timeout", "1h")
        .start()?;
    let mut report = Report::new(&name, settings(&cluster)?);
    println!("{}", report.settings_text());
    match &plan {
        Plan::Backfill(plan) => backfill::measure(&cluster, plan, &mut report),
        Plan::IndexBloat(plan) => index_bloat::measure(&cluster, plan, &mut report),
    }
    .context(name)?;
    report.close(clock.elapsed())?;
    Ok(ExitCode::SUCCESS)
}

/// What the figures depend on, as the server has it.
fn settings(cluster: &Cluster) -> Result<Vec<(String, String)>> {
    let names = [
        "server_version",
        "shared_buffers",
        "fsync",
        "synchronous_commit",
        "full_page_writes",
        "wal_compression",
        "max_wal_size",
        "checkpoint_timeout",
        "autovacuum",
        "autovacuum_naptime",
        "shared_preload_libraries",
    ];
    let mut session = cluster.connect("postgres")?;
    let show = |name: &str| -> Result<(String, String)> {
        Ok((name.to_owned(), session.text(&format!("SELECT current_setting('{name}')"))?))
    };
    let mut settings = names.into_iter().map(show).collect::<Result<Vec<_>>>()?;
    // And whatever the extension itself can be told.
    for line in session.rows("SELECT name, setting FROM pg_settings WHERE name LIKE 'upkeep.%' ORDER BY name")? {
        if let Some((name, value)) = line.split_once('|') {
            settings.push((name.to_owned(), value.to_owned()));
        }
    }
    let cores = std::thread::available_parallelism()?;
    settings.push(("cores".into(), cores.to_string()));
    Ok(settings)
}
