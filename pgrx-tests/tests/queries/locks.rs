//! The history of statements while somebody holds locks on it: what is counted is stored all the same.

use anyhow::Result;
use upkeep_tests::cluster::{Cluster, ClusterBuilder};
use upkeep_tests::query_history::{Chance, Level, Statement, insert};
use upkeep_tests::session::Session;
use upkeep_tests::testing::{self, wait_for_text};

const MONEY: &str = "SELECT '1'::money";
const READ: &str = "BEGIN; SELECT count(*) FROM upkeep.query_history('-infinity', 'infinity')";
/// 2027-06-15 12:00 UTC.
const NOON: i64 = 1_813_060_800;
const HOUR: i64 = 3600;

fn counted_every_second(name: &str) -> ClusterBuilder {
    testing::server(name).preloaded().set("upkeep.query_interval", 1).set("timezone", "UTC")
}

/// With an ordinary role.
fn ready(cluster: &Cluster) -> Result<Session> {
    let mut session = cluster.connect("postgres")?;
    session.run("CREATE EXTENSION pg_upkeep; CREATE ROLE reader LOGIN")?;
    Ok(session)
}

/// Counts, and waits until the history has all of it.
fn count_once_more(session: &mut Session, calls: &mut i32) -> Result<()> {
    session.run(MONEY)?;
    *calls += 1;
    let stored = "SELECT sum(calls) FROM upkeep._query_intervals('-infinity', 'infinity')
                  WHERE queryid = (SELECT queryid FROM upkeep._query WHERE query = 'SELECT $1::money')";
    wait_for_text(session, stored, &calls.to_string())
}

fn many() -> Vec<Statement> {
    let mut chance = Chance(3);
    (1..=3000).map(|id| Statement::new(id * 7919, 10).latencies((0..8).map(|_| chance.latency(900.0, 1.0)))).collect()
}

#[test]
fn a_reader_in_a_transaction_keeps_no_interval_from_being_stored() -> Result<()> {
    let cluster = counted_every_second("idle_reader").start()?;
    let mut session = ready(&cluster)?;
    let mut calls = 0;
    count_once_more(&mut session, &mut calls)?;
    let mut reader = cluster.connect_as("postgres", "reader")?;
    let pid = reader.pid()?;
    reader.run(READ)?;
    // The ring is to move on, and its next partition is not empty.
    session.run("UPDATE upkeep._query_ring SET position = 1 WHERE level = 0")?;
    insert(&mut session, Level::Minutes, "now() - interval '3 days'", "1 minute", &[Statement::new(1, 1)])?;
    session.run("UPDATE upkeep._query_ring SET position = 0, since = now() - interval '1 day' WHERE level = 0")?;
    for _ in 0..3 {
        count_once_more(&mut session, &mut calls)?;
    }
    // Nor does what waits for him.
    let error = session.error("SELECT upkeep.reset_query_stats(history => true)")?;
    assert_eq!(error.code().code(), "55P03");
    assert!(error.detail().is_some_and(|detail| detail.contains(&format!("held by pid {pid}"))), "{error:?}");
    count_once_more(&mut session, &mut calls)?;
    let position = "SELECT position FROM upkeep._query_ring WHERE level = 0";
    assert_eq!(session.text(position)?, "0");
    let told = format!("waits for the lock on upkeep._query_minutes_1 to empty it; held by pid {pid} (");
    assert_eq!(cluster.log().matches(&told).count(), 1, "{}", cluster.log());
    let advice = "SELECT coalesce(advice, '') LIKE '%Old history of statements is not dropped%' FROM upkeep.status";
    assert_eq!(session.text(advice)?, "t");

    reader.run("COMMIT")?;
    count_once_more(&mut session, &mut calls)?;
    assert_eq!(session.text(position)?, "1");
    // It is said a moment after it was done.
    wait_for_text(&mut session, advice, "f")?;
    let old = "SELECT count(*) FROM upkeep._query_interval WHERE level = 0 AND period < now() - interval '2 days'";
    assert_eq!(session.text(old)?, "0", "it was emptied before");
    // The next one who is in the way is news.
    reader.run(READ)?;
    session.run("UPDATE upkeep._query_ring SET position = 2 WHERE level = 0")?;
    insert(&mut session, Level::Minutes, "now() - interval '3 days'", "1 minute", &[Statement::new(1, 1)])?;
    session.run("UPDATE upkeep._query_ring SET position = 1, since = now() - interval '1 day' WHERE level = 0")?;
    count_once_more(&mut session, &mut calls)?;
    assert_eq!(cluster.log().matches(&told.replace("minutes_1", "minutes_2")).count(), 1, "{}", cluster.log());
    Ok(())
}

#[test]
fn a_history_that_somebody_reads_stays_within_its_size() -> Result<()> {
    let cluster = counted_every_second("read_and_large")
        .set("upkeep.query_history_size", "3MB")
        .set("upkeep.query_minute_retention", "30d")
        .clock(NOON)
        .start()?;
    let mut session = ready(&cluster)?;
    let mut calls = 0;
    count_once_more(&mut session, &mut calls)?;
    let mut reader = cluster.connect_as("postgres", "reader")?;
    reader.run(READ)?;
    // So old that nobody adds up hours of them.
    for ring in 0..4 {
        session.run(&format!("UPDATE upkeep._query_ring SET position = {ring}, since = now() WHERE level = 0"))?;
        for row in 0..16 {
            let started = format!("now() - interval '5 days' - interval '{} minutes'", 600 - 100 * ring - row);
            insert(&mut session, Level::Minutes, &started, "1 minute", &many())?;
        }
    }
    insert(&mut session, Level::Hours, "date_trunc('hour', now()) - interval '2 days'", "1 hour", &many())?;
    // Once an hour it is looked whether there is too much.
    cluster.set_clock(NOON + HOUR)?;
    count_once_more(&mut session, &mut calls)?;
    let held = "SELECT sum(pg_column_size(entries)) BETWEEN 1000000 AND 3 << 20 FROM upkeep._query_interval";
    wait_for_text(&mut session, held, "t")?;
    let left = "SELECT count(*) FILTER (WHERE ring = 0 AND finished_at < now() - interval '4 days') || ' ' ||
                       (count(*) FILTER (WHERE level = 1) > 0) FROM upkeep._query_interval";
    assert_eq!(session.text(left)?, "0 true", "the oldest minutes are gone, hours are not");
    count_once_more(&mut session, &mut calls)?;
    // What the rows have left behind goes when nobody is in the way.
    reader.run("COMMIT")?;
    cluster.set_clock(NOON + 2 * HOUR)?;
    count_once_more(&mut session, &mut calls)?;
    let size = "SELECT sum(pg_total_relation_size(relid)) <= 3 << 20 FROM pg_partition_tree('upkeep._query_interval') WHERE isleaf";
    wait_for_text(&mut session, size, "t")
}

#[test]
fn a_snapshot_that_is_kept_costs_no_texts() -> Result<()> {
    let cluster = counted_every_second("snapshot").set("upkeep.query_history_size", "1MB").start()?;
    let mut session = ready(&cluster)?;
    let mut reader = cluster.connect_as("postgres", "reader")?;
    reader.run(&format!("BEGIN ISOLATION LEVEL REPEATABLE READ; {READ}"))?;
    // More than a quarter of that size: some leave, and take their room until they are vacuumed.
    let terms =
        |n: i32| (0..11).map(|bit| if n >> bit & 1 == 1 { "1 + 1" } else { "1 * 1" }).collect::<Vec<_>>().join(", ");
    session.run(&(0..2000).map(|n| format!("SELECT {}", terms(n))).collect::<Vec<_>>().join("; "))?;
    let count = "SELECT count(*) FROM upkeep._query";
    wait_for_text(&mut session, &format!("SELECT ({count}) > 300"), "t")?;
    for (n, kind) in ["int2", "inet", "point", "xid", "bit", "oid"].into_iter().enumerate() {
        let value = ["1", "1.1.1.1", "(1,2)", "1", "1", "1"][n];
        session.run(&format!("SELECT '{value}'::{kind}"))?;
        let kept = format!("SELECT count(*) FROM upkeep._query WHERE query = 'SELECT $1::{kind}'");
        wait_for_text(&mut session, &kept, "1")?;
    }
    let left: i64 = session.value(count)?;
    assert!(left > 300, "{left}");
    Ok(())
}

#[test]
fn an_hour_that_cannot_be_added_up_keeps_no_other_from_it() -> Result<()> {
    let mut cluster = counted_every_second("damaged").start()?;
    let mut session = ready(&cluster)?;
    let hour = |ago: i32| format!("date_trunc('hour', now()) - interval '{ago} hours'");
    for ago in [5, 4] {
        insert(&mut session, Level::Minutes, &hour(ago), "1 minute", &[Statement::new(1, 1)])?;
    }
    session.run(&format!("UPDATE upkeep._query_interval SET entries = '\\x00' WHERE period = {}", hour(5)))?;
    // Something that is too old leaves all the same.
    session.run("UPDATE upkeep._query_ring SET position = 3 WHERE level = 0")?;
    insert(&mut session, Level::Minutes, "now() - interval '9 days'", "1 minute", &[Statement::new(1, 1)])?;
    session.run("UPDATE upkeep._query_ring SET position = 0 WHERE level = 0")?;
    // The first drain of a server adds up what is over.
    cluster.restart()?;
    let mut session = cluster.connect("postgres")?;
    session.run(MONEY)?;
    let sums = |ago| format!("SELECT count(*) FROM upkeep._query_interval WHERE level = 1 AND period = {}", hour(ago));
    wait_for_text(&mut session, &sums(4), "1")?;
    assert_eq!(session.text(&sums(5))?, "0");
    wait_for_text(&mut session, "SELECT count(*) FROM upkeep._query_interval WHERE ring = 3", "0")?;
    let told = "passed over a sum of the history of statements";
    upkeep_tests::wait::wait_until("the log to tell it", upkeep_tests::cluster::PATIENCE, || {
        cluster.log().contains(told)
    })
}
