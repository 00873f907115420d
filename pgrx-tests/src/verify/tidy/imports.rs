//! Which modules a Rust file names: by `use`, and by paths in its code, its macros and its tests.

use std::collections::BTreeMap;

use proc_macro2::{Delimiter, TokenTree};

use super::source::File;

/// A path from the top of the crate, and where it is named: `["jobs", "queue", "create"]` in line 7.
#[derive(Debug, PartialEq)]
pub struct Import {
    pub line: usize,
    pub path: Vec<String>,
}

/// The modules that have a file of their own.
pub struct Modules(BTreeMap<Vec<String>, String>);

impl Modules {
    pub fn of<'a>(files: impl Iterator<Item = &'a File>) -> Self {
        Self(files.map(|file| (module(&file.path), file.path.clone())).collect())
    }

    /// The file in which the end of a path is, or is named again.
    pub fn file(&self, path: &[String]) -> &str {
        let known = (0..=path.len()).rev().find_map(|length| self.0.get(&path[..length]));
        known.map_or("src/lib.rs", String::as_str)
    }
}

/// `src/jobs/queue.rs` is `["jobs", "queue"]`, `src/jobs/mod.rs` is `["jobs"]`, `src/lib.rs` is `[]`.
pub fn module(path: &str) -> Vec<String> {
    let path = path.trim_start_matches("src/").trim_end_matches(".rs");
    let mut names: Vec<_> = path.split('/').map(str::to_owned).collect();
    names.pop_if(|last| last == "mod" || last == "lib");
    names
}

pub fn of(file: &File, modules: &Modules) -> Vec<Import> {
    let mut reader = Reader { modules, found: Vec::new() };
    reader.read(&file.tokens(), &module(&file.path));
    reader.found
}

struct Reader<'a> {
    modules: &'a Modules,
    found: Vec<Import>,
}

impl Reader<'_> {
    fn read(&mut self, tokens: &[TokenTree], module: &[String]) {
        let mut at = 0;
        while at < tokens.len() {
            match &tokens[at] {
                TokenTree::Ident(word) if word == "mod" => {
                    if let (Some(TokenTree::Ident(name)), Some(TokenTree::Group(body))) =
                        (tokens.get(at + 1), tokens.get(at + 2))
                        && body.delimiter() == Delimiter::Brace
                    {
                        let inner = [module, &[name.to_string()]].concat();
                        self.read(&body.stream().into_iter().collect::<Vec<_>>(), &inner);
                        at += 2;
                    }
                }
                TokenTree::Ident(word) if is_colons(tokens, at + 1) && !goes_on(tokens, at) => {
                    let word = word.to_string();
                    let start = match word.as_str() {
                        "crate" => Some(Vec::new()),
                        "self" => Some(module.to_vec()),
                        "super" => Some(module[..module.len().saturating_sub(1)].to_vec()),
                        _ => {
                            let child = [module, std::slice::from_ref(&word)].concat();
                            self.modules.0.contains_key(&child).then_some(child)
                        }
                    };
                    if let Some(start) = start {
                        at = self.path(tokens, at + 3, start, tokens[at].span().start().line);
                        continue;
                    }
                }
                TokenTree::Group(group) => self.read(&group.stream().into_iter().collect::<Vec<_>>(), module),
                _ => {}
            }
            at += 1;
        }
    }

    /// Reads a path from behind its first `::`. Gives the place behind it.
    fn path(&mut self, tokens: &[TokenTree], mut at: usize, mut path: Vec<String>, mut line: usize) -> usize {
        loop {
            match tokens.get(at) {
                Some(TokenTree::Ident(word)) => {
                    line = word.span().start().line;
                    match word.to_string().as_str() {
                        "super" => drop(path.pop()),
                        "self" => {}
                        name => path.push(name.to_owned()),
                    }
                    at += 1;
                    if is_colons(tokens, at) {
                        at += 2;
                        continue;
                    }
                }
                // `use crate::jobs::{queue, store::Job}`
                Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Brace => {
                    let inner: Vec<_> = group.stream().into_iter().collect();
                    for tree in inner.split(|token| matches!(token, TokenTree::Punct(comma) if comma.as_char() == ','))
                    {
                        if let Some(first) = tree.first() {
                            self.path(tree, 0, path.clone(), first.span().start().line);
                        }
                    }
                    return at + 1;
                }
                _ => {}
            }
            self.found.push(Import { line, path });
            return at;
        }
    }
}

fn is_colons(tokens: &[TokenTree], at: usize) -> bool {
    let colon = |at: usize| matches!(tokens.get(at), Some(TokenTree::Punct(punct)) if punct.as_char() == ':');
    colon(at) && colon(at + 1)
}

/// Whether the word here is not the first one of a path.
fn goes_on(tokens: &[TokenTree], at: usize) -> bool {
    let method = at >= 1 && matches!(&tokens[at - 1], TokenTree::Punct(punct) if punct.as_char() == '.');
    method || (at >= 2 && is_colons(tokens, at - 2))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(path: &str, text: &str) -> Vec<String> {
        let others = ["src/jobs/mod.rs", "src/jobs/queue.rs"].map(|other| File::new(other, "").unwrap());
        let modules = Modules::of(others.iter());
        let file = File::new(path, text).unwrap();
        of(&file, &modules).into_iter().map(|found| format!("{} {}", found.line, found.path.join("::"))).collect()
    }

    #[test]
    fn all_ways_to_name_a_module_are_seen() {
        let text = "use crate::jobs::{self, queue::{Job, create as c}, store};\n\
                    use std::fs;\n\
                    use super::server::spi;\n\
                    fn f() { g!(x, $crate::error::Error); let a = crate::page::B { c: self::d() }; h.crate_name() }\n\
                    mod tests { use super::*; use super::super::sql; fn g() { crate::calls::required::<u8>() } }\n\
                    // crate::comment::x\n\
                    /// [`crate::doc::x`]\n\
                    pub(crate) struct S;";
        assert_eq!(
            paths("src/backfill/list.rs", text),
            [
                "1 jobs",
                "1 jobs::queue::Job",
                "1 jobs::queue::create",
                "1 jobs::store",
                "3 backfill::server::spi",
                "4 error::Error",
                "4 page::B",
                "4 backfill::list::d",
                "5 backfill::list",
                "5 backfill::sql",
                "5 calls::required",
            ]
        );
    }

    #[test]
    fn a_child_is_named_without_more() {
        assert_eq!(
            paths("src/jobs/mod.rs", "fn f() { queue::take(); other::take(); a::queue::b() }"),
            ["1 jobs::queue::take"]
        );
    }

    #[test]
    fn a_path_leads_to_the_file_that_has_it() {
        let files = ["src/lib.rs", "src/jobs/mod.rs", "src/jobs/queue.rs"].map(|path| File::new(path, "").unwrap());
        let modules = Modules::of(files.iter());
        let file = |path: &str| modules.file(&path.split("::").map(str::to_owned).collect::<Vec<_>>()).to_owned();
        assert_eq!(file("jobs::queue::create"), "src/jobs/queue.rs");
        assert_eq!(file("jobs::Kind"), "src/jobs/mod.rs");
        assert_eq!(file("KINDS"), "src/lib.rs");
    }
}
