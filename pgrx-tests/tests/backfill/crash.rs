//! LAW 17: `SET n = n + 1` without a condition touches every row exactly once, whatever is killed meanwhile.

use anyhow::{Context, Result, bail};
use upkeep_tests::cluster::{Cluster, PATIENCE};
use upkeep_tests::faults::{Blow, strike_open_step};
use upkeep_tests::jobs::{describe, state};
use upkeep_tests::session::Session;
use upkeep_tests::testing;
use upkeep_tests::wait::wait_for;

const ROWS: i64 = 200_000;
const TERMINATIONS: usize = 20;
const KILLS: usize = 20;
const SERVER_KILLS: usize = 3;

/// Rows take so long while blows fall, so that the job does not end before they have.
const SLOW: &str = "CREATE OR REPLACE FUNCTION plus_one(n int) RETURNS int LANGUAGE plpgsql AS
                    'BEGIN PERFORM pg_sleep(0.0005); RETURN n + 1; END'";
const FAST: &str =
    "CREATE OR REPLACE FUNCTION plus_one(n int) RETURNS int LANGUAGE plpgsql AS 'BEGIN RETURN n + 1; END'";

#[test]
fn every_row_exactly_once_through_forty_killed_workers_and_three_killed_servers() -> Result<()> {
    let mut server = testing::server("blows").preloaded().set("upkeep.max_workers", 2).start()?;
    let mut session = server.connect("postgres")?;
    session.run("CREATE EXTENSION pg_upkeep")?;
    session.run(SLOW)?;
    session.run(&format!(
        "CREATE TABLE t (id int PRIMARY KEY, n int NOT NULL);
         INSERT INTO t SELECT g, 0 FROM generate_series(1, {ROWS}) g"
    ))?;
    session.run("VACUUM ANALYZE t")?;
    // A portion is one short step: both workers have many of them, and each blow costs little.
    let job = session.text(
        "SELECT upkeep.backfill('t', 'n = plus_one(n)', workers => 2, batch_time => '50 ms',
                                options => '{\"range_blocks\": 4, \"window_ranges\": 4, \"strides\": 4}')",
    )?;

    let mut landed = 0;
    for blow in [Blow::Terminate, Blow::Kill] {
        let count = match blow {
            Blow::Terminate => TERMINATIONS,
            Blow::Kill => KILLS,
        };
        for number in 0..count {
            wait_until_both_have_committed(&mut session, &job)?;
            let log = server.log_position();
            strike_open_step(&server, &mut session, blow)
                .with_context(|| format!("{blow:?} {number}: {}", describe(&mut session, &job)))?;
            landed += 1;
            if matches!(blow, Blow::Kill) {
                session = recovered(&server, log)?;
            }
        }
    }
    for _ in 0..SERVER_KILLS {
        wait_until_both_have_committed(&mut session, &job)?;
        wait_for("an open step", PATIENCE, || {
            let open = "SELECT count(*) > 0 FROM pg_stat_activity
                         WHERE backend_type = 'pg_upkeep executor' AND backend_xid IS NOT NULL";
            Ok(session.value::<bool>(open)?.then_some(()))
        })?;
        server.crash()?;
        server.start()?;
        session = server.connect("postgres")?;
    }
    let so_far: i64 = session.value("SELECT count(*) FROM t WHERE n > 0")?;
    println!(
        "{landed} of {} blows landed inside an open step, {SERVER_KILLS} server kills; {so_far} rows by then",
        TERMINATIONS + KILLS
    );
    assert!(so_far < ROWS, "the job had ended before the last blow");

    session.run(FAST)?;
    session.run(&format!("CALL upkeep.wait('{job}', '3 min')")).with_context(|| describe(&mut session, &job))?;
    assert_eq!(session.rows("SELECT n, count(*) FROM t GROUP BY n")?, [format!("1|{ROWS}")]);
    assert_eq!(
        session.text(&format!("SELECT rows_done, rows_left FROM upkeep.jobs WHERE id = '{job}'"))?,
        format!("{ROWS}|0")
    );
    // Nothing is left behind in the indexes either.
    session.run("CREATE EXTENSION amcheck; SELECT bt_index_check('t_pkey', true)")
}

/// Strikes count in a row: a worker must have come to a commit between two blows. And who ends within 250 ms of his
/// start is taken for one who cannot start, and started again after growing pauses. So is who ends again and again in the middle of a
/// step before the first commit.
fn wait_until_both_have_committed(session: &mut Session, job: &str) -> Result<()> {
    let look = format!(
        "SELECT count(*) = 2 AND bool_and(strikes = 0 AND ends < 3)
                AND (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'pg_upkeep executor'
                        AND backend_start < clock_timestamp() - interval '300 ms') = 2
           FROM upkeep._job_slot WHERE job = '{job}'"
    );
    let both = wait_for("both workers to have committed a step", PATIENCE, || {
        if state(session, job)? == "failed" {
            bail!("the job has failed");
        }
        Ok(session.value::<bool>(&look)?.then_some(()))
    });
    both.with_context(|| describe(session, job))?;
    // Steps commit asynchronously: a crash would take these commits along, and the next strike would be one in a row.
    session.run("SELECT pg_logical_emit_message(true, 'flush', '')")
}

fn recovered(server: &Cluster, log: u64) -> Result<Session> {
    wait_for("the server to restart itself", PATIENCE, || {
        Ok(server.log_since(log).contains("reinitializing").then_some(()))
    })?;
    server.connect_again("postgres")
}
