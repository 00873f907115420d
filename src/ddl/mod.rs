//! DDL of ours on users' tables.

mod attempt;
mod holders;
mod maintain;
mod names;
mod partitions;

pub use attempt::{in_short_attempts, is_short_attempt, without_waiting};
pub use holders::{Holders, waits_for_lock};
pub use maintain::may_maintain;
pub use names::{keep_schema, renamed};
pub use partitions::{require_owner, require_trigger};
