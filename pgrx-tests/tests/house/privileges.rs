//! LAWS 1 to 6, 8 and 10: who may see and do what, and as whom things run.

use anyhow::Result;
use upkeep_tests::jobs::{
    meanwhile, run_endlessly, run_in_background, run_with, sqlstate, state, wait, wait_for_error, wait_for_state,
    wait_until_nobody_works_on,
};
use upkeep_tests::session::Session;
use upkeep_tests::testing::{self, Database, wait_for_text};

/// A role that may run commands in the background.
fn author(db: &Database, name: &str) -> Result<String> {
    let role = db.role(name)?;
    db.connect()?.run(&format!("GRANT EXECUTE ON FUNCTION upkeep.run_in_background TO {role}"))?;
    Ok(role)
}

/// Statements of a role's in a job that nobody has started yet, because it is paused in the same transaction.
fn create_paused(session: &mut Session, command: &str) -> Result<String> {
    session.run("BEGIN")?;
    let job = run_in_background(session, command)?;
    session.run(&format!("SELECT upkeep.pause('{job}'); COMMIT"))?;
    Ok(job)
}

#[test]
fn other_peoples_jobs_are_neither_seen_nor_touched() -> Result<()> {
    let db = testing::database()?;
    let (owner, stranger) = (author(&db, "owner")?, author(&db, "stranger")?);
    let mut session = db.connect_as(&owner)?;
    let paused = create_paused(&mut session, "SELECT 'mine'")?;
    let failed = run_in_background(&mut session, "SELECT 'secret'::int")?;
    wait_for_state(&mut session, &failed, "failed")?;
    session.run(&format!("SELECT upkeep.alter_job('{paused}', name => 'my secret')"))?;

    let mut stranger = db.connect_as(&stranger)?;
    for view in ["jobs", "job_events", "quarantined_rows"] {
        assert_eq!(stranger.text(&format!("SELECT count(*) FROM upkeep.{view}"))?, "0", "{view}");
    }
    assert_eq!(stranger.text("SELECT running_jobs + queued_jobs + paused_jobs FROM upkeep.status")?, "0");
    for (verb, job) in [
        ("pause", &paused),
        ("resume", &paused),
        ("cancel", &paused),
        ("alter_job", &paused),
        ("retry", &failed),
        ("drop_job", &failed),
    ] {
        let error = stranger.error(&format!("SELECT upkeep.{verb}('{job}')"))?;
        assert_eq!(error.code().code(), "42501", "{verb}");
        assert!(!format!("{error:?}").contains("my secret"), "{error:?}");
    }
    assert_eq!(state(&mut session, &paused)?, "paused");
    Ok(())
}

#[test]
fn members_of_the_owner_are_the_owner() -> Result<()> {
    let db = testing::database()?;
    let (team, member) = (author(&db, "team")?, db.role("member")?);
    db.connect()?.run(&format!("GRANT {team} TO {member}"))?;
    let job = create_paused(&mut db.connect_as(&team)?, "SELECT 'secret'::int")?;
    let mut member = db.connect_as(&member)?;
    member.run(&format!("SELECT upkeep.alter_job('{job}', name => 'ours'); SELECT upkeep.resume('{job}')"))?;
    wait_for_state(&mut member, &job, "failed")?;
    let error = format!("SELECT error LIKE '%secret%' FROM upkeep.jobs WHERE id = '{job}'");
    assert_eq!(member.text(&error)?, "t");
    assert_eq!(wait_for_error(&mut member, &job)?.code().code(), "22P02");
    member.run(&format!("SELECT upkeep.drop_job('{job}')"))
}

#[test]
fn a_member_without_inheritance_is_not_the_owner() -> Result<()> {
    let db = testing::database()?;
    let (team, member) = (author(&db, "team")?, db.role("member")?);
    db.connect()?.run(&format!("ALTER ROLE {member} NOINHERIT; GRANT {team} TO {member}"))?;
    let job = create_paused(&mut db.connect_as(&team)?, "SELECT 1")?;
    let mut member = db.connect_as(&member)?;
    assert_eq!(member.text("SELECT count(*) FROM upkeep.jobs")?, "0");
    assert_eq!(sqlstate(&mut member, &format!("SELECT upkeep.cancel('{job}')"))?, "42501");
    member.run(&format!("SET ROLE {team}; SELECT upkeep.cancel('{job}')"))
}

#[test]
fn pg_monitor_sees_states_but_no_data() -> Result<()> {
    let db = testing::database()?;
    let (owner, monitor) = (author(&db, "owner")?, db.role("monitor")?);
    db.connect()?.run(&format!("GRANT pg_monitor TO {monitor}"))?;
    let job = run_in_background(&mut db.connect_as(&owner)?, "SELECT 'secret'::int")?;
    let mut monitor = db.connect_as(&monitor)?;
    wait_for_state(&mut monitor, &job, "failed")?;
    let row = format!("SELECT owner, state, error IS NULL FROM upkeep.jobs WHERE id = '{job}'");
    assert_eq!(monitor.text(&row)?, format!("{owner}|failed|t"));
    let events = format!("SELECT count(*) > 0, bool_and(detail IS NULL) FROM upkeep.job_events WHERE job = '{job}'");
    assert_eq!(monitor.text(&events)?, "t|t");
    assert_eq!(sqlstate(&mut monitor, &format!("SELECT upkeep.drop_job('{job}')"))?, "42501");
    Ok(())
}

#[test]
fn the_admin_role_may_stop_work_but_not_reword_it() -> Result<()> {
    let server = testing::server("admin").preloaded().set("upkeep.admin_role", "keepers").start()?;
    let mut superuser = server.connect("postgres")?;
    superuser.run(
        "CREATE EXTENSION pg_upkeep; CREATE ROLE keepers; CREATE ROLE keeper LOGIN IN ROLE keepers;
         CREATE ROLE author LOGIN; GRANT EXECUTE ON FUNCTION upkeep.run_in_background TO author",
    )?;
    let mut author = server.connect_as("postgres", "author")?;
    let mut keeper = server.connect_as("postgres", "keeper")?;
    let failed = run_in_background(&mut author, "SELECT 'secret'::int")?;
    wait_for_state(&mut author, &failed, "failed")?;
    let paused = create_paused(&mut author, "SELECT 1")?;
    let (running, _) = run_endlessly(&mut author)?;

    assert_eq!(keeper.text("SELECT count(*), count(error) FROM upkeep.jobs")?, "3|0");
    for (verb, job) in [("resume", &paused), ("alter_job", &paused), ("retry", &failed)] {
        assert_eq!(sqlstate(&mut keeper, &format!("SELECT upkeep.{verb}('{job}')"))?, "42501", "{verb}");
    }
    for verb in ["pause_all('x')", "resume_all()", "run_in_background('SELECT 1')"] {
        assert_eq!(sqlstate(&mut keeper, &format!("SELECT upkeep.{verb}"))?, "42501", "{verb}");
    }
    keeper.run(&format!(
        "SELECT upkeep.pause('{paused}'); SELECT upkeep.cancel('{paused}'); SELECT upkeep.drop_job('{paused}');
         SELECT upkeep.cancel('{running}'); SELECT upkeep.drop_job('{failed}')"
    ))?;
    wait_until_nobody_works_on(&mut superuser, &running)?;
    assert_eq!(author.rows("SELECT id, state FROM upkeep.jobs")?, [format!("{running}|canceled")]);
    Ok(())
}

#[test]
fn the_private_tables_are_private() -> Result<()> {
    let db = testing::database()?;
    let role = db.role("nobody")?;
    let mut session = db.connect_as(&role)?;
    let readable = "SELECT string_agg(c.relname, ' ' ORDER BY c.relname COLLATE \"C\")
                      FROM pg_class c
                     WHERE c.relnamespace = 'upkeep'::regnamespace AND c.relkind NOT IN ('i', 'I')
                       AND (has_table_privilege(c.oid, 'SELECT') OR has_any_column_privilege(c.oid, 'SELECT'))";
    // Four of the private views are what the index views, which run as whoever asks, read of the catalogs: no user's data.
    // The fifth shows texts of statements of one's own.
    assert_eq!(
        session.text(readable)?,
        "_expression_statistics _index _index_shape _index_usage_elsewhere _query_text bloated_indexes \
         deletions duplicate_indexes index_usage invalid_indexes job_events job_steps jobs \
         missing_indexes quarantined_rows query_stats redundant_indexes row_stamps schedule_runs schedules slow_queries \
         soft_delete_drift soft_delete_tables status throttle unindexed_foreign_keys unused_indexes"
    );
    let writable =
        "SELECT count(*) FROM pg_class c, unnest(ARRAY['INSERT', 'UPDATE', 'DELETE', 'TRUNCATE', 'TRIGGER']) p
                     WHERE c.relnamespace = 'upkeep'::regnamespace AND c.relkind IN ('r', 'v', 'p')
                       AND has_table_privilege(c.oid, p)";
    assert_eq!(session.text(writable)?, "0");
    assert_eq!(session.text("SELECT has_schema_privilege('upkeep', 'CREATE')")?, "f");
    assert_eq!(sqlstate(&mut session, "SELECT * FROM upkeep._job")?, "42501");
    // Every view is a barrier, and no function runs as its owner.
    let open = "SELECT count(*) FROM pg_class WHERE relnamespace = 'upkeep'::regnamespace AND relkind = 'v'
                   AND NOT coalesce('security_barrier=true' = ANY (reloptions), false)";
    assert_eq!(session.text(open)?, "0");
    let definer = "SELECT count(*) FROM pg_proc WHERE pronamespace = 'upkeep'::regnamespace AND prosecdef";
    assert_eq!(session.text(definer)?, "0");
    Ok(())
}

#[test]
fn what_is_not_everybodys_must_be_granted() -> Result<()> {
    let db = testing::database()?;
    let role = db.role("nobody")?;
    let mut session = db.connect_as(&role)?;
    let granted = [
        ("start_workers()", "SELECT upkeep.start_workers()"),
        ("stop_workers()", "SELECT upkeep.stop_workers()"),
        ("pause_all(text)", "SELECT upkeep.pause_all('why')"),
        ("resume_all()", "SELECT upkeep.resume_all()"),
        ("run_in_background(text,text,integer)", "SELECT upkeep.run_in_background('SELECT 1')"),
        (
            "schedule(text,text,text,text,interval,integer,interval,boolean,boolean,boolean)",
            "SELECT upkeep.schedule('s', '@daily', 'SELECT 1')",
        ),
        (
            "alter_schedule(text,text,text,text,interval,integer,interval,boolean,boolean,text)",
            "SELECT upkeep.alter_schedule('s', paused => true)",
        ),
        (
            "alter_schedule(uuid,text,text,text,interval,integer,interval,boolean,boolean,text)",
            "SELECT upkeep.alter_schedule(gen_random_uuid(), paused => true)",
        ),
        ("run_now(text)", "SELECT upkeep.run_now('s')"),
        ("run_now(uuid)", "SELECT upkeep.run_now(gen_random_uuid())"),
        ("unschedule(text)", "SELECT upkeep.unschedule('s')"),
        ("unschedule(uuid)", "SELECT upkeep.unschedule(gen_random_uuid())"),
        ("import_index_usage(text,jsonb)", "SELECT upkeep.import_index_usage('standby', '{}')"),
        ("reset_query_stats(oid,bigint,boolean)", "SELECT upkeep.reset_query_stats()"),
    ];
    for (name, call) in granted {
        assert_eq!(sqlstate(&mut session, call)?, "42501", "{name}");
    }
    let refused =
        "SELECT coalesce(string_agg(oid::regprocedure::text, ' ' ORDER BY oid::regprocedure::text COLLATE \"C\"), '')
                     FROM pg_proc WHERE pronamespace = 'upkeep'::regnamespace
                      AND left(proname, 1) <> '_' AND NOT has_function_privilege(oid, 'EXECUTE')";
    let mut expected: Vec<String> = granted.iter().map(|(name, _)| format!("upkeep.{name}")).collect();
    expected.sort();
    assert_eq!(session.text(refused)?, expected.join(" "));

    db.connect()?.run(&format!("GRANT EXECUTE ON FUNCTION upkeep.pause_all, upkeep.resume_all TO {role}"))?;
    assert_eq!(session.text("SELECT upkeep.pause_all('why') + upkeep.resume_all()")?, "0");
    Ok(())
}

#[test]
fn a_leaky_function_sees_no_foreign_rows() -> Result<()> {
    let db = testing::database()?;
    let (owner, thief) = (author(&db, "owner")?, db.role("thief")?);
    let mut session = db.connect_as(&owner)?;
    let job = run_with(&mut session, "SELECT 'secret'::int", "name => 'secret'")?;
    wait_for_state(&mut session, &job, "failed")?;
    let mut thief = db.connect_as(&thief)?;
    thief.run(
        "CREATE FUNCTION tell(what text) RETURNS boolean LANGUAGE plpgsql COST 0.0000001 AS
         $$BEGIN RAISE NOTICE '%', what; RETURN true; END$$",
    )?;
    for look in [
        "SELECT count(*) FROM upkeep.jobs j WHERE tell(j::text)",
        "SELECT count(*) FROM upkeep.job_events e WHERE tell(e::text)",
        "SELECT count(*) FROM upkeep.quarantined_rows r WHERE tell(r::text)",
        "SELECT count(*) FROM upkeep.jobs j JOIN (VALUES (1)) v(n) ON tell(j.name)",
    ] {
        assert_eq!(thief.text(look)?, "0");
        let told: Vec<String> = thief.notices().iter().map(|n| n.message().to_owned()).collect();
        assert!(told.is_empty(), "{look}: {told:?}");
    }
    Ok(())
}

/// LAW 6: before the library is loaded any role can set the name of a setting to come.
#[test]
fn a_setting_made_before_the_library_is_loaded_has_no_effect() -> Result<()> {
    let db = testing::database_without_preload()?;
    let (owner, thief) = (author(&db, "owner")?, author(&db, "thief")?);
    let job = run_in_background(&mut db.connect_as(&owner)?, "SELECT 1")?;
    let forge =
        format!("SET upkeep.admin_role = '{thief}'; SET upkeep.max_jobs_per_role = 0; SET upkeep.enabled = off");

    let mut session = db.connect_as(&thief)?;
    session.run(&forge)?;
    assert_eq!(sqlstate(&mut session, &format!("SELECT upkeep.cancel('{job}')"))?, "42501");
    session.notices();
    run_in_background(&mut session, "SELECT 1")?;
    assert!(
        !session.notices().iter().any(|n| n.message().contains("upkeep.enabled is off")),
        "a forged upkeep.enabled must not count"
    );
    assert_eq!(session.text("SELECT count(*) FROM upkeep.jobs WHERE owner <> current_user")?, "0");

    // From now on they are settings, and not his.
    for setting in ["admin_role", "max_jobs_per_role", "enabled", "max_workers", "databases", "job_retention"] {
        let code = sqlstate(&mut session, &format!("SELECT set_config('upkeep.{setting}', '1', false)"))?;
        assert_eq!(code, "55P02", "{setting}");
    }
    assert_eq!(sqlstate(&mut session, "SET upkeep.nonsense = 1")?, "42602");

    let mut session = db.connect_as(&thief)?;
    session.run(&format!("ALTER ROLE {thief} SET upkeep.admin_role = '{thief}'")).ok();
    let mut session = db.connect_as(&thief)?;
    assert_eq!(sqlstate(&mut session, &format!("SELECT upkeep.cancel('{job}')"))?, "42501");
    Ok(())
}

/// LAW 2: whatever text a function takes, it is evaluated as the caller, when the job is made and when it runs.
#[test]
fn every_text_is_evaluated_as_who_gave_it() -> Result<()> {
    let db = testing::database()?;
    let role = author(&db, "author")?;
    let mut superuser = db.connect()?;
    superuser.run(&format!("GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA upkeep TO {role}"))?;
    // A new function with a text argument must find its place below.
    let takers = "SELECT string_agg(DISTINCT proname || '(' || a.name || ')', ' ')
                    FROM pg_proc, unnest(proargnames, proargtypes::oid[]) WITH ORDINALITY a(name, type, place)
                   WHERE pronamespace = 'upkeep'::regnamespace AND a.type IN ('text'::regtype, 'jsonb'::regtype)";
    assert_eq!(
        superuser.text(takers)?,
        "_only_not_null(predicate) _report_section(shown) alter_job(name) alter_job(run_between) \
         alter_job(timezone) alter_schedule(command) alter_schedule(name) alter_schedule(new_name) \
         alter_schedule(schedule) alter_schedule(timezone) alter_soft_deleted(ddl) \
         backfill(assignments) backfill(condition) \
         backfill(name) backfill(on_error) backfill(options) backfill(run_between) backfill(timezone) \
         disable_soft_delete(deleted_rows) enable_row_version(mode) enable_soft_delete(hide) \
         enable_soft_delete(on_unmanaged) enable_timestamps(clock) enable_timestamps(created_change) \
         enable_userstamps(created_change) \
         explain_backfill(assignments) explain_backfill(condition) explain_backfill(options) \
         hold_deletion(reason) import_index_usage(figures) import_index_usage(node) pause_all(reason) preview_backfill(assignments) \
         preview_backfill(condition) run_in_background(command) run_in_background(name) run_now(name) \
         schedule(command) schedule(name) schedule(schedule) schedule(timezone) soft_delete(condition) \
         soft_delete(reason) top_queries(order_by) undelete(condition) unschedule(name)"
    );

    let mut session = db.connect_as(&role)?;
    session.run(
        "CREATE TABLE t (id int PRIMARY KEY, who text, spied text);
         INSERT INTO t SELECT g FROM generate_series(1, 30) g; ANALYZE t;
         CREATE TABLE spied (who name, login name);
         -- Planned functions are evaluated by the planner.
         CREATE FUNCTION spy(text) RETURNS text IMMUTABLE LANGUAGE plpgsql AS
         $$BEGIN RAISE WARNING 'spy: % %', current_user, session_user; RETURN $1; END$$;
         CREATE FUNCTION note(text) RETURNS text VOLATILE LANGUAGE plpgsql AS
         $$BEGIN INSERT INTO spied VALUES (current_user, session_user); RETURN $1; END$$",
    )?;
    session.notices();
    for call in [
        "SELECT * FROM upkeep.explain_backfill('t', $$ who = spy('x') $$, $$ who IS DISTINCT FROM spy('x') $$)",
        "SELECT * FROM upkeep.preview_backfill('t', $$ who = spy('x') $$, $$ who IS DISTINCT FROM spy('x') $$)",
        "SELECT upkeep.backfill('t', $$ who = note(spy('x')) $$, $$ who IS DISTINCT FROM spy('x') $$, name => 'a')",
        "SELECT upkeep.backfill('t', $$ spied = note(spy('x')) $$, name => 'b')",
        "SELECT upkeep.run_in_background($$ SELECT note(spy('x')) $$, name => 'c')",
    ] {
        session.run(call)?;
        let heard: Vec<String> =
            session.notices().iter().map(|n| n.message().to_owned()).filter(|m| m.starts_with("spy")).collect();
        assert!(
            call.contains("run_in_background") || !heard.is_empty(),
            "{call} evaluates nothing: the spy is useless"
        );
        for said in heard {
            assert_eq!(said, format!("spy: {role} {role}"), "{call}");
        }
        // One after the other: a row that another job updates meanwhile is evaluated again.
        for job in session.values::<String>("SELECT id::text FROM upkeep.jobs WHERE finished_at IS NULL")? {
            wait(&mut session, &job)?;
        }
    }
    session.run(
        "SELECT upkeep.schedule('s', '@yearly', $$ SELECT note('never') $$);
         SELECT upkeep.alter_schedule('s', command => $$ SELECT note(spy('x')) $$); SELECT upkeep.run_now('s')",
    )?;
    wait_for_text(&mut session, "SELECT last_status FROM upkeep.schedules", "done")?;
    assert!(session.notices().iter().all(|n| !n.message().starts_with("spy")), "only its run evaluates a command");
    assert_eq!(session.rows("SELECT DISTINCT who, login FROM spied")?, [format!("{role}|{role}")]);
    assert_eq!(session.text("SELECT count(*) FROM spied")?, "62", "2 x 30 rows and two commands");
    let log = db.server.log();
    let strangers: Vec<&str> = log.lines().filter(|l| l.contains("spy: ") && !l.contains(&role)).collect();
    assert!(strangers.is_empty(), "{strangers:#?}");

    // Texts that are only texts.
    session.run(
        "SELECT upkeep.pause_all($$'; SELECT spy('x') --$$); BEGIN;
         SELECT upkeep.run_in_background('SELECT 1', name => $$'; SELECT spy('x') --$$); ROLLBACK",
    )?;
    assert!(!session.notices().iter().any(|n| n.message().starts_with("spy")));
    Ok(())
}

/// LAW 8: a database owner is no superuser, and his settings reach every process that connects.
#[test]
fn hostile_settings_of_the_database_do_not_reach_workers() -> Result<()> {
    let db = testing::database()?;
    let (owner, victim) = (db.role("landlord")?, author(&db, "victim")?);
    let mut superuser = db.connect()?;
    superuser.run(&format!(
        "ALTER DATABASE {db} OWNER TO {owner}; CREATE ROLE nothing_{db}; GRANT nothing_{db} TO {owner}, {victim}",
        db = db.name
    ))?;
    let mut landlord = db.connect_as(&owner)?;
    landlord.run(
        "CREATE SCHEMA evil; GRANT USAGE ON SCHEMA evil TO PUBLIC;
         CREATE FUNCTION evil.caught() RETURNS boolean LANGUAGE plpgsql AS
         $$BEGIN RAISE LOG 'caught % in %', current_user, current_database(); RETURN true; END$$;
         CREATE FUNCTION evil.same(text, text) RETURNS boolean LANGUAGE sql AS 'SELECT evil.caught()';
         CREATE FUNCTION evil.same(uuid, uuid) RETURNS boolean LANGUAGE sql AS 'SELECT evil.caught()';
         CREATE FUNCTION evil.same(oid, oid) RETURNS boolean LANGUAGE sql AS 'SELECT evil.caught()';
         CREATE FUNCTION evil.same(int, int) RETURNS boolean LANGUAGE sql AS 'SELECT evil.caught()';
         CREATE OPERATOR evil.= (FUNCTION = evil.same, LEFTARG = text, RIGHTARG = text);
         CREATE OPERATOR evil.= (FUNCTION = evil.same, LEFTARG = uuid, RIGHTARG = uuid);
         CREATE OPERATOR evil.= (FUNCTION = evil.same, LEFTARG = oid, RIGHTARG = oid);
         CREATE OPERATOR evil.= (FUNCTION = evil.same, LEFTARG = int, RIGHTARG = int);
         CREATE FUNCTION evil.clock_timestamp() RETURNS timestamptz LANGUAGE sql AS
         'SELECT evil.caught(); SELECT pg_catalog.now()';
         CREATE FUNCTION evil.now() RETURNS timestamptz LANGUAGE sql AS
         'SELECT evil.caught(); SELECT pg_catalog.now()'",
    )?;
    for setting in [
        "search_path = evil, pg_catalog, public",
        &format!("role = 'nothing_{}'", db.name),
        "default_transaction_read_only = on",
        "default_transaction_isolation = 'serializable'",
        "default_transaction_deferrable = on",
        "statement_timeout = 1",
        "lock_timeout = 1",
        "idle_in_transaction_session_timeout = 1",
        "DateStyle = 'SQL, DMY'",
        "TimeZone = 'Pacific/Marquesas'",
        "IntervalStyle = 'iso_8601'",
        "row_security = off",
        "quote_all_identifiers = on",
        "standard_conforming_strings = off",
        "transform_null_equals = on",
        "array_nulls = off",
        "bytea_output = 'escape'",
        "extra_float_digits = -15",
        "xmlbinary = 'hex'",
        "enable_seqscan = off",
        "plan_cache_mode = 'force_generic_plan'",
        "client_min_messages = 'error'",
        "check_function_bodies = off",
    ] {
        // A setting that this version refuses cannot do harm.
        let _ = landlord.run(&format!("ALTER DATABASE {} SET {setting}", db.name));
    }
    superuser.run(&format!("ALTER ROLE {victim} SET default_transaction_read_only = off"))?;
    let mut session = Session::open({
        let mut config = db.server.connection(&db.name, &victim);
        config.options("-c statement_timeout=0 -c search_path=public -c role=none");
        config
    })?;
    session.run(
        "CREATE TABLE public.t (id int PRIMARY KEY, n int); INSERT INTO t SELECT g FROM generate_series(1, 100) g",
    )?;
    let command =
        run_in_background(&mut session, "INSERT INTO public.t SELECT 1000, pg_sleep(0.1) IS NULL::int::bool::int")
            .or_else(|_| run_in_background(&mut session, "INSERT INTO public.t VALUES (1000, 1)"))?;
    let done = format!("SELECT state FROM upkeep._job WHERE id OPERATOR(pg_catalog.=) '{command}'");
    let mut superuser = Session::open({
        let mut config = db.server.connection(&db.name, "postgres");
        config
            .options("-c statement_timeout=0 -c search_path=public -c role=none -c default_transaction_read_only=off");
        config
    })?;
    wait_for_text(&mut superuser, &done, "done")?;
    let fill = session.text("SELECT upkeep.backfill('public.t', 'n = id', 'n IS NULL')")?;
    let done = format!("SELECT state FROM upkeep._job WHERE id OPERATOR(pg_catalog.=) '{fill}'");
    wait_for_text(&mut superuser, &done, "done")?;
    let caught: Vec<String> =
        db.server.log().lines().filter(|l| l.contains("caught postgres")).map(str::to_owned).collect();
    assert!(caught.is_empty(), "{caught:#?}");
    Ok(())
}

#[test]
fn an_owner_who_may_no_longer_connect_fails_his_job() -> Result<()> {
    let db = testing::database()?;
    let owner = author(&db, "banned")?;
    let mut superuser = db.connect()?;
    let mut session = db.connect_as(&owner)?;

    let job = create_paused(&mut session, "SELECT 1")?;
    superuser.run(&format!("REVOKE CONNECT ON DATABASE {} FROM PUBLIC; SELECT upkeep.resume('{job}')", db.name))?;
    wait_for_state(&mut superuser, &job, "failed")?;
    let error = wait_for_error(&mut superuser, &job)?;
    assert_eq!(error.code().code(), "42501");
    assert!(error.message().contains("no longer connect"), "{}", error.message());

    // Committed first: a transaction's rows are seen by others a moment before its changes of privileges are.
    superuser.run(&format!("GRANT CONNECT ON DATABASE {} TO PUBLIC", db.name))?;
    superuser.run(&format!("SELECT upkeep.retry('{job}')"))?;
    wait(&mut superuser, &job)
}

#[test]
fn an_owner_who_has_expired_fails_his_job() -> Result<()> {
    let db = testing::database()?;
    let owner = author(&db, "expired")?;
    let mut superuser = db.connect()?;
    let job = create_paused(&mut db.connect_as(&owner)?, "SELECT 1")?;
    superuser.run(&format!("ALTER ROLE {owner} VALID UNTIL '2000-01-01'; SELECT upkeep.resume('{job}')"))?;
    wait_for_state(&mut superuser, &job, "failed")?;
    assert_eq!(wait_for_error(&mut superuser, &job)?.code().code(), "42501");
    Ok(())
}

#[test]
fn an_owner_who_was_dropped_leaves_a_failed_job() -> Result<()> {
    let db = testing::database()?;
    let owner = author(&db, "gone")?;
    let mut superuser = db.connect()?;
    let job = create_paused(&mut db.connect_as(&owner)?, "SELECT 1")?;
    let drop = format!("DROP OWNED BY {owner}; DROP ROLE {owner}");
    // His session must have ended.
    wait_for_text(&mut superuser, &format!("SELECT count(*) FROM pg_stat_activity WHERE usename = '{owner}'"), "0")?;
    superuser.run(&drop)?;
    superuser.run(&format!("SELECT upkeep.resume('{job}')"))?;
    wait_for_state(&mut superuser, &job, "failed")?;
    let error = wait_for_error(&mut superuser, &job)?;
    assert!(error.message().contains("owner was dropped"), "{}", error.message());
    let row = format!("SELECT owner FROM upkeep.jobs WHERE id = '{job}'");
    assert_eq!(superuser.text(&row)?, owner, "the view still knows his name");
    superuser.run(&format!("SELECT upkeep.drop_job('{job}')"))
}

#[test]
fn a_role_without_login_owns_jobs_from_17_on() -> Result<()> {
    let db = testing::database()?;
    let group = author(&db, "crew")?;
    let mut superuser = db.connect()?;
    superuser.run(&format!("ALTER ROLE {group} NOLOGIN; SET ROLE {group}"))?;
    if testing::tree().pg.major < 17 {
        let error = superuser.error("SELECT upkeep.run_in_background('SELECT 1')")?;
        assert_eq!(error.code().code(), "0A000");
        assert!(error.hint().unwrap_or_default().contains("LOGIN"), "{error:?}");
        return Ok(());
    }
    let job = run_in_background(&mut superuser, "SELECT 1")?;
    wait(&mut superuser, &job)
}

#[test]
fn nobody_fills_the_queue() -> Result<()> {
    let server = testing::server("limit").set("upkeep.max_jobs_per_role", 2).start()?;
    let mut superuser = server.connect("postgres")?;
    superuser.run(
        "CREATE EXTENSION pg_upkeep; CREATE ROLE greedy LOGIN; CREATE ROLE modest LOGIN;
         GRANT EXECUTE ON FUNCTION upkeep.run_in_background TO greedy, modest",
    )?;
    let mut greedy = server.connect_as("postgres", "greedy")?;
    let first = run_in_background(&mut greedy, "SELECT 1")?;
    let second = run_in_background(&mut greedy, "SELECT 1")?;
    greedy.run(&format!("SELECT upkeep.pause('{second}')"))?;
    let error = greedy.error("SELECT upkeep.run_in_background('SELECT 1')")?;
    assert_eq!(error.code().code(), "53400");
    assert!(error.detail().unwrap_or_default().contains("upkeep.max_jobs_per_role"), "{error:?}");
    run_in_background(&mut server.connect_as("postgres", "modest")?, "SELECT 1")?;
    greedy.run(&format!("SELECT upkeep.cancel('{first}')"))?;
    run_in_background(&mut greedy, "SELECT 1")?;
    assert_eq!(
        sqlstate(&mut greedy, &format!("SELECT upkeep.retry('{first}')"))?,
        "53400",
        "a retry counts like a new job"
    );
    Ok(())
}

/// LAW 9 and LAW 1: who creates the extension adopts nothing, and what he does not own stays out of it.
#[test]
fn an_existing_schema_is_not_adopted() -> Result<()> {
    let server = testing::server("schema").start()?;
    let mut session = server.connect("postgres")?;
    session.run("CREATE ROLE early LOGIN; GRANT CREATE ON DATABASE postgres TO early")?;
    server.connect_as("postgres", "early")?.run("CREATE SCHEMA upkeep")?;
    assert_eq!(sqlstate(&mut session, "CREATE EXTENSION pg_upkeep")?, "42P06");
    assert_eq!(sqlstate(&mut server.connect_as("postgres", "early")?, "CREATE EXTENSION pg_upkeep")?, "42501");
    Ok(())
}

/// A waiter must not be able to hold up a worker, or see more through locks than through views.
#[test]
fn a_stranger_cannot_block_a_job() -> Result<()> {
    let db = testing::database()?;
    let (owner, stranger) = (author(&db, "owner")?, db.role("stranger")?);
    let mut session = db.connect_as(&owner)?;
    let job = create_paused(&mut session, "SELECT 1")?;
    let mut squatter = db.connect_as(&stranger)?;
    squatter.run("BEGIN; SELECT * FROM upkeep.jobs; SELECT * FROM upkeep.status")?;
    for table in ["_job", "_job_slot", "_job_event"] {
        let mut other = db.connect_as(&stranger)?;
        assert_eq!(sqlstate(&mut other, &format!("BEGIN; LOCK TABLE upkeep.{table} IN ACCESS SHARE MODE"))?, "42501");
    }
    let mut other = db.connect_as(&stranger)?;
    other.run("SET statement_timeout = '60s'")?;
    let (_, taken) = {
        let advisory = "SELECT pg_advisory_lock(g) FROM generate_series(-100, 100) g";
        meanwhile(other, advisory).join().map_err(|_| anyhow::anyhow!("the squatter panicked"))?
    };
    taken?;
    session.run(&format!("SELECT upkeep.resume('{job}')"))?;
    wait(&mut session, &job)
}

#[test]
fn who_lacks_a_grant_is_told_which() -> Result<()> {
    let db = testing::database()?;
    let role = db.role("ordinary")?;
    let (mut admin, mut session) = (db.connect()?, db.connect_as(&role)?);
    let schedule = "'s', '@daily', 'SELECT 1'";
    for (call, name, signature) in [
        ("run_in_background('SELECT 1')".to_owned(), "run_in_background", "upkeep.run_in_background"),
        (format!("schedule({schedule})"), "schedule", "upkeep.schedule"),
        ("run_now('s')".to_owned(), "run_now", "upkeep.run_now(text)"),
        (
            "alter_schedule('s'::text, retries => 1)".to_owned(),
            "alter_schedule",
            "upkeep.alter_schedule(text,text,text,text,interval,integer,interval,boolean,boolean,text)",
        ),
        ("unschedule('s'::text)".to_owned(), "unschedule", "upkeep.unschedule(text)"),
        ("pause_all('why')".to_owned(), "pause_all", "upkeep.pause_all"),
        ("resume_all()".to_owned(), "resume_all", "upkeep.resume_all"),
        ("reset_query_stats()".to_owned(), "reset_query_stats", "upkeep.reset_query_stats"),
    ] {
        let hint = format!("GRANT EXECUTE ON FUNCTION {signature} TO {role};");
        // However it is called, and again.
        for statement in [
            format!("SELECT upkeep.{call}"),
            format!("DO $x$BEGIN PERFORM upkeep.{call}; END$x$"),
            format!("SELECT count(*) FROM generate_series(1, 2) WHERE upkeep.{call} IS NULL"),
            format!("SELECT upkeep.{call}"),
        ] {
            let error = session.error(&statement)?;
            assert_eq!(error.code().code(), "42501", "{statement}");
            assert_eq!(error.message(), format!("permission denied for function {name}"));
            assert_eq!(error.hint().map(|hint| hint.replace("pg_catalog.", "")), Some(hint.clone()), "{statement}");
        }
        // What is said is what helps.
        admin.run(session.error(&format!("SELECT upkeep.{call}"))?.hint().unwrap_or_default())?;
        session.run(&format!("BEGIN; SELECT upkeep.{call}; COMMIT"))?;
    }
    // Those of others keep the server's words, whatever they are called.
    admin.run(
        "CREATE FUNCTION schedule(text) RETURNS int LANGUAGE plpgsql AS 'BEGIN RETURN 1; END';
         REVOKE EXECUTE ON FUNCTION schedule(text) FROM PUBLIC",
    )?;
    let error = session.error("SELECT schedule('x')")?;
    assert_eq!((error.code().code(), error.hint()), ("42501", None));
    // The functions come and go with the extension.
    admin.run("DROP EXTENSION pg_upkeep CASCADE; CREATE EXTENSION pg_upkeep")?;
    let error = session.error("SELECT upkeep.resume_all()")?;
    assert_eq!(error.hint(), Some(&*format!("GRANT EXECUTE ON FUNCTION upkeep.resume_all TO {role};")));
    Ok(())
}

/// An update changes functions that get more arguments or columns where they are: who might call them may, nobody else, and a dump has
/// that. Default privileges change nothing, views that call them go on, and nobody is bound to them who was not.
#[test]
fn who_may_call_a_function_stays_so_over_an_update() -> Result<()> {
    let db = testing::database()?;
    let (friend, stranger) = (db.role("friend")?, db.role("stranger")?);
    let mut session = db.connect()?;
    session.run("DROP EXTENSION pg_upkeep; CREATE EXTENSION pg_upkeep VERSION '0.8.0'")?;
    session.run(&format!(
        "REVOKE ALL ON FUNCTION upkeep.backfill FROM PUBLIC;
         GRANT EXECUTE ON FUNCTION upkeep.backfill TO {friend} WITH GRANT OPTION;
         CREATE TABLE t (id int PRIMARY KEY, n int);
         CREATE VIEW history AS SELECT * FROM upkeep.query_history();
         CREATE VIEW filling AS SELECT upkeep.backfill('t', 'n = 1', 'n IS NULL', paused => true) AS job;
         CREATE FUNCTION hurry(job uuid) RETURNS uuid LANGUAGE sql
             BEGIN ATOMIC SELECT upkeep.alter_job(job, batch_time => '20 ms'); END;
         ALTER DEFAULT PRIVILEGES GRANT EXECUTE ON FUNCTIONS TO {stranger};
         ALTER DEFAULT PRIVILEGES REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC;
         ALTER EXTENSION pg_upkeep UPDATE;
         ALTER DEFAULT PRIVILEGES REVOKE EXECUTE ON FUNCTIONS FROM {stranger};
         ALTER DEFAULT PRIVILEGES GRANT EXECUTE ON FUNCTIONS TO PUBLIC"
    ))?;
    let mut may = |role: &str, function: &str, privilege: &str| {
        session.text(&format!("SELECT has_function_privilege('{role}', 'upkeep.{function}'::regproc, '{privilege}')"))
    };
    assert_eq!(may(&friend, "backfill", "EXECUTE WITH GRANT OPTION")?, "t");
    assert_eq!(may(&stranger, "backfill", "EXECUTE")?, "f");
    for function in ["alter_job", "query_history"] {
        assert_eq!(may(&friend, function, "EXECUTE")?, "t", "{function} is everybody's");
    }
    let own = "SELECT count(*) FROM pg_init_privs i JOIN pg_proc p ON p.oid = i.objoid WHERE p.proname = 'backfill'";
    assert_eq!(session.text(own)?, "0", "a dump would not have what was granted");
    session.run("SELECT * FROM history")?;
    session.run("SELECT hurry(job) FROM filling")?;
    let columns = "SELECT (SELECT count(*) FROM pg_attribute WHERE attrelid = 'history'::regclass AND attnum > 0)
                        - (SELECT cardinality(proallargtypes) - pronargs FROM pg_proc WHERE oid = 'upkeep.query_history'::regproc)";
    assert_eq!(session.text(columns)?, "-1", "whoever asks anew sees one more");
    session.run("SELECT pg_get_viewdef('history'::regclass), pg_get_viewdef('filling'::regclass)")?;
    session.run(&format!("REVOKE ALL ON FUNCTION upkeep.backfill FROM {friend}"))?;
    let bound = format!(
        "SELECT s.deptype::text || ' ' || pg_describe_object(s.classid, s.objid, s.objsubid) FROM pg_shdepend s
          WHERE s.refobjid IN ('{friend}'::regrole, '{stranger}'::regrole) AND s.classid = 'pg_proc'::regclass"
    );
    assert_eq!(session.rows(&bound)?, [""; 0]);
    Ok(())
}

/// So a dump of an older version does: what it closes is closed.
#[test]
fn the_signature_of_an_older_version_gives_and_takes_privileges() -> Result<()> {
    let db = testing::database()?;
    let role = db.role("nobody")?;
    let mut session = db.connect()?;
    // As a dump has it.
    session.run("SELECT pg_catalog.set_config('search_path', '', false)")?;
    let backfill =
        "FUNCTION upkeep.backfill(target regclass, assignments text, condition text, name text, workers integer,
                    batch_time interval, on_error text, paused boolean, if_not_exists boolean, options jsonb,
                    fill_new_rows boolean, run_between text, timezone text, max_replica_lag interval,
                    max_replica_lag_bytes bigint, max_wal_rate integer, throttle_work_ratio double precision)";
    let alter_job = "ROUTINE upkeep.alter_job(uuid, interval, integer, text, text, text, interval, bigint, integer,
                     double precision)";
    for (object, name) in [(backfill, "backfill"), (alter_job, "alter_job")] {
        let may = format!("SELECT has_function_privilege('{role}', 'upkeep.{name}'::regproc, 'EXECUTE')");
        session.run(&format!("REVOKE ALL ON {object} FROM PUBLIC"))?;
        assert_eq!(session.text(&may)?, "f");
        session.run(&format!("DO $do$BEGIN EXECUTE $g$GRANT EXECUTE ON {object} TO {role}$g$; END$do$"))?;
        assert_eq!(session.text(&may)?, "t");
    }
    // All of its arguments, but for the one that has come since: there is only one such function.
    session.run("CREATE TABLE public.t (id int PRIMARY KEY, n int)")?;
    session.run(
        "SELECT upkeep.backfill('public.t', 'n = 1', 'n IS NULL', NULL, 1, NULL, 'quarantine', true, false, '{}', false, NULL, NULL,
                                NULL, NULL, NULL, NULL)",
    )?;
    // What is not ours, or never was, is the server's to refuse.
    let error = session.error("GRANT EXECUTE ON FUNCTION upkeep.backfill(int) TO PUBLIC")?;
    assert_eq!(error.code().code(), "42883");
    Ok(())
}
