//! When a schedule is due, and what becomes of that when time jumps. Times are microseconds since 2000, as
//! the server stores them.

use super::cron::Pattern;
use super::zone::{self, Zone};
use crate::server::epoch::SECONDS_FROM_1970;

const SECOND: i64 = 1_000_000;
/// A clock that goes back by no more than this was adjusted; by more, it was wrong before.
pub const ADJUSTMENT: i64 = 3 * 3600 * SECOND;
/// A run that nobody looked at for longer than this is missed.
pub const GRACE: i64 = 60 * SECOND;
/// The due times of a pattern are counted one by one, up to here with the first; that means as many or more. After an outage
/// ten thousand schedules are counted in one look.
pub const MOST_COUNTED: i32 = 100;

/// How a schedule repeats.
#[derive(Clone, Debug)]
pub enum Rule {
    Cron(Box<Pattern>),
    /// Microseconds from one due time to the next.
    Every(i64),
}

/// A rule in its time zone.
pub struct Rhythm<Z> {
    pub rule: Rule,
    pub zone: Z,
}

impl<Z: Zone> Rhythm<Z> {
    /// The first due time later than `after`, for a schedule that begins there.
    pub fn next(&self, after: i64) -> Option<i64> {
        match &self.rule {
            Rule::Every(length) => after.checked_add(*length),
            Rule::Cron(pattern) => {
                let second = zone::next(pattern, &self.zone, after.div_euclid(SECOND) + SECONDS_FROM_1970)?;
                Some((second - SECONDS_FROM_1970) * SECOND)
            }
        }
    }

    /// What follows a due time that has come: the next one later than `now`, and how many passed in between.
    pub fn advance(&self, due: i64, now: i64) -> (Option<i64>, i32) {
        match &self.rule {
            Rule::Every(length) => {
                let passed = (now - due).max(0) / length;
                let next = due.checked_add((passed + 1) * length);
                (next, i32::try_from(passed).unwrap_or(i32::MAX - 1))
            }
            Rule::Cron(_) => {
                let mut passed = 0;
                let mut last = due;
                while passed < MOST_COUNTED - 1 {
                    match self.next(last) {
                        Some(next) if next <= now => (last, passed) = (next, passed + 1),
                        next => return (next, passed),
                    }
                }
                (self.next(now), passed)
            }
        }
    }

    /// The due time that still holds at `now`, if `next_run` was worked out, or a run was due, at `based_on`.
    ///
    /// A clock that was put back by up to three hours (a summer time that somebody does by hand, a correction)
    /// runs nothing a second time: what is due stays due. A clock that was put back by more had been wrong, and
    /// everything starts anew. An interval is a length of time and does not care what clocks show.
    pub fn resolve(&self, now: i64, based_on: i64, next_run: i64) -> Option<i64> {
        if based_on > now.saturating_add(ADJUSTMENT) {
            return self.next(now);
        }
        match &self.rule {
            Rule::Every(length) if next_run > now.saturating_add(*length) => self.next(now),
            _ => Some(next_run),
        }
    }
}

/// What a look at `now` finds, if the look before was at `before` (0: there was none).
#[derive(Debug, PartialEq)]
pub enum Finding {
    NotDue,
    /// Due, or due since an earlier look and waiting until its role has room for it.
    Due,
    /// Nobody was there to look when it was due.
    Missed,
}

pub fn find(now: i64, before: i64, next_run: i64) -> Finding {
    if next_run > now {
        Finding::NotDue
    } else if before < next_run && now - next_run > GRACE {
        Finding::Missed
    } else {
        Finding::Due
    }
}

#[cfg(test)]
mod tests {
    use super::super::civil::Civil;
    use super::super::zone::tests::{Table, berlin};
    use super::*;
    use proptest::prelude::*;

    const MINUTE: i64 = 60 * SECOND;
    const HOUR: i64 = 60 * MINUTE;

    fn at(year: i32, month: u32, day: u32, hour: u32, minute: u32) -> i64 {
        (Civil::new(year, month, day, hour, minute).0 - SECONDS_FROM_1970) * SECOND
    }

    fn cron(text: &str) -> Rhythm<Table> {
        Rhythm { rule: Rule::Cron(Box::new(Pattern::parse(text).unwrap())), zone: berlin() }
    }

    fn every(length: i64) -> Rhythm<Table> {
        Rhythm { rule: Rule::Every(length), zone: berlin() }
    }

    #[test]
    fn an_interval_is_anchored_at_its_due_times() {
        let start = at(2027, 1, 1, 0, 0);
        let rhythm = every(10 * MINUTE);
        assert_eq!(rhythm.next(start), Some(start + 10 * MINUTE));
        // Started 3 s late, the next one is not.
        assert_eq!(rhythm.advance(start, start + 3 * SECOND), (Some(start + 10 * MINUTE), 0));
        assert_eq!(rhythm.advance(start, start + 25 * MINUTE), (Some(start + 30 * MINUTE), 2));
        assert_eq!(rhythm.advance(start, start + 20 * MINUTE), (Some(start + 30 * MINUTE), 2));
    }

    #[test]
    fn passed_due_times_are_counted_up_to_a_bound() {
        let noon = at(2027, 1, 1, 12, 0);
        assert_eq!(cron("* * * * *").advance(noon, noon + 90 * SECOND), (Some(noon + 2 * MINUTE), 1));
        assert_eq!(cron("0 * * * *").advance(noon, noon + 3 * HOUR), (Some(noon + 4 * HOUR), 3));
        let (next, passed) = cron("* * * * *").advance(noon, noon + 2000 * HOUR);
        assert_eq!((next, passed), (Some(noon + 2000 * HOUR + MINUTE), MOST_COUNTED - 1));
        assert_eq!(every(SECOND).advance(noon, noon + 2000 * HOUR).1, 7_200_000);
        assert!(every(SECOND).advance(noon, i64::MAX - 10 * SECOND).1 < i32::MAX, "one more can be added");
    }

    #[test]
    fn a_clock_put_back_a_little_runs_nothing_twice() {
        let ran = at(2027, 1, 1, 12, 0);
        let hourly = cron("0 * * * *");
        let next = hourly.next(ran).unwrap();
        for back in [SECOND, HOUR, ADJUSTMENT] {
            assert_eq!(hourly.resolve(ran - back, ran, next), Some(next), "{back}");
        }
    }

    #[test]
    fn a_clock_put_back_a_lot_starts_anew() {
        let ran = at(2030, 1, 1, 12, 0);
        let now = at(2027, 1, 1, 12, 0);
        let daily = cron("0 3 * * *");
        assert_eq!(daily.resolve(now, ran, daily.next(ran).unwrap()), daily.next(now));
        let weekly = every(7 * 24 * HOUR);
        assert_eq!(weekly.resolve(now, ran, weekly.next(ran).unwrap()), Some(now + 7 * 24 * HOUR));
    }

    #[test]
    fn an_interval_is_never_longer_than_itself() {
        let ran = at(2027, 1, 1, 12, 0);
        let rhythm = every(30 * SECOND);
        assert_eq!(rhythm.resolve(ran - HOUR, ran, ran + 30 * SECOND), Some(ran - HOUR + 30 * SECOND));
        assert_eq!(rhythm.resolve(ran + SECOND, ran, ran + 30 * SECOND), Some(ran + 30 * SECOND));
    }

    #[test]
    fn late_and_missed() {
        let due = at(2027, 1, 1, 12, 0);
        assert_eq!(find(due - 1, 0, due), Finding::NotDue);
        assert_eq!(find(due, 0, due), Finding::Due);
        assert_eq!(find(due + GRACE, due - HOUR, due), Finding::Due);
        assert_eq!(find(due + GRACE + 1, due - HOUR, due), Finding::Missed);
        assert_eq!(find(due + HOUR, 0, due), Finding::Missed);
        // Seen in time, but there was no room.
        assert_eq!(find(due + HOUR, due, due), Finding::Due);
        assert_eq!(find(due + HOUR, due + 50 * MINUTE, due), Finding::Due);
    }

    proptest! {
        #[test]
        fn what_still_holds_is_never_past_or_repeated(back in 0..10 * HOUR, wait in 0..2 * HOUR, seconds in 1i64..10_000) {
            let ran = at(2027, 3, 28, 0, 0);
            for rhythm in [every(seconds * SECOND), cron("*/7 * * * *"), cron("30 2 * * *")] {
                let next = rhythm.next(ran).unwrap();
                let now = ran + wait.min(next - ran - 1) - back;
                let held = rhythm.resolve(now, ran, next).unwrap();
                prop_assert!(held > now);
                if back <= ADJUSTMENT && matches!(rhythm.rule, Rule::Cron(_)) {
                    prop_assert_eq!(held, next);
                }
            }
        }

        #[test]
        fn no_due_time_is_lost_or_counted_twice(minutes in 0i64..600) {
            let due = at(2027, 10, 30, 20, 0);
            let now = due + minutes * MINUTE;
            for rhythm in [every(7 * MINUTE), cron("*/10 * * * *"), cron("15 2,3 * * *")] {
                let (next, passed) = rhythm.advance(due, now);
                prop_assert!(next.unwrap() > now);
                let mut steps = 0;
                let mut at = due;
                while at < next.unwrap() {
                    at = rhythm.next(at).unwrap();
                    steps += 1;
                }
                prop_assert_eq!((at, steps), (next.unwrap(), passed + 1));
            }
        }
    }
}
