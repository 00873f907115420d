//! Soft delete.

pub mod purge;
pub mod unique_keys;
