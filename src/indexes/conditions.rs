//! What holds for every index at this moment: since when they are watched, on which nodes, and what speaks against a verdict.

use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use super::age::{self, Mark};
use super::nodes::{self, Node, Standby};
use super::words::length;
use crate::error::Result;
use crate::server::{catalog, citus, epoch, index, spi};
use crate::settings;

/// Microseconds since 2000.
type Time = i64;

pub fn now() -> Result<Value> {
    let now = catalog::now();
    let min_age = settings::index_min_age().as_micros() as i64;
    let since = stats_since()?;
    let (fresh, elsewhere) = nodes::judge(&standbys()?, &away()?, &imported()?, now, min_age);
    let setting = length(min_age);
    // Their rows, and whoever looks for them, are on many nodes: nobody can judge by what is counted on this one.
    let distributed = citus::tables()?;
    let unknown = if index::in_recovery() {
        Some("this is a standby: ask the primary, with this server's figures imported".to_owned())
    } else if !index::counts_are_tracked() {
        Some("track_counts is off: use is not counted".to_owned())
    } else if now - since < min_age {
        Some(format!("the statistics cover only {}, less than upkeep.index_min_age ({setting})", length(now - since)))
    } else if distributed.is_none() {
        Some("Citus is here, and which tables it keeps on other nodes is hidden from you".to_owned())
    } else {
        elsewhere
    };
    let next = index::next_transaction_id();
    let threshold = age::threshold(&marks(next)?, Mark { xid: next, time: now, exact: true }, now - min_age);
    Ok(json!({
        "stats_since": timestamp(since)?,
        "in_recovery": index::in_recovery(),
        "min_age": setting,
        "nodes": fresh.len(),
        "fresh_nodes": fresh,
        "unknown": unknown,
        "distributed": distributed.unwrap_or_default().into_iter().map(|relid| relid.to_u32()).collect::<Vec<_>>(),
        "young_xids": threshold.estimated.min(i32::MAX as u64),
        "surely_young_xids": threshold.certain.min(i32::MAX as u64),
    }))
}

/// Since when every scan has been counted. Any reset in this database, of one index too, moves `stats_reset` of the database. What a crash
/// throws away is not noted there; but it resets the counters of the whole server, and none of those
/// can have been reset earlier. A database that is younger than all of that has counted since it was made.
fn stats_since() -> Result<Time> {
    let reset = spi::query_one(
        "SELECT (pg_catalog.date_part('epoch', greatest(
                    (SELECT d.stats_reset FROM pg_catalog.pg_stat_database d
                     WHERE d.datname OPERATOR(pg_catalog.=) pg_catalog.current_database()),
                    least((SELECT b.stats_reset FROM pg_catalog.pg_stat_bgwriter b),
                          (SELECT a.stats_reset FROM pg_catalog.pg_stat_archiver a),
                          (SELECT w.stats_reset FROM pg_catalog.pg_stat_wal w),
                          (SELECT pg_catalog.min(s.stats_reset) FROM pg_catalog.pg_stat_slru s))
                )) OPERATOR(pg_catalog.*) 1000000)::pg_catalog.int8",
        &[],
        |row| row.get::<i64>(1),
    )?;
    let reset = reset.flatten().map(from_unix);
    let created = index::database_created().map(from_system);
    Ok(reset.into_iter().chain(created).max().unwrap_or_else(catalog::now))
}

/// Physical standbys: connected, following the WAL by replaying it, in no database.
fn standbys() -> Result<Vec<Standby>> {
    // pg_stat_replication shows an ordinary role nothing (LAW 15).
    spi::bookkeeping(|| {
        spi::query(
            "SELECT r.application_name, pg_catalog.count(*) OVER (PARTITION BY r.application_name) OPERATOR(pg_catalog.=) 1,
                    s.slot_name::pg_catalog.text, pg_catalog.host(r.client_addr)
             FROM pg_catalog.pg_stat_replication r
             JOIN pg_catalog.pg_stat_activity a ON a.pid OPERATOR(pg_catalog.=) r.pid
             LEFT JOIN pg_catalog.pg_replication_slots s ON s.active_pid OPERATOR(pg_catalog.=) r.pid
             WHERE a.datid IS NULL AND r.state OPERATOR(pg_catalog.<>) 'backup' AND r.replay_lsn IS NOT NULL
             ORDER BY r.application_name, s.slot_name, r.pid",
            &[],
            |row| {
                Ok(Standby {
                    application_name: row.next_or_null()?.unwrap_or_default(),
                    alone: row.next()?,
                    slot: row.next_or_null()?,
                    address: row.next_or_null()?,
                })
            },
        )
    })
}

/// Slots that wait for a standby which is not connected just now.
fn away() -> Result<Vec<String>> {
    spi::query(
        "SELECT s.slot_name::pg_catalog.text FROM pg_catalog.pg_replication_slots s
         WHERE s.slot_type OPERATOR(pg_catalog.=) 'physical' AND NOT s.active AND NOT s.temporary ORDER BY 1",
        &[],
        |row| row.require(1),
    )
}

/// Standbys whose figures were imported here. Those that came with a copy of another server's tables mean other OIDs.
fn imported() -> Result<Vec<Node>> {
    spi::bookkeeping(|| {
        spi::query(
            "SELECT node, (pg_catalog.date_part('epoch', taken_at) OPERATOR(pg_catalog.*) 1000000)::pg_catalog.int8,
                    (pg_catalog.date_part('epoch', stats_since) OPERATOR(pg_catalog.*) 1000000)::pg_catalog.int8
             FROM upkeep._index_usage_node
             WHERE system_identifier OPERATOR(pg_catalog.=) $1 AND database OPERATOR(pg_catalog.=) $2 ORDER BY node",
            &[catalog::system_identifier().into(), catalog::my_database().into()],
            |row| Ok(Node { name: row.next()?, taken_at: from_unix(row.next()?), stats_since: from_unix(row.next()?) }),
        )
    })
}

fn marks(next: u64) -> Result<Vec<Mark>> {
    let mut marks = spi::bookkeeping(|| {
        spi::query(
            "SELECT xid, (pg_catalog.date_part('epoch', marked_at) OPERATOR(pg_catalog.*) 1000000)::pg_catalog.int8 FROM upkeep._xid_mark",
            &[],
            |row| Ok(Mark { xid: row.require::<i64>(1)? as u64, time: from_unix(row.require(2)?), exact: true }),
        )
    })?;
    let segments = index::transaction_log_segments();
    marks.extend(segments.into_iter().filter_map(|(number, time)| age::segment_mark(number, from_system(time), next)));
    // The server's own beginning.
    marks.extend(index::server_created().map(|time| Mark { xid: 3, time: from_system(time), exact: false }));
    Ok(marks)
}

fn from_unix(microseconds: i64) -> Time {
    microseconds - epoch::FROM_1970
}

fn from_system(time: SystemTime) -> Time {
    from_unix(time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO).as_micros() as i64)
}

/// As SQL reads it back, whatever DateStyle is.
fn timestamp(time: Time) -> Result<String> {
    let text = spi::query_one(
        "SELECT pg_catalog.to_char(pg_catalog.timezone('UTC', pg_catalog.to_timestamp($1)), 'YYYY-MM-DD HH24:MI:SS.US')",
        &[((time + epoch::FROM_1970) as f64 / 1e6).into()],
        |row| row.require::<String>(1),
    )?;
    Ok(text.unwrap_or_default() + "+00")
}
