//! What the person in front of `cargo verify` sees.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::{Flaky, Passed};

/// More tests than these that pass only when they run once more fail the run.
const FLAKY: usize = 2;

pub struct Finished {
    pub name: &'static str,
    pub took: Duration,
    pub result: Result<Passed>,
}

pub struct Report {
    started: Instant,
    finished: Vec<Finished>,
}

impl Report {
    pub fn new() -> Self {
        Self { started: Instant::now(), finished: Vec::new() }
    }

    /// Shows a step's output as soon as it is over.
    pub fn add(&mut self, step: Finished) {
        println!("\n=== {}: {} in {:.1} s", step.name, verdict(&step), step.took.as_secs_f64());
        match &step.result {
            Ok(passed) => println!("{}", passed.output.trim_end()),
            Err(error) => println!("{error:#}"),
        }
        self.finished.push(step);
    }

    /// The table of all steps, what went wrong, and the closing line: the end of a log is what is looked at, and
    /// often all that is kept.
    pub fn close(self) -> ExitCode {
        println!("\n=== summary");
        for step in &self.finished {
            let said = step.result.as_ref().map_or("", |passed| last_line(&passed.output));
            let line = format!("{:<10} {} {:>7.1} s  {said}", step.name, verdict(step), step.took.as_secs_f64());
            println!("{}", line.trim_end());
        }
        let errors: Vec<_> = self.finished.iter().filter_map(|s| Some((s.name, s.result.as_ref().err()?))).collect();
        for (name, error) in &errors {
            println!("\n=== why {name} failed\n{}", gist(&format!("{error:#}")));
        }
        let flaky: Vec<_> =
            self.finished.iter().filter_map(|s| s.result.as_ref().ok()).flat_map(|p| &p.flaky).collect();
        for Flaky { test, said } in &flaky {
            println!("\n=== FLAKY, passed when it ran once more, alone: {test}\n{}", gist(said));
        }
        let failed = errors.len();
        let passed = self.finished.len() - failed;
        let seconds = self.started.elapsed().as_secs_f64();
        println!("\n{passed} passed, {failed} failed, {} FLAKY, in {seconds:.0} s", flaky.len());
        if failed == 0 && flaky.len() <= FLAKY { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}

fn verdict(step: &Finished) -> &'static str {
    if step.result.is_ok() { "passed" } else { "FAILED" }
}

/// Of test runners what the failed tests said, of other programs the end.
fn gist(error: &str) -> String {
    const LINES: usize = 60;
    let mut failing = false;
    let said_by_tests: Vec<_> = error
        .lines()
        .filter(|line| {
            let line = line.trim();
            failing = line.starts_with("---- ") || failing && line != "failures:";
            failing
        })
        .take(2 * LINES)
        .collect();
    if !said_by_tests.is_empty() {
        return said_by_tests.join("\n");
    }
    let lines: Vec<_> = error.lines().collect();
    lines[lines.len().saturating_sub(LINES)..].join("\n")
}

/// The last line that says something; some runners end in a rule.
fn last_line(text: &str) -> &str {
    text.lines().rfind(|line| line.contains(char::is_alphanumeric)).unwrap_or("").trim()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_test_run_the_failures_are_repeated() {
        let run = "cargo failed\n    test a ... ok\n    test b ... FAILED\n\n    failures:\n\n\
                   \x20   ---- b stdout ----\n    boom\n\n    failures:\n        b\n\n    test c ... ok";
        assert_eq!(gist(run), "    ---- b stdout ----\n    boom\n");
        assert_eq!(gist("x\ny"), "x\ny");
    }
}
