//! What the names in the user's text mean, in a form that can be compared later
//! (LAW 21: names are resolved once; if their meaning changes, the job stops).

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

/// A short text that changes when a name in the statement comes to mean something else.
pub fn fingerprint(tree: &str) -> String {
    let mut hash = Fnv::new();
    let mut constant_is_name = false;
    let mut tokens = tree.split_ascii_whitespace().peekable();
    while let Some(token) = tokens.next() {
        if RESOLVED.contains(&token) {
            let value = tokens.peek().copied().unwrap_or_default();
            if token == ":consttype" {
                constant_is_name = NAMES.contains(&value);
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
        // 'now'::timestamptz is another constant each time.
        assert_eq!(fingerprint(&tree("1184", "1")), fingerprint(&tree("1184", "2")));
    }
}
