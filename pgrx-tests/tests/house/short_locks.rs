//! What a session asks for itself and takes a strong lock on a user's table waits for it a moment at a time, so that nobody
//! stands behind it for long.

use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use upkeep_tests::beside::Beside;
use upkeep_tests::jobs::join;
use upkeep_tests::session::Session;
use upkeep_tests::testing::{self, Database};
use upkeep_tests::wait::wait_until;

/// A reader behind an attempt of 0.2 s.
const LONGEST_READ: Duration = Duration::from_millis(250);

const TABLES: &str = "
    CREATE TABLE plain (id int PRIMARY KEY, n int);
    CREATE TABLE parent (id int PRIMARY KEY, n int, x int);
    CREATE TABLE child (id int PRIMARY KEY, parent int REFERENCES parent ON DELETE SET NULL);
    SELECT upkeep.enable_soft_delete('parent');
    CREATE TABLE stamped (id int PRIMARY KEY, n int, created_at timestamptz, updated_at timestamptz);
    SELECT upkeep.enable_row_version('stamped');
    CREATE TABLE parts (id int PRIMARY KEY, n int) PARTITION BY RANGE (id);
    CREATE TABLE part PARTITION OF parts FOR VALUES FROM (0) TO (100)";

/// The call, the table that is held, and by what.
const CALLS: [(&str, &str, &str); 10] = [
    ("enable_soft_delete('plain')", "plain", "ACCESS SHARE"),
    ("enable_soft_delete('plain', hide => 'swap')", "plain", "ROW EXCLUSIVE"),
    ("enable_soft_delete('parts')", "part", "ACCESS SHARE"),
    ("disable_soft_delete('parent')", "parent", "ACCESS SHARE"),
    ("disable_soft_delete('parent')", "child", "ACCESS SHARE"),
    ("repair_soft_delete('parent')", "parent", "ACCESS SHARE"),
    ("alter_soft_deleted('parent', 'ALTER TABLE parent DROP COLUMN x')", "parent", "ACCESS SHARE"),
    ("enable_timestamps('plain')", "plain", "ACCESS SHARE"),
    ("enable_timestamps('stamped')", "stamped", "ROW EXCLUSIVE"),
    ("disable_row_version('stamped')", "stamped", "ACCESS SHARE"),
];

/// Somebody's transaction that stays open.
fn hold(db: &Database, table: &str, mode: &str) -> Result<(Session, i32)> {
    let mut holder = db.connect()?;
    holder.run(&format!("BEGIN; LOCK TABLE {table} IN {mode} MODE"))?;
    let pid = holder.value("SELECT pg_backend_pid()")?;
    Ok((holder, pid))
}

#[test]
fn who_reads_a_table_does_not_wait_behind_a_verb_that_waits_for_it() -> Result<()> {
    for (call, table, mode) in CALLS {
        let db = testing::database()?;
        let mut reader = db.connect()?;
        reader.run(TABLES)?;
        let (mut holder, pid) = hold(&db, table, mode)?;
        let mut caller = db.connect()?;
        // What the caller waits for readers do as well, all the while.
        let read = format!("SELECT count(*) FROM {table}");
        let beside = Beside::start(|| db.connect(), &read, &read)?;
        let calling = thread::spawn(move || -> Result<_> {
            let error = caller.error(&format!("SELECT upkeep.{call}"))?;
            Ok((
                error.code().code().to_owned(),
                error.message().to_owned(),
                error.detail().unwrap_or_default().to_owned(),
            ))
        });
        let (code, message, detail) = join(calling)?.with_context(|| call)?;
        let longest = beside.end()?;
        assert_eq!(
            (&*code, &*message),
            ("55P03", &*format!("could not get the lock on public.{table} in 3 attempts")),
            "{call}"
        );
        assert!(detail.contains(&format!("held by pid {pid} (postgres, idle in transaction")), "{call}: {detail}");
        assert!(longest.is_within(LONGEST_READ), "{call}: {longest:?}");
        // Else the reader was never behind the caller at all. A writer is in a trigger's way, and no reader is.
        let waited = longest.reader.max(longest.writer) > Duration::from_millis(50);
        assert!(waited || call.starts_with("enable_timestamps('stamped')"), "{call}: nobody waited");
        holder.run("ROLLBACK")?;
        reader.run(&format!("SELECT upkeep.{call}")).with_context(|| call)?;
    }
    Ok(())
}

#[test]
fn a_shorter_lock_timeout_of_the_callers_holds() -> Result<()> {
    let db = testing::database()?;
    let mut session = db.connect()?;
    session.run(TABLES)?;
    let (_holder, _) = hold(&db, "plain", "ACCESS SHARE")?;
    let beside = Beside::start(|| db.connect(), "SELECT count(*) FROM plain", "UPDATE plain SET n = 0 WHERE id = 1")?;
    session.run("SET lock_timeout = '20 ms'")?;
    let error = session.error("SELECT upkeep.enable_soft_delete('plain')")?;
    assert_eq!(error.code().code(), "55P03", "{error}");
    let longest = beside.end()?;
    assert!(longest.is_within(Duration::from_millis(150)), "{longest:?}");
    assert_eq!(session.text("SHOW lock_timeout")?, "20ms");
    Ok(())
}

#[test]
fn a_verb_gets_its_lock_as_soon_as_the_others_have_ended() -> Result<()> {
    let db = testing::database()?;
    let mut session = db.connect()?;
    session.run(TABLES)?;
    for call in ["enable_soft_delete('plain')", "enable_timestamps('plain')", "disable_soft_delete('plain')"] {
        let (mut holder, _) = hold(&db, "plain", "ACCESS SHARE")?;
        let mut caller = db.connect()?;
        let pid: i32 = caller.value("SELECT pg_backend_pid()")?;
        let calling = thread::spawn(move || -> Result<String> {
            caller.run(&format!("SELECT upkeep.{call}"))?;
            caller.text("SHOW lock_timeout")
        });
        let waits = format!("SELECT count(*) FROM pg_locks WHERE pid = {pid} AND NOT granted");
        wait_until(&format!("{call}: a lock waited for"), Duration::from_secs(30), || {
            session.text(&waits).is_ok_and(|count| count == "1")
        })?;
        holder.run("ROLLBACK")?;
        // The session's own setting is what it was.
        assert_eq!(join(calling)??, "0");
    }
    Ok(())
}
