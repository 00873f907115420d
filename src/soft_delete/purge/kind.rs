//! The kind `purge`.

use serde_json::Value;

use super::run::Run;
use crate::error::Result;
use crate::jobs::claims::{Claim, What};
use crate::jobs::kind::{Belonging, Job, Kind, Nature, Work};
use crate::server::Oid;

pub struct Purge;

impl Kind for Purge {
    fn name(&self) -> &'static str {
        "purge"
    }

    fn nature(&self) -> Nature {
        Nature { noun: "a purge", ..Nature::default() }
    }

    fn open(&self, job: &Job) -> Result<Box<dyn Work>> {
        Ok(Box::new(Run::open(job)?))
    }

    fn claims(&self, relid: Option<Oid>, _params: &Value) -> Result<Vec<Claim>> {
        Ok(relid.map(|relid| Claim { relid, what: What::Rows }).into_iter().collect())
    }

    fn belongings(&self) -> &'static [Belonging] {
        const fn of_deletion(table: &'static str) -> Belonging {
            Belonging { table, column: "deletion", to: "upkeep._deletion" }
        }
        const OURS: [Belonging; 2] = [of_deletion("upkeep._deletion_table"), of_deletion("upkeep._deletion_cleared")];
        &OURS
    }
}
