//! Rows that others write during a run are filled by a trigger of the job's.
//!
//! [`check`] says what may be asked for; [`text`] is the SQL, made of expressions that the server deparsed;
//! [`install`] and [`remove`] are DDL with short lock timeouts, to be tried again when they come back busy.

mod check;
mod columns;
mod install;
mod remove;
#[cfg(feature = "pg_test")]
mod tests;
mod text;

pub use check::check;
pub use install::{Installed, install};
pub use remove::{Removed, remove};

use std::time::Duration;

use pgrx::Uuid;
use pgrx::pg_sys::Oid;

use crate::error::{Error, LOCK_NOT_AVAILABLE, QUERY_CANCELED, Result};
use crate::server::catch::subtransaction;
use crate::server::spi;
use crate::server::timeout::limited;

/// One lock is waited for this long (LAW 14), and all of them together so long.
const LOCK_TIMEOUT: &str = "200ms";
const ALL_LOCKS: Duration = Duration::from_secs(1);

/// What a job makes outside of our tables. The names sort the trigger behind (nearly) all others.
pub struct Names {
    pub trigger: String,
    pub function: String,
    /// Computes the new values.
    pub values: String,
}

impl Names {
    pub fn of(job: Uuid) -> Self {
        let id: String = job.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
        Names {
            trigger: format!("zz_upkeep_fill_{id}"),
            function: format!("_fill_{id}"),
            values: format!("_fill_{id}_values"),
        }
    }
}

/// Runs DDL that must not wait: `None` if somebody holds a lock that it needs.
pub fn without_waiting<T>(f: impl FnOnce() -> Result<T>) -> Result<Option<T>> {
    let done = limited(Some(ALL_LOCKS), || {
        subtransaction(|| {
            spi::set_transaction("lock_timeout", LOCK_TIMEOUT);
            f()
        })
    });
    match done {
        Ok(value) => Ok(Some(value)),
        Err(Error { sqlstate: LOCK_NOT_AVAILABLE | QUERY_CANCELED, .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Lock modes that CREATE TRIGGER waits for; DROP TRIGGER waits for any.
pub const WRITERS: [&str; 6] = [
    "RowExclusiveLock",
    "ShareUpdateExclusiveLock",
    "ShareLock",
    "ShareRowExclusiveLock",
    "ExclusiveLock",
    "AccessExclusiveLock",
];
pub const READERS: [&str; 2] = ["AccessShareLock", "RowShareLock"];

/// Who has one of these tables or their children locked, the oldest transaction first.
const HELD_BY: &str = "
    WITH RECURSIVE tree (relid) AS (
        SELECT pg_catalog.unnest($1)
        UNION
        SELECT i.inhrelid FROM pg_catalog.pg_inherits i
        JOIN tree ON i.inhparent OPERATOR(pg_catalog.=) tree.relid
    )
    SELECT pg_catalog.format('%I.%I', n.nspname, c.relname),
           CASE WHEN l.pid IS NULL THEN 'a prepared transaction'
                WHEN a.backend_type OPERATOR(pg_catalog.<>) 'client backend'
                THEN pg_catalog.format('pid %s (%s)', l.pid, a.backend_type)
                ELSE pg_catalog.format('pid %s', l.pid) END
    FROM pg_catalog.pg_locks l
    JOIN tree ON tree.relid OPERATOR(pg_catalog.=) l.relation
    JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) l.relation
    JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace
    LEFT JOIN pg_catalog.pg_stat_get_activity(NULL) a ON a.pid OPERATOR(pg_catalog.=) l.pid
    WHERE l.locktype OPERATOR(pg_catalog.=) 'relation' AND l.granted
      AND l.database OPERATOR(pg_catalog.=) $2
      AND l.pid IS DISTINCT FROM pg_catalog.pg_backend_pid()
      AND l.mode OPERATOR(pg_catalog.=) ANY ($3)
    -- Prepared transactions first. A session without a start has just ended its own, and is not the one to name.
    ORDER BY l.pid IS NOT NULL, a.xact_start NULLS LAST LIMIT 1";

/// What to tell people who see the job wait: `waits for the lock on public.t to drop its trigger; held by pid 4711`.
pub fn waits_for_lock(relids: &[Oid], modes: &[&str], purpose: &str) -> Result<String> {
    Ok(match holder(relids, modes)? {
        Some((table, holder)) => format!("waits for the lock on {table} to {purpose}; held by {holder}"),
        None => format!("waits for a lock to {purpose}"),
    })
}

/// The table that somebody has locked in one of these modes, and who it is.
pub fn holder(relids: &[Oid], modes: &[&str]) -> Result<Option<(String, String)>> {
    let modes: Vec<String> = modes.iter().map(ToString::to_string).collect();
    let database = crate::server::catalog::my_database();
    spi::bookkeeping(|| {
        spi::query_one(HELD_BY, &[relids.to_vec().into(), database.into(), modes.into()], |row| {
            Ok((row.require::<String>(1)?, row.require::<String>(2)?))
        })
    })
}
