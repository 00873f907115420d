//! Soft delete inside other people's statements: triggers and the functions that run their conditions (LAW 12). Everything
//! here but [`programs`] is raw: no pgrx guard, nothing to drop, foreign errors pass by longjmp.
//!
//! What the SAFETY sentences take for granted: a backend has one thread, so what is `static mut` here nobody else sees; a
//! transaction is open; what the server calls with lives until we return, and what we allocate is in a memory context of the
//! server's; no frame holds anything to drop and nothing panics, so an error may jump over all of them. "Connected" is between
//! `raw::connect` and `raw::finish`, which takes the current memory with it. Rules: docs/raw.md.

#![allow(unsafe_code, ffi_unwind_calls)]

mod attached;
pub(crate) mod callbacks;
mod calls;
mod changed;
mod ending;
mod engine;
mod events;
mod guard;
pub(crate) mod hashes;
mod noted;
mod pending;
pub(crate) mod programs;
mod state;
mod statements;
mod triggers;
mod upsert;
pub(crate) mod upserts;
mod view;

pub use guard::purge;
pub use state::{completes_row, fires_trigger};

/// What each trigger function takes for its own: its name, the trigger's, `tgtype`, and whether it is deferrable.
#[cfg(feature = "pg_test")]
pub fn made() -> Vec<String> {
    let all: [(&str, &[attached::Made]); 9] = [
        ("_soft_delete_updated", &triggers::UPDATED),
        ("_soft_delete_updated_row", &triggers::UPDATED_ROW),
        ("_soft_delete_dead_row", &upsert::DEAD_ROW),
        ("_soft_delete_inserted", &upsert::INSERTED),
        ("_soft_delete_flag", &triggers::FLAG),
        ("_soft_delete_guard", &guard::MADE),
        ("_soft_delete_view_row", &view::EACH),
        ("_soft_delete_view", &view::BEGIN_AND_END),
        ("_soft_delete_live_parent", &triggers::LIVE_PARENT),
    ];
    let line = |function: &str, made: &attached::Made| {
        format!("{function} {} {} {}", made.name.to_string_lossy(), made.tgtype, made.deferrable)
    };
    let mut lines: Vec<String> =
        all.iter().flat_map(|(function, all)| all.iter().map(move |made| line(function, made))).collect();
    lines.sort();
    lines
}
