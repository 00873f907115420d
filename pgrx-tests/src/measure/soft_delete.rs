//! `cargo measure soft-delete`: what it costs that rows can come back, next to the same by hand and to deleting for good.

use std::time::Instant;

use anyhow::{Result, ensure};

use super::report::Report;
use super::series::{Sample, Series, Variant, alternate};
use super::verdict::{Bound, Comparison, Measure};
use crate::args::Args;
use crate::cluster::Cluster;
use crate::session::Session;

const DATABASE: &str = "measure";
const PARENTS: u32 = 1_000;
/// An UPDATE finds room for the new version on its page, and leaves the indexes alone, or does not.
const PAGES: [(&str, u32); 2] = [("full pages", 100), ("room on the pages", 30)];
/// How often a sample looks through the view: one look is too short to compare.
const LOOKS: u32 = 20;

pub struct Plan {
    rows: u32,
    runs: usize,
}

impl Plan {
    pub fn from_args(args: &mut Args) -> Result<Self> {
        Ok(Self { rows: args.parsed("--rows")?.unwrap_or(200_000), runs: args.parsed("--runs")?.unwrap_or(9) })
    }
}

/// One way of deleting: what there is before, the statement, and how many rows are then hidden or gone.
struct Way {
    name: &'static str,
    set_up: &'static str,
    statement: &'static str,
    left: &'static str,
}

/// The same columns, without anything that watches them.
const BY_HAND: &str = "ALTER TABLE t ADD deleted_at timestamptz, ADD deleted_by text, ADD deletion_id uuid";

/// One statement a row that locks it, looks again and marks it: the best that PL/pgSQL can do.
const PLPGSQL: &str = "
    ALTER TABLE t ADD deleted_at timestamptz, ADD deleted_by text, ADD deletion_id uuid;
    CREATE VIEW t_live AS SELECT * FROM t WHERE deleted_at IS NULL;
    CREATE OR REPLACE FUNCTION mark() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        UPDATE t SET deleted_at = now(), deleted_by = current_user, deletion_id = '00000000-0000-0000-0000-000000000001'
        WHERE id = OLD.id AND deleted_at IS NULL AND n IS NOT DISTINCT FROM OLD.n AND label IS NOT DISTINCT FROM OLD.label;
        IF NOT FOUND THEN
            RAISE 'the row has changed' USING ERRCODE = '40001';
        END IF;
        RETURN OLD;
    END $$;
    CREATE TRIGGER mark INSTEAD OF DELETE ON t_live FOR EACH ROW EXECUTE FUNCTION mark()";

const STATEMENTS: i32 = 2_000;
const ONE_ROW_TABLE: u32 = 20_000;
/// Name, what there is before, the statement.
const ONE_ROW: [(&str, &str, &str); 6] = [
    (
        "UPDATE of a row",
        BY_HAND,
        "UPDATE t SET deleted_at = now(), deleted_by = current_user, deletion_id = gen_random_uuid() WHERE id = $1",
    ),
    ("DELETE of a row, the live view", "SELECT upkeep.enable_soft_delete('t')", "DELETE FROM t_live WHERE id = $1"),
    (
        "UPDATE of a row back",
        concat!(
            "ALTER TABLE t ADD deleted_at timestamptz, ADD deleted_by text, ADD deletion_id uuid;",
            "UPDATE t SET deleted_at = now(), deleted_by = current_user, deletion_id = gen_random_uuid()"
        ),
        "UPDATE t SET deleted_at = NULL, deleted_by = NULL, deletion_id = NULL WHERE id = $1",
    ),
    (
        "undelete() of a row",
        "SELECT upkeep.enable_soft_delete('t');
         DO $$BEGIN FOR i IN 1..2000 LOOP PERFORM upkeep.soft_delete('t', 'id = ' || i); END LOOP; END$$;
         CREATE TABLE IF NOT EXISTS numbered AS SELECT 1 AS id, NULL::uuid AS deletion WHERE false;
         TRUNCATE numbered; INSERT INTO numbered SELECT id, deletion_id FROM t WHERE id <= 2000;
         CREATE UNIQUE INDEX IF NOT EXISTS numbered_id ON numbered (id); ANALYZE numbered",
        "SELECT upkeep.undelete(deletion) FROM numbered WHERE id = $1",
    ),
    ("INSERT of a child, the foreign key alone", "", "INSERT INTO t SELECT 1000000 + $1, 1 + $1 % 1000, $1, 'label'"),
    (
        "INSERT of a child of a table with soft delete",
        ENABLE_BOTH,
        "INSERT INTO t SELECT 1000000 + $1, 1 + $1 % 1000, $1, 'label'",
    ),
];

const LIVE: &str = "SELECT count(*) FROM t WHERE deleted_at IS NULL";

const ONE_TABLE: [Way; 4] = [
    Way {
        name: "UPDATE of the same columns",
        set_up: BY_HAND,
        statement: "UPDATE t SET deleted_at = now(), deleted_by = current_user, deletion_id = (SELECT gen_random_uuid())",
        left: LIVE,
    },
    Way {
        name: "soft_delete()",
        set_up: "SELECT upkeep.enable_soft_delete('t')",
        statement: "SELECT upkeep.soft_delete('t', 'true')",
        left: LIVE,
    },
    Way { name: "DELETE, PL/pgSQL INSTEAD OF", set_up: PLPGSQL, statement: "DELETE FROM t_live", left: LIVE },
    Way {
        name: "DELETE, the live view",
        set_up: "SELECT upkeep.enable_soft_delete('t')",
        statement: "DELETE FROM t_live",
        left: LIVE,
    },
];

const ENABLE_BOTH: &str = "SELECT upkeep.enable_soft_delete('t'); SELECT upkeep.enable_soft_delete('p')";

const CASCADE: [Way; 3] = [
    Way { name: "ON DELETE CASCADE", set_up: "", statement: "DELETE FROM p", left: "SELECT count(*) FROM t" },
    Way {
        name: "soft_delete() of parents",
        set_up: ENABLE_BOTH,
        statement: "SELECT upkeep.soft_delete('p', 'true')",
        left: LIVE,
    },
    Way { name: "DELETE of parents, the live view", set_up: ENABLE_BOTH, statement: "DELETE FROM p_live", left: LIVE },
];

pub fn measure(cluster: &Cluster, plan: &Plan, report: &mut Report) -> Result<()> {
    cluster.create_database(DATABASE)?;
    cluster.connect(DATABASE)?.run("CREATE EXTENSION pg_upkeep")?;
    for (pages, fillfactor) in PAGES {
        one_table(cluster, plan, report, pages, fillfactor)?;
        cascade(cluster, plan, report, pages, fillfactor)?;
    }
    looking(cluster, plan, report)?;
    one_at_a_time(cluster, plan, report)
}

fn one_table(cluster: &Cluster, plan: &Plan, report: &mut Report, pages: &str, fillfactor: u32) -> Result<()> {
    let series = delete_in_turns(cluster, plan, fillfactor, ONE_TABLE)?;
    let [by_hand, call, plpgsql, view] = &series[..] else { unreachable!("there are four ways") };
    let verdict = [
        ratio("soft_delete() / UPDATE: ms", call, by_hand).must(Bound::AtMost(1.15)),
        ratio("DELETE through the live view / PL/pgSQL: ms", view, plpgsql).must(Bound::AtMost(0.6)),
    ];
    report.add(&format!("{} rows of one table, {pages}", plan.rows), &series, &verdict)
}

fn cascade(cluster: &Cluster, plan: &Plan, report: &mut Report, pages: &str, fillfactor: u32) -> Result<()> {
    let series = delete_in_turns(cluster, plan, fillfactor, CASCADE)?;
    let [native, call, view] = &series[..] else { unreachable!("there are three ways") };
    let verdict = [
        ratio("soft_delete() / ON DELETE CASCADE: ms", call, native).must(Bound::AtMost(2.0)),
        ratio("DELETE through the live view / ON DELETE CASCADE: ms", view, native),
    ];
    report.add(&format!("{PARENTS} rows with {} that reference them, {pages}", plan.rows), &series, &verdict)
}

/// The view next to its condition written by hand; a tenth of the rows is deleted.
fn looking(cluster: &Cluster, plan: &Plan, report: &mut Report) -> Result<()> {
    let mut session = cluster.connect(DATABASE)?;
    make_tables(&mut session, plan.rows, 100)?;
    session.run(ENABLE_BOTH)?;
    session.run("SELECT upkeep.soft_delete('t', 'id % 10 = 0')")?;
    session.run("VACUUM (ANALYZE, FREEZE) t")?;
    let query = |from: &str| format!("SELECT count(*), sum(n) FROM {from}");
    let (view, by_hand) = (query("t_live"), query("t WHERE deleted_at IS NULL"));
    let mut explain = |query: &str| session.rows(&format!("EXPLAIN (COSTS OFF) {query}"));
    let (seen, wanted) = (explain(&view)?, explain(&by_hand)?);
    ensure!(seen == wanted, "the plans differ: {seen:#?} {wanted:#?}");

    let look = |name: &str, query: String| Variant {
        name: name.to_owned(),
        run: Box::new(move || {
            let mut session = cluster.connect(DATABASE)?;
            session.run("SET max_parallel_workers_per_gather = 0")?;
            session.run(&query)?;
            let clock = Instant::now();
            for _ in 0..LOOKS {
                session.run(&query)?;
            }
            Ok(Sample::from([("ms", clock.elapsed().as_secs_f64() * 1000.0)]))
        }),
    };
    let series = alternate(plan.runs, &mut [look("condition by hand", by_hand), look("live view", view)])?;
    let verdict = [ratio("live view / by hand (same plan): ms", &series[1], &series[0]).must(Bound::AtMost(1.02))];
    report.add(&format!("{LOOKS} looks at {} rows", plan.rows), &series, &verdict)
}

/// What applications do: a statement for one row, in a transaction of its own; and a child for a parent that may be deleted.
fn one_at_a_time(cluster: &Cluster, plan: &Plan, report: &mut Report) -> Result<()> {
    let mut variants = ONE_ROW.map(|(name, set_up, statement)| Variant {
        name: name.to_owned(),
        run: Box::new(move || {
            let mut session = cluster.connect(DATABASE)?;
            make_tables(&mut session, ONE_ROW_TABLE, 30)?;
            session.run(set_up)?;
            for quiet in ["SET synchronous_commit = off", "VACUUM (ANALYZE, FREEZE) t, p", "CHECKPOINT"] {
                session.run(quiet)?;
            }
            let statement = session.prepare(statement)?;
            let clock = Instant::now();
            for id in 1..=STATEMENTS {
                session.query(&statement, &[&id])?;
            }
            Ok(Sample::from([("us", clock.elapsed().as_secs_f64() * 1e6 / f64::from(STATEMENTS))]))
        }),
    });
    let series = alternate(plan.runs, &mut variants)?;
    let against = |what: &str, i: usize, j: usize| Comparison::new(what, &series[i], &series[j], Measure::Ratio("us"));
    let verdict = [
        against("DELETE of a row, the live view / UPDATE: us", 1, 0),
        against("undelete() of a row / UPDATE: us", 3, 2),
        against("INSERT of a child / the foreign key alone: us", 5, 4),
    ];
    report.add(&format!("{STATEMENTS} statements of one row"), &series, &verdict)
}

fn ratio(what: &str, series: &Series, other: &Series) -> Comparison {
    Comparison::new(what, series, other, Measure::Ratio("ms"))
}

fn delete_in_turns<const N: usize>(
    cluster: &Cluster,
    plan: &Plan,
    fillfactor: u32,
    ways: [Way; N],
) -> Result<Vec<Series>> {
    let rows = plan.rows;
    let mut variants = ways.map(|way| Variant {
        name: way.name.to_owned(),
        run: Box::new(move || {
            let mut session = cluster.connect(DATABASE)?;
            make_tables(&mut session, rows, fillfactor)?;
            session.run(way.set_up)?;
            session.run("VACUUM (ANALYZE, FREEZE) t, p")?;
            session.run("CHECKPOINT")?;
            let clock = Instant::now();
            session.run(way.statement)?;
            let elapsed = clock.elapsed().as_secs_f64() * 1000.0;
            let left: i64 = session.value(way.left)?;
            ensure!(left == 0, "{}: {left} rows are left", way.name);
            Ok(Sample::from([("ms", elapsed)]))
        }),
    });
    alternate(plan.runs, &mut variants)
}

fn make_tables(session: &mut Session, rows: u32, fillfactor: u32) -> Result<()> {
    session.run("DROP TABLE IF EXISTS t, p CASCADE")?;
    session.run(&format!(
        "CREATE TABLE p (id integer PRIMARY KEY, label text);
         CREATE TABLE t (id integer PRIMARY KEY, parent integer REFERENCES p ON DELETE CASCADE, n integer, label text)
             WITH (fillfactor = {fillfactor});
         INSERT INTO p SELECT g, 'label ' || g FROM generate_series(1, {PARENTS}) g;
         INSERT INTO t SELECT g, 1 + g % {PARENTS}, g, 'label ' || g FROM generate_series(1, {rows}) g;
         CREATE INDEX ON t (parent)"
    ))
}
