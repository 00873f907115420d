//! The keys of an index as column statistics describe them: groups of keys that are equally frequent, and the rows that
//! they have.

use std::collections::BTreeMap;

use super::nbtree::{Packing, TUPLE_HEADER, TUPLE_HEADER_WITH_NULLS, align, total_pages};

/// One column of an index, key or not.
#[derive(Clone, Debug, PartialEq)]
pub struct Column {
    pub width: Width,
    /// What the type is aligned to, in bytes.
    pub alignment: usize,
    pub null_fraction: f64,
    /// Distinct values that are not null, in the whole table.
    pub distinct: f64,
    /// Shares of all rows that the most common values have.
    pub common: Vec<f64>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Width {
    Fixed(usize),
    /// On average, with its header; values up to 126 bytes have a short one and are not aligned.
    Varying(f64),
    /// On average, with the byte that ends it.
    Text(f64),
}

/// Keys that have about as many rows each.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Group {
    keys: f64,
    /// Of all rows.
    share: f64,
    /// Bit i: column i is null.
    nulls: u32,
}

/// Rows per key, around their average.
#[derive(Clone, Copy, PartialEq)]
enum Spread {
    /// The same for all: nothing else is known of one column.
    Even,
    /// As chance has it, when columns are combined.
    Random,
}

/// An average length is what lengths vary around, by these factors.
const LENGTHS: [f64; 6] = [0.8, 0.9, 1.0, 1.0, 1.1, 1.2];
/// More combinations of null and not null are not told apart.
const NULLABLE: u32 = 8;

/// How the columns of a key go together, and with the condition of a partial index.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Together {
    /// Each value of one with each of the other; the condition chooses rows by chance.
    Independent,
    /// The column with most values decides alone; the condition chooses values.
    Dependent,
}

/// Pages of an index of `rows` rows as a build would make it. `rows` over `table_rows` is what a partial index holds.
pub fn pages(columns: &[Column], rows: f64, table_rows: f64, packing: Packing, together: Together) -> f64 {
    if rows < 0.5 {
        return total_pages(0.0, 0.0);
    }
    let lengths: &[f64] =
        if columns.iter().any(|c| !matches!(c.width, Width::Fixed(_))) { &LENGTHS } else { &LENGTHS[2..3] };
    let (groups, spread) = match (packing.deduplicates, together) {
        (false, _) => (combine(columns, rows, null_or_not), Spread::Even),
        (true, Together::Independent) if columns.len() > 1 => {
            (combine(columns, rows, |c| values(c, rows, table_rows, together)), Spread::Random)
        }
        (true, _) => {
            let most = columns.iter().max_by(|a, b| a.distinct.total_cmp(&b.distinct));
            let only_most = |c: &Column| {
                if most.is_some_and(|most| std::ptr::eq(c, most)) {
                    values(c, rows, table_rows, together)
                } else {
                    sides(c)
                }
            };
            let spread = if columns.len() > 1 { Spread::Random } else { Spread::Even };
            (combine(columns, rows, only_most), spread)
        }
    };
    let mut leaves = 0.0;
    let mut bytes = 0.0;
    for group in &groups {
        for length in lengths {
            let key = tuple_size(columns, group.nulls, *length);
            let share = group.share / lengths.len() as f64;
            leaves += leaf_pages(packing, key, group.keys / lengths.len() as f64, share * rows, spread);
            bytes += share * key as f64;
        }
    }
    let share: f64 = groups.iter().map(|group| group.share).sum();
    total_pages(leaves, bytes / share.max(f64::MIN_POSITIVE))
}

/// Leaf pages of `keys` keys that have `rows` rows between them.
fn leaf_pages(packing: Packing, key: usize, keys: f64, rows: f64, spread: Spread) -> f64 {
    let each = rows / keys.max(f64::MIN_POSITIVE);
    if !packing.deduplicates {
        return rows * packing.leaf_pages(key, 1);
    }
    if spread == Spread::Even {
        return if each <= 1.0 {
            rows * packing.leaf_pages(key, 1)
        } else {
            keys * packing.leaf_pages_about(key, each)
        };
    }
    if each > 50.0 {
        return keys * packing.leaf_pages_about(key, each);
    }
    // Poisson: the chance of n rows, for each n that matters.
    let mut chance = (-each).exp();
    let mut pages = 0.0;
    for n in 1..=(each + 8.0 * each.sqrt()) as usize + 3 {
        chance *= each / n as f64;
        pages += chance * packing.leaf_pages(key, n);
    }
    keys * pages
}

fn null_or_not(column: &Column) -> Vec<Group> {
    classes([(1.0, column.null_fraction, 1), (1.0, 1.0 - column.null_fraction, 0)])
}

/// Null or not, where another column decides the keys: that a key is sometimes null must not multiply keys.
fn sides(column: &Column) -> Vec<Group> {
    let null = column.null_fraction > 0.5;
    classes([(1.0, 1.0, u32::from(null))])
}

fn classes(classes: impl IntoIterator<Item = (f64, f64, u32)>) -> Vec<Group> {
    let groups = classes.into_iter().map(|(keys, share, nulls)| Group { keys, share, nulls });
    groups.filter(|group| group.share > 1e-9).collect()
}

/// Null, each of the most common values, and all others alike.
fn values(column: &Column, rows: f64, table_rows: f64, together: Together) -> Vec<Group> {
    let nulls = column.null_fraction;
    let common: f64 = column.common.iter().sum();
    let others = (1.0 - nulls - common).max(0.0);
    let mut keys = (column.distinct - column.common.len() as f64).max(1.0);
    if rows < table_rows {
        // Of a value's rows in the table, a partial index has some: by chance perhaps none, or else all.
        let part = rows / table_rows;
        let each = (others * table_rows / keys).max(1.0);
        keys *= match together {
            Together::Independent => 1.0 - (1.0 - part).powf(each),
            Together::Dependent => part,
        };
    }
    let each_common = column.common.iter().map(|&share| (1.0, share, 0));
    classes(each_common.chain([(1.0, nulls, 1), (keys.max(f64::MIN_POSITIVE), others, 0)]))
}

/// The groups of all columns together.
fn combine(columns: &[Column], rows: f64, groups_of: impl Fn(&Column) -> Vec<Group>) -> Vec<Group> {
    let mut nullable = 0;
    let mut all = vec![Group { keys: 1.0, share: 1.0, nulls: 0 }];
    for (i, column) in columns.iter().enumerate() {
        let mut groups = groups_of(column);
        if groups.iter().any(|g| g.nulls != 0) && groups.iter().any(|g| g.nulls == 0) {
            nullable += 1;
            if nullable > NULLABLE {
                let null = u32::from(column.null_fraction > 0.5);
                groups.iter_mut().for_each(|group| group.nulls = null);
            }
        }
        if columns.len() > 1 {
            groups = gather(groups, rows);
        }
        let pairs = all.iter().flat_map(|a| {
            groups.iter().map(move |b| Group {
                keys: a.keys * b.keys,
                share: a.share * b.share,
                nulls: a.nulls | (b.nulls << i),
            })
        });
        all = pairs.collect();
        if columns.len() > 1 {
            all = gather(all, rows);
        }
    }
    all
}

/// Groups whose keys have nearly the same number of rows, and null in the same columns, become one.
fn gather(groups: Vec<Group>, rows: f64) -> Vec<Group> {
    let mut gathered: BTreeMap<(u32, i32), Group> = BTreeMap::new();
    for group in groups {
        let each = (group.share * rows / group.keys).max(1e-3);
        let entry = gathered.entry((group.nulls, (each.log2() * 2.0).floor() as i32)).or_insert(Group {
            keys: 0.0,
            share: 0.0,
            nulls: group.nulls,
        });
        entry.keys += group.keys;
        entry.share += group.share;
    }
    gathered.into_values().collect()
}

/// Bytes of a tuple, its varying values `length` times as long as on average.
fn tuple_size(columns: &[Column], nulls: u32, length: f64) -> usize {
    let header = if nulls == 0 { TUPLE_HEADER } else { TUPLE_HEADER_WITH_NULLS };
    let present = columns.iter().enumerate().filter(|(i, _)| nulls & (1 << i) == 0).map(|(_, column)| column);
    let data = present.fold(0, |at: usize, column| match column.width {
        Width::Fixed(bytes) => at.next_multiple_of(column.alignment) + bytes,
        Width::Text(bytes) => at + ((bytes - 1.0) * length + 1.0).round() as usize,
        Width::Varying(bytes) => {
            let bytes = ((bytes * length).round() as usize).max(1);
            let start = if bytes > 127 { at.next_multiple_of(column.alignment) } else { at };
            start + bytes
        }
    });
    align(header + data)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MERGING: Packing = Packing { fillfactor: 90, deduplicates: true };
    const PLAIN: Packing = Packing { fillfactor: 90, deduplicates: false };

    fn column(width: Width, alignment: usize, distinct: f64) -> Column {
        Column { width, alignment, null_fraction: 0.0, distinct, common: Vec::new() }
    }

    fn int(distinct: f64) -> Column {
        column(Width::Fixed(4), 4, distinct)
    }

    fn nullable(null_fraction: f64, column: Column) -> Column {
        Column { null_fraction, ..column }
    }

    #[track_caller]
    fn about(pages: f64, measured: f64, within: f64) {
        assert!((pages / measured - 1.0).abs() < within, "{pages} instead of {measured}");
    }

    fn million(columns: &[Column], packing: Packing) -> f64 {
        pages(columns, 1e6, 1e6, packing, Together::Independent)
    }

    #[test]
    fn a_million_rows_as_the_server_builds_them() {
        about(million(&[int(1e6)], PLAIN), 2745.0, 0.001);
        about(million(&[nullable(0.9, int(1e5))], MERGING), 1038.0, 0.01);
        about(million(&[int(10.0), int(1000.0)], MERGING), 896.0, 0.07);
        let numeric = column(Width::Varying(6.0), 4, 1e6);
        about(million(std::slice::from_ref(&numeric), PLAIN), 2745.0, 0.05);
        about(million(&[int(10.0), int(1000.0), numeric], PLAIN), 3853.0, 0.05);
        about(million(&[column(Width::Fixed(16), 1, 1e6)], MERGING), 3853.0, 0.01);
        about(million(&[column(Width::Varying(33.0), 4, 1e6)], MERGING), 7210.0, 0.08);
        about(million(&[int(1e6), column(Width::Varying(33.0), 4, 1e6)], PLAIN), 7171.0, 0.08);
    }

    #[test]
    fn a_null_is_a_key_of_its_own() {
        let all_null = million(&[nullable(1.0, int(0.0))], MERGING);
        about(all_null, million(&[int(1.0)], MERGING), 0.001);
        // Not merged: a header with a bitmap, no data.
        about(million(&[nullable(1.0, int(0.0))], PLAIN), 2745.0, 0.001);
    }

    #[test]
    fn alignment_is_between_columns_too() {
        let small = column(Width::Fixed(2), 2, 10.0);
        let big = column(Width::Fixed(8), 8, 10.0);
        assert_eq!(tuple_size(&[small.clone(), big.clone(), small.clone()], 0, 1.0), 32);
        assert_eq!(tuple_size(&[big.clone(), small.clone(), small.clone()], 0, 1.0), 24);
        assert_eq!(tuple_size(&[big.clone(), small.clone(), small.clone()], 1, 1.0), 24);
        assert_eq!(tuple_size(&[big, small.clone(), small], 7, 1.0), 16);
        // Short values are not aligned, long ones are.
        assert_eq!(tuple_size(&[int(1.0), column(Width::Varying(4.0), 4, 1.0)], 0, 1.0), 16);
        let (letter, long) = (column(Width::Text(2.0), 1, 1.0), column(Width::Varying(134.0), 4, 1.0));
        assert_eq!(tuple_size(&[letter, long], 0, 1.0), align(8 + 4 + 134));
    }

    #[test]
    fn common_values_are_long_runs() {
        // Half of the rows have one of two values, the others are unique.
        let skewed = Column { common: vec![0.25, 0.25], ..int(5e5 + 2.0) };
        let apart = million(&[int(2.0)], MERGING) / 2.0 + million(&[int(1e6)], MERGING) / 2.0;
        about(million(&[skewed], MERGING), apart, 0.01);
    }

    #[test]
    fn a_unique_column_makes_combinations_unique() {
        let combined = million(&[int(10.0), int(1e6)], MERGING);
        about(combined, million(&[int(1e6), int(10.0)], PLAIN), 0.1);
        let dependent = pages(&[int(10.0), int(1e6)], 1e6, 1e6, MERGING, Together::Dependent);
        assert!(dependent < combined * 1.01);
    }

    #[test]
    fn a_partial_index_has_fewer_rows_for_each_value() {
        // One row in ten of a table with two rows for each value: hardly any value comes twice.
        let tenth = pages(&[int(5e5)], 1e5, 1e6, MERGING, Together::Independent);
        about(tenth, pages(&[int(1e5)], 1e5, 1e5, PLAIN, Together::Independent), 0.05);
        // Unless the condition is about the value.
        let whole_values = pages(&[int(5e5)], 1e5, 1e6, MERGING, Together::Dependent);
        about(whole_values, pages(&[int(5e4)], 1e5, 1e5, MERGING, Together::Independent), 0.01);
    }

    #[test]
    fn nothing_is_a_meta_page() {
        assert_eq!(pages(&[int(0.0)], 0.0, 0.0, MERGING, Together::Independent), 1.0);
        assert_eq!(pages(&[int(1.0)], 1.0, 1.0, MERGING, Together::Independent), 2.0);
    }

    #[test]
    fn many_nullable_columns_end() {
        let columns = vec![nullable(0.5, int(1000.0)); 32];
        let size = million(&columns, MERGING);
        assert!(size.is_finite() && size > 2745.0, "{size}");
    }

    proptest::proptest! {
        #[test]
        fn every_answer_is_a_size(
            nulls in 0.0..=1.0f64,
            distinct in 0.0..1e7f64,
            common in proptest::collection::vec(0.0..0.1f64, 0..20),
            width in 0.0..3000.0f64,
            rows in 0.0..1e7f64,
            part in 0.0..=1.0f64,
        ) {
            let one = Column { width: Width::Varying(width), alignment: 4, null_fraction: nulls, distinct, common };
            for columns in [vec![one.clone()], vec![one.clone(), int(distinct), one]] {
                for packing in [PLAIN, MERGING] {
                    for together in [Together::Independent, Together::Dependent] {
                        let pages = pages(&columns, rows * part, rows, packing, together);
                        proptest::prop_assert!(pages.is_finite() && pages >= 1.0, "{pages}");
                    }
                }
            }
        }
    }
}
