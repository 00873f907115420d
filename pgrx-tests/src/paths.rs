//! Where things are in a clone.

use std::path::PathBuf;

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
pub fn extension_version() -> anyhow::Result<String> {
    let control = std::fs::read_to_string(root().join("pg_upkeep.control"))?;
    let line = control.lines().find_map(|l| l.strip_prefix("default_version"));
    let version = line.and_then(|l| l.split('\'').nth(1)).map(str::to_owned);
    version.ok_or_else(|| anyhow::anyhow!("pg_upkeep.control has no default_version"))
}

/// The version of pgrx in the extension's manifest: the one that it is built with.
pub fn pgrx_version() -> anyhow::Result<String> {
    let manifest = std::fs::read_to_string(root().join("Cargo.toml"))?;
    let line = manifest.lines().find_map(|l| l.strip_prefix("pgrx = { version = \"="));
    let version = line.and_then(|l| l.split('"').next()).map(str::to_owned);
    version.ok_or_else(|| anyhow::anyhow!("Cargo.toml has no pgrx of an exact version"))
}
