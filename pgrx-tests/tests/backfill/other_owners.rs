//! Partitions that belong to somebody else than their table: what is denied says whose they are, and what to type.

use anyhow::Result;
use upkeep_tests::jobs::sqlstate;
use upkeep_tests::session::Session;
use upkeep_tests::testing;

/// The call is refused for want of TRIGGER on the partition `part`; what the hint says makes it work.
fn needs_trigger(owner: &mut Session, admin: &mut Session, call: &str, role: &str, part: &str) -> Result<()> {
    let error = owner.error(call)?;
    assert_eq!(error.code().code(), "42501", "{call}: {error}");
    assert_eq!(error.message(), format!("role \"{role}\" may not create triggers on public.{part}"), "{call}");
    let hint = error.hint().unwrap_or_default().to_owned();
    assert_eq!(hint, format!("GRANT TRIGGER ON public.{part} TO {role};"), "{call}");
    admin.run(&hint)?;
    owner.run(call)
}

#[test]
fn a_trigger_that_a_partition_is_to_have_needs_its_owners_grant() -> Result<()> {
    let db = testing::database()?;
    let (ann, bob) = (db.role("ann")?, db.role("bob")?);
    let mut admin = db.connect()?;
    let mut session = db.connect_as(&ann)?;
    session.run(
        "CREATE TABLE parent (id int PRIMARY KEY); INSERT INTO parent SELECT generate_series(1, 9);
         CREATE TABLE child (id int, parent int REFERENCES parent ON DELETE SET NULL, PRIMARY KEY (id)) PARTITION BY RANGE (id);
         CREATE TABLE child_part PARTITION OF child FOR VALUES FROM (0) TO (100);
         INSERT INTO child SELECT g, g FROM generate_series(1, 9) g;
         CREATE TABLE tree (id int PRIMARY KEY) PARTITION BY RANGE (id);
         CREATE TABLE tree_part PARTITION OF tree FOR VALUES FROM (0) TO (100);
         CREATE TABLE stamped (id int PRIMARY KEY) PARTITION BY RANGE (id);
         CREATE TABLE stamped_part PARTITION OF stamped FOR VALUES FROM (0) TO (100)",
    )?;
    admin.run(&format!(
        "ALTER TABLE child_part OWNER TO {bob}; ALTER TABLE tree_part OWNER TO {bob}; \
         ALTER TABLE stamped_part OWNER TO {bob}"
    ))?;
    needs_trigger(&mut session, &mut admin, "SELECT upkeep.enable_soft_delete('parent')", &ann, "child_part")?;
    for (call, part) in [
        ("SELECT upkeep.enable_soft_delete('tree')", "tree_part"),
        ("SELECT upkeep.enable_row_version('stamped')", "stamped_part"),
    ] {
        admin.run(&format!("GRANT TRIGGER ON {part} TO {ann}"))?;
        let error = session.error(call)?;
        assert_eq!(error.code().code(), "42501");
        assert_eq!(error.message(), format!("role \"{ann}\" may not add columns to public.{part}"));
        let hint = error.hint().unwrap_or_default();
        assert!(hint.starts_with(&format!("ALTER TABLE public.{part} OWNER TO {ann};")), "{hint}");
        admin.run(&format!("REVOKE TRIGGER ON {part} FROM {ann}"))?;
    }
    admin.run(
        "ALTER TABLE tree ADD deleted_at pg_catalog.timestamptz, ADD deleted_by pg_catalog.text, ADD deletion_id pg_catalog.uuid;
         ALTER TABLE stamped ADD version pg_catalog.int4 NOT NULL DEFAULT 1",
    )?;
    needs_trigger(&mut session, &mut admin, "SELECT upkeep.enable_soft_delete('tree')", &ann, "tree_part")?;
    needs_trigger(&mut session, &mut admin, "SELECT upkeep.enable_row_version('stamped')", &ann, "stamped_part")?;

    // All of it works then, and ends.
    session.run("DELETE FROM parent_live WHERE id < 4")?;
    assert_eq!(session.text("SELECT count(parent) FROM child")?, "6");
    session.run("SELECT upkeep.undelete(id) FROM upkeep.deletions")?;
    assert_eq!(session.text("SELECT count(parent) FROM child")?, "9");
    assert_eq!(sqlstate(&mut session, "DELETE FROM tree_part")?, "42501");
    assert_eq!(sqlstate(&mut admin, "INSERT INTO tree VALUES (1); DELETE FROM tree_part")?, "55000");
    session.run(
        "SELECT upkeep.disable_soft_delete('tree'), upkeep.disable_soft_delete('parent'), upkeep.disable_row_version('stamped')",
    )?;
    assert_eq!(session.text("SELECT count(*) FROM pg_trigger WHERE tgname LIKE '%upkeep%'")?, "0");
    Ok(())
}

#[test]
fn a_partition_of_somebody_elses_that_comes_later_is_told_of() -> Result<()> {
    let db = testing::database()?;
    let (ann, bob) = (db.role("ann")?, db.role("bob")?);
    let mut admin = db.connect()?;
    let mut session = db.connect_as(&ann)?;
    session.run(
        "CREATE TABLE tree (id int PRIMARY KEY) PARTITION BY RANGE (id); SELECT upkeep.enable_soft_delete('tree')",
    )?;
    admin.run(&format!("CREATE TABLE later (LIKE tree INCLUDING ALL); ALTER TABLE later OWNER TO {bob}"))?;
    admin.notices();
    admin.run(&format!(
        "GRANT TRIGGER ON later TO {ann}; ALTER TABLE tree ATTACH PARTITION later FOR VALUES FROM (0) TO (9)"
    ))?;
    assert_eq!(admin.notices().len(), 0);
    assert_eq!(sqlstate(&mut admin, "INSERT INTO tree VALUES (1); DELETE FROM later")?, "55000");
    Ok(())
}
