//! pg_upkeep: batched backfill and other upkeep of a PostgreSQL database, run inside the server.

pub mod error;
pub mod server;

pgrx::pg_module_magic!(name, version);
