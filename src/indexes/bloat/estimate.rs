//! The size of an index after a rebuild, from statistics, with an honest margin.

use super::keys::{Column, Together, Width, pages};
use super::nbtree::Packing;

/// What is known about an index.
#[derive(Clone, Debug)]
pub struct Known {
    pub columns: Vec<Column>,
    pub packing: Packing,
    /// Rows of the index and of its table; they differ for a partial index.
    pub rows: f64,
    pub table_rows: f64,
    /// Rows of the index by another count, which may be the right one.
    pub other_rows: f64,
    /// Rows written since the statistics were gathered, as a share of the table.
    pub changed: f64,
}

/// Pages, the meta page and the inner ones included.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimate {
    pub pages: f64,
    pub lower: f64,
    pub upper: f64,
}

/// What the arithmetic of packing may be off by, seen over many shapes.
const PACKING_ERROR: f64 = 0.03;
/// What the count of rows may be off by when it was just taken.
const ROWS_ERROR: f64 = 0.02;
/// ANALYZE sees a sample: a column may have this many times the values that it counts, or as many times fewer.
const DISTINCT_FACTOR: f64 = 2.0;
const WIDTH_ERROR: f64 = 0.1;
/// Short values: an average of 8 bytes may be as many of 7 as of 9, which take a step of 8 more.
const WIDTH_ERROR_BYTES: f64 = 2.0;
/// Rows that ANALYZE looks at, unless told otherwise.
const SAMPLE: f64 = 30_000.0;

pub fn estimate(known: &Known) -> Estimate {
    let changed = known.changed.clamp(0.0, 1.0);
    let rows_error = ROWS_ERROR + 0.1 * changed;
    let run = |columns: &[Column], rows: f64, together| {
        let table_rows = if known.rows > 0.0 { known.table_rows / known.rows * rows } else { rows };
        pages(columns, rows, table_rows, known.packing, together)
    };
    let guess = run(&known.columns, known.rows, Together::Independent);
    let width_error = WIDTH_ERROR * (1.0 + changed);
    let fewer = vary(known, false, width_error);
    let more = vary(known, true, width_error);
    let lower = run(&fewer, known.rows.min(known.other_rows) * (1.0 - rows_error), Together::Dependent)
        * (1.0 - PACKING_ERROR)
        - 1.0;
    let upper = run(&more, known.rows.max(known.other_rows) * (1.0 + rows_error), Together::Independent)
        * (1.0 + PACKING_ERROR)
        + 1.0;
    Estimate { pages: guess, lower: lower.min(guess).max(1.0), upper: upper.max(guess) }
}

/// As many values more, or fewer, as the statistics may have missed, and values so much longer or shorter.
fn vary(known: &Known, more: bool, width_error: f64) -> Vec<Column> {
    let varied = |bytes: f64| {
        let error = (bytes * width_error).max(WIDTH_ERROR_BYTES);
        if more { bytes + error } else { (bytes - error).max(1.0) }
    };
    let columns = known.columns.iter().map(|column| {
        let not_null = known.table_rows * (1.0 - column.null_fraction);
        let least = column.common.len().max(1) as f64;
        let factor = distinct_factor(column.distinct, not_null) * (1.0 + known.changed.clamp(0.0, 1.0));
        let distinct = if more { column.distinct * factor } else { column.distinct / factor };
        Column {
            distinct: distinct.max(least).min(not_null.max(least)),
            width: match column.width {
                Width::Varying(bytes) => Width::Varying(varied(bytes)),
                Width::Text(bytes) => Width::Text(varied(bytes)),
                fixed @ Width::Fixed(_) => fixed,
            },
            ..column.clone()
        }
    });
    columns.collect()
}

/// A sample that saw no value twice leaves little doubt: of rows that are pairs it would have seen
/// `SAMPLE * SAMPLE / (2 * rows)` pairs.
fn distinct_factor(distinct: f64, rows: f64) -> f64 {
    if distinct < rows * 0.999 { DISTINCT_FACTOR } else { (1.0 + 10.0 * rows / (SAMPLE * SAMPLE)).min(DISTINCT_FACTOR) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(deduplicates: bool, distinct: f64, width: Width) -> Known {
        Known {
            columns: vec![Column { width, alignment: 4, null_fraction: 0.0, distinct, common: Vec::new() }],
            packing: Packing { fillfactor: 90, deduplicates },
            rows: 1e6,
            table_rows: 1e6,
            other_rows: 1e6,
            changed: 0.0,
        }
    }

    fn margin(known: &Known) -> f64 {
        let estimate = estimate(known);
        assert!(estimate.lower <= estimate.pages && estimate.pages <= estimate.upper, "{estimate:?}");
        estimate.upper / estimate.lower
    }

    #[test]
    fn the_margin_is_as_wide_as_the_ignorance() {
        let int = Width::Fixed(4);
        assert!(margin(&known(false, 1e6, int)) < 1.12);
        assert!(margin(&known(false, 1e6, Width::Varying(33.0))) < 1.4);
        // Between 1 and 4 rows for each key.
        let pairs = margin(&known(true, 5e5, int));
        assert!((1.4..2.5).contains(&pairs), "{pairs}");
        // Few values or many: long lists either way.
        assert!(margin(&known(true, 10.0, int)) < 1.2);
        let twice = Known { other_rows: 2e6, ..known(false, 1e6, int) };
        assert!(margin(&twice) > 2.0);
        let old = Known { changed: 1.0, ..known(true, 5e5, int) };
        assert!(margin(&old) > pairs);
        // Nothing was seen twice: few things are there twice.
        assert!(margin(&known(true, 1e6, int)) < 1.15);
        // A row for each value by chance, or both rows of each.
        let partial = Known { rows: 1e5, other_rows: 1e5, ..known(true, 5e5, int) };
        assert!(margin(&partial) > 1.5);
    }

    #[test]
    fn columns_may_depend_on_each_other() {
        let one = known(true, 1e5, Width::Fixed(4));
        let column = one.columns[0].clone();
        let both = Known { columns: vec![column.clone(), column], ..one.clone() };
        assert!(margin(&both) > 2.0, "from one row for each pair to twenty");
    }

    #[test]
    fn an_empty_index_is_certain() {
        let empty = Known { rows: 0.0, other_rows: 0.0, table_rows: 0.0, ..known(true, 0.0, Width::Fixed(4)) };
        assert_eq!(estimate(&empty), Estimate { pages: 1.0, lower: 1.0, upper: 1.0 * (1.0 + PACKING_ERROR) + 1.0 });
    }
}
