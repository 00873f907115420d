//! pg_upgrade along the line of versions, from the oldest that is supported to this one. On each a database is made, with
//! jobs in all their states and tables of ours, that has to hold at the end of the line.

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};

use super::{Passed, Suite, pg_upgrade_tables};
use crate::cluster::{Cluster, Stop};
use crate::command;
use crate::extension::Flavour;
use crate::jobs::{backfill_endlessly, end_endless_backfill, run_in_background, state, wait};
use crate::pg::{OLDEST, SUPERUSER};
use crate::prepare::Postgres;
use crate::session::Session;
use crate::testing::wait_for_text;
use crate::tree::Tree;

/// The versions before this one, each with the extension.
pub fn older(postgres: &Postgres) -> Result<Vec<Tree>> {
    (OLDEST..postgres.installation.major).map(|major| Postgres::of_version(major)?.tree(Flavour::Dev)).collect()
}

pub fn run(suite: &Suite) -> Result<Passed> {
    let [oldest, between @ ..] = &suite.older[..] else {
        return Ok(Passed::with(format!("0 upgrades: {OLDEST} is the oldest version that is supported")));
    };
    let here = suite.tree()?;
    let line = suite.older.iter().chain([here]).collect::<Vec<_>>();
    let mut text = upgrade_along(&line)?;
    if !between.is_empty() {
        text += &upgrade_along(&[oldest, here])?;
    }
    Ok(Passed::with(format!("{text}jobs wait, and go on when told to; soft delete and row stamps hold")))
}

/// What a database is called that was made on a version.
fn made_on(tree: &Tree) -> String {
    format!("made_on_{}", tree.pg.major)
}

fn upgrade_along(line: &[&Tree]) -> Result<String> {
    let steps = line.iter().map(|tree| tree.pg.version.as_str()).collect::<Vec<_>>().join(" -> ");
    let mut jobs = Vec::new();
    let mut cluster = cluster(line[0])?;
    for pair in line.windows(2) {
        let [from, to] = *pair else { unreachable!("windows of two") };
        let what = || format!("{steps}: from {} to {}", from.pg.version, to.pg.version);
        jobs.push(fill(&cluster, &made_on(from)).with_context(what)?);
        cluster = upgrade(cluster, to).with_context(what)?;
        for (&tree, jobs) in line.iter().zip(&jobs) {
            let check = || jobs.check_wait(&mut cluster.connect(&made_on(tree))?);
            check().with_context(|| format!("{}, {}", what(), made_on(tree)))?;
        }
    }
    for (&tree, jobs) in line.iter().zip(&jobs) {
        let mut session = cluster.connect(&made_on(tree))?;
        let check = pg_upgrade_tables::check(&mut session).and_then(|()| jobs.check_go_on(&mut session));
        check.with_context(|| format!("{steps}, {}", made_on(tree)))?;
    }
    Ok(steps + "\n")
}

/// A database with everything in it that is to be tried.
fn fill(cluster: &Cluster, database: &str) -> Result<Jobs> {
    let mut session = cluster.with_extension(database)?;
    let jobs = Jobs::start(&mut session)?;
    pg_upgrade_tables::create(&mut session)?;
    Ok(jobs)
}

/// Ends the old cluster; the new one is running.
fn upgrade(mut old: Cluster, new_tree: &Tree) -> Result<Cluster> {
    forget_option_of_newer_releases(&old)?;
    old.stop(Stop::Fast)?;
    let mut new = cluster(new_tree)?;
    new.stop(Stop::Fast)?;
    let mut pg_upgrade = new_tree.server_command("pg_upgrade");
    pg_upgrade.current_dir(new.scratch()).args(["--username", SUPERUSER, "--socketdir"]).arg(new.host());
    pg_upgrade.arg("--old-bindir").arg(&old.tree.pg.bin).arg("--new-bindir").arg(&new_tree.pg.bin);
    pg_upgrade.arg("--old-datadir").arg(old.data()).arg("--new-datadir").arg(new.data());
    command::capture(&mut pg_upgrade).with_context(|| errors_below(&new.data().join("pg_upgrade_output.d")))?;
    new.start()?;
    Ok(new)
}

/// The releases of November 2026 (15.20 among them) note a column option `pg_attver` for every column, which pg_dump then
/// writes and a release before that refuses to restore: upgrading from a newer release to an older one of the next major
/// version. Nothing that is to be tried here reads it.
fn forget_option_of_newer_releases(cluster: &Cluster) -> Result<()> {
    let databases =
        cluster.connect("postgres")?.values::<String>("SELECT datname FROM pg_database WHERE datallowconn")?;
    for database in databases {
        cluster.connect(&database)?.run(
            "SET allow_system_table_mods = on;
             UPDATE pg_attribute SET attoptions = NULL WHERE attoptions::text LIKE '{pg_attver=%}'",
        )?;
    }
    Ok(())
}

/// What its logs say: pg_upgrade itself names only the file.
fn errors_below(dir: &Path) -> String {
    let mut grep = std::process::Command::new("grep");
    command::capture(grep.args(["-rhi", "--include=*.log", "error:", "-A25"]).arg(dir)).unwrap_or_default()
}

/// Both must agree on checksums, which only newer versions turn on by themselves.
fn cluster(tree: &Tree) -> Result<Cluster> {
    let name = Cluster::unique_name(&tree.pg.feature());
    Cluster::builder(tree, &name).preloaded().initdb_option("--data-checksums").start()
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

    /// After an upgrade nothing goes on by itself.
    fn check_wait(&self, session: &mut Session) -> Result<()> {
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
        Ok(())
    }

    fn check_go_on(&self, session: &mut Session) -> Result<()> {
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
