//! Rows that are deleted so that they can come back.
//!
//! [`managed`] reads the catalogs, [`program`] writes the statements for a table, [`request`] those for a call; what runs
//! them is in `server::soft_delete`. [`enable`] and [`disable`] make and remove columns, triggers and views.

pub mod disable;
pub mod enable;
pub mod managed;
pub mod objects;
pub mod program;
pub mod request;
