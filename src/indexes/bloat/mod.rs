//! How large a btree index is, and how large it would be if it were built now.

mod catalog;
mod estimate;
mod facts;
mod keys;
mod measure;
mod nbtree;
mod page;
mod sample;
#[cfg(feature = "pg_test")]
mod tests;

use pgrx::datum::TimestampWithTimeZone;
use pgrx::iter::TableIterator;
use pgrx::{name, pg_extern};

use crate::server::Oid;
use crate::server::index_pages::PAGE;
use crate::server::raise::answer;

/// The figures behind `upkeep.bloated_indexes`, which adds the names.
#[pg_extern(sql = false)]
#[allow(clippy::type_complexity)]
fn upkeep_index_bloat() -> TableIterator<
    'static,
    (
        name!(indexrelid, Oid),
        name!(index_size, i64),
        name!(estimated_size, Option<i64>),
        name!(lower_bound, Option<i64>),
        name!(upper_bound, Option<i64>),
        name!(basis, String),
        name!(last_analyze, Option<TimestampWithTimeZone>),
        name!(n_mod_since_analyze, i64),
    ),
> {
    let found = answer(catalog::indexes());
    TableIterator::new(found.into_iter().map(|found| {
        let (sizes, basis) = match found.facts.known() {
            Err(why) => ([None; 3], format!("not estimated: {why}")),
            Ok(known) => {
                let estimate = estimate::estimate(&known);
                let sizes = [estimate.pages, estimate.lower, estimate.upper].map(|pages| Some(bytes(pages)));
                (sizes, facts::basis(&found.facts, &known))
            }
        };
        let [pages, lower, upper] = sizes;
        (found.indexrelid, found.bytes, pages, lower, upper, basis, found.last_analyze, found.changes)
    }))
}

#[pg_extern(sql = false)]
#[allow(clippy::type_complexity)]
fn upkeep_measure_index_bloat(
    index: Option<Oid>,
    sample_pages: Option<i32>,
) -> TableIterator<
    'static,
    (
        name!(index_size, i64),
        name!(estimated_size, i64),
        name!(lower_bound, i64),
        name!(upper_bound, i64),
        name!(bloat_bytes, i64),
        name!(bloat_ratio, f64),
        name!(pages_read, i32),
        name!(leaf_pages, i64),
        name!(internal_pages, i64),
        name!(deleted_pages, i64),
        name!(half_dead_pages, i64),
        name!(new_pages, i64),
        name!(leaf_density, Option<f64>),
        name!(index_rows, i64),
        name!(live_tuples, i64),
        name!(posting_tuples, i64),
        name!(dead_tuples, i64),
        name!(tree_level, i32),
        name!(deduplicates, bool),
    ),
> {
    let found = answer(measure::measure(index, sample_pages));
    let measured = found.measured;
    let estimated = bytes(measured.pages);
    let bloat = (found.bytes - estimated).max(0);
    let count = |figure: f64| figure.round() as i64;
    TableIterator::once((
        found.bytes,
        estimated,
        bytes(measured.lower),
        bytes(measured.upper),
        bloat,
        bloat as f64 / found.bytes as f64,
        i32::try_from(measured.pages_read).unwrap_or(i32::MAX),
        count(measured.leaf_pages),
        count(measured.internal_pages),
        count(measured.deleted_pages),
        count(measured.half_dead_pages),
        count(measured.new_pages),
        measured.leaf_density,
        count(measured.rows),
        count(measured.live_tuples),
        count(measured.posting_tuples),
        count(measured.dead_tuples),
        found.tree_level,
        found.deduplicates,
    ))
}

/// Of whole pages, half a page or more being one.
fn bytes(pages: f64) -> i64 {
    pages.round() as i64 * PAGE as i64
}
