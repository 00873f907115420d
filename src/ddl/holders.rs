//! Who is in the way of locks.

use pgrx::datum::TimestampWithTimeZone;

use super::locks::Wanted;
use crate::error::{Error, INTERNAL_ERROR, Result};
use crate::server::{catalog, spi};

/// So many are named.
const NAMED: usize = 5;
/// And so many known again.
const REMEMBERED: usize = 50;
/// A transaction that is older stays, in seconds.
const MOMENT: f64 = 1.0;

/// Whose activity is ours.
const EXECUTOR: &str = "pg_upkeep executor";

/// Somebody whose lock, or whose place in the queue, is in the way.
struct Blocker {
    /// The first of the tables, by name, on which he is.
    table: String,
    /// He has his lock. If not, he waits for it before us.
    holds: bool,
    /// Tells him from whoever has the number of his process later.
    identity: String,
    /// He is there for longer than a moment.
    stays: bool,
    /// For people.
    who: String,
}

/// All of them: those who hold locks, or, if nobody does, those who come before us.
#[derive(Default)]
pub struct Blockers(Vec<Blocker>);

impl Blockers {
    /// `public.t is held by pid 4711 (alice, idle in transaction for 35 s)`; `None`: there is nobody any more.
    pub fn describe(&self) -> Option<String> {
        let first = self.0.first()?;
        let what = if first.holds { "is held by" } else { "is waited for before by" };
        Some(format!("{} {what} {}", first.table, self.names()))
    }

    /// The table that the first of them is on.
    pub fn table(&self) -> Option<&str> {
        self.0.first().map(|first| &*first.table)
    }

    /// `held by pid 4711 (alice, active for 3 s), pid 4712 (..) and 3 more`
    fn wait_reason(&self) -> Option<String> {
        let first = self.0.first()?;
        let what = if first.holds { "held by" } else { "first comes" };
        Some(format!("{what} {}", self.names()))
    }

    fn names(&self) -> String {
        listed(&self.0.iter().map(|blocker| blocker.who.as_str()).collect::<Vec<_>>())
    }

    /// To know whether they are others later.
    pub fn identities(&self) -> Vec<String> {
        self.0.iter().take(REMEMBERED).map(|blocker| blocker.identity.clone()).collect()
    }

    /// Is there somebody who was not among these? Those who are there for a moment are no news, or there would be some each time that
    /// a table is busy; `first`: unless nothing has been told yet.
    pub fn are_news(&self, told: &[String], first: bool) -> bool {
        let somebody = |blocker: &Blocker| (first || blocker.stays) && !told.contains(&blocker.identity);
        self.0.iter().take(REMEMBERED).any(somebody)
    }

    /// What to tell people who see a job wait: `waits for the lock on public.t to drop its trigger; held by ..`.
    pub fn reason(&self, purpose: &str) -> String {
        match (self.table(), self.wait_reason()) {
            (Some(table), Some(who)) => format!("waits for the lock on {table} to {purpose}; {who}"),
            _ => format!("waits for a lock to {purpose}"),
        }
    }
}

/// Locks of the tables, and of what is below them, in modes that are in the way of those that are wanted. pg_locks has those of the
/// fast path as well. A prepared transaction has no process; it is found by its transaction's own lock.
const IN_THE_WAY: &str = "
    WITH RECURSIVE wanted (relid, below, conflicts) AS (
        SELECT w.* FROM ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2), pg_catalog.unnest($3)) w
    ), tree (relid, below, conflicts) AS (
        SELECT w.* FROM wanted w
        UNION
        SELECT i.inhrelid, true, t.conflicts FROM pg_catalog.pg_inherits i
        JOIN tree t ON t.below AND i.inhparent OPERATOR(pg_catalog.=) t.relid
    ), lock AS MATERIALIZED (
        SELECT l.* FROM pg_catalog.pg_locks l WHERE l.pid IS DISTINCT FROM pg_catalog.pg_backend_pid()
    ), found AS (
        SELECT l.virtualtransaction, l.pid, l.granted, pg_catalog.min(pg_catalog.format('%I.%I', n.nspname, c.relname)) AS relation
        FROM lock l
        JOIN tree t ON t.relid OPERATOR(pg_catalog.=) l.relation
        JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) l.relation
        JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace
        WHERE l.locktype OPERATOR(pg_catalog.=) 'relation' AND l.database OPERATOR(pg_catalog.=) $4
          AND (t.conflicts OPERATOR(pg_catalog.>>) pg_catalog.array_position(ARRAY[
                  'AccessShareLock', 'RowShareLock', 'RowExclusiveLock', 'ShareUpdateExclusiveLock', 'ShareLock',
                  'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock'], l.mode))
              OPERATOR(pg_catalog.%) 2 OPERATOR(pg_catalog.=) 1
        GROUP BY l.virtualtransaction, l.pid, l.granted
    )
    SELECT f.relation, f.granted, f.pid, p.gid,
           coalesce(p.owner::pg_catalog.text, pg_catalog.pg_get_userbyid(a.usesysid)::pg_catalog.text),
           a.backend_type, a.state, a.query,
           pg_catalog.date_part('epoch', pg_catalog.clock_timestamp() OPERATOR(pg_catalog.-)
               CASE WHEN pg_catalog.starts_with(a.state, 'idle') THEN a.state_change ELSE a.xact_start END),
           coalesce(pg_catalog.date_part('epoch', a.xact_start)::pg_catalog.text, f.virtualtransaction),
           coalesce(pg_catalog.date_part('epoch', pg_catalog.clock_timestamp() OPERATOR(pg_catalog.-) a.xact_start)
                    OPERATOR(pg_catalog.>) $6, true)
    FROM found f
    LEFT JOIN pg_catalog.pg_stat_get_activity(NULL) a ON a.pid OPERATOR(pg_catalog.=) f.pid
    LEFT JOIN lock x ON f.pid IS NULL AND x.pid IS NULL AND x.locktype OPERATOR(pg_catalog.=) 'transactionid'
         AND x.virtualtransaction OPERATOR(pg_catalog.=) f.virtualtransaction
    LEFT JOIN pg_catalog.pg_prepared_xacts p ON p.transaction OPERATOR(pg_catalog.=) x.transactionid
    -- Who has begun later was behind us, and a session without a beginning has just come to its end.
    WHERE a.pid IS NULL OR a.xact_start OPERATOR(pg_catalog.<) $5
    ORDER BY f.granted DESC, f.pid IS NOT NULL, a.xact_start NULLS LAST, f.pid";

/// Those who are in the way of these locks now, and were at that moment, in µs of the server's clock.
pub fn blockers(wanted: &[Wanted], since: i64) -> Result<Blockers> {
    let since =
        TimestampWithTimeZone::try_from(since).map_err(|_| Error::new(INTERNAL_ERROR, format!("no time: {since}")))?;
    let relids: Vec<_> = wanted.iter().map(|wanted| wanted.relid).collect();
    let below: Vec<bool> = wanted.iter().map(|wanted| wanted.with_children).collect();
    let conflicts: Vec<i32> = wanted.iter().map(|wanted| wanted.mode.conflicts()).collect();
    let database = catalog::my_database();
    let mut found = spi::bookkeeping(|| {
        spi::freshly(|| {
            let args = [relids.into(), below.into(), conflicts.into(), database.into(), since.into(), MOMENT.into()];
            spi::query(IN_THE_WAY, &args, |row| {
                let (table, holds) = (row.next_legible()?.unwrap_or_default(), row.next()?);
                let who = Who::read(&row)?;
                let since: String = row.next()?;
                let identity = match (who.pid, &who.gid) {
                    (Some(pid), _) => format!("{pid} {since}"),
                    (None, Some(gid)) => format!("prepared {gid}"),
                    (None, None) => since,
                };
                Ok(Blocker { table, holds, identity, stays: row.next()?, who: who.describe() })
            })
        })
    })?;
    if found.iter().any(|blocker| blocker.holds) {
        found.retain(|blocker| blocker.holds);
    }
    Ok(Blockers(found))
}

/// For whom a process waits, to whatever end: `held by pid 4711 (..)`. `None`: it does not, or has for a moment only. As the server
/// knows it, of whoever has the lock or comes first; inside [`spi::bookkeeping`].
pub fn whom_it_waits_for(pid: i32) -> Result<Option<String>> {
    let found = spi::query(
        "SELECT b.pid, p.gid, coalesce(p.owner::pg_catalog.text, pg_catalog.pg_get_userbyid(a.usesysid)::pg_catalog.text),
                a.backend_type, a.state, a.query,
                pg_catalog.date_part('epoch', pg_catalog.clock_timestamp() OPERATOR(pg_catalog.-)
                    CASE WHEN pg_catalog.starts_with(a.state, 'idle') THEN a.state_change ELSE a.xact_start END)
         FROM (SELECT DISTINCT b.pid FROM pg_catalog.unnest(pg_catalog.pg_blocking_pids($1)) b (pid)
               WHERE EXISTS (SELECT FROM pg_catalog.pg_locks l
                             WHERE l.pid OPERATOR(pg_catalog.=) $1 AND NOT l.granted
                               AND l.waitstart OPERATOR(pg_catalog.<) (pg_catalog.clock_timestamp()
                                   OPERATOR(pg_catalog.-) pg_catalog.make_interval(secs => $2)))) b
         LEFT JOIN pg_catalog.pg_stat_get_activity(NULL) a ON a.pid OPERATOR(pg_catalog.=) b.pid
         -- A prepared transaction has no process: it is waited for by its transaction's lock.
         LEFT JOIN pg_catalog.pg_locks w ON b.pid OPERATOR(pg_catalog.=) 0 AND w.pid OPERATOR(pg_catalog.=) $1 AND NOT w.granted
         LEFT JOIN pg_catalog.pg_prepared_xacts p ON p.transaction OPERATOR(pg_catalog.=) w.transactionid
         ORDER BY a.xact_start NULLS FIRST, b.pid",
        &[pid.into(), MOMENT.into()],
        |row| Who::read(&row),
    )?;
    let names: Vec<String> = found.iter().map(Who::describe).collect();
    Ok((!names.is_empty()).then(|| format!("held by {}", listed(&names))))
}

/// `a, b, c, d, e and 3 more`
fn listed(names: &[impl AsRef<str>]) -> String {
    let named = names.iter().take(NAMED).map(AsRef::as_ref).collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(NAMED) {
        0 => named,
        more => format!("{named} and {more} more"),
    }
}

struct Who {
    pid: Option<i32>,
    gid: Option<String>,
    user: Option<String>,
    backend_type: Option<String>,
    state: Option<String>,
    query: Option<String>,
    /// Idle since, else of its transaction.
    seconds: Option<f64>,
}

impl Who {
    /// The columns that come next.
    fn read(row: &spi::Row) -> Result<Self> {
        Ok(Who {
            // 0: a prepared transaction, which has no process.
            pid: row.next_or_null()?.filter(|&pid: &i32| pid != 0),
            gid: row.next_legible()?,
            user: row.next_legible()?,
            backend_type: row.next_legible()?,
            state: row.next_legible()?,
            query: row.next_legible()?,
            seconds: row.next_or_null()?,
        })
    }

    fn describe(&self) -> String {
        let user = self.user.as_deref();
        let Some(pid) = self.pid else {
            let of = user.map_or_else(String::new, |user| format!(" of {user}"));
            return match &self.gid {
                Some(gid) => format!("prepared transaction \"{gid}\"{of}"),
                None => "a prepared transaction".to_owned(),
            };
        };
        let kind = self.backend_type.as_deref().unwrap_or("client backend");
        if kind == "autovacuum worker" {
            let urgent = self.query.as_ref().is_some_and(|query| query.contains("(to prevent wraparound)"));
            let why = if urgent { " (to prevent wraparound)" } else { "" };
            return format!("autovacuum{why}, pid {pid}");
        }
        let mut about: Vec<String> = user.map(str::to_owned).into_iter().collect();
        if kind != "client backend" {
            about.push(kind.to_owned());
        }
        if let Some(job) = self.query.as_ref().filter(|_| kind == EXECUTOR) {
            // Another job's worker: which one, it says itself.
            about.push(job.clone());
            return format!("pid {pid} ({})", about.join(", "));
        }
        if let Some(state) = &self.state {
            let time = self.seconds.map_or_else(String::new, |seconds| format!(" for {}", length(seconds)));
            about.push(format!("{state}{time}"));
        }
        match about.is_empty() {
            true => format!("pid {pid}"),
            false => format!("pid {pid} ({})", about.join(", ")),
        }
    }
}

/// In the largest unit of which there are at least two.
fn length(seconds: f64) -> String {
    let seconds = seconds.max(0.0) as u64;
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        7200..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} days", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(pid: i32) -> Who {
        Who {
            pid: Some(pid),
            gid: None,
            user: Some("alice".into()),
            backend_type: Some("client backend".into()),
            state: Some("idle in transaction".into()),
            query: Some("SELECT 1".into()),
            seconds: Some(35.4),
        }
    }

    #[test]
    fn everybody_has_a_name() {
        assert_eq!(session(4711).describe(), "pid 4711 (alice, idle in transaction for 35 s)");
        let prepared = Who { pid: None, gid: Some("x".into()), ..session(1) };
        assert_eq!(prepared.describe(), "prepared transaction \"x\" of alice");
        let kind = |kind: &str| Who { backend_type: Some(kind.into()), state: Some("active".into()), ..session(7) };
        let worker = Who { query: Some("backfill of t (job 1)".into()), ..kind("pg_upkeep executor") };
        assert_eq!(worker.describe(), "pid 7 (alice, pg_upkeep executor, backfill of t (job 1))");
        assert_eq!(kind("walsender").describe(), "pid 7 (alice, walsender, active for 35 s)");
        assert_eq!(Who { user: None, ..kind("autovacuum worker") }.describe(), "autovacuum, pid 7");
        let urgent = Who {
            query: Some("autovacuum: VACUUM public.t (to prevent wraparound)".into()),
            ..kind("autovacuum worker")
        };
        assert_eq!(urgent.describe(), "autovacuum (to prevent wraparound), pid 7");
        let unknown = Who { user: None, state: None, backend_type: None, ..session(7) };
        assert_eq!(unknown.describe(), "pid 7");
    }

    #[test]
    fn not_all_of_many_are_named() {
        let blocker = |pid| Blocker {
            table: "public.t".into(),
            holds: true,
            identity: format!("{pid}"),
            stays: pid > 1,
            who: format!("pid {pid}"),
        };
        let reason = |count| Blockers((1..=count).map(blocker).collect()).reason("drop its trigger");
        assert_eq!(reason(0), "waits for a lock to drop its trigger");
        assert_eq!(reason(1), "waits for the lock on public.t to drop its trigger; held by pid 1");
        assert!(reason(5).ends_with("held by pid 1, pid 2, pid 3, pid 4, pid 5"));
        assert!(reason(7).ends_with("pid 5 and 2 more"));
        let waiting = Blockers(vec![Blocker { holds: false, ..blocker(1) }]);
        assert_eq!(waiting.describe().unwrap(), "public.t is waited for before by pid 1");
    }

    #[test]
    fn somebody_else_is_news() {
        let blockers = |pids: &[i32]| {
            let blocker = |&pid: &i32| Blocker {
                table: String::new(),
                holds: true,
                identity: pid.to_string(),
                stays: pid > 1,
                who: String::new(),
            };
            Blockers(pids.iter().map(blocker).collect())
        };
        let told = blockers(&[2, 3]).identities();
        assert!(blockers(&[1]).are_news(&[], true) && !blockers(&[]).are_news(&[], true));
        assert!(!blockers(&[3, 1]).are_news(&told, false), "one has left, one is there for a moment");
        assert!(blockers(&[3, 4]).are_news(&told, false));
    }

    #[test]
    fn lengths_of_time_are_short() {
        assert_eq!([0.2, 119.0, 120.0, 7200.0, 400_000.0].map(length), ["0 s", "119 s", "2 min", "2 h", "4 days"]);
    }
}
