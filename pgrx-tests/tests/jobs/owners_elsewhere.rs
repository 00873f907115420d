//! Whose the jobs and schedules of a dump are on another server: OIDs of roles are others there, names are all that is left
//! (LAW 20).

use anyhow::Result;
use upkeep_tests::jobs::{sqlstate, wait_for_error};
use upkeep_tests::session::Session;
use upkeep_tests::testing::{self, Database};

/// Roles who may use schedules and commands; their names and OIDs.
fn roles<const N: usize>(db: &Database, names: [&str; N]) -> Result<[(String, String); N]> {
    let mut admin = db.connect()?;
    let mut made = Vec::new();
    for name in names {
        let role = db.role(name)?;
        admin.run(&format!("GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA upkeep TO {role}"))?;
        let oid = admin.text(&format!("SELECT '{role}'::regrole::oid"))?;
        made.push((role, oid));
    }
    Ok(made.try_into().expect("as many as there are names"))
}

/// As if what this role has made had come with a dump from a server on which its owner had that name and OID.
fn comes_from_elsewhere(admin: &mut Session, made_by: &str, owner: &str, oid: &str) -> Result<()> {
    ["_job", "_schedule"].iter().try_for_each(|table| {
        admin.run(&format!(
            "UPDATE upkeep.{table} SET system_identifier = 1, owner = {oid}, owner_name = '{owner}'
             WHERE owner_name = '{made_by}'"
        ))
    })
}

fn schedule(db: &Database, role: &str) -> Result<String> {
    db.connect_as(role)?.text("SELECT upkeep.schedule('tick', '@yearly', 'SELECT 1')")
}

#[test]
fn whoever_has_the_oid_of_another_servers_role_has_nothing_of_it() -> Result<()> {
    let db = testing::database()?;
    let [(alice, _), (bob, of_bob)] = roles(&db, ["alice", "bob"])?;
    let mut admin = db.connect()?;
    admin.run(&format!("CREATE TABLE t (id int PRIMARY KEY, n int, v int); ALTER TABLE t OWNER TO {alice}"))?;
    admin.run("INSERT INTO t VALUES (1, 0), (2, 1)")?;
    let mut hers = db.connect_as(&alice)?;
    let failed = hers.text("SELECT upkeep.run_in_background('SELECT secret')")?;
    wait_for_error(&mut hers, &failed)?;
    let left = hers.text("SELECT upkeep.backfill('t', 'v = 1 / n', 'v IS NULL')")?;
    hers.run(&format!("CALL upkeep.wait('{left}')"))?;
    let run = schedule(&db, &alice)?;
    comes_from_elsewhere(&mut admin, &alice, &alice, &of_bob)?;

    let all = "SELECT (SELECT count(*) FROM upkeep.jobs), (SELECT count(*) FROM upkeep.job_events),
                      (SELECT count(*) FROM upkeep.quarantined_rows), (SELECT count(*) FROM upkeep.schedules)";
    let mut his = db.connect_as(&bob)?;
    assert_eq!(his.text(all)?, "0|0|0|0");
    for call in ["retry", "drop_job", "cancel", "pause", "resume"] {
        assert_eq!(sqlstate(&mut his, &format!("SELECT upkeep.{call}('{failed}')"))?, "42501", "{call}");
    }
    assert_eq!(sqlstate(&mut his, &format!("SELECT upkeep.unschedule('{run}'::uuid)"))?, "42501");
    assert_eq!(sqlstate(&mut his, "SELECT upkeep.unschedule('tick')")?, "42704");

    // She has them by her name.
    let shown = format!("SELECT owner, error FROM upkeep.jobs WHERE id = '{failed}'");
    assert_eq!(hers.text(&shown)?, format!("{alice}|column \"secret\" does not exist"));
    assert_eq!(hers.text(all)?.split('|').skip(2).collect::<Vec<_>>(), ["1", "1"]);
    assert_eq!(sqlstate(&mut hers, "SELECT upkeep.schedule('tick', '@daily', 'SELECT 2')")?, "42710");
    hers.run(&format!("SELECT upkeep.drop_job('{failed}'), upkeep.unschedule('tick')"))?;

    // What she tries again waits until somebody has said that it may go on here.
    hers.run("UPDATE t SET n = 1")?;
    hers.notices();
    hers.run(&format!("SELECT upkeep.retry('{left}')"))?;
    let said = hers.notices();
    assert!(said.iter().any(|notice| notice.hint() == Some("SELECT upkeep.resume_all();")), "{said:?}");
    assert_eq!(admin.text("SELECT upkeep.resume_all()")?, "1");
    hers.run(&format!("CALL upkeep.wait('{left}')"))?;
    assert_eq!(hers.text("SELECT count(*) FROM t WHERE v = 1")?, "2");
    Ok(())
}

/// Each of these would be a 23505 that keeps everything from being resumed (LAW 32).
#[test]
fn names_and_owners_that_cannot_be_had_hold_only_what_is_theirs() -> Result<()> {
    let db = testing::database_without_preload()?;
    let made = roles(&db, ["alice", "bob", "carol", "dave", "erin", "frank"])?;
    for (role, _) in &made {
        schedule(&db, role)?;
        db.connect_as(role)?.run("SELECT upkeep.run_in_background('SELECT 1', 'once')")?;
    }
    let [(alice, of_alice), (bob, of_bob), (carol, _), (dave, _), (erin, _), (frank, _)] = made;
    let mut admin = db.connect()?;
    // Two whose OIDs are the other's here.
    comes_from_elsewhere(&mut admin, &alice, &alice, &of_bob)?;
    comes_from_elsewhere(&mut admin, &bob, &bob, &of_alice)?;
    // Two who are not here, and one who has made the same here meanwhile.
    let [gone, lost] = [&carol, &dave].map(|role| format!("former_{role}"));
    comes_from_elsewhere(&mut admin, &carol, &gone, "4000000001")?;
    comes_from_elsewhere(&mut admin, &dave, &lost, "4000000002")?;
    comes_from_elsewhere(&mut admin, &frank, &erin, "4000000003")?;

    admin.notices();
    assert_eq!(admin.text("SELECT upkeep.resume_all()")?, "4");
    let said = admin.notices();
    for (why, times) in [
        (format!("stays paused: role \"{gone}\" does not exist"), 2),
        (format!("stays paused: role \"{lost}\" does not exist"), 2),
        (format!("stays paused: role \"{erin}\" has another one named \"once\" here"), 1),
        (format!("stays paused: role \"{erin}\" has another one named \"tick\" here"), 1),
    ] {
        assert_eq!(said.iter().filter(|notice| notice.message().ends_with(&why)).count(), times, "{why}: {said:?}");
    }
    let states = "SELECT string_agg(concat_ws(' ', regexp_replace(owner, '_.*', ''), state), ', ' ORDER BY owner, state) FROM upkeep.jobs";
    let expected = "alice queued, bob queued, erin paused, erin queued, former paused, former paused";
    assert_eq!(admin.text(states)?, expected);
    assert_eq!(admin.text("SELECT count(*) FROM upkeep.schedules WHERE active")?, "3");

    // As soon as the roles are there and the names are free.
    admin.run(&format!("CREATE ROLE {gone}; CREATE ROLE {lost}"))?;
    admin.run(
        "SELECT upkeep.cancel(id) FROM upkeep.jobs WHERE owner LIKE 'erin%' AND state = 'queued';
         SELECT upkeep.unschedule(id) FROM upkeep.schedules WHERE owner LIKE 'erin%' AND active",
    )?;
    assert_eq!(admin.text("SELECT upkeep.resume_all()")?, "6");
    assert_eq!(admin.text("SELECT count(*) FROM upkeep.jobs WHERE state = 'queued'")?, "5");
    assert_eq!(admin.text("SELECT count(*) FROM upkeep.schedules WHERE active")?, "5");
    Ok(())
}

/// A transaction has room for some thousands of locks, here for fewer, and each name has one.
#[test]
fn thousands_of_schedules_are_taken_in_at_once() -> Result<()> {
    let server =
        testing::server("names").set("max_locks_per_transaction", "10").set("max_connections", "20").start()?;
    let mut admin = server.with_extension("names")?;
    admin.run("SELECT upkeep.schedule('tick', '@yearly', 'SELECT 1')")?;
    admin.run(
        "INSERT INTO upkeep._schedule
         SELECT (jsonb_populate_record(s, jsonb_build_object('id', gen_random_uuid(), 'name', 'tick ' || g))).*
         FROM upkeep._schedule s, generate_series(2, 10000) g",
    )?;
    admin.run("UPDATE upkeep._schedule SET system_identifier = 1")?;
    assert_eq!(admin.text("SELECT upkeep.resume_all()")?, "10000");
    assert_eq!(admin.text("SELECT count(*) FROM upkeep.schedules WHERE active")?, "10000");
    Ok(())
}
