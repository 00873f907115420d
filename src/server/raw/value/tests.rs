//! Every type with an order, whatever the settings: what is written comes back as the same image.

use std::collections::HashMap;
use std::ffi::CString;

use pgrx::pg_sys::{self, Datum, Oid};

use crate::error::{Error, INTERNAL_ERROR, Result};
use crate::in_server_tests::{run, text};
use crate::server::raw::catch::subtransaction;
use crate::server::raw::raise::answer;
use crate::server::raw::{spi, value};

/// Under which the values are written and read in turn.
const SETTINGS: [&str; 4] = [
    "SET LOCAL extra_float_digits = -15; SET LOCAL DateStyle = 'SQL, DMY'; SET LOCAL IntervalStyle = 'sql_standard';
     SET LOCAL bytea_output = 'escape'; SET LOCAL TimeZone = 'Asia/Kathmandu'; SET LOCAL array_nulls = off",
    "SET LOCAL extra_float_digits = 3; SET LOCAL DateStyle = 'German'; SET LOCAL IntervalStyle = 'postgres_verbose';
     SET LOCAL bytea_output = 'hex'; SET LOCAL TimeZone = 'America/St_Johns'; SET LOCAL quote_all_identifiers = on;
     SET LOCAL search_path = shadows, public",
    "SET LOCAL extra_float_digits = 0; SET LOCAL DateStyle = 'Postgres, YMD'; SET LOCAL IntervalStyle = 'iso_8601';
     SET LOCAL array_nulls = on; SET LOCAL TimeZone = 'Europe/Amsterdam'; SET LOCAL xmlbinary = 'hex'",
    "SET LOCAL extra_float_digits = -7; SET LOCAL DateStyle = 'ISO, DMY'; SET LOCAL IntervalStyle = 'postgres';
     SET LOCAL bytea_output = 'escape'; SET LOCAL search_path = ''",
];

/// Types of ours, and what hides types of the server's.
const OBJECTS: &str = "
    CREATE SCHEMA shadows; CREATE DOMAIN shadows.numeric AS text; CREATE DOMAIN shadows.float8 AS text;
    CREATE TYPE mood AS ENUM ('sad', 'so, so', 'he said \"yes\"', '{NULL}');
    CREATE TYPE pair AS (n numeric, f float8, t text, i interval);
    CREATE TYPE nested AS (p pair, many pair[], m mood, b bytea);
    CREATE DOMAIN amount AS numeric(10, 2) CHECK (VALUE > 0);
    CREATE DOMAIN pairs AS pair; CREATE DOMAIN lists AS float8[];
    CREATE TYPE floats AS RANGE (subtype = float8, multirange_type_name = float_sets);
    CREATE TYPE spans AS RANGE (subtype = interval, multirange_type_name = span_sets);
    CREATE FUNCTION lower(pair) RETURNS int LANGUAGE sql AS 'SELECT 1';
    CREATE TABLE \"a table\" (n int)";

/// Values of types that others are made of; what is missing here fails the test.
fn samples() -> HashMap<&'static str, Vec<&'static str>> {
    HashMap::from([
        ("bool", vec!["true", "false"]),
        ("char", vec!["'a'", "''", "'\\\\301'", "'\"'"]),
        ("bytea", vec![r"'\x'", r"'\x00ff5c2722'", r"'\x6162'"]),
        ("name", vec!["'a name'", "''", "repeat('ü', 31)"]),
        ("int8", vec!["'-9223372036854775808'", "0", "9223372036854775807"]),
        ("int2", vec!["-32768", "7"]),
        ("int4", vec!["'-2147483648'", "2147483647"]),
        ("regproc", vec!["'lower(pair)'::regprocedure", "'pg_catalog.lower(text)'::regprocedure", "0", "4000000000"]),
        (
            "text",
            vec!["''", "'NULL'", "'null'", r#"E' {"a,b"}\\ (x) \n\t'"#, "'hex-text:00'", "'hex-binary:'", "'äöü ß €'"],
        ),
        ("oid", vec!["0", "4294967295"]),
        ("tid", vec!["'(0,1)'", "'(4294967294,65535)'"]),
        ("int2vector", vec!["'1 -2'"]),
        ("oidvector", vec!["''", "'1 2 4294967295'"]),
        ("float4", vec!["'NaN'", "'-0'", "'Infinity'", "'-Infinity'", "0.1", "1e-45", "16777217", "3.4028235e38"]),
        (
            "float8",
            vec![
                "'NaN'",
                "'-0'",
                "'Infinity'",
                "'-Infinity'",
                "0.1::float8 + 0.2::float8",
                "5e-324",
                "1 + 1e-9",
                "1.7976931348623157e308",
            ],
        ),
        ("money", vec!["'-92233720368547758.08'", "12.34::numeric::money", "1234567.89::numeric::money"]),
        ("macaddr", vec!["'08:00:2b:01:02:03'"]),
        ("inet", vec!["'10.1.2.3/8'", "'::1'", "'fe80::1/10'"]),
        ("cidr", vec!["'10.0.0.0/8'", "'2001:db8::/32'"]),
        ("macaddr8", vec!["'08:00:2b:01:02:03:04:05'"]),
        ("bpchar", vec!["'ab   '::char(5)", "''", "'  '"]),
        ("varchar", vec!["'a b'", "''"]),
        ("date", vec!["'0044-03-15 BC'", "'infinity'", "'-infinity'", "'2024-02-29'", "'5874897-12-31'"]),
        ("time", vec!["'24:00'", "'00:00:00.000001'"]),
        (
            "timestamp",
            vec![
                "'4713-01-01 00:00:00 BC'",
                "'infinity'",
                "'2024-03-04 05:06:07.123456'",
                "'294276-12-31 23:59:59.999999'",
            ],
        ),
        (
            "timestamptz",
            vec![
                "'4713-01-01 00:00:00+00 BC'",
                "'-infinity'",
                "'1850-06-01 12:00:00.5+00'",
                "'2024-10-27 00:30:00+00'",
                "'2024-10-27 01:30:00+00'",
            ],
        ),
        (
            "interval",
            vec![
                "'1 mon'",
                "'30 days'",
                "'720:00:00'",
                "'-1 year 2 mons -3 days 04:05:06.000007'",
                "'-1 days -2:00'",
                "'0'",
                "'-00:00:00.000001'",
            ],
        ),
        ("timetz", vec!["'12:00:00+05:45'", "'24:00:00-15:59:59'"]),
        ("bit", vec!["B'0'", "B'101'", "B''"]),
        ("varbit", vec!["B''", "B'10110011100'"]),
        (
            "numeric",
            vec![
                "'NaN'",
                "'Infinity'",
                "'-Infinity'",
                "1.0",
                "1.00",
                "0.000",
                "1e40",
                "-123456789012345678901234567890.123456789",
                "1e-300",
            ],
        ),
        ("uuid", vec!["'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'"]),
        ("regoper", vec!["'=(integer,integer)'::regoperator", "'||/(NONE,double precision)'::regoperator", "0"]),
        ("regprocedure", vec!["'lower(text)'", "'lower(pair)'"]),
        ("regoperator", vec!["'=(text,text)'"]),
        ("regclass", vec!["'\"a table\"'", "'pg_catalog.pg_class'", "4000000000"]),
        ("regtype", vec!["'mood'", "'numeric'", "'char'", "'\"char\"'"]),
        ("regconfig", vec!["'english'"]),
        ("regdictionary", vec!["'simple'"]),
        ("regrole", vec!["current_user::regrole", "4000000000"]),
        ("regnamespace", vec!["'shadows'"]),
        ("regcollation", vec!["'\"C\"'"]),
        ("regdatabase", vec!["current_database()::regdatabase"]),
        ("pg_lsn", vec!["'0/0'", "'FFFFFFFF/FFFFFFFF'"]),
        ("xid8", vec!["'0'", "'18446744073709551615'"]),
        ("tsvector", vec!["'a:1A b:2,3 ''c d'':4'", "''"]),
        ("tsquery", vec!["'a & (b | !c:*A) <2> ''d e'''", "''"]),
        (
            "jsonb",
            vec![
                "'null'",
                "'\"x\\\"y\"'",
                "'{\"a\": [1.0, 1.00, 1e3, null], \"b\": {}}'",
                "'\"5\"'",
                "'5'",
                "'12345678901234567890.10'",
            ],
        ),
        ("mood", vec!["'sad'", "'so, so'", "'he said \"yes\"'", "'{NULL}'"]),
        (
            "pair",
            vec![
                "(1.00, 0.1::float8 + 0.2::float8, E'a,\"b\\\\)', '1 mon')",
                "(NULL, NULL, NULL, NULL)",
                "('NaN', '-0', '', '-1 days')",
            ],
        ),
        (
            "nested",
            vec![
                "((1.10, 'NaN', ' x ', '30 days')::pair, ARRAY[NULL, (1, 1e-9, 'NULL', NULL)::pair], 'so, so', '\\x00ff')",
                "(NULL, '{}', NULL, NULL)",
            ],
        ),
        ("amount", vec!["1.50", "99999999.99"]),
        ("pairs", vec!["(1.0, 0.1, 'x', '1 day')::pair"]),
        ("lists", vec!["ARRAY[0.1::float8 + 0.2::float8, NULL, 'NaN']"]),
        ("citext", vec!["'AbC'", "''"]),
        ("hstore", vec!["'a=>1, \"b c\"=>NULL, \"NULL\"=>\"NULL\"'", "''"]),
        ("ltree", vec!["'Top.Science.Astronomy'", "''"]),
        ("cube", vec!["'(0.1, 0.30000000000000004),(1e-300, 5)'", "'(0)'", "'()'"]),
        ("seg", vec!["'6.50 .. 7'", "'<1.0'", "'0.1'", "'5(+-)0.3'", "'~1.20'"]),
        ("ean13", vec!["'978-0-11-000533-1'"]),
        ("isbn13", vec!["'978-0-11-000533-1'"]),
        ("ismn13", vec!["'979-0-060-11561-5'"]),
        ("issn13", vec!["'977-1436-452-00-8'"]),
        ("isbn", vec!["'0-11-000533-3'"]),
        ("ismn", vec!["'M-060-11561-5'"]),
        ("issn", vec!["'1436-4522'"]),
        ("upc", vec!["'220356483481'"]),
        ("vector", vec!["'[0.1, -0, 3e38]'"]),
        ("halfvec", vec!["'[0.1, -0, 65504]'"]),
        ("sparsevec", vec!["'{1:0.1, 3:1e-30}/5'"]),
    ])
}

struct Kind {
    oid: Oid,
    name: String,
    /// Quoted and qualified.
    sql: String,
    class: char,
    element: String,
}

const ALL: &str = "SELECT t.oid, t.typname::text, format('%I.%I', n.nspname, t.typname),
                CASE WHEN t.typsubscript = 'array_subscript_handler'::regproc AND t.typname LIKE '\\_%' AND t.typtype = 'b' THEN 'a'
                     ELSE t.typtype::text END,
                coalesce((SELECT e.typname::text FROM pg_type e WHERE e.oid =
                    coalesce(r.rngsubtype, (SELECT rngsubtype FROM pg_range WHERE rngmultitypid = t.oid), NULLIF(t.typelem, 0))), '')
         FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace
         LEFT JOIN pg_class c ON c.oid = t.typrelid LEFT JOIN pg_range r ON r.rngtypid = t.oid
         WHERE t.typtype <> 'p' AND (c.oid IS NULL OR c.relkind = 'c') AND n.nspname NOT IN ('information_schema', 'shadows', 'upkeep')
           AND (t.typname NOT LIKE 'pg\\_%' OR t.typname = 'pg_lsn')
           AND NOT EXISTS (SELECT FROM pg_type e JOIN pg_class ec ON ec.oid = e.typrelid
                           WHERE e.oid = t.typelem AND (ec.relkind <> 'c'))
           AND coalesce((SELECT en.nspname FROM pg_type e JOIN pg_namespace en ON en.oid = e.typnamespace
                         WHERE e.oid = t.typelem), '') <> 'shadows'
         ORDER BY t.oid";

/// Every type that a column of a key can have.
fn kinds() -> Result<Vec<Kind>> {
    let all = spi::theirs::query(ALL, &[ALL], |row| {
        Ok(Kind {
            oid: row.next()?,
            name: row.next()?,
            sql: row.next()?,
            class: row.next::<String>()?.chars().next().unwrap_or('b'),
            element: row.next()?,
        })
    })?;
    // SAFETY: a look at the catalogs.
    let ordered = |kind: &Kind| unsafe {
        let entry = pg_sys::lookup_type_cache(kind.oid, pg_sys::TYPECACHE_CMP_PROC as i32);
        (*entry).cmp_proc != Oid::INVALID
    };
    Ok(all.into_iter().filter(ordered).collect())
}

/// Expressions of that type.
fn expressions(kind: &Kind, samples: &HashMap<&'static str, Vec<&'static str>>, all: &[Kind]) -> Vec<String> {
    let cast = |value: &str| format!("({value})::{}", kind.sql);
    let element = || all.iter().find(|other| other.name == kind.element);
    let of_element = || element().map_or_else(Vec::new, |element| expressions(element, samples, all));
    match kind.class {
        'a' => {
            let Some((first, last)) = of_element().first().cloned().zip(of_element().last().cloned()) else {
                return Vec::new();
            };
            let all = of_element().join(", ");
            vec![
                cast("'{}'"),
                cast(&format!("ARRAY[{all}, NULL]")),
                cast(&format!("array_fill({first}, ARRAY[2], ARRAY[-5])")),
                cast(&format!("ARRAY[ARRAY[{first}, NULL], ARRAY[{last}, {first}]]")),
            ]
            // An array of arrays there is not; a domain over an array makes one.
            .into_iter()
            .take(if kind.element == "lists" { 2 } else { 4 })
            .collect()
        }
        'r' | 'm' => {
            let mut values = vec![cast(if kind.class == 'r' { "'empty'" } else { "'{}'" })];
            let elements = of_element();
            let range = |bounds: &str| match kind.class {
                'r' => format!("{}({bounds})", kind.sql),
                _ => {
                    let range = all.iter().find(|r| r.class == 'r' && r.element == kind.element);
                    format!("{}({}({bounds}))", kind.sql, range.map_or("", |range| &range.sql))
                }
            };
            // Discrete ranges have one way to write their bounds.
            if !["int4", "int8", "date"].contains(&kind.element.as_str()) {
                values.push(range(&format!("{0}, {0}, '[]'", elements[0])));
                values.push(range(&format!("NULL, {}, '()'", elements[0])));
            }
            for value in &elements {
                values.push(range(&format!("{value}, NULL, '[)'")));
                let other = &elements[elements.len() - 1];
                values.push(range(&format!("least({value}, {other}), greatest({value}, {other}), '[)'")));
            }
            values
        }
        _ => samples.get(kind.name.as_str()).map_or_else(Vec::new, |values| values.iter().map(|v| cast(v)).collect()),
    }
}

/// The value of an expression.
fn evaluate(expression: &str) -> Result<Datum> {
    let sql = CString::new(format!("SELECT {expression}")).expect("no zero byte");
    // SAFETY: paired; what is found is copied to the caller's memory.
    unsafe {
        pg_sys::SPI_connect();
        if pg_sys::SPI_execute(sql.as_ptr(), true, 1) < 0 {
            return Err(Error::new(INTERNAL_ERROR, "no SELECT"));
        }
        let table = pg_sys::SPI_tuptable;
        let mut null = true;
        let found = pg_sys::SPI_getbinval(*(*table).vals, (*table).tupdesc, 1, &mut null);
        if null {
            return Err(Error::new(INTERNAL_ERROR, format!("{expression} is null")));
        }
        let (mut length, mut by_value) = (0, false);
        pg_sys::get_typlenbyval(pg_sys::SPI_gettypeid((*table).tupdesc, 1), &mut length, &mut by_value);
        let copy = pg_sys::SPI_datumTransfer(found, by_value, length.into());
        pg_sys::SPI_finish();
        Ok(copy)
    }
}

fn same_image(oid: Oid, a: Datum, b: Datum) -> bool {
    let (mut length, mut by_value) = (0, false);
    // SAFETY: two values of that type.
    unsafe {
        pg_sys::get_typlenbyval(oid, &mut length, &mut by_value);
        value::datum_image_eq(a, b, by_value, length.into())
    }
}

/// Writes under each of the settings and reads under the next: the text, which is the same each time.
fn there_and_back(oid: Oid, value: Datum) -> Result<String> {
    let mut texts = Vec::new();
    for (i, settings) in SETTINGS.iter().enumerate() {
        run(settings)?;
        let written = spi::unambiguous(|| Ok(value::to_text(oid, value)))?;
        run(SETTINGS[(i + 1) % SETTINGS.len()])?;
        let read = spi::unambiguous(|| value::from_text(oid, &written))?;
        if !same_image(oid, value, read) {
            return Err(Error::new(INTERNAL_ERROR, format!("{written} gives another value")));
        }
        texts.push(written);
    }
    run("SET LOCAL search_path = public")?;
    // Times show their offset from UTC where the session is.
    texts.dedup();
    Ok(texts.swap_remove(0))
}

#[pgrx::pg_extern]
fn test_every_type_with_an_order_comes_back() {
    for extension in ["citext", "hstore", "ltree", "cube", "seg", "isn", "vector"] {
        // Some servers have no contrib.
        let _ = subtransaction(|| run(&format!("CREATE EXTENSION {extension}")));
    }
    answer(run(OBJECTS));
    // Other characters for money than those of C, where the system has such a locale.
    for locale in ["de_DE.UTF-8", "ja_JP.UTF-8", "en_US.UTF-8"] {
        if subtransaction(|| run(&format!("SET LOCAL lc_monetary = '{locale}'"))).is_ok() {
            break;
        }
    }
    let (samples, kinds) = (samples(), answer(kinds()));
    let mut failures = Vec::new();
    let mut in_hexadecimal = Vec::new();
    for kind in &kinds {
        let expressions = expressions(kind, &samples, &kinds);
        if expressions.is_empty() {
            failures.push(format!("no values for {}", kind.sql));
        }
        for expression in expressions {
            answer(run("RESET extra_float_digits; SET LOCAL DateStyle = 'ISO'; SET LOCAL IntervalStyle = 'postgres';
                        SET LOCAL array_nulls = on; SET LOCAL search_path = public"));
            match subtransaction(|| there_and_back(kind.oid, evaluate(&expression)?)) {
                Ok(text) if text.starts_with("hex-") => in_hexadecimal.push(kind.name.clone()),
                Ok(_) => {}
                Err(error) => failures.push(format!("{expression}: {}", error.message)),
            }
        }
    }
    assert!(failures.is_empty(), "{} of {} types:\n{}", failures.len(), kinds.len(), failures.join("\n"));
    assert!(kinds.len() > 100, "{} types", kinds.len());
    // Else a person can read them.
    in_hexadecimal.dedup();
    let expected = ["char", "regproc", "text", "regoper", "_char", "_regproc", "_regoper"];
    in_hexadecimal.retain(|name| !expected.contains(&name.as_str()));
    assert!(in_hexadecimal.is_empty(), "{in_hexadecimal:?}");
}

/// Of any bits, as far as the type has such a value: 17 digits, NaNs of all kinds, months beside days.
#[pgrx::pg_extern]
fn test_random_bits_come_back() {
    let mut random = 0x9E37_79B9_7F4A_7C15_u64;
    let mut next = || {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random
    };
    let mut values = 0;
    for (oid, bytes) in [
        (pg_sys::FLOAT8OID, 8),
        (pg_sys::FLOAT4OID, 4),
        (pg_sys::INTERVALOID, 16),
        (pg_sys::TIMESTAMPOID, 8),
        (pg_sys::TIMESTAMPTZOID, 8),
        (pg_sys::DATEOID, 4),
        (pg_sys::TIMETZOID, 12),
        (pg_sys::MONEYOID, 8),
        (pg_sys::UUIDOID, 16),
        (pg_sys::CHAROID, 1),
        (pg_sys::BYTEAOID, 11),
    ] {
        for _ in 0..150 {
            // Half of them small numbers: few types have a value for each pattern of bits.
            let small = next() % 2 == 0;
            let digits: String =
                (0..bytes)
                    .map(|i| {
                        if small && i % 8 < 3 && bytes > 4 { "00".to_owned() } else { format!("{:02x}", next() as u8) }
                    })
                    .collect();
            let made = subtransaction(|| value::from_text(oid, &format!("hex-binary:{digits}")));
            let Ok(made) = made else { continue };
            values += 1;
            let back = subtransaction(|| there_and_back(oid, made));
            assert!(back.is_ok(), "{digits} of {}: {:?}", oid.to_u32(), back.err().map(|error| error.message));
        }
    }
    assert!(values > 1000, "{values}");
    answer(run("SET LOCAL search_path = public"));
}

/// A type whose output function does not tell all: then what is written is its binary form, or nothing.
#[pgrx::pg_extern]
fn test_what_does_not_come_back_is_not_written() {
    const LOSSY: &str = "SELECT 'lossy'::regtype::oid";
    answer(run(
        "CREATE TYPE lossy; CREATE FUNCTION lossy_in(cstring) RETURNS lossy IMMUTABLE STRICT LANGUAGE internal AS 'float8in';
         CREATE FUNCTION lossy_out(lossy) RETURNS cstring IMMUTABLE STRICT LANGUAGE internal AS 'timestamp_out';
         CREATE TYPE lossy (INPUT = lossy_in, OUTPUT = lossy_out, LIKE = float8)",
    ));
    let oid = answer(spi::theirs::query_one(LOSSY, &[LOSSY], |row| row.require::<Oid>(1))).expect("a type");
    let value = Datum::from(0.5_f64.to_bits());
    let error = subtransaction(|| spi::unambiguous(|| Ok(value::to_text(oid, value)))).expect_err("it is lost");
    // 15 has no other way to read a text than one that raises what is wrong with it.
    if cfg!(feature = "pg15") {
        return assert_eq!(error.sqlstate.to_string(), "22P02");
    }
    assert_eq!(error.sqlstate.to_string(), "0A000");
    assert!(error.detail.is_some_and(|detail| detail.contains("lossy")) && error.hint.is_some());
    answer(run("CREATE FUNCTION lossy_send(lossy) RETURNS bytea IMMUTABLE STRICT LANGUAGE internal AS 'float8send';
         CREATE FUNCTION lossy_recv(internal) RETURNS lossy IMMUTABLE STRICT LANGUAGE internal AS 'float8recv';
         ALTER TYPE lossy SET (SEND = lossy_send, RECEIVE = lossy_recv)"));
    let written = answer(spi::unambiguous(|| Ok(value::to_text(oid, value))));
    assert_eq!(written, "hex-binary:3fe0000000000000");
    assert!(same_image(oid, value, answer(value::from_text(oid, &written))));
    assert_eq!(answer(text("SELECT current_setting('extra_float_digits')")), "1");
}
