//! Arguments: there or not, how long, in which unit, and which of a few words.

use std::time::Duration;

use pgrx::datum::Interval;

use crate::error::{Error, INVALID_PARAMETER_VALUE, NULL_VALUE_NOT_ALLOWED, PROGRAM_LIMIT_EXCEEDED, Result};

/// An argument that must not be null.
pub fn required<T>(value: Option<T>, argument: &str) -> Result<T> {
    value.ok_or_else(|| Error::new(NULL_VALUE_NOT_ALLOWED, format!("{argument} must not be null")))
}

/// An argument that is one of a few words.
pub fn one_of<'a>(given: &'a str, argument: &str, known: &[&str]) -> Result<&'a str> {
    if known.contains(&given) {
        return Ok(given);
    }
    let known = known.join(", ");
    Err(Error::new(INVALID_PARAMETER_VALUE, format!("{argument} must be one of {known}, but is \"{given}\"")))
}

/// Bytes of a text that a job or a schedule keeps: everybody's scheduler and executors read it.
pub const LONGEST_TEXT: usize = 1 << 20;

/// Of what can be shorter elsewhere.
pub fn check_length(what: &str, bytes: usize) -> Result<()> {
    at_most_longest(what, bytes).map_err(|error| error.hint("Put it into a function or a procedure, and call that."))
}

/// The length of a text that somebody gives to a function of ours, before anything is copied: memory that the server refuses
/// to itself is an error, and memory that it refuses to us the end of it and of everybody's session.
pub fn check_text(argument: &str, text: Option<&str>) -> Result<()> {
    at_most_longest(argument, text.map_or(0, str::len))
}

fn at_most_longest(what: &str, bytes: usize) -> Result<()> {
    if bytes <= LONGEST_TEXT {
        return Ok(());
    }
    Err(Error::new(PROGRAM_LIMIT_EXCEEDED, format!("{what} must have at most 1 MB, but has {bytes} bytes")))
}

/// An interval as milliseconds; months count 30 days, as PostgreSQL compares them.
/// Less than one is one: 0 means something else.
pub fn milliseconds(interval: Interval) -> i64 {
    match interval.as_micros() {
        micros if micros != 0 && micros.unsigned_abs() < 1000 => micros.signum() as i64,
        micros => i64::try_from(micros / 1000).unwrap_or(i64::MAX),
    }
}

pub fn positive_duration(interval: Interval) -> Duration {
    Duration::from_millis(milliseconds(interval).clamp(0, i64::from(i32::MAX)) as u64)
}
