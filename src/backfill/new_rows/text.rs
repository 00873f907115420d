//! The SQL of a job's trigger. The caller's expressions come deparsed, with every name resolved; nothing here is
//! text of his.
//!
//! Two functions. The values are computed by one in SQL whose body the server keeps analysed: renaming a function
//! that it calls changes nothing for writers. It reads the row as a sub-select with the table's column names and
//! collations, exactly what the UPDATE's expressions see, all of them before any is assigned. The trigger's own
//! names its columns in text, and looks first whether they are still there.

use super::Names;
use super::columns::Column;
use crate::server::deparse::Filling;
use crate::server::{Oid, types};
use crate::sql::quote::{identifier, literal};

pub struct Text<'a> {
    names: &'a Names,
    filling: &'a Filling,
    /// The whole condition can stand in the trigger's WHEN.
    simple: bool,
    /// Columns that the expressions read.
    reads: Vec<&'a Column>,
    /// Columns that are set.
    sets: Vec<&'a Column>,
}

impl<'a> Text<'a> {
    /// `None`: a column is not there.
    pub fn new(names: &'a Names, filling: &'a Filling, columns: &'a [Column], simple: bool) -> Option<Self> {
        let mut numbers: Vec<i16> = filling.values.iter().flat_map(|value| value.reads.iter().copied()).collect();
        if !simple {
            numbers.extend(&filling.condition_reads);
        }
        numbers.sort_unstable();
        numbers.dedup();
        let reads = numbers.iter().map(|number| columns.iter().find(|column| column.number == *number));
        let sets = filling.values.iter().map(|value| columns.iter().find(|column| column.name == value.column));
        Some(Text { names, filling, simple, reads: reads.collect::<Option<_>>()?, sets: sets.collect::<Option<_>>()? })
    }

    /// What the function that computes the values takes.
    pub fn takes(&self) -> Vec<Oid> {
        self.reads.iter().map(|column| column.type_oid).collect()
    }

    /// What it gives. Never a single value: that would be no row.
    pub fn gives(&self) -> Vec<Oid> {
        self.sets.iter().map(|column| column.type_oid).chain([types::BOOL]).collect()
    }

    /// Its query, which only the job's owner may read: no row if the condition does not hold. `None`: some value is not an
    /// expression.
    pub fn values(&self) -> Option<String> {
        let values: Option<Vec<String>> =
            self.filling.values.iter().map(|value| Some(format!("({})", value.sql.as_ref()?))).collect();
        let row = self.reads.iter().enumerate().map(|(i, column)| {
            let collate = column.collation.as_ref().map_or(String::new(), |name| format!(" COLLATE {name}"));
            format!("${}{collate} AS {}", i + 1, identifier(&column.name))
        });
        let from = if self.reads.is_empty() { String::new() } else { format!(" FROM (SELECT {}) AS new", list(row)) };
        let filter = if self.simple { String::new() } else { format!(" WHERE ({})", self.filling.condition) };
        Some(format!("SELECT {}, true{from}{filter}", values?.join(", ")))
    }

    /// The body of the trigger's function.
    pub fn function(&self) -> String {
        let names = self.reads.iter().chain(&self.sets).map(|column| literal(&column.name));
        let new = self.reads.iter().map(|column| format!("NEW.{}", identifier(&column.name)));
        let assignments: String = self
            .sets
            .iter()
            .enumerate()
            .map(|(i, column)| format!("        NEW.{} := filled.column{};\n", identifier(&column.name), i + 1))
            .collect();
        format!(
            "DECLARE filled record;
BEGIN
    -- A column that is gone, or called or typed otherwise by now, stops the job; it is no business of the writer's.
    IF EXISTS (
        SELECT FROM pg_catalog.pg_proc p, pg_catalog.unnest(ARRAY[{names}]::pg_catalog.text[]) WITH ORDINALITY c (name, i)
        WHERE p.proname OPERATOR(pg_catalog.=) {values_name}
          AND p.pronamespace OPERATOR(pg_catalog.=) 'upkeep'::pg_catalog.regnamespace
          AND NOT EXISTS (
              SELECT FROM pg_catalog.pg_attribute a
              WHERE a.attrelid OPERATOR(pg_catalog.=) TG_RELID AND NOT a.attisdropped
                AND a.attname OPERATOR(pg_catalog.=) c.name
                AND a.atttypid OPERATOR(pg_catalog.=) p.proallargtypes[c.i]))
    THEN
        RETURN NEW;
    END IF;
    SELECT * INTO filled FROM upkeep.{values}({new});
    IF FOUND THEN
{assignments}    END IF;
    RETURN NEW;
END",
            names = list(names),
            values_name = literal(&self.names.values),
            values = identifier(&self.names.values),
            new = list(new),
        )
    }

    /// The trigger on one table, quoted and qualified.
    pub fn create_trigger(&self, table: &str, job: &str) -> String {
        let condition = if self.simple { format!("({}) AND ", self.filling.condition) } else { String::new() };
        format!(
            "CREATE TRIGGER {} BEFORE INSERT OR UPDATE ON {table} FOR EACH ROW
             WHEN ({condition}NOT upkeep._is_filling({}::pg_catalog.uuid)) EXECUTE FUNCTION upkeep.{}()",
            identifier(&self.names.trigger),
            literal(job),
            identifier(&self.names.function),
        )
    }
}

/// A search_path in which a writer's temporary objects hide nothing. Unless named, their schema comes first; the job has
/// none of its own, so the meaning stays the same.
pub fn with_temporary_last(path: &str) -> String {
    let mut schemas = Vec::new();
    let mut quoted = false;
    for piece in path.split_inclusive(|c| {
        quoted ^= c == '"';
        c == ',' && !quoted
    }) {
        let schema = piece.strip_suffix(',').unwrap_or(piece).trim();
        if !schema.is_empty() && !schema.trim_matches('"').eq_ignore_ascii_case("pg_temp") {
            schemas.push(schema);
        }
    }
    schemas.push("pg_temp");
    schemas.join(", ")
}

fn list(items: impl Iterator<Item = String>) -> String {
    items.collect::<Vec<_>>().join(", ")
}

/// Functions and operators that an analysed expression calls, or `None` if it does something that depends on who
/// evaluates it, or with what settings.
pub fn called(tree: &str) -> Option<(Vec<u32>, Vec<u32>)> {
    const DEPENDENT: [&str; 5] = ["{COERCETODOMAIN", "{SUBLINK", "{SQLVALUEFUNCTION", "{COERCEVIAIO", "{NEXTVALUEEXPR"];
    let (mut functions, mut operators) = (Vec::new(), Vec::new());
    let mut tokens = tree.split_ascii_whitespace().peekable();
    while let Some(token) = tokens.next() {
        if DEPENDENT.iter().any(|word| token.trim_start_matches('(') == *word) {
            return None;
        }
        let list = match token {
            ":funcid" => &mut functions,
            ":opno" => &mut operators,
            _ => continue,
        };
        list.push(tokens.peek()?.trim_end_matches(['}', ')']).parse().ok()?);
    }
    Some((functions, operators))
}

#[cfg(test)]
mod tests {

    use super::*;
    use crate::server::deparse::Value;

    fn column(number: i16, name: &str) -> Column {
        Column {
            number,
            name: name.to_owned(),
            type_oid: types::INT4,
            collation: None,
            identity: false,
            generated: false,
        }
    }

    fn filling() -> Filling {
        Filling {
            values: vec![Value { column: "b".to_owned(), sql: Some("new.c + 1".to_owned()), reads: vec![3] }],
            condition: "new.a IS NULL".to_owned(),
            condition_reads: vec![1],
            condition_tree: String::new(),
            condition_is_volatile: false,
        }
    }

    #[test]
    fn a_simple_condition_is_tested_before_the_function_and_any_other_in_it() {
        let names = Names::of(pgrx::Uuid::from_bytes([0xAB; 16]));
        let columns = [column(1, "a"), column(2, "b"), column(3, "we\"ird'")];
        let filling = filling();
        let simple = Text::new(&names, &filling, &columns, true).unwrap();
        assert!(simple.create_trigger("s.t", "id").contains("WHEN ((new.a IS NULL) AND NOT upkeep._is_filling("));
        assert!(simple.values().unwrap().ends_with("true FROM (SELECT $1 AS \"we\"\"ird'\") AS new"));
        let other = Text::new(&names, &filling, &columns, false).unwrap();
        assert!(other.create_trigger("s.t", "id").contains("WHEN (NOT upkeep._is_filling("));
        assert!(other.values().unwrap().ends_with("$2 AS \"we\"\"ird'\") AS new WHERE (new.a IS NULL)"));
    }

    #[test]
    fn a_column_is_one_literal_whatever_it_is_called() {
        let names = Names::of(pgrx::Uuid::from_bytes([1; 16]));
        let weird = "'; DROP TABLE x; --\\";
        let columns = [column(1, "a"), column(2, "b"), column(3, weird)];
        let filling = filling();
        let sql = Text::new(&names, &filling, &columns, true).unwrap().function();
        assert!(sql.contains(&format!("ARRAY[{}, {}]", literal(weird), literal("b"))), "{sql}");
        assert!(sql.contains(&format!("(NEW.\"{weird}\")")), "{sql}");
    }

    #[test]
    fn a_column_that_is_gone_is_noticed() {
        let names = Names::of(pgrx::Uuid::from_bytes([1; 16]));
        assert!(Text::new(&names, &filling(), &[column(1, "a"), column(2, "b")], true).is_none());
    }

    #[test]
    fn temporary_objects_come_last() {
        for (path, wanted) in [
            ("", "pg_temp"),
            ("\"$user\", public", "\"$user\", public, pg_temp"),
            ("pg_temp, a", "a, pg_temp"),
            ("a,\"PG_TEMP\" , b", "a, b, pg_temp"),
            ("\"a, pg_temp\", \"b\"\",c\"", "\"a, pg_temp\", \"b\"\",c\", pg_temp"),
        ] {
            assert_eq!(with_temporary_last(path), wanted);
        }
    }

    #[test]
    fn what_an_expression_calls() {
        let tree = "({OPEXPR :opno 521 :opfuncid 147 :args ({FUNCEXPR :funcid 871} {CONST :consttype 23})})";
        assert_eq!(called(tree), Some((vec![871], vec![521])));
        assert_eq!(called("{SQLVALUEFUNCTION :op 10}"), None);
        assert_eq!(called("({BOOLEXPR :args ({SUBLINK :x 1})})"), None);
    }
}
