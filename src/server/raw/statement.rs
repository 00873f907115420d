//! A whole command of the user's through the server's parser: is it one
//! statement, and can a worker run it?

use std::ffi::{CStr, CString};

use pgrx::pg_sys::{self, NodeTag};

use super::catch::subtransaction;
use super::encoding;
use crate::error::{Error, FEATURE_NOT_SUPPORTED, Result, SYNTAX_ERROR};

/// Checks a command for a worker and gives its tag, such as `VACUUM`.
pub fn background_command(text: &str) -> Result<String> {
    let source = CString::new(encoding::to_server(text))
        .map_err(|_| Error::new(SYNTAX_ERROR, "the command contains a zero byte"))?;
    // A syntax error is raised by the parser; the subtransaction turns it into a value.
    // SAFETY: both live as long as the call, in a subtransaction.
    subtransaction(|| unsafe { inspect(&source, text) }).map_err(|error| point_into(error, text))
}

/// Lets an error's position point into `text`.
fn point_into(mut error: Error, text: &str) -> Error {
    if let Some(position) = &mut error.position
        && position.query.is_empty()
    {
        position.query = text.to_owned();
    }
    error
}

/// Safety: in a transaction, whose current memory holds the trees.
unsafe fn inspect(source: &CStr, text: &str) -> Result<String> {
    // SAFETY: a list of RawStmt, each with its statement; names of tags are static.
    unsafe {
        let statements = pg_sys::raw_parser(source.as_ptr(), pg_sys::RawParseMode::RAW_PARSE_DEFAULT);
        let count = if statements.is_null() { 0 } else { (*statements).length };
        if count == 0 {
            return Err(Error::new(SYNTAX_ERROR, "a job's command must not be empty"));
        }
        if count != 1 {
            return Err(Error::new(
                SYNTAX_ERROR,
                format!("a job's command must be exactly one statement, but this has {count}"),
            )
            .hint("Create one job per statement, or put them into a procedure and CALL it.")
            .at(text, second_statement(statements, text)));
        }
        let statement = (*pg_sys::list_nth(statements, 0).cast::<pg_sys::RawStmt>()).stmt;
        let tag = CStr::from_ptr(pg_sys::GetCommandTagName(pg_sys::CreateCommandTag(statement)))
            .to_string_lossy()
            .into_owned();
        match reason_against(statement) {
            None => Ok(tag),
            Some(reason) => {
                Err(Error::new(FEATURE_NOT_SUPPORTED, format!("{tag} cannot run in the background")).detail(reason))
            }
        }
    }
}

/// Where the second statement begins, in characters from 1; before 18 the server counts the
/// white space in front of it as well.
///
/// Safety: a list of RawStmt, two at least.
unsafe fn second_statement(statements: *mut pg_sys::List, text: &str) -> i32 {
    // SAFETY: as the caller promises.
    let start = unsafe {
        let second = pg_sys::list_nth(statements, 1).cast::<pg_sys::RawStmt>();
        usize::try_from((*second).stmt_location).unwrap_or(0)
    };
    let (before, rest) = text.split_at_checked(start).unwrap_or((text, ""));
    let blank = rest.len() - rest.trim_start().len();
    (before.chars().count() + rest[..blank].chars().count() + 1) as i32
}

/// Safety: a raw statement.
unsafe fn reason_against(statement: *mut pg_sys::Node) -> Option<&'static str> {
    // SAFETY: a node is cast to what its tag says.
    unsafe {
        match (*statement).type_ {
            NodeTag::T_TransactionStmt => Some("The worker itself begins and ends the transaction."),
            NodeTag::T_ListenStmt | NodeTag::T_UnlistenStmt => Some("A worker has nobody to hand notifications to."),
            NodeTag::T_CopyStmt => {
                let copy = statement.cast::<pg_sys::CopyStmt>();
                ((*copy).filename.is_null())
                    .then_some("A worker has no client to copy from or to; name a file or a program.")
            }
            _ => None,
        }
    }
}
