//! Other servers made from this one: standbys and restored dumps.

use std::fs;
use std::io::Write;
use std::process::Stdio;

use anyhow::{Context, Result, bail};

use super::{Cluster, PATIENCE};
use crate::pg::SUPERUSER;
use crate::session::Session;
use crate::wait::wait_until;
use crate::{command, hostile};

impl Cluster {
    /// A streaming standby, caught up once with what this server has now.
    pub fn standby(&self, name: &str) -> Result<Cluster> {
        let name = Self::unique_name(name);
        let mut standby = Cluster {
            tree: self.tree.clone(),
            dir: self.tree.room.clusters().join(&name),
            settings: self.settings.clone(),
            environment: self.environment.clone(),
            name,
            server: None,
            guardian: None,
            clock: None,
        };
        standby.make_dir(false)?;
        let primary = format!("host={} user={SUPERUSER} application_name={}", self.host().display(), standby.name());
        let mut backup = self.tree.server_command("pg_basebackup");
        backup.args(["--write-recovery-conf", "--checkpoint=fast", "--no-sync", "--dbname", &primary]);
        command::capture(backup.arg("--pgdata").arg(standby.data()))?;
        standby.start()?;
        self.wait_for_standby(&standby)?;
        Ok(standby)
    }

    /// Waits until the standby has replayed everything that this server has written by now.
    pub fn wait_for_standby(&self, standby: &Cluster) -> Result<()> {
        let here: String = self.connect("postgres")?.value("SELECT pg_current_wal_lsn()::text")?;
        let mut there = standby.connect("postgres")?;
        let replayed = format!("SELECT pg_last_wal_replay_lsn() >= '{here}'::pg_lsn");
        wait_until("the standby to catch up", PATIENCE, || there.value(&replayed).unwrap_or(false))
    }

    /// Makes a standby a primary of its own.
    pub fn promote(&self) -> Result<()> {
        let promoted: bool = self.connect("postgres")?.value("SELECT pg_promote(true)")?;
        if !promoted {
            bail!("the standby was not promoted in time");
        }
        Ok(())
    }

    /// Brings this stopped server back as a standby of the one that was promoted in its place. It needs `wal_log_hints`, and the WAL
    /// since before the two parted.
    pub fn rejoin(&mut self, promoted: &Cluster) -> Result<()> {
        // Before 16 pg_rewind takes the timeline from the control file, which knows the new one from the next checkpoint on.
        promoted.connect("postgres")?.run("CHECKPOINT")?;
        let source = format!("host={} user={SUPERUSER} dbname=postgres", promoted.host().display());
        let mut rewind = self.tree.server_command("pg_rewind");
        rewind.args(["--write-recovery-conf", "--no-sync", "--source-server", &source]);
        command::capture(rewind.arg("--target-pgdata").arg(self.data()))?;
        self.start()
    }

    /// pg_dump of a database, as a script.
    pub fn dump(&self, database: &str) -> Result<String> {
        let mut pg_dump = self.client_command("pg_dump", database);
        if hostile::wanted() {
            // The traps are in the new database already.
            pg_dump.arg("--exclude-schema=traps");
        }
        command::capture(&mut pg_dump)
    }

    /// Runs a dump in a new database of this server.
    pub fn restore(&self, database: &str, dump: &str) -> Result<()> {
        self.create_database(database)?;
        let mut psql = self.client_command("psql", database);
        psql.args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "-o", "/dev/null"]);
        let out = fs::File::create(self.scratch().join("restore.out"))?;
        let mut psql = psql.stdin(Stdio::piped()).stdout(out.try_clone()?).stderr(out).spawn()?;
        let fed = psql.stdin.take().context("psql has no input")?.write_all(dump.as_bytes());
        let status = psql.wait()?;
        if fed.is_err() || !status.success() {
            let said = fs::read_to_string(self.scratch().join("restore.out"))?;
            bail!("the dump cannot be restored:\n{said}");
        }
        Ok(())
    }

    pub fn create_database(&self, database: &str) -> Result<()> {
        let quoted = database.replace('"', "\"\"");
        let mut session = self.connect("postgres")?;
        session.run(&format!("CREATE DATABASE \"{quoted}\""))?;
        if hostile::wanted() {
            session.run(&format!("ALTER DATABASE \"{quoted}\" SET search_path = {}", hostile::SEARCH_PATH))?;
        }
        Ok(())
    }

    /// A session in a new database with the extension.
    pub fn with_extension(&self, database: &str) -> Result<Session> {
        self.create_database(database)?;
        let mut session = self.connect(database)?;
        session.run("CREATE EXTENSION pg_upkeep")?;
        Ok(session)
    }
}
