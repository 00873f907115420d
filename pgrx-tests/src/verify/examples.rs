//! Every example of the documentation, run in order: one fresh database for each file.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use regex::Regex;

use super::markdown::{Example, examples};
use super::{Passed, Suite};
use crate::cluster::Cluster;
use crate::{command, paths};

pub fn run(suite: &Suite) -> Result<Passed> {
    let files = documents()?;
    let cluster = Cluster::builder(suite.tree()?, &Cluster::unique_name("examples")).preloaded().start()?;
    let mut text = String::new();
    let mut failures = String::new();
    let mut count = 0;
    for (number, file) in files.iter().enumerate() {
        let name = file.strip_prefix(paths::root())?.display().to_string();
        let examples = examples_of(file)?;
        count += examples.len();
        let failed = run_file(&cluster, &format!("doc_{number}"), &examples).with_context(|| name.clone())?;
        writeln!(text, "{name}: {} examples, {} failed", examples.len(), failed.len())?;
        for (line, why) in failed {
            writeln!(failures, "\n{name}:{line}: {why}")?;
        }
    }
    if !failures.is_empty() {
        bail!("{text}{failures}");
    }
    writeln!(text, "{count} examples in {} files", files.len())?;
    Ok(Passed::with(text))
}

/// A script is one example.
fn examples_of(file: &Path) -> Result<Vec<Example>> {
    let text = fs::read_to_string(file)?;
    if file.extension().is_some_and(|e| e == "md") {
        return Ok(examples(&text));
    }
    Ok(vec![Example { line: 1, sql: text, error: None, output: None }])
}

/// README.md, docs/*.md and examples/*.sql.
fn documents() -> Result<Vec<PathBuf>> {
    let mut files = vec![paths::root().join("README.md")];
    for folder in ["docs", "examples"] {
        for entry in fs::read_dir(paths::root().join(folder)).into_iter().flatten() {
            files.push(entry?.path());
        }
    }
    files.retain(|f| f.extension().is_some_and(|e| e == "md" || e == "sql") && f.exists());
    files.sort();
    Ok(files)
}

/// Runs a file's examples in one psql session. Returns the line of each that failed, and why.
fn run_file(cluster: &Cluster, database: &str, examples: &[Example]) -> Result<Vec<(usize, String)>> {
    if examples.is_empty() {
        return Ok(Vec::new());
    }
    cluster.create_database(database)?;
    // A quick start creates the extension itself; the other files assume it.
    if !examples.iter().any(|e| e.sql.contains("CREATE EXTENSION pg_upkeep")) {
        cluster.connect(database)?.run("CREATE EXTENSION pg_upkeep")?;
    }
    let script = cluster.scratch().join(format!("{database}.sql"));
    fs::write(&script, psql_script(examples))?;
    let mut psql = cluster.client_command("psql", database);
    let output = command::output(psql.args(["-X", "-q", "-f"]).arg(&script))?;
    let [printed, complaints] = [&output.stdout, &output.stderr].map(|s| String::from_utf8_lossy(s));
    let mut failed = Vec::new();
    for (number, example) in examples.iter().enumerate() {
        if let Err(why) = judge(example, between_marks(&printed, number)) {
            let complaints = between_marks(&complaints, number).map_or("", |(said, _)| said).trim_end();
            failed.push((example.line, format!("{why:#}\n{}\n{complaints}", example.sql)));
        }
    }
    Ok(failed)
}

/// Each example between marks in both of psql's outputs; the closing mark carries the error that came last.
fn psql_script(examples: &[Example]) -> String {
    let mut script = String::new();
    for (number, example) in examples.iter().enumerate() {
        let (begin, end) = (begin(number), end(number));
        // ON_ERROR_STOP stays off: one wrong example must not hide the others.
        script += &format!("\\set LAST_ERROR_SQLSTATE 00000\n\\echo {begin}\n\\warn {begin}\n{}\n", example.sql);
        script += &format!("\\echo {end} :LAST_ERROR_SQLSTATE\n\\warn {end}\n");
    }
    script
}

fn begin(number: usize) -> String {
    format!("@@@ begin {number}")
}

fn end(number: usize) -> String {
    format!("@@@ end {number}")
}

/// What was printed between an example's marks, and the rest of the line of the closing one.
fn between_marks(text: &str, number: usize) -> Option<(&str, &str)> {
    let (_, after) = text.split_once(&format!("{}\n", begin(number)))?;
    let (inside, after) = after.split_once(&end(number))?;
    Some((inside, after.lines().next().unwrap_or("").trim()))
}

fn judge(example: &Example, printed: Option<(&str, &str)>) -> Result<()> {
    let Some((output, state)) = printed else { bail!("the session ended before or in it") };
    let wanted = example.error.as_deref().unwrap_or("00000");
    if state != wanted {
        bail!("SQLSTATE {state} instead of {wanted}");
    }
    match &example.output {
        Some(documented) if !alike(documented, output) => {
            bail!("it prints\n{}\ninstead of\n{documented}", output.trim_end())
        }
        _ => Ok(()),
    }
}

/// Whether the output is what the documentation shows, but for what differs from run to run: uuids, times, the widths of
/// columns, and whatever the documentation leaves out by `...`.
fn alike(documented: &str, printed: &str) -> bool {
    let documented = settle(documented).split("...").map(regex::escape).collect::<Vec<_>>().join("(?s:.*)");
    Regex::new(&format!("^{documented}$")).is_ok_and(|pattern| pattern.is_match(&settle(printed)))
}

fn settle(text: &str) -> String {
    let replacements = [
        (r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "UUID"),
        (r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d(\.\d+)?([+-]\d\d(:?\d\d)?)?", "TIME"),
        (r"\d\d:\d\d:\d\d(\.\d+)?", "DURATION"),
        (r"-{3,}", "--"),
        (r"[ \t]+", " "),
        (r" ?\n ?", "\n"),
    ];
    let mut text = text.trim().to_owned();
    for (pattern, replacement) in replacements {
        text = Regex::new(pattern).expect("a constant").replace_all(&text, replacement).into_owned();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_changes_from_run_to_run_does_not_count() {
        let documented = " id | state\n----+------\n 0199a6e1-1111-7000-8000-000000000000 | done\n(1 row)";
        let printed = "                  id                  | state \n--------------------------------------+-------\n \
             0299a6e1-2222-7000-8000-00000000abcd | done\n(1 row)\n\n";
        assert!(alike(documented, printed));
        assert!(!alike(documented, &printed.replace("done", "failed")));
        assert!(alike("a\n...\nz", "a\nb\nc\nz\n"));
        assert!(alike("took 00:00:01.5", "took 00:00:09"));
    }

    #[test]
    fn an_example_is_judged_by_its_state_and_output() {
        let example = |error: Option<&str>, output: Option<&str>| Example {
            line: 1,
            sql: "SELECT 1".into(),
            error: error.map(str::to_owned),
            output: output.map(str::to_owned),
        };
        let printed = "@@@ begin 0\n 1\n@@@ end 0 00000\n@@@ begin 1\n@@@ end 1 22012\n";
        let judge = |example, number| judge(&example, between_marks(printed, number));
        assert!(judge(example(None, Some("1")), 0).is_ok());
        assert!(judge(example(None, Some("2")), 0).is_err());
        assert!(judge(example(None, None), 1).is_err());
        assert!(judge(example(Some("22012"), None), 1).is_ok());
        assert!(judge(example(None, None), 2).is_err());
    }
}
