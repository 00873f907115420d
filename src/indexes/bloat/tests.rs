//! Sizes of indexes as estimated, as measured, and as the server makes them.

use crate::in_server_tests::{run, sqlstate, text};
use crate::server::raise::answer;

/// 30,000 rows of many kinds, analyzed after `indexes` were made.
fn table(indexes: &[(&str, &str)]) {
    answer(run("CREATE TABLE t (id int NOT NULL, few int, pair int, nothing int, mostly_null int, u uuid,
        n numeric, note text COLLATE \"C\", label name, wide text, small \"char\", at timestamptz, j jsonb, r int4range)"));
    answer(run("ALTER TABLE t ALTER wide SET STORAGE EXTERNAL"));
    answer(run("INSERT INTO t SELECT i, i % 5, i / 2, NULL, CASE WHEN i % 10 = 0 THEN i END, md5(i::text)::uuid,
        i / 4, repeat('x', i % 40) || i, 'name' || i, repeat(md5(i::text), 30), 'a', now() + i * interval '1 s',
        to_jsonb(i), int4range(i, i + 5) FROM generate_series(1, 30000) i"));
    for (name, definition) in indexes {
        answer(run(&format!("CREATE INDEX {name} ON t {definition}")));
    }
    answer(run("ANALYZE t"));
}

fn value(sql: &str) -> String {
    answer(text(sql))
}

fn number(sql: &str) -> f64 {
    value(sql).parse().unwrap_or(f64::NAN)
}

/// One figure of the view's.
fn viewed(index: &str, what: &str) -> String {
    value(&format!("SELECT {what} FROM upkeep.bloated_indexes WHERE indexrelname = '{index}'"))
}

const SHAPES: &[(&str, &str)] = &[
    ("fresh_int", "(id)"),
    ("few_values", "(few)"),
    ("pairs", "(pair)"),
    ("all_null", "(nothing)"),
    ("nulls", "(mostly_null)"),
    ("uuids", "(u)"),
    ("numerics", "(n)"),
    ("texts", "(note)"),
    ("names", "(label)"),
    ("wide_texts", "(wide)"),
    ("chars", "(small)"),
    ("jsons", "(j)"),
    ("ranges", "(r)"),
    ("descending", "(id DESC NULLS LAST)"),
    ("composite", "(few DESC, id)"),
    ("included", "(id) INCLUDE (note, at)"),
    ("half", "(id) WITH (fillfactor = 50)"),
    ("unmerged", "(few) WITH (deduplicate_items = OFF)"),
    ("partial", "(id) WHERE few = 2"),
    ("nothing_in_it", "(id) WHERE few = 99"),
    ("present", "(mostly_null) WHERE mostly_null IS NOT NULL"),
    ("expression", "(lower(note))"),
    ("merged_expression", "((id % 7))"),
    ("pattern", "(note text_pattern_ops)"),
];

#[pgrx::pg_extern]
fn test_a_fresh_index_is_as_large_as_it_should_be() {
    table(SHAPES);
    for (index, _) in SHAPES {
        // Nearly a kilobyte each: too wide for the statistics to say how the index has them.
        if *index != "wide_texts" {
            let ratio = number(&format!(
                "SELECT estimated_size::float8 / index_size FROM upkeep.bloated_indexes
                 WHERE indexrelname = '{index}'"
            ));
            assert!((0.85..=1.15).contains(&ratio), "{index}: {ratio}, {}", viewed(index, "basis"));
            assert_eq!(viewed(index, "index_size BETWEEN lower_bound AND upper_bound"), "true", "{index}");
            assert_eq!(viewed(index, "verdict"), "fine", "{index}");
        }
        let measured = format!("upkeep.measure_index_bloat('{index}', 100000)");
        let ratio = number(&format!("SELECT estimated_size::float8 / index_size FROM {measured}"));
        assert!((0.93..=1.07).contains(&ratio), "{index} measured: {ratio}");
        assert_eq!(
            value(&format!("SELECT index_size BETWEEN lower_bound AND upper_bound FROM {measured}")),
            "true",
            "{index} measured"
        );
    }
}

/// All pages are read, so that what is counted can be compared with what is there.
#[pgrx::pg_extern]
fn test_counts_are_those_of_the_index() {
    table(&[("few_values", "(few)"), ("fresh_int", "(id)"), ("empty", "(id) WHERE few = 99")]);
    let measured =
        |index: &str, what: &str| value(&format!("SELECT {what} FROM upkeep.measure_index_bloat('{index}', 100000)"));
    let pages = "pages_read, leaf_pages + internal_pages + 1, index_rows, deduplicates, tree_level";
    let size = number("SELECT pg_relation_size('few_values') / 8192");
    assert_eq!(measured("few_values", &format!("({pages})::text")), format!("({size},{size},30000,t,1)"));
    assert_eq!(measured("few_values", "posting_tuples BETWEEN 225 AND live_tuples"), "true");
    assert_eq!(measured("fresh_int", "(live_tuples, posting_tuples, dead_tuples)"), "(30000,0,0)");
    assert_eq!(measured("fresh_int", "leaf_density BETWEEN 0.85 AND 0.95"), "true");
    assert_eq!(
        measured("empty", "(index_size, estimated_size, bloat_bytes, pages_read, leaf_density IS NULL)"),
        "(8192,8192,0,1,t)"
    );
    answer(run("CREATE TABLE one (id int); CREATE INDEX one_id ON one (id)"));
    answer(run("INSERT INTO one VALUES (1)"));
    assert_eq!(measured("one_id", "(index_size, estimated_size, index_rows, tree_level)"), "(16384,16384,1,0)");
}

/// 40 rows in 100 left: pages are still there, most of them unneeded.
#[pgrx::pg_extern]
fn test_what_was_deleted_is_bloat() {
    table(&[("fresh_int", "(id)"), ("pairs", "(pair)")]);
    answer(run("DELETE FROM t WHERE id % 5 > 1"));
    answer(run("ANALYZE t"));
    assert_eq!(viewed("fresh_int", "verdict"), "bloated");
    let ratio = number("SELECT bloat_ratio FROM upkeep.bloated_indexes WHERE indexrelname = 'fresh_int'");
    assert!((0.55..0.65).contains(&ratio), "{ratio}");
    assert_eq!(viewed("fresh_int", "reindex_command"), "REINDEX INDEX CONCURRENTLY public.fresh_int;");
    let first = "SELECT array_agg(bloat_bytes) = array_agg(bloat_bytes ORDER BY bloat_bytes DESC)
                 FROM (SELECT bloat_bytes FROM upkeep.bloated_indexes WHERE estimated_size IS NOT NULL) v";
    assert_eq!(value(first), "true", "most bloat first");
}

#[pgrx::pg_extern]
fn test_unique_indexes_are_never_merged_by_a_build() {
    table(&[]);
    answer(run("CREATE UNIQUE INDEX nulls_apart ON t (nothing)"));
    answer(run("CREATE INDEX nulls_together ON t (nothing)"));
    for (index, pages) in [("nulls_apart", 80.0..90.0), ("nulls_together", 25.0..30.0)] {
        let size = number(&format!("SELECT pg_relation_size('{index}') / 8192"));
        assert!(pages.contains(&size), "{index}: {size}");
        let ratio = viewed(index, "estimated_size::float8 / index_size").parse::<f64>();
        assert!((0.95..1.05).contains(&ratio.unwrap_or(f64::NAN)), "{index}");
    }
}

#[pgrx::pg_extern]
fn test_without_statistics_nothing_is_invented() {
    answer(run("CREATE TABLE t (id int PRIMARY KEY, few int, note text)"));
    answer(run("CREATE INDEX t_few ON t (few)"));
    answer(run("CREATE INDEX t_note ON t (note)"));
    answer(run("INSERT INTO t SELECT i, i % 5, i FROM generate_series(1, 10000) i"));
    let never = "not estimated: the table was never vacuumed nor analyzed";
    assert_eq!(viewed("t_few", "basis"), never);
    assert_eq!(viewed("t_pkey", "basis"), never);
    answer(run("ANALYZE t (note)"));
    // Rows are known now; a key that is never null and never twice needs no more.
    assert_eq!(viewed("t_pkey", "estimated_size = index_size"), "true");
    assert!(viewed("t_few", "basis").contains("no statistics of column few"));
    assert_eq!(viewed("t_few", "(verdict, bloat_bytes, estimated_size)"), "(unknown,,)");
    assert_eq!(viewed("t_note", "lower_bound < estimated_size AND estimated_size < upper_bound"), "true");
    answer(run("DELETE FROM pg_statistic WHERE starelid = 't'::regclass"));
    assert!(viewed("t_note", "basis").contains("no statistics of column note"));
    answer(run("ALTER TABLE t ALTER few SET STATISTICS 0"));
    answer(run("ANALYZE t"));
    assert_eq!(viewed("t_few", "verdict"), "unknown");
}

/// Values that went out of line are 18 bytes to the statistics, and whole in the index.
#[pgrx::pg_extern]
fn test_values_out_of_line_are_not_taken_for_short_ones() {
    answer(run("CREATE TABLE t (wide text)"));
    answer(run("ALTER TABLE t ALTER wide SET STORAGE EXTERNAL"));
    answer(run("INSERT INTO t SELECT string_agg(md5(i || ':' || j), '') FROM generate_series(1, 100) i,
                generate_series(1, 80) j GROUP BY i"));
    answer(run("CREATE INDEX t_wide ON t (wide)"));
    answer(run("ANALYZE t"));
    assert!(viewed("t_wide", "basis").contains("too long for its statistics"));
    let ratio = "SELECT estimated_size::float8 / index_size FROM upkeep.measure_index_bloat('t_wide')";
    assert!((0.9..=1.1).contains(&number(ratio)), "{}", number(ratio));
}

#[pgrx::pg_extern]
fn test_a_collation_may_forbid_merging() {
    answer(run("CREATE TABLE t (note text COLLATE \"C\")"));
    answer(run("INSERT INTO t SELECT i % 5 FROM generate_series(1, 10000) i"));
    answer(run("CREATE INDEX t_note ON t (note)"));
    answer(run("ANALYZE t"));
    assert!(viewed("t_note", "basis").contains("merged"));
    // As a nondeterministic one would be marked: not every build of the server has ICU.
    answer(run("UPDATE pg_collation SET collisdeterministic = false WHERE collname = 'C' AND collencoding = -1"));
    assert!(!viewed("t_note", "basis").contains("merged"));
}

#[pgrx::pg_extern]
fn test_names_may_be_anything() {
    answer(run(r#"CREATE SCHEMA "S'; DROP --""#));
    answer(run(r#"CREATE TABLE "S'; DROP --"."T ""x"" %s" ("c'ol" int NOT NULL, "{" text)"#));
    answer(run(r#"CREATE INDEX "I'x %I" ON "S'; DROP --"."T ""x"" %s" ("c'ol", "{")"#));
    answer(run(r#"INSERT INTO "S'; DROP --"."T ""x"" %s" SELECT i, i FROM generate_series(1, 1000) i"#));
    answer(run(r#"ANALYZE "S'; DROP --"."T ""x"" %s""#));
    let named =
        |what: &str| value(&format!("SELECT {what} FROM upkeep.bloated_indexes WHERE indexrelname = $$I'x %I$$"));
    let command = named("reindex_command");
    assert_eq!(command, r#"REINDEX INDEX CONCURRENTLY "S'; DROP --"."I'x %I";"#);
    assert_eq!(named("verdict"), "fine");
    answer(run(&command.replace("CONCURRENTLY ", "")));
    assert_eq!(value(r#"SELECT index_rows FROM upkeep.measure_index_bloat('"S''; DROP --"."I''x %I"')"#), "1000");
}

/// Everything is qualified: a search_path full of traps changes nothing.
#[pgrx::pg_extern]
fn test_a_search_path_changes_nothing() {
    table(&[("pairs", "(pair)")]);
    let before = value("SELECT v.*::text FROM upkeep.bloated_indexes v WHERE indexrelname = 'pairs'");
    answer(run("CREATE SCHEMA trap"));
    for sql in [
        "CREATE FUNCTION trap.never(oid, oid) RETURNS bool LANGUAGE plpgsql AS 'BEGIN RAISE ''trap''; END'",
        "CREATE FUNCTION trap.never(name, name) RETURNS bool LANGUAGE plpgsql AS 'BEGIN RAISE ''trap''; END'",
        "CREATE FUNCTION trap.never(float8, float8) RETURNS bool LANGUAGE plpgsql AS 'BEGIN RAISE ''trap''; END'",
        "CREATE OPERATOR trap.= (LEFTARG = oid, RIGHTARG = oid, FUNCTION = trap.never)",
        "CREATE OPERATOR trap.= (LEFTARG = name, RIGHTARG = name, FUNCTION = trap.never)",
        "CREATE OPERATOR trap.<= (LEFTARG = float8, RIGHTARG = float8, FUNCTION = trap.never)",
        "CREATE FUNCTION trap.pg_relation_filepath(regclass) RETURNS text LANGUAGE plpgsql AS 'BEGIN RAISE ''trap''; END'",
        "CREATE DOMAIN trap.text AS int",
        "CREATE DOMAIN trap.name AS int",
        "CREATE DOMAIN trap.float8 AS int",
        "CREATE DOMAIN trap.regproc AS int",
        "SET LOCAL search_path = trap, pg_catalog, public",
    ] {
        answer(run(sql));
    }
    let after =
        "SELECT v.*::pg_catalog.text FROM upkeep.bloated_indexes v WHERE indexrelname OPERATOR(pg_catalog.=) 'pairs'";
    assert_eq!(spi_text(after), before);
    let measured = "SELECT index_rows::pg_catalog.text FROM upkeep.measure_index_bloat('public.pairs')";
    assert_eq!(spi_text(measured), "30000");
}

fn spi_text(sql: &str) -> String {
    let rows = crate::in_server_tests::rows(sql, |row| row.require::<String>(1));
    answer(rows).join("\n")
}

#[pgrx::pg_extern]
fn test_what_cannot_be_measured_says_why() {
    table(&[("fresh_int", "(id)")]);
    answer(run("CREATE INDEX hashed ON t USING hash (id)"));
    answer(run("CREATE TABLE p (id int PRIMARY KEY) PARTITION BY RANGE (id)"));
    answer(run("CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (1) TO (9)"));
    answer(run("CREATE INDEX broken ON t (few)"));
    answer(run("UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'broken'::regclass"));
    for (arguments, code) in [
        ("NULL", "22004"),
        ("123456789::oid::regclass", "42P01"),
        ("'t'", "42809"),
        ("'p_pkey'", "42809"),
        ("'hashed'", "0A000"),
        ("'broken'", "55000"),
        ("'fresh_int', 9", "22023"),
        ("'fresh_int', 1000001", "22023"),
    ] {
        assert_eq!(sqlstate(&format!("SELECT upkeep.measure_index_bloat({arguments})")), code, "{arguments}");
    }
    // A null number of pages is the default; partitions are measured one by one.
    assert_eq!(value("SELECT count(*) FROM upkeep.measure_index_bloat('fresh_int', NULL)"), "1");
    assert_eq!(value("SELECT count(*) FROM upkeep.measure_index_bloat('p1_pkey')"), "1");
    let listed = "SELECT string_agg(indexrelname, ',' ORDER BY indexrelname) FROM upkeep.bloated_indexes
                  WHERE schemaname = 'public'";
    assert_eq!(value(listed), "fresh_int,p1_pkey");
}

/// The catalogs' own indexes are measured as any other, and not listed.
#[pgrx::pg_extern]
fn test_catalogs_and_toast_are_measured() {
    let measured = "SELECT count(*) FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid,
                    upkeep.measure_index_bloat(i.indexrelid, 100000) m
                    WHERE c.relnamespace IN ('pg_catalog'::regnamespace, 'pg_toast'::regnamespace)
                    AND m.index_rows >= 0 AND m.lower_bound <= m.upper_bound";
    assert!(number(measured) > 100.0);
    let listed = "SELECT count(*) FROM upkeep.bloated_indexes WHERE schemaname ~ '^pg_'";
    assert_eq!(value(listed), "0");
}
