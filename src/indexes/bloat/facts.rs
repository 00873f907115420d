//! From what the catalogs say to what can be estimated, or why it cannot.

use super::estimate::Known;
use super::keys::{Column, Width};
use super::nbtree::Packing;

#[derive(Clone, Debug, Default)]
pub struct IndexFacts {
    /// `pg_class.reltuples` of both, -1 for unknown.
    pub index_tuples: f64,
    pub table_tuples: f64,
    /// Rows by the counters of activity, if a VACUUM or ANALYZE has set them right.
    pub live_rows: Option<f64>,
    /// That was within the last two minutes. Rows that a session had written and not reported by then are counted
    /// twice, until autovacuum notices the change that they seem to be.
    pub just_counted: bool,
    /// The table's pages as a multiple of those when `table_tuples` was counted.
    pub growth: f64,
    /// Rows written since the last ANALYZE.
    pub changes: f64,
    pub unique: bool,
    pub partial: bool,
    /// The table's column that a partial index wants not to be null, if that is its whole condition.
    pub not_null_column: Option<i32>,
    /// `name=value`, as in `pg_class.reloptions`.
    pub options: Vec<String>,
    pub key_columns: usize,
    pub attributes: Vec<Attribute>,
}

/// A column of the index.
#[derive(Clone, Debug)]
pub struct Attribute {
    /// Its name in the table, or an expression's in the index.
    pub name: String,
    /// The table's column; 0: an expression.
    pub table_column: i32,
    /// `attlen`, `attalign`, `attstorage` in the index.
    pub length: i32,
    pub alignment: char,
    pub storage: char,
    pub not_null: bool,
    pub equality: Equality,
    /// `None`: never analyzed, or not for the caller's eyes.
    pub statistics: Option<ColumnStatistics>,
}

/// What equal values of a key column have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Equality {
    /// Every byte: a build may merge them.
    Image,
    /// Perhaps nothing visible (1.0 and 1.00).
    Value,
}

#[derive(Clone, Debug, PartialEq)]
pub struct ColumnStatistics {
    pub null_fraction: f64,
    pub width: f64,
    /// As in `pg_stats`: a share of the rows if negative.
    pub distinct: f64,
    pub common: Vec<f64>,
    /// ANALYZE kept no value at all: all were too long for it.
    pub no_values: bool,
    /// Bytes of the values that it kept, for a type that the index stores in another form.
    pub text_width: Option<f64>,
}

/// The column of a condition `column IS NOT NULL`, read from `pg_index.indpred`: `pg_get_expr` might wait for a lock.
pub fn not_null_column(condition: &str) -> Option<i32> {
    let column = condition.strip_prefix("{NULLTEST :arg {VAR :varno 1 :varattno ")?;
    if !condition.contains(":nulltesttype 1 ") {
        return None;
    }
    column.split(' ').next()?.parse().ok()
}

/// An index stores longer values compressed, if they can be.
const COMPRESSED_FROM: f64 = 508.0;

impl IndexFacts {
    fn option(&self, name: &str) -> Option<String> {
        self.options.iter().find_map(|option| option.strip_prefix(name)?.strip_prefix('=')).map(str::to_lowercase)
    }

    /// `deduplicate_items`.
    pub fn wants_merging(&self) -> bool {
        // Whatever the server takes for false: it checked when the option was set.
        let off = |value: String| value == "0" || ["of", "f", "n"].iter().any(|no| value.starts_with(no));
        !self.option("deduplicate_items").is_some_and(off)
    }

    /// How a build would pack the index.
    pub fn packing(&self) -> Packing {
        let same_image = self.attributes.iter().all(|a| a.equality == Equality::Image);
        let no_more_columns = self.key_columns == self.attributes.len();
        let fillfactor = self.option("fillfactor").and_then(|value| value.parse().ok()).unwrap_or(90).clamp(10, 100);
        Packing { fillfactor, deduplicates: self.wants_merging() && !self.unique && same_image && no_more_columns }
    }

    /// What to estimate from, or what is missing.
    pub fn known(&self) -> Result<Known, String> {
        let counted = (self.table_tuples >= 0.0).then_some(self.table_tuples * self.growth);
        let (table_rows, other) = match (self.live_rows, counted) {
            (Some(live), Some(counted)) if self.just_counted => (counted, live),
            (Some(live), counted) => (live, counted.unwrap_or(live)),
            (None, Some(counted)) => (counted, counted),
            (None, None) => return Err("the table was never vacuumed nor analyzed".into()),
        };
        let rows = match self.partial {
            false => table_rows,
            true if self.index_tuples < 0.0 => return Err("the index's rows were never counted".into()),
            // As many of the table's rows as there were when both were counted.
            true if self.table_tuples > 0.0 => self.index_tuples * (table_rows / self.table_tuples),
            true => self.index_tuples,
        };
        let rows = rows.min(table_rows);
        let packing = self.packing();
        // Of no rows there is nothing else to know.
        let attributes = if rows.max(other) < 0.5 { &[] } else { self.attributes.as_slice() };
        let columns = attributes.iter().map(|attribute| self.column(attribute, table_rows, packing));
        let columns = columns.collect::<Result<Vec<_>, _>>()?;
        let changed = if table_rows > 0.0 { self.changes / table_rows } else { 0.0 };
        // A condition that only keeps nulls out leaves every value all its rows.
        let values_from = if self.not_null_column.is_some() { rows } else { table_rows };
        let other_rows = if table_rows > 0.0 { rows * (other / table_rows) } else { other };
        Ok(Known { columns, packing, rows, other_rows, table_rows: values_from, changed: changed.clamp(0.0, 1.0) })
    }

    fn column(&self, attribute: &Attribute, table_rows: f64, packing: Packing) -> Result<Column, String> {
        let name = &attribute.name;
        let statistics = attribute.statistics.as_ref();
        let missing = || format!("no statistics of column {name}: not analyzed, or not yours to see");
        let given = || statistics.ok_or_else(missing);
        let never_null =
            attribute.not_null || (attribute.table_column != 0 && self.not_null_column == Some(attribute.table_column));
        let null_fraction = if never_null { 0.0 } else { given()?.null_fraction.clamp(0.0, 1.0) };
        let not_null_rows = table_rows * (1.0 - null_fraction);
        let (distinct, common) = if packing.deduplicates {
            let statistics = given()?;
            let distinct =
                if statistics.distinct < 0.0 { -statistics.distinct * table_rows } else { statistics.distinct };
            if distinct <= 0.0 && not_null_rows >= 1.0 {
                return Err(format!("the number of distinct values of column {name} is not known"));
            }
            let of_all = 1.0 - if never_null { statistics.null_fraction.clamp(0.0, 0.999) } else { 0.0 };
            (distinct, statistics.common.iter().map(|share| share / of_all).collect())
        } else {
            (not_null_rows, Vec::new())
        };
        Ok(Column {
            width: attribute.width(null_fraction, not_null_rows)?,
            alignment: match attribute.alignment {
                'd' => 8,
                'i' => 4,
                's' => 2,
                _ => 1,
            },
            null_fraction,
            distinct,
            common,
        })
    }
}

impl Attribute {
    fn width(&self, null_fraction: f64, not_null_rows: f64) -> Result<Width, String> {
        let name = &self.name;
        if let Ok(bytes) = usize::try_from(self.length) {
            return Ok(Width::Fixed(bytes));
        }
        let statistics = self
            .statistics
            .as_ref()
            .ok_or_else(|| format!("no statistics of column {name}: not analyzed, or not yours to see"))?;
        if null_fraction >= 1.0 {
            return Ok(Width::Varying(1.0));
        }
        if self.length == -2 {
            let width = statistics.text_width.filter(|width| width.is_finite());
            let width = width.ok_or_else(|| format!("the width of column {name} is not known"))?;
            return Ok(Width::Text(width));
        }
        if statistics.no_values && not_null_rows > 2.0 {
            return Err(format!("the values of column {name} are too long for its statistics"));
        }
        if statistics.width > COMPRESSED_FROM && matches!(self.storage, 'x' | 'm') {
            return Err(format!("the values of column {name} are long, and the index may hold them compressed"));
        }
        Ok(Width::Varying(statistics.width.max(1.0)))
    }
}

/// What an estimate rests on, in words.
pub fn basis(facts: &IndexFacts, known: &Known) -> String {
    let mut words = Vec::new();
    let needs_statistics = known.packing.deduplicates
        || facts
            .attributes
            .iter()
            .any(|a| a.length < 0 || (!a.not_null && facts.not_null_column != Some(a.table_column)));
    words.push(if needs_statistics { "rows and column statistics" } else { "rows and widths of types" }.to_owned());
    let changed = (known.changed * 100.0).round();
    if needs_statistics && changed >= 1.0 {
        words.push(format!("rows written since ANALYZE: {changed}%"));
    }
    if facts.live_rows.is_none() {
        words.push("rows as last counted: activity counters were reset".to_owned());
    }
    if known.packing.deduplicates {
        words.push("equal keys merged".to_owned());
        if facts.key_columns > 1 {
            words.push("columns taken as independent".to_owned());
        }
    }
    if facts.partial {
        words.push("condition taken as independent of the columns".to_owned());
    }
    words.join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn statistics(width: f64, distinct: f64) -> ColumnStatistics {
        ColumnStatistics { null_fraction: 0.1, width, distinct, common: vec![0.2], no_values: false, text_width: None }
    }

    fn int() -> Attribute {
        Attribute {
            name: "id".into(),
            table_column: 1,
            length: 4,
            alignment: 'i',
            storage: 'p',
            not_null: false,
            equality: Equality::Image,
            statistics: Some(statistics(4.0, -0.5)),
        }
    }

    fn text() -> Attribute {
        Attribute { name: "note".into(), table_column: 2, length: -1, storage: 'x', ..int() }
    }

    fn index(attributes: Vec<Attribute>) -> IndexFacts {
        IndexFacts {
            index_tuples: 1000.0,
            table_tuples: 1000.0,
            live_rows: Some(2000.0),
            growth: 1.0,
            key_columns: attributes.len(),
            attributes,
            ..IndexFacts::default()
        }
    }

    #[test]
    fn options_and_operators_decide_about_merging() {
        let deduplicates = |facts: &IndexFacts| facts.packing().deduplicates;
        let plain = index(vec![int()]);
        assert!(deduplicates(&plain));
        assert_eq!(plain.packing().fillfactor, 90);
        assert!(!deduplicates(&IndexFacts { unique: true, ..plain.clone() }));
        for off in ["off", "OFF", "false", "f", "no", "0"] {
            let facts = IndexFacts { options: vec![format!("deduplicate_items={off}")], ..plain.clone() };
            assert!(!deduplicates(&facts), "{off}");
        }
        for on in ["on", "true", "1", "yes"] {
            let facts = IndexFacts { options: vec![format!("deduplicate_items={on}")], ..plain.clone() };
            assert!(deduplicates(&facts), "{on}");
        }
        let numeric = Attribute { equality: Equality::Value, ..int() };
        assert!(!deduplicates(&index(vec![int(), numeric])));
        assert!(!deduplicates(&IndexFacts { key_columns: 1, ..index(vec![int(), int()]) }), "INCLUDE");
        let half = IndexFacts { options: vec!["fillfactor=50".into()], ..plain };
        assert_eq!(half.packing().fillfactor, 50);
    }

    #[test]
    fn rows_are_those_of_now() {
        let known = index(vec![int()]).known().unwrap();
        assert_eq!((known.rows, known.columns[0].distinct), (2000.0, 1000.0));
        let partial = IndexFacts { partial: true, index_tuples: 100.0, ..index(vec![int()]) };
        assert_eq!(partial.known().unwrap().rows, 200.0);
        // Counters of activity, unless they may have counted twice; the other count is kept in mind.
        let grown = IndexFacts { growth: 1.5, ..index(vec![int()]) };
        let known = grown.known().unwrap();
        assert_eq!((known.rows, known.other_rows), (2000.0, 1500.0));
        let known = IndexFacts { just_counted: true, ..grown }.known().unwrap();
        assert_eq!((known.rows, known.other_rows), (1500.0, 2000.0));
        let reset = IndexFacts { live_rows: None, ..index(vec![int()]) };
        assert_eq!(reset.known().unwrap().rows, 1000.0);
        let never = IndexFacts { table_tuples: -1.0, ..reset };
        assert!(never.known().unwrap_err().contains("never vacuumed"));
        assert!(IndexFacts { index_tuples: -1.0, ..partial }.known().is_err());
        let nothing = Attribute { statistics: None, ..text() };
        let empty = IndexFacts { live_rows: Some(0.0), table_tuples: 0.0, ..index(vec![nothing]) };
        assert_eq!(empty.known().unwrap().rows, 0.0);
    }

    #[test]
    fn what_is_not_known_is_said() {
        let without = |attribute| Attribute { statistics: None, ..attribute };
        // Neither widths nor nulls nor duplicates are in doubt.
        let key = IndexFacts { unique: true, ..index(vec![Attribute { not_null: true, ..without(int()) }]) };
        let known = key.known().unwrap();
        assert!(basis(&key, &known).starts_with("rows and widths of types"));
        for attributes in [vec![without(int())], vec![without(text())]] {
            let why = index(attributes).known().unwrap_err();
            assert!(why.starts_with("no statistics of column"), "{why}");
        }
        let with = |change: fn(&mut ColumnStatistics)| {
            let mut attribute = text();
            change(attribute.statistics.as_mut().unwrap());
            index(vec![attribute]).known()
        };
        assert!(with(|s| s.no_values = true).unwrap_err().contains("too long"));
        assert!(with(|s| s.width = 600.0).unwrap_err().contains("compressed"));
        assert!(with(|s| s.distinct = 0.0).unwrap_err().contains("distinct"));
        let name = Attribute { length: -2, ..text() };
        assert!(index(vec![name]).known().unwrap_err().contains("width"));
        // All null: there is nothing to know.
        assert!(with(|s| *s = ColumnStatistics { null_fraction: 1.0, width: 0.0, distinct: 0.0, ..s.clone() }).is_ok());
    }

    #[test]
    fn a_condition_may_keep_nulls_out() {
        let facts =
            IndexFacts { partial: true, index_tuples: 900.0, not_null_column: Some(1), ..index(vec![int(), text()]) };
        let known = facts.known().unwrap();
        assert_eq!((known.columns[0].null_fraction, known.columns[1].null_fraction), (0.0, 0.1));
        // Shares of all rows become shares of those that are left, and each value keeps its rows.
        assert_eq!((known.columns[0].common[0], known.columns[1].common[0]), (0.2 / 0.9, 0.2));
        assert_eq!((known.rows, known.table_rows, known.columns[0].distinct), (1800.0, 1800.0, 1000.0));
        // An expression is no column of the table.
        let expression = Attribute { table_column: 0, ..int() };
        let known = IndexFacts { not_null_column: Some(0), ..index(vec![expression]) }.known().unwrap();
        assert_eq!(known.columns[0].null_fraction, 0.1);
    }

    #[test]
    fn a_condition_is_read_from_its_tree() {
        let tree = |kind| {
            format!("{{NULLTEST :arg {{VAR :varno 1 :varattno 12 :vartype 23}} :nulltesttype {kind} :argisrow false}}")
        };
        assert_eq!(not_null_column(&tree(1)), Some(12));
        assert_eq!(not_null_column(&tree(0)), None);
        assert_eq!(not_null_column("{OPEXPR :opno 521 :args ({VAR :varno 1 :varattno 2})}"), None);
        assert_eq!(not_null_column("{NULLTEST :arg {FUNCEXPR :funcid 870} :nulltesttype 1 :argisrow false}"), None);
    }

    #[test]
    fn the_basis_names_its_weaknesses() {
        let facts = IndexFacts { partial: true, changes: 1000.0, live_rows: None, ..index(vec![int(), text()]) };
        let words = basis(&facts, &facts.known().unwrap());
        for word in ["column statistics", "100%", "reset", "merged", "independent", "condition"] {
            assert!(words.contains(word), "{word}: {words}");
        }
    }
}
