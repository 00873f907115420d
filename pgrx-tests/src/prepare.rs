//! From a clone to a private PostgreSQL with the extension in it.

use std::path::PathBuf;

use anyhow::{Result, bail};

use crate::args::Args;
use crate::extension::{Compiler, Flavour};
use crate::fetch::{self, Toolbox};
use crate::pg::{Installation, NEWEST, OLDEST};
use crate::tree::Tree;

/// The PostgreSQL to work on: the newest, that of `--version`, or the one behind `--pg-config`.
pub struct Postgres {
    pub installation: Installation,
    pub compiler: Compiler,
    /// Libraries that must be copied along with the fetched PostgreSQL.
    libraries: Option<PathBuf>,
}

impl Postgres {
    pub fn from_args(args: &mut Args) -> Result<Self> {
        match (args.value("--pg-config")?, args.parsed("--version")?) {
            (Some(_), Some(_)) => bail!("--version and --pg-config each name a PostgreSQL: give one of them"),
            (Some(pg_config), None) => Self::new(Some(pg_config.into())),
            (None, version) => Self::of_version(version.unwrap_or(NEWEST)),
        }
    }

    /// The newest is always the fetched one; an older one is that of an installed package, and fetched where there is none.
    pub fn of_version(major: u32) -> Result<Self> {
        match major {
            NEWEST => Self::new(None),
            OLDEST..NEWEST => Self::new(Some(Installation::of_package(major).map_or_else(|| fetch::older(major), Ok)?)),
            _ => bail!("pg_upkeep supports PostgreSQL {OLDEST} to {NEWEST}, not {major}"),
        }
    }

    pub fn new(pg_config: Option<PathBuf>) -> Result<Self> {
        let toolbox = Toolbox::ready()?;
        let libraries = pg_config.is_none().then(|| toolbox.bundled_libraries());
        let installation = Installation::from_pg_config(&pg_config.unwrap_or_else(|| toolbox.pg_config()))?;
        let compiler = Compiler::new(&installation, &toolbox)?;
        Ok(Self { installation, compiler, libraries })
    }

    /// A private tree with this build of the extension.
    pub fn tree(&self, flavour: Flavour) -> Result<Tree> {
        let _lock = self.compiler.lock()?;
        let artifacts = self.compiler.build(flavour)?;
        let tree = Tree::copy(&self.installation, self.libraries.as_deref(), flavour.name())?;
        tree.install(&artifacts)?;
        Ok(tree)
    }
}
