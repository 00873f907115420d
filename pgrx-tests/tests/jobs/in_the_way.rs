//! One thing in the way never stops the rest: rows that one role has locked, rows that are damaged.

use anyhow::{Context, Result};
use upkeep_tests::cluster::{Cluster, PATIENCE};
use upkeep_tests::jobs::{describe, join, meanwhile, run_in_background, sqlstate, state, wait, wait_for_state};
use upkeep_tests::schedules::{describe as describe_schedules, schedule};
use upkeep_tests::session::Session;
use upkeep_tests::testing::{self, wait_for_text, workers};
use upkeep_tests::wait::wait_until;

/// A server of one's own, an administrator in its database `postgres`, and two roles that may use everything.
fn two_roles(name: &str, retention: &str) -> Result<(Cluster, Session, Session, Session)> {
    let server = testing::server(name).preloaded().set("upkeep.job_retention", retention).start()?;
    let mut admin = server.connect("postgres")?;
    admin.run(
        "CREATE EXTENSION pg_upkeep; CREATE ROLE mallory LOGIN; CREATE ROLE alice LOGIN;
         GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA upkeep TO mallory, alice;
         CREATE SCHEMA mallory AUTHORIZATION mallory; CREATE SCHEMA alice AUTHORIZATION alice",
    )?;
    let mut mallory = server.connect_as("postgres", "mallory")?;
    mallory.run("CREATE TABLE t (id int PRIMARY KEY, v int); INSERT INTO t VALUES (1, NULL)")?;
    let mut alice = server.connect_as("postgres", "alice")?;
    alice.run("CREATE TABLE a (at timestamptz DEFAULT clock_timestamp())")?;
    Ok((server, admin, mallory, alice))
}

/// Jobs of somebody else's run all the same, one after the other.
fn others_work(alice: &mut Session) -> Result<()> {
    for _ in 0..3 {
        let before: i64 = alice.value("SELECT count(*) FROM a")?;
        run_in_background(alice, "INSERT INTO a DEFAULT VALUES")?;
        wait_for_text(alice, &format!("SELECT count(*) > {before} FROM a"), "t")?;
    }
    Ok(())
}

fn schedules_work(alice: &mut Session) -> Result<()> {
    let before: i64 = alice.value("SELECT count(*) FROM a")?;
    let ran = format!("SELECT count(*) >= {before} + 2 FROM a");
    wait_for_text(alice, &ran, "t").with_context(|| describe_schedules(alice))
}

#[test]
fn a_lock_on_a_job_that_is_to_be_forgotten_stops_nobody() -> Result<()> {
    let (_server, mut admin, mut mallory, mut alice) = two_roles("prune", "0")?;
    let job = mallory.text("SELECT upkeep.backfill('t', 'v = 1', 'v IS NULL', paused => true)")?;
    mallory.run(&format!("BEGIN; SELECT upkeep.cancel('{job}')"))?;
    mallory.run(&format!("SELECT upkeep.cancel('{job}'); COMMIT; BEGIN; SELECT upkeep.cancel('{job}')"))?;
    others_work(&mut alice)?;
    assert_eq!(state(&mut admin, &job)?, "canceled", "it is still there, for who has it locked");
    mallory.run("COMMIT")?;
    wait_for_text(&mut admin, &format!("SELECT count(*) FROM upkeep.jobs WHERE id = '{job}'"), "0")
}

#[test]
fn a_lock_on_a_job_that_is_to_start_delays_that_job_only() -> Result<()> {
    let (server, mut admin, mut mallory, mut alice) = two_roles("start", "30 d")?;
    let job = mallory.text("SELECT upkeep.backfill('t', 'v = 1', 'v IS NULL', paused => true)")?;
    // It wants to run, and is locked when the first scheduler comes.
    let since = server.log_position();
    admin.run("ALTER SYSTEM SET upkeep.enabled = off")?;
    server.reload()?;
    mallory.run(&format!("SELECT upkeep.resume('{job}')"))?;
    mallory.run(&format!("BEGIN; SELECT upkeep.alter_job('{job}', name => 'x')"))?;
    admin.run("ALTER SYSTEM RESET upkeep.enabled")?;
    server.reload()?;
    others_work(&mut alice)?;
    let passed_over = format!("passed over job {job}: another session has its row locked");
    wait_until("a word in the log", PATIENCE, || server.log_since(since).contains(&passed_over))?;
    others_work(&mut alice)?;
    assert_eq!(server.log_since(since).matches(&passed_over).count(), 1, "once");
    assert_eq!(state(&mut admin, &job)?, "queued");
    mallory.run("COMMIT")?;
    wait(&mut mallory, &job)
}

#[test]
fn a_job_that_must_not_start_and_is_locked_stops_nobody() -> Result<()> {
    let (server, mut admin, mut mallory, mut alice) = two_roles("objection", "30 d")?;
    admin.run("REVOKE CONNECT ON DATABASE postgres FROM PUBLIC; GRANT CONNECT ON DATABASE postgres TO alice")?;
    admin.run("ALTER SYSTEM SET upkeep.enabled = off")?;
    server.reload()?;
    let job = mallory.text("SELECT upkeep.backfill('t', 'v = 1', 'v IS NULL')")?;
    mallory.run(&format!("BEGIN; SELECT upkeep.alter_job('{job}', name => 'x')"))?;
    admin.run("ALTER SYSTEM RESET upkeep.enabled")?;
    server.reload()?;
    others_work(&mut alice)?;
    mallory.run("COMMIT")?;
    wait_for_state(&mut admin, &job, "failed")
}

#[test]
fn a_job_of_another_server_that_is_locked_is_not_started() -> Result<()> {
    let (_server, mut admin, mut mallory, mut alice) = two_roles("foreign", "30 d")?;
    let job = mallory.text("SELECT upkeep.backfill('t', 'v = 1', 'v IS NULL', paused => true)")?;
    // As it comes with a dump, and locked at once: LAW 20 holds all the same.
    mallory.run("BEGIN")?;
    admin.run(&format!(
        "UPDATE upkeep._job SET system_identifier = system_identifier + 1, state = 'queued' WHERE id = '{job}'"
    ))?;
    mallory.run(&format!("SELECT upkeep.pause('{job}')"))?;
    others_work(&mut alice)?;
    assert_eq!(admin.text(&format!("SELECT state FROM upkeep._job WHERE id = '{job}'"))?, "queued");
    assert_eq!(admin.text("SELECT v IS NULL FROM mallory.t")?, "t");
    mallory.run("COMMIT")?;
    others_work(&mut alice)?;
    let paused = format!("SELECT state, reason FROM upkeep._job WHERE id = '{job}'");
    wait_for_text(&mut admin, &paused, "paused|restored")?;
    assert_eq!(admin.text("SELECT v IS NULL FROM mallory.t")?, "t");
    Ok(())
}

#[test]
fn a_lock_on_a_schedule_delays_that_schedule_only() -> Result<()> {
    let (server, mut admin, mut mallory, mut alice) = two_roles("schedule", "30 d")?;
    schedule(&mut mallory, "hers", "1 second", "SELECT 1")?;
    schedule(&mut alice, "locked", "1 second", "SELECT 1")?;
    schedule(&mut alice, "mine", "1 second", "INSERT INTO a DEFAULT VALUES")?;
    schedules_work(&mut alice)?;
    // One of the same role.
    let mut colleague = server.connect_as("postgres", "alice")?;
    colleague.run("BEGIN; SELECT upkeep.alter_schedule('locked', retries => 1)")?;
    schedules_work(&mut alice)?;
    mallory.run("BEGIN; SELECT upkeep.alter_schedule('hers', retries => 1)")?;
    schedules_work(&mut alice)?;
    // A new launcher works out anew what was worked out at a time that has not come yet: nothing is known of the clock.
    let [launcher] = workers(&mut admin, "launcher")?[..] else { anyhow::bail!("one launcher is expected") };
    admin.run("UPDATE upkeep._schedule SET based_on = based_on + interval '1 hour' WHERE name = 'mine'")?;
    admin.run(&format!("SELECT pg_terminate_backend({launcher})"))?;
    schedules_work(&mut alice)?;
    let now = admin.text("SELECT clock_timestamp()")?;
    mallory.run("COMMIT")?;
    colleague.run("COMMIT")?;
    let hers = format!(
        "SELECT count(*) > 1 FROM upkeep.schedule_runs WHERE name = 'hers' AND status = 'done' AND due_at > '{now}'"
    );
    wait_for_text(&mut admin, &hers, "t")
}

#[test]
fn what_one_role_forgets_in_an_open_transaction_keeps_no_run_of_anothers() -> Result<()> {
    let (_server, _admin, mut mallory, mut alice) = two_roles("runs", "30 d")?;
    let job = run_in_background(&mut mallory, "SELECT 1")?;
    wait(&mut mallory, &job)?;
    schedule(&mut mallory, "hers", "1 second", "SELECT 1")?;
    schedule(&mut alice, "mine", "1 second", "INSERT INTO a DEFAULT VALUES")?;
    schedules_work(&mut alice)?;
    // Once or twice it meets a run that has ended and is not noted yet.
    for _ in 0..20 {
        mallory.run(&format!("BEGIN; SELECT upkeep.drop_job('{job}'); SELECT pg_sleep(0.1); ROLLBACK"))?;
    }
    mallory.run(&format!("BEGIN; SELECT upkeep.drop_job('{job}'); SELECT upkeep.unschedule('hers')"))?;
    schedules_work(&mut alice)?;
    others_work(&mut alice)?;
    mallory.run("COMMIT")
}

#[test]
fn schedules_that_cannot_be_understood_any_more_are_held_and_the_others_run() -> Result<()> {
    let (server, mut admin, mut mallory, mut alice) = two_roles("damaged", "30 d")?;
    for name in ["zone", "pattern", "length"] {
        schedule(&mut mallory, name, "0 0 1 1 *", "SELECT 1")?;
    }
    schedule(&mut alice, "mine", "1 second", "INSERT INTO a DEFAULT VALUES")?;
    let since = server.log_position();
    admin.run(
        "UPDATE upkeep._schedule SET next_run = now() - interval '1 hour' WHERE name IN ('zone', 'pattern', 'length');
         UPDATE upkeep._schedule SET timezone = 'Nowhere/At_All' WHERE name = 'zone';
         UPDATE upkeep._schedule SET schedule = 'every now and then' WHERE name = 'pattern';
         UPDATE upkeep._schedule SET next_run = '-infinity', every = -1 WHERE name = 'length'",
    )?;
    schedules_work(&mut alice)?;
    others_work(&mut alice)?;
    let held = "SELECT name, active, paused_reason FROM upkeep.schedules WHERE name IN ('zone', 'pattern') ORDER BY 1";
    let wanted = [
        "pattern|f|\"every now and then\" is neither a cron pattern nor an interval",
        "zone|f|time zone \"Nowhere/At_All\" is not known",
    ];
    wait_until("the damaged schedules to be held", PATIENCE, || admin.rows(held).is_ok_and(|rows| rows == wanted))
        .with_context(|| describe_schedules(&mut admin))?;
    schedules_work(&mut alice)?;
    let told = server.log_since(since).matches("time zone \"Nowhere/At_All\" is not known").count();
    assert!(told <= 1, "told {told} times");
    Ok(())
}

#[test]
fn nobody_can_lock_the_tables_themselves() -> Result<()> {
    let (_server, mut admin, mut mallory, mut alice) = two_roles("tables", "30 d")?;
    let relations: Vec<String> = admin.values(
        "SELECT c.oid::regclass::text FROM pg_class c
          WHERE c.relnamespace = 'upkeep'::regnamespace AND c.relkind IN ('r', 'p', 'v')",
    )?;
    assert!(relations.len() > 10);
    for relation in relations {
        for mode in ["ROW SHARE", "ROW EXCLUSIVE", "SHARE UPDATE EXCLUSIVE", "SHARE", "ACCESS EXCLUSIVE"] {
            mallory.run("BEGIN")?;
            assert_eq!(
                sqlstate(&mut mallory, &format!("LOCK TABLE {relation} IN {mode} MODE"))?,
                "42501",
                "{relation} in {mode}"
            );
            mallory.run("ROLLBACK")?;
        }
    }
    // The weakest lock, which everybody has who reads, stops nothing.
    mallory.run("BEGIN; LOCK TABLE upkeep.jobs IN ACCESS SHARE MODE")?;
    let job = run_in_background(&mut alice, "INSERT INTO a DEFAULT VALUES")?;
    wait(&mut alice, &job).with_context(|| describe(&mut admin, &job))
}

#[test]
fn a_database_in_which_nothing_works_stops_no_other() -> Result<()> {
    let (server, mut admin, _mallory, mut alice) = two_roles("databases", "30 d")?;
    server.create_database("broken")?;
    let mut broken = server.connect("broken")?;
    broken.run("CREATE EXTENSION pg_upkeep; CREATE TABLE b (n int)")?;
    let since = server.log_position();
    broken.run("ALTER TABLE upkeep._job RENAME COLUMN needs_cleanup TO somewhere_else")?;
    let job = broken.text("SELECT upkeep.run_in_background('INSERT INTO b VALUES (1)')")?;
    let told = "passed over what finished jobs have left: column \"needs_cleanup\" does not exist";
    wait_until("a word in the log", PATIENCE, || server.log_since(since).contains(told))?;
    others_work(&mut alice)?;
    schedule(&mut alice, "mine", "1 second", "INSERT INTO a DEFAULT VALUES")?;
    schedules_work(&mut alice)?;
    assert_eq!(server.log_since(since).matches(told).count(), 1, "once");
    broken.run("ALTER TABLE upkeep._job RENAME COLUMN somewhere_else TO needs_cleanup")?;
    wait(&mut broken, &job).with_context(|| describe(&mut broken, &job))?;
    assert_eq!(admin.text("SELECT count(*) FROM upkeep.jobs WHERE state = 'running'")?, "0");
    Ok(())
}

/// Anybody can fill the queue of notifications; an end is recorded all the same, once, and a job can be canceled.
#[test]
fn a_full_queue_of_notifications_is_nothing_to_jobs() -> Result<()> {
    let server = testing::server("notify").preloaded();
    // Before 17 the queue has 8 GB, and filling it takes a minute.
    if testing::tree().pg.major < 17 {
        return Ok(());
    }
    let server = server.set("max_notify_queue_pages", 64).start()?;
    let mut session = server.connect("postgres")?;
    session.run("CREATE EXTENSION pg_upkeep; CREATE TABLE a (at timestamptz)")?;
    let mut listener = server.connect("postgres")?;
    listener.run("LISTEN x")?;
    listener.run("BEGIN; SELECT 1 FROM a")?;
    let mut filler = server.connect("postgres")?;
    wait_until("the queue to be full", PATIENCE, || {
        filler.run("SELECT count(pg_notify('x', repeat('a', 7000) || g)) FROM generate_series(1, 10) g").is_err()
    })?;
    let job =
        session.text("SELECT upkeep.run_in_background('INSERT INTO a SELECT clock_timestamp()', retries => 3)")?;
    wait_for_state(&mut session, &job, "done")?;
    assert_eq!(session.text("SELECT count(*) FROM a")?, "1");
    let job = session.text("SELECT upkeep.run_in_background('SELECT pg_sleep(3600)')")?;
    wait_for_state(&mut session, &job, "running")?;
    session.run(&format!("SELECT upkeep.cancel('{job}')"))?;
    wait_for_text(
        &mut session,
        "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(3600)' AND pid <> pg_backend_pid()",
        "0",
    )
}

/// Whoever ends a schedule in a transaction that stays open leaves the runs of others alone.
#[test]
fn the_end_of_a_schedule_is_nothing_to_the_runs_of_others() -> Result<()> {
    let (server, mut admin, mut mallory, mut alice) = two_roles("ends", "30 d")?;
    let job = run_in_background(&mut alice, "INSERT INTO a DEFAULT VALUES")?;
    wait(&mut alice, &job)?;
    // Nobody else takes it over meanwhile.
    admin.run("ALTER SYSTEM SET upkeep.enabled = off")?;
    server.reload()?;
    wait_until("the scheduler to leave", PATIENCE, || {
        workers(&mut admin, "scheduler").is_ok_and(|all| all.is_empty())
    })?;
    schedule(&mut mallory, "hers", "24 hours", "SELECT 1")?;
    // A run of alice's that has ended and was not taken over yet.
    admin.run(&format!(
        "INSERT INTO upkeep._schedule_run (schedule, job, due_at)
         SELECT s.id, '{job}', now() FROM upkeep._schedule s WHERE s.name = 'hers'"
    ))?;
    schedule(&mut alice, "his", "24 hours", "SELECT 1")?;
    admin.run(&format!(
        "UPDATE upkeep._schedule_run SET schedule = (SELECT id FROM upkeep._schedule WHERE name = 'his') WHERE job = '{job}'"
    ))?;
    mallory.run("BEGIN; SELECT upkeep.unschedule('hers')")?;
    admin.run(&format!("SET lock_timeout = '1s'; SELECT FROM upkeep._schedule_run WHERE job = '{job}' FOR UPDATE"))?;
    mallory.run("ROLLBACK")
}

/// What an open transaction of one role has locked keeps nobody else's from being paused, and whoever pauses hears of it.
#[test]
fn what_is_locked_keeps_nothing_else_from_being_paused_and_resumed() -> Result<()> {
    let (server, mut admin, mut mallory, mut alice) = two_roles("pause_all", "30 d")?;
    admin.run("ALTER SYSTEM SET upkeep.enabled = off")?;
    server.reload()?;
    let job = mallory.text("SELECT upkeep.backfill('t', 'v = 1', 'v IS NULL')")?;
    let rule = schedule(&mut mallory, "hers", "24 hours", "SELECT 1")?;
    run_in_background(&mut alice, "INSERT INTO a DEFAULT VALUES")?;
    schedule(&mut alice, "mine", "24 hours", "SELECT 1")?;
    let lock = format!(
        "BEGIN; SELECT upkeep.alter_job('{job}', name => 'x'); SELECT upkeep.alter_schedule('hers', retries => 1)"
    );
    let active = "SELECT (SELECT count(*) FROM upkeep.jobs WHERE state = 'queued'),
                         (SELECT count(*) FROM upkeep.schedules WHERE active)";
    admin.run("SET statement_timeout = '20 s'")?;
    let pid = mallory.pid()?.to_string();
    for (verb, left, all) in [("pause_all", "1|1", "0|0"), ("resume_all", "1|1", "2|2")] {
        mallory.run(&lock)?;
        admin.notices();
        assert_eq!(admin.text(&format!("SELECT upkeep.{verb}()"))?, "2", "{verb}");
        let warnings = admin.notices();
        let warning = warnings.iter().find(|warning| warning.code().code() == "55P03").context("a warning")?;
        assert!(warning.message().starts_with("1 job and 1 schedule were not"), "{warning:?}");
        let detail = warning.detail().unwrap_or_default();
        assert!([&job, &rule, &pid].iter().all(|name| detail.contains(*name)), "{warning:?}");
        assert!(warning.hint().unwrap_or_default().contains(&format!("upkeep.{verb}()")), "{warning:?}");
        assert_eq!(admin.text(active)?, left, "{verb}");
        mallory.run("COMMIT")?;
        assert_eq!(admin.text(&format!("SELECT upkeep.{verb}()"))?, "2", "{verb}");
        assert_eq!(admin.text(active)?, all, "{verb}");
    }
    // A lock for a moment is waited for: there are such all the time.
    let asleep = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'mallory' AND wait_event = 'PgSleep'";
    let moment = meanwhile(mallory, &format!("{lock}; SELECT pg_sleep(0.3); COMMIT"));
    wait_for_text(&mut admin, asleep, "1")?;
    admin.notices();
    assert_eq!(admin.text("SELECT upkeep.pause_all()")?, "4");
    assert!(admin.notices().iter().all(|notice| notice.code().code() != "55P03"));
    let (mut mallory, ended) = join(moment)?;
    ended?;
    // Of those that came with a dump it is the same.
    admin.run("UPDATE upkeep._job SET system_identifier = 1; UPDATE upkeep._schedule SET system_identifier = 1")?;
    mallory.run(&format!("BEGIN; SELECT upkeep.cancel('{job}'); SELECT upkeep.unschedule('hers')"))?;
    assert_eq!(admin.text("SELECT upkeep.resume_all()")?, "2");
    assert_eq!(admin.text(active)?, "1|1");
    mallory.run("ROLLBACK")?;
    assert_eq!(admin.text("SELECT upkeep.resume_all()")?, "2");
    assert_eq!(admin.text(active)?, "2|2");
    assert_eq!(admin.text("SELECT count(DISTINCT system_identifier) FROM upkeep._job")?, "1");
    Ok(())
}

#[test]
fn a_statement_that_waits_says_for_whom() -> Result<()> {
    let db = testing::database()?;
    let mut session = db.connect()?;
    session.run("CREATE TABLE t (n int)")?;
    let mut holder = db.connect()?;
    holder.run("BEGIN; INSERT INTO t VALUES (1)")?;
    let pid = holder.pid()?;
    let job = run_in_background(&mut session, "CREATE INDEX CONCURRENTLY t_n ON t (n)")?;
    let who = format!("its statement waits for a lock; held by pid {pid} (postgres, idle in transaction for %");
    let shown = format!("SELECT state, wait_reason LIKE '{who}' FROM upkeep.jobs WHERE id = '{job}'");
    wait_for_text(&mut session, &shown, "waiting|t").with_context(|| describe(&mut session, &job))?;
    // Others do not see whom somebody's job waits for.
    let role = db.role("nobody")?;
    let executor = "SELECT s.pid, s.backend_start FROM upkeep._job_slot s WHERE s.pid IS NOT NULL";
    let [executor] = &session.rows(executor)?[..] else { anyhow::bail!("one executor is expected") };
    let (worker, start) = executor.split_once('|').context("two columns")?;
    let ask = format!("SELECT upkeep._executor_waits_for({worker}, '{start}') IS NULL");
    assert_eq!(session.text(&ask)?, "f");
    assert_eq!(db.connect_as(&role)?.text(&ask)?, "t");
    holder.run("COMMIT")?;
    wait(&mut session, &job)
}
