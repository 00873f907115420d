//! DDL of ours on users' tables.

mod brief;
mod holders;
mod locks;
mod maintain;
mod names;
mod partitions;
mod patience;

pub use brief::{
    Attempt, Blocked, Rest, Times, attempt, holds_strong_locks, in_callers_transaction, is_attempt, times_of_attempts,
};
pub use holders::{blockers, whom_it_waits_for};
pub use locks::Wanted;
pub use maintain::may_maintain;
pub use names::{keep_schema, renamed};
pub use partitions::{require_owner, require_trigger};
pub use patience::Tries;
