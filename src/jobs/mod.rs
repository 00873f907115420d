//! The engine: one row per long piece of work, one executor for every kind of it.
//!
//! launcher (one, no database) -> scheduler (per database, comes when something is
//! due) -> executors (one per worker slot of a job, connected as the job's owner).

pub mod activity;
pub mod advice;
mod assignment;
pub mod bounds;
pub mod children;
pub mod chore;
pub mod chores;
pub mod claims;
pub mod clean_up;
pub mod command;
mod context;
mod everything;
pub mod executor;
pub mod forget;
mod held;
pub mod kind;
pub mod launcher;
pub mod limits;
pub mod lock_waits;
pub mod make_way;
pub mod owners;
pub mod pace;
mod parking;
mod part;
mod portions;
pub mod queue;
pub mod raw;
pub mod registry;
pub mod retry;
mod room;
pub mod scheduler;
mod seat;
pub mod sequence;
mod shares;
mod slot;
pub mod slowdown;
mod statement_of;
pub mod store;
mod target;
#[cfg(feature = "pg_test")]
mod tests;
pub mod throttle;
mod turn;
pub mod verbs;
pub mod wait;
mod work;
mod workers;
