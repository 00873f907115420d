//! DDL on tables with soft delete: views that follow, partitions and foreign keys that come later.
//!
//! [`follow`] is what the event triggers call (the only ones there are, LAW 27), and [`first`] before the statement;
//! [`alter`] is for what a view stands in the way of; [`references`] keeps what deletions remember right; [`names`]
//! follows the name of a table; [`ours`] says what is not ours to change; [`repair`] puts right what
//! `upkeep.soft_delete_drift` shows.

pub mod alter;
pub mod first;
pub mod follow;
mod names;
pub mod ours;
mod references;
pub mod repair;
pub mod views;
