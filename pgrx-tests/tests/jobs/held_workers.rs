//! What somebody has locked, and what a job's text leaves behind, keeps no worker: neither from others nor from its end.

use anyhow::{Context, Result};
use upkeep_tests::cluster::{Cluster, PATIENCE, Stop};
use upkeep_tests::jobs::{run_in_background, state, wait, wait_for_state};
use upkeep_tests::schedules::describe;
use upkeep_tests::session::Session;
use upkeep_tests::testing::{self, wait_for_text};
use upkeep_tests::wait::wait_until;

const WORKERS: &str =
    "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'pg_upkeep executor' AND usename = 'mallory'";

/// Two workers; mallory, and alice who has commands.
fn server(name: &str, workers: u32) -> Result<(Cluster, Session, Session, Session)> {
    let server = testing::server(name)
        .preloaded()
        .set("upkeep.max_workers", workers)
        .set("max_prepared_transactions", 5)
        .start()?;
    let mut superuser = server.connect("postgres")?;
    superuser.run(
        "CREATE EXTENSION pg_upkeep; CREATE ROLE mallory LOGIN; CREATE ROLE alice LOGIN; GRANT CREATE ON SCHEMA public TO mallory;
         GRANT EXECUTE ON FUNCTION upkeep.run_in_background TO alice",
    )?;
    let (mallory, alice) = (server.connect_as("postgres", "mallory")?, server.connect_as("postgres", "alice")?);
    Ok((server, superuser, mallory, alice))
}

/// A backfill that takes minutes if it is let, at work with so many workers.
fn slow_backfill(mallory: &mut Session, workers: u32) -> Result<String> {
    mallory.run(
        "CREATE TABLE slow (id int PRIMARY KEY, v int, filler text) WITH (fillfactor = 50);
         INSERT INTO slow SELECT g, NULL, repeat('x', 500) FROM generate_series(1, 20000) g;
         CREATE FUNCTION slowly() RETURNS int LANGUAGE plpgsql AS $$BEGIN PERFORM pg_sleep(0.01); RETURN 1; END$$",
    )?;
    let job =
        mallory.text(&format!("SELECT upkeep.backfill('slow', 'v = slowly()', 'v IS NULL', workers => {workers})"))?;
    wait_for_text(mallory, WORKERS, &workers.to_string())?;
    wait_for_text(mallory, &format!("SELECT rows_done > 0 FROM upkeep.jobs WHERE id = '{job}'"), "t")?;
    Ok(job)
}

/// In a transaction that stays open: locks the job and all of its slots.
fn lock_slots(mallory: &mut Session, job: &str) -> Result<()> {
    mallory.run(&format!("BEGIN; SELECT upkeep.cancel('{job}'); SELECT upkeep.retry('{job}')"))
}

/// Both workers are at it again; gives how often a worker has ended without a word, and in the middle of a step.
fn goes_on(superuser: &mut Session, job: &str) -> Result<String> {
    wait_for_text(superuser, WORKERS, "2")?;
    let slots = format!("FROM upkeep._job_slot WHERE job = '{job}'");
    wait_for_text(superuser, &format!("SELECT bool_and(pid IS NOT NULL) {slots}"), "t")?;
    superuser.text(&format!("SELECT sum(strikes) || ' ' || sum(ends) {slots}"))
}

fn end_all_workers(superuser: &mut Session) -> Result<()> {
    superuser.run("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'pg_upkeep executor'")
}

/// A worker is there for whoever has none.
fn serves(alice: &mut Session, superuser: &mut Session) -> Result<()> {
    let quick = run_in_background(alice, "SELECT 1")?;
    wait_for_state(superuser, &quick, "done").with_context(|| describe(superuser))
}

#[test]
fn locked_slots_keep_no_worker() -> Result<()> {
    let (mut server, mut superuser, mut mallory, mut alice) = server("slots", 2)?;
    let job = slow_backfill(&mut mallory, 2)?;
    lock_slots(&mut mallory, &job)?;
    serves(&mut alice, &mut superuser)?;
    mallory.run("ROLLBACK")?;
    // They have left in good order, though they could not say so then.
    assert_eq!(goes_on(&mut superuser, &job)?, "0 0");
    // Nor do the administrator's settings wait for her.
    lock_slots(&mut mallory, &job)?;
    server.set("upkeep.enabled", "off")?;
    server.reload()?;
    wait_for_text(&mut superuser, WORKERS, "0")?;
    mallory.run("ROLLBACK")?;
    server.set("upkeep.enabled", "on")?;
    server.reload()?;
    assert_eq!(goes_on(&mut superuser, &job)?, "0 0");
    superuser.run(&format!("SELECT upkeep.cancel('{job}')"))
}

#[test]
fn locked_slots_keep_no_worker_from_its_end() -> Result<()> {
    let (mut server, mut superuser, mut mallory, mut alice) = server("ends", 2)?;
    let job = slow_backfill(&mut mallory, 2)?;
    lock_slots(&mut mallory, &job)?;
    end_all_workers(&mut superuser)?;
    wait_for_text(&mut superuser, WORKERS, "0")?;
    serves(&mut alice, &mut superuser)?;
    mallory.run("ROLLBACK")?;
    let ends = goes_on(&mut superuser, &job)?;
    assert!(ends.starts_with("0 "), "{ends}");
    // Nor the server, whoever has the lock. A transaction that has told waiting sessions cannot be prepared: the rows alone.
    superuser.run(&format!(
        "BEGIN; SELECT FROM upkeep._job_slot WHERE job = '{job}' FOR UPDATE; PREPARE TRANSACTION 'hold'"
    ))?;
    server.stop(Stop::Fast)?;
    server.start()?;
    let mut superuser = server.connect_again("postgres")?;
    superuser.run("ROLLBACK PREPARED 'hold'")?;
    wait_for_text(&mut superuser, WORKERS, "2")?;
    superuser.run(&format!("SELECT upkeep.cancel('{job}')"))
}

#[test]
fn the_end_of_a_session_that_may_only_read_is_written_down() -> Result<()> {
    let (_server, mut superuser, _mallory, mut alice) = server("read_only", 2)?;
    superuser.run("GRANT CREATE ON SCHEMA public TO alice; GRANT EXECUTE ON FUNCTION upkeep.schedule TO alice")?;
    alice.run(
        "CREATE PROCEDURE stubborn() LANGUAGE plpgsql AS $$BEGIN
             PERFORM set_config('default_transaction_read_only', 'on', false); COMMIT;
             LOOP BEGIN PERFORM pg_sleep(30); EXCEPTION WHEN query_canceled THEN NULL; END; END LOOP;
         END$$",
    )?;
    alice.run("SELECT upkeep.schedule('catch', '1 second', 'CALL stubborn()', timeout => '1 second')")?;
    wait_for_text(&mut superuser, "SELECT last_status FROM upkeep.schedules WHERE name = 'catch'", "timed out")
}

#[test]
fn temporary_objects_keep_no_worker() -> Result<()> {
    let (_server, mut superuser, mut mallory, mut alice) = server("temporary", 2)?;
    mallory.run(
        "CREATE TABLE z (id int PRIMARY KEY, b int); INSERT INTO z SELECT generate_series(1, 20000);
         CREATE FUNCTION makes() RETURNS int LANGUAGE plpgsql AS $$BEGIN
             IF to_regclass('pg_temp.tt') IS NULL THEN
                 CREATE TEMP TABLE tt (a int);
                 IF to_regclass('public.perm_' || pg_backend_pid()) IS NULL THEN
                     EXECUTE format('CREATE TABLE public.perm_%s (x tt, y int)', pg_backend_pid());
                 END IF;
             END IF;
             PERFORM pg_sleep(0.001); RETURN 1;
         END$$",
    )?;
    mallory.run("SELECT upkeep.backfill('z', 'b = public.makes()', workers => 2)")?;
    let made = "SELECT count(*) FROM pg_class WHERE relname LIKE 'perm\\_%'";
    wait_for_text(&mut superuser, made, "2")?;
    let tables = superuser.text("SELECT string_agg(relname, ', ') FROM pg_class WHERE relname LIKE 'perm\\_%'")?;
    mallory.run(&format!("BEGIN; LOCK TABLE {tables} IN ACCESS SHARE MODE; PREPARE TRANSACTION 'temp'"))?;
    end_all_workers(&mut superuser)?;
    serves(&mut alice, &mut superuser)?;
    superuser.run("ROLLBACK PREPARED 'temp'")?;
    // What depended on them is as it is at the end of a session.
    let left = "SELECT count(*) FROM pg_attribute WHERE attrelid::regclass::text LIKE 'perm\\_%' AND attname = 'x'";
    assert_eq!(superuser.text(left)?, "0");
    Ok(())
}

#[test]
fn temporary_objects_keep_no_command_from_its_end() -> Result<()> {
    let (_server, mut superuser, _mallory, mut alice) = server("temporary_end", 2)?;
    superuser.run("GRANT CREATE ON SCHEMA public TO alice")?;
    alice.run(
        "CREATE PROCEDURE makes(again bool) LANGUAGE plpgsql AS $$BEGIN
             CREATE TEMP TABLE tt (a int); EXECUTE format('CREATE TABLE public.perm_%s (x tt, y int)', again); COMMIT;
             WHILE again LOOP PERFORM pg_sleep(30); END LOOP;
         END$$",
    )?;
    // In the middle of it: a lock that outlives everybody.
    run_in_background(&mut alice, "CALL makes(true)")?;
    wait_for_text(&mut superuser, "SELECT to_regclass('perm_t') IS NOT NULL", "t")?;
    superuser.run("BEGIN; LOCK TABLE perm_t IN ACCESS SHARE MODE; PREPARE TRANSACTION 'temp'")?;
    end_all_workers(&mut superuser)?;
    let of_alice = WORKERS.replace("mallory", "alice");
    wait_for_text(&mut superuser, &of_alice, "0")?;
    superuser.run("ROLLBACK PREPARED 'temp'")?;
    // After it: its objects are gone before the worker is.
    let job = run_in_background(&mut alice, "CALL makes(false)")?;
    wait(&mut alice, &job)?;
    wait_for_text(
        &mut superuser,
        "SELECT string_agg(attname, ',') FROM pg_attribute WHERE attrelid = 'perm_f'::regclass AND attnum > 0 AND NOT attisdropped",
        "y",
    )
}

#[test]
fn a_vacuum_keeps_no_worker_from_others() -> Result<()> {
    let (server, mut superuser, mut mallory, mut alice) = server("vacuum", 2)?;
    let mut reader = server.connect_as("postgres", "mallory")?;
    let mut jobs = Vec::new();
    for table in ["v1", "v2"] {
        mallory.run(&format!(
            "CREATE TABLE {table} (id int PRIMARY KEY, a int, b int) WITH (autovacuum_enabled = off);
             INSERT INTO {table} SELECT g, g FROM generate_series(1, 50000) g"
        ))?;
        mallory.run(&format!("UPDATE {table} SET id = -id"))?;
        mallory.run(&format!("VACUUM (INDEX_CLEANUP off, TRUNCATE off) {table}"))?;
    }
    reader.run("SET enable_seqscan = off; SET enable_bitmapscan = off; BEGIN")?;
    for table in ["v1", "v2"] {
        // A page of the index is pinned.
        reader.run(&format!(
            "DECLARE c_{table} CURSOR FOR SELECT id FROM {table} WHERE id < 0 ORDER BY id; FETCH 1 FROM c_{table}"
        ))?;
        jobs.push(
            mallory.text(&format!("SELECT upkeep.backfill('{table}', 'b = 1', options => '{{\"vacuum\": true}}')"))?,
        );
    }
    let pinned =
        "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'pg_upkeep executor' AND wait_event = 'BufferPin'";
    wait_for_text(&mut superuser, pinned, "2")?;
    serves(&mut alice, &mut superuser)?;
    reader.run("COMMIT")?;
    for job in &jobs {
        wait(&mut mallory, job)?;
        assert_eq!(state(&mut mallory, job)?, "done");
    }
    Ok(())
}

#[test]
fn a_locked_job_is_not_started_again_and_again() -> Result<()> {
    let (server, mut superuser, mut mallory, mut alice) = server("churn", 4)?;
    mallory.run("CREATE TABLE t (id int PRIMARY KEY, b int); INSERT INTO t SELECT generate_series(1, 100000)")?;
    let job = mallory.text("SELECT upkeep.backfill('t', 'b = 9', workers => 60, paused => true)")?;
    mallory.run(&format!("SELECT upkeep.resume('{job}')"))?;
    mallory.run(&format!("BEGIN; SELECT upkeep.alter_job('{job}', batch_time => '1 s')"))?;
    let before = server.log_position();
    // It takes a second and more, and the scheduler looks each time.
    for _ in 0..10 {
        let quick = run_in_background(&mut alice, "SELECT pg_sleep(0.1)")?;
        wait(&mut alice, &quick)?;
    }
    let log = server.log_since(before);
    let given_up = log.matches("due to lock timeout").count();
    assert!(given_up <= 8, "{given_up} workers came for nothing");
    mallory.run("ROLLBACK")?;
    wait_until("the job to end", PATIENCE, || state(&mut superuser, &job).is_ok_and(|state| state == "done"))
}
