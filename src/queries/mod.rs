//! Query statistics: what ran, how often, how long, and how that was spread, since the server started and back in time.

pub mod arguments;

pub mod histogram;
pub mod history;
pub mod one;
pub mod percentile;
pub mod reading;
pub mod regressions;
pub mod report;
pub mod slow;
pub mod sums;
pub mod top;
