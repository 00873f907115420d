//! `examples/accounts`: its own tests, in Python with SQLAlchemy, Alembic and psycopg, for each way of hiding deleted rows.

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::{Passed, Suite};
use crate::cluster::Cluster;
use crate::pg::SUPERUSER;
use crate::{command, paths, tools};

const HIDES: [&str; 2] = ["live_view", "swap"];

pub fn run(suite: &Suite) -> Result<Passed> {
    let python = environment()?;
    let cluster = Cluster::builder(suite.tree()?, &Cluster::unique_name("accounts")).preloaded().start()?;
    let mut text = String::new();
    for hide in HIDES {
        let database = format!("accounts_{hide}_test");
        cluster.create_database(&database)?;
        cluster.connect(&database)?.run("CREATE EXTENSION pg_upkeep")?;
        let url = format!("postgresql+psycopg://{SUPERUSER}@/{database}?host={}", cluster.host().display());
        let mut tests = Command::new(&python);
        tests.current_dir(example()).args(["-B", "-W", "error::ResourceWarning", "-m", "unittest", "test_accounts"]);
        tests.env("ACCOUNTS_URL", url).env("ACCOUNTS_HIDE", hide);
        let run = command::output(&mut tests)?;
        let said = String::from_utf8_lossy(&run.stderr);
        ensure!(run.status.success(), "hide = {hide}:\n{said}");
        let count = said.lines().find(|line| line.starts_with("Ran ")).context("no tests were run")?;
        writeln!(text, "hide = {hide}: {count}")?;
    }
    Ok(Passed::with(text))
}

fn example() -> PathBuf {
    paths::root().join("examples/accounts")
}

/// The Python of an environment with what the example requires; made once, and again when that changes.
fn environment() -> Result<PathBuf> {
    let wanted = fs::read_to_string(example().join("requirements.txt"))?;
    let venv = paths::target().join("accounts-venv");
    let (python, stamp) = (venv.join("bin/python"), venv.join("requirements.txt"));
    if fs::read_to_string(&stamp).is_ok_and(|installed| installed == wanted) {
        return Ok(python);
    }
    tools::PYTHON.require()?;
    command::capture(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&venv))
        .with_context(|| tools::PYTHON.missing().replace("python3 is", "python3 with venv is"))?;
    let mut pip = Command::new(&python);
    pip.args(["-m", "pip", "--quiet", "--disable-pip-version-check", "install", "--only-binary=:all:"]);
    pip.args(["--require-hashes", "--no-deps", "--requirement"]).arg(example().join("requirements.txt"));
    command::capture(&mut pip).context("could not fetch SQLAlchemy, Alembic and psycopg from PyPI")?;
    // The stamp comes last: an interrupted fetch is simply repeated.
    fs::write(stamp, wanted)?;
    Ok(python)
}
