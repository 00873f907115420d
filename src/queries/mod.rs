//! Query statistics: what ran, how often, how long, and how that was spread, since the server started and back in time.

pub use clients::Counted;
pub use drain::Drain;
pub use pg_upkeep_memory::{figures, histogram};

mod advice;
pub mod arguments;
mod beside;
pub mod buckets;
mod clients;
pub mod counters;
pub mod cover;
mod drain;
mod due;
pub mod history;
pub mod live;
pub mod normalize;
pub mod one;
pub mod packed;
pub mod percentile;
pub mod raw;
pub mod reading;
pub mod regressions;
pub mod report;
pub mod slow;
pub mod store;
pub mod sums;
#[cfg(feature = "pg_test")]
mod tests;
mod tidy;
pub mod top;
