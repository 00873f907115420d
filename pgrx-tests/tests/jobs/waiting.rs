//! `CALL upkeep.wait(job)`: waits without being noticed, and ends as the job does.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;
use upkeep_tests::jobs::{
    join, meanwhile, meanwhile_error, run_endlessly, run_in_background, sqlstate, state, wait, wait_for_error,
    wait_for_state,
};
use upkeep_tests::session::Session;
use upkeep_tests::testing::{self, wait_for_text};

/// Waits until a session that calls `upkeep.wait` has nothing to do.
fn wait_until_it_waits(session: &mut Session, pid: i32) -> Result<()> {
    let look = format!("SELECT wait_event_type FROM pg_stat_activity WHERE pid = {pid}");
    wait_for_text(session, &look, "Extension")
}

#[test]
fn who_waits_holds_no_snapshot_and_no_transaction_id() -> Result<()> {
    let db = testing::database()?;
    let mut session = db.connect()?;
    let (job, _) = run_endlessly(&mut session)?;
    let mut waiting = db.connect()?;
    let pid = waiting.pid()?;
    let waiter = meanwhile_error(waiting, &format!("CALL upkeep.wait('{job}')"));
    wait_until_it_waits(&mut session, pid)?;

    let look = format!(
        "SELECT wait_event_type, backend_xmin IS NULL, backend_xid IS NULL FROM pg_stat_activity WHERE pid = {pid}"
    );
    let (mut asleep, end) = (0, Instant::now() + Duration::from_secs(3));
    while Instant::now() < end {
        let seen = session.text(&look)?;
        // Its looks at the job are transactions like any other; in between there is nothing.
        if seen.starts_with("Extension") {
            assert_eq!(seen, "Extension|t|t");
            asleep += 1;
        }
        thread::sleep(Duration::from_millis(5));
    }
    assert!(asleep > 50, "it was seen waiting only {asleep} times");
    session.run(&format!("SELECT upkeep.cancel('{job}')"))?;
    assert_eq!(join(waiter)??.code().code(), "57014");
    Ok(())
}

#[test]
fn a_timeout_ends_the_wait_and_not_the_job() -> Result<()> {
    let db = testing::database()?;
    let mut session = db.connect()?;
    let (job, _) = run_endlessly(&mut session)?;
    for timeout in ["50 ms", "0", "-1 day"] {
        let error = session.error(&format!("CALL upkeep.wait('{job}', '{timeout}')"))?;
        assert_eq!(error.code().code(), "57014", "{timeout}");
        assert!(error.message().contains("timed out"), "{}", error.message());
    }
    assert_eq!(state(&mut session, &job)?, "running");
    session.run(&format!("SELECT upkeep.cancel('{job}')"))?;
    let error = wait_for_error(&mut session, &job)?;
    assert_eq!(error.code().code(), "57014");
    assert!(error.message().contains("was canceled"), "{}", error.message());
    Ok(())
}

#[test]
fn a_finished_job_needs_no_waiting() -> Result<()> {
    let db = testing::database()?;
    let mut session = db.connect()?;
    let done = run_in_background(&mut session, "SELECT 1")?;
    wait_for_state(&mut session, &done, "done")?;
    session.run(&format!("CALL upkeep.wait('{done}', '0')"))?;
    let failed = run_in_background(&mut session, "SELECT 1/0")?;
    wait_for_state(&mut session, &failed, "failed")?;
    assert_eq!(sqlstate(&mut session, &format!("CALL upkeep.wait('{failed}', '0')"))?, "22012");
    Ok(())
}

#[test]
fn it_cannot_wait_inside_a_transaction() -> Result<()> {
    let db = testing::database()?;
    let mut session = db.connect()?;
    let job = run_in_background(&mut session, "SELECT 1")?;
    session.run(&format!(
        "CREATE FUNCTION in_a_function() RETURNS void LANGUAGE plpgsql AS
         $$BEGIN CALL upkeep.wait('{job}'); END$$"
    ))?;
    for attempt in [
        format!("BEGIN; CALL upkeep.wait('{job}'); COMMIT"),
        format!("SELECT 1; CALL upkeep.wait('{job}')"),
        "SELECT in_a_function()".to_owned(),
    ] {
        let error = session.error(&attempt)?;
        assert_eq!(error.code().code(), "25001", "{attempt}");
        assert!(error.hint().unwrap_or_default().contains("autocommit"), "{error:?}");
        session.run("ROLLBACK")?;
    }
    // Not only at top level: PL/pgSQL hands on that it may commit.
    session.run(&format!("DO $$BEGIN CALL upkeep.wait('{job}'); CALL upkeep.wait('{job}'); END$$"))?;
    wait(&mut session, &job)
}

#[test]
fn a_paused_job_is_waited_for_with_a_notice() -> Result<()> {
    let db = testing::database()?;
    let mut session = db.connect()?;
    session.run("BEGIN")?;
    let job = run_in_background(&mut session, "SELECT 1")?;
    session.run(&format!("SELECT upkeep.pause('{job}'); COMMIT"))?;
    session.notices();
    assert_eq!(sqlstate(&mut session, &format!("CALL upkeep.wait('{job}', '3 s')"))?, "57014");
    let notices: Vec<String> = session.notices().iter().map(|n| n.message().to_owned()).collect();
    assert_eq!(notices.iter().filter(|n| n.contains("paused")).count(), 1, "once, not each second: {notices:?}");

    let mut waiting = db.connect()?;
    let pid = waiting.pid()?;
    let waiter = meanwhile(waiting, &format!("CALL upkeep.wait('{job}')"));
    wait_until_it_waits(&mut session, pid)?;
    session.run(&format!("SELECT upkeep.resume('{job}')"))?;
    join(waiter)?.1
}

#[test]
fn a_job_that_is_dropped_ends_the_wait() -> Result<()> {
    let db = testing::database()?;
    let mut session = db.connect()?;
    let (job, _) = run_endlessly(&mut session)?;
    let mut waiting = db.connect()?;
    let pid = waiting.pid()?;
    let waiter = meanwhile_error(waiting, &format!("CALL upkeep.wait('{job}')"));
    wait_until_it_waits(&mut session, pid)?;
    session.run(&format!("BEGIN; SELECT upkeep.cancel('{job}'); SELECT upkeep.drop_job('{job}'); COMMIT"))?;
    assert_eq!(join(waiter)??.code().code(), "42704");
    Ok(())
}

#[test]
fn the_waiting_session_can_be_canceled_and_used_again() -> Result<()> {
    let db = testing::database()?;
    let mut session = db.connect()?;
    let (job, _) = run_endlessly(&mut session)?;
    let mut waiting = db.connect()?;
    let pid = waiting.pid()?;
    let waiter = meanwhile(waiting, &format!("CALL upkeep.wait('{job}')"));
    wait_until_it_waits(&mut session, pid)?;
    session.run(&format!("SELECT pg_cancel_backend({pid})"))?;
    let (mut waiting, result) = join(waiter)?;
    assert!(format!("{:#}", result.unwrap_err()).contains("57014"));
    assert_eq!(waiting.text("SELECT 1")?, "1");
    waiting.run("SET statement_timeout = '300ms'")?;
    assert_eq!(sqlstate(&mut waiting, &format!("CALL upkeep.wait('{job}')"))?, "57014");
    waiting.run("RESET statement_timeout")?;
    assert_eq!(state(&mut waiting, &job)?, "running");

    let waiter = meanwhile(waiting, &format!("CALL upkeep.wait('{job}')"));
    wait_until_it_waits(&mut session, pid)?;
    session.run(&format!("SELECT pg_terminate_backend({pid})"))?;
    let (_, result) = join(waiter)?;
    let ended = format!("{:#}", result.expect_err("a terminated session"));
    assert!(ended.contains("57P01") || ended.contains("closed"), "{ended}");
    session.run(&format!("SELECT upkeep.cancel('{job}')"))
}

#[test]
fn a_job_of_somebody_else_is_not_there_to_wait_for() -> Result<()> {
    let db = testing::database()?;
    let (stranger, monitor) = (db.role("stranger")?, db.role("monitor")?);
    let mut session = db.connect()?;
    session.run(&format!("GRANT pg_monitor TO {monitor}"))?;
    let job = run_in_background(&mut session, "SELECT 'secret'::int")?;
    wait_for_state(&mut session, &job, "failed")?;
    assert_eq!(wait_for_error(&mut db.connect_as(&stranger)?, &job)?.code().code(), "42704");
    // He sees that it failed, but not why: errors contain data.
    let error = wait_for_error(&mut db.connect_as(&monitor)?, &job)?;
    assert!(error.message().contains("failed") && !format!("{error:?}").contains("secret"), "{error:?}");
    Ok(())
}
