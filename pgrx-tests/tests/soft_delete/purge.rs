//! Purge: what is due goes, with what references it, and nothing else does, whoever is in the way.

use anyhow::{Context, Result};
use upkeep_tests::cluster::PATIENCE;
use upkeep_tests::faults::{Blow, strike_open_step};
use upkeep_tests::jobs::{describe, events, join, meanwhile, sqlstate, wait, wait_for_error, wait_for_state};
use upkeep_tests::session::Session;
use upkeep_tests::testing::{self, Database, wait_for_text};
use upkeep_tests::wait::wait_until;

/// Users with their orders and notes; nothing is deleted.
const SHOP: &str = "
    CREATE TABLE users (id int PRIMARY KEY, email text);
    CREATE TABLE orders (id int PRIMARY KEY, \"user\" int REFERENCES users ON DELETE CASCADE);
    CREATE TABLE notes (id int PRIMARY KEY, \"order\" int REFERENCES orders ON DELETE CASCADE);
    CREATE INDEX ON orders (\"user\");
    CREATE INDEX ON notes (\"order\");
    SELECT upkeep.enable_soft_delete(t) FROM unnest('{notes,orders,users}'::regclass[]) t;
    CREATE INDEX ON users (deleted_at) WHERE deleted_at IS NOT NULL;
    INSERT INTO users SELECT g, 'u' || g FROM generate_series(1, 1000) g;
    INSERT INTO orders SELECT g, g % 1000 + 1 FROM generate_series(1, 3000) g;
    INSERT INTO notes SELECT g, g % 3000 + 1 FROM generate_series(1, 6000) g;";

/// How many rows there are: all, and those not deleted.
const COUNTS: &str = "SELECT (SELECT count(*) FROM users), (SELECT count(*) FROM users_live),
                             (SELECT count(*) FROM orders), (SELECT count(*) FROM orders_live),
                             (SELECT count(*) FROM notes), (SELECT count(*) FROM notes_live)";

fn shop(db: &Database) -> Result<Session> {
    let mut session = db.connect()?;
    session.run(SHOP)?;
    Ok(session)
}

fn purge(session: &mut Session, table: &str, older_than: &str) -> Result<String> {
    session.text(&format!("SELECT upkeep.purge_deleted('{table}', '{older_than}')"))
}

/// A purge that has ended.
fn purged(session: &mut Session, table: &str, older_than: &str) -> Result<String> {
    let job = purge(session, table, older_than)?;
    wait(session, &job)?;
    Ok(job)
}

fn row(session: &mut Session, sql: &str) -> Result<String> {
    Ok(session.rows(sql)?.join("\n"))
}

fn rows_left(session: &mut Session, job: &str) -> Result<String> {
    session.text(&format!("SELECT rows_left FROM upkeep.jobs WHERE id = '{job}'"))
}

/// Moves what was deleted back in time: as a restored copy would have it, past the triggers.
fn age(session: &mut Session, condition: &str, by: &str) -> Result<()> {
    for table in ["users", "orders", "notes"] {
        session.run(&format!(
            "UPDATE {table} SET deleted_at = deleted_at - interval '{by}' WHERE deleted_at IS NOT NULL AND {condition}"
        ))?;
    }
    Ok(())
}

#[test]
fn what_is_due_goes_with_what_references_it() -> Result<()> {
    let db = testing::database()?;
    let mut session = shop(&db)?;
    let old = session.text("SELECT upkeep.soft_delete('users', 'id <= 600')")?;
    age(&mut session, "true", "100 days")?;
    session.run("SELECT upkeep.soft_delete('users', 'id BETWEEN 601 AND 700')")?;
    assert_eq!(row(&mut session, COUNTS)?, "1000|300|3000|900|6000|1800");
    let explained = "SELECT relname, rows, held, blocked, notes FROM upkeep.explain_purge('users', '30 days')";
    assert_eq!(row(&mut session, explained)?, "users|600|0|0|{}\norders|1800|0|0|{}\nnotes|3600|0|0|{}");
    let job = purged(&mut session, "users", "30 days")?;
    assert_eq!(row(&mut session, COUNTS)?, "400|300|1200|900|2400|1800");
    assert_eq!(rows_left(&mut session, &job)?, "0");
    assert_eq!(session.text(&format!("SELECT rows_done FROM upkeep.jobs WHERE id = '{job}'"))?, "6000");
    let deletion = format!("SELECT restorable, why_not FROM upkeep.deletions WHERE id = '{old}'");
    assert_eq!(row(&mut session, &deletion)?, "f|rows of it were purged");
    assert_eq!(sqlstate(&mut session, &format!("SELECT upkeep.undelete('{old}'::uuid)"))?, "55000");
    assert_eq!(session.text("SELECT count(*) FROM upkeep.deletions WHERE restorable")?, "1");
    let warnings = session.notices().into_iter().filter(|notice| notice.severity() == "WARNING");
    assert_eq!(warnings.count(), 0, "all indexes are there");
    Ok(())
}

#[test]
fn a_live_row_is_never_purged() -> Result<()> {
    let db = testing::database()?;
    let mut session = shop(&db)?;
    // A table that stays outside, and references what goes.
    session.run(
        "CREATE TABLE tags (id int PRIMARY KEY, note int REFERENCES notes ON DELETE CASCADE);
         INSERT INTO tags SELECT g, g FROM generate_series(1, 10) g;",
    )?;
    session.run("SELECT upkeep.disable_soft_delete('notes'); SELECT upkeep.enable_soft_delete('notes', on_unmanaged => 'ignore')")?;
    session.run("SELECT upkeep.soft_delete('users', 'true')")?;
    let users = "SELECT count(*) FROM users WHERE id IN (SELECT o.\"user\" FROM tags t
                 JOIN notes n ON n.id = t.note JOIN orders o ON o.id = n.\"order\")";
    let kept = session.text(users)?;
    let job = purged(&mut session, "users", "0")?;
    assert_eq!(rows_left(&mut session, &job)?, kept);
    assert_eq!(session.text("SELECT count(*) FROM tags")?, "10");
    assert_eq!(session.text("SELECT count(*) FROM users")?, kept);
    assert_eq!(session.text("SELECT count(*) FROM notes")?, "10");
    assert!(events(&mut session, &job)?.contains(&"rows stay".to_owned()));
    // Once they let go, the rest goes.
    session.run("DELETE FROM tags")?;
    purged(&mut session, "users", "0")?;
    assert_eq!(row(&mut session, COUNTS)?, "0|0|0|0|0|0");
    Ok(())
}

#[test]
fn a_held_deletion_stays_until_it_is_released() -> Result<()> {
    let db = testing::database()?;
    let mut session = shop(&db)?;
    let held = session.text("SELECT upkeep.soft_delete('users', 'id <= 100')")?;
    session.run("SELECT upkeep.soft_delete('users', 'id BETWEEN 101 AND 200')")?;
    session.run(&format!("SELECT upkeep.hold_deletion('{held}', 'case 4711')"))?;
    assert_eq!(row(&mut session, "SELECT held FROM upkeep.deletions WHERE held IS NOT NULL")?, "case 4711");
    let explained = "SELECT relname, rows, held FROM upkeep.explain_purge('users', '0') LIMIT 1";
    assert_eq!(row(&mut session, explained)?, "users|100|100");
    let job = purged(&mut session, "users", "0")?;
    assert_eq!(session.text("SELECT count(*) FROM users_deleted")?, "100");
    assert_eq!(rows_left(&mut session, &job)?, "0", "what is held is not due");
    session.run(&format!("SELECT upkeep.release_deletion('{held}')"))?;
    purged(&mut session, "users", "0")?;
    assert_eq!(session.text("SELECT count(*) FROM users_deleted")?, "0");

    for (sql, expected) in [
        ("SELECT upkeep.hold_deletion(NULL, 'x')", "22004"),
        ("SELECT upkeep.hold_deletion(gen_random_uuid(), 'x')", "42704"),
        ("SELECT upkeep.hold_deletion(gen_random_uuid(), ' ')", "22023"),
        ("SELECT upkeep.purge_deleted('users', '-1 day')", "22023"),
        ("SELECT upkeep.purge_deleted('users', NULL)", "22004"),
        ("SELECT upkeep.purge_deleted('pg_class', '1 day')", "55000"),
        ("SELECT upkeep.purge_deleted(4000000000::oid::regclass, '1 day')", "42P01"),
    ] {
        assert_eq!(sqlstate(&mut session, sql)?, expected, "{sql}");
    }
    Ok(())
}

#[test]
fn a_child_of_its_own_deletion_that_is_held_keeps_its_parent() -> Result<()> {
    let db = testing::database()?;
    let mut session = shop(&db)?;
    let order = session.text("SELECT upkeep.soft_delete('orders', 'id = 7')")?;
    session.run("SELECT upkeep.soft_delete('users', 'true')")?;
    session.run(&format!("SELECT upkeep.hold_deletion('{order}', 'evidence')"))?;
    let job = purged(&mut session, "users", "0")?;
    assert_eq!(rows_left(&mut session, &job)?, "1");
    assert_eq!(row(&mut session, COUNTS)?, "1|0|1|0|2|0");
    Ok(())
}

/// In both orders: whoever comes first wins, and nothing is half done.
#[test]
fn rows_that_are_undeleted_meanwhile_stay() -> Result<()> {
    let db = testing::database()?;
    let mut session = shop(&db)?;
    let deletion = session.text("SELECT upkeep.soft_delete('users', 'id <= 500')")?;
    let mut other = db.connect()?;
    other.run(&format!("BEGIN; SELECT upkeep.undelete('{deletion}'::uuid)"))?;
    let job = purge(&mut session, "users", "0")?;
    wait_for_state(&mut session, &job, "waiting").with_context(|| describe(&mut session, &job))?;
    other.run("COMMIT")?;
    wait(&mut session, &job)?;
    assert_eq!(row(&mut session, COUNTS)?, "1000|1000|3000|3000|6000|6000");
    assert_eq!(rows_left(&mut session, &job)?, "0");
    // And what an undelete that was rolled back had locked goes with the next look.
    let deletion = session.text("SELECT upkeep.soft_delete('users', 'id <= 500')")?;
    other.run(&format!("BEGIN; SELECT upkeep.undelete('{deletion}'::uuid)"))?;
    let job = purge(&mut session, "users", "0")?;
    wait_for_state(&mut session, &job, "waiting")?;
    other.run("ROLLBACK")?;
    wait(&mut session, &job)?;
    assert_eq!(row(&mut session, COUNTS)?, "500|500|1500|1500|3000|3000");
    Ok(())
}

#[test]
fn a_row_that_somebody_has_locked_for_good_is_left() -> Result<()> {
    let db = testing::database()?;
    let mut session = shop(&db)?;
    session.run("SELECT upkeep.soft_delete('users', 'id <= 50')")?;
    let mut other = db.connect()?;
    other.run("BEGIN; SELECT FROM notes WHERE id = 7 FOR KEY SHARE; SELECT FROM users WHERE id = 40 FOR KEY SHARE")?;
    let job = purged(&mut session, "users", "0")?;
    assert_eq!(rows_left(&mut session, &job)?, "2");
    assert_eq!(session.text("SELECT count(*) FROM users_deleted")?, "2");
    other.run("ROLLBACK")?;
    purged(&mut session, "users", "0")?;
    assert_eq!(session.text("SELECT count(*) FROM users_deleted")?, "0");
    Ok(())
}

/// A family that is too large for one batch goes bit by bit, children first.
#[test]
fn one_parent_with_very_many_children_is_no_giant_transaction() -> Result<()> {
    let db = testing::database()?;
    let mut session = db.connect()?;
    session.run(
        "CREATE TABLE p (id int PRIMARY KEY);
         CREATE TABLE c (id int PRIMARY KEY, p int REFERENCES p ON DELETE CASCADE);
         CREATE INDEX ON c (p);
         SELECT upkeep.enable_soft_delete('c'), upkeep.enable_soft_delete('p');
         INSERT INTO p VALUES (1), (2);
         INSERT INTO c SELECT g, 1 FROM generate_series(1, 70000) g;
         INSERT INTO c VALUES (70001, 2);
         SELECT upkeep.soft_delete('p', 'true');
         CREATE TABLE steps (rows bigint);
         -- Found by the search_path of whoever asked for the purge.
         CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS
         $$BEGIN INSERT INTO steps SELECT count(*) FROM gone; RETURN NULL; END$$;
         CREATE TRIGGER note AFTER DELETE ON c REFERENCING OLD TABLE AS gone FOR EACH STATEMENT EXECUTE FUNCTION note();",
    )?;
    purged(&mut session, "p", "0")?;
    assert_eq!(row(&mut session, "SELECT (SELECT count(*) FROM p), (SELECT count(*) FROM c)")?, "0|0");
    assert_eq!(row(&mut session, "SELECT sum(rows), max(rows) <= 25000 FROM steps")?, "70001|t");
    Ok(())
}

#[test]
fn trees_and_circles_go_as_a_whole() -> Result<()> {
    let db = testing::database()?;
    let mut session = db.connect()?;
    session.run(
        "CREATE TABLE node (id int PRIMARY KEY, parent int REFERENCES node ON DELETE CASCADE);
         CREATE INDEX ON node (parent);
         CREATE TABLE a (id int PRIMARY KEY, b int);
         CREATE TABLE b (id int PRIMARY KEY, a int REFERENCES a);
         ALTER TABLE a ADD FOREIGN KEY (b) REFERENCES b DEFERRABLE;
         SELECT upkeep.enable_soft_delete(t, on_unmanaged => 'ignore') FROM unnest('{node,a,b}'::regclass[]) t;
         INSERT INTO node SELECT g, nullif(g / 2, 0) FROM generate_series(1, 2000) g;
         UPDATE node SET parent = 1999 WHERE id = 1;
         SELECT upkeep.soft_delete('node', 'id = 1');",
    )?;
    assert_eq!(session.text("SELECT count(*) FROM node_live")?, "0");
    purged(&mut session, "node", "0")?;
    assert_eq!(session.text("SELECT count(*) FROM node")?, "0");
    // Two tables that hold each other.
    session.run(
        "BEGIN; INSERT INTO a SELECT g, NULL FROM generate_series(1, 50) g; INSERT INTO b SELECT g, g FROM generate_series(1, 50) g;
         UPDATE a SET b = id; COMMIT;
         BEGIN; UPDATE a SET deleted_at = now(), deletion_id = gen_random_uuid() WHERE false; COMMIT;",
    )?;
    session.run(
        "SET session_replication_role = replica; UPDATE a SET deleted_at = now(); \
         UPDATE b SET deleted_at = now(); RESET session_replication_role",
    )?;
    purged(&mut session, "a", "0")?;
    assert_eq!(row(&mut session, "SELECT (SELECT count(*) FROM a), (SELECT count(*) FROM b)")?, "0|0");
    Ok(())
}

#[test]
fn partitions_are_purged_where_they_are() -> Result<()> {
    let db = testing::database()?;
    let mut session = db.connect()?;
    session.run(
        "CREATE TABLE p (id int, k int, PRIMARY KEY (id, k)) PARTITION BY RANGE (k);
         CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (10);
         CREATE TABLE p2 PARTITION OF p FOR VALUES FROM (10) TO (20) PARTITION BY LIST (k);
         CREATE TABLE p2x PARTITION OF p2 DEFAULT;
         CREATE TABLE c (id int PRIMARY KEY, p int, k int, FOREIGN KEY (p, k) REFERENCES p ON DELETE CASCADE);
         CREATE INDEX ON c (p, k);
         SELECT upkeep.enable_soft_delete('c'), upkeep.enable_soft_delete('p');
         INSERT INTO p SELECT g, g % 20 FROM generate_series(1, 2000) g;
         INSERT INTO c SELECT g, g, g % 20 FROM generate_series(1, 2000) g;
         SELECT upkeep.soft_delete('p', 'id <= 1500');",
    )?;
    purged(&mut session, "p", "0")?;
    assert_eq!(row(&mut session, "SELECT (SELECT count(*) FROM p), (SELECT count(*) FROM c)")?, "500|500");
    Ok(())
}

#[test]
fn an_error_of_one_row_is_left_alone() -> Result<()> {
    let db = testing::database()?;
    let mut session = shop(&db)?;
    session.run(
        "CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RAISE 'not this one'; END$$;
         CREATE TRIGGER no BEFORE DELETE ON users FOR EACH ROW WHEN (OLD.id IN (17, 400)) EXECUTE FUNCTION no();
         SELECT upkeep.soft_delete('users', 'id <= 500');",
    )?;
    let job = purged(&mut session, "users", "0")?;
    assert_eq!(row(&mut session, "SELECT id FROM users_deleted ORDER BY id")?, "17\n400");
    assert_eq!(rows_left(&mut session, &job)?, "2");
    let skipped = events(&mut session, &job)?.iter().filter(|event| *event == "row skipped").count();
    assert_eq!(skipped, 2);
    // An error of every row is the job's.
    session
        .run("DROP TRIGGER no ON users; CREATE TRIGGER no BEFORE DELETE ON users FOR EACH ROW EXECUTE FUNCTION no()")?;
    session.run("SELECT upkeep.soft_delete('users', 'id > 500')")?;
    let job = purge(&mut session, "users", "0")?;
    assert_eq!(wait_for_error(&mut session, &job)?.code().code(), "P0001");
    Ok(())
}

#[test]
fn a_killed_worker_goes_on_where_it_was() -> Result<()> {
    let server = testing::server("purge").preloaded().start()?;
    let mut session = server.with_extension("shop")?;
    session.run(SHOP)?;
    session.run(
        "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN PERFORM pg_sleep(0.002); RETURN OLD; END$$;
         CREATE TRIGGER slow BEFORE DELETE ON users FOR EACH ROW EXECUTE FUNCTION slow();
         SELECT upkeep.soft_delete('users', 'id <= 900');",
    )?;
    let job = purge(&mut session, "users", "0")?;
    let look = format!("SELECT rows_done > 0 FROM upkeep.jobs WHERE id = '{job}'");
    wait_for_text(&mut session, &look, "t")?;
    let log = server.log_position();
    strike_open_step(&server, &mut session, Blow::Kill)?;
    wait_until("the server to restart itself", PATIENCE, || server.log_since(log).contains("reinitializing"))?;
    let mut session = server.connect_again("shop")?;
    wait(&mut session, &job)?;
    assert_eq!(row(&mut session, COUNTS)?, "100|100|300|300|600|600");
    assert_eq!(rows_left(&mut session, &job)?, "0");
    assert_eq!(
        session.text("SELECT sum(rows - purged) FROM upkeep._deletion_table")?,
        "0",
        "each row is counted exactly once"
    );
    Ok(())
}

#[test]
fn what_happens_to_the_table_meanwhile_ends_the_job_with_words() -> Result<()> {
    for (ddl, expected) in [
        ("DROP TABLE notes, orders, users CASCADE", Some("42P01")),
        ("SELECT upkeep.disable_soft_delete('users', 'keep')", Some("55000")),
        ("ALTER TABLE users RENAME TO \"us\"\"ers.x\"", None),
        ("ALTER TABLE users RENAME deleted_at TO \"gone.at\"", None),
    ] {
        let db = testing::database()?;
        let mut session = shop(&db)?;
        session.run(
            "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN PERFORM pg_sleep(0.002); RETURN OLD; END$$;
             CREATE TRIGGER slow BEFORE DELETE ON users FOR EACH ROW EXECUTE FUNCTION slow();
             SELECT upkeep.soft_delete('users', 'id <= 900');",
        )?;
        let job = purge(&mut session, "users", "0")?;
        let look = format!("SELECT rows_done > 0 FROM upkeep.jobs WHERE id = '{job}'");
        wait_for_text(&mut session, &look, "t")?;
        session.run(ddl).with_context(|| ddl.to_owned())?;
        match expected {
            Some(code) => assert_eq!(wait_for_error(&mut session, &job)?.code().code(), code, "{ddl}"),
            None => {
                wait(&mut session, &job).with_context(|| ddl.to_owned())?;
                assert_eq!(session.text("SELECT count(*) FROM notes")?, "600", "{ddl}");
            }
        }
    }
    Ok(())
}

#[test]
fn only_the_owner_purges_and_never_past_row_security() -> Result<()> {
    let db = testing::database()?;
    let mut session = shop(&db)?;
    let (owner, other) = (db.role("owner")?, db.role("other")?);
    session.run(&format!(
        "ALTER TABLE users OWNER TO {owner}; ALTER TABLE orders OWNER TO {owner}; ALTER TABLE notes OWNER TO {owner};
         ALTER VIEW users_live OWNER TO {owner};
         GRANT ALL ON users, orders, notes TO {other}"
    ))?;
    let deletion = session.text("SELECT upkeep.soft_delete('users', 'id <= 10')")?;
    let mut stranger = db.connect_as(&other)?;
    for sql in [
        "SELECT upkeep.purge_deleted('users', '0')".to_owned(),
        "SELECT upkeep.explain_purge('users', '0')".to_owned(),
        format!("SELECT upkeep.hold_deletion('{deletion}', 'mine')"),
        format!("SELECT upkeep.release_deletion('{deletion}')"),
    ] {
        assert_eq!(sqlstate(&mut stranger, &sql)?, "42501", "{sql}");
    }
    session.run("ALTER TABLE orders ENABLE ROW LEVEL SECURITY; ALTER TABLE orders FORCE ROW LEVEL SECURITY")?;
    let mut owner = db.connect_as(&owner)?;
    assert_eq!(sqlstate(&mut owner, "SELECT upkeep.purge_deleted('users', '0')")?, "42501");
    session.run("ALTER TABLE orders NO FORCE ROW LEVEL SECURITY")?;
    let job = purge(&mut owner, "users", "0")?;
    wait(&mut owner, &job)?;
    assert_eq!(session.text("SELECT count(*) FROM users")?, "990");
    Ok(())
}

#[test]
fn missing_indexes_are_named_and_a_second_purge_is_refused() -> Result<()> {
    let db = testing::database()?;
    let mut session = db.connect()?;
    session.run(
        "CREATE TABLE \"p.1\" (id int PRIMARY KEY);
         CREATE TABLE \"c\"\"2\" (id int PRIMARY KEY, \"a.b\" int REFERENCES \"p.1\" ON DELETE CASCADE);
         SELECT upkeep.enable_soft_delete('\"c\"\"2\"', deleted_at => 'ge löscht'), \
         upkeep.enable_soft_delete('\"p.1\"', deleted_at => 'c.p');
         INSERT INTO \"p.1\" VALUES (1), (2); INSERT INTO \"c\"\"2\" VALUES (1, 1);
         SELECT upkeep.soft_delete('\"p.1\"', 'id = 1');
         SELECT upkeep.pause_all('later');",
    )?;
    session.notices();
    let mut locker = db.connect()?;
    locker.run("BEGIN; LOCK TABLE \"p.1\" IN ACCESS EXCLUSIVE MODE")?;
    let blocked = meanwhile(db.connect()?, "SELECT upkeep.purge_deleted('\"p.1\"', '0')");
    locker.run("ROLLBACK")?;
    let (mut session, result) = join(blocked)?;
    result?;
    let hints: Vec<String> = session.notices().iter().filter_map(|notice| notice.hint().map(str::to_owned)).collect();
    assert_eq!(
        hints,
        [
            "CREATE INDEX CONCURRENTLY ON public.\"p.1\" (\"c.p\") WHERE \"c.p\" IS NOT NULL;",
            "CREATE INDEX CONCURRENTLY ON public.\"c\"\"2\" (\"a.b\");"
        ]
    );
    let job = session.text("SELECT id FROM upkeep.jobs WHERE kind = 'purge'")?;
    let again = session.run("SELECT upkeep.purge_deleted('\"p.1\"', '0')");
    let finished = session.text(&format!("SELECT finished_at IS NOT NULL FROM upkeep.jobs WHERE id = '{job}'"))?;
    assert!(again.is_ok() <= (finished == "t"), "two at a time");
    wait(&mut session, &job)?;
    assert_eq!(row(&mut session, "SELECT (SELECT count(*) FROM \"p.1\"), (SELECT count(*) FROM \"c\"\"2\")")?, "1|0");
    Ok(())
}

#[test]
fn retention_schedules_a_purge_as_the_owner() -> Result<()> {
    let db = testing::database()?;
    let mut session = db.connect()?;
    let owner = db.role("keeper")?;
    session.run(&format!("CREATE TABLE t (id int PRIMARY KEY); ALTER TABLE t OWNER TO {owner}"))?;
    assert_eq!(sqlstate(&mut session, "SELECT upkeep.enable_soft_delete('t', retention => '30 days')")?, "42501");
    session.run(&format!(
        "GRANT EXECUTE ON FUNCTION upkeep.schedule(pg_catalog.text, pg_catalog.text, pg_catalog.text, \
         pg_catalog.text, interval, integer, interval, boolean, boolean, boolean) TO {owner};
         GRANT EXECUTE ON FUNCTION upkeep.run_now(pg_catalog.text) TO {owner};
         SELECT upkeep.enable_soft_delete('t', retention => '30 days');
         INSERT INTO t SELECT generate_series(1, 10);
         SELECT upkeep.soft_delete('t', 'id <= 5');"
    ))?;
    session.run("UPDATE t SET deleted_at = deleted_at - interval '31 days' WHERE id <= 3")?;
    assert_eq!(
        row(&mut session, "SELECT name, owner, schedule, active FROM upkeep.schedules")?,
        format!("purge public.t|{owner}|@daily|t")
    );
    let mut keeper = db.connect_as(&owner)?;
    let run = keeper.text("SELECT upkeep.run_now('purge public.t')")?;
    wait(&mut keeper, &run)?;
    wait_for_text(&mut session, "SELECT count(*) FROM t", "7")?;
    wait_for_text(
        &mut session,
        "SELECT string_agg(owner || ' ' || state, ',') FROM upkeep.jobs WHERE kind = 'purge'",
        &format!("{owner} done"),
    )?;
    session.run("SELECT upkeep.disable_soft_delete('t', 'keep')")?;
    assert_eq!(session.text("SELECT count(*) FROM upkeep.schedules")?, "0");
    Ok(())
}

#[test]
fn what_is_due_does_not_depend_on_how_dates_are_shown() -> Result<()> {
    let db = testing::database()?;
    let mut session = shop(&db)?;
    session.run("SELECT upkeep.soft_delete('users', 'id <= 10')")?;
    age(&mut session, "true", "3 days")?;
    session.run("SELECT upkeep.soft_delete('users', 'id <= 20')")?;
    for style in ["SQL, DMY", "German, DMY", "Postgres, MDY"] {
        session.run(&format!("SET DateStyle = '{style}'"))?;
        let due = "SELECT rows FROM upkeep.explain_purge('users', '1 day') WHERE relname = 'users'";
        assert_eq!(session.text(due)?, "10", "{style}");
    }
    purged(&mut session, "users", "1 day")?;
    assert_eq!(session.text("SELECT count(*) FROM users")?, "990");
    for never in ["-1 day", "infinity"] {
        // Before 17 no interval is infinite.
        let refused = sqlstate(&mut session, &format!("SELECT upkeep.purge_deleted('users', '{never}')"))?;
        assert!(refused == "22023" || (never == "infinity" && refused == "22007"), "{never}: {refused}");
    }
    Ok(())
}
