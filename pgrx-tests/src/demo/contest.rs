//! The two contestants: one UPDATE, and the same work as a job of pg_upkeep. Each has a database of its own with the same
//! content and the same pgbench beside it.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use super::bar;
use super::pgbench::{Latency, Pgbench, Span};
use crate::cluster::Cluster;
use crate::figures::{align, megabytes, thousands};
use crate::observe::{Counters, Sizes, Work};
use crate::session::Session;

pub const TABLE: &str = "pgbench_accounts";
pub const LABEL: &str = "label = 'account ' || aid";
pub const MISSING: &str = "label IS NULL";
const CALM: Duration = Duration::from_secs(4);

pub struct Outcome {
    seconds: f64,
    sizes: Sizes,
    work: Work,
    before: Latency,
    during: Latency,
}

/// Fills the column by one UPDATE.
pub fn one_update(cluster: &Cluster, database: &str, rows: f64) -> Result<Outcome> {
    contest(cluster, database, rows, |session| {
        // The counts must be there when the clock stops, not a second later.
        session.run(&format!("UPDATE {TABLE} SET {LABEL} WHERE {MISSING}; SELECT pg_stat_force_next_flush()"))
    })
}

/// Fills the column by a job.
pub fn backfill(cluster: &Cluster, database: &str, rows: f64, workers: u32) -> Result<Outcome> {
    contest(cluster, database, rows, |session| {
        let call = backfill_call(workers);
        println!("\n  demo=# {call};\n");
        let job = session.text(&call)?;
        bar::follow(session, &job)
    })
}

pub fn backfill_call(workers: u32) -> String {
    format!("SELECT upkeep.backfill('{TABLE}', $${LABEL}$$, $${MISSING}$$, name => 'label', workers => {workers})")
}

fn contest(
    cluster: &Cluster,
    database: &str,
    rows: f64,
    work: impl FnOnce(&mut Session) -> Result<()>,
) -> Result<Outcome> {
    let mut session = cluster.connect(database)?;
    // Autovacuum would come to one of the two by chance.
    session.run(&format!("ALTER TABLE {TABLE} SET (autovacuum_enabled = off), ADD COLUMN label text"))?;
    session.run("CHECKPOINT")?;
    let pgbench = Pgbench::start(cluster, database)?;
    let before = pgbench.latency(Span::pass(CALM))?;

    let counters = Counters::read(&mut session, TABLE)?;
    let clock = Instant::now();
    let (span, worked) = Span::during(|| work(&mut session));
    worked?;
    let seconds = clock.elapsed().as_secs_f64();
    let work = counters.until_now(&mut session, TABLE, rows)?;
    let sizes = Sizes::of(&mut session, TABLE)?;

    let during = pgbench.latency(span)?;
    pgbench.stop()?;
    session.run(&format!("ALTER TABLE {TABLE} RESET (autovacuum_enabled)"))?;
    Ok(Outcome { seconds, sizes, work, before, during })
}

/// The sizes that the filled table has without a single dead row.
pub fn compact_sizes(cluster: &Cluster, database: &str) -> Result<Sizes> {
    let mut session = cluster.connect(database)?;
    session.run(&format!("VACUUM FULL {TABLE}"))?;
    Sizes::of(&mut session, TABLE)
}

/// Both side by side.
pub fn table(update: &Outcome, job: &Outcome, compact: Sizes, rows: f64) -> String {
    type Show = Box<dyn Fn(&Outcome) -> String>;
    let size = |bytes: f64, compact: f64| format!("{} ({:.2}x)", megabytes(bytes), bytes / compact);
    let felt = |of: fn(Latency) -> f64| -> Show {
        Box::new(move |o| {
            let (before, during) = (of(o.before), of(o.during));
            format!("{before:.1} -> {during:.1} ms ({:.2}x)", during / before)
        })
    };
    let lines: [(&str, Show); 9] = [
        ("rows/s", Box::new(move |o| thousands(rows / o.seconds))),
        ("WAL", Box::new(|o| megabytes(o.work.wal))),
        ("table (x compact)", Box::new(move |o| size(o.sizes.table, compact.table))),
        ("indexes (x compact)", Box::new(move |o| size(o.sizes.indexes, compact.indexes))),
        ("HOT updates", Box::new(|o| format!("{:.0} %", o.work.hot_share * 100.0))),
        ("pgbench median, before -> during", felt(|latency| latency.median)),
        ("pgbench p95, before -> during", felt(|latency| latency.p95)),
        ("pgbench p99, before -> during", felt(|latency| latency.p99)),
        ("pgbench worst, before -> during", felt(|latency| latency.worst)),
    ];
    let mut cells = vec![vec![String::new(), "one UPDATE".into(), "upkeep.backfill".into()]];
    cells.extend(lines.iter().map(|(name, show)| vec![(*name).to_owned(), show(update), show(job)]));
    align(&cells)
}

/// Nothing is missing, nothing is wrong, and pgbench's books balance. Returns the proof in words.
pub fn prove(session: &mut Session, rows: f64) -> Result<String> {
    let wrong = format!("SELECT count(*)::float8 FROM {TABLE} WHERE label IS DISTINCT FROM 'account ' || aid");
    let (wrong, found): (f64, f64) =
        (session.value(&wrong)?, session.value(&format!("SELECT count(*)::float8 FROM {TABLE}"))?);
    if wrong != 0.0 || found != rows {
        bail!("{found} rows where {rows} were, {wrong} of them without the right label");
    }
    let mut sums: Vec<i64> = session.values(
        "SELECT sum(abalance)::bigint FROM pgbench_accounts UNION ALL SELECT sum(tbalance)::bigint FROM pgbench_tellers
         UNION ALL SELECT sum(bbalance)::bigint FROM pgbench_branches
         UNION ALL SELECT coalesce(sum(delta), 0)::bigint FROM pgbench_history",
    )?;
    let transactions: i64 = session.value("SELECT count(*) FROM pgbench_history")?;
    sums.dedup();
    let [balance] = sums[..] else { bail!("pgbench's balances do not add up: {sums:?}") };
    Ok(format!(
        "{} of {} rows have their label; after {transactions} transactions of pgbench its accounts, tellers,\n\
         branches and history all sum up to {balance}",
        thousands(found - wrong),
        thousands(rows)
    ))
}
