//! The relation that is meant.

use crate::error::{Error, Result, UNDEFINED_TABLE};
use crate::server::{Oid, spi};

/// There is none with this OID (any more).
pub fn missing(relid: Oid) -> Error {
    Error::new(UNDEFINED_TABLE, format!("relation with OID {} does not exist", relid.to_u32()))
}

/// Everything that shares rows with a table: all that has something below it in common with it.
/// Also the uppermost of these, whoever asks.
const RELATED: &str = "
    WITH RECURSIVE below (oid) AS (
        SELECT $1::pg_catalog.oid
        UNION
        SELECT i.inhrelid FROM pg_catalog.pg_inherits i JOIN below b ON i.inhparent OPERATOR(pg_catalog.=) b.oid
    ), related (oid) AS (
        SELECT b.oid FROM below b
        UNION
        SELECT i.inhparent FROM pg_catalog.pg_inherits i JOIN related r ON i.inhrelid OPERATOR(pg_catalog.=) r.oid
    )
    SELECT r.oid, NOT EXISTS (SELECT FROM pg_catalog.pg_inherits i WHERE i.inhrelid OPERATOR(pg_catalog.=) r.oid)
    FROM related r ORDER BY r.oid";

/// Tables that share rows with this one, itself included; those that are nobody's child are marked.
pub fn related(relid: Oid) -> Result<Vec<(Oid, bool)>> {
    spi::query(RELATED, &[relid.into()], |row| Ok((row.require(1)?, row.require(2)?)))
}
