//! The engine names no kind of job: its texts are about jobs, and a kind is asked for what is its own. So one more kind is one
//! more file, and not a search through the engine for what was meant for another.

use anyhow::Result;
use proc_macro2::{TokenStream, TokenTree};
use regex::Regex;

use super::Finding;
use super::imports::{self, Modules};
use super::source::Clone;

const ENGINE: &str = "src/jobs";
/// The one kind that lives with the engine, and where it is declared.
const KIND: &str = "src/jobs/command.rs";
const DECLARES: &str = "src/jobs/mod.rs";

/// What kinds, and rooms above the engine, have of their own.
const WORDS: &[&str] = &[
    "backfill",
    r"\bcommands?\b",
    r"\bleft a trigger\b",
    "quarantin",
    "purge",
    r"soft.delete",
    r"unique.keys",
    r"\bbuilds? indexes\b",
    r"\bfingerprint\b",
    r"row.stamps",
    r"_query",
    r"\bschedules?\b",
    r"_schedules?(\b|_)",
];

/// What kinds call themselves: the room that has one needs no line above for that.
fn names(clone: &Clone) -> Result<Vec<String>> {
    let name = Regex::new(r#"impl Kind for \w+ \{\s*fn name\(&self\) -> &'static str \{\s*"([^"]+)""#)?;
    let of = |text: &str| {
        name.captures_iter(text).map(|found| format!(r"\b{}\b", regex::escape(&found[1]))).collect::<Vec<_>>()
    };
    Ok(clone.extension().filter(|file| !file.is_below(ENGINE)).flat_map(|file| of(&file.text)).collect())
}

pub fn check(clone: &Clone) -> Result<Vec<Finding>> {
    let words = Regex::new(&[WORDS.iter().map(ToString::to_string).collect(), names(clone)?].concat().join("|"))?;
    let modules = Modules::of(clone.extension());
    let mut findings = Vec::new();
    for file in clone.extension().filter(|file| file.is_below(ENGINE) && file.path != KIND && !is_test(&file.path)) {
        let mut literals = Vec::new();
        collect(&file.tokens(), &mut literals);
        for (line, text) in literals {
            if let Some(word) = words.find(&text) {
                let what = format!("the engine says \"{}\", which is a kind's: ask the kind for it", word.as_str());
                findings.push(Finding::new(&file.path, line, what));
            }
        }
        let names_kind = |import: &imports::Import| file.path != DECLARES && modules.file(&import.path) == KIND;
        for import in imports::of(file, &modules).into_iter().filter(names_kind) {
            findings.push(Finding::new(
                &file.path,
                import.line,
                "the engine names the kind `command`: ask the registry",
            ));
        }
    }
    Ok(findings)
}

fn is_test(path: &str) -> bool {
    path.ends_with("/tests.rs") || path.contains("/tests/")
}

/// Literals outside of attributes, comments and `mod tests`.
fn collect(tokens: &[TokenTree], found: &mut Vec<(usize, String)>) {
    let word = |at: usize| match tokens.get(at) {
        Some(TokenTree::Ident(word)) => word.to_string(),
        _ => String::new(),
    };
    for (at, token) in tokens.iter().enumerate() {
        match token {
            TokenTree::Literal(literal) => found.push((literal.span().start().line, literal.to_string())),
            TokenTree::Group(group) => {
                let in_tests = at >= 2 && word(at - 2) == "mod" && word(at - 1) == "tests";
                if !in_tests && !is_attribute(tokens, at) {
                    collect(&inside(group.stream()), found);
                }
            }
            _ => {}
        }
    }
}

fn inside(stream: TokenStream) -> Vec<TokenTree> {
    stream.into_iter().collect()
}

/// `#[..]` and `#![..]`, which doc comments are, too.
fn is_attribute(tokens: &[TokenTree], at: usize) -> bool {
    let punct = |at: usize, c: char| matches!(tokens.get(at), Some(TokenTree::Punct(punct)) if punct.as_char() == c);
    at >= 1 && (punct(at - 1, '#') || (at >= 2 && punct(at - 1, '!') && punct(at - 2, '#')))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Vec<String> {
        let files = [
            ("src/jobs/verbs.rs", text),
            ("src/jobs/command.rs", "const K: &str = \"command\";"),
            ("src/jobs/mod.rs", ""),
        ];
        check(&Clone::of(&files)).unwrap().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn words_of_kinds_are_found() {
        let found = found(
            "fn f() { run(\"SELECT FROM upkeep._backfill_row\");\ng(\"upkeep.quarantined_rows\", \"upkeep._schedule\") }",
        );
        assert!(found[0].starts_with("src/jobs/verbs.rs:1: the engine says \"backfill\""), "{found:?}");
        assert_eq!(found.len(), 3, "{found:?}");
    }

    #[test]
    fn the_kind_itself_is_named_by_nobody() {
        assert!(found("use super::command::KIND;")[0].contains("names the kind"));
    }

    #[test]
    fn comments_tests_and_the_scheduler_are_no_kinds() {
        let text = "/// A backfill.\n// purge\n#[doc = \"purge\"]\nfn f() { g(c\"upkeep_scheduler_main\", \"commanded\") }\n\
                    mod tests { fn f() { g(\"backfill\") } }";
        assert_eq!(found(text), [""; 0]);
    }
}
