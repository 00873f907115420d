//! Row stamps: who made and changed a row, when, and how often.
//!
//! A table has one trigger for all of them, `upkeep._stamp_row()` ([`raw`]), and the trigger is
//! all there is: its arguments and its WHEN say what is stamped ([`trigger`]), the view `upkeep.row_stamps` reads them
//! from the catalogs, and a dump carries them. [`columns`] adds or adopts the columns.

mod calls;
mod columns;
pub mod raw;
mod store;
mod target;
#[cfg(feature = "pg_test")]
mod tests;
mod trigger;
