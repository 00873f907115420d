//! What is not tidy yet, file by file, in `exceptions.txt`. The list may only get shorter: what is not needed any more is an
//! error, too.

use std::collections::BTreeMap;

use anyhow::{Context, Result};

use super::Finding;

/// How many findings of a check a file may have.
pub type Exceptions = BTreeMap<(String, String), usize>;

const HEADER: &str = "\
# What is not tidy yet: check, file, number. `cargo verify --only tidy --accept` takes out what is not needed any more; nothing
# is ever put in.
";

pub fn parse(text: &str) -> Result<Exceptions> {
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let one = |line: &str| {
        let words: Vec<_> = line.split_whitespace().collect();
        let [check, file, number] = words[..] else { anyhow::bail!("{line}: not check, file, number") };
        Ok(((check.to_owned(), file.to_owned()), number.parse().with_context(|| line.to_owned())?))
    };
    lines.map(one).collect()
}

pub fn print(exceptions: &Exceptions) -> String {
    let lines = exceptions.iter().map(|((check, file), number)| format!("{check} {file} {number}\n"));
    HEADER.to_owned() + &lines.collect::<String>()
}

/// What is left when the exceptions are taken off, and the exceptions that are needed.
pub fn apply(exceptions: &Exceptions, found: Vec<(&'static str, Finding)>) -> (Vec<String>, Exceptions) {
    let mut by_file: BTreeMap<(String, String), Vec<Finding>> = BTreeMap::new();
    for (check, finding) in found {
        by_file.entry((check.to_owned(), finding.file.clone())).or_default().push(finding);
    }
    let (mut said, mut needed) = (Vec::new(), Exceptions::new());
    for (key, findings) in &by_file {
        let allowed = exceptions.get(key).copied().unwrap_or(0);
        if findings.len() > allowed {
            said.extend(findings.iter().map(|finding| format!("{} [{}]", finding, key.0)));
            if allowed > 0 {
                said.push(format!("    {} findings, and {allowed} of {} are excepted", findings.len(), key.1));
            }
        }
        if allowed > 0 {
            needed.insert(key.clone(), findings.len().min(allowed));
        }
    }
    for ((check, file), allowed) in exceptions {
        let number = by_file.get(&(check.clone(), file.clone())).map_or(0, Vec::len);
        if number < *allowed {
            said.push(format!(
                "{file}: {number} findings of {check}, {allowed} are excepted: lower it (--accept does)"
            ));
        }
    }
    (said, needed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(files: &[&str]) -> Vec<(&'static str, Finding)> {
        files.iter().map(|file| ("lines", Finding::new(file, 1, "is long"))).collect()
    }

    #[test]
    fn what_is_excepted_is_silent() {
        let exceptions = parse("# comment\n\nlines a 2\n").unwrap();
        assert_eq!(apply(&exceptions, found(&["a", "a"])), (vec![], exceptions));
    }

    #[test]
    fn one_more_is_said_with_all_of_its_file() {
        let exceptions = parse("lines a 1\n").unwrap();
        let (said, needed) = apply(&exceptions, found(&["a", "a", "b"]));
        assert_eq!(said[0], "a:1: is long [lines]");
        assert_eq!((said.len(), needed), (4, exceptions));
    }

    #[test]
    fn what_is_not_needed_is_an_error_and_goes() {
        let exceptions = parse("lines a 2\nlines gone 1\n").unwrap();
        let (said, needed) = apply(&exceptions, found(&["a"]));
        assert_eq!(said.len(), 2, "{said:?}");
        assert!(print(&needed).ends_with("\nlines a 1\n"));
    }

    #[test]
    fn other_lines_are_refused() {
        assert!(parse("lines a").is_err());
        assert!(parse("lines a many").is_err());
    }
}
