//! What the engine does below Rust: where its processes begin, the memory that they share, and a hook.

mod mains;
pub mod make_way;
pub mod segment;
