//! pg_upgrade: a cluster of an older PostgreSQL, with jobs in all their states and tables of ours, becomes one of this version.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

use super::{Passed, Suite, pg_upgrade_tables};
use crate::cluster::{Cluster, SUPERUSER, Stop};
use crate::command;
use crate::extension::Flavour;
use crate::jobs::{backfill_endlessly, end_endless_backfill, run_in_background, state, wait};
use crate::pg::Installation;
use crate::prepare::Postgres;
use crate::session::Session;
use crate::testing::wait_for_text;
use crate::tree::Tree;

const DATABASE: &str = "shop";

pub fn run(suite: &Suite) -> Result<Passed> {
    let here = suite.postgres.installation.major;
    let Some(older) = oldest_installed(here) else {
        return Ok(Passed::with("0 upgrades: no older PostgreSQL with server headers is installed"));
    };
    let from = Postgres::new(Some(older))?;
    let old_tree = from.tree(Flavour::Dev)?;
    upgrade(&old_tree, suite.tree()?).with_context(|| format!("from {}", from.installation.version))?;
    Ok(Passed::with(format!(
        "from {} to {here}: jobs wait, and go on when told to; soft delete and row stamps hold",
        from.installation.version
    )))
}

/// The pg_config of Debian's oldest PostgreSQL before `major` that an extension can be built for.
fn oldest_installed(major: u32) -> Option<PathBuf> {
    (15..major).map(|old| PathBuf::from(format!("/usr/lib/postgresql/{old}/bin/pg_config"))).find(|pg_config| {
        let headers = command::capture(std::process::Command::new(pg_config).arg("--includedir-server"));
        headers.is_ok_and(|dir| Path::new(dir.trim()).exists() && Installation::from_pg_config(pg_config).is_ok())
    })
}

fn upgrade(old_tree: &Tree, new_tree: &Tree) -> Result<()> {
    let mut old = cluster(old_tree, "old")?;
    old.create_database(DATABASE)?;
    let mut session = old.connect(DATABASE)?;
    session.run("CREATE EXTENSION pg_upkeep")?;
    let jobs = Jobs::start(&mut session)?;
    pg_upgrade_tables::create(&mut session)?;
    forget_option_of_newer_releases(&mut session)?;
    drop(session);
    old.stop(Stop::Fast)?;

    let mut new = cluster(new_tree, "new")?;
    new.stop(Stop::Fast)?;
    let mut pg_upgrade = new_tree.server_command("pg_upgrade");
    pg_upgrade.current_dir(new.scratch()).args(["--username", SUPERUSER, "--socketdir"]).arg(new.host());
    pg_upgrade.arg("--old-bindir").arg(&old_tree.pg.bin).arg("--new-bindir").arg(&new_tree.pg.bin);
    pg_upgrade.arg("--old-datadir").arg(old.data()).arg("--new-datadir").arg(new.data());
    command::capture(&mut pg_upgrade).with_context(|| errors_below(&new.data().join("pg_upgrade_output.d")))?;

    new.start()?;
    let mut session = new.connect(DATABASE)?;
    pg_upgrade_tables::check(&mut session)?;
    jobs.check(&mut session)
}

/// The releases of November 2026 (15.20 among them) note a column option `pg_attver` for every column, which pg_dump then
/// writes and a release before that refuses to restore: upgrading from a newer release to an older one of the next major
/// version. Nothing that is to be tried here reads it.
fn forget_option_of_newer_releases(session: &mut Session) -> Result<()> {
    session.run(
        "SET allow_system_table_mods = on;
         UPDATE pg_attribute SET attoptions = NULL WHERE attoptions::text LIKE '{pg_attver=%}'",
    )
}

/// What its logs say: pg_upgrade itself names only the file.
fn errors_below(dir: &Path) -> String {
    let mut grep = std::process::Command::new("grep");
    command::capture(grep.args(["-rhi", "--include=*.log", "error:", "-A25"]).arg(dir)).unwrap_or_default()
}

/// Both must agree on checksums, which only newer versions turn on by themselves.
fn cluster(tree: &Tree, name: &str) -> Result<Cluster> {
    Cluster::builder(tree, &Cluster::unique_name(name)).preloaded().initdb_option("--data-checksums").start()
}

/// What is there before the upgrade.
struct Jobs {
    done: String,
    paused: String,
    running: String,
}

impl Jobs {
    fn start(session: &mut Session) -> Result<Self> {
        let done = run_in_background(session, "VACUUM")?;
        wait(session, &done)?;
        session.run("CREATE TABLE t AS SELECT g AS id, NULL::int AS n FROM generate_series(1, 1000) g")?;
        let paused = session.text("SELECT upkeep.backfill('t', 'n = id', 'n IS NULL', paused => true)")?;
        let (running, _) = backfill_endlessly(session)?;
        session.run(
            "CREATE TABLE ran (at timestamptz);
             SELECT upkeep.schedule('each second', '1 second', 'INSERT INTO ran VALUES (clock_timestamp())')",
        )?;
        wait_for_text(session, "SELECT count(*) > 0 FROM ran", "t")?;
        Ok(Self { done, paused, running })
    }

    fn check(&self, session: &mut Session) -> Result<()> {
        ensure!(state(session, &self.done)? == "done", "a finished job is part of the history");
        for job in [&self.paused, &self.running] {
            let seen =
                session.text(&format!("SELECT state || ': ' || wait_reason FROM upkeep.jobs WHERE id = '{job}'"))?;
            if seen != "paused: restored" {
                bail!("after pg_upgrade job {job} is \"{seen}\" instead of paused");
            }
        }
        let schedule =
            session.text("SELECT active || ' ' || paused_reason FROM upkeep.schedules WHERE name = 'each second'")?;
        ensure!(schedule == "false restored", "after pg_upgrade the schedule is \"{schedule}\"");
        let runs = session.text("SELECT count(*) FROM ran")?;
        ensure!(
            session.text("SELECT upkeep.resume_all()")? == "4",
            "both jobs, the schedule and the retention may go on"
        );
        wait_for_text(session, &format!("SELECT count(*) > {runs} FROM ran"), "t")?;
        wait(session, &self.paused)?;
        ensure!(session.text("SELECT count(*) FROM t WHERE n = id")? == "1000", "the paused backfill is finished here");
        end_endless_backfill(session, &self.running)
    }
}
