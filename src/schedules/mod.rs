//! Schedules: a command of the caller's that comes back. Each time it is due it becomes a job of the kind
//! `command`, run as the schedule's owner.

mod civil;
mod clock;
mod create;
mod cron;
mod due;
mod history;
mod hold;
mod kind;
pub mod made;
mod rule;
mod runs;
mod store;
#[cfg(feature = "pg_test")]
mod tests;
mod verbs;
pub mod zone;

pub use due::Due;
pub use kind::ScheduledCommand;
