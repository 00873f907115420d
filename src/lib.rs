//! pg_upkeep: batched backfill and other upkeep of a PostgreSQL database, run inside the server.

// `unsafe` lies in the raw/ of a room, which allows it to itself. Rules: docs/raw.md.
#![deny(unsafe_code, unsafe_op_in_unsafe_fn, ffi_unwind_calls)]

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
mod page;
mod quarantine;
mod queries;
mod row_stamps;
mod schedules;
mod server;
mod settings;
mod soft_delete;
mod sql;

pgrx::pg_module_magic!(name, version);

/// The kinds of job. Nothing else in the engine names them. Of two that share a name the more special one comes first.
static KINDS: [&dyn jobs::kind::Kind; 5] = [
    &schedules::ScheduledCommand,
    &jobs::command::Command,
    &backfill::Backfill,
    &soft_delete::purge::Purge,
    &soft_delete::unique_keys::UniqueKeys,
];

/// What a scheduler does on each look, in this order, besides starting executors.
static CHORES: [&dyn jobs::chore::Chore; 8] = [
    &jobs::chores::FOREIGN_JOBS,
    &jobs::chores::OWNERS,
    &jobs::chores::CLEAN_UP,
    &queries::Drain,
    &schedules::Due,
    &jobs::chores::OLD_JOBS,
    &jobs::chores::TOO_MANY,
    &jobs::chores::CANCELED,
];

pgrx::extension_sql_file!("../sql/schema/jobs.sql");
pgrx::extension_sql_file!("../sql/schema/job_views.sql", requires = ["backfill"]);
pgrx::extension_sql_file!("../sql/schema/backfill.sql", requires = ["jobs"]);
pgrx::extension_sql_file!("../sql/schema/schedules.sql", requires = ["job_views"]);
pgrx::extension_sql_file!("../sql/schema/indexes.sql", requires = ["schedules"]);
pgrx::extension_sql_file!("../sql/schema/index_usage.sql", requires = ["indexes"]);
pgrx::extension_sql_file!("../sql/schema/index_views.sql", requires = ["index_usage"]);
pgrx::extension_sql_file!("../sql/schema/index_shapes.sql", requires = ["index_views"]);
pgrx::extension_sql_file!("../sql/schema/index_keys.sql", requires = ["index_shapes"]);
pgrx::extension_sql_file!("../sql/schema/index_report.sql", requires = ["index_keys", "index_bloat"]);
pgrx::extension_sql_file!("../sql/schema/index_bloat.sql", requires = ["index_keys"]);
pgrx::extension_sql_file!("../sql/schema/row_stamps.sql", requires = ["index_report"]);
pgrx::extension_sql_file!("../sql/schema/soft_delete.sql", requires = ["row_stamps"]);
pgrx::extension_sql_file!("../sql/schema/soft_delete_purge.sql", requires = ["soft_delete"]);
pgrx::extension_sql_file!("../sql/schema/soft_delete_keys.sql", requires = ["soft_delete_purge"]);
pgrx::extension_sql_file!("../sql/schema/soft_delete_ddl.sql", requires = ["soft_delete_keys"]);
pgrx::extension_sql_file!("../sql/schema/query_stats.sql", requires = ["soft_delete_ddl"]);
pgrx::extension_sql_file!("../sql/schema/query_reports.sql", requires = ["query_stats"]);

#[allow(non_snake_case)]
#[pgrx::pg_guard]
pub extern "C-unwind" fn _PG_init() {
    server::raise::without_backtraces();
    settings::define();
    server::named::install();
    jobs::registry::register(&KINDS, &CHORES);
    if server::worker::is_preloading() && !server::worker::is_binary_upgrade() {
        jobs::launcher::register();
        hooks::install();
    }
}
