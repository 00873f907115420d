//! What clients notice: pgbench's selects, and statements of which no two are alike.

use std::time::Duration;

use anyhow::{Context, Result};

use super::Plan;
use crate::cluster::Cluster;
use crate::command;
use crate::measure::report::Report;
use crate::measure::series::{Sample, Series};
use crate::measure::verdict::{Bound, Comparison, Measure};

const CLIENTS: [u32; 3] = [2, 8, 32];

fn server(shared: &Cluster, libraries: &str) -> Result<Cluster> {
    Cluster::builder(&shared.tree, &Cluster::unique_name("throughput"))
        .set("shared_preload_libraries", libraries)
        .set("autovacuum", "off")
        .set("max_connections", 60)
        .start()
}

/// Off once more: how far apart two runs of the same are tells what a difference is worth.
pub fn pgbench(shared: &Cluster, plan: &Plan, report: &mut Report) -> Result<()> {
    let cluster = server(shared, "pg_upkeep")?;
    command::capture(cluster.client_command("pgbench", "postgres").args(["--initialize", "--quiet", "--scale=10"]))?;
    for clients in CLIENTS {
        let names = ["off", "on", "off again"];
        let mut series = names.map(|name| Series { name: name.to_owned(), samples: Vec::new() });
        for round in 0..plan.rounds.min(8) {
            for turn in 0..series.len() {
                let i = (turn + round) % series.len();
                let track = if names[i] == "on" { "top" } else { "none" };
                let tps = tps(&cluster, clients, track, plan.seconds)?;
                series[i].samples.push(Sample::from([("tps", tps)]));
            }
        }
        let line = |what: &str, of: usize| {
            Comparison::new(format!("{clients} clients: {what}"), &series[of], &series[0], Measure::Ratio("tps"))
        };
        let comparisons = [line("on / off", 1), line("off again / off", 2)];
        report.add(&format!("pgbench -S, {clients} clients"), &series, &comparisons)?;
    }
    Ok(())
}

fn tps(cluster: &Cluster, clients: u32, track: &str, time: Duration) -> Result<f64> {
    let mut pgbench = cluster.client_command("pgbench", "postgres");
    pgbench.args(["--no-vacuum", "--select-only", "--protocol=prepared", "--jobs=2"]);
    pgbench.arg(format!("--client={clients}")).arg(format!("--time={}", time.as_secs().max(1)));
    pgbench.env("PGOPTIONS", format!("-c upkeep.track_queries={track}"));
    let said = command::capture(&mut pgbench)?;
    let line = said.lines().find_map(|line| line.strip_prefix("tps = ")).with_context(|| said.clone())?;
    Ok(line.split(' ').next().unwrap_or_default().parse()?)
}

/// More statements than either keeps: each is entered, and makes another leave.
pub fn distinct(shared: &Cluster, plan: &Plan, report: &mut Report) -> Result<()> {
    let cluster = Cluster::builder(&shared.tree, &Cluster::unique_name("distinct"))
        .set("shared_preload_libraries", "pg_stat_statements, pg_upkeep")
        .set("autovacuum", "off")
        .set("upkeep.query_max", 1000)
        .set("pg_stat_statements.max", 1000)
        .set("upkeep.query_interval", "1h")
        .start()?;
    let mut session = cluster.connect("postgres")?;
    session.run(
        "CREATE TABLE texts AS SELECT i, 'SELECT ' || (SELECT string_agg(CASE WHEN i >> bit & 1 = 1 THEN '1+1' ELSE '1*1' END, ',')
                                        FROM generate_series(0, 12) bit) AS query FROM generate_series(0, 8191) i;
         CREATE FUNCTION distinct_statements(OUT us float8) LANGUAGE plpgsql AS
         $$DECLARE t timestamptz := clock_timestamp(); q text; BEGIN FOR q IN SELECT query FROM texts LOOP EXECUTE q; END LOOP;
           us := extract(epoch FROM clock_timestamp() - t) * 1e6 / 8192; END$$",
    )?;
    let ways = [("neither", "none", "none"), ("ours", "all", "none"), ("pg_stat_statements", "none", "all")];
    let mut series = ways.map(|(name, ..)| Series { name: name.to_owned(), samples: Vec::new() });
    for round in 0..plan.rounds.min(20) {
        for turn in 0..ways.len() {
            let i = (turn + round) % ways.len();
            session.run(&format!(
                "SET upkeep.track_queries = '{}'; SET pg_stat_statements.track = '{}'",
                ways[i].1, ways[i].2
            ))?;
            let us: f64 = session.value("SELECT distinct_statements()")?;
            series[i].samples.push(Sample::from([("us", us)]));
        }
    }
    let added = |i: usize| series[i].range("us").0 - series[0].range("us").0;
    let line = |what: &str, value, must| Comparison { what: what.to_owned(), value, must, goal: Bound::None };
    let comparisons = [
        line("added by us, us", added(1), Bound::None),
        line("added by pg_stat_statements, us", added(2), Bound::None),
        line("ours as a part of it", added(1) / added(2), Bound::AtMost(1.0)),
    ];
    report.add("8192 statements that are all different, room for 1000, us each", &series, &comparisons)
}
