//! The steps that run the client tests, as they are and in hostile databases.
//!
//! A test that failed runs once more, alone. If it passes then, the step passes, and the report tells it at its end: it is a defect all
//! the same, and many of them fail the run.

use std::collections::BTreeSet;
use std::process::{Command, Output};
use std::time::Duration;

use anyhow::{Result, bail};

use super::cargo_steps::plain_cargo;
use super::client_tests::{self, Test};
use super::{Flaky, Passed, Suite, smoke, stuck};
use crate::command::{self, Watched};
use crate::hostile;
use crate::testing::TREE_VARIABLE;

/// Client tests mostly wait for workers: more of them than cores keep both cores busy.
const THREADS: &str = "4";

/// Much longer than any test takes, or the compiler for one program of tests: what is silent for so long hangs.
const SILENCE: Duration = Duration::from_secs(600);

/// The files of client tests that are hostile in every run: each verb, and what works in the background, in about five minutes.
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
    let chosen = || HOSTILE_CHOICE.iter().map(|file| client_tests::of_file(file)).collect::<Result<Vec<_>>>();
    let chosen = if suite.full { None } else { Some(chosen()?.concat()) };
    run(suite, chosen, true, "tests passed in hostile databases")
}

/// The harness's own unit tests, and the client tests on the prepared tree.
pub fn client(suite: &Suite) -> Result<Passed> {
    run(suite, None, hostile::wanted(), "client and harness tests passed")
}

/// The client tests that tell whether a version holds.
pub fn smoke(suite: &Suite) -> Result<Passed> {
    run(suite, Some(smoke::tests()?), hostile::wanted(), "of the client tests passed")
}

/// All tests, or the chosen ones.
fn run(suite: &Suite, chosen: Option<Vec<Test>>, hostile: bool, what: &str) -> Result<Passed> {
    let first = cargo_test(suite, chosen.as_deref(), hostile, THREADS)?;
    let output = String::from_utf8_lossy(&first.stdout).into_owned();
    let count = count_passed(&output);
    let mut flaky = Vec::new();
    if !first.status.success() {
        let failed = failed_tests(&first);
        if failed.is_empty() {
            bail!("cargo test failed ({}){}", first.status, command::said(&first));
        }
        let again = cargo_test(suite, Some(&failed), hostile, "1")?;
        if !again.status.success() {
            let (first_said, said) = (command::said(&first), command::said(&again));
            bail!("cargo test failed ({}){first_said}\nand once more, alone:{said}", first.status);
        }
        flaky = failed.iter().map(|test| Flaky { test: test.to_string(), said: said(&output, &test.name) }).collect();
    }
    let count = count + flaky.len() as u32;
    Ok(Passed { output: format!("{output}{count} {what}\n"), flaky })
}

/// Runs them. Tests that hang are an error, which says what they were at.
fn cargo_test(suite: &Suite, chosen: Option<&[Test]>, hostile: bool, threads: &str) -> Result<Output> {
    let mut cargo = command_of(suite, chosen, hostile, threads)?;
    let room = &suite.tree()?.room;
    let Watched { output, hung } = command::watch(&mut cargo, SILENCE, || stuck::sessions(room))?;
    if let Some(sessions) = hung {
        let said = String::from_utf8_lossy(&output.stdout);
        let tests = stuck::tests(&said);
        bail!(
            "{}\nnothing was said for {SILENCE:?}; not ended: {}\n{sessions}",
            command::said(&output),
            tests.join(", ")
        );
    }
    Ok(output)
}

fn command_of(suite: &Suite, chosen: Option<&[Test]>, hostile: bool, threads: &str) -> Result<Command> {
    let mut cargo = plain_cargo("test");
    cargo.args(["--package", "pg_upkeep-tests", "--no-fail-fast"]);
    let skipped = || hostile::SKIPPED.iter().map(|&(test, _)| test).filter(|_| hostile);
    match chosen {
        None => {
            cargo.args(["--tests", "--"]).args(skipped().flat_map(|test| ["--skip", test]));
        }
        Some(tests) => {
            let programs: BTreeSet<_> = tests.iter().map(|test| &*test.program).collect();
            let names = tests.iter().map(|test| &*test.name).filter(|name| !skipped().any(|test| name.ends_with(test)));
            cargo.args(programs.iter().flat_map(|program| program.split(' '))).args(["--", "--exact"]).args(names);
        }
    }
    if hostile {
        cargo.env(hostile::VARIABLE, "1");
    }
    // A failed test says what it saw; frames of the harness add nothing to that.
    cargo.env(TREE_VARIABLE, &suite.tree()?.pg.pg_config).env("RUST_BACKTRACE", "0");
    cargo.args(["--test-threads", threads]);
    Ok(cargo)
}

/// The tests that failed, if that is all that went wrong: none if a program did not come to its closing line or was not built.
fn failed_tests(run: &Output) -> Vec<Test> {
    let (said, cargo) = (String::from_utf8_lossy(&run.stdout), String::from_utf8_lossy(&run.stderr));
    let programs: Vec<_> = cargo.lines().filter_map(|line| program(line.trim().strip_prefix("Running ")?)).collect();
    let runs: Vec<_> = said.split("\nrunning ").skip(1).collect();
    if programs.len() != runs.len() || !runs.iter().all(|run| run.contains("\ntest result: ")) {
        return Vec::new();
    }
    let failed = |run: &'_ str| {
        let names = run.lines().filter_map(|line| line.strip_prefix("test ")?.strip_suffix(" ... FAILED"));
        names.map(str::to_owned).collect::<Vec<_>>()
    };
    let tests = programs
        .into_iter()
        .zip(runs)
        .flat_map(|(program, run)| failed(run).into_iter().map(move |name| Test { program: program.clone(), name }));
    tests.collect()
}

/// "tests/soft_delete/main.rs (target/debug/deps/soft_delete-1f)", "unittests src/lib.rs (..)": what asks cargo for this program.
fn program(running: &str) -> Option<String> {
    let source = running.split(" (").next()?;
    Some(match source.strip_prefix("unittests ") {
        Some("src/lib.rs") => "--lib".to_owned(),
        Some(_) => "--bins".to_owned(),
        None => format!("--test {}", source.split('/').nth(1)?),
    })
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

    const RUN: &str = "\nrunning 2 tests\ntest a::a ... ok\ntest a::b ... FAILED\n\nfailures:\n\n---- a::b stdout ----\nboom\n\n\
        failures:\n    a::b\n\ntest result: FAILED. 1 passed; 1 failed;\n\n\
        \nrunning 3 tests\ntest c ... ok\ntest result: ok. 3 passed; 0 failed;\n";

    fn ended(said: &str, cargo: &str) -> Output {
        Output { status: ExitStatus::from_raw(256), stdout: said.into(), stderr: cargo.into() }
    }

    #[test]
    fn the_hostile_files_are_there() {
        let tests: Vec<_> = HOSTILE_CHOICE.iter().map(|file| client_tests::of_file(file).unwrap()).collect();
        assert!(tests.iter().all(|of_file| !of_file.is_empty()), "{tests:?}");
    }

    #[test]
    fn a_run_is_read() {
        assert_eq!(count_passed(RUN), 4);
        assert_eq!(said(RUN, "a::b"), "boom\n");
    }

    #[test]
    fn only_tests_that_failed_are_run_again() {
        let cargo = "    Finished x\n     Running tests/jobs/main.rs (target/jobs-1f)\n     Running unittests \
                     src/lib.rs (target/lib-1f)\n";
        let failed = failed_tests(&ended(RUN, cargo));
        assert_eq!(failed.iter().map(Test::to_string).collect::<Vec<_>>(), ["--test jobs a::b"]);
        let of_the_second = RUN.replace("test c ... ok", "test c ... FAILED");
        assert_eq!(failed_tests(&ended(&of_the_second, cargo))[1].to_string(), "--lib c");
        // A program that crashed has no closing line, and one that was not built does not run.
        assert!(failed_tests(&ended(&RUN.replace("test result: ok", "signal"), cargo)).is_empty());
        assert!(failed_tests(&ended(RUN, &cargo.replace("     Running tests", "error: tests"))).is_empty());
    }
}
