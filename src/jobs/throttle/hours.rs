//! `run_between`: the hours of the day in which a job may work, by the clock on the wall.
//!
//! Here is only what the wall clock says; which moment that is, in a time zone with its summer time, PostgreSQL says
//! (see [`super::calendar`]).

use std::fmt;

use crate::error::{Error, INVALID_PARAMETER_VALUE, Result};

const MINUTES_OF_DAY: u32 = 24 * 60;

/// From a minute of the day until before another, over midnight if that is earlier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hours {
    from: u32,
    until: u32,
}

impl Hours {
    /// Reads `22:00-05:00`.
    pub fn read(text: &str) -> Result<Self> {
        let wrong = |message: String, at: usize| {
            Err(Error::new(INVALID_PARAMETER_VALUE, message)
                .hint("Two times of the day, for example run_between => '22:00-05:00'; '' for always.")
                .at(text, text[..at].chars().count() as i32 + 1))
        };
        let Some((from, until)) = text.split_once('-') else {
            return wrong(format!("run_between must be two times with a hyphen between, but is \"{text}\""), 0);
        };
        let second = from.len() + 1;
        let Some(start) = minute_of_day(from) else {
            return wrong(format!("\"{}\" is no time of the day", from.trim()), from.len() - from.trim_start().len());
        };
        let Some(end) = minute_of_day(until) else {
            let blank = until.len() - until.trim_start().len();
            return wrong(format!("\"{}\" is no time of the day", until.trim()), second + blank);
        };
        // 24:00 is the end of a day, and 00:00 its beginning.
        if start % MINUTES_OF_DAY == end % MINUTES_OF_DAY {
            return wrong("run_between must not end when it begins".into(), 0);
        }
        Ok(Hours { from: start % MINUTES_OF_DAY, until: end % MINUTES_OF_DAY })
    }

    /// Is it within the hours at this second of the day?
    pub fn contain(self, second_of_day: f64) -> bool {
        let (from, until) = (f64::from(self.from * 60), f64::from(self.until * 60));
        if self.from < self.until {
            (from..until).contains(&second_of_day)
        } else {
            second_of_day >= from || second_of_day < until
        }
    }

    /// The next beginning after this second of the day: days from today, and the minute of that day.
    pub fn next_start(self, second_of_day: f64) -> (i32, i32) {
        let today = second_of_day < f64::from(self.from * 60);
        (i32::from(!today), self.from as i32)
    }
}

impl fmt::Display for Hours {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let clock = |minutes: u32| format!("{:02}:{:02}", minutes / 60, minutes % 60);
        write!(f, "{}-{}", clock(self.from), clock(self.until))
    }
}

/// `HH:MM`; 24:00 as well.
fn minute_of_day(text: &str) -> Option<u32> {
    let (hours, minutes) = text.trim().split_once(':')?;
    let number = |text: &str, length: std::ops::RangeInclusive<usize>| {
        (length.contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit()))
            .then(|| text.parse::<u32>().ok())?
    };
    let (hours, minutes) = (number(hours, 1..=2)?, number(minutes, 2..=2)?);
    (minutes < 60 && hours * 60 + minutes <= MINUTES_OF_DAY).then_some(hours * 60 + minutes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn hours(text: &str) -> Hours {
        Hours::read(text).unwrap()
    }

    fn at(hour: f64) -> f64 {
        hour * 3600.0
    }

    #[test]
    fn over_midnight_and_within_a_day() {
        let night = hours("22:00-05:00");
        assert!(night.contain(at(22.0)) && night.contain(at(0.0)) && night.contain(at(4.999)));
        assert!(!night.contain(at(5.0)) && !night.contain(at(21.999)));
        let day = hours("9:30 - 17:00");
        assert!(day.contain(at(9.5)) && !day.contain(at(17.0)) && !day.contain(at(9.49)));
        assert_eq!((night.to_string(), day.to_string()), ("22:00-05:00".into(), "09:30-17:00".into()));
        let evening = hours("18:00-24:00");
        assert!(evening.contain(at(23.999)) && !evening.contain(at(0.0)));
    }

    #[test]
    fn the_next_start_is_today_or_tomorrow() {
        assert_eq!(hours("22:00-05:00").next_start(at(12.0)), (0, 22 * 60));
        assert_eq!(hours("09:00-17:00").next_start(at(17.0)), (1, 9 * 60));
    }

    #[test]
    fn nonsense_is_refused_where_it_is() {
        for (text, position) in [
            ("22", 1),
            ("", 1),
            ("22-5", 1),
            ("22:60-05:00", 1),
            ("22:00-24:01", 7),
            ("22:00- 5", 8),
            ("22:00-é5:00", 7),
            (" 2é:00-05:00", 2),
            ("22:00-+5:00", 7),
            ("08:00-08:00", 1),
            ("00:00-24:00", 1),
            ("22:00-05:00-06:00", 7),
        ] {
            let error = Hours::read(text).expect_err(text);
            assert_eq!(error.sqlstate, INVALID_PARAMETER_VALUE, "{text}");
            assert_eq!(error.position.map(|p| p.character), Some(position), "{text}: {}", error.message);
        }
    }

    proptest! {
        #[test]
        fn anything_is_read_or_refused(text in "\\PC{0,20}") {
            if let Ok(hours) = Hours::read(&text) {
                prop_assert_eq!(Hours::read(&hours.to_string()).unwrap(), hours);
            }
        }

        /// Outside of the hours, the next beginning is the first moment that is inside.
        #[test]
        fn outside_leads_to_inside(from in 0u32..1440, until in 0u32..1440, second in 0u32..86_400) {
            prop_assume!(from != until);
            let hours = Hours { from, until };
            if !hours.contain(f64::from(second)) {
                let (days, minute) = hours.next_start(f64::from(second));
                let start = days as u32 * 86_400 + minute as u32 * 60;
                prop_assert!(start > second);
                prop_assert!(hours.contain(f64::from(start % 86_400)));
                for moment in (second..start).step_by(61) {
                    prop_assert!(!hours.contain(f64::from(moment % 86_400)), "{moment}");
                }
            }
        }
    }
}
