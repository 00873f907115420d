//! The engine's own chores.

use std::time::Duration;

use super::chore::{Chore, Memory, SOON, Visit};
use super::{activity, bounds, children, clean_up, owners, store};
use crate::error::Result;
use crate::server::catch::transaction;
use crate::server::{catalog, spi};
use crate::settings;

/// A chore that is one function.
pub struct Own {
    name: &'static str,
    visit: fn() -> Result<Visit>,
}

impl Chore for Own {
    fn name(&self) -> &'static str {
        self.name
    }

    fn visit(&self, _memory: &Memory) -> Result<Visit> {
        (self.visit)()
    }
}

pub static FOREIGN_JOBS: Own = Own { name: "jobs that came with a dump or a copy", visit: pause_foreign_jobs };
pub static OWNERS: Own = Own { name: "names of owners", visit: follow_owners };
pub static CLEAN_UP: Own = Own { name: "what finished jobs have left", visit: clean_up::clean_up };
pub static CHILDREN: Own = Own { name: "jobs whose children have ended", visit: wake_parents };
pub static OLD_JOBS: Own = Own { name: "jobs to be forgotten", visit: forget_old_jobs };
pub static TOO_MANY: Own = Own { name: "what a role has too much of", visit: forget_too_many };
pub static CANCELED: Own = Own { name: "what is at work for jobs that were canceled", visit: activity::end_canceled };

/// How often to look whether owners were renamed, as long as anything has one.
const RENAMED: Duration = Duration::from_secs(600);

fn pause_foreign_jobs() -> Result<Visit> {
    transaction(|| {
        spi::bookkeeping(|| store::pause_foreign_jobs(catalog::system_identifier(), catalog::my_database()))
    })?;
    Ok(Visit::default())
}

/// A dump is taken at any time.
fn follow_owners() -> Result<Visit> {
    let any = transaction(|| {
        spi::bookkeeping(|| {
            owners::follow_all()?;
            owners::anything_owned()
        })
    })?;
    let mut visit = Visit::default();
    if any {
        visit.again_in(RENAMED);
    }
    Ok(visit)
}

fn wake_parents() -> Result<Visit> {
    let mut visit = Visit::default();
    for part in [children::cancel_of_ended, store::wake_parents] {
        if !transaction(|| spi::bookkeeping(part))? {
            visit.again_in(SOON);
        }
    }
    Ok(visit)
}

fn forget_old_jobs() -> Result<Visit> {
    if let Some(retention) = settings::job_retention() {
        transaction(|| spi::bookkeeping(|| store::prune(retention)))?;
    }
    Ok(Visit::default())
}

fn forget_too_many() -> Result<Visit> {
    transaction(|| spi::bookkeeping(bounds::prune))?;
    Ok(Visit::default())
}
