//! The steps that are cargo's own: format, lints, unit tests and models.

use std::process::Command;

use anyhow::{Result, bail};

use super::{Passed, Suite};
use crate::{command, paths};

pub fn format() -> Result<Passed> {
    passed(plain_cargo("fmt").args(["--all", "--check"]))
}

pub fn clippy(suite: &Suite) -> Result<Passed> {
    let compiler = &suite.postgres.compiler;
    let feature = format!("pg_upkeep/{}", suite.postgres.installation.feature());
    let mut all = compiler.cargo("clippy");
    all.args(["--quiet", "--workspace", "--all-targets", "--no-default-features", "--features", &feature]);
    passed(all.args(["--", "-D", "warnings"]))?;
    // The in-server tests are compiled into the library only with their feature.
    let mut in_server = compiler.cargo("clippy");
    in_server.args(["--quiet", "--lib"]).args(compiler.package_args("pg_test"));
    passed(in_server.args(["--", "-D", "warnings"]))?;
    Ok(Passed::with("no warnings"))
}

pub fn unit(suite: &Suite) -> Result<Passed> {
    let compiler = &suite.postgres.compiler;
    passed(compiler.cargo("test").args(["--quiet", "--lib", "-p", "pg_upkeep_memory"]).args(compiler.package_args("")))
}

/// What processes share, in every order of their steps. Built apart: atomics are loom's there.
pub fn loom() -> Result<Passed> {
    let mut cargo = plain_cargo("test");
    cargo.args(["--quiet", "--release", "--lib", "-p", "pg_upkeep_memory", "--target-dir"]);
    cargo.arg(paths::target().join("loom")).env("RUSTFLAGS", "--cfg loom").env("RUST_BACKTRACE", "0");
    passed(&mut cargo)
}

pub fn plain_cargo(subcommand: &str) -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(paths::root()).arg(subcommand);
    cargo
}

/// Standard output is the runner's report, the other is cargo's progress: worth reading only after a failure.
fn passed(cargo: &mut Command) -> Result<Passed> {
    let output = command::output(cargo)?;
    if !output.status.success() {
        bail!("{} failed{}", command::describe(cargo), command::said(&output));
    }
    Ok(Passed::with(String::from_utf8_lossy(&output.stdout).into_owned()))
}
