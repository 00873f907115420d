//! What pg_stat_statements counts, as differences from one drain to the next that survive its resets and evictions.

use std::sync::atomic::Ordering;

use super::figures::COUNTERS;
use crate::error::*;
use crate::server::query_memory::{Database, Entry};

/// What it says now, by entry.
#[derive(Default)]
pub struct Sample {
    /// What has been added since the last drain, and what to remember: values and since when they count.
    found: Vec<Option<([u64; COUNTERS], [u64; COUNTERS], i64)>>,
    dealloc: Option<i64>,
    pub lossy: bool,
}

impl Sample {
    pub fn delta(&self, entry: usize) -> [u64; COUNTERS] {
        self.found.get(entry).copied().flatten().map_or([0; COUNTERS], |(delta, _, _)| delta)
    }

    /// Only once the differences are stored.
    pub fn remember(&self, database: &Database, entries: &[Entry]) {
        for (entry, found) in entries.iter().zip(&self.found) {
            if let Some((_, values, since)) = found {
                entry.set_counters(values, *since);
            }
        }
        if let Some(dealloc) = self.dealloc {
            database.dealloc.store(dealloc + 1, Ordering::Relaxed);
        }
    }
}

pub fn sample(_database: &Database, _entries: &[Entry]) -> Result<Sample> {
    Ok(Sample::default())
}
