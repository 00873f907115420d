//! `fill_new_rows`: what others write during a run is filled by a trigger, which comes, works and goes unnoticed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use anyhow::{Context, Result};
use upkeep_tests::cluster::{Cluster, PATIENCE};
use upkeep_tests::faults::{Blow, strike, strike_open_step};
use upkeep_tests::jobs::{
    describe, events, executors_of, join, run_in_background, sqlstate, state, wait, wait_for_error, wait_for_state,
    wait_until_nobody_works_on,
};
use upkeep_tests::session::Session;
use upkeep_tests::testing::{self, Database, wait_for_text};
use upkeep_tests::wait::{wait_for, wait_until};

const ROWS: i64 = 20_000;
const SLOW: &str = "CREATE OR REPLACE FUNCTION double(n int) RETURNS int LANGUAGE plpgsql AS
                    'BEGIN PERFORM pg_sleep(0.0005); RETURN 2 * n; END'";
const FAST: &str = "CREATE OR REPLACE FUNCTION double(n int) RETURNS int LANGUAGE plpgsql AS 'BEGIN RETURN 2 * n; END'";

/// Nothing of a job's is left beside the private tables.
const LEFT: &str = "SELECT (SELECT count(*) FROM pg_trigger WHERE tgname LIKE 'zz_upkeep%')
                           + (SELECT count(*) FROM pg_proc WHERE proname LIKE '\\_fill\\_%')";
const WRONG: &str = "SELECT count(*) FROM t WHERE d IS DISTINCT FROM 2 * n";

/// The table `t`, whose column `d` should be twice `n`.
fn table(session: &mut Session) -> Result<()> {
    session.run(&format!(
        "CREATE TABLE t (id int PRIMARY KEY, n int NOT NULL, d int, other int DEFAULT 0);
         INSERT INTO t SELECT g, g FROM generate_series(1, {ROWS}) g"
    ))?;
    session.run("VACUUM ANALYZE t")
}

fn start(session: &mut Session, more: &str) -> Result<String> {
    session.text(&format!("SELECT upkeep.backfill('t', 'd = double(n)', 'd IS NULL', fill_new_rows => true{more})"))
}

/// A job in the middle of its work.
fn under_way(session: &mut Session) -> Result<String> {
    session.run(SLOW)?;
    table(session)?;
    let job = start(session, ", batch_time => '20 ms'")?;
    let look = format!("SELECT rows_done > 0 AND finished_at IS NULL FROM upkeep.jobs WHERE id = '{job}'");
    wait_for_text(session, &look, "t").with_context(|| describe(session, &job))?;
    Ok(job)
}

/// A job that stands still in the middle, its trigger in place.
fn halfway(session: &mut Session) -> Result<String> {
    let job = under_way(session)?;
    session.run(&format!("SELECT upkeep.pause('{job}')"))?;
    wait_until_nobody_works_on(session, &job)?;
    session.run(FAST)?;
    assert_eq!(session.text(LEFT)?, "3");
    Ok(job)
}

/// The job goes on to its end, and nothing is left: of it, and to do.
fn finish(session: &mut Session, job: &str) -> Result<()> {
    session.run(FAST)?;
    session.run(&format!("SELECT upkeep.resume('{job}')"))?;
    assert_finished(session, job)
}

fn assert_finished(session: &mut Session, job: &str) -> Result<()> {
    wait(session, job)?;
    assert_eq!(session.text(WRONG)?, "0");
    assert_eq!(session.text(LEFT)?, "0");
    assert_eq!(
        session.text(&format!("SELECT state, rows_left, wait_reason FROM upkeep.jobs WHERE id = '{job}'"))?,
        "done|0|"
    );
    Ok(())
}

/// Waits until the job waits for this to be done to its trigger, and says who is in the way.
fn wait_for_reason(session: &mut Session, job: &str, purpose: &str, pid: i32) -> Result<()> {
    let wanted = format!("waits for the lock on public.t to {purpose} its trigger; held by pid {pid} (");
    let look = format!("SELECT starts_with(wait_reason, '{wanted}') FROM upkeep.jobs WHERE id = '{job}'");
    wait_for_text(session, &look, "t").with_context(|| describe(session, job))
}

/// A session that has the table locked until it says `ROLLBACK`, and its process id.
fn locker(db: &Database, mode: &str) -> Result<(Session, i32)> {
    let mut session = db.connect()?;
    session.run(&format!("BEGIN; LOCK TABLE t IN {mode} MODE"))?;
    let pid = session.value("SELECT pg_backend_pid()")?;
    Ok((session, pid))
}

#[test]
fn nothing_is_left_however_fast_others_write() -> Result<()> {
    let db = testing::database()?;
    let mut session = db.connect()?;
    let job = under_way(&mut session)?;
    session.run("ALTER TABLE t ADD COLUMN written_at timestamptz")?;
    session.run("ALTER TABLE t ALTER COLUMN written_at SET DEFAULT clock_timestamp()")?;
    let stop = Arc::new(AtomicBool::new(false));
    let writers: Vec<_> = (0..3)
        .map(|writer| {
            let (mut session, stop) = (db.connect()?, Arc::clone(&stop));
            Ok(thread::spawn(move || -> Result<i64> {
                let mut next = 1_000_000 * (writer + 1);
                while !stop.load(Ordering::Relaxed) {
                    // New rows, and old ones that the fill has not come to yet and which move elsewhere.
                    session.run(&format!(
                        "INSERT INTO t (id, n) SELECT g, g FROM generate_series({next}, {next} + 19) g;
                         UPDATE t SET other = other + 1 WHERE id IN ({}, {})",
                        next % ROWS + 1,
                        next * 7 % ROWS + 1
                    ))?;
                    next += 20;
                }
                Ok(next - 1_000_000 * (writer + 1))
            }))
        })
        .collect::<Result<_>>()?;
    // Until then the job cannot have ended, or there was nothing to see.
    let written = "SELECT count(*) > 2000 FROM t WHERE id >= 1000000";
    wait_for_text(&mut session, written, "t")?;
    assert_eq!(state(&mut session, &job)?, "running");
    session.run(FAST)?;
    let ended = wait(&mut session, &job);
    stop.store(true, Ordering::Relaxed);
    let written = writers.into_iter().map(|writer| join(writer)?).sum::<Result<i64>>()?;
    ended?;
    assert_eq!(session.text(LEFT)?, "0");
    assert_eq!(session.text("SELECT rows_left FROM upkeep.jobs")?, "0");
    // What was written after the trigger had been dropped, in the job's last moment, is no longer its business.
    let wrong = session.text(
        "SELECT count(*) FROM t WHERE d IS DISTINCT FROM 2 * n
            AND NOT (d IS NULL AND written_at > (SELECT finished_at FROM upkeep.jobs))",
    )?;
    assert_eq!(wrong, "0");
    println!("{written} rows written by others");
    Ok(())
}

#[test]
fn every_way_to_write_is_seen() -> Result<()> {
    let db = testing::database()?;
    let mut session = db.connect()?;
    let job = halfway(&mut session)?;
    session.run("INSERT INTO t (id, n) VALUES (100001, 1)")?;
    session.run("INSERT INTO t (id, n) VALUES (1, 5), (100002, 5) ON CONFLICT (id) DO UPDATE SET n = 77, d = NULL")?;
    session.run("UPDATE t SET other = v.x FROM (VALUES (20000, 9)) v (id, x) WHERE v.id = t.id")?;
    session.run(
        "MERGE INTO t USING (VALUES (19999), (100003)) v (id) ON v.id = t.id
                 WHEN MATCHED THEN UPDATE SET n = 3, d = NULL WHEN NOT MATCHED THEN INSERT (id, n) VALUES (v.id, 4)",
    )?;
    session.run("COPY t (id, n) FROM PROGRAM 'printf \"100004\\t8\\n\"'")?;
    // Not the job's own process, though one of ours.
    let command = run_in_background(&mut session, "INSERT INTO t (id, n) VALUES (100005, 6)")?;
    wait(&mut session, &command)?;
    let rows = "SELECT id, n, d FROM t WHERE id IN (1, 19999, 20000) OR id > 100000 ORDER BY id";
    assert_eq!(
        session.rows(rows)?,
        [
            "1|77|154",
            "19999|3|6",
            "20000|20000|40000",
            "100001|1|2",
            "100002|5|10",
            "100003|4|8",
            "100004|8|16",
            "100005|6|12"
        ]
    );
    // A value of the writer's own stays.
    session.run("INSERT INTO t (id, n, d) VALUES (100006, 1, 2)")?;
    finish(&mut session, &job)?;
    assert_eq!(
        events(&mut session, &job)?.iter().filter(|event| event.starts_with("trigger")).count(),
        2,
        "{}",
        describe(&mut session, &job)
    );
    Ok(())
}

#[test]
fn the_job_itself_changes_each_row_once() -> Result<()> {
    let db = testing::database()?;
    let mut session = db.connect()?;
    session.run(
        "CREATE TABLE t (id int PRIMARY KEY, n int NOT NULL);
         INSERT INTO t SELECT g, g / 11 % 10 FROM generate_series(1, 10000) g",
    )?;
    let before: i64 = session.value("SELECT sum(n) FROM t")?;
    let left = session.text("SELECT count(*) FROM t WHERE n < 9")?;
    // Most rows match again after their update, and would be changed twice if the trigger saw it.
    let job =
        session.text("SELECT upkeep.backfill('t', 'n = n + 1', 'n < 10', fill_new_rows => true, workers => 2)")?;
    wait(&mut session, &job)?;
    assert_eq!(session.value::<i64>("SELECT sum(n) FROM t")?, before + 10_000, "{}", describe(&mut session, &job));
    assert_eq!(session.text("SELECT rows_left FROM upkeep.jobs")?, left);
    Ok(())
}

#[test]
fn a_lock_delays_the_beginning_and_the_end_and_says_so() -> Result<()> {
    let db = testing::database()?;
    let mut session = db.connect()?;
    session.run(FAST)?;
    table(&mut session)?;
    let (mut writer, writer_pid) = locker(&db, "ROW EXCLUSIVE")?;
    let job = start(&mut session, "")?;
    wait_for_reason(&mut session, &job, "create", writer_pid)?;
    assert_eq!(state(&mut session, &job)?, "waiting");
    // Nobody is kept waiting by that for long, and no row was filled before the trigger was there.
    session.run("SET lock_timeout = '2 s'; INSERT INTO t (id, n) VALUES (100000, 1)")?;
    assert_eq!(session.text("SELECT count(d) FROM t")?, "0");

    let (mut reader, reader_pid) = locker(&db, "ACCESS SHARE")?;
    writer.run("ROLLBACK")?;
    wait_for_reason(&mut session, &job, "drop", reader_pid)?;
    assert_eq!(state(&mut session, &job)?, "waiting");
    // While it waits the trigger works.
    session.run("INSERT INTO t (id, n) VALUES (100001, 1)")?;
    assert_eq!(session.text(WRONG)?, "0");
    reader.run("ROLLBACK")?;
    assert_finished(&mut session, &job)
}

#[test]
fn a_canceled_job_takes_its_trigger_along_or_says_why_not() -> Result<()> {
    let db = testing::database()?;
    let mut session = db.connect()?;
    let running = under_way(&mut session)?;
    session.run(&format!("SELECT upkeep.cancel('{running}')"))?;
    wait_for_text(&mut session, LEFT, "0").with_context(|| describe(&mut session, &running))?;
    wait_for_text(&mut session, &format!("SELECT wait_reason FROM upkeep.jobs WHERE id = '{running}'"), "")?;

    session.run("DROP TABLE t")?;
    let job = halfway(&mut session)?;
    let (mut reader, pid) = locker(&db, "ACCESS SHARE")?;
    session.run(&format!("SELECT upkeep.cancel('{job}')"))?;
    wait_for_reason(&mut session, &job, "drop", pid)?;
    assert_eq!(state(&mut session, &job)?, "canceled");
    let drop = format!("SELECT upkeep.drop_job('{job}')");
    let refused = session.error(&drop)?;
    assert_eq!(refused.code().code(), "55006");
    assert!(refused.detail().is_some_and(|detail| detail.contains(&format!("held by pid {pid}"))), "{refused:?}");
    // Nor is it forgotten because it is old.
    session.run("UPDATE upkeep._job SET finished_at = finished_at - interval '10 years'")?;
    wait_for_text(&mut session, &format!("SELECT count(*) FROM upkeep.jobs WHERE id = '{running}'"), "0")?;
    assert_eq!(state(&mut session, &job)?, "canceled");
    session.run(&format!("UPDATE upkeep._job SET finished_at = now() WHERE id = '{job}'"))?;
    reader.run("ROLLBACK")?;
    wait_for_text(&mut session, LEFT, "0").with_context(|| describe(&mut session, &job))?;
    wait_for_text(&mut session, &format!("SELECT wait_reason FROM upkeep.jobs WHERE id = '{job}'"), "")?;
    session.run(&drop)
}

#[test]
fn a_retry_puts_the_trigger_back() -> Result<()> {
    let db = testing::database()?;
    let mut session = db.connect()?;
    let job = halfway(&mut session)?;
    session.run(&format!("SELECT upkeep.cancel('{job}')"))?;
    wait_for_text(&mut session, LEFT, "0")?;
    session.run("INSERT INTO t (id, n) VALUES (100001, 1)")?;
    session.run(&format!("{SLOW}; SELECT upkeep.retry('{job}')"))?;
    wait_for_text(&mut session, LEFT, "3").with_context(|| describe(&mut session, &job))?;
    session.run("INSERT INTO t (id, n) VALUES (100002, 1)")?;
    assert_eq!(session.text("SELECT d FROM t WHERE id = 100002")?, "2");
    finish(&mut session, &job)?;

    // A retry while the trigger is still to be dropped keeps it.
    session.run("DROP TABLE t")?;
    let job = halfway(&mut session)?;
    let (mut reader, pid) = locker(&db, "ACCESS SHARE")?;
    session.run(&format!("SELECT upkeep.cancel('{job}')"))?;
    wait_for_reason(&mut session, &job, "drop", pid)?;
    session.run(&format!("SELECT upkeep.retry('{job}')"))?;
    wait_for_reason(&mut session, &job, "drop", pid)?;
    assert_eq!(state(&mut session, &job)?, "waiting", "it has come to its end again");
    reader.run("ROLLBACK")?;
    assert_finished(&mut session, &job)
}

#[test]
fn a_failed_job_leaves_no_trigger() -> Result<()> {
    let db = testing::database()?;
    let mut session = db.connect()?;
    session.run(FAST)?;
    table(&mut session)?;
    session.run("ALTER TABLE t ADD CONSTRAINT small CHECK (d < 30000)")?;
    let job = start(&mut session, ", on_error => 'stop'")?;
    assert_eq!(wait_for_error(&mut session, &job)?.code().code(), "23514");
    wait_for_text(&mut session, LEFT, "0").with_context(|| describe(&mut session, &job))?;
    session.run("ALTER TABLE t DROP CONSTRAINT small")?;
    session.run(&format!("SELECT upkeep.retry('{job}')"))?;
    assert_finished(&mut session, &job)
}

/// A server of one's own with a job on it that is about to create its trigger and cannot.
fn server_with_job(name: &str) -> Result<(Cluster, Session)> {
    let server = testing::server(name).preloaded().start()?;
    let mut session = server.connect("postgres")?;
    session.run("CREATE EXTENSION pg_upkeep")?;
    session.run(FAST)?;
    table(&mut session)?;
    Ok((server, session))
}

#[test]
fn a_kill_at_the_creation_leaves_nothing_half_done() -> Result<()> {
    let (server, mut session) = server_with_job("at_creation")?;
    let mut writer = server.connect("postgres")?;
    writer.run("BEGIN; LOCK TABLE t IN ROW EXCLUSIVE MODE")?;
    let job = start(&mut session, "")?;
    let log = server.log_position();
    // The step has marked the job and waits for the table.
    strike_open_step(&server, &mut session, Blow::Kill)?;
    wait_until("the server to restart itself", PATIENCE, || server.log_since(log).contains("reinitializing"))?;
    let mut session = server.connect_again("postgres")?;
    assert_finished(&mut session, &job)
}

#[test]
fn kills_in_the_middle_and_at_the_end_leave_nothing_behind() -> Result<()> {
    let server = testing::server("at_the_end").preloaded().start()?;
    let mut session = server.connect("postgres")?;
    session.run("CREATE EXTENSION pg_upkeep")?;
    let job = under_way(&mut session)?;
    let log = server.log_position();
    strike_open_step(&server, &mut session, Blow::Kill)?;
    wait_until("the server to restart itself", PATIENCE, || server.log_since(log).contains("reinitializing"))?;
    session = server.connect_again("postgres")?;
    session.run("INSERT INTO t (id, n) VALUES (100001, 1)")?;
    assert_eq!(session.text("SELECT d FROM t WHERE id = 100001")?, "2", "the trigger survives");
    session.run(FAST)?;

    // A worker that waits to drop it. The reader whom it waits for ends with it.
    let mut reader = server.connect("postgres")?;
    reader.run("BEGIN; LOCK TABLE t IN ACCESS SHARE MODE")?;
    let pid = reader.value("SELECT pg_backend_pid()")?;
    wait_for_reason(&mut session, &job, "drop", pid)?;
    let executor = executors_of(&mut session, &job)?.first().copied().context("it waits")?;
    session = server.kill_and_recover(executor, "postgres")?;
    assert_finished(&mut session, &job)
}

#[test]
fn a_crash_between_cancel_and_clean_up_forgets_nothing() -> Result<()> {
    let mut server = testing::server("cleanup").preloaded().start()?;
    let mut session = server.connect("postgres")?;
    session.run("CREATE EXTENSION pg_upkeep")?;
    let job = halfway(&mut session)?;
    let mut reader = server.connect("postgres")?;
    reader.run("BEGIN; LOCK TABLE t IN ACCESS SHARE MODE")?;
    let pid: i32 = reader.value("SELECT pg_backend_pid()")?;
    session.run(&format!("SELECT upkeep.cancel('{job}')"))?;
    wait_for_reason(&mut session, &job, "drop", pid)?;
    // The scheduler at its try, if it lands; then the whole server.
    let log = server.log_position();
    let scheduler = "SELECT pid FROM pg_catalog.pg_stat_activity
                      WHERE backend_type = 'pg_upkeep scheduler' AND backend_xid IS NOT NULL";
    strike(&server, &mut session, Blow::Kill, scheduler)?;
    wait_until("the server to restart itself", PATIENCE, || server.log_since(log).contains("reinitializing"))?;
    server.crash()?;
    server.start()?;
    let mut session = server.connect("postgres")?;
    wait_for_text(&mut session, LEFT, "0").with_context(|| describe(&mut session, &job))?;
    assert_eq!(state(&mut session, &job)?, "canceled");
    session.run(&format!("SELECT upkeep.drop_job('{job}')"))
}

#[test]
fn the_extension_is_not_dropped_below_a_trigger() -> Result<()> {
    let db = testing::database()?;
    let mut session = db.connect()?;
    halfway(&mut session)?;
    let refused = session.error("DROP EXTENSION pg_upkeep")?;
    assert_eq!(refused.code().code(), "2BP01");
    assert!(refused.detail().is_some_and(|detail| detail.contains("trigger zz_upkeep_fill_")), "{refused:?}");
    session.run("DROP EXTENSION pg_upkeep CASCADE")?;
    assert_eq!(session.text(LEFT)?, "0");
    session.run("INSERT INTO t (id, n) VALUES (100001, 1); UPDATE t SET n = n WHERE id = 2")
}

#[test]
fn a_table_that_is_dropped_leaves_no_function() -> Result<()> {
    let db = testing::database()?;
    let mut session = db.connect()?;
    let job = halfway(&mut session)?;
    session.run("DROP TABLE t")?;
    assert_eq!(session.text(LEFT)?, "2");
    session.run(&format!("SELECT upkeep.resume('{job}')"))?;
    assert_eq!(wait_for_error(&mut session, &job)?.code().code(), "42P01");
    wait_for_text(&mut session, LEFT, "0").with_context(|| describe(&mut session, &job))
}

#[test]
fn a_trigger_that_somebody_dropped_or_disabled_is_not_missed() -> Result<()> {
    let db = testing::database()?;
    let mut session = db.connect()?;
    let job = halfway(&mut session)?;
    session.run("ALTER TABLE t DISABLE TRIGGER USER; INSERT INTO t (id, n) VALUES (100001, 1)")?;
    assert_eq!(session.text(WRONG)?, session.text("SELECT count(*) FROM t WHERE d IS NULL")?);
    finish(&mut session, &job)?;

    session.run("DROP TABLE t")?;
    let job = halfway(&mut session)?;
    let trigger = session.text("SELECT tgname FROM pg_trigger WHERE tgname LIKE 'zz_upkeep%'")?;
    session.run(&format!("DROP TRIGGER {trigger} ON t; INSERT INTO t (id, n) VALUES (100001, 1)"))?;
    finish(&mut session, &job)
}

/// A role that may fill a table of somebody else's, and that table.
fn filler(db: &Database, session: &mut Session) -> Result<String> {
    let role = db.role("filler")?;
    session.run(FAST)?;
    table(session)?;
    session.run(&format!("GRANT SELECT, UPDATE ON t TO {role}"))?;
    Ok(role)
}

#[test]
fn it_needs_the_right_to_create_a_trigger() -> Result<()> {
    let db = testing::database()?;
    let mut session = db.connect()?;
    let role = filler(&db, &mut session)?;
    let mut theirs = db.connect_as(&role)?;
    let ask = "SELECT upkeep.backfill('t', 'd = double(n)', 'd IS NULL', fill_new_rows => true, paused => true)";
    let refused = theirs.error(ask)?;
    assert_eq!(refused.code().code(), "42501");
    let hint = refused.hint().context("what to type")?;
    assert_eq!(hint, format!("GRANT TRIGGER ON public.t TO {role};"));
    session.run(hint)?;
    let job = theirs.text(ask)?;
    // Looked at again when the trigger is created.
    session.run(&format!("REVOKE TRIGGER ON t FROM {role}"))?;
    theirs.run(&format!("SELECT upkeep.resume('{job}')"))?;
    assert_eq!(wait_for_error(&mut theirs, &job)?.code().code(), "42501");
    assert_eq!(session.text(LEFT)?, "0");
    session.run(hint)?;
    // Neither the table nor our schema is his: the trigger goes all the same.
    theirs.run(&format!("SELECT upkeep.retry('{job}')"))?;
    wait(&mut theirs, &job)?;
    assert_eq!(session.text(WRONG)?, "0");
    assert_eq!(session.text(LEFT)?, "0");
    Ok(())
}

#[test]
fn values_are_computed_as_the_owner_of_the_job() -> Result<()> {
    let db = testing::database()?;
    let mut session = db.connect()?;
    let (role, writer) = (filler(&db, &mut session)?, db.role("writer")?);
    session.run(&format!("GRANT TRIGGER ON t TO {role}; GRANT INSERT ON t TO {writer}"))?;
    // Functions and a table that are the owner's alone.
    let mut owner = db.connect_as(&role)?;
    owner.run(
        "CREATE TABLE seen (who name, path text);
         CREATE FUNCTION spy(int) RETURNS int LANGUAGE plpgsql AS
         $$BEGIN INSERT INTO seen VALUES (current_user, current_setting('search_path')); RETURN 2 * $1; END$$;
         CREATE FUNCTION spies(int) RETURNS boolean LANGUAGE plpgsql STABLE AS
         $$BEGIN RETURN $1 IS NULL AND current_user = (SELECT rolname FROM pg_roles WHERE oid = current_user::regrole); END$$;
         REVOKE ALL ON FUNCTION spy(int), spies(int) FROM PUBLIC",
    )?;
    let job = owner.text("SELECT upkeep.backfill('t', 'd = spy(n)', 'spies(d)', fill_new_rows => true)")?;
    let (mut reader, _) = locker(&db, "ACCESS SHARE")?;
    wait_for_text(&mut session, LEFT, "3")?;
    let mut theirs = db.connect_as(&writer)?;
    // Nor does anything of his stand in for it: a temporary table hides the owner's from everybody who is not careful.
    theirs.run("CREATE TEMP TABLE seen (who name, path text); GRANT ALL ON seen TO PUBLIC")?;
    theirs
        .run("SET search_path TO pg_temp; SET row_security TO off; INSERT INTO public.t (id, n) VALUES (100001, 4)")?;
    reader.run("ROLLBACK")?;
    wait(&mut owner, &job)?;
    assert_eq!(session.text("SELECT d FROM t WHERE id = 100001")?, "8");
    assert_eq!(
        session.rows("SELECT who, path, count(*) FROM seen GROUP BY 1, 2 ORDER BY 3")?,
        [format!("{role}|\"$user\", public, pg_temp|1"), format!("{role}|\"$user\", public|{ROWS}")]
    );
    assert_eq!(theirs.text("SELECT count(*) FROM pg_temp.seen")?, "0");
    assert_eq!(session.text(LEFT)?, "0");
    Ok(())
}

#[test]
fn what_the_text_raises_reaches_the_writer_unchanged() -> Result<()> {
    let db = testing::database()?;
    let mut session = db.connect()?;
    let job = halfway(&mut session)?;
    session.run(
        "CREATE OR REPLACE FUNCTION double(n int) RETURNS int LANGUAGE plpgsql AS $$
         BEGIN
             IF n = 13 THEN
                 RAISE 'not 13' USING ERRCODE = 'ABC01', DETAIL = 'a detail', HINT = 'a hint', COLUMN = 'n',
                     CONSTRAINT = 'lucky', TABLE = 't', SCHEMA = 's', DATATYPE = 'int';
             END IF;
             RETURN 2 * n;
         END$$",
    )?;
    let error = session.error("INSERT INTO t (id, n) VALUES (100001, 13)")?;
    let fields = [error.detail(), error.hint(), error.column(), error.constraint(), error.table(), error.schema()];
    assert_eq!((error.code().code(), error.message()), ("ABC01", "not 13"));
    assert_eq!(fields, ["a detail", "a hint", "n", "lucky", "t", "s"].map(Some));
    session.run(&format!("SELECT upkeep.cancel('{job}')"))?;
    wait_for_text(&mut session, LEFT, "0")
}

#[test]
fn an_owner_cannot_be_dropped_from_under_his_trigger() -> Result<()> {
    let db = testing::database()?;
    let mut session = db.connect()?;
    let role = filler(&db, &mut session)?;
    session.run(&format!("GRANT TRIGGER ON t TO {role}"))?;
    let mut theirs = db.connect_as(&role)?;
    let (reader, _) = locker(&db, "ACCESS SHARE")?;
    let job = start(&mut theirs, "")?;
    wait_for_state(&mut session, &job, "waiting")?;
    session.run(&format!("SELECT upkeep.pause('{job}')"))?;
    wait_until_nobody_works_on(&mut session, &job)?;
    drop((reader, theirs));
    wait_for_text(&mut session, &format!("SELECT count(*) FROM pg_stat_activity WHERE usename = '{role}'"), "0")?;
    assert_eq!(sqlstate(&mut session, &format!("DROP ROLE {role}"))?, "2BP01");
    session.run(&format!("DROP OWNED BY {role} CASCADE; DROP ROLE {role}"))?;
    assert_eq!(session.text(LEFT)?, "0");
    session.run("INSERT INTO t (id, n) VALUES (100001, 1)")?;
    session.run(&format!("SELECT upkeep.resume('{job}')"))?;
    wait_for_state(&mut session, &job, "failed")?;
    wait_for_text(&mut session, &format!("SELECT wait_reason FROM upkeep.jobs WHERE id = '{job}'"), "")?;
    session.run(&format!("SELECT upkeep.drop_job('{job}')"))
}

#[test]
fn a_restored_dump_has_a_trigger_that_works_and_goes() -> Result<()> {
    let here = testing::server("new_rows_here").preloaded().start()?;
    let elsewhere = testing::server("new_rows_there").preloaded().own_identity().start()?;
    let mut session = here.with_extension("shop")?;
    let job = halfway(&mut session)?;
    let dump = here.dump("shop")?;
    for (name, resume) in [("resumed", true), ("canceled", false)] {
        elsewhere.restore(name, &dump)?;
        let mut restored = elsewhere.connect(name)?;
        assert_eq!(restored.text(LEFT)?, "3");
        restored.run("INSERT INTO t (id, n) VALUES (100001, 21)")?;
        assert_eq!(restored.text("SELECT d FROM t WHERE id = 100001")?, "42");
        wait_for_text(&mut restored, "SELECT state, wait_reason FROM upkeep.jobs", "paused|restored")?;
        if resume {
            assert_eq!(restored.text("SELECT upkeep.resume_all()")?, "1");
            assert_finished(&mut restored, &job)?;
        } else {
            restored.run(&format!("SELECT upkeep.cancel('{job}')"))?;
            wait_for_text(&mut restored, LEFT, "0").with_context(|| describe(&mut restored, &job))?;
        }
    }
    finish(&mut session, &job)
}

#[test]
fn several_workers_make_one_trigger() -> Result<()> {
    let db = testing::database()?;
    let mut session = db.connect()?;
    session.run(FAST)?;
    table(&mut session)?;
    let (mut writer, _) = locker(&db, "ROW EXCLUSIVE")?;
    let job = start(&mut session, ", workers => 4")?;
    wait_for("four workers", PATIENCE, || Ok((executors_of(&mut session, &job)?.len() == 4).then_some(())))?;
    writer.run("ROLLBACK")?;
    assert_finished(&mut session, &job)?;
    let created = events(&mut session, &job)?.iter().filter(|event| *event == "trigger created").count();
    assert_eq!(created, 1, "{}", describe(&mut session, &job));
    Ok(())
}
