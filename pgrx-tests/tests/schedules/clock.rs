//! Schedules and time: nights when clocks change, clocks that are set, servers that were down. The server's clock is a
//! test's to set; sleeps are real.

use anyhow::Result;
use upkeep_tests::cluster::{Cluster, PATIENCE, Stop};
use upkeep_tests::schedules::{RARELY, describe, schedule, schedule_with, statuses, wait_for_runs};
use upkeep_tests::session::Session;
use upkeep_tests::testing::{self, wait_for_text, workers};
use upkeep_tests::wait::wait_until;

// Servers start well before the moment that matters, however long that takes; then the clock is set to it.

/// 2027-03-28 01:00 UTC: in Berlin it is 03:00 after 01:59:59.
const SPRING: i64 = 1_806_195_600;
/// 2027-10-31 00:30 UTC: 02:30 in Berlin, for the first time.
const AUTUMN: i64 = 1_824_942_600;
/// 2027-06-15 12:00 UTC: 14:00 in Berlin.
const SUMMER: i64 = 1_813_060_800;
const MINUTE: i64 = 60;
const HOUR: i64 = 3600;

fn server(name: &str, at: i64) -> Result<(Cluster, Session)> {
    let server = testing::server(name).preloaded().set("timezone", "Europe/Berlin").clock(at).start()?;
    let mut session = server.connect("postgres")?;
    session.run("CREATE EXTENSION pg_upkeep")?;
    Ok((server, session))
}

/// Tells the server another time, and the launcher at once, who would notice within a minute.
fn set_clock(server: &Cluster, session: &mut Session, at: i64) -> Result<()> {
    server.set_clock(at)?;
    let job = session.text("SELECT upkeep.run_in_background('SELECT 1')")?;
    session.run(&format!("CALL upkeep.wait('{job}')"))
}

/// When runs were due, in Berlin, oldest first.
fn due(session: &mut Session, name: &str) -> Result<String> {
    session.text(&format!(
        "SELECT string_agg(status || ' ' || to_char(due_at, 'MM-DD HH24:MI:SS TZH'), ', ' ORDER BY due_at)
           FROM upkeep.schedule_runs WHERE name = '{name}'"
    ))
}

fn next(session: &mut Session, name: &str) -> Result<String> {
    session
        .text(&format!("SELECT to_char(next_run, 'MM-DD HH24:MI:SS TZH') FROM upkeep.schedules WHERE name = '{name}'"))
}

#[test]
fn the_night_that_skips_an_hour() -> Result<()> {
    let (server, mut session) = server("spring", SPRING - 9 * MINUTE)?;
    assert_eq!(session.text("SELECT to_char(now(), 'HH24 TZH')")?, "01 +01");
    schedule(&mut session, "at half past two", "30 2 * * *", "SELECT 1")?;
    schedule(&mut session, "every ten minutes", "*/10 * * * *", "SELECT 1")?;
    schedule(&mut session, "elsewhere", "30 2 * * *", "SELECT 1")?;
    session.run("SELECT upkeep.alter_schedule('elsewhere', timezone => 'Asia/Tokyo')")?;
    assert_eq!(next(&mut session, "at half past two")?, "03-28 03:00:00 +02");
    assert_eq!(next(&mut session, "every ten minutes")?, "03-28 03:00:00 +02");
    assert_eq!(next(&mut session, "elsewhere")?, "03-28 19:30:00 +02");
    set_clock(&server, &mut session, SPRING - 1)?;
    for name in ["at half past two", "every ten minutes"] {
        wait_for_runs(&mut session, name, "count(*) FILTER (WHERE status = 'done')", "1")?;
        assert_eq!(due(&mut session, name)?, "done 03-28 03:00:00 +02");
    }
    assert_eq!(next(&mut session, "at half past two")?, "03-29 02:30:00 +02");
    assert_eq!(next(&mut session, "every ten minutes")?, "03-28 03:10:00 +02");
    Ok(())
}

#[test]
fn the_night_that_repeats_an_hour() -> Result<()> {
    let (server, mut session) = server("autumn", AUTUMN - 20 * MINUTE)?;
    assert_eq!(session.text("SELECT to_char(now(), 'HH24 TZH')")?, "02 +02");
    schedule(&mut session, "at half past two", "30 2 * * *", "SELECT 1")?;
    schedule(&mut session, "hourly", "30 * * * *", "SELECT 1")?;
    set_clock(&server, &mut session, AUTUMN - 1)?;
    for name in ["at half past two", "hourly"] {
        wait_for_runs(&mut session, name, "count(*) FILTER (WHERE status = 'done')", "1")?;
        assert_eq!(due(&mut session, name)?, "done 10-31 02:30:00 +02");
    }
    assert_eq!(next(&mut session, "at half past two")?, "11-01 02:30:00 +01");
    assert_eq!(next(&mut session, "hourly")?, "10-31 02:30:00 +01");
    // An hour later it is half past two again.
    set_clock(&server, &mut session, AUTUMN + HOUR + 1)?;
    wait_for_runs(&mut session, "hourly", "count(*) FILTER (WHERE status = 'done')", "2")?;
    assert_eq!(due(&mut session, "hourly")?, "done 10-31 02:30:00 +02, done 10-31 02:30:00 +01");
    assert_eq!(due(&mut session, "at half past two")?, "done 10-31 02:30:00 +02");
    Ok(())
}

#[test]
fn a_clock_put_back_runs_nothing_twice() -> Result<()> {
    let (server, mut session) = server("back", SUMMER - 20 * MINUTE)?;
    schedule(&mut session, "hourly", "0 * * * *", "SELECT 1")?;
    schedule(&mut session, "interval", "10 hours", "SELECT 1")?;
    set_clock(&server, &mut session, SUMMER + 1)?;
    wait_for_runs(&mut session, "hourly", "count(*) FILTER (WHERE status = 'done')", "1")?;
    let after = next(&mut session, "hourly")?;
    assert_eq!(after, "06-15 15:00:00 +02");
    let interval = next(&mut session, "interval")?;

    set_clock(&server, &mut session, SUMMER - 2 * HOUR)?;
    assert_eq!(next(&mut session, "hourly")?, after, "two hours are an adjustment");
    // The interval goes on from when it was noticed: never longer than itself.
    assert!(next(&mut session, "interval")? < interval);
    let length = "SELECT next_run <= now() + interval '10 hours' FROM upkeep.schedules WHERE name = 'interval'";
    assert_eq!(session.text(length)?, "t");
    // The hour comes a second time, and goes.
    set_clock(&server, &mut session, SUMMER + 2)?;
    assert_eq!(due(&mut session, "hourly")?, "done 06-15 14:00:00 +02", "{}", describe(&mut session));
    set_clock(&server, &mut session, SUMMER + HOUR + 1)?;
    wait_for_runs(&mut session, "hourly", "count(*) FILTER (WHERE status = 'done')", "2")?;

    // A whole day back: the clock had been wrong, and everything starts anew.
    set_clock(&server, &mut session, SUMMER - 24 * HOUR + 1)?;
    assert_eq!(next(&mut session, "hourly")?, "06-14 15:00:00 +02");
    Ok(())
}

#[test]
fn the_launcher_notices_by_itself_that_the_clock_was_set() -> Result<()> {
    let (server, mut session) = server("noticed", SUMMER)?;
    schedule(&mut session, "daily", "0 12 * * *", "SELECT 1")?;
    wait_until("the scheduler to leave", PATIENCE, || workers(&mut session, "scheduler").is_ok_and(|w| w.is_empty()))?;
    assert_eq!(next(&mut session, "daily")?, "06-16 12:00:00 +02");
    server.set_clock(SUMMER - 3 * 24 * HOUR)?;
    let corrected = || next(&mut session, "daily").is_ok_and(|next| next == "06-13 12:00:00 +02");
    wait_until("the launcher to look at the clock", PATIENCE * 2, corrected)
}

#[test]
fn runs_missed_while_the_server_was_down() -> Result<()> {
    let (mut server, mut session) = server("down", SUMMER + 30)?;
    schedule(&mut session, "plain", "*/5 * * * *", "SELECT 1")?;
    schedule_with(&mut session, "owed", "*/5 * * * *", "SELECT 1", "catch_up => true")?;
    schedule_with(&mut session, "later", "0 15 * * *", "SELECT 1", "catch_up => true")?;
    schedule_with(&mut session, "asleep", "*/5 * * * *", "SELECT 1", "catch_up => true, paused => true")?;
    schedule(&mut session, "interval", "7 minutes", "SELECT 1")?;
    server.stop(Stop::Fast)?;
    // Down from 14:00 to 14:33: due at 5, 10, 15, 20, 25, 30 past.
    server.set_clock(SUMMER + 33 * MINUTE)?;
    server.start()?;
    let mut session = server.connect("postgres")?;
    wait_for_runs(&mut session, "owed", "count(*) FILTER (WHERE status = 'done')", "1")?;
    let runs = |name: &str| {
        format!(
            "SELECT string_agg(concat_ws(' ', status, due_times, to_char(due_at, 'HH24:MI')), ', ' ORDER BY due_at)
               FROM upkeep.schedule_runs WHERE name = '{name}'"
        )
    };
    assert_eq!(session.text(&runs("owed"))?, "done 1 14:05, missed 5 14:10", "{}", describe(&mut session));
    assert_eq!(session.text(&runs("plain"))?, "missed 6 14:05");
    assert!(session.text(&runs("interval"))?.starts_with("missed 4 "), "{}", describe(&mut session));
    assert_eq!(session.text(&runs("later"))?, "");
    assert_eq!(session.text(&runs("asleep"))?, "");
    for name in ["plain", "owed"] {
        assert_eq!(next(&mut session, name)?, "06-15 14:35:00 +02");
    }
    let anchored = "SELECT next_run - due_at FROM upkeep.schedules s JOIN upkeep.schedule_runs r ON r.schedule = s.id
                     WHERE s.name = 'interval'";
    assert_eq!(session.text(anchored)?, "00:28:00", "anchored where it was");
    Ok(())
}

/// The scheduler has looked at its schedules with the clock as it is: each look also holds those that belong elsewhere. The
/// first look may have read the clock before it was set; the one after it has not.
fn looked(session: &mut Session) -> Result<()> {
    for _ in 0..2 {
        schedule(session, "foreign", RARELY, "SELECT 1")?;
        session.run("UPDATE upkeep._schedule SET system_identifier = 0 WHERE name = 'foreign'")?;
        wait_for_text(session, "SELECT hold FROM upkeep._schedule WHERE name = 'foreign'", "restored")?;
        session.run("SELECT upkeep.unschedule('foreign')")?;
    }
    Ok(())
}

#[test]
fn a_run_that_found_no_room_is_late_and_not_missed() -> Result<()> {
    let server = testing::server("room")
        .preloaded()
        .set("timezone", "Europe/Berlin")
        .set("upkeep.max_workers", 1)
        .clock(SUMMER - 20 * MINUTE)
        .start()?;
    let mut session = server.connect("postgres")?;
    session.run("CREATE EXTENSION pg_upkeep")?;
    let blocker = session.text("SELECT upkeep.run_in_background('SELECT pg_sleep(3600)')")?;
    wait_for_text(&mut session, &format!("SELECT state FROM upkeep.jobs WHERE id = '{blocker}'"), "running")?;
    schedule(&mut session, "due", "0-4/2 14 * * *", "SELECT 1")?;
    server.set_clock(SUMMER + 1)?;
    wait_for_text(&mut session, "SELECT next_run <= now() FROM upkeep.schedules WHERE name = 'due'", "t")?;
    // It is seen while it is due, and nobody still believes in that time when there is room.
    looked(&mut session)?;
    server.set_clock(SUMMER + 5 * MINUTE)?;
    looked(&mut session)?;
    session.run(&format!("SELECT upkeep.cancel('{blocker}')"))?;
    wait_for_runs(&mut session, "due", "count(*) FILTER (WHERE status = 'done')", "1")?;
    let shown = "SELECT string_agg(concat_ws(' ', status, due_times, to_char(due_at, 'HH24:MI')), ', ' ORDER BY due_at)
                   FROM upkeep.schedule_runs";
    assert_eq!(session.text(shown)?, "done 1 14:00, skipped 2 14:02", "{}", describe(&mut session));
    assert_eq!(
        session.text(
            "SELECT started_at >= due_at + interval '4 minutes' FROM upkeep.schedule_runs WHERE status = 'done'"
        )?,
        "t"
    );
    assert_eq!(statuses(&mut session, "due")?, "done skipped");
    Ok(())
}

#[test]
fn a_clock_that_is_set_ahead_ends_no_worker() -> Result<()> {
    let server = testing::server("ahead").preloaded().clock(SUMMER).start()?;
    let mut session = server.connect("postgres")?;
    session.run("CREATE EXTENSION pg_upkeep; CREATE TABLE t (id int PRIMARY KEY, v int); INSERT INTO t VALUES (1)")?;
    let job = session.text("SELECT upkeep.backfill('t', 'v = (SELECT 1 FROM pg_sleep(2))')")?;
    let asleep =
        "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'pg_upkeep executor' AND wait_event = 'PgSleep'";
    wait_for_text(&mut session, asleep, "1")?;
    // In the middle of a step, and further than any of its limits.
    server.set_clock(SUMMER + 20 * MINUTE)?;
    wait_for_text(&mut session, &format!("SELECT state FROM upkeep.jobs WHERE id = '{job}'"), "done")?;
    let told = "SELECT count(*) FROM upkeep.job_events WHERE event IN ('interrupted', 'strike')";
    assert_eq!(session.text(told)?, "0", "{:?}", session.rows("SELECT event, detail FROM upkeep.job_events")?);
    assert_eq!(session.text("SELECT v FROM t")?, "1");
    Ok(())
}
