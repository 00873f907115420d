//! The two texts of the user's, each parsed alone (LAW 21): what follows SET,
//! and the condition that names the rows which still need it.

use super::glue::Glue;
use crate::error::{Error, INVALID_PARAMETER_VALUE, Result, SYNTAX_ERROR};
use crate::server::parse::{self, Assigned, Stray};

/// Checks what follows SET; gives the columns it assigns.
pub fn assignments(table: &str, text: &str) -> Result<Vec<Assigned>> {
    not_empty(text, "assignments", "Write what follows SET in an UPDATE, for example: total = price * quantity")?;
    let glue = Glue::new(&format!("UPDATE ONLY {table} SET")).theirs(text);
    let update = parse::update(glue.text()).map_err(|error| with_word_hint(glue.blame(error), text, "SET"))?;
    if let Some(stray) = update.stray {
        return Err(refuse(
            &glue,
            stray,
            "assignments",
            "Only what follows SET belongs there; give the rows by the argument condition.",
        ));
    }
    Ok(update.assigned)
}

/// Checks a condition; `for_every_row` is what to do to have none.
pub fn condition(table: &str, text: &str, for_every_row: &str) -> Result<()> {
    let hint = format!("{for_every_row}, or write what follows WHERE, for example: total IS NULL");
    not_empty(text, "condition", &hint)?;
    let glue = Glue::new(&format!("DELETE FROM ONLY {table} WHERE")).theirs(text);
    let stray = parse::delete(glue.text()).map_err(|error| with_word_hint(glue.blame(error), text, "WHERE"))?;
    match stray {
        None => Ok(()),
        Some(stray) => Err(refuse(&glue, stray, "condition", "Only what follows WHERE belongs there.")),
    }
}

/// The whole statement, for its meaning and for the rights it needs.
pub fn update(table: &str, assignments: &str, condition: Option<&str>) -> Glue {
    let glue = Glue::new(&format!("UPDATE ONLY {table} SET")).theirs(assignments);
    match condition {
        Some(condition) => glue.ours("WHERE (").theirs(condition).ours(")"),
        None => glue,
    }
}

fn not_empty(text: &str, argument: &str, hint: &str) -> Result<()> {
    if text.trim().is_empty() {
        return Err(Error::new(INVALID_PARAMETER_VALUE, format!("the argument {argument} is empty")).hint(hint));
    }
    Ok(())
}

fn refuse(glue: &Glue, stray: Stray, argument: &str, hint: &str) -> Error {
    let error = Error::new(SYNTAX_ERROR, format!("{} is not allowed in {argument}", stray.what));
    glue.blame_byte(error.hint(hint), stray.location)
}

/// The most common slip: the keyword itself given as well.
fn with_word_hint(error: Error, text: &str, word: &str) -> Error {
    let first = text.split_whitespace().next().unwrap_or_default();
    if first.eq_ignore_ascii_case(word) && error.hint.is_none() {
        return error.hint(format!("Leave out the word {word}."));
    }
    error
}
