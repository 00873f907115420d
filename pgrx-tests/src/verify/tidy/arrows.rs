//! Rooms stand on floors, and know only what is below them. So nothing goes round in a circle from room to room, and who reads
//! a room needs to know the floors below it and nothing else.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;

use super::imports::{self, Modules};
use super::source::Clone;
use super::{Finding, shown};

/// From the bottom to the top. Rooms on one floor do not know each other.
const FLOORS: &[&[&str]] = &[
    &["error"],
    // PostgreSQL, made safe. It knows no capability.
    &["server"],
    &["settings", "sql", "page"],
    &["ddl"],
    &["calls", "quarantine"],
    // The engine. It knows no kind of job.
    &["jobs"],
    // Capabilities.
    &["schedules", "queries"],
    &["indexes"],
    &["soft_delete"],
    &["row_stamps"],
    &["backfill"],
    // What every statement of the server passes, and which rooms are asked there.
    &["hooks"],
    // What old scripts name; a kind and a chore of a test.
    &["retired", "outside"],
    // The composition: it alone knows who lives here.
    &[TOP],
];

const TOP: &str = "lib.rs";
/// Helpers of tests: named by everybody, and nobody's part.
const HELPERS: &str = "in_server_tests";
/// The floors that they stand on.
const BELOW_HELPERS: usize = 2;

/// Files of a room that can be reached from themselves. A lower number is welcome here, a higher one is not.
const IN_CIRCLES: usize = 8;

pub fn check(clone: &Clone) -> Result<Vec<Finding>> {
    let modules = Modules::of(clone.extension());
    let mut findings = Vec::new();
    let mut inside: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for file in clone.extension() {
        let from = room(&imports::module(&file.path), &file.path);
        if floor(&from).is_none() {
            findings.push(Finding::new(
                &file.path,
                1,
                format!("the room {from} has no floor; give it one in {}", shown(file!())),
            ));
            continue;
        }
        let mut seen = BTreeSet::new();
        for import in imports::of(file, &modules) {
            let target = modules.file(&import.path);
            let to = room(&imports::module(target), target);
            if to == from && !is_part(target, &file.path) {
                inside.entry(&file.path).or_default().insert(target);
            } else if to != from
                && seen.insert((import.line, to.clone()))
                && let Some(why) = wrong(&from, &to)
            {
                findings.push(Finding::new(&file.path, import.line, why));
            }
        }
    }
    findings.extend(circles(&inside, IN_CIRCLES));
    Ok(findings)
}

/// The first part of a path: a directory of `src/`, or a file there.
fn room(module: &[String], file: &str) -> String {
    match module.first() {
        Some(first) => first.clone(),
        None => file.trim_start_matches("src/").to_owned(),
    }
}

fn floor(room: &str) -> Option<usize> {
    if room == HELPERS {
        return Some(BELOW_HELPERS);
    }
    FLOORS.iter().position(|floor| floor.contains(&room))
}

/// A module is put together from its parts, and they know it: no circle worth counting.
fn is_part(part: &str, whole: &str) -> bool {
    let (part, whole) = (imports::module(part), imports::module(whole));
    part.len() == whole.len() + 1 && part.starts_with(&whole)
}

/// Why a room may not know another one.
fn wrong(from: &str, to: &str) -> Option<String> {
    let (at, other) = (floor(from)?, floor(to)?);
    if from == TOP || to == HELPERS || other < at {
        return None;
    }
    let place = if other == at { "is on the same floor as" } else { "stands below" };
    Some(format!(
        "{from} {place} {to} and may not know it: move down what both need, or let whoever stands above hand it in \
         (docs/architecture.md)"
    ))
}

/// Compares the number of files that can be reached from themselves with the known one.
fn circles(arrows: &BTreeMap<&str, BTreeSet<&str>>, known: usize) -> Option<Finding> {
    let in_circle: Vec<_> = arrows.keys().filter(|file| reaches_itself(arrows, file)).copied().collect();
    let what = match in_circle.len() {
        now if now < known => format!("only {now} files of rooms are in circles now: write so into IN_CIRCLES"),
        now if now > known => format!(
            "{now} files of rooms are in circles of files that name each other, {known} were: {}",
            in_circle.join(", ")
        ),
        _ => return None,
    };
    Some(Finding::new(&shown(file!()), 1, what))
}

fn reaches_itself(arrows: &BTreeMap<&str, BTreeSet<&str>>, start: &str) -> bool {
    let (mut seen, mut next) = (BTreeSet::new(), vec![start]);
    while let Some(file) = next.pop() {
        for target in arrows.get(file).into_iter().flatten().filter(|target| **target != file) {
            if *target == start {
                return true;
            }
            if seen.insert(*target) {
                next.push(target);
            }
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(files: &[(&str, &str)]) -> Vec<String> {
        let found = check(&Clone::of(files)).unwrap();
        found.iter().filter(|finding| !finding.what.contains("in circles")).map(ToString::to_string).collect()
    }

    #[test]
    fn who_knows_what_stands_above_is_found() {
        let found = found(&[
            ("src/lib.rs", "fn f() { crate::backfill::x() }"),
            ("src/backfill/mod.rs", "use crate::jobs::x;"),
            ("src/jobs/mod.rs", "use crate::server::x;\nfn f() { crate::backfill::y() }"),
            ("src/server/mod.rs", "use crate::error::E; #[cfg(test)] mod tests { use crate::in_server_tests::run; }"),
            ("src/error.rs", "use crate::KINDS;"),
            ("src/in_server_tests.rs", "use crate::server::x;"),
        ]);
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found[0].starts_with("src/jobs/mod.rs:2: jobs stands below backfill"), "{found:?}");
        assert!(found[1].starts_with("src/error.rs:1: error stands below lib.rs"), "{found:?}");
    }

    #[test]
    fn neighbours_do_not_know_each_other_and_a_new_room_needs_a_floor() {
        let found = found(&[
            ("src/schedules/mod.rs", ""),
            ("src/queries/mod.rs", "use crate::schedules::x;"),
            ("src/backups/mod.rs", ""),
        ]);
        assert!(found[0].starts_with("src/queries/mod.rs:1: queries is on the same floor as schedules"), "{found:?}");
        assert!(found[1].starts_with("src/backups/mod.rs:1: the room backups has no floor"), "{found:?}");
    }

    #[test]
    fn a_module_and_its_parts_are_no_circle_and_two_parts_are_one() {
        let found = |child: &str| {
            let files = [
                ("src/jobs/mod.rs", "fn f() { queue::x() }"),
                ("src/jobs/queue.rs", "use super::store; use super::Kind;"),
                ("src/jobs/store.rs", child),
            ];
            let found = check(&Clone::of(&files)).unwrap();
            found
                .iter()
                .map(|finding| finding.what.split(' ').take(2).collect::<Vec<_>>().join(" "))
                .collect::<Vec<_>>()
        };
        assert_eq!(found("use super::Kind;"), ["only 0"]);
        assert_eq!(found("use super::queue::x;"), ["only 2"]);
    }

    #[test]
    fn files_in_circles_are_counted() {
        let arrows: BTreeMap<_, _> =
            [("a", BTreeSet::from(["b"])), ("b", BTreeSet::from(["a", "c"])), ("c", BTreeSet::from(["c"]))].into();
        assert!(circles(&arrows, 2).is_none());
        assert!(circles(&arrows, 1).unwrap().what.ends_with("a, b"));
        assert!(circles(&arrows, 3).unwrap().what.starts_with("only 2 files"));
    }
}
