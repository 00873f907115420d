//! A PostgreSQL installation, as its `pg_config` describes it.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::command;

/// The supported major versions.
pub const OLDEST: u32 = 15;
pub const NEWEST: u32 = 18;

/// The role that a new cluster has.
pub const SUPERUSER: &str = "postgres";

#[derive(Clone, Debug)]
pub struct Installation {
    pub pg_config: PathBuf,
    /// "15.20", "18.6"
    pub version: String,
    pub major: u32,
    pub bin: PathBuf,
    pub pkglib: PathBuf,
    pub share: PathBuf,
    /// Where libpq is.
    pub lib: PathBuf,
}

impl Installation {
    pub fn from_pg_config(pg_config: &Path) -> Result<Self> {
        let asked = ["--version", "--bindir", "--pkglibdir", "--sharedir", "--libdir"];
        let answers = command::capture(Command::new(pg_config).args(asked))
            .with_context(|| format!("{} does not answer", pg_config.display()))?;
        let [version, bin, pkglib, share, lib] = answers.lines().collect::<Vec<_>>()[..] else {
            bail!("{} answers in a way that is not understood: {answers}", pg_config.display());
        };
        let (version, major) = parse_version(version)?;
        if !(OLDEST..=NEWEST).contains(&major) {
            bail!("pg_upkeep supports PostgreSQL {OLDEST} to {NEWEST}, {} is {version}", pg_config.display());
        }
        let bin = PathBuf::from(bin);
        Ok(Self {
            // Debian's /usr/bin/pg_config is a wrapper of many versions; the one beside the server is the real one.
            pg_config: Some(bin.join("pg_config")).filter(|p| p.exists()).unwrap_or_else(|| pg_config.to_owned()),
            version,
            major,
            bin,
            pkglib: pkglib.into(),
            share: share.into(),
            lib: lib.into(),
        })
    }

    /// The one that a package has installed where Debian puts it, if an extension can be built for it.
    pub fn of_package(major: u32) -> Option<PathBuf> {
        let pg_config = PathBuf::from(format!("/usr/lib/postgresql/{major}/bin/pg_config"));
        let headers = command::capture(Command::new(&pg_config).arg("--includedir-server")).ok()?;
        let complete = Path::new(headers.trim()).exists() && Self::from_pg_config(&pg_config).is_ok();
        complete.then_some(pg_config)
    }

    /// The extension's cargo feature for this version.
    pub fn feature(&self) -> String {
        format!("pg{}", self.major)
    }

    pub fn isolation_runner(&self) -> PathBuf {
        self.pkglib.join("pgxs/src/test/isolation/pg_isolation_regress")
    }

    pub fn regress_runner(&self) -> PathBuf {
        self.pkglib.join("pgxs/src/test/regress/pg_regress")
    }
}

/// "PostgreSQL 15.20 (Debian 15.20-0+deb12u1)" -> ("15.20", 15). Also "18beta1" and "18devel".
fn parse_version(line: &str) -> Result<(String, u32)> {
    let version = line.split_whitespace().nth(1).context("pg_config gives no version")?;
    let digits: String = version.chars().take_while(char::is_ascii_digit).collect();
    Ok((version.to_owned(), digits.parse().with_context(|| format!("version {version}"))?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions() {
        assert_eq!(parse_version("PostgreSQL 15.20 (Debian 15.20-0+deb12u1)").unwrap(), ("15.20".into(), 15));
        assert_eq!(parse_version("PostgreSQL 18beta1").unwrap(), ("18beta1".into(), 18));
        assert!(parse_version("PostgreSQL").is_err());
    }
}
