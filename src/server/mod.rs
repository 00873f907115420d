//! The only room with `pg_sys` and `unsafe`: everything else calls these safe functions.

pub mod catch;
pub mod parse;
pub mod raise;
pub mod spi;
