//! A whole command of the user's: is it one statement, and can a worker run it?

use pgrx::pg_sys::{self, NodeTag};

use super::catch::subtransaction;
use super::encoding;
use super::script::{self, Piece, What};
use crate::error::{Error, FEATURE_NOT_SUPPORTED, Result, SYNTAX_ERROR};

/// Checks a command for a worker and gives its tag, such as `VACUUM`.
pub fn background_command(text: &str) -> Result<String> {
    let pieces = script::split(text)?;
    if let Some(error) = pieces.iter().find_map(|piece| refused(piece, text)) {
        return Err(error);
    }
    let mut statements = pieces.iter().filter_map(|piece| match &piece.what {
        What::Sql(tag) => Some((piece, tag)),
        _ => None,
    });
    let Some((first, tag)) = statements.next() else {
        return Err(Error::new(SYNTAX_ERROR, "a job's command must not be empty"));
    };
    if let Some((second, _)) = statements.next() {
        let count = 2 + statements.count();
        return Err(Error::new(
            SYNTAX_ERROR,
            format!("a job's command must be exactly one statement, but this has {count}"),
        )
        .hint("Create one job per statement, or put them into a procedure and CALL it.")
        .at(text, second.character as i32));
    }
    match reason_against(first.text)? {
        None => Ok(tag.clone()),
        Some(reason) => {
            Err(Error::new(FEATURE_NOT_SUPPORTED, format!("{tag} cannot run in the background")).detail(reason))
        }
    }
}

/// What no server takes. Data behind a COPY say no more than the COPY itself.
fn refused(piece: &Piece<'_>, text: &str) -> Option<Error> {
    match &piece.what {
        What::Sql(_) | What::CopyData => None,
        What::Wrong(error) => Some(point_into(error.clone(), text)),
        What::MetaCommand | What::OfPsql => {
            let message = "a job's command must be SQL, but this has a meta-command or a variable of psql's";
            Some(Error::new(SYNTAX_ERROR, message).at(text, piece.character as i32))
        }
    }
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

fn reason_against(statement: &str) -> Result<Option<&'static str>> {
    let source = encoding::to_c(statement)?;
    // SAFETY: in a subtransaction, in whose memory the tree lives; a node is cast to what its tag says.
    subtransaction(|| unsafe {
        let statement = (*script::tree(&source)?).stmt;
        Ok(match (*statement).type_ {
            NodeTag::T_TransactionStmt => Some("The worker itself begins and ends the transaction."),
            NodeTag::T_ListenStmt | NodeTag::T_UnlistenStmt => Some("A worker has nobody to hand notifications to."),
            NodeTag::T_CopyStmt => {
                let copy = statement.cast::<pg_sys::CopyStmt>();
                ((*copy).filename.is_null())
                    .then_some("A worker has no client to copy from or to; name a file or a program.")
            }
            _ => None,
        })
    })
}
