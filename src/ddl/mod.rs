//! DDL of ours on users' tables.

mod attempt;
mod partitions;

pub use attempt::in_short_attempts;
pub use partitions::{require_owner, require_trigger};
