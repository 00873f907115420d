//! Query statistics: what ran, how often, how long, and how that was spread, since the server started and back in time.

pub mod histogram;
