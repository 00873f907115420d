//! What a statement has cost in some time.

use super::histogram::Histogram;

/// Counters that come from pg_stat_statements.
#[cfg(not(loom))]
pub const COUNTERS: usize = 19;
#[cfg(loom)]
pub const COUNTERS: usize = 1;

/// Ways to fail that are told apart.
#[cfg(not(loom))]
pub const FAILURES: usize = 4;
#[cfg(loom)]
pub const FAILURES: usize = 1;

/// Times are in nanoseconds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// How many executions succeeded, and how long they took.
    pub histogram: Histogram,
    pub rows: u64,
    pub total: u64,
    pub min: u64,
    pub max: u64,
    /// Errors, cancellations, statement timeouts, errors of unknown cause.
    pub failures: [u64; FAILURES],
}

impl Figures {
    pub fn is_empty(&self) -> bool {
        self.failures.iter().all(|&count| count == 0) && self.histogram.is_empty()
    }

    pub fn merge(&mut self, other: &Figures) {
        if !other.histogram.is_empty() {
            self.min = if self.histogram.is_empty() { other.min } else { self.min.min(other.min) };
            self.max = self.max.max(other.max);
        }
        self.histogram.merge(&other.histogram);
        self.rows = self.rows.saturating_add(other.rows);
        self.total = self.total.saturating_add(other.total);
        for (sum, &count) in self.failures.iter_mut().zip(&other.failures) {
            *sum = sum.saturating_add(count);
        }
    }
}

/// What is counted apart. Queryid 0: "others".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    pub queryid: i64,
    pub user: u32,
    pub toplevel: bool,
    /// Executed by the worker of a job.
    pub by_job: bool,
}

/// A statement in an interval.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    pub key: Key,
    pub figures: Figures,
    /// Blocks, bytes, records, and times in microseconds, in the order of the columns of `_query_intervals`.
    pub counters: [u64; COUNTERS],
}

impl Record {
    pub fn merge(&mut self, other: &Record) {
        self.figures.merge(&other.figures);
        for (sum, &value) in self.counters.iter_mut().zip(&other.counters) {
            *sum = sum.saturating_add(value);
        }
    }
}
