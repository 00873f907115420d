//! A job as a verb sees it, and what is above and below it, with the caller's right to it.

use pgrx::Uuid;
use serde_json::Value;

use super::{children, owners, registry, store};
use crate::calls::standing::{self, Right};
use crate::error::*;
use crate::server::json::JsonB;
use crate::server::{Oid, catalog, spi};

pub fn no_such_job(job: Uuid) -> Error {
    Error::new(UNDEFINED_OBJECT, format!("job {job} does not exist")).hint("SELECT id, name, state FROM upkeep.jobs;")
}

/// A job as a verb sees it, its row locked.
pub struct Target {
    pub id: Uuid,
    pub kind: String,
    pub name: Option<String>,
    pub owner: Oid,
    pub state: String,
    pub reason: Option<String>,
    pub shared: Value,
    pub relid: Option<Oid>,
    pub params: Value,
    pub rows_left: i64,
    pub in_hand: bool,
    pub has_timezone: bool,
    pub parent: Option<Uuid>,
    /// It belongs to this server and database: it did not come with a dump or a copy, or `resume_all()` has taken it in.
    pub is_here: bool,
}

impl Target {
    pub fn is_live(&self) -> bool {
        matches!(self.state.as_str(), "queued" | "running")
    }

    pub fn is_final(&self) -> bool {
        matches!(self.state.as_str(), "done" | "failed" | "canceled")
    }

    /// It has started, and cannot stop half way and go on later.
    pub fn must_go_on(&self) -> bool {
        self.state == "running" && self.in_hand && !registry::nature(&self.kind).resumable
    }

    pub fn wrong_state(&self, verb: &str, hint: &str) -> Error {
        Error::new(OBJECT_NOT_IN_PREREQUISITE_STATE, format!("cannot {verb} job {}: it is {}", self.id, self.state))
            .hint(hint)
    }
}

/// Finds and locks a job, and checks the caller's right to it.
pub fn find(job: Uuid, right: Right, verb: &str) -> Result<Target> {
    standing::refuse_in_recovery(&format!("{verb} a job"))?;
    standing::refuse_other_version()?;
    let user = catalog::current_user();
    let target = read(job)?.ok_or_else(|| no_such_job(job))?;
    let allowed =
        catalog::has_privileges_of(user, target.owner) || (right == Right::OwnerOrAdmin && standing::caller_is_admin());
    if !allowed {
        let owner = catalog::role_name(target.owner).unwrap_or_else(|| "(dropped)".into());
        return Err(Error::new(INSUFFICIENT_PRIVILEGE, format!("permission denied to {verb} job {job}"))
            .detail(format!("The job belongs to role \"{owner}\"."))
            .hint(match right {
                Right::Owner => "Only members of that role may do this.",
                Right::OwnerOrAdmin => {
                    "Only members of that role, or of the role named by upkeep.admin_role, may do this."
                }
            }));
    }
    spi::bookkeeping(|| owners::follow_owner_of(owners::JOBS, job))?;
    Ok(target)
}

/// Locks a job's row, and reads it.
fn read(job: Uuid) -> Result<Option<Target>> {
    let found = spi::bookkeeping(|| {
        spi::execute_returning(
            "SELECT j.kind, j.name, upkeep._owner(j.system_identifier, j.owner, j.owner_name), j.state, j.reason, j.shared,
                    coalesce(j.rows_left, 0), j.system_identifier, j.database,
                    EXISTS (SELECT 1 FROM upkeep._job_slot s
                            WHERE s.job OPERATOR(pg_catalog.=) j.id AND s.cursor IS NOT NULL),
                    j.timezone IS NOT NULL, j.params, j.relid, j.parent
             FROM upkeep._job j WHERE j.id OPERATOR(pg_catalog.=) $1 FOR UPDATE",
            &[job.into()],
            |row| {
                let target = Target {
                    id: job,
                    kind: row.require(1)?,
                    name: row.get(2)?,
                    owner: row.require(3)?,
                    state: row.require(4)?,
                    reason: row.get(5)?,
                    shared: row.require::<JsonB>(6)?.0,
                    rows_left: row.require(7)?,
                    in_hand: row.require(10)?,
                    has_timezone: row.require(11)?,
                    params: row.require::<JsonB>(12)?.0,
                    relid: row.get(13)?,
                    parent: row.get(14)?,
                    is_here: owners::is_here(row.require(8)?, row.require(9)?),
                };
                // As the view shows it, even if no scheduler has come by yet (LAW 20).
                if !target.is_here && !target.is_final() {
                    return Ok(Target { state: "paused".into(), reason: Some(store::RESTORED.into()), ..target });
                }
                Ok(target)
            },
        )
    })?;
    Ok(found.into_iter().next())
}

/// The jobs below one, from the top down, their rows locked.
pub fn below(job: Uuid) -> Result<Vec<Target>> {
    let below = spi::bookkeeping(|| children::below(&[job]))?;
    below.into_iter().filter_map(|child| read(child).transpose()).collect()
}

/// The job that it is a part of.
pub struct Above {
    pub id: Uuid,
    pub kind: String,
    pub params: Value,
    pub state: String,
}

pub fn above(target: &Target) -> Result<Option<Above>> {
    let Some(parent) = target.parent else { return Ok(None) };
    spi::bookkeeping(|| {
        spi::query_one(
            "SELECT kind, params, state FROM upkeep._job WHERE id OPERATOR(pg_catalog.=) $1",
            &[parent.into()],
            |row| Ok(Above { id: parent, kind: row.next()?, params: row.next::<JsonB>()?.0, state: row.next()? }),
        )
    })
}

/// What is done to a part alone must not be undone by what the whole is at.
pub fn part_of(target: &Target, verb: &str, Above { id, state, .. }: &Above, hint: &str) -> Error {
    Error::new(
        OBJECT_NOT_IN_PREREQUISITE_STATE,
        format!("cannot {verb} job {}: it is a part of job {id}, which is {state}", target.id),
    )
    .hint(hint.replace("PARENT", &id.to_string()))
}
