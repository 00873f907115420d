//! Statements that are stopped on their way, and names that change under kept statements: what only the inside of a backend
//! can do.

use pgrx::prelude::*;

use crate::error::Result;
use crate::in_server_tests::{run, sqlstate, text};
use crate::server::catch::subtransaction;
use crate::server::named::objects::Objects;
use crate::server::raw::Planned;
use crate::server::{Oid, repeated};

fn tables() {
    run("CREATE TABLE t (id int PRIMARY KEY)").unwrap();
    run("CREATE TABLE child (id int PRIMARY KEY, t int REFERENCES t ON DELETE CASCADE)").unwrap();
    run("SELECT upkeep.enable_soft_delete('child'), upkeep.enable_soft_delete('t')").unwrap();
    run("INSERT INTO t SELECT generate_series(1, 300)").unwrap();
    run("INSERT INTO child SELECT g, g FROM generate_series(1, 300) g").unwrap();
}

/// As plpy.execute(sql, rows) and its kin do it.
fn limited(sql: &str, rows: i64) -> Result<usize> {
    Spi::connect_mut(|client| Ok(client.update(sql, Some(rows), &[])?.len()))
}

fn live() -> String {
    text("SELECT concat_ws(',', (SELECT count(*) FROM t_live), (SELECT count(*) FROM child_live))").unwrap()
}

#[pg_extern]
fn test_a_delete_with_a_limit_on_its_rows_is_whole_or_none() {
    tables();
    // Gathered rows would be lost, or marked ones without what references them.
    for (ids, rows) in [("id <= 3", 1), ("true", 150), ("true", 299)] {
        let sql = format!("DELETE FROM t_live WHERE {ids} RETURNING id");
        let error = subtransaction(|| limited(&sql, rows)).unwrap_err();
        assert_eq!(error.sqlstate.to_string(), "55000", "{error:?}");
        assert_eq!(live(), "300,300");
    }
    // A limit that nothing comes up to stops nothing; without RETURNING there is none.
    assert_eq!(subtransaction(|| limited("DELETE FROM t_live WHERE id <= 2 RETURNING id", 3)).unwrap(), 2);
    subtransaction(|| limited("DELETE FROM t_live WHERE id BETWEEN 3 AND 160", 1)).unwrap();
    assert_eq!(live(), "140,140");
    // Below a SELECT the server runs a DELETE to its end.
    subtransaction(|| limited("WITH gone AS (DELETE FROM t_live WHERE id > 290 RETURNING id) SELECT id FROM gone", 1))
        .unwrap();
    assert_eq!(live(), "130,130");
    // An UPDATE by hand, too.
    let by_hand = "UPDATE t SET deleted_at = now() WHERE deleted_at IS NULL RETURNING id";
    assert_eq!(subtransaction(|| limited(by_hand, 1)).unwrap_err().sqlstate.to_string(), "55000");
    assert_eq!(live(), "130,130");
    // Without a savepoint: nothing of ours goes on after it.
    limited("DELETE FROM t_live WHERE id BETWEEN 200 AND 203 RETURNING id", 1).unwrap();
    for next in [
        "SELECT upkeep.soft_delete('t', 'id = 250')",
        "SELECT upkeep.undelete('t', 'id = 1')",
        "DELETE FROM child_live WHERE id = 250",
    ] {
        assert_eq!(sqlstate(next), "55000", "{next}");
    }
}

fn oid(table: &str) -> Oid {
    Oid::from(text(&format!("SELECT '{table}'::regclass::oid::text")).unwrap().parse::<u32>().unwrap())
}

/// `a.t` and `b.t`, alike.
fn twins() -> Oid {
    for schema in ["a", "b"] {
        run(&format!("CREATE SCHEMA {schema}")).unwrap();
        run(&format!("CREATE TABLE {schema}.t (id int PRIMARY KEY, v int DEFAULT 0)")).unwrap();
        run(&format!("INSERT INTO {schema}.t VALUES (1)")).unwrap();
    }
    oid("a.t")
}

fn swap() {
    run("ALTER SCHEMA a RENAME TO c").unwrap();
    run("ALTER SCHEMA b RENAME TO a").unwrap();
}

#[pg_extern]
fn test_a_kept_statement_leaves_another_table_of_that_name_alone() {
    let table = twins();
    let kept = repeated::Statement::new("UPDATE a.t SET v = v OPERATOR(pg_catalog.+) 1 RETURNING true", &[]);
    kept.names(&[table]);
    let raw = Planned::new("UPDATE a.t SET v = v OPERATOR(pg_catalog.+) 10".to_owned(), Vec::new());
    raw.names(table, &Objects::of(&[table]).unwrap());
    let run_raw = || subtransaction(|| Ok(raw.run_alone()));
    assert_eq!(kept.count(&[]).unwrap().rows, 1);
    assert_eq!(run_raw().unwrap(), 1);
    swap();
    assert_eq!(subtransaction(|| kept.count(&[])).unwrap_err().sqlstate.to_string(), "40001");
    assert_eq!(run_raw().unwrap_err().sqlstate.to_string(), "40001");
    assert_eq!(text("SELECT concat_ws(',', (SELECT v FROM c.t), (SELECT v FROM a.t))").unwrap(), "11,0");
}

#[pg_extern]
fn test_every_list_of_our_triggers_is_the_same() {
    let listed = text(
        "SELECT string_agg(format('%s %s %s %s', proname, tgname, tgtype, deferred::text), E'\\n' ORDER BY
             format('%s %s %s %s', proname, tgname, tgtype, deferred::text) COLLATE \"C\") FROM upkeep._soft_delete_triggers()",
    );
    assert_eq!(listed.unwrap(), crate::soft_delete::raw::made().join("\n"));
    // And nothing is made that is not in it.
    tables();
    run("CREATE TABLE f (id int PRIMARY KEY, t int REFERENCES t DEFERRABLE)").unwrap();
    run("SELECT upkeep.enable_soft_delete('f', flag => 'gone')").unwrap();
    let others =
        "SELECT coalesce(string_agg(t.tgname, ' '), 'none') FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid
        WHERE p.pronamespace = 'upkeep'::regnamespace AND NOT EXISTS (SELECT FROM upkeep._soft_delete_triggers() k
            WHERE k.proname = p.proname AND k.tgname = t.tgname AND k.tgtype = t.tgtype AND k.deferred = t.tgdeferrable
              AND coalesce(k.conditional = (t.tgqual IS NOT NULL), true))";
    assert_eq!(text(others).unwrap(), "none");
    assert_eq!(
        text(
            "SELECT count(DISTINCT (p.proname, t.tgname)) FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid
        WHERE p.pronamespace = 'upkeep'::regnamespace"
        )
        .unwrap(),
        text("SELECT count(*) FROM upkeep._soft_delete_triggers()").unwrap()
    );
}
