//! Client tests by name: as `cargo test` takes them, and as their sources have them.

use std::fmt;
use std::fs;

use anyhow::{Context, Result};

use crate::paths;

/// `--test soft_delete`, the program that cargo makes of `tests/soft_delete`, and `ddl::added_and_renamed_columns_follow`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Test {
    pub program: String,
    pub name: String,
}

/// As people type it after `cargo test -p pg_upkeep-tests`.
impl fmt::Display for Test {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.program, self.name)
    }
}

/// All tests of a file, which is named by its room: "soft_delete/ddl".
pub fn of_file(file: &str) -> Result<Vec<Test>> {
    let path = paths::harness().join(format!("tests/{file}.rs"));
    let source = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let (room, module) = file.split_once('/').context("a file of client tests lies in a room")?;
    let test = |name| Test { program: format!("--test {room}"), name: format!("{module}::{name}") };
    Ok(names(&source).map(test).collect())
}

fn names(source: &str) -> impl Iterator<Item = &str> {
    source.split("\n#[test]\n").skip(1).filter_map(|test| Some(test.split_once("fn ")?.1.split_once('(')?.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tests_are_found_in_their_source() {
        let source = "//! x\n\n#[test]\nfn a() -> Result<()> {\n    b()\n}\n\nfn b() {}\n\n/// y\n#[test]\n#[ignore]\nfn c() {}\n";
        assert_eq!(names(source).collect::<Vec<_>>(), ["a", "c"]);
    }

    #[test]
    fn they_are_called_as_they_are_typed() {
        let tests = of_file("house/harness").unwrap();
        assert!(tests.iter().all(|test| test.to_string().starts_with("--test house harness::")), "{tests:?}");
        assert!(!tests.is_empty());
    }
}
