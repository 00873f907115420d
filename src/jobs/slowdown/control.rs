//! How fast jobs may go: a share of the time of one worker, up to all of it for each. No server here.
//!
//! What a share costs is estimated turn by turn, as `(slowdown - 1) / share`, for the typical call and for the tail: what the limit
//! leaves for each, divided by it, is where the share belongs. Down it goes there at once; up only step by step, because nobody knows
//! what it costs before it is tried: doubled until it is first too much, from then on by the same amount each time.

use super::compare::Felt;

/// What holds in a turn.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// How many times as long as without jobs may statements take? The tail as much, the typical call half as much more.
    pub limit: f64,
    /// Workers that would go at full speed.
    pub most: f64,
}

/// The least that a job does beside others: it shall end some day.
pub const LEAST: f64 = 0.01;
/// Of what the limit leaves to the tail, this part is left to the typical call.
pub const TYPICAL: f64 = 0.5;
/// Where it begins when nothing is known.
const FIRST: f64 = 0.1;
/// What a whole share is taken to cost before anything is known, and how many calls it takes to outweigh that.
const EXPECTED: f64 = 0.2;
const EXPECTED_CALLS: f64 = 100.0;
/// So much more in each turn, of all that there is.
const STEP: f64 = 0.04;
/// Something is left for the noise in what is measured.
const MARGIN: f64 = 0.9;
/// Never less than this part of the last share in one turn: one of them may be wrong.
const DEEPEST: f64 = 0.25;
/// What was felt in this turn is so many times what was expected, or the other way round: it is another load now. If so many calls say
/// so: fewer often do by chance.
const SURPRISE: f64 = 1.5;
const SURE: f64 = 100.0;
/// What is kept of what was known before, at each turn: a few seconds' worth, or half a minute's when there is little to go by.
const KEEP: (f64, f64) = (0.9, 0.985);
/// What is kept of what a share costs, at each turn in which nobody can be asked: a tenth after ten seconds.
const KEEP_COST: f64 = 0.85;
/// Judged by so many calls, all is well known.
const MANY: f64 = 400.0;
/// Fewer calls are not judged by; what is expected of a job outweighs the first of them anyway.
pub const FEWEST: f64 = 20.0;

#[derive(Clone, Debug)]
pub struct Control {
    share: f64,
    /// `(slowdown - 1) / share`, of the typical call.
    typical: f64,
    /// The same, of what is over its limit first.
    cost: f64,
    /// It has been too much once.
    met_limit: bool,
}

impl Default for Control {
    fn default() -> Self {
        Control { share: FIRST, typical: EXPECTED, cost: EXPECTED / TYPICAL, met_limit: false }
    }
}

/// The share that a limit leaves, if all of a worker's time costs so much.
pub fn left(limit: f64, cost: f64) -> f64 {
    if cost > 0.0 { MARGIN * (limit - 1.0) / cost } else { f64::INFINITY }
}

/// What a limit is for the typical call.
pub fn of_typical(limit: f64) -> f64 {
    1.0 + (limit - 1.0) * TYPICAL
}

impl Control {
    /// As another one left it.
    pub fn remembered(share: f64, cost: f64) -> Self {
        Control { share, cost, met_limit: true, ..Control::default() }
    }

    pub fn cost(&self) -> f64 {
        self.cost
    }

    /// The share of all workers together.
    pub fn share(&self, bounds: Bounds) -> f64 {
        self.share.clamp(LEAST, bounds.most.max(LEAST))
    }

    /// How much of what was known before to keep after this turn: `before` is what was felt until then, at this share of work now.
    pub fn keeps(&self, turn: Option<Felt>, before: Option<Felt>, share: f64) -> f64 {
        match before {
            _ if turn.is_some_and(|turn| turn.calls >= SURE && self.is_surprised(turn, share)) => 0.0,
            Some(before) if before.calls >= MANY => KEEP.0,
            _ => KEEP.1,
        }
    }

    /// Is what this turn alone has felt beside what was known so far?
    fn is_surprised(&self, turn: Felt, share: f64) -> bool {
        let expected = (1.0 + self.typical * share).max(1.0);
        !(1.0 / SURPRISE..=SURPRISE).contains(&(turn.typical / expected))
    }

    /// What the last turns have felt, at this share of work in the mean.
    pub fn felt(&mut self, felt: Felt, share: f64, bounds: Bounds) {
        let known = felt.calls / (felt.calls + EXPECTED_CALLS);
        let cost = |slowdown: f64| known * (slowdown - 1.0) / share.max(LEAST) + (1.0 - known) * EXPECTED;
        self.typical = cost(felt.typical);
        self.cost = cost(felt.tail).max(self.typical / TYPICAL);
        let belongs = left(bounds.limit, self.cost);
        let now = self.share(bounds);
        if belongs < now {
            self.met_limit = true;
            self.share = belongs.max(now * DEEPEST);
        } else {
            let step = if self.met_limit { STEP * bounds.most } else { now };
            self.share = belongs.min(now + step);
        }
        self.share = self.share(bounds);
    }

    /// Work went on for so long that it cannot be said what it costs: at a slower pace there are rests between.
    pub fn unseen(&mut self, bounds: Bounds) {
        self.share = self.share(bounds) / 2.0;
    }

    /// There are too few calls for anybody to say that he is disturbed. What others said before does not hold for ever, least of all for
    /// a job whose own limit leaves it next to nothing.
    pub fn unjudged(&mut self, bounds: Bounds) {
        self.typical *= KEEP_COST;
        self.cost *= KEEP_COST;
        self.share += STEP * bounds.most;
        self.share = self.share(bounds);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds = Bounds { limit: 1.2, most: 1.0 };

    /// Numbers that are spread as those of chance are, and the same each time.
    struct Chance(u64);

    impl Chance {
        fn next(&mut self) -> f64 {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (self.0 >> 11) as f64 / (1u64 << 53) as f64
        }

        /// Of mean 0 and deviation 1, nearly.
        fn normal(&mut self) -> f64 {
            (0..12).map(|_| self.next()).sum::<f64>() - 6.0
        }
    }

    /// A server on which work costs what a test says, as the watch sees it: pooled over the last turns.
    struct World {
        control: Control,
        chance: Chance,
        /// Calls of a turn, at work and at rest.
        calls: f64,
        bounds: Bounds,
        /// Turns until what a share does is seen.
        delay: usize,
        /// Sums over the last turns: calls, and times them the logarithm of the slowdown, the logarithm of that of the tail, the share.
        pool: [f64; 4],
        shares: Vec<f64>,
        slowdowns: Vec<f64>,
    }

    impl World {
        fn new(calls: f64) -> Self {
            World {
                control: Control::default(),
                chance: Chance(7),
                calls,
                bounds: BOUNDS,
                delay: 0,
                pool: [0.0; 4],
                shares: Vec::new(),
                slowdowns: Vec::new(),
            }
        }

        /// So many turns at a server on which a share costs this much of the typical call, and twice as much of the tail.
        fn run(&mut self, turns: usize, cost: impl Fn(usize) -> f64) -> &mut Self {
            for turn in 0..turns {
                let share = self.control.share(self.bounds);
                self.shares.push(share);
                let acting = self.shares[self.shares.len().saturating_sub(1 + self.delay)];
                let slowdown = 1.0 + cost(turn) * acting.powf(1.1);
                self.slowdowns.push(slowdown);
                let mut noisy = |slowdown: f64, by: f64| slowdown.ln() + self.chance.normal() * by / self.calls.sqrt();
                let seen = (noisy(slowdown, 1.5), noisy(2.0 * slowdown - 1.0, 6.0));
                let felt = |pool: [f64; 4]| Felt {
                    typical: (pool[1] / pool[0]).exp(),
                    tail: (pool[2] / pool[0]).exp(),
                    calls: pool[0] / 4.0,
                };
                let now = [self.calls, self.calls * seen.0, self.calls * seen.1, self.calls * share];
                let before = (self.pool[0] > 0.0).then(|| felt(self.pool));
                let keep = self.control.keeps(Some(felt(now)), before, share);
                self.pool.iter_mut().zip(now).for_each(|(sum, now)| *sum = *sum * keep + now);
                match felt(self.pool) {
                    felt if felt.calls >= FEWEST => {
                        self.control.felt(felt, self.pool[3] / self.pool[0], self.bounds);
                    }
                    _ => self.control.unjudged(self.bounds),
                }
            }
            self
        }

        fn last(values: &[f64], turns: usize) -> &[f64] {
            &values[values.len() - turns..]
        }

        /// Mean share, and its deviation as a part of it.
        fn pace(&self, turns: usize) -> (f64, f64) {
            let shares = Self::last(&self.shares, turns);
            let mean = shares.iter().sum::<f64>() / turns as f64;
            let square = shares.iter().map(|share| (share - mean).powi(2)).sum::<f64>() / turns as f64;
            (mean, square.sqrt() / mean)
        }

        fn worst(&self, turns: usize) -> f64 {
            Self::last(&self.slowdowns, turns).iter().copied().fold(0.0, f64::max)
        }
    }

    /// The share at which the limit is just met.
    fn ideal(cost: f64) -> f64 {
        (0.1 / cost).powf(1.0 / 1.1).min(1.0)
    }

    #[test]
    fn it_settles_where_the_limit_is() {
        for cost in [0.15, 0.5, 1.5, 5.0] {
            for delay in [0, 1] {
                let mut world = World::new(4000.0);
                world.delay = delay;
                world.run(120, |_| cost);
                let (mean, spread) = world.pace(80);
                let part = mean / ideal(cost);
                assert!((0.7..1.05).contains(&part), "cost {cost}, delay {delay}: {part} of what it could have");
                assert!(spread < 0.15, "cost {cost}, delay {delay}: it swings by {spread}");
                assert!(world.worst(80) < 1.15, "{}", world.worst(80));
            }
        }
    }

    #[test]
    fn with_few_calls_it_neither_rings_nor_starves() {
        for calls in [50.0, 100.0, 400.0] {
            let mut world = World::new(calls);
            world.run(600, |_| 0.5);
            let (mean, _) = world.pace(500);
            assert!((0.35..1.1).contains(&(mean / ideal(0.5))), "{calls} calls: {}", mean / ideal(0.5));
        }
    }

    #[test]
    fn it_gives_way_within_two_turns() {
        let mut world = World::new(4000.0);
        world.run(60, |_| 0.1).run(4, |_| 3.0);
        assert!(world.slowdowns[60] > 2.0, "it was noticed");
        assert!(world.slowdowns[62] < 1.3, "{:?}", &world.slowdowns[60..]);
        // And comes back when there is room again.
        world.run(60, |_| 0.1);
        assert!(world.shares.last().is_some_and(|share| *share > 0.7), "{:?}", world.shares.last());
    }

    #[test]
    fn a_load_that_grows_slowly_is_followed() {
        let mut world = World::new(4000.0);
        world.run(40, |_| 0.2).run(200, |turn| 0.2 + turn as f64 * 0.015);
        assert!(world.worst(200) < 1.17, "{}", world.worst(200));
    }

    #[test]
    fn whoever_disturbs_nobody_goes_at_full_speed_soon() {
        let mut world = World { bounds: Bounds { most: 2.0, ..BOUNDS }, ..World::new(1000.0) };
        world.run(12, |_| 0.0);
        assert_eq!(world.control.share(world.bounds), 2.0);
    }

    #[test]
    fn what_it_never_causes_does_not_stop_it_and_the_worst_does_not_either() {
        let mut control = Control::default();
        let all = Felt { typical: 50.0, tail: 20.0, calls: 1e4 };
        (0..30).for_each(|_| control.felt(all, control.share(BOUNDS), BOUNDS));
        assert_eq!(control.share(BOUNDS), LEAST);
    }

    #[test]
    fn whom_nobody_can_judge_goes_faster_bit_by_bit() {
        let mut control = Control::default();
        control.unjudged(BOUNDS);
        assert!(control.share(BOUNDS) < 0.2);
        (0..30).for_each(|_| control.unjudged(BOUNDS));
        assert_eq!(control.share(BOUNDS), 1.0);
    }

    #[test]
    fn what_those_said_who_are_gone_holds_nobody_back_for_long() {
        let mut control = Control::default();
        let felt = Felt { typical: 1.5, tail: 2.0, calls: 1e4 };
        (0..10).for_each(|_| control.felt(felt, control.share(BOUNDS), BOUNDS));
        assert!(left(1.01, control.cost()) < LEAST);
        let turns = (0..100).find(|_| {
            control.unjudged(BOUNDS);
            left(1.01, control.cost()) >= 1.0 && control.share(BOUNDS) == 1.0
        });
        assert!(turns.is_some_and(|turns| turns < 80), "{turns:?}");
    }

    #[test]
    fn with_fewer_workers_there_is_less_to_share() {
        let mut control = Control::default();
        let four = Bounds { most: 4.0, ..BOUNDS };
        let nothing = Felt { typical: 1.0, tail: 1.0, calls: 1e4 };
        (0..20).for_each(|_| control.felt(nothing, control.share(four), four));
        assert_eq!(control.share(four), 4.0);
        assert_eq!(control.share(BOUNDS), 1.0);
    }
}
