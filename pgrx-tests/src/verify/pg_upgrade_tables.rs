//! Tables with soft delete and row stamps that pg_upgrade takes along.

use anyhow::{Result, ensure};

use crate::jobs::sqlstate;
use crate::session::Session;

/// In both hide modes, partitioned too; a deletion that has cleared references; a retention; a hold.
pub fn create(session: &mut Session) -> Result<()> {
    session.run(
        "CREATE TABLE writer (id int PRIMARY KEY, name text);
         CREATE TABLE book (id int, shelf int, writer int REFERENCES writer ON DELETE CASCADE, PRIMARY KEY (id, shelf))
             PARTITION BY LIST (shelf);
         CREATE TABLE book_1 PARTITION OF book FOR VALUES IN (1);
         CREATE TABLE book_2 PARTITION OF book FOR VALUES IN (2);
         CREATE TABLE prize (id int PRIMARY KEY, writer int REFERENCES writer ON DELETE SET NULL);
         INSERT INTO writer SELECT g, 'w' || g FROM generate_series(1, 4) g;
         INSERT INTO book SELECT g, g % 2 + 1, (g + 1) / 2 FROM generate_series(1, 8) g;
         INSERT INTO prize SELECT g, g FROM generate_series(1, 4) g;
         SELECT upkeep.enable_soft_delete('book', 'swap');
         SELECT upkeep.enable_soft_delete('writer', retention => '30 days');
         SELECT upkeep.enable_timestamps('prize'), upkeep.enable_userstamps('prize'), upkeep.enable_row_version('prize');
         SELECT upkeep.soft_delete('writer', 'id = 1', 'before the upgrade');
         DELETE FROM writer_live WHERE id = 2;
         SELECT upkeep.hold_deletion(id, 'case 7') FROM upkeep.deletions WHERE reason IS NOT NULL",
    )?;
    check_counts(session, "2|4|2")
}

/// Live writers, live books, prizes without a writer.
fn check_counts(session: &mut Session, wanted: &str) -> Result<()> {
    let counts = session.text(
        "SELECT (SELECT count(*) FROM writer_live), (SELECT count(*) FROM book), (SELECT count(*) FROM prize WHERE writer IS NULL)",
    )?;
    ensure!(counts == wanted, "live writers, live books, prizes without a writer: {counts} and not {wanted}");
    Ok(())
}

pub fn check(session: &mut Session) -> Result<()> {
    check_counts(session, "2|4|2")?;
    let drift = session.rows("SELECT relname, problem FROM upkeep.soft_delete_drift")?;
    ensure!(drift.is_empty(), "soft delete has drifted: {drift:?}");
    let held = session.text("SELECT held FROM upkeep.deletions WHERE reason = 'before the upgrade'")?;
    ensure!(held == "case 7", "the deletion is held: {held}");
    let schedules = session.rows("SELECT name, paused_reason FROM upkeep.schedules WHERE name LIKE 'purge %'")?;
    ensure!(schedules == ["purge public.writer|restored"], "the retention waits for resume_all(): {schedules:?}");
    for (sql, wanted) in [
        ("DELETE FROM writer WHERE id = 3", "55000"),
        ("DELETE FROM book_all WHERE id = 5", "55000"),
        ("DELETE FROM book_2", "55000"),
        ("TRUNCATE book_1", "55000"),
        ("INSERT INTO book_all VALUES (100, 1, 1)", "23503"),
        ("UPDATE prize SET version = 7 WHERE id = 1", "40001"),
        ("SELECT upkeep.disable_soft_delete('writer', 'purge')", "55000"),
    ] {
        let code = sqlstate(session, sql)?;
        ensure!(code == wanted, "{sql} ends in {code} and not in {wanted}");
    }
    // What was done before comes back, and what is done now works the same.
    session.run("SELECT upkeep.undelete(id) FROM upkeep.deletions")?;
    check_counts(session, "4|8|0")?;
    session.run("DELETE FROM writer_live WHERE id = 4; ALTER TABLE book_all ADD COLUMN title text")?;
    check_counts(session, "3|6|1")?;
    session
        .run("UPDATE book SET title = 'x' WHERE id = 1; CREATE TABLE book_3 PARTITION OF book_all FOR VALUES IN (3)")?;
    ensure!(sqlstate(session, "TRUNCATE book_3")? == "55000", "a new partition has the guard");
    session.run("UPDATE prize SET id = id + 100")?;
    let unstamped = session.rows(
        "SELECT p FROM prize p WHERE (updated_at > now() - interval '1 hour' AND version > 1 AND updated_by = current_user) IS NOT TRUE",
    )?;
    ensure!(unstamped.is_empty(), "updates are not stamped: {unstamped:?}");
    Ok(())
}
