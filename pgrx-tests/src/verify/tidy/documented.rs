//! The documentation names what there is: each setting and each public object of the schema, and nothing that there is not.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use regex::Regex;

use super::Finding;
use super::source::{Clone, File};

pub fn check(clone: &Clone) -> Result<Vec<Finding>> {
    let mut known = objects(clone)?;
    known.extend(settings(clone)?);
    let mut findings = Vec::new();
    let mentioned: BTreeSet<_> = pages(clone).flat_map(|page| mentions(&page.text)).collect();
    for (name, (file, line)) in known.iter().filter(|(name, _)| !name.starts_with('_')) {
        if !mentioned.contains(name.as_str()) {
            findings.push(Finding::new(file, *line, format!("no page of the documentation names upkeep.{name}")));
        }
    }
    let named = Regex::new(r"\bupkeep\.([a-z_]+)")?;
    for page in pages(clone) {
        for (line, text) in page.lines().filter(|(_, text)| text.contains("upkeep.")) {
            for parts in named.captures_iter(text).filter(|parts| !known.contains_key(&parts[1])) {
                findings.push(Finding::new(&page.path, line, format!("there is no upkeep.{}", &parts[1])));
            }
        }
    }
    Ok(findings)
}

/// What pages say of the code is in the code: the end of each `room::name`.
pub fn check_code(clone: &Clone) -> Result<Vec<Finding>> {
    let path = Regex::new(r"`[A-Za-z_]+(?:::[A-Za-z_]+)*::([A-Za-z_]+)(?:\(\))?`")?;
    let mut missing: BTreeMap<String, Vec<Finding>> = BTreeMap::new();
    for page in clone.files.iter().filter(|file| file.ends("md") && file.path != "CHANGELOG.md") {
        for (line, text) in page.lines().filter(|(_, text)| text.contains("::")) {
            for parts in path.captures_iter(text) {
                let finding = Finding::new(&page.path, line, format!("there is no {} in the code", &parts[0]));
                missing.entry(parts[1].to_owned()).or_default().push(finding);
            }
        }
    }
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let code = clone.files.iter().filter(|file| file.ends("rs") && !file.is_below("pgrx-tests/src/verify/tidy"));
    for (_, text) in code.flat_map(File::lines).filter(|(_, text)| !text.trim_start().starts_with("//")) {
        for word in text.split(|c| !is_name(c)).filter(|word| !word.is_empty()) {
            missing.remove(word);
        }
    }
    Ok(missing.into_values().flatten().collect())
}

/// The names in `upkeep.name`, `name(` and in a name between backticks.
fn mentions(text: &str) -> impl Iterator<Item = &str> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    text.match_indices(is_name).filter_map(move |(at, _)| {
        let before = &text[..at];
        if before.ends_with(is_name) {
            return None;
        }
        let rest = &text[at..];
        let name = &rest[..rest.find(|c| !is_name(c)).unwrap_or(rest.len())];
        let after = &rest[name.len()..];
        let quoted = before.ends_with('`') && after.starts_with('`');
        (quoted || before.ends_with("upkeep.") || after.starts_with('(')).then_some(name)
    })
}

/// What users read. The changelog is about what there was.
fn pages(clone: &Clone) -> impl Iterator<Item = &File> {
    clone.files.iter().filter(|file| file.ends("md") && (file.path == "README.md" || file.is_below("docs")))
}

/// Each name, and where it is made.
type Known = BTreeMap<String, (String, usize)>;

fn objects(clone: &Clone) -> Result<Known> {
    let create = Regex::new(
        r"^\s*CREATE (?:OR REPLACE )?(?:FUNCTION|PROCEDURE|VIEW|TABLE|TYPE|SEQUENCE|AGGREGATE) upkeep\.(\w+)",
    )?;
    named(clone.files.iter().filter(|file| file.is_below("sql/schema")), "CREATE", &create)
}

fn settings(clone: &Clone) -> Result<Known> {
    named(clone.extension(), "c\"upkeep.", &Regex::new(r#"c"upkeep\.([a-z_]+)""#)?)
}

fn named<'a>(files: impl Iterator<Item = &'a File>, sign: &str, pattern: &Regex) -> Result<Known> {
    let mut known = Known::new();
    for file in files {
        for (line, text) in file.lines().filter(|(_, text)| text.contains(sign)) {
            if let Some(parts) = pattern.captures(text) {
                known.entry(parts[1].to_owned()).or_insert_with(|| (file.path.clone(), line));
            }
        }
    }
    Ok(known)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_named_and_what_is_not_there_is_found() {
        let clone = Clone::of(&[
            (
                "sql/schema/jobs.sql",
                "CREATE FUNCTION upkeep.pause(job uuid)\nCREATE VIEW upkeep.jobs AS\nCREATE TABLE upkeep._job (",
            ),
            ("src/settings.rs", "fn f() { d(c\"upkeep.enabled\") }\nfn g() { d(c\"upkeep.hidden\") }"),
            ("docs/jobs.md", "# Jobs\n`upkeep.enabled` and `pause(job)`, upkeep._job\nSELECT upkeep.unpause(job)"),
        ]);
        let found: Vec<_> = check(&clone).unwrap().iter().map(ToString::to_string).collect();
        assert_eq!(
            found,
            [
                "src/settings.rs:2: no page of the documentation names upkeep.hidden",
                "sql/schema/jobs.sql:2: no page of the documentation names upkeep.jobs",
                "docs/jobs.md:3: there is no upkeep.unpause",
            ]
        );
    }

    #[test]
    fn code_that_is_not_there_is_found() {
        let clone = Clone::of(&[
            ("src/jobs/seat.rs", "// fn gone\npub fn take() {}"),
            ("docs/internals/engine.md", "# E\n`jobs::seat::take()` and `seat::gone`, 1::int"),
        ]);
        let found: Vec<_> = check_code(&clone).unwrap().iter().map(ToString::to_string).collect();
        assert_eq!(found, ["docs/internals/engine.md:2: there is no `seat::gone` in the code"]);
    }
}
