//! Nobody keeps all workers, all slots or all room while others wait.

use std::time::Duration;

use anyhow::{Context, Result};
use upkeep_tests::cluster::{Cluster, PATIENCE};
use upkeep_tests::jobs::{
    ENDLESS, executors_of, run_in_background, sqlstate, state, wait, wait_for_error, wait_for_state,
    wait_for_state_within,
};
use upkeep_tests::schedules::{RARELY, describe, schedule, wait_for_runs};
use upkeep_tests::session::Session;
use upkeep_tests::testing::{self, wait_for_text};
use upkeep_tests::wait::wait_until;

const WORKERS_OF: &str =
    "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'pg_upkeep executor' AND usename = ";

/// Four workers, and roles that own tables in `postgres`.
fn server(name: &str) -> Result<(Cluster, Session)> {
    let server = testing::server(name).preloaded().set("upkeep.max_workers", 4).start()?;
    let mut session = server.connect("postgres")?;
    session.run(
        "CREATE EXTENSION pg_upkeep; CREATE ROLE mallory LOGIN; CREATE ROLE alice LOGIN;
         GRANT CREATE ON SCHEMA public TO mallory, alice;
         GRANT EXECUTE ON FUNCTION upkeep.run_in_background, upkeep.schedule TO mallory, alice",
    )?;
    Ok((server, session))
}

fn change(server: &mut Cluster, setting: &str, value: impl ToString) -> Result<()> {
    server.set(setting, value)?;
    server.reload()
}

/// A backfill that takes minutes if it is let, in steps of a page, with so many workers.
fn slow_backfill(session: &mut Session, table: &str, workers: u32) -> Result<String> {
    session.run(&format!(
        "CREATE TABLE {table} (id int PRIMARY KEY, v int, filler text) WITH (fillfactor = 50);
         INSERT INTO {table} SELECT g, NULL, repeat('x', 500) FROM generate_series(1, 20000) g;
         CREATE OR REPLACE FUNCTION slowly() RETURNS int LANGUAGE plpgsql AS
         $$BEGIN PERFORM pg_sleep(0.01); RETURN 1; END$$"
    ))?;
    session.text(&format!("SELECT upkeep.backfill('{table}', 'v = slowly()', 'v IS NULL', workers => {workers})"))
}

fn wait_for_workers(session: &mut Session, role: &str, count: u32) -> Result<()> {
    wait_for_text(session, &format!("{WORKERS_OF}'{role}'"), &count.to_string())
}

#[test]
fn rows_that_never_end_keep_no_worker() -> Result<()> {
    let (mut server, mut superuser) = server("endless_rows")?;
    change(&mut server, "upkeep.max_row_time", "2s")?;
    let mut mallory = server.connect_as("postgres", "mallory")?;
    let mut jobs = Vec::new();
    for table in 1..=4 {
        mallory.run(&format!(
            "CREATE TABLE r{table} (id int PRIMARY KEY, v int); INSERT INTO r{table} VALUES (1, NULL)"
        ))?;
        jobs.push(mallory.text(&format!("SELECT upkeep.backfill('r{table}', 'v = (SELECT 1 FROM pg_sleep(3600))')"))?);
    }
    wait_for_text(
        &mut superuser,
        "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'pg_upkeep executor' AND wait_event = 'PgSleep'",
        "4",
    )?;
    let job = run_in_background(&mut superuser, "SELECT 1")?;
    wait_for_state(&mut superuser, &job, "done")?;
    for job in jobs {
        wait_for_state(&mut superuser, &job, "done")?;
        assert_eq!(
            superuser.text(&format!("SELECT rows_left, quarantined FROM upkeep.jobs WHERE id = '{job}'"))?,
            "1|1"
        );
    }
    assert_eq!(superuser.text("SELECT DISTINCT sqlstate FROM upkeep.quarantined_rows")?, "57014");
    Ok(())
}

#[test]
fn one_endless_row_is_put_aside_and_its_page_is_done() -> Result<()> {
    let (mut server, mut session) = server("one_row")?;
    change(&mut server, "upkeep.max_row_time", "1s")?;
    session.run(
        "CREATE TABLE page (id int PRIMARY KEY, v int); INSERT INTO page SELECT g, NULL FROM generate_series(1, 150) g;
         CREATE FUNCTION hang() RETURNS trigger LANGUAGE plpgsql AS
         $$BEGIN IF NEW.id = 77 THEN PERFORM pg_sleep(3600); END IF; RETURN NEW; END$$;
         CREATE TRIGGER hang BEFORE UPDATE ON page FOR EACH ROW EXECUTE FUNCTION hang()",
    )?;
    for (condition, arguments) in [("NULL", ""), ("'v IS DISTINCT FROM 2'", "")] {
        let value = if condition == "NULL" { 1 } else { 2 };
        let job = session.text(&format!("SELECT upkeep.backfill('page', 'v = {value}', {condition}{arguments})"))?;
        wait_for_state(&mut session, &job, "done")?;
        let left = format!("SELECT rows_done, rows_left, quarantined FROM upkeep.jobs WHERE id = '{job}'");
        assert_eq!(session.text(&left)?, "149|1|1", "{condition}");
        let row = format!("SELECT row_key, sqlstate, message FROM upkeep.quarantined_rows WHERE job = '{job}'");
        assert_eq!(
            session.text(&row)?,
            "{\"id\": 77}|57014|the row takes longer than upkeep.max_row_time (1 s)",
            "{condition}"
        );
        assert_eq!(session.text(&format!("SELECT count(*) FROM page WHERE v = {value}"))?, "149");
    }
    let job = session.text("SELECT upkeep.backfill('page', 'v = 3', on_error => 'stop')")?;
    let error = wait_for_error(&mut session, &job)?;
    assert_eq!(error.code().code(), "57014");
    assert!(error.detail().unwrap_or_default().contains("77"), "{error:?}");
    // One cause never puts a hundred rows aside.
    session.run("ALTER TRIGGER hang ON page RENAME TO hangs; DROP TRIGGER hangs ON page")?;
    session.run(
        "CREATE FUNCTION every() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN PERFORM pg_sleep(3600); RETURN NEW; END$$;
                 CREATE TRIGGER every BEFORE UPDATE ON page FOR EACH ROW EXECUTE FUNCTION every()",
    )?;
    change(&mut server, "upkeep.max_row_time", "50ms")?;
    let job = session.text("SELECT upkeep.backfill('page', 'v = 4')")?;
    let error = wait_for_error(&mut session, &job)?;
    assert!(error.message().starts_with("none of the first 20 rows could be updated"), "{error:?}");
    Ok(())
}

#[test]
fn a_role_gives_workers_up_for_another_and_has_all_when_it_is_alone() -> Result<()> {
    let (server, mut superuser) = server("roles")?;
    let mut mallory = server.connect_as("postgres", "mallory")?;
    let hers = slow_backfill(&mut mallory, "hers", 4)?;
    wait_for_workers(&mut superuser, "mallory", 4)?;
    let mut alice = server.connect_as("postgres", "alice")?;
    alice.run("CREATE TABLE quick AS SELECT g AS id, 0 AS v FROM generate_series(1, 10) g")?;
    let job = alice.text("SELECT upkeep.backfill('quick', 'v = 1', 'v = 0')")?;
    wait_for_state(&mut alice, &job, "done")?;
    wait_for_workers(&mut superuser, "mallory", 4)?;
    // With as much to do as the other one: half and half.
    mallory.run("GRANT EXECUTE ON FUNCTION slowly() TO PUBLIC")?;
    alice.run(
        "CREATE TABLE slow (id int PRIMARY KEY, v int, filler text) WITH (fillfactor = 50);
               INSERT INTO slow SELECT g, NULL, repeat('x', 500) FROM generate_series(1, 20000) g",
    )?;
    let his = alice.text("SELECT upkeep.backfill('slow', 'v = slowly()', 'v IS NULL', workers => 4)")?;
    wait_for_workers(&mut superuser, "alice", 2)?;
    wait_for_workers(&mut superuser, "mallory", 2)?;
    superuser.run(&format!("SELECT upkeep.cancel('{his}')"))?;
    wait_for_workers(&mut superuser, "mallory", 4)?;
    assert_eq!(state(&mut superuser, &hers)?, "running");
    superuser.run(&format!("SELECT upkeep.cancel('{hers}')"))
}

/// One of them keeps its row locked, and another has ended and cannot write that down.
#[test]
fn locks_on_ones_own_jobs_keep_no_worker_from_others() -> Result<()> {
    let (server, mut superuser) = server("own_locks")?;
    let mut mallory = server.connect_as("postgres", "mallory")?;
    let slow = slow_backfill(&mut mallory, "slow", 2)?;
    mallory.run(
        "CREATE FUNCTION fails() RETURNS int LANGUAGE plpgsql AS $$BEGIN PERFORM pg_advisory_xact_lock(1); RAISE 'no'; END$$",
    )?;
    superuser.run("SELECT pg_advisory_lock(1)")?;
    let mut failing = Vec::new();
    for table in ["f1", "f2"] {
        mallory.run(&format!(
            "CREATE TABLE {table} AS SELECT 1 AS id, 0 AS v; ALTER TABLE {table} ADD PRIMARY KEY (id)"
        ))?;
        failing.push(
            mallory.text(&format!("SELECT upkeep.backfill('{table}', 'v = fails()', 'v = 0', on_error => 'stop')"))?,
        );
    }
    let asleep = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted";
    wait_for_text(&mut superuser, asleep, "2")?;
    wait_for_workers(&mut superuser, "mallory", 4)?;
    mallory.run(&format!(
        "BEGIN; SELECT upkeep.alter_job(id, name => 'hers ' || id) FROM upkeep.jobs WHERE id IN ('{slow}', '{}')",
        failing.join("', '")
    ))?;
    superuser.run("SELECT pg_advisory_unlock(1)")?;
    let mut alice = server.connect_as("postgres", "alice")?;
    alice.run("CREATE TABLE quick AS SELECT g AS id, 0 AS v FROM generate_series(1, 10) g")?;
    for value in [1, 2, 3] {
        let job =
            alice.text(&format!("SELECT upkeep.backfill('quick', 'v = {value}', 'v = {value} - 1', workers => 4)"))?;
        wait_for_state(&mut alice, &job, "done").with_context(|| describe(&mut superuser))?;
    }
    mallory.run("COMMIT")?;
    for job in failing {
        assert_eq!(wait_for_error(&mut mallory, &job)?.code().code(), "P0001");
    }
    superuser.run(&format!("SELECT upkeep.cancel('{slow}')"))
}

#[test]
fn a_database_gives_workers_up_for_another() -> Result<()> {
    let (server, mut session) = server("databases")?;
    for name in ["second", "third"] {
        server.create_database(name)?;
        server.connect(name)?.run("CREATE EXTENSION pg_upkeep")?;
    }
    let of = |database: &str| {
        format!(
            "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'pg_upkeep executor' AND datname = '{database}'"
        )
    };
    slow_backfill(&mut session, "first_one", 4)?;
    wait_for_text(&mut session, &of("postgres"), "4")?;
    let (mut second, mut third) = (server.connect("second")?, server.connect("third")?);
    slow_backfill(&mut second, "second_one", 4)?;
    wait_for_text(&mut session, &of("second"), "2")?;
    wait_for_text(&mut session, &of("postgres"), "2")?;
    let job = run_in_background(&mut third, "SELECT 1")?;
    wait(&mut third, &job)?;
    slow_backfill(&mut third, "third_one", 1)?;
    wait_for_text(&mut session, &of("third"), "1")?;
    for session in [&mut session, &mut second, &mut third] {
        session.run("SELECT upkeep.cancel(id) FROM upkeep.jobs WHERE finished_at IS NULL")?;
    }
    Ok(())
}

#[test]
fn one_workers_turn_passes_to_others_when_there_are_more_than_workers() -> Result<()> {
    let (mut server, mut superuser) = server("turns")?;
    change(&mut server, "upkeep.max_workers", 1)?;
    let mut mallory = server.connect_as("postgres", "mallory")?;
    let hers = slow_backfill(&mut mallory, "hers", 1)?;
    wait_for_state(&mut superuser, &hers, "running")?;
    let job = run_in_background(&mut superuser, "SELECT 1")?;
    // A turn is a minute.
    wait_for_state_within(&mut superuser, &job, "done", Duration::from_secs(90))?;
    wait_for_state(&mut superuser, &hers, "running")?;
    superuser.run(&format!("SELECT upkeep.cancel('{hers}')"))
}

#[test]
fn one_roles_commands_leave_a_worker_to_others() -> Result<()> {
    let (server, mut superuser) = server("commands")?;
    let mut mallory = server.connect_as("postgres", "mallory")?;
    for _ in 0..4 {
        run_in_background(&mut mallory, ENDLESS)?;
    }
    wait_for_workers(&mut superuser, "mallory", 3)?;
    let job = run_in_background(&mut server.connect_as("postgres", "alice")?, "SELECT 1")?;
    wait_for_state(&mut superuser, &job, "done")?;
    assert_eq!(superuser.text(&format!("{WORKERS_OF}'mallory'"))?, "3");
    assert_eq!(superuser.text("SELECT count(*) FROM upkeep.jobs WHERE state = 'queued'")?, "1");
    superuser.run("SELECT upkeep.cancel(id) FROM upkeep.jobs WHERE finished_at IS NULL")
}

#[test]
fn a_job_that_is_held_back_gives_its_worker_to_whoever_waits() -> Result<()> {
    let (mut server, mut superuser) = server("held_back")?;
    change(&mut server, "upkeep.max_workers", 1)?;
    // A disk that is never large enough.
    change(&mut server, "upkeep.min_free_disk", "900TB")?;
    superuser.run("CREATE TABLE waits AS SELECT 0 AS v")?;
    let waits = superuser.text("SELECT upkeep.backfill('waits', 'v = 1', 'v = 0')")?;
    wait_for_state(&mut superuser, &waits, "waiting")?;
    let [executor] = executors_of(&mut superuser, &waits)?[..] else { anyhow::bail!("one executor is expected") };
    // Of the same role, too.
    let job = run_in_background(&mut superuser, "SELECT 1")?;
    wait_for_state(&mut superuser, &job, "done")?;
    let reason = format!("SELECT state, wait_reason LIKE '%free on the disk%' FROM upkeep.jobs WHERE id = '{waits}'");
    assert_eq!(superuser.text(&reason)?, "waiting|t");
    // It comes back by itself, and waits again.
    wait_for_state(&mut superuser, &waits, "waiting")?;
    assert_ne!(executors_of(&mut superuser, &waits)?, [executor]);
    change(&mut server, "upkeep.min_free_disk", 0)?;
    wait(&mut superuser, &waits)
}

const SOME_DONE: &str = "count(*) FILTER (WHERE status = 'done') > 1";

#[test]
fn a_backfill_with_all_workers_keeps_nobody_elses_schedule_from_running() -> Result<()> {
    let (server, mut superuser) = server("backfill_schedule")?;
    let mut mallory = server.connect_as("postgres", "mallory")?;
    let hers = slow_backfill(&mut mallory, "hers", 4)?;
    wait_for_workers(&mut superuser, "mallory", 4)?;
    let mut alice = server.connect_as("postgres", "alice")?;
    schedule(&mut alice, "his", "1 second", "SELECT 1")?;
    wait_for_runs(&mut alice, "his", SOME_DONE, "t")?;
    assert_eq!(state(&mut superuser, &hers)?, "running");
    superuser.run(&format!("SELECT upkeep.cancel('{hers}')"))
}

#[test]
fn a_backfill_with_all_workers_keeps_no_schedule_of_another_database_from_running() -> Result<()> {
    let (server, mut session) = server("elsewhere_schedule")?;
    let mut second = server.with_extension("second")?;
    let here = slow_backfill(&mut session, "here", 4)?;
    wait_for_workers(&mut session, "postgres", 4)?;
    schedule(&mut second, "there", "1 second", "SELECT 1")?;
    wait_for_runs(&mut second, "there", SOME_DONE, "t")?;
    assert_eq!(state(&mut session, &here)?, "running", "it has not ended meanwhile");
    session.run("SELECT upkeep.cancel(id) FROM upkeep.jobs WHERE finished_at IS NULL")
}

#[test]
fn hundreds_of_due_schedules_of_one_role_keep_nobody_elses_from_running() -> Result<()> {
    let (server, mut superuser) = server("crowded_schedules")?;
    let mut mallory = server.connect_as("postgres", "mallory")?;
    mallory.run(&format!(
        "SELECT upkeep.schedule('s' || i, '{RARELY}', 'SELECT pg_sleep(3600)') FROM generate_series(1, 300) i"
    ))?;
    // All of them are more overdue than anybody else's will ever be.
    superuser.run(
        "UPDATE upkeep._schedule SET next_run = now() - interval '30 seconds';
         SELECT upkeep.cancel(upkeep.run_in_background('SELECT 1'))",
    )?;
    wait_for_workers(&mut superuser, "mallory", 3)?;
    let mut alice = server.connect_as("postgres", "alice")?;
    schedule(&mut alice, "his", "1 second", "SELECT 1")?;
    wait_for_runs(&mut alice, "his", SOME_DONE, "t")?;
    // As many as could ever be at work are jobs; the others wait where they are, neither lost nor missed.
    let hers = "SELECT (SELECT string_agg(state, ' ' ORDER BY state DESC) FROM upkeep.jobs WHERE owner = 'mallory'),
                       (SELECT count(*) FROM upkeep.schedules WHERE owner = 'mallory' AND next_run <= now()),
                       (SELECT count(*) FROM upkeep.schedule_runs WHERE name <> 'his' AND status IN ('missed', 'skipped'))";
    assert_eq!(superuser.text(hers)?, "running running running queued|296|0");
    superuser.run("SELECT upkeep.pause_all(); SELECT upkeep.cancel(id) FROM upkeep.jobs WHERE finished_at IS NULL")
}

#[test]
fn runs_of_one_roles_schedules_are_bounded_whatever_they_wait_for() -> Result<()> {
    let (mut server, mut superuser) = server("bounded_runs")?;
    change(&mut server, "upkeep.max_jobs_per_role", 6)?;
    let mut mallory = server.connect_as("postgres", "mallory")?;
    mallory.run(&format!(
        "SELECT upkeep.schedule('s' || i, '{RARELY}', 'SELECT 1 / 0', retries => 9, retry_backoff => '1 hour') \
         FROM generate_series(1, 20) i"
    ))?;
    let run_now = "SELECT upkeep.run_now('s20')";
    superuser.run(
        "GRANT EXECUTE ON FUNCTION upkeep.run_now(text) TO mallory;
         UPDATE upkeep._schedule SET next_run = now() - interval '1 second' - interval '1 ms' * substr(name, 2)::int;
         SELECT upkeep.cancel(upkeep.run_in_background('SELECT 1'))",
    )?;
    let tried = "SELECT count(*) FROM upkeep.schedule_runs WHERE status = 'queued' AND attempt = 2";
    wait_for_text(&mut superuser, tried, "6").with_context(|| describe(&mut superuser))?;
    let job = run_in_background(&mut superuser, "SELECT 1")?;
    wait(&mut superuser, &job)?;
    assert_eq!(superuser.text("SELECT count(*) FROM upkeep.jobs WHERE owner = 'mallory'")?, "6");
    assert_eq!(sqlstate(&mut mallory, "SELECT upkeep.run_now('s1')")?, "53400");
    assert_eq!(sqlstate(&mut mallory, run_now)?, "55006", "of this one there is a run");
    // One that ends makes room for the next.
    superuser.run("SELECT upkeep.cancel(id) FROM upkeep.jobs WHERE owner = 'mallory' LIMIT 1")?;
    let job = run_in_background(&mut superuser, "SELECT 1")?;
    wait(&mut superuser, &job)?;
    wait_for_text(&mut superuser, tried, "6").with_context(|| describe(&mut superuser))
}

#[test]
fn a_run_that_waits_for_a_worker_is_a_job_that_is_queued() -> Result<()> {
    let (mut server, mut superuser) = server("queued_run")?;
    change(&mut server, "upkeep.max_workers", 1)?;
    schedule(&mut superuser, "waits", "1 second", "SELECT 1")?;
    wait_for_runs(&mut superuser, "waits", SOME_DONE, "t")?;
    let blocker = run_in_background(&mut superuser, ENDLESS)?;
    wait_for_state(&mut superuser, &blocker, "running")?;
    wait_for_runs(&mut superuser, "waits", "count(*) FILTER (WHERE status = 'queued')", "1")?;
    // Further due times are skipped; how the last one that was started went is still to be seen.
    wait_for_runs(&mut superuser, "waits", "count(*) FILTER (WHERE status = 'skipped') > 0", "t")?;
    assert_eq!(superuser.text("SELECT last_status, last_run IS NOT NULL FROM upkeep.schedules")?, "done|t");
    let job = superuser.text("SELECT job FROM upkeep.schedule_runs WHERE status = 'queued'")?;
    assert_eq!(state(&mut superuser, &job)?, "queued");
    // It is made, and a pause does not take it back: that is said, and what does.
    superuser.notices();
    superuser.run("SELECT upkeep.alter_schedule('waits', paused => true)")?;
    let [notice] = &superuser.notices()[..] else { anyhow::bail!("one notice is expected") };
    assert_eq!(notice.hint(), Some(&*format!("SELECT upkeep.cancel('{job}');")));
    superuser.run(&format!("SELECT upkeep.cancel('{blocker}')"))?;
    wait_for_state(&mut superuser, &job, "done")
}

#[test]
fn two_sessions_are_not_both_the_last_one() -> Result<()> {
    let server =
        testing::server("count").set("upkeep.max_jobs_per_role", 2).set("max_prepared_transactions", 2).start()?;
    let mut one = server.connect("postgres")?;
    one.run("CREATE EXTENSION pg_upkeep")?;
    run_in_background(&mut one, "SELECT 1")?;
    let mut other = server.connect("postgres")?;
    let create = "SELECT upkeep.run_in_background('SELECT 1')";
    one.run("BEGIN")?;
    run_in_background(&mut one, "SELECT 1")?;
    assert_eq!(sqlstate(&mut other, create)?, "53400", "nobody waits, and nobody is one too many");
    // An error is told before its transaction is at its end; until then it counts.
    other.run("SELECT 1")?;
    one.run("ROLLBACK")?;
    one.run("BEGIN; SAVEPOINT s")?;
    run_in_background(&mut one, "SELECT 1")?;
    one.run("ROLLBACK TO s")?;
    other.run("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM upkeep.jobs")?;
    one.run(create)?;
    one.run("COMMIT")?;
    assert_eq!(sqlstate(&mut other, create)?, "53400", "an old snapshot hides none");
    other.run("ROLLBACK")?;
    one.run("SELECT upkeep.cancel(id) FROM upkeep.jobs WHERE finished_at IS NULL LIMIT 1")?;
    one.run(&format!("BEGIN; {create}"))?;
    one.run("PREPARE TRANSACTION 'x'")?;
    assert_eq!(sqlstate(&mut one, create)?, "53400", "a prepared one counts");
    one.run("ROLLBACK PREPARED 'x'")?;
    one.run(create)?;
    Ok(())
}

#[test]
fn what_one_role_leaves_behind_is_bounded() -> Result<()> {
    let server = testing::server("bounds")
        .preloaded()
        .set("upkeep.max_jobs_per_role", 5)
        .set("upkeep.job_retention", -1)
        .start()?;
    let mut session = server.connect("postgres")?;
    session.run("CREATE EXTENSION pg_upkeep")?;
    let first = run_in_background(&mut session, "SELECT 1")?;
    wait(&mut session, &first)?;
    let jobs = "SELECT count(*) FROM upkeep.jobs WHERE finished_at IS NOT NULL";
    // One that somebody has locked is passed over.
    let mut holder = server.connect("postgres")?;
    holder.run(&format!("BEGIN; SELECT id FROM upkeep._job WHERE id = '{first}' FOR UPDATE"))?;
    session.run(
        "DO $$BEGIN FOR i IN 1..150 LOOP PERFORM upkeep.cancel(upkeep.run_in_background('SELECT 1')); END LOOP; END$$",
    )?;
    let job = run_in_background(&mut session, "SELECT 1")?;
    wait(&mut session, &job)?;
    wait_until("the oldest to go", PATIENCE, || {
        session.text(jobs).is_ok_and(|count| count == "101" || count == "100")
    })?;
    assert_eq!(state(&mut session, &first)?, "done");
    holder.run("ROLLBACK")?;
    let job = run_in_background(&mut session, "SELECT 1")?;
    wait(&mut session, &job)?;
    wait_for_text(&mut session, &format!("SELECT count(*) FROM upkeep.jobs WHERE id = '{first}'"), "0")?;
    wait_until("a hundred to be left", PATIENCE, || {
        session.text(jobs).is_ok_and(|count| count == "100" || count == "101")
    })?;

    let job = session.text("SELECT upkeep.run_in_background('SELECT pg_sleep(3600)', 'events')")?;
    session.run(&format!(
        "DO $$BEGIN FOR i IN 1..1500 LOOP PERFORM upkeep.alter_job('{job}', name => 'n' || i); END LOOP; END$$"
    ))?;
    let events = format!(
        "SELECT count(*) <= 1000, min(event) FILTER (WHERE n = 1), max(detail) FILTER (WHERE n = c)
        FROM (SELECT *, row_number() OVER (ORDER BY happened_at) n, count(*) OVER () c
              FROM upkeep.job_events WHERE job = '{job}' AND event <> 'started') e"
    );
    assert_eq!(session.text(&events)?, "t|queued|name n1500");
    session.run(&format!("SELECT upkeep.cancel('{job}')"))
}

#[test]
fn texts_of_jobs_and_schedules_are_of_bounded_length() -> Result<()> {
    let db = testing::database()?;
    let mut session = db.connect()?;
    session.run("CREATE TABLE t (id int PRIMARY KEY, n text); SELECT upkeep.schedule('short', '1 hour', 'SELECT 1', paused => true)")?;
    let long = "'SELECT 1 /*' || repeat('x', 1 << 20) || '*/'";
    for sql in [
        format!("SELECT upkeep.run_in_background({long})"),
        format!("SELECT upkeep.schedule('long', '1 hour', {long})"),
        "SELECT upkeep.schedule('long', '1 hour' || repeat(' ', 1 << 20), 'SELECT 1')".to_owned(),
        format!("SELECT upkeep.alter_schedule('short', command => {long})"),
        "SELECT upkeep.alter_schedule('short', schedule => '1 hour' || repeat(' ', 1 << 20))".to_owned(),
        "SELECT upkeep.backfill('t', 'n = ''' || repeat('x', 1 << 20) || '''')".to_owned(),
    ] {
        assert_eq!(sqlstate(&mut session, &sql)?, "54000", "{sql}");
    }
    let longest = "'SELECT 1 /*' || repeat('x', (1 << 20) - 13) || '*/'";
    session.run(&format!("SELECT upkeep.schedule('longest', '1 hour', {longest}, paused => true)"))?;
    // Settings are kept with a job: what its text means.
    session.run("SELECT set_config('search_path', 'public' || repeat(', public', 150000), false)")?;
    assert_eq!(sqlstate(&mut session, "SELECT upkeep.run_in_background('SELECT 1')")?, "54000");
    Ok(())
}
