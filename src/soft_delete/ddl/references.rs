//! What deletions remember of tables and columns, which a dump carries elsewhere: OIDs of tables that are gone would be
//! other tables there, and names of columns that are gone other columns here. Rows that somebody has locked stay as they
//! are: whoever has them waits, perhaps, for the statement that is followed; `undelete` looks again before it writes.

use crate::error::Result;
use crate::server::{Oid, spi};

/// A table that is gone is none: `-` in a dump. Inside [`spi::bookkeeping`].
pub fn forget_tables(dropped: &[Oid]) -> Result<()> {
    for sql in [
        // There is nothing to bring back in it.
        "DELETE FROM upkeep._deletion_cleared WHERE ctid OPERATOR(pg_catalog.=) ANY (ARRAY(
             SELECT c.ctid FROM upkeep._deletion_cleared c
             WHERE c.relid OPERATOR(pg_catalog.=) ANY ($1) FOR UPDATE SKIP LOCKED))",
        "WITH gone AS (
             DELETE FROM upkeep._deletion_table WHERE ctid OPERATOR(pg_catalog.=) ANY (ARRAY(
                 SELECT t.ctid FROM upkeep._deletion_table t
                 WHERE t.relid OPERATOR(pg_catalog.=) ANY ($1) FOR UPDATE SKIP LOCKED))
             RETURNING deletion, rows, direct, purged)
         INSERT INTO upkeep._deletion_table AS t (deletion, relid, rows, direct, purged)
         SELECT g.deletion, 0::pg_catalog.oid, pg_catalog.sum(g.rows)::pg_catalog.int8, pg_catalog.bool_or(g.direct),
                pg_catalog.sum(g.purged)::pg_catalog.int8
         FROM gone g GROUP BY g.deletion
         ON CONFLICT (deletion, relid) DO UPDATE
         SET rows = t.rows OPERATOR(pg_catalog.+) EXCLUDED.rows, direct = t.direct OR EXCLUDED.direct,
             purged = t.purged OPERATOR(pg_catalog.+) EXCLUDED.purged",
        "UPDATE upkeep._deletion SET relid = 0::pg_catalog.oid WHERE ctid OPERATOR(pg_catalog.=) ANY (ARRAY(
             SELECT d.ctid FROM upkeep._deletion d
             WHERE d.relid OPERATOR(pg_catalog.=) ANY ($1) FOR UPDATE SKIP LOCKED))",
    ] {
        spi::execute(sql, &[dropped.to_vec().into()])?;
    }
    Ok(())
}

/// References from a column that is gone, and those that were found by one. Another column of its name is not it.
pub fn forget_columns() -> Result<()> {
    spi::bookkeeping(|| {
        let dropped: Vec<(Oid, String)> = spi::execute_returning(
            "SELECT d.objid, d.address_names[pg_catalog.array_upper(d.address_names, 1)]
             FROM pg_catalog.pg_event_trigger_dropped_objects() d
             WHERE d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_class'::pg_catalog.regclass
               AND d.object_type OPERATOR(pg_catalog.=) 'table column' AND NOT d.is_temporary",
            &[],
            |row| Ok((row.require(1)?, row.require(2)?)),
        )?;
        for (relid, column) in dropped {
            spi::execute(
                "DELETE FROM upkeep._deletion_cleared WHERE ctid OPERATOR(pg_catalog.=) ANY (ARRAY(
                     SELECT c.ctid FROM upkeep._deletion_cleared c
                     WHERE c.relid OPERATOR(pg_catalog.=) $1
                       AND $2::pg_catalog.text::pg_catalog.name
                           OPERATOR(pg_catalog.=) ANY (c.key_columns OPERATOR(pg_catalog.||) c.columns)
                     FOR UPDATE SKIP LOCKED))",
                &[relid.into(), column.as_str().into()],
            )?;
        }
        Ok(())
    })
}

/// A column that the statement has renamed, in the table and in those that inherit it: it is the one of the names
/// remembered that is gone.
pub fn follow_renamed() -> Result<()> {
    spi::bookkeeping(|| {
        let renamed: Vec<(Oid, String)> = spi::execute_returning(
            "WITH RECURSIVE renamed (relid, name) AS (
                 SELECT d.objid, a.attname
                 FROM pg_catalog.pg_event_trigger_ddl_commands() d
                 JOIN pg_catalog.pg_attribute a ON a.attrelid OPERATOR(pg_catalog.=) d.objid
                                               AND a.attnum OPERATOR(pg_catalog.=) d.objsubid
                 WHERE d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_class'::pg_catalog.regclass
                   AND d.object_type OPERATOR(pg_catalog.=) 'table column'
                 UNION
                 SELECT i.inhrelid, r.name FROM renamed r
                 JOIN pg_catalog.pg_inherits i ON i.inhparent OPERATOR(pg_catalog.=) r.relid)
             SELECT r.relid, r.name::pg_catalog.text FROM renamed r
             WHERE EXISTS (SELECT FROM upkeep._deletion_cleared c WHERE c.relid OPERATOR(pg_catalog.=) r.relid)",
            &[],
            |row| Ok((row.require(1)?, row.require(2)?)),
        )?;
        for (relid, new) in renamed {
            let gone: Vec<String> = spi::execute_returning(
                "SELECT DISTINCT n.name::pg_catalog.text
                 FROM upkeep._deletion_cleared c
                 CROSS JOIN LATERAL pg_catalog.unnest(c.key_columns OPERATOR(pg_catalog.||) c.columns) n (name)
                 WHERE c.relid OPERATOR(pg_catalog.=) $1 AND NOT EXISTS (
                     SELECT FROM pg_catalog.pg_attribute a
                     WHERE a.attrelid OPERATOR(pg_catalog.=) $1 AND a.attname OPERATOR(pg_catalog.=) n.name
                       AND a.attnum OPERATOR(pg_catalog.>) 0 AND NOT a.attisdropped)",
                &[relid.into()],
                |row| row.require(1),
            )?;
            let [old] = &gone[..] else { continue };
            spi::execute(
                "UPDATE upkeep._deletion_cleared c
                 SET key_columns = pg_catalog.array_replace(c.key_columns, $2::pg_catalog.text::pg_catalog.name,
                                                            $3::pg_catalog.text::pg_catalog.name),
                     columns = pg_catalog.array_replace(c.columns, $2::pg_catalog.text::pg_catalog.name,
                                                        $3::pg_catalog.text::pg_catalog.name)
                 WHERE c.relid OPERATOR(pg_catalog.=) $1",
                &[relid.into(), old.as_str().into(), new.as_str().into()],
            )?;
        }
        Ok(())
    })
}
