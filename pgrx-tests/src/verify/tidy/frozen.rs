//! Scripts of released versions do not change (LAW 26): somebody has run them. `frozen.txt` has a digest of each.

use std::collections::BTreeMap;

use anyhow::{Context, Result};

use super::Finding;
use super::source::Clone;

const DIGESTS: &str = include_str!("frozen.txt");

pub fn check(clone: &Clone) -> Result<Vec<Finding>> {
    let control = &clone.file("pg_upkeep.control")?.text;
    let version = control.lines().find_map(|line| line.strip_prefix("default_version = '")?.strip_suffix('\''));
    look(clone, version.context("pg_upkeep.control has no default_version")?, DIGESTS)
}

fn look(clone: &Clone, version: &str, digests: &str) -> Result<Vec<Finding>> {
    let lines = digests.lines().filter(|line| !line.starts_with('#'));
    let mut known: BTreeMap<&str, &str> = lines.filter_map(|line| line.split_once(' ')).collect();
    let mut findings = Vec::new();
    for file in &clone.files {
        let name = file.path.rsplit('/').next().unwrap_or_default();
        let Some(versions) = name.strip_prefix("pg_upkeep--").and_then(|rest| rest.strip_suffix(".sql")) else {
            continue;
        };
        if versions.rsplit("--").next() == Some(version) {
            continue;
        }
        let now = digest(&file.text);
        match known.remove(name) {
            Some(then) if then == now => {}
            Some(_) => {
                let what =
                    "a script of a released version has changed: put it back, and write what is new into the next one";
                findings.push(Finding::new(&file.path, 1, what));
            }
            None => {
                let what =
                    format!("is released and not in pgrx-tests/src/verify/tidy/frozen.txt: add \"{name} {now}\"");
                findings.push(Finding::new(&file.path, 1, what));
            }
        }
    }
    for name in known.keys() {
        let what = format!("{name} was released and is gone: no database of that version could be updated, or tried");
        findings.push(Finding::new("pgrx-tests/src/verify/tidy/frozen.txt", 1, what));
    }
    Ok(findings)
}

/// FNV-1a: against mistakes, not against malice.
fn digest(text: &str) -> String {
    let hash = text
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    format!("{hash:016x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_that_changed_came_or_went_is_found() {
        let clone = Clone::of(&[
            ("sql/pg_upkeep--0.1.0.sql", "a"),
            ("frozen/pg_upkeep--0.2.0.sql", "b"),
            ("sql/pg_upkeep--0.2.0--0.3.0.sql", "c"),
            ("sql/pg_upkeep--0.3.0.sql", "d"),
            ("sql/pg_upkeep--0.3.0--0.4.0.sql", "still open"),
        ]);
        let known = format!(
            "# names\npg_upkeep--0.1.0.sql {}\npg_upkeep--0.2.0.sql {}\npg_upkeep--0.2.0--0.3.0.sql {}\npg_upkeep--0.1.0--0.2.0.sql 0",
            digest("a"),
            digest("another"),
            digest("c")
        );
        let found: Vec<_> = look(&clone, "0.4.0", &known).unwrap().into_iter().map(|finding| finding.what).collect();
        assert!(found[0].starts_with("a script of a released version has changed"), "{found:?}");
        assert_eq!(
            found[1],
            format!(
                "is released and not in pgrx-tests/src/verify/tidy/frozen.txt: add \"pg_upkeep--0.3.0.sql {}\"",
                digest("d")
            )
        );
        assert!(found[2].starts_with("pg_upkeep--0.1.0--0.2.0.sql was released and is gone"), "{found:?}");
        assert_eq!(found.len(), 3, "{found:?}");
    }

    #[test]
    fn the_digest_is_the_known_one() {
        assert_eq!(digest("a"), "af63dc4c8601ec8c");
    }
}
