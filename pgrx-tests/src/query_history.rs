//! A history of statements made by hand: a second implementation of the format in `src/queries/packed.rs`, so that known
//! latencies can be read back, and a change of the format is noticed.

use std::collections::BTreeMap;

use anyhow::Result;

use crate::session::Session;

/// What one statement did within an interval.
#[derive(Clone, Debug, Default)]
pub struct Statement {
    pub queryid: i64,
    pub userid: u32,
    pub nested: bool,
    /// Bucket and calls.
    pub histogram: BTreeMap<usize, u64>,
    /// In us.
    pub total: u64,
    pub min: u64,
    pub max: u64,
    pub rows: u64,
    /// Errors, cancellations, timeouts, of unknown cause.
    pub failures: [u64; 4],
    /// In the order of the columns of `_query_intervals`, whose times are in us here.
    pub counters: Vec<u64>,
}

/// From 4 us on each octave has four buckets.
pub fn bucket(us: u64) -> usize {
    match us.checked_ilog2() {
        None | Some(0 | 1) => us as usize,
        Some(octave) => ((octave as usize - 1) * 4 + ((us >> (octave - 2)) & 3) as usize).min(127),
    }
}

impl Statement {
    pub fn new(queryid: i64, userid: u32) -> Self {
        Statement { queryid, userid, ..Statement::default() }
    }

    pub fn latencies(mut self, all: impl IntoIterator<Item = u64>) -> Self {
        for us in all {
            self.min = if self.histogram.is_empty() { us } else { self.min.min(us) };
            self.max = self.max.max(us);
            self.total += us;
            self.rows += 1;
            *self.histogram.entry(bucket(us)).or_default() += 1;
        }
        self
    }
}

fn varint(bytes: &mut Vec<u8>, mut value: u64) {
    while value > 127 {
        bytes.push((value & 127) as u8 | 128);
        value >>= 7;
    }
    bytes.push(value as u8);
}

/// All statements of an interval.
pub fn pack(statements: &[Statement]) -> Vec<u8> {
    let mut statements: Vec<_> = statements.iter().collect();
    statements.sort_by_key(|s| (s.queryid, s.userid, s.nested));
    let mut users: Vec<_> = statements.iter().map(|s| s.userid).collect();
    users.sort_unstable();
    users.dedup();
    let mut bytes = vec![1];
    varint(&mut bytes, users.len() as u64);
    users.iter().for_each(|&user| varint(&mut bytes, user.into()));
    varint(&mut bytes, statements.len() as u64);
    statements.iter().for_each(|s| bytes.extend(s.queryid.to_le_bytes()));
    let bodies: Vec<_> = statements.iter().map(|s| body(s, users.binary_search(&s.userid).unwrap_or(0))).collect();
    bodies.iter().for_each(|body| varint(&mut bytes, body.len() as u64));
    bodies.into_iter().for_each(|body| bytes.extend(body));
    bytes
}

fn body(s: &Statement, user: usize) -> Vec<u8> {
    let mut bytes = vec![u8::from(!s.nested) | 2 | if s.counters.is_empty() { 0 } else { 4 }];
    varint(&mut bytes, user as u64);
    varint(&mut bytes, s.histogram.len() as u64);
    let mut next = 0;
    for (&bucket, &calls) in &s.histogram {
        varint(&mut bytes, (bucket - next) as u64);
        varint(&mut bytes, calls);
        next = bucket + 1;
    }
    for value in [1000 * s.total, 1000 * s.min, 1000 * (s.max - s.min), s.rows].into_iter().chain(s.failures) {
        varint(&mut bytes, value);
    }
    if !s.counters.is_empty() {
        varint(&mut bytes, (1 << s.counters.len()) - 1);
        s.counters.iter().for_each(|&counter| varint(&mut bytes, counter));
    }
    bytes
}

/// How long the rows of a level are: `minutes` are as long as the test likes.
#[derive(Clone, Copy)]
pub enum Level {
    Minutes,
    Hours,
    Days,
}

/// Stores an interval. `started` is an SQL expression; of hours and days it must be their beginning in UTC.
pub fn insert(
    session: &mut Session,
    level: Level,
    started: &str,
    length: &str,
    statements: &[Statement],
) -> Result<()> {
    let level = level as i32;
    let entries: String = pack(statements).iter().map(|byte| format!("{byte:02x}")).collect();
    session.run(&format!(
        "INSERT INTO upkeep._query_interval (ring, level, period, started_at, finished_at, parts, flags, statements, entries)
         SELECT 8 * {level} + position, {level}, s.at, s.at, s.at + interval '{length}', 1, 0, {}, '\\x{entries}'
           FROM upkeep._query_ring, (SELECT ({started})::timestamptz) s(at) WHERE level = {level}",
        statements.len()
    ))
}

/// A generator of known latencies: the same ones each time.
pub struct Chance(pub u64);

impl Chance {
    /// From 0 to 1.
    pub fn uniform(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        ((self.0 ^ (self.0 >> 29)) >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Logarithms of latencies are normal, as they mostly are: `median` in us.
    pub fn latency(&mut self, median: f64, spread: f64) -> u64 {
        let sum: f64 = (0..12).map(|_| self.uniform()).sum();
        (median * ((sum - 6.0) * spread).exp()) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_those_of_the_extension() {
        assert_eq!([0, 1, 3, 4, 7, 8, 9, 10, 16, 2048, u64::MAX].map(bucket), [0, 1, 3, 4, 7, 8, 8, 9, 12, 40, 127]);
    }
}
