//! From civil time to instants: what a pattern means on the nights when clocks are changed.
//!
//! The rules of a zone come from the server itself (`server::zone`), not from a crate's own database: what
//! a schedule does then agrees with what the same server shows with that `TimeZone`, for every name of
//! `pg_timezone_names`, and no file is needed that PostgreSQL does not bring or was not built to use.

use super::civil::Civil;
use super::cron::Pattern;
use crate::server::zone::ServerZone;
pub use crate::server::zone::{Instant, Stretch};

pub trait Zone {
    /// The stretch that holds this moment.
    fn at(&self, moment: Instant) -> Stretch;
}

impl Zone for ServerZone {
    fn at(&self, moment: Instant) -> Stretch {
        ServerZone::at(self, moment)
    }
}

/// Longer than any zone is away from UTC, or any clock was ever changed by.
const FAR: i64 = 26 * 3600;
/// Stretches to look through: the year 5000 is farther than anybody's next change of rules.
const MOST_STRETCHES: u32 = 10_000;

/// The first time after `after` at which the pattern is due. `None`: never again.
pub fn next(pattern: &Pattern, zone: &impl Zone, after: Instant) -> Option<Instant> {
    if pattern.every_hour { next_in_real_time(pattern, zone, after) } else { next_of_the_day(pattern, zone, after) }
}

/// A pattern of all hours follows real time: what is shown twice is due twice, what is never shown is not due.
fn next_in_real_time(pattern: &Pattern, zone: &impl Zone, after: Instant) -> Option<Instant> {
    let mut from = after;
    let mut inclusive = false;
    for _ in 0..MOST_STRETCHES {
        let stretch = zone.at(from);
        let due = pattern.next(Civil(from + stretch.offset), inclusive)?.0 - stretch.offset;
        match stretch.until {
            Some(end) if due >= end => (from, inclusive) = (end, true),
            _ => return Some(due),
        }
    }
    None
}

/// A time of the day is due once on each day: at its first showing, or right after the gap it falls into.
fn next_of_the_day(pattern: &Pattern, zone: &impl Zone, after: Instant) -> Option<Instant> {
    let mut civil = Civil(after + zone.at(after).offset);
    for _ in 0..MOST_STRETCHES {
        civil = pattern.next(civil, false)?;
        let due = first_showing(zone, civil);
        if due > after {
            return Some(due);
        }
    }
    None
}

/// When a clock of this zone first shows this time, or, if it skips it, goes on after it.
fn first_showing(zone: &impl Zone, civil: Civil) -> Instant {
    let mut start = civil.0 - FAR;
    loop {
        let stretch = zone.at(start);
        let moment = civil.0 - stretch.offset;
        match stretch.until {
            Some(end) if moment >= end => start = end,
            _ => return moment.max(start),
        }
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A zone by its changes: (from this moment, seconds east).
    pub struct Table(pub Vec<(Instant, i64)>);

    impl Zone for Table {
        fn at(&self, moment: Instant) -> Stretch {
            let after = self.0.partition_point(|(from, _)| *from <= moment);
            Stretch { offset: self.0[after.max(1) - 1].1, until: self.0.get(after.max(1)).map(|(from, _)| *from) }
        }
    }

    const HOUR: i64 = 3600;

    fn utc(year: i32, month: u32, day: u32, hour: u32, minute: u32) -> Instant {
        Civil::new(year, month, day, hour, minute).0
    }

    /// Europe/Berlin of 2027: clocks forward at 01:00 UTC of March 28, back at 01:00 UTC of October 31.
    pub fn berlin() -> Table {
        Table(vec![
            (i64::MIN, HOUR),
            (utc(2027, 3, 28, 1, 0), 2 * HOUR),
            (utc(2027, 10, 31, 1, 0), HOUR),
            (utc(2028, 3, 26, 1, 0), 2 * HOUR),
            (utc(2028, 10, 29, 1, 0), HOUR),
        ])
    }

    /// Lord Howe Island: half an hour, at 15:30 UTC and 15:00 UTC.
    fn lord_howe() -> Table {
        Table(vec![
            (i64::MIN, 11 * HOUR),
            (utc(2027, 4, 3, 15, 0), 10 * HOUR + HOUR / 2),
            (utc(2027, 10, 2, 15, 30), 11 * HOUR),
        ])
    }

    /// Samoa skipped the whole of December 30, 2011.
    fn apia() -> Table {
        Table(vec![(i64::MIN, -10 * HOUR), (utc(2011, 12, 30, 10, 0), 14 * HOUR)])
    }

    fn due(pattern: &str, zone: &Table, after: Instant, count: usize) -> Vec<Instant> {
        let pattern = Pattern::parse(pattern).unwrap();
        std::iter::successors(next(&pattern, zone, after), |&last| next(&pattern, zone, last)).take(count).collect()
    }

    #[test]
    fn a_time_in_the_gap_is_due_right_after_it() {
        let gap_ends = utc(2027, 3, 28, 1, 0);
        let night = utc(2027, 3, 27, 12, 0);
        assert_eq!(due("30 2 * * *", &berlin(), night, 2), [gap_ends, utc(2027, 3, 29, 0, 30)]);
        assert_eq!(due("0 2 * * *", &berlin(), night, 2), [gap_ends, utc(2027, 3, 29, 0, 0)]);
        // Several of them, and what is due then anyway, are one.
        assert_eq!(due("*/10 2,3 * * *", &berlin(), night, 2), [gap_ends, gap_ends + 600]);
        assert_eq!(due("0 2,3 * * *", &berlin(), night, 2), [gap_ends, utc(2027, 3, 29, 0, 0)]);
        // On that night only.
        assert_eq!(due("30 2 28 3 *", &berlin(), night, 1), [gap_ends]);
    }

    #[test]
    fn a_time_in_the_repeated_hour_is_due_once() {
        let night = utc(2027, 10, 30, 12, 0);
        assert_eq!(due("30 2 * * *", &berlin(), night, 2), [utc(2027, 10, 31, 0, 30), utc(2027, 11, 1, 1, 30)]);
        assert_eq!(
            due("*/30 2 * * *", &berlin(), night, 3),
            [utc(2027, 10, 31, 0, 0), utc(2027, 10, 31, 0, 30), utc(2027, 11, 1, 1, 0)]
        );
        // Asked during the second showing.
        assert_eq!(due("30 2 * * *", &berlin(), utc(2027, 10, 31, 1, 10), 1), [utc(2027, 11, 1, 1, 30)]);
        assert_eq!(due("0 3 * * *", &berlin(), night, 1), [utc(2027, 10, 31, 2, 0)]);
    }

    #[test]
    fn patterns_of_all_hours_follow_real_time() {
        for night in [utc(2027, 3, 27, 22, 0), utc(2027, 10, 30, 22, 0)] {
            let every_ten_minutes = due("*/10 * * * *", &berlin(), night, 60);
            assert!(every_ten_minutes.windows(2).all(|pair| pair[1] - pair[0] == 600), "{every_ten_minutes:?}");
            let hourly = due("15 * * * *", &berlin(), night, 10);
            assert!(hourly.windows(2).all(|pair| pair[1] - pair[0] == HOUR), "{hourly:?}");
        }
    }

    #[test]
    fn half_an_hour_and_a_whole_day() {
        let gap_ends = utc(2027, 10, 2, 15, 30);
        assert_eq!(due("15 2 * * *", &lord_howe(), utc(2027, 10, 2, 0, 0), 1), [gap_ends]);
        assert_eq!(
            due("45 1 * * *", &lord_howe(), utc(2027, 4, 3, 0, 0), 2),
            [utc(2027, 4, 3, 14, 45), utc(2027, 4, 4, 15, 15)]
        );
        // The 30th never was: it is made up for as the 31st begins.
        let the_31st = utc(2011, 12, 30, 10, 0);
        assert_eq!(due("0 12 30 12 *", &apia(), utc(2011, 12, 29, 0, 0), 1), [the_31st]);
        assert_eq!(due("0 12 * * *", &apia(), utc(2011, 12, 29, 23, 0), 2), [the_31st, the_31st + 12 * HOUR]);
    }

    #[test]
    fn years_ahead() {
        assert_eq!(due("0 0 29 2 *", &berlin(), utc(2027, 1, 1, 0, 0), 1), [utc(2028, 2, 28, 23, 0)]);
    }

    fn a_pattern() -> impl Strategy<Value = String> {
        let minute = prop_oneof![
            Just("*".to_owned()),
            (1u32..60).prop_map(|n| format!("*/{}", n.min(59))),
            (0u32..60).prop_map(|n| n.to_string())
        ];
        let hour = prop_oneof![
            Just("*".to_owned()),
            Just("*/2".to_owned()),
            Just("0-23".to_owned()),
            (0u32..24).prop_map(|n| n.to_string()),
            (0u32..3).prop_map(|n| format!("{n}-{}", n + 1)),
        ];
        let days = prop_oneof![Just("* * *"), Just("* * 0"), Just("28-31 * *"), Just("*/3 * 1-5"), Just("1 */2 6")];
        (minute, hour, days).prop_map(|(minute, hour, days)| format!("{minute} {hour} {days}"))
    }

    proptest! {
        #[test]
        fn due_times_are_later_and_later_and_match(
            text in a_pattern(),
            around in prop_oneof![
                (-3 * 86_400i64..3 * 86_400).prop_map(|by| utc(2027, 3, 28, 1, 0) + by),
                (-3 * 86_400i64..3 * 86_400).prop_map(|by| utc(2027, 10, 31, 1, 0) + by),
                (-3 * 86_400i64..3 * 86_400).prop_map(|by| utc(2027, 10, 2, 15, 30) + by),
                (-3 * 86_400i64..3 * 86_400).prop_map(|by| utc(2011, 12, 30, 10, 0) + by),
            ],
            zone in 0usize..3,
        ) {
            let zone = [berlin(), lord_howe(), apia()].into_iter().nth(zone).unwrap();
            let pattern = Pattern::parse(&text).unwrap();
            let mut last = around;
            for at in due(&text, &zone, around, 20) {
                prop_assert!(at > last, "{} after {}", at, last);
                let stretch = zone.at(at);
                let shown = Civil(at + stretch.offset);
                if !pattern.matches(shown) {
                    // Only what fell into a gap is moved, and only to its end.
                    let before = zone.at(at - 1);
                    prop_assert!(before.until == Some(at) && before.offset < stretch.offset, "{} at {:?}", text, shown);
                    let gap = (at + before.offset)..(at + stretch.offset);
                    prop_assert!(pattern.next(Civil(gap.start), true).is_some_and(|c| gap.contains(&c.0)));
                    prop_assert!(!pattern.every_hour);
                }
                // Nothing that is shown for the first time is left out in between.
                let mut moment = last + 60 - last.rem_euclid(60);
                while moment < at && moment < last + 2 * 86_400 {
                    let civil = Civil(moment + zone.at(moment).offset);
                    let again = first_showing(&zone, civil) != moment;
                    prop_assert!(!pattern.matches(civil) || again && !pattern.every_hour, "{} left out {:?}", text, civil);
                    moment += 60;
                }
                last = at;
            }
        }
    }
}
