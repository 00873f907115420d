//! The splitter of scripts (`src/server/raw/script.rs`) on PostgreSQL's own regression scripts: what it finds is what psql sends.

mod listener;

use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use self::listener::{Listener, Sent};
use crate::cluster::Cluster;
use crate::fetch;
use crate::session::Session;
use crate::wait::wait_until;

/// What psql takes for one script, where nothing is done.
const LONGEST: Duration = Duration::from_secs(20);

/// Whose meta-commands fail, on purpose: what psql sends then depends on the server's answers. Their places are looked at.
const OF_FAILURES: [&str; 2] = ["psql.sql", "psql_pipeline.sql"];

const DECLARE: &str = "CREATE SCHEMA tests;
    CREATE FUNCTION tests.split_script(bytea) RETURNS bytea
        LANGUAGE c STRICT AS '$libdir/pg_upkeep', 'split_script_wrapper'";

/// All encodings that a server has of each kind: one byte, several, and none.
const ENCODINGS: [(&str, &str); 3] =
    [("LATIN1", "\u{e9}\u{df}"), ("EUC_JP", "\u{65e5}\u{ff76}\u{30ab}"), ("SQL_ASCII", "e")];

pub fn run(cluster: &Cluster) -> Result<()> {
    let mut session = declared(cluster, "scripts", "UTF8")?;
    encodings(cluster, &mut session)?;
    let scripts = fetch::regression_scripts()?;
    if scripts.len() < 200 {
        bail!("{} regression scripts only", scripts.len());
    }
    let psql = Listener::start()?;
    let mut wrong = Vec::new();
    for script in &scripts {
        if let Err(error) = compare(cluster, &psql, &mut session, script) {
            wrong.push(format!("{}: {error:#}", script.file_name().unwrap_or_default().to_string_lossy()));
        }
    }
    if !wrong.is_empty() {
        bail!("{} of {} scripts:\n{}", wrong.len(), scripts.len(), wrong.join("\n"));
    }
    Ok(())
}

fn declared(cluster: &Cluster, database: &str, encoding: &str) -> Result<Session> {
    cluster
        .connect("postgres")?
        .run(&format!("CREATE DATABASE {database} TEMPLATE template0 ENCODING '{encoding}' LOCALE 'C'"))?;
    let mut session = cluster.connect(database)?;
    session.run(DECLARE)?;
    Ok(session)
}

/// A piece as the function shows it.
struct Piece {
    what: String,
    text: String,
    start: usize,
    shown: Value,
}

fn split(session: &mut Session, script: &str) -> Result<Vec<Piece>> {
    let row = session.query_one("SELECT tests.split_script($1)", &[&script.as_bytes()])?;
    let pieces: Vec<Value> = serde_json::from_slice(row.get(0))?;
    let text = |piece: &Value, key: &str| piece[key].as_str().unwrap_or_default().to_owned();
    let piece = |shown: Value| Piece {
        what: text(&shown, "what"),
        text: text(&shown, "text"),
        start: shown["start"].as_u64().unwrap_or_default() as usize,
        shown,
    };
    Ok(pieces.into_iter().map(piece).collect())
}

/// A script in letters that the encoding has is split as it is in UTF-8. (Words of the server that repeat such letters are not compared.)
fn encodings(cluster: &Cluster, utf8: &mut Session) -> Result<()> {
    for (encoding, letters) in ENCODINGS {
        let mut session = declared(cluster, &encoding.to_lowercase(), encoding)?;
        let script = format!(
            "SELECT '{letters};', \"{letters}\" -- {letters};\r\n; SELECT ${letters}$ ; ${letters}$, E'{letters}\\';';
             SELECT '{letters}' {letters} FROM FROM;
             \\echo {letters}\nCOPY {letters} FROM STDIN;\n{letters}\n\\.\nSELECT {letters} {letters} 1"
        );
        let (here, there) = (split(utf8, &script)?, split(&mut session, &script)?);
        let shown =
            |pieces: &[Piece]| pieces.iter().map(|piece| piece.shown.to_string()).collect::<Vec<_>>().join("\n");
        if here.len() != 7 || shown(&here) != shown(&there) {
            bail!("{encoding}: {}\ninstead of\n{}", shown(&there), shown(&here));
        }
    }
    Ok(())
}

fn compare(cluster: &Cluster, psql: &Listener, session: &mut Session, path: &Path) -> Result<()> {
    // Those in other encodings are for databases in them.
    let Ok(script) = String::from_utf8(fs::read(path)?) else { return Ok(()) };
    let pieces = split(session, &script)?;
    places(&pieces, &script)?;
    // The lines of a Windows machine: the same statements.
    let windows = split(session, &script.replace('\n', "\r\n"))?;
    let kinds = |pieces: &[Piece]| pieces.iter().map(|piece| piece.what.clone()).collect::<Vec<_>>();
    if kinds(&pieces) != kinds(&windows) {
        bail!("{} pieces with the lines of Windows, {} without", windows.len(), pieces.len());
    }
    // The scripts are of 18, and an older psql does not know all of their meta-commands.
    let version: i32 = session.value("SELECT current_setting('server_version_num')::int")?;
    if version < 180_000 || OF_FAILURES.iter().any(|name| path.ends_with(name)) {
        return Ok(());
    }
    let mut command = cluster.client_command("psql", "scripts");
    command.env("PGHOST", psql.address.ip().to_string()).env("PGPORT", psql.address.port().to_string());
    command.env("PGSSLMODE", "disable").env("PGGSSENCMODE", "disable");
    // What \d asks for is none of the script's.
    command.args(["-X", "-q", "-v", "ECHO_HIDDEN=noexec", "-f"]).arg(path).current_dir(std::env::temp_dir());
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    let ended = wait_until("psql to end", LONGEST, || child.try_wait().is_ok_and(|status| status.is_some()));
    if ended.is_err() {
        child.kill()?;
        child.wait()?;
    }
    let sent = psql.take();
    ended?;
    same(&sent, &pieces)
}

fn places(pieces: &[Piece], script: &str) -> Result<()> {
    for piece in pieces {
        let before = script.get(..piece.start).context("a place between characters")?;
        let character = before.chars().count() as u64 + 1;
        let line = before.matches('\n').count() as u64 + 1;
        let right = script[piece.start..].starts_with(&piece.text)
            && piece.shown["character"].as_u64() == Some(character)
            && piece.shown["line"].as_u64() == Some(line);
        if !right {
            bail!("{} does not stand at its place", piece.shown);
        }
    }
    Ok(())
}

/// What was sent is made of the pieces, one after the other. Missing may be what psql did not send: in an \if that was false, or
/// thrown away with \r. Sent may be more: a \g with nothing before it sends the last statement again, and a variable may have
/// several statements.
fn same(sent: &[Sent], pieces: &[Piece]) -> Result<()> {
    let mut nested = 0_usize;
    let mut rest = pieces.iter().peekable();
    let mut data = pieces.iter().filter(|piece| piece.what == "data");
    let (mut last, mut in_variable) = (String::new(), false);
    for message in sent {
        let whole = match message {
            Sent::Sql(sql) => without_empty_lines(after_comments(sql)),
            Sent::Data(sent) => {
                let found = data.next().map(|piece| &*piece.text);
                if found != Some(sent) {
                    bail!("the data {sent:?} instead of {found:?}");
                }
                continue;
            }
        };
        let mut sql = &*whole;
        while !sql.is_empty() {
            let Some(piece) = rest.peek() else {
                if in_variable || whole == last {
                    break;
                }
                bail!("psql sends something else at the end: {sql}")
            };
            let text = without_empty_lines(&piece.text);
            match &*piece.what {
                "meta" if text.starts_with("\\if") => nested += 1,
                "meta" if text.starts_with("\\endif") => nested = nested.saturating_sub(1),
                // It sends its own COPY.
                "meta" if text.starts_with("\\copy") && sql.to_lowercase().starts_with("copy") => sql = "",
                "meta" | "data" => {}
                "of psql" => {
                    let start = text.split([':', '\\']).next().unwrap_or_default().trim_end();
                    if sql.starts_with(start) {
                        (sql, in_variable) = ("", start.is_empty());
                    }
                }
                _ => match sql.strip_prefix(&*text) {
                    Some(more) => (sql, in_variable) = (after_comments(more), false),
                    None if in_variable || whole == last => break,
                    None if nested > 0 => {}
                    None => bail!("line {}: psql sends {sql}\ninstead of {text}", piece.shown["line"]),
                },
            }
            rest.next();
        }
        last = whole;
    }
    let left = rest.find(|piece| !matches!(&*piece.what, "meta" | "data" | "of psql"));
    match left {
        Some(piece) if nested == 0 => bail!("line {}: psql does not send {}", piece.shown["line"], piece.text),
        _ => Ok(()),
    }
}

/// psql leaves them out, unless they are in quotes.
fn without_empty_lines(sql: &str) -> String {
    sql.split('\n').filter(|line| !line.is_empty()).collect::<Vec<_>>().join("\n")
}

/// Without white space, semicolons and comments in front.
fn after_comments(sql: &str) -> &str {
    let mut rest = sql;
    loop {
        rest = rest.trim_start_matches(|c: char| c.is_ascii_whitespace() || c == ';' || c == '\u{b}');
        if rest.starts_with("--") {
            rest = rest.split_once('\n').map_or("", |(_, after)| after);
        } else if rest.starts_with("/*") {
            let (mut depth, mut at) = (0, 0);
            while let Some(two) = rest.as_bytes().get(at..at + 2) {
                match two {
                    b"/*" => (depth, at) = (depth + 1, at + 2),
                    b"*/" => (depth, at) = (depth - 1, at + 2),
                    _ => at += 1,
                }
                if depth == 0 {
                    break;
                }
            }
            rest = rest.get(at..).unwrap_or_default();
        } else {
            return rest;
        }
    }
}
