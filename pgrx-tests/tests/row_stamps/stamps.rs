//! Row stamps where several sessions, roles, servers and jobs meet; what one row becomes is tested in the server.

use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use anyhow::{Result, bail};
use postgres::error::DbError;
use upkeep_tests::jobs::{sqlstate, wait};
use upkeep_tests::session::Session;
use upkeep_tests::testing;

const ALL: &str = "SELECT upkeep.enable_timestamps('t'), upkeep.enable_userstamps('t'), upkeep.enable_row_version('t')";

fn table(session: &mut Session, rows: u32) -> Result<()> {
    session.run("CREATE TABLE t (id int PRIMARY KEY, n int)")?;
    session.run(ALL)?;
    session.run(&format!("INSERT INTO t SELECT g, 0 FROM generate_series(1, {rows}) g"))
}

#[test]
fn nobodys_change_is_lost() -> Result<()> {
    const TIMES: u32 = 60;
    let db = testing::database()?;
    let mut session = db.connect()?;
    table(&mut session, 1)?;
    session.run("CREATE TABLE echoed (id int PRIMARY KEY, n int); SELECT upkeep.enable_row_version('echoed', 'echo', required => true)")?;
    session.run("INSERT INTO echoed VALUES (1, 0)")?;
    for (name, step) in [("t", 1), ("echoed", 0)] {
        let stale = AtomicU32::new(0);
        let work = || -> Result<()> {
            let mut session = db.connect()?;
            for _ in 0..TIMES {
                loop {
                    let read = session.text(&format!("SELECT n, version FROM {name}"))?;
                    let Some((n, version)) = read.split_once('|') else { bail!("{read}") };
                    let (n, version): (i32, i32) = (n.parse()?, version.parse()?);
                    // Nothing in the WHERE: only the version that is sent stands between two writers.
                    let update = format!("UPDATE {name} SET n = {}, version = {} WHERE id = 1", n + 1, version + step);
                    match session.run(&update) {
                        Ok(()) => break,
                        Err(error) if format!("{error:?}").contains("40001") => stale.fetch_add(1, Ordering::Relaxed),
                        Err(error) => return Err(error),
                    };
                }
            }
            Ok(())
        };
        thread::scope(|scope| -> Result<()> {
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(work)).collect();
            for thread in threads {
                thread.join().expect("no panic")?;
            }
            Ok(())
        })?;
        assert_eq!(
            session.text(&format!("SELECT n = version - 1, n FROM {name}"))?,
            format!("t|{}", 4 * TIMES),
            "{name}"
        );
        assert!(stale.into_inner() > 0, "nobody was ever too late: this tests nothing");
    }
    Ok(())
}

/// A row that was made by somebody, yesterday; stamps are put on afterwards.
const YESTERDAY: &str = "
    CREATE TABLE t (id int PRIMARY KEY, n int, created_at timestamptz, updated_at timestamptz, created_by text, \
    updated_by text, version int);
    INSERT INTO t SELECT g, NULL, '2001-01-01', '2001-01-01', 'them', 'them', 1 FROM generate_series(1, 3000) g;
    CREATE TABLE log (id int, n int);
    SELECT upkeep.enable_row_version('log');
    INSERT INTO log VALUES (1, 0);
    CREATE FUNCTION note_change() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN UPDATE log SET n = n + 1; RETURN NULL; END';
    CREATE TRIGGER note_change AFTER UPDATE ON t FOR EACH STATEMENT EXECUTE FUNCTION note_change()";
const STAMPS: &str = "SELECT DISTINCT updated_at::date, updated_by, version, created_by FROM t ORDER BY 1, 2, 3, 4";

#[test]
fn a_backfill_leaves_no_stamps() -> Result<()> {
    let db = testing::database()?;
    let mut session = db.connect()?;
    session.run(YESTERDAY)?;
    session.run(ALL)?;
    session.run("SELECT upkeep.enable_row_version('t', required => true)")?;
    let fill = |session: &mut Session, assignment: &str, condition: &str, options: &str| -> Result<()> {
        let job = session
            .text(&format!("SELECT upkeep.backfill('t', '{assignment}', '{condition}', options => '{options}')"))?;
        wait(session, &job)?;
        let state = session.text(&format!("SELECT state, rows_done, rows_left FROM upkeep.jobs WHERE id = '{job}'"))?;
        assert!(state.starts_with("done|3000|"), "{state}");
        Ok(())
    };
    for strategy in ["blocks", "keys"] {
        session.run("ALTER TABLE t DISABLE TRIGGER ALL; UPDATE t SET n = NULL; ALTER TABLE t ENABLE TRIGGER ALL")?;
        fill(&mut session, "n = id", "n IS NULL", &format!("{{\"strategy\": \"{strategy}\"}}"))?;
        assert_eq!(session.rows(STAMPS)?, ["2001-01-01|them|1|them"], "{strategy}");
    }
    // What its triggers do elsewhere is somebody's change like any other.
    assert_eq!(session.text("SELECT n > 0 AND version = n + 1 FROM log")?, "t");
    // It is the way to put stamps right, too.
    fill(
        &mut session,
        "created_by = updated_by || id::text",
        "created_by = 'them'".replace('\'', "''").as_str(),
        "{}",
    )?;
    assert_eq!(session.text("SELECT count(DISTINCT created_by) FROM t")?, "3000");

    session.run("SELECT upkeep.enable_row_version('t')")?;
    session.run("ALTER TABLE t DISABLE TRIGGER ALL; UPDATE t SET n = NULL, created_by = 'them'; ALTER TABLE t ENABLE TRIGGER ALL")?;
    fill(&mut session, "n = id", "n IS NULL", "{\"touch_stamps\": true}")?;
    let today = session.text("SELECT current_date, current_user")?;
    let (date, user) = today.split_once('|').unwrap_or_default();
    assert_eq!(session.rows(STAMPS)?, [format!("{date}|{user}|2|them")]);
    Ok(())
}

#[test]
fn a_backfill_leaves_no_stamps_in_partitions() -> Result<()> {
    let db = testing::database()?;
    let mut session = db.connect()?;
    session.run(
        "CREATE TABLE t (id int PRIMARY KEY, n int) PARTITION BY RANGE (id);
         CREATE TABLE low PARTITION OF t FOR VALUES FROM (0) TO (500);
         CREATE TABLE high PARTITION OF t FOR VALUES FROM (500) TO (5000)",
    )?;
    session.run(ALL)?;
    session.run("INSERT INTO t SELECT g FROM generate_series(1, 1000) g")?;
    let job = session.text("SELECT upkeep.backfill('t', 'n = id', 'n IS NULL')")?;
    wait(&mut session, &job)?;
    assert_eq!(session.text("SELECT count(n), max(version) FROM t")?, "1000|1");
    session.run("UPDATE t SET n = n + 1")?;
    assert_eq!(session.text("SELECT count(n), min(version) FROM t")?, "1000|2");
    Ok(())
}

#[test]
fn the_actor_is_told_or_the_role_that_asks() -> Result<()> {
    for db in [testing::database()?, testing::database_without_preload()?] {
        let (owner, clerk) = (db.role("owner")?, db.role("clerk")?);
        let mut session = db.connect()?;
        table(&mut session, 0)?;
        session.run(&format!("GRANT ALL ON t TO {clerk}; GRANT {clerk} TO {owner}"))?;
        session.run(
            "CREATE FUNCTION change() RETURNS void LANGUAGE sql SECURITY DEFINER AS 'UPDATE t SET n = coalesce(n, 0) + 1'",
        )?;
        let mut clerk_session = db.connect_as(&clerk)?;
        // Before anything of the library is loaded the setting is only a name; it counts all the same.
        clerk_session.run("BEGIN; SET LOCAL upkeep.actor = 'Änne O''Hara'; INSERT INTO t VALUES (1); COMMIT")?;
        assert_eq!(session.text("SELECT created_by, updated_by FROM t")?, "Änne O'Hara|Änne O'Hara");
        clerk_session.run("SELECT change()")?;
        assert_eq!(session.text("SELECT created_by, updated_by FROM t")?, format!("Änne O'Hara|{clerk}"));
        let mut owner_session = db.connect_as(&owner)?;
        owner_session.run(&format!("SET ROLE {clerk}; UPDATE t SET n = 100, updated_by = 'forged'"))?;
        assert_eq!(session.text("SELECT updated_by FROM t")?, clerk);
        assert_eq!(owner_session.text("SHOW upkeep.actor")?, "");
    }
    Ok(())
}

#[test]
fn only_the_owner_stamps_a_table() -> Result<()> {
    let db = testing::database()?;
    let (owner, member, stranger) = (db.role("owner")?, db.role("member")?, db.role("stranger")?);
    let mut superuser = db.connect()?;
    superuser.run(&format!("GRANT {owner} TO {member}"))?;
    let mut session = db.connect_as(&owner)?;
    session.run(&format!("CREATE TABLE t (id int PRIMARY KEY, n int); GRANT ALL ON t TO {stranger}"))?;
    let mut stranger = db.connect_as(&stranger)?;
    for call in ["enable_timestamps", "enable_userstamps", "enable_row_version", "disable_timestamps"] {
        assert_eq!(sqlstate(&mut stranger, &format!("SELECT upkeep.{call}('t')"))?, "42501", "{call}");
    }
    db.connect_as(&member)?.run(ALL)?;
    stranger.run("INSERT INTO t VALUES (1, 1); UPDATE t SET n = 2")?;
    assert_eq!(stranger.text("SELECT version FROM t")?, "2");
    Ok(())
}

#[test]
fn a_dump_carries_stamps() -> Result<()> {
    let server = testing::server("stamps").preloaded().start()?;
    let mut session = server.connect("postgres")?;
    session.run(
        "CREATE EXTENSION pg_upkeep; CREATE ROLE owner LOGIN; GRANT ALL ON SCHEMA public TO owner; SET ROLE owner;
         CREATE TABLE t (gone int, id int PRIMARY KEY, n int); ALTER TABLE t DROP COLUMN gone;
         CREATE TABLE p (id int, n int) PARTITION BY LIST (id); CREATE TABLE p1 PARTITION OF p FOR VALUES IN (1);
         SELECT upkeep.enable_timestamps('p', clock => 'clock', created_change => 'refuse'), \
         upkeep.enable_row_version('p', 'echo', required => true)",
    )?;
    session.run(ALL)?;
    session.run("ALTER TABLE t RENAME version TO \"Ver sion\"; INSERT INTO t VALUES (1, 1); UPDATE t SET n = 2, updated_at = 'infinity'")?;
    let look = "SELECT relname, created_at, updated_at, clock, created_at_change, created_by, updated_by, version, \
                version_mode, version_required,
                       enabled FROM upkeep.row_stamps ORDER BY relname";
    let before = (session.rows(look)?, session.rows("SELECT * FROM t")?);
    let dump = server.dump("postgres")?;
    server.restore("copy", &dump)?;
    let mut copy = server.connect("copy")?;
    assert_eq!((copy.rows(look)?, copy.rows("SELECT * FROM t")?), before);
    copy.run("UPDATE t SET n = 3; INSERT INTO p VALUES (1, 1)")?;
    assert_eq!(copy.text("SELECT \"Ver sion\" FROM t")?, "3");
    assert_eq!(sqlstate(&mut copy, "UPDATE p SET n = 2")?, "55000");
    assert_eq!(sqlstate(&mut copy, "UPDATE p SET n = 2, version = 7")?, "40001");
    copy.run("UPDATE p SET n = 2, version = 1")?;
    Ok(())
}

#[test]
fn ordinary_triggers_rest_for_replicas() -> Result<()> {
    let db = testing::database()?;
    let mut session = db.connect()?;
    table(&mut session, 1)?;
    session
        .run("SET session_replication_role = replica; UPDATE t SET n = 5, updated_by = 'publisher', version = 77")?;
    session.run("RESET session_replication_role")?;
    assert_eq!(session.text("SELECT updated_by, version FROM t")?, "publisher|77");
    session.run("UPDATE t SET n = 6")?;
    assert_eq!(session.text("SELECT version FROM t")?, "78");
    Ok(())
}

#[test]
fn without_the_extension_tables_are_plain() -> Result<()> {
    let db = testing::database()?;
    let mut session = db.connect()?;
    table(&mut session, 1)?;
    let refused = session.error("DROP EXTENSION pg_upkeep")?;
    assert_eq!(refused.code().code(), "2BP01");
    assert!(refused.detail().is_some_and(|detail| detail.contains("zzz_upkeep_row_stamps on table t")), "{refused:?}");
    session.run("DROP EXTENSION pg_upkeep CASCADE; UPDATE t SET n = 3, version = 50")?;
    assert_eq!(session.text("SELECT n, version FROM t")?, "3|50");
    Ok(())
}

#[test]
fn columns_come_without_a_rewrite() -> Result<()> {
    let db = testing::database()?;
    let mut session = db.connect()?;
    session
        .run("CREATE TABLE t (id int PRIMARY KEY, n int); INSERT INTO t SELECT g, g FROM generate_series(1, 100) g")?;
    let file = session.text("SELECT pg_relation_filenode('t')")?;
    session.run(ALL)?;
    assert_eq!(session.text("SELECT pg_relation_filenode('t')")?, file);
    assert_eq!(session.text("SELECT count(created_at), count(updated_by), sum(version) FROM t")?, "0|0|100");
    session.run("UPDATE t SET n = 0 WHERE id = 1")?;
    assert_eq!(session.text("SELECT created_at IS NULL, updated_at IS NULL, version FROM t WHERE id = 1")?, "t|f|2");
    Ok(())
}

/// Values that are stored out of line are compared by where they are, and not fetched.
#[test]
fn large_values_are_not_read() -> Result<()> {
    let db = testing::database()?;
    let mut session = db.connect()?;
    session.run(
        "CREATE TABLE t (id int PRIMARY KEY, n int, big text);
         ALTER TABLE t ALTER big SET STORAGE EXTERNAL;
         INSERT INTO t SELECT g, g, repeat('x', 100000) FROM generate_series(1, 20) g",
    )?;
    session.run(ALL)?;
    let read = "SELECT coalesce(toast_blks_read + toast_blks_hit, 0) FROM pg_statio_user_tables WHERE relname = 't'";
    let flush = "SELECT pg_stat_force_next_flush()";
    session.run("SELECT 1")?;
    session.text(flush)?;
    let before: i64 = session.value(read)?;
    session.run("UPDATE t SET n = n")?;
    session.text(flush)?;
    assert_eq!(session.value::<i64>(read)? - before, 0);
    assert_eq!(session.text("SELECT max(version) FROM t")?, "1");
    // The same value sent again has to be.
    session.run("UPDATE t SET big = repeat('x', 100000)")?;
    assert_eq!(session.text("SELECT max(version) FROM t")?, "1");
    session.run("UPDATE t SET big = repeat('x', 99999) || 'y'")?;
    assert_eq!(session.text("SELECT min(version) FROM t")?, "2");
    Ok(())
}

#[test]
fn hostile_names_are_names() -> Result<()> {
    let db = testing::database()?;
    let mut session = db.connect()?;
    session.run(
        "CREATE SCHEMA \"a\"\"; DROP TABLE t; --\"; CREATE TABLE \"a\"\"; DROP TABLE t; --\".\"'x\\y\" (id int)",
    )?;
    let target = "'\"a\"\"; DROP TABLE t; --\".\"''x\\y\"'";
    session.run(&format!(
        "SELECT upkeep.enable_timestamps({target}, ':varattno 9', 'true) --'), upkeep.enable_row_version({target}, version => 'v\"\\''')"
    ))?;
    let insert =
        "INSERT INTO \"a\"\"; DROP TABLE t; --\".\"'x\\y\" VALUES (1) RETURNING \":varattno 9\" = now(), \"v\"\"\\'\"";
    assert_eq!(session.text(insert)?, "t|1");
    assert_eq!(
        session.text("SELECT created_at, updated_at, version FROM upkeep.row_stamps")?,
        ":varattno 9|true) --|v\"\\'"
    );
    Ok(())
}

fn fields(error: &DbError) -> String {
    format!(
        "{:?}",
        (
            (error.code(), error.message(), error.detail(), error.hint(), error.where_(), error.position()),
            (error.schema(), error.table(), error.column(), error.datatype(), error.constraint()),
            (error.file(), error.line(), error.routine())
        )
    )
}

/// LAW 12: what constraints and other people's triggers say passes as it is.
#[test]
fn errors_of_others_pass_unchanged() -> Result<()> {
    let db = testing::database()?;
    let mut session = db.connect()?;
    session.run(
        "CREATE TABLE parent (id int PRIMARY KEY);
         CREATE TABLE t (id int CONSTRAINT key PRIMARY KEY, n int NOT NULL CONSTRAINT few CHECK (n < 10), \
         p int CONSTRAINT of REFERENCES parent);
         INSERT INTO t VALUES (1, 1), (2, 2);
         CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS
         $$BEGIN IF NEW.n = 7 THEN RAISE 'own' USING ERRCODE = 'ABC01', DETAIL = 'd', HINT = 'h', CONSTRAINT = 'c'; END IF;
           IF NEW.n = 8 THEN INSERT INTO t VALUES (1, 1); END IF; RETURN NEW; END$$;
         CREATE TRIGGER fail BEFORE UPDATE ON t FOR EACH ROW EXECUTE FUNCTION fail();
         CREATE TRIGGER zzzz AFTER UPDATE ON t FOR EACH ROW EXECUTE FUNCTION fail()",
    )?;
    let attempts = [
        "UPDATE t SET id = 1",
        "UPDATE t SET n = 11",
        "UPDATE t SET n = NULL",
        "UPDATE t SET p = 5",
        "UPDATE t SET n = 7",
        "UPDATE t SET n = 8",
        "INSERT INTO t VALUES (1, 1)",
        "INSERT INTO t VALUES (3, 11)",
    ];
    let tell = |session: &mut Session| -> Result<Vec<String>> {
        attempts.iter().map(|sql| Ok(fields(&session.error(sql)?))).collect()
    };
    session.run("ALTER TABLE t ADD version int NOT NULL DEFAULT 1")?;
    let without = tell(&mut session)?;
    session.run("SELECT upkeep.enable_row_version('t')")?;
    for ((sql, without), with) in attempts.iter().zip(without).zip(tell(&mut session)?) {
        // The failing row is shown with its version, which no error of ours would be.
        assert_eq!(with.replace(", 2).", ", 1)."), without.replace(", 2).", ", 1)."), "{sql}");
    }
    Ok(())
}

#[test]
fn stamps_say_no_with_all_that_a_client_needs() -> Result<()> {
    let db = testing::database()?;
    let mut session = db.connect()?;
    table(&mut session, 1)?;
    let stale = session.error("UPDATE t SET n = 4, version = 1")?;
    assert_eq!((stale.code().code(), stale.table(), stale.column()), ("40001", Some("t"), Some("version")));
    assert!(stale.hint().is_some_and(|hint| hint.contains("read plus one")), "{stale:?}");
    Ok(())
}

#[test]
fn a_soft_delete_changes_a_row() -> Result<()> {
    let db = testing::database()?;
    let mut session = db.connect()?;
    session.run(
        "CREATE TABLE t (id int PRIMARY KEY, n int);
         CREATE TABLE child (id int PRIMARY KEY, t int REFERENCES t ON DELETE CASCADE);
         SELECT upkeep.enable_timestamps('t'), upkeep.enable_userstamps('t'), upkeep.enable_row_version('t', required => true),
                upkeep.enable_row_version('child', 'echo', required => true);
         SELECT upkeep.enable_soft_delete('child');
         SELECT upkeep.enable_soft_delete('t');
         INSERT INTO t VALUES (1, 1), (2, 2), (3, 3); INSERT INTO child VALUES (1, 1), (2, 2), (3, 3)",
    )?;
    let versions =
        "SELECT string_agg(concat_ws(',', t.version, child.version, t.updated_by, t.deleted_by), ' ' ORDER BY t.id)
                    FROM t JOIN child ON child.t = t.id";
    session.run("SET upkeep.actor = 'cleaner'")?;
    session.run("DELETE FROM t_live WHERE id = 1")?;
    let deletion = session.text("SELECT upkeep.soft_delete('t', 'id = 2')")?;
    session.run("UPDATE t SET deleted_at = now(), version = 2 WHERE id = 3")?;
    assert_eq!(session.text(versions)?, "2,2,cleaner,cleaner 2,2,cleaner,cleaner 2,2,cleaner,cleaner");
    session.run("SET upkeep.actor = 'regretful'")?;
    session.run(&format!("SELECT upkeep.undelete('{deletion}')"))?;
    assert_eq!(session.text(&format!("{versions} WHERE t.id = 2"))?, "3,3,regretful");
    // By hand the version is as needed as ever, and a stale one deletes nothing.
    assert_eq!(sqlstate(&mut session, "UPDATE t SET deleted_at = now() WHERE id = 2")?, "55000");
    assert_eq!(sqlstate(&mut session, "UPDATE t SET deleted_at = now(), version = 3 WHERE id = 2")?, "40001");
    assert_eq!(session.text("SELECT count(*) FROM t_live")?, "1");
    Ok(())
}

#[test]
fn the_clock_is_chosen() -> Result<()> {
    let db = testing::database()?;
    let mut session = db.connect()?;
    for (clock, expected) in [("transaction", "t|f|f|t"), ("statement", "f|t|f|t"), ("clock", "f|f|t|t")] {
        session.run("DROP TABLE IF EXISTS t; CREATE TABLE t (id int)")?;
        session.run(&format!("SELECT upkeep.enable_timestamps('t', clock => '{clock}')"))?;
        session.run("BEGIN")?;
        let row = session.text(
            "INSERT INTO t VALUES (1) RETURNING updated_at = now(), updated_at = statement_timestamp(),
                updated_at > statement_timestamp(), created_at = updated_at",
        )?;
        session.run("COMMIT")?;
        assert_eq!(row, expected, "{clock}");
    }
    Ok(())
}
