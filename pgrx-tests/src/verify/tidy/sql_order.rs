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
    name: String,
}

pub fn check(clone: &Clone) -> Result<Vec<Finding>> {
    let entries = entries(&clone.file(LIST)?.text)?;
    let mut findings = Vec::new();
    for Entry { line, file, name } in &entries {
        let wanted = file.trim_start_matches(SCHEMA).trim_end_matches(".sql").replace('/', "_");
        if *name != wanted {
            findings.push(Finding::new(LIST, *line, format!("{file} has to be called \"{wanted}\"")));
        }
        if clone.file(file).is_err() {
            findings.push(Finding::new(LIST, *line, format!("there is no {file}")));
        }
    }
    for file in clone.files.iter().filter(|file| file.path.starts_with(SCHEMA)) {
        if entries.iter().filter(|entry| entry.file == file.path).count() != 1 {
            let what = format!("name it in {LIST}, once: else it is no part of the extension");
            findings.push(Finding::new(&file.path, 1, what));
        }
    }
    Ok(findings)
}

/// Of the list that is handed to `schema!`, which has each require the one above it.
fn entries(text: &str) -> Result<Vec<Entry>> {
    let entry = Regex::new(r#"(?m)^ +"([^"]+)": "\.\./([^"]+)",$"#)?;
    let read = |parts: regex::Captures<'_>| {
        let start = parts.get(0).map_or(0, |whole| whole.start());
        Entry { line: text[..start].matches('\n').count() + 1, name: parts[1].to_owned(), file: parts[2].to_owned() }
    };
    Ok(entry.captures_iter(text).map(read).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_name_and_a_file_left_out_are_found() {
        let list = "schema! {\n    \"jobs_tables\": \"../sql/schema/jobs/tables.sql\",\n    \"views\": \"../sql/schema/jobs/views.sql\",\n\
                    \x20   \"gone\": \"../sql/schema/gone.sql\",\n}\n";
        let files = [
            (LIST, list),
            ("sql/schema/jobs/tables.sql", ""),
            ("sql/schema/jobs/views.sql", ""),
            ("sql/schema/new.sql", ""),
        ];
        let found: Vec<_> = check(&Clone::of(&files)).unwrap().iter().map(ToString::to_string).collect();
        assert_eq!(
            found,
            [
                "src/lib.rs:3: sql/schema/jobs/views.sql has to be called \"jobs_views\"",
                "src/lib.rs:4: there is no sql/schema/gone.sql",
                "sql/schema/new.sql:1: name it in src/lib.rs, once: else it is no part of the extension",
            ]
        );
    }
}
