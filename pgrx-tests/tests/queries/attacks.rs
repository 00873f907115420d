//! Counting statements while clocks are set, processes are killed, pg_stat_statements is replaced, and the history is full.

use anyhow::Result;
use upkeep_tests::cluster::{Cluster, PATIENCE, Stop};
use upkeep_tests::query_history::{Chance, Level, Statement, insert};
use upkeep_tests::session::Session;
use upkeep_tests::testing::{self, wait_for_text, workers};
use upkeep_tests::wait::{wait_for, wait_until};

/// 2027-06-15 12:00 UTC.
const NOON: i64 = 1_813_060_800;
const MINUTE: i64 = 60;
const HOUR: i64 = 60 * MINUTE;

const ALL: &str = "FROM upkeep._query_intervals('-infinity', 'infinity')";
const MONEY: &str = "SELECT '1'::money";

/// What the history has of the one statement that these tests count.
fn stored() -> String {
    format!(
        "SELECT sum(calls) {ALL} WHERE queryid = (SELECT queryid FROM upkeep._query WHERE query = 'SELECT $1::money')"
    )
}

fn counted_every_second(name: &str) -> upkeep_tests::cluster::ClusterBuilder {
    testing::server(name).preloaded().set("upkeep.query_interval", 1).set("upkeep.track_queries", "top")
}

fn ready(name: &str) -> Result<(Cluster, Session)> {
    let cluster = counted_every_second(name).start()?;
    let mut session = cluster.connect("postgres")?;
    session.run("CREATE EXTENSION pg_upkeep")?;
    Ok((cluster, session))
}

#[test]
fn a_clock_that_is_set_back_and_ahead_loses_and_repeats_nothing() -> Result<()> {
    let cluster = counted_every_second("clock").set("timezone", "UTC").clock(NOON + 20 * MINUTE).start()?;
    let mut session = cluster.connect("postgres")?;
    session.run("CREATE EXTENSION pg_upkeep")?;
    let mut calls = 0;
    // Hours ahead, so that hours are added up; back into one of them; a year ahead by mistake; and back again.
    for at in [NOON, NOON + 2 * HOUR, NOON + 30 * HOUR, NOON + 10 * MINUTE, NOON + 365 * 24 * HOUR, NOON + 31 * HOUR] {
        cluster.set_clock(at)?;
        for _ in 0..3 {
            session.run(MONEY)?;
            calls += 1;
        }
        wait_for_text(&mut session, &stored(), &calls.to_string())?;
    }
    // The first hour and its day, as coarse rows have them after the next hour: what came late is in them.
    let coarse = |level: i32| {
        format!(
            "SELECT sum(parts) = (SELECT count(*) FROM upkeep._query_interval f WHERE f.level = {level} - 1
                                   AND date_trunc('{unit}', f.period, 'UTC') = '2027-06-15 {hour}:00+00')
               FROM upkeep._query_interval WHERE level = {level} AND period = '2027-06-15 {hour}:00+00'",
            unit = if level == 1 { "hour" } else { "day" },
            hour = if level == 1 { 12 } else { 0 },
        )
    };
    wait_for_text(&mut session, &coarse(1), "t")?;
    wait_for_text(&mut session, &coarse(2), "t")?;
    let day =
        "SELECT sum(calls) BETWEEN 9 AND 15 FROM upkeep._query_intervals('2027-06-15 00:00+00', '2027-06-16 00:00+00', NULL, '1 day')
                WHERE queryid = (SELECT queryid FROM upkeep._query WHERE query = 'SELECT $1::money')";
    wait_for_text(&mut session, day, "t")?;
    let wrong = format!(
        "SELECT count(*) FILTER (WHERE finished_at <= started_at), count(*) FILTER (WHERE calls < 0 OR total_time < 0
                OR min_time < 0 OR max_time < min_time OR errors < 0) {ALL}"
    );
    assert_eq!(session.rows(&wrong)?, ["0|0"]);
    // The ring is not ahead of the clock: history goes on to leave.
    assert_eq!(session.text("SELECT bool_and(since <= now()) FROM upkeep._query_ring WHERE level = 0")?, "t");
    Ok(())
}

#[test]
fn a_scheduler_killed_in_a_drain_neither_loses_what_was_stored_nor_stores_it_twice() -> Result<()> {
    let (cluster, mut session) = ready("drain_killed")?;
    session.run(MONEY)?;
    wait_for_text(&mut session, &stored(), "1")?;
    // It has taken the counts out of shared memory, and waits for a lock.
    let mut locker = cluster.connect("postgres")?;
    locker.run("BEGIN; LOCK TABLE upkeep._query_interval IN EXCLUSIVE MODE")?;
    session.run(MONEY)?;
    let victims = "SELECT pid FROM pg_locks WHERE NOT granted AND relation = 'upkeep._query_interval'::regclass
                    AND pid IN (SELECT pid FROM pg_stat_activity WHERE backend_type = 'pg_upkeep scheduler')";
    let pid = wait_for("a drain that waits", PATIENCE, || Ok(session.values::<i32>(victims)?.into_iter().next()))?;
    drop(locker);
    let mut session = cluster.kill_and_recover(pid, "postgres")?;
    let kept: i64 = session.value(&format!("SELECT coalesce(({})::bigint, 0)", stored()))?;
    assert!((1..=2).contains(&kept), "{kept}");
    session.run(MONEY)?;
    wait_for_text(&mut session, &stored(), &(kept + 1).to_string())?;
    assert_eq!(session.text(&format!("SELECT bool_or(lossy) {ALL}"))?, "t", "the gap is marked");
    Ok(())
}

#[test]
fn a_scheduler_sent_away_in_a_drain_gives_back_what_it_had() -> Result<()> {
    let (cluster, mut session) = ready("drain_ended")?;
    let mut locker = cluster.connect("postgres")?;
    locker.run("BEGIN; LOCK TABLE upkeep._query_interval IN EXCLUSIVE MODE; SET upkeep.track_queries = 'none'")?;
    for _ in 0..20 {
        session.run(MONEY)?;
    }
    let victims = "SELECT pid FROM pg_locks WHERE NOT granted AND relation = 'upkeep._query_interval'::regclass
                    AND pid IN (SELECT pid FROM pg_stat_activity WHERE backend_type = 'pg_upkeep scheduler')";
    let pid = wait_for("a drain that waits", PATIENCE, || Ok(locker.values::<i32>(victims)?.into_iter().next()))?;
    locker.run(&format!("SELECT pg_terminate_backend({pid})"))?;
    wait_until("the scheduler to leave", PATIENCE, || {
        workers(&mut locker, "scheduler").is_ok_and(|pids| !pids.contains(&pid))
    })?;
    locker.run("COMMIT")?;
    session.run("SET upkeep.track_queries = 'none'")?;
    let live: i64 = session.value("SELECT sum(calls)::bigint FROM upkeep.query_stats")?;
    assert!(live >= 20, "{live}");
    wait_for_text(&mut session, &format!("SELECT sum(calls) {ALL}"), &live.to_string())
}

#[test]
fn an_orderly_shutdown_marks_the_gap() -> Result<()> {
    let (mut cluster, mut session) = ready("orderly")?;
    session.run(MONEY)?;
    wait_for_text(&mut session, &stored(), "1")?;
    cluster.stop(Stop::Fast)?;
    cluster.start()?;
    let mut session = cluster.connect("postgres")?;
    session.run(MONEY)?;
    wait_for_text(&mut session, &stored(), "2")?;
    let marks = format!(
        "SELECT lossy, sum(calls) {ALL} WHERE queryid = (SELECT queryid FROM upkeep._query
                          WHERE query = 'SELECT $1::money') GROUP BY 1 ORDER BY 1"
    );
    assert_eq!(session.rows(&marks)?, ["f|1", "t|1"]);
    Ok(())
}

#[test]
fn pg_stat_statements_is_read_in_each_of_its_versions() -> Result<()> {
    let cluster =
        counted_every_second("versions").set("shared_preload_libraries", "pg_stat_statements, pg_upkeep").start()?;
    let mut session = cluster.connect("postgres")?;
    session.run(
        "CREATE EXTENSION pg_stat_statements VERSION '1.8'; CREATE EXTENSION pg_upkeep; CREATE TABLE t (id int)",
    )?;
    let written = format!(
        "SELECT sum(wal_records), sum(calls) {ALL} WHERE queryid = (SELECT queryid FROM upkeep._query
          WHERE query = 'INSERT INTO t VALUES ($1)')"
    );
    let newest: u32 = session
        .text(
            "SELECT split_part(default_version, '.', 2) FROM pg_available_extensions WHERE name = 'pg_stat_statements'",
        )?
        .parse()?;
    let mut calls = 0;
    for version in 8..=newest {
        if version > 8 {
            session.run(&format!("ALTER EXTENSION pg_stat_statements UPDATE TO '1.{version}'"))?;
        }
        session.run("INSERT INTO t VALUES (1)")?;
        calls += 1;
        wait_for_rows(&mut session, &written, &format!("{calls}|{calls}"))?;
        session.run("INSERT INTO t VALUES (1); INSERT INTO t VALUES (1)")?;
        calls += 2;
        wait_for_rows(&mut session, &written, &format!("{calls}|{calls}"))?;
    }
    assert!(newest >= 10 && calls >= 9);
    // Somebody else's function of that name is not asked.
    session.run(
        "DROP EXTENSION pg_stat_statements;
         CREATE FUNCTION pg_stat_statements(boolean) RETURNS int LANGUAGE plpgsql AS $$BEGIN RAISE 'asked'; END$$;
         INSERT INTO t VALUES (1)",
    )?;
    wait_for_rows(&mut session, &written, &format!("{calls}|{}", calls + 1))?;
    assert!(!cluster.log().contains("asked"), "{}", cluster.log());
    assert!(!cluster.log().contains("history of statements"), "{}", cluster.log());
    Ok(())
}

fn wait_for_rows(session: &mut Session, sql: &str, wanted: &str) -> Result<()> {
    wait_for_text(session, &format!("SELECT concat_ws('|', a, b) FROM ({sql}) q(a, b)"), wanted)
}

#[test]
fn old_history_leaves_by_whole_partitions() -> Result<()> {
    let cluster = counted_every_second("old")
        .set("upkeep.query_minute_retention", "60min")
        .set("upkeep.query_hour_retention", "1d")
        .set("upkeep.query_day_retention", "1d")
        .set("autovacuum", "off")
        .set("timezone", "UTC")
        .clock(NOON)
        .start()?;
    let mut session = cluster.connect("postgres")?;
    session.run("CREATE EXTENSION pg_upkeep")?;
    // Nine hours, three looks in each: the ring of minutes goes round several times.
    let mut calls = 0;
    for step in 1..=27 {
        cluster.set_clock(NOON + step * 20 * MINUTE)?;
        session.run(MONEY)?;
        calls += 1;
        wait_for_text(
            &mut session,
            "SELECT max(finished_at) >= now() - interval '10 minutes' FROM upkeep._query_interval WHERE level = 0",
            "t",
        )?;
    }
    // Once an hour it is looked what is too old. Hours keep what minutes do not have any more.
    let oldest = "SELECT min(started_at) > now() - interval '140 minutes' FROM upkeep._query_interval WHERE level = 0";
    wait_for_text(&mut session, oldest, "t")?;
    wait_for_text(&mut session, &stored(), &calls.to_string())?;
    wait_for_text(&mut session, "SELECT count(*) >= 8 FROM upkeep._query_interval WHERE level = 1", "t")?;
    // A day and a half later hours have left too.
    for hour in 45..48 {
        cluster.set_clock(NOON + hour * HOUR)?;
        session.run(MONEY)?;
        let drained =
            "SELECT max(finished_at) >= now() - interval '10 minutes' FROM upkeep._query_interval WHERE level = 0";
        wait_for_text(&mut session, drained, "t")?;
    }
    // What was counted just before the clock was moved belongs to an interval that is as long as that.
    let early = "SELECT count(*) FROM upkeep._query_interval WHERE period < '2027-06-15 17:00+00' AND level < 2";
    wait_for_text(&mut session, early, "0")?;
    // No row was deleted but where an hour or a day was added up again.
    let deleted = "SELECT sum(pg_stat_get_tuples_deleted(relid)) FROM pg_partition_tree('upkeep._query_interval')
                    WHERE isleaf AND relid::regclass::text LIKE '%minutes%'";
    assert_eq!(session.text(deleted)?, "0");
    Ok(())
}

#[test]
fn a_history_that_is_too_large_loses_its_oldest() -> Result<()> {
    let mut cluster = counted_every_second("large")
        .set("upkeep.query_history_size", "3MB")
        .set("upkeep.query_minute_retention", "30d")
        .start()?;
    let mut session = cluster.connect("postgres")?;
    session.run("CREATE EXTENSION pg_upkeep")?;
    let size =
        "SELECT sum(pg_total_relation_size(relid)) FROM pg_partition_tree('upkeep._query_interval') WHERE isleaf";
    let mut chance = Chance(3);
    let mut many = || -> Vec<Statement> {
        (1..=3000)
            .map(|id| Statement::new(id * 7919, 10).latencies((0..8).map(|_| chance.latency(900.0, 1.0))))
            .collect()
    };
    // Four partitions of minutes, the oldest first, and hours. So old that nobody adds up hours of them.
    session.run("SET upkeep.track_queries = 'none'")?;
    for ring in 0..4 {
        session.run(&format!("UPDATE upkeep._query_ring SET position = {ring}, since = now() WHERE level = 0"))?;
        for row in 0..16 {
            let started = format!("now() - interval '5 days' - interval '{} minutes'", 600 - 100 * ring - row);
            insert(&mut session, Level::Minutes, &started, "1 minute", &many())?;
        }
    }
    insert(&mut session, Level::Hours, "date_trunc('hour', now(), 'UTC') - interval '2 days'", "1 hour", &many())?;
    let before: i64 = session.value(&format!("SELECT ({size})::bigint"))?;
    assert!(before > 4 << 20, "{before}");
    // The first drain of a server looks after the sizes too.
    cluster.restart()?;
    let mut session = cluster.connect("postgres")?;
    session.run(MONEY)?;
    wait_for_text(&mut session, &format!("SELECT ({size}) <= {}", 3 << 20), "t")?;
    let left = "SELECT count(*) FILTER (WHERE ring = 0), count(*) FILTER (WHERE level = 1),
                       count(*) FILTER (WHERE ring = 3) FROM upkeep._query_interval";
    let left = session.rows(left)?.remove(0);
    let mut left = left.split('|').map(|n| n.parse::<i64>().unwrap_or(-1));
    assert_eq!(left.next(), Some(0), "the oldest minutes are gone");
    assert!(left.next() >= Some(1), "coarse rows stay");
    assert!(left.next() >= Some(16), "what is being written stays");
    // A limit below what is being written to holds too.
    cluster.set("upkeep.query_history_size", "1MB")?;
    cluster.restart()?;
    let mut session = cluster.connect("postgres")?;
    session.run(MONEY)?;
    wait_for_text(&mut session, &format!("SELECT ({size}) <= {}", 1 << 20), "t")?;
    Ok(())
}

#[test]
fn texts_stay_in_the_encoding_of_their_database() -> Result<()> {
    let (cluster, mut session) = ready("encodings")?;
    for (name, encoding) in [("latin", "LATIN1"), ("bytes", "SQL_ASCII")] {
        session.run(&format!("CREATE DATABASE {name} TEMPLATE template0 ENCODING '{encoding}' LOCALE 'C'"))?;
    }
    // The same characters, and in one of them bytes that are characters nowhere else.
    let statement = "SELECT 1 AS \"\u{e4}\u{f6}\u{fc}\"";
    let mut sessions = vec![("postgres", session)];
    for name in ["latin", "bytes"] {
        let mut session = cluster.connect(name)?;
        session.run("CREATE EXTENSION pg_upkeep")?;
        sessions.push((name, session));
    }
    for (_, session) in &mut sessions {
        session.run(statement)?;
        session.run(statement)?;
    }
    // What is sent there is not looked at: half of a character.
    sessions[2]
        .1
        .run("DO $$BEGIN EXECUTE 'SET upkeep.track_queries = ''all''; SELECT 1.5 AS \"' || chr(195) || '\"'; END$$")?;
    for (name, session) in &mut sessions {
        let seen = "SELECT calls FROM upkeep.query_stats WHERE query = 'SELECT $1 AS \"\u{e4}\u{f6}\u{fc}\"'";
        assert_eq!(session.text(seen)?, "2", "{name}");
        let kept = "SELECT count(*) FROM upkeep._query WHERE query = 'SELECT $1 AS \"\u{e4}\u{f6}\u{fc}\"'";
        wait_for_text(session, kept, "1")?;
        assert_eq!(session.text(seen)?, "2", "{name}: out of the table");
        let top = "SELECT count(*) FROM upkeep.top_queries('calls', now() - interval '1 day', max_rows => 1000) \
                   WHERE query LIKE '%\u{e4}\u{f6}\u{fc}%'";
        assert_eq!(session.text(top)?, "1", "{name}");
        session.run(
            "SET upkeep.slow_query_min_duration = 0; SELECT * FROM upkeep.slow_queries; \
             SELECT * FROM upkeep.query_regressions()",
        )?;
        let page = session.text("SELECT upkeep.performance_report_html()")?;
        let shown = if *name == "latin" { "&#228;&#246;&#252;" } else { "\u{e4}\u{f6}\u{fc}" };
        assert!(page.contains(shown), "{name}");
        let listed =
            "SELECT upkeep.performance_report()->'top' @? '$.calls[*] ? (@.query like_regex \"\u{e4}\u{f6}\u{fc}\")'";
        assert_eq!(session.text(listed)?, "t", "{name}");
    }
    assert!(!cluster.log().contains("history of statements"), "{}", cluster.log());
    Ok(())
}

#[test]
fn counters_are_whole_from_the_first_interval_on() -> Result<()> {
    let cluster =
        counted_every_second("whole").set("shared_preload_libraries", "pg_stat_statements, pg_upkeep").start()?;
    let mut session = cluster.connect("postgres")?;
    if session.text("SELECT current_setting('server_version_num')::int < 170000")? == "t" {
        // It does not say since when it counts.
        return Ok(());
    }
    session.run("CREATE EXTENSION pg_upkeep; CREATE EXTENSION pg_stat_statements; CREATE TABLE t AS SELECT 1 AS n")?;
    let mut client = cluster.connect("postgres")?;
    let drains = "SELECT count(DISTINCT started_at) FROM upkeep._query_intervals('-infinity', 'infinity')
                  WHERE queryid = (SELECT queryid FROM upkeep._query WHERE query LIKE 'UPDATE t%')";
    // It goes on while it is drained, again and again.
    while session.value::<i64>(drains)? < 3 {
        for _ in 0..50 {
            client.run("UPDATE t SET n = n + 1")?;
        }
    }
    let differ = "SELECT h.calls - s.calls, h.hit - s.shared_blks_hit, h.wal - s.wal_bytes::float8
                  FROM pg_stat_statements s,
                       (SELECT sum(calls) AS calls, sum(shared_blks_hit) AS hit, sum(wal_bytes) AS wal
                        FROM upkeep._query_intervals('-infinity', 'infinity') i WHERE i.queryid =
                            (SELECT queryid FROM upkeep._query WHERE query LIKE 'UPDATE t%')) h
                  WHERE s.query LIKE 'UPDATE t%'";
    wait_for_text(&mut session, &format!("SELECT d FROM ({differ}) d"), "(0,0,0)")
}

#[test]
fn other_libraries_may_come_before_and_after() -> Result<()> {
    for (name, libraries) in [("after", "pg_stat_statements, pg_upkeep"), ("before", "pg_upkeep, pg_stat_statements")] {
        let cluster = counted_every_second(name).set("shared_preload_libraries", libraries).start()?;
        let mut session = cluster.connect("postgres")?;
        session.run("CREATE EXTENSION pg_upkeep; CREATE TABLE t (id int)")?;
        session.run("VACUUM t")?;
        session.run("TRUNCATE t; INSERT INTO t VALUES (1)")?;
        session.run("DO $$BEGIN EXECUTE 'TRUNCATE t'; END$$")?;
        let seen = "SELECT string_agg(query || ' ' || calls, ', ' ORDER BY query) FROM upkeep.query_stats
                    WHERE query ~ '^(VACUUM|TRUNCATE|INSERT INTO t)'";
        assert_eq!(session.text(seen)?, "INSERT INTO t VALUES ($1) 1, TRUNCATE t 1, VACUUM t 1", "{libraries}");
    }
    Ok(())
}

#[test]
fn copy_in_and_a_portal_that_is_given_up_are_counted() -> Result<()> {
    use std::io::Write;

    let (cluster, mut session) = ready("copies")?;
    session.run("CREATE TABLE t (id int PRIMARY KEY)")?;
    let mut writer = session.copy_in("COPY t FROM STDIN")?;
    writer.write_all(b"1\n2\n3\n")?;
    writer.finish()?;
    let mut writer = session.copy_in("COPY t FROM STDIN")?;
    writer.write_all(b"3\n")?;
    writer.finish().unwrap_err();
    // A cursor of which two rows are read, closed by the end of its transaction; one that a rollback takes away.
    session.run("BEGIN; DECLARE c CURSOR FOR SELECT id FROM t; FETCH 2 FROM c; COMMIT")?;
    let mut client = cluster.connect("postgres")?;
    let mut transaction = client.transaction()?;
    let portal = transaction.bind("SELECT id + 0 FROM t", &[])?;
    transaction.query_portal(&portal, 2)?;
    transaction.rollback()?;
    let figures = |session: &mut Session, text: &str| {
        session.text(&format!(
            "SELECT concat_ws('|', max(calls), max(rows), max(errors)) FROM upkeep.query_stats WHERE query = '{text}'"
        ))
    };
    assert_eq!(figures(&mut session, "COPY")?, "1|3|1");
    assert_eq!(figures(&mut session, "FETCH")?, "1|2|0");
    assert_eq!(figures(&mut session, "DECLARE CURSOR")?, "1|0|0");
    // Given up and not failed: it has no latency to tell.
    assert_eq!(figures(&mut session, "SELECT id + $1 FROM t")?, "");
    Ok(())
}

/// Statements that differ in their structure: as many as wanted, up to 4096.
fn distinct(n: usize, last: &str) -> String {
    let terms: Vec<&str> = (0..12).map(|bit| if n >> bit & 1 == 1 { "1 + 1" } else { "1 * 1" }).collect();
    format!("SELECT {}, {last}", terms.join(", "))
}

fn many(count: usize, last: &str) -> String {
    (0..count).map(|n| distinct(n, last)).collect::<Vec<_>>().join("; ")
}

/// Statements of which nothing else here has the text.
const RARE: [&str; 6] = ["'1'::int2", "'1.1.1.1'::inet", "'(1,2)'::point", "'1'::xid", "'1'::bit", "'1'::oid"];

/// What is kept of `SELECT '1'::oid`.
fn kept(constant: &str) -> String {
    format!("SELECT count(*) FROM upkeep._query WHERE query = '{}'", text_of(constant))
}

/// One that finds no room is taken down when it is next met.
fn wait_for_a_text(session: &mut Session, constant: &str) -> Result<()> {
    wait_until("a text", PATIENCE, || {
        session.run(&format!("SELECT {constant}")).is_ok()
            && session.text(&kept(constant)).is_ok_and(|kept| kept == "1")
    })
}

fn text_of(constant: &str) -> String {
    let (_, kind) = constant.split_once("::").unwrap_or_default();
    format!("SELECT $1::{kind}")
}

const OF_DROPPED: &str = "SELECT count(*) FROM upkeep.query_stats s WHERE datid IS NOT NULL
                          AND NOT EXISTS (SELECT FROM pg_database d WHERE d.oid = s.datid)";

#[test]
fn a_database_that_is_dropped_leaves_others_their_history() -> Result<()> {
    let mut cluster = counted_every_second("dropped").set("upkeep.enabled", "off").start()?;
    let mut session = cluster.connect("postgres")?;
    session.run("CREATE DATABASE app")?;
    session.run("CREATE DATABASE first")?;
    cluster.connect("app")?.run("CREATE EXTENSION pg_upkeep")?;
    drop(session);
    cluster.restart()?;
    // They are counted in this order.
    cluster.connect("first")?.run("SELECT 1")?;
    let mut pooled = cluster.connect("app")?;
    pooled.run(MONEY)?;
    cluster.set("upkeep.enabled", "on")?;
    cluster.reload()?;
    cluster.connect("postgres")?.run("DROP DATABASE first")?;
    wait_for_text(&mut pooled, OF_DROPPED, "0")?;
    // Whoever comes now is counted at the same place as who is there.
    for calls in 2..5 {
        cluster.connect("app")?.run("SELECT 2")?;
        pooled.run(MONEY)?;
        wait_for_text(&mut pooled, &format!("SELECT ({}) >= {calls} - 1", stored()), "t")?;
    }
    wait_for_text(&mut pooled, &stored(), "4")?;
    // And who was there before is drained without anybody else.
    pooled.run(MONEY)?;
    wait_for_text(&mut pooled, &stored(), "5")?;
    let others = "SELECT count(*) < 2 FROM upkeep.query_stats s JOIN pg_database d ON d.oid = s.datid
                  WHERE d.datname = 'app' AND queryid = 0";
    assert_eq!(pooled.text(others)?, "t");
    Ok(())
}

#[test]
fn databases_without_the_extension_keep_no_place_from_one_that_has_it() -> Result<()> {
    let mut cluster = counted_every_second("places").start()?;
    let mut session = cluster.connect("postgres")?;
    session.run("CREATE DATABASE app")?;
    let others: Vec<String> = (0..70).map(|n| format!("without_{n}")).collect();
    // They are the first that are counted, and there are more of them than places.
    for name in &others {
        session.run(&format!("CREATE DATABASE {name} STRATEGY file_copy"))?;
        cluster.connect(name)?.run("SELECT 1")?;
    }
    let mut app = cluster.connect("app")?;
    app.run("SELECT 1")?;
    app.run("CREATE EXTENSION pg_upkeep")?;
    app.run(MONEY)?;
    wait_for_text(&mut app, &stored(), "1")?;
    // The same when it is not known yet where the extension is.
    drop((app, session));
    cluster.set("upkeep.enabled", "off")?;
    cluster.restart()?;
    for name in &others {
        cluster.connect(name)?.run("SELECT 1")?;
    }
    let mut app = cluster.connect("app")?;
    app.run("SELECT 1")?;
    cluster.set("upkeep.enabled", "on")?;
    cluster.reload()?;
    wait_until("a place", PATIENCE, || {
        app.run(MONEY).is_ok()
            && app
                .text("SELECT count(*) FROM upkeep.query_stats WHERE query = 'SELECT $1::money'")
                .is_ok_and(|n| n == "1")
    })?;
    wait_for_text(&mut app, &format!("SELECT ({}) > 1", stored()), "t")?;
    // What the others have counted is among the rest: sums stay exact.
    let others = "SELECT count(*) FROM upkeep.query_stats WHERE queryid = 0 AND datid IS NULL";
    assert_eq!(app.text(others)?, "1");
    Ok(())
}

#[test]
fn texts_that_nobody_fetches_leave_room_for_those_of_others() -> Result<()> {
    let cluster = counted_every_second("fetched")
        .set("upkeep.query_max", 100)
        .set("upkeep.databases", "postgres, busy")
        .start()?;
    let mut session = cluster.connect("postgres")?;
    session.run("CREATE EXTENSION pg_upkeep; CREATE ROLE mallory LOGIN")?;
    for name in ["without", "excluded", "busy"] {
        session.run(&format!("CREATE DATABASE {name}"))?;
    }
    for name in ["excluded", "busy"] {
        cluster.connect(name)?.run("CREATE EXTENSION pg_upkeep")?;
    }
    // Drains there come to no end.
    let mut locker = cluster.connect("busy")?;
    locker.run("SELECT 1.5")?;
    wait_for_text(&mut locker, "SELECT count(*) > 0 FROM upkeep._query", "t")?;
    locker.run("BEGIN; LOCK TABLE upkeep._query_interval, upkeep._query IN EXCLUSIVE MODE")?;
    // More than there are pieces.
    for (n, name) in ["without", "excluded", "busy"].into_iter().enumerate() {
        cluster.connect_as(name, "mallory")?.run(&many(2300, "1"))?;
        wait_for_a_text(&mut session, RARE[n])?;
    }
    // Another role, where mallory has all that one role may have.
    let mut alice = cluster.connect("busy")?;
    alice.run("SELECT '1'::oid")?;
    let seen = "SELECT count(*) FROM upkeep.query_stats WHERE query = 'SELECT $1::oid'";
    assert_eq!(alice.text(seen)?, "1");
    drop((locker, alice));
    // They leave with their database: there is room for many again.
    session.run("DROP DATABASE busy WITH (FORCE)")?;
    session.run("DROP DATABASE excluded")?;
    wait_for_text(&mut session, OF_DROPPED, "0")?;
    session.run(&many(1500, "'b'"))?;
    wait_for_text(&mut session, "SELECT count(*) > 350 FROM upkeep._query WHERE query LIKE 'SELECT $1 _ $2%'", "t")
}

#[test]
fn an_extension_that_leaves_takes_its_texts_along() -> Result<()> {
    let cluster = counted_every_second("leaves").set("upkeep.query_max", 100).start()?;
    let mut session = cluster.connect("postgres")?;
    session.run("CREATE EXTENSION pg_upkeep")?;
    session.run("CREATE DATABASE other")?;
    let mut other = cluster.connect("other")?;
    other.run("CREATE EXTENSION pg_upkeep; SELECT 1.5")?;
    wait_for_text(&mut other, "SELECT count(*) > 0 FROM upkeep._query", "t")?;
    other.run("DROP EXTENSION pg_upkeep")?;
    for (last, rare) in [("1", RARE[0]), ("'a'::name", RARE[1])] {
        other.run(&many(2300, last))?;
        wait_for_a_text(&mut session, rare)?;
    }
    // It comes back, and so do texts.
    other.run("CREATE EXTENSION pg_upkeep")?;
    wait_for_a_text(&mut other, "'1'::oid")
}

#[test]
fn a_session_that_ends_while_it_waits_has_canceled_nothing() -> Result<()> {
    let (cluster, mut session) = ready("idle_ends")?;
    for (n, (before, ends_itself)) in [
        ("", false),
        ("BEGIN", false),
        ("SET idle_session_timeout = '10ms'", true),
        ("SET idle_in_transaction_session_timeout = '10ms'; BEGIN", true),
    ]
    .into_iter()
    .enumerate()
    {
        let mut victim = cluster.connect("postgres")?;
        let pid = victim.pid()?;
        // One message: the last statement of this session.
        let ran = victim.run(&format!("{before}; SELECT {}", RARE[n]));
        // The news of its end may come with the answer.
        if !ends_itself {
            ran?;
            session.run(&format!("SELECT pg_terminate_backend({pid})"))?;
        }
        wait_for_text(&mut session, &format!("SELECT count(*) FROM pg_stat_activity WHERE pid = {pid}"), "0")?;
        let counted = session.text(&format!(
            "SELECT concat_ws('|', calls, errors, cancellations, timeouts) FROM upkeep.query_stats
             WHERE query = '{}'",
            text_of(RARE[n])
        ))?;
        assert_eq!(counted, "1|0|0|0", "{before}");
    }
    Ok(())
}

#[test]
fn a_search_path_is_cut_between_characters() -> Result<()> {
    let (cluster, mut session) = ready("paths")?;
    for (name, encoding) in [("utf", "UTF8"), ("latin", "LATIN1"), ("japanese", "EUC_JP")] {
        session.run(&format!("CREATE DATABASE {name} TEMPLATE template0 ENCODING '{encoding}' LOCALE 'C'"))?;
        let mut there = cluster.connect(name)?;
        there.run("CREATE EXTENSION pg_upkeep; SELECT 1.5")?;
        wait_for_text(&mut there, "SELECT count(*) > 0 FROM upkeep._query", "t")?;
        let letter = if name == "latin" { "\u{e4}" } else { "\u{3b1}" };
        let schemas = vec![format!("\"{}\"", letter.repeat(30)); 100].join(", ");
        // One of them is cut in the middle of a character.
        for (first, rare) in [("s", RARE[0]), ("st", RARE[1])] {
            there.run(&format!("SET search_path = {first}, {schemas}"))?;
            there.run(&format!("SELECT {rare}"))?;
        }
        there.run("SET search_path = pg_catalog, upkeep")?;
        let kept =
            "SELECT count(*) || ' ' || bool_and(truncated) || ' ' || bool_and(octet_length(convert_to(search_path,
                        getdatabaseencoding())) BETWEEN 1998 AND 2000) || ' ' || bool_or(search_path LIKE '%?%')
                    FROM upkeep._query WHERE query IN ('SELECT $1::int2', 'SELECT $1::inet')";
        wait_for_text(&mut there, kept, "2 true true false")?;
    }
    Ok(())
}

#[test]
fn a_search_path_in_another_encoding_costs_no_text() -> Result<()> {
    let (cluster, mut session) = ready("other_paths")?;
    session.run("CREATE DATABASE utf TEMPLATE template0 ENCODING 'UTF8' LOCALE 'C'")?;
    session.run("CREATE DATABASE latin TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C'")?;
    let mut utf = cluster.connect("utf")?;
    utf.run("CREATE EXTENSION pg_upkeep; SELECT 1.5")?;
    wait_for_text(&mut utf, "SELECT count(*) > 0 FROM upkeep._query", "t")?;
    // Settings of databases are bytes, whichever database they were made in.
    cluster.connect("latin")?.run("ALTER DATABASE utf SET search_path = \"\u{e4}\", public")?;
    cluster.psql("utf", "SELECT '1'::oid")?;
    let kept = "SELECT search_path FROM upkeep._query WHERE query = 'SELECT $1::oid'";
    wait_for_text(&mut utf, kept, "\"?\", public")
}

#[test]
fn what_explain_runs_brings_no_secrets_along() -> Result<()> {
    let (_cluster, mut session) = ready("explained")?;
    session.run("CREATE ROLE carol; SET upkeep.track_queries = 'all'")?;
    for statements in [
        "EXPLAIN SELECT '1.1.1.1'::inet; ALTER ROLE carol PASSWORD 'sesame'",
        "CREATE TABLE made AS SELECT '1'::int2; ALTER ROLE carol PASSWORD 'sesame'",
        "BEGIN; DECLARE c CURSOR FOR SELECT '(1,2)'::point; FETCH c; ALTER ROLE carol PASSWORD 'sesame'; COMMIT",
        "DO $$BEGIN EXECUTE 'EXPLAIN SELECT 2.5; ALTER ROLE carol PASSWORD $q$sesame$q$'; END$$",
        "PREPARE p AS SELECT '1'::xid; ALTER ROLE carol PASSWORD 'sesame'",
    ] {
        session.run(statements)?;
    }
    session.run("SELECT 1.5 AS met_last")?;
    wait_for_text(&mut session, "SELECT count(*) FROM upkeep._query WHERE query = 'SELECT $1 AS met_last'", "1")?;
    let secrets =
        "SELECT coalesce(string_agg(query, ' / '), 'none') FROM upkeep._query WHERE query LIKE '%' || 'sesa' || 'me%'";
    assert_eq!(session.text(secrets)?, "none");
    Ok(())
}

#[test]
fn an_interval_that_cannot_be_written_comes_with_the_next() -> Result<()> {
    let (cluster, mut session) = ready("written_later")?;
    let mut locker = cluster.connect("postgres")?;
    locker.run("BEGIN; LOCK TABLE upkeep._query_interval IN EXCLUSIVE MODE")?;
    let before = cluster.log_position();
    session.run(MONEY)?;
    session.run(MONEY)?;
    wait_until("a drain to fail", PATIENCE, || cluster.log_since(before).contains("history of statements"))?;
    session.run(MONEY)?;
    locker.run("COMMIT")?;
    // As the statement that it was, not among the others.
    wait_for_text(&mut session, &stored(), "3")
}
