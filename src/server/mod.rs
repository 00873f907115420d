//! PostgreSQL, for the other rooms: what is here they call as safe functions, and none of it knows a capability. What needs
//! `unsafe` lies in `raw/`, and is handed out here.

pub mod citus;
pub mod epoch;
pub mod quiet;
pub(crate) mod raw;
pub mod relation_file;
pub mod types;

pub use pgrx::pg_sys::Oid;

// Statements.

/// Transactions and subtransactions, and errors as values.
pub use raw::catch;
/// Settings that are pinned while a statement of ours runs.
pub use raw::door;
/// What a statement of ours on a user's table may name.
pub use raw::named;
/// What statements say besides their answer.
pub use raw::notices;
/// Errors to the client or into the log.
pub use raw::raise;
/// A statement on a user's table that runs many times.
pub use raw::repeated;
/// SQL from Rust: prepared, with typed values, under the door's settings.
pub use raw::spi;
/// What the text of a user's may leave behind in a worker.
pub use raw::step;
/// How long a statement of a worker may take.
pub use raw::timeout;
/// One statement outside of a transaction block, as a client would send it.
pub use raw::top_level;

// Text of users.

/// What a statement means.
pub use raw::analyze;
/// An UPDATE's expressions as SQL.
pub use raw::deparse;
/// Functions of ours with a user's text in them.
pub use raw::function;
/// Of which tables a command builds or drops indexes.
pub use raw::index_command;
/// Fragments through the server's parser.
pub use raw::parse;
/// Text of an expression with every name qualified.
pub use raw::qualify;
/// A whole command of a user's.
pub use raw::statement;

// Values.

/// Databases that are not UTF-8.
pub use raw::encoding;
/// `jsonb`, in any encoding.
pub use raw::json;
/// As text that gives back the same value elsewhere.
pub use raw::value;
/// The server's time zones.
pub use raw::zone;

// Relations and catalogs.

/// What an ALTER changes.
pub use raw::alteration;
/// Facts that SQL would be the long way round to.
pub use raw::catalog;
/// Functions that nobody may call until they are granted.
pub use raw::grants;
/// Functions that have more arguments than they had.
pub use raw::grown;
/// A table as storage.
pub use raw::heap;
/// Indexes: sizes, definitions and predicates.
pub use raw::index;
/// Pages of a btree index, as bytes.
pub use raw::index_pages;
/// Locks that no SQL function can squat on.
pub use raw::lock;
/// Locks of relations, by their OIDs.
pub use raw::table_lock;
/// Columns and query of a view, and what DDL is about.
pub use raw::view;

// Processes and settings.

/// What happens when the caller's transaction commits.
pub use raw::commit;
/// A setting that is a plain variable.
pub use raw::guc;
/// Waiting in a procedure, without a snapshot.
pub use raw::procedure;
/// Other processes of this server, told from whoever has their number now.
pub use raw::process;
/// What clients are doing this moment.
pub use raw::sessions;
/// What the machine and the write-ahead log say.
pub use raw::system;
/// A utility statement on its way through the hooks.
pub use raw::utility;
/// Background workers: registration, start, signals, waiting.
pub use raw::worker;
