//! `cargo measure query-stats`: what counting statements costs, beside pg_stat_statements, and how long a drain takes.

use std::collections::BTreeMap;
use std::time::Instant;

use anyhow::Result;

use super::report::Report;
use super::series::{Sample, Series};
use super::verdict::{Bound, Comparison, Measure};
use crate::args::Args;
use crate::cluster::{Cluster, PATIENCE};
use crate::session::Session;
use crate::tree::Tree;
use crate::wait::wait_until;

/// What one execution may cost more, in ns, and as a part of what pg_stat_statements costs.
const MOST_NS: f64 = 120.0;
const PART_OF_PGSS: f64 = 0.5;
/// What a drain may take, in ms.
const LONGEST_DRAIN: f64 = 50.0;

pub struct Plan {
    rounds: usize,
    executions: u32,
    drains: usize,
}

impl Plan {
    pub fn from_args(args: &mut Args) -> Result<Self> {
        Ok(Self {
            rounds: args.parsed("--rounds")?.unwrap_or(60),
            executions: args.parsed("--executions")?.unwrap_or(40_000),
            drains: args.parsed("--drains")?.unwrap_or(5),
        })
    }
}

pub fn measure(cluster: &Cluster, plan: &Plan, report: &mut Report) -> Result<()> {
    let tree = &cluster.tree;
    executions(tree, plan, report)?;
    drains(tree, plan, report)
}

/// The four kinds of server. All statements are counted, those of the loop within a function too.
const SERVERS: [(&str, &str); 4] = [
    ("neither", ""),
    ("ours", "pg_upkeep"),
    ("pg_stat_statements", "pg_stat_statements"),
    ("both", "pg_stat_statements, pg_upkeep"),
];

fn server(tree: &Tree, libraries: &str) -> Result<Cluster> {
    let mut builder = Cluster::builder(tree, &Cluster::unique_name("measure"))
        .set("shared_preload_libraries", libraries)
        .set("autovacuum", "off")
        .set("shared_buffers", "256MB")
        .set("compute_query_id", "on");
    if libraries.contains("pg_upkeep") {
        builder = builder.set("upkeep.track_queries", "all").set("upkeep.query_interval", "1h");
    }
    if libraries.contains("statements") {
        builder = builder.set("pg_stat_statements.track", "all");
    }
    builder.start()
}

fn executions(tree: &Tree, plan: &Plan, report: &mut Report) -> Result<()> {
    let clusters: Vec<Cluster> = SERVERS.iter().map(|(_, libraries)| server(tree, libraries)).collect::<Result<_>>()?;
    let mut sessions: Vec<Session> = Vec::new();
    for (cluster, (_, libraries)) in clusters.iter().zip(SERVERS) {
        let mut session = cluster.connect("postgres")?;
        if libraries.contains("pg_upkeep") {
            session.run("CREATE EXTENSION pg_upkeep")?;
        }
        session.run(
            "CREATE TABLE t (id int PRIMARY KEY, s text); INSERT INTO t SELECT g, 'x' FROM generate_series(1, 1000) g;
             CREATE FUNCTION loop(n int) RETURNS void LANGUAGE plpgsql AS
             $$DECLARE r text; BEGIN FOR i IN 1..n LOOP SELECT s INTO r FROM t WHERE id = 500; END LOOP; END$$",
        )?;
        session.run("VACUUM ANALYZE t")?;
        session.run("SELECT loop(100000)")?;
        sessions.push(session);
    }
    let mut series: Vec<Series> =
        SERVERS.iter().map(|(name, _)| Series { name: (*name).to_owned(), samples: Vec::new() }).collect();
    for round in 0..plan.rounds {
        // Each round in another order.
        for i in 0..SERVERS.len() {
            let i = (i * if round % 2 == 0 { 1 } else { 3 } + round / 2) % SERVERS.len();
            let clock = Instant::now();
            sessions[i].run(&format!("SELECT loop({})", plan.executions))?;
            let ns = clock.elapsed().as_secs_f64() * 1e9 / f64::from(plan.executions);
            series[i].samples.push(Sample::from([("ns", ns)]));
        }
    }
    let counted: i64 =
        sessions[1].value("SELECT max(calls) FROM upkeep.query_stats WHERE NOT toplevel AND query LIKE '%FROM t%'")?;
    anyhow::ensure!(counted >= i64::try_from(plan.rounds)? * i64::from(plan.executions), "only {counted} were counted");
    // Both figures are differences of minima: what else goes on here only ever adds time.
    let least = |i: usize| series[i].range("ns").0;
    let added = |i: usize| least(i) - least(0);
    let comparisons: Vec<Comparison> = [
        ("added by us, ns", added(1), Some(MOST_NS)),
        ("added by pg_stat_statements, ns", added(2), None),
        ("ours as a part of it", added(1) / added(2), Some(PART_OF_PGSS)),
        ("added by us on top of it, ns", least(3) - least(2), None),
    ]
    .into_iter()
    .map(|(name, value, bound)| {
        let must = bound.map_or(Bound::None, Bound::AtMost);
        Comparison { what: name.to_owned(), value, must, goal: Bound::None }
    })
    .collect();
    report.add(&format!("{} x {} selects by primary key, ns each", plan.rounds, plan.executions), &series, &comparisons)
}

fn drains(tree: &Tree, plan: &Plan, report: &mut Report) -> Result<()> {
    let cluster = Cluster::builder(tree, &Cluster::unique_name("measure"))
        .preloaded()
        .durable()
        .set("track_commit_timestamp", "on")
        .set("upkeep.query_max", 6000)
        .set("upkeep.query_interval", 2)
        .start()?;
    let mut session = cluster.connect("postgres")?;
    session.run(
        "CREATE EXTENSION pg_upkeep;
         CREATE FUNCTION many(n int) RETURNS void LANGUAGE plpgsql AS $$BEGIN FOR i IN 0..n - 1 LOOP
             EXECUTE 'SELECT ' || (SELECT string_agg(CASE WHEN i >> bit & 1 = 1 THEN '1+1' ELSE '1*1' END, ',')
                                   FROM generate_series(0, 12) bit); END LOOP; END$$",
    )?;
    let mut series = Series { name: "drain".into(), samples: Vec::new() };
    let newest = "SELECT coalesce(max(period)::text, '') FROM upkeep._query_interval WHERE statements >= 5000";
    for _ in 0..plan.drains {
        let before = session.text(newest)?;
        session.run("SET upkeep.track_queries = 'all'; SELECT many(5000); SET upkeep.track_queries = 'none'")?;
        let mut now = before.clone();
        wait_until("a drain of 5000 statements", PATIENCE, || {
            // A drain in the middle of the loop takes a part of it: then the loop runs again.
            now = session.text(newest).unwrap_or_default();
            if now == before {
                let _ = session
                    .run("SET upkeep.track_queries = 'all'; SELECT many(5000); SET upkeep.track_queries = 'none'");
            }
            now != before
        })?;
        let took: f64 = session.value(&format!(
            "SELECT extract(epoch FROM pg_xact_commit_timestamp(xmin) - finished_at)::float8 * 1000
             FROM upkeep._query_interval WHERE period = '{now}' AND level = 0"
        ))?;
        series.samples.push(BTreeMap::from([("ms", took)]));
    }
    let comparison = Comparison::new("drain of 5,000 statements, ms", &series, &series, Measure::Median("ms"))
        .must(Bound::AtMost(LONGEST_DRAIN));
    report.add("from shared memory to the commit", &[series], &[comparison])
}
