//! What SQL calls.

use pgrx::Uuid;
use pgrx::datum::Interval;
use pgrx::prelude::*;

use super::subject::{Params, Subject, subject};
use super::{explain, kind};
use crate::error::Result;
use crate::jobs::queue::{self, NewJob, Parent};
use crate::server::Oid;
use crate::server::raise::{self, Level, answer};

/// `upkeep.purge_deleted(target, older_than)`
#[pg_extern(sql = false)]
fn purge_deleted(target: Option<Oid>, older_than: Option<Interval>) -> Uuid {
    answer(ask(target, older_than, None))
}

/// `parent`: whose run it is a part of.
pub fn ask(target: Option<Oid>, older_than: Option<Interval>, parent: Option<Parent>) -> Result<Uuid> {
    let Subject { managed, graph, sql, cutoff } = subject(target, older_than)?;
    for warning in explain::warnings(&managed, &sql, &graph)? {
        raise::report(Level::Warning, warning);
    }
    let params = serde_json::to_value(Params { cutoff })?;
    queue::create(NewJob { relid: Some(managed.relid), parent, ..NewJob::plain(&kind::Purge, sql, params) })
}
