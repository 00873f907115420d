//! All statements of an interval in one string of bytes, some 15 to 30 of them each.
//!
//! Version (1); the number of roles and the roles; the number of statements; their queryids, 8 bytes each, in order; the length
//! of each body; the bodies. So one statement is found without reading the others. A body: flags, role, buckets in use, total
//! time, then what its flags say. Numbers are varints.

use std::collections::BTreeMap;

use super::figures::{COUNTERS, Figures, Key, Record};
use super::histogram::{Histogram, put_varint, take_varint};

const VERSION: u8 = 1;

const TOPLEVEL: u8 = 1;
const FAILURES: u8 = 2;
const HAS_COUNTERS: u8 = 4;
/// As many rows as calls.
const ROW_EACH: u8 = 8;
/// One call only: the least and the greatest time are the total.
const ONCE: u8 = 16;
const BY_JOB: u8 = 32;

pub fn pack(records: &BTreeMap<Key, Record>) -> Vec<u8> {
    let mut users: Vec<u32> = records.keys().map(|key| key.user).collect();
    users.sort_unstable();
    users.dedup();
    let mut bytes = vec![VERSION];
    put_varint(&mut bytes, users.len() as u64);
    for &user in &users {
        put_varint(&mut bytes, user.into());
    }
    put_varint(&mut bytes, records.len() as u64);
    for key in records.keys() {
        bytes.extend_from_slice(&key.queryid.to_le_bytes());
    }
    let mut bodies = Vec::with_capacity(records.len() * 24);
    for record in records.values() {
        let start = bodies.len();
        put_body(&mut bodies, record, users.partition_point(|&user| user < record.key.user));
        put_varint(&mut bytes, (bodies.len() - start) as u64);
    }
    bytes.extend_from_slice(&bodies);
    bytes
}

fn put_body(bytes: &mut Vec<u8>, record: &Record, user: usize) {
    let Record { key, figures, counters } = record;
    let calls = figures.histogram.count();
    let flag = |when: bool, flag: u8| if when { flag } else { 0 };
    let failed = figures.failures != [0; 4];
    let counted = *counters != [0; COUNTERS];
    bytes.push(
        flag(key.toplevel, TOPLEVEL)
            | flag(key.by_job, BY_JOB)
            | flag(failed, FAILURES)
            | flag(counted, HAS_COUNTERS)
            | flag(figures.rows == calls, ROW_EACH)
            | flag(calls == 1 && figures.min == figures.total && figures.max == figures.total, ONCE),
    );
    let flags = bytes[bytes.len() - 1];
    put_varint(bytes, user as u64);
    put_varint(bytes, figures.histogram.0.iter().filter(|&&count| count > 0).count() as u64);
    figures.histogram.encode_into(bytes);
    put_varint(bytes, figures.total);
    if flags & ONCE == 0 {
        put_varint(bytes, figures.min);
        put_varint(bytes, figures.max.wrapping_sub(figures.min));
    }
    if flags & ROW_EACH == 0 {
        put_varint(bytes, figures.rows);
    }
    if failed {
        figures.failures.iter().for_each(|&count| put_varint(bytes, count));
    }
    if counted {
        let used = |i: usize| counters[i] > 0;
        put_varint(bytes, (0..COUNTERS).filter(|&i| used(i)).fold(0, |mask, i| mask | 1 << i));
        (0..COUNTERS).filter(|&i| used(i)).for_each(|i| put_varint(bytes, counters[i]));
    }
}

/// `None`: these bytes are damaged, or of a later version.
pub fn unpack(bytes: &[u8], only: Option<i64>) -> Option<Vec<Record>> {
    let head = Head::read(bytes)?;
    let mut records = Vec::with_capacity(if only.is_some() { 4 } else { head.count() });
    head.each(only, |queryid, from, length| {
        records.push(take_body(&mut bytes.get(from..from.checked_add(length)?)?, queryid, &head.users)?);
        Some(())
    })?;
    Some(records)
}

/// So many bytes of a row hold its head, unless it has more than a hundred roles or very long bodies.
pub const HEAD: i32 = 512;
pub const HEAD_PER_STATEMENT: i32 = 10;

/// What comes before the bodies.
struct Head<'a> {
    users: Vec<u32>,
    ids: &'a [u8],
    lengths: &'a [u8],
    bodies: usize,
}

impl<'a> Head<'a> {
    fn read(all: &'a [u8]) -> Option<Self> {
        let (&VERSION, mut bytes) = all.split_first()? else { return None };
        let users = take_count(&mut bytes)?;
        let users: Vec<u32> =
            (0..users).map(|_| u32::try_from(take_varint(&mut bytes)?).ok()).collect::<Option<Vec<u32>>>()?;
        let count = take_count(&mut bytes)?;
        let (ids, lengths) = bytes.split_at_checked(count.checked_mul(8)?)?;
        let mut rest = lengths;
        for _ in 0..count {
            take_varint(&mut rest)?;
        }
        Some(Head { users, ids, lengths, bodies: all.len() - rest.len() })
    }

    fn count(&self) -> usize {
        self.ids.len() / 8
    }

    /// Queryid, place and length of the bodies.
    fn each(&self, only: Option<i64>, mut use_it: impl FnMut(i64, usize, usize) -> Option<()>) -> Option<()> {
        let (mut from, mut lengths) = (self.bodies, self.lengths);
        for id in self.ids.chunks_exact(8) {
            let id = i64::from_le_bytes(id.try_into().ok()?);
            let length = usize::try_from(take_varint(&mut lengths)?).ok()?;
            if only.is_none_or(|only| only == id) {
                use_it(id, from, length)?;
            }
            from = from.checked_add(length)?;
        }
        Some(())
    }
}

/// Where one statement's bodies are, from the first bytes of a row: they follow each other. `None`: these bytes are too few, or
/// damaged; no length: it is not there.
pub fn locate(first: &[u8], queryid: i64) -> Option<(Vec<u32>, usize, usize)> {
    let head = Head::read(first)?;
    let (mut place, mut sum) = (0, 0);
    head.each(Some(queryid), |_, from, length| {
        place = if sum == 0 { from } else { place };
        sum += length;
        Some(())
    })?;
    Some((head.users, place, sum))
}

/// The bodies that [`locate`] found.
pub fn unpack_bodies(mut bytes: &[u8], queryid: i64, users: &[u32]) -> Option<Vec<Record>> {
    let mut records = Vec::new();
    while !bytes.is_empty() {
        records.push(take_body(&mut bytes, queryid, users)?);
    }
    Some(records)
}

/// A count of things that take at least a byte each.
fn take_count(bytes: &mut &[u8]) -> Option<usize> {
    usize::try_from(take_varint(bytes)?).ok().filter(|&count| count <= bytes.len())
}

fn take_body(bytes: &mut &[u8], queryid: i64, users: &[u32]) -> Option<Record> {
    let (&flags, rest) = bytes.split_first()?;
    *bytes = rest;
    let user = *users.get(usize::try_from(take_varint(bytes)?).ok()?)?;
    let mut histogram = Histogram::default();
    let mut next = 0_usize;
    for _ in 0..take_varint(bytes)? {
        let index = next.checked_add(usize::try_from(take_varint(bytes)?).ok()?)?;
        *histogram.0.get_mut(index)? = take_varint(bytes)?;
        next = index + 1;
    }
    let total = take_varint(bytes)?;
    let (mut min, mut max) = (total, total);
    if flags & ONCE == 0 {
        min = take_varint(bytes)?;
        max = min.wrapping_add(take_varint(bytes)?);
    }
    let rows = if flags & ROW_EACH == 0 { take_varint(bytes)? } else { histogram.count() };
    let mut failures = [0; 4];
    if flags & FAILURES != 0 {
        for count in &mut failures {
            *count = take_varint(bytes)?;
        }
    }
    let mut counters = [0; COUNTERS];
    if flags & HAS_COUNTERS != 0 {
        let mask = take_varint(bytes)?;
        for (i, counter) in counters.iter_mut().enumerate() {
            if mask >> i & 1 == 1 {
                *counter = take_varint(bytes)?;
            }
        }
    }
    let key = Key { queryid, user, toplevel: flags & TOPLEVEL != 0, by_job: flags & BY_JOB != 0 };
    Some(Record { key, figures: Figures { histogram, rows, total, min, max, failures }, counters })
}

/// The sum of several intervals.
pub fn merge(into: &mut BTreeMap<Key, Record>, records: Vec<Record>) {
    for record in records {
        match into.entry(record.key) {
            std::collections::btree_map::Entry::Vacant(place) => {
                place.insert(record);
            }
            std::collections::btree_map::Entry::Occupied(mut place) => place.get_mut().merge(&record),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn record() -> impl Strategy<Value = Record> {
        let key = (-5_i64..5, 10_u32..13, any::<bool>(), any::<bool>());
        let buckets = prop::collection::vec((0..128_usize, 1_u64..1000), 0..4);
        let rest =
            (0..5_u64, 0..1_000_000_u64, prop::array::uniform4(0..2_u64), prop::collection::vec(0..3_u64, COUNTERS));
        (key, buckets, rest).prop_map(
            |((queryid, user, toplevel, by_job), buckets, (rows, total, failures, counters))| {
                let mut histogram = Histogram::default();
                buckets.iter().for_each(|&(index, count)| histogram.0[index] = count);
                // Where nothing succeeded there are no times.
                let total = if histogram.is_empty() { 0 } else { total };
                let figures = Figures { histogram, rows, total, min: total / 3, max: total / 2, failures };
                let counters = counters.try_into().expect("as many as there are");
                Record { key: Key { queryid, user, toplevel, by_job }, figures, counters }
            },
        )
    }

    proptest! {
        #[test]
        fn what_is_packed_is_unpacked(records in prop::collection::vec(record(), 0..20)) {
            let records: BTreeMap<Key, Record> = records.into_iter().map(|record| (record.key, record)).collect();
            let bytes = pack(&records);
            prop_assert_eq!(unpack(&bytes, None), Some(records.values().cloned().collect::<Vec<_>>()));
            let only = records.values().filter(|record| record.key.queryid == 3).cloned().collect::<Vec<_>>();
            prop_assert_eq!(unpack(&bytes, Some(3)), Some(only.clone()));
            // Without the rest of the bytes.
            let head = bytes.len().min(HEAD as usize + HEAD_PER_STATEMENT as usize * records.len());
            let (users, place, length) = locate(&bytes[..head], 3).expect("a head");
            prop_assert_eq!(unpack_bodies(&bytes[place..place + length], 3, &users), Some(only));
        }

        #[test]
        fn nothing_that_is_read_panics(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            let bytes = [&[VERSION][..], &bytes].concat();
            let _ = unpack(&bytes, None);
            let _ = locate(&bytes, 0);
            let _ = unpack_bodies(&bytes, 0, &[10]);
        }

        #[test]
        fn the_order_of_merging_does_not_matter(records in prop::collection::vec(record(), 0..20), at in 0..20_usize) {
            let sum = |parts: &[&[Record]]| {
                let mut sum = BTreeMap::new();
                parts.iter().for_each(|part| merge(&mut sum, part.to_vec()));
                sum
            };
            let (a, b) = records.split_at(at.min(records.len()));
            prop_assert_eq!(sum(&[a, b]), sum(&[b, a]));
        }
    }
}
