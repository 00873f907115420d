//! The backfill on a server that has other things to do: under pgbench, through a failover, in fifty databases.

use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use upkeep_tests::cluster::{Cluster, PATIENCE};
use upkeep_tests::command;
use upkeep_tests::jobs::{describe, state, wait};
use upkeep_tests::session::Session;
use upkeep_tests::testing::{self, wait_for_text, workers};
use upkeep_tests::wait::wait_until;

/// pgbench's own transactions, until it is stopped.
struct Application(Child);

impl Application {
    fn start(server: &Cluster, database: &str) -> Result<Self> {
        let mut pgbench = server.client_command("pgbench", database);
        pgbench.args(["--no-vacuum", "--client=4", "--jobs=2", "--time=3600", "--rate=300"]);
        let child = pgbench.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        let application = Self(child);
        let mut session = server.connect(database)?;
        wait_for_text(&mut session, "SELECT count(*) > 20 FROM pgbench_history", "t")?;
        Ok(application)
    }

    fn stop(mut self) -> Result<()> {
        self.0.kill()?;
        self.0.wait()?;
        Ok(())
    }
}

impl Drop for Application {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn with_pgbench_tables(server: &Cluster, scale: u32) -> Result<Session> {
    server.create_database("bank")?;
    let mut init = server.client_command("pgbench", "bank");
    command::capture(init.args(["--initialize", "--quiet", "--scale"]).arg(scale.to_string()))?;
    let mut session = server.connect("bank")?;
    session.run(
        "CREATE EXTENSION pg_upkeep;
         ALTER TABLE pgbench_accounts ADD COLUMN tier int, ADD COLUMN visits int NOT NULL DEFAULT 0",
    )?;
    Ok(session)
}

/// What pgbench's transactions never change: whatever was added is in all four tables.
const BALANCED: &str = "SELECT count(DISTINCT s) FROM (VALUES
    ((SELECT sum(abalance) FROM pgbench_accounts)), ((SELECT sum(tbalance) FROM pgbench_tellers)),
    ((SELECT sum(bbalance) FROM pgbench_branches)), ((SELECT sum(delta) FROM pgbench_history))) v (s)";

#[test]
fn an_application_keeps_its_balance_and_waits_for_nobody() -> Result<()> {
    // Whoever waits longer than this for a lock says so in the log, with the holder's process id. Other tests run beside
    // this one: `cargo measure backfill-under-load` looks for shorter waits on a quiet machine.
    let server = testing::server("bank").preloaded().set("deadlock_timeout", "500ms").start()?;
    let mut session = with_pgbench_tables(&server, 5)?;
    let application = Application::start(&server, "bank")?;
    let log = server.log_position();
    // One by blocks, one by key that must count each row once, side by side on the same table.
    let tier =
        session.text("SELECT upkeep.backfill('pgbench_accounts', 'tier = aid % 4', 'tier IS NULL', workers => 2)")?;
    let visits = session.text("SELECT upkeep.backfill('pgbench_accounts', 'visits = visits + 1')")?;
    let mut executors: Vec<i32> = Vec::new();
    wait_until("both backfills to end", 2 * PATIENCE, || {
        executors.extend(workers(&mut session, "executor").unwrap_or_default());
        [&tier, &visits].iter().all(|job| state(&mut session, job).is_ok_and(|state| state == "done"))
    })
    .with_context(|| describe(&mut session, &tier) + &describe(&mut session, &visits))?;
    application.stop()?;

    ensure!(!executors.is_empty(), "nobody was seen at work");
    assert_eq!(
        session.rows("SELECT visits, count(*) FROM pgbench_accounts WHERE tier = aid % 4 GROUP BY 1")?,
        ["1|500000"]
    );
    assert_eq!(session.text(BALANCED)?, "1");
    assert_eq!(session.text("SELECT deadlocks FROM pg_stat_database WHERE datname = 'bank'")?, "0");
    let waits: Vec<String> =
        holders(&server.log_since(log)).filter(|pid| executors.contains(pid)).map(|p| p.to_string()).collect();
    assert!(waits.is_empty(), "the application waited for our processes {waits:?}");
    Ok(())
}

/// Processes that somebody waited for: "DETAIL:  Process holding the lock: 4711, 4712. Wait queue: 4713."
fn holders(log: &str) -> impl Iterator<Item = i32> {
    let lists = log.lines().filter_map(|line| line.split_once("holding the lock: ")?.1.split_once('.'));
    let pids = lists.flat_map(|(pids, _)| pids.split(", ").filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>());
    pids.collect::<Vec<_>>().into_iter()
}

#[test]
fn a_failover_under_load_loses_no_row_and_does_none_twice() -> Result<()> {
    let mut primary =
        testing::server("primary").preloaded().set("wal_log_hints", "on").set("wal_keep_size", "1GB").start()?;
    let mut session = with_pgbench_tables(&primary, 1)?;
    let standby = primary.standby("standby")?;
    let application = Application::start(&primary, "bank")?;
    session.run(
        "CREATE FUNCTION slowly(n int) RETURNS int LANGUAGE plpgsql AS
         'BEGIN IF random() < 0.02 THEN PERFORM pg_sleep(0.001); END IF; RETURN n; END'",
    )?;
    let job = session.text(
        "SELECT upkeep.backfill('pgbench_accounts', 'visits = slowly(visits) + 1', workers => 2, batch_time => '20 ms')",
    )?;
    let under_way = format!("SELECT rows_done > 5000 FROM upkeep.jobs WHERE id = '{job}'");
    let mut there = standby.connect("bank")?;
    wait_for_text(&mut there, &under_way, "t").with_context(|| describe(&mut session, &job))?;
    assert_eq!(state(&mut session, &job)?, "running");

    // No farewell: what the standby has not got by now is lost, rows and cursor together.
    primary.crash()?;
    drop(application);
    standby.promote()?;
    let application = Application::start(&standby, "bank")?;
    wait(&mut there, &job)?;
    application.stop()?;
    assert_eq!(there.rows("SELECT visits, count(*) FROM pgbench_accounts GROUP BY 1")?, ["1|100000"]);
    assert_eq!(there.text(BALANCED)?, "1");

    // The old primary comes back as a standby, and leaves the next job to the new one.
    primary.rejoin(&standby)?;
    there.run("ALTER TABLE pgbench_accounts ADD COLUMN colour text")?;
    let next = there.text("SELECT upkeep.backfill('pgbench_accounts', $$colour = 'red'$$, 'colour IS NULL')")?;
    wait(&mut there, &next)?;
    standby.wait_for_standby(&primary)?;
    let mut back = primary.connect("bank")?;
    assert_eq!(back.text("SELECT count(*) FROM pgbench_accounts WHERE colour = 'red' AND visits = 1")?, "100000");
    assert_eq!(state(&mut back, &next)?, "done");
    for kind in ["launcher", "scheduler", "executor"] {
        assert!(workers(&mut back, kind)?.is_empty(), "{kind} on a standby");
    }
    Ok(())
}

#[test]
fn fifty_databases_take_their_turns() -> Result<()> {
    const DATABASES: usize = 50;
    const OTHERS: usize = 10;
    let server =
        testing::server("fifty").preloaded().set("upkeep.max_workers", 3).set("max_connections", 150).start()?;
    let mut admin = server.connect("postgres")?;
    server.create_database("seed")?;
    server.connect("seed")?.run(
        "CREATE EXTENSION pg_upkeep;
         CREATE TABLE t AS SELECT g AS id, NULL::int AS n FROM generate_series(1, 2000) g",
    )?;
    for number in 0..DATABASES {
        admin.run(&format!("CREATE DATABASE db_{number} TEMPLATE seed STRATEGY file_copy"))?;
    }
    for number in 0..OTHERS {
        admin.run(&format!("CREATE DATABASE other_{number} STRATEGY file_copy"))?;
    }
    let mut jobs = Vec::new();
    for number in 0..DATABASES {
        let mut session = server.connect(&format!("db_{number}"))?;
        let job = session.text("SELECT upkeep.backfill('t', 'n = id', 'n IS NULL')")?;
        jobs.push((session, job));
    }
    let mut most = 0;
    wait_until("all databases to be served", 2 * PATIENCE, || {
        most = most.max(workers(&mut admin, "executor").map_or(0, |all| all.len()));
        jobs.iter_mut().all(|(session, job)| state(session, job).is_ok_and(|state| state == "done"))
    })
    .with_context(|| server.log_since(0))?;
    assert!(most <= 3, "{most} executors at once");
    for (session, job) in &mut jobs {
        assert_eq!(session.text("SELECT count(*) FROM t WHERE n = id")?, "2000", "{job}");
    }
    drop(jobs);

    // Idle again: the launcher alone, and in nobody's way.
    for kind in ["scheduler", "executor"] {
        wait_until("the workers to leave", PATIENCE, || workers(&mut admin, kind).is_ok_and(|all| all.is_empty()))?;
    }
    // By the side of databases that we have never been in: the machine has its part in each.
    let mut drop = |database: String| -> Result<Duration> {
        // The statement makes one as well: on a busy machine the disk has its part behind it.
        admin.run("CHECKPOINT")?;
        let clock = Instant::now();
        admin.run(&format!("DROP DATABASE {database}"))?;
        Ok(clock.elapsed())
    };
    let (mut ours, mut others) = (Vec::new(), Vec::new());
    for number in 0..DATABASES {
        ours.push(drop(format!("db_{number}"))?);
        if number < OTHERS {
            others.push(drop(format!("other_{number}"))?);
        }
    }
    let median = |times: &mut Vec<Duration>| {
        times.sort();
        times[times.len() / 2]
    };
    // Whoever waits for a worker that does not leave waits for 5 s. Ours have more files, and the last ones no others beside them.
    assert!(median(&mut ours) < 3 * median(&mut others) + Duration::from_secs(1), "{ours:?}, others {others:?}");
    Ok(())
}
