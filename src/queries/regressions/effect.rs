//! Has a statement become slower? Two sets of latency histograms, compared without assuming a shape, equal spread, or
//! independent calls.
//!
//! The figure that is tested is the probability that a call now is slower than a call then (as by Brunner and Munzel; ties, of
//! which a histogram is full, count half). Calls of the same hour share their fate, and hours follow a daily cycle, so
//! - an hour is compared with the same hours of the day, wherever the baseline has them, and weighs as many calls as it has now;
//! - what counts as one observation is a day, not a call: how much the days of the baseline differ among themselves is how much
//!   one more may differ. A baseline of fewer days is cut into stretches of neighboring hours instead;
//! - it never counts as less than what the calls vary by if they are independent.

use std::collections::BTreeSet;

use super::student;
use crate::queries::histogram::{BUCKETS, lower_edge, upper_edge};

/// What ran within one cell of time.
#[derive(Clone, Debug, Default)]
pub struct Cell {
    /// Its middle.
    pub at: i64,
    /// Hour of the day, 0 to 23; of a longer time there is none.
    pub hour: Option<usize>,
    pub day: i64,
    /// Bucket and number of calls.
    pub counts: Vec<(usize, u64)>,
}

/// How the later calls compare with the earlier ones.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Comparison {
    /// Probability that a call now is slower than one then: 0.5 if nothing changed.
    pub slower: f64,
    /// By what share the typical (geometric mean) time grew, over the same hours of the day: 0.3 is 30 % slower.
    pub effect: f64,
    pub p_value: f64,
    /// Same hours of the day were compared; otherwise the daily cycle may be all there is.
    pub same_hours: bool,
}

const HOURS: usize = 24;
/// The share of the calls whose hour the baseline must have for the hours to be compared.
const ENOUGH_IN_COMMON: f64 = 0.5;

/// Cells in the order of time. `None`: one side has no calls.
pub fn compare(baseline: &[Cell], current: &[Cell]) -> Option<Comparison> {
    let all = |cells: &[Cell]| cells.iter().map(calls).sum::<f64>();
    if all(baseline) == 0.0 || all(current) == 0.0 {
        return None;
    }
    let has = |cells: &[Cell], hour| cells.iter().any(|cell| cell.hour == Some(hour) && calls(cell) > 0.0);
    let common: Vec<bool> = (0..HOURS).map(|hour| has(baseline, hour) && has(current, hour)).collect();
    let comparable = |cells| placed(cells, |cell| cell.hour.filter(|&hour| common[hour]));
    let now = comparable(current);
    if now.iter().map(|cell| cell.calls).sum::<f64>() >= ENOUGH_IN_COMMON * all(current) {
        return Some(Strata::new(comparable(baseline), now).compare(true));
    }
    let pooled = |cells| placed(cells, |_| Some(0));
    Some(Strata::new(pooled(baseline), pooled(current)).compare(false))
}

fn placed(cells: &[Cell], stratum: impl Fn(&Cell) -> Option<usize>) -> Vec<Placed<'_>> {
    cells.iter().filter_map(|cell| Some(Placed::new(stratum(cell)?, cell))).collect()
}

/// A cell and with what it is compared: cells of the same stratum.
struct Placed<'a> {
    stratum: usize,
    day: i64,
    calls: f64,
    counts: &'a [(usize, u64)],
}

impl<'a> Placed<'a> {
    fn new(stratum: usize, cell: &'a Cell) -> Self {
        Placed { stratum, day: cell.day, calls: calls(cell), counts: &cell.counts }
    }
}

fn calls(cell: &Cell) -> f64 {
    cell.counts.iter().map(|&(_, count)| count as f64).sum()
}

/// A histogram as shares of its calls, with the share of calls below each bucket (half of the bucket's own included).
struct Shape {
    calls: f64,
    below: Vec<f64>,
    /// Mean logarithm of the latency.
    log: f64,
}

impl Shape {
    fn of<'a, 'b: 'a>(cells: impl Iterator<Item = &'a Placed<'b>>) -> Shape {
        let mut counts = vec![0.0; BUCKETS];
        for &(bucket, count) in cells.flat_map(|cell| cell.counts) {
            counts[bucket] += count as f64;
        }
        let calls: f64 = counts.iter().sum();
        let (mut below, mut sum, mut log) = (Vec::with_capacity(BUCKETS), 0.0, 0.0);
        for (bucket, count) in counts.iter().enumerate() {
            below.push((sum + count / 2.0) / calls.max(1.0));
            sum += count;
            log += count * middle(bucket).ln();
        }
        Shape { calls, below, log: log / calls.max(1.0) }
    }
}

/// The geometric middle of a bucket, in microseconds.
fn middle(bucket: usize) -> f64 {
    ((lower_edge(bucket) as f64).max(0.5) * upper_edge(bucket) as f64).sqrt()
}

/// Both sides by hour of the day.
struct Strata<'a> {
    baseline: Vec<Placed<'a>>,
    current: Vec<Placed<'a>>,
    then: Vec<Shape>,
    now: Vec<Shape>,
    /// Calls of the current side.
    total: f64,
}

/// What one cell adds to the figure that is tested.
struct Share {
    day: i64,
    /// Its part of all calls of its side.
    weight: f64,
    /// The mean over its calls.
    mean: f64,
}

impl<'a> Strata<'a> {
    fn new(baseline: Vec<Placed<'a>>, current: Vec<Placed<'a>>) -> Self {
        let shapes = |cells: &[Placed<'_>]| {
            (0..HOURS).map(|hour| Shape::of(cells.iter().filter(|cell| cell.stratum == hour))).collect::<Vec<_>>()
        };
        let (then, now) = (shapes(&baseline), shapes(&current));
        let total = now.iter().map(|shape| shape.calls).sum();
        Strata { baseline, current, then, now, total }
    }

    /// The hour's part of the calls now: then is weighted as now.
    fn weight(&self, hour: usize) -> f64 {
        self.now[hour].calls / self.total
    }

    fn compare(&self, same_hours: bool) -> Comparison {
        let now = self.shares(&self.current, |cell| cell.calls / self.total);
        // The weights' sum may be 1 + a rounding error.
        let slower = now.iter().map(|share| share.weight * share.mean).sum::<f64>().clamp(0.0, 1.0);
        let growth = (0..HOURS).map(|hour| self.weight(hour) * (self.now[hour].log - self.then[hour].log)).sum::<f64>();
        let Variance { value, freedom } = self.variance(&now);
        let p_value = student::above((slower - 0.5) / value.sqrt(), freedom);
        Comparison { slower, effect: growth.exp() - 1.0, p_value, same_hours }
    }

    fn variance(&self, now: &[Share]) -> Variance {
        let weight = |cell: &Placed<'_>| self.weight(cell.stratum) * cell.calls / self.then[cell.stratum].calls;
        let then = self.shares(&self.baseline, weight);
        let by_days = count_days(&then) >= ENOUGH_DAYS;
        let [blocks_then, blocks_now] = [&then[..], now].map(|side| if by_days { days(side) } else { stretches(side) });
        // Each block of the baseline is compared with all of them, itself included: by so much it seems too near.
        let n = blocks_then.len() as f64;
        let spread_then = spread(&blocks_then) * (n / (n - 1.0).max(1.0)).powi(2);
        // What a few days cannot tell about themselves, the days before can.
        let spread_now = if by_days { spread_then.max(spread(&blocks_now)) } else { spread(&blocks_now) };
        let value = self.by_calls(&self.baseline, &self.then, &self.now).max(spread_then * share_of_mean(&blocks_then))
            + self.by_calls(&self.current, &self.now, &self.then).max(spread_now * share_of_mean(&blocks_now));
        // No more is known about how much blocks differ than that few blocks can tell, not even if they seem to agree.
        let fewest = if by_days { blocks_then.len() } else { blocks_then.len().min(blocks_now.len()) };
        Variance { value, freedom: (fewest as f64 - 1.0).max(1.0) }
    }

    /// Per cell: its weight, and the mean share of the calls of the baseline that its own are slower than.
    fn shares(&self, cells: &[Placed<'_>], weight: impl Fn(&Placed<'_>) -> f64) -> Vec<Share> {
        let share = |cell: &Placed<'_>| {
            let below = &self.then[cell.stratum].below;
            let sum: f64 = cell.counts.iter().map(|&(bucket, count)| count as f64 * below[bucket]).sum();
            Share { day: cell.day, weight: weight(cell), mean: sum / cell.calls }
        };
        cells.iter().filter(|cell| cell.calls > 0.0).map(share).collect()
    }

    /// As if all calls were independent.
    fn by_calls(&self, cells: &[Placed<'_>], own: &[Shape], other: &[Shape]) -> f64 {
        let mut value = 0.0;
        for hour in 0..HOURS {
            let (n, weight) = (own[hour].calls, self.weight(hour));
            if n == 0.0 || weight == 0.0 {
                continue;
            }
            let (mut sum, mut squares) = (0.0, 0.0);
            for &(bucket, count) in cells.iter().filter(|cell| cell.stratum == hour).flat_map(|cell| cell.counts) {
                let below = other[hour].below[bucket];
                sum += count as f64 * below;
                squares += count as f64 * below * below;
            }
            // Without overlap the calls seem not to vary at all; no n calls are as certain as that.
            let spread = (squares / n - (sum / n).powi(2)).max(1.0 / (n + 2.0));
            value += weight * weight * spread / n;
        }
        value
    }
}

/// Fewer days say too little about how much days differ.
const ENOUGH_DAYS: usize = 4;
/// Into how many stretches of time a side is cut if there are fewer.
const STRETCHES: usize = 12;

/// A stretch of time: its weight, and the mean over its calls.
struct Block {
    weight: f64,
    mean: f64,
}

impl Block {
    fn of<'a>(shares: impl Iterator<Item = &'a Share>) -> Block {
        let (mut weight, mut sum) = (0.0, 0.0);
        for share in shares {
            weight += share.weight;
            sum += share.weight * share.mean;
        }
        Block { weight, mean: sum / weight }
    }
}

fn count_days(shares: &[Share]) -> usize {
    shares.iter().map(|share| share.day).collect::<BTreeSet<_>>().len()
}

fn days(shares: &[Share]) -> Vec<Block> {
    let days: BTreeSet<_> = shares.iter().map(|share| share.day).collect();
    days.into_iter().map(|day| Block::of(shares.iter().filter(|share| share.day == day))).collect()
}

/// Neighbors in time stay together.
fn stretches(shares: &[Share]) -> Vec<Block> {
    let length = shares.len().div_ceil(STRETCHES).max(1);
    shares.chunks(length).map(|chunk| Block::of(chunk.iter())).collect()
}

/// How much blocks of time differ.
fn spread(blocks: &[Block]) -> f64 {
    let n = blocks.len() as f64;
    let mean: f64 = blocks.iter().map(|block| block.weight * block.mean).sum();
    let squares: f64 = blocks.iter().map(|block| block.weight * (block.mean - mean).powi(2)).sum();
    squares * n / (n - 1.0).max(1.0)
}

/// What part of that is left in the mean of all of them.
fn share_of_mean(blocks: &[Block]) -> f64 {
    blocks.iter().map(|block| block.weight.powi(2)).sum()
}

struct Variance {
    value: f64,
    freedom: f64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn cell(hour: usize, day: i64, counts: &[(usize, u64)]) -> Cell {
        Cell { at: 0, hour: Some(hour), day, counts: counts.to_vec() }
    }

    #[test]
    fn the_same_is_the_same() {
        let cells: Vec<_> = (0..48).map(|i| cell(i % 24, i as i64 / 24, &[(40, 50), (44, 50)])).collect();
        let same = compare(&cells[..24], &cells[24..]).unwrap();
        assert!((same.slower - 0.5).abs() < 1e-9 && same.effect.abs() < 1e-9 && same.p_value > 0.4, "{same:?}");
        assert!(same.same_hours);
    }

    #[test]
    fn without_overlap_it_is_certain_but_for_few_calls() {
        let far = |n| {
            let baseline: Vec<_> = (0..14).map(|day| cell(0, day, &[(20, n)])).collect();
            compare(&baseline, &[cell(0, 14, &[(60, n)])]).unwrap()
        };
        assert!(far(200).p_value < 1e-6 && far(200).slower == 1.0, "{:?}", far(200));
        assert!(far(2).p_value > 0.01, "{:?}", far(2));
        assert!(far(200).effect > 100.0);
    }

    /// Nights were slow before, and now there are more calls at night.
    #[test]
    fn another_mix_of_hours_is_no_regression() {
        let side = |day, nights, days| {
            (0..24).map(move |hour| {
                let (bucket, calls) = if hour < 12 { (60, nights) } else { (30, days) };
                cell(hour, day, &[(bucket, calls), (bucket + 1, calls)])
            })
        };
        let baseline: Vec<_> = (0..3).flat_map(|day| side(day, 10, 100)).collect();
        let current: Vec<_> = side(3, 100, 10).collect();
        let compared = compare(&baseline, &current).unwrap();
        assert!((compared.slower - 0.5).abs() < 1e-9 && compared.effect.abs() < 1e-9, "{compared:?}");
    }

    #[test]
    fn other_hours_are_said_to_be_other_hours() {
        let compared = compare(&[cell(3, 0, &[(30, 100)])], &[cell(15, 0, &[(40, 100)])]).unwrap();
        assert!(!compared.same_hours && compared.slower == 1.0);
        assert_eq!(compare(&[], &[cell(15, 0, &[(40, 100)])]), None);
        assert_eq!(compare(&[cell(1, 0, &[])], &[cell(15, 0, &[(40, 100)])]), None);
    }

    /// The latencies of one hour on one day stand for that hour alone.
    #[test]
    fn a_thousand_calls_in_a_bad_hour_are_one_bad_hour() {
        let day = |day, bad| {
            (0..24).map(move |hour| cell(hour, day, &[(if bad && hour == 5 { 60 } else { 30 + hour % 3 }, 1000)]))
        };
        let baseline: Vec<_> = (0..7).flat_map(|d| day(d, d == 2)).collect();
        let current: Vec<_> = day(7, true).collect();
        assert!(compare(&baseline, &current).unwrap().p_value > 0.01);
    }

    proptest! {
        #[test]
        fn figures_are_figures(
            then in proptest::collection::vec((0..24usize, 0..9i64, 0..BUCKETS, 0..5000u64), 0..40),
            now in proptest::collection::vec((0..24usize, 9..11i64, 0..BUCKETS, 0..5000u64), 0..40),
        ) {
            let cells = |list: &[(usize, i64, usize, u64)]| -> Vec<Cell> {
                list.iter().map(|&(hour, day, bucket, count)| cell(hour, day, &[(bucket, count)])).collect()
            };
            let (then, now) = (cells(&then), cells(&now));
            if let Some(found) = compare(&then, &now) {
                prop_assert!((0.0..=1.0).contains(&found.slower), "{:?}", found);
                prop_assert!((0.0..=1.0).contains(&found.p_value), "{:?}", found);
                prop_assert!(found.effect > -1.0 && found.effect.is_finite(), "{:?}", found);
            }
        }
    }
}
