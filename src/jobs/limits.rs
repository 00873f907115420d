//! What one job may do beside the server's settings: tighter limits, and hours of the day.

use crate::error::{Error, INVALID_PARAMETER_VALUE, Result};

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
}

impl Limits {
    pub fn check(&self) -> Result<()> {
        let out_of_range =
            |what: &str, range: &str| Err(Error::new(INVALID_PARAMETER_VALUE, format!("{what} must be {range}")));
        if self.max_replica_lag.is_some_and(|ms| ms <= 0) {
            return out_of_range("max_replica_lag", "longer than 0");
        }
        if self.max_replica_lag_bytes.is_some_and(|bytes| bytes <= 0) {
            return out_of_range("max_replica_lag_bytes", "greater than 0");
        }
        if self.max_wal_rate.is_some_and(|rate| rate <= 0) {
            return out_of_range("max_wal_rate", "greater than 0 kB/s");
        }
        if self.throttle_work_ratio.is_some_and(|ratio| !(0.01..=1.0).contains(&ratio)) {
            return out_of_range("throttle_work_ratio", "between 0.01 and 1");
        }
        Ok(())
    }
}
