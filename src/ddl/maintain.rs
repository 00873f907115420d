//! Who may maintain a table: VACUUM, ANALYZE, REINDEX.

use crate::error::Result;
use crate::server::{Oid, spi};

/// The owner, the database's owner, and from 17 on whoever has MAINTAIN.
const MAY_MAINTAIN: &str = "
    SELECT c.oid FROM pg_catalog.unnest($1) l (oid)
    JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) l.oid
    WHERE pg_catalog.pg_has_role(c.relowner, 'USAGE')
       OR EXISTS (SELECT FROM pg_catalog.pg_database d
                  WHERE d.datname OPERATOR(pg_catalog.=) pg_catalog.current_database()
                    AND pg_catalog.pg_has_role(d.datdba, 'USAGE'))
       OR CASE WHEN pg_catalog.current_setting('server_version_num')::pg_catalog.int4 OPERATOR(pg_catalog.>=) 170000
               THEN pg_catalog.has_table_privilege(c.oid, 'MAINTAIN') ELSE false END";

/// Those of these tables that the current user may maintain.
pub fn may_maintain(relids: &[Oid]) -> Result<Vec<Oid>> {
    spi::query(MAY_MAINTAIN, &[relids.to_vec().into()], |row| row.require(1))
}
