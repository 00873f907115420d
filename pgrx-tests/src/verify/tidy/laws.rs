//! `LAW 12` leads somewhere, and each law has tests that hold it. A law is a heading `### 12. ..` of `docs/laws.md`, and its
//! tests are named in the paragraph `Held by: ..`.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use regex::Regex;

use super::Finding;
use super::source::{Clone, File};

const LAWS: &str = "docs/laws.md";

pub fn check(clone: &Clone) -> Result<Vec<Finding>> {
    let page = clone.file(LAWS)?;
    let laws = laws(page)?;
    let tests = tests(clone)?;
    let mut findings = Vec::new();
    let numbers = Numbers::new()?;
    for file in &clone.files {
        for (line, number) in numbers.of(file) {
            if !laws.contains_key(&number) {
                findings.push(Finding::new(&file.path, line, format!("there is no law {number} in {LAWS}")));
            }
        }
    }
    for (number, law) in &laws {
        if law.tests.is_empty() {
            findings.push(Finding::new(LAWS, law.line, format!("law {number} names no test: add \"Held by: `name`\"")));
        }
        for test in law.tests.iter().filter(|test| !tests.contains(*test)) {
            findings.push(Finding::new(
                LAWS,
                law.line,
                format!("law {number} is held by `{test}`, which there is not"),
            ));
        }
    }
    Ok(findings)
}

struct Law {
    line: usize,
    tests: Vec<String>,
}

fn laws(page: &File) -> Result<BTreeMap<u32, Law>> {
    let heading = Regex::new(r"^### (\d+)\. ")?;
    let name = Regex::new("`([^`]+)`")?;
    let (mut found, mut number, mut in_tests) = (BTreeMap::new(), 0, false);
    for (line, text) in page.lines() {
        if let Some(parts) = heading.captures(text) {
            number = parts[1].parse()?;
            found.insert(number, Law { line, tests: Vec::new() });
        }
        in_tests = text.starts_with("Held by") || (in_tests && !text.is_empty());
        if let (true, Some(law)) = (in_tests, found.get_mut(&number)) {
            law.tests.extend(name.captures_iter(text).map(|parts| parts[1].to_owned()));
        }
    }
    Ok(found)
}

/// The numbers that a file names: `LAW 12`, `LAWS 1 to 3, 8 and 10`.
struct Numbers {
    list: Regex,
    number: Regex,
}

impl Numbers {
    fn new() -> Result<Self> {
        let list = Regex::new(r"\bLAWS? (\d+(?:(?:, | to | and |-)\d+)*)")?;
        Ok(Self { list, number: Regex::new(r"\d+")? })
    }

    fn of(&self, file: &File) -> Vec<(usize, u32)> {
        let mut found = Vec::new();
        for (line, text) in file.lines().filter(|(_, text)| text.contains("LAW")) {
            for parts in self.list.captures_iter(text) {
                let numbers = self.number.find_iter(&parts[1]).filter_map(|number| number.as_str().parse().ok());
                found.extend(numbers.map(|number| (line, number)));
            }
        }
        found
    }
}

/// All that may hold a law: functions of tests, `regress/NAME`, `isolation/NAME`, `cargo verify --only STEP`.
fn tests(clone: &Clone) -> Result<BTreeSet<String>> {
    let step = Regex::new(r#"Step \{ name: "(\w[\w-]*)"|const TIDY: &str = "(\w+)""#)?;
    let mut found = BTreeSet::new();
    for file in &clone.files {
        if file.path == "pgrx-tests/src/verify.rs" {
            let names = step.captures_iter(&file.text).filter_map(|parts| parts.get(1).or(parts.get(2)));
            found.extend(names.map(|name| format!("cargo verify --only {}", name.as_str())));
        }
        if file.ends("rs") {
            found.extend(file.text.split("fn ").skip(1).filter_map(|rest| Some(rest.split_once('(')?.0.to_owned())));
        }
        for (directory, ending, what) in
            [("pgrx-tests/regress/sql/", ".sql", "regress"), ("pgrx-tests/isolation/specs/", ".spec", "isolation")]
        {
            let name = file.path.strip_prefix(directory).and_then(|rest| rest.strip_suffix(ending));
            found.extend(name.map(|name| format!("{what}/{name}")));
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "# Laws\n\n### 1. A.\n\nWhy `x`.\n\nHeld by: `a_test`, `regress/names`,\n\
                        `cargo verify --only sql`.\n\n### 2. B.\n\nNo.\n";

    fn found(more: &[(&str, &str)]) -> Vec<String> {
        let steps = ("pgrx-tests/src/verify.rs", "x! { Step { name: \"sql\", }, }");
        let clone = Clone::of(&[&[(LAWS, PAGE), steps], more].concat());
        check(&clone).unwrap().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_law_without_a_test_or_with_a_wrong_one_is_found() {
        let none = "docs/laws.md:10: law 2 names no test: add \"Held by: `name`\"";
        let wrong = "docs/laws.md:3: law 1 is held by `a_test`, which there is not";
        let regress = ("pgrx-tests/regress/sql/names.sql", "");
        assert_eq!(found(&[regress]), [wrong, none]);
        assert_eq!(found(&[regress, ("pgrx-tests/tests/a.rs", "fn a_test() {}")]), [none]);
    }

    #[test]
    fn numbers_that_lead_nowhere_are_found() {
        let files = [
            ("pgrx-tests/tests/a.rs", "//! LAWS 1 to 3, 4 and 2.\nfn a_test() {}"),
            ("pgrx-tests/regress/sql/names.sql", "-- LAW 5"),
        ];
        let found = found(&files);
        assert_eq!(
            found[..3],
            [
                "pgrx-tests/tests/a.rs:1: there is no law 3 in docs/laws.md",
                "pgrx-tests/tests/a.rs:1: there is no law 4 in docs/laws.md",
                "pgrx-tests/regress/sql/names.sql:1: there is no law 5 in docs/laws.md",
            ]
        );
    }
}
