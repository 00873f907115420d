//! What might have a job go too fast, or not at all, beside an application: deaths, clocks, disks, locks, statements of all sorts.

use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process};
use upkeep_tests::cluster::{ClusterBuilder, PATIENCE};
use upkeep_tests::jobs::{describe, wait};
use upkeep_tests::session::Session;
use upkeep_tests::wait::{wait_for, wait_until};

use crate::slowdown::{Application, backfill, figure, server, wait_for_pace};

/// Neither too fast beside an application that feels it, in what is looked at next.
fn gives_way(session: &mut Session, job: &str) -> Result<()> {
    wait_for_pace(session, job, "the job to give way", |percent| percent <= 10.0)
}

fn has_all(session: &mut Session, job: &str) -> Result<()> {
    wait_for_pace(session, job, "the job to have all of the time", |percent| percent == 100.0)
}

/// Of which none is wanted, so that a job does not wait for figures of the server.
fn without_figures(server: ClusterBuilder) -> ClusterBuilder {
    server
        .preloaded()
        .set("upkeep.max_replica_lag", -1)
        .set("upkeep.max_archive_backlog", -1)
        .set("upkeep.min_free_disk", 0)
}

fn scheduler(session: &mut Session) -> Result<i32> {
    wait_for("a scheduler", PATIENCE, || {
        let found: Vec<i32> =
            session.values("SELECT pid FROM pg_stat_activity WHERE backend_type = 'pg_upkeep scheduler'")?;
        Ok(found.first().copied())
    })
}

#[test]
fn an_application_that_comes_later_is_given_way_to() -> Result<()> {
    let (server, mut session) = server("slowdown-later", ClusterBuilder::preloaded)?;
    let job = backfill(&mut session, "")?;
    has_all(&mut session, &job)?;
    let rate = format!("SELECT rows_per_second FROM upkeep.jobs WHERE id = '{job}'");
    let before: f64 = session.value(&rate)?;
    let application = Application::start(&server, 2)?;
    gives_way(&mut session, &job)?;
    // And when it will be done follows from how fast it goes now.
    wait_until("the rate to be that of now", PATIENCE, || {
        session.run("SELECT pg_sleep(0.7)").is_ok() && session.value::<f64>(&rate).is_ok_and(|now| now < before / 2.0)
    })?;
    application.end()?;
    session.run(&format!("SELECT upkeep.cancel('{job}')"))
}

/// After a step that could not be divided a job rests for seconds. Not for somebody who is gone.
#[test]
fn who_is_gone_is_not_rested_for() -> Result<()> {
    let (server, mut session) = server("slowdown-gone", ClusterBuilder::preloaded)?;
    session.run(
        "DELETE FROM t WHERE id > 1000;
         CREATE SEQUENCE rows_filled;
         CREATE FUNCTION fill_slowly() RETURNS int LANGUAGE plpgsql AS $$BEGIN
             FOR part IN 1 .. 50 LOOP PERFORM fill(); PERFORM busy(0.002); END LOOP;
             RETURN nextval('rows_filled');
         END$$",
    )?;
    let application = Application::start(&server, 2)?;
    let job = session.text("SELECT upkeep.backfill('t', 'n = fill_slowly()', 'n IS NULL', max_slowdown => 1.01)")?;
    let reason = format!("SELECT wait_reason FROM upkeep.jobs WHERE id = '{job}'");
    wait_until("the job to go as slowly as it can", PATIENCE, || {
        session.text(&reason).is_ok_and(|reason| reason.starts_with("goes at 1 %"))
    })?;
    // One statement in most of a second is taken for nobody.
    let mut filled = || session.value::<i64>("SELECT last_value FROM pg_sleep(0.7), rows_filled");
    let before = filled()?;
    wait_until("another row", PATIENCE, || filled().is_ok_and(|now| now > before))?;
    application.end()?;
    let (gone, before) = (Instant::now(), filled()?);
    wait_until("the next one", PATIENCE, || filled().is_ok_and(|now| now > before + 2))?;
    assert!(gone.elapsed() < Duration::from_secs(8), "it rested for {:?} more", gone.elapsed());
    session.run(&format!("SELECT upkeep.cancel('{job}')"))
}

#[test]
fn figures_of_somebody_who_looks_no_more_mean_the_slowest_pace() -> Result<()> {
    let (_server, mut session) = server("slowdown-stale", without_figures)?;
    let job = backfill(&mut session, "")?;
    has_all(&mut session, &job)?;
    let scheduler = Pid::from_raw(scheduler(&mut session)?).context("no process")?;
    kill_process(scheduler, Signal::STOP)?;
    let reason = format!("SELECT coalesce(wait_reason, '') FROM upkeep.jobs WHERE id = '{job}'");
    let told = wait_until("the slowest pace", PATIENCE, || {
        session.text(&reason).is_ok_and(|reason| reason == "goes at 1 %: nobody has looked at the server of late")
    });
    kill_process(scheduler, Signal::CONT)?;
    told?;
    has_all(&mut session, &job)?;
    session.run(&format!("SELECT upkeep.cancel('{job}')"))
}

#[test]
fn whoever_looks_may_be_killed() -> Result<()> {
    let (server, mut session) = server("slowdown-killed", without_figures)?;
    let job = backfill(&mut session, "")?;
    has_all(&mut session, &job)?;
    for who in ["scheduler", "launcher"] {
        let pid = session.value::<i32>(&format!(
            "SELECT pid FROM pg_stat_activity WHERE backend_type = 'pg_upkeep {who}' LIMIT 1"
        ))?;
        session = server.kill_and_recover(pid, "postgres")?;
        let application = Application::start(&server, 2)?;
        gives_way(&mut session, &job)?;
        application.end()?;
    }
    has_all(&mut session, &job)?;
    session.run(&format!("SELECT upkeep.cancel('{job}')"))
}

/// Beside an application whose clock is the server's: it is set to tomorrow, and to the day before yesterday.
#[test]
fn the_clock_may_be_set() -> Result<()> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs() as i64;
    let (server, mut session) = server("slowdown-clock", |server| server.preloaded().clock(now))?;
    session.run(
        "CREATE FUNCTION loops(seconds float8) RETURNS void LANGUAGE plpgsql AS $$BEGIN
             FOR i IN 1 .. (seconds * 2e7)::int LOOP END LOOP;
         END$$;
         CREATE FUNCTION by_no_clock() RETURNS void LANGUAGE plpgsql AS $$DECLARE before bigint; BEGIN
             SELECT last_value FROM filled INTO before;
             PERFORM loops(0.002);
             IF before <> (SELECT last_value FROM filled) THEN PERFORM loops(0.02); END IF;
         END$$",
    )?;
    // The server's own sleep is by the clock, too.
    let application = Application::of(&server, 2, |_| {
        thread::sleep(Duration::from_millis(10));
        "SELECT by_no_clock()".to_owned()
    })?;
    let job = backfill(&mut session, "")?;
    for days in [0, 1, -2] {
        server.set_clock(now + days * 86_400)?;
        wait_for_pace(&mut session, &job, "the job to give way", |percent| percent < 40.0)?;
        for _ in 0..3 {
            let pace = figure(&mut session, "pace of each worker")?;
            let is_slow = pace.is_some_and(|percent| percent < 80.0);
            assert!(is_slow, "{days} days: {pace:?}\n{}", describe(&mut session, &job));
        }
    }
    application.end()?;
    has_all(&mut session, &job)?;
    session.run(&format!("SELECT upkeep.cancel('{job}')"))
}

/// Too many for any to be known by itself.
#[test]
fn five_thousand_kinds_of_statement_are_given_way_to() -> Result<()> {
    let (server, mut session) = server("slowdown-kinds", ClusterBuilder::preloaded)?;
    let application = Application::of(&server, 2, |turn| format!("SELECT statement() AS kind_{}", turn % 5000))?;
    let job = backfill(&mut session, "")?;
    gives_way(&mut session, &job)?;
    application.end()?;
    session.run(&format!("SELECT upkeep.cancel('{job}')"))
}

/// They take longer than it can be told what a job does to them, and do not stop it.
#[test]
fn statements_that_are_slow_anyway_do_not_stop_a_job() -> Result<()> {
    let (server, mut session) = server("slowdown-slow", ClusterBuilder::preloaded)?;
    let application = Application::of(&server, 2, |_| "SELECT pg_sleep(0.4)".to_owned())?;
    let job = backfill(&mut session, "")?;
    wait_for_pace(&mut session, &job, "the job to go faster than at first", |percent| percent >= 30.0)?;
    application.end()?;
    session.run(&format!("SELECT upkeep.cancel('{job}')"))
}

#[test]
fn two_jobs_beside_a_long_transaction_share_what_is_left() -> Result<()> {
    let (server, mut session) = server("slowdown-two", ClusterBuilder::preloaded)?;
    session.run("CREATE TABLE u AS TABLE t; ALTER TABLE u ADD PRIMARY KEY (id)")?;
    let mut long = server.connect("postgres")?;
    long.run("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM t; UPDATE u SET n = 0 WHERE id = 1")?;
    let application = Application::start(&server, 2)?;
    let jobs = [
        backfill(&mut session, ", workers => 2")?,
        session.text("SELECT upkeep.backfill('u', 'n = fill()', 'n IS NULL', workers => 2)")?,
    ];
    gives_way(&mut session, &jobs[0])?;
    for job in &jobs {
        let reason = format!("SELECT wait_reason FROM upkeep.jobs WHERE id = '{job}'");
        wait_until("both to say so", PATIENCE, || {
            session.text(&reason).is_ok_and(|reason| reason.starts_with("goes at ") && reason.contains("application's"))
        })?;
    }
    application.end()?;
    long.run("COMMIT")?;
    jobs.iter().try_for_each(|job| session.run(&format!("SELECT upkeep.cancel('{job}')")))
}

/// Commits of others wait for what the job has written: on a disk that takes its time, for long.
#[test]
fn commits_on_a_slow_disk_are_given_way_to() -> Result<()> {
    let slow = |server: ClusterBuilder| server.preloaded().slow_disk(Duration::from_millis(5));
    let (server, mut session) = server("slowdown-disk", slow)?;
    session.run("CREATE TABLE log (at timestamptz)")?;
    let application = Application::of(&server, 2, |_| "INSERT INTO log VALUES (now())".to_owned())?;
    let job = session.text("SELECT upkeep.backfill('t', 'n = 1', 'n IS NULL', workers => 2)")?;
    let told = wait_for("the job to give way", PATIENCE, || {
        let reason = session.text(&format!("SELECT coalesce(wait_reason, '') FROM upkeep.jobs WHERE id = '{job}'"))?;
        Ok(Some(reason).filter(|reason| reason.contains("the application's")))
    })?;
    assert!(told.starts_with("goes at "), "{told}");
    application.end()?;
    session.run(&format!("SELECT upkeep.cancel('{job}')"))
}

/// Sessions that wait for the job itself, for an advisory lock or for a table are no application.
#[test]
fn who_waits_for_something_else_slows_nobody_down() -> Result<()> {
    let (server, mut session) = server("slowdown-waiters", ClusterBuilder::preloaded)?;
    session.run("CREATE TABLE u (id int)")?;
    let mut holder = server.connect("postgres")?;
    holder.run("BEGIN; LOCK TABLE u; SELECT pg_advisory_lock(7)")?;
    let job = backfill(&mut session, "")?;
    let waits = [
        "SELECT pg_advisory_lock(7), pg_advisory_unlock(7)".to_owned(),
        "SELECT count(*) FROM u".to_owned(),
        format!("CALL upkeep.wait('{job}')"),
    ];
    let waiters = waits.map(|wait| {
        let mut session = server.connect("postgres");
        thread::spawn(move || session.as_mut().map(|session| drop(session.run(&wait))).is_ok())
    });
    wait_until("all to wait", PATIENCE, || {
        let waiting =
            "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND wait_event_type IN ('Lock', 'Extension')
                       AND backend_type = 'client backend'";
        session.text(waiting).is_ok_and(|n| n == "3")
    })?;
    for _ in 0..4 {
        has_all(&mut session, &job)?;
    }
    session.run(&format!("SELECT upkeep.cancel('{job}')"))?;
    holder.run("COMMIT; SELECT pg_advisory_unlock(7)")?;
    assert!(waiters.into_iter().all(|waiter| waiter.join().is_ok_and(|connected| connected)));
    Ok(())
}

/// With `max_wal_size` far too small, checkpoints, and a standby whose replay every commit of the application waits for.
#[test]
fn checkpoints_and_a_standby_that_is_waited_for_harm_nobody() -> Result<()> {
    let (mut server, mut session) = server("slowdown-standby", |server| {
        server.preloaded().set("max_wal_size", "32MB").set("min_wal_size", "32MB")
    })?;
    session.run("DELETE FROM t WHERE id > 200000; UPDATE felt SET so = false; CREATE TABLE log (n int)")?;
    let standby = server.standby("slowdown-standby")?;
    server.set("synchronous_standby_names", "*")?;
    server.set("synchronous_commit", "remote_apply")?;
    server.reload()?;
    let application = Application::of(&server, 2, |turn| format!("INSERT INTO log VALUES ({turn})"))?;
    let job = backfill(&mut session, "")?;
    for part in 1..=3 {
        wait_until("rows to be filled", PATIENCE, || {
            session.text("SELECT last_value FROM filled").is_ok_and(|n| n.parse::<i64>().unwrap_or(0) > part * 30_000)
        })?;
        session.run("CHECKPOINT")?;
    }
    wait(&mut session, &job)?;
    application.end()?;
    server.wait_for_standby(&standby)?;
    let rows = "SELECT count(*), count(n), (SELECT count(*) FROM log) FROM t";
    assert_eq!(standby.connect("postgres")?.text(rows)?, session.text(rows)?);
    assert_eq!(session.text("SELECT count(*) FROM t WHERE n IS NULL")?, "0");
    Ok(())
}

/// A thousandth of the rows gets half of the updates.
#[test]
fn hot_rows_of_the_table_lose_nothing() -> Result<()> {
    let (server, mut session) = server("slowdown-hot", ClusterBuilder::preloaded)?;
    session.run("DELETE FROM t WHERE id > 100000; ALTER TABLE t ADD hits int NOT NULL DEFAULT 0")?;
    session.run("CREATE TABLE hits (n int)")?;
    let update = |turn: usize| {
        let id = if turn.is_multiple_of(2) { "1 + floor(random() * 100)" } else { "1 + floor(random() * 100000)" };
        format!(
            "WITH row AS (SELECT ({id})::int AS id OFFSET 0),
                      hit AS (UPDATE t SET hits = hits + 1 FROM row WHERE t.id = row.id)
                 INSERT INTO hits VALUES (1)"
        )
    };
    let application = Application::of(&server, 4, update)?;
    let job = backfill(&mut session, ", workers => 2")?;
    wait(&mut session, &job)?;
    application.end()?;
    assert_eq!(session.text("SELECT count(*) FROM t WHERE n IS NULL")?, "0");
    assert_eq!(session.text("SELECT sum(hits) = (SELECT sum(n) FROM hits) FROM t")?, "t");
    assert_eq!(session.text(&format!("SELECT rows_left FROM upkeep.jobs WHERE id = '{job}'"))?, "0");
    Ok(())
}
