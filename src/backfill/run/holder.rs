//! Who keeps dead rows from being pruned: for the event that says why strides were given up.

use crate::error::Result;
use crate::server::{catalog, spi};

/// The owner of the oldest snapshot but ourselves, in words; pids and slots are everyone's to see.
pub fn describe() -> Result<Option<String>> {
    spi::bookkeeping(|| {
        catalog::forget_process_list();
        spi::query_one(
            "SELECT h.who FROM (
                 SELECT pg_catalog.format('process %s, %s', a.pid, a.backend_type) AS who,
                        greatest(pg_catalog.age(a.backend_xmin), pg_catalog.age(a.backend_xid)) AS age
                 FROM pg_catalog.pg_stat_get_activity(NULL) a
                 WHERE a.pid OPERATOR(pg_catalog.<>) pg_catalog.pg_backend_pid()
                   AND (a.datid OPERATOR(pg_catalog.=) (SELECT d.oid FROM pg_catalog.pg_database d
                            WHERE d.datname OPERATOR(pg_catalog.=) pg_catalog.current_database())
                        -- Of a standby; that of a subscriber is in its database, and keeps rows of no other one.
                        OR a.backend_type OPERATOR(pg_catalog.=) 'walsender' AND a.datid IS NULL)
                 UNION ALL
                 SELECT pg_catalog.format('replication slot \"%s\"', s.slot_name), pg_catalog.age(s.xmin)
                 FROM pg_catalog.pg_replication_slots s
                 UNION ALL
                 SELECT pg_catalog.format('prepared transaction \"%s\"', p.gid), pg_catalog.age(p.transaction)
                 FROM pg_catalog.pg_prepared_xact() p) h
             WHERE h.age IS NOT NULL
             ORDER BY h.age DESC LIMIT 1",
            &[],
            |row| row.require(1),
        )
    })
}
