//! The columns of a table, as functions and triggers have to name them.

use crate::error::Result;
use crate::server::{Oid, spi};

#[derive(Clone, Debug, PartialEq)]
pub struct Column {
    pub number: i16,
    pub name: String,
    pub type_oid: Oid,
    /// Qualified; only if it is not the type's own.
    pub collation: Option<String>,
    pub identity: bool,
    pub generated: bool,
}

const COLUMNS: &str = "
    SELECT a.attnum, a.attname::pg_catalog.text, a.atttypid,
           CASE WHEN a.attcollation OPERATOR(pg_catalog.<>) t.typcollation
                THEN pg_catalog.format('%I.%I', n.nspname, l.collname) END,
           a.attidentity OPERATOR(pg_catalog.<>) '', a.attgenerated OPERATOR(pg_catalog.<>) ''
    FROM pg_catalog.pg_attribute a
    JOIN pg_catalog.pg_type t ON t.oid OPERATOR(pg_catalog.=) a.atttypid
    LEFT JOIN pg_catalog.pg_collation l ON l.oid OPERATOR(pg_catalog.=) a.attcollation
    LEFT JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) l.collnamespace
    WHERE a.attrelid OPERATOR(pg_catalog.=) $1 AND a.attnum OPERATOR(pg_catalog.>) 0 AND NOT a.attisdropped
    ORDER BY a.attnum";

pub fn columns(relid: Oid) -> Result<Vec<Column>> {
    spi::unambiguous(|| {
        spi::execute_returning(COLUMNS, &[relid.into()], |row| {
            Ok(Column {
                number: row.next()?,
                name: row.next()?,
                type_oid: row.next()?,
                collation: row.next_or_null()?,
                identity: row.next()?,
                generated: row.next()?,
            })
        })
    })
}
