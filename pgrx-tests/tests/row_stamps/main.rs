//! Row stamps.

mod stamps;
