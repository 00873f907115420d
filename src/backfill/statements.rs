//! The SQL that a backfill speaks: text only, every name quoted and qualified.

use super::key::{Column, Key, Operators};
use crate::sql::quote::identifier;

/// The parts that every statement of one backfill is made of.
#[derive(Clone, Debug)]
pub struct Parts {
    /// What FROM and UPDATE name: `ONLY "s"."t"`, with another name or without, or the tree it belongs to.
    pub table: String,
    /// What is true for the table's own rows only, where a tree is named.
    pub own_rows: Option<String>,
    pub assignments: String,
    pub condition: Option<Condition>,
    pub key: Option<Key>,
    /// A unique index holds a column that is set: rows are then locked as for a change of key.
    pub changes_unique_column: bool,
}

#[derive(Clone, Debug)]
pub struct Condition {
    pub text: String,
    pub sub_selects: bool,
}

/// Which rows of a range a statement takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Take {
    All,
    /// Every n-th: two more parameters, strides and stride.
    Stride,
    /// Every n-th of the rows older than the run: four more, also xmin's since and span.
    OldStride,
}

/// Where a range of keys begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Begin {
    Start,
    AfterKey,
}

/// Reading candidates: just look, or lock those that nobody else has locked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Read {
    Look,
    Lock,
}

impl Parts {
    /// The user's own text in it.
    pub fn fragments(&self) -> Vec<&str> {
        let condition = self.condition.iter().map(|condition| condition.text.as_str());
        condition.chain([self.assignments.as_str()]).collect()
    }

    /// `UPDATE` of a range of blocks: parameters from tid, to tid, then those of [`Take`].
    pub fn update_blocks(&self, take: Take) -> String {
        self.update(&self.where_blocks(take))
    }

    /// `UPDATE` of a range of keys: parameters after key (if any), up to key, then those of [`Take`].
    pub fn update_keys(&self, from: Begin, take: Take) -> String {
        self.update(&self.where_keys(from, take))
    }

    /// `UPDATE` of rows by their places: one parameter, tid[].
    pub fn update_places(&self) -> String {
        self.update(&self.and_condition("ctid OPERATOR(pg_catalog.=) ANY ($1)"))
    }

    /// Rows by their places that nobody else has locked: place and key. One parameter, tid[].
    pub fn lock_places(&self) -> String {
        self.read(&self.and_condition("ctid OPERATOR(pg_catalog.=) ANY ($1)"), Read::Lock)
    }

    /// Rows of a range of blocks: place and key.
    pub fn read_blocks(&self, take: Take, read: Read) -> String {
        self.read(&self.where_blocks(take), read)
    }

    /// Rows of a range of keys: place and key.
    pub fn read_keys(&self, from: Begin, take: Take, read: Read) -> String {
        self.read(&self.where_keys(from, take), read)
    }

    /// The row with one key (parameters: its columns), if it still needs it.
    pub fn read_by_key(&self, read: Read) -> String {
        let equal = self.key().columns.iter().enumerate().map(|(i, column)| {
            format!("{} OPERATOR({}) {}", column.compared(), column.operators.equal, column.parameter(i + 1))
        });
        let equal = equal.collect::<Vec<_>>().join(" AND ");
        self.read(&self.and_condition(&equal), read)
    }

    /// The row at one place (parameter: tid), if it still needs it.
    pub fn read_by_place(&self, read: Read) -> String {
        self.read(&self.and_condition("ctid OPERATOR(pg_catalog.=) $1"), read)
    }

    /// Rows of a range of blocks that still match: place, key, xmin; at most $3.
    pub fn verify_blocks(&self) -> String {
        format!(
            "SELECT ctid{}, xmin FROM {} WHERE {}{} LIMIT $3",
            self.and_key(),
            self.table,
            self.own(),
            self.and_condition(BLOCKS),
        )
    }

    /// The greatest key.
    pub fn last_key(&self) -> String {
        let columns = self.key_columns().collect::<Vec<_>>().join(", ");
        let order = self.order(" DESC");
        format!("SELECT {columns} FROM {} WHERE {}true ORDER BY {order} LIMIT 1", self.table, self.own())
    }

    /// Every $n-th key: parameters after key (if any), up to key, rows in all, rows per range.
    pub fn boundaries(&self, from: Begin) -> String {
        let width = self.key().columns.len();
        let first_free = if from == Begin::Start { width } else { 2 * width } + 1;
        let inner = self
            .key_columns()
            .enumerate()
            .map(|(i, column)| format!("{column} AS k{}", i + 1))
            .collect::<Vec<_>>()
            .join(", ");
        let order = self.order("");
        format!(
            "SELECT {keys} FROM (
                 SELECT *, pg_catalog.row_number() OVER () AS n FROM (
                     SELECT {inner} FROM {table} WHERE {own}{range} ORDER BY {order} LIMIT ${first_free}
                 ) rows
             ) numbered
             WHERE n OPERATOR(pg_catalog.%) ${per} OPERATOR(pg_catalog.=) 0 ORDER BY n",
            keys = (1..=width).map(|i| format!("k{i}")).collect::<Vec<_>>().join(", "),
            table = self.table,
            own = self.own(),
            range = self.key_range(from),
            per = first_free + 1,
        )
    }

    /// The number of parameters that a range of keys takes.
    pub fn key_parameters(&self, from: Begin) -> usize {
        self.key().columns.len() * if from == Begin::Start { 1 } else { 2 }
    }

    fn update(&self, filter: &str) -> String {
        let still = match &self.condition {
            Some(condition) => format!(" RETURNING (\n{}\n) IS TRUE", condition.text),
            None => String::new(),
        };
        format!("UPDATE {} SET\n{}\nWHERE {}{filter}{still}", self.table, self.assignments, self.own())
    }

    fn read(&self, filter: &str, read: Read) -> String {
        let lock = match read {
            Read::Look => "",
            Read::Lock if self.changes_unique_column => " FOR UPDATE SKIP LOCKED",
            Read::Lock => " FOR NO KEY UPDATE SKIP LOCKED",
        };
        format!("SELECT ctid{} FROM {} WHERE {}{filter}{lock}", self.and_key(), self.table, self.own())
    }

    /// Goes before every filter.
    pub fn own(&self) -> String {
        self.own_rows.as_ref().map_or(String::new(), |own| format!("{own} AND "))
    }

    fn where_blocks(&self, take: Take) -> String {
        let stride = match take {
            Take::All => return self.and_condition(BLOCKS),
            Take::Stride => "upkeep._in_stride(ctid, $3, $4)",
            Take::OldStride => "upkeep._in_stride_before(ctid, $3, $4, xmin, $5, $6)",
        };
        format!("{BLOCKS} AND {}", self.filtered(stride))
    }

    fn where_keys(&self, from: Begin, take: Take) -> String {
        let range = self.key_range(from);
        if take == Take::All {
            return self.and_condition(&range);
        }
        let strides = self.key_parameters(from) + 1;
        let number = if self.key().is_integer() {
            identifier(&self.key().columns[0].name)
        } else {
            format!("pg_catalog.hash_record(ROW({}))", self.key_columns().collect::<Vec<_>>().join(", "))
        };
        let stride = format!(
            "pg_catalog.abs({number} OPERATOR(pg_catalog.%) ${strides}) OPERATOR(pg_catalog.=) ${}",
            strides + 1
        );
        format!("{range} AND {}", self.filtered(&stride))
    }

    /// `filter` and the condition. The planner would test `IS NULL` first, for all
    /// rows of all strides; CASE keeps the order. Around a sub-select it would cost
    /// more than it saves: no hashed sub-plan, no semi-join.
    fn filtered(&self, filter: &str) -> String {
        match &self.condition {
            Some(condition) if !condition.sub_selects => {
                format!("CASE WHEN {filter} THEN (\n{}\n) ELSE false END", condition.text)
            }
            _ => self.and_condition(filter),
        }
    }

    fn and_condition(&self, filter: &str) -> String {
        match &self.condition {
            Some(condition) => format!("{filter} AND (\n{}\n)", condition.text),
            None => filter.to_owned(),
        }
    }

    /// After the first key (if there is one), up to and including the second.
    fn key_range(&self, from: Begin) -> String {
        let width = self.key().columns.len();
        match from {
            Begin::Start => self.up_to(1),
            Begin::AfterKey => {
                let after = self.compare(1, |of| &of.greater, |of| &of.greater_or_equal);
                format!("{after} AND {}", self.up_to(1 + width))
            }
        }
    }

    fn up_to(&self, first: usize) -> String {
        self.compare(first, |of| &of.less_or_equal, |of| &of.less_or_equal)
    }

    /// The key against the parameters from `first` on: as rows, for which the operators of all columns must have one name;
    /// else column by column, all but the last by `or_equal`.
    fn compare(
        &self,
        first: usize,
        operator: fn(&Operators) -> &String,
        or_equal: fn(&Operators) -> &String,
    ) -> String {
        let columns = &self.key().columns;
        let names: Vec<String> = columns.iter().map(Column::compared).collect();
        let values: Vec<String> = columns.iter().enumerate().map(|(i, column)| column.parameter(first + i)).collect();
        let Some((last, before)) = columns.split_last() else { return "false".to_owned() };
        let by = operator(&last.operators);
        if before.iter().all(|column| operator(&column.operators) == by) {
            return format!("ROW({}) OPERATOR({by}) ROW({})", names.join(", "), values.join(", "));
        }
        let end = before.len();
        let mut text = format!("{} OPERATOR({by}) {}", names[end], values[end]);
        for (i, Column { operators, .. }) in before.iter().enumerate().rev() {
            let (name, value) = (&names[i], &values[i]);
            text = format!(
                "({name} OPERATOR({}) {value} AND (NOT {name} OPERATOR({}) {value} OR {text}))",
                or_equal(operators),
                operators.equal
            );
        }
        text
    }

    /// In the order of the key: of its columns' own collations, which other than these could not be compared with bounds.
    fn order(&self, direction: &str) -> String {
        let column = |column: &Column| format!("{}{}{direction}", identifier(&column.name), column.collate());
        self.key().columns.iter().map(column).collect::<Vec<_>>().join(", ")
    }

    /// The columns of the key behind others, as they are: text is made of them outside of the statement.
    fn and_key(&self) -> String {
        self.key_columns().map(|column| format!(", {column}")).collect()
    }

    fn key_columns(&self) -> impl Iterator<Item = String> + '_ {
        self.key().columns.iter().map(|column| identifier(&column.name))
    }

    /// Statements by key are only asked for where there is one.
    fn key(&self) -> &Key {
        static NONE: Key = Key { columns: Vec::new(), is_hashable: false, correlation: None };
        self.key.as_ref().unwrap_or(&NONE)
    }
}

const BLOCKS: &str = "ctid OPERATOR(pg_catalog.>=) $1 AND ctid OPERATOR(pg_catalog.<) $2";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backfill::key::tests::key;

    fn parts(condition: Option<&str>, sub_selects: bool) -> Parts {
        Parts {
            table: "ONLY \"s\".\"t\"".into(),
            own_rows: None,
            assignments: "n = n + 1 -- up".into(),
            condition: condition.map(|text| Condition { text: text.into(), sub_selects }),
            key: Some(key(&["a", "b\"c"], 20)),
            changes_unique_column: false,
        }
    }

    #[test]
    fn a_comment_in_a_fragment_swallows_nothing() {
        let sql = parts(Some("n IS NULL -- todo"), false).update_blocks(Take::Stride);
        for line in sql.lines().filter(|line| line.contains("--")) {
            assert!(line.ends_with("-- up") || line.ends_with("-- todo"), "{line}");
        }
    }

    #[test]
    fn the_filter_goes_first_unless_the_condition_has_a_sub_select() {
        assert!(parts(Some("n IS NULL"), false).update_blocks(Take::Stride).contains("CASE WHEN"));
        assert!(!parts(Some("n IS NULL"), true).update_blocks(Take::Stride).contains("CASE WHEN"));
    }

    #[test]
    fn composite_keys_are_compared_as_rows() {
        let sql = parts(None, false).update_keys(Begin::AfterKey, Take::All);
        assert!(sql.ends_with(
            "ROW(\"a\", \"b\"\"c\") OPERATOR(pg_catalog.>) ROW($1, $2) AND \
             ROW(\"a\", \"b\"\"c\") OPERATOR(pg_catalog.<=) ROW($3, $4)"
        ));
    }

    #[test]
    fn operators_of_several_schemas_are_compared_column_by_column() {
        let mut parts = parts(None, false);
        let first = &mut parts.key.as_mut().unwrap().columns[0];
        first.collation = Some("x.\"C\"".into());
        first.operators.greater = "x.>".into();
        first.operators.greater_or_equal = "x.>=".into();
        let sql = parts.boundaries(Begin::AfterKey);
        assert!(
            sql.contains(
                "(\"a\" OPERATOR(x.>=) $1 COLLATE x.\"C\" AND (NOT \"a\" OPERATOR(pg_catalog.=) $1 COLLATE x.\"C\" \
                 OR \"b\"\"c\" OPERATOR(pg_catalog.>) $2)) AND ROW(\"a\", \"b\"\"c\") OPERATOR(pg_catalog.<=) \
                 ROW($3 COLLATE x.\"C\", $4) ORDER BY \"a\" COLLATE x.\"C\", \"b\"\"c\" LIMIT"
            ),
            "{sql}"
        );
    }

    #[test]
    fn a_statement_on_a_tree_keeps_to_one_table() {
        let all = |own_rows: Option<&str>| {
            let parts = Parts { own_rows: own_rows.map(str::to_owned), ..parts(Some("n IS NULL"), false) };
            let (take, read, begin) = (Take::Stride, Read::Lock, Begin::AfterKey);
            vec![
                parts.update_blocks(take),
                parts.update_keys(begin, take),
                parts.update_places(),
                parts.lock_places(),
                parts.read_blocks(take, read),
                parts.read_keys(begin, take, read),
                parts.read_by_key(read),
                parts.read_by_place(read),
                parts.verify_blocks(),
                parts.last_key(),
                parts.boundaries(begin),
            ]
        };
        for (with, without) in all(Some("tableoid = 7")).iter().zip(all(None)) {
            assert_eq!(with.matches("WHERE tableoid = 7 AND ").count(), 1, "{with}");
            assert_eq!(with.replace("tableoid = 7 AND ", ""), without);
        }
    }
}
