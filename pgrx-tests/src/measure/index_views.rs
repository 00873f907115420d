//! `cargo measure index-views`: what it costs to look at all indexes of a large schema, each time in a session that has seen none of it.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::report::Report;
use super::series::{Sample, Variant, alternate};
use super::verdict::{Bound, Comparison, Measure};
use crate::args::Args;
use crate::cluster::Cluster;
use crate::observe::time_on_cpu;

const DATABASE: &str = "measure";
/// What each view was promised to take at most.
const PROMISE_MS: f64 = 1000.0;
const LOOKS: [&str; 9] = [
    "upkeep.index_usage",
    "upkeep.unused_indexes",
    "upkeep.duplicate_indexes",
    "upkeep.redundant_indexes",
    "upkeep.invalid_indexes",
    "upkeep.unindexed_foreign_keys",
    "upkeep.missing_indexes",
    "upkeep.index_usage_snapshot()",
    REPORT,
];
const REPORT: &str = "upkeep.index_report()";

pub struct Plan {
    tables: u32,
    runs: usize,
}

impl Plan {
    pub fn from_args(args: &mut Args) -> Result<Self> {
        Ok(Self { tables: args.parsed("--tables")?.unwrap_or(10_000), runs: args.parsed("--runs")?.unwrap_or(5) })
    }
}

pub fn measure(cluster: &Cluster, plan: &Plan, report: &mut Report) -> Result<()> {
    let Plan { tables, runs } = *plan;
    let mut session = cluster.with_extension(DATABASE)?;
    println!(
        "making {tables} tables with 4 indexes each: a quarter unused, one in ten without one for its foreign key ..."
    );
    // Each on its own: it commits, and so does what it counts.
    session.run(MAKE)?;
    session.run(&format!("CALL make({tables})"))?;
    session.run("ANALYZE")?;
    session.run("SELECT pg_stat_force_next_flush()")?;
    let count: i64 = session.value("SELECT count(*) FROM pg_stat_user_indexes WHERE schemaname = 'public'")?;
    ensure!(count == 4 * i64::from(tables), "{count} indexes");
    for (view, least) in
        [("unused_indexes", tables / 5), ("redundant_indexes", tables / 30), ("unindexed_foreign_keys", tables / 20)]
    {
        let rows: i64 = session.value(&format!("SELECT count(*) FROM upkeep.{view}"))?;
        println!("  {view}: {rows} rows");
        ensure!(rows >= i64::from(least), "{view} has only {rows} rows: this measures nothing");
    }

    let look = |what: &'static str| Variant {
        name: what.to_owned(),
        run: Box::new(move || {
            let mut session = cluster.connect(DATABASE)?;
            let pid = session.pid()?;
            let (clock, worked) = (Instant::now(), time_on_cpu(pid)?);
            // All columns, as text, but no time of the client's.
            session.run(&format!("COPY (SELECT * FROM {what}) TO '/dev/null'"))?;
            let elapsed = clock.elapsed();
            let worked = time_on_cpu(pid)? - worked;
            Ok(Sample::from([("ms", milliseconds(elapsed)), ("of them on a CPU", milliseconds(worked))]))
        }),
    };
    let mut variants: Vec<_> = LOOKS.into_iter().map(look).collect();
    let series = alternate(runs, &mut variants)?;
    let comparisons: Vec<_> = series
        .iter()
        .map(|s| {
            let line = Comparison::new(format!("{}: ms", s.name), s, s, Measure::Median("ms"));
            let bound = Bound::AtMost(PROMISE_MS);
            // The report is all the views one after the other.
            if s.name == REPORT { line.goal(bound) } else { line.must(bound) }
        })
        .collect();
    report.add(&format!("{tables} tables, {count} indexes"), &series, &comparisons)
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

/// Every tenth table has its foreign key without an index, every twentieth an index that another covers. Three of four indexes are
/// scanned; five tables are big enough to be read from end to end.
const MAKE: &str = "CREATE PROCEDURE make(tables integer) LANGUAGE plpgsql AS $make$
BEGIN
    SET enable_seqscan = off;
    SET enable_bitmapscan = off;
    FOR i IN 1..tables LOOP
        EXECUTE format('CREATE TABLE t%s (id int PRIMARY KEY, parent int %s, a int, b text, c timestamptz, d numeric, e jsonb, f text)',
                       i, CASE WHEN i > 1 THEN format('REFERENCES t%s', greatest(1, i / 10)) END);
        EXECUTE format('CREATE INDEX ON t%s (%s)', i, CASE WHEN i % 10 = 5 THEN 'd' ELSE 'parent' END);
        EXECUTE format('CREATE INDEX ON t%s (a, c DESC)', i);
        EXECUTE format(CASE i % 20 WHEN 0 THEN 'CREATE INDEX ON t%s (lower(b)) WHERE a > 0'
                                   WHEN 1 THEN 'CREATE INDEX ON t%s (a)'
                                   ELSE 'CREATE INDEX ON t%s (b, id)' END, i);
        EXECUTE format('SELECT 1 FROM t%s WHERE id = 1', i);
        EXECUTE format('SELECT 1 FROM t%s WHERE a = 1 ORDER BY c DESC', i);
        EXECUTE format(CASE WHEN i % 10 = 5 THEN 'SELECT 1 FROM t%s WHERE d = 1' ELSE 'SELECT 1 FROM t%s WHERE parent = 1' END, i);
        IF i % 200 = 0 THEN COMMIT; END IF;
    END LOOP;
    FOR i IN 1..least(5, tables) LOOP
        EXECUTE format('INSERT INTO t%s (id, a, b) SELECT n, n, repeat(''x'', 50) FROM generate_series(1, 20000) n', i);
        COMMIT;
        FOR n IN 1..60 LOOP
            EXECUTE format('SELECT count(*) FROM t%s WHERE f = ''x''', i);
        END LOOP;
    END LOOP;
END $make$";
