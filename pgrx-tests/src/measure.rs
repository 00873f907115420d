//! `cargo measure NAME`: figures that can be repeated. Variants run in turns, so that a busy minute of the machine hits
//! all of them; what is reported is the median, with the least and the greatest value.

mod backfill;
mod engine;
mod groups;
mod index_bloat;
mod index_views;
mod query_stats;
mod report;
mod row_stamps;
mod schedules_idle;
mod series;
mod soft_delete;
mod soft_delete_purge;
mod under_load;
mod verdict;

use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result, bail};

use self::report::Report;
use crate::args::Args;
use crate::cluster::{Cluster, ClusterBuilder};
use crate::extension::Flavour;
use crate::prepare::Postgres;

type Server = fn(ClusterBuilder) -> ClusterBuilder;
type Run = Box<dyn Fn(&Cluster, &mut Report) -> Result<()>>;

/// What is measured, on what server, and how its arguments are read.
struct Measurement {
    name: &'static str,
    server: Server,
    prepare: fn(&mut Args) -> Result<Run>,
    /// Steps that a test wants are in no library that users install.
    flavour: Flavour,
}

/// A room with a `Plan` of its arguments and a `measure`.
macro_rules! measurement {
    ($name:literal, $room:ident, $server:ident) => {
        measurement!($name, $room, $server, Release)
    };
    ($name:literal, $room:ident, $server:ident, $flavour:ident) => {
        Measurement {
            name: $name,
            flavour: Flavour::$flavour,
            server: $server,
            prepare: |args| {
                let plan = $room::Plan::from_args(args)?;
                Ok(Box::new(move |cluster, report| $room::measure(cluster, &plan, report)))
            },
        }
    };
}

const MEASUREMENTS: &[Measurement] = &[
    measurement!("backfill", backfill, under_work),
    measurement!("backfill-under-load", under_load, under_work),
    measurement!("engine", engine, at_the_engine, ReleaseTests),
    measurement!("schedules-idle", schedules_idle, at_rest),
    measurement!("index-views", index_views, with_many_tables),
    measurement!("index-bloat", index_bloat, under_work),
    measurement!("query-stats", query_stats, under_work),
    measurement!("row-stamps", row_stamps, under_work),
    measurement!("soft-delete", soft_delete, under_work),
    measurement!("soft-delete-purge", soft_delete_purge, under_work),
];

/// Checkpoints are ours alone: one before each run, none within.
fn under_work(server: ClusterBuilder) -> ClusterBuilder {
    server
        .durable()
        .set("shared_buffers", "1GB")
        .set("max_wal_size", "32GB")
        .set("min_wal_size", "4GB")
        .set("checkpoint_timeout", "1h")
}

/// Thousands of tables are made in one transaction, and their indexes are old enough to be judged.
fn with_many_tables(server: ClusterBuilder) -> ClusterBuilder {
    under_work(server).set("max_locks_per_transaction", 1024).set("upkeep.index_min_age", 0)
}

/// As [`engine`] wants it.
fn at_the_engine(server: ClusterBuilder) -> ClusterBuilder {
    engine::server(server)
}

/// Nothing but us could do anything.
fn at_rest(server: ClusterBuilder) -> ClusterBuilder {
    server.set("autovacuum", "off")
}

pub fn run(mut args: Args) -> Result<ExitCode> {
    let names = MEASUREMENTS.iter().map(|m| m.name).collect::<Vec<_>>().join(", ");
    let Some(name) = args.positional() else { bail!("measure what? There is: {names}") };
    let Some(measurement) = MEASUREMENTS.iter().find(|m| m.name == name) else {
        bail!("there is no measurement {name}; there is: {names}")
    };
    let run = (measurement.prepare)(&mut args)?;
    let postgres = Postgres::from_args(&mut args)?;
    args.finish()?;

    let tree = postgres.tree(measurement.flavour)?;
    let clock = Instant::now();
    let builder = Cluster::builder(&tree, &Cluster::unique_name("measure")).preloaded();
    let cluster = (measurement.server)(builder).start()?;
    let mut report = Report::new(&name, settings(&cluster)?);
    println!("{}", report.settings_text());
    run(&cluster, &mut report).context(name)?;
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
