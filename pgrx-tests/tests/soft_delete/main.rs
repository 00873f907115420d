//! Soft delete, purge and retention.

mod alters;
mod attacks;
mod ddl;
mod guard;
mod inherits;
mod keys;
mod names;
mod property;
mod purge;
mod retention;
mod retention_runs;
mod rows;
mod standby;
mod text;
mod types;
mod unique;
mod upsert;
mod view;
