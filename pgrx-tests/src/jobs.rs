//! Words for what tests do with jobs.

use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use postgres::error::DbError;

use crate::cluster::PATIENCE;
use crate::session::Session;
use crate::testing::wait_for_text;
use crate::wait::wait_for;

/// A command that lasts longer than any test.
pub const ENDLESS: &str = "SELECT pg_sleep(3600)";

/// `upkeep.run_in_background(command)`: the job's id.
pub fn run_in_background(session: &mut Session, command: &str) -> Result<String> {
    run_with(session, command, "")
}

/// The same with more arguments: `retries => 1`.
pub fn run_with(session: &mut Session, command: &str, arguments: &str) -> Result<String> {
    let comma = if arguments.is_empty() { "" } else { ", " };
    session.text(&format!("SELECT upkeep.run_in_background($command${command}$command${comma}{arguments})"))
}

/// Starts a command that does not end by itself, and waits until it is at work. Returns the job and its executor.
pub fn run_endlessly(session: &mut Session) -> Result<(String, i32)> {
    let job = run_in_background(session, ENDLESS)?;
    let executor = wait_until_asleep(session, &job)?;
    Ok((job, executor))
}

/// Waits until a job's command has come to its `pg_sleep`. Returns its executor.
pub fn wait_until_asleep(session: &mut Session, job: &str) -> Result<i32> {
    let look = executors(job) + " AND wait_event = 'PgSleep'";
    let asleep = wait_for("a command to be at work", PATIENCE, || Ok(session.values(&look)?.first().copied()));
    asleep.with_context(|| describe(session, job))
}

/// A backfill of the (new) table `endless`, asleep in its first batch; it goes on after every interruption, and comes to
/// an end once `endless_pace` is emptied. Returns the job and its executor.
pub fn backfill_endlessly(session: &mut Session) -> Result<(String, i32)> {
    session.run(
        "CREATE TABLE endless_pace AS SELECT 3600 AS seconds;
         CREATE TABLE endless (id int PRIMARY KEY, n int);
         INSERT INTO endless SELECT g, 0 FROM generate_series(1, 10) g;
         CREATE FUNCTION endlessly(n int) RETURNS int LANGUAGE plpgsql AS
         $$BEGIN PERFORM pg_sleep(seconds) FROM endless_pace; RETURN n + 1; END$$",
    )?;
    let job = session.text("SELECT upkeep.backfill('endless', 'n = endlessly(n)', name => 'endless')")?;
    let executor = wait_until_asleep(session, &job)?;
    Ok((job, executor))
}

/// Lets a backfill of [`backfill_endlessly`] end once its step is interrupted, and waits until it has.
pub fn end_endless_backfill(session: &mut Session, job: &str) -> Result<()> {
    session.run("DELETE FROM endless_pace")?;
    for executor in executors_of(session, job)? {
        session.run(&format!("SELECT pg_terminate_backend({executor})"))?;
    }
    wait(session, job)?;
    let sum = session.text("SELECT sum(n) FROM endless")?;
    if sum != "10" {
        bail!("10 rows were to be filled once, but their sum is {sum}");
    }
    Ok(())
}

/// A backfill of the (new) table `t`, `n + 1` for 0 in each row, that takes a millisecond for each until [`NO_MORE_SLOWLY`].
pub fn backfill_slowly(session: &mut Session, rows: u32) -> Result<String> {
    session.run(&format!(
        "CREATE TABLE t (id int PRIMARY KEY, n int); INSERT INTO t SELECT g, 0 FROM generate_series(1, {rows}) g;
         CREATE FUNCTION slowly(n int) RETURNS int LANGUAGE plpgsql AS
         $$BEGIN PERFORM pg_sleep(0.001); RETURN n + 1; END$$"
    ))?;
    session.text("SELECT upkeep.backfill('t', 'n = slowly(n)', batch_time => '50 ms')")
}

/// From now on a backfill of [`backfill_slowly`] is as quick as any.
pub const NO_MORE_SLOWLY: &str =
    "CREATE OR REPLACE FUNCTION slowly(n int) RETURNS int LANGUAGE plpgsql AS 'BEGIN RETURN n + 1; END'";

/// What refuses a transaction block, or has several: each is run by `run` in a new database and must have done its work.
pub fn top_level_commands_run(session: &mut Session, run: impl Fn(&mut Session, &str) -> Result<()>) -> Result<()> {
    session.run(
        "CREATE TABLE t AS SELECT g AS n FROM generate_series(1, 1000) g;
         CREATE TABLE steps (n int);
         CREATE PROCEDURE in_three_steps() LANGUAGE plpgsql AS
         $$BEGIN FOR i IN 1..3 LOOP INSERT INTO steps VALUES (i); COMMIT; END LOOP; END$$",
    )?;
    for command in ["VACUUM t", "CREATE INDEX CONCURRENTLY t_n ON t (n)", "CALL in_three_steps()"] {
        run(session, command)?;
    }
    let outcome = session.text(
        "SELECT (SELECT vacuum_count FROM pg_stat_user_tables WHERE relname = 't'),
                (SELECT indisvalid FROM pg_index WHERE indexrelid = 't_n'::regclass),
                (SELECT count(DISTINCT xmin::text) FROM steps)",
    )?;
    if outcome != "1|t|3" {
        bail!("one VACUUM, a valid index and three transactions were to be there, but it is {outcome}");
    }
    Ok(())
}

/// Process ids of a job's executors.
pub fn executors_of(session: &mut Session, job: &str) -> Result<Vec<i32>> {
    session.values(&executors(job))
}

pub fn wait_until_nobody_works_on(session: &mut Session, job: &str) -> Result<()> {
    let left = executors(job).replacen("SELECT pid", "SELECT count(*)", 1);
    wait_for_text(session, &left, "0")
}

fn executors(job: &str) -> String {
    format!(
        "SELECT pid FROM pg_catalog.pg_stat_activity
          WHERE backend_type = 'pg_upkeep executor' AND query LIKE '%{job}%'"
    )
}

pub fn state(session: &mut Session, job: &str) -> Result<String> {
    session.text(&format!("SELECT state FROM upkeep.jobs WHERE id = '{job}'"))
}

/// Waits until a job is in this state; a job that ends in another one is an error which says why.
pub fn wait_for_state(session: &mut Session, job: &str, wanted: &str) -> Result<()> {
    wait_for_state_within(session, job, wanted, PATIENCE)
}

pub fn wait_for_state_within(session: &mut Session, job: &str, wanted: &str, timeout: Duration) -> Result<()> {
    let look = format!("SELECT state FROM upkeep.jobs WHERE id = '{job}'");
    let reached = wait_for(&format!("job {job} to be {wanted}"), timeout, || {
        let state = session.text(&look)?;
        if state != wanted && ["done", "failed", "canceled"].contains(&&*state) {
            bail!("job {job} is {state} instead of {wanted}");
        }
        Ok((state == wanted).then_some(()))
    });
    reached.with_context(|| describe(session, job))
}

/// Waits with `upkeep.wait` for a job that succeeds.
pub fn wait(session: &mut Session, job: &str) -> Result<()> {
    session.run(&format!("CALL upkeep.wait('{job}', '2 min')")).with_context(|| describe(session, job))
}

/// Waits with `upkeep.wait` for a job that does not: the error it ends in.
pub fn wait_for_error(session: &mut Session, job: &str) -> Result<DbError> {
    session.error(&format!("CALL upkeep.wait('{job}', '2 min')")).with_context(|| describe(session, job))
}

/// Runs a statement in a session of its own, to see later how it ended.
pub fn meanwhile(mut session: Session, sql: &str) -> JoinHandle<(Session, Result<()>)> {
    let sql = sql.to_owned();
    thread::spawn(move || {
        let result = session.run(&sql);
        (session, result)
    })
}

/// The same for a statement that ends in an error.
pub fn meanwhile_error(mut session: Session, sql: &str) -> JoinHandle<Result<DbError>> {
    let sql = sql.to_owned();
    thread::spawn(move || session.error(&sql))
}

pub fn join<T>(thread: JoinHandle<T>) -> Result<T> {
    match thread.join() {
        Ok(value) => Ok(value),
        Err(_) => bail!("a session of the test panicked"),
    }
}

/// The events of a job in their order.
pub fn events(session: &mut Session, job: &str) -> Result<Vec<String>> {
    session.values(&format!("SELECT event FROM upkeep.job_events WHERE job = '{job}' ORDER BY happened_at"))
}

/// The SQLSTATE that a statement ends in.
pub fn sqlstate(session: &mut Session, sql: &str) -> Result<String> {
    Ok(session.error(sql)?.code().code().to_owned())
}

/// All that can be said of a job, for a failed test.
pub fn describe(session: &mut Session, job: &str) -> String {
    let row = session.rows(&format!("SELECT j FROM upkeep.jobs j WHERE id = '{job}'"));
    let events = session.rows(&format!(
        "SELECT happened_at, event, detail FROM upkeep.job_events WHERE job = '{job}' ORDER BY happened_at"
    ));
    format!("{row:?}\n{events:#?}")
}

/// Everything a client learns of an error, but for where in the calls it was.
pub fn fields(session: &mut Session, sql: &str) -> Result<Vec<String>> {
    let error = session.error(sql)?;
    Ok(vec![
        error.code().code().to_owned(),
        error.message().to_owned(),
        format!("{:?} {:?}", error.detail(), error.hint()),
        format!("{:?} {:?} {:?}", error.schema(), error.table(), error.column()),
        format!("{:?} {:?}", error.datatype(), error.constraint()),
        format!("{:?} {:?} {:?}", error.file(), error.line(), error.routine()),
    ])
}
