//! Links between pages lead to a page, and to a heading of it. So do the names of pages in comments.

use std::collections::BTreeSet;

use anyhow::Result;
use regex::Regex;

use super::Finding;
use super::source::{Clone, File};

pub fn check(clone: &Clone) -> Result<Vec<Finding>> {
    let link = Regex::new(r"\]\(([^)\s]+)\)")?;
    let mention = Regex::new(r"\bdocs/[a-z_/]+\.md\b")?;
    let mut findings = Vec::new();
    for file in &clone.files {
        let mut in_code = false;
        for (line, text) in file.lines() {
            in_code ^= text.trim_start().starts_with("```");
            if file.ends("md") && !in_code && text.contains("](") {
                for parts in link.captures_iter(text).filter(|parts| !parts[1].contains("://")) {
                    if let Some(why) = broken(clone, file, &parts[1]) {
                        findings.push(Finding::new(&file.path, line, why));
                    }
                }
            } else if file.ends("rs") && text.contains("docs/") && !file.is_below("pgrx-tests/src/verify/tidy") {
                for page in mention.find_iter(text).filter(|page| clone.file(page.as_str()).is_err()) {
                    findings.push(Finding::new(&file.path, line, format!("there is no {}", page.as_str())));
                }
            }
        }
    }
    Ok(findings)
}

fn broken(clone: &Clone, from: &File, link: &str) -> Option<String> {
    let (path, anchor) = link.split_once('#').unwrap_or((link, ""));
    let target = if path.is_empty() { from.path.clone() } else { resolve(&from.path, path) };
    match clone.file(&target) {
        // Other files are looked at by nobody else; directories and programs are not read.
        Err(_) => target.ends_with(".md").then(|| format!("the link {link} leads to {target}, which there is not")),
        Ok(page) if anchor.is_empty() || anchors(page).contains(anchor) => None,
        Ok(_) => Some(format!("the link {link} leads to a heading that {target} has not")),
    }
}

/// `../README.md` in `docs/jobs.md` is `README.md`.
fn resolve(from: &str, link: &str) -> String {
    let mut parts: Vec<_> = from.split('/').collect();
    parts.pop();
    for part in link.split('/') {
        match part {
            ".." => drop(parts.pop()),
            "." => {}
            name => parts.push(name),
        }
    }
    parts.join("/")
}

/// As GitHub makes them of headings.
fn anchors(page: &File) -> BTreeSet<String> {
    let headings = page.text.lines().filter(|line| line.starts_with('#'));
    headings
        .map(|heading| {
            let text = heading.trim_start_matches('#').trim().to_lowercase().replace(' ', "-");
            text.chars().filter(|c| c.is_alphanumeric() || ['-', '_'].contains(c)).collect()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_that_lead_nowhere_are_found() {
        let jobs = "# Jobs\n\n## Who is `first`?\n[a](#who-is-first) [b](gone.md)\n[c](../README.md#none) [d](https://e.org/x.md)\n\
                    ```\n[e](gone.md)\n```\n";
        let clone =
            Clone::of(&[("docs/jobs.md", jobs), ("README.md", "# R\n"), ("src/a.rs", "// docs/jobs.md, docs/old.md")]);
        let found: Vec<_> = check(&clone).unwrap().iter().map(ToString::to_string).collect();
        assert_eq!(
            found,
            [
                "docs/jobs.md:4: the link gone.md leads to docs/gone.md, which there is not",
                "docs/jobs.md:5: the link ../README.md#none leads to a heading that README.md has not",
                "src/a.rs:1: there is no docs/old.md",
            ]
        );
    }
}
