//! Who is in the way of a lock.

use crate::error::Result;
use crate::server::{Oid, catalog, spi};

/// Whom a lock of ours waits for: that of CREATE TRIGGER for who writes, that of DROP for anybody.
#[derive(Clone, Copy)]
pub enum Holders {
    Writers,
    All,
}

impl Holders {
    /// By the modes of their locks.
    fn modes(self) -> Vec<String> {
        const WRITERS: [&str; 6] = [
            "RowExclusiveLock",
            "ShareUpdateExclusiveLock",
            "ShareLock",
            "ShareRowExclusiveLock",
            "ExclusiveLock",
            "AccessExclusiveLock",
        ];
        const READERS: &[&str] = &["AccessShareLock", "RowShareLock"];
        let readers = if matches!(self, Holders::All) { READERS } else { &[] };
        WRITERS.iter().chain(readers).map(ToString::to_string).collect()
    }
}

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
pub fn waits_for_lock(relids: &[Oid], of: Holders, purpose: &str) -> Result<String> {
    Ok(match holder(relids, of)? {
        Some((table, holder)) => format!("waits for the lock on {table} to {purpose}; held by {holder}"),
        None => format!("waits for a lock to {purpose}"),
    })
}

/// The table that somebody has locked, and who it is.
pub fn holder(relids: &[Oid], of: Holders) -> Result<Option<(String, String)>> {
    let database = catalog::my_database();
    spi::bookkeeping(|| {
        spi::query_one(HELD_BY, &[relids.to_vec().into(), database.into(), of.modes().into()], |row| {
            Ok((row.require::<String>(1)?, row.require::<String>(2)?))
        })
    })
}
