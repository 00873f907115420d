//! What in-server tests share. They run in a transaction that is rolled back, so no
//! worker sees what they do.

use crate::error::{Error, Result};
use crate::server::catch::subtransaction;
use crate::server::spi;

/// Runs statements of a test's.
pub fn run(sql: &str) -> Result<()> {
    spi::theirs::execute(sql, &[sql]).map(|_| ())
}

/// The rows of a query.
pub fn rows<T>(sql: &str, each: impl Fn(spi::Row<'_>) -> Result<T>) -> Result<Vec<T>> {
    spi::theirs::execute_returning(sql, &[sql], each)
}

/// The one value of a query, as text; null as nothing.
pub fn text(sql: &str) -> Result<String> {
    let rows =
        rows(&format!("SELECT v::text FROM ({sql}) AS q(v)"), |row| Ok(row.get::<String>(1)?.unwrap_or_default()))?;
    Ok(rows.join("\n"))
}

/// The error that this must end in.
pub fn error(sql: &str) -> Error {
    match subtransaction(|| run(sql)) {
        Ok(()) => Error::new(crate::error::INTERNAL_ERROR, format!("no error: {sql}")),
        Err(error) => error,
    }
}

/// The SQLSTATE of the error that this must end in.
pub fn sqlstate(sql: &str) -> String {
    error(sql).sqlstate.to_string()
}
