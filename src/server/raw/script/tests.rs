//! Each rule of the splitter, in a backend.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{Piece, What, split};
use crate::error::Error;
use crate::in_server_tests::run;
use crate::server::raw::raise::answer;

fn pieces(script: &str) -> Vec<Piece<'_>> {
    answer(split(script))
}

/// `what text`, what a statement is being its tag.
fn told(script: &str) -> Vec<String> {
    pieces(script).iter().map(|piece| format!("{}: {}", name(&piece.what), piece.text)).collect()
}

fn name(what: &What) -> &str {
    match what {
        What::Sql(tag) => tag,
        What::Wrong(_) => "wrong",
        What::OfPsql => "of psql",
        What::MetaCommand => "meta",
        What::CopyData => "data",
    }
}

fn wrong<'a>(piece: &'a Piece<'_>) -> Option<&'a Error> {
    match &piece.what {
        What::Wrong(error) => Some(error),
        _ => None,
    }
}

/// For the harness: a script's pieces as JSON. In bytes of UTF-8, whatever the database has.
#[pgrx::pg_extern(sql = false)]
fn split_script(script: &[u8]) -> Vec<u8> {
    let script = String::from_utf8_lossy(script);
    let pieces = answer(split(&script));
    let shown: Vec<Value> = pieces
        .iter()
        .map(|piece| {
            let error = wrong(piece);
            json!({
                "what": name(&piece.what), "text": piece.text, "start": piece.start, "character": piece.character,
                "line": piece.line, "sqlstate": error.map(|error| error.sqlstate.to_string()),
                "message": error.map(|error| error.message.clone()),
                "position": error.and_then(|error| error.position.as_ref()).map(|position| position.character),
            })
        })
        .collect();
    Value::Array(shown).to_string().into_bytes()
}

#[pgrx::pg_extern]
fn test_script_of_statements() {
    assert_eq!(told(""), Vec::<String>::new());
    assert_eq!(told(" ;; -- nothing;\n /* ; /* ; */ ; */ ;"), Vec::<String>::new());
    assert_eq!(told("SELECT 1"), ["SELECT: SELECT 1"]);
    assert_eq!(
        told("/* a; */ SELECT 1 -- b;\r\n; \r\n\r\nVACUUM /* c; */ t;CREATE TABLE t (n int) -- the end"),
        ["SELECT: SELECT 1", "VACUUM: VACUUM /* c; */ t", "CREATE TABLE: CREATE TABLE t (n int)"]
    );
    for quoted in [
        "';'",
        "'it''s;'",
        "'a'\n  ';'",
        "E'\\';'",
        "E'a\\\\'\n';\\''",
        "B'1' || X';'",
        "N';'",
        "U&';\\0061'",
        "U&'d!0061;' UESCAPE '!'",
        "$$;$$",
        "$a$ ; $b$ ; $$ ; $a$",
        "1 AS \";\"",
        "1 AS U&\";\\0061\"",
        "1 AS a$b$, 2 AS b$",
        "'\u{fc};'",
    ] {
        let statement = format!("SELECT {quoted}");
        assert_eq!(
            told(&format!("{statement};{statement}")),
            [format!("SELECT: {statement}"), format!("SELECT: {statement}")]
        );
    }
    assert_eq!(
        told("CREATE RULE r AS ON INSERT TO t DO (DELETE FROM t; NOTIFY t); BEGIN; END; SELECT a[1:n] FROM t"),
        [
            "CREATE RULE: CREATE RULE r AS ON INSERT TO t DO (DELETE FROM t; NOTIFY t)",
            "BEGIN: BEGIN",
            "COMMIT: END",
            "SELECT: SELECT a[1:n] FROM t"
        ]
    );
    assert_eq!(told("\u{feff}SELECT 1; SELECT 2"), ["SELECT: SELECT 1", "SELECT: SELECT 2"]);
}

#[pgrx::pg_extern]
fn test_script_of_new_functions() {
    for function in [
        "CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT 1; SELECT CASE WHEN true THEN CASE 1 WHEN 2 THEN 3 END END; END",
        "create or replace procedure p() begin /* ; */ atomic insert into t values (1); ; delete from t; end",
        "CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT 1 AS case, 2 AS end; SELECT t.end FROM t; END",
        "CREATE FUNCTION \"begin\"(begin int) RETURNS int RETURN begin",
        "CREATE FUNCTION begin() RETURNS int LANGUAGE sql AS 'SELECT 1; SELECT 2'",
    ] {
        let both = told(&format!("{function};\nSELECT 1; {function}"));
        assert_eq!(both.len(), 3, "{both:?}");
        assert!(both[0].starts_with("CREATE ") && both[0].ends_with(function), "{both:?}");
        assert!(both[2].ends_with(function), "{both:?}");
    }
}

#[pgrx::pg_extern]
fn test_script_of_strings_of_old() {
    let old = "SELECT 'a\\';b'; SELECT U&'c;\\0061'; SELECT 2";
    assert_eq!(told(old)[0], "SELECT: SELECT 'a\\'");
    answer(run("SET LOCAL standard_conforming_strings = off"));
    assert_eq!(told("SELECT U&' \\', U&'', U&'''\\;'; SELECT '\\';'").len(), 2);
    let found = told(old);
    assert_eq!(found, ["SELECT: SELECT 'a\\';b'", "wrong: SELECT U&'c;\\0061'", "SELECT: SELECT 2"]);
    answer(run("SET LOCAL standard_conforming_strings = on"));
    // The script itself says how it is to be read.
    let script =
        "SELECT 'a\\'; SET standard_conforming_strings TO off; SELECT 'a\\';b'; RESET standard_conforming_strings;
                  SELECT 'a\\'; set session Standard_Conforming_Strings = 'false'; SELECT ';\\';';
                  SET foo.bar = 'off'; RESET ALL; SELECT '\\'";
    let found = told(script);
    assert_eq!(found.len(), 10, "{found:?}");
    assert!(found.iter().all(|piece| !piece.starts_with("wrong")), "{found:?}");
    assert_eq!(
        answer(crate::server::spi::theirs::execute_returning("SHOW standard_conforming_strings", &["SHOW"], |row| {
            Ok(row.get::<String>(1)?.unwrap_or_default())
        })),
        ["on"]
    );
}

#[pgrx::pg_extern]
fn test_script_of_errors() {
    for (script, place, statements) in [
        ("SELECT 1;\n\u{fc}; SELECT 1 FORM t t; SELECT 2", "t t; ", 4),
        ("SELECT '\u{fc}'; SELECT 1 2; SELECT 3", "2; ", 3),
        ("SELECT 1; SELECT 'abc; SELECT 2;\n ", "'abc", 2),
        ("SELECT 1; SELECT $a$ $b$; SELECT 2", "$a$", 2),
        ("SELECT 1; SELECT \"; SELECT 2", "\"; SEL", 2),
        ("SELECT 1; /* /* */ SELECT 2;", "/* /*", 2),
        ("SELECT E'\\u12', ';'; SELECT 2", "\\u12", 2),
        ("SELECT E'\\ud83d and more \\u12 ;'; SELECT 2", " and", 2),
        ("SELECT 12ab, ';'; SELECT 2", "12a", 2),
        ("SELECT \"\" ';' \"\"; SELECT 2", "\"\"", 2),
        ("SELECT U&'\\zzz;'; SELECT 2", "\\zzz", 2),
        ("SELECT 1 @#%^&|@#%^&|@#%^&|@#%^&|@#%^&|@#%^&|@#%^&|@#%^&|@#%^&|@#%^&|@#%^&| 1; SELECT 2", "@#", 2),
        ("SELECT (1; SELECT 2", "; SELECT 2", 1),
        ("SELECT 1); SELECT 2", ");", 2),
        ("CREATE TABLE; SELECT 2", "", 2),
    ] {
        let found = pieces(script);
        assert_eq!(found.len(), statements, "{script}: {found:?}");
        let errors: Vec<&Error> = found.iter().filter_map(wrong).collect();
        let error = errors.last().copied();
        let error = error.unwrap_or_else(|| panic!("no error: {script}"));
        assert!(matches!(&error.sqlstate.class(), b"42" | b"22"), "{script}: {error}");
        let at = error.position.as_ref().map_or(0, |position| position.character);
        if !place.is_empty() {
            let rest: String = script.chars().skip(at as usize - 1).collect();
            assert!(rest.starts_with(place), "{script}: {at}, {rest}");
        }
    }
    let odd = "SELECT E'\\xff'; SELECT E'\\xff' ';'; SELECT 1";
    assert_eq!(told(odd).len(), 3);
}

#[pgrx::pg_extern]
fn test_script_of_psql() {
    assert_eq!(
        told(
            "\\set x 1\nSELECT 1 \\gset \\echo a\n\\! rm ;\nSELECT 'b' ; \\x\\\\SELECT 2;\n\\'it\\\"\nSELECT 3;\\$\nSELECT 4;\\\""
        ),
        [
            "meta: \\set x 1",
            "SELECT: SELECT 1",
            "meta: \\gset",
            "meta: \\echo a",
            "meta: \\! rm ;",
            "SELECT: SELECT 'b'",
            "meta: \\x",
            "SELECT: SELECT 2",
            "meta: \\'it",
            "meta: \\\"",
            "SELECT: SELECT 3",
            "meta: \\$",
            "SELECT: SELECT 4",
            "meta: \\\""
        ]
    );
    assert_eq!(
        told("SELECT $1 \\bind 1 \\g\nSELECT (1;\n\\r\nSELECT 2,\n\\if true\n3\n\\endif\n; SELECT 4"),
        [
            "SELECT: SELECT $1",
            "meta: \\bind 1",
            "meta: \\g",
            "of psql: SELECT (1;",
            "meta: \\r",
            "of psql: SELECT 2,\n\\if true\n3",
            "meta: \\if true",
            "meta: \\endif",
            "SELECT: SELECT 4"
        ]
    );
    assert_eq!(
        told(
            "SELECT :x; SELECT 1 1, :x; SELECT ':x' \":x\"; SELECT :'x;'; SELECT :{?x}; SELECT a[:x]; SELECT \\:x; SELECT x::int"
        ),
        [
            "of psql: SELECT :x",
            "wrong: SELECT 1 1, :x",
            "SELECT: SELECT ':x' \":x\"",
            "of psql: SELECT :'x;'",
            "of psql: SELECT :{?x}",
            "SELECT: SELECT a[:x]",
            "of psql: SELECT \\:x",
            "SELECT: SELECT x::int"
        ]
    );
    assert_eq!(
        told("SELECT 1\\; SELECT 2\\;;\nSELECT 3"),
        ["SELECT: SELECT 1", "meta: \\;", "SELECT: SELECT 2", "meta: \\;", "SELECT: SELECT 3"]
    );
}

#[pgrx::pg_extern]
fn test_script_of_copies() {
    let data = "it's; $$ \\x\n\"\n";
    assert_eq!(
        told(&format!("COPY t FROM STDIN; SELECT 1;\n{data}\\.\nSELECT 2")),
        [
            "COPY: COPY t FROM STDIN".to_owned(),
            "SELECT: SELECT 1".into(),
            format!("data: {data}"),
            "SELECT: SELECT 2".into()
        ]
    );
    assert_eq!(
        told(
            "copy a from stdin\\; copy b from stdin (format csv); copy c from stdin;\n1\n\\.\n\\.\n3\r\n\\.\r\nSELECT 2"
        ),
        [
            "COPY: copy a from stdin",
            "meta: \\;",
            "COPY: copy b from stdin (format csv)",
            "COPY: copy c from stdin",
            "data: 1\n",
            "data: ",
            "data: 3\r\n",
            "SELECT: SELECT 2"
        ]
    );
    assert_eq!(told("COPY t FROM STDIN \\g\n1;"), ["COPY: COPY t FROM STDIN", "meta: \\g", "data: 1;"]);
    assert_eq!(
        told("COPY :t FROM STDIN;\n'\n\\.\nSELECT 1"),
        ["of psql: COPY :t FROM STDIN", "data: '\n", "SELECT: SELECT 1"]
    );
    assert_eq!(told("\\copy t from stdin\n'\n\\.\nSELECT 1")[1..], ["data: '\n", "SELECT: SELECT 1"]);
    for file in ["COPY t FROM '/dev/null'", "COPY t TO STDOUT", "COPY t FROM PROGRAM 'cat'", "\\copy t from 'x'"] {
        assert_eq!(told(&format!("{file};\nSELECT 1")).last().map(String::as_str), Some("SELECT: SELECT 1"), "{file}");
    }
    assert_eq!(
        told("COPY t FROM STDIN; SELECT 1,\n'\n\\.\n2; SELECT 3"),
        ["COPY: COPY t FROM STDIN", "of psql: SELECT 1,\n'\n\\.\n2", "data: '\n", "SELECT: SELECT 3"]
    );
    assert_eq!(told("COPY t FROM STDIN;"), ["COPY: COPY t FROM STDIN"]);
}

#[pgrx::pg_extern]
fn test_script_has_places() {
    let script = "SELECT '\u{fc}';\r\n\r\n  \u{1f600} ; \\x\nVACUUM\n;\nCOPY t FROM STDIN;\n\u{fc}\n\\.\nSELECT 1";
    let characters: Vec<char> = script.chars().collect();
    for piece in pieces(script) {
        assert_eq!(&script[piece.start..piece.start + piece.text.len()], piece.text);
        let there: String = characters[piece.character - 1..].iter().collect();
        assert!(there.starts_with(piece.text), "{piece:?}");
        assert_eq!(piece.line, 1 + script[..piece.start].matches('\n').count(), "{piece:?}");
    }
    assert_eq!(pieces(script).iter().map(|piece| piece.line).collect::<Vec<_>>(), [1, 3, 3, 4, 6, 7, 9]);
}

/// Statements with white space and comments between them are split into themselves.
#[pgrx::pg_extern]
fn test_script_is_glued_and_split() {
    const STATEMENTS: [&str; 14] = [
        "SELECT 1",
        "SELECT ';' -- ;\n, \"a;\"",
        "INSERT INTO t VALUES (E'\\';', $x$;$x$)",
        "CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT 1; SELECT 2; END",
        "CREATE RULE r AS ON INSERT TO t DO (DELETE FROM t; NOTIFY t)",
        "VACUUM",
        "SELECT 'a'\r\n 'b;' AS \"\u{fc}\", '\u{65e5}\u{672c}'",
        "BEGIN",
        "SELECT 1 1",
        "\u{fc} \u{fc}",
        "SELECT 12ab",
        "DO $do$ BEGIN PERFORM 1; END $do$",
        "SELECT /* ; /* ; */ */ 1",
        "EXPLAIN SELECT E'\\ud83d;'",
    ];
    const GLUE: [&str; 8] = [" ", "\n", "\r\n", "\t", "-- it's; \\x \"\n", "/* ' ; /* $$ */ */", ";", " \u{c} "];
    let mut dice = Dice(7);
    for _ in 0..300 {
        let (mut script, mut wanted) = (String::new(), Vec::new());
        for _ in 0..dice.throw(12) {
            let glue = |script: &mut String, dice: &mut Dice| {
                for _ in 0..dice.throw(4) {
                    *script += GLUE[dice.throw(GLUE.len())];
                }
            };
            glue(&mut script, &mut dice);
            let statement = STATEMENTS[dice.throw(STATEMENTS.len())];
            wanted.push((script.len(), statement.to_owned()));
            script += statement;
            script += [";", " ;", "\n;", "/* ; */;", "--\n;"][dice.throw(5)];
        }
        let found: Vec<(usize, String)> =
            pieces(&script).iter().map(|piece| (piece.start, piece.text.to_owned())).collect();
        assert_eq!(found, wanted, "{script}");
    }
}

struct Dice(u64);

impl Dice {
    fn throw(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 33) as usize % sides
    }
}

/// 1 MB each; anything that grows faster than the text would take minutes.
#[pgrx::pg_extern]
fn test_script_may_be_long() {
    let filled = |statement: &str| statement.repeat((1 << 20) / statement.len());
    let usual = format!(
        "INSERT INTO some_table (a, b, c) VALUES ({}, 'it''s; so', $$x$$); -- and so on\n",
        "1 + ".repeat(30) + "1"
    );
    for (statement, at_most) in [
        (usual.as_str(), 1),
        ("SELECT 1 2; SELECT 1a; SELECT E'\\u12';                                                \n", 3),
        ("(", 1),
        (":x ", 1),
        ("\\x\n", 2),
        ("SELECT 1 \\gset\n", 5),
        ("COPY t FROM STDIN;\n1\n\\.\n", 5),
        ("1a ", 1),
        ("\u{fc}", 1),
        ("$1a;", 4),
        ("\"\"", 1),
        ("/* ", 1),
    ] {
        let script = filled(statement);
        let clock = Instant::now();
        let found = pieces(&script).len();
        let took = clock.elapsed();
        pgrx::log!("{found} pieces of {} bytes in {took:?}: {}", script.len(), statement.trim_end());
        assert!(took < Duration::from_secs(at_most) * 4, "{took:?}: {statement}");
    }
    let error = split(&" ".repeat((1 << 20) + 1)).map(drop).unwrap_err();
    assert_eq!(error.sqlstate.to_string(), "54000");
}
