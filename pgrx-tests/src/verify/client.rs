//! The steps that run the client tests, as they are and in hostile databases.
//!
//! A test that failed runs once more, alone. If it passes then, the step passes, and the report tells it at its end: it is a defect all
//! the same, and many of them fail the run.

use std::collections::BTreeSet;
use std::process::{Command, Output};

use anyhow::{Result, bail};

use super::cargo_steps::plain_cargo;
use super::{Flaky, Passed, Suite, smoke};
use crate::testing::TREE_VARIABLE;
use crate::{command, hostile};

/// Client tests mostly wait for workers: more of them than cores keep both cores busy.
const THREADS: &str = "4";

/// The part of the client suite that is hostile in every run: each verb, and what works in the background, in about five minutes.
const HOSTILE_CHOICE: &[&str] = &[
    "house/hostile",
    "soft_delete/rows",
    "soft_delete/types",
    "soft_delete/unique",
    "soft_delete/purge",
    "jobs/verbs",
    "jobs/waiting",
    "jobs/commands",
    "schedules/runs",
    "row_stamps/stamps",
    "indexes/cases",
    "queries/reports",
    "jobs/databases",
    "house/privileges",
];

/// The client tests with traps in front of every name: a choice of them, or all.
pub fn hostile(suite: &Suite) -> Result<Passed> {
    let binaries = match suite.full {
        true => vec!["--tests"],
        false => HOSTILE_CHOICE.iter().flat_map(|name| ["--test", name]).collect(),
    };
    run(suite, &binaries, &[], true, "tests passed in hostile databases")
}

/// The harness's own unit tests, and the client tests on the prepared tree.
pub fn client(suite: &Suite) -> Result<Passed> {
    run(suite, &["--lib", "--tests"], &[], hostile::wanted(), "client and harness tests passed")
}

/// The client tests that tell whether a version holds.
pub fn smoke(suite: &Suite) -> Result<Passed> {
    let binaries: Vec<_> = smoke::files().flat_map(|file| ["--test", file]).collect();
    run(suite, &binaries, &smoke::tests()?, hostile::wanted(), "of the client tests passed")
}

/// All tests of these binaries, or the named ones.
fn run(suite: &Suite, binaries: &[&str], names: &[&str], hostile: bool, what: &str) -> Result<Passed> {
    let cargo = || -> Result<Command> {
        let mut cargo = plain_cargo("test");
        cargo.args(["--package", "pg_upkeep-tests", "--no-fail-fast"]).args(binaries).arg("--");
        if hostile {
            cargo.args(hostile::SKIPPED.iter().flat_map(|(test, _)| ["--skip", test])).env(hostile::VARIABLE, "1");
        }
        // A failed test says what it saw; frames of the harness add nothing to that.
        cargo.env(TREE_VARIABLE, &suite.tree()?.pg.pg_config).env("RUST_BACKTRACE", "0");
        Ok(cargo)
    };
    let mut all = cargo()?;
    if !names.is_empty() {
        all.arg("--exact").args(names);
    }
    let first = command::output(all.args(["--test-threads", THREADS]))?;
    let output = String::from_utf8_lossy(&first.stdout).into_owned();
    let count = count_passed(&output);
    let mut flaky = Vec::new();
    if !first.status.success() {
        let failed = failed_tests(&first);
        if !failed.is_empty() {
            let mut again = cargo()?;
            let again = command::output(again.args(["--exact", "--test-threads", "1"]).args(&failed))?;
            if again.status.success() {
                flaky = failed.iter().map(|test| Flaky { test: test.clone(), said: said(&output, test) }).collect();
            }
        }
        if flaky.is_empty() {
            bail!("cargo test failed ({}){}", first.status, command::said(&first));
        }
    }
    let count = count + flaky.len() as u32;
    Ok(Passed { output: format!("{output}{count} {what}\n"), flaky })
}

/// The tests that failed, if that is all that went wrong: none if a program did not come to its closing line or was not built.
fn failed_tests(run: &Output) -> BTreeSet<String> {
    let (said, cargo) = (String::from_utf8_lossy(&run.stdout), String::from_utf8_lossy(&run.stderr));
    let programs: BTreeSet<_> = cargo.split('`').filter(|part| part.starts_with("-p pg_upkeep-tests")).collect();
    if programs.len() != said.lines().filter(|line| line.starts_with("test result: FAILED")).count() {
        return BTreeSet::new();
    }
    let names = said.lines().filter_map(|line| line.strip_prefix("test ")?.strip_suffix(" ... FAILED"));
    names.map(str::to_owned).collect()
}

/// What a failed test printed.
fn said(output: &str, test: &str) -> String {
    let head = format!("---- {test} stdout ----");
    let lines = output.lines().skip_while(|line| *line != head).skip(1);
    lines.take_while(|line| !line.starts_with("---- ") && *line != "failures:").collect::<Vec<_>>().join("\n")
}

/// The sum over the closing lines of several test programs: "test result: ok. 20 passed; 0 failed; ...".
fn count_passed(output: &str) -> u32 {
    let closing = output.lines().filter_map(|line| line.strip_prefix("test result: ")?.split_once(". "));
    closing.filter_map(|(_, counts)| counts.split_whitespace().next()?.parse::<u32>().ok()).sum()
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;
    use std::process::ExitStatus;

    use super::*;

    const RUN: &str = "test a ... ok\ntest b ... FAILED\n\nfailures:\n\n---- b stdout ----\nboom\n\nfailures:\n    b\n\n\
        test result: FAILED. 1 passed; 1 failed;\n\ntest c ... ok\ntest result: ok. 3 passed; 0 failed;\n";

    fn ended(cargo: &str) -> Output {
        Output { status: ExitStatus::from_raw(256), stdout: RUN.into(), stderr: cargo.into() }
    }

    #[test]
    fn a_run_is_read() {
        assert_eq!(count_passed(RUN), 4);
        assert_eq!(said(RUN, "b"), "boom\n");
    }

    #[test]
    fn only_tests_that_failed_are_run_again() {
        let one = "error: test failed, to rerun pass `-p pg_upkeep-tests --test x`\nerror: 1 target failed:\n    `-p pg_upkeep-tests --test x`";
        assert_eq!(failed_tests(&ended(one)).into_iter().collect::<Vec<_>>(), ["b"]);
        // A program that crashed has no closing line.
        let two = format!("{one}\n    `-p pg_upkeep-tests --test y`");
        assert!(failed_tests(&ended(&two)).is_empty());
    }
}
