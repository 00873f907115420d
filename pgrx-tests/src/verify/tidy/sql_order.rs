//! The SQL files of the schema are listed in `src/lib.rs` in the order in which CREATE EXTENSION runs them: each requires the one
//! above it. None is left out.

use anyhow::Result;
use regex::Regex;

use super::Finding;
use super::source::Clone;

const LIST: &str = "src/lib.rs";
const SCHEMA: &str = "sql/schema/";

struct Entry {
    line: usize,
    file: String,
    /// By which others require it.
    name: String,
    requires: Vec<String>,
}

pub fn check(clone: &Clone) -> Result<Vec<Finding>> {
    let entries = entries(&clone.file(LIST)?.text)?;
    let mut findings = Vec::new();
    for (at, entry) in entries.iter().enumerate() {
        let wanted: Vec<_> = at.checked_sub(1).map(|above| entries[above].name.clone()).into_iter().collect();
        if entry.requires != wanted {
            let wanted =
                wanted.first().map_or_else(|| "nothing".to_owned(), |name| format!("\"{name}\", the one above"));
            let what = format!("{} has to require {wanted}, so that the list is the order", entry.file);
            findings.push(Finding::new(LIST, entry.line, what));
        }
        if clone.file(&entry.file).is_err() {
            findings.push(Finding::new(LIST, entry.line, format!("there is no {}", entry.file)));
        }
    }
    for file in clone.files.iter().filter(|file| file.path.starts_with(SCHEMA)) {
        if !entries.iter().any(|entry| entry.file == file.path) {
            findings.push(Finding::new(
                &file.path,
                1,
                format!("name it in {LIST}: else it is no part of the extension"),
            ));
        }
    }
    Ok(findings)
}

fn entries(text: &str) -> Result<Vec<Entry>> {
    let entry = Regex::new(r#"extension_sql_file!\(\s*"\.\./([^"]+)"([^;]*)\);"#)?;
    let (name, list, quoted) =
        (Regex::new(r#"name = "([^"]+)""#)?, Regex::new(r"requires = \[([^\]]*)\]")?, Regex::new(r#""([^"]+)""#)?);
    let read = |parts: regex::Captures<'_>| {
        let (file, rest) = (parts[1].to_owned(), parts[2].to_owned());
        let stem = file.rsplit('/').next().unwrap_or_default().trim_end_matches(".sql").to_owned();
        let requires = list.captures(&rest).map(|found| found[1].to_owned()).unwrap_or_default();
        let start = parts.get(0).map_or(0, |whole| whole.start());
        Entry {
            line: text[..start].matches('\n').count() + 1,
            name: name.captures(&rest).map_or(stem, |found| found[1].to_owned()),
            requires: quoted.captures_iter(&requires).map(|found| found[1].to_owned()).collect(),
            file,
        }
    };
    Ok(entry.captures_iter(text).map(read).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_out_of_order_and_a_file_left_out_are_found() {
        let list = "pgrx::extension_sql_file!(\"../sql/schema/jobs/tables.sql\", name = \"jobs_tables\");\n\
                    pgrx::extension_sql_file!(\"../sql/schema/views.sql\", requires = [\"jobs_tables\"]);\n\
                    pgrx::extension_sql_file!(\n    \"../sql/schema/gone.sql\",\n    requires = [\"jobs_tables\", \"views\"]\n);\n";
        let files = [
            (LIST, list),
            ("sql/schema/jobs/tables.sql", ""),
            ("sql/schema/views.sql", ""),
            ("sql/schema/new.sql", ""),
        ];
        let found: Vec<_> = check(&Clone::of(&files)).unwrap().iter().map(ToString::to_string).collect();
        assert_eq!(
            found,
            [
                "src/lib.rs:3: sql/schema/gone.sql has to require \"views\", the one above, so that the list is the order",
                "src/lib.rs:3: there is no sql/schema/gone.sql",
                "sql/schema/new.sql:1: name it in src/lib.rs: else it is no part of the extension",
            ]
        );
    }
}
