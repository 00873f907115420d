//! What unfinished jobs have for themselves: two that want the same of one table would be in each other's way. Unfinished are those
//! that are queued, running or paused; that a job waits is shown by views, and is no state of its row.
//!
//! Claims hold OIDs and are no part of a dump. A job takes its own when it is created, and anew whenever it is queued again: by
//! retry, by resume, and by `resume_all()`, which alone does so for those that came with a dump. Those of finished jobs count for
//! nothing.

use pgrx::Uuid;

use crate::calls::relation;
use crate::error::{Error, LOCK_NOT_AVAILABLE, OBJECT_IN_USE, Result};
use crate::server::lock::{Lock, Purpose};
use crate::server::{Oid, catalog, spi};

/// What a job needs of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// To give this column new values.
    Column(String),
    /// To remove rows.
    Rows,
    /// To build and replace indexes.
    Indexes,
    /// To change the table itself.
    Definition,
}

impl What {
    /// As `_job_claim.what` has it.
    fn write(&self) -> String {
        match self {
            What::Column(name) => format!("column {name}"),
            What::Rows => "rows".to_owned(),
            What::Indexes => "indexes".to_owned(),
            What::Definition => "definition".to_owned(),
        }
    }

    /// What a later version has written stands for everything.
    fn read(text: &str) -> Self {
        match text {
            "rows" => What::Rows,
            "indexes" => What::Indexes,
            other => other.strip_prefix("column ").map_or(What::Definition, |name| What::Column(name.to_owned())),
        }
    }

    /// The one rule for all pairs.
    fn excludes(&self, other: &What) -> bool {
        match (self, other) {
            (What::Definition, _) | (_, What::Definition) => true,
            (What::Column(mine), What::Column(theirs)) => mine == theirs,
            (mine, theirs) => mine == theirs,
        }
    }
}

/// What a job needs for itself of this table, and of all that share rows with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    pub relid: Oid,
    pub what: What,
}

/// An unfinished job that has what is wanted.
struct Rival {
    job: Uuid,
    kind: String,
    target: String,
    relid: Oid,
    what: What,
}

/// Somebody may be asking for the same at this moment, in a transaction that has not ended. Is he waited for?
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    ForOthers,
    /// No: whoever takes it holds more than one job's row (LAW 32).
    Never,
}

/// Takes what this job needs for itself, in place of what it had. 55006: another unfinished one has it; 55P03: somebody is asking for
/// it. In a transaction that queues the job.
pub fn take(job: Uuid, claims: &[Claim], wait: Wait) -> Result<()> {
    for claim in claims {
        if let Some(rival) = rival(job, claim, wait)? {
            return Err(refusal(claim, &rival));
        }
    }
    spi::bookkeeping(|| {
        let_go(&[job])?;
        for Claim { relid, what } in claims {
            spi::execute(
                "INSERT INTO upkeep._job_claim (job, relid, what) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
                &[job.into(), (*relid).into(), what.write().into()],
            )?;
        }
        Ok(())
    })
}

/// Takes it unless the job has it already: an unfinished one has never let go of it, whatever has come of its table since.
pub fn keep_or_take(job: Uuid, claims: &[Claim], wait: Wait) -> Result<()> {
    let held = held_by(job)?;
    let is_held = held.len() == claims.len() && claims.iter().all(|claim| held.contains(claim));
    if is_held { Ok(()) } else { take(job, claims, wait) }
}

fn held_by(job: Uuid) -> Result<Vec<Claim>> {
    spi::bookkeeping(|| {
        spi::execute_returning(
            "SELECT c.relid, c.what FROM upkeep._job_claim c WHERE c.job OPERATOR(pg_catalog.=) $1",
            &[job.into()],
            |row| Ok(Claim { relid: row.require(1)?, what: What::read(&row.require::<String>(2)?) }),
        )
    })
}

/// These jobs have nothing for themselves any more. Inside [`spi::bookkeeping`].
pub fn let_go(jobs: &[Uuid]) -> Result<()> {
    spi::execute("DELETE FROM upkeep._job_claim WHERE job OPERATOR(pg_catalog.=) ANY ($1)", &[jobs.to_vec().into()])
        .map(drop)
}

/// Who has it. Requests that share a table share what is above it, and wait there for each other.
fn rival(job: Uuid, claim: &Claim, wait: Wait) -> Result<Option<Rival>> {
    let related = relation::related(claim.relid)?;
    for (top, _) in related.iter().filter(|(_, is_top)| *is_top) {
        let lock = Lock::new(Purpose::Target, top.to_u32().into());
        match wait {
            Wait::ForOthers => lock.for_transaction(),
            Wait::Never if lock.for_transaction_at_once() => {}
            Wait::Never => {
                return Err(Error::new(LOCK_NOT_AVAILABLE, "another session is asking for the same right now"));
            }
        }
    }
    let relids: Vec<Oid> = related.into_iter().map(|(relid, _)| relid).collect();
    let held = spi::bookkeeping(|| {
        // The request that this one waited for has committed since.
        spi::freshly(|| {
            spi::query(
                "SELECT c.job, j.kind, j.target, c.relid, c.what
                 FROM upkeep._job_claim c JOIN upkeep._job j ON j.id OPERATOR(pg_catalog.=) c.job
                 WHERE c.relid OPERATOR(pg_catalog.=) ANY ($1) AND c.job OPERATOR(pg_catalog.<>) $2
                   -- What its parents have they have for it, and what its children have it has itself.
                   AND c.job OPERATOR(pg_catalog.<>) ALL (ARRAY(
                       WITH RECURSIVE above (id, parent) AS (
                           SELECT o.id, o.parent FROM upkeep._job o WHERE o.id OPERATOR(pg_catalog.=) $2
                           UNION
                           SELECT o.id, o.parent FROM upkeep._job o JOIN above a ON o.id OPERATOR(pg_catalog.=) a.parent)
                       SELECT a.id FROM above a))
                   AND c.job OPERATOR(pg_catalog.<>) ALL (ARRAY(
                       WITH RECURSIVE below (id) AS (
                           SELECT o.id FROM upkeep._job o WHERE o.parent OPERATOR(pg_catalog.=) $2
                           UNION
                           SELECT o.id FROM upkeep._job o JOIN below b ON o.parent OPERATOR(pg_catalog.=) b.id)
                       SELECT b.id FROM below b))
                   AND j.state OPERATOR(pg_catalog.=) ANY (ARRAY['queued', 'running', 'paused'])
                   AND j.system_identifier OPERATOR(pg_catalog.=) $3 AND j.database OPERATOR(pg_catalog.=) $4
                 ORDER BY j.created_at, j.id",
                &[relids.into(), job.into(), catalog::system_identifier().into(), catalog::my_database().into()],
                |row| {
                    Ok(Rival {
                        job: row.next()?,
                        kind: row.next()?,
                        target: row.next()?,
                        relid: row.next()?,
                        what: What::read(&row.next::<String>()?),
                    })
                },
            )
        })
    })?;
    Ok(held.into_iter().find(|rival| claim.what.excludes(&rival.what)))
}

fn refusal(claim: &Claim, rival: &Rival) -> Error {
    let Rival { job, kind, target, .. } = rival;
    let table = if rival.relid == claim.relid { "this table" } else { "tables that this one shares its rows with" };
    let message = match (&claim.what, &rival.what) {
        (What::Column(_), What::Column(name)) => format!("another {kind} already fills column {name} of {table}"),
        (_, What::Rows) => format!("another {kind} of {table} has not ended"),
        (_, What::Indexes) => format!("the indexes of {table} are being changed already"),
        (_, What::Column(name)) => format!("column {name} of {table} is being filled"),
        (_, What::Definition) => format!("{table} is being changed"),
    };
    Error::new(OBJECT_IN_USE, message)
        .detail(format!("It is job {job}, {kind} of {target}."))
        .hint(format!("CALL upkeep.wait('{job}'); or SELECT upkeep.cancel('{job}');"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> [What; 5] {
        [What::Column("a".into()), What::Column("b".into()), What::Rows, What::Indexes, What::Definition]
    }

    #[test]
    fn one_rule_for_all_pairs() {
        // Line by line: column a, column b, rows, indexes, definition.
        const EXCLUDES: [[bool; 5]; 5] = [
            [true, false, false, false, true],
            [false, true, false, false, true],
            [false, false, true, false, true],
            [false, false, false, true, true],
            [true, true, true, true, true],
        ];
        for (mine, line) in all().iter().zip(EXCLUDES) {
            for (theirs, excludes) in all().iter().zip(line) {
                assert_eq!(mine.excludes(theirs), excludes, "{mine:?} and {theirs:?}");
                assert_eq!(theirs.excludes(mine), excludes, "{theirs:?} and {mine:?}");
            }
        }
    }

    #[test]
    fn claims_are_read_as_they_were_written() {
        for what in all().into_iter().chain([What::Column("column rows".into()), What::Column(String::new())]) {
            assert_eq!(What::read(&what.write()), what);
        }
        assert_eq!(What::read("triggers"), What::Definition, "of a later version");
    }
}
