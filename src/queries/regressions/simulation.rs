//! A workload with a daily cycle, to see how often the test is wrong and how often it is right.

use super::discoveries;
use super::effect::{Cell, compare};
use crate::queries::histogram::index_of;

/// A small generator of the usual kind (SplitMix64): the same rates on every run.
struct Chance(u64);

impl Chance {
    fn uniform(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }

    fn normal(&mut self) -> f64 {
        (-2.0 * (1.0 - self.uniform()).ln()).sqrt() * (2.0 * std::f64::consts::PI * self.uniform()).cos()
    }

    fn poisson(&mut self, mean: f64) -> u64 {
        let (limit, mut product, mut count) = ((-mean).exp(), self.uniform(), 0);
        while product > limit {
            product *= self.uniform();
            count += 1;
        }
        count
    }
}

/// What the simulated days are like.
#[derive(Clone, Copy)]
struct World {
    /// The slowest hour takes this many times as long as the fastest.
    cycle: f64,
    /// Spread of the load from hour to hour (logarithm), and how much of it stays to the next hour.
    hours: f64,
    stays: f64,
    /// Spread from day to day.
    days: f64,
    calls_a_day: f64,
    baseline_days: i64,
    /// The hours of the last day that are compared with the days before.
    window: (usize, usize),
    regressed: f64,
}

const WORLD: World = World {
    cycle: 3.0,
    hours: 0.05,
    stays: 0.6,
    days: 0.02,
    calls_a_day: 200.0,
    baseline_days: 14,
    window: (0, 24),
    regressed: 0.1,
};

const STATEMENTS: usize = 200;
const SLOWDOWN: f64 = 1.3;
/// The defaults of `upkeep.query_regressions`.
const MIN_EFFECT: f64 = super::MIN_EFFECT;
const LIMIT: f64 = super::FALSE_DISCOVERIES;

fn statement(world: World, slower: f64, chance: &mut Chance) -> (Vec<Cell>, Vec<Cell>) {
    let median = 50.0 * 10f64.powf(4.0 * chance.uniform());
    let spread = 0.3 + 0.4 * chance.uniform();
    let (phase, traffic_phase) = (chance.uniform(), chance.uniform());
    let (mut then, mut now, mut load) = (Vec::new(), Vec::new(), 0.0);
    for day in 0..=world.baseline_days {
        let today = world.days * chance.normal();
        for hour in 0..24 {
            load = world.stays * load + world.hours * (1.0 - world.stays.powi(2)).sqrt() * chance.normal();
            let wave = |phase: f64| (2.0 * std::f64::consts::PI * (hour as f64 / 24.0 + phase)).sin();
            let level = median.ln() + 0.5 * world.cycle.ln() * wave(phase) + load + today;
            let calls = chance.poisson(world.calls_a_day / 24.0 * (1.0 + 0.7 * wave(traffic_phase)));
            let last = day == world.baseline_days;
            let level = if last { level + slower.ln() } else { level };
            let mut counts = std::collections::BTreeMap::<usize, u64>::new();
            for _ in 0..calls {
                *counts.entry(index_of((level + spread * chance.normal()).exp() as u64)).or_default() += 1;
            }
            let cell = Cell { at: 24 * day + hour as i64, hour: Some(hour), day, counts: counts.into_iter().collect() };
            if !last {
                then.push(cell);
            } else if (world.window.0..world.window.1).contains(&hour) {
                now.push(cell);
            }
        }
    }
    (then, now)
}

#[derive(Debug, Default)]
struct Rates {
    /// The mean share of false ones among what is reported.
    false_discoveries: f64,
    /// The share of the statements that are 30 % slower which are reported.
    power: f64,
}

fn rates(world: World, rounds: usize, seed: u64) -> Rates {
    let mut chance = Chance(seed);
    let mut rates = Rates::default();
    for _ in 0..rounds {
        let truth: Vec<bool> = (0..STATEMENTS).map(|i| (i as f64) < world.regressed * STATEMENTS as f64).collect();
        let compared: Vec<_> = truth
            .iter()
            .map(|&worse| {
                let (then, now) = statement(world, if worse { SLOWDOWN } else { 1.0 }, &mut chance);
                compare(&then, &now).expect("both sides have calls")
            })
            .collect();
        let adjusted = discoveries::adjust(&compared.iter().map(|found| found.p_value).collect::<Vec<_>>());
        let reported = |i: usize| adjusted[i] <= LIMIT && compared[i].effect >= MIN_EFFECT;
        let right = (0..STATEMENTS).filter(|&i| reported(i) && truth[i]).count() as f64;
        let wrong = (0..STATEMENTS).filter(|&i| reported(i) && !truth[i]).count() as f64;
        rates.false_discoveries += wrong / (right + wrong).max(1.0) / rounds as f64;
        rates.power += right / truth.iter().filter(|&&worse| worse).count().max(1) as f64 / rounds as f64;
    }
    rates
}

/// For the measurement: this many times as many rounds, in a build that is faster than that of the tests.
const ROUNDS: &str = "UPKEEP_SIMULATION_ROUNDS";

fn check(name: &str, world: World, rounds: usize, least_power: f64) {
    let more = std::env::var(ROUNDS).ok().and_then(|more| more.parse().ok()).unwrap_or(1);
    let rounds = rounds * more;
    let nothing = rates(World { regressed: 0.0, ..world }, rounds, 1);
    let some = rates(world, rounds, 2);
    println!(
        "{name}: false discoveries {:.1} % (nothing changed), {:.1} % (one in ten changed); power {:.1} %",
        100.0 * nothing.false_discoveries,
        100.0 * some.false_discoveries,
        100.0 * some.power
    );
    // A few rounds are a rough look.
    let limit = if more > 1 { LIMIT } else { 2.0 * LIMIT };
    assert!(nothing.false_discoveries <= limit && some.false_discoveries <= limit, "{name}: {nothing:?} {some:?}");
    assert!(some.power >= least_power, "{name}: {some:?}");
}

#[test]
fn a_day_against_two_weeks() {
    check("a day of 200 calls against 14 days", WORLD, 4, 0.8);
}

#[test]
fn a_day_against_a_week() {
    check("a day of 200 calls against 7 days", World { baseline_days: 7, ..WORLD }, 4, 0.4);
}

#[test]
fn restless_days() {
    check("restless days of 200 calls against 14 days", World { hours: 0.2, days: 0.1, ..WORLD }, 4, 0.0);
}

#[test]
fn many_calls_are_no_excuse() {
    check(
        "a day of 5000 calls against 14 days",
        World { calls_a_day: 5000.0, hours: 0.1, days: 0.05, ..WORLD },
        1,
        0.5,
    );
}

#[test]
fn an_evening_against_two_weeks() {
    check("six hours of 200 calls against 14 days", World { calls_a_day: 800.0, window: (16, 22), ..WORLD }, 2, 0.5);
}

/// One day before cannot tell how much days differ: they are taken to be alike.
#[test]
fn a_day_against_the_day_before() {
    check("a day of 200 calls against a day", World { baseline_days: 1, days: 0.0, ..WORLD }, 4, 0.1);
}
