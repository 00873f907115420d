//! The trigger against what UPDATE does, in the server: same rows, same errors.

use crate::backfill::definition::Definition;
use crate::backfill::new_rows::{self, Installed, Removed};
use crate::ddl::Tries;
use crate::error::Result;
use crate::in_server_tests::{error, rows, run, sqlstate, text};
use crate::server::Oid;
use crate::server::catch::subtransaction;
use crate::server::raise::answer;
use pgrx::Uuid;

/// By a first attempt, which nobody is in the way of.
fn install(job: Uuid, relids: &[Oid], definition: &Definition) -> Result<Installed> {
    new_rows::install(job, relids, definition, &Tries::default())
}

fn remove(job: Uuid) -> Result<Removed> {
    new_rows::remove(job, &Tries::default())
}

/// The same columns in `t`, which gets the trigger, and `u`, which is updated.
fn tables() {
    for sql in [
        "CREATE SCHEMA IF NOT EXISTS public",
        OURS,
        "CREATE DOMAIN pos AS int CHECK (VALUE > 0)",
        "CREATE DOMAIN needed AS text NOT NULL",
        "CREATE TYPE pair AS (x int, y text)",
        "CREATE TYPE mood AS ENUM ('sad', 'glad')",
        "CREATE TABLE other AS SELECT g AS id FROM generate_series(1, 3) g",
        "CREATE FUNCTION twice(int) RETURNS int LANGUAGE plpgsql STABLE AS 'BEGIN RETURN 2 * $1; END'",
        "CREATE TABLE u (id int PRIMARY KEY, a int, b int, s text COLLATE \"C\", v varchar(4) COLLATE \"POSIX\", k char(3),
                         n numeric(5,2), d pos, e needed DEFAULT 'x', c pair, arr int[], ts timestamptz, m mood,
                         def int DEFAULT 7, j jsonb, bits bit(3), done boolean)",
        "CREATE TABLE t (LIKE u INCLUDING ALL)",
    ] {
        answer(run(sql));
    }
}

const ROWS: [&str; 6] = [
    "(1, 5, 2, 'abc', 'x', 'k', 1.5, 3, 'e', ROW(1, 'y')::pair, '{1,2}', '2020-06-01 12:00+00', 'sad', 1, '{\"a\": 1}', B'101', NULL)",
    "(2, -1, 0, 'ABCDEF', NULL, NULL, NULL, NULL, 'e', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)",
    "(3, 100000, 7, 'ab      ', 'y', 'kk', 0, 1, '', NULL, '{}', 'infinity', 'glad', 3, 'null', B'000', false)",
    "(4, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 'z', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)",
    "(5, 2147483647, 1, 'it''s \\ here', 'v', '', 999.99, 9, 'e', ROW(NULL, NULL)::pair, '{NULL}', \
    '-infinity', 'sad', 0, '[]', B'111', NULL)",
    "(6, 1, 3, 'other', 'o', 'o', 1, 1, 'o', NULL, NULL, NULL, NULL, NULL, NULL, NULL, true)",
];

/// A job that seems to run, and its definition.
fn job(assignments: &str, condition: &str) -> (Uuid, Oid, Definition) {
    let sql = format!(
        "SELECT upkeep.backfill('t', $f${assignments}$f$, $f${condition}$f$, paused => true, fill_new_rows => true)"
    );
    let job: Vec<Uuid> = answer(rows(&sql, |row| row.require(1)));
    answer(run("UPDATE upkeep._job SET state = 'running'"));
    let found = answer(rows(&format!("SELECT relid, params FROM upkeep._job WHERE id = '{}'", job[0]), |row| {
        Ok((row.require::<Oid>(1)?, row.require::<crate::server::json::JsonB>(2)?.0))
    }));
    let (relid, params) = found.into_iter().next().expect("the job is there");
    (job[0], relid, serde_json::from_value(params).expect("a definition"))
}

/// What the job was created with, and what a writer's session may have set instead.
const OURS: &str = "SET LOCAL TimeZone TO 'Asia/Tokyo'; SET LOCAL DateStyle TO 'ISO'; SET LOCAL search_path TO public";
const THEIRS: &str =
    "SET LOCAL TimeZone TO 'America/Lima'; SET LOCAL DateStyle TO 'German'; SET LOCAL search_path TO pg_catalog";

/// The one row of a table after these statements, or the error; nothing of it stays.
fn outcome(table: &str, statements: &[&str]) -> String {
    let result = subtransaction(|| {
        statements.iter().try_for_each(|sql| run(sql))?;
        run(THEIRS)?;
        text(&format!("SELECT x FROM public.{table} x"))
    });
    answer(run("DELETE FROM public.t; DELETE FROM public.u"));
    result.unwrap_or_else(|error| format!("{} {}", error.sqlstate, error.message))
}

/// What becomes of each row that is written while the trigger is there, by INSERT and by UPDATE.
fn same_as_update(assignments: &str, condition: &str) -> Vec<String> {
    let (job, relid, definition) = job(assignments, condition);
    assert!(matches!(answer(install(job, &[relid], &definition)), Installed::Now(_)));
    assert!(matches!(answer(install(job, &[relid], &definition)), Installed::Already));
    let mut seen = Vec::new();
    for row in ROWS {
        let row = row.replace("::pair", "::public.pair");
        let insert = format!("INSERT INTO public.t VALUES {row}");
        let by_insert = outcome("t", &[THEIRS, &insert]);
        let by_update = outcome(
            "t",
            &[
                THEIRS,
                "ALTER TABLE public.t DISABLE TRIGGER USER",
                &insert,
                "ALTER TABLE public.t ENABLE TRIGGER USER",
                "UPDATE public.t SET id = id",
            ],
        );
        let update = format!("UPDATE u SET {assignments} WHERE ({condition})");
        let wanted = outcome("u", &[THEIRS, &format!("INSERT INTO public.u VALUES {row}"), OURS, &update]);
        let wanted = wanted.replace("relation \"u\"", "relation \"t\"");
        assert_eq!(by_insert, wanted, "INSERT: {assignments} | {condition} | {row}");
        assert_eq!(by_update, wanted, "UPDATE: {assignments} | {condition} | {row}");
        seen.push(by_insert);
    }
    answer(run(OURS));
    assert!(matches!(answer(remove(job)), Removed::Gone));
    answer(run("DELETE FROM upkeep._job"));
    let left = "SELECT (SELECT count(*) FROM pg_trigger WHERE NOT tgisinternal)
                       + (SELECT count(*) FROM pg_proc WHERE proname LIKE '\\_fill\\_%')";
    assert_eq!(answer(text(left)), "0");
    seen
}

#[pgrx::pg_extern]
fn test_new_rows_are_filled_as_an_update_would() {
    tables();
    for assignments in [
        "a = b, b = a",
        "(a, b) = (b, a)",
        "(a, b) = ROW(b, a - 1)",
        "def = DEFAULT, a = DEFAULT",
        "v = s",
        "k = s",
        "v = left(s, 4), s = v",
        "n = a",
        "n = b / 3.0",
        "d = a",
        "e = s",
        "c = ROW(a, s), a = (c).x",
        "s = (c).y, c = NULL",
        "arr = arr || a, a = arr[1]",
        "arr = ARRAY[a, b]",
        "a = 10 / b",
        "a = CASE WHEN b = 0 THEN 0 ELSE 10 / b END",
        "a = CASE WHEN twice(b) = 0 THEN 0 ELSE 10 / b END",
        "a = a + 1",
        "a = 3.7",
        "a = '5', s = 5",
        "s = ts",
        "s = to_char(ts, 'HH24 TZH')",
        "ts = '2021-01-01 00:00'",
        "ts = '2021-01-01'::timestamp + interval '1 mon -2 days'",
        "m = 'sad', s = m::text",
        "m = s::mood",
        "bits = substring(B'1011' FROM 1 FOR b)",
        "s = 'it''s \\ \"quoted\" $f' || coalesce(v, '')",
        "s = greatest(s, v), a = length(s)",
        "a = CASE WHEN s < v THEN 1 ELSE 2 END",
        "j = jsonb_build_object('a', a, 's', s)",
        "j = j - 'a'",
        "a = (SELECT max(id) FROM other)",
        "a = (SELECT id FROM other)",
        "a = (SELECT o.id FROM other o WHERE o.id = b)",
        "a = (SELECT new.id FROM other new WHERE new.id = b)",
        "done = EXISTS (SELECT FROM other WHERE id = b)",
    ] {
        same_as_update(assignments, "done IS NULL");
    }
}

#[pgrx::pg_extern]
fn test_conditions_of_every_kind_choose_the_same_rows() {
    tables();
    for (condition, least) in [
        ("done IS NULL", 4),
        ("done IS NULL AND b > 1", 1),
        ("s COLLATE \"C\" < 'b'", 3),
        // None of these can stand in a WHEN: they depend on who asks, or on his settings, or are not the server's.
        ("twice(a) = 10", 1),
        ("ts < '2020-06-01 20:00'::timestamp", 1),
        ("ts < now()", 2),
        ("current_user IS NOT NULL AND done IS NULL", 4),
        ("a IN (SELECT id FROM other)", 1),
        ("EXISTS (SELECT FROM other o WHERE o.id = b)", 3),
        ("m = 'sad'", 2),
        ("c = ROW(1, 'y')::pair", 1),
    ] {
        let seen = same_as_update("def = -77", condition);
        let filled = seen.iter().filter(|row| row.contains(",-77,")).count();
        assert!(filled >= least && filled < ROWS.len(), "{condition}: {filled} of {seen:#?}");
    }
}

#[pgrx::pg_extern]
fn test_new_rows_hostile_names() {
    answer(run("CREATE SCHEMA \"upkeep; drop\"; CREATE TABLE \"upkeep; drop\".\"T\"\"$f$'\\\" (
                    \"i'd\" int PRIMARY KEY, \"new\" int, \"column1\" int, \"NEW\"\".a\" text, \"filled\" int)"));
    let table = "\"upkeep; drop\".\"T\"\"$f$'\\\"";
    let made = "SELECT upkeep.backfill($t$\"upkeep; drop\".\"T\"\"$f$'\\\"$t$,
                    '\"NEW\"\".a\" = ''x'' || \"i''d\", \"new\" = column1, column1 = filled, filled = \"new\"',
                    '\"NEW\"\".a\" IS NULL', paused => true, fill_new_rows => true)";
    let job: Vec<Uuid> = answer(rows(made, |row| row.require(1)));
    answer(run("UPDATE upkeep._job SET state = 'running'"));
    let found = answer(rows("SELECT relid, params FROM upkeep._job", |row| {
        Ok((row.require::<Oid>(1)?, row.require::<crate::server::json::JsonB>(2)?.0))
    }));
    let definition: Definition = serde_json::from_value(found[0].1.clone()).expect("a definition");
    assert!(matches!(answer(install(job[0], &[found[0].0], &definition)), Installed::Now(_)));
    answer(run(&format!("INSERT INTO {table} VALUES (1, 2, 3, NULL, 5)")));
    assert_eq!(answer(text(&format!("SELECT x FROM {table} x"))), "(1,3,5,x1,2)");
    assert!(matches!(answer(remove(job[0])), Removed::Gone));
}

#[pgrx::pg_extern]
fn test_a_name_that_changes_is_no_business_of_the_writers() {
    tables();
    let (job, relid, definition) = job("s = twice(a)::text", "done IS NULL");
    assert!(matches!(answer(install(job, &[relid], &definition)), Installed::Now(_)));
    answer(run("INSERT INTO t (id, a) VALUES (1, 4)"));
    // Found again by what it is, not by its name.
    answer(run("ALTER FUNCTION twice(int) RENAME TO two_times"));
    answer(run("INSERT INTO t (id, a) VALUES (2, 4)"));
    answer(run("ALTER TABLE t ADD COLUMN more int, DROP COLUMN bits"));
    answer(run("INSERT INTO t (id, a) VALUES (3, 4)"));
    assert_eq!(answer(text("SELECT DISTINCT s FROM t")), "8");
    // Not found: the row is left as it is.
    answer(run("ALTER TABLE t RENAME COLUMN a TO aa"));
    answer(run("INSERT INTO t (id, aa) VALUES (4, 4)"));
    answer(run("ALTER TABLE t RENAME COLUMN aa TO a"));
    answer(run("ALTER TABLE t ALTER COLUMN s TYPE varchar(50)"));
    answer(run("INSERT INTO t (id, a) VALUES (5, 4)"));
    assert_eq!(answer(text("SELECT count(*) FROM t WHERE s IS NULL")), "2");
    assert_eq!(sqlstate("DROP FUNCTION two_times(int)"), "2BP01");
    answer(run("DROP FUNCTION two_times(int) CASCADE"));
    answer(run("INSERT INTO t (id, a) VALUES (6, 4)"));
    assert!(matches!(answer(remove(job)), Removed::Gone));
}

#[pgrx::pg_extern]
fn test_what_no_trigger_can_do_is_refused() {
    answer(run(
        "CREATE TABLE t (id int PRIMARY KEY, a int, b int, arr int[], g int GENERATED ALWAYS AS (a + 1) STORED,
                                i int GENERATED BY DEFAULT AS IDENTITY)",
    ));
    for (assignments, condition, code, message) in [
        ("a = 1", "NULL", "22023", "fill_new_rows needs a condition"),
        ("arr[1] = 1", "'a IS NULL'", "0A000", "column \"arr\" cannot be filled in new rows"),
        ("(a, b) = (SELECT 1, 2)", "'a IS NULL'", "0A000", "column \"a\" cannot be filled in new rows"),
        ("i = DEFAULT", "'a IS NULL'", "0A000", "column \"i\" cannot be filled in new rows"),
        ("g = DEFAULT", "'a IS NULL'", "0A000", "column \"g\" cannot be filled in new rows"),
        ("a = g", "'a IS NULL'", "0A000", "generated column \"g\" has no value in a row that is about to be written"),
        ("a = 1", "'g IS NULL'", "0A000", "generated column \"g\" has no value in a row that is about to be written"),
        ("a = 1", "'tableoid > 0'", "0A000", "a system column has no value in a row that is about to be written"),
        (
            "a = (SELECT count(*) FROM pg_class WHERE oid = t.tableoid)",
            "'a IS NULL'",
            "0A000",
            "a system column has no value in a row that is about to be written",
        ),
        (
            "a = length(t::text)",
            "'a IS NULL'",
            "0A000",
            "the whole row as a value is not the row that is about to be written",
        ),
        ("a = 1", "'a IS NULL AND random() < 2'", "0A000", "the condition cannot be tested in new rows"),
    ] {
        let found =
            error(&format!("SELECT upkeep.backfill('t', $f${assignments}$f$, {condition}, fill_new_rows => true)"));
        assert_eq!((found.sqlstate.to_string().as_str(), found.message.as_str()), (code, message), "{assignments}");
        assert!(found.detail.is_some() && found.hint.is_some(), "{found:?}");
    }
    answer(run("DROP EXTENSION plpgsql CASCADE"));
    let found = error("SELECT upkeep.backfill('t', 'a = 1', 'a IS NULL', fill_new_rows => true)");
    assert_eq!(
        (found.sqlstate.to_string().as_str(), found.hint.as_deref()),
        ("0A000", Some("CREATE EXTENSION plpgsql;"))
    );
}

#[pgrx::pg_extern]
fn test_a_writer_cannot_pretend_to_be_the_job() {
    answer(run("CREATE TABLE t (id int PRIMARY KEY, a int)"));
    let (job, ..) = job("a = 1", "a IS NULL");
    assert_eq!(answer(text(&format!("SELECT upkeep._is_filling('{job}')"))), "false");
    assert_eq!(answer(text("SELECT upkeep._is_filling('00000000-0000-0000-0000-000000000001')")), "false");
}

#[pgrx::pg_extern]
fn test_one_trigger_serves_partitions_and_children_have_their_own() {
    tables();
    let (job, _, definition) = job("s = twice(a)::text, b = id", "done IS NULL");
    let oids = |names: &str| -> Vec<Oid> {
        let sql = format!("SELECT x::regclass::oid FROM unnest(ARRAY[{names}]) x");
        answer(rows(&sql, |row| row.require(1)))
    };
    // The leaf has its columns elsewhere.
    answer(run("CREATE TABLE p (id int, a int, b int, s text, done boolean) PARTITION BY RANGE (id);
                CREATE TABLE leaf (s text, gone int, done boolean, a int, b int, id int);
                ALTER TABLE leaf DROP COLUMN gone;
                ALTER TABLE p ATTACH PARTITION leaf FOR VALUES FROM (1) TO (10)"));
    assert!(matches!(answer(install(job, &oids("'p'"), &definition)), Installed::Now(_)));
    answer(run("CREATE TABLE leaf2 PARTITION OF p FOR VALUES FROM (10) TO (20);
                INSERT INTO p (id, a) VALUES (1, 4), (11, 5); INSERT INTO leaf (id, a) VALUES (2, 6)"));
    assert_eq!(
        answer(text("SELECT string_agg(id || ' ' || s || ' ' || b, ',' ORDER BY id) FROM p")),
        "1 8 1,2 12 2,11 10 11"
    );
    assert!(matches!(answer(remove(job)), Removed::Gone));
    assert_eq!(answer(text("SELECT count(*) FROM pg_trigger WHERE NOT tgisinternal")), "0");

    answer(run("CREATE TABLE parent (id int, a int, b int, s text, done boolean);
                CREATE TABLE child (more int) INHERITS (parent)"));
    assert!(matches!(answer(install(job, &oids("'parent', 'child'"), &definition)), Installed::Now(_)));
    answer(run("INSERT INTO parent (id, a) VALUES (1, 4); INSERT INTO child (id, a) VALUES (2, 6)"));
    assert_eq!(answer(text("SELECT string_agg(id || ' ' || s, ',' ORDER BY id) FROM parent")), "1 8,2 12");
    // A child that comes later gets the same trigger beside the others.
    answer(run("CREATE TABLE later () INHERITS (parent)"));
    assert!(matches!(answer(install(job, &oids("'parent', 'child', 'later'"), &definition)), Installed::Now(tables)
        if tables == ["public.later"]));
    assert!(matches!(answer(remove(job)), Removed::Gone));
    assert_eq!(answer(text("SELECT count(*) FROM pg_trigger WHERE NOT tgisinternal")), "0");
}
