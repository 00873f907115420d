//! `schema!` in `src/lib.rs` lists the SQL files in the order in which CREATE EXTENSION runs them, and lets each require the one
//! above it. None is left out, and an entry is called as its room and its file.

use anyhow::Result;
use regex::Regex;

use super::Finding;
use super::source::Clone;

const LIST: &str = "src/lib.rs";
const SCHEMA: &str = "sql/schema/";

pub fn check(clone: &Clone) -> Result<Vec<Finding>> {
    let entry = Regex::new(r#"^\s*"(\w+)": "\.\./([^"]+)","#)?;
    let mut findings = Vec::new();
    let mut listed = Vec::new();
    for (line, text) in clone.file(LIST)?.lines() {
        let Some(parts) = entry.captures(text) else { continue };
        let (name, file) = (&parts[1], parts[2].to_owned());
        let wanted = file.trim_start_matches(SCHEMA).trim_end_matches(".sql").replace('/', "_");
        if name != wanted {
            findings.push(Finding::new(LIST, line, format!("call it \"{wanted}\", as its room and its file")));
        }
        if clone.file(&file).is_err() {
            findings.push(Finding::new(LIST, line, format!("there is no {file}")));
        }
        listed.push(file);
    }
    for file in clone.files.iter().filter(|file| file.path.starts_with(SCHEMA) && !listed.contains(&file.path)) {
        findings.push(Finding::new(&file.path, 1, format!("name it in {LIST}: else it is no part of the extension")));
    }
    Ok(findings)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_left_out_a_file_that_is_gone_and_another_name_are_found() {
        let list = "schema! {\n    \"jobs_tables\": \"../sql/schema/jobs/tables.sql\",\n    \
                    \"views\": \"../sql/schema/jobs/views.sql\",\n    \
                    \"jobs_gone\": \"../sql/schema/jobs/gone.sql\",\n}\n";
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
                "src/lib.rs:3: call it \"jobs_views\", as its room and its file",
                "src/lib.rs:4: there is no sql/schema/jobs/gone.sql",
                "sql/schema/new.sql:1: name it in src/lib.rs: else it is no part of the extension",
            ]
        );
    }
}
