//! How long a drain takes, from shared memory to the commit.

use std::collections::BTreeMap;

use anyhow::Result;

use super::Plan;
use crate::cluster::{Cluster, PATIENCE};
use crate::measure::report::Report;
use crate::measure::series::Series;
use crate::measure::verdict::{Bound, Comparison, Measure};
use crate::wait::wait_until;

/// In ms.
const LONGEST_DRAIN: f64 = 50.0;

pub fn measure(shared: &Cluster, plan: &Plan, report: &mut Report) -> Result<()> {
    let cluster = Cluster::builder(&shared.tree, &Cluster::unique_name("measure"))
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
