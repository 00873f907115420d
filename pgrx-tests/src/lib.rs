//! The harness of pg_upkeep: it builds the extension, runs it in private PostgreSQL clusters, and demonstrates, verifies
//! and measures it there. Nothing in here is linked into the extension.

pub mod args;
pub mod beside;
pub mod citus;
pub mod cluster;
pub mod command;
pub mod demo;
pub mod extension;
pub mod faults;
pub mod fetch;
pub mod figures;
pub mod fuzz;
pub mod hostile;
pub mod in_the_way;
pub mod jobs;
pub mod measure;
pub mod observe;
pub mod overdue;
pub mod paths;
pub mod pg;
pub mod prepare;
pub mod query_history;
pub mod room;
pub mod schedules;
pub mod schema;
pub mod session;
pub mod testing;
pub mod tools;
pub mod tree;
pub mod user;
pub mod verify;
pub mod wait;
