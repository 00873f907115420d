//! The hostile suite: the client tests on servers where every name that is not qualified is somebody else's.
//!
//! With [`VARIABLE`] set, a new cluster has a schema `traps` in front of pg_catalog on everybody's path, and the
//! settings that change how values are written and planned at odd values. A trap does what its original does, and says
//! in the log who asked, and by which statement. [`judge`] reads the log after each test: a trap may be set off by what
//! a session itself sent (which is in the log, too), running as somebody who may be trusted with it, and by nothing
//! else.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::io::Write;
use std::path::Path;
use std::process::Stdio;
use std::sync::LazyLock;

use anyhow::{Context, Result, bail};
use regex::Regex;
use serde_json::Value;

use crate::pg::SUPERUSER;
use crate::tree::Tree;

/// Set in the environment: the client suite is hostile.
pub const VARIABLE: &str = "UPKEEP_HOSTILE";

/// In front of each line of the log: what [`judge`] takes apart. Ours is longer than the usual one, which other tests read.
pub const LOG_LINE_PREFIX: &str = "%m [%p] %b %d %a /%u/%d/ ";

/// What a test makes without naming a schema goes into the first one.
pub const SEARCH_PATH: &str = "public, traps, pg_catalog";

/// Tests that cannot be hostile, and why.
pub const SKIPPED: &[(&str, &str)] = &[
    (
        "statements_within_statements_keep_to_themselves",
        "thousands of rows, each found without an index: the traps are functions",
    ),
    ("a_deletion_is_what_its_model_says_and_undelete_its_inverse", "as above"),
    ("a_million_rows_go_and_come_back", "as above"),
    (
        "a_definition_means_the_same_to_the_worker",
        "compares definitions of indexes as the session's path and DateStyle print them",
    ),
    ("what_was_deleted_can_be_registered_again", "its own index is on a function and an operator that are traps"),
    ("a_schedule_is_altered", "compares an interval as the session's IntervalStyle prints it"),
    ("what_a_standby_uses_is_used", "counts scans of an index, and none is used for an operator that is a trap"),
    ("within_a_transaction_counters_stand_still", "as above"),
    ("a_backfill_leaves_no_stamps", "compares a date as the session's DateStyle prints it"),
    ("every_text_is_evaluated_as_who_gave_it", "finds functions by 'text'::regtype, which is a trap"),
    ("what_is_not_everybodys_must_be_granted", "compares signatures as the session's path prints them"),
];

const TRAPS: &str = include_str!("hostile/traps.sql");
const SETTINGS: &str = include_str!("hostile/settings.sql");

pub fn wanted() -> bool {
    std::env::var_os(VARIABLE).is_some_and(|value| !value.is_empty() && value != "0")
}

/// Lays the traps into the databases of a new data directory, whose server does not run.
pub fn prepare(tree: &Tree, data: &Path) -> Result<()> {
    for (database, scripts) in [("postgres", &[TRAPS, SETTINGS][..]), ("template1", &[TRAPS])] {
        single_user(tree, data, database, scripts)?;
    }
    Ok(())
}

/// Statements in single-user mode end in a semicolon and an empty line.
fn single_user(tree: &Tree, data: &Path, database: &str, scripts: &[&str]) -> Result<()> {
    let mut postgres = tree.server_command("postgres");
    postgres.args(["--single", "-j", "-D"]).arg(data).args(["-c", "exit_on_error=on", database]);
    let mut postgres =
        postgres.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().context("postgres")?;
    let mut input = postgres.stdin.take().context("postgres has no input")?;
    for script in scripts {
        for statement in statements(script) {
            writeln!(input, "{statement}\n")?;
        }
    }
    drop(input);
    let output = postgres.wait_with_output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() || said.contains("ERROR:") {
        bail!("the traps cannot be laid: {said}");
    }
    Ok(())
}

/// A script's statements: each ends in a semicolon at the end of a line that belongs to no `$name$` body. Empty lines,
/// which would end one early, are left out.
fn statements(script: &str) -> Vec<String> {
    static TAG: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"\$[a-z]+\$").expect("a constant"));
    let mut statements = Vec::new();
    let mut current = String::new();
    let mut tags = 0;
    for line in script.lines().filter(|l| !l.trim().is_empty() && !l.trim_start().starts_with("--")) {
        tags += TAG.find_iter(line).count();
        current += line;
        if line.ends_with(';') && tags % 2 == 0 {
            statements.push(std::mem::take(&mut current));
        } else {
            current.push('\n');
        }
    }
    statements
}

/// Columns that a test declares have the types of pg_catalog, as those of real applications do: a domain over `text` is
/// another type, and what we write about its columns is qualified anyway.
pub fn with_plain_columns(sql: &str) -> Cow<'_, str> {
    static TABLE: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r"\b(CREATE\s+(TEMP\s+|UNLOGGED\s+)?TABLE|ADD\s+COLUMN)\b[^;$]*").expect("a constant")
    });
    static TYPE: LazyLock<Regex> = LazyLock::new(|| {
        let names = "text|uuid|date|jsonb|bytea|name|oid|regclass|int4|int8|int2|\
                     float4|float8|inet|citext|int4range|tstzrange|timestamptz|point|tsvector";
        Regex::new(&format!(
            r#"(?P<column>[(,]\s*"?\w+"?\s+|ADD COLUMN\s+"?\w+"?\s+)(?P<type>{names})(?P<end>\s|,|\)|\[|$)"#
        ))
        .expect("a constant")
    });
    TABLE.replace_all(sql, |table: &regex::Captures<'_>| {
        // Twice: the comma that ends one column begins the next.
        let once = TYPE.replace_all(&table[0], "${column}pg_catalog.${type}${end}").into_owned();
        TYPE.replace_all(&once, "${column}pg_catalog.${type}${end}").into_owned()
    })
}

/// What a statement said in a line of the log, or a trap.
enum Entry {
    Sent { user: String, sql: String },
    Trap { database: String, process: String, found: Value },
}

/// The traps that were set off by what nobody sent, or that ran as somebody who should not have: one text for each.
pub fn judge(log: &str, database: Option<&str>) -> Vec<String> {
    let entries = entries(log);
    let sent: Vec<(&str, String)> = entries
        .iter()
        .filter_map(|entry| match entry {
            Entry::Sent { user, sql } => Some((&**user, normal(sql))),
            Entry::Trap { .. } => None,
        })
        .collect();
    let mut found_guilty = BTreeSet::new();
    for entry in &entries {
        let Entry::Trap { database: where_, process, found } = entry else { continue };
        if database.is_none_or(|wanted| wanted == where_)
            && let Some(why) = guilty(found, &sent)
        {
            found_guilty.insert(format!("{why} ({process})"));
        }
    }
    found_guilty.into_iter().collect()
}

/// Fails the test whose server or database is gone.
pub fn complain(guilty: &[String]) {
    if !guilty.is_empty() && !std::thread::panicking() {
        panic!("traps were set off:\n{}", guilty.join("\n"));
    }
}

fn entries(log: &str) -> Vec<Entry> {
    static LINE: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r"^\d{4}-\d\d-\d\d [\d:.]+ \S+ \[\d+\] (.*?) /([^/]*)/([^/]*)/ LOG:  (.*)$").expect("a constant")
    });
    static SENT: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"(?s)^(?:statement|execute [^:]*): (.*)$").expect("a constant"));
    let mut messages: Vec<String> = Vec::new();
    for line in log.lines() {
        match (line.strip_prefix('\t'), messages.last_mut()) {
            (Some(rest), Some(last)) => {
                last.push('\n');
                last.push_str(rest);
            }
            _ => messages.push(line.to_owned()),
        }
    }
    messages
        .iter()
        .filter_map(|message| {
            let (first, rest) = message.split_once('\n').unwrap_or((message, ""));
            let line = LINE.captures(first)?;
            let text = if rest.is_empty() { line[4].to_owned() } else { format!("{}\n{rest}", &line[4]) };
            if let Some(found) = text.strip_prefix("trap: ") {
                let found = serde_json::from_str(found).ok()?;
                return Some(Entry::Trap { database: line[3].to_owned(), process: line[1].trim().to_owned(), found });
            }
            Some(Entry::Sent { user: line[2].to_owned(), sql: SENT.captures(&text)?[1].to_owned() })
        })
        .collect()
}

/// Blanks count as one, quotes within quotes as quotes.
fn normal(sql: &str) -> String {
    sql.split_whitespace().collect::<Vec<_>>().join(" ").replace("''", "'")
}

/// Why this trap should not have been set off.
fn guilty(found: &Value, sent: &[(&str, String)]) -> Option<String> {
    let text = |key: &str| found[key].as_str().unwrap_or("");
    let (kind, name, current, session) = (text("kind"), text("name"), text("current"), text("session"));
    let statement = innermost_statement(text("context"))?;
    let statement = normal(statement);
    let senders =
        |part: &str| sent.iter().filter(|(_, sql)| sql.contains(part)).map(|&(user, _)| user).collect::<BTreeSet<_>>();
    let said = || format!("{} {name}, as {current} in a session of {session}, in: {}", kind, shortened(&statement));
    // What a role sent does not run as a superuser, unless a superuser sent it, too.
    let usurped = |senders: &BTreeSet<&str>| {
        found["super"] == true && current != session && !senders.contains(SUPERUSER) && !senders.contains(current)
    };
    let whole = senders(&statement);
    if !whole.is_empty() {
        return usurped(&whole).then(|| format!("a text of {whole:?}: {}", said()));
    }
    for part in uses(kind, name, &statement) {
        let authors = senders(&part);
        if authors.is_empty() {
            return Some(format!("{part:?}: {}", said()));
        }
        if usurped(&authors) {
            return Some(format!("a text of {authors:?}: {}", said()));
        }
    }
    None
}

/// The statement whose execution or planning called the trap; none where a function's own code did.
fn innermost_statement(context: &str) -> Option<&str> {
    let (_, frames) = context.split_once('\n')?;
    let text = frames.strip_prefix("SQL statement \"").or_else(|| frames.strip_prefix("SQL expression \""))?;
    let ends = ["\"\nPL/pgSQL function ", "\"\nSQL statement \"", "\"\nSQL function \"", "\"\nSQL expression \""];
    let Some(end) = ends.iter().filter_map(|mark| text.find(mark)).min() else {
        return Some(text.strip_suffix('"').unwrap_or(text));
    };
    // None of our functions is in PL/pgSQL; what is in DO blocks was sent, in parts at least.
    let callers = &text[end + 2..];
    let in_a_function =
        callers.starts_with("PL/pgSQL function ") && !callers.starts_with("PL/pgSQL function inline_code_block");
    (!in_a_function).then(|| &text[..end])
}

/// The places of a statement that name what the trap stands for without its schema, each with enough around it to know it again.
fn uses(kind: &str, name: &str, statement: &str) -> Vec<String> {
    static ASSIGNMENT: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r#"(\bSET |, )("[^"]*"|\w+) = "#).expect("a constant"));
    let statement = match name {
        "=" => ASSIGNMENT.replace_all(statement, "$1$2 : "),
        _ => Cow::Borrowed(statement),
    };
    let quoted = regex::escape(name);
    let pattern = match kind {
        "type" => format!(r#".{{0,8}}(::|\bAS )\s?"?{quoted}"?(\[\]|\b|$)"#),
        "function" => format!(r#"(^|[^.\w"])"?{quoted}"?\s?\([^()]{{0,40}}"#),
        _ => {
            let special = match name {
                "=" => r"|\bIN \(|\bDISTINCT FROM\b|\bNULLIF\s?\(|\bUSING \(\w+",
                "<>" => r"|!=|\bNOT IN \(",
                "~~" => r"|\bLIKE\b",
                "~~*" => r"|\bILIKE\b",
                ">=" | "<=" => r"|\bBETWEEN\b",
                _ => "",
            };
            format!(r#"[\w."$')\]]*\s?[^-+*/<>=~!@#%^&|`?.(](?:{quoted}{special})[^-+*/<>=~!@#%^&|`?)]\s?[\w."$'(]*"#)
        }
    };
    let pattern = Regex::new(&pattern).expect("a name in a pattern of ours");
    pattern.find_iter(&statement).map(|found| found.as_str().trim().to_owned()).collect()
}

fn shortened(text: &str) -> String {
    const LONGEST: usize = 500;
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{} ..", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(user: &str, message: &str) -> String {
        format!(
            "2026-11-28 18:53:24.411 UTC [1319] client backend app pg_upkeep harness /{user}/app/ LOG:  {message}\n"
        )
    }

    fn trap(kind: &str, name: &str, current: &str, session: &str, statement: &str) -> String {
        let context = format!(
            "PL/pgSQL function x() line 1 at GET DIAGNOSTICS\nSQL statement \"{statement}\"\nSQL statement \"outer\""
        );
        let found = serde_json::json!({"kind": kind, "name": name, "current": current, "session": session,
            "super": current == "postgres", "context": context});
        line(session, &format!("trap: {found}"))
    }

    #[test]
    fn a_text_of_ours_is_guilty() {
        let ours = "SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname OPERATOR(pg_catalog.=) $1::name";
        let log = line("postgres", "statement: DROP DATABASE x") + &trap("type", "name", "postgres", "postgres", ours);
        assert_eq!(judge(&log, Some("app")).len(), 1);
        assert!(judge(&log, Some("other")).is_empty());
        assert!(judge(&trap("type", "name", "eve", "eve", "SELECT $1::pg_catalog.name"), None).is_empty());
        let operators = ["SELECT a = b", "SELECT 1 WHERE x IN (1, 2)", "SELECT a IS DISTINCT FROM b"];
        for statement in operators {
            assert_eq!(judge(&trap("operator", "=", "eve", "eve", statement), None).len(), 1, "{statement}");
        }
        assert!(
            judge(&trap("operator", "=", "eve", "eve", "SELECT a OPERATOR(pg_catalog.=) b, c <= d"), None).is_empty()
        );
        assert_eq!(
            judge(&trap("function", "upper", "eve", "eve", "SELECT upper(a), pg_catalog.lower(b)"), None).len(),
            1
        );
        assert!(judge(&trap("function", "lower", "eve", "eve", "SELECT pg_catalog.lower(b)"), None).is_empty());
    }

    #[test]
    fn a_text_that_was_sent_is_not_unless_it_runs_as_a_superuser() {
        let sent = line("eve", "statement: SELECT upkeep.backfill('t', 'v = upper(v) || ''x''',\n\t'v = ''a''')");
        let ours = "UPDATE ONLY public.t SET\nv = upper(v) || 'x'\nWHERE (v = 'a')";
        for (kind, name) in [("function", "upper"), ("operator", "||"), ("operator", "=")] {
            let as_herself = sent.clone() + &trap(kind, name, "eve", "eve", ours);
            assert_eq!(judge(&as_herself, None), [""; 0], "{name}");
            let as_another = sent.clone() + &trap(kind, name, "postgres", "eve", ours);
            assert_eq!(judge(&as_another, None).len(), 1, "{name}");
        }
    }

    #[test]
    fn columns_have_plain_types() {
        let plain = with_plain_columns(
            "CREATE TABLE t (id int PRIMARY KEY, a text, b uuid NOT NULL, c date); SELECT 'x'::text",
        );
        assert_eq!(
            plain,
            "CREATE TABLE t (id int PRIMARY KEY, a pg_catalog.text, b pg_catalog.uuid NOT NULL, c pg_catalog.date); SELECT 'x'::text"
        );
        assert_eq!(
            with_plain_columns("ALTER TABLE t ADD COLUMN d jsonb"),
            "ALTER TABLE t ADD COLUMN d pg_catalog.jsonb"
        );
    }

    #[test]
    fn scripts_are_taken_apart() {
        let script = "SET a = b;\n\n-- A remark;\nDO $x$\nBEGIN\n    NULL;\n\nEND$x$;\n";
        assert_eq!(statements(script), ["SET a = b;", "DO $x$\nBEGIN\n    NULL;\nEND$x$;"]);
    }
}
