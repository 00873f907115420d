//! The kind `unique keys`.

use pgrx::Uuid;
use serde_json::Value;

use super::run::{self, Run};
use crate::error::Result;
use crate::jobs::claims::{Claim, What};
use crate::jobs::kind::{Job, Kind, Nature, Work};
use crate::jobs::sequence::{Part, Parts, Sequence};
use crate::server::Oid;
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
        Ok(Box::new(Sequence::open(job, &UniqueKeys)))
    }

    fn extent(&self, job: &Job, _begun: bool) -> Result<Extent> {
        Ok(Extent::Tables(job.relid.into_iter().collect()))
    }

    fn claims(&self, relid: Option<Oid>, _params: &Value) -> Result<Vec<Claim>> {
        Ok(relid.map(|relid| Claim { relid, what: What::Indexes }).into_iter().collect())
    }

    fn clean_up(&self, job: Uuid) -> Result<Option<String>> {
        run::drop_leftovers(job)
    }
}

impl Parts for UniqueKeys {
    fn plan(&self, job: &Job) -> Result<Vec<Part>> {
        run::plan(job)
    }

    fn open(&self, job: &Job) -> Result<Box<dyn Work>> {
        Ok(Box::new(Run::open(job)?))
    }

    /// For keys that came meanwhile, and such as have become replaceable.
    fn looks_again(&self) -> bool {
        true
    }
}
