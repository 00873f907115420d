//! `upkeep.preview_backfill`: some rows as they are and as they would be, by SELECT.

use super::definition::Checked;
use super::glue::Glue;
use super::key;
use super::statements::{Parts, identifier, literal};
use crate::error::{Error, FEATURE_NOT_SUPPORTED, INVALID_PARAMETER_VALUE, Result};
use crate::server::json::JsonB;
use crate::server::{catch, spi};

pub struct Preview {
    pub row_key: JsonB,
    pub old_row: JsonB,
    pub new_row: JsonB,
}

pub fn preview(checked: &Checked, max_rows: i32) -> Result<Vec<Preview>> {
    if !(0..=10_000).contains(&max_rows) {
        return Err(Error::new(
            INVALID_PARAMETER_VALUE,
            format!("max_rows must be between 0 and 10000, but is {max_rows}"),
        ));
    }
    let mut rows = Vec::new();
    let relids: Vec<_> = checked.leaves.iter().map(|leaf| leaf.relid).collect();
    let keys = key::keys_of(&relids)?;
    for leaf in &checked.leaves {
        let wanted = max_rows as usize - rows.len();
        if wanted == 0 {
            break;
        }
        let key = checked.key_of(keys.get(&leaf.relid).map_or(&[], Vec::as_slice));
        let glue = select(checked, &checked.parts(leaf, key)?, wanted)?;
        let values = checked.analysis.targets.iter().filter_map(|target| target.value.as_deref());
        let fragments: Vec<&str> = glue.fragments().into_iter().chain(values).collect();
        let found = catch::subtransaction(|| {
            spi::theirs::query(glue.text(), &fragments, |row| {
                Ok(Preview { row_key: row.require(1)?, old_row: row.require(2)?, new_row: row.require(3)? })
            })
        });
        rows.extend(found.map_err(|error| glue.blame(error))?);
    }
    Ok(rows)
}

fn select(checked: &Checked, parts: &Parts, max_rows: usize) -> Result<Glue> {
    let mut values = Vec::new();
    for target in &checked.analysis.targets {
        let Some(value) = &target.value else {
            return Err(Error::new(
                FEATURE_NOT_SUPPORTED,
                format!("cannot preview column \"{}\"", target.column),
            )
            .detail("Its value comes from a sub-select of several columns, or only a part of it is set; neither is an expression that a SELECT could show.")
            .hint("Set it by a plain expression, for example a = (SELECT ..), b = (SELECT ..)."));
        };
        values.push(format!("{}, ({value})", literal(&target.column)));
    }
    let row = format!("pg_catalog.to_jsonb({})", identifier(&checked.table.name));
    let glue = Glue::new(&format!(
        "SELECT {}, {row}, {row} OPERATOR(pg_catalog.||) pg_catalog.jsonb_build_object({}) FROM {} WHERE {}",
        parts.row_key(),
        values.join(", "),
        parts.table,
        parts.own(),
    ));
    let glue = match &checked.definition.condition {
        Some(condition) => glue.ours("(").theirs(condition).ours(")"),
        None => glue.ours("true"),
    };
    let order = parts.key.as_ref().map_or(String::new(), |key| {
        let columns: Vec<String> = key.columns.iter().map(|column| identifier(&column.name)).collect();
        format!(" ORDER BY {}", columns.join(", "))
    });
    Ok(glue.ours(&format!("{order} LIMIT {max_rows}")))
}
