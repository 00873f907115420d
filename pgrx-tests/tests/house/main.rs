//! What holds in every room: rights, errors, settings, dumps, older versions, and the harness itself.

mod acting_as_owner;
mod door;
mod dump;
mod foreign_errors;
mod harness;
mod hostile;
mod lock_attempts;
mod meant_tables;
mod older_dumps;
mod older_version;
mod privileges;
mod refused_memory;
mod released_dumps;
mod secrets;
mod short_locks;
