//! What the functions that read the history are asked for.

use pgrx::datum::{Interval, TimestampWithTimeZone};

use crate::calls::arguments::required;
use crate::error::*;

/// A stretch of time: microseconds since 2000 in UTC, as the server counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    pub since: i64,
    pub until: i64,
}

pub const MINUTE: i64 = 60_000_000;
pub const HOUR: i64 = 60 * MINUTE;
pub const DAY: i64 = 24 * HOUR;

pub fn window(since: Option<TimestampWithTimeZone>, until: Option<TimestampWithTimeZone>) -> Result<Window> {
    window_named(since, until, "since", "until")
}

pub fn window_named(
    since: Option<TimestampWithTimeZone>,
    until: Option<TimestampWithTimeZone>,
    since_name: &str,
    until_name: &str,
) -> Result<Window> {
    let (since, until) = (required(since, since_name)?.into_inner(), required(until, until_name)?.into_inner());
    if until <= since {
        return Err(Error::new(INVALID_PARAMETER_VALUE, format!("{until_name} must be later than {since_name}"))
            .hint(format!("For example: {since_name} => now() - interval '1 day', {until_name} => now()")));
    }
    Ok(Window { since, until })
}

/// A share of something, 0 to 1.
pub fn fraction(value: Option<f64>, name: &str) -> Result<f64> {
    let value = required(value, name)?;
    if (0.0..=1.0).contains(&value) {
        return Ok(value);
    }
    Err(Error::new(INVALID_PARAMETER_VALUE, format!("{name} must be between 0 and 1"))
        .detail(format!("It is {value}."))
        .hint("The 95th percentile is 0.95."))
}

/// A fixed length of time, in microseconds.
pub fn bucket(value: Option<Interval>) -> Result<i64> {
    let value = required(value, "bucket")?;
    let refused = |why: &str| Error::new(INVALID_PARAMETER_VALUE, format!("bucket must {why}"));
    if value.months() != 0 {
        return Err(refused("be finite and without months or years, which are not all of the same length")
            .hint("SELECT * FROM upkeep.query_history(bucket => interval '30 days');"));
    }
    let length = i64::from(value.days()).saturating_mul(DAY).saturating_add(value.micros());
    if length < MINUTE {
        return Err(
            refused("be at least a minute").hint("SELECT * FROM upkeep.query_history(bucket => interval '1 minute');")
        );
    }
    Ok(length)
}

pub fn at_least(value: Option<i32>, least: i32, name: &str) -> Result<i32> {
    let value = required(value, name)?;
    if value >= least {
        return Ok(value);
    }
    Err(Error::new(INVALID_PARAMETER_VALUE, format!("{name} must be at least {least}"))
        .detail(format!("It is {value}.")))
}

/// For the server; times that it cannot show become its ends.
pub fn timestamp(microseconds: i64) -> TimestampWithTimeZone {
    TimestampWithTimeZone::try_from(microseconds).unwrap_or_else(|_| {
        if microseconds < 0 {
            TimestampWithTimeZone::negative_infinity()
        } else {
            TimestampWithTimeZone::positive_infinity()
        }
    })
}
