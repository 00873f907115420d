//! Unique keys that count live rows only: a deleted email can be registered again.
//!
//! [`plan`] says what becomes of each key; [`run`] is the job that builds the new indexes concurrently and lets each take
//! the place and the name of the old one.

mod kind;
pub mod plan;
pub mod run;

pub use kind::UniqueKeys;

use pgrx::Uuid;
use pgrx::pg_sys::Oid;
use pgrx::prelude::*;

use crate::calls::standing;
use crate::error::*;
use crate::jobs::kind::Kind;
use crate::jobs::queue::{self, NewJob};
use crate::server::lock::{Lock, Purpose};
use crate::server::raise::{self, Level, answer};
use crate::server::{catalog, spi};
use plan::{Fate, Key};

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
    Lock::new(Purpose::Target, subject.relid.to_u32().into()).for_transaction();
    refuse_second(subject.relid)?;
    let job = NewJob::plain(&UniqueKeys, subject.sql, serde_json::json!({}));
    queue::create(NewJob { relid: Some(subject.relid), ..job }).map(Some)
}

fn refuse_second(relid: Oid) -> Result<()> {
    let other: Vec<Uuid> = spi::bookkeeping(|| {
        spi::execute_returning(
            "SELECT id FROM upkeep._job
             WHERE kind OPERATOR(pg_catalog.=) $2 AND relid OPERATOR(pg_catalog.=) $1
               AND state OPERATOR(pg_catalog.=) ANY (ARRAY['queued', 'running', 'paused'])
               AND database OPERATOR(pg_catalog.=) $3 AND system_identifier OPERATOR(pg_catalog.=) $4",
            &[
                relid.into(),
                UniqueKeys.name().into(),
                catalog::my_database().into(),
                catalog::system_identifier().into(),
            ],
            |row| row.require(1),
        )
    })?;
    match other.first() {
        None => Ok(()),
        Some(job) => Err(Error::new(OBJECT_IN_USE, "the unique keys of this table are being changed already")
            .detail(format!("It is job {job}."))
            .hint(format!("CALL upkeep.wait('{job}'); or SELECT upkeep.cancel('{job}');"))),
    }
}

fn check_retry(job: Uuid) -> Result<()> {
    let relid = spi::bookkeeping(|| {
        spi::query_one("SELECT relid FROM upkeep._job WHERE id OPERATOR(pg_catalog.=) $1", &[job.into()], |row| {
            row.get::<Oid>(1)
        })
    })?;
    let Some(relid) = relid.flatten() else { return Ok(()) };
    Lock::new(Purpose::Target, relid.to_u32().into()).for_transaction();
    refuse_second(relid)
}
