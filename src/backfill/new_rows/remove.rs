//! Dropping what [`super::install()`] made, wherever it is by now.

use pgrx::Uuid;
use pgrx::pg_sys::Oid;

use super::{Names, READERS, WRITERS, waits_for_lock, without_waiting};
use crate::error::Result;
use crate::server::{heap, spi};

pub enum Removed {
    /// Nothing is left of it.
    Gone,
    /// Somebody holds a lock: try again later.
    Busy(String),
}

/// Drops the job's triggers and functions, whoever owns the tables. What somebody else has dropped is not missed.
pub fn remove(job: Uuid) -> Result<Removed> {
    let names = Names::of(job);
    let relids = tables(&names)?;
    let gone = without_waiting(|| {
        spi::bookkeeping(|| {
            for &relid in &relids {
                heap::lock_exclusively(relid);
            }
            for function in [&names.function, &names.values] {
                spi::execute(&format!("DROP FUNCTION IF EXISTS upkeep.\"{function}\" CASCADE"), &[])?;
            }
            Ok(())
        })
    })?;
    Ok(match gone {
        Some(()) => Removed::Gone,
        None => {
            let all: Vec<&str> = WRITERS.into_iter().chain(READERS).collect();
            Removed::Busy(waits_for_lock(&relids, &all, "drop its trigger")?)
        }
    })
}

/// Tables whose triggers call the job's function; of a partitioned tree the top.
fn tables(names: &Names) -> Result<Vec<Oid>> {
    spi::bookkeeping(|| {
        spi::execute_returning(
            "SELECT DISTINCT t.tgrelid FROM pg_catalog.pg_trigger t
             JOIN pg_catalog.pg_proc p ON p.oid OPERATOR(pg_catalog.=) t.tgfoid
             WHERE p.proname OPERATOR(pg_catalog.=) $1
               AND p.pronamespace OPERATOR(pg_catalog.=) 'upkeep'::pg_catalog.regnamespace
               AND t.tgparentid OPERATOR(pg_catalog.=) 0::pg_catalog.oid
             ORDER BY t.tgrelid",
            &[names.function.as_str().into()],
            |row| row.require(1),
        )
    })
}
