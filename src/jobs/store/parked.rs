//! Jobs that are parked: what they wait for is in `_job.parked`, and no worker is theirs meanwhile.
//!
//! A look of the scheduler reads those that are due, by indexes, and not the rest: there can be many of them.

use std::time::Duration;

use pgrx::Uuid;

use super::states::add_event;
use crate::error::Result;
use crate::jobs::kind::Until;
use crate::server::spi;

/// `_job.parked`: until a time (`not_before`), until children have ended, until a person says so. And until its first step is committed
/// of one whose wait is over.
const UNTIL_CLOCK: &str = "clock";
const UNTIL_CHILDREN: &str = "children";
const UNTIL_TOLD: &str = "person";

impl Until {
    fn written(self) -> (&'static str, Option<Duration>) {
        match self {
            Until::After(time) => (UNTIL_CLOCK, Some(time)),
            Until::Children => (UNTIL_CHILDREN, None),
            Until::Told => (UNTIL_TOLD, None),
        }
    }
}

/// Parks a job that runs. `detail` is for members of the owner; `news`: its history is told.
pub fn park(job: Uuid, until: Until, reason: &str, detail: Option<&str>, news: bool) -> Result<()> {
    let (parked, time) = until.written();
    let done = spi::execute(
        "UPDATE upkeep._job SET state = 'queued', parked = $2, reason = $4, reason_detail = $5,
                not_before = pg_catalog.clock_timestamp() OPERATOR(pg_catalog.+) pg_catalog.make_interval(secs => $3)
         WHERE id OPERATOR(pg_catalog.=) $1 AND state OPERATOR(pg_catalog.=) 'running'",
        &[job.into(), parked.into(), time.map(|time| time.as_secs_f64()).into(), reason.into(), detail.into()],
    )?;
    if done > 0 && news {
        let detail = detail.map_or_else(|| reason.to_owned(), |detail| format!("{reason}: {detail}"));
        add_event(job, "waiting", Some(&detail))?;
    }
    Ok(())
}

/// It goes on: what a person has said is taken.
pub fn unpark(job: Uuid) -> Result<()> {
    spi::execute(
        "UPDATE upkeep._job SET parked = NULL, answered = false
         WHERE id OPERATOR(pg_catalog.=) $1 AND state OPERATOR(pg_catalog.=) 'running' AND (parked IS NOT NULL OR answered)",
        &[job.into()],
    )
    .map(drop)
}

/// A person lets a parked job go on now, whatever it waits for. `false`: it is not parked.
pub fn let_go_on(job: Uuid) -> Result<bool> {
    let parked = spi::execute(
        "UPDATE upkeep._job SET answered = parked OPERATOR(pg_catalog.=) 'person', parked = 'woken', not_before = NULL,
                reason = NULL, reason_detail = NULL
         WHERE id OPERATOR(pg_catalog.=) $1 AND state OPERATOR(pg_catalog.=) 'queued'
           AND parked OPERATOR(pg_catalog.=) ANY (ARRAY['clock', 'children', 'person'])",
        &[job.into()],
    )?;
    if parked > 0 {
        add_event(job, "resumed", None)?;
    }
    Ok(parked > 0)
}

/// Wakes parents of which a child has ended that they wait for: the last of them, or one that was no success. What somebody has locked
/// comes with the next look: `false`.
pub fn wake_parents() -> Result<bool> {
    let any = spi::query_one("SELECT EXISTS (SELECT FROM upkeep._job c WHERE c.tells_parent)", &[], |row| {
        row.require::<bool>(1)
    })?;
    if any != Some(true) {
        return Ok(true);
    }
    // The last one that ends wakes the parent, whoever ended before.
    spi::execute(
        "UPDATE upkeep._job SET tells_parent = false
         WHERE id OPERATOR(pg_catalog.=) ANY (ARRAY(
             SELECT c.id FROM upkeep._job c
             LEFT JOIN upkeep._job p ON p.id OPERATOR(pg_catalog.=) c.parent
             WHERE c.tells_parent
               AND (p.id IS NULL OR p.state OPERATOR(pg_catalog.=) ANY (ARRAY['done', 'failed', 'canceled'])
                    OR c.state OPERATOR(pg_catalog.=) 'done'
                       AND EXISTS (SELECT FROM upkeep._job o
                                   WHERE o.parent OPERATOR(pg_catalog.=) p.id
                                     AND o.state OPERATOR(pg_catalog.=) ANY (ARRAY['queued', 'running', 'paused'])))
             FOR UPDATE OF c SKIP LOCKED))",
        &[],
    )?;
    spi::execute(
        "UPDATE upkeep._job SET parked = 'woken', not_before = NULL, reason = NULL, reason_detail = NULL
         WHERE id OPERATOR(pg_catalog.=) ANY (ARRAY(
             SELECT p.id FROM upkeep._job p
             WHERE p.id OPERATOR(pg_catalog.=) ANY (ARRAY(
                     SELECT c.parent FROM upkeep._job c WHERE c.tells_parent FOR NO KEY UPDATE SKIP LOCKED))
               AND p.state OPERATOR(pg_catalog.=) 'queued' AND p.parked OPERATOR(pg_catalog.=) 'children'
             FOR NO KEY UPDATE SKIP LOCKED))",
        &[],
    )?;
    let left = spi::query_one(
        "SELECT EXISTS (SELECT FROM upkeep._job c JOIN upkeep._job p ON p.id OPERATOR(pg_catalog.=) c.parent
                        WHERE c.tells_parent AND p.state OPERATOR(pg_catalog.=) 'queued'
                          AND p.parked OPERATOR(pg_catalog.=) 'children')",
        &[],
        |row| row.require::<bool>(1),
    )?;
    Ok(left != Some(true))
}
