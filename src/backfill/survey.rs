//! Looking at a table before its backfill: a bounded number of short reads.

use std::time::{Duration, Instant};

use super::statements::Parts;
use super::strategy::{Facts, KeyFacts};
use crate::error::Result;
use crate::server::{Oid, heap, spi};
use crate::sql::glue::Glue;

/// Places in the table that are read, blocks read at each, and when to stop early.
const SPOTS: u32 = 16;
const SPOT_BLOCKS: u32 = 2;
const ENOUGH: Duration = Duration::from_millis(100);

/// A transaction this old will outlast many windows of a strided backfill.
const OLD_SNAPSHOT: &str = "10 seconds";

/// A table's facts, seen with the rights of whoever is asking; `parts` say how statements reach it.
pub fn facts(relid: Oid, parts: &Parts, columns: &[String]) -> Result<Facts> {
    let blocks = heap::blocks(relid);
    let sample = sample_rows(parts, blocks)?;
    let free = heap::free_space(relid, SPOTS)?;
    let page_free = mean(&free);
    Ok(Facts {
        blocks,
        rows: sample.rows_per_block() * f64::from(blocks),
        matching: sample.matching_part(),
        page_used: (USABLE - page_free).max(1.0),
        page_free,
        has_condition: parts.condition.is_some(),
        key: parts.key.as_ref().map(|key| KeyFacts {
            names: key.names(),
            is_hashable: key.is_hashable,
            correlation: key.correlation,
        }),
        filled_index: filled_index(relid, columns)?,
        held_by: held_by()?,
    })
}

/// Bytes of a page that rows can have: all but its header.
const USABLE: f64 = 8192.0 - 24.0;

#[derive(Default)]
struct Sample {
    blocks: i64,
    rows: i64,
    matching: i64,
}

impl Sample {
    fn rows_per_block(&self) -> f64 {
        self.rows as f64 / self.blocks.max(1) as f64
    }

    fn matching_part(&self) -> f64 {
        if self.rows == 0 { 1.0 } else { self.matching as f64 / self.rows as f64 }
    }
}

fn sample_rows(parts: &Parts, blocks: u32) -> Result<Sample> {
    let started = Instant::now();
    let mut sample = Sample::default();
    for first in heap::spread(blocks, SPOTS) {
        let last = first.saturating_add(SPOT_BLOCKS).min(blocks);
        let glue = Glue::new("SELECT pg_catalog.count(*), pg_catalog.count(*) FILTER (WHERE ")
            .theirs(parts.condition.as_ref().map_or("true", |condition| &condition.text))
            .ours(&format!(
                ") FROM {} WHERE {}ctid OPERATOR(pg_catalog.>=) '({first},0)'::pg_catalog.tid \
               AND ctid OPERATOR(pg_catalog.<) '({last},0)'::pg_catalog.tid",
                parts.table,
                parts.own(),
            ));
        let found: Option<(i64, i64)> =
            spi::theirs::query_one(glue.text(), &glue.fragments(), |row| Ok((row.require(1)?, row.require(2)?)))?;
        let (rows, matching) = found.unwrap_or_default();
        sample.blocks += i64::from(last - first);
        sample.rows += rows;
        sample.matching += matching;
        if started.elapsed() > ENOUGH {
            break;
        }
    }
    Ok(sample)
}

fn mean(values: &[usize]) -> f64 {
    values.iter().sum::<usize>() as f64 / values.len().max(1) as f64
}

/// An index that depends on one of the columns, in its keys, its INCLUDE list, an
/// expression or its predicate. From 16 on BRIN does not stand in the way of HOT.
const FILLED_INDEX: &str = "
    SELECT c.relname::pg_catalog.text
    FROM pg_catalog.pg_index i
    JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) i.indexrelid
    JOIN pg_catalog.pg_am am ON am.oid OPERATOR(pg_catalog.=) c.relam
    JOIN pg_catalog.pg_attribute a
         ON a.attrelid OPERATOR(pg_catalog.=) i.indrelid
        AND a.attname::pg_catalog.text OPERATOR(pg_catalog.=) ANY ($2)
    WHERE i.indrelid OPERATOR(pg_catalog.=) $1 AND i.indislive
      AND (am.amname OPERATOR(pg_catalog.<>) 'brin'
           OR pg_catalog.current_setting('server_version_num')::pg_catalog.int4
              OPERATOR(pg_catalog.<) 160000)
      AND (a.attnum OPERATOR(pg_catalog.=) ANY (i.indkey::pg_catalog.int2[])
           OR EXISTS (SELECT FROM pg_catalog.pg_depend d
                      WHERE d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_class'::pg_catalog.regclass
                        AND d.objid OPERATOR(pg_catalog.=) i.indexrelid
                        AND d.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_class'::pg_catalog.regclass
                        AND d.refobjid OPERATOR(pg_catalog.=) i.indrelid
                        AND d.refobjsubid OPERATOR(pg_catalog.=) a.attnum))
    ORDER BY c.relname LIMIT 1";

fn filled_index(relid: Oid, columns: &[String]) -> Result<Option<String>> {
    spi::query_one(FILLED_INDEX, &[relid.into(), columns.to_vec().into()], |row| row.require(1))
}

/// Whose snapshot is old: sessions of this database and of standbys, slots, and
/// prepared transactions. Names a process and its role, never what it runs.
const HELD_BY: &str = "
    SELECT h.who FROM (
        SELECT pg_catalog.format('process %s (%s), in a transaction for %s s,', a.pid,
                   coalesce(a.usename::pg_catalog.text, a.backend_type),
                   pg_catalog.date_part('epoch', pg_catalog.now() OPERATOR(pg_catalog.-) a.xact_start)::pg_catalog.int8),
               a.xact_start
        FROM pg_catalog.pg_stat_activity a
        WHERE a.backend_xmin IS NOT NULL
          AND a.pid OPERATOR(pg_catalog.<>) pg_catalog.pg_backend_pid()
          AND (a.datname OPERATOR(pg_catalog.=) pg_catalog.current_database())
          AND a.backend_type OPERATOR(pg_catalog.<>) 'autovacuum worker'
        UNION ALL
        SELECT pg_catalog.format(CASE WHEN l.database IS NULL THEN 'the standby %s' ELSE 'the subscriber %s' END, r.application_name), NULL
        FROM pg_catalog.pg_stat_replication r
        LEFT JOIN pg_catalog.pg_replication_slots l ON l.active_pid OPERATOR(pg_catalog.=) r.pid
        WHERE (l.database IS NULL OR l.database OPERATOR(pg_catalog.=) pg_catalog.current_database())
          AND r.backend_xmin IS NOT NULL
          AND pg_catalog.age(r.backend_xmin) OPERATOR(pg_catalog.>) 10000
        UNION ALL
        SELECT pg_catalog.format('the replication slot %s', s.slot_name), NULL
        FROM pg_catalog.pg_replication_slots s
        WHERE s.xmin IS NOT NULL AND pg_catalog.age(s.xmin) OPERATOR(pg_catalog.>) 10000
        UNION ALL
        SELECT pg_catalog.format('the prepared transaction %s', p.transaction), p.prepared
        FROM pg_catalog.pg_prepared_xacts p
        WHERE p.database OPERATOR(pg_catalog.=) pg_catalog.current_database()
    ) h (who, since)
    WHERE h.since IS NULL
       OR h.since OPERATOR(pg_catalog.<) (pg_catalog.clock_timestamp()
              OPERATOR(pg_catalog.-) $1::pg_catalog.interval)
    ORDER BY h.since NULLS FIRST LIMIT 1";

/// Who keeps dead rows from being pruned for long, if anybody does.
pub fn held_by() -> Result<Option<String>> {
    spi::bookkeeping(|| spi::query_one(HELD_BY, &[OLD_SNAPSHOT.into()], |row| row.require(1)))
}
