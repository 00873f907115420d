//! The kind `purge`.

use pgrx::Uuid;

use super::run::Run;
use crate::error::Result;
use crate::jobs::kind::{Belonging, Job, Kind, Nature, Work};

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

    /// Not while another purge of the table is unfinished.
    fn check_retry(&self, job: Uuid) -> Result<()> {
        super::check_retry(job)
    }

    fn belongings(&self) -> &'static [Belonging] {
        const fn of_deletion(table: &'static str) -> Belonging {
            Belonging { table, column: "deletion", to: "upkeep._deletion" }
        }
        const OURS: [Belonging; 2] = [of_deletion("upkeep._deletion_table"), of_deletion("upkeep._deletion_cleared")];
        &OURS
    }
}
