//! Filling a column of a table in the background, without anyone noticing.
//!
//! [`definition`] checks what a person asked for; [`survey`] and [`strategy`] choose
//! the way through the table; [`statements`] is the SQL; [`run`] is the job.

mod calls;
pub mod definition;
pub mod explain;
mod forecast;
pub mod key;
mod kind;
pub mod list;
pub mod meaning;
pub mod new_rows;
pub mod options;
pub mod policies;
pub mod preview;
pub mod raw;
pub mod rights;
pub mod run;
pub mod statements;
pub mod store;
pub mod strategy;
pub mod survey;
pub mod target;
#[cfg(feature = "pg_test")]
mod tests;
pub mod tree;

pub use kind::Backfill;
