//! The only room with `pg_sys` and `unsafe`: everything else calls these safe functions.

pub mod catalog;
pub mod catch;
pub mod commit;
pub mod hooks;
pub mod lock;
pub mod parse;
pub mod procedure;
pub mod raise;
pub mod segment;
pub mod spi;
pub mod statement;
pub mod top_level;
pub mod worker;
