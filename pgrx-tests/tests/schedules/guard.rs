//! Schedules among people, copies and crashes: who may do what, and what does not run where it should not.

use anyhow::Result;
use upkeep_tests::cluster::{Cluster, Stop};
use upkeep_tests::jobs::{ENDLESS, sqlstate, wait_until_asleep};
use upkeep_tests::schedules::{RARELY, describe, run_now, schedule, schedule_with, wait_for_runs, wait_until_ended};
use upkeep_tests::session::Session;
use upkeep_tests::testing::{self, wait_for_text, workers};

const EVERYTHING: &str = "GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA upkeep TO";

fn preloaded(name: &str) -> Result<(Cluster, Session)> {
    let server = testing::server(name).preloaded().start()?;
    let session = new_database(&server, "shop")?;
    Ok((server, session))
}

fn new_database(server: &Cluster, name: &str) -> Result<Session> {
    let mut session = server.with_extension(name)?;
    session.run("CREATE TABLE t (n int)")?;
    Ok(session)
}

#[test]
fn schedules_are_to_be_granted() -> Result<()> {
    let db = testing::database()?;
    let role = db.role("plain")?;
    let mut admin = db.connect()?;
    let id = schedule(&mut admin, "s", RARELY, "SELECT 1")?;
    let mut plain = db.connect_as(&role)?;
    for call in [
        "schedule('x', '@daily', 'SELECT 1')".to_owned(),
        "unschedule('s')".to_owned(),
        format!("unschedule('{id}'::uuid)"),
        "alter_schedule('s', retries => 1)".to_owned(),
        format!("alter_schedule('{id}'::uuid, retries => 1)"),
        "run_now('s')".to_owned(),
        format!("run_now('{id}'::uuid)"),
    ] {
        assert_eq!(sqlstate(&mut plain, &format!("SELECT upkeep.{call}"))?, "42501", "{call}");
    }
    for table in ["_schedule", "_schedule_run", "_schedule_run_id_seq"] {
        assert_eq!(sqlstate(&mut plain, &format!("SELECT * FROM upkeep.{table}"))?, "42501", "{table}");
    }
    assert_eq!(plain.text("SELECT (SELECT count(*) FROM upkeep.schedules) + count(*) FROM upkeep.schedule_runs")?, "0");
    Ok(())
}

#[test]
fn others_see_no_commands_and_change_nothing() -> Result<()> {
    let server = testing::server("guard").preloaded().set("upkeep.admin_role", "keepers").start()?;
    let mut admin = new_database(&server, "shop")?;
    admin.run(&format!(
        "CREATE ROLE owner LOGIN; CREATE ROLE member LOGIN IN ROLE owner; CREATE ROLE other LOGIN;
         CREATE ROLE keepers; CREATE ROLE keeper LOGIN IN ROLE keepers; CREATE ROLE watcher LOGIN IN ROLE pg_monitor;
         {EVERYTHING} owner, member, other, keeper, watcher"
    ))?;
    let mut owner = server.connect_as("shop", "owner")?;
    let id = schedule(&mut owner, "secret", RARELY, "SELECT 'hunter2'::int")?;
    assert!(run_now(&mut owner, "secret")?.contains("hunter2"));

    let shown = "SELECT name, command, last_status, last_error,
                        (SELECT string_agg(concat_ws(' ', status, error), ',') FROM upkeep.schedule_runs)
                   FROM upkeep.schedules";
    let mut member = server.connect_as("shop", "member")?;
    assert!(member.text(shown)?.matches("hunter2").count() >= 3, "members of the owner are the owner");
    for stranger in ["keeper", "watcher"] {
        let mut session = server.connect_as("shop", stranger)?;
        assert_eq!(session.text(shown)?, "secret||failed||failed", "{stranger}");
        // A cheap function in WHERE sees nothing that the view hides (LAW 5).
        session.notices();
        session.run(
            "CREATE FUNCTION pg_temp.peek(text) RETURNS bool LANGUAGE plpgsql COST 0.0000001 AS
             $$BEGIN RAISE NOTICE '%', $1; RETURN true; END$$;
             SELECT FROM upkeep.schedules WHERE pg_temp.peek(command); SELECT FROM upkeep.schedule_runs WHERE pg_temp.peek(error)",
        )?;
        assert!(session.notices().iter().all(|n| !n.message().contains("hunter2")), "{stranger}");
    }
    let mut other = server.connect_as("shop", "other")?;
    assert!(other.rows(shown)?.is_empty());

    for call in [
        format!("unschedule('{id}'::uuid)"),
        format!("run_now('{id}'::uuid)"),
        format!("alter_schedule('{id}'::uuid, paused => true)"),
    ] {
        assert_eq!(sqlstate(&mut other, &format!("SELECT upkeep.{call}"))?, "42501", "{call}");
    }
    assert_eq!(
        sqlstate(&mut other, "SELECT upkeep.unschedule('secret')")?,
        "42704",
        "a name says nothing to a stranger"
    );

    let mut keeper = server.connect_as("shop", "keeper")?;
    for call in [
        "run_now('secret')".to_owned(),
        format!("run_now('{id}'::uuid)"),
        format!("alter_schedule('{id}'::uuid, command => 'SELECT 1')"),
        format!("alter_schedule('{id}'::uuid, paused => true, retries => 1)"),
        format!("alter_schedule('{id}'::uuid, paused => false)"),
    ] {
        let state = sqlstate(&mut keeper, &format!("SELECT upkeep.{call}"))?;
        assert!(["42501", "42704"].contains(&&*state), "{call}: {state}");
    }
    assert_eq!(keeper.text("SELECT upkeep.alter_schedule('secret', paused => true)")?, id);
    assert_eq!(owner.text("SELECT active FROM upkeep.schedules")?, "f");
    assert_eq!(member.text("SELECT upkeep.alter_schedule('secret', paused => false)")?, id);

    // A name is unique per owner: it means one's own, or the only one.
    let mine = schedule(&mut other, "secret", RARELY, "SELECT 1")?;
    assert_eq!(other.text("SELECT upkeep.alter_schedule('secret')")?, mine);
    let error = admin.error("SELECT upkeep.unschedule('secret')")?;
    assert_eq!(error.code().code(), "22023");
    assert!(error.hint().unwrap_or_default().contains("upkeep.schedules"), "{error:?}");
    assert_eq!(keeper.text(&format!("SELECT upkeep.unschedule('{id}'::uuid)"))?, id);
    assert_eq!(admin.text("SELECT upkeep.unschedule('secret')")?, mine);
    Ok(())
}

#[test]
fn whoever_sets_it_off_it_runs_as_its_owner() -> Result<()> {
    let db = testing::database()?;
    let (owner, member) = (db.role("owner")?, db.role("member")?);
    let mut admin = db.connect()?;
    admin.run(&format!(
        "GRANT {owner} TO {member}; {EVERYTHING} {owner}, {member};
         CREATE TABLE who (name name, login name); GRANT INSERT ON who TO PUBLIC; CREATE TABLE private (n int)"
    ))?;
    let mut session = db.connect_as(&owner)?;
    schedule(&mut session, "look", RARELY, "INSERT INTO who VALUES (current_user, session_user)")?;
    let mut member = db.connect_as(&member)?;
    member.run(
        "SELECT upkeep.alter_schedule('look', command => 'INSERT INTO public.who SELECT current_user, session_user')",
    )?;
    assert_eq!(run_now(&mut member, "look")?, "done|1|1|");
    assert_eq!(run_now(&mut admin, "look")?, "done|1|1|");
    assert_eq!(admin.text("SELECT count(*), min(name), max(login) FROM who")?, format!("2|{owner}|{owner}"));
    schedule(&mut session, "steal", RARELY, "SELECT * FROM private")?;
    assert!(run_now(&mut admin, "steal")?.starts_with("failed|1|0|permission denied"));
    Ok(())
}

#[test]
fn a_schedule_stops_when_its_owner_is_dropped() -> Result<()> {
    let db = testing::database()?;
    let role = db.role("leaver")?;
    let mut admin = db.connect()?;
    admin.run(&format!("{EVERYTHING} {role}"))?;
    let mut session = db.connect_as(&role)?;
    schedule(&mut session, "s", "1 second", "SELECT 1")?;
    wait_for_runs(&mut session, "s", "count(*) FILTER (WHERE status = 'done') > 0", "t")?;
    drop(session);
    admin.run(&format!("DROP OWNED BY {role}; DROP ROLE {role}"))?;
    wait_for_text(&mut admin, "SELECT active, paused_reason FROM upkeep.schedules", "f|the owner was dropped")?;
    assert_eq!(admin.text("SELECT owner FROM upkeep.schedules")?, role, "by the name it had");
    admin.run("SELECT upkeep.unschedule('s')")
}

#[test]
fn an_owner_who_may_not_connect_any_more_fails_visibly() -> Result<()> {
    let (_server, mut admin) = preloaded("connect")?;
    admin.run(&format!("CREATE ROLE guest LOGIN; {EVERYTHING} guest; SET ROLE guest"))?;
    schedule(&mut admin, "s", RARELY, "SELECT 1")?;
    admin.run("RESET ROLE; REVOKE CONNECT ON DATABASE shop FROM PUBLIC")?;
    assert_eq!(run_now(&mut admin, "s")?, "failed|1||the job's owner may no longer connect to this database");
    admin.run("GRANT CONNECT ON DATABASE shop TO guest")?;
    assert_eq!(run_now(&mut admin, "s")?, "done|1|1|");
    Ok(())
}

/// Held, says why, and waits for an administrator, although somebody has looked around.
fn assert_restored(session: &mut Session) -> Result<()> {
    let job = session.text("SELECT upkeep.run_in_background('SELECT 1')")?;
    session.run(&format!("CALL upkeep.wait('{job}')"))?;
    assert_eq!(
        session.text("SELECT active, paused_reason, next_run IS NULL FROM upkeep.schedules WHERE name = 's'")?,
        "f|restored|t"
    );
    for verb in ["run_now('s')", "alter_schedule('s', paused => false)"] {
        let error = session.error(&format!("SELECT upkeep.{verb}"))?;
        assert_eq!(error.code().code(), "55000", "{verb}");
        assert!(error.hint().unwrap_or_default().contains("resume_all"), "{verb}");
    }
    Ok(())
}

#[test]
fn copies_do_not_wake_up() -> Result<()> {
    let (here, mut session) = preloaded("here")?;
    let elsewhere = testing::server("elsewhere").preloaded().own_identity().start()?;
    for server in [&here, &elsewhere] {
        server.connect("postgres")?.run("CREATE ROLE owner")?;
    }
    session.run(&format!("ALTER ROLE owner LOGIN; GRANT INSERT ON t TO owner; {EVERYTHING} owner"))?;
    elsewhere.connect("postgres")?.run("ALTER ROLE owner LOGIN")?;
    let mut owner = here.connect_as("shop", "owner")?;
    schedule(&mut owner, "s", "1 second", "INSERT INTO t VALUES (1)")?;
    wait_for_runs(&mut session, "s", "count(*) FILTER (WHERE status = 'done') > 0", "t")?;
    schedule_with(&mut session, "paused", "1 second", "INSERT INTO t VALUES (2)", "paused => true")?;
    let dump = here.dump("shop")?;
    drop(owner);
    drop(session);
    here.connect("postgres")?.run("CREATE DATABASE copy TEMPLATE shop")?;
    elsewhere.restore("shop", &dump)?;
    for (server, name) in [(&elsewhere, "shop"), (&here, "copy")] {
        let mut copy = server.connect(name)?;
        assert_restored(&mut copy)?;
        let before = copy.text("SELECT count(*) FROM t")?;
        assert_restored(&mut copy)?;
        assert_eq!(copy.text("SELECT count(*) FROM t")?, before);
        assert!(copy.value::<i32>("SELECT upkeep.resume_all()")? >= 2);
        wait_for_text(&mut copy, &format!("SELECT count(*) > {before} FROM t WHERE n = 1"), "t")?;
        assert_eq!(copy.text("SELECT count(*) FROM t WHERE n = 2")?, "0", "paused by somebody, paused it stays");
        assert_eq!(copy.text("SELECT owner FROM upkeep.schedules WHERE name = 's'")?, "owner");
        // Its history came along, and new runs go after it.
        wait_for_text(&mut copy, "SELECT count(*) > 1 FROM upkeep.schedule_runs WHERE status = 'done'", "t")?;
    }
    Ok(())
}

#[test]
fn a_standby_refuses_and_runs_nothing() -> Result<()> {
    let (mut primary, mut session) = preloaded("primary")?;
    schedule(&mut session, "s", "1 second", "INSERT INTO t VALUES (1)")?;
    wait_for_runs(&mut session, "s", "count(*) FILTER (WHERE status = 'done') > 0", "t")?;
    let standby = primary.standby("standby")?;
    let mut there = standby.connect("shop")?;
    for call in [
        "schedule('x', '@daily', 'SELECT 1')",
        "unschedule('s')",
        "alter_schedule('s', paused => true)",
        "run_now('s')",
        "pause_all('x')",
    ] {
        let error = there.error(&format!("SELECT upkeep.{call}"))?;
        assert_eq!(error.code().code(), "25006", "{call}");
        assert!(error.message().ends_with("on a standby"), "{}", error.message());
    }
    for kind in ["launcher", "scheduler", "executor"] {
        assert!(workers(&mut there, kind)?.is_empty(), "{kind}");
    }
    assert_eq!(there.text("SELECT active FROM upkeep.schedules")?, "t", "it can be looked at");

    primary.stop(Stop::Fast)?;
    standby.promote()?;
    let before = there.text("SELECT count(*) FROM t")?;
    wait_for_text(&mut there, &format!("SELECT count(*) > {before} FROM t"), "t")
}

#[test]
fn crashes_repeat_nothing_and_lose_no_schedule() -> Result<()> {
    let (mut server, mut session) = preloaded("crash")?;
    session.run("CREATE PROCEDURE half() LANGUAGE plpgsql AS $$BEGIN INSERT INTO t VALUES (1); COMMIT; PERFORM pg_sleep(3600); END$$")?;
    schedule(&mut session, "half", RARELY, "CALL half()")?;
    schedule(&mut session, "tick", "1 second", "SELECT 1")?;
    let started = |session: &mut Session| -> Result<String> {
        let job = session.text("SELECT upkeep.run_now('half')")?;
        wait_until_asleep(session, &job)?;
        Ok(job)
    };

    // A scheduler that is killed takes the server's other processes with it.
    let job = started(&mut session)?;
    wait_for_text(
        &mut session,
        "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'pg_upkeep scheduler'",
        "1",
    )?;
    let scheduler = workers(&mut session, "scheduler")?[0];
    let mut session = server.kill_and_recover(scheduler, "shop")?;
    wait_until_ended(&mut session, &job)?;
    let ended = format!("SELECT status, error FROM upkeep.schedule_runs WHERE job = '{job}'");
    assert_eq!(session.text(&ended)?, "failed|the command was interrupted and may be done in part");
    assert_eq!(session.text("SELECT count(*) FROM t")?, "1", "not begun again");

    // The whole server, as a power failure would.
    let job = started(&mut session)?;
    server.crash()?;
    server.start()?;
    let mut session = server.connect("shop")?;
    wait_until_ended(&mut session, &job)?;
    assert_eq!(
        session.text(&ended.replace(&ended[ended.len() - 37..ended.len() - 1], &job))?,
        "failed|the command was interrupted and may be done in part"
    );
    assert_eq!(session.text("SELECT count(*) FROM t")?, "2");
    let more = session.text(
        "SELECT 'count(*) FILTER (WHERE status = ''done'') > ' || count(*) \
         FROM upkeep.schedule_runs WHERE name = 'tick' AND status = 'done'",
    )?;
    wait_for_runs(&mut session, "tick", &more, "t")?;
    let once = "SELECT count(*) = count(DISTINCT due_at) FROM upkeep.schedule_runs WHERE name = 'tick' AND status <> 'skipped'";
    assert_eq!(session.text(once)?, "t", "{}", describe(&mut session));

    // With retries allowed the same is begun again: whoever allows them says so.
    session.run("SELECT upkeep.alter_schedule('half', retries => 1, retry_backoff => '0')")?;
    let job = started(&mut session)?;
    let executor = wait_until_asleep(&mut session, &job)?;
    let mut session = server.kill_and_recover(executor, "shop")?;
    wait_until_asleep(&mut session, &job)?;
    assert_eq!(session.text("SELECT count(*) FROM t")?, "4");
    Ok(())
}

#[test]
fn a_database_with_schedules_is_dropped_at_once() -> Result<()> {
    let (server, mut session) = preloaded("drop")?;
    schedule(&mut session, "s", "1 second", ENDLESS)?;
    wait_for_runs(&mut session, "s", "count(*) > 0", "t")?;
    drop(session);
    let mut admin = server.connect("postgres")?;
    admin.run("DROP DATABASE shop")?;
    admin.run("CREATE EXTENSION pg_upkeep")?;
    // The one after it with the same name starts with nothing.
    let mut session = new_database(&server, "shop")?;
    assert_eq!(session.text("SELECT count(*) FROM upkeep.schedules")?, "0");
    Ok(())
}

#[test]
fn dropping_the_extension_ends_it() -> Result<()> {
    let (_server, mut session) = preloaded("extension")?;
    schedule(&mut session, "s", "1 second", "INSERT INTO t VALUES (1)")?;
    wait_for_text(&mut session, "SELECT count(*) > 0 FROM t", "t")?;
    // The scheduler reads one of our tables and waits for another: dropping both must not end in a deadlock.
    session.run("BEGIN; LOCK upkeep._job")?;
    let waiting = "SELECT count(*) > 0 FROM pg_locks WHERE relation = 'upkeep._job'::regclass AND NOT granted";
    wait_for_text(&mut session, waiting, "t")?;
    session.run("DROP EXTENSION pg_upkeep; COMMIT; CREATE EXTENSION pg_upkeep")?;
    assert_eq!(session.text("SELECT count(*) FROM upkeep.schedules")?, "0");
    schedule(&mut session, "s", RARELY, "SELECT 1")?;
    assert_eq!(run_now(&mut session, "s")?, "done|1|1|");
    Ok(())
}
