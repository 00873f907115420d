//! Unique keys that count live rows only: a deleted email can be registered again.
//!
//! [`plan`] says what becomes of each key; [`run`] is the job that builds the new indexes concurrently and lets each take
//! the place and the name of the old one.

mod calls;
mod kind;
pub mod plan;
pub mod run;

pub use kind::UniqueKeys;
