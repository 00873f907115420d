//! pg_upkeep: batched backfill and other upkeep of a PostgreSQL database, run inside the server.

// `unsafe` lies in the raw/ of a room, which allows it to itself. Rules: docs/raw.md.
#![deny(unsafe_code, unsafe_op_in_unsafe_fn, ffi_unwind_calls, clippy::undocumented_unsafe_blocks)]

#[cfg(not(panic = "unwind"))]
compile_error!("errors of the server are caught as panics: panic = \"abort\" would end the whole server");

mod backfill;
mod calls;
mod ddl;
mod error;
mod hooks;
#[cfg(feature = "pg_test")]
mod in_server_tests;
mod indexes;
mod jobs;
#[cfg(feature = "pg_test")]
mod outside;
mod page;
mod quarantine;
mod queries;
mod retired;
mod row_stamps;
mod schedules;
mod server;
mod settings;
mod soft_delete;
mod sql;

pgrx::pg_module_magic!(name, version);

/// The kinds of job. The engine names none of them. Of two that share a name the more special one comes first.
static KINDS: [&dyn jobs::kind::Kind; 5] = [
    &schedules::ScheduledCommand,
    &jobs::command::Command,
    &backfill::Backfill,
    &soft_delete::purge::Purge,
    &soft_delete::unique_keys::UniqueKeys,
];

/// What a scheduler does on each look, in this order, besides starting executors.
static CHORES: [&dyn jobs::chore::Chore; 10] = [
    &jobs::chores::FOREIGN_JOBS,
    &jobs::chores::OWNERS,
    &jobs::chores::CLEAN_UP,
    &jobs::chores::CHILDREN,
    &queries::Drain,
    &schedules::Due,
    &jobs::chores::OLD_JOBS,
    &jobs::chores::TOO_MANY,
    &jobs::chores::CANCELED,
    &jobs::slowdown::unpaced::Unpaced,
];

/// What the application feels of jobs is known from what is counted of its statements.
static CLIENTS: &dyn jobs::slowdown::Clients = &queries::Counted;

/// The SQL files, in the order in which CREATE EXTENSION runs them: each requires the one above it.
macro_rules! schema {
    ($name:literal: $file:literal, $($rest:tt)*) => {
        pgrx::extension_sql_file!($file, name = $name);
        schema!(after $name, $($rest)*);
    };
    (after $above:literal, $name:literal: $file:literal, $($rest:tt)*) => {
        pgrx::extension_sql_file!($file, name = $name, requires = [$above]);
        schema!(after $name, $($rest)*);
    };
    (after $last:literal,) => {};
}

schema! {
    "jobs_tables": "../sql/schema/jobs/tables.sql",
    "quarantine_tables": "../sql/schema/quarantine/tables.sql",
    "backfill_tables": "../sql/schema/backfill/tables.sql",
    "jobs_views": "../sql/schema/jobs/views.sql",
    "jobs_functions": "../sql/schema/jobs/functions.sql",
    "backfill_functions": "../sql/schema/backfill/functions.sql",
    "schedules_tables": "../sql/schema/schedules/tables.sql",
    "schedules_views": "../sql/schema/schedules/views.sql",
    "schedules_functions": "../sql/schema/schedules/functions.sql",
    "indexes_facts": "../sql/schema/indexes/facts.sql",
    "indexes_verdicts": "../sql/schema/indexes/verdicts.sql",
    "indexes_usage": "../sql/schema/indexes/usage.sql",
    "indexes_superfluous": "../sql/schema/indexes/superfluous.sql",
    "indexes_missing": "../sql/schema/indexes/missing.sql",
    "indexes_bloat": "../sql/schema/indexes/bloat.sql",
    "indexes_report": "../sql/schema/indexes/report.sql",
    "row_stamps_functions": "../sql/schema/row_stamps/functions.sql",
    "soft_delete_tables": "../sql/schema/soft_delete/tables.sql",
    "soft_delete_functions": "../sql/schema/soft_delete/functions.sql",
    "soft_delete_triggers": "../sql/schema/soft_delete/triggers.sql",
    "soft_delete_views": "../sql/schema/soft_delete/views.sql",
    "soft_delete_purge": "../sql/schema/soft_delete/purge.sql",
    "soft_delete_unique_keys": "../sql/schema/soft_delete/unique_keys.sql",
    "soft_delete_ddl": "../sql/schema/soft_delete/ddl.sql",
    "queries_tables": "../sql/schema/queries/tables.sql",
    "queries_stats": "../sql/schema/queries/stats.sql",
    "queries_reports": "../sql/schema/queries/reports.sql",
}

#[allow(non_snake_case)]
#[pgrx::pg_guard]
pub extern "C-unwind" fn _PG_init() {
    server::raise::without_backtraces();
    settings::define();
    server::named::install();
    server::grown::install();
    #[cfg(not(feature = "pg_test"))]
    jobs::registry::register(&KINDS, &CHORES, CLIENTS);
    #[cfg(feature = "pg_test")]
    outside::register(&KINDS, &CHORES, CLIENTS);
    if server::worker::is_preloading() && !server::worker::is_binary_upgrade() {
        jobs::launcher::register();
        hooks::install();
    }
    soft_delete::raw::callbacks::install();
}
