//! How fast jobs may go: a share of the time of one worker, up to all of it for each. No server here.
//!
//! What a share costs is estimated from look to look, as `(slowdown - 1) / share`: looks with many calls count for more, older ones
//! for less. The limit divided by it is where the share belongs. Down it goes there at once; up only step by step, because nobody
//! knows what it costs before it is tried: doubled until it is first too much, from then on by the same amount each time.

/// What holds in a look.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// How many times as long as without jobs may statements take?
    pub limit: f64,
    /// Workers that would go at full speed.
    pub most: f64,
}

/// The least that a job does beside others: it shall end some day.
pub const LEAST: f64 = 0.01;
/// Where it begins when nothing is known.
const FIRST: f64 = 0.1;
/// What a whole share is taken to cost before anything is known.
const EXPECTED: f64 = 0.2;
/// So much more in each look, of all that there is.
const STEP: f64 = 0.04;
/// A look of so many calls counts as much as all before it.
const CALLS: f64 = 400.0;
/// What the weight of the looks so far is multiplied by at each look.
const KEEP: f64 = 0.7;
/// Something is left for the noise in what is measured.
const MARGIN: f64 = 0.9;
/// Never less than this part of the last share in one look: one of them may be wrong.
const DEEPEST: f64 = 0.25;

#[derive(Clone, Debug)]
pub struct Control {
    share: f64,
    /// `(slowdown - 1) / share`, and by how many calls that is known.
    cost: f64,
    known: f64,
    /// It has been too much once.
    met_limit: bool,
}

impl Default for Control {
    fn default() -> Self {
        Control { share: FIRST, cost: EXPECTED, known: 0.3, met_limit: false }
    }
}

impl Control {
    /// The share of all workers together.
    pub fn share(&self, bounds: Bounds) -> f64 {
        self.share.clamp(LEAST, bounds.most.max(LEAST))
    }

    /// A look at work, at this share: statements took so many times as long, judged by so many calls.
    pub fn felt(&mut self, slowdown: f64, calls: f64, bounds: Bounds) {
        let share = self.share(bounds);
        let cost = (slowdown - 1.0) / share;
        // A small share tells little about what a large one costs.
        let weight = calls / CALLS * (share / bounds.most).clamp(0.05, 1.0);
        self.known *= KEEP;
        self.cost = (self.cost * self.known + cost * weight) / (self.known + weight);
        self.known += weight;
        let room = bounds.limit - 1.0;
        let belongs = if self.cost > 0.0 { room * MARGIN / self.cost } else { f64::INFINITY };
        if belongs < share {
            self.met_limit = true;
            self.share = belongs.max(share * DEEPEST);
        } else {
            let step = if self.met_limit { STEP * bounds.most } else { share };
            self.share = belongs.min(share + step);
        }
        self.share = self.share(bounds);
    }

    /// Nothing is known for now: slower and slower, in case it is us.
    pub fn unknown(&mut self, bounds: Bounds) {
        self.share = (self.share(bounds) / 2.0).max(LEAST);
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

    struct World {
        control: Control,
        chance: Chance,
        calls: f64,
        bounds: Bounds,
        /// Looks until what a share does is seen.
        delay: usize,
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
                shares: Vec::new(),
                slowdowns: Vec::new(),
            }
        }

        /// So many looks at a server on which a share costs this much: a little more than in proportion.
        fn run(&mut self, looks: usize, cost: impl Fn(usize) -> f64) -> &mut Self {
            for look in 0..looks {
                let share = self.control.share(self.bounds);
                self.shares.push(share);
                let acting = self.shares[self.shares.len().saturating_sub(1 + self.delay)];
                let slowdown = 1.0 + cost(look) * acting.powf(1.3);
                self.slowdowns.push(slowdown);
                let seen = slowdown + self.chance.normal() * 1.5 * slowdown / self.calls.sqrt();
                self.control.felt(seen, self.calls, self.bounds);
            }
            self
        }

        fn last(values: &[f64], looks: usize) -> &[f64] {
            &values[values.len() - looks..]
        }

        /// Mean share, and its deviation as a part of it.
        fn pace(&self, looks: usize) -> (f64, f64) {
            let shares = Self::last(&self.shares, looks);
            let mean = shares.iter().sum::<f64>() / looks as f64;
            let square = shares.iter().map(|share| (share - mean).powi(2)).sum::<f64>() / looks as f64;
            (mean, square.sqrt() / mean)
        }

        fn worst(&self, looks: usize) -> f64 {
            Self::last(&self.slowdowns, looks).iter().copied().fold(0.0, f64::max)
        }
    }

    /// The share at which the limit is just met.
    fn ideal(cost: f64) -> f64 {
        (0.2 / cost).powf(1.0 / 1.3).min(1.0)
    }

    #[test]
    fn it_settles_where_the_limit_is() {
        for cost in [0.3, 1.0, 3.0, 10.0] {
            for delay in [0, 1] {
                let mut world = World::new(4000.0);
                world.delay = delay;
                world.run(60, |_| cost);
                let (mean, spread) = world.pace(40);
                let part = mean / ideal(cost);
                assert!((0.7..1.05).contains(&part), "cost {cost}, delay {delay}: {part} of what it could have");
                assert!(spread < 0.15, "cost {cost}, delay {delay}: it swings by {spread}");
                assert!(world.worst(40) < 1.3, "{}", world.worst(40));
            }
        }
    }

    #[test]
    fn with_few_calls_it_neither_rings_nor_starves() {
        for calls in [50.0, 100.0, 400.0] {
            let mut world = World::new(calls);
            world.run(300, |_| 1.0);
            let (mean, _) = world.pace(250);
            assert!((0.4..1.1).contains(&(mean / ideal(1.0))), "{calls} calls: {}", mean / ideal(1.0));
        }
    }

    #[test]
    fn it_gives_way_within_two_looks() {
        let mut world = World::new(4000.0);
        world.run(40, |_| 0.2).run(3, |_| 5.0);
        assert!(world.slowdowns[40] > 2.0, "it was noticed");
        assert!(world.slowdowns[42] < 1.3, "{:?}", &world.slowdowns[40..]);
        // And comes back when there is room again.
        world.run(30, |_| 0.2);
        assert!(world.shares.last().is_some_and(|share| *share > 0.7), "{:?}", world.shares.last());
    }

    #[test]
    fn a_load_that_grows_slowly_is_followed() {
        let mut world = World::new(4000.0);
        world.run(20, |_| 0.3).run(100, |look| 0.3 + look as f64 * 0.05);
        assert!(world.worst(100) < 1.35, "{}", world.worst(100));
    }

    #[test]
    fn whoever_disturbs_nobody_goes_at_full_speed_soon() {
        let mut world = World { bounds: Bounds { most: 2.0, ..BOUNDS }, ..World::new(1000.0) };
        world.run(8, |_| 0.0);
        assert_eq!(world.control.share(world.bounds), 2.0);
    }

    #[test]
    fn without_figures_it_goes_down_and_never_stops() {
        let mut control = Control::default();
        (0..30).for_each(|_| control.unknown(BOUNDS));
        assert_eq!(control.share(BOUNDS), LEAST);
        control.felt(50.0, 1e4, BOUNDS);
        assert_eq!(control.share(BOUNDS), LEAST);
    }

    #[test]
    fn with_fewer_workers_there_is_less_to_share() {
        let mut control = Control::default();
        (0..20).for_each(|_| control.felt(1.0, 1e4, Bounds { most: 4.0, ..BOUNDS }));
        assert_eq!(control.share(Bounds { most: 4.0, ..BOUNDS }), 4.0);
        assert_eq!(control.share(BOUNDS), 1.0);
    }
}
