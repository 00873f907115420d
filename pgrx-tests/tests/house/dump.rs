//! What a dump carries of ours comes back whole, in whatever order it is loaded, and goes on there.

use std::fs;

use anyhow::{Context, Result};
use upkeep_tests::cluster::Cluster;
use upkeep_tests::jobs::{wait, wait_for_state};
use upkeep_tests::session::Session;
use upkeep_tests::testing::{self, wait_for_text};
use upkeep_tests::{command, hostile};

/// Something of everything that dumps carry.
const SHOP: &str = "
    CREATE TABLE users (id int PRIMARY KEY, name text);
    CREATE TABLE orders (id int PRIMARY KEY, customer int REFERENCES users ON DELETE CASCADE);
    CREATE TABLE notes (id int PRIMARY KEY, customer int REFERENCES users ON DELETE SET NULL);
    SELECT upkeep.enable_soft_delete('orders');
    SELECT upkeep.enable_soft_delete('users', retention => '1 day');
    INSERT INTO users SELECT g, 'u' || g FROM generate_series(1, 600) g;
    INSERT INTO orders SELECT g, g FROM generate_series(1, 600) g;
    INSERT INTO notes SELECT g, g FROM generate_series(1, 600) g;
    SELECT upkeep.soft_delete('users', 'id = ' || g) FROM generate_series(1, 400) g;
    CREATE TABLE filled (id int PRIMARY KEY, n int, v int);
    INSERT INTO filled SELECT g, g % 10, NULL FROM generate_series(1, 100) g;";

struct Here {
    server: Cluster,
    session: Session,
    backfill: String,
    paused: String,
    deletion: String,
}

fn shop() -> Result<Here> {
    let server = testing::server("here").preloaded().start()?;
    let mut session = server.with_extension("shop")?;
    session.run(SHOP)?;
    let backfill = session.text("SELECT upkeep.backfill('filled', 'v = 100 / n', 'v IS NULL')")?;
    wait(&mut session, &backfill)?;
    assert_eq!(session.text("SELECT count(*) FROM upkeep.quarantined_rows")?, "10");
    session.run("CREATE TABLE keyed (id int PRIMARY KEY, code text UNIQUE)")?;
    session.run("SELECT upkeep.enable_soft_delete('keyed')")?;
    let keys = session.text("SELECT upkeep.make_unique_keys_partial('keyed')")?;
    wait(&mut session, &keys)?;
    assert_eq!(session.text("SELECT count(*) FROM upkeep.job_steps WHERE state = 'done'")?, "2");
    // No transaction leaves one behind that is through with its work.
    session.run(&format!("INSERT INTO upkeep._backfill_xid VALUES ('{backfill}', 5), ('{backfill}', 6)"))?;
    session.run("SELECT upkeep.schedule('tick', '1 second', 'SELECT 1')")?;
    wait_for_text(&mut session, "SELECT count(*) > 1 FROM upkeep._schedule_run WHERE status = 'done'", "t")?;
    for _ in 0..60 {
        let job = session.text("SELECT upkeep.backfill('filled', 'n = n', 'n = 4', paused => true)")?;
        session.run(&format!("SELECT upkeep.cancel('{job}')"))?;
    }
    let paused = session.text("SELECT upkeep.backfill('filled', 'n = 30', 'n = 3', paused => true)")?;
    session.run("SELECT upkeep.alter_schedule(id, paused => true) FROM upkeep.schedules")?;
    wait_for_text(&mut session, "SELECT count(*) FROM upkeep._schedule_run WHERE finished_at IS NULL", "0")?;
    let deletion = session.text("SELECT deletion_id FROM users WHERE id = 7")?;
    Ok(Here { server, session, backfill, paused, deletion })
}

/// All rows of each table and sequence that a dump carries.
fn carried(session: &mut Session) -> Result<Vec<(String, Vec<String>)>> {
    session.run("SET search_path = public")?;
    let tables: Vec<String> = session.values(
        "SELECT c.oid::regclass::text FROM pg_extension e JOIN pg_class c ON c.oid = ANY (e.extconfig)
         WHERE e.extname = 'pg_upkeep' ORDER BY 1",
    )?;
    tables
        .into_iter()
        .map(|table| {
            let is_sequence =
                session.text(&format!("SELECT relkind = 'S' FROM pg_class WHERE oid = '{table}'::regclass"))?;
            let columns = if is_sequence == "t" { "last_value, is_called" } else { "*" };
            let rows = session.rows(&format!("SELECT x::text FROM (SELECT {columns} FROM {table}) x ORDER BY 1"))?;
            Ok((table, rows))
        })
        .collect()
}

fn dump(here: &Here, format: &str, name: &str) -> Result<String> {
    let file = here.server.scratch().join(name).display().to_string();
    let mut pg_dump = here.server.client_command("pg_dump", "shop");
    if hostile::wanted() {
        pg_dump.arg("--exclude-schema=traps");
    }
    command::capture(pg_dump.args(["-F", format, "-f", &file]))?;
    Ok(file)
}

fn restore(server: &Cluster, database: &str, arguments: &[&str]) -> Result<Session> {
    server.create_database(database)?;
    command::capture(server.client_command("pg_restore", database).args(["-d", database]).args(arguments))
        .with_context(|| format!("into {database}"))?;
    server.connect(database)
}

fn assert_same(here: &[(String, Vec<String>)], there: &[(String, Vec<String>)]) {
    for ((table, rows), (other, restored)) in here.iter().zip(there) {
        assert_eq!(table, other);
        assert!(rows == restored, "{table}: {} rows, restored {}:\n{rows:?}\n{restored:?}", rows.len(), restored.len());
    }
    assert_eq!(here.len(), there.len());
}

/// Undelete, purge, retry and the schedule work on what has come.
fn goes_on(session: &mut Session, here: &Here) -> Result<()> {
    session.run("SELECT upkeep.start_workers()")?;
    assert_eq!(session.text(&format!("SELECT restorable FROM upkeep.deletions WHERE id = '{}'", here.deletion))?, "t");
    assert_eq!(session.text(&format!("SELECT upkeep.undelete('{}')", here.deletion))?, "2");
    assert_eq!(session.text("SELECT customer FROM notes WHERE id = 7")?, "7", "the cleared reference");
    session.run("UPDATE filled SET n = 5 WHERE n = 0")?;
    session.run(&format!("SELECT upkeep.retry('{}')", here.backfill))?;
    session.run("SELECT upkeep.resume_all()")?;
    wait(session, &here.backfill)?;
    wait_for_state(session, &here.paused, "done")?;
    assert_eq!(session.text("SELECT count(*) FROM filled WHERE v IS NULL")?, "0");
    assert_eq!(session.text("SELECT count(*) FROM upkeep.quarantined_rows")?, "0");
    let purge = session.text("SELECT upkeep.purge_deleted('users', '0')")?;
    wait(session, &purge)?;
    assert_eq!(session.text("SELECT (SELECT count(*) FROM users), (SELECT count(*) FROM orders)")?, "201|201");
    let last = session.text("SELECT max(id) FROM upkeep._schedule_run")?;
    session.run("SELECT upkeep.alter_schedule('tick', paused => false)")?;
    wait_for_text(
        session,
        &format!("SELECT count(*) > 0 FROM upkeep._schedule_run WHERE status = 'done' AND id > {last}"),
        "t",
    )
}

const CHILDREN: &str = "SELECT (SELECT count(*) FROM upkeep._job_slot), (SELECT count(*) FROM upkeep._job_event ),
    (SELECT count(*) FROM upkeep._backfill_table), (SELECT count(*) FROM upkeep._backfill_row), (SELECT count(*) \
    FROM upkeep._backfill_xid)";

#[test]
fn a_dump_is_restored_whole_by_several_sessions() -> Result<()> {
    let mut here = shop()?;
    let elsewhere = testing::server("elsewhere").own_identity().start()?;
    let rows = carried(&mut here.session)?;
    assert!(rows.iter().all(|(_, rows)| !rows.is_empty()), "something of each: {rows:?}");
    for (format, name) in [("c", "shop.dump"), ("d", "shop.dir")] {
        let file = dump(&here, format, name)?;
        for round in 0..3 {
            let mut there = restore(&elsewhere, &format!("shop_{format}{round}"), &["-j", "4", &file])?;
            assert_same(&rows, &carried(&mut there)?);
            if round == 0 {
                goes_on(&mut there, &here)?;
            }
        }
    }
    assert_same(&rows, &carried(&mut here.session)?);
    Ok(())
}

/// pg_restore knows no order among tables of an extension: here the one that foreign keys like least.
#[test]
fn a_dump_is_restored_whole_in_any_order() -> Result<()> {
    let mut here = shop()?;
    let elsewhere = testing::server("elsewhere").own_identity().start()?;
    let rows = carried(&mut here.session)?;
    let file = dump(&here, "c", "shop.dump")?;
    let list = command::capture(here.server.client_command("pg_restore", "shop").args(["-l", &file]))?;
    let is_ours = |line: &&str| line.contains(" TABLE DATA upkeep ");
    let mut ours = list.lines().filter(is_ours).collect::<Vec<_>>();
    // By their names parents come before their children, but for backfills'.
    ours.sort_by_key(|line| line.split(' ').nth(6).map(str::to_owned));
    ours.reverse();
    let (before, after): (Vec<&str>, Vec<&str>) = list
        .lines()
        .filter(|line| !is_ours(line))
        .partition(|line| !line.contains(" SEQUENCE SET ") && !line.contains(" CONSTRAINT "));
    for (database, ours) in [("last_first", ours.clone()), ("first_last", ours.into_iter().rev().collect())] {
        let order = here.server.scratch().join(database);
        fs::write(&order, [before.clone(), ours, after.clone()].concat().join("\n"))?;
        let order = order.display().to_string();
        let mut there = restore(&elsewhere, database, &["-L", &order, &file])?;
        assert_same(&rows, &carried(&mut there)?);
    }
    Ok(())
}

/// Without foreign keys: what belongs to a job or a schedule goes with it, and what half a restore has left, when everything
/// is said to be there.
#[test]
fn nothing_is_left_without_its_job() -> Result<()> {
    let Here { server, mut session, backfill, paused, .. } = shop()?;
    session.run(&format!("SELECT upkeep.cancel('{paused}')"))?;
    session.run("SELECT upkeep.unschedule('tick')")?;
    assert_eq!(session.text("SELECT count(*) FROM upkeep._schedule_run")?, "0");
    session.run(&format!("SELECT upkeep.drop_job('{backfill}')"))?;
    assert_eq!(
        session.text(&format!(
            "SELECT (SELECT count(*) FROM upkeep._job_slot WHERE job = '{backfill}'),
                    (SELECT count(*) FROM upkeep._job_event WHERE job = '{backfill}'),
                    (SELECT count(*) FROM upkeep._backfill_table WHERE job = '{backfill}'),
                    (SELECT count(*) FROM upkeep._backfill_row WHERE job = '{backfill}'),
                    (SELECT count(*) FROM upkeep._backfill_xid WHERE job = '{backfill}')"
        ))?,
        "0|0|0|0|0"
    );
    // What the retention time drops.
    server.connect("postgres")?.run("ALTER SYSTEM SET upkeep.job_retention = 0")?;
    server.reload()?;
    wait_for_text(&mut session, "SELECT count(*) FROM upkeep._job", "0")?;
    assert_eq!(session.text(CHILDREN)?, "0|0|0|0|0");
    // Half a restore.
    let nobody = "00000000-0000-0000-0000-000000000001";
    session.run(&format!(
        "INSERT INTO upkeep._job_slot (job, slot) VALUES ('{nobody}', 0);
         INSERT INTO upkeep._job_event (job, event) VALUES ('{nobody}', 'queued');
         INSERT INTO upkeep._schedule_run (schedule, due_at) VALUES ('{nobody}', now());
         INSERT INTO upkeep._deletion_table VALUES ('{nobody}', 'users', 1, true)"
    ))?;
    session.run("SELECT upkeep.resume_all()")?;
    assert_eq!(session.text(CHILDREN)?, "0|0|0|0|0");
    assert_eq!(session.text("SELECT count(*) FROM upkeep._schedule_run")?, "0");
    assert_eq!(session.text(&format!("SELECT count(*) FROM upkeep._deletion_table WHERE deletion = '{nobody}'"))?, "0");
    Ok(())
}
