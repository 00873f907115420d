//! No SQL of ours leaves a name to somebody's search_path (LAW 28): every text in `src/` and `sql/schema/` goes through the
//! server's own parser (`server::names`), and types, functions, operators, relations and collations without a schema are
//! errors. Statements that are put together are read with a stand-in for each part; a part of a statement is read where it
//! fits. What no shape fits is looked at word by word.
//!
//! Not seen here: names that come in with a part at run time, and operators that the grammar implies (`IN`, `IS DISTINCT
//! FROM`). Those the door proves where it analyses a statement.

mod literals;
mod words;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use self::literals::Literal;
use super::{Passed, Suite};
use crate::cluster::Cluster;
use crate::paths;
use crate::session::Session;

const DATABASE: &str = "sql_names";
/// What stands for a part that is put in at run time; names with it count as qualified.
pub const STAND_IN: &str = "stand_in";

/// Between two readings, as the function wants it.
const BETWEEN: &str = "\u{1}";

/// Names that are looked up nowhere else.
const KNOWN: &[(&str, &str)] = &[("relation v", "a common table expression that is put in front")];

/// Where a part of a statement may belong, in the order in which they are tried.
const SHAPES: &[(&str, &str)] = &[
    ("", ""),
    ("SELECT ", ""),
    ("SELECT FROM stand_in WHERE ", ""),
    ("SELECT FROM stand_in ", ""),
    ("SELECT stand_in ", ""),
    ("SELECT FROM stand_in WHERE stand_in ", ""),
    ("UPDATE stand_in SET ", ""),
    ("UPDATE stand_in ", ""),
    ("INSERT INTO stand_in ", ""),
    ("SELECT (", ")"),
    ("SELECT (", ""),
    ("SELECT FROM (", ") stand_in"),
    ("", " stand_in"),
    ("", " (stand_in)"),
    ("", " SELECT"),
    ("", " SET stand_in = 1"),
    ("SELECT FROM stand_in WHERE (", ""),
    ("SELECT FROM stand_in WHERE ", " true"),
    ("SELECT FROM stand_in WHERE ", " (true)"),
    ("SELECT FROM stand_in WHERE ", "true)"),
    ("SELECT FROM stand_in WHERE ", ")"),
    ("SELECT 1::", ""),
    ("ALTER TABLE upkeep.stand_in ", ""),
    ("CREATE TABLE upkeep.stand_in (", ")"),
];

pub fn run(suite: &Suite) -> Result<Passed> {
    let tree = suite.tests_tree()?;
    let cluster = Cluster::builder(tree, &Cluster::unique_name("sql-names")).start()?;
    cluster.create_database(DATABASE)?;
    let mut parser = Parser { session: cluster.connect(DATABASE)? };
    parser.session.run(
        "CREATE FUNCTION names(text) RETURNS text LANGUAGE c STRICT
         AS '$libdir/pg_upkeep', 'names_by_path_wrapper'",
    )?;
    parser.check_itself()?;
    let mut counts = Counts::default();
    let mut findings = Vec::new();
    for file in files(&paths::root().join("src"), "rs")? {
        let source = fs::read_to_string(&file)?;
        for literal in literals::of(&source).with_context(|| file.display().to_string())? {
            for finding in parser.look(&literal, &mut counts)? {
                findings.push(format!("{}:{}: {finding}", shown(&file), literal.line));
            }
        }
    }
    for file in files(&paths::root().join("sql/schema"), "sql")? {
        let source = fs::read_to_string(&file)?;
        counts.parsed += 1;
        let found = parser.names(&source)?.with_context(|| format!("{} cannot be parsed", shown(&file)))?;
        for finding in found {
            findings.push(format!("{}: {finding}", shown(&file)));
        }
    }
    if !findings.is_empty() {
        bail!("names that are left to somebody's search_path:\n{}", findings.join("\n"));
    }
    Ok(Passed::with(format!(
        "{} texts parsed, {} looked at word by word, each name has a schema",
        counts.parsed, counts.words
    )))
}

#[derive(Default)]
struct Counts {
    parsed: usize,
    words: usize,
}

struct Parser {
    session: Session,
}

impl Parser {
    /// The names without a schema, in the first of some readings that is SQL. `None`: none is.
    fn names(&mut self, readings: &str) -> Result<Option<Vec<String>>> {
        let quoted = readings.replace('\'', "''");
        let found = self.session.values::<Option<String>>(&format!("SELECT names('{quoted}')"))?;
        let unknown =
            |name: &&str| !name.is_empty() && !name.contains(STAND_IN) && !KNOWN.iter().any(|(known, _)| known == name);
        let found = found.into_iter().next().flatten();
        Ok(found.map(|found| found.lines().filter(unknown).map(str::to_owned).collect()))
    }

    fn look(&mut self, literal: &Literal, counts: &mut Counts) -> Result<Vec<String>> {
        // What begins like an assignment is one.
        let (set, others): (Vec<_>, Vec<_>) = SHAPES.iter().partition(|(before, _)| before.ends_with(" SET "));
        let shapes = if literal.assigns() { [set, others] } else { [others, set] }.concat();
        let mut readings = Vec::new();
        for text in literal.readings() {
            for (before, after) in &shapes {
                let after = if text.trim_end().ends_with(" SET") { " stand_in = 1" } else { after };
                readings.push(format!("{before}{text}{after}"));
            }
        }
        if let Some(found) = self.names(&readings.join(BETWEEN))? {
            counts.parsed += 1;
            return Ok(found);
        }
        counts.words += 1;
        Ok(words::unqualified(&literal.text))
    }

    /// A check that finds nothing proves nothing.
    fn check_itself(&mut self) -> Result<()> {
        for (sql, wanted) in [
            ("SELECT 1::name", "type name"),
            ("SELECT lower(a)", "function lower"),
            ("SELECT a = b", "operator ="),
            ("SELECT FROM x", "relation x"),
            ("SELECT a COLLATE \"C\"", "collation C"),
            ("SELECT FROM pg_catalog.a WHERE EXISTS (SELECT a ~ b)", "operator ~"),
            (
                "CREATE FUNCTION upkeep.f() RETURNS int LANGUAGE sql AS 'SELECT 1 IN (2)'",
                "operator of IN, IS DISTINCT FROM, NULLIF, LIKE or BETWEEN",
            ),
            ("WITH x AS (SELECT 1) SELECT FROM x", ""),
            ("SELECT a::integer, coalesce(b, c), extract(epoch FROM d)", ""),
            ("SELECT SELECT\u{1}SELECT a = b\u{1}SELECT c", "operator ="),
            ("SELECT SELECT", "no SQL"),
        ] {
            let found = self.names(sql)?.map_or_else(|| "no SQL".to_owned(), |found| found.join(", "));
            if found != wanted {
                bail!("{sql}\nmust find \"{wanted}\", finds \"{found}\"");
            }
        }
        Ok(())
    }
}

fn shown(file: &Path) -> String {
    file.strip_prefix(paths::root()).unwrap_or(file).display().to_string()
}

/// All files of a kind below a directory but tests, in order.
fn files(dir: &Path, extension: &str) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() {
            found.extend(files(&path, extension)?);
        } else if path.extension().is_some_and(|e| e == extension) && !stem.ends_with("tests") {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}
