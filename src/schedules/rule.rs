//! The text of a schedule: a cron pattern, a nickname, or an interval as the server reads it.

use pgrx::datum::Interval;

use super::clock::Rule;
use super::cron::{self, Pattern};
use crate::error::*;
use crate::server::catch::subtransaction;
use crate::server::spi;

const NICKNAMES: [(&str, &str); 7] = [
    ("@hourly", "0 * * * *"),
    ("@daily", "0 0 * * *"),
    ("@midnight", "0 0 * * *"),
    ("@weekly", "0 0 * * 0"),
    ("@monthly", "0 0 1 * *"),
    ("@yearly", "0 0 1 1 *"),
    ("@annually", "0 0 1 1 *"),
];
const SECOND: i64 = 1_000_000;
/// A year and a day.
const LONGEST: i64 = 367 * 24 * 3600 * SECOND;

/// Reads a schedule as somebody types it.
pub fn parse(text: &str) -> Result<Rule> {
    match of_the_clock(text)? {
        Some(pattern) => Ok(Rule::Cron(Box::new(pattern))),
        None => interval(text).map(Rule::Every),
    }
}

/// Reads a schedule as it was stored.
pub fn stored(text: &str, every: Option<i64>) -> Result<Rule> {
    match every {
        Some(length) => Ok(Rule::Every(length.max(SECOND))),
        None => parse(text),
    }
}

/// A pattern or nickname; `None`: it is neither.
fn of_the_clock(text: &str) -> Result<Option<Pattern>> {
    let word = text.trim();
    if word.starts_with('@') {
        if word.eq_ignore_ascii_case("@reboot") {
            return Err(Error::new(FEATURE_NOT_SUPPORTED, "@reboot is not supported")
                .detail(
                    "A server also starts after a crash, a failover and a restore, when a command that runs \
                    by itself is the last thing wanted.",
                )
                .hint("catch_up => true makes up for a run that was missed while the server was down."));
        }
        let known = NICKNAMES.iter().find(|(name, _)| name.eq_ignore_ascii_case(word));
        let (_, pattern) = known.ok_or_else(|| {
            Error::new(SYNTAX_ERROR, format!("there is no schedule \"{word}\""))
                .hint("There are @hourly, @daily, @midnight, @weekly, @monthly, @yearly and @annually.")
                .at(text, text.chars().take_while(|c| c.is_whitespace()).count() as i32 + 1)
        })?;
        return Pattern::parse(pattern).map(Some);
    }
    if cron::looks_like_one(text) { Pattern::parse(text).map(Some) } else { Ok(None) }
}

/// The length of an interval in microseconds.
fn interval(text: &str) -> Result<i64> {
    let read = subtransaction(|| {
        spi::query_one("SELECT $1::pg_catalog.interval", &[text.into()], |row| row.require::<Interval>(1))
    });
    let Ok(Some(read)) = read else {
        return Err(Error::new(SYNTAX_ERROR, format!("\"{text}\" is neither a cron pattern nor an interval"))
            .hint(cron::FORM)
            .at(text, 1));
    };
    if read.months() != 0 || read.days() != 0 {
        return Err(Error::new(INVALID_PARAMETER_VALUE, format!("the interval \"{text}\" has days or months"))
            .detail("Their length depends on where the clock is.")
            .hint("Take hours, such as '48 hours', or a time of the day, such as '0 3 * * *' or @monthly."));
    }
    let length = read.micros();
    if !(SECOND..=LONGEST).contains(&length) {
        return Err(Error::new(INVALID_PARAMETER_VALUE, "an interval must be between 1 second and a year")
            .detail(format!("It is \"{text}\".")));
    }
    Ok(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nicknames() {
        for (name, _) in NICKNAMES {
            assert!(of_the_clock(&name.to_uppercase()).unwrap().is_some());
        }
        assert_eq!(of_the_clock("@reboot").unwrap_err().sqlstate, FEATURE_NOT_SUPPORTED);
        let error = of_the_clock("  @fortnightly").unwrap_err();
        assert_eq!(error.position.unwrap().character, 3);
        assert!(of_the_clock("5 minutes").unwrap().is_none());
    }
}
