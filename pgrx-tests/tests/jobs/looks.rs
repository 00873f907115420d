//! What happens in the middle of a scheduler's look is seen by the next one.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use upkeep_tests::cluster::PATIENCE;
use upkeep_tests::jobs::{join, run_in_background, wait_for_state};
use upkeep_tests::testing::{self, wait_for_text, workers};
use upkeep_tests::wait::wait_until;

/// Whoever ends while a scheduler looks leaves what that look has not seen: here the news for a parent that its child is done. A
/// scheduler that is stopped now and then has many such moments.
#[test]
fn an_end_in_the_middle_of_a_look_is_seen() -> Result<()> {
    const ROUNDS: u32 = 15;
    // Each look for another purpose would hide one that is missing.
    let server = testing::server("looks").preloaded().set("upkeep.track_queries", "none").start()?;
    let mut session = server.with_extension("looks")?;
    session.run(
        "CREATE TABLE a (id int PRIMARY KEY); CREATE TABLE b (id int PRIMARY KEY);
         SELECT upkeep.enable_soft_delete(t, retention => '90 days') FROM unnest('{a, b}'::regclass[]) t",
    )?;
    let schedules = session.values::<String>("SELECT id::text FROM upkeep.schedules")?;
    let enough = Arc::new(AtomicBool::new(false));
    let (mut other, stop) = (server.connect("looks")?, Arc::clone(&enough));
    let stopper = thread::spawn(move || -> Result<()> {
        for pause in (5..60).step_by(7).cycle() {
            if stop.load(Ordering::Relaxed) {
                return Ok(());
            }
            for pid in workers(&mut other, "scheduler")?.into_iter().filter_map(Pid::from_raw) {
                // It may have left.
                let _ = kill_process(pid, Signal::STOP);
                thread::sleep(Duration::from_millis(pause));
                let _ = kill_process(pid, Signal::CONT);
            }
        }
        Ok(())
    });
    let mut rounds = (0..ROUNDS).map(|round| -> Result<()> {
        session.run("BEGIN")?;
        for schedule in &schedules {
            run_in_background(&mut session, &format!("SELECT upkeep._purge_by_retention('{schedule}')"))?;
        }
        session.run("COMMIT")?;
        let left = "SELECT count(*) FROM upkeep.jobs WHERE state NOT IN ('done', 'failed', 'canceled')";
        wait_for_text(&mut session, left, "0").with_context(|| format!("round {round}"))
    });
    let done = rounds.try_for_each(|round| round);
    enough.store(true, Ordering::Relaxed);
    join(stopper)??;
    done?;
    let done = 2 * ROUNDS as usize * schedules.len();
    assert_eq!(session.text("SELECT count(*) FROM upkeep.jobs WHERE state = 'done'")?, done.to_string());
    Ok(())
}

/// The launcher, which is stopped meanwhile, has never seen it: nobody but the scheduler knows that it has left something.
#[test]
fn a_scheduler_that_nothing_is_allowed_for_a_moment_comes_back() -> Result<()> {
    let mut server = testing::server("moment")
        .preloaded()
        .set("upkeep.track_queries", "none")
        .set("upkeep.max_workers", 1)
        .start()?;
    let mut session = server.with_extension("moment")?;
    let mut holder = server.connect("moment")?;
    holder.run("SELECT pg_advisory_lock(1)")?;
    let first = run_in_background(&mut session, "SELECT pg_advisory_lock(1)")?;
    wait_for_state(&mut session, &first, "running")?;
    let [launcher] = workers(&mut session, "launcher")?[..] else { bail!("one launcher was to be there") };
    let launcher = Pid::from_raw(launcher).context("a process")?;
    kill_process(launcher, Signal::STOP)?;
    let mut moment = || -> Result<String> {
        let next = run_in_background(&mut session, "SELECT 1")?;
        server.set("upkeep.enabled", "off")?;
        server.reload()?;
        wait_until("the scheduler to leave", PATIENCE, || {
            workers(&mut session, "scheduler").is_ok_and(|there| there.is_empty())
        })?;
        server.set("upkeep.enabled", "on")?;
        server.reload()?;
        Ok(next)
    };
    let next = moment();
    kill_process(launcher, Signal::CONT)?;
    holder.run("SELECT pg_advisory_unlock(1)")?;
    wait_for_state(&mut session, &first, "done")?;
    wait_for_state(&mut session, &next?, "done")
}

/// Its executors leave when their launcher has ended. A scheduler that stayed would start others as fast as they leave, until the next
/// launcher has sent another one: here the server, which is stopped, starts nobody.
#[test]
fn a_scheduler_leaves_when_its_launcher_has_ended() -> Result<()> {
    let server = testing::server("successor").preloaded().start()?;
    let mut session = server.with_extension("successor")?;
    session.run(
        "CREATE TABLE t (id int PRIMARY KEY, v int); INSERT INTO t SELECT g FROM generate_series(1, 5000) g;
         CREATE FUNCTION slowly() RETURNS int LANGUAGE plpgsql AS $$BEGIN PERFORM pg_sleep(0.002); RETURN 1; END$$",
    )?;
    let job = session.text("SELECT upkeep.backfill('t', 'v = slowly()', 'v IS NULL', workers => 2)")?;
    wait_for_state(&mut session, &job, "running")?;
    let [launcher] = workers(&mut session, "launcher")?[..] else { bail!("one launcher was to be there") };
    let launcher = Pid::from_raw(launcher).context("a process")?;
    let postmaster = server.postmaster_pid().and_then(|pid| Pid::from_raw(pid as i32)).context("a server")?;
    kill_process(postmaster, Signal::STOP)?;
    kill_process(launcher, Signal::TERM)?;
    let all_leave = ["launcher", "executor", "scheduler"].iter().try_for_each(|kind| {
        wait_until(kind, PATIENCE, || workers(&mut session, kind).is_ok_and(|there| there.is_empty()))
    });
    kill_process(postmaster, Signal::CONT)?;
    all_leave?;
    wait_for_state(&mut session, &job, "done")
}
