//! What pg_stat_statements counts, as differences from one drain to the next that survive its resets and evictions.
//!
//! Columns are chosen by the version of the extension, not of the server: pg_upgrade leaves the old ones. What it
//! remembered last lives beside the statement's entry in shared memory, and goes with it.

use std::collections::{HashMap, HashSet};

use super::figures::{COUNTERS, Key};
use crate::error::*;
use crate::queries::raw::memory::{self, Database, Entry};
use crate::server::catch::subtransaction;
use crate::server::epoch::FROM_1970;
use crate::server::{Oid, catalog, spi};

/// Marks an entry of a version that does not say since when it counts.
const SEEN: i64 = 1;
/// It makes its entry when a statement is analyzed, we when it has ended: microseconds that planning may take.
const LEEWAY: i64 = 1_000_000;

type Counters = [u64; COUNTERS];

/// What it says of one statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Reading {
    counters: Counters,
    calls: u64,
    since: i64,
}

/// What has been added since the last drain; and what to remember.
#[derive(Default)]
pub struct Sample {
    found: Vec<Option<(Counters, Reading)>>,
    dealloc: Option<i64>,
    /// It forgot statements since the last drain.
    pub lossy: bool,
}

impl Sample {
    pub fn delta(&self, entry: usize) -> Counters {
        self.found.get(entry).copied().flatten().map_or([0; COUNTERS], |(delta, _)| delta)
    }

    /// Only once the differences are stored.
    pub fn remember(&self, database: &Database, entries: &[Entry]) {
        for (entry, found) in entries.iter().zip(&self.found) {
            if let Some((_, reading)) = found {
                memory::set_counters(entry, &reading.counters, reading.since);
            }
        }
        if let Some(dealloc) = self.dealloc {
            database.set_dealloc(dealloc);
        }
    }
}

/// What we have counted ourselves since the last drain.
#[derive(Clone, Copy)]
struct Ours {
    calls: u64,
    /// The statement has been known since then, in microseconds since 1970, less what a call of it takes.
    since: i64,
}

impl Ours {
    fn of(entry: &Entry) -> Self {
        let longest = i64::try_from(entry.figures.max / 1000).unwrap_or(i64::MAX);
        let since = entry.since.saturating_add(FROM_1970).saturating_sub(longest).saturating_sub(LEEWAY);
        Self { calls: entry.figures.histogram.count(), since }
    }

    /// All that it says is of this interval: it began with us, which the newer versions tell. Of a statement that is running
    /// on it has some calls more than we had a moment before.
    fn is_all_of(self, now: &Reading) -> bool {
        if now.since == SEEN { now.calls <= self.calls + self.calls / 8 } else { now.since >= self.since }
    }
}

/// `before`: what it said last and since when it counted, 0: nothing is known.
fn difference(before: (Counters, i64), now: &Reading, ours: Ours) -> Counters {
    let (old, since) = before;
    if since == 0 {
        // Or nobody can say how much is.
        return if ours.is_all_of(now) { now.counters } else { [0; COUNTERS] };
    }
    let went_down = old.iter().zip(&now.counters).any(|(old, now)| now < old);
    // One that learnt to say it meanwhile (ALTER EXTENSION UPDATE) still has the same counters.
    let began_anew = since != now.since && since != SEEN && now.since != SEEN;
    if began_anew || went_down {
        return now.counters;
    }
    std::array::from_fn(|i| now.counters[i] - old[i])
}

/// Reads it, if it is there. An error of it costs its counters and nothing else.
pub fn sample(database: &Database, entries: &[Entry]) -> Sample {
    let read = subtransaction(|| source()?.map(|source| Ok((source.read()?, source.dealloc()?))).transpose());
    let Ok(Some((readings, dealloc))) = read else { return Sample::default() };
    // It does not tell jobs from clients: of a statement of both in one interval the clients have it all, so that no block is
    // counted twice.
    let of_clients: HashSet<Key> = entries.iter().map(|entry| entry.key).filter(|key| !key.by_job).collect();
    let found = entries
        .iter()
        .map(|entry| {
            let key = Key { by_job: false, ..entry.key };
            let now = readings.get(&key)?;
            let added = difference(memory::counters(entry)?, now, Ours::of(entry));
            Some((if entry.key.by_job && of_clients.contains(&key) { [0; COUNTERS] } else { added }, *now))
        })
        .collect();
    let lossy = database.dealloc().is_some_and(|before| dealloc.is_some_and(|dealloc| dealloc != before));
    Sample { found, dealloc, lossy }
}

struct Source {
    schema: String,
    /// Minor version of 1.x.
    version: u32,
}

/// Its functions, if they are those of the extension and the library is loaded.
fn source() -> Result<Option<Source>> {
    if catalog::setting(c"pg_stat_statements.max").is_empty() {
        return Ok(None);
    }
    let found = spi::query_one(
        "SELECT n.nspname::pg_catalog.text, e.extversion
         FROM pg_catalog.pg_extension e
         JOIN pg_catalog.pg_depend d ON d.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_extension'::pg_catalog.regclass
             AND d.refobjid OPERATOR(pg_catalog.=) e.oid AND d.deptype OPERATOR(pg_catalog.=) 'e'
             AND d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_proc'::pg_catalog.regclass
         JOIN pg_catalog.pg_proc p ON p.oid OPERATOR(pg_catalog.=) d.objid
         JOIN pg_catalog.pg_language l ON l.oid OPERATOR(pg_catalog.=) p.prolang AND l.lanname OPERATOR(pg_catalog.=) 'c'
         JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) p.pronamespace
         WHERE e.extname OPERATOR(pg_catalog.=) 'pg_stat_statements' AND p.proname OPERATOR(pg_catalog.=) 'pg_stat_statements'
           AND pg_catalog.oidvectortypes(p.proargtypes) OPERATOR(pg_catalog.=) 'boolean'",
        &[],
        |row| Ok((row.require::<String>(1)?, row.require::<String>(2)?)),
    )?;
    Ok(found.and_then(|(schema, version)| {
        let version = version.strip_prefix("1.")?.parse().ok().filter(|&version| version >= 8)?;
        Some(Source { schema, version })
    }))
}

impl Source {
    /// The counters in the order of `_query_intervals`, times in microseconds, then calls.
    fn columns(&self) -> String {
        let since = |version: u32, column: &'static str| if self.version >= version { column } else { "0" };
        let (read, write) = match self.version {
            11.. => (
                "(shared_blk_read_time OPERATOR(pg_catalog.+) local_blk_read_time)",
                "(shared_blk_write_time OPERATOR(pg_catalog.+) local_blk_write_time)",
            ),
            _ => ("blk_read_time", "blk_write_time"),
        };
        let times = [read, write, since(10, "temp_blk_read_time"), since(10, "temp_blk_write_time")]
            .map(|time| format!("({time}::pg_catalog.float8 OPERATOR(pg_catalog.*) 1000::pg_catalog.float8)"))
            .join(", ");
        let jit = since(
            10,
            "(((jit_generation_time OPERATOR(pg_catalog.+) jit_inlining_time) OPERATOR(pg_catalog.+) jit_optimization_time)
              OPERATOR(pg_catalog.+) jit_emission_time)",
        );
        format!(
            "shared_blks_hit, shared_blks_read, shared_blks_dirtied, shared_blks_written,
             local_blks_hit, local_blks_read, local_blks_dirtied, local_blks_written, temp_blks_read, temp_blks_written,
             {times}, wal_records, wal_fpi, wal_bytes::pg_catalog.float8, {},
             ({jit}::pg_catalog.float8 OPERATOR(pg_catalog.*) 1000::pg_catalog.float8), calls",
            since(10, "jit_functions"),
        )
    }

    fn read(&self) -> Result<HashMap<Key, Reading>> {
        let toplevel = if self.version >= 9 { "toplevel" } else { "true" };
        let since = if self.version >= 11 {
            "((pg_catalog.date_part('epoch', stats_since) OPERATOR(pg_catalog.*) 1000000::pg_catalog.float8)::pg_catalog.int8)"
        } else {
            "NULL::pg_catalog.int8"
        };
        let rows = spi::query(
            &format!(
                "SELECT queryid, userid, {toplevel}, ARRAY[{}]::pg_catalog.float8[], {since}
                 FROM {}.pg_stat_statements(false) WHERE dbid OPERATOR(pg_catalog.=) $1 AND queryid IS NOT NULL",
                self.columns(),
                pgrx::spi::quote_identifier(&self.schema),
            ),
            &[catalog::my_database().into()],
            |row| {
                let key = Key {
                    queryid: row.next()?,
                    user: row.next::<Oid>()?.to_u32(),
                    toplevel: row.next()?,
                    by_job: false,
                };
                let values: Vec<f64> = row.next()?;
                let value = |i: usize| values.get(i).map_or(0, |&value| value.max(0.0) as u64);
                let counters = std::array::from_fn(value);
                Ok((key, Reading { counters, calls: value(COUNTERS), since: row.next_or_null()?.unwrap_or(SEEN) }))
            },
        )?;
        Ok(rows.into_iter().collect())
    }

    /// How often it has made room.
    fn dealloc(&self) -> Result<Option<i64>> {
        if self.version < 9 {
            return Ok(None);
        }
        let sql =
            format!("SELECT dealloc FROM {}.pg_stat_statements_info()", pgrx::spi::quote_identifier(&self.schema));
        spi::query_one(&sql, &[], |row| row.require(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(value: u64, calls: u64, since: i64) -> Reading {
        Reading { counters: [value; COUNTERS], calls, since }
    }

    #[test]
    fn a_difference_survives_resets_and_is_never_negative() {
        let delta = |before, since, now: Reading, calls| {
            difference(([before; COUNTERS], since), &now, Ours { calls, since: 7 })[0]
        };
        assert_eq!(delta(10, 7, reading(15, 3, 7), 1), 5);
        assert_eq!(delta(10, 7, reading(15, 1, 8), 1), 15, "evicted and back with more than before");
        assert_eq!(delta(10, SEEN, reading(4, 1, SEEN), 1), 4, "gone down");
        assert_eq!(delta(10, SEEN, reading(15, 3, 7), 1), 5, "it was updated meanwhile");
        assert_eq!(delta(0, 0, reading(15, 9, 8), 3), 15, "it began with us, and is running on");
        assert_eq!(delta(0, 0, reading(15, 3, 6), 3), 0, "it began before us: nobody knows how much is new");
        assert_eq!(delta(0, 0, reading(15, 90, SEEN), 80), 15, "as many calls as we have, or hardly more");
        assert_eq!(delta(0, 0, reading(15, 91, SEEN), 80), 0, "it began before us");
    }

    #[test]
    fn every_version_has_as_many_columns() {
        let columns = |version| {
            let text = Source { schema: "s".into(), version }.columns();
            let mut depth = 0;
            text.chars().fold(1, |count, c| {
                depth += i32::from(c == '(') - i32::from(c == ')');
                count + usize::from(c == ',' && depth == 0)
            })
        };
        for version in 8..14 {
            assert_eq!(columns(version), COUNTERS + 1, "{version}");
        }
    }
}
