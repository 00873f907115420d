//! What one execution costs more, in one backend; in nanoseconds and in instructions.

use anyhow::{Context, Result, ensure};

use super::Plan;
use crate::cluster::{Cluster, Stop};
use crate::measure::report::Report;
use crate::measure::series::{Sample, Series};
use crate::measure::verdict::{Bound, Comparison};

/// In ns, and as a part of what pg_stat_statements costs.
const MOST_NS: f64 = 120.0;
const PART_OF_PGSS: f64 = 0.5;

const LOOP: &str =
    "CREATE TABLE t (id int PRIMARY KEY, s text); INSERT INTO t SELECT g, 'x' FROM generate_series(1, 1000) g;
         CREATE FUNCTION loop(n int) RETURNS void LANGUAGE plpgsql AS
         $$DECLARE r text; BEGIN FOR i IN 1..n LOOP SELECT s INTO r FROM t WHERE id = 500; END LOOP; END$$;
         CREATE FUNCTION timed(n int, OUT ns float8) LANGUAGE plpgsql AS
         $$DECLARE t timestamptz; BEGIN PERFORM loop(n / 20); t := clock_timestamp(); PERFORM loop(n);
           ns := extract(epoch FROM clock_timestamp() - t) * 1e9 / n; END$$;";

/// What is switched on, and how to.
const WAYS: [(&str, bool, bool); 4] =
    [("neither", false, false), ("ours", true, false), ("pg_stat_statements", false, true), ("both", true, true)];

/// In one session, because no two processes have their memory at the same places: switched on and off in turns.
pub fn nanoseconds(shared: &Cluster, plan: &Plan, report: &mut Report) -> Result<()> {
    let cluster = Cluster::builder(&shared.tree, &Cluster::unique_name("measure"))
        .set("shared_preload_libraries", "pg_stat_statements, pg_upkeep")
        .set("autovacuum", "off")
        .set("upkeep.query_interval", "1h")
        .start()?;
    let mut session = cluster.connect("postgres")?;
    session.run(&format!("CREATE EXTENSION pg_upkeep; {LOOP}"))?;
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
    ensure!(counted >= expected, "only {counted} of {expected} were counted");
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

/// Of the same loop in a server of one process, counted by callgrind: busy machines change nothing about that.
pub fn instructions(shared: &Cluster, plan: &Plan, report: &mut Report) -> Result<()> {
    if std::process::Command::new("valgrind").arg("--version").output().is_err() {
        println!("instructions: valgrind is not installed, not counted");
        return Ok(());
    }
    let mut cluster = Cluster::builder(&shared.tree, &Cluster::unique_name("counted"))
        .set("shared_preload_libraries", "pg_stat_statements, pg_upkeep")
        .set("shared_buffers", "16MB")
        .start()?;
    cluster.connect("postgres")?.run(LOOP)?;
    cluster.connect("postgres")?.run("VACUUM ANALYZE t")?;
    cluster.stop(Stop::Fast)?;
    let mut series: Vec<Series> = Vec::new();
    for (name, ours, pgss) in WAYS {
        let once = |executions: u32| -> Result<f64> {
            let track = |on: bool| if on { "all" } else { "none" };
            let script = cluster.scratch().join(format!("loop-{executions}"));
            std::fs::write(
                &script,
                format!(
                    "SET upkeep.track_queries = '{}'\nSET pg_stat_statements.track = '{}'\nSELECT loop(2000)\nSELECT loop({executions})\n",
                    track(ours),
                    track(pgss)
                ),
            )?;
            let mut valgrind = shared.tree.command_of_server("valgrind");
            valgrind
                .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
                .arg(shared.tree.pg.bin.join("postgres"));
            valgrind.args(["--single", "-D"]).arg(cluster.data()).arg("postgres").stdin(std::fs::File::open(&script)?);
            let output = valgrind.output().context("valgrind")?;
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            ensure!(!said.contains("ERROR") && !said.contains("FATAL"), "{said}");
            let counted = said.lines().find_map(|line| line.split_once("Collected :")).map(|(_, count)| count.trim());
            counted.and_then(|count| count.parse().ok()).with_context(|| said.clone())
        };
        let n = plan.executions.min(10_000);
        let each = (once(3 * n)? - once(n)?) / f64::from(2 * n);
        series.push(Series { name: name.to_owned(), samples: vec![Sample::from([("instructions", each)])] });
    }
    let count = |i: usize| series[i].median("instructions");
    let added = |i: usize| count(i) - count(0);
    let line = |what: &str, value, must| Comparison { what: what.to_owned(), value, must, goal: Bound::None };
    let comparisons = [
        line("added by us, instructions", added(1), Bound::None),
        line("added by pg_stat_statements, instructions", added(2), Bound::None),
        line("ours as a part of it, in instructions", added(1) / added(2), Bound::AtMost(PART_OF_PGSS)),
    ];
    report.add("selects by primary key, instructions each", &series, &comparisons)
}
