//! Attacks on backfills of partitioned tables and inheritance trees: leaves that come and go, rights and policies at two
//! levels, and what others must not notice.

use anyhow::{Context, Result};
use upkeep_tests::cluster::PATIENCE;
use upkeep_tests::faults::{Blow, strike_open_step};
use upkeep_tests::jobs::{
    describe, executors_of, join, meanwhile, meanwhile_error, sqlstate, state, wait, wait_for_error, wait_for_state,
};
use upkeep_tests::session::Session;
use upkeep_tests::testing::{self, wait_for_text};
use upkeep_tests::wait::wait_for;

/// `plus_one(n, id)` does not return for an id that is in `gate`: whoever comes to that row stays there.
const GATE: &str = "CREATE TABLE gate (id int);
    CREATE FUNCTION plus_one(n int, id int) RETURNS int LANGUAGE plpgsql AS
    $$BEGIN
          WHILE EXISTS (SELECT FROM gate g WHERE g.id = plus_one.id) LOOP PERFORM pg_sleep(0.01); END LOOP;
          RETURN coalesce(n, 0) + 1;
      END$$";

/// Waits until so many workers of a job are in a step that does not end by itself: a statement that can be made smaller is
/// cut short long before.
fn wait_until_stuck(session: &mut Session, job: &str, workers: usize) -> Result<()> {
    let look = format!(
        "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'pg_upkeep executor' AND query LIKE '%{job}%'
            AND xact_start < clock_timestamp() - interval '1 s'"
    );
    wait_for_text(session, &look, &workers.to_string()).with_context(|| describe(session, job))
}

fn table_events(session: &mut Session, job: &str, event: &str) -> Result<Vec<String>> {
    session.rows(&format!(
        "SELECT detail FROM upkeep.job_events WHERE job = '{job}' AND event = '{event}' ORDER BY detail"
    ))
}

/// How often rows were changed, by table.
fn counts(session: &mut Session, table: &str) -> Result<Vec<String>> {
    session.rows(&format!("SELECT n, count(*) FROM {table} GROUP BY n ORDER BY n"))
}

const LEAVES: i32 = 200;
/// Rows of an ordinary leaf, and of the first three.
const ROWS: i32 = 20;
const BIG: i32 = 1000;

#[test]
fn leaves_come_and_go_and_every_row_is_done_once_by_one_worker_with_a_condition() -> Result<()> {
    leaves_come_and_go(1, ", 'n = 0'")
}

#[test]
fn leaves_come_and_go_and_every_row_is_done_once_by_one_worker_without_a_condition() -> Result<()> {
    leaves_come_and_go(1, "")
}

#[test]
fn leaves_come_and_go_and_every_row_is_done_once_by_three_workers_with_a_condition() -> Result<()> {
    leaves_come_and_go(3, ", 'n = 0'")
}

#[test]
fn leaves_come_and_go_and_every_row_is_done_once_by_three_workers_without_a_condition() -> Result<()> {
    leaves_come_and_go(3, "")
}

fn leaves_come_and_go(workers: usize, condition: &str) -> Result<()> {
    let server = testing::server("leaves").preloaded().set("upkeep.max_workers", 4).start()?;
    let mut session = server.connect("postgres")?;
    session.run("CREATE EXTENSION pg_upkeep; CREATE SCHEMA shop")?;
    session.run(GATE)?;
    session.run(
        "CREATE TABLE shop.orders (id int, part int, n int NOT NULL DEFAULT 0, PRIMARY KEY (id, part)) PARTITION BY LIST (part)",
    )?;
    for part in 1..=LEAVES {
        session.run(&format!("CREATE TABLE shop.leaf_{part} PARTITION OF shop.orders FOR VALUES IN ({part})"))?;
    }
    session.run(&format!(
        "INSERT INTO shop.orders SELECT part * 10000 + g, part FROM generate_series(1, {LEAVES}) part,
                generate_series(1, CASE WHEN part <= 3 THEN {BIG} ELSE {ROWS} END) g;
         INSERT INTO gate VALUES (10500), (20500), (30500)"
    ))?;
    session.run("VACUUM ANALYZE")?;
    let job = session.text(&format!(
        "SELECT upkeep.backfill('shop.orders', 'n = plus_one(orders.n, id)' {condition},
                                workers => {workers}, batch_time => '20 ms')"
    ))?;
    // The largest leaves come first: each worker has one of them in hand, and nobody has come to the others.
    wait_until_stuck(&mut session, &job, workers)?;
    let touched = "SELECT max(part) <= 3 FROM shop.orders WHERE n > 0";
    assert_eq!(session.text(touched)?, "t", "{}", describe(&mut session, &job));

    // Nobody waits for us who changes another leaf, though three steps are open for as long as we want.
    session.run("SET lock_timeout = '2s'; SET statement_timeout = '30s'")?;
    session.run(
        "ALTER TABLE shop.orders DETACH PARTITION shop.leaf_50;
         DROP TABLE shop.leaf_60;
         ALTER TABLE shop.orders DETACH PARTITION shop.leaf_70;
         ALTER TABLE shop.orders ATTACH PARTITION shop.leaf_70 FOR VALUES IN (70);
         ALTER TABLE shop.leaf_80 RENAME TO leaf_eighty;
         CREATE TABLE shop.leaf_201 PARTITION OF shop.orders FOR VALUES IN (201);
         INSERT INTO shop.orders SELECT 2010000 + g, 201 FROM generate_series(1, 500) g;
         CREATE TABLE shop.leaf_202 (gone text, n int NOT NULL DEFAULT 0, part int NOT NULL, id int PRIMARY KEY);
         ALTER TABLE shop.leaf_202 DROP COLUMN gone;
         INSERT INTO shop.leaf_202 (id, part) SELECT 2020000 + g, 202 FROM generate_series(1, 500) g;
         ALTER TABLE shop.leaf_202 DROP CONSTRAINT leaf_202_pkey;
         ALTER TABLE shop.orders ATTACH PARTITION shop.leaf_202 FOR VALUES IN (202)",
    )?;
    session.run("ALTER TABLE shop.orders DETACH PARTITION shop.leaf_90 CONCURRENTLY")?;

    let log = server.log_position();
    strike_open_step(&server, &mut session, Blow::Kill)?;
    wait_for("the server to restart itself", PATIENCE, || {
        Ok(server.log_since(log).contains("reinitializing").then_some(()))
    })?;
    let mut session = server.connect_again("postgres")?;
    wait_until_stuck(&mut session, &job, workers)?;

    // A leaf that a worker has in hand: who detaches it waits until the step ends, and the next one sees it.
    let detaching = meanwhile(server.connect("postgres")?, "ALTER TABLE shop.orders DETACH PARTITION shop.leaf_1");
    let waits = "SELECT count(*) FROM pg_locks WHERE NOT granted AND mode = 'AccessExclusiveLock'
                    AND relation = 'shop.leaf_1'::regclass";
    wait_for_text(&mut session, waits, "1")?;
    session.run("DELETE FROM gate")?;
    join(detaching)?.1?;
    wait(&mut session, &job)?;

    let told = describe(&mut session, &job);
    let all = 2 * BIG + (LEAVES - 3 - 3) * ROWS + 1000;
    assert_eq!(counts(&mut session, "shop.orders")?, [format!("1|{all}")], "{told}");
    for untouched in ["shop.leaf_50", "shop.leaf_90"] {
        assert_eq!(counts(&mut session, untouched)?, [format!("0|{ROWS}")], "{untouched}: {told}");
    }
    assert_eq!(session.text("SELECT max(n) <= 1 AND min(n) = 0 FROM shop.leaf_1")?, "t", "{told}");
    let gone = table_events(&mut session, &job, "table gone")?.join("\n");
    for (table, how) in [("leaf_1", "belong"), ("leaf_50", "belong"), ("leaf_60", "dropped"), ("leaf_90", "belong")] {
        assert!(gone.lines().any(|line| line.starts_with(&format!("shop.{table} ")) && line.contains(how)), "{gone}");
    }
    assert_eq!(gone.lines().count(), 4, "{gone}");
    assert_eq!(table_events(&mut session, &job, "table found")?.len(), 2, "{told}");
    assert_eq!(
        session.text(&format!("SELECT state, percent, rows_left, quarantined FROM upkeep.jobs WHERE id = '{job}'"))?,
        "done|100|0|0"
    );
    Ok(())
}

#[test]
fn a_leaf_that_is_attached_again_goes_on() -> Result<()> {
    let db = testing::database()?;
    let mut session = db.connect()?;
    session.run(GATE)?;
    session.run(
        "CREATE TABLE t (id int, part int, n int NOT NULL DEFAULT 0, PRIMARY KEY (id, part)) PARTITION BY LIST (part);
         CREATE TABLE t1 PARTITION OF t FOR VALUES IN (1);
         CREATE TABLE t2 PARTITION OF t FOR VALUES IN (2);
         CREATE TABLE t3 PARTITION OF t FOR VALUES IN (3);
         INSERT INTO t SELECT 10000 * part + g, part
           FROM generate_series(1, 3) part, generate_series(1, 4000 - 1000 * part) g;
         INSERT INTO gate VALUES (10500), (30500)",
    )?;
    session.run("VACUUM ANALYZE t")?;
    let job = session.text("SELECT upkeep.backfill('t', 'n = plus_one(n, id)', batch_time => '20 ms')")?;
    wait_until_stuck(&mut session, &job, 1)?;
    // By their size: t1 is in hand, t2 comes next, t3 is the last.
    session.run("ALTER TABLE t DETACH PARTITION t2; DELETE FROM gate WHERE id = 10500")?;
    wait_for_text(&mut session, "SELECT count(*) FROM t1 WHERE n = 0", "0")?;
    wait_until_stuck(&mut session, &job, 1)?;
    assert_eq!(table_events(&mut session, &job, "table gone")?.len(), 1, "{}", describe(&mut session, &job));
    session.run("ALTER TABLE t ATTACH PARTITION t2 FOR VALUES IN (2); DELETE FROM gate")?;
    wait(&mut session, &job)?;
    let told = describe(&mut session, &job);
    assert_eq!(table_events(&mut session, &job, "table back")?.len(), 1, "{told}");
    assert_eq!(counts(&mut session, "t")?, ["1|6000"], "{told}");
    // To drop the whole ends the job.
    session.run("INSERT INTO gate VALUES (10500)")?;
    let job = session.text("SELECT upkeep.backfill('t', 'n = plus_one(n, id)', batch_time => '20 ms')")?;
    wait_until_stuck(&mut session, &job, 1)?;
    let dropping = meanwhile(db.connect()?, "DROP TABLE t");
    wait_for_text(
        &mut session,
        "SELECT count(*) > 0 FROM pg_locks WHERE NOT granted AND mode = 'AccessExclusiveLock'",
        "t",
    )?;
    session.run("DELETE FROM gate")?;
    join(dropping)?.1?;
    let error = wait_for_error(&mut session, &job)?;
    assert_eq!(error.code().code(), "42P01", "{error:?}");
    Ok(())
}

/// Each row of `table` is changed once by each of two backfills, one with a condition and one without.
fn assert_filled(session: &mut Session, table: &str, rows: i64) -> Result<()> {
    for (done, condition) in [(1, ""), (2, ", 'n = 1'")] {
        let job = session.text(&format!("SELECT upkeep.backfill('{table}', 'n = n + 1' {condition}, workers => 2)"))?;
        wait(session, &job).context(table.to_owned())?;
        let told = describe(session, &job);
        assert_eq!(counts(session, table)?, [format!("{done}|{rows}")], "{table}: {told}");
    }
    Ok(())
}

#[test]
fn trees_of_every_shape_are_filled() -> Result<()> {
    let db = testing::database()?;
    let mut session = db.connect()?;
    session.run(
        "CREATE TABLE ranges (id int PRIMARY KEY, n int DEFAULT 0) PARTITION BY RANGE (id);
         CREATE TABLE ranges_1 PARTITION OF ranges FOR VALUES FROM (MINVALUE) TO (1000);
         CREATE TABLE ranges_2 PARTITION OF ranges FOR VALUES FROM (1000) TO (2000);
         CREATE TABLE ranges_rest PARTITION OF ranges DEFAULT;
         CREATE TABLE hashes (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), n int DEFAULT 0) PARTITION BY HASH (id);
         CREATE TABLE hashes_0 PARTITION OF hashes FOR VALUES WITH (MODULUS 3, REMAINDER 0);
         CREATE TABLE hashes_1 PARTITION OF hashes FOR VALUES WITH (MODULUS 3, REMAINDER 1);
         CREATE TABLE hashes_2 PARTITION OF hashes FOR VALUES WITH (MODULUS 3, REMAINDER 2);
         CREATE TABLE deep (id int, a int, b text, n int DEFAULT 0, PRIMARY KEY (id, a, b)) PARTITION BY RANGE (a);
         CREATE TABLE deep_1 PARTITION OF deep FOR VALUES FROM (0) TO (5) PARTITION BY LIST (b);
         CREATE TABLE deep_1x PARTITION OF deep_1 FOR VALUES IN ('x') PARTITION BY HASH (id);
         CREATE TABLE deep_1x0 PARTITION OF deep_1x FOR VALUES WITH (MODULUS 2, REMAINDER 0);
         CREATE TABLE deep_1x1 PARTITION OF deep_1x FOR VALUES WITH (MODULUS 2, REMAINDER 1);
         CREATE TABLE deep_1y PARTITION OF deep_1 DEFAULT;
         CREATE TABLE deep_2 PARTITION OF deep FOR VALUES FROM (5) TO (10) PARTITION BY LIST (b);
         CREATE TABLE deep_2y (n int DEFAULT 0, was_here int, b text NOT NULL, a int NOT NULL, id int NOT NULL, UNIQUE (id));
         ALTER TABLE deep_2y DROP COLUMN was_here;
         ALTER TABLE deep_2 ATTACH PARTITION deep_2y DEFAULT;
         CREATE TABLE empty (id int, n int) PARTITION BY LIST (id)",
    )?;
    session.run(
        "INSERT INTO ranges SELECT g FROM generate_series(1, 3000) g;
         INSERT INTO hashes SELECT FROM generate_series(1, 3000) g;
         INSERT INTO deep SELECT g, g % 10, CASE g % 2 WHEN 0 THEN 'x' ELSE 'y' END FROM generate_series(1, 3000) g;",
    )?;
    for table in ["ranges", "hashes", "deep"] {
        assert_filled(&mut session, table, 3000)?;
    }
    // A table with nothing in it, and a sub-tree and a leaf named by themselves.
    let job = session.text("SELECT upkeep.backfill('empty', 'n = 1', 'n IS NULL', workers => 3)")?;
    wait(&mut session, &job)?;
    session.run("UPDATE deep SET n = 0; UPDATE ranges SET n = 0")?;
    assert_filled(&mut session, "deep_1", 1500)?;
    assert_filled(&mut session, "ranges_2", 1000)?;
    assert_eq!(counts(&mut session, "deep")?, ["0|1500", "2|1500"]);
    assert_eq!(counts(&mut session, "ranges")?, ["0|2000", "2|1000"]);
    Ok(())
}

#[test]
fn children_of_several_parents_are_filled_once_and_keep_their_own_columns() -> Result<()> {
    let db = testing::database()?;
    let mut session = db.connect()?;
    session.run(
        "CREATE TABLE a (id int PRIMARY KEY, n int DEFAULT 0);
         CREATE TABLE b (id int NOT NULL, n int DEFAULT 0, flag text);
         CREATE TABLE ab (own text DEFAULT 'mine', UNIQUE (id)) INHERITS (a, b);
         CREATE TABLE abc (PRIMARY KEY (id)) INHERITS (ab, a);
         INSERT INTO a SELECT g FROM generate_series(1, 500) g;
         INSERT INTO b SELECT g FROM generate_series(1, 500) g;
         INSERT INTO ab SELECT g FROM generate_series(1, 500) g;
         INSERT INTO abc SELECT g FROM generate_series(1, 500) g",
    )?;
    assert_filled(&mut session, "a", 1500)?;
    assert_eq!(counts(&mut session, "ONLY b")?, ["0|500"]);
    assert_eq!(session.text("SELECT count(*) FROM ab WHERE own = 'mine'")?, "1000");
    // Both parents have these children: two backfills would meet there.
    let job = session.text("SELECT upkeep.backfill('a', 'n = 9', 'n = 2', paused => true)")?;
    let error = session.error("SELECT upkeep.backfill('b', 'n = 8', 'n = 2')")?;
    assert_eq!(error.code().code(), "55006", "{error:?}");
    assert!(error.detail().unwrap_or_default().contains(&job), "{error:?}");
    session.run("SELECT upkeep.backfill('b', $$flag = 'x'$$, 'flag IS NULL', paused => true)")
}

#[test]
fn rows_at_the_same_place_of_two_leaves_are_told_apart() -> Result<()> {
    let db = testing::database()?;
    let mut session = db.connect()?;
    // No key: a row is known by its place alone, which is (0,1) in both.
    session.run(
        "CREATE TABLE t (part int, source text, n int) PARTITION BY LIST (part);
         CREATE TABLE t1 PARTITION OF t FOR VALUES IN (1);
         CREATE TABLE t2 PARTITION OF t FOR VALUES IN (2);
         INSERT INTO t SELECT part, CASE g WHEN 1 THEN 'many' ELSE g::text END, NULL
           FROM generate_series(1, 2) part, generate_series(1, 300) g",
    )?;
    let job = session.text("SELECT upkeep.backfill('t', 'n = source::int', 'n IS NULL')")?;
    wait(&mut session, &job)?;
    let rows = format!(
        "SELECT relid::regclass, row_key FROM upkeep.quarantined_rows WHERE job = '{job}' ORDER BY relid::regclass::text"
    );
    assert_eq!(session.rows(&rows)?, ["t1|{\"ctid\": \"(0,1)\"}", "t2|{\"ctid\": \"(0,1)\"}"]);
    assert_eq!(session.text(&format!("SELECT rows_left, quarantined FROM upkeep.jobs WHERE id = '{job}'"))?, "2|2");
    session.run("UPDATE t1 SET source = '7' WHERE source = 'many'")?;
    session.run(&format!("SELECT upkeep.retry('{job}')"))?;
    wait(&mut session, &job)?;
    assert_eq!(session.text("SELECT count(*) FROM t WHERE n IS NULL")?, "1", "{}", describe(&mut session, &job));
    session.run("UPDATE t2 SET source = '7' WHERE source = 'many'")?;
    session.run(&format!("SELECT upkeep.retry('{job}')"))?;
    wait(&mut session, &job)?;
    assert_eq!(session.text("SELECT count(*) FROM t WHERE n IS NULL")?, "0");

    // The same with rows that somebody holds.
    let mut holder = db.connect()?;
    session.run("UPDATE t SET n = NULL")?;
    session.run("VACUUM FULL t")?;
    holder.run("BEGIN; SELECT FROM t WHERE source = '5' FOR UPDATE")?;
    let job = session.text("SELECT upkeep.backfill('t', 'n = source::int', 'n IS NULL', workers => 2)")?;
    wait_for_text(&mut session, "SELECT count(*) FROM t WHERE n IS NULL", "2")?;
    holder.run("COMMIT")?;
    wait_for_state(&mut session, &job, "done")?;
    if session.text(&format!("SELECT rows_left FROM upkeep.jobs WHERE id = '{job}'"))? != "0" {
        session.run(&format!("SELECT upkeep.retry('{job}')"))?;
        wait(&mut session, &job)?;
    }
    assert_eq!(session.text("SELECT count(*) FROM t WHERE n IS NULL")?, "0", "{}", describe(&mut session, &job));
    Ok(())
}

/// A tree of a range and a hash leaf below another, with rows of two owners.
fn tenants(session: &mut Session, role: &str) -> Result<()> {
    session.run(&format!(
        "CREATE TABLE t (id int, part int, who text, n int DEFAULT 0, PRIMARY KEY (id, part)) PARTITION BY RANGE (part);
         CREATE TABLE t1 PARTITION OF t FOR VALUES FROM (0) TO (10);
         CREATE TABLE t2 PARTITION OF t FOR VALUES FROM (10) TO (20) PARTITION BY HASH (id);
         CREATE TABLE t2a PARTITION OF t2 FOR VALUES WITH (MODULUS 2, REMAINDER 0);
         CREATE TABLE t2b PARTITION OF t2 FOR VALUES WITH (MODULUS 2, REMAINDER 1);
         INSERT INTO t SELECT g, g % 20, CASE g % 2 WHEN 0 THEN '{role}' ELSE 'other' END FROM generate_series(1, 4000) g"
    ))
}

#[test]
fn row_security_applies_as_it_would_to_an_update() -> Result<()> {
    let db = testing::database()?;
    let role = db.role("tenant")?;
    let mut admin = db.connect()?;
    tenants(&mut admin, &role)?;
    let mut tenant = db.connect_as(&role)?;
    let policy = |table: &str| {
        format!(
            "ALTER TABLE {table} ENABLE ROW LEVEL SECURITY; CREATE POLICY mine ON {table} USING (who = current_user)"
        )
    };
    let fill = |tenant: &mut Session, condition: &str| -> Result<()> {
        let job = tenant.text(&format!("SELECT upkeep.backfill('t', 'n = t.n + 1' {condition}, workers => 2)"))?;
        assert!(tenant.notices().iter().any(|n| n.message().contains("row security")), "it warns");
        wait(tenant, &job)
    };
    let by_owner =
        "SELECT who = 'other', tableoid::regclass = 't1'::regclass, n, count(*) FROM t GROUP BY 1, 2, 3 ORDER BY 1, 2";

    // The parent's policy: leaves are reached through it, and no right to them is needed.
    admin.run(&policy("t"))?;
    admin.run(&format!("GRANT SELECT, UPDATE ON t TO {role}"))?;
    fill(&mut tenant, "")?;
    fill(&mut tenant, ", 'n = 1'")?;
    assert_eq!(admin.rows(by_owner)?, ["f|f|2|1000", "f|t|2|1000", "t|f|0|1000", "t|t|0|1000"]);

    // Policies on both levels: the parent's alone apply to whoever names the parent.
    admin.run("ALTER TABLE t1 ENABLE ROW LEVEL SECURITY; CREATE POLICY none ON t1 USING (false)")?;
    fill(&mut tenant, "")?;
    assert_eq!(admin.rows(by_owner)?, ["f|f|3|1000", "f|t|3|1000", "t|f|0|1000", "t|t|0|1000"]);

    // A leaf's policy alone: it is named directly, its policy applies to it and to no other.
    admin.run("ALTER TABLE t DISABLE ROW LEVEL SECURITY; DROP POLICY none ON t1; CREATE POLICY mine ON t1 USING (who = current_user)")?;
    let error = tenant.error("SELECT upkeep.backfill('t', 'n = t.n + 1')")?;
    assert_eq!(error.code().code(), "42501");
    admin.run(&format!("GRANT SELECT, UPDATE ON t1, t2a, t2b TO {role}"))?;
    fill(&mut tenant, "")?;
    assert_eq!(admin.rows(by_owner)?, ["f|f|4|1000", "f|t|4|1000", "t|f|1|1000", "t|t|0|1000"]);

    // It does not hold for whom no policy applies to.
    let job = admin.text("SELECT upkeep.backfill('t', 'n = 100')")?;
    wait(&mut admin, &job)?;
    assert_eq!(counts(&mut admin, "t")?, ["100|4000"]);
    Ok(())
}

#[test]
fn rights_are_needed_on_every_leaf_that_is_named() -> Result<()> {
    let db = testing::database()?;
    let role = db.role("clerk")?;
    let mut admin = db.connect()?;
    tenants(&mut admin, &role)?;
    let mut clerk = db.connect_as(&role)?;
    let call = "SELECT upkeep.backfill('t', 'n = 1', 'n = 0')";
    assert_eq!(sqlstate(&mut clerk, call)?, "42501");
    admin.run(&format!("GRANT SELECT, UPDATE ON t, t1 TO {role}; GRANT SELECT ON t2a TO {role}"))?;
    let error = clerk.error(call)?;
    assert_eq!(error.code().code(), "42501");
    assert!(error.detail().unwrap_or_default().contains("2 of its 3 tables"), "{error:?}");
    let hint = error.hint().unwrap_or_default().to_owned();
    assert!(hint.contains("public.t2a, public.t2b") && !hint.contains("public.t1"), "{hint}");
    // A column's right will do, as for any UPDATE.
    admin.run(&format!("GRANT SELECT, UPDATE (n) ON t2a, t2b TO {role}"))?;
    let job = clerk.text(call)?;
    wait(&mut clerk, &job)?;
    // One that goes while it runs ends the job, and it goes on when it is back.
    admin.run(&format!("REVOKE UPDATE, UPDATE (n) ON t2b FROM {role}"))?;
    admin.run(&format!("GRANT UPDATE (n) ON t2b TO {role}"))?;
    let job = clerk.text("SELECT upkeep.backfill('t', 'n = 2', 'n = 1', paused => true)")?;
    admin.run(&format!("REVOKE UPDATE (n) ON t2b FROM {role}"))?;
    clerk.run(&format!("SELECT upkeep.resume('{job}')"))?;
    assert_eq!(wait_for_error(&mut clerk, &job)?.code().code(), "42501");
    admin.run(&format!("GRANT UPDATE (n) ON t2b TO {role}"))?;
    clerk.run(&format!("SELECT upkeep.retry('{job}')"))?;
    wait(&mut clerk, &job)?;
    assert_eq!(counts(&mut admin, "t")?, ["2|4000"]);
    // VACUUM is the owner's.
    let error = clerk.error("SELECT upkeep.backfill('t', 'n = 3', 'n = 2', options => '{\"vacuum\": true}')")?;
    assert_eq!(error.code().code(), "42501");
    assert!(error.hint().unwrap_or_default().contains("MAINTAIN"), "{error:?}");
    Ok(())
}

#[test]
fn a_tree_and_its_parts_cannot_be_filled_at_the_same_time() -> Result<()> {
    let db = testing::database_without_preload()?;
    let mut session = db.connect()?;
    tenants(&mut session, "somebody")?;
    let fill = |table: &str, column: &str| format!("SELECT upkeep.backfill('{table}', '{column} = DEFAULT', 'true')");
    for (first, others) in
        [("t", &["t", "t1", "t2", "t2a"][..]), ("t2", &["t", "t2", "t2b"]), ("t2a", &["t", "t2", "t2a"])]
    {
        let job = session.text(&fill(first, "n"))?;
        for other in others {
            let error = session.error(&fill(other, "n"))?;
            assert_eq!(error.code().code(), "55006", "{first} and {other}: {error:?}");
            assert!(error.detail().unwrap_or_default().contains(&job), "{error:?}");
            let another_column = session.text(&fill(other, "who"))?;
            session.run(&format!("SELECT upkeep.cancel('{another_column}')"))?;
        }
        session.run(&format!("SELECT upkeep.cancel('{job}')"))?;
    }
    let job = session.text(&fill("t1", "n"))?;
    session.run(&fill("t2", "n"))?;
    session.run("SELECT upkeep.cancel(id) FROM upkeep.jobs WHERE state = 'queued'")?;
    session.run(&fill("t", "n"))?;
    assert_eq!(sqlstate(&mut session, &format!("SELECT upkeep.retry('{job}')"))?, "55006");
    session.run("SELECT upkeep.cancel(id) FROM upkeep.jobs WHERE state = 'queued'")?;

    // Both at once: the second waits for the first and then sees it.
    for (first, second) in [("t", "t2b"), ("t2a", "t"), ("t2", "t2a")] {
        session.run(&format!("BEGIN; {}", fill(first, "n")))?;
        let other = meanwhile_error(db.connect()?, &fill(second, "n"));
        let waits = "SELECT count(*) FROM pg_stat_activity
                      WHERE datname = current_database() AND wait_event_type = 'Lock' AND wait_event = 'advisory'";
        // In a session of its own: within a transaction the list of processes stands still.
        wait_for_text(&mut db.connect()?, waits, "1")?;
        session.run("COMMIT")?;
        assert_eq!(join(other)??.code().code(), "55006", "{first} and {second}");
        session.run("SELECT upkeep.cancel(id) FROM upkeep.jobs WHERE state = 'queued'")?;
    }
    Ok(())
}

#[test]
fn what_cannot_be_filled_in_a_tree_is_refused_with_the_reason() -> Result<()> {
    let db = testing::database_without_preload()?;
    let mut session = db.connect()?;
    session.run(
        "CREATE EXTENSION postgres_fdw; CREATE SERVER s FOREIGN DATA WRAPPER postgres_fdw;
         CREATE TABLE t (id int, part int, sub text, m int, n int) PARTITION BY RANGE (part);
         CREATE TABLE t1 PARTITION OF t FOR VALUES FROM (0) TO (10) PARTITION BY LIST (lower(sub));
         CREATE TABLE t1x PARTITION OF t1 DEFAULT;
         CREATE TABLE parent (id int PRIMARY KEY, n int);
         CREATE ACCESS METHOD store TYPE TABLE HANDLER heap_tableam_handler",
    )?;
    // At any level, and also inside an expression.
    for column in ["part = 1", "sub = 'x'"] {
        let error = session.error(&format!("SELECT upkeep.backfill('t', $${column}$$, 'n IS NULL')"))?;
        assert_eq!(error.code().code(), "0A000", "{error:?}");
        assert!(error.message().contains("partition key"), "{error:?}");
    }
    let error = session.error("SELECT upkeep.backfill('t', 'n = 1')")?;
    assert_eq!((error.code().code(), error.message().contains("t1x")), ("55000", true), "{error:?}");
    for (make, unmake, what) in [
        (
            "CREATE FOREIGN TABLE odd PARTITION OF t FOR VALUES FROM (20) TO (30) SERVER s",
            "DROP FOREIGN TABLE odd",
            "foreign",
        ),
        ("CREATE TABLE odd PARTITION OF t FOR VALUES FROM (20) TO (30) USING store", "DROP TABLE odd", "heap"),
    ] {
        session.run(make)?;
        let error = session.error("SELECT upkeep.backfill('t', 'n = 1', 'n IS NULL')")?;
        assert_eq!(error.code().code(), "0A000", "{error:?}");
        let detail = error.detail().unwrap_or_default();
        assert!(detail.contains("public.odd") && detail.contains(what), "{error:?}");
        session.run(unmake)?;
    }
    session.run("CREATE TEMP TABLE passing () INHERITS (parent)")?;
    let error = session.error("SELECT upkeep.backfill('parent', 'n = 1', 'n IS NULL')")?;
    assert_eq!((error.code().code(), error.detail().unwrap_or_default().contains("passing")), ("0A000", true));
    // What would not do for the leaves does not do for the parent.
    assert_eq!(sqlstate(&mut session, "SELECT upkeep.backfill('t', 'n = public.t.m', 'n IS NULL')")?, "42P01");
    session.run("SELECT upkeep.backfill('t', 'n = t.m', 't.n IS NULL AND t.m > 0')")?;
    assert_eq!(session.text("SELECT count(*) FROM upkeep.jobs")?, "1");
    Ok(())
}

#[test]
fn publications_that_would_refuse_the_update_refuse_the_backfill() -> Result<()> {
    let db = testing::database()?;
    let mut session = db.connect()?;
    session.run(
        "CREATE SCHEMA other;
         CREATE TABLE other.t (id int, part int, n int) PARTITION BY LIST (part);
         CREATE TABLE other.t1 PARTITION OF other.t (PRIMARY KEY (id)) FOR VALUES IN (1);
         CREATE TABLE other.t2 PARTITION OF other.t FOR VALUES IN (2);
         INSERT INTO other.t SELECT g, 1 + g % 2 FROM generate_series(1, 1000) g",
    )?;
    let call = "SELECT upkeep.backfill('other.t', 'n = id', 'n IS NULL', paused => true)";
    for (publication, refused) in [
        ("FOR TABLE other.t", true),
        ("FOR TABLE other.t WITH (publish_via_partition_root = true)", true),
        ("FOR TABLE other.t2", true),
        ("FOR TABLE other.t1", false),
        ("FOR TABLES IN SCHEMA other", true),
        ("FOR ALL TABLES", true),
        ("FOR ALL TABLES WITH (publish = 'insert, truncate')", false),
        ("FOR TABLE other.t WITH (publish = 'delete')", false),
    ] {
        session.run(&format!("CREATE PUBLICATION news {publication}"))?;
        if refused {
            let error = session.error(call)?;
            assert_eq!(error.code().code(), "55000", "{publication}: {error:?}");
            assert_eq!(error.hint(), Some("ALTER TABLE other.t2 REPLICA IDENTITY FULL;"), "{publication}");
            let warnings =
                session.text("SELECT warnings FROM upkeep.explain_backfill('other.t', 'n = id', 'n IS NULL')")?;
            assert!(warnings.contains("replica identity"), "{publication}: {warnings}");
        } else {
            let job = session.text(call).context(publication)?;
            session.run(&format!("SELECT upkeep.cancel('{job}')"))?;
        }
        session.run("DROP PUBLICATION news")?;
    }
    // One that comes later ends the job; no row is lost by it.
    let job = session.text(call)?;
    session.run("CREATE PUBLICATION news FOR ALL TABLES")?;
    session.run(&format!("SELECT upkeep.resume('{job}')"))?;
    let error = wait_for_error(&mut session, &job)?;
    assert_eq!(error.code().code(), "55000", "{error:?}");
    assert!(error.hint().unwrap_or_default().contains("REPLICA IDENTITY"), "{error:?}");
    session.run("ALTER TABLE other.t2 REPLICA IDENTITY FULL")?;
    session.run(&format!("SELECT upkeep.retry('{job}')"))?;
    wait(&mut session, &job)?;
    assert_eq!(session.text("SELECT count(*) FROM other.t WHERE n = id")?, "1000");
    Ok(())
}

#[test]
fn a_tree_restored_half_done_is_finished_exactly_once() -> Result<()> {
    let server = testing::server("from").preloaded().start()?;
    let mut session = server.with_extension("shop")?;
    session.run(GATE)?;
    session.run(
        "CREATE TABLE t (id int, part int, source text DEFAULT '1', n int NOT NULL DEFAULT 0, PRIMARY KEY (id, part)) \
         PARTITION BY LIST (part);
         CREATE TABLE t1 PARTITION OF t FOR VALUES IN (1);
         CREATE TABLE t2 PARTITION OF t FOR VALUES IN (2);
         CREATE TABLE t3 PARTITION OF t FOR VALUES IN (3);
         INSERT INTO t SELECT g, 1 FROM generate_series(1, 2000) g;
         INSERT INTO t SELECT g, 2 FROM generate_series(2001, 3000) g;
         INSERT INTO t SELECT g, 3 FROM generate_series(3001, 3500) g;
         UPDATE t SET source = 'one' WHERE id IN (7, 2007);
         INSERT INTO gate VALUES (2500)",
    )?;
    session.run("VACUUM ANALYZE t")?;
    // t1 is the largest and done, t2 half done, t3 not begun.
    let job =
        session.text("SELECT upkeep.backfill('t', 'n = plus_one(n, id) + source::int - 1', batch_time => '20 ms')")?;
    wait_until_stuck(&mut session, &job, 1)?;
    assert_eq!(counts(&mut session, "t1")?, ["0|1", "1|1999"]);
    let half: i64 = session.value("SELECT count(*) FROM t2 WHERE n = 1")?;
    assert!((1..999).contains(&half), "{half}");
    let dump = server.dump("shop")?;

    let elsewhere = testing::server("to").preloaded().start()?;
    // Other OIDs than there.
    let mut other = elsewhere.connect("postgres")?;
    for number in 0..7 {
        other.run(&format!("CREATE TABLE filler_{number} (id int PRIMARY KEY, t text)"))?;
    }
    for renamed in [false, true] {
        let name = format!("shop_{renamed}");
        elsewhere.restore(&name, &dump)?;
        let mut restored = elsewhere.connect(&name)?;
        assert_eq!(state(&mut restored, &job)?, "paused");
        restored.run("DELETE FROM gate")?;
        if renamed {
            restored.run("ALTER TABLE t1 RENAME TO t_one")?;
        }
        assert_eq!(restored.text("SELECT upkeep.resume_all()")?, "1");
        if renamed {
            // It could be t1, whose rows are done.
            let error = wait_for_error(&mut restored, &job)?;
            assert_eq!(error.code().code(), "55000", "{error:?}");
            assert!(error.message().contains("public.t1"), "{error:?}");
            assert_eq!(counts(&mut restored, "t_one")?, ["0|1", "1|1999"]);
            continue;
        }
        wait(&mut restored, &job)?;
        let told = describe(&mut restored, &job);
        assert_eq!(counts(&mut restored, "t")?, ["0|2", "1|3498"], "{told}");
        let rows = "SELECT relid::regclass, row_key ->> 'id' FROM upkeep.quarantined_rows ORDER BY 2 DESC";
        assert_eq!(restored.rows(rows)?, ["t1|7", "t2|2007"], "{told}");
        restored.run("UPDATE t SET source = '1'")?;
        restored.run(&format!("SELECT upkeep.retry('{job}')"))?;
        wait(&mut restored, &job)?;
        assert_eq!(counts(&mut restored, "t")?, ["1|3500"], "{told}");
    }
    Ok(())
}

/// What version 0.1.0 leaves of a job that is half done: its cursor is the job's, and nothing says which table.
#[test]
fn a_job_of_version_0_1_0_goes_on_where_it_was() -> Result<()> {
    let server = testing::server("older").preloaded().start()?;
    let mut session = server.connect("postgres")?;
    session.run("CREATE EXTENSION pg_upkeep VERSION '0.1.0'")?;
    session.run(
        "CREATE TABLE t (id int PRIMARY KEY, n int NOT NULL DEFAULT 0);
         INSERT INTO t SELECT g FROM generate_series(1, 1000) g;
         UPDATE t SET n = 1 WHERE id <= 350;
         CREATE TABLE fresh (id int PRIMARY KEY, n int NOT NULL DEFAULT 0); INSERT INTO fresh VALUES (1);
         CREATE TABLE put_aside (id int PRIMARY KEY, n int NOT NULL DEFAULT 0);
         INSERT INTO put_aside SELECT g, CASE g WHEN 5 THEN 0 ELSE 1 END FROM generate_series(1, 10) g",
    )?;
    let choice = r#"{"walk": "keys", "strides": 1, "range_blocks": 1, "most_blocks": 1, "plain_blocks": 1,
                     "window_ranges": 2, "held": false, "reason": "as it was"}"#;
    let shared = |fields: &str| {
        format!(
            r#"{{"phase": "fill", "choice": {choice}, "filenode": 0, "end_block": 5, "range_rows": 50,
                 "rows_estimate": 1000, "rows_to_change": 1000, "since": 3, {fields}}}"#
        )
    };
    let params = r#"{"assignments": "n = n + 1", "condition": null, "columns": ["n"], "key": ["id"],
                     "on_error": "quarantine", "options": {"strategy": null, "range_blocks": null, "strides": null,
                     "window_ranges": null, "max_quarantined": null}, "fingerprint": null}"#;
    let add = |session: &mut Session, number: i32, table: &str, state: &str, shared: &str| {
        session.run(&format!(
            "INSERT INTO upkeep._job (id, kind, owner, owner_name, relid, target, params, session, state, shared, units_total,
                                      rows_left, finished_at, system_identifier, database)
             SELECT '00000000-0000-0000-0000-00000000000{number}', 'backfill', 10, 'postgres', '{table}'::regclass,
                    'public.{table}', '{params}', '{{}}', '{state}', '{shared}', 100,
                    CASE WHEN '{state}' = 'done' THEN 1 END, CASE WHEN '{state}' = 'done' THEN now() END,
                    s.system_identifier, d.oid
               FROM pg_control_system() s, pg_database d WHERE d.datname = current_database()"
        ))?;
        Ok::<_, anyhow::Error>(format!("00000000-0000-0000-0000-00000000000{number}"))
    };
    let half = shared(r#""after_key": ["500"], "last_key": ["1000"]"#);
    let half = add(&mut session, 1, "t", "paused", &half)?;
    // One worker has 301 to 400 in hand, and has done half of it; the other one nothing of 401 to 500.
    session.run(&format!(
        r#"INSERT INTO upkeep._job_slot (job, slot, cursor, rows_done, units_done) VALUES
           ('{half}', 0, '{{"pass": "keys", "bounds": [["300"], ["350"], ["400"]], "next": 1,
                              "rows": 50, "strides": 1, "stride": 0, "proved": true}}', 150, 15),
           ('{half}', 1, '{{"pass": "keys", "bounds": [["400"], ["450"], ["500"]], "next": 0,
                              "rows": 50, "strides": 1, "stride": 0, "proved": true}}', 200, 20)"#
    ))?;
    let fresh = add(&mut session, 2, "fresh", "paused", "{}")?;
    let done = shared(r#""after_key": ["10"], "last_key": ["10"], "rows_left": 1"#).replace("fill", "revisit");
    let done = add(&mut session, 3, "put_aside", "done", &done)?;
    session.run(&format!(
        r#"INSERT INTO upkeep._backfill_row (job, row_key, relid, state, sqlstate, message)
           VALUES ('{done}', '{{"id": 5}}', 'put_aside'::regclass, 'quarantined', '22012', 'division by zero')"#
    ))?;

    session.run("ALTER EXTENSION pg_upkeep UPDATE")?;
    session.run(&format!("SELECT upkeep.retry('{done}'), upkeep.resume_all()"))?;
    for (job, table, rows) in [(half, "t", 1000), (fresh, "fresh", 1), (done, "put_aside", 10)] {
        wait(&mut session, &job)?;
        let told = describe(&mut session, &job);
        assert_eq!(counts(&mut session, table)?, [format!("1|{rows}")], "{table}: {told}");
        let end = session.text(&format!("SELECT state, rows_left, quarantined FROM upkeep.jobs WHERE id = '{job}'"))?;
        assert_eq!(end, "done|0|0", "{told}");
    }
    Ok(())
}

#[test]
fn explain_sums_up_and_preview_shows_rows_of_the_first_leaves_that_have_some() -> Result<()> {
    let db = testing::database_without_preload()?;
    let mut session = db.connect()?;
    session
        .run("CREATE TABLE t (id int, part int, note text, n int, PRIMARY KEY (id, part)) PARTITION BY LIST (part)")?;
    for part in 1..=30 {
        session.run(&format!("CREATE TABLE t{part} PARTITION OF t FOR VALUES IN ({part})"))?;
    }
    session.run(
        "INSERT INTO t SELECT g, 1 + g % 30, repeat('x', 100) FROM generate_series(1, 30000) g;
         INSERT INTO t SELECT g, 7, repeat('x', 100) FROM generate_series(30001, 40000) g;
         CREATE INDEX on_n ON t7 (n);
         CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
         CREATE TRIGGER tick BEFORE UPDATE ON t FOR EACH ROW EXECUTE FUNCTION f()",
    )?;
    session.run("ANALYZE t")?;
    let explain = |column: &str| format!("SELECT {column} FROM upkeep.explain_backfill('t', 'n = id', 'n IS NULL')");
    assert_eq!(
        session.text(&explain("strategy"))?,
        "30 tables, 20 looked at: blocks, 10 strides in 19; blocks, 5 strides in 1"
    );
    assert_eq!(session.text(&explain("rows_estimate BETWEEN 36000 AND 44000"))?, "t");
    let warnings = session.rows(&explain("unnest(warnings)"))?;
    assert_eq!(warnings.len(), 2, "{warnings:#?}");
    assert!(warnings[0].contains("index on_n"), "{warnings:#?}");
    assert!(warnings[1].starts_with("trigger tick") && warnings[1].contains("20 tables"), "{warnings:#?}");
    let vacuum = "SELECT unnest(warnings) FROM upkeep.explain_backfill('t', 'n = id', 'n IS NULL', options => '{\"vacuum\": true}')";
    assert!(session.rows(vacuum)?.iter().any(|warning| warning.starts_with("VACUUM between ranges gains little")));

    session.run("UPDATE t SET n = 1 WHERE part NOT IN (9, 20)")?;
    let rows = session.rows(
        "SELECT row_key, old_row ->> 'n', new_row ->> 'n' FROM upkeep.preview_backfill('t', 'n = t.part * 2', 'n IS NULL', 1002)",
    )?;
    assert_eq!(rows.len(), 1002);
    let of = |value: &str| rows.iter().filter(|row| row.ends_with(&format!("||{value}"))).count();
    assert_eq!((of("18") + of("40"), of("18").max(of("40"))), (1002, 1000));
    Ok(())
}

/// Full pages, whose rows are all changed at once where there is but one stride: nothing makes room but VACUUM.
fn full_pages(session: &mut Session, rows: i64) -> Result<()> {
    session.run(&format!(
        "CREATE TABLE t (id int PRIMARY KEY, filler text, n int NOT NULL DEFAULT 0) WITH (autovacuum_enabled = off);
         INSERT INTO t SELECT g, repeat('x', 100) FROM generate_series(1, {rows}) g"
    ))?;
    session.run("VACUUM ANALYZE t")
}

#[test]
fn vacuum_between_ranges_keeps_a_table_small_where_strides_cannot() -> Result<()> {
    let db = testing::database()?;
    let mut session = db.connect()?;
    let mut sizes = Vec::new();
    for vacuum in [false, true] {
        full_pages(&mut session, 50_000)?;
        let before: i64 = session.value("SELECT pg_relation_size('t')")?;
        let job = session.text(&format!(
            "SELECT upkeep.backfill('t', 'n = n + 1', options => '{{\"strides\": 1, \"vacuum\": {vacuum}}}')"
        ))?;
        wait(&mut session, &job)?;
        let told = describe(&mut session, &job);
        assert_eq!(counts(&mut session, "t")?, ["1|50000"], "{told}");
        sizes.push(session.value::<i64>("SELECT pg_relation_size('t')")? as f64 / before as f64);
        if vacuum {
            assert_eq!(table_events(&mut session, &job, "vacuum skipped")?.len(), 0, "{told}");
        }
        session.run("DROP TABLE t")?;
    }
    println!("size without VACUUM: {:.2} of before; with: {:.2}", sizes[0], sizes[1]);
    assert!(sizes[1] < 1.4 && sizes[0] > 1.8, "{sizes:?}");
    Ok(())
}

#[test]
fn a_vacuum_that_would_have_to_wait_is_skipped() -> Result<()> {
    let db = testing::database()?;
    let mut session = db.connect()?;
    full_pages(&mut session, 5_000)?;
    let mut holder = db.connect()?;
    holder.run("BEGIN; LOCK TABLE t IN SHARE UPDATE EXCLUSIVE MODE")?;
    let job =
        session.text("SELECT upkeep.backfill('t', 'n = n + 1', options => '{\"strides\": 1, \"vacuum\": true}')")?;
    wait(&mut session, &job)?;
    assert!(!table_events(&mut session, &job, "vacuum skipped")?.is_empty(), "{}", describe(&mut session, &job));
    assert_eq!(counts(&mut session, "t")?, ["1|5000"]);
    Ok(())
}

#[test]
fn a_huge_leaf_gets_all_workers() -> Result<()> {
    let db = testing::database()?;
    let mut session = db.connect()?;
    session.run(GATE)?;
    session.run(
        "CREATE TABLE t (id int, part int, n int NOT NULL DEFAULT 0, PRIMARY KEY (id, part)) PARTITION BY LIST (part);
         CREATE TABLE t1 PARTITION OF t FOR VALUES IN (1);
         CREATE TABLE t2 PARTITION OF t FOR VALUES IN (2);
         INSERT INTO t SELECT g, 1 FROM generate_series(1, 20000) g; INSERT INTO t VALUES (-1, 2);
         INSERT INTO gate SELECT generate_series(1000, 19000, 2000)",
    )?;
    session.run("VACUUM ANALYZE t")?;
    let job =
        session.text("SELECT upkeep.backfill('t', 'n = plus_one(n, id)', workers => 3, batch_time => '20 ms')")?;
    // Whoever comes to a row that holds it does the rest first: in the end each of the three has some, all of them in one leaf.
    wait_until_stuck(&mut session, &job, 3)?;
    assert_eq!(executors_of(&mut session, &job)?.len(), 3);
    session.run("DELETE FROM gate")?;
    wait(&mut session, &job)?;
    assert_eq!(counts(&mut session, "t")?, ["1|20001"], "{}", describe(&mut session, &job));
    Ok(())
}
