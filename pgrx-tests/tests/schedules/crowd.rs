//! Ten thousand schedules that are due at once, on four workers.

use std::fs;
use std::time::Instant;

use anyhow::{Context, Result};
use upkeep_tests::jobs::{run_in_background, wait};
use upkeep_tests::schedules::describe;
use upkeep_tests::session::Session;
use upkeep_tests::testing::{self, workers};
use upkeep_tests::wait::wait_until;

const CROWD: i32 = 10_000;
/// Runs that must have ended before the figures are taken.
const SOME: i64 = 100;

/// Peak resident memory of a process of the server, in MB.
fn peak_memory(pid: i32) -> Result<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no VmHWM")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<f64>()? / 1024.0)
}

fn ended(session: &mut Session) -> Result<i64> {
    session.value("SELECT count(*) FROM upkeep.schedule_runs WHERE status = 'done'")
}

#[test]
fn ten_thousand_schedules_due_at_once() -> Result<()> {
    let server = testing::server("crowd").preloaded().set("upkeep.max_workers", 4).start()?;
    let mut session = server.connect("postgres")?;
    session.run("CREATE EXTENSION pg_upkeep")?;
    let clock = Instant::now();
    session.run(&format!(
        "SELECT upkeep.schedule('s' || i, '0 0 1 1 *', 'SELECT 1') FROM generate_series(1, {CROWD}) i"
    ))?;
    let created = clock.elapsed();
    // All at once, as midnight comes.
    let clock = Instant::now();
    session.run(
        "UPDATE upkeep._schedule SET next_run = now() + interval '1 second'; SELECT upkeep.alter_schedule('s1', retries => 0)",
    )?;
    wait_until("some of them to be done", std::time::Duration::from_secs(120), || {
        ended(&mut session).is_ok_and(|count| count >= SOME)
    })
    .with_context(|| describe(&mut session))?;
    let first = clock.elapsed().as_secs_f64();
    let [scheduler] = workers(&mut session, "scheduler")?[..] else { anyhow::bail!("one scheduler is expected") };
    let memory = peak_memory(scheduler)?;

    // Never more jobs than could be at work, and the rest waits where it is, neither lost nor noted as missed.
    let consistent = format!(
        "SELECT (SELECT count(*) FROM upkeep.jobs WHERE state IN ('queued', 'running', 'waiting')) <= 4,
                (SELECT count(*) FROM upkeep._schedule WHERE next_run <= now())
                    + (SELECT count(*) FROM upkeep._schedule_run) = {CROWD},
                NOT EXISTS (SELECT 1 FROM upkeep._schedule_run WHERE status IN ('missed', 'skipped')),
                (SELECT count(*) FROM upkeep._job) <= 210"
    );
    assert_eq!(session.text(&consistent)?, "t|t|t|t", "{}", describe(&mut session));

    // The looks stay as quick as they were: the second hundred takes about as long as the first.
    let before = ended(&mut session)?;
    let clock = Instant::now();
    wait_until("as many again to be done", std::time::Duration::from_secs(120), || {
        ended(&mut session).is_ok_and(|count| count >= before + 2 * SOME)
    })?;
    let per_run = clock.elapsed().as_secs_f64() * 1000.0 / (2 * SOME) as f64;
    assert!(memory < 100.0, "the scheduler grew to {memory:.0} MB");
    assert!(per_run < 250.0, "{per_run:.0} ms a run");
    assert_eq!(session.text(&consistent)?, "t|t|t|t", "{}", describe(&mut session));
    println!(
        "created in {:.1} s; first {SOME} after {first:.1} s; then {per_run:.1} ms a run; scheduler at most {memory:.0} MB",
        created.as_secs_f64()
    );
    Ok(())
}

#[test]
fn ten_thousand_schedules_missed_at_once() -> Result<()> {
    let server = testing::server("missed").preloaded().set("upkeep.max_workers", 4).start()?;
    let mut session = server.connect("postgres")?;
    session.run("CREATE EXTENSION pg_upkeep")?;
    session.run(&format!(
        "SELECT upkeep.schedule('s' || i, '* * * * *', 'SELECT 1') FROM generate_series(1, {CROWD}) i;
         UPDATE upkeep._schedule SET next_run = date_trunc('minute', now()) - interval '30 days', paused = false"
    ))?;
    let clock = Instant::now();
    // Other work does not wait until all are noted.
    let job = run_in_background(&mut session, "SELECT 1")?;
    wait(&mut session, &job)?;
    let noted: i64 = session.value("SELECT count(*) FROM upkeep._schedule_run")?;
    println!("{noted} noted when a job was done, after {:.1} s", clock.elapsed().as_secs_f64());
    assert!(noted < i64::from(CROWD), "all are noted already");
    wait_until("the missed ones to be noted", std::time::Duration::from_secs(180), || {
        let noted = "SELECT count(*) FROM upkeep.schedule_runs WHERE status = 'missed' AND due_times = 100";
        session.value::<i64>(noted).is_ok_and(|count| count == i64::from(CROWD))
    })
    .with_context(|| describe(&mut session))?;
    println!("noted in {:.1} s", clock.elapsed().as_secs_f64());
    assert_eq!(session.text("SELECT bool_and(next_run > now() - interval '3 minutes') FROM upkeep._schedule")?, "t");
    Ok(())
}
