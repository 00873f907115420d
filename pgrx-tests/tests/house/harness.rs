//! The harness itself: what the other tests rely on.

use std::thread;
use std::time::Duration;

use anyhow::Result;
use upkeep_tests::cluster::{PATIENCE, Stop};
use upkeep_tests::faults::{self, Blow};
use upkeep_tests::jobs::{ENDLESS, join, meanwhile};
use upkeep_tests::testing::{self, wait_for_text};
use upkeep_tests::wait::wait_until;

#[test]
fn each_test_has_its_own_database() -> Result<()> {
    let (one, other) = (testing::database()?, testing::database()?);
    one.connect()?.run("CREATE TABLE t ()")?;
    assert_eq!(other.connect()?.text("SELECT to_regclass('t')")?, "");
    assert_eq!(other.connect()?.text("SELECT extname FROM pg_extension WHERE extname = 'pg_upkeep'")?, "pg_upkeep");
    Ok(())
}

#[test]
fn preload_is_a_choice() -> Result<()> {
    let preloaded = |db: testing::Database| db.connect()?.text("SHOW shared_preload_libraries");
    let libraries = preloaded(testing::database()?)?;
    assert!(libraries == "pg_upkeep" || libraries == "pg_stat_statements, pg_upkeep", "{libraries}");
    assert_eq!(preloaded(testing::database_without_preload()?)?, "");
    Ok(())
}

#[test]
fn errors_and_notices_can_be_looked_at() -> Result<()> {
    let db = testing::database()?;
    let mut session = db.connect()?;
    assert_eq!(session.error("SELECT 1/0")?.code().code(), "22012");
    session.run("DO $$BEGIN RAISE WARNING 'careful'; END$$")?;
    let notices = session.notices();
    assert_eq!(notices.iter().map(|n| n.message()).collect::<Vec<_>>(), ["careful"]);
    assert!(session.error("SELECT 1").is_err(), "no error where one is expected must not pass");
    Ok(())
}

#[test]
fn a_statement_that_does_not_end_is_canceled() -> Result<()> {
    let db = testing::database()?;
    let sleeper = db.connect()?;
    let watched = sleeper.watched();
    watched.end_what_is_overdue(Duration::ZERO);
    let sleeping = meanwhile(sleeper, ENDLESS);
    let asleep =
        format!("SELECT count(*) FROM pg_stat_activity WHERE datname = '{}' AND wait_event = 'PgSleep'", db.name);
    wait_for_text(&mut db.connect()?, &asleep, "1")?;
    watched.end_what_is_overdue(PATIENCE);
    watched.end_what_is_overdue(Duration::ZERO);
    let (mut sleeper, result) = join(sleeping)?;
    let error = format!("{:#}", result.expect_err("it does not end by itself"));
    assert!(error.contains("57014"), "{error}");
    assert_eq!(sleeper.text("SELECT 1")?, "1");
    Ok(())
}

#[test]
fn a_server_survives_what_tests_do_to_it() -> Result<()> {
    let mut server = testing::server("survivor").start()?;
    server.connect("postgres")?.run("CREATE TABLE kept AS SELECT 7 AS n; CHECKPOINT")?;

    let mut session = server.connect("postgres")?;
    let victim = session.pid()?;
    server.kill(victim)?;
    assert!(session.run("SELECT 1").is_err());
    assert!(server.kill(1).is_err(), "only processes of the server may be killed");

    server.crash()?;
    server.start()?;
    server.stop(Stop::Immediate)?;
    server.start()?;
    server.set("work_mem", "5MB")?;
    server.reload()?;
    let mut session = server.connect("postgres")?;
    assert_eq!(session.text("SELECT n, current_setting('work_mem') FROM kept")?, "7|5MB");
    Ok(())
}

#[test]
fn standbys_and_dumps() -> Result<()> {
    let primary = testing::server("primary").start()?;
    let standby = primary.standby("standby")?;
    primary.connect("postgres")?.run("CREATE TABLE t AS SELECT 1 AS n")?;
    primary.wait_for_standby(&standby)?;
    assert_eq!(standby.connect("postgres")?.text("SELECT n, pg_is_in_recovery() FROM t")?, "1|t");
    standby.promote()?;
    wait_for_text(&mut standby.connect("postgres")?, "SELECT pg_is_in_recovery()", "f")?;

    let elsewhere = testing::server("elsewhere").own_identity().start()?;
    elsewhere.restore("restored", &primary.dump("postgres")?)?;
    assert_eq!(elsewhere.connect("restored")?.text("SELECT n FROM t")?, "1");
    let identifier = "SELECT system_identifier FROM pg_control_system()";
    let [here, there] = [&primary, &elsewhere].map(|s| s.connect("postgres").and_then(|mut c| c.text(identifier)));
    assert_ne!(here?, there?);
    Ok(())
}

#[test]
fn blows_land_inside_transactions() -> Result<()> {
    let server = testing::server("struck").start()?;
    for (blow, death) in [(Blow::Terminate, "due to administrator command"), (Blow::Kill, "terminated by signal 9")] {
        let mut victim = server.connect("postgres")?;
        let pid = victim.pid()?;
        let writing = thread::spawn(move || victim.run("CREATE TEMP TABLE t (); SELECT pg_sleep(60)"));
        let mut session = server.connect("postgres")?;
        let struck = faults::strike(&server, &mut session, blow, &format!("SELECT {pid}"))?;
        assert_eq!(struck, pid);
        assert!(writing.join().expect("the victim's thread").is_err());
        wait_until("the log to tell", PATIENCE, || server.log().contains(death))?;
    }
    Ok(())
}
