//! Examples in a Markdown file.
//!
//! - ```` ```sql ```` is run; ```` ```sql error=22023 ```` must end in that error; ```` ```sql skip ```` is not run.
//! - ```` ```text ```` or ```` ```output ```` right after an example is what it prints.

#[derive(Debug, PartialEq)]
pub struct Example {
    /// Of the first line of code, counted from one.
    pub line: usize,
    pub sql: String,
    pub error: Option<String>,
    pub output: Option<String>,
}

pub fn examples(markdown: &str) -> Vec<Example> {
    let mut found: Vec<Example> = Vec::new();
    // Whether the last block was an example, so that an output block belongs to it.
    let mut answerable = false;
    let mut lines = markdown.lines().enumerate();
    while let Some((number, line)) = lines.next() {
        let Some(tag) = line.trim_start().strip_prefix("```") else { continue };
        let code: Vec<&str> =
            lines.by_ref().map(|(_, l)| l).take_while(|l| !l.trim_start().starts_with("```")).collect();
        let code = code.join("\n");
        let mut words = tag.split_whitespace();
        let language = words.next().unwrap_or_default();
        let options: Vec<&str> = words.collect();
        match language {
            "sql" if options.contains(&"skip") => answerable = false,
            "sql" => {
                let error = options.iter().find_map(|o| o.strip_prefix("error=")).map(str::to_owned);
                found.push(Example { line: number + 2, sql: code, error, output: None });
                answerable = true;
            }
            "text" | "output" if answerable => {
                found.last_mut().expect("an example came before").output = Some(code);
                answerable = false;
            }
            _ => answerable = false,
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_become_examples() {
        let text = "Intro\n```sql\nSELECT 1;\n```\nprints\n```text\n 1\n```\n\
                    ```sql error=22012\nSELECT 1/0;\n```\n```sql skip\nDROP x;\n```\n```text\nnot an answer\n```\n";
        let expected = [
            Example { line: 3, sql: "SELECT 1;".into(), error: None, output: Some(" 1".into()) },
            Example { line: 10, sql: "SELECT 1/0;".into(), error: Some("22012".into()), output: None },
        ];
        assert_eq!(examples(text), expected);
    }
}
