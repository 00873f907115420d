//! Purge: rows that were deleted long enough ago are deleted for good, by a job.
//!
//! [`graph`] knows which rows reference which, [`batch`] takes a handful of rows and what goes with them,
//! [`run`] goes through a table, the oldest deletions first; [`hold`] keeps deletions from it.

pub mod batch;
mod calls;
pub mod explain;
pub mod family;
pub mod graph;
pub mod hold;
mod kind;
pub mod run;
mod statements;
mod subject;

pub use calls::ask;
pub use kind::Purge;
