//! Schedules end to end: what runs, as whom, what is noted, and what people can do about it.

use anyhow::Result;
use upkeep_tests::jobs::{
    ENDLESS, sqlstate, top_level_commands_run, wait, wait_for_error, wait_for_state, wait_until_asleep,
};
use upkeep_tests::schedules::{
    RARELY, describe, run_now, schedule, schedule_with, statuses, wait_for_runs, wait_until_ended,
};
use upkeep_tests::session::Session;
use upkeep_tests::testing::{self, wait_for_text};

#[test]
fn an_interval_runs_again_and_again() -> Result<()> {
    let db = testing::database()?;
    let mut session = db.connect()?;
    session.run("CREATE TABLE t (n int)")?;
    schedule(&mut session, "tick", "1 second", "INSERT INTO t SELECT generate_series(1, 2)")?;
    wait_for_runs(&mut session, "tick", "count(*) FILTER (WHERE status = 'done') >= 3", "t")?;
    session.run("SELECT upkeep.alter_schedule('tick', paused => true)")?;
    wait_for_runs(&mut session, "tick", "count(*) FILTER (WHERE finished_at IS NULL)", "0")?;
    let agree =
        "SELECT (SELECT count(*) FROM t) = sum(rows) AND sum(rows) = 2 * count(*) FILTER (WHERE status = 'done')
                   FROM upkeep.schedule_runs";
    assert_eq!(session.text(agree)?, "t", "{}", describe(&mut session));
    // Due times are anchored: exactly whole seconds apart, never twice, started when they were due or later.
    let anchored = "SELECT bool_and(extract(microseconds FROM due_at - first)::bigint % 1000000 = 0), count(*) = count(DISTINCT due_at),
                           bool_and(started_at >= due_at)
                      FROM (SELECT due_at, started_at, min(due_at) OVER () AS first FROM upkeep.schedule_runs WHERE status = 'done') r";
    assert_eq!(session.text(anchored)?, "t|t|t", "{}", describe(&mut session));
    let shown =
        "SELECT owner, active, paused_reason, next_run, last_status, last_run IS NOT NULL FROM upkeep.schedules";
    assert_eq!(session.text(shown)?, "postgres|f|paused||done|t");
    Ok(())
}

#[test]
fn a_pattern_is_due_at_its_minute() -> Result<()> {
    let db = testing::database()?;
    let mut session = db.connect()?;
    session.run("CREATE TABLE t (n int)")?;
    let id = schedule(&mut session, "every minute", "* * * * *", "INSERT INTO t VALUES (1)")?;
    // Not to wait for a whole minute: as if it had been made a minute ago.
    session.run(&format!(
        "UPDATE upkeep._schedule SET next_run = date_trunc('minute', now()) WHERE id = '{id}';
         SELECT upkeep.alter_schedule('every minute', retries => 0)"
    ))?;
    wait_for_runs(&mut session, "every minute", "count(*) FILTER (WHERE status IN ('done', 'missed')) > 0", "t")?;
    let next = "SELECT next_run = date_trunc('minute', next_run) AND next_run > now() - interval '1 minute'
                       AND next_run <= now() + interval '1 minute' FROM upkeep.schedules";
    assert_eq!(session.text(next)?, "t", "{}", describe(&mut session));
    Ok(())
}

#[test]
fn a_run_is_its_creators_with_his_settings() -> Result<()> {
    let db = testing::database()?;
    let role = db.role("author")?;
    let mut admin = db.connect()?;
    admin.run(&format!(
        "GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA upkeep TO {role}; CREATE SCHEMA \"Über die\" AUTHORIZATION {role}"
    ))?;
    let mut author = db.connect_as(&role)?;
    author.run(
        "SET search_path = \"Über die\", public; SET TimeZone = 'Pacific/Marquesas'; SET DateStyle = 'German';
         CREATE TABLE \"Über die\".seen (who name, login name, path text, zone text, style text, written text)",
    )?;
    schedule(
        &mut author,
        "look",
        RARELY,
        "INSERT INTO seen SELECT current_user, session_user, current_setting('search_path'),
           current_setting('TimeZone'), current_setting('DateStyle'), '2026-02-01'::date",
    )?;
    assert_eq!(author.text("SELECT timezone FROM upkeep.schedules")?, "Pacific/Marquesas");
    author.run("RESET search_path; RESET TimeZone; RESET DateStyle")?;
    let ended = run_now(&mut admin, "look")?;
    assert_eq!(ended, "done|1|1|", "set off by a superuser, run as its owner");
    let seen = author.text("SELECT * FROM \"Über die\".seen")?;
    assert_eq!(seen, format!("{role}|{role}|\"Über die\", public|Pacific/Marquesas|German, DMY|01.02.2026"));
    Ok(())
}

#[test]
fn commands_that_refuse_a_transaction_block_run() -> Result<()> {
    let db = testing::database()?;
    let mut session = db.connect()?;
    top_level_commands_run(&mut session, |session, command| {
        schedule(session, command, RARELY, command)?;
        assert_eq!(run_now(session, command)?, "done|1|0|", "{command}");
        Ok(())
    })
}

#[test]
fn runs_never_overlap() -> Result<()> {
    let db = testing::database()?;
    let mut session = db.connect()?;
    schedule(&mut session, "long", "1 second", ENDLESS)?;
    wait_for_runs(&mut session, "long", "coalesce(sum(due_times) FILTER (WHERE status = 'skipped'), 0) >= 3", "t")?;
    // What one run was in the way of is one row.
    assert_eq!(statuses(&mut session, "long")?, "running skipped", "{}", describe(&mut session));
    let job = session.text("SELECT job FROM upkeep.schedule_runs WHERE status = 'running'")?;
    assert_eq!(session.text("SELECT count(DISTINCT job) FROM upkeep.schedule_runs")?, "1");
    let error = session.error("SELECT upkeep.run_now('long')")?;
    assert_eq!(error.code().code(), "55006");
    assert!(error.detail().unwrap_or_default().contains(&job), "{error:?}");
    session.run(&format!("SELECT upkeep.alter_schedule('long', paused => true); SELECT upkeep.cancel('{job}')"))?;
    wait_until_ended(&mut session, &job)?;
    assert_eq!(session.text("SELECT status FROM upkeep.schedule_runs ORDER BY due_at LIMIT 1")?, "canceled");
    Ok(())
}

#[test]
fn a_run_ends_at_its_timeout() -> Result<()> {
    let db = testing::database()?;
    let mut session = db.connect()?;
    session.run(
        "CREATE TABLE t (n int); CREATE TABLE steps (n int);
         CREATE PROCEDURE for_ever() LANGUAGE plpgsql AS
         $$BEGIN LOOP INSERT INTO steps VALUES (1); COMMIT; PERFORM pg_sleep(0.05); END LOOP; END$$",
    )?;
    // VACUUM is in the middle of its work: it waits for a lock that somebody has.
    let mut holder = db.connect()?;
    holder.run("BEGIN; LOCK t")?;
    for command in ["SELECT pg_sleep(3600)", "CALL for_ever()", "VACUUM t"] {
        schedule_with(&mut session, command, RARELY, command, "timeout => '500 ms'")?;
        let ended = run_now(&mut session, command)?;
        assert_eq!(ended, "timed out|1|0|the command was canceled after its timeout of 0.5 s", "{command}");
    }
    holder.run("ROLLBACK")?;
    assert_eq!(session.text("SELECT count(*) > 0 FROM steps")?, "t", "what a procedure has committed stays");
    // Time enough is no limit, and a cancel is not a timeout.
    schedule_with(&mut session, "quick", RARELY, "SELECT 1", "timeout => '1 hour'")?;
    assert_eq!(run_now(&mut session, "quick")?, "done|1|1|");
    session.run("SELECT upkeep.alter_schedule('VACUUM t', timeout => '0')")?;
    assert_eq!(session.text("SELECT timeout IS NULL FROM upkeep.schedules WHERE name = 'VACUUM t'")?, "t");
    assert_eq!(run_now(&mut session, "VACUUM t")?, "done|1|0|");
    schedule_with(&mut session, "hit", RARELY, ENDLESS, "timeout => '1 hour'")?;
    let job = session.text("SELECT upkeep.run_now('hit')")?;
    let executor = wait_until_asleep(&mut session, &job)?;
    session.run(&format!("SELECT pg_cancel_backend({executor})"))?;
    wait_until_ended(&mut session, &job)?;
    assert_eq!(session.text("SELECT last_status FROM upkeep.schedules WHERE name = 'hit'")?, "failed");
    Ok(())
}

#[test]
fn a_run_that_failed_is_retried_with_growing_pauses() -> Result<()> {
    let db = testing::database()?;
    let mut session = db.connect()?;
    session.run(
        "CREATE SEQUENCE tries;
         CREATE FUNCTION third_time() RETURNS int LANGUAGE plpgsql AS
         $$BEGIN IF nextval('tries') < 3 THEN RAISE 'not yet' USING ERRCODE = 'ABC01', HINT = 'wait'; END IF; RETURN 1; END$$",
    )?;
    schedule_with(&mut session, "third", RARELY, "SELECT third_time()", "retries => 3, retry_backoff => '100 ms'")?;
    assert_eq!(run_now(&mut session, "third")?, "done|3|1|");
    assert_eq!(session.text("SELECT last_value FROM tries")?, "3");
    let pauses = "SELECT bool_and(happened_at - before >= CASE nth WHEN 1 THEN interval '100 ms' ELSE interval '200 ms' END)
                    FROM (SELECT happened_at, lag(happened_at) OVER w AS before, event, row_number() OVER w / 2 AS nth
                            FROM upkeep.job_events WHERE event IN ('retry', 'started') WINDOW w AS (ORDER BY happened_at)) e
                   WHERE event = 'started' AND nth > 0";
    assert_eq!(session.text(pauses)?, "t");

    session.run("ALTER SEQUENCE tries RESTART; SELECT upkeep.alter_schedule('third', retries => 1)")?;
    assert_eq!(run_now(&mut session, "third")?, "failed|2|0|not yet");
    let kept = "SELECT error_sqlstate, error_hint FROM upkeep._schedule_run WHERE status = 'failed'";
    wait_for_text(&mut session, kept, "ABC01|wait")?;
    let job = session.text("SELECT job FROM upkeep.schedule_runs WHERE status = 'failed'")?;
    let error = session.error(&format!("SELECT upkeep.retry('{job}')"))?;
    assert_eq!(error.code().code(), "55000", "a run is not repeated beside its schedule");
    assert!(error.hint().unwrap_or_default().contains("run_now"), "{error:?}");
    // Whoever waits for the job hears of it as of any.
    assert_eq!(wait_for_error(&mut session, &job)?.hint(), Some("wait"));
    Ok(())
}

#[test]
fn a_timeout_is_retried_as_well() -> Result<()> {
    let db = testing::database()?;
    let mut session = db.connect()?;
    schedule_with(&mut session, "slow", RARELY, ENDLESS, "timeout => '200 ms', retries => 2, retry_backoff => '0'")?;
    assert_eq!(run_now(&mut session, "slow")?, "timed out|3|0|the command was canceled after its timeout of 0.2 s");
    Ok(())
}

#[test]
fn a_dropped_job_leaves_its_run() -> Result<()> {
    let db = testing::database()?;
    let mut session = db.connect()?;
    schedule(&mut session, "s", RARELY, "SELECT 1")?;
    let job = session.text("SELECT upkeep.run_now('s')")?;
    wait(&mut session, &job)?;
    session.run(&format!("SELECT upkeep.drop_job('{job}')"))?;
    assert_eq!(statuses(&mut session, "s")?, "done");
    Ok(())
}

#[test]
fn a_schedule_is_altered() -> Result<()> {
    let db = testing::database()?;
    let mut session = db.connect()?;
    session.run("SET TimeZone = 'UTC'; CREATE TABLE t (n int)")?;
    let id = schedule(&mut session, "s", "0 3 1 1 *", "SELECT 1")?;
    let shown =
        "SELECT name, schedule, timezone, command, to_char(next_run, 'MM-DD HH24:MI'), retries, catch_up, timeout
                   FROM upkeep.schedules";
    assert_eq!(session.text(shown)?, "s|0 3 1 1 *|UTC|SELECT 1|01-01 03:00|0|f|");
    assert_eq!(session.text("SELECT upkeep.alter_schedule('s', timezone => 'america/caracas')")?, id);
    assert_eq!(session.text(shown)?, "s|0 3 1 1 *|America/Caracas|SELECT 1|01-01 07:00|0|f|");
    session.run(&format!(
        "SELECT upkeep.alter_schedule('{id}'::uuid, schedule => '30 3 1 1 *', command => 'INSERT INTO t VALUES (7)',
                retries => 2, catch_up => true, timeout => '90 s', new_name => 'other')"
    ))?;
    let altered = "other|30 3 1 1 *|America/Caracas|INSERT INTO t VALUES (7)|01-01 07:30|2|t|00:01:30";
    assert_eq!(session.text(shown)?, altered);
    session.run(&format!("SELECT upkeep.alter_schedule('{id}')"))?;
    assert_eq!(session.text(shown)?, altered, "nulls keep what is, and an id given as text is an id");
    assert_eq!(run_now(&mut session, "other")?, "done|1|1|");
    // An interval instead, and back again.
    session.run("SELECT upkeep.alter_schedule('other', schedule => '10 hours')")?;
    assert_eq!(
        session.text(
            "SELECT next_run > now() + interval '9 hours' AND next_run <= now() + interval '10 hours' \
             FROM upkeep.schedules"
        )?,
        "t"
    );
    session.run("SELECT upkeep.alter_schedule('other', schedule => '30 3 1 1 *')")?;
    assert_eq!(session.text(shown)?, altered);

    schedule(&mut session, "s", "@daily", "SELECT 1")?;
    for (arguments, wanted) in [
        ("'other', new_name => 's'", "42710"),
        ("'other', schedule => '0 99 * * *'", "42601"),
        ("'other', command => 'SELEC 1'", "42601"),
        ("'other', timezone => 'x'", "22023"),
        ("'other', new_name => ' '", "22023"),
    ] {
        assert_eq!(
            sqlstate(&mut session, &format!("SELECT upkeep.alter_schedule({arguments})"))?,
            wanted,
            "{arguments}"
        );
    }
    assert_eq!(session.rows(&format!("{shown} WHERE name = 'other'"))?, [altered]);
    Ok(())
}

#[test]
fn what_was_due_during_a_pause_is_not_made_up_for() -> Result<()> {
    let db = testing::database()?;
    let mut session = db.connect()?;
    let id = schedule_with(&mut session, "s", "@hourly", "SELECT 1", "catch_up => true, paused => true")?;
    session.run(&format!("UPDATE upkeep._schedule SET next_run = now() - interval '5 hours' WHERE id = '{id}'"))?;
    session.run("SELECT upkeep.alter_schedule('s', paused => false)")?;
    assert_eq!(session.text("SELECT active, next_run > now() FROM upkeep.schedules")?, "t|t");
    assert_eq!(run_now(&mut session, "s")?, "done|1|1|");
    assert_eq!(statuses(&mut session, "s")?, "done");
    Ok(())
}

#[test]
fn pause_all_stops_runs_from_starting() -> Result<()> {
    let db = testing::database()?;
    let mut session = db.connect()?;
    schedule(&mut session, "active", "1 second", "SELECT 1")?;
    schedule_with(&mut session, "paused", "1 second", "SELECT 1", "paused => true")?;
    wait_for_runs(&mut session, "active", "count(*) > 0", "t")?;
    // One schedule, and perhaps the job of a run that waits to be started.
    let paused: i32 = session.value("SELECT upkeep.pause_all('release')")?;
    assert!((1..=2).contains(&paused), "{paused}");
    let shown =
        "SELECT string_agg(concat_ws(' ', name, active, paused_reason), ', ' ORDER BY name) FROM upkeep.schedules";
    assert_eq!(session.text(shown)?, "active f pause_all: release, paused f paused");
    // Other work goes on, so somebody looks around here; nothing of the schedule's is started.
    let before = session.text("SELECT count(*) FROM upkeep.schedule_runs")?;
    for _ in 0..3 {
        let job = session.text("SELECT upkeep.run_in_background('SELECT pg_sleep(0.5)')")?;
        wait_for_state(&mut session, &job, "done")?;
    }
    assert_eq!(session.text("SELECT count(*) FROM upkeep.schedule_runs")?, before);
    // A run that was only just starting has ended meanwhile.
    let still: i32 = session.value(
        "SELECT ((SELECT count(*) FROM upkeep.schedules WHERE paused_reason LIKE 'pause_all%')
               + (SELECT count(*) FROM upkeep.jobs WHERE state = 'paused'))::int",
    )?;
    let resumed: i32 = session.value("SELECT upkeep.resume_all()")?;
    assert_eq!(resumed, still);
    assert_eq!(session.text(shown)?, "active t, paused f paused", "who paused one by itself still has it paused");
    let more = format!("count(*) > {before}");
    wait_for_runs(&mut session, "active", &more, "t")
}

#[test]
fn an_ended_schedule_leaves_nothing_behind() -> Result<()> {
    let db = testing::database()?;
    let mut session = db.connect()?;
    let id = schedule_with(&mut session, "s", "1 second", ENDLESS, "retries => 5, retry_backoff => '0'")?;
    wait_for_text(&mut session, "SELECT last_status FROM upkeep.schedules", "running")?;
    let job = session.text("SELECT job FROM upkeep.schedule_runs WHERE status = 'running'")?;
    let executor = wait_until_asleep(&mut session, &job)?;
    assert_eq!(session.text(&format!("SELECT upkeep.unschedule('{id}'::uuid)"))?, id);
    assert_eq!(session.text("SELECT count(*) FROM upkeep.schedules")?, "0");
    assert_eq!(session.text("SELECT count(*) FROM upkeep.schedule_runs")?, "0");
    // The run that had started goes on, and is the last: it is not retried.
    assert_eq!(wait_until_asleep(&mut session, &job)?, executor);
    session.run(&format!("SELECT pg_cancel_backend({executor})"))?;
    wait_for_state(&mut session, &job, "failed")?;
    assert_eq!(sqlstate(&mut session, "SELECT upkeep.unschedule('s')")?, "42704");
    // One that waits for its retry is not retried either.
    schedule_with(&mut session, "s", RARELY, "SELECT 1/0", "retries => 5, retry_backoff => '1 hour'")?;
    let job = session.text("SELECT upkeep.run_now('s')")?;
    wait_for_text(&mut session, "SELECT attempt FROM upkeep.schedule_runs", "2")?;
    session.run("SELECT upkeep.unschedule('s')")?;
    assert_eq!(session.text(&format!("SELECT state FROM upkeep.jobs WHERE id = '{job}'"))?, "canceled");
    Ok(())
}

#[test]
fn history_is_bounded() -> Result<()> {
    let db = testing::database()?;
    let mut session = db.connect()?;
    let id = schedule(&mut session, "s", RARELY, "SELECT 1")?;
    session.run(&format!(
        "INSERT INTO upkeep._schedule_run (schedule, job, due_at, status, finished_at)
         SELECT '{id}', gen_random_uuid(), now(), 'done', now() FROM generate_series(1, 1500);
         INSERT INTO upkeep._schedule_run (schedule, due_at, status, finished_at)
         VALUES ('{id}', now() - interval '1 year', 'missed', now() - interval '1 year')"
    ))?;
    run_now(&mut session, "s")?;
    let kept = "SELECT count(*), count(*) FILTER (WHERE status = 'missed') FROM upkeep.schedule_runs";
    wait_for_text(&mut session, kept, "1000|0")
}

#[test]
fn if_not_exists_is_for_scripts_that_run_again() -> Result<()> {
    let db = testing::database()?;
    let mut session = db.connect()?;
    let id = schedule(&mut session, "s", "@daily", "SELECT 1")?;
    let error = session.error("SELECT upkeep.schedule('s', '@daily', 'SELECT 1')")?;
    assert_eq!(error.code().code(), "42710");
    assert!(error.hint().unwrap_or_default().contains("alter_schedule('s'"), "{error:?}");
    session.notices();
    assert_eq!(schedule_with(&mut session, "s", "@daily", "SELECT 1", "if_not_exists => true")?, id);
    assert!(session.notices()[0].message().contains("skipping"));
    for other in ["'@hourly', 'SELECT 1'", "'@daily', 'SELECT 2'", "'@daily', 'SELECT 1', timezone => 'Asia/Tokyo'"] {
        let sql = format!("SELECT upkeep.schedule('s', {other}, if_not_exists => true)");
        assert_eq!(sqlstate(&mut session, &sql)?, "42710", "{other}");
    }
    Ok(())
}

#[test]
fn hostile_names_and_commands() -> Result<()> {
    let db = testing::database()?;
    let mut session = db.connect()?;
    session.run("CREATE TABLE t (n text)")?;
    let names = ["'; DROP TABLE t; --", "%s%n\\", "\"quoted\"", "Ünïcödé 💣", "a\nb", "$command$", "NULL"];
    for name in names {
        let row = session
            .query_one("SELECT upkeep.schedule($1, '@yearly', 'INSERT INTO t VALUES ($$it''s$$)')::text", &[&name])?;
        let id: String = row.get(0);
        let job: String = session.query_one("SELECT upkeep.run_now($1::pg_catalog.text)::text", &[&name])?.get(0);
        wait_until_ended(&mut session, &job)?;
        let ended: String =
            session.query_one("SELECT last_status FROM upkeep.schedules WHERE name = $1", &[&name])?.get(0);
        assert_eq!(ended, "done", "{name}");
        let gone: String = session.query_one("SELECT upkeep.unschedule($1::pg_catalog.text)::text", &[&name])?.get(0);
        assert_eq!(gone, id, "{name}");
    }
    assert_eq!(session.text("SELECT count(*), min(n), max(n) FROM t")?, "7|it's|it's");
    // A command that changes its session or attacks our tables hurts nobody but itself.
    for (command, ended) in [
        ("SET default_transaction_read_only = on", "done"),
        ("SELECT pg_terminate_backend(pg_backend_pid())", "failed"),
        ("DO $$BEGIN PERFORM upkeep.unschedule('self'); END$$", "done"),
    ] {
        schedule(&mut session, "self", RARELY, command)?;
        let job = session.text("SELECT upkeep.run_now('self')")?;
        wait_for_state(&mut session, &job, ended)?;
        session.batch_execute("SELECT upkeep.unschedule(id) FROM upkeep.schedules WHERE name = 'self'")?;
    }
    Ok(())
}

#[test]
fn without_workers_there_is_a_warning() -> Result<()> {
    let db = testing::database_without_preload()?;
    let mut session: Session = db.connect()?;
    schedule(&mut session, "s", "1 second", "SELECT 1")?;
    let warnings = session.notices();
    assert!(warnings[0].hint().unwrap_or_default().contains("start_workers"), "{warnings:?}");
    session.run("SELECT upkeep.start_workers()")?;
    wait_for_runs(&mut session, "s", "count(*) FILTER (WHERE status = 'done') > 0", "t")?;
    session.run("SELECT upkeep.stop_workers()")
}
