//! What the engine does below Rust: the memory that its processes share.

pub mod segment;
