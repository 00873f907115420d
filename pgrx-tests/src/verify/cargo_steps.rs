//! The steps that are cargo's own: format, lints, unit and client tests.

use std::process::Command;

use anyhow::{Result, bail};

use super::{Passed, Suite};
use crate::testing::TREE_VARIABLE;
use crate::{command, hostile, paths};

/// Client tests mostly wait for workers: more of them than cores keep both cores busy.
const CLIENT_THREADS: &str = "4";

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
    Ok(Passed { output: "no warnings".into() })
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

/// The part of the client suite that is hostile in every run: each verb, and what works in the background, in about five minutes.
const HOSTILE_CHOICE: &[&str] = &[
    "hostile",
    "soft_delete",
    "soft_delete_types",
    "soft_delete_unique",
    "soft_delete_purge",
    "verbs",
    "waiting",
    "commands",
    "schedules",
    "row_stamps",
    "index_cases",
    "query_reports",
    "databases",
    "privileges",
];

/// The client tests with traps in front of every name: a choice of them, or all.
pub fn hostile(suite: &Suite) -> Result<Passed> {
    let mut cargo = plain_cargo("test");
    cargo.args(["--package", "pg_upkeep-tests", "--no-fail-fast"]);
    if suite.full {
        cargo.arg("--tests");
    } else {
        cargo.args(HOSTILE_CHOICE.iter().flat_map(|name| ["--test", name]));
    }
    cargo.args(["--", "--test-threads", CLIENT_THREADS]);
    skip_what_cannot_be_hostile(&mut cargo);
    cargo.env(TREE_VARIABLE, &suite.tree()?.pg.pg_config).env("RUST_BACKTRACE", "0").env(hostile::VARIABLE, "1");
    let mut tested = passed(&mut cargo)?;
    tested.output += &format!("{} tests passed in hostile databases\n", count_passed(&tested.output));
    Ok(tested)
}

/// The harness's own unit tests, and the client tests on the prepared tree.
pub fn client(suite: &Suite) -> Result<Passed> {
    let mut cargo = plain_cargo("test");
    cargo.args(["--package", "pg_upkeep-tests", "--lib", "--tests", "--no-fail-fast"]);
    cargo.args(["--", "--test-threads", CLIENT_THREADS]);
    if hostile::wanted() {
        skip_what_cannot_be_hostile(&mut cargo);
    }
    // A failed test says what it saw; frames of the harness add nothing to that.
    cargo.env(TREE_VARIABLE, &suite.tree()?.pg.pg_config).env("RUST_BACKTRACE", "0");
    let mut tested = passed(&mut cargo)?;
    tested.output += &format!("{} client and harness tests passed\n", count_passed(&tested.output));
    Ok(tested)
}

fn skip_what_cannot_be_hostile(cargo: &mut Command) {
    cargo.args(hostile::SKIPPED.iter().flat_map(|(test, _)| ["--skip", test]));
}

/// The sum over the closing lines of several test binaries: "test result: ok. 20 passed; 0 failed; ...".
fn count_passed(output: &str) -> u32 {
    let closing = output.lines().filter_map(|line| line.strip_prefix("test result: ok. "));
    closing.filter_map(|line| line.split_whitespace().next()?.parse::<u32>().ok()).sum()
}

fn plain_cargo(subcommand: &str) -> Command {
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
    Ok(Passed { output: String::from_utf8_lossy(&output.stdout).into_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closing_lines_are_summed_up() {
        let output = "test result: ok. 20 passed; 0 failed;\n\ntest a ... ok\ntest result: ok. 3 passed; 0 failed;\n";
        assert_eq!(count_passed(output), 23);
    }
}
