//! How a series of attempts goes on: how long each waits, how long it rests after it, and when an autovacuum is asked to yield.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The first attempt waits so long for its locks, each one after it twice as long, up to `upkeep.ddl_lock_timeout`.
const FIRST_WAIT: Duration = Duration::from_millis(10);
/// A rest is so many times as long as others waited before it: they get at least 20 of 21 parts of the time.
const REST: u32 = 20;
/// Two that try for the same do not keep step: a rest is up to so many percent longer.
const JITTER: u64 = 5;
/// From here on an autovacuum is to yield: as politely as the server's own `deadlock_timeout` usually is.
const POLITE: i64 = 1_000_000;
/// So many attempts, and for so long, may have taken too long themselves: a busy machine makes them slow, and not for ever. Those that
/// somebody was in the way of tell nothing about the change.
const MOST_TOO_LONG: u32 = 5;
const TOO_LONG_FOR: u64 = 30_000_000;

/// The attempts of a series, which whoever makes them keeps between two of them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Tries {
    count: u32,
    /// When the first one began, in µs of the server's clock.
    began: Option<i64>,
    /// How many of them came to their end while the change was at work, and when the first one of those began.
    too_long: u32,
    too_long_since: Option<i64>,
    /// Was the last one of those?
    warm: bool,
    /// The next one is not made before, in the same unit: whoever wakes the worker up sooner wants something else.
    not_before: Option<i64>,
    rest: Duration,
    /// Who was in the way when it was told last.
    pub(super) told: Vec<String>,
}

impl Tries {
    /// Of one who rests by a rule of his own: since then, and so long each time.
    pub fn with_rests_of(since: i64, rest: Duration) -> Self {
        let mut tries = Tries { began: Some(since), ..Tries::default() };
        while tries.wait(Duration::MAX) * (2 * REST) <= rest {
            tries.count += 1;
        }
        tries
    }

    /// How long the next one waits for its locks.
    pub(super) fn wait(&self, budget: Duration) -> Duration {
        FIRST_WAIT.saturating_mul(2u32.saturating_pow(self.count)).min(budget)
    }

    /// Is an autovacuum asked to yield by an attempt that begins now?
    pub(super) fn insists(&self, now: i64) -> bool {
        self.began.is_some_and(|began| now - began >= POLITE)
    }

    /// How long the last rest still lasts.
    pub(super) fn rests(&self, now: i64) -> Option<Duration> {
        let left = u64::try_from(self.not_before? - now).ok().filter(|&left| left > 0)?;
        // The clock was put back: no rest is longer than it was to be.
        Some(Duration::from_micros(left).min(self.rest))
    }

    /// The first one was the last one that was noted.
    pub(super) fn is_first(&self) -> bool {
        self.count == 1
    }

    /// The change itself took too long, for the first time.
    pub(super) fn is_first_too_long(&self) -> bool {
        self.warm && self.too_long == 1
    }

    /// Another one was in vain, which began then. `false`: the change itself took too long, again and again.
    pub(super) fn note(&mut self, began: i64, too_long: bool) -> bool {
        self.count = self.count.saturating_add(1);
        self.began.get_or_insert(began);
        self.warm = too_long;
        if !too_long {
            return true;
        }
        self.too_long += 1;
        let since = *self.too_long_since.get_or_insert(began);
        self.too_long < MOST_TOO_LONG || began.abs_diff(since) < TOO_LONG_FOR
    }

    /// The last change took too long. The process that tried it now has in its caches what the change looks up, and is faster; another
    /// one would be as slow again, with others waiting for it.
    pub fn has_warmed_up(&self) -> bool {
        self.warm
    }

    /// The rest after the last one, from now on. `chance`: any number.
    pub(super) fn rest(&mut self, budget: Duration, now: i64, chance: u64) -> Duration {
        let last = Tries { count: self.count.saturating_sub(1), ..Tries::default() };
        // Behind a change that took too long others waited for all of it, however short the wait for its locks was to be.
        let waited = if self.warm { budget } else { last.wait(budget) };
        let rest = waited * REST;
        let rest = rest + rest.mul_f64((chance % 1000) as f64 / 1000.0 * JITTER as f64 / 100.0);
        self.not_before = Some(now.saturating_add(rest.as_micros() as i64));
        self.rest = rest;
        rest
    }
}

/// How soon who waits so long looks for a deadlock, and so for an autovacuum that is in his way.
pub(super) fn insistence(wait: Duration) -> Duration {
    (wait / 2).min(Duration::from_millis(10)).max(Duration::from_millis(1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const BUDGET: Duration = Duration::from_millis(200);

    fn ms(duration: Duration) -> u128 {
        duration.as_millis()
    }

    #[test]
    fn waits_double_and_rests_are_twenty_times_as_long() {
        let mut tries = Tries::default();
        let mut seen = Vec::new();
        for _ in 0..7 {
            let wait = tries.wait(BUDGET);
            assert!(tries.note(0, false));
            seen.push((ms(wait), ms(tries.rest(BUDGET, 0, 0))));
        }
        let wanted = [(10, 200), (20, 400), (40, 800), (80, 1600), (160, 3200), (200, 4000), (200, 4000)];
        assert_eq!(seen, wanted);
        assert_eq!(ms(tries.rest(BUDGET, 0, 999)), 4199);
    }

    #[test]
    fn a_rest_is_as_long_as_it_is_to_be() {
        let mut tries = Tries::default();
        assert_eq!(tries.rests(0), None);
        tries.note(0, false);
        tries.rest(BUDGET, 1_000_000, 0);
        let left = |now| tries.rests(now).map(ms);
        assert_eq!(
            [left(1_000_000), left(1_199_000), left(1_200_000), left(9_000_000)],
            [Some(200), Some(1), None, None]
        );
        assert_eq!(left(-5_000_000), Some(200), "the clock was put back");
    }

    #[test]
    fn a_small_budget_is_all_that_is_waited() {
        let budget = Duration::from_millis(15);
        let mut tries = Tries::default();
        tries.note(0, false);
        assert_eq!((ms(tries.wait(budget)), ms(tries.rest(budget, 0, 0))), (15, 200));
        tries.note(0, false);
        assert_eq!(ms(tries.rest(budget, 0, 0)), 300);
    }

    #[test]
    fn an_autovacuum_is_asked_to_yield_after_a_second() {
        let mut tries = Tries::default();
        assert!(!tries.insists(10_000_000), "the first one");
        tries.note(5_000_000, false);
        tries.note(5_200_000, false);
        assert!(!tries.insists(5_999_999) && tries.insists(6_000_000));
        // The clock was put back: then a little later.
        assert!(!tries.insists(0));
        assert_eq!(ms(insistence(BUDGET)), 10);
        assert_eq!(ms(insistence(Duration::from_millis(10))), 5);
        assert_eq!(ms(insistence(Duration::ZERO)), 1);
    }

    #[test]
    fn what_takes_too_long_each_time_is_not_tried_for_ever() {
        let row = |tries: &mut Tries, every: i64| {
            (1..100).take_while(|n| tries.note(n * every, false) && tries.note(n * every, true)).count()
        };
        let mut tries = Tries::default();
        assert_eq!(row(&mut tries, 10_000_000), 4, "five, if they are far from each other");
        assert_eq!(ms(tries.rest(BUDGET, 0, 0)), 4000, "others have waited for all of it");
        assert!(tries.has_warmed_up());
        assert!(tries.note(0, false) && !tries.has_warmed_up(), "somebody was in the way");
        assert_eq!(row(&mut Tries::default(), 1_000_000), 30, "and for half a minute");
    }

    #[test]
    fn rests_of_others_are_as_long_as_ours_would_be() {
        let wait = |rest| ms(Tries::with_rests_of(0, Duration::from_millis(rest)).wait(BUDGET));
        assert_eq!([wait(0), wait(200), wait(399), wait(400), wait(1600), wait(10_000)], [10, 10, 10, 20, 80, 200]);
    }

    #[test]
    fn it_outlives_its_worker() {
        let mut tries = Tries::default();
        tries.note(7, true);
        tries.told.push("4711".into());
        let stored = serde_json::to_value(&tries).unwrap();
        assert_eq!(serde_json::from_value::<Tries>(stored).unwrap(), tries);
        assert_eq!(serde_json::from_str::<Tries>("{}").unwrap(), Tries::default());
    }

    proptest! {
        #[test]
        fn others_have_the_table_nearly_all_the_time(count in 0u32..100_000, budget in 10u64..10_000, chance: u64, too_long: bool) {
            let budget = Duration::from_millis(budget);
            let mut tries = Tries { count, ..Tries::default() };
            let wait = tries.wait(budget);
            tries.note(0, too_long);
            let rest = tries.rest(budget, 0, chance);
            let others = if too_long { budget } else { wait };
            prop_assert!(wait <= budget && rest >= others * REST && rest <= others * (REST + 1), "{wait:?} {rest:?}");
            prop_assert!(insistence(wait) < wait);
        }
    }
}
