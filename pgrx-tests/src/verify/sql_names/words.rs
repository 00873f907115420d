//! For pieces of SQL that are no whole thing in any shape: casts, calls and operators without a schema, by their looks.

use regex::Regex;

/// Written by the grammar, not by a name.
const TYPES: &[&str] = &[
    "bigint",
    "bit",
    "boolean",
    "char",
    "character",
    "decimal",
    "double",
    "float",
    "int",
    "integer",
    "interval",
    "national",
    "nchar",
    "numeric",
    "real",
    "smallint",
    "time",
    "timestamp",
    "varchar",
];
const WORDS: &[&str] = &[
    "all",
    "and",
    "any",
    "array",
    "as",
    "between",
    "by",
    "case",
    "cast",
    "coalesce",
    "conflict",
    "else",
    "exists",
    "extract",
    "filter",
    "from",
    "greatest",
    "in",
    "interval",
    "into",
    "is",
    "key",
    "lateral",
    "least",
    "materialized",
    "not",
    "nullif",
    "on",
    "operator",
    "or",
    "over",
    "partition",
    "range",
    "references",
    "row",
    "select",
    "set",
    "some",
    "then",
    "to",
    "union",
    "unique",
    "using",
    "values",
    "when",
    "where",
    "with",
    "within",
    "check",
    "columns",
];

pub fn unqualified(text: &str) -> Vec<String> {
    let without_strings =
        Regex::new("'[^']*'|\"[^\"]*\"").expect("a pattern").replace_all(text, "''").replace("SELECT *", "SELECT");
    let mut found = Vec::new();
    for cast in Regex::new(r"::\s*([a-z_][a-z0-9_]*)(\.)?").expect("a pattern").captures_iter(&without_strings) {
        if cast.get(2).is_none() && !TYPES.contains(&&cast[1]) {
            found.push(format!("type {}", &cast[1]));
        }
    }
    for call in Regex::new(r"(\.)?\b([a-z_][a-z0-9_]*)\(").expect("a pattern").captures_iter(&without_strings) {
        let name = &call[2];
        if call.get(1).is_none() && !WORDS.contains(&name) && !TYPES.contains(&name) {
            found.push(format!("function {name}"));
        }
    }
    for operator in
        Regex::new(r"[\w)}\]] +([-+*/<>=~!@#%^&|?]+) +[\w({\[$']").expect("a pattern").captures_iter(&without_strings)
    {
        // An assignment looks like a comparison.
        if !matches!(&operator[1], "=" | "=>") {
            found.push(format!("operator {}", &operator[1]));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::unqualified;

    #[test]
    fn words_without_a_schema_are_seen() {
        assert_eq!(unqualified("x) AND a::name || lower(b)"), ["type name", "function lower", "operator ||"]);
        assert_eq!(
            unqualified("x) AND a::pg_catalog.name OPERATOR(pg_catalog.||) pg_catalog.lower('a(') FILTER ("),
            [""; 0]
        );
        assert_eq!(unqualified("SET a = b::integer WHERE coalesce({0}, 1) IN ("), [""; 0]);
    }
}
