//! Commands cannot be paced: VACUUM makes pauses, and the events say when others notice one.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use anyhow::{Context, Result, anyhow};
use upkeep_tests::cluster::{Cluster, ClusterBuilder, PATIENCE};
use upkeep_tests::jobs::wait;
use upkeep_tests::session::Session;
use upkeep_tests::testing;
use upkeep_tests::wait::{wait_for, wait_until};

fn noticed(session: &mut Session, job: &str) -> Result<Vec<String>> {
    session.values(&format!("SELECT detail FROM upkeep.job_events WHERE job = '{job}' AND event = 'noticed'"))
}

/// Waits for the first event of it.
fn what_is_noticed(session: &mut Session, job: &str) -> Result<String> {
    wait_for("it to be noticed", PATIENCE, || Ok(noticed(session, job)?.pop()))
}

fn server(name: &str, configure: impl FnOnce(ClusterBuilder) -> ClusterBuilder) -> Result<(Cluster, Session)> {
    let server = configure(testing::server(name).preloaded().set("upkeep.max_slowdown", 1.2)).start()?;
    let mut session = server.connect("postgres")?;
    session.run("CREATE EXTENSION pg_upkeep")?;
    Ok((server, session))
}

#[test]
fn who_waits_for_the_lock_of_a_command_is_told_of_once() -> Result<()> {
    let (server, mut session) = server("noticed-lock", |server| server)?;
    session.run(
        "CREATE TABLE t (id int);
         CREATE PROCEDURE keep() LANGUAGE plpgsql AS $$BEGIN
             LOCK TABLE t; PERFORM pg_advisory_xact_lock(1);
         END$$",
    )?;
    session.run("BEGIN; SELECT pg_advisory_xact_lock(1)")?;
    let mut other = server.connect("postgres")?;
    let job = other.text("SELECT upkeep.run_in_background('CALL keep()')")?;
    wait_until("the command to have its lock", PATIENCE, || {
        other.text("SELECT count(*) FROM pg_locks WHERE relation = 't'::regclass AND granted").is_ok_and(|n| n == "1")
    })?;
    let mut reader = server.connect("postgres")?;
    let reads = thread::spawn(move || reader.text("SELECT count(*) FROM t"));
    let told = what_is_noticed(&mut other, &job)?;
    let waited = told
        .strip_prefix("another session has waited ")
        .and_then(|told| told.strip_suffix(" s for a lock that it has"))
        .with_context(|| told.clone())?;
    // It is looked at from its beginning, not from the next look that comes anyway, ten seconds later.
    assert!((2..8).contains(&waited.parse::<u32>()?), "{told}");
    session.run("COMMIT")?;
    wait(&mut other, &job)?;
    assert_eq!(reads.join().map_err(|_| anyhow!("the reader panicked"))??, "0");
    assert_eq!(noticed(&mut other, &job)?.len(), 1);
    Ok(())
}

#[test]
fn an_application_that_is_slower_beside_a_command_is_told_of() -> Result<()> {
    let (server, mut session) =
        server("noticed-slow", |server| server.set("upkeep.query_interval", 1).set("upkeep.track_queries", "top"))?;
    session.run(
        "CREATE SEQUENCE hurts;
         CREATE FUNCTION statement() RETURNS void LANGUAGE plpgsql AS $$BEGIN
             PERFORM pg_sleep(CASE WHEN (SELECT is_called FROM hurts) THEN 0.02 ELSE 0.002 END);
         END$$;
         CREATE PROCEDURE hurt() LANGUAGE plpgsql AS $$BEGIN PERFORM nextval('hurts'), pg_advisory_xact_lock(1); END$$",
    )?;
    session.run("BEGIN; SELECT pg_advisory_xact_lock(1)")?;
    let ends: &'static AtomicBool = Box::leak(Box::new(AtomicBool::new(false)));
    let mut client = server.connect("postgres")?;
    let application = thread::spawn(move || {
        while !ends.load(Ordering::Relaxed) {
            client.run("SELECT statement()")?;
        }
        anyhow::Ok(())
    });
    let mut other = server.connect("postgres")?;
    let known = "SELECT coalesce(sum(calls), 0) >= 500 FROM upkeep.query_history() WHERE query LIKE '%statement()%'";
    wait_until("what it takes to be known", PATIENCE, || other.text(known).is_ok_and(|known| known == "t"))?;
    let job = other.text("SELECT upkeep.run_in_background('CALL hurt()')")?;
    let told = what_is_noticed(&mut other, &job)?;
    assert!(told.starts_with("the application's p95 takes"), "{told}");
    session.run("COMMIT")?;
    wait(&mut other, &job)?;
    ends.store(true, Ordering::Relaxed);
    application.join().map_err(|_| anyhow!("the application panicked"))??;
    // And the history says that a job was under way.
    let beside =
        "SELECT bool_or(jobs = 1) FROM upkeep.query_history(bucket => '1 minute') WHERE query LIKE '%statement()%'";
    assert_eq!(other.text(beside)?, "t");
    other.run("CREATE ROLE stranger; SET ROLE stranger")?;
    let seen = "SELECT max(jobs) FROM upkeep.query_history(bucket => '1 minute')";
    assert_eq!(other.text(seen)?, "0", "other people's jobs are theirs to see");
    Ok(())
}

#[test]
fn vacuum_makes_the_pauses_that_autovacuum_makes() -> Result<()> {
    let (mut server, mut session) =
        server("noticed-vacuum", |server| server.set("autovacuum_vacuum_cost_delay", "3ms"))?;
    session.run(
        "CREATE TABLE said (what text);
         CREATE PROCEDURE say() LANGUAGE sql AS $$INSERT INTO said VALUES (current_setting('vacuum_cost_delay'))$$",
    )?;
    let said = |session: &mut Session| -> Result<String> {
        let job = session.text("SELECT upkeep.run_in_background('CALL say()')")?;
        wait(session, &job)?;
        session.text("DELETE FROM said RETURNING what")
    };
    assert_eq!(said(&mut session)?, "3ms");
    server.set("upkeep.max_slowdown", 0)?;
    server.reload()?;
    assert_eq!(said(&mut session)?, "0");
    // Whoever has set it means it.
    server.set("upkeep.max_slowdown", 1.2)?;
    for (set, shown) in [(0, "0"), (1, "1ms")] {
        server.set("vacuum_cost_delay", set)?;
        server.reload()?;
        assert_eq!(said(&mut session)?, shown);
    }
    Ok(())
}
