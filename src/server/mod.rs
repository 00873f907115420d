//! The only room with `pg_sys` and `unsafe`: everything else calls these safe functions.

pub mod alteration;
pub mod analyze;
pub mod catalog;
pub mod catch;
pub mod citus;
pub mod commit;
pub mod deparse;
pub mod door;
pub mod encoding;
pub mod epoch;
pub mod function;
pub mod grants;
pub mod guc;
pub mod heap;
pub mod index;
pub mod index_command;
pub mod index_pages;
pub mod inherited;
pub mod json;
pub mod lock;
pub mod named;
#[cfg(any(debug_assertions, feature = "pg_test"))]
mod names;
pub mod notices;
pub mod parse;
pub mod procedure;
pub mod process;
#[cfg(debug_assertions)]
mod proof;
pub mod qualify;
pub mod quiet;
pub mod raise;
pub(crate) mod raw;
pub mod relation_file;
pub mod repeated;
pub mod spi;
pub mod statement;
pub mod step;
pub mod system;
pub mod timeout;
pub mod top_level;
pub mod utility;
pub mod value;
pub mod view;
pub mod worker;
pub mod zone;
