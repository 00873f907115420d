//! What databases of older versions hold goes on here: after an update, and after a dump, which says CREATE EXTENSION without a
//! version and so meets the newest one.

use anyhow::Result;
use upkeep_tests::cluster::Cluster;
use upkeep_tests::jobs::{wait, wait_for_state};
use upkeep_tests::session::Session;
use upkeep_tests::testing::{self, wait_for_text};
use upkeep_tests::{command, hostile};

const VERSIONS: [&str; 4] = ["0.5.0", "0.6.0", "0.7.0", "0.8.0"];

const TABLE: &str = "CREATE TABLE filled (id int PRIMARY KEY, n int, v int, w int);
    INSERT INTO filled SELECT g, g % 10, NULL, NULL FROM generate_series(1, 100) g";

/// Jobs of each state, rows that were put aside, and a schedule with runs.
struct Work {
    /// Done, but for rows that are put aside.
    with_leftovers: String,
    paused: String,
    queued: String,
    canceled: String,
}

/// Made by this version, whose rows look the same but for columns that the older ones do not have.
fn work(session: &mut Session) -> Result<Work> {
    session.run(TABLE)?;
    let with_leftovers = session.text("SELECT upkeep.backfill('filled', 'v = 100 / n', 'v IS NULL')")?;
    wait(session, &with_leftovers)?;
    session.run("SELECT upkeep.schedule('tick', '1 second', 'SELECT 1')")?;
    wait_for_text(session, "SELECT count(*) > 1 FROM upkeep._schedule_run WHERE status = 'done'", "t")?;
    session.run("SELECT upkeep.alter_schedule('tick', paused => true)")?;
    wait_for_text(session, "SELECT count(*) FROM upkeep._schedule_run WHERE finished_at IS NULL", "0")?;
    session.run("SELECT upkeep.stop_workers()")?;
    let paused = session.text("SELECT upkeep.backfill('filled', 'w = n', 'w IS NULL', paused => true)")?;
    let queued = session.text("SELECT upkeep.run_in_background('UPDATE filled SET n = n', 'touch')")?;
    // Until it is in the copy: workers are kept for a database, and a copy is another one.
    session.run(&format!("SELECT upkeep.pause('{queued}')"))?;
    let canceled = session.text("SELECT upkeep.backfill('filled', 'n = 14', 'n = 4', paused => true)")?;
    session.run(&format!("SELECT upkeep.cancel('{canceled}')"))?;
    Ok(Work { with_leftovers, paused, queued, canceled })
}

/// A copy of the database in which the work was made, with the extension of that version in place of this one. As a copy it has
/// the same OIDs, and the rows that name them still mean the same.
fn database_of(server: &Cluster, version: &str) -> Result<Session> {
    let name = format!("of {version}");
    server.connect("postgres")?.run(&format!("CREATE DATABASE \"{name}\" TEMPLATE source"))?;
    let mut old = server.connect(&name)?;
    // What dumps carry, and what jobs have for themselves.
    let tables = "SELECT c.relname::text FROM pg_extension e JOIN pg_class c
                      ON c.oid = ANY (e.extconfig) OR c.oid = to_regclass('upkeep._job_claim')
                  WHERE e.extname = 'pg_upkeep' AND c.relkind = 'r' ORDER BY c.relname NOT IN ('_job', '_schedule'), 1";
    for table in old.values::<String>(tables)? {
        old.run(&format!("CREATE TEMP TABLE {table} AS SELECT to_jsonb(t) AS row FROM upkeep.{table} t"))?;
    }
    old.run(&format!("DROP EXTENSION pg_upkeep; CREATE EXTENSION pg_upkeep VERSION '{version}'"))?;
    for table in old.values::<String>(tables)? {
        old.run(&format!(
            "INSERT INTO upkeep.{table} OVERRIDING SYSTEM VALUE
             SELECT (jsonb_populate_record(NULL::upkeep.{table}, row)).* FROM pg_temp.{table}"
        ))?;
    }
    old.run(
        "UPDATE upkeep._job SET database = (SELECT oid FROM pg_database WHERE datname = current_database());
         UPDATE upkeep._schedule SET database = (SELECT oid FROM pg_database WHERE datname = current_database());
         UPDATE upkeep._job SET state = 'queued' WHERE name = 'touch';
         SELECT setval('upkeep._schedule_run_id_seq', (SELECT max(id) FROM upkeep._schedule_run)),
                setval('upkeep._backfill_row_number_seq', (SELECT max(number) FROM upkeep._backfill_row))",
    )?;
    Ok(old)
}

/// Unfinished work ends, what was put aside is tried again, and the schedule ticks.
fn goes_on(session: &mut Session, work: &Work) -> Result<()> {
    assert_eq!(session.text("SELECT count(*) FROM upkeep.quarantined_rows")?, "10");
    wait_for_state(session, &work.paused, "done")?;
    wait_for_state(session, &work.queued, "done")?;
    assert_eq!(session.text("SELECT count(*) FROM filled WHERE w IS DISTINCT FROM n")?, "0");
    session.run("UPDATE filled SET n = 5 WHERE n = 0")?;
    session.run(&format!("SELECT upkeep.retry('{}'), upkeep.retry('{}')", work.with_leftovers, work.canceled))?;
    // What is retried where it was restored waits once more for somebody who says that this is the place.
    session.run("SELECT upkeep.resume_all()")?;
    wait(session, &work.with_leftovers)?;
    wait(session, &work.canceled)?;
    assert_eq!(session.text("SELECT count(*) FROM filled WHERE v IS NULL")?, "0");
    assert_eq!(session.text("SELECT count(*) FROM upkeep.quarantined_rows")?, "0");
    let last = session.text("SELECT max(id) FROM upkeep._schedule_run")?;
    session.run("SELECT upkeep.alter_schedule('tick', paused => false)")?;
    let ran = format!("SELECT count(*) > 0 FROM upkeep._schedule_run WHERE status = 'done' AND id > {last}");
    wait_for_text(session, &ran, "t")?;
    session.run("SELECT upkeep.unschedule('tick')")
}

#[test]
fn work_of_older_versions_goes_on_after_an_update() -> Result<()> {
    let server = testing::server("updated").start()?;
    let mut source = server.with_extension("source")?;
    source.run("SELECT upkeep.start_workers()")?;
    let work = work(&mut source)?;
    drop(source);
    for version in VERSIONS {
        let name = format!("of {version}");
        let mut old = database_of(&server, version)?;
        // A server that goes down in the middle leaves the old version, and the update works afterwards.
        old.run("BEGIN; ALTER EXTENSION pg_upkeep UPDATE")?;
        let updating = old.pid()?;
        let mut old = server.kill_and_recover(updating, &name)?;
        assert_eq!(old.text("SELECT extversion FROM pg_extension WHERE extname = 'pg_upkeep'")?, version);
        // A session that has looked at the old tables goes on beside the new ones.
        let mut beside = server.connect(&name)?;
        assert_eq!(beside.error("SELECT upkeep.pause_all()")?.hint(), Some("ALTER EXTENSION pg_upkeep UPDATE;"));
        old.run("ALTER EXTENSION pg_upkeep UPDATE")?;
        assert_eq!(beside.text("SELECT count(*) FROM upkeep.quarantined_rows")?, "10");
        let claims = "SELECT string_agg(what, ', ' ORDER BY what)
                      FROM upkeep._job_claim c JOIN upkeep.jobs j ON j.id = c.job WHERE j.finished_at IS NULL";
        assert_eq!(old.text(claims)?, "column w", "{version}: of the one that is unfinished");
        let second = old.error("SELECT upkeep.backfill('filled', 'w = 0', 'w IS NULL')")?;
        assert_eq!(second.code().code(), "55006", "{version}");
        old.run(&format!("SELECT upkeep.resume('{}'), upkeep.start_workers()", work.paused))?;
        goes_on(&mut old, &work)?;
        old.run("SELECT upkeep.stop_workers()")?;
    }
    Ok(())
}

#[test]
fn dumps_of_older_versions_are_restored_and_go_on() -> Result<()> {
    let here = testing::server("dumped").start()?;
    let elsewhere = testing::server("restored").own_identity().start()?;
    let mut source = here.with_extension("source")?;
    source.run("SELECT upkeep.start_workers()")?;
    let work = work(&mut source)?;
    drop(source);
    for version in VERSIONS {
        let name = format!("of {version}");
        drop(database_of(&here, version)?);
        for (format, program) in [("p", "psql"), ("c", "pg_restore"), ("c", "pg_restore -1")] {
            let file = here.scratch().join(format!("{version}.{format}")).display().to_string();
            let mut pg_dump = here.client_command("pg_dump", &name);
            if hostile::wanted() {
                pg_dump.arg("--exclude-schema=traps");
            }
            command::capture(pg_dump.args(["-F", format, "-f", &file]))?;
            let database = format!("{program} {version}");
            elsewhere.create_database(&database)?;
            let mut restore = elsewhere.client_command(program.split(' ').next().unwrap_or(program), &database);
            match program {
                "psql" => restore.args(["-X", "-q", "-1", "-v", "ON_ERROR_STOP=1", "-f", &file]),
                "pg_restore" => restore.args(["-e", "-d", &database, &file]),
                _ => restore.args(["-1", "-d", &database, &file]),
            };
            command::capture(&mut restore)?;
            let mut there = elsewhere.connect(&database)?;
            let shown = "SELECT string_agg(state || coalesce(' ' || wait_reason, ''), ', ' ORDER BY created_at) FROM upkeep.jobs
                         WHERE kind = 'backfill' OR name = 'touch'";
            assert_eq!(there.text(shown)?, "done, paused restored, paused restored, canceled", "{database}");
            there.run("SELECT upkeep.start_workers(), upkeep.resume_all()")?;
            goes_on(&mut there, &work)?;
            there.run("SELECT upkeep.stop_workers()")?;
        }
    }
    Ok(())
}
