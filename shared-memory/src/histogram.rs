//! Latencies in buckets whose edges never change, so that histograms of any two times can be merged exactly.
//!
//! Bucket 0 is below 1 us, 1 to 3 are one microsecond wide; from 4 us on every octave has four buckets of the same width. A
//! bucket is at most a quarter of its lower edge wide. Bucket 127 begins at 2.09 hours
//! (7516192768 us) and takes everything above.

#[cfg(not(loom))]
pub const BUCKETS: usize = 128;
/// Models count in the first.
#[cfg(loom)]
pub const BUCKETS: usize = 1;

/// The bucket of a latency in microseconds.
pub const fn index_of(us: u64) -> usize {
    if us < 4 {
        return us as usize;
    }
    let octave = 63 - us.leading_zeros() as usize;
    let index = (octave - 1) * 4 + ((us >> (octave - 2)) & 3) as usize;
    if index < BUCKETS { index } else { BUCKETS - 1 }
}

/// The least latency of a bucket, in microseconds.
pub const fn lower_edge(index: usize) -> u64 {
    if index < 4 {
        return index as u64;
    }
    let octave = index / 4 + 1;
    (4 + (index % 4) as u64) << (octave - 2)
}

/// The first latency above a bucket, in microseconds; the last bucket has no end but is shown with one.
pub const fn upper_edge(index: usize) -> u64 {
    lower_edge(index + 1)
}

/// How often each bucket was met.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Histogram(pub [u64; BUCKETS]);

impl Default for Histogram {
    fn default() -> Self {
        Histogram([0; BUCKETS])
    }
}

impl Histogram {
    pub fn add(&mut self, us: u64) {
        self.0[index_of(us)] += 1;
    }

    pub fn merge(&mut self, other: &Histogram) {
        for (sum, count) in self.0.iter_mut().zip(&other.0) {
            *sum = sum.saturating_add(*count);
        }
    }

    pub fn count(&self) -> u64 {
        self.0.iter().fold(0, |sum, &count| sum.saturating_add(count))
    }

    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|&count| count == 0)
    }

    /// Appends the buckets in use: the distance to the one before and the count, as varints.
    pub fn encode_into(&self, bytes: &mut Vec<u8>) {
        let mut next = 0;
        for (index, &count) in self.0.iter().enumerate().filter(|(_, count)| **count > 0) {
            put_varint(bytes, (index - next) as u64);
            put_varint(bytes, count);
            next = index + 1;
        }
    }

    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(16);
        self.encode_into(&mut bytes);
        bytes
    }

    /// `None`: these bytes are no histogram.
    pub fn decode(mut bytes: &[u8]) -> Option<Self> {
        let mut histogram = Histogram::default();
        let mut next = 0_usize;
        while !bytes.is_empty() {
            let index = next.checked_add(usize::try_from(take_varint(&mut bytes)?).ok()?)?;
            *histogram.0.get_mut(index)? = take_varint(&mut bytes)?;
            next = index + 1;
        }
        Some(histogram)
    }
}

/// Seven bits a byte, the lowest first; the highest bit says that more follow.
pub fn put_varint(bytes: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
}

/// Takes a varint off the front.
pub fn take_varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7F) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_edges_are_these_for_ever() {
        let edges: Vec<u64> = [0, 1, 3, 4, 7, 8, 9, 12, 40, 80, 124, 127].map(lower_edge).to_vec();
        assert_eq!(edges, [0, 1, 3, 4, 7, 8, 10, 16, 2048, 2_097_152, 4_294_967_296, 7_516_192_768]);
        assert_eq!(index_of(u64::MAX), BUCKETS - 1);
        assert!((0..BUCKETS).all(|i| lower_edge(i) < upper_edge(i)));
    }

    #[test]
    fn damaged_bytes_are_refused() {
        for bytes in [&[0x80][..], &[128, 1, 1], &[0], &[127, 1, 0, 1], &[0xFF; 20]] {
            assert_eq!(Histogram::decode(bytes), None, "{bytes:?}");
        }
    }

    proptest! {
        #[test]
        fn every_latency_is_in_its_bucket(us in 0_u64..10_000_000_000) {
            let i = index_of(us);
            prop_assert!(lower_edge(i) <= us);
            prop_assert!(us < upper_edge(i) || i == BUCKETS - 1);
            prop_assert!(i < 4 || (upper_edge(i) - lower_edge(i)) * 4 <= lower_edge(i));
        }

        #[test]
        fn what_is_encoded_is_decoded(counts in prop::collection::vec((0..BUCKETS, any::<u64>()), 0..20)) {
            let mut histogram = Histogram::default();
            for (index, count) in counts {
                histogram.0[index] = count;
            }
            prop_assert_eq!(Histogram::decode(&histogram.encode()), Some(histogram));
        }

        #[test]
        fn merging_is_counting_together(
            a in prop::collection::vec(0_u64..1_000_000, 0..50),
            b in prop::collection::vec(0_u64..1_000_000, 0..50),
        ) {
            let of = |all: &[u64]| all.iter().fold(Histogram::default(), |mut sum, &us| { sum.add(us); sum });
            let mut merged = of(&a);
            merged.merge(&of(&b));
            prop_assert_eq!(merged, of(&[a, b].concat()));
        }
    }
}
