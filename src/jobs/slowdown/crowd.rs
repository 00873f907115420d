//! How much slower statements are beside jobs where nobody counts them, or where there are too few to go by: by how many clients are
//! at one, by what they wait for, and by what the kernel says of processor and disk. No server here.
//!
//! As many come as before, so that there are more of them at a time only because each takes longer (Little's law). Where all clients of
//! a pool are always at something, there are never more: then each waits for a larger part of its time, the rest of which is as long as
//! before.

use std::time::Duration;

use super::compare::Felt;
use super::control::FEWEST;
use crate::server::sessions::Crowd;

/// No part of the time says more than this.
const MOST: f64 = 0.95;

/// Of looks on one side of the comparison; the older ones count less.
#[derive(Clone, Copy, Debug, Default)]
struct Side {
    looks: f64,
    active: f64,
    /// How often somebody was met where nobody had been a look before: many looks meet one long statement.
    met: f64,
    waiting: f64,
    /// Seconds, and for how many of them somebody could not go on for want of processor, or of disk.
    time: f64,
    stalled: [f64; 2],
}

impl Side {
    fn merge(&mut self, other: Side, keep: f64) {
        self.looks = self.looks * keep + other.looks;
        self.active = self.active * keep + other.active;
        self.met = self.met * keep + other.met;
        self.waiting = self.waiting * keep + other.waiting;
        self.time = self.time * keep + other.time;
        self.stalled.iter_mut().zip(other.stalled).for_each(|(sum, other)| *sum = *sum * keep + other);
    }
}

/// What is seen in turns of work and rest.
#[derive(Debug, Default)]
pub struct Crowds {
    rest: Side,
    work: Side,
    /// Of this turn, `work` the second.
    turn: [Side; 2],
    /// Somebody was there at the last look.
    somebody: bool,
}

impl Crowds {
    pub fn add(&mut self, at_work: bool, crowd: Crowd) {
        let side = &mut self.turn[usize::from(at_work)];
        side.looks += 1.0;
        side.active += f64::from(crowd.active);
        side.met += f64::from(u8::from(crowd.active > 0 && !self.somebody));
        self.somebody = crowd.active > 0;
        side.waiting += f64::from(crowd.waiting);
    }

    pub fn stalled(&mut self, at_work: bool, time: Duration, stalled: [Duration; 2]) {
        let side = &mut self.turn[usize::from(at_work)];
        side.time += time.as_secs_f64();
        side.stalled.iter_mut().zip(stalled).for_each(|(sum, stalled)| *sum += stalled.as_secs_f64());
    }

    /// Did anybody do anything in this turn?
    pub fn is_empty(&self) -> bool {
        self.turn.iter().all(|side| side.active == 0.0)
    }

    /// What this turn has seen does not count.
    pub fn forget_turn(&mut self) {
        self.turn = Default::default();
        self.somebody = false;
    }

    /// A turn has passed. It is added to those before, of which so much is kept.
    pub fn end_turn(&mut self, keep: f64) -> Option<Felt> {
        let [rest, work] = std::mem::take(&mut self.turn);
        self.rest.merge(rest, keep);
        self.work.merge(work, keep);
        felt(self.rest, self.work)
    }
}

/// `None`: nobody was there on one of both sides, as far as one can say.
fn felt(rest: Side, work: Side) -> Option<Felt> {
    if rest.looks == 0.0 || work.active == 0.0 {
        return None;
    }
    let beside = |at_rest: f64| (work.active / work.looks) / (at_rest / rest.looks);
    let calls = 1.0 / (1.0 / work.active + 1.0 / rest.active);
    // Short statements are hardly ever met at rest, and often when they take long: beside the most that may have been there (two standard
    // deviations more than were met, each for as long as at work) they are so much slower at least.
    let most = (rest.met + 2.0 * (rest.met + 1.0).sqrt()) * work.active / work.met.max(1.0);
    let at_least = beside(most.max(rest.active));
    if calls < FEWEST && work.met >= FEWEST && at_least > 1.0 {
        return Some(Felt { typical: at_least, tail: at_least, calls: work.met });
    }
    if rest.active == 0.0 {
        return None;
    }
    let crowd = beside(rest.active);
    // The part that somebody waits has become larger, and what he does besides takes as long as before.
    let by_part = |work: f64, rest: f64| (1.0 - rest.min(MOST)) / (1.0 - work.min(MOST));
    let waits = by_part(work.waiting / work.active, rest.waiting / rest.active);
    let pressure = work.stalled.iter().zip(rest.stalled).map(|(at_work, at_rest)| {
        if work.time > 0.0 && rest.time > 0.0 { by_part(at_work / work.time, at_rest / rest.time) } else { 1.0 }
    });
    let slowdown = pressure.fold(crowd.max(waits), f64::max);
    Some(Felt { typical: slowdown, tail: slowdown, calls })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// Looks at rest and at work, each as often as the other.
    fn crowds(rest: Crowd, work: Crowd) -> Crowds {
        let mut crowds = Crowds::default();
        for _ in 0..100 {
            crowds.add(false, rest);
            crowds.add(true, work);
        }
        crowds
    }

    fn slowdown(rest: Crowd, work: Crowd) -> f64 {
        crowds(rest, work).end_turn(0.5).unwrap().typical
    }

    #[test]
    fn more_at_a_time_is_longer_for_each() {
        assert_eq!(slowdown(Crowd { active: 2, waiting: 0 }, Crowd { active: 3, waiting: 0 }), 1.5);
        assert_eq!(slowdown(Crowd { active: 2, waiting: 1 }, Crowd { active: 2, waiting: 1 }), 1.0);
    }

    #[test]
    fn in_a_full_pool_the_waits_tell() {
        // From a quarter of their time to half of it.
        assert_eq!(slowdown(Crowd { active: 8, waiting: 2 }, Crowd { active: 8, waiting: 4 }), 1.5);
        assert!(slowdown(Crowd { active: 8, waiting: 0 }, Crowd { active: 8, waiting: 8 }) > 10.0);
    }

    #[test]
    fn the_kernel_is_asked_where_it_tells() {
        let same = Crowd { active: 2, waiting: 0 };
        let mut crowds = crowds(same, same);
        crowds.stalled(false, SECOND, [SECOND / 10, Duration::ZERO]);
        crowds.stalled(true, SECOND, [SECOND / 10, SECOND / 2]);
        assert_eq!(crowds.end_turn(0.5).unwrap().typical, 2.0);
    }

    #[test]
    fn who_is_met_only_when_he_is_slow_is_judged() {
        let (seldom, always) = (Crowd::default(), Crowd { active: 1, waiting: 0 });
        let felt = crowds(seldom, always).end_turn(0.5).unwrap();
        assert!(felt.typical > 10.0 && felt.calls >= FEWEST, "{felt:?}");
        // One long statement is many looks.
        let mut long = Crowds::default();
        (0..100).for_each(|look| long.add(look >= 60, if look >= 70 { always } else { seldom }));
        assert_eq!(long.end_turn(0.5), None);
        // Twice in a hundred looks is chance.
        let mut crowds = crowds(seldom, seldom);
        crowds.add(true, always);
        crowds.add(true, always);
        assert_eq!(crowds.end_turn(0.5), None);
    }

    #[test]
    fn nobody_is_not_judged() {
        let nobody = Crowd::default();
        let mut crowds = crowds(nobody, nobody);
        assert!(crowds.is_empty());
        assert_eq!(crowds.end_turn(0.5), None);
        crowds.add(true, Crowd { active: 1, waiting: 0 });
        assert!(!crowds.is_empty());
        assert_eq!(crowds.end_turn(0.5), None, "it is not known how it was");
    }
}
