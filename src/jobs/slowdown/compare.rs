//! How much slower statements are beside jobs: each one's latencies while jobs work against its own while they rest, in turns so short
//! that whatever else goes on hits both alike. No server here.
//!
//! Two figures, because either alone can be fooled: that of the typical call (how far the mean of the logarithms has moved, the
//! ratio of geometric means) and that of the tail: which part of the calls lies above the 95th percentile of the last minute's rests,
//! in rests about 5 %. If times are exponentially distributed and all of them are `s` times as long, a part `p` becomes `p^(1/s)`,
//! which is how two parts are read as a slowdown.

use std::collections::HashMap;

use pg_upkeep_memory::counters::{TRANSACTIONS, Whose};
use pg_upkeep_memory::histogram::{BUCKETS, Histogram, lower_edge, upper_edge};

/// The part of the calls that is the tail.
const TAIL: f64 = 0.05;
/// No tail says more than this: then all calls are in it.
const MOST: f64 = 20.0;
/// What takes longer is beside work and rest alike: it can tell nothing. The logarithm of 100 ms in µs.
const LONGEST: f64 = 11.513;
/// Of a statement that has been seen less often nothing is known.
const FEWEST: f64 = 20.0;
/// No role says more than all others together: who has little to do but sleeps in a hundred sessions is not the application.
const LARGEST_PART: f64 = 0.5;
/// Several such roles do. So what one role feels counts by itself, too, less what may be chance: so many deviations.
const SURE: f64 = 2.0;
/// What is kept of the percentiles' latencies from one turn to the next: they are those of a minute or two.
const KEEP_LATENCIES: f32 = 0.99;

/// Latencies while jobs rest, the older ones counting less.
#[derive(Clone)]
struct Calm {
    counts: [f32; BUCKETS],
}

impl Default for Calm {
    fn default() -> Self {
        Calm { counts: [0.0; BUCKETS] }
    }
}

impl Calm {
    fn add(&mut self, rest: &Histogram) {
        for (sum, &count) in self.counts.iter_mut().zip(&rest.0) {
            *sum += count as f32;
        }
    }

    fn fade(&mut self) {
        self.counts.iter_mut().for_each(|count| *count *= KEEP_LATENCIES);
    }

    fn calls(&self) -> f64 {
        self.counts.iter().map(|&count| f64::from(count)).sum()
    }

    /// How many of these calls lie above what only the tail of those here is above, the calls of a bucket being spread over it evenly.
    fn above(&self, calls: &Histogram) -> f64 {
        let mut above = self.calls() * TAIL;
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
        counted
    }
}

/// Calls of one statement, on one side of the comparison; the older ones count less.
#[derive(Clone, Copy, Default)]
struct Side {
    calls: f64,
    /// Sum of the logarithms of their latencies in µs.
    logs: f64,
    /// How many of them were in the tail, by the latencies of rests.
    above: f64,
}

impl Side {
    fn add(&mut self, calls: &Histogram, calm: &Calm) {
        for (bucket, &count) in calls.0.iter().enumerate().filter(|(_, count)| **count > 0) {
            let middle = (0.5 * (lower_edge(bucket) as f64 + upper_edge(bucket) as f64)).max(0.5).ln();
            self.calls += count as f64;
            self.logs += count as f64 * middle;
        }
        self.above += calm.above(calls);
    }

    fn merge(&mut self, other: Side) {
        self.calls += other.calls;
        self.logs += other.logs;
        self.above += other.above;
    }

    fn fade(&mut self, keep: f64) {
        self.calls *= keep;
        self.logs *= keep;
        self.above *= keep;
    }

    fn typical(&self) -> f64 {
        self.logs / self.calls.max(f64::MIN_POSITIVE)
    }
}

#[derive(Clone, Copy, Default)]
struct Pair {
    rest: Side,
    work: Side,
}

#[derive(Default)]
struct Statement {
    calm: Calm,
    turn: Pair,
    /// Of the turns before.
    before: Pair,
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
    /// The larger of both, for each figure.
    fn or(self, other: Felt) -> Felt {
        Felt { typical: self.typical.max(other.typical), tail: self.tail.max(other.tail), calls: self.calls }
    }

    /// What one role feels, if it is more for sure. The logarithms of latencies spread by about 1.
    fn or_surely(self, one: Felt) -> Felt {
        let chance = SURE / one.calls.sqrt();
        self.or(Felt { typical: one.typical - chance, tail: one.tail - chance, ..one })
    }
}

/// All that clients execute.
#[derive(Default)]
pub struct Statements(HashMap<Whose, Statement>);

impl Statements {
    /// While jobs rested.
    pub fn rest(&mut self, whose: Whose, calls: &Histogram) {
        let statement = self.0.entry(whose).or_default();
        // The first ones have nothing that they could be above of but themselves.
        statement.calm.add(calls);
        statement.turn.rest.add(calls, &statement.calm);
    }

    pub fn work(&mut self, whose: Whose, calls: &Histogram) {
        // Of what has not been seen in a rest it is not known how it was.
        if let Some(statement) = self.0.get_mut(&whose) {
            statement.turn.work.add(calls, &statement.calm);
        }
    }

    /// What this turn of work and rest alone says.
    pub fn turn(&self) -> Option<Felt> {
        compare(self.0.iter().map(|(whose, statement)| (*whose, statement.turn)))
    }

    /// This turn does not count.
    pub fn forget_turn(&mut self) {
        self.0.values_mut().for_each(|statement| statement.turn = Pair::default());
    }

    /// A turn has passed. It is added to those before, of which so much is kept: what do they all say?
    pub fn end_turn(&mut self, keep: f64) -> Option<Felt> {
        self.0.retain(|_, statement| {
            let turn = std::mem::take(&mut statement.turn);
            for (sum, side) in [(&mut statement.before.rest, turn.rest), (&mut statement.before.work, turn.work)] {
                sum.fade(keep);
                sum.merge(side);
            }
            statement.calm.fade();
            statement.calm.calls() >= 0.5
        });
        compare(self.0.iter().map(|(whose, statement)| (*whose, statement.before)))
    }
}

/// What statements of one role say, all weighted by the time that they take.
#[derive(Clone, Copy, Default)]
struct Sum {
    weight: f64,
    /// Of the logarithms of latencies.
    shift: f64,
    at_work: f64,
    at_rest: f64,
    by_call: f64,
}

impl Sum {
    fn add(&mut self, Pair { rest, work }: Pair) {
        // Its time as it was: what has become slower does not weigh more for it.
        let weight = rest.calls * rest.typical().exp();
        self.weight += weight;
        self.shift += weight * (work.typical() - rest.typical());
        self.at_work += weight * work.above / work.calls;
        self.at_rest += weight * rest.above / rest.calls;
        self.by_call += weight * weight * (1.0 / work.calls + 1.0 / rest.calls);
    }

    /// Nobody is faster because of a job: with what seems so, no role makes up for what others feel.
    fn no_faster(&self) -> Sum {
        Sum { shift: self.shift.max(0.0), at_work: self.at_work.max(self.at_rest), ..*self }
    }

    /// Of all roles: each says what it says, as far as it may.
    fn of(roles: &HashMap<u32, Sum>) -> Sum {
        let all: f64 = roles.values().map(|sum| sum.weight).sum();
        let mut whole = Sum::default();
        for sum in roles.values() {
            let others = all - sum.weight;
            let most = others * LARGEST_PART / (1.0 - LARGEST_PART);
            let part = if others > 0.0 { (most / sum.weight).min(1.0) } else { 1.0 };
            whole.merge(sum.no_faster(), part);
        }
        whole
    }

    fn felt(self) -> Option<Felt> {
        (self.weight > 0.0).then(|| Felt {
            typical: (self.shift / self.weight).exp(),
            tail: slowdown_of_parts(self.at_work / self.weight, self.at_rest / self.weight),
            calls: self.weight * self.weight / self.by_call,
        })
    }

    fn merge(&mut self, other: Sum, part: f64) {
        self.weight += other.weight * part;
        self.shift += other.shift * part;
        self.at_work += other.at_work * part;
        self.at_rest += other.at_rest * part;
        self.by_call += other.by_call * part * part;
    }
}

/// Merged over statements by the time that they take. `None`: of none of them there are enough calls on both sides.
///
/// A transaction is as slow as the slowest of its statements: where each of ten meets a job now and then, its tail grows much faster
/// than theirs. So both are looked at, and the one counts that feels more.
fn compare(statements: impl Iterator<Item = (Whose, Pair)>) -> Option<Felt> {
    let mut roles = HashMap::<u32, Sum>::new();
    let mut transactions = Sum::default();
    for (whose, pair) in statements {
        if pair.rest.calls >= FEWEST && pair.work.calls >= FEWEST && pair.rest.typical() <= LONGEST {
            let sum = if whose == TRANSACTIONS { &mut transactions } else { roles.entry(whose.role).or_default() };
            sum.add(pair);
        }
    }
    let both = [Sum::of(&roles).felt(), transactions.felt()];
    let whole = both.into_iter().flatten().reduce(Felt::or)?;
    Some(roles.values().filter_map(|sum| sum.no_faster().felt()).fold(whole, Felt::or_surely))
}

/// So large a part of the calls at work lies above what this part of them is above at rest.
fn slowdown_of_parts(work: f64, rest: f64) -> f64 {
    // Nothing divides by a tail that happens to be empty.
    let part = |part: f64| part.clamp(TAIL / 10.0, 0.95);
    (part(rest).ln() / part(work).ln()).min(MOST)
}

#[cfg(test)]
mod tests {
    use super::*;
    use pg_upkeep_memory::counters::COMMITS;
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

    fn statements(of: &[(Whose, &Histogram, &Histogram)]) -> Statements {
        let mut statements = Statements::default();
        for (whose, rest, work) in of {
            statements.rest(*whose, rest);
            statements.work(*whose, work);
        }
        statements
    }

    fn felt(rest: &Histogram, work: &Histogram) -> Felt {
        statements(&[(COMMITS, rest, work)]).turn().unwrap()
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
        let mut now = exponential(500.0, 9_600);
        (0..400).for_each(|_| now.add(20_000));
        let felt = felt(&before, &now);
        assert!(felt.typical < 1.2 && felt.tail > 1.2, "{felt:?}");
        let mut stuck = Histogram::default();
        (0..100).for_each(|_| stuck.add(10_000_000));
        assert!(self::felt(&before, &stuck).tail >= MOST);
    }

    #[test]
    fn what_takes_the_time_counts() {
        let (short, long) = (exponential(100.0, 1000), exponential(50_000.0, 1000));
        let slower = exponential(100_000.0, 1000);
        let other = Whose::of(1, 2, 0);
        let felt = statements(&[(COMMITS, &short, &short), (other, &long, &slower)]).turn().unwrap();
        assert!((felt.typical - 2.0).abs() < 0.05, "{felt:?}");
    }

    #[test]
    fn who_sleeps_in_many_sessions_is_not_the_application() {
        let (application, sleeps) = (exponential(500.0, 1000), exponential(90_000.0, 100_000));
        let slower = exponential(1000.0, 1000);
        let of = |role| Whose::of(role, 2, role);
        let felt = statements(&[(of(10), &application, &slower), (of(11), &sleeps, &sleeps)]).turn().unwrap();
        assert!(felt.typical > 1.3, "{felt:?}");
        let commits = (COMMITS, &application, &application);
        let two = [(of(10), &application, &slower), (of(11), &sleeps, &sleeps), (of(12), &sleeps, &sleeps), commits];
        let felt = statements(&two).turn().unwrap();
        assert!(felt.typical > 1.3, "two of them hide nobody either: {felt:?}");
    }

    #[test]
    fn who_is_faster_beside_jobs_hides_nobody() {
        let (usual, slower, faster) = (exponential(500.0, 1000), exponential(1000.0, 1000), exponential(50.0, 1000));
        let of = |role| Whose::of(role, 2, role);
        let felt = statements(&[(of(10), &usual, &slower), (of(11), &usual, &faster)]).turn().unwrap();
        assert!(felt.typical > 1.3 && felt.tail > 1.3, "{felt:?}");
    }

    #[test]
    fn a_transaction_feels_all_that_its_statements_feel() {
        let (statement, transaction) = (exponential(100.0, 10_000), exponential(800.0, 1000));
        let slower = exponential(1200.0, 1000);
        let one = (Whose::of(1, 2, 10), &statement, &statement);
        let felt = statements(&[one, (TRANSACTIONS, &transaction, &slower)]).turn().unwrap();
        assert!((felt.typical - 1.5).abs() < 0.05 && (felt.tail - 1.5).abs() < 0.1, "{felt:?}");
        let both = [(Whose::of(1, 2, 10), &transaction, &slower), (TRANSACTIONS, &transaction, &transaction)];
        let felt = statements(&both).turn().unwrap();
        assert!((felt.typical - 1.5).abs() < 0.05, "who thinks between his statements hides none of them: {felt:?}");
        assert!(statements(&both[1..]).turn().is_some(), "of thousands of kinds of statements each may be rare");
    }

    #[test]
    fn what_takes_longer_than_a_turn_tells_nothing() {
        let long = exponential(5e6, 1000);
        let report = (Whose::of(1, 2, 0), &long, &long);
        assert_eq!(statements(&[report]).turn(), None);
        let felt = statements(&[(COMMITS, &exponential(100.0, 100), &exponential(200.0, 100)), report]).turn().unwrap();
        assert!((felt.typical - 2.0).abs() < 0.1, "{felt:?}");
    }

    #[test]
    fn what_nobody_knows_is_not_judged() {
        let calls = exponential(100.0, 1000);
        let mut statements = Statements::default();
        statements.work(COMMITS, &calls);
        assert_eq!(statements.turn(), None, "it was never seen at rest");
        statements.rest(COMMITS, &calls);
        assert_eq!(statements.turn(), None, "it has not been seen at work since");
        statements.work(COMMITS, &calls);
        assert!(statements.turn().is_some());
        assert!(statements.end_turn(0.9).is_some());
        assert_eq!(statements.turn(), None, "the next one has just begun");
        assert!(statements.end_turn(0.9).is_some());
        assert_eq!(statements.end_turn(0.0), None, "nothing of before is kept");
        for _ in 0..1200 {
            statements.end_turn(0.9);
        }
        assert!(statements.0.is_empty(), "what comes no more is forgotten");
    }

    #[test]
    fn what_hits_both_sides_is_nobodys_doing() {
        let (mut statements, mut all) = (Statements::default(), None);
        for mean in [100.0, 300.0, 1000.0, 200.0, 5000.0, 100.0] {
            statements.rest(COMMITS, &exponential(mean, 200));
            statements.work(COMMITS, &exponential(mean, 600));
            all = statements.end_turn(0.9);
        }
        let felt = all.unwrap();
        assert!((felt.typical - 1.0).abs() < 0.02 && (0.85..1.15).contains(&felt.tail), "{felt:?}");
    }

    proptest! {
        /// Both figures tell by how much all calls have become slower, whatever the statement takes.
        #[test]
        fn a_slowdown_is_measured(mean in 20.0..1e5f64, times in 1.0..4.0f64) {
            let felt = felt(&exponential(mean, 4000), &exponential(mean * times, 4000));
            prop_assert!((felt.typical / times - 1.0).abs() < 0.1, "{felt:?}");
            prop_assert!((felt.tail / times - 1.0).abs() < 0.1, "{felt:?}");
            prop_assert!((felt.calls - 2000.0).abs() < 1.0);
        }
    }
}
