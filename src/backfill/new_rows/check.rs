//! May rows that others write be filled by a trigger? If not, the reason.

use super::columns::{Column, columns};
use crate::backfill::definition::Checked;
use crate::error::{Error, FEATURE_NOT_SUPPORTED, INSUFFICIENT_PRIVILEGE, INVALID_PARAMETER_VALUE, Result};
use crate::server::deparse::{self, Filling};
use crate::server::parse::Source;
use crate::server::spi;
use crate::sql::fragments;

/// Checks at creation what `fill_new_rows` needs; changes nothing.
pub fn check(checked: &Checked) -> Result<()> {
    let table = &checked.table;
    let definition = &checked.definition;
    let Some(condition) = &definition.condition else {
        return Err(Error::new(INVALID_PARAMETER_VALUE, "fill_new_rows needs a condition")
            .detail("Without one nothing tells whether a row is filled already, and some would be filled twice.")
            .hint(
                "Give a condition that names the rows which still need it, for example condition => 'total IS NULL'",
            ));
    };
    let assigned = fragments::assignments(&table.sql, &definition.assignments)?;
    let columns = columns(table.relid)?;
    for item in &assigned {
        if let Some(reason) = refuse_assignment(item.source, columns.iter().find(|column| column.name == item.column)) {
            return Err(refusal(&format!("column \"{}\" cannot be filled in new rows", item.column), reason));
        }
    }
    let update = fragments::update(&table.sql, &definition.assignments, Some(condition));
    let filling = deparse::filling(update.text(), table.relid)?;
    refuse_reads(&filling, &columns)?;
    if filling.condition_is_volatile {
        return Err(refusal(
            "the condition cannot be tested in new rows",
            (
                "It calls a volatile function, which may answer differently for the same row.",
                "Use a condition on columns only, for example: total IS NULL",
            ),
        ));
    }
    require_plpgsql()?;
    require_trigger_privilege(checked)
}

type Reason = (&'static str, &'static str);

fn refusal(message: &str, (detail, hint): Reason) -> Error {
    Error::new(FEATURE_NOT_SUPPORTED, message).detail(detail).hint(hint)
}

fn refuse_assignment(source: Source, column: Option<&Column>) -> Option<Reason> {
    const WHOLE: &str = "Assign the whole column by one expression, or leave fill_new_rows out.";
    match (source, column) {
        (Source::Part, _) => {
            Some(("The assignment sets a part of the column; a trigger can only compute all of it.", WHOLE))
        }
        (Source::SubSelect, _) => Some((
            "Its value is one of several columns of a sub-select; a trigger computes each column by itself.",
            "Use one sub-select for each column: a = (SELECT ..), b = (SELECT ..)",
        )),
        (Source::Default, Some(column)) if column.identity => Some((
            "The default of an identity column is the next number of its sequence, which a trigger may not take.",
            "Assign nextval(pg_get_serial_sequence(..)) where the column allows it, or leave fill_new_rows out.",
        )),
        (Source::Default, Some(column)) if column.generated => {
            Some(("The server computes a generated column by itself.", "Leave it out of the assignments."))
        }
        _ => None,
    }
}

/// A row that is being written has no place, no transaction and no generated columns yet.
fn refuse_reads(filling: &Filling, columns: &[Column]) -> Result<()> {
    let values = filling.values.iter().flat_map(|value| &value.reads);
    for &number in values.chain(&filling.condition_reads) {
        let column = columns.iter().find(|column| column.number == number);
        let reason = match column {
            Some(column) if column.generated => Some((
                format!("generated column \"{}\" has no value in a row that is about to be written", column.name),
                "Write its expression instead of the column.",
            )),
            Some(_) => None,
            None if number == 0 => Some((
                "the whole row as a value is not the row that is about to be written".to_owned(),
                "Name the columns one by one.",
            )),
            None => Some((
                "a system column has no value in a row that is about to be written".to_owned(),
                "Use the table's own columns.",
            )),
        };
        if let Some((message, hint)) = reason {
            return Err(Error::new(FEATURE_NOT_SUPPORTED, message)
                .detail("fill_new_rows computes the values before the row is stored.")
                .hint(hint));
        }
    }
    Ok(())
}

fn require_plpgsql() -> Result<()> {
    let found = spi::query_one(
        "SELECT true FROM pg_catalog.pg_language l WHERE l.lanname OPERATOR(pg_catalog.=) 'plpgsql'",
        &[],
        |row| row.require::<bool>(1),
    )?;
    if found.is_some() {
        return Ok(());
    }
    Err(Error::new(FEATURE_NOT_SUPPORTED, "fill_new_rows needs the language plpgsql, which this database lacks")
        .hint("CREATE EXTENSION plpgsql;"))
}

fn require_trigger_privilege(checked: &Checked) -> Result<()> {
    let table = &checked.table;
    let allowed = spi::query_one(
        "SELECT pg_catalog.has_table_privilege($1, 'TRIGGER'), pg_catalog.quote_ident(current_user)",
        &[table.relid.into()],
        |row| Ok((row.require::<bool>(1)?, row.require::<String>(2)?)),
    )?;
    let Some((false, role)) = allowed else { return Ok(()) };
    Err(Error::new(INSUFFICIENT_PRIVILEGE, format!("permission denied to create a trigger on {}", table.sql))
        .detail(
            "fill_new_rows fills rows that others write by a trigger, which is created as the role that asks for it.",
        )
        .hint(format!("GRANT TRIGGER ON {} TO {role};", table.sql)))
}
