//! Dumps that the libraries of released versions made themselves mean in this version what they meant there. `dumps/made.sql` says
//! what is in them.

use anyhow::Result;
use upkeep_tests::cluster::Cluster;
use upkeep_tests::command;
use upkeep_tests::jobs::{sqlstate, wait};
use upkeep_tests::session::Session;
use upkeep_tests::testing::{self, wait_for_text};

/// How a dump is restored: the program, its arguments, and which of the files it reads.
const WAYS: [(&str, &[&str], &str); 3] = [
    ("psql", &["-X", "-q", "-1", "-v", "ON_ERROR_STOP=1", "-f"], "sql"),
    ("pg_restore", &["-e", "-d"], "dump"),
    ("pg_restore", &["-1", "-d"], "dump"),
];

/// Of products, but for the primary key.
const KEYS: &str = "SELECT x.relname::text AS name, i.indpred IS NOT NULL AS partial
                    FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid
                    WHERE i.indrelid = 'products'::regclass AND NOT i.indisprimary";

fn job(session: &mut Session, condition: &str) -> Result<String> {
    session.text(&format!("SELECT id FROM upkeep.jobs WHERE {condition}"))
}

#[test]
fn work_and_deletions_of_released_versions_mean_what_they_meant() -> Result<()> {
    // How long a change takes on a busy machine is not what this is about.
    let server = testing::server("released").own_identity().set("upkeep.ddl_lock_timeout", "10s").start()?;
    server.connect("postgres")?.run("CREATE ROLE keeper LOGIN")?;
    for version in ["0.5.0", "0.6.0", "0.7.0", "0.8.0"] {
        let has_work_in_the_middle = !["0.5.0", "0.6.0"].contains(&version);
        let has_parked_work = has_work_in_the_middle && version != "0.7.0";
        for (program, arguments, format) in WAYS {
            let database = format!("{version} by {program} {}", arguments[0]);
            let mut session = restored(&server, &database, program, arguments, &format!("{version}.{format}"))?;
            session.run("SELECT upkeep.start_workers()")?;
            soft_delete_is_what_it_was(&mut session)?;
            row_stamps_are_what_they_were(&mut session)?;
            if has_work_in_the_middle {
                work_in_the_middle_is_what_it_was(&mut session)?;
            }
            work_goes_on(&mut session)?;
            if has_work_in_the_middle {
                work_in_the_middle_goes_on(&mut session)?;
            }
            if has_parked_work {
                parked_work_goes_on(&mut session)?;
            }
            soft_delete_goes_on(&mut session)?;
        }
    }
    Ok(())
}

fn restored(server: &Cluster, database: &str, program: &str, arguments: &[&str], file: &str) -> Result<Session> {
    server.create_database(database)?;
    let mut restore = server.client_command(program, database);
    restore.args(arguments);
    if program == "pg_restore" {
        restore.arg(database);
    }
    restore.arg(format!("{}/dumps/{file}", env!("CARGO_MANIFEST_DIR")));
    command::capture(&mut restore)?;
    server.connect(database)
}

fn soft_delete_is_what_it_was(session: &mut Session) -> Result<()> {
    session.run("SET SESSION AUTHORIZATION keeper")?;
    let counts =
        "SELECT (SELECT count(*) FROM users_live), (SELECT count(*) FROM users), (SELECT count(*) FROM orders),
                         (SELECT count(*) FROM orders_all WHERE gone AND deleted_at IS NOT NULL)";
    assert_eq!(session.text(counts)?, "97|101|48|2");
    let deletions = "SELECT string_agg(concat_ws(' ', relname, rows, held, restorable), ', ' ORDER BY deleted_at)
                     FROM upkeep.deletions WHERE undeleted_at IS NULL AND relname = 'users'";
    assert_eq!(
        session.text(deletions)?,
        "users {\"users\": 1, \"sessions\": 2} t, users {\"users\": 1, \"sessions\": 2} t, \
         users {\"users\": 2, \"sessions\": 4} a lawsuit t"
    );
    // What references deleted rows, real deletes past the guard, and unique keys.
    assert_eq!(sqlstate(session, "INSERT INTO sessions VALUES (1000, 2)")?, "23503");
    assert_eq!(sqlstate(session, "DELETE FROM users WHERE id = 2")?, "55000");
    assert_eq!(sqlstate(session, "INSERT INTO users_live (id, email) VALUES (200, 'user2@example.com')")?, "23505");
    // A deletion comes back whole, and one whose address somebody else has now does not.
    let undelete = "SELECT upkeep.undelete(id) FROM upkeep.deletions WHERE relname = 'users' AND undeleted_at IS NULL
                    AND id = (SELECT deletion_id FROM users WHERE id = ";
    assert_eq!(session.text("SELECT \"user\" IS NULL FROM invoices WHERE id = 1")?, "t");
    assert_eq!(session.text(&format!("{undelete} 1)"))?, "3");
    assert_eq!(session.text("SELECT \"user\" FROM invoices WHERE id = 1")?, "1");
    assert_eq!(sqlstate(session, &format!("{undelete} 2)"))?, "23505");
    Ok(())
}

fn row_stamps_are_what_they_were(session: &mut Session) -> Result<()> {
    let changed = session.text(
        "UPDATE users_live SET n = 77 WHERE id = 11
         RETURNING updated_at = transaction_timestamp(), updated_by, version - (SELECT version FROM users WHERE id = 11)",
    )?;
    assert_eq!(changed, "t|keeper|1");
    assert_eq!(sqlstate(session, "UPDATE users_live SET n = 78, version = 1 WHERE id = 11")?, "40001");
    Ok(())
}

/// The keys that are partial already, with the successor that has not taken its place; the trigger that fills new rows.
fn work_in_the_middle_is_what_it_was(session: &mut Session) -> Result<()> {
    assert_eq!(session.text(&format!("SELECT count(*) FROM ({KEYS}) k WHERE partial"))?, "2");
    assert_eq!(session.text(&format!("SELECT count(*) FROM ({KEYS}) k WHERE NOT partial"))?, "2");
    let unfinished =
        "SELECT string_agg(concat_ws(' ', kind, target, state, wait_reason), ', ' ORDER BY kind) FROM upkeep.jobs
                      WHERE target IN ('public.products', 'public.lines')";
    assert_eq!(
        session.text(unfinished)?,
        "backfill public.lines paused restored, unique keys public.products paused restored"
    );
    assert_eq!(session.text("SELECT count(*) FROM lines WHERE double IS NULL")?, "178");
    assert_eq!(session.text("INSERT INTO lines (id, n) VALUES (1000, 5) RETURNING double")?, "10");
    assert_eq!(session.text("UPDATE lines SET n = 6 WHERE id = 200 RETURNING double")?, "12");
    Ok(())
}

/// After `resume_all`.
fn work_in_the_middle_goes_on(session: &mut Session) -> Result<()> {
    let filling = job(session, "target = 'public.lines'")?;
    wait(session, &filling)?;
    assert_eq!(session.text("SELECT count(*) FROM lines WHERE double IS DISTINCT FROM 2 * n")?, "0");
    let left = "SELECT (SELECT count(*) FROM pg_trigger WHERE tgname LIKE 'zz\\_upkeep\\_fill\\_%')
                       + (SELECT count(*) FROM pg_proc WHERE proname LIKE '\\_fill\\_%')";
    assert_eq!(session.text(left)?, "0");
    let keys = job(session, "target = 'public.products'")?;
    wait(session, &keys)?;
    let partial = format!("SELECT string_agg(name, ', ' ORDER BY name) FROM ({KEYS}) k WHERE partial");
    // One that was made before the dump is dropped by a chore.
    wait_for_text(session, &partial, "products_ean_key, products_sku_key, products_slug")?;
    assert_eq!(session.text(&format!("SELECT count(*) FROM ({KEYS}) k WHERE NOT partial"))?, "0");
    session.run("DELETE FROM products_live WHERE id = 1")?;
    let again = "INSERT INTO products_live (id, sku, name, ean) VALUES";
    session.run(&format!("{again} (1001, 'sku 1', 'PRODUCT 1', 'ean 1')"))?;
    assert_eq!(sqlstate(session, &format!("{again} (1002, NULL, 'product 1', NULL)"))?, "23505");
    Ok(())
}

/// After `resume_all`: it waits for its hours again (unless it is that minute of the day), and works when it is free of them.
fn parked_work_goes_on(session: &mut Session) -> Result<()> {
    let parked = job(session, "target = 'public.nights'")?;
    let of_it = format!("FROM upkeep.jobs WHERE id = '{parked}'");
    wait_for_text(session, &format!("SELECT state IN ('waiting', 'done') {of_it}"), "t")?;
    session.run(&format!("SELECT upkeep.alter_job(id, run_between => '') {of_it} AND state <> 'done'"))?;
    wait(session, &parked)?;
    assert_eq!(session.text("SELECT count(*) FROM nights WHERE n IS DISTINCT FROM id")?, "0");
    Ok(())
}

fn work_goes_on(session: &mut Session) -> Result<()> {
    let left = job(session, "kind = 'backfill' AND state = 'done'")?;
    let paused = job(session, "wait_reason = 'restored' AND target = 'public.orders_all'")?;
    let purge = job(session, "kind = 'purge'")?;
    assert_eq!(session.text("SELECT count(*) FROM upkeep.quarantined_rows")?, "10");
    let schedules = "SELECT string_agg(name, ', ' ORDER BY name) FROM upkeep.schedules";
    assert_eq!(session.text(schedules)?, "purge public.users, tick");
    session.run("RESET SESSION AUTHORIZATION")?;
    session.run("SELECT upkeep.resume_all()")?;
    wait(session, &paused)?;
    assert_eq!(session.text("SELECT count(*) FROM orders_all WHERE what <> upper(what)")?, "0");
    wait(session, &purge)?;
    assert_eq!(
        session.text("SELECT string_agg(id::text, ' ' ORDER BY id) FROM users WHERE deleted_at IS NOT NULL")?,
        "2 3"
    );
    session.run("UPDATE users SET n = 5 WHERE n = 0")?;
    session.run(&format!("SELECT upkeep.retry('{left}')"))?;
    session.run("SELECT upkeep.resume_all()")?;
    wait(session, &left)?;
    assert_eq!(session.text("SELECT count(*) FROM users WHERE v IS NULL AND id <> 101")?, "0");
    let run = session.text("SELECT upkeep.run_now('tick')")?;
    wait(session, &run)
}

fn soft_delete_goes_on(session: &mut Session) -> Result<()> {
    session.run("SET SESSION AUTHORIZATION keeper")?;
    session.run("SELECT upkeep.alter_soft_deleted('users', 'ALTER TABLE users ADD COLUMN born date')")?;
    session.run("UPDATE users_live SET born = 'today' WHERE id = 1")?;
    session.run("UPDATE orders_all SET gone = false WHERE id = 7")?;
    assert_eq!(session.text("SELECT what FROM orders WHERE id = 7")?, "ORDER 7");
    session.run("SELECT upkeep.disable_soft_delete('orders', 'keep')")?;
    assert_eq!(session.text("SELECT count(*) FROM orders")?, "50");
    session.run("SELECT upkeep.repair_soft_delete('users')")?;
    session.run("RESET SESSION AUTHORIZATION")?;
    session.run("SELECT upkeep.stop_workers()")
}
