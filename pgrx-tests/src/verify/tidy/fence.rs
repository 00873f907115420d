//! Raw code stands behind a fence: `pg_sys` and its kin in `server/` and in the `raw/` of a room, `unsafe` in a `raw/` only, each
//! with a sentence that says why it is safe. A function of the server that is called without pgrx's guard is declared once, since
//! two declarations that differ compile as well (docs/raw.md).

use std::collections::BTreeMap;

use anyhow::Result;
use proc_macro2::{Delimiter, TokenTree};

use super::Finding;
use super::source::{Clone, File};

/// What of pgrx leads to the server's memory. `Oid` is `crate::server::Oid`.
const RAW: &[&str] =
    &["pg_sys", "PgList", "PgBox", "PgMemoryContexts", "FromDatum", "IntoDatum", "direct_function_call", "PgRelation"];

/// Where the names of `RAW` may be, and where `unsafe`.
pub fn addresses(clone: &Clone) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    for file in clone.extension().filter(|file| !is_raw(file)) {
        let mut last = 0;
        each(&file.tokens(), &mut |tokens, at| {
            let TokenTree::Ident(word) = &tokens[at] else { return };
            let (word, line) = (word.to_string(), word.span().start().line);
            if line == last {
                return;
            }
            let what = if word == "unsafe" {
                "`unsafe` belongs into the room's raw/ (docs/raw.md)".to_owned()
            } else if RAW.contains(&word.as_str()) && !file.is_below("src/server") {
                format!("`{word}` belongs into server/ or the room's raw/; the way to Oid is crate::server::Oid")
            } else {
                return;
            };
            last = line;
            findings.push(Finding::new(&file.path, line, what));
        });
    }
    Ok(findings)
}

/// `src/server/raw/..`, `src/jobs/raw/..`
fn is_raw(file: &File) -> bool {
    file.path.split('/').nth(2) == Some("raw")
}

/// Each block, function and impl that is unsafe says why that is all right. clippy has a lint for blocks and impls, which knows
/// no list that gets shorter.
pub fn safety(clone: &Clone) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    for file in clone.extension() {
        let lines: Vec<_> = file.text.lines().collect();
        let mut last = 0;
        each(&file.tokens(), &mut |tokens, at| {
            if !matches!(&tokens[at], TokenTree::Ident(word) if word == "unsafe") {
                return;
            }
            let what = match tokens.get(at + 1) {
                Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Brace => "block",
                // `unsafe fn name`; without a name it is a type.
                Some(TokenTree::Ident(word)) if word == "fn" => match tokens.get(at + 2) {
                    Some(TokenTree::Ident(_)) => "function",
                    _ => return,
                },
                Some(TokenTree::Ident(word)) if word == "impl" => "impl",
                _ => return,
            };
            let line = tokens[at].span().start().line;
            if line != last && !says_why(&lines, line) {
                let what = format!("an unsafe {what} without \"SAFETY: ..\" above it: say why it is safe");
                findings.push(Finding::new(&file.path, line, what));
            }
            last = line;
        });
    }
    Ok(findings)
}

/// Whether a comment in or above the statement that has this line says why it is safe.
fn says_why(lines: &[&str], line: usize) -> bool {
    let says = |text: &str| ["SAFETY:", "Safety:", "# Safety"].iter().any(|word| text.contains(word));
    let mut at = line - 1;
    if says(lines[at]) || lines.get(at + 1).is_some_and(|next| is_comment(next) && says(next)) {
        return true;
    }
    while at > 0 {
        at -= 1;
        let text = lines[at].trim();
        if is_comment(text) {
            if says(text) {
                return true;
            }
        } else if text.is_empty() || text.ends_with([';', '{', '}', ',']) {
            return false;
        }
    }
    false
}

fn is_comment(text: &str) -> bool {
    let text = text.trim();
    text.starts_with("//") || text.starts_with("#[")
}

/// Each function of the server that is declared by hand is declared in one place.
pub fn declarations(clone: &Clone) -> Result<Vec<Finding>> {
    let mut first: BTreeMap<String, String> = BTreeMap::new();
    let mut findings = Vec::new();
    for file in clone.extension() {
        each(&file.tokens(), &mut |tokens, at| {
            let TokenTree::Group(body) = &tokens[at] else { return };
            let before = |n: usize| at.checked_sub(n).map(|at| tokens[at].to_string());
            let is_extern =
                before(2).as_deref() == Some("extern") && before(1).is_some_and(|abi| abi.starts_with("\"C"));
            if !is_extern || body.delimiter() != Delimiter::Brace {
                return;
            }
            let inner: Vec<_> = body.stream().into_iter().collect();
            // What differs by version is declared once for each.
            let mut of_version = String::new();
            for pair in inner.windows(2) {
                if let [TokenTree::Punct(_), TokenTree::Group(attribute)] = pair
                    && attribute.stream().to_string().starts_with("cfg")
                {
                    of_version = attribute.to_string();
                }
                if let [TokenTree::Ident(word), TokenTree::Ident(name)] = pair
                    && word == "fn"
                {
                    let key = format!("{name}{}", std::mem::take(&mut of_version));
                    let place = format!("{}:{}", file.path, name.span().start().line);
                    if let Some(known) = first.get(&key) {
                        let what = format!("{name} is declared at {known} already: two declarations may differ unseen");
                        findings.push(Finding::new(&file.path, name.span().start().line, what));
                    } else {
                        first.insert(key, place);
                    }
                }
            }
        });
    }
    Ok(findings)
}

/// Calls with all tokens of one level, and the place of each.
fn each(tokens: &[TokenTree], look: &mut impl FnMut(&[TokenTree], usize)) {
    for (at, token) in tokens.iter().enumerate() {
        look(tokens, at);
        if let TokenTree::Group(group) = token {
            each(&group.stream().into_iter().collect::<Vec<_>>(), look);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(found: Result<Vec<Finding>>) -> Vec<String> {
        found.unwrap().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn raw_code_outside_of_its_rooms_is_found() {
        let found = shown(addresses(&Clone::of(&[
            ("src/jobs/store.rs", "use pgrx::pg_sys::Oid;\n/// unsafe pg_sys\nfn f() { unsafe { g() } }"),
            ("src/server/spi.rs", "use pgrx::pg_sys;\nunsafe fn f() {}"),
            ("src/jobs/raw/segment.rs", "use pgrx::pg_sys; unsafe fn f() {}"),
            ("src/server/raw/memory.rs", "use pgrx::pg_sys; unsafe fn f() {}"),
        ])));
        assert_eq!(found.len(), 3, "{found:?}");
        assert!(found[0].starts_with("src/jobs/store.rs:1: `pg_sys`"), "{found:?}");
        assert!(found[1].starts_with("src/jobs/store.rs:3: `unsafe`"), "{found:?}");
        assert!(found[2].starts_with("src/server/spi.rs:2: `unsafe`"), "{found:?}");
    }

    #[test]
    fn what_is_unsafe_without_a_reason_is_found() {
        let text = "fn a() {\n    // SAFETY: it is there.\n    let x =\n        unsafe { b() };\n    unsafe { c() }\n}\n\
                    /// # Safety\n/// Call it in a backend.\nunsafe fn d() {}\n\nunsafe impl E for F {}\n\
                    type G = unsafe fn();\nunsafe fn h() {}";
        let found = shown(safety(&Clone::of(&[("src/server/raw/a.rs", text)])));
        let lines: Vec<_> = found.iter().map(|finding| finding.split(':').nth(1).unwrap()).collect();
        assert_eq!(lines, ["5", "11", "13"], "{found:?}");
    }

    #[test]
    fn a_second_declaration_is_found() {
        let found = shown(declarations(&Clone::of(&[
            (
                "src/a.rs",
                "unsafe extern \"C-unwind\" { fn GetUserId() -> u32; fn other(); #[cfg(x)] fn other(); }\n\
                 unsafe extern \"C-unwind\" fn x() {}",
            ),
            ("src/b.rs", "fn f() { unsafe extern \"C-unwind\" {\n fn GetUserId() -> i32; } }"),
        ])));
        assert_eq!(
            found,
            ["src/b.rs:2: GetUserId is declared at src/a.rs:1 already: two declarations may differ unseen"]
        );
    }
}
