//! Figures of a standby, brought here by hand or by a cron job.

use serde::Deserialize;
use serde_json::Value;

use crate::calls::arguments;
use crate::error::{Error, INVALID_PARAMETER_VALUE, Result};
use crate::server::json::JsonB;
use crate::server::{catalog, spi};

/// What `upkeep.index_usage_snapshot()` gives; the rest of it SQL reads.
#[derive(Deserialize)]
struct Snapshot {
    format: i64,
    system_identifier: i64,
    database: u32,
    in_recovery: bool,
    taken_at: String,
    stats_since: String,
    /// Each: OID, scans, time of the last one or null.
    indexes: Vec<(u32, i64, Option<String>)>,
}

/// Longest name of a node.
const LONGEST_NAME: usize = 200;

/// Returns the number of indexes.
pub fn import(node: Option<&str>, figures: Option<Value>) -> Result<i32> {
    let node = arguments::required(node, "node")?;
    if node.is_empty() || node.len() > LONGEST_NAME {
        return Err(invalid("the name of a node has between 1 and 200 bytes")
            .hint("It is the standby's application_name in pg_stat_replication, its slot, or its address."));
    }
    let Some(figures) = figures else { return forget(node).map(|()| 0) };
    let snapshot = read(&figures)?;
    store(node, &snapshot, figures)?;
    Ok(snapshot.indexes.len() as i32)
}

fn invalid(message: impl Into<String>) -> Error {
    Error::new(INVALID_PARAMETER_VALUE, message)
}

fn read(figures: &Value) -> Result<Snapshot> {
    const HINT: &str = "On the standby, in this database: SELECT upkeep.index_usage_snapshot();";
    let snapshot: Snapshot = serde_json::from_value(figures.clone())
        .map_err(|why| invalid("these are no figures of index use").detail(format!("{why}.")).hint(HINT))?;
    if snapshot.format != 1 {
        return Err(invalid(format!("figures of format {} cannot be read", snapshot.format))
            .detail("This version reads format 1.")
            .hint("Update the extension on this server."));
    }
    let (here, database) = (catalog::system_identifier(), catalog::my_database().to_u32());
    if (snapshot.system_identifier, snapshot.database) != (here, database) {
        return Err(invalid("these figures are of another server or database")
            .detail(format!(
                "They are of system {} and database {}; this is system {here} and database {database}.",
                snapshot.system_identifier, snapshot.database
            ))
            .hint(HINT));
    }
    if !snapshot.in_recovery {
        return Err(invalid("these figures are not of a standby")
            .detail("A primary's own counters are looked at where they are.")
            .hint(HINT));
    }
    Ok(snapshot)
}

fn forget(node: &str) -> Result<()> {
    let gone = spi::bookkeeping(|| {
        spi::execute("DELETE FROM upkeep._index_usage_node WHERE node OPERATOR(pg_catalog.=) $1", &[node.into()])
    })?;
    if gone == 0 {
        return Err(Error::new(crate::error::UNDEFINED_OBJECT, format!("there are no figures of a node \"{node}\"")));
    }
    Ok(())
}

fn store(node: &str, snapshot: &Snapshot, figures: Value) -> Result<()> {
    spi::bookkeeping(|| {
        let written = spi::execute(
            "INSERT INTO upkeep._index_usage_node AS n (node, taken_at, stats_since, system_identifier, database)
             SELECT $1, t.taken_at, t.stats_since, $4, $5
             FROM (SELECT $2::pg_catalog.timestamptz AS taken_at, $3::pg_catalog.timestamptz AS stats_since) t
             WHERE t.taken_at OPERATOR(pg_catalog.<=) (pg_catalog.clock_timestamp() OPERATOR(pg_catalog.+) '1 hour'::interval)
             ON CONFLICT (node) DO UPDATE SET taken_at = excluded.taken_at, stats_since = excluded.stats_since,
                 imported_at = pg_catalog.clock_timestamp(), system_identifier = excluded.system_identifier,
                 database = excluded.database
             WHERE n.taken_at OPERATOR(pg_catalog.<=) excluded.taken_at
                OR n.system_identifier OPERATOR(pg_catalog.<>) excluded.system_identifier
                OR n.database OPERATOR(pg_catalog.<>) excluded.database",
            &[
                node.into(),
                snapshot.taken_at.as_str().into(),
                snapshot.stats_since.as_str().into(),
                catalog::system_identifier().into(),
                catalog::my_database().into(),
            ],
        )?;
        if written == 0 {
            return Err(invalid(format!("figures of node \"{node}\" taken at {} cannot be used", snapshot.taken_at))
                .detail("Later ones are here already, or the time lies in the future."));
        }
        spi::execute("DELETE FROM upkeep._index_usage WHERE node OPERATOR(pg_catalog.=) $1", &[node.into()])?;
        spi::execute(
            "INSERT INTO upkeep._index_usage (node, indexrelid, idx_scan, last_idx_scan)
             SELECT DISTINCT ON (1, 2) $1, (e.i OPERATOR(pg_catalog.->>) 0)::pg_catalog.oid,
                    (e.i OPERATOR(pg_catalog.->>) 1)::pg_catalog.int8, (e.i OPERATOR(pg_catalog.->>) 2)::pg_catalog.timestamptz
             FROM pg_catalog.jsonb_array_elements($2 OPERATOR(pg_catalog.->) 'indexes') AS e (i)",
            &[node.into(), JsonB(figures).into()],
        )?;
        mark()
    })
}

/// Known for certain: what transaction ids mean at this moment. Once a day is enough, and a year of it, and the first of all.
fn mark() -> Result<()> {
    spi::execute(
        "INSERT INTO upkeep._xid_mark SELECT
         WHERE NOT EXISTS (SELECT FROM upkeep._xid_mark m
             WHERE m.marked_at OPERATOR(pg_catalog.>) (pg_catalog.clock_timestamp() OPERATOR(pg_catalog.-) '1 day'::interval))",
        &[],
    )?;
    spi::execute(
        "DELETE FROM upkeep._xid_mark WHERE ctid OPERATOR(pg_catalog.=) ANY (ARRAY(
             SELECT x.ctid FROM upkeep._xid_mark x
             WHERE x.marked_at OPERATOR(pg_catalog.<) (pg_catalog.clock_timestamp() OPERATOR(pg_catalog.-) '400 days'::interval)
               AND x.marked_at OPERATOR(pg_catalog.>) (SELECT pg_catalog.min(m.marked_at) FROM upkeep._xid_mark m)
             FOR UPDATE SKIP LOCKED))",
        &[],
    )?;
    Ok(())
}
