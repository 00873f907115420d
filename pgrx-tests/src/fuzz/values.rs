//! Hostile values of every type, as SQL. Every type is written with its schema: the sessions' search_path is a trap.

use super::dice::Dice;
use super::world::Ids;

/// Texts for any argument: what breaks out of quotes, of parentheses, of a statement, of a buffer.
const TEXTS: &[&str] = &[
    "''",
    "' '",
    "'x'",
    "'true'",
    "'false'",
    "'null'",
    "'1/0 = 1'",
    "'('",
    "')'",
    "'))(('",
    "'/*'",
    "'*/'",
    "'--'",
    "'$$'",
    "'$1'",
    "'$1 = 1'",
    "'a; DROP TABLE app.parent'",
    "'id = 1; DELETE FROM app.parent'",
    "'id = 1 --'",
    "'id = 1) OR (true'",
    "''''",
    "'\"'",
    "'\"; --'",
    "'SELECT'",
    "'id'",
    "'app.parent'",
    "'\"App\".\"It''s \"\"odd\"\"\"'",
    "'no such thing'",
    "E'a\\nb\\tc'",
    "E'\\u00fc\\U0001F600'",
    "pg_catalog.repeat('(', 5000)",
    "pg_catalog.repeat('x', 100000)",
    "pg_catalog.repeat('a AND ', 3000) || 'a'",
    "E'\\\\'",
    "'%s %n %1$s %I'",
    "'{}'",
    "'[]'",
    "'UTC'",
    "'-infinity'",
    "'vault.secret'",
    "'(SELECT note FROM vault.secret LIMIT 1) IS NULL'",
];

const CONDITIONS: &[&str] = &[
    "'true'",
    "'false'",
    "'id = 1'",
    "'id > 5'",
    "'n IS NULL'",
    "'id % 7 = 0'",
    "'id IN (SELECT id FROM app.parent WHERE n > 3)'",
    "'1/0 = 1'",
    "'id'",
    "'count(*) > 1'",
    "'id = 1 OR (SELECT true)'",
    "'EXISTS (SELECT FROM vault.secret)'",
    "'random() < 0.1'",
    "'app.loud(id)'",
    "'row_number() OVER () = 1'",
    "'id = ANY (ARRAY[1, NULL, 3])'",
    "'id = NULL'",
    "'(id, n) > (3, 4)'",
    "'t.id = 1'",
    "'deleted_at IS NULL'",
];

const ASSIGNMENTS: &[&str] = &[
    "'n = n + 1'",
    "'n = id / (id - 3)'",
    "'n = NULL'",
    "'id = id'",
    "'n = 1, n = 2'",
    "'n = DEFAULT'",
    "'(n, v) = (1, NULL)'",
    "'n = (SELECT 1)'",
    "'n = app.loud(id)::int'",
    "'v = (SELECT note FROM vault.secret LIMIT 1)'",
    "'no_such = 1'",
    "'n = n'",
    "'n'",
    "'= 1'",
    "'ctid = ctid'",
    "'n = (SELECT 1 FROM pg_sleep(0.05))'",
    "'deleted_at = now()'",
    "'version = 0'",
    "'n = 99999999999'",
];

const COMMANDS: &[&str] = &[
    "'SELECT 1'",
    "'VACUUM'",
    "'VACUUM app.parent'",
    "'SELECT pg_sleep(0.2)'",
    "'SELECT 1/0'",
    "'INSERT INTO app.parent VALUES (-1)'",
    "'SELECT 1; SELECT 2'",
    "'BEGIN'",
    "'COMMIT'",
    "'ROLLBACK'",
    "'SET search_path = evil'",
    "'LISTEN x'",
    "'COPY app.parent TO STDOUT'",
    "'SELECT * FROM vault.secret'",
    "'DO $$BEGIN RAISE EXCEPTION ''no''; END$$'",
    "'PREPARE TRANSACTION ''x'''",
    "'DECLARE c CURSOR FOR SELECT 1'",
    "'ANALYZE app.parent'",
    "'CALL upkeep.wait(NULL)'",
    "'SELECT upkeep.run_in_background(''SELECT 1'')'",
    "'DISCARD ALL'",
    "'RESET ALL'",
];

const SCHEDULES: &[&str] = &[
    "'* * * * *'",
    "'*/5 * * * *'",
    "'0 0 30 2 *'",
    "'60 * * * *'",
    "'@daily'",
    "'every 1 second'",
    "'every 10 seconds'",
    "'1-5/0 * * * *'",
    "'* * * * * *'",
    "'0 0 1 1 7'",
    "'L * * * *'",
    "'every 99999999999999999999 days'",
    "'every -1 minutes'",
    "'1 minute'",
    "'-1 s'",
    "'0'",
];

const NAMES: &[&str] = &[
    "'n'",
    "'id'",
    "'stamped'",
    "'deleted_at'",
    "'It''s odd'",
    "''",
    "pg_catalog.repeat('n', 63)",
    "pg_catalog.repeat('n', 200)",
    "'ctid'",
    "'\"\"'",
    "'ü'",
];

const WORDS: &[&str] = &[
    "'live_view'",
    "'triggers'",
    "'nothing'",
    "'view'",
    "'rename'",
    "'refuse'",
    "'keep'",
    "'purge'",
    "'restore'",
    "'quarantine'",
    "'fail'",
    "'stop'",
    "'skip'",
    "'transaction'",
    "'statement'",
    "'wall'",
    "'refuse'",
    "'reset'",
    "'incremented'",
    "'checked'",
    "'total'",
    "'mean'",
    "'calls'",
    "'io'",
    "'22:00-06:00'",
    "'mon-fri'",
    "'00:00-00:00'",
    "'Europe/Berlin'",
    "'Nowhere/None'",
    "'ALTER TABLE app.parent ADD COLUMN fuzz int'",
    "'ALTER TABLE app.parent DROP COLUMN v'",
    "'ALTER TABLE app.parent ALTER COLUMN n TYPE bigint'",
    "'ADD COLUMN fuzz2 int'",
];

const NUMBERS: &[&str] = &["0", "1", "-1", "2", "3", "10", "100", "2147483647", "-2147483648", "32767", "-32768"];
const LARGE: &[&str] = &["0", "1", "-1", "9223372036854775807", "(-9223372036854775808)", "1000000", "4294967296"];
const FLOATS: &[&str] = &["'NaN'", "'Infinity'", "'-Infinity'", "0", "'-0'", "0.5", "1", "1e308", "1e-308", "-1", "2"];
const INTERVALS: &[&str] = &[
    "'0'",
    "'1 second'",
    "'-1 second'",
    "'1 day'",
    "'-178000000 years'",
    "'178000000 years'",
    "'1 mon -30 days'",
    "'1 microsecond'",
    "'5 min'",
    "'1 year'",
    "'infinity'",
    "'-infinity'",
];
const TIMES: &[&str] = &[
    "'infinity'",
    "'-infinity'",
    "'epoch'",
    "pg_catalog.now()",
    "'294276-12-31 23:59:59.999999+00'",
    "'4713-01-02 00:00:00+00 BC'",
    "'2000-02-30'",
    "'tomorrow'",
    "'1999-12-31 23:59:60'",
];
const DOCUMENTS: &[&str] = &[
    "'{}'",
    "'[]'",
    "'null'",
    "'1'",
    "'\"text\"'",
    "'{\"a\": 1}'",
    "'{\"\": null}'",
    "'[null, [1, {\"a\": []}]]'",
    "'{\"batch_rows\": 0}'",
    "'{\"batch_rows\": -1, \"batch_rows\": \"x\"}'",
    "'{\"strategy\": \"no\"}'",
    "'{\"max_rows_per_second\": 1e400}'",
    "'{\"key\": {\"a\": 1}}'",
    "('[' || pg_catalog.repeat('[', 2000) || pg_catalog.repeat(']', 2000) || ']')",
    "'{\"indexes\": [{\"indexrelid\": -1, \"idx_scan\": \"NaN\"}], \"format\": 1}'",
    "'{\"node\": 1, \"indexes\": {}}'",
    "'{\"format\": 1e300}'",
    "'{\"relation\": \"vault.secret\"}'",
];

/// A value for an argument of this type (as pg_type has its name) and name.
pub fn value(dice: &mut Dice, ids: &Ids, type_name: &str, argument: &str, superuser: bool) -> String {
    if dice.one_in(12) {
        return format!("NULL::{}", qualified(type_name));
    }
    let literal = match type_name {
        "text" => text(dice, argument).to_owned(),
        "name" => (*dice.pick(NAMES)).to_owned(),
        "regclass" => relation(dice, ids, superuser),
        "regrole" => (*dice.pick(&["'fuzz_owner'", "'fuzz_stranger'", "'postgres'", "'0'", "'4294967295'"])).to_owned(),
        "regprocedure" | "regproc" => (*dice.pick(&["'0'", "'4294967295'", "'pg_catalog.now()'"])).to_owned(),
        "regtype" => (*dice.pick(&["'0'", "'4294967295'", "'pg_catalog.int4'"])).to_owned(),
        "oid" | "xid" | "cid" | "regnamespace" => {
            (*dice.pick(&["'0'", "'1'", "'1259'", "'4294967295'", "'16384'", "'16500'"])).to_owned()
        }
        "uuid" => ids.uuid(dice),
        "int4" => (*dice.pick(NUMBERS)).to_owned(),
        "int2" => (*dice.pick(&["0", "1", "(-1)", "32767"])).to_owned(),
        "int8" => (*dice.pick(LARGE)).to_owned(),
        "float8" | "float4" | "numeric" => (*dice.pick(FLOATS)).to_owned(),
        "bool" => (*dice.pick(&["true", "false"])).to_owned(),
        "interval" => (*dice.pick(INTERVALS)).to_owned(),
        "timestamptz" | "timestamp" | "date" => (*dice.pick(TIMES)).to_owned(),
        "jsonb" | "json" => (*dice.pick(DOCUMENTS)).to_owned(),
        "bytea" => (*dice.pick(&["''", "'\\x00ff'", "pg_catalog.repeat('x', 10000)"])).to_owned(),
        "char" => (*dice.pick(&["''", "'x'", "'\\377'"])).to_owned(),
        "tid" => (*dice.pick(&["'(0,0)'", "'(0,1)'", "'(4294967295,65535)'"])).to_owned(),
        array if array.starts_with('_') => {
            let element = &array[1..];
            let count = dice.below(4);
            let elements: Vec<_> = (0..count).map(|_| value(dice, ids, element, argument, superuser)).collect();
            format!("ARRAY[{}]", elements.join(", "))
        }
        _ => "NULL".to_owned(),
    };
    if matches!(type_name, "internal" | "cstring" | "record" | "anyelement" | "any" | "trigger")
        || type_name.starts_with("any")
    {
        return "NULL".to_owned();
    }
    format!("({literal})::{}", qualified(type_name))
}

fn text(dice: &mut Dice, argument: &str) -> &'static str {
    let choice = match argument {
        _ if dice.one_in(3) => TEXTS,
        "condition" => CONDITIONS,
        "assignments" => ASSIGNMENTS,
        "command" => COMMANDS,
        "schedule" => SCHEDULES,
        "name" => NAMES,
        _ => WORDS,
    };
    choice[dice.below(choice.len())]
}

fn relation(dice: &mut Dice, ids: &Ids, superuser: bool) -> String {
    if dice.one_in(6) {
        let odd = [
            "0",
            "4294967295",
            "pg_class",
            "pg_catalog.pg_authid",
            "pg_catalog.pg_class_oid_index",
            "upkeep._job",
            "upkeep.jobs",
            "pg_catalog.pg_stat_activity",
        ];
        // What a superuser may do to the catalogs and to our own tables destroys the server that this is to test.
        let odd = if superuser { &odd[..2] } else { &odd[..] };
        return format!("'{}'", dice.pick(odd));
    }
    let ours = ids.relations.iter().filter(|r| !superuser || !r.starts_with("vault."));
    let ours: Vec<_> = ours.collect();
    if ours.is_empty() { "'0'".to_owned() } else { format!("'{}'", dice.pick(&ours).replace('\'', "''")) }
}

/// A type's name with its schema, an array's by its element.
fn qualified(type_name: &str) -> String {
    match type_name.strip_prefix('_') {
        Some(element) => format!("pg_catalog.\"{element}\"[]"),
        None => format!("pg_catalog.\"{type_name}\""),
    }
}
