//! Percentiles of histograms.

use super::histogram::{BUCKETS, Histogram, lower_edge, upper_edge};

/// The latency, in ms, that this share of the calls did not exceed; `None` if there were no calls.
///
/// It is the call of rank `fraction * calls`, rounded up, and is taken to be where the relative error is the same to both
/// edges of its bucket: at most 11.1 % off from 4 us on, and half a microsecond below. No percentile is beyond the fastest and
/// slowest call, which are known exactly.
pub fn of(histogram: &Histogram, fraction: f64, min_time: f64, max_time: f64) -> Option<f64> {
    let calls = histogram.count();
    if calls == 0 {
        return None;
    }
    if rank(fraction, calls) == calls {
        return Some(max_time);
    }
    below_the_last(histogram, fraction, min_time, max_time)
}

/// The same, where the slowest call is not taken to be known.
pub fn below_the_last(histogram: &Histogram, fraction: f64, min_time: f64, max_time: f64) -> Option<f64> {
    let calls = histogram.count();
    if calls == 0 {
        return None;
    }
    let rank = rank(fraction, calls);
    let mut seen = 0_u64;
    let bucket = histogram.0.iter().position(|&count| {
        seen = seen.saturating_add(count);
        seen >= rank
    });
    Some(middle(bucket.unwrap_or(BUCKETS - 1)).clamp(min_time, max_time.max(min_time)))
}

fn rank(fraction: f64, calls: u64) -> u64 {
    ((fraction * calls as f64).ceil() as u64).clamp(1, calls)
}

/// In ms.
fn middle(bucket: usize) -> f64 {
    let (lower, upper) = (lower_edge(bucket) as f64, upper_edge(bucket) as f64);
    if bucket < 4 { (lower + upper) / 2000.0 } else { 2.0 * lower * upper / (lower + upper) / 1000.0 }
}

/// How many calls took at least `ms`. Of the bucket that it divides, the part above counts; no call is faster than the fastest
/// or slower than the slowest.
pub fn at_least(histogram: &Histogram, ms: f64, min_time: f64, max_time: f64) -> u64 {
    let us = ms * 1000.0;
    let count = |bucket: usize| {
        let lower = (lower_edge(bucket) as f64).max(min_time * 1000.0);
        let upper = (upper_edge(bucket) as f64).min(max_time * 1000.0);
        let above = if lower >= us { 1.0 } else { ((upper - us) / (upper - lower)).clamp(0.0, 1.0) };
        histogram.0[bucket] as f64 * above
    };
    (0..BUCKETS).filter(|&bucket| histogram.0[bucket] > 0).map(count).sum::<f64>().round() as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn histogram(latencies: &[u64]) -> Histogram {
        latencies.iter().fold(Histogram::default(), |mut histogram, &us| {
            histogram.add(us);
            histogram
        })
    }

    #[test]
    fn of_nothing_there_is_none() {
        assert_eq!(of(&Histogram::default(), 0.5, 0.0, 0.0), None);
    }

    #[test]
    fn all_of_one_latency_are_that_latency() {
        let same = histogram(&[1234; 100]);
        for fraction in [0.0, 0.5, 0.99, 1.0] {
            assert_eq!(of(&same, fraction, 1.234, 1.234), Some(1.234));
        }
    }

    #[test]
    fn calls_above_a_limit() {
        let mixed = histogram(&[100, 1000, 1_000_000, 5_000_000]);
        assert_eq!(at_least(&mixed, 0.0, 0.1, 5000.0), 4);
        assert_eq!(at_least(&mixed, 2000.0, 0.1, 5000.0), 1);
        // Its bucket ends at 1048576 us and begins at 917504: a third of it is above a second.
        assert_eq!(at_least(&histogram(&[1_000_000; 99]), 1000.0, 0.0, 2000.0), 37);
        assert_eq!(at_least(&histogram(&[1_000_000; 99]), 1000.0, 1000.0, 1000.0), 99);
        assert_eq!(at_least(&mixed, f64::MAX, 0.1, 5000.0), 0);
    }

    proptest! {
        #[test]
        fn at_most_a_ninth_off(mut latencies in prop::collection::vec(4_u64..4_000_000_000, 1..300), fraction in 0.0..=1.0f64) {
            let found = {
                let (min, max) = (latencies.iter().min().unwrap(), latencies.iter().max().unwrap());
                of(&histogram(&latencies), fraction, *min as f64 / 1000.0, *max as f64 / 1000.0).unwrap()
            };
            latencies.sort_unstable();
            let rank = ((fraction * latencies.len() as f64).ceil() as usize).max(1);
            // Microseconds are cut off when they are counted.
            let exact = latencies[rank - 1] as f64 / 1000.0;
            prop_assert!((found - exact).abs() <= exact / 9.0 + 1e-9, "{} instead of {}", found, exact);
        }

        #[test]
        fn higher_is_not_faster(latencies in prop::collection::vec(0_u64..10_000_000_000, 1..50), a in 0.0..=1.0f64, b in 0.0..=1.0f64) {
            let at = |fraction| of(&histogram(&latencies), fraction, 0.0, 1e7).unwrap();
            prop_assert!(at(a.min(b)) <= at(a.max(b)));
        }
    }
}
