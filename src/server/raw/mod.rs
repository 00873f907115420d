//! Raw code of the server room, and what the raw code of the other rooms is made of. Rules: docs/raw.md.
//!
//! What the SAFETY sentences take for granted: a process of the server has one thread, so what it has for itself nobody else
//! changes. Functions of `pg_sys` are guarded: an error of theirs is a panic, which drops what frames hold, and is caught where
//! there is a (sub)transaction to abort. Those of [`unguarded`] are called where frames hold nothing to drop. Texts of the
//! server's end in a zero; what it makes for us is in the current memory context, which lasts longer than the call.

#![allow(unsafe_code, ffi_unwind_calls)]

pub mod alteration;
pub mod analyze;
pub mod catalog;
pub mod catch;
pub mod commit;
pub mod deparse;
pub mod door;
pub mod encoding;
mod finfo;
pub mod function;
pub mod grants;
pub mod grown;
pub mod guc;
pub mod heap;
mod identity;
pub mod index;
pub mod index_command;
pub mod index_pages;
pub mod inherited;
pub mod json;
pub mod lock;
mod memory;
pub mod named;
#[cfg(any(debug_assertions, feature = "pg_test"))]
mod names;
pub mod notices;
pub mod parse;
mod planned;
pub mod procedure;
pub mod process;
#[cfg(debug_assertions)]
mod proof;
pub mod qualify;
pub mod raise;
pub mod repeated;
mod report;
pub mod script;
pub mod sessions;
pub mod spi;
pub mod statement;
pub mod step;
pub mod system;
pub mod table_lock;
pub mod timeout;
pub mod top_level;
pub mod trigger;
pub mod unguarded;
pub mod utility;
pub mod uuid;
pub mod value;
pub mod view;
pub mod worker;
pub mod zone;

pub(crate) use finfo::version_1;
pub use identity::{become_again, become_owner, become_user};
pub use memory::{Array, allocate, allocate_for_transaction, allocate_in, concat, copy, new_context, text, to_c};
pub use planned::{
    Planned, Sight, attribute, column_type, connect, executions, finish, pin, result, run_ours, run_theirs,
    see_transition_tables, typed, unpin, value,
};
pub use report::{Report, raise};
