//! Statements of ours name a table, which they mean by its OID. Its lock keeps its own name; that of its schema is kept here.

use crate::error::{Error, Result, SERIALIZATION_FAILURE};
use crate::server::{Oid, heap, spi};

/// Until the transaction ends the schema of a table that is locked is not renamed, so that its qualified name is its own. Rights on the
/// schema can be granted all the while: that changes no key of its row. Whoever has just renamed it is waited for, as for a lock.
pub fn keep_schema(relid: Oid) -> Result<()> {
    let Some(schema) = heap::schema(relid) else { return Ok(()) };
    spi::bookkeeping(|| {
        spi::execute_returning(
            "SELECT n.oid FROM pg_catalog.pg_namespace n WHERE n.oid OPERATOR(pg_catalog.=) $1 FOR KEY SHARE",
            &[schema.into()],
            |row| row.require::<Oid>(1),
        )
    })?;
    heap::learn_of_changes();
    Ok(())
}

/// The statement was about another table than the one that is locked. All of it is undone.
pub fn renamed(table: &str) -> Error {
    Error::new(SERIALIZATION_FAILURE, format!("{table} was renamed meanwhile"))
        .detail("Its name is another table's now, which is left as it was.")
        .hint("Look which table you mean, and call it again.")
}
