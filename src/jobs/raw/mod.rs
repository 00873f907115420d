//! What the engine does below Rust: the memory that its processes share, and a hook.

pub mod make_way;
pub mod segment;
