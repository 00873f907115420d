//! `upkeep.preview_backfill`: some rows as they are and as they would be, by SELECT.

use super::definition::Checked;
use super::key;
use super::statements::Parts;
use crate::error::{Error, FEATURE_NOT_SUPPORTED, INVALID_PARAMETER_VALUE, Result, UNDEFINED_TABLE};
use crate::server::json::Untouched;
use crate::server::{Oid, catalog, catch, heap, spi};
use crate::sql::glue::Glue;
use crate::sql::quote::{identifier, literal};

pub struct Preview {
    pub row_key: Untouched,
    pub old_row: Untouched,
    pub new_row: Untouched,
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
        let glue = select(checked, leaf.relid, &checked.parts(leaf, key)?, wanted)?;
        let values = checked.analysis.targets.iter().filter_map(|target| target.value.as_deref());
        let fragments: Vec<&str> = glue.fragments().into_iter().chain(values).collect();
        let found = catch::subtransaction(|| {
            spi::theirs::query(glue.text(), &fragments, |row| {
                Ok(Preview { row_key: row.next()?, old_row: row.next()?, new_row: row.next()? })
            })
        });
        rows.extend(found.map_err(|error| glue.blame(error))?);
    }
    Ok(rows)
}

struct Column {
    name: String,
    /// Of its values, without a domain's checks; quoted and qualified.
    type_name: String,
    /// jsonb is made of values by what the server and superusers have made, or who is asking.
    is_trusted: bool,
    /// What the `(n)` of its type makes of a value that is stored.
    fitting: Option<Fitting>,
}

enum Fitting {
    /// `function(value, modifier)`, or the same with a third argument: the cast is none that somebody has written.
    Call { function: String, modifier: i32, arguments: i16 },
    /// Of an array's elements.
    Cast(String),
}

impl Column {
    /// As an UPDATE would store it: rounded to so many digits; too long is the error that the UPDATE would end in.
    fn stored(&self, value: &str) -> String {
        let value = format!("({value})::{}", self.type_name);
        match &self.fitting {
            None => value,
            Some(Fitting::Call { function, modifier, arguments: 2 }) => format!("{function}({value}, {modifier})"),
            Some(Fitting::Call { function, modifier, .. }) => format!("{function}({value}, {modifier}, false)"),
            Some(Fitting::Cast(type_name)) => format!("({value})::{type_name}"),
        }
    }

    /// For a person: as jsonb has it; as text where that would run a cast that the type's owner has made.
    fn shown(&self, value: &str) -> String {
        if !self.is_trusted {
            // No value of these types (enums, ranges, rows, and arrays of them) is an empty text: it is null.
            return format!(
                "(SELECT CASE WHEN f.text OPERATOR(pg_catalog.<>) '' THEN f.text END
                  FROM pg_catalog.format('%s', {value}) AS f (text))"
            );
        }
        value.to_owned()
    }
}

/// What the server itself calls for a type with a modifier. Of functions only a superuser's or the caller's own, as for jsonb.
fn fitting(type_oid: Oid, modifier: i32) -> Result<Option<Fitting>> {
    let (base, modifier) = catalog::base_type_and_modifier(type_oid, modifier);
    if modifier < 0 {
        return Ok(None);
    }
    let found = spi::query_one(
        "SELECT pg_catalog.format('%I.%I', n.nspname, p.proname), p.pronargs,
                t.typcategory OPERATOR(pg_catalog.=) 'A' AND t.typelem OPERATOR(pg_catalog.<>) 0::pg_catalog.oid
         FROM pg_catalog.pg_type t
         JOIN pg_catalog.pg_cast k ON k.castsource OPERATOR(pg_catalog.=) k.casttarget AND k.castsource OPERATOR(pg_catalog.=)
              CASE WHEN t.typcategory OPERATOR(pg_catalog.=) 'A' AND t.typelem OPERATOR(pg_catalog.<>) 0::pg_catalog.oid
                   THEN t.typelem ELSE t.oid END
         JOIN pg_catalog.pg_proc p ON p.oid OPERATOR(pg_catalog.=) k.castfunc
         JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) p.pronamespace
         JOIN pg_catalog.pg_roles r ON r.oid OPERATOR(pg_catalog.=) p.proowner
         WHERE t.oid OPERATOR(pg_catalog.=) $1 AND (r.rolsuper OR r.rolname OPERATOR(pg_catalog.=) current_user)",
        &[base.into()],
        |row| Ok((row.require::<String>(1)?, row.require::<i16>(2)?, row.require::<bool>(3)?)),
    )?;
    Ok(match found {
        // A cast cuts what is too long, an UPDATE does not; there is no other way to ask for it, element by element.
        Some((_, arguments, true)) if arguments > 2 => None,
        Some((_, _, true)) => Some(Fitting::Cast(catalog::type_sql(base, modifier))),
        Some((function, arguments, false)) => Some(Fitting::Call { function, modifier, arguments }),
        None => None,
    })
}

/// `relid`'s. A type is what it is made of, too: elements, attributes, and what a domain has underneath.
fn columns(relid: Oid) -> Result<Vec<Column>> {
    let found = spi::query(
        "SELECT a.attname::pg_catalog.text, a.atttypid, NOT EXISTS (
             WITH RECURSIVE t (oid) AS (
                 SELECT a.atttypid
                 UNION
                 SELECT o.oid FROM t JOIN pg_catalog.pg_type p ON p.oid OPERATOR(pg_catalog.=) t.oid
                 CROSS JOIN LATERAL (
                     SELECT p.typbasetype UNION ALL SELECT p.typelem
                     UNION ALL SELECT m.atttypid FROM pg_catalog.pg_attribute m
                               WHERE m.attrelid OPERATOR(pg_catalog.=) p.typrelid
                                 AND m.attnum OPERATOR(pg_catalog.>) 0 AND NOT m.attisdropped) o (oid)
                 WHERE o.oid OPERATOR(pg_catalog.>=) 16384::pg_catalog.oid)
             SELECT FROM t JOIN pg_catalog.pg_type p ON p.oid OPERATOR(pg_catalog.=) t.oid
             JOIN pg_catalog.pg_roles r ON r.oid OPERATOR(pg_catalog.=) p.typowner
             WHERE p.oid OPERATOR(pg_catalog.>=) 16384::pg_catalog.oid
               AND p.typtype OPERATOR(pg_catalog.<>) 'd' AND p.typtype OPERATOR(pg_catalog.<>) 'b'
               AND NOT r.rolsuper AND r.rolname OPERATOR(pg_catalog.<>) current_user), a.atttypmod
         FROM pg_catalog.pg_attribute a
         WHERE a.attrelid OPERATOR(pg_catalog.=) $1 AND a.attnum OPERATOR(pg_catalog.>) 0 AND NOT a.attisdropped
         ORDER BY a.attnum",
        &[relid.into()],
        |row| {
            let type_oid = row.require(2)?;
            let column = Column {
                name: row.require(1)?,
                type_name: catalog::type_sql(catalog::base_type(type_oid), -1),
                is_trusted: row.require(3)?,
                fitting: None,
            };
            Ok((column, type_oid, row.require::<i32>(4)?))
        },
    )?;
    let fitted = |(column, type_oid, modifier): (Column, Oid, i32)| {
        let fitting = if column.is_trusted { fitting(type_oid, modifier)? } else { None };
        Ok(Column { fitting, ..column })
    };
    found.into_iter().map(fitted).collect()
}

/// A function takes a hundred arguments.
fn object<'a>(pairs: impl Iterator<Item = (&'a str, String)>) -> String {
    let pairs: Vec<String> = pairs.map(|(name, value)| format!("{}, {value}", literal(name))).collect();
    let objects: Vec<String> =
        pairs.chunks(50).map(|pairs| format!("pg_catalog.jsonb_build_object({})", pairs.join(", "))).collect();
    match objects.is_empty() {
        true => "pg_catalog.jsonb_build_object()".to_owned(),
        false => format!("({})", objects.join(" OPERATOR(pg_catalog.||) ")),
    }
}

fn select(checked: &Checked, leaf: Oid, parts: &Parts, max_rows: usize) -> Result<Glue> {
    // The locks stay: the columns' types are those that are looked at here.
    let named = if parts.own_rows.is_some() { checked.table.relid } else { leaf };
    if !heap::lock_for_reading(named) {
        return Err(Error::new(UNDEFINED_TABLE, format!("table {} does not exist (any more)", checked.table.sql)));
    }
    let columns = columns(named)?;
    let shown = |name: &str| columns.iter().find(|column| column.name == name);
    let mut values = Vec::new();
    for target in &checked.analysis.targets {
        let Some(value) = &target.value else {
            return Err(Error::new(FEATURE_NOT_SUPPORTED, format!("cannot preview column \"{}\"", target.column))
                .detail(
                    "Its value comes from a sub-select of several columns, or only a part of it is set; \
                    neither is an expression that a SELECT could show.",
                )
                .hint("Set it by a plain expression, for example a = (SELECT ..), b = (SELECT ..)."));
        };
        let Some(column) = shown(&target.column) else { continue };
        let value = if column.is_trusted { column.stored(value) } else { format!("({value})") };
        values.push((&*target.column, column.shown(&value)));
    }
    let table = identifier(&checked.table.name);
    let of_table = |column: &Column| column.shown(&format!("{table}.{}", identifier(&column.name)));
    let row = object(columns.iter().map(|column| (&*column.name, of_table(column))));
    let key = match &parts.key {
        Some(key) => {
            object(key.columns.iter().filter_map(|column| Some((&*column.name, of_table(shown(&column.name)?)))))
        }
        None => "pg_catalog.jsonb_build_object('ctid', ctid::pg_catalog.text)".to_owned(),
    };
    let glue = Glue::new(&format!(
        "SELECT {key}, {row}, {row} OPERATOR(pg_catalog.||) {} FROM {} WHERE {}",
        object(values.into_iter()),
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
