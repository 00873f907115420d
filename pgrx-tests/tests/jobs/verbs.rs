//! What people do to jobs, and what each state allows.

use std::time::Duration;

use anyhow::{Context, Result};
use postgres::fallible_iterator::FallibleIterator;
use upkeep_tests::jobs::{
    events, join, meanwhile, meanwhile_error, run_in_background, run_with, sqlstate, state, wait, wait_for_error,
    wait_for_state,
};
use upkeep_tests::session::Session;
use upkeep_tests::testing::{self, Database, wait_for_text};

const STATES: [&str; 5] = ["queued", "paused", "done", "failed", "canceled"];

/// One job in each of [`STATES`], and no worker that would change them.
fn a_job_in_each_state(db: &Database) -> Result<[String; 5]> {
    let mut session = db.connect()?;
    session.run("SELECT upkeep.start_workers()")?;
    let done = run_in_background(&mut session, "SELECT 1")?;
    let failed = run_in_background(&mut session, "SELECT 1/0")?;
    wait_for_state(&mut session, &done, "done")?;
    wait_for_state(&mut session, &failed, "failed")?;
    session.run("SELECT upkeep.stop_workers()")?;
    let [queued, paused, canceled] =
        [1, 2, 3].map(|n| run_with(&mut session, "SELECT 1", &format!("name => 'job {n}'")));
    let jobs = [queued?, paused?, done, failed, canceled?];
    session.run(&format!("SELECT upkeep.pause('{}'); SELECT upkeep.cancel('{}')", jobs[1], jobs[4]))?;
    for (job, wanted) in jobs.iter().zip(STATES) {
        assert_eq!(state(&mut session, job)?, wanted);
    }
    Ok(jobs)
}

#[test]
fn each_state_allows_what_it_should() -> Result<()> {
    let db = testing::database_without_preload()?;
    let jobs = a_job_in_each_state(&db)?;
    let mut session = db.connect()?;
    // The state after the verb, or that it is refused. To ask for what already is so is no mistake.
    let refused = "55000";
    let expected = [
        ("pause", ["paused", "paused", refused, refused, refused]),
        ("resume", ["queued", "queued", refused, refused, refused]),
        ("cancel", ["canceled", "canceled", refused, refused, "canceled"]),
        ("retry", [refused, refused, refused, "queued", "queued"]),
        ("drop_job", [refused, refused, "", "", ""]),
        ("alter_job", ["queued", "paused", refused, refused, refused]),
    ];
    for (verb, outcomes) in expected {
        for ((job, before), wanted) in jobs.iter().zip(STATES).zip(outcomes) {
            let call = match verb {
                "alter_job" => format!("SELECT upkeep.alter_job('{job}', name => 'renamed')"),
                _ => format!("SELECT upkeep.{verb}('{job}')"),
            };
            let what = format!("{verb} of a {before} job");
            session.run("BEGIN")?;
            if wanted == refused {
                let error = session.error(&call).context(what.clone())?;
                assert_eq!(error.code().code(), refused, "{what}");
                assert!(error.hint().is_some(), "{what}: {error:?}");
            } else {
                assert_eq!(&session.text(&call).context(what.clone())?, job, "{what} returns the job");
                let after = format!("SELECT coalesce(min(state), '') FROM upkeep.jobs WHERE id = '{job}'");
                assert_eq!(session.text(&after)?, wanted, "{what}");
            }
            session.run("ROLLBACK")?;
        }
    }
    Ok(())
}

#[test]
fn a_job_that_does_not_exist_is_named_in_the_error() -> Result<()> {
    let db = testing::database()?;
    let mut session = db.connect()?;
    let nobody = "00000000-0000-7000-8000-000000000000";
    for verb in ["pause", "resume", "cancel", "retry", "drop_job", "alter_job"] {
        let error = session.error(&format!("SELECT upkeep.{verb}('{nobody}')"))?;
        assert_eq!(error.code().code(), "42704", "{verb}");
        assert!(error.message().contains(nobody), "{}", error.message());
    }
    assert_eq!(sqlstate(&mut session, &format!("CALL upkeep.wait('{nobody}')"))?, "42704");
    assert_eq!(sqlstate(&mut session, "CALL upkeep.wait(NULL)")?, "22004");
    assert_eq!(sqlstate(&mut session, "SELECT upkeep.alter_job(NULL)")?, "22004");
    Ok(())
}

#[test]
fn ids_sort_by_creation() -> Result<()> {
    let db = testing::database_without_preload()?;
    let mut session = db.connect()?;
    let created: Vec<String> = (0..20).map(|_| run_in_background(&mut session, "SELECT 1")).collect::<Result<_>>()?;
    assert_eq!(session.values::<String>("SELECT id::text FROM upkeep.jobs ORDER BY id")?, created);
    assert!(created.iter().all(|id| id.as_bytes()[14] == b'7' && b"89ab".contains(&id.as_bytes()[19])), "{created:?}");
    Ok(())
}

#[test]
fn a_name_is_taken_until_its_job_has_finished() -> Result<()> {
    let db = testing::database_without_preload()?;
    let mut session = db.connect()?;
    let named = |session: &mut Session| run_with(session, "SELECT 1", "name => 'nightly'");
    let taken = "SELECT upkeep.run_in_background('SELECT 1', name => 'nightly')";

    let first = named(&mut session)?;
    let error = session.error(taken)?;
    assert_eq!(error.code().code(), "42710");
    assert!(error.detail().unwrap_or_default().contains(&first), "the error says which job has it: {error:?}");
    session.run(&format!("SELECT upkeep.pause('{first}')"))?;
    assert_eq!(sqlstate(&mut session, taken)?, "42710");
    session.run(&format!("SELECT upkeep.cancel('{first}')"))?;
    let second = named(&mut session)?;

    let back = format!("SELECT upkeep.retry('{first}')");
    assert_eq!(sqlstate(&mut session, &back)?, "42710", "the name belongs to the second now");
    let other = run_with(&mut session, "SELECT 1", "name => 'other'")?;
    assert_eq!(sqlstate(&mut session, &format!("SELECT upkeep.alter_job('{other}', name => 'nightly')"))?, "42710");
    session.run(&format!("SELECT upkeep.alter_job('{second}', name => 'weekly'); SELECT upkeep.retry('{first}')"))?;
    let names = "SELECT string_agg(name, ',' ORDER BY name) FROM upkeep.jobs WHERE state = 'queued'";
    assert_eq!(session.text(names)?, "nightly,other,weekly");
    Ok(())
}

#[test]
fn each_owner_has_names_of_his_own() -> Result<()> {
    let db = testing::database_without_preload()?;
    let role = db.role("other")?;
    let mut session = db.connect()?;
    session.run(&format!("GRANT EXECUTE ON FUNCTION upkeep.run_in_background TO {role}"))?;
    run_with(&mut session, "SELECT 1", "name => 'nightly'")?;
    run_with(&mut db.connect_as(&role)?, "SELECT 1", "name => 'nightly'")?;
    assert_eq!(session.text("SELECT count(DISTINCT owner) FROM upkeep.jobs WHERE name = 'nightly'")?, "2");
    Ok(())
}

#[test]
fn two_who_want_the_same_name_at_once_see_each_other() -> Result<()> {
    let db = testing::database_without_preload()?;
    let mut first = db.connect()?;
    let create = "SELECT upkeep.run_in_background('SELECT 1', name => 'only one')";
    for (end, jobs) in [("COMMIT", "1"), ("ROLLBACK", "1")] {
        first.run("BEGIN")?;
        first.run(create)?;
        let mut second = db.connect()?;
        let pid = second.pid()?;
        let blocked = format!("SELECT cardinality(pg_blocking_pids({pid})) > 0");
        if end == "COMMIT" {
            let second = meanwhile_error(second, create);
            wait_for_text(&mut db.connect()?, &blocked, "t")?;
            first.run(end)?;
            assert_eq!(join(second)??.code().code(), "42710");
        } else {
            let second = meanwhile(second, create);
            wait_for_text(&mut db.connect()?, &blocked, "t")?;
            first.run(end)?;
            join(second)?.1?;
        }
        assert_eq!(first.text("SELECT count(*) FROM upkeep.jobs WHERE state = 'queued'")?, jobs);
        first.run("SELECT upkeep.cancel(id) FROM upkeep.jobs WHERE state = 'queued'")?;
    }
    Ok(())
}

#[test]
fn pause_all_and_resume_all_say_how_many() -> Result<()> {
    let db = testing::database_without_preload()?;
    let mut session = db.connect()?;
    let jobs = [1, 2, 3].map(|_| run_in_background(&mut session, "SELECT 1"));
    let [first, ..] = jobs;
    let first = first?;
    session.run(&format!("SELECT upkeep.cancel('{first}')"))?;
    assert_eq!(session.text("SELECT upkeep.pause_all('month end')")?, "2");
    assert_eq!(session.text("SELECT upkeep.pause_all('again')")?, "0");
    let shown = "SELECT DISTINCT state, wait_reason FROM upkeep.jobs WHERE state <> 'canceled'";
    assert_eq!(session.rows(shown)?, ["paused|month end"]);
    session.notices();
    assert_eq!(session.text("SELECT upkeep.resume_all()")?, "2");
    let warned: Vec<String> = session.notices().iter().map(|n| n.message().to_owned()).collect();
    assert!(warned.iter().any(|w| w.contains("no pg_upkeep worker is running")), "{warned:?}");
    assert_eq!(session.text("SELECT upkeep.resume_all()")?, "0");
    assert_eq!(session.rows(shown)?, ["queued|waits, because no pg_upkeep worker is running"]);
    assert_eq!(state(&mut session, &first)?, "canceled");
    Ok(())
}

#[test]
fn a_paused_job_runs_when_it_is_resumed_and_not_before() -> Result<()> {
    let db = testing::database()?;
    let mut session = db.connect()?;
    session.run("CREATE TABLE t (n int); BEGIN")?;
    let paused = run_in_background(&mut session, "INSERT INTO t VALUES (1)")?;
    session.run(&format!("SELECT upkeep.pause('{paused}'); COMMIT"))?;
    let other = run_in_background(&mut session, "SELECT 1")?;
    wait(&mut session, &other)?;
    assert_eq!(state(&mut session, &paused)?, "paused");
    assert_eq!(session.text("SELECT count(*) FROM t")?, "0");
    session.run(&format!("SELECT upkeep.resume('{paused}')"))?;
    wait(&mut session, &paused)?;
    assert_eq!(session.text("SELECT count(*) FROM t")?, "1");
    Ok(())
}

#[test]
fn every_change_of_state_is_an_event() -> Result<()> {
    let db = testing::database()?;
    let mut session = db.connect()?;
    session.run("CREATE SEQUENCE runs; BEGIN")?;
    let job = run_in_background(&mut session, "SELECT 1 / (nextval('runs') - 1)")?;
    session.run(&format!("SELECT upkeep.pause('{job}'); COMMIT"))?;
    session.run(&format!("SELECT upkeep.alter_job('{job}', name => 'renamed'); SELECT upkeep.resume('{job}')"))?;
    wait_for_state(&mut session, &job, "failed")?;
    session.run(&format!("SELECT upkeep.retry('{job}')"))?;
    wait_for_state(&mut session, &job, "done")?;
    let happened = "queued paused altered queued started failed queued started completed done";
    assert_eq!(events(&mut session, &job)?.join(" "), happened);
    let why = format!("SELECT detail FROM upkeep.job_events WHERE job = '{job}' AND event = 'failed'");
    assert_eq!(session.text(&why)?, "division by zero");
    Ok(())
}

#[test]
fn the_end_of_a_job_is_notified() -> Result<()> {
    let db = testing::database()?;
    let mut listener = db.connect()?;
    listener.run("LISTEN upkeep_job")?;
    let mut session = db.connect()?;
    for (command, end) in [("SELECT 1", "done"), ("SELECT 1/0", "failed"), ("SELECT pg_sleep(3600)", "canceled")] {
        let job = run_in_background(&mut session, command)?;
        if end == "canceled" {
            session.run(&format!("SELECT upkeep.cancel('{job}')"))?;
        }
        let notification = listener.notifications().timeout_iter(Duration::from_secs(60)).next()?;
        let payload = notification.context("no notification")?.payload().to_owned();
        assert!(payload.contains(&job) && payload.contains(end), "{payload}");
    }
    Ok(())
}

#[test]
fn drop_job_forgets_everything_about_it() -> Result<()> {
    let db = testing::database()?;
    let mut session = db.connect()?;
    let job = run_in_background(&mut session, "SELECT 1")?;
    wait(&mut session, &job)?;
    session.run(&format!("SELECT upkeep.drop_job('{job}')"))?;
    let left = "SELECT (SELECT count(*) FROM upkeep._job), (SELECT count(*) FROM upkeep._job_slot),
                       (SELECT count(*) FROM upkeep._job_event)";
    assert_eq!(session.text(left)?, "0|0|0");
    Ok(())
}

/// As a dump of a later version can bring one: nobody here knows what it has left, or how that is removed.
#[test]
fn a_finished_job_of_an_unknown_kind_can_be_dropped() -> Result<()> {
    let db = testing::database_without_preload()?;
    let mut session = db.connect()?;
    let job = run_in_background(&mut session, "SELECT 1")?;
    session.run(&format!("SELECT upkeep.cancel('{job}')"))?;
    session.run("UPDATE upkeep._job SET kind = 'unheard of', needs_cleanup = true")?;
    assert_eq!(sqlstate(&mut session, &format!("SELECT upkeep.drop_job('{job}')"))?, "55006", "not yet tried");
    session.run("SELECT upkeep.start_workers()")?;
    wait_for_text(&mut session, "SELECT needs_cleanup FROM upkeep._job", "f")?;
    session.run(&format!("SELECT upkeep.drop_job('{job}')"))?;
    assert_eq!(session.text("SELECT count(*) FROM upkeep._job")?, "0");
    Ok(())
}

#[test]
fn altering_a_job_has_limits() -> Result<()> {
    let db = testing::database_without_preload()?;
    let mut session = db.connect()?;
    let job = run_in_background(&mut session, "SELECT 1")?;
    let endless_name = format!("name => '{}'", "x".repeat(201));
    for change in [
        "batch_time => '9 ms'",
        "batch_time => '61 s'",
        "batch_time => '-1 month'",
        "batch_time => '100 years'",
        "workers => 0",
        "workers => 65",
        "workers => 2",
        "name => ''",
        "name => '  '",
        &endless_name,
    ] {
        let code = sqlstate(&mut session, &format!("SELECT upkeep.alter_job('{job}', {change})"))?;
        assert_eq!(code, "22023", "{change}");
    }
    session.run(&format!("SELECT upkeep.alter_job('{job}', batch_time => '1 s', workers => 1)"))?;
    let detail = format!("SELECT detail FROM upkeep.job_events WHERE job = '{job}' AND event = 'altered'");
    assert_eq!(session.text(&detail)?, "batch_time 1000 ms, 1 workers");
    Ok(())
}

#[test]
fn finished_jobs_are_kept_for_the_retention_time() -> Result<()> {
    let mut server = testing::server("retention").preloaded().start()?;
    let mut session = server.connect("postgres")?;
    session.run("CREATE EXTENSION pg_upkeep")?;
    let done = run_in_background(&mut session, "SELECT 1")?;
    wait(&mut session, &done)?;
    let failed = run_in_background(&mut session, "SELECT 1/0")?;
    wait_for_error(&mut session, &failed)?;
    session.run("BEGIN")?;
    let paused = run_in_background(&mut session, "SELECT 1")?;
    session.run(&format!("SELECT upkeep.pause('{paused}'); COMMIT"))?;
    assert_eq!(session.text("SELECT count(*) FROM upkeep.jobs")?, "3");

    server.set("upkeep.job_retention", 0)?;
    server.reload()?;
    // Whatever comes next makes a scheduler look around.
    run_in_background(&mut session, "SELECT 1")?;
    wait_for_text(&mut session, "SELECT string_agg(id::text, ',') FROM upkeep.jobs", &paused)?;
    assert_eq!(session.text("SELECT count(*) FROM upkeep._job_event")?, "2", "the events go with their job");

    server.set("upkeep.job_retention", -1)?;
    server.reload()?;
    let done = run_in_background(&mut session, "SELECT 1")?;
    wait(&mut session, &done)?;
    session.run("UPDATE upkeep._job SET finished_at = '2000-01-01' WHERE state = 'done'")?;
    let other = run_in_background(&mut session, "SELECT 1")?;
    wait(&mut session, &other)?;
    assert_eq!(state(&mut session, &done)?, "done", "-1 keeps them for ever");
    Ok(())
}
