//! Messages of errors contain data: whatever way they take, only members of the owner see them.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use postgres::fallible_iterator::FallibleIterator;
use upkeep_tests::cluster::{Cluster, PATIENCE};
use upkeep_tests::jobs::run_with;
use upkeep_tests::schedules::schedule_with;
use upkeep_tests::session::Session;
use upkeep_tests::testing::{self, wait_for_text};
use upkeep_tests::wait::wait_for;

/// Data, in no text of any job: it comes from a table.
const SECRET: &str = "hunter2";

fn spilling(server: &Cluster) -> Result<(Session, Session)> {
    let mut admin = server.connect("postgres")?;
    admin.run(
        "CREATE EXTENSION pg_upkeep; CREATE ROLE owner LOGIN; CREATE ROLE member LOGIN IN ROLE owner;
         CREATE ROLE keepers; CREATE ROLE keeper LOGIN IN ROLE keepers;
         CREATE ROLE watcher LOGIN IN ROLE pg_monitor; CREATE ROLE other LOGIN;
         GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA upkeep TO owner; CREATE SCHEMA owner AUTHORIZATION owner",
    )?;
    let mut owner = server.connect_as("postgres", "owner")?;
    owner.run(&format!(
        "CREATE TABLE vault AS SELECT '{SECRET}'::text AS word;
         CREATE FUNCTION spill(code text) RETURNS int LANGUAGE plpgsql AS $$
         DECLARE w text := (SELECT word FROM owner.vault);
         BEGIN RAISE EXCEPTION 'message %', w USING ERRCODE = code, DETAIL = 'detail ' || w, HINT = 'hint ' || w,
                   TABLE = w, COLUMN = w, CONSTRAINT = w, SCHEMA = w, DATATYPE = w; END$$;
         CREATE FUNCTION spill_in_context() RETURNS int LANGUAGE plpgsql AS $$
         BEGIN EXECUTE format('SELECT 1 / 0 /* %s */', (SELECT word FROM owner.vault)); RETURN 1; END$$"
    ))?;
    Ok((admin, owner))
}

/// All public views with what this session may see of them.
fn everything(session: &mut Session) -> Result<String> {
    let views: Vec<String> = session.values(
        "SELECT c.oid::regclass::text FROM pg_class c
          WHERE c.relnamespace = 'upkeep'::regnamespace AND c.relkind = 'v'
            AND has_table_privilege(c.oid, 'SELECT')",
    )?;
    ensure!(views.len() > 10, "{views:?}");
    let mut seen = String::new();
    for view in views {
        for row in session.rows(&format!("SELECT v::text FROM {view} v"))? {
            seen += &format!("{view}: {row}\n");
        }
    }
    Ok(seen)
}

struct Strangers(Vec<(&'static str, Session)>);

impl Strangers {
    fn see_nothing(&mut self) -> Result<()> {
        for (who, session) in &mut self.0 {
            let seen = everything(session)?;
            let leaks: Vec<&str> = seen.lines().filter(|line| line.contains(SECRET)).collect();
            ensure!(leaks.is_empty(), "{who} sees {leaks:#?}");
        }
        Ok(())
    }
}

#[test]
fn what_errors_say_is_for_members_of_the_owner_only() -> Result<()> {
    let server = testing::server("secrets").preloaded().set("upkeep.admin_role", "keepers").start()?;
    let (mut admin, mut owner) = spilling(&server)?;
    let mut strangers = Vec::new();
    for who in ["keeper", "watcher", "other"] {
        let mut session = server.connect_as("postgres", who)?;
        session.run("LISTEN upkeep_job")?;
        strangers.push((who, session));
    }
    let mut strangers = Strangers(strangers);

    // Each way that an error of somebody's text can take.
    for table in ["again", "locked", "aside", "fails", "canceled"] {
        owner
            .run(&format!("CREATE TABLE {table} (id int PRIMARY KEY, v int); INSERT INTO {table} VALUES (1, NULL)"))?;
    }
    let retried = run_with(&mut owner, "DO 'BEGIN PERFORM owner.spill(''P0001''); END'", "retries => 1000")?;
    let failed = run_with(&mut owner, "DO 'BEGIN PERFORM owner.spill(''ABC01''); END'", "")?;
    let context = run_with(&mut owner, "SELECT owner.spill_in_context()", "")?;
    let mut backfill = |table: &str, code: &str| {
        owner.text(&format!("SELECT upkeep.backfill('{table}', 'v = owner.spill(''{code}'')', 'v IS NULL')"))
    };
    let again = backfill("again", "40001")?;
    let locked = backfill("locked", "55P03")?;
    let aside = backfill("aside", "P0001")?;
    let fails = backfill("fails", "42P01")?;
    schedule_with(&mut owner, "retried", "1 second", "DO 'BEGIN PERFORM owner.spill(''22023''); END'", "retries => 1")?;
    schedule_with(&mut owner, "failed", "1 second", "SELECT owner.spill('0A000')", "")?;
    // An administrator's event trigger is in the way of a clean-up, with data of its own.
    owner
        .run("CREATE FUNCTION slow() RETURNS int LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(3600); RETURN 1; END'")?;
    let canceled =
        owner.text("SELECT upkeep.backfill('canceled', 'v = owner.slow()', 'v IS NULL', fill_new_rows => true)")?;
    wait_for_text(&mut admin, "SELECT count(*) FROM pg_trigger WHERE tgname LIKE 'zz_upkeep%'", "1")?;
    admin.run(
        "CREATE FUNCTION no_drop() RETURNS event_trigger LANGUAGE plpgsql AS
         $$BEGIN IF EXISTS (SELECT FROM pg_event_trigger_dropped_objects() WHERE schema_name = 'upkeep')
                 THEN PERFORM owner.spill('23514'); END IF; END$$;
         CREATE EVENT TRIGGER no_drop ON sql_drop EXECUTE FUNCTION no_drop()",
    )?;
    owner.run(&format!("SELECT upkeep.cancel('{canceled}')"))?;

    let shown = |job: &str| {
        format!("SELECT count(*) FROM upkeep.jobs WHERE id = '{job}' AND concat(wait_reason, error) LIKE '%{SECRET}%'")
    };
    let mut member = server.connect_as("postgres", "member")?;
    let mut seen_by_member = |sql: &str| -> Result<()> {
        wait_for(&format!("the owner's member to see it: {sql}"), PATIENCE, || {
            strangers.see_nothing()?;
            Ok((member.text(sql)? != "0").then_some(()))
        })
    };
    for (what, job) in
        [("retried", &retried), ("failed", &failed), ("again", &again), ("fails", &fails), ("canceled", &canceled)]
    {
        seen_by_member(&shown(job)).context(what)?;
    }
    // To a backfill this is a row that somebody has locked.
    seen_by_member(&format!("SELECT count(*) FROM upkeep.jobs WHERE id = '{locked}' AND wait_reason IS NOT NULL"))?;
    seen_by_member(&format!("SELECT count(*) FROM upkeep.jobs WHERE id = '{context}' AND error IS NOT NULL"))?;
    seen_by_member(&format!(
        "SELECT count(*) FROM upkeep.quarantined_rows WHERE job = '{aside}' AND message LIKE '%{SECRET}%'"
    ))?;
    seen_by_member(&format!(
        "SELECT count(*) FROM upkeep.job_events WHERE job = '{retried}' AND event = 'retry' AND detail LIKE '%{SECRET}%'"
    ))?;
    seen_by_member(&format!(
        "SELECT count(*) FROM upkeep.schedules WHERE name = 'failed' AND last_error LIKE '%{SECRET}%'"
    ))?;
    seen_by_member(&format!(
        "SELECT count(*) FROM upkeep.schedule_runs WHERE name = 'retried' AND error LIKE '%{SECRET}%'"
    ))?;

    // What it is that a job waits for is there to be seen, if not the data.
    let mut watcher = server.connect_as("postgres", "watcher")?;
    let neutral = format!("SELECT wait_reason FROM upkeep.jobs WHERE id = '{again}'");
    wait_for_text(&mut watcher, &neutral, "waits to try again after SQLSTATE 40001")?;
    let neutral =
        format!("SELECT wait_reason LIKE '%left after SQLSTATE P0001' FROM upkeep.jobs WHERE id = '{retried}'");
    wait_for_text(&mut watcher, &neutral, "t")?;
    let error = strangers.0[0].1.error(&format!("SELECT upkeep.drop_job('{canceled}')"))?;
    assert!(!format!("{error:?}").contains(SECRET), "{error:?}");

    // Notifications tell that a job has ended and how.
    for (who, session) in &mut strangers.0 {
        let mut notifications = session.notifications();
        let told: Vec<String> =
            notifications.timeout_iter(Duration::from_millis(200)).map(|n| Ok(n.payload().to_owned())).collect()?;
        ensure!(!told.is_empty(), "{who} is told of ends");
        ensure!(told.iter().all(|payload| !payload.contains(SECRET)), "{who}: {told:?}");
    }
    strangers.see_nothing()?;
    admin.run("DROP EVENT TRIGGER no_drop")?;
    wait_for_text(&mut admin, "SELECT count(*) FROM pg_trigger WHERE tgname LIKE 'zz_upkeep%'", "0")
}

#[test]
fn messages_that_an_earlier_version_took_for_reasons_are_kept_apart() -> Result<()> {
    let server = testing::server("old_secrets").preloaded().set("upkeep.enabled", "off").start()?;
    let mut admin = server.connect("postgres")?;
    admin.run(
        "CREATE EXTENSION pg_upkeep VERSION '0.5.0'; CREATE ROLE owner LOGIN; CREATE ROLE watcher LOGIN IN ROLE pg_monitor",
    )?;
    // As 0.5.0 left them: the last error in the reason of whatever waits or was cleaned up. Only of a job that somebody has paused the
    // reason is what he gave.
    for state in ["queued", "running", "done", "failed", "canceled", "paused"] {
        let reason = if state == "paused" { "migration" } else { SECRET };
        admin.run(&format!(
            "WITH job AS (
                 INSERT INTO upkeep._job (id, kind, owner, owner_name, target, params, session, state, reason, error_message,
                                          system_identifier, database)
                 SELECT gen_random_uuid(), 'command', 'owner'::regrole, 'owner', 'SELECT', '{{\"command\": \"SELECT 1\"}}', '{{}}',
                        '{state}', '{reason}', CASE '{state}' WHEN 'failed' THEN '{SECRET}' END,
                        (pg_control_system()).system_identifier, (SELECT oid FROM pg_database WHERE datname = current_database())
                 RETURNING id)
             INSERT INTO upkeep._job_slot (job, slot, wait_reason, pid) SELECT id, 0, '{SECRET}', 1 FROM job"
        ))?;
    }
    admin.run("ALTER EXTENSION pg_upkeep UPDATE")?;
    let watcher = server.connect_as("postgres", "watcher")?;
    let mut strangers = Strangers(vec![("watcher", watcher)]);
    strangers.see_nothing()?;
    let watcher = &mut strangers.0[0].1;
    assert_eq!(watcher.text("SELECT count(*) FROM upkeep.jobs")?, "6");
    assert_eq!(watcher.text("SELECT wait_reason FROM upkeep.jobs WHERE state = 'paused'")?, "migration");
    let mut owner = server.connect_as("postgres", "owner")?;
    assert_eq!(owner.text("SELECT wait_reason FROM upkeep.jobs WHERE state = 'queued'")?, format!("waits: {SECRET}"));
    assert_eq!(owner.text("SELECT wait_reason FROM upkeep.jobs WHERE state = 'waiting'")?, format!("waits: {SECRET}"));
    Ok(())
}
