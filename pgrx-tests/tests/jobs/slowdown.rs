//! A job goes as fast as the statements of others let it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use anyhow::{Context, Result, anyhow};
use upkeep_tests::cluster::{Cluster, ClusterBuilder, PATIENCE};
use upkeep_tests::jobs::{describe, wait};
use upkeep_tests::session::Session;
use upkeep_tests::testing::{self, wait_for_text};
use upkeep_tests::wait::{wait_for, wait_until};

/// A table whose filling is felt at once: a statement of others takes ten times as long while a row has just been filled, as long as
/// `felt` says so.
const FELT: &str = "
    CREATE SEQUENCE filled;
    CREATE FUNCTION fill() RETURNS int LANGUAGE sql AS 'SELECT nextval(''filled'')::int';
    CREATE TABLE felt AS SELECT true AS so;
    CREATE TABLE t (id int PRIMARY KEY, n int) WITH (autovacuum_enabled = off);
    INSERT INTO t SELECT g, NULL FROM generate_series(1, 3000000) g;
    CREATE FUNCTION busy(seconds float8) RETURNS void LANGUAGE plpgsql AS $$DECLARE until timestamptz;
    BEGIN
        until := clock_timestamp() + seconds * interval '1 s';
        WHILE clock_timestamp() < until LOOP END LOOP;
    END$$;
    CREATE FUNCTION statement() RETURNS void LANGUAGE plpgsql AS $$DECLARE before bigint; is_felt bool;
    BEGIN
        SELECT so FROM felt INTO is_felt;
        SELECT last_value FROM filled INTO before;
        PERFORM busy(0.002);
        IF is_felt AND before <> (SELECT last_value FROM filled) THEN PERFORM busy(0.02); END IF;
        PERFORM pg_sleep(0.01);
    END$$";

pub struct Application {
    ends: &'static AtomicBool,
    sessions: Vec<JoinHandle<Result<()>>>,
}

impl Application {
    /// Sessions that execute one statement after the other.
    pub fn start(server: &Cluster, sessions: usize) -> Result<Self> {
        Self::of(server, sessions, |_| "SELECT statement()".to_owned())
    }

    /// The same with the statement that this gives for the session's first, second, .. turn.
    pub fn of(server: &Cluster, sessions: usize, statement: fn(usize) -> String) -> Result<Self> {
        let ends: &'static AtomicBool = Box::leak(Box::new(AtomicBool::new(false)));
        let start = |_| {
            let mut session = server.connect("postgres")?;
            Ok(thread::spawn(move || {
                for turn in 0.. {
                    if ends.load(Ordering::Relaxed) {
                        break;
                    }
                    session.run(&statement(turn))?;
                }
                Ok(())
            }))
        };
        Ok(Application { ends, sessions: (0..sessions).map(start).collect::<Result<_>>()? })
    }

    pub fn end(self) -> Result<()> {
        self.ends.store(true, Ordering::Relaxed);
        self.sessions.into_iter().try_for_each(|session| session.join().map_err(|_| anyhow!("a session panicked"))?)
    }
}

pub fn server(name: &str, configure: impl FnOnce(ClusterBuilder) -> ClusterBuilder) -> Result<(Cluster, Session)> {
    let server = configure(testing::server(name).set("upkeep.max_slowdown", 1.2)).start()?;
    let mut session = server.connect("postgres")?;
    session.run("CREATE EXTENSION pg_upkeep")?;
    session.run(FELT)?;
    Ok((server, session))
}

pub fn backfill(session: &mut Session, limit: &str) -> Result<String> {
    session.text(&format!("SELECT upkeep.backfill('t', 'n = fill()', 'n IS NULL'{limit})"))
}

/// `None` while it is not known. Slowly, so that it does not itself seem to be an application.
pub fn figure(session: &mut Session, subject: &str) -> Result<Option<f64>> {
    let look = format!("SELECT value FROM upkeep.throttle WHERE input = 'slowdown' AND subject = '{subject}'");
    session.run("SELECT pg_sleep(0.7)")?;
    Ok(session.values(&look)?.pop())
}

pub fn wait_for_pace(session: &mut Session, job: &str, what: &str, is: impl Fn(f64) -> bool) -> Result<()> {
    let seen =
        wait_until(what, PATIENCE, || figure(session, "pace of each worker").is_ok_and(|pace| pace.is_some_and(&is)));
    seen.with_context(|| {
        format!(
            "{:?}\n{}",
            session.rows("SELECT * FROM upkeep.throttle WHERE input = 'slowdown'"),
            describe(session, job)
        )
    })
}

/// Beside an application that feels it, and `comes_back`: beside one that does not any more; at last beside none.
fn gives_way(server: &Cluster, session: &mut Session, comes_back: bool) -> Result<()> {
    let application = Application::start(server, 2)?;
    let job = backfill(session, "")?;
    wait_for_pace(session, &job, "the job to give way", |percent| percent <= 10.0)?;
    let reason = wait_for("the reason to be told", PATIENCE, || {
        let reason = session.text(&format!("SELECT coalesce(wait_reason, '') FROM upkeep.jobs WHERE id = '{job}'"))?;
        Ok(Some(reason).filter(|reason| reason.contains("the application's")))
    })?;
    assert!(reason.starts_with("goes at "), "{reason}");
    let told = format!("SELECT detail FROM upkeep.job_events WHERE job = '{job}' AND event = 'throttled'");
    wait_until("it to be in the job's history", PATIENCE, || session.rows(&told).is_ok_and(|told| told.len() == 1))?;
    if comes_back {
        session.run("UPDATE felt SET so = false")?;
        wait_for_pace(session, &job, "the job to come back", |percent| percent >= 30.0)?;
    }
    application.end()?;
    wait_for_pace(session, &job, "the job to have all of the time", |percent| percent == 100.0)?;
    session.run(&format!("SELECT upkeep.cancel('{job}')"))
}

#[test]
fn a_job_gives_way_to_those_whom_it_slows_down() -> Result<()> {
    let (server, mut session) = server("slowdown", ClusterBuilder::preloaded)?;
    gives_way(&server, &mut session, true)
}

/// Nobody counts statements there: who is at one, and for what he waits, is seen all the same. So is what else the machine does, for the
/// kernel's figures are of all of it: beside other tests it may not come back.
#[test]
fn a_job_gives_way_without_figures_too() -> Result<()> {
    let (server, mut session) = server("slowdown-plain", |server| server)?;
    session.run("SELECT upkeep.start_workers()")?;
    gives_way(&server, &mut session, false)
}

#[test]
fn nobody_is_given_way_to_where_that_is_turned_off() -> Result<()> {
    let (server, mut session) = server("slowdown-off", |server| server.preloaded().set("upkeep.max_slowdown", 0))?;
    session.run("DELETE FROM t WHERE id > 100000")?;
    let application = Application::start(&server, 2)?;
    let job = backfill(&mut session, "")?;
    wait(&mut session, &job)?;
    application.end()?;
    let told: i64 = session
        .value(&format!("SELECT count(*) FROM upkeep.job_events WHERE job = '{job}' AND event = 'throttled'"))?;
    assert_eq!(told, 0);
    let shown = "SELECT bool_or(throttling OR threshold IS NOT NULL) FROM upkeep.throttle WHERE input = 'slowdown'";
    assert_eq!(session.text(shown)?, "f", "it is looked at, for jobs that have limits of their own");
    Ok(())
}

#[test]
fn a_job_can_have_a_limit_of_its_own() -> Result<()> {
    let (server, mut session) = server("slowdown-own", |server| server.preloaded().set("upkeep.max_slowdown", 0))?;
    let application = Application::start(&server, 2)?;
    let job = backfill(&mut session, ", max_slowdown => 1.1")?;
    let look = format!("SELECT wait_reason FROM upkeep.jobs WHERE id = '{job}'");
    wait_until("the job to give way", PATIENCE, || {
        session.text(&look).is_ok_and(|reason| reason.starts_with("goes at") && reason.contains("the application's"))
    })?;
    // And may go without it again.
    session.run(&format!("SELECT upkeep.alter_job('{job}', max_slowdown => 0)"))?;
    assert_eq!(session.text(&format!("SELECT limits FROM upkeep.jobs WHERE id = '{job}'"))?, "");
    wait_for_text(&mut session, &format!("SELECT wait_reason IS NULL FROM upkeep.jobs WHERE id = '{job}'"), "t")?;
    application.end()?;
    session.run(&format!("SELECT upkeep.cancel('{job}')"))
}
