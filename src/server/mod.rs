//! The only room with `pg_sys` and `unsafe`: everything else calls these safe functions.

pub mod analyze;
pub mod catch;
pub mod heap;
pub mod parse;
pub mod raise;
pub mod spi;
pub mod repeated;
pub mod stride;
