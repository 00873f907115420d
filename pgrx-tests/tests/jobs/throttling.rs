//! What holds a job back: it waits, says why, and goes on by itself.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process};
use upkeep_tests::cluster::{Cluster, ClusterBuilder, PATIENCE, Stop};
use upkeep_tests::jobs::{describe, events, sqlstate, state, wait, wait_until_nobody_works_on};
use upkeep_tests::session::Session;
use upkeep_tests::testing::{self, wait_for_text, workers};
use upkeep_tests::wait::{wait_for, wait_until};

const ROWS: i64 = 20_000;

/// A job that takes long, until [`hurry`], so that whatever is to hold it back finds it at work.
const LEISURELY: &str = "batch_time => '10 ms', throttle_work_ratio => 0.01, options => '{\"strategy\": \"keys\"}'";

/// A table that takes a good many steps.
fn table(session: &mut Session) -> Result<()> {
    session.run(&format!(
        "CREATE TABLE t (id int PRIMARY KEY, n int, pad text DEFAULT repeat('x', 200)) WITH (autovacuum_enabled = off);
         INSERT INTO t SELECT g, NULL FROM generate_series(1, {ROWS}) g;
         CREATE TABLE pace AS SELECT 0.001 AS seconds;
         GRANT SELECT ON pace TO PUBLIC;
         CREATE FUNCTION leisurely() RETURNS int LANGUAGE plpgsql AS
         'BEGIN PERFORM pg_sleep(seconds) FROM pace WHERE seconds > 0; RETURN 1; END'"
    ))
}

fn backfill(session: &mut Session, arguments: &str) -> Result<String> {
    let comma = if arguments.is_empty() { "" } else { ", " };
    let value = if arguments.contains(LEISURELY) { "leisurely()" } else { "1" };
    session.text(&format!("SELECT upkeep.backfill('t', 'n = {value}', 'n IS NULL'{comma}{arguments})"))
}

/// Lets a leisurely job come to its end.
fn hurry(session: &mut Session, job: &str) -> Result<()> {
    session.run(&format!("UPDATE pace SET seconds = 0; SELECT upkeep.alter_job('{job}', throttle_work_ratio => 1)"))
}

fn reason(session: &mut Session, job: &str) -> Result<String> {
    session.text(&format!("SELECT wait_reason FROM upkeep.jobs WHERE id = '{job}'"))
}

/// Waits until a job waits for a reason with this in it; returns the reason.
fn wait_until_held(session: &mut Session, job: &str, words: &str) -> Result<String> {
    let look = format!("SELECT wait_reason FROM upkeep.jobs WHERE id = '{job}' AND state = 'waiting'");
    let held = wait_for(&format!("the job to wait: {words}"), PATIENCE, || {
        Ok(session.rows(&look)?.into_iter().next().filter(|reason| reason.contains(words)))
    });
    held.with_context(|| describe(session, job))
}

fn rows_left(session: &mut Session) -> Result<i64> {
    session.value("SELECT count(*) FROM t WHERE n IS NULL")
}

/// A server with a table, configured for the case.
fn server(name: &str, configure: impl FnOnce(ClusterBuilder) -> ClusterBuilder) -> Result<(Cluster, Session)> {
    let server = configure(testing::server(name).preloaded()).start()?;
    let mut session = server.connect("postgres")?;
    session.run("CREATE EXTENSION pg_upkeep")?;
    table(&mut session)?;
    Ok((server, session))
}

#[test]
fn a_job_waits_for_a_standby_that_stands_still_and_goes_on_by_itself() -> Result<()> {
    let (primary, mut session) = server("lag", |server| server.set("upkeep.max_replica_lag", "2s"))?;
    let standby = primary.standby("paused")?;
    let mut there = standby.connect("postgres")?;
    there.run("SELECT pg_wal_replay_pause()")?;
    wait_for_text(&mut there, "SELECT pg_get_wal_replay_pause_state()", "paused")?;
    session.run("CREATE TABLE news AS SELECT 1")?;

    // A job cannot loosen what the server's owner wants.
    let job = backfill(&mut session, &format!("max_replica_lag => '1 hour', {LEISURELY}"))?;
    let held = wait_until_held(&mut session, &job, " behind (limit 2 s)")?;
    assert!(held.starts_with(&format!("standby \"{}\" is ", standby.name())), "{held}");
    let left = rows_left(&mut session)?;
    assert!(left > 0);
    // `replay_lag` of the server itself would stand still here; ours goes up.
    wait_for_text(
        &mut session,
        "SELECT value > 8000 AND throttling FROM upkeep.throttle WHERE input = 'replica lag'",
        "t",
    )?;
    assert_eq!(rows_left(&mut session)?, left, "not a row meanwhile");
    // Held back, an executor has no transaction that anybody would notice: it writes down why, in a moment.
    let xmin = "SELECT count(*) FROM pg_stat_activity
                WHERE backend_type = 'pg_upkeep executor' AND xact_start < clock_timestamp() - interval '1 s'";
    assert_eq!(session.text(xmin)?, "0");

    hurry(&mut session, &job)?;
    there.run("SELECT pg_wal_replay_resume()")?;
    wait(&mut session, &job)?;
    assert_eq!(rows_left(&mut session)?, 0);
    let history = events(&mut session, &job)?;
    let position =
        |event: &str| history.iter().position(|e| e == event).with_context(|| format!("{event}: {history:?}"));
    assert!(position("throttled")? < position("resumed")?, "{history:?}");
    assert_eq!(history.iter().filter(|e| *e == "throttled").count(), 1, "{history:?}");
    Ok(())
}

#[test]
fn a_disconnected_standby_whose_slot_fills_counts_until_it_is_ignored_or_gone() -> Result<()> {
    let (mut primary, mut session) = server("slot", |server| server.set("upkeep.max_replica_lag", "1s"))?;
    let mut standby = primary.standby("gone")?;
    session.run("SELECT pg_create_physical_replication_slot('of_standby')")?;
    standby.set("primary_slot_name", "of_standby")?;
    standby.restart()?;
    wait_for_text(&mut session, "SELECT active FROM pg_replication_slots", "t")?;
    // It reports what it has when there is something new, and only then the slot keeps anything.
    session.run("CREATE TABLE first_news AS SELECT 1")?;
    wait_for_text(&mut session, "SELECT restart_lsn IS NOT NULL FROM pg_replication_slots", "t")?;
    standby.stop(Stop::Fast)?;
    wait_for_text(&mut session, "SELECT active FROM pg_replication_slots", "f")?;
    session.run("CREATE TABLE news AS SELECT 1")?;

    let job = backfill(&mut session, LEISURELY)?;
    let held = wait_until_held(&mut session, &job, "behind (limit 1 s)")?;
    assert!(held.starts_with("replication slot \"of_standby\" (nobody is connected) is "), "{held}");
    hurry(&mut session, &job)?;
    primary.set("upkeep.ignored_standbys", "nobody, of_standby")?;
    primary.reload()?;
    wait(&mut session, &job)?;

    primary.set("upkeep.ignored_standbys", "")?;
    primary.reload()?;
    session.run("UPDATE t SET n = NULL")?;
    let job = backfill(&mut session, LEISURELY)?;
    wait_until_held(&mut session, &job, "of_standby")?;
    hurry(&mut session, &job)?;
    session.run("SELECT pg_drop_replication_slot('of_standby')")?;
    wait(&mut session, &job)
}

/// A subscriber gets what is written in its own database, and passes over the rest of the WAL.
#[test]
fn subscribers_hold_up_jobs_of_their_own_database_by_their_own_name() -> Result<()> {
    let (primary, mut session) = server("publisher", |server| {
        server.set("upkeep.max_replica_lag", "1s").set("wal_level", "logical").set("wal_sender_timeout", 0)
    })?;
    primary.create_database("other")?;
    // An empty table at each end, which the subscriber finds locked when the first row comes.
    let subscriber = testing::server("subscriber").set("wal_receiver_timeout", 0).start()?;
    let mut there = subscriber.connect("postgres")?;
    let mut lock = subscriber.connect("postgres")?;
    let mut subscribe = |name: &str, database: &str, lock: &mut Session| {
        let mut here = primary.connect(database)?;
        here.run(&format!("CREATE TABLE {name} (n int PRIMARY KEY); CREATE PUBLICATION {name} FOR TABLE {name}"))?;
        there.run(&format!("CREATE TABLE {name} (n int PRIMARY KEY)"))?;
        there.run(&format!(
            "CREATE SUBSCRIPTION {name} CONNECTION 'host={} dbname={database} user={}' PUBLICATION {name} WITH (copy_data = false)",
            primary.host().display(),
            here.text("SELECT current_user")?
        ))?;
        let streams = format!("SELECT state FROM pg_stat_replication WHERE application_name = '{name}'");
        wait_for_text(&mut here, &streams, "streaming")?;
        wait_for_text(&mut there, "SELECT bool_and(srsubstate = 'r') FROM pg_subscription_rel", "t")?;
        lock.run(&format!("BEGIN; LOCK TABLE {name}"))?;
        here.run(&format!("INSERT INTO {name} VALUES (1)"))?;
        let behind = format!("{streams} AND pg_current_wal_lsn() > replay_lsn");
        wait_for_text(&mut here, &behind, "streaming")
    };
    subscribe("elsewhere", "other", &mut lock)?;
    primary
        .connect("other")?
        .run("SELECT pg_create_logical_replication_slot('forgotten', 'pgoutput'); CREATE TABLE news AS SELECT 1")?;
    let job = backfill(&mut session, LEISURELY)?;
    // Longer than they may be behind, under the sampler's eyes.
    let look = format!("SELECT elapsed > '3 s' AND state = 'running' FROM upkeep.jobs WHERE id = '{job}'");
    wait_for_text(&mut session, &look, "t")?;
    hurry(&mut session, &job)?;
    wait(&mut session, &job)?;
    assert!(!events(&mut session, &job)?.contains(&"throttled".to_owned()), "{:?}", events(&mut session, &job)?);
    let lags = "SELECT count(*) FROM upkeep.throttle WHERE input = 'replica lag'";
    assert_eq!(session.text(lags)?, "0");

    let mut lock_here = subscriber.connect("postgres")?;
    subscribe("nearby", "postgres", &mut lock_here)?;
    session.run("UPDATE t SET n = NULL")?;
    let job = backfill(&mut session, LEISURELY)?;
    let held = wait_until_held(&mut session, &job, "(limit 1 s)")?;
    assert!(held.starts_with("subscriber \"nearby\" is "), "{held}");
    assert_eq!(session.text(lags)?, "1");
    hurry(&mut session, &job)?;
    lock_here.run("COMMIT")?;
    wait(&mut session, &job)?;
    there.run("DROP SUBSCRIPTION nearby")?;
    lock.run("COMMIT")?;
    there.run("DROP SUBSCRIPTION elsewhere")
}

#[test]
fn a_slot_about_to_be_lost_stops_jobs() -> Result<()> {
    let (_server, mut session) = server("danger", |server| {
        server.set("upkeep.max_replica_lag", -1).set("max_slot_wal_keep_size", "64MB").set("max_wal_size", "64MB")
    })?;
    session.run("SELECT pg_create_physical_replication_slot('left_behind', true)")?;
    // Until less than half of what the server keeps is left.
    while session.value::<bool>("SELECT safe_wal_size > 30 * 1024 * 1024 FROM pg_replication_slots")? {
        session.run("SELECT pg_logical_emit_message(false, '', repeat('x', 1000000)), pg_switch_wal()")?;
    }
    let job = backfill(&mut session, "")?;
    let held = wait_until_held(&mut session, &job, "may be lost")?;
    assert!(held.starts_with("replication slot \"left_behind\""), "{held}");
    session.run("SELECT pg_drop_replication_slot('left_behind')")?;
    wait(&mut session, &job)
}

#[test]
fn samples_that_stop_coming_stop_the_job() -> Result<()> {
    let (_server, mut session) = server("stale", |server| server)?;
    let job = backfill(&mut session, &format!("{LEISURELY}, workers => 2"))?;
    wait_until("the first rows", PATIENCE, || rows_left(&mut session).is_ok_and(|left| left < ROWS))?;
    let scheduler = workers(&mut session, "scheduler")?.first().copied().and_then(Pid::from_raw);
    let scheduler = scheduler.context("a scheduler is there while a job runs")?;
    kill_process(scheduler, Signal::STOP)?;
    let held = wait_until_held(&mut session, &job, "waits for figures of the server");
    let left = rows_left(&mut session)?;
    kill_process(scheduler, Signal::CONT)?;
    held?;
    assert!(left > 0);
    hurry(&mut session, &job)?;
    wait(&mut session, &job)
}

#[test]
fn a_disk_that_runs_full_stops_jobs_until_there_is_room() -> Result<()> {
    let (mut server, mut session) = server("disk", |server| server.set("upkeep.min_free_disk", "2000TB"))?;
    let job = backfill(&mut session, "")?;
    let held = wait_until_held(&mut session, &job, "free on the disk of")?;
    assert!(held.contains("the data directory") || held.contains("pg_wal"), "{held}");
    assert_eq!(rows_left(&mut session)?, ROWS);
    server.set("upkeep.min_free_disk", "1MB")?;
    server.reload()?;
    wait(&mut session, &job)
}

#[test]
fn an_archiver_that_fails_stops_jobs() -> Result<()> {
    let (mut server, mut session) = server("archive", |server| {
        server
            .set("archive_mode", "on")
            .set("archive_command", "/bin/false")
            .set("upkeep.max_archive_backlog", 2)
            .set("max_wal_size", "1GB")
    })?;
    for _ in 0..4 {
        session.run("SELECT pg_logical_emit_message(false, '', 'x'), pg_switch_wal()")?;
    }
    let job = backfill(&mut session, "")?;
    let held = wait_until_held(&mut session, &job, "WAL segments wait to be archived (limit 2)")?;
    assert_eq!(held.split(' ').next().and_then(|count| count.parse::<u32>().ok()).map(|count| count > 2), Some(true));
    server.set("archive_command", "/bin/true")?;
    server.reload()?;
    wait(&mut session, &job)
}

/// A window by the server's own clock, from so many hours from now on, for an hour or two.
fn window(session: &mut Session, from: i32, until: i32) -> Result<String> {
    session.text(&format!("SELECT to_char(now() + '{from} h', 'HH24:MI-') || to_char(now() + '{until} h', 'HH24:MI')"))
}

#[test]
fn a_job_keeps_to_its_hours() -> Result<()> {
    let db = testing::database()?;
    let mut session = db.connect()?;
    table(&mut session)?;
    let later = window(&mut session, 3, 5)?;
    let job = backfill(&mut session, &format!("run_between => '{later}'"))?;
    let held = wait_until_held(&mut session, &job, "outside its hours")?;
    let start: String = session.value("SELECT to_char(now() + '3 h', 'YYYY-MM-DD HH24:')")?;
    assert!(held.starts_with(&format!("outside its hours {later} (UTC); next start {start}")), "{held}");
    // Nobody polls: the scheduler has left, and knows when to come back.
    wait_for_text(
        &mut session,
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND backend_type LIKE 'pg_upkeep%'",
        "0",
    )?;
    assert_eq!(rows_left(&mut session)?, ROWS);
    assert_eq!(events(&mut session, &job)?, ["queued", "waiting"], "it has not even started");

    // The same hours by another clock are now.
    let now = window(&mut session, -1, 1)?;
    let limits = format!("SELECT limits->>'run_between' FROM upkeep.jobs WHERE id = '{job}'");
    assert_eq!(session.text(&limits)?, later);
    session.run(&format!("SELECT upkeep.alter_job('{job}', run_between => '{now}', throttle_work_ratio => 0.01)"))?;
    wait_until("the first rows", PATIENCE, || rows_left(&mut session).is_ok_and(|left| left < ROWS))?;
    // Out of its hours while it runs: the batch in hand is the last one.
    session.run(&format!("SELECT upkeep.alter_job('{job}', timezone => 'Etc/GMT+6')"))?;
    wait_until_held(&mut session, &job, "(Etc/GMT+6); next start")?;
    wait_until_nobody_works_on(&mut session, &job)?;
    assert!(rows_left(&mut session)? > 0);
    // Pause and resume do not open the window.
    session.run(&format!("SELECT upkeep.pause('{job}'); SELECT upkeep.resume('{job}')"))?;
    wait_until_held(&mut session, &job, "(Etc/GMT+6); next start")?;
    session.run(&format!("SELECT upkeep.alter_job('{job}', run_between => '', throttle_work_ratio => 1)"))?;
    wait(&mut session, &job)?;
    assert_eq!(rows_left(&mut session)?, 0);
    Ok(())
}

#[test]
fn hours_and_time_zones_are_checked_where_they_are_given() -> Result<()> {
    let db = testing::database()?;
    let mut session = db.connect()?;
    table(&mut session)?;
    for arguments in [
        "run_between => '22:00'",
        "run_between => '22:00-22:00'",
        "run_between => '22:00-25:00'",
        "run_between => '22:00-05:00', timezone => 'Mars/Olympus'",
        "timezone => ''",
        "max_replica_lag => '-1 s'",
        "max_wal_rate => 0",
        "throttle_work_ratio => 1.5",
    ] {
        let call = format!("SELECT upkeep.backfill('t', 'n = 1', 'n IS NULL', {arguments})");
        assert_eq!(sqlstate(&mut session, &call)?, "22023", "{arguments}");
    }
    let error = session.error("SELECT upkeep.backfill('t', 'n = 1', 'n IS NULL', run_between => '22:00-25:00')")?;
    assert!(error.message().contains("25:00") && error.hint().is_some(), "{error:?}");

    // Whose clock: the session's, unless another is named; and it stays when only the hours change.
    session.run("SET TimeZone = 'Asia/Tokyo'")?;
    let job = backfill(&mut session, "paused => true, run_between => '22:00-05:00'")?;
    let limits = format!("SELECT limits - 'max_wal_rate' FROM upkeep.jobs WHERE id = '{job}'");
    let shown = |hours: &str, timezone: &str| format!("{{\"timezone\": \"{timezone}\", \"run_between\": \"{hours}\"}}");
    assert_eq!(session.text(&limits)?, shown("22:00-05:00", "Asia/Tokyo"));
    session.run(&format!("SET TimeZone = 'UTC'; SELECT upkeep.alter_job('{job}', run_between => '01:00-02:00')"))?;
    assert_eq!(session.text(&limits)?, shown("01:00-02:00", "Asia/Tokyo"));
    session.run(&format!("SELECT upkeep.cancel('{job}')"))
}

/// Bytes of WAL a second over some seconds.
fn wal_rate(session: &mut Session, time: Duration) -> Result<f64> {
    let position = "SELECT (pg_current_wal_insert_lsn() - '0/0')::float8";
    let (clock, before): (Instant, f64) = (Instant::now(), session.value(position)?);
    std::thread::sleep(time);
    let after: f64 = session.value(position)?;
    Ok((after - before) / clock.elapsed().as_secs_f64())
}

#[test]
fn the_servers_wal_keeps_to_its_rate() -> Result<()> {
    let (mut server, mut session) = server("rate", |server| server.set("autovacuum", "off"))?;
    session.run(&format!("INSERT INTO t SELECT g FROM generate_series({ROWS} + 1, 300000) g"))?;
    let job = backfill(&mut session, "max_wal_rate => 2000")?;
    wait_until_held(&mut session, &job, "(limit 2000 kB/s)")?;
    let rate = wal_rate(&mut session, Duration::from_secs(4))? / 1024.0;
    assert!((1000.0..3000.0).contains(&rate), "{rate} kB/s instead of 2000");
    // Steady, not by fits and starts: there is something in every second.
    for _ in 0..3 {
        assert!(wal_rate(&mut session, Duration::from_secs(1))? > 0.0);
    }
    // The server's own limit counts for a job that allows itself more.
    server.set("upkeep.max_wal_rate", 500)?;
    server.reload()?;
    wait_until_held(&mut session, &job, "(limit 500 kB/s)")?;
    let rate = wal_rate(&mut session, Duration::from_secs(4))? / 1024.0;
    assert!((100.0..1000.0).contains(&rate), "{rate} kB/s instead of 500");
    server.set("upkeep.max_wal_rate", -1)?;
    server.reload()?;
    session.run(&format!("SELECT upkeep.alter_job('{job}', max_wal_rate => 1000000)"))?;
    wait(&mut session, &job)
}

#[test]
fn a_job_that_is_held_back_can_be_paused_and_canceled_at_once() -> Result<()> {
    let (_server, mut session) = server("verbs", |server| server.set("upkeep.min_free_disk", "2000TB"))?;
    for verb in ["pause", "cancel"] {
        let job = backfill(&mut session, "")?;
        wait_until_held(&mut session, &job, "free on the disk")?;
        let clock = Instant::now();
        session.run(&format!("SELECT upkeep.{verb}('{job}')"))?;
        wait_until_nobody_works_on(&mut session, &job)?;
        assert!(clock.elapsed() < Duration::from_secs(5), "{verb} took {:?}", clock.elapsed());
        let strikes = format!("SELECT max(strikes) FROM upkeep._job_slot WHERE job = '{job}'");
        assert_eq!(session.text(&strikes)?, "0", "{verb}");
        if verb == "pause" {
            session.run(&format!("SELECT upkeep.cancel('{job}')"))?;
        }
    }
    // A stray cancel of a process that only waits is no reason for anything.
    let job = backfill(&mut session, "")?;
    wait_until_held(&mut session, &job, "free on the disk")?;
    let executor = workers(&mut session, "executor")?;
    session.run(&format!("SELECT pg_cancel_backend({})", executor[0]))?;
    assert_eq!(state(&mut session, &job)?, "waiting");
    session.run("DROP EXTENSION pg_upkeep CASCADE")?;
    wait_until("the executor to leave", PATIENCE, || workers(&mut session, "executor").is_ok_and(|w| w.is_empty()))
}

#[test]
fn a_job_rests_as_much_as_it_was_told_to() -> Result<()> {
    let db = testing::database()?;
    let mut session = db.connect()?;
    table(&mut session)?;
    let job = backfill(&mut session, "batch_time => '10 ms', throttle_work_ratio => 0.1")?;
    wait(&mut session, &job)?;
    // Whatever the machine does beside: what was at work is a tenth of the whole, or less.
    let share: f64 = session.value(&format!(
        "SELECT (SELECT sum(busy_time) FROM upkeep._job_slot WHERE job = '{job}')
              / (extract(epoch FROM finished_at - started_at) * 1000)::float8 FROM upkeep.jobs WHERE id = '{job}'"
    ))?;
    assert!(share < 0.2, "at work {share} of the time");
    Ok(())
}

/// When a job should end goes by what it has done in all of its time, rests and waits included.
#[test]
fn a_job_that_is_held_back_ends_later() -> Result<()> {
    let (_server, mut session) = server("eta", |server| server)?;
    let job = backfill(&mut session, LEISURELY)?;
    let under_way = format!("SELECT percent > 0 AND elapsed > '3 s' FROM upkeep.jobs WHERE id = '{job}'");
    wait_for_text(&mut session, &under_way, "t")?;
    let ratio: f64 = session.value(&format!(
        "SELECT extract(epoch FROM eta - clock_timestamp())::float8 / (extract(epoch FROM elapsed) * (100 - percent) / percent)::float8
           FROM upkeep.jobs WHERE id = '{job}'"
    ))?;
    assert!((0.4..2.5).contains(&ratio), "{ratio}");
    hurry(&mut session, &job)?;
    wait(&mut session, &job)
}

/// What was done long ago counts less and less, and at last for nothing.
#[test]
fn a_job_that_gets_nothing_done_is_shown() -> Result<()> {
    let (_server, mut session) = server("eta-never", |server| server)?;
    let job = backfill(&mut session, LEISURELY)?;
    wait_for_text(&mut session, &format!("SELECT percent > 0 FROM upkeep.jobs WHERE id = '{job}'"), "t")?;
    let show = format!("SELECT * FROM upkeep.jobs WHERE id = '{job}'");
    let set = |session: &mut Session, least: &str| {
        session.run(&format!(
            "UPDATE upkeep._job_slot SET lately_time = 30000, lately_units = {least}, lately_rows = {least} WHERE job = '{job}'"
        ))
    };
    set(&mut session, "1e-9")?;
    session.rows(&show)?;
    // The server refuses to multiply what is as small as this.
    set(&mut session, "5e-324")?;
    let step = |session: &mut Session| {
        session.text(&format!("SELECT sum(units_done) FROM upkeep._job_slot WHERE job = '{job}'"))
    };
    let before = step(&mut session)?;
    wait_until("another step", PATIENCE, || step(&mut session).is_ok_and(|now| now != before))?;
    session.rows(&show)?;
    hurry(&mut session, &job)?;
    wait(&mut session, &job)
}

#[test]
fn workers_give_way_for_the_processor_as_they_are_told() -> Result<()> {
    let (_server, mut session) = server("nice", |server| server.set("upkeep.worker_nice", 3))?;
    // Beside the server's sessions, whatever nice value it was started with.
    let postmaster = session.text("SELECT split_part(pg_read_file('postmaster.pid'), E'\\n', 1)")?;
    let server = nice_of(&postmaster).context("the server has a nice value")?;
    let executor_nice =
        |session: &mut Session| Some(nice_of(&workers(session, "executor").ok()?.first()?.to_string())? - server);
    let job = backfill(&mut session, LEISURELY)?;
    wait_until("the worker to be nice", PATIENCE, || executor_nice(&mut session) == Some(3.min(19 - server)))?;
    session.run("ALTER SYSTEM SET upkeep.worker_nice = 12")?;
    session.run("SELECT pg_reload_conf()")?;
    wait_until("the worker to be nicer", PATIENCE, || executor_nice(&mut session) == Some(12.min(19 - server)))?;
    hurry(&mut session, &job)?;
    wait(&mut session, &job)
}

/// The nice value of a process.
fn nice_of(pid: &str) -> Option<i32> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // After the name, which may hold anything, the nice value is the 17th field.
    stat.rsplit_once(')')?.1.split_whitespace().nth(16)?.parse().ok()
}

#[test]
fn a_vacuum_of_the_table_goes_first() -> Result<()> {
    let (server, mut session) = server("vacuum", |server| server)?;
    session.run("DELETE FROM t WHERE id % 3 = 0")?;
    let mut vacuum = server.connect("postgres")?;
    // One block, one long nap.
    vacuum.run("SET vacuum_cost_limit = 1; SET vacuum_cost_delay = '100ms'; SET vacuum_cost_page_miss = 10000")?;
    let pid = vacuum.pid()?;
    let running = upkeep_tests::jobs::meanwhile(vacuum, "VACUUM t");
    let look = format!("SELECT count(*) FROM pg_stat_progress_vacuum WHERE pid = {pid}");
    wait_for_text(&mut session, &look, "1")?;
    let job = backfill(&mut session, "")?;
    let held = wait_until_held(&mut session, &job, "VACUUM is at work on the table");
    session.run(&format!("SELECT pg_cancel_backend({pid})"))?;
    let (_, _canceled) = upkeep_tests::jobs::join(running)?;
    assert!(held?.contains(&format!("process {pid}")));
    wait(&mut session, &job)
}

#[test]
fn batches_get_shorter_while_somebody_waits_for_their_rows() -> Result<()> {
    let db = testing::database()?;
    let mut session = db.connect()?;
    // A batch that takes its time over every row, so that somebody can wait for it.
    session.run(
        "CREATE TABLE t (id int PRIMARY KEY, n int);
         INSERT INTO t SELECT g, NULL FROM generate_series(1, 20000) g;
         CREATE FUNCTION slow(n int) RETURNS int LANGUAGE plpgsql AS $$BEGIN PERFORM pg_sleep(0.002); RETURN 1; END$$",
    )?;
    let job = session
        .text("SELECT upkeep.backfill('t', 'n = slow(n)', 'n IS NULL', options => '{\"strategy\": \"keys\"}')")?;
    let told = format!(
        "SELECT count(*) FROM upkeep.job_events WHERE job = '{job}' AND detail LIKE 'another session waited for rows%'"
    );
    let mut other = db.connect()?;
    let mut next = 1;
    let noticed = wait_until("the job to notice who waits for it", PATIENCE, || {
        // All over the table: sooner or later a row of the batch at hand.
        let _ = other.run(&format!("UPDATE t SET id = id WHERE id BETWEEN {next} AND {next} + 200"));
        next = next % 20_000 + 200;
        session.text(&told).is_ok_and(|count| count != "0")
    });
    session.run(&format!("SELECT upkeep.cancel('{job}')"))?;
    noticed
}

#[test]
fn a_batch_ends_when_somebody_waits_for_one_of_its_rows() -> Result<()> {
    let db = testing::database()?;
    let mut session = db.connect()?;
    // A dozen rows a page, which take 10 ms each: many portions in a batch, the first of 2 s.
    session.run(
        "CREATE TABLE t (id int PRIMARY KEY, n int, pad text DEFAULT repeat('x', 600));
         INSERT INTO t SELECT g, NULL FROM generate_series(1, 20000) g;
         CREATE FUNCTION slow(n int) RETURNS int LANGUAGE plpgsql AS $$BEGIN PERFORM pg_sleep(0.01); RETURN 1; END$$",
    )?;
    let job = session.text(
        "SELECT upkeep.backfill('t', 'n = slow(n)', 'n IS NULL', batch_time => '20 s', options => '{\"strides\": 1}')",
    )?;
    let told = format!(
        "SELECT count(*) FROM upkeep.job_events WHERE job = '{job}' AND detail LIKE 'another session waited for rows%'"
    );
    let mut other = db.connect()?;
    other.run("SET lock_timeout = '6s'")?;
    // Rows all over the table: some are the batch's, which would go on for 11 s.
    let met = wait_for("somebody to wait for the job", PATIENCE, || {
        other.run("SELECT FROM t WHERE id % 50 = 0 AND n IS NULL FOR UPDATE")?;
        Ok((session.text(&told)? != "0").then_some(()))
    });
    let seen = describe(&mut session, &job);
    session.run(&format!("SELECT upkeep.cancel('{job}')"))?;
    assert!(!db.log().contains("you don't own a lock"), "it asked who waits for a lock that it had given back");
    met.context(seen)
}

#[test]
fn what_standbys_are_called_is_not_every_owners_to_know() -> Result<()> {
    let (primary, mut session) = server("names", |server| server.set("upkeep.max_replica_lag", "1s"))?;
    let standby = primary.standby("secret")?;
    session.run(
        "CREATE ROLE plain LOGIN; CREATE ROLE watcher LOGIN IN ROLE pg_monitor; GRANT ALL ON SCHEMA public TO plain, watcher;
         ALTER TABLE t OWNER TO plain; CREATE TABLE news (n int)",
    )?;
    primary.wait_for_standby(&standby)?;
    standby.connect("postgres")?.run("SELECT pg_wal_replay_pause()")?;
    session.run("INSERT INTO news VALUES (1)")?;
    let mut plain = primary.connect_as("postgres", "plain")?;
    let job = backfill(&mut plain, LEISURELY)?;
    let held = wait_until_held(&mut plain, &job, "behind (limit 1 s)")?;
    assert!(held.starts_with("a standby is "), "{held}");
    assert_eq!(plain.text("SELECT count(*) FROM upkeep.throttle")?, "0");
    let mut watcher = primary.connect_as("postgres", "watcher")?;
    let seen = watcher.text("SELECT reason FROM upkeep.throttle WHERE input = 'replica lag' AND throttling")?;
    assert!(seen.contains(standby.name()), "{seen}");
    assert!(reason(&mut watcher, &job)?.starts_with("a standby is "));
    session.run(&format!("SELECT upkeep.cancel('{job}')"))
}

#[test]
fn a_job_finds_the_samples_of_another_launcher() -> Result<()> {
    let (_server, mut session) = server("launcher", |server| server)?;
    let job = backfill(&mut session, LEISURELY)?;
    wait_until("the first rows", PATIENCE, || rows_left(&mut session).is_ok_and(|left| left < ROWS))?;
    session.run(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
          WHERE backend_type IN ('pg_upkeep launcher', 'pg_upkeep scheduler')",
    )?;
    hurry(&mut session, &job)?;
    wait(&mut session, &job)
}

/// Where the tests find nothing, there is nothing to find: the data directory of a server is a real one.
#[test]
fn every_disk_of_the_server_is_looked_at() -> Result<()> {
    let (server, mut session) = server("places", |server| server)?;
    let place: PathBuf = server.scratch().join("space");
    std::fs::create_dir(&place)?;
    server.tree.user.own(&place)?;
    session.run(&format!("CREATE TABLESPACE elsewhere LOCATION '{}'", place.display()))?;
    let oid = session.text("SELECT oid FROM pg_tablespace WHERE spcname = 'elsewhere'")?;
    let job = backfill(&mut session, "")?;
    wait(&mut session, &job)?;
    let places: Vec<String> =
        session.values("SELECT subject FROM upkeep.throttle WHERE input = 'free disk' ORDER BY 1")?;
    assert_eq!(places, ["pg_wal".to_owned(), format!("tablespace {oid}"), "the data directory".to_owned()]);
    Ok(())
}

#[test]
fn a_limit_of_a_job_can_be_taken_away_again() -> Result<()> {
    let db = testing::database()?;
    let mut session = db.connect()?;
    table(&mut session)?;
    let job = session.text(
        "SELECT upkeep.backfill('t', 'n = 1', 'n IS NULL', paused => true, batch_time => '20 ms', max_replica_lag => '2 s',
                                max_replica_lag_bytes => 5000, max_wal_rate => 20000, throttle_work_ratio => 0.5)",
    )?;
    let limits = format!("SELECT limits::text FROM upkeep.jobs WHERE id = '{job}'");
    for (argument, gone) in [
        ("max_replica_lag => '0'", "max_replica_lag"),
        ("max_replica_lag_bytes => 0", "max_replica_lag_bytes"),
        ("max_wal_rate => 0", "max_wal_rate"),
        ("throttle_work_ratio => 0", "throttle_work_ratio"),
    ] {
        let key = format!("\"{gone}\":");
        // What is not named stays.
        session.run(&format!("SELECT upkeep.alter_job('{job}', name => 'without {gone}')"))?;
        assert!(session.text(&limits)?.contains(&key));
        session.run(&format!("SELECT upkeep.alter_job('{job}', {argument})"))?;
        assert!(!session.text(&limits)?.contains(&key), "{argument}: {}", session.text(&limits)?);
    }
    let batch_time = format!("SELECT coalesce(batch_time, -1) FROM upkeep._job WHERE id = '{job}'");
    assert_eq!(session.text(&batch_time)?, "20");
    session.run(&format!("SELECT upkeep.alter_job('{job}', batch_time => '0')"))?;
    assert_eq!(session.text(&batch_time)?, "-1");
    let event = "SELECT detail FROM upkeep.job_events WHERE detail LIKE 'max_wal_rate%'";
    assert_eq!(session.text(event)?, "max_wal_rate none");
    for wrong in ["max_wal_rate => -1", "max_replica_lag => '-0.4 ms'", "batch_time => '0.4 ms'"] {
        assert_eq!(sqlstate(&mut session, &format!("SELECT upkeep.alter_job('{job}', {wrong})"))?, "22023", "{wrong}");
    }
    session.run(&format!("SELECT upkeep.resume('{job}')"))?;
    wait(&mut session, &job)
}

/// What a step has written too early is waited for by whoever has the slot next.
#[test]
fn to_pause_and_to_resume_is_no_way_around_a_limit() -> Result<()> {
    let (_server, mut session) = server("pauses", |server| server.set("upkeep.max_wal_rate", 500))?;
    let job = backfill(&mut session, "batch_time => '100 ms'")?;
    wait_until_held(&mut session, &job, "WAL rate")?;
    let before: f64 = session.value("SELECT (pg_current_wal_insert_lsn() - '0/0')::float8")?;
    let clock = Instant::now();
    for _ in 0..20 {
        session.run(&format!("SELECT upkeep.pause('{job}')"))?;
        wait_until_nobody_works_on(&mut session, &job)?;
        session.run(&format!("SELECT upkeep.resume('{job}')"))?;
        let attended = format!("SELECT count(pid) FROM upkeep._job_slot WHERE job = '{job}'");
        wait_for_text(&mut session, &attended, "1")?;
    }
    let after: f64 = session.value("SELECT (pg_current_wal_insert_lsn() - '0/0')::float8")?;
    let rate = (after - before) / clock.elapsed().as_secs_f64() / 1024.0;
    // The verbs write some as well.
    assert!(rate < 1500.0, "{rate} kB/s");
    session.run(&format!("SELECT upkeep.cancel('{job}')"))
}
