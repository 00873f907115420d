//! `cargo measure query-stats`: what counting statements costs, beside pg_stat_statements, and how long a drain takes.

use std::collections::BTreeMap;

use anyhow::Result;

use super::report::Report;
use super::series::{Sample, Series};
use super::verdict::{Bound, Comparison, Measure};
use crate::args::Args;
use crate::cluster::{Cluster, PATIENCE};
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
            executions: args.parsed("--executions")?.unwrap_or(10_000),
            drains: args.parsed("--drains")?.unwrap_or(5),
        })
    }
}

pub fn measure(cluster: &Cluster, plan: &Plan, report: &mut Report) -> Result<()> {
    let tree = &cluster.tree;
    executions(tree, plan, report)?;
    drains(tree, plan, report)
}

/// What is switched on, and how to.
const WAYS: [(&str, bool, bool); 4] =
    [("neither", false, false), ("ours", true, false), ("pg_stat_statements", false, true), ("both", true, true)];

/// In one session, because no two processes have their memory at the same places: switched on and off in turns.
fn executions(tree: &Tree, plan: &Plan, report: &mut Report) -> Result<()> {
    let cluster = Cluster::builder(tree, &Cluster::unique_name("measure"))
        .set("shared_preload_libraries", "pg_stat_statements, pg_upkeep")
        .set("autovacuum", "off")
        .set("upkeep.query_interval", "1h")
        .start()?;
    let mut session = cluster.connect("postgres")?;
    session.run(
        "CREATE EXTENSION pg_upkeep;
         CREATE TABLE t (id int PRIMARY KEY, s text); INSERT INTO t SELECT g, 'x' FROM generate_series(1, 1000) g;
         CREATE FUNCTION loop(n int) RETURNS void LANGUAGE plpgsql AS
         $$DECLARE r text; BEGIN FOR i IN 1..n LOOP SELECT s INTO r FROM t WHERE id = 500; END LOOP; END$$;
         CREATE FUNCTION timed(n int, OUT ns float8) LANGUAGE plpgsql AS
         $$DECLARE t timestamptz; BEGIN PERFORM loop(n / 20); t := clock_timestamp(); PERFORM loop(n);
           ns := extract(epoch FROM clock_timestamp() - t) * 1e9 / n; END$$",
    )?;
    session.run("VACUUM ANALYZE t")?;
    let mut series: Vec<Series> =
        WAYS.iter().map(|(name, ..)| Series { name: (*name).to_owned(), samples: Vec::new() }).collect();
    for round in 0..plan.rounds {
        // Each round in another order.
        for i in 0..WAYS.len() {
            let i = (i * if round % 2 == 0 { 1 } else { 3 } + round) % WAYS.len();
            let (_, ours, pgss) = WAYS[i];
            let track = |on: bool| if on { "all" } else { "none" };
            session.run(&format!(
                "SET upkeep.track_queries = '{}'; SET pg_stat_statements.track = '{}'",
                track(ours),
                track(pgss)
            ))?;
            let ns: f64 = session.value(&format!("SELECT timed({})", plan.executions))?;
            series[i].samples.push(Sample::from([("ns", ns)]));
        }
    }
    let counted: i64 = session.value("SELECT max(calls) FROM upkeep.query_stats WHERE NOT toplevel")?;
    let expected = 2 * i64::try_from(plan.rounds)? * i64::from(plan.executions);
    anyhow::ensure!(counted >= expected, "only {counted} of {expected} were counted");
    // Differences of minima: what else goes on here only ever adds time.
    let least = |i: usize| series[i].range("ns").0;
    let added = |i: usize| least(i) - least(0);
    let comparisons: Vec<Comparison> = [
        ("added by us, ns", added(1), Bound::AtMost(MOST_NS)),
        ("added by pg_stat_statements, ns", added(2), Bound::None),
        ("ours as a part of it", added(1) / added(2), Bound::AtMost(PART_OF_PGSS)),
        ("added by us on top of it, ns", least(3) - least(2), Bound::None),
    ]
    .into_iter()
    .map(|(what, value, must)| Comparison { what: what.to_owned(), value, must, goal: Bound::None })
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
