//! How the sources have to look, beyond what the compiler, rustfmt and clippy see: which room may know which, where raw code is,
//! that numbers of laws lead somewhere. It reads files and nothing else, so it takes a second and comes first.

mod arrows;
mod documented;
mod dumped;
mod exceptions;
mod fence;
mod first_lines;
mod frozen;
mod imports;
mod kinds;
mod laws;
mod lines;
mod links;
mod source;
mod sql_order;
mod versions;

use std::fmt;
use std::fs;

use anyhow::{Result, bail};

use self::source::Clone;
use super::Passed;
use crate::paths;

const EXCEPTIONS: &str = "pgrx-tests/src/verify/tidy/exceptions.txt";

/// Something that is not tidy, and what to do about it.
#[derive(Debug, PartialEq)]
pub struct Finding {
    pub file: String,
    pub line: usize,
    pub what: String,
}

impl Finding {
    fn new(file: &str, line: usize, what: impl Into<String>) -> Self {
        Self { file: file.to_owned(), line, what: what.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.file, self.line, self.what)
    }
}

/// The name by which `exceptions.txt` knows it, and what it does.
type Check = (&'static str, fn(&Clone) -> Result<Vec<Finding>>);

const CHECKS: &[Check] = &[
    ("arrows", arrows::check),
    ("kinds", kinds::check),
    ("raw-code", fence::addresses),
    ("safety", fence::safety),
    ("declarations", fence::declarations),
    ("sql-order", sql_order::check),
    ("laws", laws::check),
    ("dumped", dumped::check),
    ("frozen", frozen::check),
    ("documented", documented::check),
    ("code-in-docs", documented::check_code),
    ("links", links::check),
    ("first-lines", first_lines::check),
    ("lines", lines::check),
    ("versions", versions::check),
];

pub fn run(accept: bool) -> Result<Passed> {
    let clone = Clone::read(&paths::root())?;
    let mut found = Vec::new();
    for (name, check) in CHECKS {
        found.extend(check(&clone)?.into_iter().map(|finding| (*name, finding)));
    }
    let list = paths::root().join(EXCEPTIONS);
    let excepted = exceptions::parse(&fs::read_to_string(&list)?)?;
    let (mut said, needed) = exceptions::apply(&excepted, found);
    if accept && needed != excepted {
        fs::write(&list, exceptions::print(&needed))?;
        said.retain(|line| !line.contains("are excepted: lower it"));
    }
    if !said.is_empty() {
        bail!("{}", said.join("\n"));
    }
    let number = needed.values().sum::<usize>();
    Ok(Passed::with(format!("{} files, {} checks, {number} exceptions", clone.files.len(), CHECKS.len())))
}

/// A file of the harness, from the top of the clone.
fn shown(file: &str) -> String {
    let at = file.find("pgrx-tests/").unwrap_or(0);
    file[at..].to_owned()
}
