//! What SQL calls.

use super::{kind, plan};
use pgrx::Uuid;
use pgrx::prelude::*;

use super::plan::{Fate, Key};
use crate::calls::standing;
use crate::error::*;
use crate::jobs::queue::{self, NewJob};
use crate::server::Oid;
use crate::server::raise::{self, Level, answer};

/// `upkeep.make_unique_keys_partial(target)`
#[pg_extern(sql = false)]
fn make_unique_keys_partial(target: Option<Oid>) -> Option<Uuid> {
    answer(create(target))
}

/// `upkeep.explain_make_unique_keys_partial(target)`
#[pg_extern(sql = false)]
#[allow(clippy::type_complexity)]
fn explain_make_unique_keys_partial(
    target: Option<Oid>,
) -> TableIterator<
    'static,
    (
        name!(indexrelname, String),
        name!(conname, Option<String>),
        name!(action, String),
        name!(reason, String),
        name!(command, Option<String>),
    ),
> {
    let keys = answer(
        standing::refuse_other_version().and_then(|()| plan::subject(target)).and_then(|subject| plan::keys(&subject)),
    );
    TableIterator::new(keys.into_iter().map(|key| {
        let (action, reason, command) = match key.fate {
            Fate::Replaced { definition } => (
                "replace",
                "only live rows will have to be unique".to_owned(),
                Some(plan::create_command(&key.name, &definition)),
            ),
            Fate::LiveOnly => ("none", "it counts live rows only".to_owned(), None),
            Fate::Kept { reason, alternative } => ("keep", reason, Some(alternative)),
        };
        (key.name, key.constraint, action.to_owned(), reason, command)
    }))
}

fn create(target: Option<Oid>) -> Result<Option<Uuid>> {
    standing::refuse_other_version()?;
    let subject = plan::subject(target)?;
    let keys = plan::keys(&subject)?;
    for Key { name, fate, .. } in &keys {
        if let Fate::Kept { reason, alternative } = fate {
            let kept = format!("unique key \"{name}\" stays as it is: {reason}");
            raise::report(Level::Notice, Error::new(SqlState(0), kept).hint(alternative.clone()));
        }
    }
    if !keys.iter().any(|key| matches!(key.fate, Fate::Replaced { .. })) {
        let nothing = format!("no unique key of {} is to be changed", subject.sql);
        raise::report(Level::Notice, Error::new(SqlState(0), nothing));
        return Ok(None);
    }
    let job = NewJob::plain(&kind::UniqueKeys, subject.sql, serde_json::json!({}));
    queue::create(NewJob { relid: Some(subject.relid), ..job }).map(Some)
}
