//! Jobs of a job: work that wants several workers, a quarantine or limits of its own. (For parts that one slot does one after another
//! see [`super::sequence`].)
//!
//! What people do to a job goes down to its children: pause, resume, cancel, retry, drop, limits. What comes of them goes up: progress,
//! rows that are left or were put aside. A parent parks while they work, and is woken when the last of them has ended, or when one has
//! failed or was canceled. They are kept as long as their parent is.
//!
//! Rows of a family are locked from the top down. A child that ends locks nothing of its parent's: it leaves a mark
//! (`tells_parent`), and the scheduler wakes the parent ([`store::wake_parents`]). A parent that fails leaves one as well
//! (`leaves_children`), and the scheduler cancels what is left of its children.

use pgrx::Uuid;

use super::context::Context;
use super::queue::{self, NewJob, Parent};
use super::{statement_of, store};
use crate::error::{Error, QUERY_CANCELED, Result, SqlState};
use crate::server::{catalog, spi};

/// A child as its parent sees it.
#[derive(Clone, Debug)]
pub struct Child {
    pub id: Uuid,
    pub kind: String,
    pub target: String,
    pub state: String,
    pub rows_left: i64,
    failure: Option<Error>,
}

impl Child {
    pub fn has_ended(&self) -> bool {
        matches!(self.state.as_str(), "done" | "failed" | "canceled")
    }

    /// Why it was no success, as the parent would say it.
    pub fn failure(&self) -> Option<Error> {
        let Child { id, kind, target, .. } = self;
        let which = format!("It is job {id}, {kind} of {target}.");
        match self.state.as_str() {
            "canceled" => Some(Error::new(QUERY_CANCELED, "a part of the job was canceled").detail(which)),
            "failed" => self.failure.clone().map(|error| {
                let detail = error.detail.map_or_else(|| which.clone(), |detail| format!("{detail}\n{which}"));
                Error { message: format!("a part of the job failed: {}", error.message), detail: Some(detail), ..error }
            }),
            _ => None,
        }
    }
}

/// A statement of a job has ended after the job was canceled: what it has made as its children meanwhile is to be canceled, too. Inside
/// [`spi::bookkeeping`].
pub fn note_late(job: Uuid) -> Result<()> {
    spi::execute(
        "UPDATE upkeep._job SET leaves_children = true
         WHERE id OPERATOR(pg_catalog.=) $1 AND state OPERATOR(pg_catalog.=) ANY (ARRAY['failed', 'canceled'])",
        &[job.into()],
    )
    .map(drop)
}

/// For whom a job is asked for, if that is a statement of a job of the same owner, which has no child of this name yet.
pub fn parent_at_work(place: &str) -> Result<Option<Parent>> {
    let Some((job, _)) = statement_of::job().filter(|(_, owner)| *owner == catalog::current_user()) else {
        return Ok(None);
    };
    let taken = spi::bookkeeping(|| {
        spi::query_one(
            "SELECT EXISTS (SELECT FROM upkeep._job WHERE parent OPERATOR(pg_catalog.=) $1 AND place OPERATOR(pg_catalog.=) $2)",
            &[job.into(), place.into()],
            |row| row.require::<bool>(1),
        )
    })?;
    Ok((taken != Some(true)).then(|| Parent { job, place: place.to_owned(), share: 1.0 }))
}

impl Context {
    /// The job's child of this name; it is made if there is none yet. `share`: how much of the job's work it stands for (0..1).
    #[cfg_attr(not(feature = "pg_test"), expect(dead_code, reason = "for kinds to come; src/outside/ proves it"))]
    pub fn child(&mut self, place: &str, share: f64, new: impl FnOnce() -> Result<NewJob<'static>>) -> Result<Child> {
        let parent = self.job().id;
        if let Some(child) = self.children()?.into_iter().find_map(|(its, child)| (its == place).then_some(child)) {
            return Ok(child);
        }
        let parent = Parent { job: parent, place: place.to_owned(), share };
        queue::create(NewJob { parent: Some(parent), ..new()? })?;
        self.keep_for_good();
        self.event("part", place.to_owned());
        let made = self.children()?.into_iter().find_map(|(its, child)| (its == place).then_some(child));
        made.ok_or_else(|| Error::new(crate::error::INTERNAL_ERROR, "a child that was just created is not there"))
    }

    /// Children of an earlier run are jobs by themselves from here on.
    pub fn release_children(&self) -> Result<()> {
        let parent = self.job().id;
        spi::bookkeeping(|| {
            spi::execute(
                "UPDATE upkeep._job SET parent = NULL, place = NULL, share = NULL, tells_parent = false
                 WHERE parent OPERATOR(pg_catalog.=) $1",
                &[parent.into()],
            )
        })
        .map(drop)
    }

    /// All children, by name, in the order in which they were made. Those that have ended are known from here on: they wake the parent
    /// no more.
    pub fn children(&self) -> Result<Vec<(String, Child)>> {
        let parent = self.job().id;
        spi::bookkeeping(|| {
            let told = spi::execute_returning(
                "SELECT p.id FROM upkeep._job p
                 WHERE p.id OPERATOR(pg_catalog.=) $1
                   AND EXISTS (SELECT FROM upkeep._job c WHERE c.parent OPERATOR(pg_catalog.=) $1 AND c.tells_parent)
                 FOR NO KEY UPDATE",
                &[parent.into()],
                |row| row.require::<Uuid>(1),
            )?;
            if !told.is_empty() {
                // A child that somebody has locked tells again later.
                spi::execute(
                    "UPDATE upkeep._job SET tells_parent = false
                     WHERE id OPERATOR(pg_catalog.=) ANY (ARRAY(
                         SELECT c.id FROM upkeep._job c
                         WHERE c.parent OPERATOR(pg_catalog.=) $1 AND c.tells_parent FOR NO KEY UPDATE SKIP LOCKED))",
                    &[parent.into()],
                )?;
            }
            spi::execute_returning(
                "SELECT place, id, kind, target, state, coalesce(rows_left, 0),
                        error_sqlstate, error_message, error_detail, error_hint
                 FROM upkeep._job WHERE parent OPERATOR(pg_catalog.=) $1 ORDER BY created_at, id",
                &[parent.into()],
                |row| {
                    let place: String = row.next()?;
                    let child = Child {
                        id: row.next()?,
                        kind: row.next()?,
                        target: row.next()?,
                        state: row.next()?,
                        rows_left: row.next()?,
                        failure: None,
                    };
                    let sqlstate = row.next_or_null::<String>()?;
                    let message = row.next_or_null::<String>()?;
                    let (detail, hint) = (row.next_or_null()?, row.next_or_null()?);
                    let failure = sqlstate.zip(message).map(|(sqlstate, message)| Error {
                        sqlstate: SqlState::parse(&sqlstate),
                        message,
                        detail,
                        hint,
                        position: None,
                    });
                    Ok((place, Child { failure, ..child }))
                },
            )
        })
    }
}

/// The jobs below these, from the top down. Inside [`spi::bookkeeping`].
pub fn below(jobs: &[Uuid]) -> Result<Vec<Uuid>> {
    // A cycle, which only somebody's own UPDATE can make, is no endless loop.
    spi::execute_returning(
        "WITH RECURSIVE family (id, depth) AS (
             SELECT j.id, 1 FROM upkeep._job j WHERE j.parent OPERATOR(pg_catalog.=) ANY ($1)
             UNION
             SELECT j.id, f.depth OPERATOR(pg_catalog.+) 1 FROM upkeep._job j
             JOIN family f ON j.parent OPERATOR(pg_catalog.=) f.id WHERE f.depth OPERATOR(pg_catalog.<) 100)
         SELECT f.id FROM family f GROUP BY f.id ORDER BY pg_catalog.min(f.depth), f.id",
        &[jobs.to_vec().into()],
        |row| row.require::<Uuid>(1),
    )
}

/// Locks all that is below these jobs; those of them of which that is not possible at once. Inside [`spi::bookkeeping`].
pub fn parents_of_locked(jobs: &[Uuid]) -> Result<Vec<Uuid>> {
    let family = below(jobs)?;
    if family.is_empty() {
        return Ok(Vec::new());
    }
    let locked = spi::execute_returning(
        "SELECT j.id FROM upkeep._job j WHERE j.id OPERATOR(pg_catalog.=) ANY ($1) FOR UPDATE SKIP LOCKED",
        &[family.clone().into()],
        |row| row.require::<Uuid>(1),
    )?;
    if locked.len() == family.len() {
        return Ok(Vec::new());
    }
    let missing = |job: &&Uuid| {
        let below = below(&[**job])?;
        Ok::<_, Error>(below.iter().any(|child| !locked.contains(child)))
    };
    let mut left = Vec::new();
    for job in jobs {
        if missing(&job)? {
            left.push(*job);
        }
    }
    Ok(left)
}

/// Those of these jobs which have anything below them that has not ended, or that is to be cleaned up. Inside [`spi::bookkeeping`].
pub fn parents_of_busy(jobs: &[Uuid]) -> Result<Vec<Uuid>> {
    spi::execute_returning(
        "WITH RECURSIVE family (top, id, depth) AS (
             SELECT j.parent, j.id, 1 FROM upkeep._job j WHERE j.parent OPERATOR(pg_catalog.=) ANY ($1)
             UNION
             SELECT f.top, j.id, f.depth OPERATOR(pg_catalog.+) 1 FROM upkeep._job j
             JOIN family f ON j.parent OPERATOR(pg_catalog.=) f.id WHERE f.depth OPERATOR(pg_catalog.<) 100)
         SELECT DISTINCT f.top FROM family f JOIN upkeep._job j ON j.id OPERATOR(pg_catalog.=) f.id
         WHERE j.needs_cleanup OR j.state OPERATOR(pg_catalog.=) ANY (ARRAY['queued', 'running', 'paused'])",
        &[jobs.to_vec().into()],
        |row| row.require::<Uuid>(1),
    )
}

/// Cancels what is unfinished below jobs that have ended otherwise than well, and passes over what somebody has locked: `false`. Inside
/// [`spi::bookkeeping`].
pub fn cancel_of_ended() -> Result<bool> {
    let ended = spi::execute_returning(
        "SELECT id FROM upkeep._job
         WHERE leaves_children AND state OPERATOR(pg_catalog.=) ANY (ARRAY['failed', 'canceled'])
         -- None of them is always behind those of which somebody has the children locked.
         ORDER BY pg_catalog.random() LIMIT 1000 FOR NO KEY UPDATE SKIP LOCKED",
        &[],
        |row| row.require::<Uuid>(1),
    )?;
    let mut all = true;
    for parent in ended {
        let unfinished = spi::execute_returning(
            "SELECT id FROM upkeep._job
             WHERE parent OPERATOR(pg_catalog.=) $1 AND state OPERATOR(pg_catalog.=) ANY (ARRAY['queued', 'running', 'paused'])",
            &[parent.into()],
            |row| row.require::<Uuid>(1),
        )?;
        let mut left = false;
        for child in unfinished {
            if !store::is_free(child)? {
                left = true;
            } else if store::cancel(child, Some("its parent has ended"))? {
                super::activity::interrupt_executors(child)?;
            }
        }
        all &= !left;
        if !left {
            spi::execute(
                "UPDATE upkeep._job SET leaves_children = false WHERE id OPERATOR(pg_catalog.=) $1",
                &[parent.into()],
            )?;
        }
    }
    Ok(all)
}
