//! Where hours of the day meet the calendar: time zones and their summer time are PostgreSQL's own.

use pgrx::datum::TimestampWithTimeZone;

use super::hours::Hours;
use crate::error::{Error, INVALID_PARAMETER_VALUE, Result};
use crate::server::catch::subtransaction;
use crate::server::spi;

/// The hours are over: since when they begin again, and how a person reads that.
pub struct Closed {
    pub until: TimestampWithTimeZone,
    pub reason: String,
}

/// Seconds since midnight in a time zone.
fn second_of_day(timezone: &str) -> Result<f64> {
    let second = spi::query_one(
        "SELECT pg_catalog.date_part('epoch',
                    pg_catalog.timezone($1, pg_catalog.clock_timestamp())::pg_catalog.time)",
        &[timezone.into()],
        |row| row.require(1),
    )?;
    Ok(second.unwrap_or(0.0))
}

/// `None`: a job with these hours may work now.
pub fn closed(hours: &str, timezone: &str) -> Result<Option<Closed>> {
    let hours = Hours::read(hours)?;
    let second = second_of_day(timezone)?;
    if hours.contain(second) {
        return Ok(None);
    }
    let (days, minute) = hours.next_start(second);
    // A beginning that the clock skips in spring is when it goes on; one that comes twice in autumn is the second.
    // At the least a minute from now, lest a clock that was put back makes us run in circles.
    let (until, shown) = spi::query_one(
        "SELECT t.next, pg_catalog.to_char(pg_catalog.timezone($1, t.next), 'YYYY-MM-DD HH24:MI')
         FROM (SELECT greatest(
                   pg_catalog.timezone($1, pg_catalog.timezone($1, pg_catalog.clock_timestamp())::pg_catalog.date::pg_catalog.timestamp
                       OPERATOR(pg_catalog.+) pg_catalog.make_interval(days => $2, mins => $3)),
                   pg_catalog.clock_timestamp() OPERATOR(pg_catalog.+) pg_catalog.make_interval(mins => 1)) AS next) t",
        &[timezone.into(), days.into(), minute.into()],
        |row| Ok((row.require::<TimestampWithTimeZone>(1)?, row.require::<String>(2)?)),
    )?
    .ok_or_else(|| Error::new(INVALID_PARAMETER_VALUE, "the time zone knows no such time"))?;
    Ok(Some(Closed { until, reason: format!("outside its hours {hours} ({timezone}); next start {shown}") }))
}

/// Refuses a time zone that PostgreSQL does not know.
pub fn check_timezone(timezone: &str) -> Result<()> {
    if timezone.trim().is_empty() || subtransaction(|| second_of_day(timezone)).is_err() {
        return Err(Error::new(INVALID_PARAMETER_VALUE, format!("time zone \"{timezone}\" is not recognized"))
            .hint("SELECT name FROM pg_timezone_names;"));
    }
    Ok(())
}
