//! `cargo demo`: from a clone to a finished backfill under load.

mod bar;
mod contest;
pub mod pgbench;

use std::io::{Write, stdout};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::Result;

use crate::args::Args;
use crate::cluster::Cluster;
use crate::command;
use crate::extension::Flavour;
use crate::figures::thousands;
use crate::pg::SUPERUSER;
use crate::prepare::Postgres;
use crate::room::Room;
use crate::user::ServerUser;

const CLUSTER: &str = "demo";
const DATABASE: &str = "demo";
/// The same content, for the UPDATE to compare with.
const TWIN: &str = "one_update";

pub fn run(mut args: Args) -> Result<ExitCode> {
    let clock = Instant::now();
    let scale: u32 = args.parsed("--scale")?.unwrap_or(10);
    let workers: u32 = args.parsed("--workers")?.unwrap_or(2);
    if args.flag("--stop") {
        args.finish()?;
        return stop();
    }
    let postgres = Postgres::from_args(&mut args)?;
    args.finish()?;
    let rows = f64::from(scale) * 100_000.0;

    println!("pg_upkeep on PostgreSQL {}\n", postgres.installation.version);
    let tree = step("building the extension", || postgres.tree(Flavour::Release))?;
    let cluster = step("starting a private server", || {
        Cluster::builder(&tree, CLUSTER)
            .lasting()
            .preloaded()
            .durable()
            .set("shared_buffers", "512MB")
            .set("max_wal_size", "4GB")
            .start()
    })?;
    step(&format!("loading pgbench's data, {} accounts", thousands(rows)), || load(&cluster, scale))?;

    let update = step("pgbench, then one UPDATE of a copy beside it", || contest::one_update(&cluster, TWIN, rows))?;
    let compact = step("VACUUM FULL of that copy, for the compact size", || contest::compact_sizes(&cluster, TWIN))?;
    println!("pgbench, then the same work by a job beside it:");
    let job = contest::backfill(&cluster, DATABASE, rows, workers)?;

    println!("\n{}", contest::table(&update, &job, compact, rows));
    println!("{}\n", contest::prove(&mut cluster.connect(DATABASE)?, rows)?);
    cluster.connect("postgres")?.run(&format!("DROP DATABASE {TWIN}"))?;
    println!("Finished in {:.0} s. The server keeps running.\n", clock.elapsed().as_secs_f64());
    println!("{}", farewell(&cluster));
    cluster.leave_running();
    Ok(ExitCode::SUCCESS)
}

fn stop() -> Result<ExitCode> {
    let stopped = Cluster::remove_lasting(&Room::open(&ServerUser::find()?)?, CLUSTER)?;
    println!("{}", if stopped { "The demo's server is stopped and removed." } else { "There is no demo server." });
    Ok(ExitCode::SUCCESS)
}

/// Says what happens, and how long it took.
fn step<T>(what: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    println!("{what} ...");
    stdout().flush()?;
    let clock = Instant::now();
    let result = work()?;
    println!("  {:.1} s", clock.elapsed().as_secs_f64());
    Ok(result)
}

fn load(cluster: &Cluster, scale: u32) -> Result<()> {
    cluster.create_database(DATABASE)?;
    let mut pgbench = cluster.client_command("pgbench", DATABASE);
    command::capture(pgbench.args(["--initialize", "--quiet", "--scale", &scale.to_string()]))?;
    // Before the extension is there: a copied database would rightly come up with its jobs paused.
    cluster.connect("postgres")?.run(&format!("CREATE DATABASE {TWIN} TEMPLATE {DATABASE}"))?;
    cluster.connect(DATABASE)?.run("CREATE EXTENSION pg_upkeep")
}

fn farewell(cluster: &Cluster) -> String {
    format!(
        "Connect:   {} -h {} -U {SUPERUSER} {DATABASE}\n\
         Try:       SELECT * FROM upkeep.jobs;\n           \
                    SELECT * FROM upkeep.explain_backfill('{table}', $$abalance = 0$$, 'abalance <> 0');\n           \
                    ALTER TABLE {table} ADD COLUMN code text;\n           \
                    SELECT upkeep.backfill('{table}', $$code = md5(aid::text)$$, 'code IS NULL');\n           \
                    SELECT state, percent, bar, rows_per_second FROM upkeep.jobs  \\watch 0.5\n\
         Stop:      cargo demo -- --stop",
        cluster.tree.pg.bin.join("psql").display(),
        cluster.host().display(),
        table = contest::TABLE,
    )
}
