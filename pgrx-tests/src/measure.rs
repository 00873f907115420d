//! `cargo measure NAME`: figures that can be repeated. Variants run in turns, so that a busy minute of the machine hits
//! all of them; what is reported is the median, with the least and the greatest value.

mod backfill;
mod index_bloat;
mod index_views;
mod query_reports;
mod query_stats;
mod report;
mod schedules_idle;
mod series;
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

const NAMES: &str =
    "backfill, backfill-under-load, schedules-idle, index-views, index-bloat, query-stats, query-reports";

type Run = dyn Fn(&Cluster, &mut Report) -> Result<()>;

/// What is measured, and on what server.
struct Measurement {
    server: fn(ClusterBuilder) -> ClusterBuilder,
    run: Box<Run>,
}

impl Measurement {
    fn named(name: &str, args: &mut Args) -> Result<Self> {
        Ok(match name {
            "backfill" => {
                let plan = backfill::Plan::from_args(args)?;
                Self {
                    server: under_work,
                    run: Box::new(move |cluster, report| backfill::measure(cluster, &plan, report)),
                }
            }
            "backfill-under-load" => {
                let plan = under_load::Plan::from_args(args)?;
                Self {
                    server: under_work,
                    run: Box::new(move |cluster, report| under_load::measure(cluster, &plan, report)),
                }
            }
            "schedules-idle" => {
                let plan = schedules_idle::Plan::from_args(args)?;
                Self {
                    server: at_rest,
                    run: Box::new(move |cluster, report| schedules_idle::measure(cluster, &plan, report)),
                }
            }
            "index-views, index-bloat" => {
                let plan = index_views::Plan::from_args(args)?;
                Self {
                    server: with_many_tables,
                    run: Box::new(move |cluster, report| index_views::measure(cluster, &plan, report)),
                }
            }
            "query-reports" => {
                let plan = query_reports::Plan::from_args(args)?;
                Self {
                    server: under_work,
                    run: Box::new(move |cluster, report| query_reports::measure(cluster, &plan, report)),
                }
            }
            "index-bloat" => {
                let plan = index_bloat::Plan::from_args(args)?;
                Self {
                    server: under_work,
                    run: Box::new(move |cluster, report| index_bloat::measure(cluster, &plan, report)),
                }
            }
            "query-stats" => {
                let plan = query_stats::Plan::from_args(args)?;
                Self {
                    server: at_rest,
                    run: Box::new(move |cluster, report| query_stats::measure(cluster, &plan, report)),
                }
            }
            _ => bail!("there is no measurement {name}; there is: {NAMES}"),
        })
    }
}

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

/// Nothing but us could do anything.
fn at_rest(server: ClusterBuilder) -> ClusterBuilder {
    server.set("autovacuum", "off")
}

pub fn run(mut args: Args) -> Result<ExitCode> {
    let Some(name) = args.positional() else { bail!("measure what? There is: {NAMES}") };
    let measurement = Measurement::named(&name, &mut args)?;
    let postgres = Postgres::from_args(&mut args)?;
    args.finish()?;

    let tree = postgres.tree(Flavour::Release)?;
    let clock = Instant::now();
    let builder = Cluster::builder(&tree, &Cluster::unique_name("measure")).preloaded();
    let cluster = (measurement.server)(builder).start()?;
    let mut report = Report::new(&name, settings(&cluster)?);
    println!("{}", report.settings_text());
    (measurement.run)(&cluster, &mut report).context(name)?;
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
