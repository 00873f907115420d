//! What the client tests in `tests/` start from: a fresh database on a server that a test binary's tests share, or a server
//! of one's own for those that break things.

use std::path::PathBuf;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use anyhow::{Context, Result};

use crate::cluster::{Cluster, ClusterBuilder, PATIENCE};
use crate::extension::Flavour;
use crate::prepare::Postgres;
use crate::session::Session;
use crate::tree::Tree;
use crate::wait::wait_until;
use crate::{hostile, overdue};

/// Names the tree to test: its `pg_config`. `cargo verify` sets it; without it the embedded PostgreSQL is prepared.
pub const TREE_VARIABLE: &str = "UPKEEP_TREE";

/// The prepared PostgreSQL with the extension in it.
pub fn tree() -> &'static Tree {
    static TREE: OnceLock<Tree> = OnceLock::new();
    TREE.get_or_init(|| {
        overdue::watch();
        let tree = match std::env::var_os(TREE_VARIABLE) {
            Some(pg_config) => Tree::open(&PathBuf::from(pg_config)),
            None => Postgres::new(None).and_then(|pg| pg.tree(Flavour::Dev)),
        };
        tree.expect("a PostgreSQL to test with")
    })
}

/// A server of one's own, to be configured, started, crashed: `server("crash").preloaded().start()?`.
pub fn server(name: &str) -> ClusterBuilder {
    // What else a busy machine does must not decide which tests pass; nor do jobs give way to a test that waits for them.
    Cluster::builder(tree(), &Cluster::unique_name(name)).set("upkeep.worker_nice", 0).set("upkeep.max_slowdown", 0)
}

/// A fresh database with the extension, on a shared server that preloads it.
pub fn database() -> Result<Database> {
    static SHARED: OnceLock<Cluster> = OnceLock::new();
    // Tests run side by side: none waits for the workers of another.
    let shared = || server("shared").preloaded().set("upkeep.max_workers", 16).start();
    fresh(SHARED.get_or_init(|| shared().expect("the shared server")))
}

/// A fresh database with the extension, on a shared server that knows nothing of it.
pub fn database_without_preload() -> Result<Database> {
    static SHARED: OnceLock<Cluster> = OnceLock::new();
    fresh(SHARED.get_or_init(|| server("plain").start().expect("the shared server without preload")))
}

/// A database that lives as long as this value: hold it in a variable until the test's last session is done.
#[must_use]
pub struct Database {
    pub server: &'static Cluster,
    pub name: String,
    /// Where the server's log was when it was made, or since when it counts.
    log: AtomicU64,
}

fn fresh(server: &'static Cluster) -> Result<Database> {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let name = format!("test_{}", COUNT.fetch_add(1, Ordering::Relaxed));
    let database = Database { server, name, log: server.log_position().into() };
    server.with_extension(&database.name)?;
    Ok(database)
}

impl Database {
    /// A session of the superuser.
    pub fn connect(&self) -> Result<Session> {
        self.server.connect(&self.name)
    }

    pub fn connect_as(&self, role: &str) -> Result<Session> {
        self.server.connect_as(&self.name, role)
    }

    /// What the server logged since this database was made.
    pub fn log(&self) -> String {
        self.server.log_since(self.log.load(Ordering::Relaxed))
    }

    /// The traps that were set off by now were meant to be.
    pub fn forgive(&self) {
        self.log.store(self.server.log_position(), Ordering::Relaxed);
    }

    /// A login role that no other test has. Roles belong to the whole server, hence the suffix.
    pub fn role(&self, name: &str) -> Result<String> {
        let role = format!("{name}_{}", self.name);
        self.connect()?.run(&format!("CREATE ROLE {role} LOGIN; GRANT CREATE ON SCHEMA public TO {role}"))?;
        Ok(role)
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        // A database that cannot be dropped is a defect, but one that its own test must show.
        let drop = format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name);
        let _ = self.server.connect("postgres").and_then(|mut s| s.run(&drop));
        if hostile::wanted() {
            hostile::complain(&hostile::judge(&self.log(), Some(&self.name)));
        }
    }
}

/// Process ids of this server's workers of a kind: "launcher", "scheduler" or "executor".
pub fn workers(session: &mut Session, kind: &str) -> Result<Vec<i32>> {
    session.values(&format!(
        "SELECT pid FROM pg_catalog.pg_stat_activity WHERE backend_type = 'pg_upkeep {kind}' ORDER BY backend_start"
    ))
}

/// Waits until a query gives this text.
pub fn wait_for_text(session: &mut Session, sql: &str, wanted: &str) -> Result<()> {
    let mut last = String::new();
    let reached = wait_until(&format!("{wanted} from: {sql}"), PATIENCE, || {
        last = session.text(sql).unwrap_or_else(|error| format!("{error:#}"));
        last == wanted
    });
    reached.with_context(|| format!("it gives: {last}"))
}
