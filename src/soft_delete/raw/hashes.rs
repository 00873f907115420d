//! How the server calls objects in its messages that they have changed.

use pgrx::pg_sys::{self, Datum, Oid};

/// By a hash. A type and a role that have the same are one too many.
pub fn of(types: &[Oid], roles: &[Oid]) -> Vec<u32> {
    use pg_sys::SysCacheIdentifier::{AUTHOID, TYPEOID};
    let zero = Datum::from(0usize);
    // SAFETY: hashes an OID; the caches are there in every session.
    let hash =
        |cache, oid: &Oid| unsafe { pg_sys::GetSysCacheHashValue(cache as i32, Datum::from(*oid), zero, zero, zero) };
    let mut hashes: Vec<u32> = types.iter().map(|oid| hash(TYPEOID, oid)).collect();
    hashes.extend(roles.iter().map(|oid| hash(AUTHOID, oid)));
    hashes.sort_unstable();
    hashes.dedup();
    hashes
}
