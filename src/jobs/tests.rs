//! Verbs and limits, in the server.

use crate::in_server_tests::{error, run, sqlstate, text};
use crate::server::process::Process;
use crate::server::raise::answer;

fn job(sql: &str) -> String {
    answer(text(sql))
}

fn state(job: &str) -> String {
    answer(text(&format!("SELECT state FROM upkeep.jobs WHERE id = '{job}'")))
}

#[pgrx::pg_extern]
fn test_only_the_process_that_was_meant_is_signalled() {
    let start = answer(text(
        "SELECT (extract(epoch FROM backend_start) * 1000000)::bigint - 946684800000000
         FROM pg_stat_activity WHERE pid = pg_backend_pid()",
    ));
    let me = Process { pid: crate::server::worker::my_pid(), start: start.parse().unwrap() };
    // Signal 0 only asks.
    assert!(me.signal(0));
    assert!(!Process { start: me.start + 1, ..me }.signal(0), "who had the number before");
    let launcher: i32 =
        answer(text("SELECT pid FROM pg_stat_activity WHERE backend_type = 'checkpointer'")).parse().unwrap();
    assert!(!Process { pid: launcher, ..me }.signal(0));
    assert!(!Process { pid: i32::MAX, ..me }.signal(0));
}

#[pgrx::pg_extern]
fn test_a_job_goes_through_its_states() {
    let id = job("SELECT upkeep.run_in_background('SELECT 1', 'one')");
    assert_eq!(state(&id), "queued");
    for (verb, after) in [
        ("pause", "paused"),
        ("pause", "paused"),
        ("resume", "queued"),
        ("cancel", "canceled"),
        ("retry", "queued"),
        ("cancel", "canceled"),
    ] {
        assert_eq!(job(&format!("SELECT upkeep.{verb}('{id}')")), id);
        assert_eq!(state(&id), after, "after {verb}");
    }
    let history = answer(text(&format!(
        "SELECT string_agg(event, ' ' ORDER BY happened_at) FROM upkeep.job_events WHERE job = '{id}'"
    )));
    assert_eq!(history, "queued paused queued canceled queued canceled");
    job(&format!("SELECT upkeep.drop_job('{id}')"));
    assert_eq!(answer(text("SELECT count(*) FROM upkeep.jobs")), "0");
}

#[pgrx::pg_extern]
fn test_verbs_refuse_the_wrong_state() {
    let id = job("SELECT upkeep.run_in_background('SELECT 1')");
    for verb in ["retry", "drop_job"] {
        assert_eq!(sqlstate(&format!("SELECT upkeep.{verb}('{id}')")), "55000", "{verb}");
    }
    job(&format!("SELECT upkeep.cancel('{id}')"));
    for verb in ["pause", "resume"] {
        assert_eq!(sqlstate(&format!("SELECT upkeep.{verb}('{id}')")), "55000", "{verb}");
    }
    assert_eq!(sqlstate(&format!("SELECT upkeep.alter_job('{id}', workers => 1)")), "55000");
    assert_eq!(sqlstate("SELECT upkeep.pause(gen_random_uuid())"), "42704");
}

#[pgrx::pg_extern]
fn test_a_name_is_unique_among_unfinished_jobs_of_one_owner() {
    let id = job("SELECT upkeep.run_in_background('SELECT 1', 'nightly')");
    let refusal = error("SELECT upkeep.run_in_background('SELECT 1', 'nightly')");
    assert_eq!(refusal.sqlstate.to_string(), "42710");
    assert!(refusal.detail.is_some_and(|detail| detail.contains(&id)));
    job(&format!("SELECT upkeep.cancel('{id}')"));
    let next = job("SELECT upkeep.run_in_background('SELECT 2', 'nightly')");
    assert_ne!(id, next);
    assert_eq!(sqlstate(&format!("SELECT upkeep.retry('{id}')")), "42710");
    let other = job("SELECT upkeep.run_in_background('SELECT 3')");
    assert_eq!(sqlstate(&format!("SELECT upkeep.alter_job('{other}', name => 'nightly')")), "42710");
}

#[pgrx::pg_extern]
fn test_mistakes_are_never_internal_errors() {
    for (sql, code) in [
        ("SELECT upkeep.run_in_background(NULL)", "22004"),
        ("SELECT upkeep.run_in_background('')", "42601"),
        ("SELECT upkeep.run_in_background('SELECT 1; SELECT 2')", "42601"),
        ("SELECT upkeep.run_in_background('SELECT 1 \\gset')", "42601"),
        ("SELECT upkeep.run_in_background('SELECT :x')", "42601"),
        ("SELECT upkeep.run_in_background('SELEC 1')", "42601"),
        ("SELECT upkeep.run_in_background('BEGIN')", "0A000"),
        ("SELECT upkeep.run_in_background('SAVEPOINT s')", "0A000"),
        ("SELECT upkeep.run_in_background('LISTEN x')", "0A000"),
        ("SELECT upkeep.run_in_background('COPY pg_class TO STDOUT')", "0A000"),
        ("SELECT upkeep.run_in_background('SELECT 1', name => ' ')", "22023"),
        ("SELECT upkeep.run_in_background('SELECT 1', retries => -1)", "22023"),
        ("SELECT upkeep.alter_job(NULL)", "22004"),
    ] {
        assert_eq!(sqlstate(sql), code, "{sql}");
    }
}

#[pgrx::pg_extern]
fn test_a_syntax_error_points_into_the_command() {
    let error = error("SELECT upkeep.run_in_background('SELECT 1 FORM x')");
    let position = error.position.map(|position| position.character);
    assert_eq!(position, Some(15));
}

#[pgrx::pg_extern]
fn test_altering_is_checked_and_recorded() {
    let id = job("SELECT upkeep.run_in_background('SELECT 1')");
    for arguments in ["batch_time => '1 ms'", "batch_time => '2 min'", "workers => 0", "workers => 65", "workers => 2"]
    {
        assert_eq!(sqlstate(&format!("SELECT upkeep.alter_job('{id}', {arguments})")), "22023", "{arguments}");
    }
    job(&format!("SELECT upkeep.alter_job('{id}', batch_time => '1 s', name => 'renamed')"));
    let detail =
        answer(text(&format!("SELECT detail FROM upkeep.job_events WHERE job = '{id}' AND event = 'altered'")));
    assert_eq!(detail, "batch_time 1000 ms, name renamed");
}

#[pgrx::pg_extern]
fn test_pausing_everything_counts() {
    for _ in 0..3 {
        job("SELECT upkeep.run_in_background('SELECT 1')");
    }
    assert_eq!(answer(text("SELECT upkeep.pause_all('migration')")), "3");
    assert_eq!(answer(text("SELECT upkeep.pause_all()")), "0");
    assert_eq!(answer(text("SELECT DISTINCT wait_reason FROM upkeep.jobs")), "migration");
    assert_eq!(answer(text("SELECT upkeep.resume_all()")), "3");
}

#[pgrx::pg_extern]
fn test_a_copied_job_waits_for_an_administrator() {
    let id = job("SELECT upkeep.run_in_background('SELECT 1')");
    answer(run("UPDATE upkeep._job SET system_identifier = system_identifier + 1"));
    assert_eq!(answer(text("SELECT state || ' ' || wait_reason FROM upkeep.jobs")), "paused restored");
    assert_eq!(sqlstate(&format!("SELECT upkeep.resume('{id}')")), "55000");
    assert_eq!(answer(text("SELECT upkeep.resume_all()")), "1");
    assert_eq!(state(&id), "queued");
}
