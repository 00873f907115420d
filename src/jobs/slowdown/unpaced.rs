//! Jobs that run one statement, which cannot be paced: when others notice one, its events say so.

use std::sync::atomic::Ordering;
use std::time::Duration;

use pgrx::Uuid;

use super::compare::{Felt, Statements};
use super::control::of_typical;
use crate::error::Result;
use crate::jobs::chore::{Chore, Memory, Visit};
use crate::jobs::registry;
use crate::jobs::store::{self, AtWork};
use crate::server::catch::transaction;
use crate::server::{catalog, spi, worker};
use crate::settings;

/// The chore: looks after those at work.
pub struct Unpaced;

/// What its events say then.
const EVENT: &str = "noticed";
/// How often.
const LOOK: Duration = Duration::from_secs(2);
/// Of one job one event in this time is enough.
const SELDOM: Duration = Duration::from_secs(600);
/// Whoever has waited for so long for a lock of it is in its way, and it in his.
const PATIENCE: Duration = Duration::from_secs(2);
/// What statements take is known from so long, and from so long before it began what they took.
const LATELY: Duration = Duration::from_secs(600);
/// From fewer calls nothing is concluded.
const ENOUGH: f64 = 100.0;

impl Chore for Unpaced {
    fn name(&self) -> &'static str {
        "jobs that cannot be paced"
    }

    fn visit(&self, memory: &Memory) -> Result<Visit> {
        let mut visit = Visit::default();
        let Some(limit) = settings::max_slowdown().filter(|_| !worker::in_recovery()) else { return Ok(visit) };
        let now = catalog::now();
        let last = memory.done_at.load(Ordering::Acquire);
        let since = now.saturating_sub(last);
        // What is stored is the same until the next interval is.
        let interval = settings::query_interval().map(|time| time.as_micros() as i64);
        let reads = interval.is_some_and(|time| last.div_euclid(time) != now.div_euclid(time));
        // A look that comes a moment early is the one that was asked for.
        let is_due = !(0..(LOOK / 2).as_micros() as i64).contains(&since);
        if is_due {
            memory.done_at.store(now, Ordering::Release);
        }
        let kinds = registry::names(|nature| nature.in_one_piece);
        let jobs = transaction(|| spi::bookkeeping(|| store::at_work(&kinds, EVENT, SELDOM)))?;
        for AtWork { job, worker } in jobs {
            visit.again_in(LOOK);
            if let Some(worker) = worker.filter(|_| is_due) {
                let look = || transaction(|| spi::bookkeeping(|| look_at(job, worker, limit, reads.then_some(now))));
                visit.attempt("a job at work", look);
            }
        }
        Ok(visit)
    }
}

/// Before a statement that cannot be paced: VACUUM and ANALYZE make the pauses of autovacuum, unless somebody has set some, or none.
pub fn be_considerate() {
    let delay = catalog::setting(c"autovacuum_vacuum_cost_delay");
    if settings::max_slowdown().is_none() || delay.starts_with('-') {
        return;
    }
    let untouched = transaction(|| {
        spi::bookkeeping(|| {
            spi::query_one(
                "SELECT s.source OPERATOR(pg_catalog.=) 'default' FROM pg_catalog.pg_show_all_settings() s
                 WHERE s.name OPERATOR(pg_catalog.=) 'vacuum_cost_delay'",
                &[],
                |row| row.require::<bool>(1),
            )
        })
    });
    // What cannot be asked now is left as it is.
    if let Ok(Some(true)) = untouched {
        spi::set_session("vacuum_cost_delay", &delay);
    }
}

/// `stored`: what clients felt until then may be stored by now.
fn look_at(job: Uuid, (pid, began): (i32, i64), limit: f64, stored: Option<i64>) -> Result<()> {
    let told = match (waiting_for(pid)?, stored) {
        ((0, _), None) => None,
        ((0, _), Some(now)) => felt(began, now)?.and_then(|felt| noticed(felt, limit)),
        ((1, longest), _) => Some(format!("another session has waited {longest:.0} s for a lock that it has")),
        ((sessions, longest), _) => {
            Some(format!("{sessions} other sessions wait for a lock that it has, one of them for {longest:.0} s"))
        }
    };
    told.map_or(Ok(()), |told| store::add_event(job, EVENT, Some(&told)))
}

/// How many clients wait for locks of this process, and for how many seconds at most.
fn waiting_for(pid: i32) -> Result<(i64, f64)> {
    let found = spi::query_one(
        "SELECT pg_catalog.count(*), coalesce(pg_catalog.max(w.seconds), 0)
         FROM (SELECT l.pid, pg_catalog.max(EXTRACT(EPOCH FROM
                          pg_catalog.clock_timestamp() OPERATOR(pg_catalog.-) l.waitstart))::pg_catalog.float8 AS seconds
               FROM pg_catalog.pg_lock_status() l WHERE NOT l.granted GROUP BY l.pid) w
         CROSS JOIN LATERAL pg_catalog.pg_stat_get_activity(w.pid) a
         WHERE w.seconds OPERATOR(pg_catalog.>=) $2 AND a.backend_type OPERATOR(pg_catalog.=) 'client backend'
           AND $1 OPERATOR(pg_catalog.=) ANY (pg_catalog.pg_blocking_pids(w.pid))",
        &[pid.into(), PATIENCE.as_secs_f64().into()],
        |row| Ok((row.require::<i64>(1)?, row.require::<f64>(2)?)),
    )?;
    Ok(found.unwrap_or_default())
}

/// What clients' statements take lately, while it is at work, against what they took before it began.
fn felt(began: i64, now: i64) -> Result<Option<Felt>> {
    let Some(clients) = registry::clients() else { return Ok(None) };
    let mut statements = Statements::default();
    let lately = LATELY.as_micros() as i64;
    clients.stored(began - lately, began, &mut |whose, calls| statements.rest(whose, calls))?;
    clients.stored(began.max(now - lately), now, &mut |whose, calls| statements.work(whose, calls))?;
    Ok(statements.turn().filter(|felt| felt.calls >= ENOUGH))
}

/// In words, if it is more than the limit allows.
fn noticed(felt: Felt, limit: f64) -> Option<String> {
    let (what, times) = match felt {
        Felt { tail, .. } if tail > limit => ("p95", tail),
        Felt { typical: times, .. } if times > of_typical(limit) => ("typical statement", times),
        _ => return None,
    };
    Some(format!(
        "the application's {what} takes {times:.2}x as long as in the ten minutes before it began; its statement cannot be paced"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_limit_allows_is_not_told() {
        let felt = |typical, tail| noticed(Felt { typical, tail, calls: 1000.0 }, 1.2);
        assert_eq!(felt(1.1, 1.2), None);
        assert!(felt(1.0, 2.5).unwrap().contains("p95 takes 2.50x"));
        assert!(felt(1.3, 1.1).unwrap().contains("typical statement takes 1.30x"));
    }
}
