//! Lines are short enough to be read side by side, and differences by line.

use anyhow::Result;

use super::Finding;
use super::source::{Clone, File};

const LIMIT: usize = 140;

pub fn check(clone: &Clone) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    // What a specification says, the tester prints.
    for file in clone.files.iter().filter(|file| !is_frozen(&file.path) && !file.ends("spec")) {
        let mut printed = false;
        for (line, text) in file.lines() {
            if file.ends("md") && text.trim_start().starts_with("```") {
                printed = ["```text", "```output"].contains(&text.trim());
            }
            let length = text.chars().count();
            if length >= LIMIT && !printed && !cannot_be_broken(file, text) {
                findings.push(Finding::new(&file.path, line, format!("{length} characters: break it below {LIMIT}")));
            }
        }
    }
    Ok(findings)
}

/// Install and upgrade scripts and dumps are generated, or not to be changed any more.
fn is_frozen(path: &str) -> bool {
    path.starts_with("pgrx-tests/dumps/") || path.rsplit('/').next().is_some_and(|name| name.starts_with("pg_upkeep--"))
}

/// Rows of tables, and what is one word, such as a link.
fn cannot_be_broken(file: &File, text: &str) -> bool {
    file.ends("md") && (text.starts_with('|') || !text.trim_start_matches(['-', ' ']).contains(' '))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_lines_are_found() {
        let (long, word) = ("word ".repeat(30), "x".repeat(200));
        let table = format!("| {long} |\n- {word}\n```text\n{long}\n```\nshort\n{long}");
        let clone = Clone::of(&[
            ("src/a.rs", &format!("fn f() {{}}\n// {long}")),
            ("docs/a.md", &table),
            ("sql/pg_upkeep--0.1.0.sql", &long),
        ]);
        let found: Vec<_> = check(&clone).unwrap().iter().map(ToString::to_string).collect();
        assert_eq!(
            found,
            ["src/a.rs:2: 153 characters: break it below 140", "docs/a.md:7: 150 characters: break it below 140"]
        );
    }
}
