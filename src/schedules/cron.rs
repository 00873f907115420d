//! Five-field cron patterns. croner computes; what people type is checked here first, because its
//! errors do not say where the mistake is, and because it reads more than is promised here.

use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};

use super::civil::Civil;
use crate::error::{Error, INVALID_PARAMETER_VALUE, Result, SYNTAX_ERROR};

struct Field {
    name: &'static str,
    min: u32,
    max: u32,
    names: &'static [&'static str],
}

const MONTHS: [&str; 12] = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const WEEKDAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];
const FIELDS: [Field; 5] = [
    Field { name: "minute", min: 0, max: 59, names: &[] },
    Field { name: "hour", min: 0, max: 23, names: &[] },
    Field { name: "day of month", min: 1, max: 31, names: &[] },
    Field { name: "month", min: 1, max: 12, names: &MONTHS },
    Field { name: "day of week", min: 0, max: 7, names: &WEEKDAYS },
];
const DAY_OF_MONTH: usize = 2;
const DAY_OF_WEEK: usize = 4;
const LONGEST_MONTHS: [u16; 12] = [31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];

pub const FORM: &str = "Five fields: minute (0-59) hour (0-23) day of month (1-31) month (1-12) day of week (0-7), \
                        for example '30 3 * * 1-5'; or @daily, or an interval such as '5 minutes'.";

/// A pattern that has been checked.
#[derive(Clone, Debug)]
pub struct Pattern {
    cron: Cron,
    /// Its hours are all hours: it follows real time where a clock is changed.
    pub every_hour: bool,
}

impl Pattern {
    pub fn parse(text: &str) -> Result<Self> {
        let words = words(text);
        for ((at, word), field) in words.iter().zip(&FIELDS) {
            field.check(text, *at, word)?;
        }
        if words.len() != FIELDS.len() {
            let hint = if words.len() > FIELDS.len() {
                "There is no field for seconds or years; '30 seconds' is a schedule as well. "
            } else {
                ""
            };
            let at = words.get(FIELDS.len()).map_or(text.len(), |(at, _)| *at);
            return Err(wrong(text, at, format!("a cron pattern has five fields, but this has {}", words.len()))
                .hint(format!("{hint}{FORM}")));
        }
        let mut fields: Vec<String> = words.iter().map(|(_, word)| (*word).to_owned()).collect();
        fields[DAY_OF_MONTH] = fields[DAY_OF_MONTH].replace('$', "L");
        // As in Vixie's cron and pg_cron: if both days are restricted one of them is enough, unless one begins with a star.
        let both_days = fields[DAY_OF_MONTH].starts_with('*') || fields[DAY_OF_WEEK].starts_with('*');
        let parser = CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).dom_and_dow(both_days);
        let cron = parser
            .build()
            .parse(&fields.join(" "))
            .map_err(|error| Error::new(SYNTAX_ERROR, error.to_string()).hint(FORM))?;
        let pattern =
            Pattern { every_hour: fields[1].starts_with('*') || cron.pattern.hours.values().len() == 24, cron };
        if both_days && !pattern.has_a_day() {
            return Err(Error::new(INVALID_PARAMETER_VALUE, format!("the schedule \"{text}\" would never run"))
                .detail("No month of those given has a day of those given.")
                .hint("'0 0 $ * *' is the last day of each month."));
        }
        Ok(pattern)
    }

    fn has_a_day(&self) -> bool {
        let pattern = &self.cron.pattern;
        let first = pattern.days.values().first().copied().unwrap_or(u16::MAX);
        pattern.days.has_modifiers()
            || pattern.months.values().iter().any(|&month| first <= LONGEST_MONTHS[usize::from(month) - 1])
    }

    /// The first match at `from` or later (after `from` if not `inclusive`). `None`: not before the year 5000.
    pub fn next(&self, from: Civil, inclusive: bool) -> Option<Civil> {
        self.cron.find_next_occurrence(&from, inclusive).ok()
    }

    #[cfg(test)]
    pub fn matches(&self, at: Civil) -> bool {
        self.cron.is_time_matching(&at).unwrap_or(false)
    }
}

/// Does a text try to be a cron pattern? Otherwise it is read as an interval.
pub fn looks_like_one(text: &str) -> bool {
    let known = |word: &str| {
        let letters = |c: char| c.is_ascii_alphabetic();
        word.split(|c| !letters(c)).all(|name| name.is_empty() || name.len() == 1 || is_name(name))
            && word.chars().all(|c| c.is_ascii_alphanumeric() || "*/,-$#?".contains(c))
    };
    let words = words(text);
    text.contains('*') || !words.is_empty() && words.iter().all(|(_, word)| known(word))
}

fn is_name(text: &str) -> bool {
    MONTHS.iter().chain(&WEEKDAYS).any(|name| name.eq_ignore_ascii_case(text))
}

/// Byte offset and text of each word.
fn words(text: &str) -> Vec<(usize, &str)> {
    text.split_whitespace().map(|word| (word.as_ptr() as usize - text.as_ptr() as usize, word)).collect()
}

fn wrong(text: &str, at: usize, message: impl Into<String>) -> Error {
    let character = text.get(..at).map_or(0, |before| before.chars().count()) + 1;
    Error::new(SYNTAX_ERROR, message).at(text, character as i32)
}

impl Field {
    fn check(&self, text: &str, at: usize, word: &str) -> Result<()> {
        let mut at = at;
        for item in word.split(',') {
            self.check_item(text, at, item)?;
            at += item.len() + 1;
        }
        Ok(())
    }

    fn check_item(&self, text: &str, at: usize, item: &str) -> Result<()> {
        let (range, step) = item.split_once('/').map_or((item, None), |(range, step)| (range, Some(step)));
        if self.min == 1 && self.max == 31 && item.eq_ignore_ascii_case("l") || item == "$" && self.max == 31 {
            return Ok(());
        }
        let (first, last) = match range.split_once('-') {
            _ if range == "*" => (self.min, self.max),
            Some((first, last)) => {
                let low = self.value(text, at, first)?;
                let at_last = at + first.len() + 1;
                let mut high = self.value(text, at_last, last)?;
                // Sunday ends a week as well.
                if self.max == 7 && high == 0 && low > 0 {
                    high = 7;
                }
                if high < low {
                    return Err(wrong(
                        text,
                        at,
                        format!("the range {range} of the field \"{}\" runs backwards", self.name),
                    )
                    .hint(format!("Write two ranges: {first}-{},{}-{last}", self.max, self.min)));
                }
                (low, high)
            }
            None => {
                let value = self.value(text, at, range)?;
                if step.is_some() {
                    return Err(wrong(text, at, format!("a step needs a range, but \"{range}\" is one value"))
                        .hint(format!("Write {range}-{}/.. or */..", self.max)));
                }
                (value, value)
            }
        };
        let Some(step) = step else { return Ok(()) };
        let at_step = at + range.len() + 1;
        match step.parse::<u32>() {
            Ok(0) => Err(wrong(text, at_step, "a step must be at least 1")),
            Ok(step) if step <= last - first => Ok(()),
            Ok(step) if first == last && step == 1 => Ok(()),
            Ok(step) => Err(wrong(text, at_step, format!("the step {step} leaves the range {first} to {last}"))
                .hint("For other distances take an interval, such as '90 minutes'.")),
            Err(_) => Err(wrong(text, at_step, format!("\"{step}\" is no step")).hint(FORM)),
        }
    }

    fn value(&self, text: &str, at: usize, word: &str) -> Result<u32> {
        if let Some(place) = self.names.iter().position(|name| name.eq_ignore_ascii_case(word)) {
            // Names count from the field's first value; Sunday is 0.
            return Ok(self.min + place as u32);
        }
        let value = word.parse::<u32>().ok().filter(|_| word.bytes().all(|b| b.is_ascii_digit()));
        match value {
            Some(value) if (self.min..=self.max).contains(&value) => Ok(value),
            Some(value) => Err(wrong(
                text,
                at,
                format!("{value} is out of range for the field \"{}\" ({} to {})", self.name, self.min, self.max),
            )
            .hint(FORM)),
            None => Err(wrong(text, at, format!("\"{word}\" is not valid in the field \"{}\"", self.name)).hint(FORM)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn error(text: &str) -> (String, i32) {
        let error = Pattern::parse(text).expect_err(text);
        (error.message, error.position.map_or(0, |position| position.character))
    }

    fn next(pattern: &str, from: Civil) -> Option<Civil> {
        Pattern::parse(pattern).unwrap().next(from, false)
    }

    #[test]
    fn what_crontabs_say() {
        let monday = Civil::new(2027, 3, 1, 12, 0);
        assert_eq!(next("*/15 * * * *", monday), Some(Civil::new(2027, 3, 1, 12, 15)));
        assert_eq!(next("30 3 * * 1-5", monday), Some(Civil::new(2027, 3, 2, 3, 30)));
        assert_eq!(next("0 0 * * Sun", monday), Some(Civil::new(2027, 3, 7, 0, 0)));
        assert_eq!(next("0 0 * * 7", monday), Some(Civil::new(2027, 3, 7, 0, 0)));
        assert_eq!(next("0 0 * * fri-sun", monday), Some(Civil::new(2027, 3, 5, 0, 0)));
        assert_eq!(next("0 0 1 jan,JUL *", monday), Some(Civil::new(2027, 7, 1, 0, 0)));
        assert_eq!(next("0 0 $ * *", monday), Some(Civil::new(2027, 3, 31, 0, 0)));
        assert_eq!(next("0 0 29 2 *", monday), Some(Civil::new(2028, 2, 29, 0, 0)));
        assert_eq!(next("5-59/20 1 * * *", monday), Some(Civil::new(2027, 3, 2, 1, 5)));
    }

    #[test]
    fn two_kinds_of_days() {
        let monday = Civil::new(2027, 3, 1, 12, 0);
        // One is enough ..
        assert_eq!(next("0 0 13 * 5", monday), Some(Civil::new(2027, 3, 5, 0, 0)));
        // .. unless one of them begins with a star: the next odd day that is a Tuesday.
        assert_eq!(next("0 0 */2 * 2", monday), Some(Civil::new(2027, 3, 9, 0, 0)));
    }

    #[test]
    fn errors_point_at_the_place() {
        assert_eq!(error("60 * * * *"), ("60 is out of range for the field \"minute\" (0 to 59)".into(), 1));
        assert_eq!(error("0 25 * * *").1, 3);
        assert_eq!(error("0 1,2,99 * * *").1, 7);
        assert_eq!(error("0 0 * foo *"), ("\"foo\" is not valid in the field \"month\"".into(), 7));
        assert_eq!(error("0 0 * * mon-fry").1, 13);
        assert_eq!(error("*/0 * * * *"), ("a step must be at least 1".into(), 3));
        assert_eq!(error("*/90 * * * *").1, 3);
        assert_eq!(error("5/10 * * * *").1, 1);
        assert_eq!(error("0 22-2 * * *").1, 3);
        assert_eq!(error("0 0 15W * *").1, 5);
        assert_eq!(error("0 0 * * 5#2").1, 9);
        assert_eq!(error("0 0 ? * *").1, 5);
        assert_eq!(error("0 0 0 * *").1, 5);
        assert_eq!(error("* * * *"), ("a cron pattern has five fields, but this has 4".into(), 8));
        assert_eq!(error("0 * * * * *").1, 11);
        assert_eq!(error("0 0 1,,2 * *").1, 7);
        assert_eq!(error("+5 * * * *").1, 1);
        assert_eq!(error("0 0 * * ö").1, 9);
    }

    #[test]
    fn what_can_never_run_is_refused() {
        for text in ["0 0 30 2 *", "0 0 31 4,6,9,11 *", "0 0 30,31 2 */2"] {
            assert!(error(text).0.contains("never"), "{text}");
        }
        for text in ["0 0 29 2 *", "0 0 31 * *", "0 0 30 2 1", "0 0 31 4,5 *", "0 0 $ 2 *"] {
            assert!(Pattern::parse(text).is_ok(), "{text}");
        }
    }

    #[test]
    fn patterns_and_intervals_are_told_apart() {
        for text in ["* * * * *", "0 0 * * MON", "60 * *", "5 4 3 2 1", "30", "0 0 L 1 5#2"] {
            assert!(looks_like_one(text), "{text}");
        }
        for text in ["30 seconds", "1 hour 30 minutes", "00:05", "PT5M", "1.5 hours", "", "1 hour 2 min 3", "every day"]
        {
            assert!(!looks_like_one(text), "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "[-0-9*/,a-zA-Z$# ]{0,30}") {
            let _ = Pattern::parse(&text);
        }

        #[test]
        fn whatever_passes_runs(minute in 0u32..60, hour in 0u32..24, day in 1u32..32, month in 1u32..13, week in 0u32..8) {
            for text in [format!("{minute} {hour} {day} {month} {week}"), format!("{minute} {hour} {day} {month} *")] {
                if let Ok(pattern) = Pattern::parse(&text) {
                    let next = pattern.next(Civil::new(2027, 1, 1, 0, 0), false);
                    prop_assert!(next.is_some_and(|at| pattern.matches(at)), "{}", text);
                }
            }
        }
    }
}
