//! How much slower statements are than they were: each one's latencies while jobs work against its own while they rest. No server here.
//!
//! Two figures, because either alone can be fooled: that of the typical call (how far the mean of the logarithms has moved, the
//! ratio of geometric means) and that of the tail: which part of the calls lies above what was the 95th percentile, and which above
//! the 99th: 5 % and 1 % when nothing has changed. If times are exponentially distributed and all of them are `s` times as long, these
//! parts are `0.05^(1/s)` and `0.01^(1/s)`, which is how a part is read as a slowdown.

use pg_upkeep_memory::histogram::{BUCKETS, Histogram, lower_edge, upper_edge};

/// Parts of the calls above the percentiles that the tail is judged by.
const ABOVE: [f64; 2] = [0.05, 0.01];
/// No tail says more than this: then all calls are in it.
const MOST: f64 = 20.0;

/// Latencies while jobs rest, the older ones counting less.
#[derive(Clone)]
pub struct Calm {
    counts: [f32; BUCKETS],
}

impl Default for Calm {
    fn default() -> Self {
        Calm { counts: [0.0; BUCKETS] }
    }
}

impl Calm {
    /// Of one more rest; of what was known so far this part is kept.
    pub fn add(&mut self, rest: &Histogram, keep: f32) {
        for (sum, &count) in self.counts.iter_mut().zip(&rest.0) {
            *sum = *sum * keep + count as f32;
        }
    }

    /// There was none of it in a rest. `false`: so little is left that it need not be kept.
    pub fn fades(&mut self, keep: f32) -> bool {
        self.counts.iter_mut().for_each(|count| *count *= keep);
        self.calls() >= 1.0
    }

    pub fn calls(&self) -> f64 {
        self.counts.iter().map(|&count| f64::from(count)).sum()
    }

    fn typical(&self) -> f64 {
        moments(self.counts.iter().map(|&count| f64::from(count))).0
    }

    /// Which part of these calls lies above what only `part` of those here is above, the calls of a bucket being spread over it evenly.
    fn part_above(&self, calls: &Histogram, part: f64) -> f64 {
        let mut above = self.calls() * part;
        let mut counted = 0.0;
        for (&calm, &count) in self.counts.iter().zip(&calls.0).rev() {
            let calm = f64::from(calm);
            if calm >= above {
                counted += count as f64 * if calm > 0.0 { above / calm } else { 0.0 };
                break;
            }
            above -= calm;
            counted += count as f64;
        }
        counted / calls.count().max(1) as f64
    }
}

/// Mean and variance of the logarithm of latencies in these buckets.
fn moments(counts: impl Iterator<Item = f64>) -> (f64, f64) {
    let (mut n, mut sum, mut squares) = (0.0, 0.0, 0.0);
    for (bucket, count) in counts.enumerate().filter(|(_, count)| *count > 0.0) {
        let middle = (0.5 * (lower_edge(bucket) as f64 + upper_edge(bucket) as f64)).max(0.5).ln();
        n += count;
        sum += count * middle;
        squares += count * middle * middle;
    }
    let mean = sum / f64::max(n, 1.0);
    (mean, (squares / f64::max(n, 1.0) - mean * mean).max(0.0))
}

/// What statements feel, as slowdowns: 1 is nothing.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Felt {
    pub typical: f64,
    pub tail: f64,
    /// Calls that it is judged by, as if all statements counted alike.
    pub calls: f64,
}

impl Felt {
    /// The worse of both.
    pub fn slowdown(&self) -> f64 {
        self.typical.max(self.tail)
    }
}

/// Merged over statements by the time that they take. `None`: of none of them it is known how it was.
pub fn compare<'a>(statements: impl Iterator<Item = (&'a Calm, &'a Histogram)>) -> Option<Felt> {
    /// Of a statement that has been seen less often nothing is known.
    const FEWEST: f64 = 20.0;
    let (mut weights, mut shift, mut above, mut by_call) = (0.0, 0.0, [0.0; ABOVE.len()], 0.0);
    for (calm, calls) in statements {
        let n = calls.count() as f64;
        let known = calm.calls();
        if known < FEWEST || n == 0.0 {
            continue;
        }
        let typical = calm.typical();
        // Its time as it was: what has become slower does not weigh more for it.
        let weight = n * typical.exp();
        weights += weight;
        shift += weight * (moments(calls.0.iter().map(|&count| count as f64)).0 - typical);
        for (sum, part) in above.iter_mut().zip(ABOVE) {
            *sum += weight * calm.part_above(calls, part);
        }
        by_call += weight * weight * (1.0 / n + 1.0 / known);
    }
    (weights > 0.0).then(|| Felt {
        typical: (shift / weights).exp(),
        tail: above.iter().zip(ABOVE).map(|(sum, part)| slowdown_of_part(sum / weights, part)).fold(0.0, f64::max),
        calls: weights * weights / by_call,
    })
}

/// This part of the calls lies above what only `usual` of them was above.
fn slowdown_of_part(above: f64, usual: f64) -> f64 {
    match above {
        none if none <= 0.0 => 0.0,
        all if all >= 1.0 => MOST,
        part => (usual.ln() / part.ln()).min(MOST),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Latencies of an exponential distribution with this mean, evenly spread over it.
    fn exponential(mean: f64, calls: u32) -> Histogram {
        let mut histogram = Histogram::default();
        for i in 0..calls {
            let part = (f64::from(i) + 0.5) / f64::from(calls);
            histogram.add((-part.ln() * mean) as u64);
        }
        histogram
    }

    fn calm(histogram: &Histogram) -> Calm {
        let mut calm = Calm::default();
        calm.add(histogram, 1.0);
        calm
    }

    fn felt(before: &Histogram, now: &Histogram) -> Felt {
        compare(std::iter::once((&calm(before), now))).unwrap()
    }

    #[test]
    fn nothing_has_changed() {
        let calls = exponential(500.0, 10_000);
        let felt = felt(&calls, &calls);
        assert!((felt.typical - 1.0).abs() < 1e-9 && (felt.tail - 1.0).abs() < 1e-3, "{felt:?}");
    }

    #[test]
    fn a_few_very_slow_calls_are_the_tails_business() {
        let before = exponential(500.0, 10_000);
        let mut now = exponential(500.0, 9_800);
        (0..200).for_each(|_| now.add(20_000));
        let felt = felt(&before, &now);
        assert!(felt.typical < 1.1 && felt.tail > 1.25, "{felt:?}");
        let mut stuck = Histogram::default();
        (0..100).for_each(|_| stuck.add(10_000_000));
        assert_eq!(compare(std::iter::once((&calm(&before), &stuck))).unwrap().tail, MOST);
    }

    #[test]
    fn what_takes_the_time_counts() {
        let (short, long) = (exponential(100.0, 1000), exponential(100_000.0, 1000));
        let slower = exponential(200_000.0, 1000);
        let known = [calm(&short), calm(&long)];
        let felt = compare([(&known[0], &short), (&known[1], &slower)].into_iter()).unwrap();
        assert!((felt.typical - 2.0).abs() < 0.05, "{felt:?}");
        assert_eq!(compare([(&Calm::default(), &short)].into_iter()), None, "nobody knows how it was");
    }

    #[test]
    fn old_rests_are_forgotten() {
        let mut known = calm(&exponential(100.0, 1000));
        for _ in 0..100 {
            known.add(&exponential(400.0, 100), 0.9);
        }
        let felt = compare(std::iter::once((&known, &exponential(400.0, 1000)))).unwrap();
        assert!((felt.typical - 1.0).abs() < 0.01, "{felt:?}");
    }

    proptest! {
        /// Both figures tell by how much all calls have become slower, whatever the statement takes.
        #[test]
        fn a_slowdown_is_measured(mean in 20.0..1e6f64, times in 1.0..4.0f64) {
            let felt = felt(&exponential(mean, 4000), &exponential(mean * times, 4000));
            prop_assert!((felt.typical / times - 1.0).abs() < 0.1, "{felt:?}");
            prop_assert!((felt.tail / times - 1.0).abs() < 0.1, "{felt:?}");
            prop_assert!((felt.calls - 2000.0).abs() < 1.0);
        }
    }
}
