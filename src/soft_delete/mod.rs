//! Soft delete.

pub mod ddl;
pub mod purge;
pub mod unique_keys;
