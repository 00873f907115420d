//! Rows that are deleted so that they can come back.
//!
//! [`managed`] reads the catalogs, [`program`] writes the statements for a table, [`request`] those for a call; what runs
//! them is in `soft_delete::raw`. [`enable`] and [`disable`] make and remove columns, triggers and views; [`ddl`] keeps
//! them as they should be. [`purge`] and [`unique_keys`] are jobs.

mod cleared;
pub mod ddl;
pub mod disable;
pub mod enable;
pub mod managed;
pub mod objects;
pub mod program;
pub mod purge;
pub mod raw;
pub mod request;
pub mod retention;
#[cfg(feature = "pg_test")]
mod tests;
pub mod unique_keys;
