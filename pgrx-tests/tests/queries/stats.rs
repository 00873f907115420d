//! Counting statements: nothing is counted twice, nothing is lost, whatever happens around it.

use anyhow::Result;
use postgres::fallible_iterator::FallibleIterator;
use upkeep_tests::cluster::Cluster;
use upkeep_tests::jobs::{sqlstate, wait};
use upkeep_tests::session::Session;
use upkeep_tests::testing::{self, wait_for_text};

fn server(name: &str) -> Result<Cluster> {
    // Whatever the rest of the suite runs with: what is counted here is known.
    testing::server(name).preloaded().set("upkeep.query_interval", 1).set("upkeep.track_queries", "top").start()
}

/// A server with the extension in database postgres.
fn ready(name: &str) -> Result<(Cluster, Session)> {
    let cluster = server(name)?;
    let mut session = cluster.connect("postgres")?;
    session.run("CREATE EXTENSION pg_upkeep")?;
    Ok((cluster, session))
}

/// Figures of the statement with this text: columns of upkeep.query_stats.
fn figures(session: &mut Session, text: &str, columns: &str) -> Result<String> {
    let rows = session.rows(&format!(
        "SELECT {columns} FROM upkeep.query_stats WHERE query = $text${text}$text$ ORDER BY toplevel"
    ))?;
    Ok(rows.join(" "))
}

const FAILED: &str = "calls, errors, cancellations, timeouts, unknown_errors";

/// Batches, the tries that a backfill catches, and commands in the background are counted, as what they are: reports of what
/// applications do leave them out.
#[test]
fn what_jobs_execute_is_not_the_applications() -> Result<()> {
    let (_cluster, mut session) = ready("by-jobs")?;
    session.run(
        "CREATE TABLE filled (id int PRIMARY KEY, n int CHECK (n <> 130));
         INSERT INTO filled SELECT g FROM generate_series(1, 200) g",
    )?;
    session.run("INSERT INTO filled VALUES (201, 1)")?;
    let job = session.text("SELECT upkeep.backfill('filled', 'n = id * 10', 'n IS NULL')")?;
    wait(&mut session, &job)?;
    assert_eq!(session.text(&format!("SELECT quarantined FROM upkeep.jobs WHERE id = '{job}'"))?, "1");
    let command = "INSERT INTO filled VALUES (202, 1)";
    let job = session.text(&format!("SELECT upkeep.run_in_background('{command}')"))?;
    wait(&mut session, &job)?;

    let now = |session: &mut Session, figures: &str, of: &str| {
        session.text(&format!("SELECT {figures} FROM upkeep.query_stats WHERE {of}"))
    };
    let insert = "query = 'INSERT INTO filled VALUES ($1, $2)'";
    assert_eq!(
        now(&mut session, "string_agg(by_job || ' ' || calls, ', ' ORDER BY by_job)", insert)?,
        "false 1, true 1"
    );
    let failures = "sum(errors + cancellations + timeouts + unknown_errors)";
    assert_eq!(now(&mut session, failures, "NOT by_job")?, "0");
    assert_ne!(now(&mut session, failures, "by_job AND query LIKE '%filled%'")?, "0");

    // The history keeps them apart as well.
    let calls = format!("SELECT sum(calls) FROM upkeep.top_queries('calls', max_rows => 1000) WHERE {insert}");
    session.run("SET upkeep.report_queries = 'all'")?;
    wait_for_text(&mut session, &calls, "2")?;
    for (setting, known) in [("jobs", "1"), ("clients", "1")] {
        session.run(&format!("SET upkeep.report_queries = '{setting}'"))?;
        assert_eq!(session.text(&calls)?, known, "{setting}");
    }
    session.run("RESET upkeep.report_queries")?;
    let batches = "SELECT count(*) FROM upkeep.top_queries(max_rows => 1000) WHERE query LIKE 'UPDATE%filled%'";
    let failed = "SELECT sum((point ->> 'unknown_errors')::int + (point ->> 'errors')::int)
                    FROM jsonb_array_elements(upkeep.performance_report() -> 'series') point";
    assert_eq!((session.text(batches)?, session.text(failed)?), ("0".into(), "0".into()));
    session.run("SET upkeep.report_queries = 'jobs'")?;
    assert_ne!(session.text(failed)?, "0");
    assert_eq!(sqlstate(&mut session, "SET upkeep.report_queries = 'others'")?, "22023");
    Ok(())
}

/// Statements that differ in their structure: as many as wanted, up to 4096.
fn distinct(n: usize) -> String {
    let terms: Vec<&str> = (0..12).map(|bit| if n >> bit & 1 == 1 { "1 + 1" } else { "1 * 1" }).collect();
    format!("SELECT {}", terms.join(", "))
}

#[test]
fn what_ended_how_is_told_apart() -> Result<()> {
    let (_cluster, mut session) = ready("failures")?;
    session.run(
        "CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1);
         CREATE TABLE later (id int REFERENCES t DEFERRABLE INITIALLY DEFERRED);
         CREATE FUNCTION fail() RETURNS int LANGUAGE plpgsql AS $$BEGIN RETURN 1 / 0; END$$;
         CREATE FUNCTION swallow() RETURNS int LANGUAGE plpgsql AS
         $$BEGIN FOR i IN 1..10 LOOP BEGIN PERFORM fail(); EXCEPTION WHEN OTHERS THEN NULL; END; END LOOP; RETURN 1; END$$;
         CREATE PROCEDURE steps() LANGUAGE plpgsql AS
         $$BEGIN FOR i IN 1..3 LOOP INSERT INTO t VALUES (100 + i); COMMIT; INSERT INTO t VALUES (7); ROLLBACK; END LOOP; END$$",
    )?;
    session.error("SELECT id / 0 FROM t")?;
    session.error("SELECT fail()")?;
    session.run("SELECT swallow()")?;
    session.run("CALL steps()")?;
    session.run("CALL steps()").unwrap_err();
    session.error("SET statement_timeout = '50ms'; SELECT pg_sleep(60)")?;
    session.run("RESET statement_timeout; BEGIN; SAVEPOINT s")?;
    session.error("INSERT INTO t VALUES (1)")?;
    session.run("ROLLBACK TO s; INSERT INTO t VALUES (2); COMMIT")?;
    // The server folds constants while it plans.
    session.error("SELECT 1 / 0")?;
    session.error("BEGIN; INSERT INTO later VALUES (99); COMMIT")?;
    session.run("ROLLBACK")?;
    session.run("BEGIN; DECLARE c CURSOR FOR SELECT * FROM t")?;
    session.error("SELECT 'x'::int FROM t")?;
    session.run("ROLLBACK")?;

    for (text, expected) in [
        ("SELECT id / $1 FROM t", "0|1|0|0|0"),
        ("SELECT fail()", "0|1|0|0|0"),
        ("SELECT swallow()", "1|0|0|0|0"),
        ("SELECT pg_sleep($1)", "0|0|0|1|0"),
        ("INSERT INTO t VALUES ($1)", "2|1|0|0|0"),
        ("SELECT $1 / $2", "0|1|0|0|0"),
        ("INSERT INTO later VALUES ($1)", "1|0|0|0|0"),
        ("CALL", "1|1|0|0|0"),
        ("DECLARE CURSOR", "1|0|0|0|0"),
    ] {
        assert_eq!(figures(&mut session, text, FAILED)?, expected, "{text}");
    }
    // Caught errors are not reported: of what kind they were is not known. Three more are of what led to errors above.
    session.run("SET upkeep.track_queries = 'all'; SELECT swallow()")?;
    let nested = "SELECT calls, unknown_errors FROM upkeep.query_stats WHERE query = 'SELECT fail()' AND NOT toplevel";
    assert_eq!(session.rows(nested)?, ["0|10"]);
    Ok(())
}

#[test]
fn a_cancellation_and_a_termination_are_cancellations() -> Result<()> {
    let (cluster, mut session) = ready("canceled")?;
    for verb in ["pg_cancel_backend", "pg_terminate_backend"] {
        let mut victim = cluster.connect("postgres")?;
        let pid = victim.pid()?;
        let thread = std::thread::spawn(move || victim.run("SELECT pg_sleep(3600)"));
        wait_for_text(&mut session, &format!("SELECT wait_event FROM pg_stat_activity WHERE pid = {pid}"), "PgSleep")?;
        session.run(&format!("SELECT {verb}({pid})"))?;
        upkeep_tests::jobs::join(thread)?.unwrap_err();
    }
    wait_for_text(
        &mut session,
        "SELECT calls, errors, cancellations, timeouts FROM upkeep.query_stats WHERE query = 'SELECT pg_sleep($1)'",
        "0|0|2|0",
    )
}

#[test]
fn every_way_to_run_a_statement_is_counted_once() -> Result<()> {
    let (cluster, mut session) = ready("ways")?;
    session.run(
        "CREATE TABLE t AS SELECT g AS id, repeat('x', 100) AS s FROM generate_series(1, 20000) g; ANALYZE t;
         CREATE FUNCTION nested() RETURNS bigint LANGUAGE plpgsql AS $$BEGIN RETURN (SELECT count(*) FROM t WHERE id < 7); END$$;
         SELECT upkeep.reset_query_stats()",
    )?;
    // Prepared, in the protocol and in SQL.
    let mut client = cluster.connection("postgres", "postgres").connect(postgres::NoTls)?;
    let prepared = client.prepare("SELECT s FROM t WHERE id = $1")?;
    for i in 1..=10 {
        assert_eq!(client.query(&prepared, &[&i])?.len(), 1);
    }
    session.run("PREPARE p AS SELECT s || '' FROM t WHERE id = $1; EXECUTE p(1); EXECUTE p(2); DEALLOCATE p")?;
    // A portal that is read in three parts.
    let mut transaction = client.transaction()?;
    let portal = transaction.bind("SELECT id FROM t WHERE id <= 25", &[])?;
    let mut read = 0;
    for _ in 0..3 {
        read += transaction.query_portal_raw(&portal, 10)?.count()?;
    }
    assert_eq!(read, 25);
    drop(portal);
    transaction.commit()?;
    // Parallel workers, EXPLAIN, functions, COPY.
    session.run(
        "SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0; SET min_parallel_table_scan_size = 0;
         SET max_parallel_workers_per_gather = 2; SELECT count(*) FROM t WHERE s LIKE '%y';
         EXPLAIN (ANALYZE) SELECT max(id) FROM t; EXPLAIN SELECT min(id) FROM t; SELECT nested()",
    )?;
    session.run("COPY (SELECT * FROM t LIMIT 5) TO PROGRAM 'cat >/dev/null'")?;
    for (text, expected) in [
        ("SELECT s FROM t WHERE id = $1", "10|10|t"),
        ("PREPARE p AS SELECT s || $2 FROM t WHERE id = $1", "2|2|t"),
        ("SELECT id FROM t WHERE id <= $1", "1|25|t"),
        ("SELECT count(*) FROM t WHERE s LIKE $1", "1|1|t"),
        ("SELECT max(id) FROM t", ""),
        ("SELECT min(id) FROM t", ""),
        ("EXPLAIN", "2|0|t"),
        ("SELECT nested()", "1|1|t"),
        ("COPY", "1|5|t"),
    ] {
        assert_eq!(figures(&mut session, text, "calls, rows, toplevel")?, expected, "{text}");
    }
    // Now within functions as well, but not what EXPLAIN runs.
    session.run(
        "SET upkeep.track_queries = 'all'; DISCARD PLANS; SELECT nested(); EXPLAIN (ANALYZE) SELECT max(id) FROM t;
         SET upkeep.track_queries = 'none'; SELECT nested(); RESET upkeep.track_queries",
    )?;
    assert_eq!(figures(&mut session, "SELECT nested()", "calls")?, "2");
    assert_eq!(
        session.rows(
            "SELECT calls, rows FROM upkeep.query_stats WHERE NOT toplevel AND query LIKE '%FROM t WHERE id < %'"
        )?,
        ["1|1"]
    );
    assert_eq!(figures(&mut session, "SELECT max(id) FROM t", "calls")?, "");
    Ok(())
}

#[test]
fn with_more_statements_than_room_the_sums_are_exact() -> Result<()> {
    let cluster = testing::server("crowded")
        .preloaded()
        .set("upkeep.query_interval", 1)
        .set("upkeep.query_max", 100)
        .set("max_connections", 60)
        .start()?;
    let mut session = cluster.connect("postgres")?;
    session.run("CREATE EXTENSION pg_upkeep; CREATE ROLE app LOGIN")?;
    // From here on nobody is counted but the clients, who count themselves.
    let mut reader = cluster.connect("postgres")?;
    for quiet in [&mut reader, &mut session] {
        quiet.run("SET upkeep.track_queries = 'none'")?;
    }
    let all = "SELECT sum(calls)::bigint FROM upkeep.query_stats WHERE datid = (SELECT oid FROM pg_database WHERE datname = 'postgres')";
    let before: i64 = session.value(all)?;
    let threads: Vec<_> = (0..6)
        .map(|thread| {
            let mut client = cluster.connect_as("postgres", "app")?;
            Ok(std::thread::spawn(move || -> Result<i64> {
                let mut own = 0;
                for i in 0..1500 {
                    client.run(&distinct((i * 7 + thread * 131) % 1000))?;
                    client.run("SELECT 'hot'")?;
                    own += 2;
                }
                Ok(own)
            }))
        })
        .collect::<Result<_>>()?;
    // Somebody reads all the time.
    while !threads.iter().all(std::thread::JoinHandle::is_finished) {
        reader.run("SELECT sum(calls) FROM upkeep.query_stats")?;
    }
    let mut total = before;
    for thread in threads {
        total += upkeep_tests::jobs::join(thread)??;
    }
    assert_eq!(session.value::<i64>(all)?, total, "what the clients counted, others included");
    let rows = "SELECT sum(calls) FILTER (WHERE queryid = 0) > 1000, count(*) <= 101, max(calls) FILTER (WHERE userid \
                = 'app'::regrole) > 8000
                FROM upkeep.query_stats WHERE datid = (SELECT oid FROM pg_database WHERE datname = 'postgres')";
    assert_eq!(
        session.rows(rows)?,
        ["t|t|t"],
        "others; no more entries than there is room for; a hot statement is not evicted"
    );
    // All of it arrives in the history, and there it is the same.
    let history = "SELECT sum(calls) FROM upkeep._query_intervals('-infinity', 'infinity')";
    wait_for_text(&mut session, history, &total.to_string())?;
    // Exactly: once more, and nobody else counts meanwhile.
    session.run("SELECT upkeep.reset_query_stats()")?;
    let mut client = cluster.connect_as("postgres", "app")?;
    for i in 0..1000 {
        client.run(&distinct(i))?;
    }
    drop(client);
    assert_eq!(session.text("SELECT sum(calls) FROM upkeep.query_stats")?, "1000");
    Ok(())
}

#[test]
fn many_clients_of_one_statement_are_all_counted() -> Result<()> {
    let cluster =
        testing::server("hot").preloaded().set("upkeep.query_interval", 1).set("max_connections", 60).start()?;
    let mut session = cluster.connect("postgres")?;
    session.run("CREATE EXTENSION pg_upkeep")?;
    let threads: Vec<_> = (0..32)
        .map(|_| {
            let mut client = cluster.connect("postgres")?;
            Ok(std::thread::spawn(move || (0..500).try_for_each(|_| client.run("SELECT 'hot' || 'er'"))))
        })
        .collect::<Result<_>>()?;
    for thread in threads {
        upkeep_tests::jobs::join(thread)??;
    }
    assert_eq!(figures(&mut session, "SELECT $1 || $2", "calls, rows")?, "16000|16000");
    wait_for_text(
        &mut session,
        "SELECT sum(calls) FROM upkeep._query_intervals('-infinity', 'infinity',
            (SELECT queryid FROM upkeep.query_stats WHERE query = 'SELECT $1 || $2'))",
        "16000",
    )
}

#[test]
fn a_killed_server_keeps_what_was_drained_and_marks_the_gap() -> Result<()> {
    let (mut cluster, mut session) = ready("killed")?;
    let stored = "SELECT sum(calls) FROM upkeep._query_intervals('-infinity', 'infinity')
                  WHERE queryid = (SELECT queryid FROM upkeep._query WHERE query = 'SELECT $1::money')";
    session.run("SELECT '1'::money")?;
    wait_for_text(&mut session, stored, "1")?;
    // Within the hook: the statement has begun and will never end.
    let mut victim = cluster.connect("postgres")?;
    let pid = victim.pid()?;
    let thread = std::thread::spawn(move || victim.run("SELECT pg_sleep(3600)"));
    wait_for_text(&mut session, &format!("SELECT wait_event FROM pg_stat_activity WHERE pid = {pid}"), "PgSleep")?;
    let mut session = cluster.kill_and_recover(pid, "postgres")?;
    upkeep_tests::jobs::join(thread)?.unwrap_err();
    session.run("SELECT '2'::money")?;
    wait_for_text(&mut session, stored, "2")?;
    let marks = "SELECT lossy, sum(calls) FROM upkeep._query_intervals('-infinity', 'infinity')
                 WHERE queryid = (SELECT queryid FROM upkeep._query WHERE query = 'SELECT $1::money') GROUP BY 1 ORDER BY 1";
    assert_eq!(session.rows(marks)?, ["f|1", "t|1"]);
    // And the whole server.
    cluster.crash()?;
    cluster.start()?;
    let mut session = cluster.connect_again("postgres")?;
    session.run("SELECT '3'::money")?;
    wait_for_text(&mut session, stored, "3")
}

#[test]
fn what_cannot_be_stored_is_not_lost() -> Result<()> {
    let (cluster, mut session) = ready("locked")?;
    let mut locker = cluster.connect("postgres")?;
    locker.run("BEGIN; LOCK TABLE upkeep._query_interval IN EXCLUSIVE MODE")?;
    session.run("SELECT '1'::money; SELECT '2'::money")?;
    let before = cluster.log_position();
    upkeep_tests::wait::wait_until("a drain to fail", upkeep_tests::cluster::PATIENCE, || {
        cluster.log_since(before).contains("history of statements: canceling statement due to lock timeout")
            || cluster.log_since(before).contains("history of statements")
    })?;
    locker.run("SET upkeep.track_queries = 'none'; COMMIT")?;
    session.run("SET upkeep.track_queries = 'none'")?;
    let live: i64 = session.value("SELECT sum(calls)::bigint FROM upkeep.query_stats")?;
    assert!(live >= 2);
    wait_for_text(
        &mut session,
        "SELECT sum(calls) FROM upkeep._query_intervals('-infinity', 'infinity')",
        &live.to_string(),
    )
}

#[test]
fn a_transaction_that_took_too_long_is_a_timeout() -> Result<()> {
    let (cluster, mut session) = ready("transaction_timeout")?;
    if session.text("SELECT current_setting('server_version_num')::int < 170000")? == "t" {
        return Ok(());
    }
    let mut slow = cluster.connect("postgres")?;
    slow.run("SET transaction_timeout = '100ms'")?;
    assert!(slow.run("SELECT count(pg_sleep(60))").is_err());
    wait_for_text(
        &mut session,
        "SELECT concat_ws(' ', errors, cancellations, timeouts) FROM upkeep.query_stats WHERE query LIKE '%pg_sleep%'",
        "0 0 1",
    )
}

#[test]
fn a_burst_of_new_statements_keeps_its_texts() -> Result<()> {
    let (_cluster, mut session) = ready("burst")?;
    // One message: no drain comes between.
    session.run(&(0..4000).map(distinct).collect::<Vec<_>>().join("; "))?;
    let texts = "SELECT count(*) || ' of ' || count(query) FROM upkeep.query_stats WHERE calls = 1 AND query LIKE 'SELECT $1 _ $2%'";
    wait_for_text(&mut session, texts, "4000 of 4000")
}

#[test]
fn each_database_has_its_own_and_one_without_the_extension_has_others() -> Result<()> {
    let (cluster, mut session) = ready("databases")?;
    session.run("CREATE DATABASE second")?;
    session.run("CREATE DATABASE bare")?;
    let (mut second, mut bare) = (cluster.connect("second")?, cluster.connect("bare")?);
    second.run("CREATE EXTENSION pg_upkeep")?;
    second.run("SELECT '1'::money")?;
    session.run("SELECT '1'::money")?;
    for i in 0..10 {
        bare.run(&distinct(i))?;
    }
    let stored = "SELECT sum(calls) FROM upkeep._query_intervals('-infinity', 'infinity')
                  WHERE queryid = (SELECT queryid FROM upkeep._query WHERE query = 'SELECT $1::money')";
    wait_for_text(&mut session, stored, "1")?;
    wait_for_text(&mut second, stored, "1")?;
    assert_eq!(figures(&mut session, "SELECT $1::money", "calls")?, "1");
    let others = "SELECT calls >= 10 FROM upkeep.query_stats s JOIN pg_database d ON d.oid = s.datid
                  WHERE d.datname = 'bare' AND queryid = 0";
    wait_for_text(&mut session, others, "t")?;
    session.run("CREATE ROLE nobody LOGIN")?;
    let mut nobody = cluster.connect_as("postgres", "nobody")?;
    assert_eq!(nobody.text(&others.replace("calls >= 10", "count(*)"))?, "0");
    // Dropped while it is used: what runs is not disturbed, and nothing is kept apart any more.
    second.run("BEGIN; SELECT '2'::money")?;
    let mut other = cluster.connect("second")?;
    other.run("DROP EXTENSION pg_upkeep")?;
    second.run("SELECT '3'::money; COMMIT")?;
    second.run("CREATE EXTENSION pg_upkeep; SELECT '4'::money")?;
    // What ran while it was not there may be kept apart as well, until a scheduler has seen that it was gone.
    wait_for_text(&mut second, &format!("SELECT ({stored}) BETWEEN 1 AND 4"), "t")
}

#[test]
fn what_runs_before_create_extension_is_committed_is_not_anothers() -> Result<()> {
    let (cluster, mut session) = ready("beginning")?;
    session.run("CREATE DATABASE second")?;
    let mut second = cluster.connect("second")?;
    second.run("BEGIN; CREATE EXTENSION pg_upkeep; SELECT '1'::money")?;
    // A scheduler looks that does not see the extension yet: its two transactions end after that.
    let looks = "SELECT xact_commit FROM pg_stat_database WHERE datname = 'second'";
    let before: i64 = session.value(looks)?;
    session.run("ALTER SYSTEM SET upkeep.databases = 'postgres, second'")?;
    cluster.reload()?;
    wait_for_text(&mut session, &looks.replace("xact_commit", &format!("xact_commit >= {before} + 2")), "t")?;
    let schedulers =
        "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'pg_upkeep scheduler' AND datname = 'second'";
    wait_for_text(&mut session, schedulers, "0")?;
    second.run("COMMIT")?;
    let stored = "SELECT sum(calls) FROM upkeep._query_intervals('-infinity', 'infinity')
                  WHERE queryid = (SELECT queryid FROM upkeep._query WHERE query = 'SELECT $1::money')";
    wait_for_text(&mut second, stored, "1")
}

#[test]
fn texts_of_others_are_hidden() -> Result<()> {
    let (cluster, mut session) = ready("hidden")?;
    session
        .run("CREATE ROLE alice LOGIN; CREATE ROLE bob LOGIN; CREATE ROLE auditor LOGIN IN ROLE pg_read_all_stats")?;
    let mut alice = cluster.connect_as("postgres", "alice")?;
    let look = "SELECT count(*) FILTER (WHERE query LIKE '%secret%'), count(*) FILTER (WHERE query = '<insufficient privilege>')
                FROM upkeep.query_stats WHERE userid = 'alice'::regrole AND calls = 3";
    alice.run("SELECT 1 AS secret; SELECT 1 AS secret; SELECT 1 AS secret")?;
    for (role, expected) in [("alice", "1|0"), ("bob", "0|1"), ("auditor", "1|0"), ("postgres", "1|0")] {
        assert_eq!(cluster.connect_as("postgres", role)?.rows(look)?, [expected], "{role}");
    }
    // Also once it is in the history.
    let stored = "SELECT count(*) FROM upkeep._query WHERE query LIKE '%secret%'";
    wait_for_text(&mut session, &stored.replace("count(*)", "count(*) > 0"), "t")?;
    for (role, expected) in [("alice", "1|0"), ("bob", "0|1"), ("auditor", "1|0"), ("postgres", "1|0")] {
        let mut session = cluster.connect_as("postgres", role)?;
        assert_eq!(session.rows(look)?, [expected], "{role}");
        let known = session.text("SELECT count(*) FROM upkeep._query_text WHERE query LIKE '%secret'")?;
        assert_eq!(known, if role == "bob" { "0" } else { "1" }, "{role}");
    }
    let mut bob = cluster.connect_as("postgres", "bob")?;
    assert_eq!(sqlstate(&mut bob, "SELECT * FROM upkeep._query")?, "42501");
    assert_eq!(sqlstate(&mut bob, "SELECT upkeep.reset_query_stats()")?, "42501");
    assert_eq!(sqlstate(&mut bob, "SET upkeep.track_queries = 'none'")?, "42501");
    Ok(())
}

#[test]
fn texts_are_bounded_and_carry_no_secrets() -> Result<()> {
    let cluster = testing::server("texts")
        .preloaded()
        .set("upkeep.query_interval", 1)
        .initdb_option("--encoding=LATIN1")
        .initdb_option("--no-locale")
        .start()?;
    let mut session = cluster.connect("postgres")?;
    session.run("CREATE EXTENSION pg_upkeep")?;
    session.run("CREATE ROLE carol PASSWORD 'sesame'; ALTER ROLE carol PASSWORD 'tahini'")?;
    session.run("VACUUM pg_class")?;
    session.run(&format!("SELECT 1 AS \"{}\", '{}'", "ä".repeat(30), "ö".repeat(1 << 20)))?;
    session.run(&format!("SELECT ARRAY[0{}]", ", length('ß')".repeat(80_000)))?;
    session.run("CREATE DATABASE utf TEMPLATE template0 ENCODING 'UTF8'")?;
    cluster.connect("utf")?.run("SELECT 'Ωμέγα' AS \"Ω\"")?;
    wait_for_text(
        &mut session,
        "SELECT count(*) FROM upkeep._query WHERE query LIKE 'SELECT ARRAY[$1%' AND truncated",
        "1",
    )?;
    let longest = "SELECT max(length(query)) < 32000, bool_and(query !~ 'sesame|tahini') FROM upkeep._query";
    assert_eq!(session.rows(longest)?, ["t|t"]);
    for text in ["CREATE ROLE", "ALTER ROLE", "VACUUM pg_class", &format!("SELECT $1 AS \"{}\", $2", "ä".repeat(30))] {
        assert_eq!(
            session.text(&format!("SELECT count(*) FROM upkeep._query WHERE query = $q${text}$q$"))?,
            "1",
            "{text}"
        );
    }
    session.run("SELECT * FROM upkeep.query_stats")
}

#[test]
fn a_standby_counts_in_memory() -> Result<()> {
    let (cluster, mut session) = ready("primary")?;
    let standby = cluster.standby("standby")?;
    let mut there = standby.connect("postgres")?;
    there.run("SELECT '1'::money; SELECT '1'::money; SELECT '1'::money")?;
    session.run("SELECT '1'::money")?;
    assert_eq!(figures(&mut there, "SELECT $1::money", "calls")?, "3");
    assert_eq!(figures(&mut session, "SELECT $1::money", "calls")?, "1");
    standby.promote()?;
    let stored = "SELECT sum(calls) FROM upkeep._query_intervals('-infinity', 'infinity')
                  WHERE queryid = (SELECT queryid FROM upkeep.query_stats WHERE query = 'SELECT $1::money')";
    wait_for_text(&mut there, &format!("SELECT ({stored}) >= 3"), "t")
}

#[test]
fn without_preload_it_says_so() -> Result<()> {
    let db = testing::database_without_preload()?;
    let mut session = db.connect()?;
    let error = session.error("SELECT * FROM upkeep.query_stats")?;
    assert_eq!(error.code().code(), "55000");
    assert!(error.hint().is_some_and(|hint| hint.contains("shared_preload_libraries")));
    assert_eq!(sqlstate(&mut session, "SELECT upkeep.reset_query_stats()")?, "55000");
    assert_eq!(session.text("SELECT count(*) FROM upkeep._query_intervals('-infinity', 'infinity')")?, "0");
    assert_eq!(session.text("SELECT count(*) FROM pg_settings WHERE name = 'upkeep.query_max'")?, "0");
    Ok(())
}

#[test]
fn a_reset_starts_anew_and_leaves_the_history() -> Result<()> {
    let (_cluster, mut session) = ready("reset")?;
    session.run("SELECT '1'::money; SELECT '1'::money; SELECT 1.5; SELECT 1.5")?;
    session.run(
        "SELECT upkeep.reset_query_stats(queryid => queryid) FROM upkeep.query_stats WHERE query = 'SELECT $1::money'",
    )?;
    assert_eq!(figures(&mut session, "SELECT $1::money", "calls")?, "");
    assert_eq!(figures(&mut session, "SELECT $1", "calls")?, "2");
    session.run("SELECT '1'::money")?;
    assert_eq!(figures(&mut session, "SELECT $1::money", "calls")?, "1");
    let stored = "SELECT sum(calls) FROM upkeep._query_intervals('-infinity', 'infinity')
                  WHERE queryid = (SELECT queryid FROM upkeep._query WHERE query = 'SELECT $1::money')";
    wait_for_text(&mut session, stored, "3")?;
    session.run("SELECT upkeep.reset_query_stats(history => true); SET upkeep.track_queries = 'none'")?;
    assert_eq!(sqlstate(&mut session, "SELECT upkeep.reset_query_stats(queryid => 1, history => true)")?, "22023");
    assert_eq!(sqlstate(&mut session, "SELECT upkeep.reset_query_stats(history => NULL)")?, "22004");
    assert_eq!(session.text("SELECT count(*) FROM upkeep._query WHERE query = 'SELECT $1::money'")?, "0");
    Ok(())
}

#[test]
fn counters_of_pg_stat_statements_survive_what_it_does() -> Result<()> {
    let cluster = testing::server("pgss")
        .set("shared_preload_libraries", "pg_stat_statements, pg_upkeep")
        .set("pg_stat_statements.max", 100)
        .set("upkeep.query_interval", 1)
        .start()?;
    let mut session = cluster.connect("postgres")?;
    session.run(
        "CREATE SCHEMA \"odd Schema\"; CREATE EXTENSION pg_stat_statements SCHEMA \"odd Schema\"; CREATE EXTENSION pg_upkeep;
         CREATE TABLE t (id int)",
    )?;
    let written = "SELECT sum(wal_records) || '|' || bool_or(lossy)::text FROM upkeep._query_intervals('-infinity', 'infinity')
                   WHERE queryid = (SELECT queryid FROM upkeep._query WHERE query = 'INSERT INTO t VALUES ($1)') HAVING sum(calls) = ";
    session.run("INSERT INTO t VALUES (1)")?;
    wait_for_text(&mut session, &format!("{written} 1"), "1|false")?;
    session.run("INSERT INTO t VALUES (1); INSERT INTO t VALUES (1)")?;
    wait_for_text(&mut session, &format!("{written} 3"), "3|false")?;
    // Reset, and at once more than before.
    session.run("SELECT \"odd Schema\".pg_stat_statements_reset()")?;
    for _ in 0..5 {
        session.run("INSERT INTO t VALUES (1)")?;
    }
    let pgss_counts_since = session.text("SELECT current_setting('server_version_num')::int >= 170000")? == "t";
    if pgss_counts_since {
        wait_for_text(&mut session, &format!("{written} 8"), "8|false")?;
    } else {
        wait_for_text(&mut session, &format!("SELECT split_part(q.w, '|', 1)::int >= 5 FROM ({written} 8) q(w)"), "t")?;
    }
    // It forgets statements: the interval is marked.
    for i in 0..300 {
        session.run(&distinct(i))?;
    }
    wait_for_text(&mut session, "SELECT bool_or(lossy) FROM upkeep._query_intervals('-infinity', 'infinity')", "t")?;
    // Gone while we run, in the extension and in the server.
    session.run("DROP EXTENSION pg_stat_statements; SELECT '1'::money")?;
    wait_for_text(
        &mut session,
        "SELECT sum(calls) FROM upkeep._query_intervals('-infinity', 'infinity')
         WHERE queryid = (SELECT queryid FROM upkeep._query WHERE query = 'SELECT $1::money')",
        "1",
    )?;
    assert!(!cluster.log().contains("history of statements"), "{}", cluster.log());
    Ok(())
}

#[test]
fn more_databases_than_have_room_come_and_go() -> Result<()> {
    let (cluster, mut session) = ready("come_and_go")?;
    for round in 0..4 {
        for i in 0..20 {
            session.run(&format!("CREATE DATABASE d{i} STRATEGY wal_log"))?;
            cluster.connect(&format!("d{i}"))?.run("SELECT 1; SELECT 2; SELECT 3")?;
        }
        let known = "SELECT count(*) > 19 FROM upkeep.query_stats WHERE queryid = 0 AND datid IS NOT NULL";
        wait_for_text(&mut session, known, "t")?;
        for i in 0..20 {
            session.run(&format!("DROP DATABASE d{i} WITH (FORCE)"))?;
        }
        // The launcher lets go of them; their sums stay, in the row for the rest.
        let gone = "SELECT count(*) FROM upkeep.query_stats s WHERE datid IS NOT NULL
                    AND NOT EXISTS (SELECT FROM pg_database d WHERE d.oid = s.datid)";
        wait_for_text(&mut session, gone, "0")?;
        let rest = format!("SELECT calls >= {} FROM upkeep.query_stats WHERE datid IS NULL", (round + 1) * 60);
        assert_eq!(session.text(&rest)?, "t");
    }
    Ok(())
}
