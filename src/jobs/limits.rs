//! What one job may do beside the server's settings: tighter limits, and hours of the day.

use pgrx::datum::Interval;

use super::throttle::calendar;
use super::throttle::hours::Hours;
use crate::calls::arguments;
use crate::error::{Error, INVALID_PARAMETER_VALUE, Result};
use crate::server::catalog;
use crate::settings::{SLOWDOWN_RANGE, WORK_RATIO_RANGE};

/// `None`: nothing beyond the settings; in `alter_job`: as it is.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Limits {
    /// Hours of the day, `22:00-05:00`; empty: always.
    pub run_between: Option<String>,
    pub timezone: Option<String>,
    /// ms
    pub max_replica_lag: Option<i64>,
    pub max_replica_lag_bytes: Option<i64>,
    /// kB/s
    pub max_wal_rate: Option<i32>,
    /// Part of the time at work, 0..1.
    pub throttle_work_ratio: Option<f64>,
    /// How many times as long as without it statements of others may take.
    pub max_slowdown: Option<f64>,
}

impl Limits {
    /// Of a function's arguments, checked for their length before anything is copied.
    pub fn given(
        run_between: Option<&str>,
        timezone: Option<&str>,
        max_replica_lag: Option<Interval>,
        max_replica_lag_bytes: Option<i64>,
        max_wal_rate: Option<i32>,
        throttle_work_ratio: Option<f64>,
        max_slowdown: Option<f64>,
    ) -> Result<Limits> {
        arguments::check_text("run_between", run_between)?;
        arguments::check_text("timezone", timezone)?;
        Ok(Limits {
            run_between: run_between.map(str::to_owned),
            timezone: timezone.map(str::to_owned),
            max_replica_lag: max_replica_lag.map(arguments::milliseconds),
            max_replica_lag_bytes,
            max_wal_rate,
            throttle_work_ratio,
            max_slowdown,
        })
    }

    /// Of a job that there is: 0 takes a limit away.
    pub fn check_changes(&self) -> Result<()> {
        Limits {
            max_replica_lag: self.max_replica_lag.filter(|&ms| ms != 0),
            max_replica_lag_bytes: self.max_replica_lag_bytes.filter(|&bytes| bytes != 0),
            max_wal_rate: self.max_wal_rate.filter(|&rate| rate != 0),
            throttle_work_ratio: self.throttle_work_ratio.filter(|&ratio| ratio != 0.0),
            max_slowdown: self.max_slowdown.filter(|&times| times != 0.0),
            ..self.clone()
        }
        .check()
    }

    pub fn check(&self) -> Result<()> {
        let checks = [
            (self.max_replica_lag.is_some_and(|ms| ms <= 0), "max_replica_lag", "longer than 0", "'2 s'"),
            (
                self.max_replica_lag_bytes.is_some_and(|bytes| bytes <= 0),
                "max_replica_lag_bytes",
                "greater than 0",
                "50000000",
            ),
            (self.max_wal_rate.is_some_and(|rate| rate <= 0), "max_wal_rate", "greater than 0 kB/s", "20000"),
            (
                self.throttle_work_ratio.is_some_and(|ratio| !WORK_RATIO_RANGE.contains(&ratio)),
                "throttle_work_ratio",
                "between 0.01 and 1",
                "0.5",
            ),
            (
                self.max_slowdown.is_some_and(|times| !SLOWDOWN_RANGE.contains(&times)),
                "max_slowdown",
                "between 1.01 and 100",
                "1.1",
            ),
        ];
        for (wrong, what, range, example) in checks {
            if wrong {
                return Err(Error::new(INVALID_PARAMETER_VALUE, format!("{what} must be {range}"))
                    .hint(format!(
                        "For example: {what} => {example}. Without it the server's own limit holds; in alter_job, 0 takes it away."
                    )));
            }
        }
        if let Some(hours) = self.run_between.as_deref().filter(|hours| !hours.is_empty()) {
            Hours::read(hours)?;
        }
        self.timezone.as_deref().map_or(Ok(()), calendar::check_timezone)
    }

    /// Hours are by the clock of whoever names them, unless he names another.
    pub fn with_timezone(mut self) -> Self {
        if self.run_between.as_deref().is_some_and(|hours| !hours.is_empty()) && self.timezone.is_none() {
            self.timezone = Some(catalog::setting(c"TimeZone"));
        }
        self
    }

    /// What is given, for the job's history.
    pub fn describe(&self) -> Vec<String> {
        [
            self.run_between.as_ref().map(|hours| match hours.as_str() {
                "" => "run_between always".to_owned(),
                hours => format!("run_between {hours}"),
            }),
            self.timezone.as_ref().map(|timezone| format!("timezone {timezone}")),
            self.max_replica_lag.map(|ms| described("max_replica_lag", ms == 0, format!("{ms} ms"))),
            self.max_replica_lag_bytes.map(|bytes| described("max_replica_lag_bytes", bytes == 0, bytes.to_string())),
            self.max_wal_rate.map(|rate| described("max_wal_rate", rate == 0, format!("{rate} kB/s"))),
            self.throttle_work_ratio.map(|ratio| described("throttle_work_ratio", ratio == 0.0, ratio.to_string())),
            self.max_slowdown.map(|times| described("max_slowdown", times == 0.0, times.to_string())),
        ]
        .into_iter()
        .flatten()
        .collect()
    }
}

fn described(what: &str, gone: bool, value: String) -> String {
    format!("{what} {}", if gone { "none".to_owned() } else { value })
}
