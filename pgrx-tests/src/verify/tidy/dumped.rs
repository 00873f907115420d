//! What a dump of an older version names is there for ever (LAW 37): the tables and sequences whose rows dumps carry, with their
//! columns, and the functions that stand in triggers on users' tables. The install scripts of older versions say what that was.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use regex::Regex;

use super::Finding;
use super::source::{Clone, File};

/// Functions in the WHEN of triggers on users' tables, besides the triggers' own.
const IN_CONDITIONS: &[&str] = &["_is_filling", "_is_by_hand"];

pub fn check(clone: &Clone) -> Result<Vec<Finding>> {
    let reader = Reader::new()?;
    let mut now = Named::default();
    for file in clone.files.iter().filter(|file| file.is_below("sql/schema")) {
        reader.read(file, &mut now);
    }
    let mut findings = Vec::new();
    for file in clone.files.iter().filter(|file| is_install_script(&file.path)) {
        let mut then = Named::default();
        reader.read(file, &mut then);
        for what in then.all().difference(&now.all()) {
            let what =
                format!("dumps of this version name {what}, which the schema has no more: it has to stay for ever");
            findings.push(Finding::new(&file.path, 1, what));
        }
    }
    Ok(findings)
}

/// `pg_upkeep--0.5.0.sql`, and not `pg_upkeep--0.4.0--0.5.0.sql`.
fn is_install_script(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or_default();
    name.strip_prefix("pg_upkeep--").is_some_and(|rest| rest.ends_with(".sql") && !rest.contains("--"))
}

#[derive(Default)]
struct Named {
    dumped: BTreeSet<String>,
    /// Of all tables: `name type`.
    columns: BTreeMap<String, BTreeSet<String>>,
    functions: BTreeSet<String>,
}

impl Named {
    fn all(&self) -> BTreeSet<String> {
        let mut all = self.functions.clone();
        for table in &self.dumped {
            let columns = self.columns.get(table).into_iter().flatten();
            all.extend(columns.map(|column| format!("column {column} of {table}")));
            all.insert(table.clone());
        }
        all
    }
}

struct Reader {
    dumped: Regex,
    function: Regex,
    column: Regex,
}

impl Reader {
    fn new() -> Result<Self> {
        Ok(Self {
            dumped: Regex::new(r"pg_extension_config_dump\('upkeep\.(\w+)'")?,
            function: Regex::new(r"^CREATE FUNCTION upkeep\.((\w+)\([^)]*\) RETURNS (\S+))")?,
            column: Regex::new(r"^    ([a-z_]+) ([a-z_.]+(?:\[\])?)")?,
        })
    }

    fn read(&self, file: &File, named: &mut Named) {
        let mut table: Option<&str> = None;
        for (_, line) in file.lines() {
            if let Some(name) = line.strip_prefix("CREATE TABLE upkeep.") {
                table = name.split([' ', '(']).next();
            } else if line.starts_with(')') {
                table = None;
            } else if let Some(table) = table {
                if let Some(parts) = self.column.captures(line) {
                    let column = format!("{} {}", &parts[1], plain(&parts[2]));
                    named.columns.entry(table.to_owned()).or_default().insert(column);
                }
            } else if line.contains("config_dump")
                && let Some(parts) = self.dumped.captures(line)
            {
                named.dumped.insert(parts[1].to_owned());
            } else if line.starts_with("CREATE FUNCTION")
                && let Some(parts) = self.function.captures(line)
                && (plain(&parts[3]) == "trigger" || IN_CONDITIONS.contains(&&parts[2]))
            {
                named.functions.insert(plain(&parts[1]));
            }
        }
    }
}

/// Types are qualified in some versions and not in others.
fn plain(text: &str) -> String {
    text.replace("pg_catalog.", "")
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: &str = "CREATE TABLE upkeep._job (\n    id uuid PRIMARY KEY,\n    CHECK (id IS NOT NULL),\n    name text\n);\n\
                       CREATE TABLE upkeep._cache (\n    id uuid\n);\n\
                       SELECT pg_extension_config_dump('upkeep._job', '');\n\
                       CREATE FUNCTION upkeep._guard() RETURNS trigger\nCREATE FUNCTION upkeep._is_filling(uuid) RETURNS boolean\n\
                       CREATE FUNCTION upkeep._other(uuid) RETURNS boolean";

    fn found(schema: &str) -> Vec<String> {
        let files =
            [("sql/pg_upkeep--0.1.0.sql", OLD), ("sql/pg_upkeep--0.1.0--0.2.0.sql", "x"), ("sql/schema/a.sql", schema)];
        let found = check(&Clone::of(&files)).unwrap();
        found.iter().map(|finding| finding.what.split(',').next().unwrap().to_owned()).collect()
    }

    #[test]
    fn what_dumps_name_has_to_stay() {
        assert_eq!(found(&OLD.replace("text", "pg_catalog.text")), [""; 0]);
        assert_eq!(found(&OLD.replace("upkeep._cache", "upkeep._store")), [""; 0]);
        assert_eq!(
            found(&OLD.replace("    name text", "    title text")),
            ["dumps of this version name column name text of _job"]
        );
        assert_eq!(
            found(&OLD.replace("_guard()", "_guard(int)")),
            ["dumps of this version name _guard() RETURNS trigger"]
        );
        assert_eq!(found(&OLD.replace("_is_filling(uuid)", "_is_filling(int)")).len(), 1);
        assert_eq!(found(&OLD.replace("config_dump('upkeep._job'", "x('upkeep._job'")).len(), 3);
    }
}
