//! Schedules: a command of the caller's that comes back. Each time it is due it becomes a job of the kind
//! `command`, run as the schedule's owner.

mod civil;
mod clock;
mod create;
mod cron;
pub mod due;
mod history;
mod hold;
mod rule;
mod runs;
mod store;
#[cfg(feature = "pg_test")]
mod tests;
mod verbs;
pub mod zone;

pub use history::{check_retry, collect_run_of};
pub use hold::{hold_all, release_all};
pub use verbs::end;
