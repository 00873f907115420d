//! The relation that is meant.

use pgrx::pg_sys::Oid;

use crate::error::{Error, UNDEFINED_TABLE};

/// There is none with this OID (any more).
pub fn missing(relid: Oid) -> Error {
    Error::new(UNDEFINED_TABLE, format!("relation with OID {} does not exist", relid.to_u32()))
}
