//! Functions that a backfill's own SQL calls: which blocks a stride is, and who may fill new rows. Rules: docs/raw.md.

#![allow(unsafe_code, ffi_unwind_calls)]

pub mod filling;
pub mod stride;
