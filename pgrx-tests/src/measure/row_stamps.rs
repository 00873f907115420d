//! `cargo measure row-stamps`: what stamps add to an UPDATE of many rows, next to contrib's moddatetime, which is
//! written in C and only sets a time.

use std::time::Instant;

use anyhow::{Result, ensure};

use super::report::Report;
use super::series::{Sample, Variant, alternate};
use super::verdict::{Bound, Comparison, Measure};
use crate::args::Args;
use crate::cluster::Cluster;

const DATABASE: &str = "measure";
const VARIANTS: [(&str, &str); 4] = [
    ("no trigger", ""),
    ("moddatetime", "CREATE TRIGGER stamp BEFORE UPDATE ON t FOR EACH ROW EXECUTE FUNCTION moddatetime(updated_at)"),
    ("updated_at", "SELECT upkeep.enable_timestamps('t', created_at => NULL)"),
    (
        "updated_at, updated_by, version",
        "SELECT upkeep.enable_timestamps('t', created_at => NULL), upkeep.enable_userstamps('t', created_by => NULL),
                upkeep.enable_row_version('t')",
    ),
];

pub struct Plan {
    rows: u32,
    runs: usize,
}

impl Plan {
    pub fn from_args(args: &mut Args) -> Result<Self> {
        Ok(Self { rows: args.parsed("--rows")?.unwrap_or(200_000), runs: args.parsed("--runs")?.unwrap_or(9) })
    }
}

pub fn measure(cluster: &Cluster, plan: &Plan, report: &mut Report) -> Result<()> {
    let Plan { rows, runs } = *plan;
    cluster.create_database(DATABASE)?;
    cluster.connect(DATABASE)?.run("CREATE EXTENSION pg_upkeep; CREATE EXTENSION moddatetime")?;

    let update = |(name, trigger): (&str, &'static str)| Variant {
        name: name.to_owned(),
        run: Box::new(move || {
            let mut session = cluster.connect(DATABASE)?;
            // The same columns for all, so that rows are of the same size.
            session.run(&format!(
                "DROP TABLE IF EXISTS t;
                 CREATE TABLE t (id integer PRIMARY KEY, n integer, label text, updated_at timestamptz, updated_by text, version integer);
                 INSERT INTO t SELECT g, g, 'label ' || g, now(), 'somebody', 1 FROM generate_series(1, {rows}) g"
            ))?;
            session.run(trigger)?;
            session.run("VACUUM (ANALYZE, FREEZE) t")?;
            session.run("CHECKPOINT")?;
            session.run("SET upkeep.actor = 'somebody'")?;
            let clock = Instant::now();
            session.run("UPDATE t SET n = n + 1")?;
            let elapsed = clock.elapsed().as_secs_f64() * 1000.0;
            let stamped: i64 = session.value("SELECT count(*) FROM t WHERE updated_at > pg_postmaster_start_time()")?;
            ensure!(stamped == i64::from(rows), "{stamped} rows");
            Ok(Sample::from([("ms", elapsed)]))
        }),
    };
    let mut variants: Vec<_> = VARIANTS.into_iter().map(update).collect();
    let series = alternate(runs, &mut variants)?;
    let [none, moddatetime, time, all] = &series[..] else { unreachable!("there are four variants") };
    let against = |what: &str, series, bound| {
        Comparison::new(format!("{what} / moddatetime: ms"), series, moddatetime, Measure::Ratio("ms")).must(bound)
    };
    let comparisons = [
        against("no trigger", none, Bound::None),
        against("updated_at", time, Bound::AtMost(1.05)),
        against("updated_at, updated_by, version", all, Bound::AtMost(1.15)),
    ];
    report.add(&format!("UPDATE of {rows} rows"), &series, &comparisons)
}
