//! DDL of ours on users' tables.

mod attempt;

pub use attempt::in_short_attempts;
