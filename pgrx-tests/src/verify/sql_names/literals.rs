//! The texts of a Rust file that are SQL.

use anyhow::{Result, anyhow};
use proc_macro2::{Delimiter, TokenStream, TokenTree};
use regex::Regex;

use super::STAND_IN;

pub struct Literal {
    pub line: usize,
    /// As it stands, with `{..}` where something is put in.
    pub text: String,
}

/// What people read, and type themselves: its SQL is never run by us.
const FOR_PEOPLE: &[&str] = &["hint", "detail", "message", "report", "println", "panic", "expect", "bail"];

pub fn of(source: &str) -> Result<Vec<Literal>> {
    let tokens: TokenStream = source.parse().map_err(|error| anyhow!("{error}"))?;
    let mut found = Vec::new();
    collect(tokens, &mut found);
    Ok(found)
}

fn collect(tokens: TokenStream, found: &mut Vec<Literal>) {
    let mut before = [String::new(), String::new(), String::new()];
    for token in tokens {
        let skipped = match &token {
            // Doc comments and attributes: `#[..]`.
            TokenTree::Group(group) if group.delimiter() == Delimiter::Bracket && before[2] == "#" => true,
            TokenTree::Group(_) if before[1] == "#" && before[2] == "!" => true,
            // `mod tests { .. }`
            TokenTree::Group(group) if group.delimiter() == Delimiter::Brace && before[1] == "mod" => {
                before[2] == "tests"
            }
            // `.hint(..)`, `Error::new(..)`, `panic!(..)`
            TokenTree::Group(_) => is_for_people(&before),
            // `hint: c".."`
            TokenTree::Literal(_) => before[2] == ":" && FOR_PEOPLE.contains(&before[1].as_str()),
            _ => false,
        };
        if !skipped {
            match &token {
                TokenTree::Group(group) => collect(group.stream(), found),
                TokenTree::Literal(literal) => {
                    if let Some(text) = text_of(&literal.to_string()).filter(|text| is_sql(text)) {
                        found.push(Literal { line: literal.span().start().line, text });
                    }
                }
                _ => {}
            }
        }
        before.rotate_left(1);
        before[2] = match &token {
            TokenTree::Group(_) => String::new(),
            other => other.to_string(),
        };
    }
}

fn is_for_people(before: &[String; 3]) -> bool {
    let [_, second, third] = before;
    FOR_PEOPLE.contains(&third.as_str()) || (third == "!" && FOR_PEOPLE.contains(&second.as_str()))
}

/// The value of a string literal; `None`: not a string.
fn text_of(literal: &str) -> Option<String> {
    let rest = literal.strip_prefix('c').unwrap_or(literal);
    if let Some(raw) = rest.strip_prefix('r') {
        let hashes = raw.len() - raw.trim_start_matches('#').len();
        return Some(raw.get(hashes + 1..raw.len() - hashes - 1)?.to_owned());
    }
    let quoted = rest.strip_prefix('"')?.strip_suffix('"')?;
    let mut text = String::new();
    let mut chars = quoted.chars().peekable();
    while let Some(c) = chars.next() {
        if c != '\\' {
            text.push(c);
            continue;
        }
        match chars.next() {
            Some('n') => text.push('\n'),
            Some('t') => text.push('\t'),
            Some('\n') => while chars.next_if(|c| c.is_whitespace()).is_some() {},
            Some(other) => text.push(other),
            None => {}
        }
    }
    Some(text)
}

fn is_sql(text: &str) -> bool {
    // A sentence, or advice that we cannot follow ourselves.
    let prose = r"^\s*([A-Z][a-z]+ |ALTER SYSTEM )";
    let statement = concat!(
        r"^\s*(SELECT|INSERT INTO|UPDATE|DELETE FROM|WITH|MERGE|LOCK TABLE|CREATE|ALTER|DROP|",
        r"TABLE|COMMENT ON|VALUES|CALL|EXPLAIN)\s"
    );
    let part = concat!(
        r"pg_catalog\.|::[a-z{]|OPERATOR\(|",
        r"\b(FROM|WHERE|ORDER BY|RETURNING|USING|ON CONFLICT|SET|IS NULL|IS NOT NULL|CASE WHEN|EXISTS \()\b"
    );
    let matches = |pattern: &str| Regex::new(pattern).is_ok_and(|pattern| pattern.is_match(text));
    !matches(prose) && (matches(statement) || matches(part))
}

impl Literal {
    /// `column = ..`, `{column} = ..`
    pub fn assigns(&self) -> bool {
        Regex::new(r"^\s*(\w+|\{\w*\}) = ").is_ok_and(|pattern| pattern.is_match(&self.text))
    }

    /// The text with something in place of each `{..}`: names first, then operators, then nothing.
    pub fn readings(&self) -> Vec<String> {
        let placeholder = Regex::new(r"\{[^{}]*\}").expect("a pattern");
        let plain = self.text.replace("{{", "\u{1}").replace("}}", "\u{2}");
        // A part that is an operator, qualified.
        let in_operator = Regex::new(r"OPERATOR\(\{[^{}]*\}\)").expect("a pattern");
        let plain = in_operator.replace_all(&plain, format!("OPERATOR({STAND_IN}.=)")).into_owned();
        let back = |text: String| text.replace('\u{1}', "{").replace('\u{2}', "}");
        let count = placeholder.find_iter(&plain).count();
        let operator = format!("OPERATOR({STAND_IN}.=)");
        let choices = [STAND_IN, operator.as_str(), ""];
        // Every choice for a few, one for all for many.
        let ways: Vec<Vec<usize>> = match count {
            0 => vec![vec![]],
            1..=5 => (0..3usize.pow(count as u32))
                .map(|n| (0..count).map(|i| n / 3usize.pow(i as u32) % 3).collect())
                .collect(),
            _ => (0..3).map(|way| vec![way; count]).collect(),
        };
        ways.iter()
            .map(|way| {
                let mut next = way.iter();
                back(
                    placeholder
                        .replace_all(&plain, |_: &regex::Captures<'_>| choices[*next.next().unwrap_or(&0)])
                        .into_owned(),
                )
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(source: &str) -> Vec<String> {
        of(source).unwrap().into_iter().map(|literal| literal.text).collect()
    }

    #[test]
    fn texts_for_people_and_tests_are_left_out() {
        let source = r##"
            /// SELECT 1 FROM doc
            fn f() { run("SELECT 1 FROM a", &[]); error.hint("SELECT 2 FROM b"); g(Report { hint: c"SELECT 3 FROM c" }) }
            mod tests { fn g() { run("SELECT 4 FROM d") } }
            mod other { const X: &str = r#"SELECT 5 FROM "e""#; const Y: &str = "no statement"; }
        "##;
        assert_eq!(texts(source), ["SELECT 1 FROM a", "SELECT 5 FROM \"e\""]);
    }

    #[test]
    fn parts_that_are_put_in_have_several_readings() {
        let literal = Literal { line: 1, text: "SELECT {{}} a {equal} b".into() };
        assert_eq!(
            literal.readings(),
            ["SELECT {} a stand_in b", "SELECT {} a OPERATOR(stand_in.=) b", "SELECT {} a  b"]
        );
    }
}
