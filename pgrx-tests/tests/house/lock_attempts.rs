//! One attempt at all locks of a change, against everybody who has a table for long: nobody waits behind it for longer than
//! `upkeep.ddl_lock_timeout`, and who is in the way is named.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};
use upkeep_tests::beside::{Beside, Longest};
use upkeep_tests::cluster::{Cluster, PATIENCE};
use upkeep_tests::in_the_way::{self, InTheWay};
use upkeep_tests::jobs::{describe, join, state, wait, wait_for_error, wait_for_state_within};
use upkeep_tests::session::Session;
use upkeep_tests::testing::{self, wait_for_text};
use upkeep_tests::wait::wait_until;

/// The longest that anybody may wait behind an attempt.
const LONGEST: Duration = Duration::from_millis(250);
/// So long an attempt is looked at: waits grow up to 160 ms meanwhile, and an autovacuum is asked to yield.
const LOOK: Duration = Duration::from_secs(4);

fn assert_unnoticed(longest: Longest, what: &str) {
    assert!(longest.is_within(LONGEST), "{what}: {longest:?}");
}

/// A database of its own, with the table.
fn database(cluster: &Cluster, name: &str) -> Result<Session> {
    let mut session = cluster.with_extension(name)?;
    in_the_way::make_table(&mut session)?;
    Ok(session)
}

fn wait_reason(job: &str) -> String {
    format!("SELECT coalesce(wait_reason, '') FROM upkeep.jobs WHERE id = '{job}'")
}

#[test]
fn nobody_waits_behind_a_job_that_waits_for_somebody() -> Result<()> {
    let cluster = in_the_way::server(testing::server("in_the_way").preloaded()).start()?;
    for (n, who) in InTheWay::PATIENTLY.into_iter().enumerate() {
        let what = format!("{who:?}");
        let name = format!("held_{n}");
        let mut session = database(&cluster, &name)?;
        let holder = who.take(&cluster, &name).with_context(|| what.clone())?;
        let beside = in_the_way::beside(|| cluster.connect(&name))?;
        let job = in_the_way::start_job(&mut session)?;
        let called = format!("SELECT strpos(({}), '{}') > 0", wait_reason(&job), holder.called);
        wait_for_text(&mut session, &called, "t").with_context(|| describe(&mut session, &job))?;
        thread::sleep(LOOK);
        assert_eq!(state(&mut session, &job)?, "waiting", "{what}");
        assert_eq!(session.text(&called)?, "t", "{what}: {}", session.text(&wait_reason(&job))?);
        assert_unnoticed(beside.end()?, &what);
        // Once, and not for each attempt.
        let told = format!("SELECT detail FROM upkeep.job_events WHERE job = '{job}' AND event = 'locked out'");
        let told = session.rows(&told)?;
        assert!(told.len() == 1 && told[0].contains(&holder.called), "{what}: {told:?}");
        if who == InTheWay::AutovacuumAgainstWraparound {
            session.run(&format!("SELECT upkeep.cancel('{job}')"))?;
            continue;
        }
        holder.let_go().with_context(|| what.clone())?;
        wait(&mut session, &job).with_context(|| what.clone())?;
        assert_eq!(session.text("SELECT count(*) FROM t WHERE d IS DISTINCT FROM 2 * n")?, "0", "{what}");
    }
    Ok(())
}

#[test]
fn an_autovacuum_yields_after_a_second_of_attempts() -> Result<()> {
    let cluster = in_the_way::server(testing::server("autovacuum").preloaded()).start()?;
    let mut session = database(&cluster, "vacuumed")?;
    let holder = InTheWay::Autovacuum.take(&cluster, "vacuumed")?;
    let beside = in_the_way::beside(|| cluster.connect("vacuumed"))?;
    let job = in_the_way::start_job(&mut session)?;
    let mut time = None;
    wait_until("the trigger", PATIENCE, || {
        time = in_the_way::time_to_trigger(&mut session, &job).ok().flatten();
        time.is_some()
    })
    .with_context(|| describe(&mut session, &job))?;
    let time = time.context("no time")?;
    assert!(time > Duration::from_millis(900) && time < Duration::from_secs(3), "{time:?}");
    let told = format!(
        "SELECT detail FROM upkeep.job_events WHERE job = '{job}' AND event = 'locked out' ORDER BY happened_at LIMIT 1"
    );
    let told = session.text(&told)?;
    assert!(told.contains(&holder.called), "{told}");
    assert_unnoticed(beside.end()?, "autovacuum");
    // Else it comes again each second, and the job leaves the table to it.
    holder.let_go()?;
    wait(&mut session, &job)?;
    // Asked for by us alone: nobody's setting has changed.
    assert_eq!(session.text("SHOW deadlock_timeout")?, "1s");
    Ok(())
}

/// Two tables in the order that somebody else has the other way round.
const FAMILY: &str = "
    CREATE TABLE parent (id int PRIMARY KEY, n int DEFAULT 0);
    CREATE TABLE child (id int PRIMARY KEY, parent int REFERENCES parent ON DELETE SET NULL);
    INSERT INTO parent SELECT generate_series(1, 100); INSERT INTO child SELECT g, g FROM generate_series(1, 100) g";

#[test]
fn two_in_opposite_order_do_not_end_each_other() -> Result<()> {
    let db = testing::database()?;
    let mut session = db.connect()?;
    session.run(FAMILY)?;
    session.run("SELECT upkeep.enable_soft_delete('parent')")?;
    let enough = Arc::new(AtomicBool::new(false));
    // Longer than an attempt waits in the beginning, shorter than the server lets a deadlock be.
    let (mut other, stop) = (db.connect()?, Arc::clone(&enough));
    let others = thread::spawn(move || -> Result<u32> {
        let mut count = 0;
        while !stop.load(Ordering::Relaxed) {
            other.run(
                "BEGIN; LOCK TABLE child IN ACCESS EXCLUSIVE MODE; SELECT pg_sleep(0.02);
                 LOCK TABLE parent IN ACCESS EXCLUSIVE MODE; COMMIT; SELECT pg_sleep(0.05)",
            )?;
            count += 1;
        }
        Ok(count)
    });
    let mut own = Vec::new();
    for _ in 0..10 {
        for call in ["disable_soft_delete('parent')", "enable_soft_delete('parent')"] {
            match session.error(&format!("SELECT upkeep.{call}")) {
                Ok(error) => own.push(error.code().code().to_owned()),
                Err(_) => own.push(String::new()),
            }
        }
    }
    enough.store(true, Ordering::Relaxed);
    // None of its transactions was ended for ours.
    let others = join(others)??;
    assert!(others > 3, "{others}");
    assert!(own.iter().any(String::is_empty), "{own:?}");
    // What was refused was refused by a lock, or by what another call had refused.
    assert!(own.iter().all(|code| ["", "55P03", "42710", "55000"].contains(&&**code)), "{own:?}");
    Ok(())
}

#[test]
fn partitions_that_come_and_go_are_locked_or_passed_over() -> Result<()> {
    // Each partition has locks of its own.
    let mut cluster = testing::server("partitions").preloaded().set("max_locks_per_transaction", 512).start()?;
    let mut session = cluster.with_extension("tree")?;
    session.run(
        "CREATE TABLE tree (id int PRIMARY KEY, n int) PARTITION BY RANGE (id);
         DO $$BEGIN FOR i IN 0..999 LOOP EXECUTE format('CREATE TABLE part_%s PARTITION OF tree FOR VALUES FROM (%s) TO (%s)',
             i, 10 * i, 10 * i + 10); END LOOP; END$$;
         INSERT INTO tree SELECT g, 0 FROM generate_series(0, 9999, 100) g",
    )?;
    let enough = Arc::new(AtomicBool::new(false));
    let (mut other, stop) = (cluster.connect("tree")?, Arc::clone(&enough));
    let comes_and_goes = thread::spawn(move || -> Result<u32> {
        let mut count = 0;
        while !stop.load(Ordering::Relaxed) {
            // Nobody is to wait behind this one, who waits for whoever looks at the whole tree.
            other.run("SET lock_timeout = '20ms'")?;
            let come = "CREATE TABLE late PARTITION OF tree FOR VALUES FROM (20000) TO (20010)";
            if let Err(error) = other.run(come) {
                ensure!(format!("{error:#}").contains("lock timeout"), error);
                continue;
            }
            other.run("RESET lock_timeout")?;
            other.run("ALTER TABLE tree DETACH PARTITION late CONCURRENTLY")?;
            other.run("DROP TABLE late")?;
            count += 1;
        }
        Ok(count)
    });
    let beside = Beside::start(
        || cluster.connect("tree"),
        "SELECT n FROM tree WHERE id = 100",
        "UPDATE tree SET n = n + 1 WHERE id = 200",
    )?;
    // So many triggers take longer than the setting allows: nobody waits for longer nevertheless, and it ends with the reason.
    cluster.set("upkeep.ddl_lock_timeout", "50ms")?;
    cluster.reload()?;
    let job = session.text("SELECT upkeep.backfill('tree', 'n = 7', 'n IS NULL', fill_new_rows => true)")?;
    let error = wait_for_error(&mut session, &job)?;
    assert_eq!(error.code().code(), "53400", "{error}");
    let said = "to create its trigger takes longer than upkeep.ddl_lock_timeout (50 ms)";
    assert!(error.message().contains(said) || error.detail().is_some_and(|detail| detail.contains(said)), "{error:?}");
    let told = "SELECT count(*) > 0 FROM upkeep.job_events
                WHERE event = 'waiting' AND detail LIKE '%the change itself takes longer than upkeep.ddl_lock_timeout'";
    assert_eq!(session.text(told)?, "t", "it is told before it fails");
    assert_unnoticed(beside.end()?, "a change that takes too long");
    // With more time for it, it is done.
    cluster.set("upkeep.ddl_lock_timeout", "10s")?;
    cluster.reload()?;
    session.run(&format!("SELECT upkeep.retry('{job}')"))?;
    // A thousand tables take their time on a busy machine.
    wait_for_state_within(&mut session, &job, "done", 10 * PATIENCE)?;
    enough.store(true, Ordering::Relaxed);
    assert!(join(comes_and_goes)?? > 0);
    assert_eq!(session.text("SELECT count(*) FROM pg_trigger WHERE tgname LIKE 'zz_upkeep%'")?, "0");
    Ok(())
}

#[test]
fn who_loses_his_rights_while_he_waits_changes_nothing() -> Result<()> {
    let db = testing::database()?;
    let (owners, member) = (db.role("owners")?, db.role("member")?);
    let mut session = db.connect()?;
    session.run(&format!(
        "GRANT {owners} TO {member}; CREATE TABLE theirs (id int PRIMARY KEY, n int); ALTER TABLE theirs OWNER TO {owners}"
    ))?;
    for call in ["enable_soft_delete('theirs')", "enable_timestamps('theirs')"] {
        let mut holder = db.connect()?;
        holder.run("BEGIN; LOCK TABLE theirs IN ACCESS SHARE MODE")?;
        let mut caller = db.connect_as(&member)?;
        let pid = caller.pid()?;
        let calling = thread::spawn(move || caller.error(&format!("SELECT upkeep.{call}")));
        let waits = format!("SELECT count(*) FROM pg_locks WHERE pid = {pid} AND NOT granted");
        wait_for_text(&mut session, &waits, "1")?;
        session.run(&format!("REVOKE {owners} FROM {member}"))?;
        holder.run("COMMIT")?;
        let error = join(calling)??;
        assert_eq!(error.code().code(), "42501", "{call}: {error}");
        let left = "SELECT count(*) FROM pg_trigger WHERE tgrelid = 'theirs'::regclass";
        assert_eq!(session.text(left)?, "0");
        assert_eq!(
            session.text(
                "SELECT string_agg(attname, ' ') FROM pg_attribute WHERE attrelid = 'theirs'::regclass AND attnum > 0"
            )?,
            "id n"
        );
        session.run(&format!("GRANT {owners} TO {member}"))?;
    }
    // A job locks nothing that its owner may not change any more.
    session.run(&format!(
        "INSERT INTO theirs VALUES (1, NULL); GRANT SELECT, UPDATE, TRIGGER ON theirs TO {member};
         REVOKE {owners} FROM {member}"
    ))?;
    let mut holder = db.connect()?;
    holder.run("BEGIN; LOCK TABLE theirs IN ROW EXCLUSIVE MODE")?;
    let mut owner = db.connect_as(&member)?;
    let job = owner.text("SELECT upkeep.backfill('theirs', 'n = 1', 'n IS NULL', fill_new_rows => true)")?;
    wait_for_text(&mut session, &format!("SELECT strpos(({}), 'held by') > 0", wait_reason(&job)), "t")?;
    session.run(&format!("REVOKE TRIGGER ON theirs FROM {member}"))?;
    assert_eq!(wait_for_error(&mut session, &job)?.code().code(), "42501");
    Ok(())
}

#[test]
fn a_standby_that_stalls_keeps_no_lock() -> Result<()> {
    let mut cluster = testing::server("stalls").preloaded().start()?;
    let mut session = database(&cluster, "stalls")?;
    let standby = cluster.standby("synchronous")?;
    cluster.set("synchronous_standby_names", "*")?;
    cluster.reload()?;
    wait_for_text(&mut session, "SELECT sync_state FROM pg_stat_replication", "sync")?;
    let receiver: i32 =
        standby.connect("postgres")?.value("SELECT pid FROM pg_stat_activity WHERE backend_type = 'walreceiver'")?;
    let receiver = Pid::from_raw(receiver).context("no process id")?;
    // The neighbours' own commits wait for nobody.
    let connect = || -> Result<Session> {
        let mut session = cluster.connect("stalls")?;
        session.run("SET synchronous_commit = off")?;
        Ok(session)
    };
    session.run("SET synchronous_commit = off")?;
    let waits =
        "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'pg_upkeep executor' AND wait_event = 'SyncRep'";
    // Once in the way of the trigger's making, once of its end: the standby stalls before they can be had.
    let mut holder = connect()?;
    holder.run("BEGIN; LOCK TABLE t IN ROW EXCLUSIVE MODE")?;
    let job = in_the_way::start_job(&mut session)?;
    for (purpose, left) in [("create its trigger", "1"), ("drop its trigger", "0")] {
        let waiting = format!("SELECT strpos(({}), '{purpose}') > 0", wait_reason(&job));
        wait_for_text(&mut session, &waiting, "t").with_context(|| describe(&mut session, &job))?;
        kill_process(receiver, Signal::STOP)?;
        holder.run("COMMIT")?;
        let beside = in_the_way::beside(connect)?;
        wait_for_text(&mut session, "SELECT count(*) FROM pg_trigger WHERE tgname LIKE 'zz_upkeep%'", left)?;
        wait_for_text(&mut session, waits, "1")?;
        thread::sleep(Duration::from_secs(1));
        assert_eq!(session.text(waits)?, "1", "{purpose}: it waits for the standby");
        assert_unnoticed(beside.end()?, purpose);
        holder.run("BEGIN; LOCK TABLE t IN ACCESS SHARE MODE")?;
        kill_process(receiver, Signal::CONT)?;
    }
    wait(&mut session, &job)
}

/// Names of roles and of prepared transactions are the server's, of whatever encoding.
#[test]
fn a_name_that_cannot_be_read_fails_nobody() -> Result<()> {
    let server = in_the_way::server(testing::server("latin").preloaded()).start()?;
    let mut admin = server.connect("postgres")?;
    admin.run("CREATE ROLE \"caf\u{e9}\" LOGIN")?;
    admin.run("CREATE DATABASE latin TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C'")?;
    let mut session = server.connect("latin")?;
    session.run("CREATE EXTENSION pg_upkeep")?;
    in_the_way::make_table(&mut session)?;
    session.run("GRANT ALL ON ALL TABLES IN SCHEMA public TO PUBLIC")?;
    let mut holder = server.connect_as("latin", "caf\u{e9}")?;
    holder.run("BEGIN; LOCK TABLE t IN ROW EXCLUSIVE MODE")?;
    let job = in_the_way::start_job(&mut session)?;
    let named = format!("SELECT ({}) LIKE '%held by pid % (caf%, idle in transaction%'", wait_reason(&job));
    wait_for_text(&mut session, &named, "t").with_context(|| describe(&mut session, &job))?;
    holder.run("COMMIT")?;
    wait(&mut session, &job)
}
