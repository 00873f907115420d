//! SPI and errors for code that runs inside other people's statements (LAW 12): without pgrx's guard, which rebuilds every error
//! it sees. A foreign error leaves these functions by longjmp: no frame above them may hold anything to drop, and memory comes
//! from the server.

// One contract for all of them: a transaction is open, and frames that an error passes hold nothing to drop.
#![allow(clippy::missing_safety_doc)]

mod finfo;
mod identity;
mod memory;
mod planned;
mod report;
pub mod trigger;
pub mod unguarded;
pub mod uuid;

pub(crate) use finfo::version_1;
pub use identity::{become_again, become_owner, become_user};
pub use memory::{Array, allocate, allocate_for_transaction, allocate_in, concat, copy, new_context, text, to_c};
pub use planned::{
    Planned, Sight, attribute, column_type, connect, executions, finish, new_level, pin, result, run_ours, run_theirs,
    see_transition_tables, set, typed, unpin, value,
};
pub use report::{Report, raise};
