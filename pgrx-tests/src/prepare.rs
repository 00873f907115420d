//! From a clone to a private PostgreSQL with the extension in it.

use std::fs::{self, File};
use std::path::PathBuf;

use anyhow::Result;

use crate::args::Args;
use crate::extension::{Compiler, Flavour};
use crate::fetch::Toolbox;
use crate::pg::Installation;
use crate::tree::Tree;

/// The PostgreSQL to work on: the fetched one, or the one behind `--pg-config`.
pub struct Postgres {
    pub installation: Installation,
    pub compiler: Compiler,
    /// Libraries that must be copied along with the fetched PostgreSQL.
    libraries: Option<PathBuf>,
}

impl Postgres {
    pub fn from_args(args: &mut Args) -> Result<Self> {
        Self::new(args.value("--pg-config")?.map(PathBuf::from))
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
        fs::create_dir_all(self.compiler.target())?;
        // Two of us at once must not take each other's library from between build and copy.
        let lock = File::create(self.compiler.target().join("tree.lock"))?;
        lock.lock()?;
        let artifacts = self.compiler.build(flavour)?;
        let tree = Tree::copy(&self.installation, self.libraries.as_deref(), flavour.name())?;
        tree.install(&artifacts)?;
        Ok(tree)
    }
}
