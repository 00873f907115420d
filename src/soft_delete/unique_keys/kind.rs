//! The kind `unique keys`.

use pgrx::Uuid;

use super::run::{self, Run};
use crate::error::Result;
use crate::jobs::kind::{Job, Kind, Nature, Work};
use crate::server::index_command::Extent;

pub struct UniqueKeys;

impl Kind for UniqueKeys {
    fn name(&self) -> &'static str {
        "unique keys"
    }

    fn nature(&self) -> Nature {
        Nature {
            in_one_piece: true,
            most_workers: 1,
            noun: "a job that builds indexes",
            leaves: "an index",
            ..Nature::default()
        }
    }

    fn open(&self, job: &Job) -> Result<Box<dyn Work>> {
        Ok(Box::new(Run::open(job)?))
    }

    fn extent(&self, job: &Job, _begun: bool) -> Result<Extent> {
        Ok(Extent::Tables(job.relid.into_iter().collect()))
    }

    /// Not while the keys of its table are being changed by another one.
    fn check_retry(&self, job: Uuid) -> Result<()> {
        super::check_retry(job)
    }

    fn clean_up(&self, job: Uuid) -> Result<Option<String>> {
        run::drop_leftovers(job)
    }
}
