//! What the person in front of `cargo verify` sees.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::Passed;

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

    /// The table of all steps and the closing line.
    pub fn close(self) -> ExitCode {
        println!("\n=== summary");
        for step in &self.finished {
            let said = step.result.as_ref().map_or("", |passed| last_line(&passed.output));
            let line = format!("{:<10} {} {:>7.1} s  {said}", step.name, verdict(step), step.took.as_secs_f64());
            println!("{}", line.trim_end());
        }
        let failed = self.finished.iter().filter(|s| s.result.is_err()).count();
        let passed = self.finished.len() - failed;
        println!("\n{passed} passed, {failed} failed, in {:.0} s", self.started.elapsed().as_secs_f64());
        if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}

fn verdict(step: &Finished) -> &'static str {
    if step.result.is_ok() { "passed" } else { "FAILED" }
}

/// The last line that says something; some runners end in a rule.
fn last_line(text: &str) -> &str {
    text.lines().rfind(|line| line.contains(char::is_alphanumeric)).unwrap_or("").trim()
}
