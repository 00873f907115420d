//! `upkeep.run_in_background`: one command of the caller's, run by a worker as a client would send it.

use anyhow::Result;
use upkeep_tests::cluster::Stop;
use upkeep_tests::jobs::{
    ENDLESS, events, join, meanwhile_error, run_endlessly, run_in_background, run_with, sqlstate, state,
    top_level_commands_run, wait, wait_for_error, wait_for_state, wait_until_asleep, wait_until_nobody_works_on,
};
use upkeep_tests::session::Session;
use upkeep_tests::testing::{self, wait_for_text, workers};

#[test]
fn commands_that_refuse_a_transaction_block_run() -> Result<()> {
    let db = testing::database()?;
    let mut session = db.connect()?;
    top_level_commands_run(&mut session, |session, command| {
        let job = run_in_background(session, command)?;
        wait(session, &job)
    })
}

#[test]
fn the_view_shows_what_became_of_a_command() -> Result<()> {
    let db = testing::database()?;
    let mut session = db.connect()?;
    session.run("CREATE TABLE t (n int)")?;
    let job = run_with(&mut session, "INSERT INTO t SELECT generate_series(1, 5)", "name => 'five'")?;
    wait(&mut session, &job)?;
    let row = format!(
        "SELECT kind, target, name, state, percent, error, owner, started_at <= finished_at, error IS NULL
           FROM upkeep.jobs WHERE id = '{job}'"
    );
    assert_eq!(session.text(&row)?, "command|INSERT|five|done|100||postgres|t|t");
    let completed = format!("SELECT detail FROM upkeep.job_events WHERE job = '{job}' AND event = 'completed'");
    assert_eq!(session.text(&completed)?, "INSERT, 5 rows");
    assert_eq!(session.text("SELECT count(*) FROM t")?, "5");
    Ok(())
}

#[test]
fn a_command_runs_as_its_creator_with_his_settings() -> Result<()> {
    let db = testing::database()?;
    let role = db.role("author")?;
    let mut admin = db.connect()?;
    admin.run(&format!(
        "GRANT EXECUTE ON FUNCTION upkeep.run_in_background TO {role};
         CREATE SCHEMA \"Über die\" AUTHORIZATION {role}"
    ))?;
    let mut author = db.connect_as(&role)?;
    author.run(
        "SET search_path = \"Über die\", public; SET TimeZone = 'Pacific/Marquesas'; SET DateStyle = 'German';
         CREATE TABLE \"Über die\".seen (who name, login name, path text, zone text, style text, written text)",
    )?;
    let job = run_in_background(
        &mut author,
        "INSERT INTO seen SELECT current_user, session_user, current_setting('search_path'),
           current_setting('TimeZone'), current_setting('DateStyle'), '2026-02-01'::date",
    )?;
    wait(&mut author, &job)?;
    let seen = author.text("SELECT * FROM seen")?;
    assert_eq!(seen, format!("{role}|{role}|\"Über die\", public|Pacific/Marquesas|German, DMY|01.02.2026"));
    Ok(())
}

/// What a backslash means is a setting of the session that the text comes from.
#[test]
fn strings_are_read_as_their_author_wrote_them() -> Result<()> {
    let db = testing::database()?;
    let mut session = db.connect()?;
    session.run(
        "CREATE TABLE written (what text); SET standard_conforming_strings = off; SET escape_string_warning = off",
    )?;
    let job = session.text(r"SELECT upkeep.run_in_background($$INSERT INTO written VALUES ('it\'s C:\\x')$$)")?;
    wait(&mut session, &job)?;
    assert_eq!(session.text("SELECT what FROM written")?, r"it's C:\x");
    Ok(())
}

#[test]
fn set_role_decides_who_the_creator_is() -> Result<()> {
    let db = testing::database()?;
    let role = db.role("other")?;
    let mut session = db.connect()?;
    session.run(&format!(
        "CREATE TABLE seen (who name, login name); GRANT INSERT ON seen TO {role};
         GRANT EXECUTE ON FUNCTION upkeep.run_in_background TO {role}; SET ROLE {role}"
    ))?;
    let job = run_in_background(&mut session, "INSERT INTO seen VALUES (current_user, session_user)")?;
    wait(&mut session, &job)?;
    session.run("RESET ROLE")?;
    assert_eq!(session.text("SELECT * FROM seen")?, format!("{role}|{role}"));
    Ok(())
}

#[test]
fn a_commands_error_arrives_with_its_code_detail_and_hint() -> Result<()> {
    let db = testing::database()?;
    let mut session = db.connect()?;
    session.run("CREATE TABLE t (n int CONSTRAINT one_of_each UNIQUE); INSERT INTO t VALUES (1)")?;

    let job = run_in_background(&mut session, "INSERT INTO t VALUES (1)")?;
    let error = wait_for_error(&mut session, &job)?;
    assert_eq!(error.code().code(), "23505");
    assert_eq!(error.message(), "duplicate key value violates unique constraint \"one_of_each\"");
    assert_eq!(error.detail(), Some("Key (n)=(1) already exists."));
    let shown = format!("SELECT state, error FROM upkeep.jobs WHERE id = '{job}'");
    assert_eq!(session.text(&shown)?, format!("failed|{}", error.message()));

    let job = run_in_background(
        &mut session,
        "DO $$BEGIN RAISE 'no such luck' USING ERRCODE = 'ABC01', DETAIL = 'all of it', HINT = 'try again'; END$$",
    )?;
    let error = wait_for_error(&mut session, &job)?;
    assert_eq!((error.code().code(), error.message()), ("P0001", "no such luck"));
    assert_eq!(error.hint(), Some("try again"));
    let detail = error.detail().unwrap_or_default();
    assert!(detail.contains("all of it") && detail.contains("ABC01"), "{detail}");
    Ok(())
}

/// A client would be shown them; the log gets what it would have got from him.
#[test]
fn what_a_command_says_is_in_the_jobs_events() -> Result<()> {
    let server = testing::server("notices").preloaded().set("log_min_messages", "error").start()?;
    let mut session = server.connect("postgres")?;
    session.run(
        "CREATE EXTENSION pg_upkeep; CREATE TABLE t (id int); INSERT INTO t VALUES (1);
         CREATE FUNCTION talk(many int) RETURNS void LANGUAGE plpgsql AS
         'BEGIN FOR i IN 1..many LOOP RAISE NOTICE ''step %'', i; END LOOP; RAISE LOG ''for the log''; RAISE DEBUG ''for nobody'';
          RAISE WARNING ''%'', repeat(''ä'', 300); IF many > 11 THEN RAISE EXCEPTION ''too many''; END IF; END'",
    )?;
    fn said(session: &mut Session, command: &str) -> Result<String> {
        let job = session.text(&format!("SELECT upkeep.run_in_background('{command}')"))?;
        let ended = format!("SELECT finished_at IS NOT NULL FROM upkeep.jobs WHERE id = '{job}'");
        wait_for_text(session, &ended, "t")?;
        let said = format!("SELECT detail FROM upkeep.job_events WHERE job = '{job}' AND event = 'messages'");
        Ok(session.rows(&said)?.concat())
    }
    let warning = format!("WARNING: {}", "ä".repeat(200));
    assert_eq!(said(&mut session, "SELECT talk(2)")?, format!("NOTICE: step 1\nNOTICE: step 2\n{warning}"));
    let last: Vec<String> = (4..=12).map(|step| format!("NOTICE: step {step}")).collect();
    assert_eq!(said(&mut session, "SELECT talk(12)")?, format!("(3 earlier ones)\n{}\n{warning}", last.join("\n")));
    assert!(said(&mut session, "VACUUM (VERBOSE) t")?.contains("INFO: "));
    assert_eq!(said(&mut session, "SELECT 1")?, "");
    // So are those of its parallel workers.
    session.run(
        "CREATE TABLE many AS SELECT g AS id FROM generate_series(1, 20000) g; ANALYZE many;
         CREATE FUNCTION noise(n int) RETURNS int LANGUAGE plpgsql PARALLEL SAFE AS
         'BEGIN IF n % 2000 = 0 THEN RAISE NOTICE ''at %'', n; END IF; RETURN 1; END';
         CREATE FUNCTION loudly() RETURNS void LANGUAGE plpgsql
         SET parallel_setup_cost = 0 SET parallel_tuple_cost = 0 SET min_parallel_table_scan_size = 0 \
         SET parallel_leader_participation = off AS
         'BEGIN PERFORM count(noise(id)) FROM many WHERE noise(id) > 0 AND id <= 20000; END'",
    )?;
    let loud = said(&mut session, "SELECT loudly()")?;
    assert_eq!(loud.matches("NOTICE: at ").count(), 10, "{loud}");
    assert!(loud.starts_with("(10 earlier ones)"), "{loud}");
    // The worker's own log is as it was set.
    let log = server.log();
    assert!(log.contains("for the log") && log.contains("too many"), "{log}");
    assert!(!log.contains("NOTICE:") && !log.contains("INFO:") && !log.contains("WARNING:"), "{log}");
    Ok(())
}

#[test]
fn an_error_at_each_stage_of_a_command_is_the_jobs_error() -> Result<()> {
    let db = testing::database()?;
    let mut session = db.connect()?;
    session.run(
        "CREATE TABLE t (n int);
         CREATE PROCEDURE half() LANGUAGE plpgsql AS
         $$BEGIN INSERT INTO t VALUES (1); COMMIT; INSERT INTO t VALUES (2); PERFORM 1/0; END$$;
         CREATE TABLE twice (n int); INSERT INTO twice VALUES (1), (1);
         CREATE TABLE later (n int UNIQUE DEFERRABLE INITIALLY DEFERRED)",
    )?;
    for (command, code) in [
        ("SELECT nonsense FROM t", "42703"),
        ("VACUUM nowhere", "42P01"),
        ("SELECT 1/0", "22012"),
        ("CALL half()", "22012"),
        ("CREATE UNIQUE INDEX CONCURRENTLY ON twice (n)", "23505"),
        ("INSERT INTO later VALUES (1), (1)", "23505"),
        ("LOCK TABLE t", "25P01"),
        ("SELECT $1", "42P02"),
    ] {
        let job = run_in_background(&mut session, command)?;
        assert_eq!(wait_for_error(&mut session, &job)?.code().code(), code, "{command}");
    }
    assert_eq!(
        session.values::<i32>("SELECT n FROM t")?,
        [1],
        "what the procedure committed stays, the rest is undone"
    );
    Ok(())
}

#[test]
fn a_command_is_exactly_one_statement() -> Result<()> {
    let db = testing::database()?;
    let mut session = db.connect()?;
    let (none, several) = ("must not be empty", "exactly one statement");
    for (command, refusal) in [
        ("", none),
        (" -- nothing", none),
        (";", none),
        ("SELECT 1; SELECT 2", several),
        ("SELECT 1; DROP TABLE t --", several),
    ] {
        let error = session.error(&format!("SELECT upkeep.run_in_background('{command}')"))?;
        assert_eq!(error.code().code(), "42601", "{command}");
        assert!(error.message().contains(refusal), "{}", error.message());
    }
    let error = session.error("SELECT upkeep.run_in_background('SELECT 1 FORM t t')")?;
    assert_eq!(error.code().code(), "42601");
    assert!(error.position().is_some(), "a syntax error points at its place");
    assert_eq!(sqlstate(&mut session, "SELECT upkeep.run_in_background(NULL)")?, "22004");
    assert_eq!(sqlstate(&mut session, "SELECT upkeep.run_in_background('SELECT 1', retries => -1)")?, "22023");
    assert_eq!(sqlstate(&mut session, "SELECT upkeep.run_in_background('SELECT 1', name => '')")?, "22023");
    assert_eq!(session.text("SELECT count(*) FROM upkeep.jobs")?, "0");

    let job = run_in_background(&mut session, "SELECT 'a;b' /* ; */ -- ; SELECT 2")?;
    wait(&mut session, &job)
}

#[test]
fn what_a_worker_cannot_do_is_refused_at_creation() -> Result<()> {
    let db = testing::database()?;
    let mut session = db.connect()?;
    for command in [
        "BEGIN",
        "COMMIT",
        "ROLLBACK",
        "SAVEPOINT a",
        "PREPARE TRANSACTION 'a'",
        "LISTEN news",
        "UNLISTEN *",
        "COPY t FROM STDIN",
        "COPY t TO STDOUT",
        "COPY (SELECT 1) TO STDOUT",
    ] {
        let error = session.error(&format!("SELECT upkeep.run_in_background($${command}$$)"))?;
        assert_eq!(error.code().code(), "0A000", "{command}");
    }
    let job = run_in_background(&mut session, "COPY (SELECT 1) TO PROGRAM 'cat > /dev/null'")?;
    wait(&mut session, &job)
}

/// A procedure that leaves a trace of every start.
fn prepare_to_count_starts(session: &mut Session) -> Result<()> {
    session.run(
        "CREATE TABLE starts (at timestamptz DEFAULT clock_timestamp());
         CREATE PROCEDURE start_and(seconds int) LANGUAGE plpgsql AS
         $$BEGIN INSERT INTO starts DEFAULT VALUES; COMMIT; PERFORM pg_sleep(seconds); END$$",
    )
}

/// The command was interrupted after its first commit: it failed, says so, and was not started again.
fn assert_interrupted(session: &mut Session, job: &str) -> Result<()> {
    wait_for_state(session, job, "failed")?;
    let error = wait_for_error(session, job)?;
    assert!(error.message().contains("interrupted"), "{}", error.message());
    assert!(error.message().contains("may be done in part"), "{}", error.message());
    assert!(error.hint().unwrap_or_default().contains("upkeep.retry"), "{error:?}");
    assert_eq!(session.text("SELECT count(*) FROM starts")?, "1", "a command is never repeated by itself");
    Ok(())
}

#[test]
fn a_command_whose_worker_is_terminated_has_failed() -> Result<()> {
    let db = testing::database()?;
    let mut session = db.connect()?;
    prepare_to_count_starts(&mut session)?;
    let job = run_in_background(&mut session, "CALL start_and(3600)")?;
    let executor = wait_until_asleep(&mut session, &job)?;
    session.run(&format!("SELECT pg_terminate_backend({executor})"))?;
    assert_interrupted(&mut session, &job)
}

#[test]
fn a_command_whose_worker_is_killed_has_failed() -> Result<()> {
    let server = testing::server("killed").preloaded().start()?;
    let mut session = server.connect("postgres")?;
    session.run("CREATE EXTENSION pg_upkeep")?;
    prepare_to_count_starts(&mut session)?;
    let job = run_in_background(&mut session, "CALL start_and(3600)")?;
    let executor = wait_until_asleep(&mut session, &job)?;
    assert_interrupted(&mut server.kill_and_recover(executor, "postgres")?, &job)
}

#[test]
fn a_command_in_hand_when_the_server_ends_has_failed() -> Result<()> {
    for how in ["crash", "immediate", "fast"] {
        let mut server = testing::server("ended").preloaded().start()?;
        let mut session = server.connect("postgres")?;
        session.run("CREATE EXTENSION pg_upkeep")?;
        prepare_to_count_starts(&mut session)?;
        let job = run_in_background(&mut session, "CALL start_and(3600)")?;
        wait_until_asleep(&mut session, &job)?;
        match how {
            "crash" => server.crash()?,
            "immediate" => server.stop(Stop::Immediate)?,
            _ => server.stop(Stop::Fast)?,
        }
        server.start()?;
        assert_interrupted(&mut server.connect("postgres")?, &job)?;
    }
    Ok(())
}

#[test]
fn retries_repeat_an_interrupted_command() -> Result<()> {
    let db = testing::database()?;
    let mut session = db.connect()?;
    prepare_to_count_starts(&mut session)?;
    session.run("CREATE TABLE seconds (n int); INSERT INTO seconds VALUES (3600)")?;
    session.run(
        "CREATE PROCEDURE start() LANGUAGE plpgsql AS
         $$DECLARE s int; BEGIN SELECT n INTO s FROM seconds; CALL start_and(s); END$$",
    )?;
    let job = run_with(&mut session, "CALL start()", "retries => 1")?;
    let executor = wait_until_asleep(&mut session, &job)?;
    session.run("UPDATE seconds SET n = 0")?;
    session.run(&format!("SELECT pg_terminate_backend({executor})"))?;
    wait_for_state(&mut session, &job, "done")?;
    assert_eq!(session.text("SELECT count(*) FROM starts")?, "2");
    Ok(())
}

#[test]
fn retries_are_counted() -> Result<()> {
    let db = testing::database()?;
    let mut session = db.connect()?;
    session.run("CREATE SEQUENCE runs")?;
    let fails_twice = "DO $$BEGIN IF nextval('runs') < 3 THEN RAISE 'not yet' USING ERRCODE = '22000'; END IF; END$$";
    let job = run_with(&mut session, fails_twice, "retries => 1")?;
    assert_eq!(wait_for_error(&mut session, &job)?.message(), "not yet");
    assert_eq!(session.text("SELECT last_value FROM runs")?, "2");

    session.run("ALTER SEQUENCE runs RESTART")?;
    let job = run_with(&mut session, fails_twice, "retries => 2")?;
    wait(&mut session, &job)?;
    assert_eq!(session.text("SELECT last_value FROM runs")?, "3");
    Ok(())
}

#[test]
fn cancel_interrupts_a_command() -> Result<()> {
    let db = testing::database()?;
    let mut session = db.connect()?;
    let (job, executor) = run_endlessly(&mut session)?;
    let waiter = meanwhile_error(db.connect()?, &format!("CALL upkeep.wait('{job}')"));
    assert_eq!(session.text(&format!("SELECT upkeep.cancel('{job}')"))?, job);
    assert_eq!(state(&mut session, &job)?, "canceled");
    wait_until_nobody_works_on(&mut session, &job)?;
    assert!(!workers(&mut session, "executor")?.contains(&executor));
    assert_eq!(join(waiter)??.code().code(), "57014");
    assert_eq!(state(&mut session, &job)?, "canceled", "the interrupted command does not turn it into a failure");
    assert!(!events(&mut session, &job)?.contains(&"failed".to_owned()));
    Ok(())
}

#[test]
fn cancel_waits_for_the_callers_commit() -> Result<()> {
    let db = testing::database()?;
    let mut session = db.connect()?;
    let (job, executor) = run_endlessly(&mut session)?;
    session.run("BEGIN")?;
    session.run(&format!("SELECT upkeep.cancel('{job}')"))?;
    session.run("ROLLBACK")?;
    let mut other = db.connect()?;
    assert_eq!(state(&mut other, &job)?, "running");
    assert_eq!(wait_until_asleep(&mut other, &job)?, executor, "the command still runs");
    session.run(&format!("BEGIN; SELECT upkeep.cancel('{job}'); COMMIT"))?;
    wait_until_nobody_works_on(&mut session, &job)
}

#[test]
fn somebodys_pg_cancel_backend_is_the_commands_error() -> Result<()> {
    let db = testing::database()?;
    let mut session = db.connect()?;
    let (job, executor) = run_endlessly(&mut session)?;
    session.run(&format!("SELECT pg_cancel_backend({executor})"))?;
    wait_for_state(&mut session, &job, "failed")?;
    assert_eq!(wait_for_error(&mut session, &job)?.code().code(), "57014");
    Ok(())
}

#[test]
fn a_command_that_has_started_cannot_be_paused() -> Result<()> {
    let db = testing::database()?;
    let mut session = db.connect()?;
    let (job, _) = run_endlessly(&mut session)?;
    let error = session.error(&format!("SELECT upkeep.pause('{job}')"))?;
    assert_eq!(error.code().code(), "55000");
    assert!(error.hint().unwrap_or_default().contains("upkeep.cancel"), "{error:?}");
    assert_eq!(session.text("SELECT upkeep.pause_all('night')")?, "0");
    assert_eq!(state(&mut session, &job)?, "running");
    session.run(&format!("SELECT upkeep.cancel('{job}')"))
}

#[test]
fn a_failed_command_runs_again_when_asked_to() -> Result<()> {
    let db = testing::database()?;
    let mut session = db.connect()?;
    session.run("CREATE TABLE t (n int)")?;
    let job = run_in_background(&mut session, "INSERT INTO t SELECT n + 1 FROM later")?;
    assert_eq!(wait_for_error(&mut session, &job)?.code().code(), "42P01");
    session.run("CREATE TABLE later AS SELECT 1 AS n")?;
    assert_eq!(session.text(&format!("SELECT upkeep.retry('{job}')"))?, job);
    wait(&mut session, &job)?;
    assert_eq!(session.values::<i32>("SELECT n FROM t")?, [2]);
    let error = format!("SELECT state, error FROM upkeep.jobs WHERE id = '{job}'");
    assert_eq!(session.text(&error)?, "done|");
    Ok(())
}

/// A command shares its session with the executor: what it does to that session must not reach the executor.
#[test]
fn a_command_cannot_saw_off_the_branch_it_sits_on() -> Result<()> {
    let db = testing::database()?;
    let role = db.role("author")?;
    let mut admin = db.connect()?;
    admin.run(&format!(
        "GRANT EXECUTE ON FUNCTION upkeep.run_in_background TO {role}; CREATE ROLE no_{role}; GRANT no_{role} TO {role}"
    ))?;
    let mut session = db.connect_as(&role)?;
    for command in [
        "DISCARD ALL".to_owned(),
        "SELECT pg_advisory_unlock_all()".to_owned(),
        format!("SET ROLE no_{role}"),
        "SET default_transaction_read_only = on".to_owned(),
        "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL SERIALIZABLE READ ONLY DEFERRABLE".to_owned(),
        "SET statement_timeout = '1ms'".to_owned(),
        "SET search_path = ''".to_owned(),
        "SELECT set_config('role', 'none', false)".to_owned(),
        "DEALLOCATE ALL".to_owned(),
        "PREPARE p AS SELECT 1".to_owned(),
        "DECLARE c CURSOR WITH HOLD FOR SELECT generate_series(1, 10)".to_owned(),
        "NOTIFY news".to_owned(),
    ] {
        let job = run_in_background(&mut session, &command)?;
        wait(&mut session, &job)?;
        assert_eq!(state(&mut session, &job)?, "done", "{command}");
    }
    admin.run(&format!("DROP ROLE no_{role}"))
}

/// LAW 7: what marks a job as being in hand is out of the command's reach.
#[test]
fn a_command_that_lets_go_of_all_advisory_locks_is_still_in_hand() -> Result<()> {
    let db = testing::database()?;
    let mut session = db.connect()?;
    prepare_to_count_starts(&mut session)?;
    session.run(
        "CREATE PROCEDURE let_go() LANGUAGE plpgsql AS
         $$BEGIN PERFORM pg_advisory_unlock_all(); COMMIT; CALL start_and(3600); END$$",
    )?;
    let job = run_in_background(&mut session, "CALL let_go()")?;
    let executor = wait_until_asleep(&mut session, &job)?;
    // The next scheduler knows only what it can see.
    let scheduler = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                      WHERE backend_type = 'pg_upkeep scheduler' AND datname = current_database()";
    session.run(scheduler)?;
    let other = run_in_background(&mut session, "SELECT 1")?;
    wait(&mut session, &other)?;
    assert_eq!(state(&mut session, &job)?, "running");
    assert_eq!(wait_until_asleep(&mut session, &job)?, executor);
    session.run(&format!("SELECT upkeep.cancel('{job}')"))?;
    wait_until_nobody_works_on(&mut session, &job)
}

#[test]
fn creating_a_job_is_part_of_the_callers_transaction() -> Result<()> {
    let db = testing::database()?;
    let mut session = db.connect()?;
    session.run("CREATE TABLE t (n int)")?;
    session.run("BEGIN; SELECT upkeep.run_in_background('INSERT INTO t VALUES (1)'); ROLLBACK")?;
    assert_eq!(session.text("SELECT count(*) FROM upkeep.jobs")?, "0");
    session.run("BEGIN; CREATE TABLE fresh (n int)")?;
    let job = run_in_background(&mut session, "INSERT INTO fresh VALUES (1)")?;
    session.run("COMMIT")?;
    wait(&mut session, &job)?;
    assert_eq!(session.text("SELECT (SELECT count(*) FROM t), (SELECT count(*) FROM fresh)")?, "0|1");
    Ok(())
}

#[test]
fn a_job_is_created_on_the_primary_only() -> Result<()> {
    let primary = testing::server("writes").preloaded().start()?;
    primary.connect("postgres")?.run("CREATE EXTENSION pg_upkeep")?;
    let standby = primary.standby("reads")?;
    let mut session = standby.connect("postgres")?;
    let error = session.error(&format!("SELECT upkeep.run_in_background('{ENDLESS}')"))?;
    assert_eq!(error.code().code(), "25006");
    assert!(error.message().contains("standby"), "{}", error.message());
    Ok(())
}
