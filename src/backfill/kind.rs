//! The kind `backfill`.

use pgrx::Uuid;
use serde_json::Value;

use super::run::{Run, whole};
use super::{list, new_rows, store};
use crate::error::Result;
use crate::jobs::claims::{Claim, What};
use crate::jobs::clean_up;
use crate::jobs::kind::{Belonging, Job, Kind, Nature, Restart, Work};
use crate::server::Oid;

pub struct Backfill;

impl Kind for Backfill {
    fn name(&self) -> &'static str {
        "backfill"
    }

    fn nature(&self) -> Nature {
        Nature { noun: "a backfill", leaves: "a trigger", ..Nature::default() }
    }

    fn open(&self, job: &Job) -> Result<Box<dyn Work>> {
        Ok(Box::new(Run::open(job)?))
    }

    fn restart(&self, shared: Value, was_done: bool) -> Restart {
        Restart { shared: whole::retry(shared, was_done), keep_cursors: !was_done }
    }

    /// The columns that it fills.
    fn claims(&self, relid: Option<Oid>, params: &Value) -> Result<Vec<Claim>> {
        let Some(relid) = relid else { return Ok(Vec::new()) };
        let columns = params.get("columns").cloned().unwrap_or_default();
        let columns: Vec<String> = serde_json::from_value(columns)?;
        Ok(columns.into_iter().map(|column| Claim { relid, what: What::Column(column) }).collect())
    }

    /// Of the trigger that fills new rows.
    fn clean_up(&self, job: Uuid) -> Result<Option<String>> {
        Ok(match new_rows::remove(job, &clean_up::tries(job)?)? {
            new_rows::Removed::Gone => None,
            new_rows::Removed::Blocked(blocked) => Some(blocked.reason("drop its trigger")),
        })
    }

    fn moved_here(&self, job: Uuid) -> Result<()> {
        list::restore(job)?;
        store::forget_meaning(job)
    }

    fn belongings(&self) -> &'static [Belonging] {
        const OURS: [Belonging; 2] =
            [Belonging::to_job("upkeep._backfill_xid"), Belonging::to_job("upkeep._backfill_table")];
        &OURS
    }
}
