//! Where the background workers begin. The server calls these by their names, which [`crate::server::worker::Registration`]
//! gives it; guarded: a panic or an error of theirs is reported and ends the process.

use pgrx::{pg_guard, pg_sys};

use crate::jobs::{executor, launcher, scheduler};

/// 0: for all databases.
#[pg_guard]
#[unsafe(no_mangle)]
pub extern "C-unwind" fn upkeep_launcher_main(database: pg_sys::Datum) {
    launcher::main(database.value() as u32);
}

#[pg_guard]
#[unsafe(no_mangle)]
pub extern "C-unwind" fn upkeep_scheduler_main(database: pg_sys::Datum) {
    scheduler::main(pg_sys::Oid::from(database.value() as u32));
}

#[pg_guard]
#[unsafe(no_mangle)]
pub extern "C-unwind" fn upkeep_executor_main(database: pg_sys::Datum) {
    executor::main(pg_sys::Oid::from(database.value() as u32));
}
