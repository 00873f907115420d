//! What the engine does below Rust: where its processes begin, the memory that they share, and a hook. Rules: docs/raw.md.

#![allow(unsafe_code, ffi_unwind_calls)]

mod mains;
pub mod make_way;
pub mod segment;
