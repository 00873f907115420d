//! How long dead rows stay, and what that means for the next window.
//!
//! A stride needs the space that the one before it freed on the same page: between two
//! visits of a range everybody must have gone who could still see the old row versions.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::server::heap;

/// Beyond this nothing is gained by waiting: strides would only cost.
const HELD: Duration = Duration::from_secs(10);
/// Steps remembered.
const MEMORY: usize = 8192;

/// When our own steps wrote, to tell the horizon's age in time.
#[derive(Debug, Default)]
pub struct Horizon {
    steps: VecDeque<(u32, Instant)>,
    /// Typical time of a step.
    step_time: Duration,
    window: u32,
    held: bool,
}

/// What the next window should be like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Advice {
    pub ranges: u32,
    /// Strides gain nothing now.
    pub plain: bool,
    /// `plain` is not what it was at the last window.
    pub changed: bool,
}

impl Horizon {
    pub fn note_step(&mut self, xid: u32) {
        if self.steps.len() >= MEMORY {
            self.steps.pop_front();
        }
        self.steps.push_back((xid, Instant::now()));
    }

    pub fn note_time(&mut self, took: Duration) {
        self.step_time = if self.step_time.is_zero() { took } else { (self.step_time * 7 + took) / 8 };
    }

    /// For the horizon as it is now; `limits`: the usual window and the largest.
    pub fn advise(&mut self, horizon: Option<u32>, limits: (u32, u32)) -> Advice {
        let lag = horizon.map_or(Duration::ZERO, |horizon| self.lag(horizon, Instant::now()));
        self.decide(lag, limits)
    }

    /// How long ago the oldest of our steps was whose dead rows somebody may still see.
    fn lag(&mut self, horizon: u32, now: Instant) -> Duration {
        while self.steps.front().is_some_and(|&(xid, _)| heap::precedes(xid, horizon)) {
            self.steps.pop_front();
        }
        self.steps.front().map_or(Duration::ZERO, |&(_, time)| now.saturating_duration_since(time))
    }

    fn decide(&mut self, lag: Duration, (usual, largest): (u32, u32)) -> Advice {
        let largest = largest.max(usual);
        let window = self.window.max(usual);
        let visit_gap = self.step_time * window;
        self.window = if lag > visit_gap * 4 / 5 {
            window.saturating_mul(2).min(largest)
        } else if lag < visit_gap / 4 {
            (window / 2).max(usual)
        } else {
            window
        };
        let plain = lag > HELD;
        let changed = plain != self.held;
        self.held = plain;
        Advice { ranges: self.window, plain, changed }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEP: Duration = Duration::from_millis(5);
    const LIMITS: (u32, u32) = (20, 160);

    fn at_work() -> Horizon {
        let mut horizon = Horizon::default();
        horizon.note_step(100);
        horizon.note_time(STEP);
        horizon
    }

    #[test]
    fn nobody_in_the_way_means_the_usual_window() {
        let advice = at_work().decide(Duration::ZERO, LIMITS);
        assert_eq!(advice, Advice { ranges: 20, plain: false, changed: false });
    }

    #[test]
    fn the_window_grows_with_the_lag_and_comes_back() {
        let mut horizon = at_work();
        let lag = Duration::from_millis(300);
        assert_eq!(horizon.decide(lag, LIMITS).ranges, 40);
        assert_eq!(horizon.decide(lag, LIMITS).ranges, 80);
        assert_eq!(horizon.decide(lag, LIMITS).ranges, 80);
        assert_eq!(horizon.decide(Duration::ZERO, LIMITS).ranges, 40);
        assert_eq!(horizon.decide(Duration::from_secs(5), LIMITS).ranges, 80);
        assert_eq!(horizon.decide(Duration::from_secs(5), LIMITS).ranges, 160);
        assert_eq!(horizon.decide(Duration::from_secs(5), LIMITS).ranges, 160);
    }

    #[test]
    fn a_held_horizon_is_told_once() {
        let mut horizon = at_work();
        let held = Duration::from_secs(11);
        assert!(horizon.decide(held, LIMITS).changed);
        let advice = horizon.decide(held, LIMITS);
        assert!(advice.plain && !advice.changed);
        assert!(horizon.decide(Duration::ZERO, LIMITS).changed);
    }

    #[test]
    fn the_lag_is_the_age_of_the_oldest_step_still_seen() {
        let mut horizon = Horizon::default();
        horizon.note_step(u32::MAX - 1);
        horizon.note_step(5);
        let later = Instant::now() + Duration::from_secs(3);
        assert!(horizon.lag(u32::MAX, later) >= Duration::from_secs(3));
        assert_eq!(horizon.steps.len(), 1);
        assert_eq!(horizon.lag(6, later), Duration::ZERO);
    }
}
