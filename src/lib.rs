//! pg_upkeep: batched backfill and other upkeep of a PostgreSQL database, run inside the server.

pub mod backfill;
pub mod ddl;
pub mod error;
#[cfg(feature = "pg_test")]
mod in_server_tests;
pub mod indexes;
pub mod jobs;
pub mod page;
pub mod queries;
pub mod row_stamps;
pub mod schedules;
pub mod server;
pub mod settings;
pub mod soft_delete;

pgrx::pg_module_magic!(name, version);

pgrx::extension_sql_file!("../sql/schema/jobs/tables.sql", name = "jobs_tables");
pgrx::extension_sql_file!("../sql/schema/jobs/views.sql", name = "jobs_views", requires = ["backfill_functions"]);
pgrx::extension_sql_file!("../sql/schema/backfill/functions.sql", name = "backfill_functions", requires = ["jobs_tables"]);
pgrx::extension_sql_file!("../sql/schema/schedules/tables.sql", name = "schedules_tables", requires = ["jobs_views"]);
pgrx::extension_sql_file!("../sql/schema/indexes/facts.sql", name = "indexes_facts", requires = ["schedules_tables"]);
pgrx::extension_sql_file!("../sql/schema/indexes/verdicts.sql", name = "indexes_verdicts", requires = ["indexes_facts"]);
pgrx::extension_sql_file!("../sql/schema/indexes/usage.sql", name = "indexes_usage", requires = ["indexes_verdicts"]);
pgrx::extension_sql_file!("../sql/schema/indexes/superfluous.sql", name = "indexes_superfluous", requires = ["indexes_usage"]);
pgrx::extension_sql_file!("../sql/schema/indexes/missing.sql", name = "indexes_missing", requires = ["indexes_superfluous"]);
pgrx::extension_sql_file!("../sql/schema/indexes/report.sql", name = "indexes_report", requires = ["indexes_missing", "indexes_bloat"]);
pgrx::extension_sql_file!("../sql/schema/indexes/bloat.sql", name = "indexes_bloat", requires = ["indexes_missing"]);
pgrx::extension_sql_file!("../sql/schema/row_stamps/functions.sql", name = "row_stamps_functions", requires = ["indexes_report"]);
pgrx::extension_sql_file!("../sql/schema/soft_delete/functions.sql", name = "soft_delete_functions", requires = ["row_stamps_functions"]);
pgrx::extension_sql_file!("../sql/schema/soft_delete/purge.sql", name = "soft_delete_purge", requires = ["soft_delete_functions"]);
pgrx::extension_sql_file!("../sql/schema/soft_delete/unique_keys.sql", name = "soft_delete_unique_keys", requires = ["soft_delete_purge"]);
pgrx::extension_sql_file!("../sql/schema/soft_delete/ddl.sql", name = "soft_delete_ddl", requires = ["soft_delete_unique_keys"]);
pgrx::extension_sql_file!("../sql/schema/queries/tables.sql", name = "queries_tables", requires = ["soft_delete_ddl"]);
pgrx::extension_sql_file!("../sql/schema/queries/reports.sql", name = "queries_reports", requires = ["queries_tables"]);

#[allow(non_snake_case)]
#[pgrx::pg_guard]
pub extern "C-unwind" fn _PG_init() {
    server::raise::without_backtraces();
    settings::define();
    server::named::install();
    if server::worker::is_preloading() && !server::worker::is_binary_upgrade() {
        jobs::launcher::register();
        server::hooks::install();
    }
}
