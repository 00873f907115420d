//! A verb changes the table that was meant, whatever is called so when its lock has been waited for; and is in nobody's way who owns
//! another.

use std::time::Duration;

use anyhow::{Context, Result};
use upkeep_tests::jobs::{join, meanwhile, sqlstate};
use upkeep_tests::session::Session;
use upkeep_tests::testing::{self, Database};
use upkeep_tests::wait::wait_until;

const TABLES: &str = "
    CREATE SCHEMA rs; CREATE SCHEMA other;
    CREATE TABLE rs.t (id int PRIMARY KEY, x int, keep int);
    CREATE TABLE rs.t2 (id int PRIMARY KEY, x int, keep int);
    CREATE TABLE other.t (id int PRIMARY KEY, x int, keep int);";

/// Another table gets the name: by its own, or by that of its schema.
const SWAPS: [&str; 2] = [
    "ALTER TABLE rs.t RENAME TO t_old; ALTER TABLE rs.t2 RENAME TO t",
    "ALTER SCHEMA rs RENAME TO rs_old; ALTER SCHEMA other RENAME TO rs",
];

fn oids(session: &mut Session) -> Result<Vec<String>> {
    let oid = |table| session.text(&format!("SELECT '{table}'::regclass::oid"));
    ["rs.t", "rs.t2", "other.t"].into_iter().map(oid).collect()
}

/// The columns of each table, and how many triggers it has.
fn shapes(session: &mut Session, oids: &[String]) -> Result<Vec<String>> {
    let shape = |oid: &String| {
        session.text(&format!(
            "SELECT string_agg(attname, ' ' ORDER BY attnum) || ' ' || (SELECT count(*) FROM pg_trigger WHERE tgrelid = {oid})
             FROM pg_attribute WHERE attrelid = {oid} AND attnum > 0 AND NOT attisdropped"
        ))
    };
    oids.iter().map(shape).collect()
}

/// While the call waits for rs.t, another table gets the name. The SQLSTATE, if it ends in an error.
fn swapped(db: &Database, session: &mut Session, call: &str, swap: &str) -> Result<Option<String>> {
    let mut holder = db.connect()?;
    holder.run("BEGIN; LOCK TABLE rs.t")?;
    let mut caller = db.connect()?;
    let pid = caller.pid()?;
    let calling = meanwhile(caller, call);
    let waits = format!("SELECT count(*) FROM pg_locks WHERE pid = {pid} AND NOT granted");
    wait_until("a lock is waited for", Duration::from_secs(30), || {
        session.text(&waits).is_ok_and(|count| count != "0")
    })?;
    holder.run(&format!("{swap}; COMMIT"))?;
    let Err(error) = join(calling)?.1 else { return Ok(None) };
    let text = format!("{error:#}");
    Ok(Some(if text.contains("40001") || text.contains("was renamed meanwhile") { "40001".into() } else { text }))
}

#[test]
fn stamps_come_to_and_go_from_the_table_that_was_meant() -> Result<()> {
    for swap in SWAPS {
        for (group, added) in [
            ("timestamps", "created_at updated_at"),
            ("userstamps", "created_by updated_by"),
            ("row_version", "version"),
        ] {
            let db = testing::database()?;
            let mut session = db.connect()?;
            session.run(TABLES)?;
            let oids = oids(&mut session)?;
            let call = format!("SELECT upkeep.enable_{group}('rs.t')");
            assert_eq!(swapped(&db, &mut session, &call, swap)?, None, "{group}: {swap}");
            let plain = "id x keep 0";
            let stamped = format!("id x keep {added} 1");
            assert_eq!(shapes(&mut session, &oids)?, [&*stamped, plain, plain], "{group}: {swap}");
        }
        let db = testing::database()?;
        let mut session = db.connect()?;
        session.run(TABLES)?;
        let oids = oids(&mut session)?;
        session.run("SELECT upkeep.enable_row_version(t) FROM unnest('{rs.t,rs.t2,other.t}'::regclass[]) t")?;
        assert_eq!(swapped(&db, &mut session, "SELECT upkeep.disable_row_version('rs.t')", swap)?, None, "{swap}");
        let (without, with) = ("id x keep version 0", "id x keep version 1");
        assert_eq!(shapes(&mut session, &oids)?, [without, with, with], "{swap}");
    }
    Ok(())
}

#[test]
fn no_other_table_is_altered_than_the_one_with_soft_delete() -> Result<()> {
    for (swap, text) in [
        (SWAPS[0], "ALTER TABLE rs.t DROP COLUMN x"),
        (SWAPS[1], "ALTER TABLE rs.t DROP COLUMN x"),
        (SWAPS[1], "ALTER TABLE rs.t RENAME x TO y"),
        // The next one in the search_path.
        ("ALTER TABLE rs.t RENAME TO t_old", "ALTER TABLE t DROP COLUMN x"),
    ] {
        let db = testing::database()?;
        let mut session = db.connect()?;
        session.run(TABLES)?;
        session.run("SELECT upkeep.enable_soft_delete('rs.t')")?;
        let database = session.text("SELECT quote_ident(current_database())")?;
        session.run(&format!("ALTER DATABASE {database} SET search_path = rs, other"))?;
        let oids = oids(&mut session)?;
        let before = shapes(&mut session, &oids)?;
        let call = format!("SELECT upkeep.alter_soft_deleted('rs.t', '{text}')");
        assert_eq!(swapped(&db, &mut session, &call, swap)?.as_deref(), Some("40001"), "{swap}: {text}");
        assert_eq!(shapes(&mut session, &oids)?, before, "{swap}: {text}");
        assert_eq!(session.text("SELECT count(*) FROM upkeep.soft_delete_drift")?, "0", "{swap}: {text}");
    }
    Ok(())
}

/// Its name is in the statements of the verb, so nobody changes it before the transaction has ended.
#[test]
fn a_schema_keeps_its_name_while_a_table_in_it_is_changed() -> Result<()> {
    for call in ["enable_timestamps('rs.t')", "enable_soft_delete('rs.t')", "repair_soft_delete('rs.t2')"] {
        let db = testing::database()?;
        let (mut session, mut other) = (db.connect()?, db.connect()?);
        session.run(TABLES)?;
        session.run("SELECT upkeep.enable_soft_delete('rs.t2')")?;
        session.run(&format!("BEGIN; SELECT upkeep.{call}"))?;
        other.run("SET lock_timeout = '200 ms'")?;
        assert_eq!(sqlstate(&mut other, "ALTER SCHEMA rs RENAME TO x")?, "55P03", "{call}");
        other.run("GRANT USAGE ON SCHEMA rs TO PUBLIC; CREATE TABLE rs.t3 (id int)").with_context(|| call)?;
        session.run("COMMIT")?;
        other.run("ALTER SCHEMA rs RENAME TO x").with_context(|| call)?;
    }
    Ok(())
}

const OTHERS: &str = "SELECT coalesce(string_agg(DISTINCT l.mode, ' '), 'none') FROM pg_locks l
    WHERE l.relation = 'evs.qe'::regclass AND l.pid = ";

#[test]
fn who_owns_a_referencing_table_does_not_notice() -> Result<()> {
    let db = testing::database()?;
    let (alice, eve) = (db.role("alice")?, db.role("eve")?);
    let mut admin = db.connect()?;
    admin.run(&format!(
        "CREATE SCHEMA nm AUTHORIZATION {alice}; CREATE SCHEMA evs AUTHORIZATION {eve}; GRANT USAGE ON SCHEMA nm TO {eve}"
    ))?;
    let (mut owner, mut other) = (db.connect_as(&alice)?, db.connect_as(&eve)?);
    owner.run(&format!(
        "CREATE TABLE nm.q (id int PRIMARY KEY, n int); GRANT REFERENCES, SELECT ON nm.q TO {eve}; \
         SELECT upkeep.enable_soft_delete('nm.q')"
    ))?;
    other.run(
        "CREATE TABLE evs.qe (id int PRIMARY KEY, r int REFERENCES nm.q ON DELETE SET NULL, s int REFERENCES nm.q DEFERRABLE);
         CREATE TABLE evs.\"P p\" (id int PRIMARY KEY, \"R r\" int REFERENCES nm.q) PARTITION BY RANGE (id);
         CREATE TABLE evs.p1 PARTITION OF evs.\"P p\" FOR VALUES FROM (0) TO (9);
         SELECT upkeep.enable_soft_delete('evs.\"P p\"', flag => 'is gone')",
    )?;
    let pid = owner.pid()?;
    other.run("SET lock_timeout = '5 s'")?;
    other.run("INSERT INTO evs.qe VALUES (1); INSERT INTO evs.\"P p\" VALUES (1)")?;
    // An INSERT looks at the referenced table by itself, and waits as it does for any ALTER TABLE.
    let use_it = "SELECT * FROM evs.qe; UPDATE evs.qe SET id = id + 1; DELETE FROM evs.qe;
                  SELECT * FROM evs.\"P p\"; UPDATE evs.\"P p\" SET id = 2";
    for call in ["alter_soft_deleted('nm.q', 'ALTER TABLE nm.q ADD x int')", "repair_soft_delete('nm.q')"] {
        // The others are not in its way,
        other.run(&format!("BEGIN; INSERT INTO evs.qe VALUES (7); {use_it}"))?;
        owner.run(&format!("SET lock_timeout = '5 s'; BEGIN; SELECT upkeep.{call}")).with_context(|| call)?;
        other.run("ROLLBACK")?;
        // nor it in theirs.
        other.run(&format!("BEGIN; {use_it}; ROLLBACK")).with_context(|| call)?;
        let held = format!(
            "SELECT coalesce(string_agg(DISTINCT l.relation::regclass || ' ' || l.mode, ', '), 'none') FROM pg_locks l
             JOIN pg_class c ON c.oid = l.relation JOIN pg_namespace n ON n.oid = relnamespace AND nspname = 'evs' WHERE l.pid = {pid}"
        );
        assert_eq!(admin.text(&held)?, "none", "{call}");
        owner.run("ROLLBACK")?;
    }
    // A check that is missing comes beside whoever reads.
    other.run("DROP TRIGGER upkeep_live_parent_update ON evs.qe")?;
    other.run("BEGIN; SELECT * FROM evs.qe")?;
    owner.run("BEGIN; SELECT upkeep.repair_soft_delete('nm.q')")?;
    other.run("SELECT * FROM evs.qe; ROLLBACK; SELECT * FROM evs.qe")?;
    assert_eq!(admin.text(&format!("{OTHERS}{pid}"))?, "ShareRowExclusiveLock");
    owner.run("COMMIT")?;
    assert_eq!(admin.text("SELECT count(*) FROM upkeep.soft_delete_drift")?, "0");
    // One that is disabled, or another by now, is made anew.
    for change in [
        "ALTER TABLE evs.qe DISABLE TRIGGER upkeep_live_parent_insert",
        "ALTER TRIGGER upkeep_live_parent_insert ON evs.qe RENAME TO mine",
        "DROP TRIGGER upkeep_live_parent_update ON evs.qe;
         CREATE CONSTRAINT TRIGGER upkeep_live_parent_update AFTER UPDATE ON evs.qe NOT DEFERRABLE FOR EACH ROW
             WHEN (OLD.r < NEW.r) EXECUTE FUNCTION upkeep._soft_delete_live_parent()",
    ] {
        let checks = "SELECT string_agg(pg_get_triggerdef(oid) || tgenabled::text, ' ' ORDER BY tgname) FROM pg_trigger
                      WHERE tgrelid = 'evs.qe'::regclass AND NOT tgisinternal";
        let before = admin.text(checks)?;
        admin.run(change)?;
        owner.run("SELECT upkeep.repair_soft_delete('nm.q')").with_context(|| change)?;
        assert_eq!(admin.text(checks)?, before, "{change}");
    }
    Ok(())
}
