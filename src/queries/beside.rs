//! When jobs of this database were under way, from their beginning to their end: whose statements took longer meanwhile may know why. Of
//! other people's jobs those know who see them in `upkeep.jobs` (LAW 5).

use pgrx::datum::TimestampWithTimeZone;

use super::arguments::{Window, timestamp};
use crate::calls::standing;
use crate::error::Result;
use crate::server::{Oid, catalog, spi};

pub struct Jobs(Vec<Window>);

impl Jobs {
    pub fn of(window: Window) -> Result<Self> {
        let me = catalog::current_user();
        let sees_all = catalog::is_monitor(me) || standing::caller_is_admin();
        let jobs = spi::bookkeeping(|| {
            spi::query(
                "SELECT j.started_at, coalesce(j.finished_at, pg_catalog.clock_timestamp()), j.owner FROM upkeep._job j
                 WHERE j.system_identifier OPERATOR(pg_catalog.=) $3 AND j.database OPERATOR(pg_catalog.=) $4
                   AND j.started_at OPERATOR(pg_catalog.<) $2
                   AND coalesce(j.finished_at, pg_catalog.clock_timestamp()) OPERATOR(pg_catalog.>) $1",
                &[
                    timestamp(window.since).into(),
                    timestamp(window.until).into(),
                    catalog::system_identifier().into(),
                    catalog::my_database().into(),
                ],
                |row| {
                    let time = |at| row.require::<TimestampWithTimeZone>(at).map(TimestampWithTimeZone::into_inner);
                    Ok((Window { since: time(1)?, until: time(2)? }, row.require::<Oid>(3)?))
                },
            )
        })?;
        let is_seen = |owner| sees_all || catalog::has_privileges_of(me, owner);
        Ok(Jobs(jobs.into_iter().filter(|(_, owner)| is_seen(*owner)).map(|(window, _)| window).collect()))
    }

    /// How many there were in a part of the window.
    pub fn within(&self, since: i64, until: i64) -> usize {
        self.0.iter().filter(|job| job.since < until && job.until > since).count()
    }
}
