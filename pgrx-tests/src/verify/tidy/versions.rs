//! A version is decided in one place, `Cargo.toml`. Who has to repeat it says the same.

use anyhow::{Context, Result};
use regex::Regex;

use super::Finding;
use super::source::Clone;

const SOURCE: &str = "Cargo.toml";

/// A place that repeats something: file, pattern with what is repeated, what it has to be.
type Repeated = (&'static str, &'static str, String);

pub fn check(clone: &Clone) -> Result<Vec<Finding>> {
    let ours = first(clone, SOURCE, r#"(?m)^version = "([^"]+)""#)?;
    let rust = first(clone, SOURCE, r#"(?m)^rust-version = "([^"]+)""#)?;
    let servers = all(clone, SOURCE, r"(?m)^pg(\d+) = ")?;
    let newest = first(clone, SOURCE, r#"(?m)^default = \["pg(\d+)"\]"#)?;
    let oldest = servers.first().cloned().unwrap_or_default();
    let (last, before) = servers.split_last().context("Cargo.toml has no features pgN")?;
    let sentence = format!("{} or {last}", before.join(", "));
    let repeated: &[Repeated] = &[
        ("pg_upkeep.control", r"default_version = '([^']+)'", ours.clone()),
        ("CHANGELOG.md", r"(?m)^## (\S+)", ours),
        ("README.md", r"Rust (\d+\.\d+)", rust),
        ("pgrx-tests/src/pg.rs", r"OLDEST: u32 = (\d+)", oldest),
        ("pgrx-tests/src/pg.rs", r"NEWEST: u32 = (\d+)", newest),
        ("README.md", r"PostgreSQL (\d+(?:, \d+)+ or \d+)", sentence),
    ];
    let mut findings = Vec::new();
    for (file, pattern, wanted) in repeated {
        let found = first(clone, file, pattern)?;
        if found != *wanted {
            findings.push(Finding::new(file, 1, format!("{found} has to be {wanted}, as {SOURCE} has it")));
        }
    }
    let mut verified = all(clone, ".ci/run", r"(?m)^verify (\d+)")?;
    verified.sort();
    if verified != servers {
        findings.push(Finding::new(".ci/run", 1, format!("verifies {verified:?}, {SOURCE} has {servers:?}")));
    }
    findings.extend(pgrx(clone)?);
    Ok(findings)
}

/// Wherever pgrx has a version, it is the one that we build with.
fn pgrx(clone: &Clone) -> Result<Vec<Finding>> {
    let wanted = first(clone, SOURCE, r#"(?m)^pgrx = \{ version = "=([^"]+)""#)?;
    let mention = Regex::new(r"pgrx[^\d\n]{0,60}?(\d+\.\d+\.\d+)")?;
    let mut findings = Vec::new();
    for file in clone.files.iter().filter(|file| file.path != SOURCE && !file.is_below("pgrx-tests/src/verify/tidy")) {
        for (line, text) in file.lines().filter(|(_, text)| text.contains("pgrx")) {
            for parts in mention.captures_iter(text) {
                if file.ends("rs") {
                    findings.push(Finding::new(&file.path, line, format!("read pgrx's version from {SOURCE}")));
                } else if parts[1] != wanted {
                    findings.push(Finding::new(&file.path, line, format!("pgrx is {wanted}, as {SOURCE} has it")));
                }
            }
        }
    }
    Ok(findings)
}

fn all(clone: &Clone, file: &str, pattern: &str) -> Result<Vec<String>> {
    let pattern = Regex::new(pattern)?;
    Ok(pattern.captures_iter(&clone.file(file)?.text).map(|parts| parts[1].to_owned()).collect())
}

fn first(clone: &Clone, file: &str, pattern: &str) -> Result<String> {
    all(clone, file, pattern)?.into_iter().next().with_context(|| format!("{file} has nothing like {pattern}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(changed: &str, text: &str) -> Vec<String> {
        let files = [
            (
                SOURCE,
                "[package]\nversion = \"0.6.0\"\nrust-version = \"1.95\"\ndefault = [\"pg18\"]\npg17 = [\"pgrx/pg17\"]\n\
                 pg18 = [\"pgrx/pg18\"]\npgrx = { version = \"=0.18.1\" }\n",
            ),
            ("pg_upkeep.control", "default_version = '0.6.0'"),
            ("CHANGELOG.md", "# Changelog\n## 0.6.0\n## 0.5.0"),
            ("README.md", "PostgreSQL 16, 17 or 18, Rust 1.95, cargo-pgrx 0.18.1"),
            ("pgrx-tests/src/pg.rs", "const OLDEST: u32 = 17;\nconst NEWEST: u32 = 18;"),
            (".ci/run", "verify 18\nverify 17 --only x"),
            ("docs/a.md", ""),
        ];
        let files: Vec<_> =
            files.iter().map(|(path, old)| (*path, if *path == changed { text } else { old })).collect();
        check(&Clone::of(&files)).unwrap().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn every_place_that_disagrees_is_found() {
        let readme = "README.md:1: 16, 17 or 18 has to be 17 or 18, as Cargo.toml has it";
        assert_eq!(found("", ""), [readme]);
        let control = "pg_upkeep.control:1: 0.5.0 has to be 0.6.0, as Cargo.toml has it";
        assert_eq!(found("pg_upkeep.control", "default_version = '0.5.0'"), [control, readme]);
        let changelog = "CHANGELOG.md:1: 0.5.0 has to be 0.6.0, as Cargo.toml has it";
        assert_eq!(found("CHANGELOG.md", "## 0.5.0\n## 0.6.0"), [changelog, readme]);
        let ci = ".ci/run:1: verifies [\"18\"], Cargo.toml has [\"17\", \"18\"]";
        assert_eq!(found(".ci/run", "verify 18"), [readme, ci]);
        let newest = "pgrx-tests/src/pg.rs:1: 19 has to be 18, as Cargo.toml has it";
        assert_eq!(found("pgrx-tests/src/pg.rs", "const OLDEST: u32 = 17; const NEWEST: u32 = 19;"), [newest, readme]);
        let pgrx = "docs/a.md:1: pgrx is 0.18.1, as Cargo.toml has it";
        assert_eq!(found("docs/a.md", "with pgrx 0.17.0"), [readme, pgrx]);
    }
}
