//! Limits that the text of a job cannot put off: what catches its cancel, what runs at the commit, what is tried in vain.

use std::time::Duration;

use anyhow::{Context, Result};
use upkeep_tests::cluster::{Cluster, PATIENCE};
use upkeep_tests::jobs::{
    describe, executors_of, run_in_background, state, wait, wait_for_error, wait_for_state, wait_for_state_within,
    wait_until_asleep, wait_until_nobody_works_on,
};
use upkeep_tests::schedules::{RARELY, run_now, schedule_with};
use upkeep_tests::session::Session;
use upkeep_tests::testing::{self, wait_for_text};
use upkeep_tests::wait::wait_until;

/// A trigger that does not end, and goes on when it is canceled.
const STUBBORN: &str = "CREATE FUNCTION stubborn() RETURNS trigger LANGUAGE plpgsql AS
    $$BEGIN LOOP BEGIN PERFORM pg_sleep(3600); EXCEPTION WHEN query_canceled THEN NULL; END; END LOOP; END$$";

/// A server of one's own, where a step may take 31 s.
fn hasty_server(name: &str) -> Result<(Cluster, Session)> {
    let server = testing::server(name).preloaded().set("upkeep.max_workers", 4).set("upkeep.max_row_time", "1s");
    let server = server.start()?;
    let mut session = server.connect("postgres")?;
    session.run("CREATE EXTENSION pg_upkeep")?;
    Ok((server, session))
}

fn tries(session: &mut Session, job: &str, what: &str) -> Result<i32> {
    session
        .value(&format!("SELECT coalesce(max((tries ->> '{what}')::int), 0) FROM upkeep._job_slot WHERE job = '{job}'"))
}

/// Events of a job in their order, but for those of its strategy.
fn story(session: &mut Session, job: &str) -> Result<Vec<String>> {
    session.values(&format!(
        "SELECT event FROM upkeep.job_events WHERE job = '{job}' AND event IN ('waiting', 'resumed', 'interrupted', 'strike', 'done')
         ORDER BY happened_at"
    ))
}

#[test]
fn text_that_catches_its_limit_keeps_no_worker() -> Result<()> {
    let (_server, mut session) = hasty_server("stubborn")?;
    session.run(STUBBORN)?;
    let mut jobs = Vec::new();
    for table in 1..=4 {
        session.run(&format!(
            "CREATE TABLE r{table} (id int PRIMARY KEY, v int); INSERT INTO r{table} VALUES (1, NULL);
             CREATE TRIGGER t BEFORE UPDATE ON r{table} FOR EACH ROW EXECUTE FUNCTION stubborn()"
        ))?;
        jobs.push(session.text(&format!("SELECT upkeep.backfill('r{table}', 'v = 1')"))?);
    }
    for job in &jobs {
        wait_until_asleep(&mut session, job)?;
    }
    // Three of them have been at it twice.
    session.run(&format!("UPDATE upkeep._job_slot SET tries = '{{\"slow\": 2}}' WHERE job <> '{}'", jobs[0]))?;
    let job = run_in_background(&mut session, "SELECT 1")?;
    wait_for_state_within(&mut session, &job, "done", 2 * PATIENCE)?;
    for job in &jobs[1..] {
        let error = wait_for_error(&mut session, job)?;
        assert_eq!(error.code().code(), "57014");
        assert!(error.message().contains("did not end when it was canceled, 3 times in a row"), "{}", error.message());
    }
    wait_until("the first to be counted", PATIENCE, || {
        tries(&mut session, &jobs[0], "slow").is_ok_and(|slow| slow == 1)
    })
    .with_context(|| describe(&mut session, &jobs[0]))?;
    wait_until("a word about it", PATIENCE, || {
        let told =
            "SELECT count(*) > 0 FROM upkeep.job_events WHERE event = 'interrupted' AND detail LIKE '%at its limit%'";
        session.text(told).is_ok_and(|told| told == "t")
    })?;
    assert_eq!(session.text("SELECT max(strikes) FROM upkeep._job_slot")?, "0");
    // Once it is put right, it works.
    session.run("CREATE OR REPLACE FUNCTION stubborn() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'")?;
    session.run(&format!("SELECT upkeep.retry('{}')", jobs[1]))?;
    wait(&mut session, &jobs[1])?;
    assert_eq!(tries(&mut session, &jobs[1], "slow")?, 0);
    wait(&mut session, &jobs[0])
}

#[test]
fn text_that_catches_its_cancel_is_ended() -> Result<()> {
    let db = testing::database()?;
    let mut session = db.connect()?;
    session.run(STUBBORN)?;
    session.run(
        "CREATE TABLE t (id int PRIMARY KEY, v int); INSERT INTO t VALUES (1, NULL);
         CREATE TRIGGER t BEFORE UPDATE ON t FOR EACH ROW EXECUTE FUNCTION stubborn()",
    )?;
    for sql in ["SELECT upkeep.backfill('t', 'v = 1')", "SELECT upkeep.run_in_background('UPDATE t SET v = 2')"] {
        let job = session.text(sql)?;
        wait_until_asleep(&mut session, &job)?;
        session.run(&format!("SELECT upkeep.cancel('{job}')"))?;
        wait_until_nobody_works_on(&mut session, &job).with_context(|| describe(&mut session, &job))?;
        assert_eq!(state(&mut session, &job)?, "canceled");
    }
    assert_eq!(session.text("SELECT v IS NULL FROM t")?, "t");
    Ok(())
}

#[test]
fn a_schedules_timeout_ends_what_catches_it() -> Result<()> {
    let db = testing::database()?;
    let mut session = db.connect()?;
    session.run(
        "CREATE TABLE tries (n int);
         CREATE PROCEDURE stubborn() LANGUAGE plpgsql AS
         $$BEGIN INSERT INTO tries VALUES (1); COMMIT;
                 LOOP BEGIN PERFORM pg_sleep(3600); EXCEPTION WHEN query_canceled THEN NULL; END; END LOOP; END$$",
    )?;
    schedule_with(
        &mut session,
        "s",
        RARELY,
        "CALL stubborn()",
        "timeout => '200 ms', retries => 1, retry_backoff => '0'",
    )?;
    assert_eq!(run_now(&mut session, "s")?, "timed out|2|0|the command was canceled after its timeout of 0.2 s");
    assert_eq!(session.text("SELECT count(*) FROM tries")?, "2");
    Ok(())
}

#[test]
fn what_a_trigger_defers_is_its_rows_error() -> Result<()> {
    let (_server, mut session) = hasty_server("deferred")?;
    // Whatever was said before the batch, the trigger has the last word.
    session.run(
        "CREATE TABLE page (id int PRIMARY KEY, v int); INSERT INTO page SELECT g, NULL FROM generate_series(1, 100) g;
         CREATE FUNCTION defer() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN SET CONSTRAINTS ALL DEFERRED; RETURN NEW; END$$;
         CREATE TRIGGER a BEFORE UPDATE ON page FOR EACH ROW EXECUTE FUNCTION defer();
         CREATE FUNCTION judge() RETURNS trigger LANGUAGE plpgsql AS
         $$BEGIN
             IF NEW.id = 33 THEN RAISE 'not this one'; END IF;
             IF NEW.id = 66 THEN PERFORM pg_sleep(3600); END IF;
             RETURN NULL;
           END$$;
         CREATE CONSTRAINT TRIGGER b AFTER UPDATE ON page DEFERRABLE INITIALLY DEFERRED
             FOR EACH ROW EXECUTE FUNCTION judge()",
    )?;
    let job = session.text("SELECT upkeep.backfill('page', 'v = 1')")?;
    wait_for_state(&mut session, &job, "done")?;
    let rows = "SELECT row_key, sqlstate FROM upkeep.quarantined_rows ORDER BY sqlstate";
    assert_eq!(session.rows(rows)?, ["{\"id\": 66}|57014", "{\"id\": 33}|P0001"]);
    assert_eq!(session.text("SELECT count(*) FROM page WHERE v = 1")?, "98");
    Ok(())
}

/// What defers itself again and again is left to the commit in the end.
#[test]
fn a_commit_that_does_not_end_is_counted_whoever_tries_it() -> Result<()> {
    let (_server, mut session) = hasty_server("commit")?;
    session.run(
        "CREATE TABLE echo (n int);
         CREATE FUNCTION call() RETURNS trigger LANGUAGE plpgsql AS
         $$BEGIN SET CONSTRAINTS ALL DEFERRED; PERFORM pg_sleep(0.05); INSERT INTO echo VALUES (1); RETURN NULL; END$$;
         CREATE CONSTRAINT TRIGGER again AFTER INSERT ON echo DEFERRABLE INITIALLY DEFERRED
             FOR EACH ROW EXECUTE FUNCTION call();
         CREATE TABLE t (id int PRIMARY KEY, v int); INSERT INTO t VALUES (1, NULL);
         CREATE CONSTRAINT TRIGGER first AFTER UPDATE ON t DEFERRABLE INITIALLY DEFERRED
             FOR EACH ROW EXECUTE FUNCTION call()",
    )?;
    let job = session.text("SELECT upkeep.backfill('t', 'v = 1')")?;
    let slow = |session: &mut Session| tries(session, &job, "slow");
    wait_until("the first try to be ended", 2 * PATIENCE, || slow(&mut session).is_ok_and(|slow| slow == 1))
        .with_context(|| describe(&mut session, &job))?;
    // Another worker takes over; the second try was like the first.
    session.run(&format!("UPDATE upkeep._job_slot SET tries = tries || '{{\"slow\": 2}}' WHERE job = '{job}'"))?;
    for executor in executors_of(&mut session, &job)? {
        session.run(&format!("SELECT pg_terminate_backend({executor}, 10000)"))?;
    }
    let error = wait_for_error(&mut session, &job)?;
    assert_eq!(error.code().code(), "57014");
    assert_eq!(error.message(), "a step of the job takes longer than upkeep.max_row_time allows");
    assert_eq!(session.text("SELECT count(*) FROM echo")?, "0");
    Ok(())
}

#[test]
fn tries_in_vain_are_counted_on_and_told_when_their_reason_changes() -> Result<()> {
    let db = testing::database()?;
    let mut session = db.connect()?;
    let raise = |sqlstate: &str| {
        format!(
            "CREATE OR REPLACE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
             $$BEGIN RAISE 'not now' USING ERRCODE = '{sqlstate}'; END$$"
        )
    };
    session.run(&raise("40001"))?;
    session.run(
        "CREATE TABLE t (id int PRIMARY KEY, v int); INSERT INTO t VALUES (1, NULL);
         CREATE TRIGGER t BEFORE UPDATE ON t FOR EACH ROW EXECUTE FUNCTION refuse()",
    )?;
    let job = session.text("SELECT upkeep.backfill('t', 'v = 1')")?;
    let reached = |session: &mut Session, what: &str, count: i32| {
        wait_until(&format!("{count} tries"), PATIENCE, || tries(session, &job, what).is_ok_and(|tries| tries >= count))
            .with_context(|| describe(session, &job))
    };
    reached(&mut session, "contention", 3)?;
    let before = tries(&mut session, &job, "contention")?;
    let [executor] = executors_of(&mut session, &job)?[..] else { anyhow::bail!("one executor is expected") };
    session.run(&format!("SELECT pg_terminate_backend({executor}, 10000)"))?;
    wait_until("another executor", PATIENCE, || {
        executors_of(&mut session, &job).is_ok_and(|now| !now.is_empty() && now != [executor])
    })?;
    assert!(tries(&mut session, &job, "contention")? >= before);
    reached(&mut session, "contention", before + 2)?;
    assert_eq!(story(&mut session, &job)?, ["waiting"], "the next worker tells nothing new");
    session.run(&raise("53100"))?;
    reached(&mut session, "resources", 2)?;
    assert_eq!(story(&mut session, &job)?, ["waiting", "waiting"]);
    session.run("CREATE OR REPLACE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'")?;
    wait(&mut session, &job)?;
    assert_eq!(story(&mut session, &job)?, ["waiting", "waiting", "resumed", "done"]);
    assert_eq!(tries(&mut session, &job, "contention")? + tries(&mut session, &job, "resources")?, 0);
    Ok(())
}

#[test]
fn what_a_step_sets_is_not_set_in_the_next() -> Result<()> {
    let db = testing::database()?;
    let mut session = db.connect()?;
    // Slow rows, one a page, so that there are many steps. What echoes, sets at the commit.
    session.run(
        "CREATE TABLE t (id int PRIMARY KEY, v int, seen text, pid int, filler text) WITH (fillfactor = 10);
         ALTER TABLE t ALTER filler SET STORAGE plain;
         INSERT INTO t SELECT g, NULL, NULL, NULL, repeat('x', 3000) FROM generate_series(1, 60) g;
         CREATE FUNCTION spoil() RETURNS void LANGUAGE plpgsql AS
         $$BEGIN
             SET default_transaction_read_only = on; SET work_mem = '4321kB'; SET lock_timeout = 0; SET search_path = nowhere;
             SET TimeZone = 'Asia/Tokyo'; PERFORM pg_catalog.set_config('odd.one', 'odd', false);
           END$$;
         CREATE FUNCTION notes() RETURNS trigger LANGUAGE plpgsql AS
         $$BEGIN
             NEW.seen = pg_catalog.concat_ws(' ', current_setting('default_transaction_read_only'), current_setting('work_mem'),
                 current_setting('lock_timeout'), current_setting('search_path'), current_setting('TimeZone'),
                 nullif(current_setting('odd.one', true), ''));
             NEW.pid = pg_catalog.pg_backend_pid();
             PERFORM public.spoil(), pg_catalog.pg_sleep(0.005);
             RETURN NEW;
           END$$;
         CREATE TRIGGER t BEFORE UPDATE ON t FOR EACH ROW EXECUTE FUNCTION notes();
         CREATE TABLE echo (n int);
         CREATE FUNCTION call() RETURNS trigger LANGUAGE plpgsql AS
         $$BEGIN
             SET CONSTRAINTS ALL DEFERRED;
             IF TG_RELID = 'public.t'::pg_catalog.regclass THEN INSERT INTO public.echo VALUES (1);
             ELSIF NEW.n < 9 THEN INSERT INTO public.echo VALUES (NEW.n + 1);
             ELSE PERFORM public.spoil(); END IF;
             RETURN NULL;
           END$$;
         CREATE CONSTRAINT TRIGGER again AFTER INSERT ON echo DEFERRABLE INITIALLY DEFERRED
             FOR EACH ROW EXECUTE FUNCTION call();
         CREATE CONSTRAINT TRIGGER first AFTER UPDATE ON t DEFERRABLE INITIALLY DEFERRED
             FOR EACH ROW EXECUTE FUNCTION call()",
    )?;
    session.run("SET TimeZone = 'UTC'")?;
    let job = session.text("SELECT upkeep.backfill('t', 'v = 1', batch_time => '10 ms')")?;
    wait(&mut session, &job)?;
    assert_eq!(story(&mut session, &job)?, ["done"]);
    let seen = "SELECT count(DISTINCT pid), count(DISTINCT xmin::text) > 3,
                       count(DISTINCT xmin::text) = count(DISTINCT xmin::text) FILTER (WHERE seen LIKE 'off %100ms % UTC'
                           AND seen NOT LIKE '%4321%' AND seen NOT LIKE '%nowhere%') FROM t";
    assert_eq!(session.text(seen)?, "1|t|t", "{:?}", session.rows("SELECT DISTINCT xmin, seen FROM t"));
    assert_eq!(session.text("SELECT count(*) FROM echo")?, "540");
    Ok(())
}

#[test]
fn workers_that_the_settings_have_no_place_for_leave() -> Result<()> {
    let mut server = testing::server("place").preloaded().set("upkeep.max_workers", 4).start()?;
    let mut session = server.connect("postgres")?;
    session.run(
        "CREATE EXTENSION pg_upkeep;
         CREATE TABLE t (id int PRIMARY KEY, v int, filler text) WITH (fillfactor = 50);
         INSERT INTO t SELECT g, NULL, repeat('x', 500) FROM generate_series(1, 20000) g;
         CREATE FUNCTION slowly() RETURNS int LANGUAGE plpgsql AS $$BEGIN PERFORM pg_sleep(0.01); RETURN 1; END$$",
    )?;
    let job = session.text("SELECT upkeep.backfill('t', 'v = slowly()', 'v IS NULL', workers => 4)")?;
    let workers = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'pg_upkeep executor'";
    let shown = format!("SELECT state, wait_reason FROM upkeep.jobs WHERE id = '{job}'");
    let mut change = |setting: &str, value: &str| -> Result<()> {
        server.set(setting, value)?;
        server.reload()
    };
    wait_for_text(&mut session, workers, "4")?;
    wait_for_text(&mut session, "SELECT count(pid) FROM upkeep._job_slot", "4")?;
    let begun = "SELECT count(*) FROM upkeep.job_events WHERE event = 'started'";
    assert_eq!(session.text(begun)?, "1", "told once, however many workers begin with it");
    change("upkeep.max_workers", "2")?;
    wait_for_text(&mut session, workers, "2")?;
    change("upkeep.databases", "elsewhere")?;
    wait_for_text(&mut session, workers, "0")?;
    assert_eq!(session.text(&shown)?, "queued|waits, because upkeep.databases does not list this database");
    change("upkeep.databases", "postgres")?;
    wait_for_text(&mut session, workers, "2")?;
    change("upkeep.max_workers", "0")?;
    wait_for_text(&mut session, workers, "0")?;
    change("upkeep.max_workers", "4")?;
    wait_for_text(&mut session, workers, "4")?;
    assert_eq!(session.text("SELECT max(strikes), max(ends) FROM upkeep._job_slot")?, "0|0");
    session.run(&format!("SELECT upkeep.cancel('{job}')"))?;
    wait_until("all to leave", Duration::from_secs(20), || session.text(workers).is_ok_and(|count| count == "0"))
}
