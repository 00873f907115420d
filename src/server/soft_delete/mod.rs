//! Soft delete inside other people's statements: triggers and the functions that run their conditions (LAW 12). Everything
//! here but [`programs`] is raw: no pgrx guard, nothing to drop, foreign errors pass by longjmp.

mod attached;
mod calls;
mod ending;
mod engine;
mod guard;
mod pending;
pub(crate) mod programs;
mod state;
mod statements;
mod triggers;
mod view;

pub use guard::while_purging;
pub use state::{completes_row, fires_trigger};
