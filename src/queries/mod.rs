//! Query statistics: what ran, how often, how long, and how that was spread, since the server started and back in time.

pub mod counters;
pub mod cover;
pub mod drain;
pub mod figures;
pub mod histogram;
pub mod history;
pub mod live;
pub mod normalize;
pub mod packed;
pub mod store;
#[cfg(feature = "pg_test")]
mod tests;
