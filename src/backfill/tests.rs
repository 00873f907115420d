//! What a backfill accepts, explains and shows, in the server.

use crate::in_server_tests::{error, run, sqlstate, text};
use crate::server::raise::answer;

/// A full table of 20,000 rows with a key, and a column `c` to fill.
fn table() {
    answer(run("CREATE TABLE t (id bigint PRIMARY KEY, a text NOT NULL, c text)"));
    answer(run("INSERT INTO t SELECT i, 'value ' || i FROM generate_series(1, 20000) i"));
    answer(run("ANALYZE t"));
}

fn value(sql: &str) -> String {
    answer(text(sql))
}

/// The character of the caller's text that an error points at.
fn character(sql: &str) -> i32 {
    error(sql).position.map_or(0, |place| place.character)
}

#[pgrx::pg_extern]
fn test_fragments_are_fragments() {
    table();
    for (assignments, condition, code) in [
        ("c = ", "true", "42601"),
        ("c = a WHERE true", "true", "42601"),
        ("c = a FROM pg_class", "true", "42601"),
        ("c = a RETURNING 1", "true", "42601"),
        ("c = a; DROP TABLE t", "true", "42601"),
        ("c = a;", "true", "42601"),
        ("", "true", "22023"),
        ("c = a", " ", "22023"),
        ("c = a", "true RETURNING 1", "42601"),
        ("c = a", "true; DROP TABLE t", "42601"),
        ("c = a", "true) OR (true", "42601"),
        ("c = a", "CURRENT OF x", "42601"),
        ("c = $1", "true", "42P02"),
        ("c = a", "id = $2", "42P02"),
        ("nope = a", "true", "42703"),
        ("c = nope(a)", "true", "42883"),
        ("c = a", "id", "42804"),
    ] {
        let sql = format!("SELECT upkeep.backfill('t', $f${assignments}$f$, $f${condition}$f$)");
        assert_eq!(sqlstate(&sql), code, "{sql}");
    }
    assert_eq!(value("SELECT count(*) FROM upkeep.jobs"), "0");
}

#[pgrx::pg_extern]
fn test_a_comment_swallows_no_condition() {
    table();
    let rows = value("SELECT count(*) FROM upkeep.preview_backfill('t', 'c = a --', 'id <= 3 --', 100)");
    assert_eq!(rows, "3");
}

#[pgrx::pg_extern]
fn test_errors_point_into_the_callers_text() {
    table();
    let backfill = |assignments: &str, condition: &str| {
        character(&format!("SELECT upkeep.backfill('t', '{assignments}', '{condition}')"))
    };
    assert_eq!(backfill("c = a, d = 1", "true"), 8);
    assert_eq!(backfill("c = a", "c IS NUL"), 6);
    assert_eq!(backfill("c = a", "true AND nope(a)"), 10);
    assert_eq!(backfill("c = ''ä'' + d", "true"), 11);
    assert_eq!(backfill("c = a WHERE d", "true"), 13);
}

#[pgrx::pg_extern]
fn test_what_cannot_be_backfilled_says_why() {
    answer(run("CREATE TABLE p (id int, n int) PARTITION BY RANGE (n)"));
    answer(run("CREATE TABLE parent (id int PRIMARY KEY, n int)"));
    answer(run("CREATE TEMP TABLE child () INHERITS (parent)"));
    answer(run("CREATE VIEW v AS SELECT 1 AS n"));
    answer(run("CREATE MATERIALIZED VIEW m AS SELECT 1 AS n"));
    answer(run("CREATE SEQUENCE s"));
    answer(run("CREATE TEMP TABLE temporary (id int PRIMARY KEY, n int)"));
    for (target, code) in [
        ("'p'", "0A000"),
        ("'parent'", "0A000"),
        ("'temporary'", "0A000"),
        ("'v'", "42809"),
        ("'m'", "42809"),
        ("'s'", "42809"),
        ("'pg_class'", "42501"),
        ("'upkeep._job'", "42501"),
        ("NULL", "22004"),
        ("123456789", "42P01"),
    ] {
        let error = error(&format!("SELECT upkeep.backfill({target}, 'n = 1', 'n IS NULL')"));
        assert_eq!(error.sqlstate.to_string(), code, "{target}: {}", error.message);
    }
}

#[pgrx::pg_extern]
fn test_keys() {
    answer(run("CREATE TABLE k (a int NOT NULL, b text NOT NULL, c int, n int)"));
    let no_condition = "SELECT upkeep.backfill('k', 'n = 1')";
    let without_key = error(no_condition);
    assert_eq!(without_key.sqlstate.to_string(), "55000");
    assert!(without_key.hint.unwrap_or_default().contains("condition"));
    // Not unique, not immediate, not complete, not of columns, not of NOT NULL columns.
    answer(run("CREATE INDEX ON k (a)"));
    answer(run("ALTER TABLE k ADD UNIQUE (a) DEFERRABLE"));
    answer(run("CREATE UNIQUE INDEX ON k (a) WHERE n > 0"));
    answer(run("CREATE UNIQUE INDEX ON k ((a + 1))"));
    answer(run("CREATE UNIQUE INDEX ON k (c)"));
    assert_eq!(sqlstate(no_condition), "55000");
    answer(run("CREATE UNIQUE INDEX ON k (a, b DESC)"));
    assert_eq!(sqlstate("SELECT upkeep.backfill('k', 'b = 1')"), "0A000");
    answer(run(no_condition));
    assert_eq!(value("SELECT params ->> 'key' FROM upkeep._job"), "[\"a\", \"b\"]");
}

#[pgrx::pg_extern]
fn test_options_and_arguments_are_checked() {
    table();
    for arguments in [
        "options => '{\"stride\": 3}'",
        "options => '{\"strides\": 0}'",
        "options => '[]'",
        "options => '{\"strategy\": \"fast\"}'",
        "on_error => 'ignore'",
        "workers => 0",
        "batch_time => '1 ms'",
        "if_not_exists => true",
    ] {
        let sql = format!("SELECT upkeep.backfill('t', 'c = a', 'c IS NULL', {arguments})");
        assert_eq!(sqlstate(&sql), "22023", "{arguments}");
    }
    let blocks = "SELECT upkeep.backfill('t', 'c = a', options => '{\"strategy\": \"blocks\"}')";
    assert_eq!(sqlstate(blocks), "22023");
}

#[pgrx::pg_extern]
fn test_one_backfill_at_a_time_fills_a_column() {
    table();
    let job = value("SELECT upkeep.backfill('t', 'c = a', 'c IS NULL', 'fill c')");
    assert_eq!(sqlstate("SELECT upkeep.backfill('t', 'c = lower(a)', 'c IS NULL')"), "55006");
    answer(run("SELECT upkeep.backfill('t', 'a = lower(a)', 'a <> lower(a)')"));
    let same = "SELECT upkeep.backfill('t', 'c = a', 'c IS NULL', 'fill c', if_not_exists => true)";
    assert_eq!(value(same), job);
    assert_eq!(sqlstate("SELECT upkeep.backfill('t', 'c = 1', 'c IS NULL', 'fill c')"), "42710");
    answer(run(&format!("SELECT upkeep.cancel('{job}')")));
    answer(run("SELECT upkeep.backfill('t', 'c = lower(a)', 'c IS NULL')"));
}

#[pgrx::pg_extern]
fn test_rights_are_the_callers() {
    table();
    answer(run("CREATE ROLE clerk LOGIN"));
    answer(run("GRANT USAGE ON SCHEMA public TO clerk"));
    answer(run("GRANT SELECT ON t TO clerk"));
    answer(run("SET LOCAL ROLE clerk"));
    let backfill = "SELECT upkeep.backfill('t', 'c = a', 'c IS NULL')";
    let refused = error(backfill);
    assert_eq!(refused.sqlstate.to_string(), "42501");
    assert!(refused.hint.unwrap_or_default().contains("GRANT"));
    answer(run("RESET ROLE"));
    answer(run("GRANT UPDATE (c) ON t TO clerk"));
    answer(run("SET LOCAL ROLE clerk"));
    answer(run(backfill));
    assert_eq!(sqlstate("SELECT upkeep.backfill('t', 'a = c', 'a = ''''')"), "42501");
    answer(run("RESET ROLE"));
    assert_eq!(value("SELECT owner FROM upkeep.jobs"), "clerk");
}

#[pgrx::pg_extern]
fn test_the_text_runs_as_the_caller() {
    table();
    answer(run("CREATE ROLE clerk LOGIN"));
    answer(run("GRANT ALL ON t TO clerk"));
    answer(run("GRANT CREATE, USAGE ON SCHEMA public TO clerk"));
    answer(run("CREATE TABLE seen (who name)"));
    answer(run("GRANT ALL ON seen TO clerk"));
    answer(run("SET LOCAL ROLE clerk"));
    // Planning executes functions that claim to be immutable; sampling executes conditions.
    answer(run("CREATE FUNCTION spy() RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS \
                'BEGIN INSERT INTO seen VALUES (current_user); RETURN true; END'"));
    for call in [
        "upkeep.backfill('t', 'c = a', 'spy() AND c IS NULL')",
        "upkeep.backfill('t', 'a = spy()::text', 'a IS NULL')",
        "upkeep.explain_backfill('t', 'c = spy()::text', 'spy()')",
        "upkeep.preview_backfill('t', 'c = spy()::text', 'spy()')",
    ] {
        // It writes, which some of these calls refuse: all that matters is who it is.
        let _ = sqlstate(&format!("SELECT * FROM {call} AS f"));
    }
    answer(run("RESET ROLE"));
    assert_eq!(value("SELECT count(*) FROM seen WHERE who <> 'clerk'"), "0");
}

#[pgrx::pg_extern]
fn test_explain_chooses_and_warns() {
    table();
    let explain = |column: &str, arguments: &str| {
        value(&format!("SELECT {column} FROM upkeep.explain_backfill('t', {arguments})"))
    };
    let fill = "'c = upper(a)', 'c IS NULL'";
    assert_eq!(explain("strategy", fill), "blocks, 10 strides");
    assert_eq!(explain("strategy", "'c = upper(a)'"), "keys, 10 strides");
    assert_eq!(explain("cardinality(warnings)", fill), "0");
    assert_eq!(explain("rows_estimate BETWEEN 18000 AND 22000", fill), "true");
    assert_eq!(explain("strategy", "'c = a', 'id <= 100'"), "blocks");
    assert!(explain("warnings", "'c = ''x''', 'c IS NULL'").contains("ADD COLUMN"));
    answer(run("CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'"));
    answer(run("CREATE TRIGGER tick BEFORE UPDATE ON t FOR EACH ROW EXECUTE FUNCTION f()"));
    assert!(explain("warnings", fill).contains("trigger tick"));
    answer(run("CREATE INDEX on_c ON t (lower(c))"));
    assert!(explain("warnings", fill).contains("index on_c"));
    assert_eq!(explain("strategy", fill), "blocks, 5 strides");
    assert_eq!(value("SELECT count(*) FROM t WHERE c IS NOT NULL"), "0");
}

#[pgrx::pg_extern]
fn test_explain_sees_a_publication_that_refuses() {
    answer(run("CREATE TABLE unkeyed (a int, b int)"));
    answer(run("CREATE PUBLICATION news FOR TABLE unkeyed"));
    let warnings = value("SELECT warnings FROM upkeep.explain_backfill('unkeyed', 'b = a', 'b IS NULL')");
    assert!(warnings.contains("ALTER TABLE public.unkeyed REPLICA IDENTITY FULL"), "{warnings}");
    let refused = error("SELECT upkeep.backfill('unkeyed', 'b = a', 'b IS NULL')");
    assert_eq!(refused.sqlstate.to_string(), "55000");
    assert_eq!(refused.hint.as_deref(), Some("ALTER TABLE public.unkeyed REPLICA IDENTITY FULL;"));
}

#[pgrx::pg_extern]
fn test_preview_shows_what_would_be_written() {
    answer(run("CREATE TABLE v (id int PRIMARY KEY, a int, b int DEFAULT 7, tags int[])"));
    answer(run("INSERT INTO v SELECT i, i * 2, NULL FROM generate_series(1, 5) i"));
    let new_row = |assignments: &str| {
        value(&format!("SELECT new_row FROM upkeep.preview_backfill('v', '{assignments}', 'id = 3')"))
    };
    assert_eq!(new_row("b = a + id"), "{\"a\": 6, \"b\": 9, \"id\": 3, \"tags\": null}");
    assert_eq!(new_row("b = DEFAULT"), "{\"a\": 6, \"b\": 7, \"id\": 3, \"tags\": null}");
    assert_eq!(new_row("(a, b) = (b, a)"), "{\"a\": null, \"b\": 6, \"id\": 3, \"tags\": null}");
    assert_eq!(new_row("b = (SELECT max(v2.a) FROM v v2)"), "{\"a\": 6, \"b\": 10, \"id\": 3, \"tags\": null}");
    for unshowable in ["(a, b) = (SELECT 1, 2)", "tags[1] = 5"] {
        let sql = format!("SELECT * FROM upkeep.preview_backfill('v', '{unshowable}')");
        assert_eq!(sqlstate(&sql), "0A000");
    }
    assert_eq!(value("SELECT count(*) FROM upkeep.preview_backfill('v', 'b = 1', max_rows => 2)"), "2");
    assert_eq!(value("SELECT count(*) FROM v WHERE b IS NOT NULL"), "0");
}

#[pgrx::pg_extern]
fn test_the_stride_filter_splits_every_page() {
    table();
    let counts = value(
        "SELECT string_agg(n::text, ' ' ORDER BY k) FROM (
             SELECT k, count(*) FILTER (WHERE upkeep._in_stride(t.ctid, 3, k)) AS n
             FROM t CROSS JOIN generate_series(0, 2) k WHERE id <= 30 GROUP BY k) s",
    );
    assert_eq!(counts, "10 10 10");
    assert_eq!(value("SELECT upkeep._in_stride('(0,1)', 0, 0)"), "false");
    assert_eq!(value("SELECT upkeep._in_stride_before('(0,1)', 1, 0, '90', '100', 50)"), "true");
    assert_eq!(value("SELECT upkeep._in_stride_before('(0,1)', 1, 0, '149', '100', 50)"), "false");
    assert_eq!(value("SELECT upkeep._in_stride_before('(0,1)', 1, 0, '150', '100', 50)"), "true");
    // The counter wraps round.
    assert_eq!(value("SELECT upkeep._in_stride_before('(0,1)', 1, 0, '5', '4294967290', 50)"), "false");
}

/// Ranges are read by block, whatever the condition: also by the plan that is kept.
#[pgrx::pg_extern]
fn test_ranges_are_tid_range_scans() {
    table();
    answer(run("CREATE INDEX ON t (c)"));
    answer(run("CREATE INDEX unfilled ON t (id) WHERE c IS NULL"));
    for mode in ["force_generic_plan", "force_custom_plan"] {
        answer(run(&format!("SET LOCAL plan_cache_mode = {mode}")));
        for (i, condition) in
            ["c IS NULL", "c IS NULL AND a LIKE 'value%'", "EXISTS (SELECT FROM t t2 WHERE t2.id = t.id)"]
                .iter()
                .enumerate()
        {
            let name = format!("{mode}_{i}");
            let filter = match i {
                2 => format!("upkeep._in_stride(ctid, $3, $4) AND ({condition})"),
                _ => format!("CASE WHEN upkeep._in_stride(ctid, $3, $4) THEN ({condition}) ELSE false END"),
            };
            answer(run(&format!(
                "PREPARE {name} (tid, tid, int, int) AS UPDATE ONLY t SET c = a \
                 WHERE ctid OPERATOR(pg_catalog.>=) $1 AND ctid OPERATOR(pg_catalog.<) $2 AND {filter} \
                 RETURNING ({condition}) IS TRUE"
            )));
            let plan = answer(crate::in_server_tests::rows(
                &format!("EXPLAIN EXECUTE {name} ('(0,0)', '(9,0)', 10, 3)"),
                |row| row.require::<String>(1),
            ));
            assert!(plan.join("\n").contains("Tid Range Scan on t"), "{plan:#?}");
        }
    }
}
