//! A file begins with what it is for.

use anyhow::Result;

use super::Finding;
use super::source::{Clone, File};

pub fn check(clone: &Clone) -> Result<Vec<Finding>> {
    Ok(clone.files.iter().filter_map(|file| Some(Finding::new(&file.path, 1, wrong(file)?))).collect())
}

fn wrong(file: &File) -> Option<&'static str> {
    let begins = |with: &str| file.text.lines().next().is_some_and(|line| line.strip_prefix(with).is_some_and(says));
    if file.ends("rs") {
        (!begins("//! ")).then_some("begin with `//!` and a sentence that says what the file is for")
    } else if file.is_below("sql/schema") {
        (!begins("-- ")).then_some("begin with `--` and a sentence that says what the file is for")
    } else if file.ends("md") {
        (!begins("# ")).then_some("begin with `# ` and the title of the page")
    } else {
        None
    }
}

fn says(text: &str) -> bool {
    text.contains(char::is_alphabetic)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_that_begin_with_something_else_are_found() {
        let found = check(&Clone::of(&[
            ("src/a.rs", "//! What a is for.\nuse b;"),
            ("src/b.rs", "use c;"),
            ("src/c.rs", "//! \n"),
            ("sql/schema/a.sql", "-- Tables of a."),
            ("sql/schema/b.sql", "CREATE TABLE b ();"),
            ("sql/other.sql", "SELECT 1;"),
            ("docs/a.md", "# A"),
            ("docs/b.md", "B\n"),
        ]))
        .unwrap();
        let files: Vec<_> = found.iter().map(|finding| finding.file.as_str()).collect();
        assert_eq!(files, ["src/b.rs", "src/c.rs", "sql/schema/b.sql", "docs/b.md"]);
    }
}
