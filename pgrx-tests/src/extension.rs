//! Building the extension.

use std::ffi::OsString;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::fetch::Toolbox;
use crate::pg::Installation;
use crate::{command, paths, tools};

/// A build of the extension, and the name of the tree it goes into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flavour {
    /// Fast to build, with the install scripts of older versions: what the tests run on.
    Dev,
    /// With the in-server tests compiled in.
    Tests,
    /// What users install, and no more: demo and measurements.
    Release,
    /// The same with what only tests have.
    ReleaseTests,
}

impl Flavour {
    fn has_tests(self) -> bool {
        matches!(self, Self::Tests | Self::ReleaseTests)
    }

    fn is_optimized(self) -> bool {
        matches!(self, Self::Release | Self::ReleaseTests)
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Dev => "dev",
            Self::Tests => "tests",
            Self::Release => "release",
            Self::ReleaseTests => "release-tests",
        }
    }
}

/// What goes into a PostgreSQL installation.
pub struct Artifacts {
    pub library: PathBuf,
    pub control: PathBuf,
    pub scripts: Vec<PathBuf>,
}

/// How to compile against one PostgreSQL.
#[derive(Clone)]
pub struct Compiler {
    pg: Installation,
    libclang: OsString,
    compiler_headers: String,
}

impl Compiler {
    pub fn new(pg: &Installation, toolbox: &Toolbox) -> Result<Self> {
        tools::CC.require()?;
        // The libclang wheel is the library alone; the compiler's own headers (stddef.h) come from the C compiler here.
        let headers = command::capture(Command::new("cc").arg("-print-file-name=include"))?;
        Ok(Self {
            pg: pg.clone(),
            libclang: std::env::var_os("LIBCLANG_PATH").unwrap_or_else(|| toolbox.libclang().into()),
            compiler_headers: headers.trim().to_owned(),
        })
    }

    /// One for all major versions: they share what does not depend on PostgreSQL, and cargo keeps what does apart by its
    /// feature. Only the extension itself is built again when another version had its turn.
    pub fn target(&self) -> PathBuf {
        paths::target().join("extension")
    }

    /// Held from a build to when its library is taken away: cargo puts each one at the same place.
    pub fn lock(&self) -> Result<File> {
        fs::create_dir_all(self.target())?;
        let lock = File::create(self.target().join("build.lock"))?;
        lock.lock()?;
        Ok(lock)
    }

    pub fn pg_config(&self) -> &Path {
        &self.pg.pg_config
    }

    /// `cargo SUBCOMMAND` for anything that compiles the extension.
    pub fn cargo(&self, subcommand: &str) -> Command {
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo.current_dir(paths::root()).arg(subcommand).arg("--target-dir").arg(self.target());
        self.set_environment(&mut cargo);
        cargo
    }

    pub fn set_environment(&self, cargo: &mut Command) {
        cargo
            .env("PGRX_PG_CONFIG_PATH", &self.pg.pg_config)
            .env("LIBCLANG_PATH", &self.libclang)
            .env("BINDGEN_EXTRA_CLANG_ARGS", format!("-I{}", self.compiler_headers))
            .env_remove("RUSTFLAGS");
    }

    /// `-p pg_upkeep` with the feature of this PostgreSQL and no other.
    pub fn package_args(&self, more_features: &str) -> Vec<String> {
        let features = format!("{} {more_features}", self.pg.feature());
        ["-p", "pg_upkeep", "--no-default-features", "--features", &features].map(str::to_owned).to_vec()
    }

    /// Builds and keeps a copy aside. The caller has the [`lock`](Self::lock).
    pub fn build(&self, flavour: Flavour) -> Result<Artifacts> {
        let mut cargo = self.cargo("build");
        cargo.arg("--lib").args(self.package_args(if flavour.has_tests() { "pg_test" } else { "" }));
        if flavour.is_optimized() {
            cargo.arg("--release");
        }
        command::show(&mut cargo).context("the extension does not build")?;
        let profile = if flavour.is_optimized() { "release" } else { "debug" };
        let library = self.target().join(format!("{}-{}.so", self.pg.feature(), flavour.name()));
        fs::copy(self.target().join(profile).join("libpg_upkeep.so"), &library)?;
        let mut scripts = paths::scripts()?;
        if !flavour.is_optimized() {
            scripts.extend(paths::frozen_scripts()?);
        }
        Ok(Artifacts { library, control: paths::root().join("pg_upkeep.control"), scripts })
    }
}
