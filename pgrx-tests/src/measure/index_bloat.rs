//! `cargo measure index-bloat`: estimated sizes of indexes against what a rebuild gives, and how long the view takes.

use std::time::Instant;

use anyhow::Result;

use super::groups::{Group, chosen, measure_each};
use super::report::Report;
use super::series::{Sample, Series};
use super::verdict::{Bound, Comparison, Measure};
use crate::args::Args;
use crate::cluster::Cluster;
use crate::observe::time_on_cpu;
use crate::session::Session;

const DATABASE: &str = "measure";
/// What an estimate may be off by.
const TOLERANCE: f64 = 0.15;
/// What the view may take, in ms.
const LONGEST_LOOK: f64 = 1000.0;

pub struct Plan {
    rows: u64,
    tables: u64,
    groups: Vec<&'static Group<Plan>>,
}

const GROUPS: &[Group<Plan>] = &[Group { name: "shapes", measure: shapes }, Group { name: "view", measure: view }];

impl Plan {
    pub fn from_args(args: &mut Args) -> Result<Self> {
        Ok(Self {
            rows: args.parsed("--rows")?.unwrap_or(1_000_000),
            tables: args.parsed("--tables")?.unwrap_or(10_000),
            groups: chosen(GROUPS, args)?,
        })
    }
}

pub fn measure(cluster: &Cluster, plan: &Plan, report: &mut Report) -> Result<()> {
    cluster.with_extension(DATABASE)?;
    measure_each(&plan.groups, cluster, plan, report)
}

struct Shape {
    name: &'static str,
    unique: bool,
    /// What follows `USING btree`.
    definition: &'static str,
    /// One of those whose bloat the classic formula is known to get wrong, or that it gets right.
    promised: bool,
}

const fn promised(name: &'static str, definition: &'static str) -> Shape {
    Shape { name, unique: false, definition, promised: true }
}

const fn other(name: &'static str, definition: &'static str) -> Shape {
    Shape { name, unique: false, definition, promised: false }
}

const SHAPES: &[Shape] = &[
    Shape { name: "unique bigint", unique: true, definition: "(id)", promised: true },
    promised("1000 values, not merged", "(k1000) WITH (deduplicate_items = off)"),
    promised("10 values", "(k10)"),
    promised("1000 values", "(k1000)"),
    promised("a value for 20 rows", "(many)"),
    promised("pairs", "(pair)"),
    promised("90 % null", "(mostly_null)"),
    promised("1000 texts", "(t1000)"),
    other("uuid", "(u)"),
    other("numeric", "(n)"),
    other("unique text", "(md5)"),
    other("texts of many lengths", "(email)"),
    other("skewed", "(skewed)"),
    other("bool", "(flag)"),
    other("two columns, few values", "(k10, k1000 DESC)"),
    other("two columns, unique pairs", "(k1000, at)"),
    other("three columns, one null", "(k1000, mostly_null, flag)"),
    other("INCLUDE", "(id) INCLUDE (email)"),
    other("partial", "(many) WHERE flag"),
    other("partial, by value", "(many) WHERE k10 = 3"),
    other("partial, not null", "(mostly_null) WHERE mostly_null IS NOT NULL"),
    other("expression", "(lower(email))"),
    other("expression, few values", "((id % 1000))"),
    other("fillfactor 50", "(id) WITH (fillfactor = 50)"),
];

const TABLE: &str = "
    CREATE TABLE t (id bigint, k10 int, k1000 int, many int, pair int, mostly_null int, t1000 text, u uuid, n numeric,
                    md5 text, email text, skewed int, flag bool, at timestamptz) WITH (autovacuum_enabled = off);
    CREATE TABLE gone (LIKE t)";

fn shapes(cluster: &Cluster, plan: &Plan, report: &mut Report) -> Result<()> {
    let (rows, session) = (plan.rows, &mut cluster.connect(DATABASE)?);
    println!("{rows} rows; rows deleted and inserted by chance; ANALYZE at the start and after the inserts");
    session.run(TABLE)?;
    session.run(&format!(
        "INSERT INTO t SELECT i * 4, i % 10, i::bigint * 7919 % 1000, i::bigint * 7919 % {many}, i / 2,
             CASE WHEN i % 10 = 0 THEN i END, md5((i::bigint * 7919 % 1000)::text), md5(i::text)::uuid, i, md5(i::text),
             repeat('x', (i % 17)::int) || i || '@example.com', floor(1 / (0.00001 + random()))::int,
             hashint4(i) % 3 = 0, '2026-01-01'::timestamptz + i * interval '1 second'
         FROM generate_series(1, {rows}) i",
        many = (rows / 20).max(1)
    ))?;
    for (i, shape) in SHAPES.iter().enumerate() {
        session.run(&create(shape, &format!("shape_{i}")))?;
    }
    session.run("VACUUM ANALYZE t")?;
    state(session, "Fresh", report)?;
    session.run(
        "WITH d AS (DELETE FROM t WHERE random() < 0.5 RETURNING *) INSERT INTO gone SELECT * FROM d;
         SELECT pg_stat_force_next_flush()",
    )?;
    session.run("VACUUM t")?;
    state(session, "After deletes of 50 % and VACUUM", report)?;
    // Between the keys that are there: pages split, and are left half full.
    session.run(
        "INSERT INTO t SELECT id + i, k10, k1000, many, pair, mostly_null + i, t1000, gen_random_uuid(), n + i / 4.0,
                              md5(id::text || i), i || email, skewed, flag, at + i * interval '7 minutes'
           FROM gone, generate_series(0, 2) i ORDER BY random()",
    )?;
    session.run("SELECT pg_stat_force_next_flush()")?;
    // As autovacuum would within a minute.
    session.run("ANALYZE t")?;
    state(session, "After inserts of three times as many, in random order", report)
}

fn create(shape: &Shape, name: &str) -> String {
    let unique = if shape.unique { "UNIQUE" } else { "" };
    format!("CREATE {unique} INDEX {name} ON t USING btree {}", shape.definition)
}

fn state(session: &mut Session, title: &str, report: &mut Report) -> Result<()> {
    let mut all = Vec::new();
    let mut comparisons = Vec::new();
    for (i, shape) in SHAPES.iter().enumerate() {
        let name = format!("shape_{i}");
        session.run(&create(shape, "twin"))?;
        let rebuilt: i64 = session.value("SELECT pg_relation_size('twin')")?;
        session.run("DROP INDEX twin")?;
        let figures = session.rows(&format!(
            "SELECT index_size, coalesce(estimated_size, 0), coalesce(lower_bound, 0), coalesce(upper_bound, 0)
               FROM upkeep.bloated_indexes WHERE indexrelname = '{name}'
             UNION ALL SELECT pages_read, estimated_size, lower_bound, upper_bound
               FROM upkeep.measure_index_bloat('{name}')"
        ))?;
        let numbers = |line: &str| line.split('|').map(|n| n.parse().unwrap_or(0.0)).collect::<Vec<f64>>();
        let [estimate, sample] = [0, 1].map(|n| figures.get(n).map_or_else(|| vec![0.0; 4], |line| numbers(line)));
        let rebuilt = rebuilt as f64;
        let inside = |f: &[f64]| f64::from(u8::from(f[2] <= rebuilt && rebuilt <= f[3]));
        let classic = classic(session, &name)?;
        all.push(Series {
            name: shape.name.to_owned(),
            samples: vec![Sample::from([
                ("1 size/rebuilt", estimate[0] / rebuilt),
                ("2 estimate/rebuilt", estimate[1] / rebuilt),
                ("3 lower/rebuilt", estimate[2] / rebuilt),
                ("4 upper/rebuilt", estimate[3] / rebuilt),
                ("5 sampled/rebuilt", sample[1] / rebuilt),
                ("6 pages read", sample[0]),
                ("7 classic/rebuilt", classic / rebuilt),
                ("8 rebuilt MB", rebuilt / f64::from(1 << 20)),
                ("estimate off", (estimate[1] / rebuilt - 1.0).abs()),
                ("sampled off", (sample[1] / rebuilt - 1.0).abs()),
                ("in bounds", inside(&estimate)),
                ("sampled in bounds", inside(&sample)),
            ])],
        });
        let series = &all[all.len() - 1];
        for figure in ["estimate off", "sampled off"] {
            let line = Comparison::new(format!("{}: {figure} by", shape.name), series, series, Measure::Median(figure));
            let bound = Bound::AtMost(TOLERANCE);
            comparisons.push(if shape.promised { line.must(bound) } else { line.goal(bound) });
        }
        let line = Comparison::new(format!("{}: in bounds", shape.name), series, series, Measure::Median("in bounds"));
        comparisons.push(line.must(Bound::AtLeast(1.0)));
    }
    for series in &mut all {
        for sample in &mut series.samples {
            sample.retain(|figure, _| !figure.ends_with("off"));
        }
    }
    report.add(title, &all, &comparisons)
}

/// The formula that goes round since 2009 (ioguix, check_postgres and their children), in bytes.
fn classic(session: &mut Session, index: &str) -> Result<f64> {
    session.value(&format!(
        "SELECT 8192 * (1 + ceil(tuples / floor((8192 - 24 - 16) * fillfactor
                  / (100 * (4 + (header + 8 - coalesce(nullif(header % 8, 0), 8)
                                 + data + 8 - coalesce(nullif(data % 8, 0), 8))::float8)))))::float8
           FROM (SELECT c.reltuples AS tuples,
                        coalesce(substring(c.reloptions::text FROM 'fillfactor=([0-9]+)')::int, 90) AS fillfactor,
                        CASE WHEN max(coalesce(s.null_frac, 0)) = 0 THEN 8 ELSE 12 END AS header,
                        ceil(sum((1 - coalesce(s.null_frac, 0)) * coalesce(s.avg_width, 1024)))::int AS data
                   FROM pg_class c JOIN pg_index i ON i.indexrelid = c.oid
                   JOIN pg_attribute a ON a.attrelid = c.oid
                   LEFT JOIN pg_attribute ta ON ta.attrelid = i.indrelid AND ta.attnum = i.indkey[a.attnum - 1]
                   LEFT JOIN pg_stats s ON s.tablename = CASE WHEN ta.attnum IS NULL THEN c.relname ELSE 't' END
                        AND s.attname = coalesce(ta.attname, a.attname)
                  WHERE c.relname = '{index}' GROUP BY c.oid) f"
    ))
}

/// Four indexes for each of many small tables.
fn view(cluster: &Cluster, plan: &Plan, report: &mut Report) -> Result<()> {
    let (tables, session) = (plan.tables, &mut cluster.connect(DATABASE)?);
    println!("{tables} tables with 4 indexes each ...");
    session.run("CREATE SCHEMA many")?;
    for first in (0..tables).step_by(500) {
        session.run(&format!(
            "DO $$ BEGIN FOR i IN {first}..{last} LOOP
                 EXECUTE format('CREATE TABLE many.t%s (id int PRIMARY KEY, a int, b text, c timestamptz)', i);
                 EXECUTE format('INSERT INTO many.t%s SELECT i, i %% 7, ''text '' || i, now() FROM generate_series(1, 50) i', i);
                 EXECUTE format('CREATE INDEX ON many.t%s (a)', i);
                 EXECUTE format('CREATE INDEX ON many.t%s (b, a)', i);
                 EXECUTE format('CREATE INDEX ON many.t%s (c) WHERE a > 3', i);
             END LOOP; END $$",
            last = (first + 500).min(tables) - 1
        ))?;
    }
    session.run("ANALYZE")?;
    // The first look of a session fills its caches of the catalogs.
    let pid = session.pid()?;
    let mut samples = Vec::new();
    for _ in 0..5 {
        let (clock, before) = (Instant::now(), time_on_cpu(pid)?);
        let (indexes, estimated): (i64, i64) = {
            let row = session.query_one(
                "SELECT count(*), count(estimated_size) FROM (SELECT * FROM upkeep.bloated_indexes) v",
                &[],
            )?;
            (row.get(0), row.get(1))
        };
        let (took, cpu) = (clock.elapsed(), time_on_cpu(pid)? - before);
        let clock = Instant::now();
        session.rows("SELECT count(*) FROM upkeep._index_bloat()")?;
        samples.push(Sample::from([
            ("ms", took.as_secs_f64() * 1000.0),
            ("of them on a CPU", cpu.as_secs_f64() * 1000.0),
            ("ms without names", clock.elapsed().as_secs_f64() * 1000.0),
            ("indexes", indexes as f64),
            ("estimated", estimated as f64),
        ]));
    }
    let series = Series { name: "upkeep.bloated_indexes".into(), samples };
    let bound = Bound::AtMost(LONGEST_LOOK);
    let line = |what, figure| Comparison::new(what, &series, &series, Measure::Median(figure));
    let lines = [line("the view: ms", "ms").must(bound)];
    report.add("The view over many indexes", &[series], &lines)
}
