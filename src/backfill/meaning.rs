//! What the names in the user's text mean, in a form that can be compared later
//! (LAW 21: names are resolved once; if their meaning changes, the job stops).

use std::collections::HashSet;

use crate::error::Result;
use crate::server::catalog::FIRST_NORMAL_OID;
use crate::server::{Oid, spi};

/// Fields of the server's analysed tree that say what a name was resolved to.
/// Everything else in it (aliases, column lists of the table, places in the
/// text) may change without changing the statement's meaning: a column added
/// to the table must not stop its backfill.
const RESOLVED: &[&str] = &[
    ":relid",
    ":funcid",
    ":opno",
    ":aggfnoid",
    ":winfnoid",
    ":varno",
    ":varattno",
    ":vartype",
    ":varlevelsup",
    ":resno",
    ":resulttype",
    ":consttype",
    ":inputcollid",
    ":paramtype",
    ":collOid",
    ":nextval",
    ":seqid",
];

/// Types whose constants are names resolved at analysis: regproc, regprocedure, regoper,
/// regoperator, regclass, regtype, regconfig, regdictionary, regrole, regnamespace, regcollation; then arrays of them.
const NAMES: &[&str] = &[
    "24", "2202", "2203", "2204", "2205", "2206", "3734", "3769", "4096", "4089", "4191", "1008", "2207", "2208",
    "2209", "2210", "2211", "3735", "3770", "4097", "4090", "4192",
];

/// Composite types, arrays, domains and ranges of users that have such a type somewhere inside: their constants are read at
/// analysis as well.
const HOLDING: &str = "
    WITH RECURSIVE part (whole, oid) AS (
        SELECT t.oid, t.oid FROM pg_catalog.unnest($1) t (oid)
        UNION
        SELECT p.whole, n.oid FROM part p
        JOIN pg_catalog.pg_type t ON t.oid OPERATOR(pg_catalog.=) p.oid
        CROSS JOIN LATERAL (
            SELECT t.typelem AS oid
            UNION ALL SELECT t.typbasetype
            UNION ALL SELECT r.rngsubtype FROM pg_catalog.pg_range r
                      WHERE r.rngtypid OPERATOR(pg_catalog.=) t.oid OR r.rngmultitypid OPERATOR(pg_catalog.=) t.oid
            UNION ALL SELECT a.atttypid FROM pg_catalog.pg_attribute a
                      WHERE t.typtype OPERATOR(pg_catalog.=) 'c' AND a.attrelid OPERATOR(pg_catalog.=) t.typrelid
                        AND a.attnum OPERATOR(pg_catalog.>) 0::pg_catalog.int2 AND NOT a.attisdropped) n
        WHERE n.oid OPERATOR(pg_catalog.<>) 0::pg_catalog.oid)
    SELECT DISTINCT p.whole FROM part p WHERE p.oid OPERATOR(pg_catalog.=) ANY ($2)";

/// Which types of the tree's constants hold names, besides [`NAMES`].
fn holding_names(tree: &str) -> Result<HashSet<String>> {
    let types = types_of_constants(tree);
    if types.is_empty() {
        return Ok(HashSet::new());
    }
    let names: Vec<Oid> = NAMES.iter().filter_map(|name| oid(name)).collect();
    let holding = spi::bookkeeping(|| {
        spi::query(HOLDING, &[types.into(), names.into()], |row| Ok(row.require::<Oid>(1)?.to_u32().to_string()))
    })?;
    Ok(holding.into_iter().collect())
}

/// Those that users have made.
fn types_of_constants(tree: &str) -> Vec<Oid> {
    let mut tokens = tree.split_ascii_whitespace();
    let mut types = Vec::new();
    while let Some(token) = tokens.next() {
        if token == ":consttype" {
            types.extend(tokens.next().and_then(oid).filter(|oid| oid.to_u32() >= FIRST_NORMAL_OID));
        }
    }
    types.sort_unstable_by_key(|oid| oid.to_u32());
    types.dedup();
    types
}

fn oid(text: &str) -> Option<Oid> {
    text.parse::<u32>().ok().map(Oid::from)
}

/// A short text that changes when a name in the statement comes to mean something else.
pub fn fingerprint(tree: &str) -> Result<String> {
    Ok(hash(tree, &holding_names(tree)?))
}

fn hash(tree: &str, holding: &HashSet<String>) -> String {
    let mut hash = Fnv::new();
    let mut constant_is_name = false;
    let mut tokens = tree.split_ascii_whitespace().peekable();
    while let Some(token) = tokens.next() {
        if RESOLVED.contains(&token) {
            let value = tokens.peek().copied().unwrap_or_default();
            if token == ":consttype" {
                constant_is_name = NAMES.contains(&value) || holding.contains(value);
            }
            hash.add(token);
            hash.add(value);
        } else if token == ":constvalue" && constant_is_name {
            hash.add(token);
            // "4 [ 10 64 0 0 0 0 0 0 ]", or "<>" for a null.
            while let Some(byte) = tokens.next_if(|token| *token != "]" && !token.starts_with('}')) {
                hash.add(byte);
            }
        }
    }
    format!("{:016x}", hash.0)
}

/// FNV-1a: stable across compilers and platforms, which the standard library's hashers are not.
struct Fnv(u64);

impl Fnv {
    fn new() -> Self {
        Fnv(0xcbf2_9ce4_8422_2325)
    }

    fn add(&mut self, token: &str) {
        for byte in token.bytes().chain([b' ']) {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fingerprint(tree: &str) -> String {
        hash(tree, &HashSet::from(["16500".to_owned()]))
    }

    const TREE: &str = "{QUERY :commandType 2 :rtable ({RANGETBLENTRY :eref {ALIAS :aliasname t \
        :colnames (\"a\" \"b\")} :relid 16400}) :targetList ({TARGETENTRY :expr {FUNCEXPR \
        :funcid 871 :args ({VAR :varno 1 :varattno 2 :location 40})} :resno 1})}";

    #[test]
    fn places_and_names_of_columns_do_not_matter() {
        let moved = TREE.replace(":location 40", ":location 7").replace("\"b\"", "\"b\" \"c\"");
        assert_eq!(fingerprint(TREE), fingerprint(&moved));
    }

    #[test]
    fn another_function_table_or_column_matters() {
        for (old, new) in [(":funcid 871", ":funcid 872"), (":relid 16400", ":relid 16401"), ("attno 2", "attno 3")] {
            assert_ne!(fingerprint(TREE), fingerprint(&TREE.replace(old, new)));
        }
    }

    #[test]
    fn a_constant_matters_only_if_it_is_a_name() {
        let tree =
            |oid: &str, byte: &str| format!("{{CONST :consttype {oid} :location 5 :constvalue 4 [ {byte} 0 0 0 ]}}");
        assert_ne!(fingerprint(&tree("2205", "1")), fingerprint(&tree("2205", "2")));
        assert_ne!(fingerprint(&tree("2210", "1")), fingerprint(&tree("2210", "2")), "inside an array");
        assert_ne!(fingerprint(&tree("16500", "1")), fingerprint(&tree("16500", "2")), "inside a type of a user's");
        assert_eq!(types_of_constants(&tree("16500", "1")), [Oid::from(16500)]);
        assert!(types_of_constants(&tree("2205", "1")).is_empty());
        // 'now'::timestamptz is another constant each time.
        assert_eq!(fingerprint(&tree("1184", "1")), fingerprint(&tree("1184", "2")));
    }
}
