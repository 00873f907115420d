//! What the trigger does to rows, in a transaction that is rolled back.

use pgrx::prelude::*;

use crate::in_server_tests::{error, run, sqlstate, text};

fn table(columns: &str) {
    run(&format!("CREATE TABLE t (id integer PRIMARY KEY, n integer{columns})")).unwrap();
}

/// The row, times as whether they are this transaction's.
fn row() -> String {
    text(
        "SELECT pg_catalog.concat_ws(',', n, created_at = now(), updated_at = now(), created_by, updated_by, version)
         FROM t WHERE id = 1",
    )
    .unwrap()
}

fn all_stamps() {
    run("SELECT upkeep.enable_timestamps('t'), upkeep.enable_userstamps('t'), upkeep.enable_row_version('t')").unwrap();
}

/// The row as if somebody had changed it yesterday.
fn age() {
    run("ALTER TABLE t DISABLE TRIGGER zzz_upkeep_row_stamps").unwrap();
    run("UPDATE t SET updated_at = now() - interval '1 day', updated_by = 'before'").unwrap();
    run("ALTER TABLE t ENABLE TRIGGER zzz_upkeep_row_stamps").unwrap();
}

#[pg_extern]
fn test_stamps_fill_a_new_row_and_keep_what_it_brings() {
    table("");
    all_stamps();
    run("SET LOCAL upkeep.actor = 'anna'").unwrap();
    run("INSERT INTO t VALUES (1, 1)").unwrap();
    assert_eq!(row(), "1,t,t,anna,anna,1");
    run("INSERT INTO t VALUES (2, 1, '2001-01-01', '2001-01-02', 'x', 'y', 9)").unwrap();
    assert_eq!(
        text("SELECT concat_ws(',', created_at::date, updated_at::date, created_by, updated_by, version) FROM t WHERE id = 2")
            .unwrap(),
        "2001-01-01,2001-01-02,x,y,9"
    );
}

#[pg_extern]
fn test_stamps_change_with_the_row_and_only_then() {
    table(", big text");
    all_stamps();
    run("INSERT INTO t VALUES (1, 1, repeat(md5('x'), 10000))").unwrap();
    age();
    run("SET LOCAL upkeep.actor = 'bert'").unwrap();
    for nothing in [
        "n = n",
        "n = 1, big = repeat(md5('x'), 10000)",
        "id = id",
        "updated_at = now(), updated_by = 'me'",
        "created_at = now()",
    ] {
        run(&format!("UPDATE t SET {nothing}")).unwrap();
        assert!(row().ends_with(",before,1"), "{nothing}: {}", row());
        assert!(row().contains(",t,f,"), "{nothing}: {}", row());
    }
    run("UPDATE t SET n = NULL").unwrap();
    assert!(row().ends_with(",bert,2"), "{}", row());
    run("UPDATE t SET big = big || 'x'").unwrap();
    assert!(row().ends_with(",bert,3"), "{}", row());
    run("SET LOCAL upkeep.actor = ''").unwrap();
    run("UPDATE t SET n = 7").unwrap();
    assert_eq!(text("SELECT updated_by = current_user FROM t").unwrap(), "true");
}

#[pg_extern]
fn test_who_created_a_row_and_when_never_changes() {
    table("");
    all_stamps();
    run("INSERT INTO t (id, n, created_by) VALUES (1, 1, 'first')").unwrap();
    run("UPDATE t SET n = 2, created_by = 'second', created_at = '2001-01-01'").unwrap();
    assert!(row().starts_with("2,t,t,first,"), "{}", row());
    run("SELECT upkeep.enable_timestamps('t', created_change => 'refuse'),
                upkeep.enable_userstamps('t', created_change => 'refuse')")
    .unwrap();
    assert_eq!(sqlstate("UPDATE t SET created_at = '2001-01-01'"), "428C9");
    assert_eq!(sqlstate("UPDATE t SET created_by = NULL"), "428C9");
    // As an ORM does: everything that it read is sent back.
    run("UPDATE t SET n = 3, created_at = created_at, created_by = 'first'").unwrap();
    assert!(row().starts_with("3,t,t,first,"), "{}", row());
}

#[pg_extern]
fn test_an_unknown_time_of_creation_can_be_told_once() {
    table("");
    run("INSERT INTO t VALUES (1, 1)").unwrap();
    run("SELECT upkeep.enable_timestamps('t', created_change => 'refuse')").unwrap();
    assert_eq!(text("SELECT created_at IS NULL FROM t").unwrap(), "true");
    run("UPDATE t SET n = 2").unwrap();
    assert_eq!(text("SELECT created_at IS NULL FROM t").unwrap(), "true");
    run("UPDATE t SET created_at = '2001-01-01'").unwrap();
    assert_eq!(sqlstate("UPDATE t SET created_at = '2002-01-01'"), "428C9");
}

#[pg_extern]
fn test_an_incremented_version_is_read_plus_one() {
    table("");
    run("SELECT upkeep.enable_row_version('t')").unwrap();
    run("INSERT INTO t VALUES (1, 1)").unwrap();
    run("UPDATE t SET n = 2, version = 2").unwrap();
    run("UPDATE t SET n = 3").unwrap();
    assert_eq!(text("SELECT version FROM t").unwrap(), "3");
    for stale in ["2", "3", "5", "-1", "2147483647"] {
        let error = error(&format!("UPDATE t SET n = 9, version = {stale}"));
        assert_eq!(error.sqlstate.to_string(), "40001", "{stale}");
        assert!(error.detail.unwrap().contains("is 3;"), "{stale}");
    }
    assert_eq!(sqlstate("UPDATE t SET version = NULL"), "22004");
    // The client counts on with whatever it was told, even where nothing else changed.
    run("UPDATE t SET n = 3, version = 4").unwrap();
    assert_eq!(text("SELECT version FROM t").unwrap(), "4");
    run("UPDATE t SET version = version + 1").unwrap();
    assert_eq!(text("SELECT version FROM t").unwrap(), "5");
}

#[pg_extern]
fn test_an_echoed_version_is_what_was_read() {
    table("");
    run("SELECT upkeep.enable_row_version('t', 'echo', required => true)").unwrap();
    run("INSERT INTO t VALUES (1, 1)").unwrap();
    run("UPDATE t SET n = 2, version = 1").unwrap();
    assert_eq!(text("SELECT version FROM t").unwrap(), "2");
    run("UPDATE t SET n = 2, version = 2").unwrap();
    assert_eq!(text("SELECT version FROM t").unwrap(), "2");
    assert_eq!(sqlstate("UPDATE t SET n = 3, version = 1"), "40001");
    assert_eq!(sqlstate("UPDATE t SET n = 3, version = 3"), "40001");
    let missing = error("UPDATE t SET n = 3");
    assert_eq!(missing.sqlstate.to_string(), "55000");
    assert!(missing.hint.unwrap().contains("the version that it read"));
    assert_eq!(sqlstate("UPDATE t SET version = NULL"), "22004");
}

#[pg_extern]
fn test_a_version_ends_before_it_wraps() {
    table(", version integer, big bigint");
    run("SELECT upkeep.enable_row_version('t')").unwrap();
    run("INSERT INTO t VALUES (1, 1, 2147483647)").unwrap();
    assert_eq!(sqlstate("UPDATE t SET n = 2"), "22003");
    run("SELECT upkeep.enable_row_version('t', version => 'big')").unwrap();
    run("UPDATE t SET n = 3").unwrap();
    // From before there were versions.
    assert_eq!(text("SELECT big FROM t").unwrap(), "1");
    run("UPDATE t SET big = 2").unwrap();
    assert_eq!(text("SELECT big FROM t").unwrap(), "2");
}

#[pg_extern]
fn test_what_a_foreign_key_does_needs_no_version() {
    table("");
    run("CREATE TABLE child (id integer, t integer REFERENCES t ON UPDATE CASCADE ON DELETE SET NULL)").unwrap();
    run("SELECT upkeep.enable_row_version('child', required => true)").unwrap();
    run("INSERT INTO t VALUES (1, 1)").unwrap();
    run("INSERT INTO child VALUES (1, 1)").unwrap();
    assert_eq!(sqlstate("UPDATE child SET t = NULL"), "55000");
    run("UPDATE t SET id = 2").unwrap();
    run("DELETE FROM t").unwrap();
    assert_eq!(text("SELECT concat_ws(',', t, version) FROM child").unwrap(), "3");
}

#[pg_extern]
fn test_a_renamed_column_is_followed() {
    table("");
    all_stamps();
    run("ALTER TABLE t RENAME updated_at TO \"Changed \"\" at\"").unwrap();
    run("ALTER TABLE t RENAME version TO v").unwrap();
    run("ALTER TABLE t DROP COLUMN n").unwrap();
    run("INSERT INTO t (id) VALUES (1)").unwrap();
    run("UPDATE t SET id = 5").unwrap();
    assert_eq!(text("SELECT concat_ws(',', \"Changed \"\" at\" = now(), v) FROM t").unwrap(), "t,2");
    assert_eq!(text("SELECT concat_ws(',', updated_at, version) FROM upkeep.row_stamps").unwrap(), "Changed \" at,v");
    assert_eq!(sqlstate("ALTER TABLE t DROP COLUMN v"), "2BP01");
    run("ALTER TABLE t DROP COLUMN v CASCADE").unwrap();
    run("UPDATE t SET id = 6").unwrap();
    assert_eq!(text("SELECT count(*) FROM upkeep.row_stamps").unwrap(), "0");
}

#[pg_extern]
fn test_partitions_are_stamped_in_any_order_of_columns() {
    run("CREATE TABLE t (id integer, n integer) PARTITION BY LIST (id)").unwrap();
    run("CREATE TABLE one PARTITION OF t FOR VALUES IN (1)").unwrap();
    let refused = error("SELECT upkeep.enable_timestamps('one')");
    assert_eq!(refused.sqlstate.to_string(), "42809");
    assert!(refused.hint.is_some_and(|hint| hint.starts_with("Name the partitioned table, public.t;")));
    all_stamps();
    run("CREATE TABLE two (version integer NOT NULL DEFAULT 1, updated_by text, gone integer, created_by text,
                           updated_at timestamptz, n integer, created_at timestamptz, id integer)")
    .unwrap();
    run("ALTER TABLE two DROP COLUMN gone").unwrap();
    run("ALTER TABLE t ATTACH PARTITION two FOR VALUES IN (2)").unwrap();
    run("SET LOCAL upkeep.actor = 'p'").unwrap();
    run("INSERT INTO t (id, n) VALUES (1, 1), (2, 1)").unwrap();
    run("UPDATE t SET n = n + 1").unwrap();
    let rows = "SELECT string_agg(concat_ws(',', tableoid::regclass, id, n, created_at = now(), updated_at = now(),
                    created_by, updated_by, version), ';' ORDER BY n) FROM t";
    assert_eq!(text(&rows.replace("ORDER BY n", "ORDER BY id")).unwrap(), "one,1,2,t,t,p,p,2;two,2,2,t,t,p,p,2");
    // A row that moves is changed once.
    run("UPDATE t SET id = 2, n = 3 WHERE id = 1").unwrap();
    assert_eq!(text(rows).unwrap(), "two,2,2,t,t,p,p,2;two,2,3,t,t,p,p,3");
    assert_eq!(sqlstate("SELECT upkeep.enable_timestamps('two', updated_at => NULL)"), "42809");
    assert_eq!(text("SELECT count(*) FROM upkeep.row_stamps").unwrap(), "1");
    run("SELECT upkeep.disable_timestamps('t'), upkeep.disable_userstamps('t'), upkeep.disable_row_version('t')")
        .unwrap();
    assert_eq!(text("SELECT count(*) FROM pg_trigger WHERE tgname LIKE 'zzz%'").unwrap(), "0");
}

#[pg_extern]
fn test_children_are_stamped_too() {
    table("");
    run("CREATE TABLE c (more text) INHERITS (t)").unwrap();
    run("CREATE TABLE cc () INHERITS (c)").unwrap();
    all_stamps();
    for name in ["t", "c", "cc"] {
        run(&format!("INSERT INTO {name} (id, n) VALUES (1, 1)")).unwrap();
    }
    run("UPDATE t SET n = 2").unwrap();
    assert_eq!(text("SELECT string_agg(version::text, ',') FROM t").unwrap(), "2,2,2");
    run("SELECT upkeep.disable_row_version('t')").unwrap();
    assert_eq!(text("SELECT count(*) FROM upkeep.row_stamps WHERE version IS NULL").unwrap(), "3");
}

#[pg_extern]
fn test_columns_are_adopted_with_their_types() {
    table(", made timestamp, who varchar(4), \"By\" name, rev bigint");
    run("SELECT upkeep.enable_timestamps('t', 'made', NULL), upkeep.enable_userstamps('t', 'who', 'By'),
                upkeep.enable_row_version('t', 'incremented', 'rev')")
    .unwrap();
    run("SET LOCAL upkeep.actor = 'äöüß'").unwrap();
    run("INSERT INTO t VALUES (1, 1)").unwrap();
    assert_eq!(
        text("SELECT concat_ws(',', made = now()::timestamp, who, \"By\", rev) FROM t").unwrap(),
        "t,äöüß,äöüß,1"
    );
    run("SET LOCAL upkeep.actor = 'äöüßx'").unwrap();
    assert_eq!(sqlstate("INSERT INTO t VALUES (2, 1)"), "22001");
    run("SELECT upkeep.enable_userstamps('t', NULL, 'By')").unwrap();
    run(&format!("SET LOCAL upkeep.actor = '{}'", "ß".repeat(60))).unwrap();
    run("UPDATE t SET n = 5").unwrap();
    assert_eq!(text("SELECT \"By\" = repeat('ß', 31) FROM t").unwrap(), "true");
    for (call, state) in [
        ("enable_timestamps('t', updated_at => 'n')", "42804"),
        ("enable_userstamps('t', updated_by => 'rev')", "42804"),
        ("enable_row_version('t', version => 'who')", "42804"),
        ("enable_row_version('t', version => 'rev', mode => 'both')", "22023"),
        ("enable_row_version('t', required => NULL)", "22004"),
        ("enable_timestamps('t', 'made', 'made')", "42701"),
        ("enable_timestamps('t', clock => 'sun')", "22023"),
        ("enable_timestamps('t', NULL, NULL)", "22004"),
        ("enable_timestamps('t', '')", "22023"),
        ("enable_timestamps(NULL)", "22004"),
        ("enable_timestamps('pg_class')", "42501"),
        ("enable_timestamps('upkeep._job')", "42501"),
        ("enable_timestamps('upkeep.jobs')", "42809"),
        ("disable_timestamps('t'), upkeep.disable_timestamps('t')", "42704"),
    ] {
        assert_eq!(sqlstate(&format!("SELECT upkeep.{call}")), state, "{call}");
    }
}

#[pg_extern]
fn test_a_stamp_trigger_made_by_hand_is_refused() {
    table(", at timestamptz, who text");
    for (definition, state) in [
        ("BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION upkeep._stamp_row('updated_at')", "55000"),
        (
            "BEFORE INSERT ON t FOR EACH ROW WHEN (true OR NEW.who IS NULL) EXECUTE FUNCTION upkeep._stamp_row('updated_at')",
            "55000",
        ),
        (
            "BEFORE INSERT ON t FOR EACH ROW WHEN (true OR NEW.at IS NULL OR NEW.n IS NULL) \
            EXECUTE FUNCTION upkeep._stamp_row('updated_at')",
            "55000",
        ),
        ("BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION upkeep._stamp_row('nonsense')", "55000"),
        ("AFTER INSERT ON t FOR EACH ROW EXECUTE FUNCTION upkeep._stamp_row('updated_at')", "39P01"),
        ("BEFORE INSERT ON t EXECUTE FUNCTION upkeep._stamp_row('updated_at')", "39P01"),
        ("BEFORE DELETE OR INSERT ON t EXECUTE FUNCTION upkeep._stamp_row('updated_at')", "39P01"),
    ] {
        run(&format!("CREATE TRIGGER x {definition}")).unwrap();
        assert_eq!(sqlstate("INSERT INTO t VALUES (1, 1)"), state, "{definition}");
        run("DROP TRIGGER x ON t").unwrap();
    }
    assert_eq!(sqlstate("SELECT upkeep._stamp_row()"), "39P01");
}

#[pg_extern]
fn test_what_triggers_before_it_change_is_seen() {
    table("");
    all_stamps();
    run("CREATE FUNCTION twice() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.n := NEW.n * 2; RETURN NEW; END'")
        .unwrap();
    run("CREATE TRIGGER a BEFORE UPDATE ON t FOR EACH ROW EXECUTE FUNCTION twice()").unwrap();
    run("INSERT INTO t VALUES (1, 1)").unwrap();
    run("UPDATE t SET id = id").unwrap();
    assert_eq!(text("SELECT concat_ws(',', n, version) FROM t").unwrap(), "2,2");
    // A generated column follows from others, and is none of its own.
    run("ALTER TABLE t ADD COLUMN g integer GENERATED ALWAYS AS (n + 1) STORED").unwrap();
    run("DROP TRIGGER a ON t").unwrap();
    run("UPDATE t SET n = n").unwrap();
    assert_eq!(text("SELECT concat_ws(',', g, version) FROM t").unwrap(), "3,2");
    run("UPDATE t SET n = 5").unwrap();
    assert_eq!(text("SELECT concat_ws(',', g, version) FROM t").unwrap(), "6,3");
}

#[pg_extern]
fn test_upserts_and_merges_are_stamped() {
    table("");
    all_stamps();
    run("SET LOCAL upkeep.actor = 'a'").unwrap();
    run("INSERT INTO t VALUES (1, 1) ON CONFLICT (id) DO UPDATE SET n = excluded.n").unwrap();
    run("SET LOCAL upkeep.actor = 'b'").unwrap();
    run("INSERT INTO t VALUES (1, 2) ON CONFLICT (id) DO UPDATE SET n = excluded.n").unwrap();
    assert_eq!(row(), "2,t,t,a,b,2");
    run("MERGE INTO t USING (VALUES (1, 3), (2, 3)) s (id, n) ON s.id = t.id
         WHEN MATCHED THEN UPDATE SET n = s.n WHEN NOT MATCHED THEN INSERT (id, n) VALUES (s.id, s.n)")
    .unwrap();
    assert_eq!(row(), "3,t,t,a,b,3");
    assert_eq!(text("SELECT created_by FROM t WHERE id = 2").unwrap(), "b");
}
