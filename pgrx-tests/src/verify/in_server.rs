//! The in-server tests: functions of a build with feature `pg_test`, each called in a transaction that is rolled back.

use std::fmt::Write;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use anyhow::{Result, bail};

use super::{Passed, Suite, nested, outside, scripts};
use crate::cluster::{Cluster, PATIENCE};
use crate::session::Session;
use crate::wait::wait_for;
use crate::{command, tools};

const DATABASE: &str = "in_server";
/// Beside psql itself.
const SCRIPTS: &str = "scripts_as_psql_sends_them";
/// With workers and commits, therefore at the end.
const OUTSIDE: &str = "a_kind_and_a_chore_from_outside";

pub fn run(suite: &Suite) -> Result<Passed> {
    let tree = suite.tests_tree()?;
    let tests = find_tests(&tree.library())?;
    if tests.is_empty() {
        bail!("the library has no in-server tests: functions test_* in a build with feature pg_test");
    }
    let cluster =
        Cluster::builder(tree, &Cluster::unique_name("in-server")).preloaded().set("upkeep.max_slowdown", 0).start()?;
    cluster.create_database(DATABASE)?;
    let mut session = cluster.connect(DATABASE)?;
    session.run("CREATE EXTENSION pg_upkeep; CREATE SCHEMA tests")?;
    for test in &tests {
        session.run(&format!(
            "CREATE FUNCTION tests.\"{test}\"() RETURNS void LANGUAGE c AS '$libdir/pg_upkeep', '{test}_wrapper'"
        ))?;
    }
    let at_work = nested::TESTS.iter().map(|(name, _)| *name).chain([SCRIPTS, OUTSIDE]).map(str::to_owned);
    let all: Vec<String> = tests.iter().cloned().chain(at_work).collect();
    report(&all, |test| match test {
        SCRIPTS => scripts::run(&cluster),
        OUTSIDE => outside::run(&cluster),
        _ => match nested::TESTS.iter().find(|(name, _)| *name == test) {
            Some((name, nested)) => nested::run(*nested, name, &cluster, suite.full),
            None => call(&cluster, &mut session, test),
        },
    })
}

/// In the words of cargo's test runner.
fn report(tests: &[String], mut call: impl FnMut(&str) -> Result<()>) -> Result<Passed> {
    let clock = Instant::now();
    let mut text = format!("running {} tests\n", tests.len());
    let mut failures = String::new();
    let mut failed = 0;
    for test in tests {
        let result = call(test);
        writeln!(text, "test tests::{test} ... {}", if result.is_ok() { "ok" } else { "FAILED" })?;
        if let Err(error) = result {
            failed += 1;
            writeln!(failures, "---- tests::{test} ----\n{error:#}\n")?;
        }
    }
    writeln!(
        text,
        "\ntest result: {}. {} passed; {failed} failed; 0 ignored; 0 measured; 0 filtered out; finished in {:.2}s",
        if failed == 0 { "ok" } else { "FAILED" },
        tests.len() - failed,
        clock.elapsed().as_secs_f64()
    )?;
    if failed > 0 {
        bail!("{text}\nfailures:\n\n{failures}");
    }
    Ok(Passed::with(text))
}

fn call(cluster: &Cluster, session: &mut Session, test: &str) -> Result<()> {
    let outcome = session.run(&format!("BEGIN; SELECT tests.\"{test}\"()"));
    if session.run("ROLLBACK").is_err() {
        // The test took its backend with it. The server recovers; the next test needs a session.
        *session = wait_for("the server to recover", PATIENCE, || Ok(cluster.connect(DATABASE).ok()))?;
    }
    outcome
}

/// Names of the exported functions `test_*_wrapper`, without the suffix.
fn find_tests(library: &Path) -> Result<Vec<String>> {
    tools::NM.require()?;
    let symbols = command::capture(Command::new("nm").args(["-D", "--defined-only"]).arg(library))?;
    let mut tests: Vec<String> = symbols.lines().filter_map(test_in).map(str::to_owned).collect();
    tests.sort();
    Ok(tests)
}

fn test_in(symbol_line: &str) -> Option<&str> {
    let symbol = symbol_line.split_whitespace().next_back()?;
    symbol.strip_suffix("_wrapper").filter(|name| name.starts_with("test_"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tests_are_known_by_their_symbols() {
        assert_eq!(test_in("00000000001 T test_queue_order_wrapper"), Some("test_queue_order"));
        assert_eq!(test_in("00000000001 T pg_finfo_test_queue_order_wrapper"), None);
        assert_eq!(test_in("00000000001 T backfill_wrapper"), None);
    }

    #[test]
    fn the_closing_line_is_cargos() {
        let tests = ["test_a".to_owned(), "test_b".to_owned()];
        let passed = report(&tests, |_| Ok(())).unwrap().output;
        assert!(passed.contains("test tests::test_a ... ok\n"), "{passed}");
        assert!(passed.contains("test result: ok. 2 passed; 0 failed; 0 ignored;"), "{passed}");
        let failed = report(&tests, |test| if test == "test_b" { bail!("no") } else { Ok(()) });
        let failed = failed.err().unwrap().to_string();
        assert!(failed.contains("test result: FAILED. 1 passed; 1 failed;"), "{failed}");
    }
}
