//! Soft delete on a standby: what reads works, what writes says that it cannot.

use anyhow::Result;
use upkeep_tests::testing;

#[test]
fn a_standby_reads_and_refuses_to_write() -> Result<()> {
    let primary = testing::server("primary").preloaded().start()?;
    primary.create_database("shop")?;
    let mut session = primary.connect("shop")?;
    session.run(
        "CREATE EXTENSION pg_upkeep;
         CREATE TABLE users (id int PRIMARY KEY, email text UNIQUE);
         CREATE TABLE plain (id int PRIMARY KEY, n int);
         INSERT INTO users SELECT g, 'u' || g FROM generate_series(1, 10) g;
         SELECT upkeep.enable_soft_delete('users', retention => '1 year');
         SELECT upkeep.enable_timestamps('users'), upkeep.enable_row_version('users');
         DELETE FROM users_live WHERE id <= 3",
    )?;
    let deletion = session.text("SELECT id FROM upkeep.deletions")?;
    let standby = primary.standby("standby")?;
    primary.wait_for_standby(&standby)?;
    let mut there = standby.connect("shop")?;
    for (sql, rows) in [
        ("SELECT count(*) FROM users_live", "7"),
        ("SELECT count(*) FROM users_deleted", "3"),
        ("SELECT count(*) FROM upkeep.soft_delete_tables", "1"),
        ("SELECT count(*) FROM upkeep.deletions WHERE restorable", "1"),
        ("SELECT count(*) FROM upkeep.soft_delete_drift", "0"),
        ("SELECT count(*) FROM upkeep.row_stamps", "1"),
        ("SELECT sum(rows) FROM upkeep.explain_purge('users', '0')", "3"),
        ("SELECT count(*) FROM upkeep.explain_make_unique_keys_partial('users') WHERE action = 'replace'", "1"),
    ] {
        assert_eq!(there.text(sql)?, rows, "{sql}");
    }
    for sql in [
        "SELECT upkeep.soft_delete('users', 'id = 5')".to_owned(),
        "SELECT upkeep.soft_delete('users', 'false')".to_owned(),
        format!("SELECT upkeep.undelete('{deletion}'::uuid)"),
        "SELECT upkeep.undelete('users', 'true')".to_owned(),
        "SELECT upkeep.enable_soft_delete('plain')".to_owned(),
        "SELECT upkeep.disable_soft_delete('users')".to_owned(),
        "SELECT upkeep.disable_soft_delete('users', 'keep')".to_owned(),
        "SELECT upkeep.disable_soft_delete('users', 'purge')".to_owned(),
        "SELECT upkeep.purge_deleted('users', '0')".to_owned(),
        "SELECT upkeep.make_unique_keys_partial('users')".to_owned(),
        "SELECT upkeep.alter_soft_deleted('users', 'ALTER TABLE users ADD COLUMN x int')".to_owned(),
        "SELECT upkeep.repair_soft_delete('users')".to_owned(),
        format!("SELECT upkeep.hold_deletion('{deletion}', 'x')"),
        format!("SELECT upkeep.release_deletion('{deletion}')"),
        "SELECT upkeep.enable_timestamps('plain')".to_owned(),
        "SELECT upkeep.enable_userstamps('plain')".to_owned(),
        "SELECT upkeep.enable_row_version('plain')".to_owned(),
        "SELECT upkeep.disable_timestamps('users')".to_owned(),
        "SELECT upkeep.disable_row_version('users')".to_owned(),
        "DELETE FROM users_live".to_owned(),
        "UPDATE users SET deleted_at = now()".to_owned(),
        "DELETE FROM users".to_owned(),
    ] {
        let error = there.error(&sql)?;
        assert_eq!(error.code().code(), "25006", "{sql}: {error:?}");
        assert!(error.message().starts_with("cannot "), "{sql}: {error:?}");
    }
    // Promoted, it goes on.
    drop(session);
    drop(primary);
    standby.promote()?;
    assert_eq!(there.text(&format!("SELECT upkeep.undelete('{deletion}'::uuid)"))?, "3");
    there.run("DELETE FROM users_live WHERE id = 5; SELECT upkeep.enable_soft_delete('plain')")?;
    assert_eq!(there.text("SELECT count(*) FROM users_live")?, "9");
    Ok(())
}

/// The same words in a transaction that was declared read only.
#[test]
fn a_read_only_transaction_is_one() -> Result<()> {
    let db = testing::database()?;
    let mut session = db.connect()?;
    session.run(
        "CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1), (2);
         SELECT upkeep.enable_soft_delete('t'); DELETE FROM t_live WHERE id = 1;
         SET default_transaction_read_only = on",
    )?;
    for sql in [
        "SELECT upkeep.soft_delete('t', 'id = 2')",
        "SELECT upkeep.undelete(id) FROM upkeep.deletions",
        "SELECT upkeep.undelete('t', 'true')",
        "SELECT upkeep.disable_soft_delete('t', 'purge')",
        "DELETE FROM t_live",
    ] {
        assert_eq!(session.error(sql)?.code().code(), "25006", "{sql}");
    }
    assert_eq!(session.text("SELECT count(*) FROM t_live")?, "1");
    Ok(())
}
