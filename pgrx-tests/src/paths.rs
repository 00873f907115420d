//! Where things are in a clone.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// The clone's top directory. Cargo says where the package is at run time too, so a moved clone keeps working.
pub fn root() -> PathBuf {
    let package = std::env::var("CARGO_MANIFEST_DIR").ok().map(PathBuf::from).filter(|p| p.ends_with("pgrx-tests"));
    let package = package.unwrap_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")));
    package.parent().expect("the harness lives in a directory of the clone").to_owned()
}

/// The harness package.
pub fn harness() -> PathBuf {
    root().join("pgrx-tests")
}

/// Everything that can be thrown away.
pub fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), |dir| root().join(dir))
}

/// The version in the control file: the one CREATE EXTENSION installs.
pub fn extension_version() -> Result<String> {
    let control = fs::read_to_string(root().join("pg_upkeep.control"))?;
    let line = control.lines().find_map(|l| l.strip_prefix("default_version"));
    let version = line.and_then(|l| l.split('\'').nth(1)).map(str::to_owned);
    version.context("pg_upkeep.control has no default_version")
}

/// What users install: the script of this version, and those that lead to it from each older one.
pub fn scripts() -> Result<Vec<PathBuf>> {
    sql_files(&root().join("sql"))
}

/// Install scripts of older versions. An update needs none of them; a test that starts from an older version does.
pub fn frozen_scripts() -> Result<Vec<PathBuf>> {
    sql_files(&harness().join("frozen"))
}

fn sql_files(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).with_context(|| dir.display().to_string())? {
        let path = entry?.path();
        if path.extension().is_some_and(|e| e == "sql") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// The version of pgrx in the extension's manifest: the one that it is built with.
pub fn pgrx_version() -> anyhow::Result<String> {
    let manifest = std::fs::read_to_string(root().join("Cargo.toml"))?;
    let line = manifest.lines().find_map(|l| l.strip_prefix("pgrx = { version = \"="));
    let version = line.and_then(|l| l.split('"').next()).map(str::to_owned);
    version.ok_or_else(|| anyhow::anyhow!("Cargo.toml has no pgrx of an exact version"))
}
