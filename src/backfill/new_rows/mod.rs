//! Rows that others write during a run are filled by a trigger of the job's.
//!
//! [`check`] says what may be asked for; [`text`] is the SQL, made of expressions that the server deparsed;
//! [`install`] and [`remove`] are DDL in short attempts, to be made again when somebody was in the way.

mod check;
mod columns;
mod install;
mod remove;
#[cfg(feature = "pg_test")]
mod tests;
mod text;

pub use check::check;
pub use install::{Installed, install};
pub use remove::{Removed, remove};

use pgrx::Uuid;

/// What a job makes outside of our tables. The names sort the trigger behind (nearly) all others.
pub struct Names {
    pub trigger: String,
    pub function: String,
    /// Computes the new values.
    pub values: String,
}

impl Names {
    pub fn of(job: Uuid) -> Self {
        let id: String = job.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
        Names {
            trigger: format!("zz_upkeep_fill_{id}"),
            function: format!("_fill_{id}"),
            values: format!("_fill_{id}_values"),
        }
    }
}
