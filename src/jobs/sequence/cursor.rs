//! Where a sequence is.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::{Error, SqlState};

/// Stored as the cursor of its slot, or in that of the sequence that it is a part of.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Cursor {
    /// Which part is at work, and its cursor.
    pub at: usize,
    #[serde(skip_serializing_if = "is_default")]
    pub part: Option<Value>,
    /// Rows that the parts before have left.
    #[serde(skip_serializing_if = "is_default")]
    pub left: i64,
    /// What the whole of the part at work is, in its own units, and how much of it is done (0..1).
    #[serde(skip_serializing_if = "is_default")]
    pub whole: f64,
    #[serde(skip_serializing_if = "is_default")]
    pub made: f64,
    #[serde(skip_serializing_if = "is_default")]
    pub plans: u32,
    /// It goes backwards, because of this; and how often a statement that was to undo something was in vain.
    #[serde(skip_serializing_if = "is_default")]
    pub undoing: Option<Reason>,
    #[serde(skip_serializing_if = "is_default")]
    pub in_vain: u32,
}

/// What says nothing is not written with each step.
fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// Why a job has to be undone, kept until that is done.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Reason {
    sqlstate: String,
    message: String,
    detail: Option<String>,
    hint: Option<String>,
}

impl From<&Error> for Reason {
    fn from(error: &Error) -> Self {
        Reason {
            sqlstate: error.sqlstate.to_string(),
            message: error.message.clone(),
            detail: error.detail.clone(),
            hint: error.hint.clone(),
        }
    }
}

impl From<Reason> for Error {
    fn from(Reason { sqlstate, message, detail, hint }: Reason) -> Self {
        Error { sqlstate: SqlState::parse(&sqlstate), message, detail, hint, position: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_cursor_of_before_is_where_it_begins() {
        let stored = json!({"building": "t_key", "tries": 1, "done": 2});
        assert_eq!(serde_json::from_value::<Cursor>(stored).unwrap(), Cursor::default());
    }

    #[test]
    fn why_it_is_undone_is_kept() {
        let error = Error::new(SqlState::new(b"ABC01"), "no").detail("why").hint("so");
        let kept: Error = Reason::from(&error).into();
        assert_eq!(
            (kept.sqlstate, kept.message, kept.detail, kept.hint),
            (error.sqlstate, error.message, error.detail, error.hint)
        );
    }
}
