//! The launcher: one process, connected to no database, that sends a scheduler
//! to each database that wants one, when it wants one.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::{activity, registry, scheduler};
use crate::error::{Error, Result, SqlState};
use crate::jobs::raw::segment::{self, Database, NEVER, Segment};
use crate::server::catch::transaction;
use crate::server::lock::{Lock, Purpose};
use crate::server::raise::{self, Level};
use crate::server::worker::{self, Handle, Registration};
use crate::server::{Oid, catalog};
use crate::settings;

/// The postmaster brings a launcher back after a crash.
const RESTART: Duration = Duration::from_secs(1);
/// When `max_worker_processes` is used up.
const WITHOUT_ROOM: Duration = Duration::from_secs(5);

/// While something is due by the clock, how often at least to look whether the clock was set.
const CLOCK_WATCH: Duration = Duration::from_secs(60);
/// Nobody tells us that a database is no template any more, or takes connections again.
const LONGEST_PAUSE: Duration = Duration::from_secs(300);
/// Pauses between two looks whether a prepared transaction has ended.
const SHORTEST_WATCH: Duration = Duration::from_millis(200);
const LONGEST_WATCH: Duration = Duration::from_secs(10);
/// A clock that is corrected bit by bit never does this much between two looks.
const CLOCK_STEP: Duration = Duration::from_secs(1);

fn registration(database: u32) -> Registration<'static> {
    Registration {
        kind: activity::LAUNCHER,
        function: c"upkeep_launcher_main",
        argument: database,
        extra: &[],
        restart: Some(RESTART),
    }
}

/// Called while `shared_preload_libraries` are loaded.
pub fn register() {
    registration(0).register_static();
}

/// A launcher for this database only, until the server restarts.
pub fn start_for_this_database() -> Option<Handle> {
    registration(catalog::my_database().to_u32()).start()
}

/// A launcher's whole life; for one database only, unless that is 0.
pub fn main(only: u32) {
    worker::accept_signals();
    worker::connect_without_database();
    let (handle, segment) = segment::create();
    worker::report_application_name(&activity::launcher_name(handle, only));
    worker::report_activity(None);
    Launcher {
        only,
        handle,
        segment,
        schedulers: HashMap::new(),
        was_off: false,
        settings: settings_that_count(),
        clock: WallClock::start(),
        prepared: HashMap::new(),
        complaint: None,
    }
    .run();
    worker::leave();
}

/// Another value of these may let work go on that stood still.
fn settings_that_count() -> (String, i32) {
    (settings::databases(), settings::max_workers())
}

struct Launcher {
    /// 0: all databases.
    only: u32,
    handle: u32,
    segment: &'static Segment,
    schedulers: HashMap<Oid, Handle>,
    was_off: bool,
    /// As they were last seen.
    settings: (String, i32),
    clock: WallClock,
    prepared: HashMap<Oid, Prepared>,
    complaint: Option<SqlState>,
}

/// What is known of the prepared transactions of a database.
struct Prepared {
    /// `Database::prepared` when there was none any more that could have work for us.
    settled: u32,
    looking: u32,
    since: Instant,
}

impl Launcher {
    fn run(mut self) {
        while !self.segment.is_stopping() {
            let pause = match self.visit() {
                Ok(Some(pause)) => pause,
                // The only database we serve is gone, or the extension in it.
                Ok(None) => return,
                Err(error) => {
                    self.complain(error);
                    WITHOUT_ROOM
                }
            };
            worker::wait(pause);
        }
    }

    /// An error is told once, and again when it is another one.
    fn complain(&mut self, error: Error) {
        if self.complaint.replace(error.sqlstate) != Some(error.sqlstate) {
            raise::report(Level::Log, Error { message: format!("pg_upkeep launcher: {}", error.message), ..error });
        }
    }

    /// Sends schedulers where they are due; returns how long nothing else will be.
    fn visit(&mut self) -> Result<Option<Duration>> {
        if !settings::enabled() {
            self.was_off = true;
            return Ok(Some(Duration::from_secs(3600)));
        }
        let settings = settings_that_count();
        let others = std::mem::replace(&mut self.settings, settings) != self.settings;
        if std::mem::take(&mut self.was_off) | self.clock.was_set() | others {
            self.segment.make_all_due();
        }
        let databases = self.databases_in_order()?;
        let now = catalog::now();
        let mut next = NEVER;
        let mut served = false;
        let mut without_room = false;
        for database in databases {
            if (self.only != 0 && database.oid.to_u32() != self.only) || !settings::allows_database(&database.name) {
                registry::chores().iter().for_each(|chore| chore.is_left_alone(database.oid));
                continue;
            }
            let Some(entry) = self.segment.database(database.oid) else { continue };
            if self.only != 0 && entry.absent.load(Ordering::Acquire) != 0 {
                return Ok(None);
            }
            served = true;
            let Some(again) = self.serve(database.oid, entry, now)? else {
                next = next.min(now.saturating_add(WITHOUT_ROOM.as_micros() as i64));
                without_room = true;
                break;
            };
            next = next.min(again);
        }
        self.segment.without_room.store(without_room.into(), Ordering::Release);
        if self.only != 0 && !served {
            return Ok(None);
        }
        let pause = next.saturating_sub(catalog::now()).max(0) as u64;
        let longest = if self.segment.watches_clock() { CLOCK_WATCH } else { LONGEST_PAUSE };
        let longest = registry::chores().iter().filter_map(|chore| chore.longest_pause()).fold(longest, Duration::min);
        Ok(Some(Duration::from_micros(pause).min(longest)))
    }

    /// Those that schedulers can be sent to; what is known of others is forgotten. Where schedulers are few, whoever has waited for the
    /// longest goes first.
    fn databases_in_order(&mut self) -> Result<Vec<catalog::Database>> {
        let mut databases = transaction(|| Ok(catalog::connectable_databases()))?;
        self.schedulers.retain(|_, handle| handle.is_running());
        // A scheduler writes to its entry until it has left, also when its database has become a template.
        self.segment
            .retain(|oid| databases.iter().any(|database| database.oid == oid) || self.schedulers.contains_key(&oid));
        let forgotten = transaction(|| {
            registry::chores().iter().for_each(|chore| chore.forget_databases(&catalog::database_exists));
            Ok(())
        });
        // Who is to be visited does not wait for that.
        match forgotten {
            Ok(()) => self.complaint = None,
            Err(error) => self.complain(error),
        }
        self.prepared.retain(|oid, _| databases.iter().any(|database| database.oid == *oid));
        databases.sort_by_key(|database| {
            self.segment.database(database.oid).map_or(NEVER, |entry| entry.next_due.load(Ordering::Acquire))
        });
        Ok(databases)
    }

    /// Sends a scheduler to this database, or wakes the one that is there, if one is due. When to look again, as a timestamp;
    /// `None`: the server has no place for another worker.
    fn serve(&mut self, database: Oid, entry: &'static Database, now: i64) -> Result<Option<i64>> {
        let after = |pause: Duration| now.saturating_add(pause.as_micros() as i64);
        let prepared = transaction(|| Ok(self.look_at_prepared(database, entry)))?.map_or(NEVER, after);
        if let Some(handle) = self.schedulers.get(&database) {
            if entry.is_due(now)
                && let Some(pid) = handle.pid()
            {
                worker::wake(pid);
            }
            return Ok(Some(prepared));
        }
        let next_due = entry.next_due.load(Ordering::Acquire);
        // A scheduler that was sent away is not sent back for a chore.
        let was_sent_away = next_due <= after(scheduler::HANDS_OFF);
        let chores = registry::chores().iter().filter(|_| !was_sent_away);
        let chore_due = chores.filter_map(|chore| chore.due(database)).min();
        if !entry.is_due(now) && chore_due.is_none_or(|at| at > now) {
            return Ok(Some(prepared.min(next_due).min(chore_due.unwrap_or(NEVER))));
        }
        if self.schedulers.len() > settings::max_workers().max(0) as usize {
            return Ok(Some(prepared.min(after(WITHOUT_ROOM))));
        }
        let Some(handle) = scheduler::start(database, self.handle) else { return Ok(None) };
        // If it dies before it can say when to come back, this holds.
        entry.next_due.store(after(scheduler::HANDS_OFF), Ordering::Release);
        self.schedulers.insert(database, handle);
        Ok(Some(prepared))
    }
}

impl Launcher {
    /// A transaction of this database was prepared that may have work for a scheduler: nobody tells us when it is
    /// committed, so look until it has ended, in growing pauses. The lock that it holds meanwhile outlives a restart of
    /// ours and the server's; hence one look at each database in the beginning.
    fn look_at_prepared(&mut self, oid: Oid, entry: &Database) -> Option<Duration> {
        let count = entry.prepared.load(Ordering::Acquire);
        let nothing_known = Prepared { settled: count.wrapping_sub(1), looking: count, since: Instant::now() };
        let known = self.prepared.entry(oid).or_insert(nothing_known);
        if known.settled == count {
            return None;
        }
        if known.looking != count {
            (known.looking, known.since) = (count, Instant::now());
        }
        if !Lock::new(Purpose::Uncommitted, 0).of(oid).is_free() {
            return Some((known.since.elapsed() / 4).clamp(SHORTEST_WATCH, LONGEST_WATCH));
        }
        known.settled = count;
        entry.wake.fetch_add(1, Ordering::AcqRel);
        None
    }
}

/// The server's clock beside one that nobody can set.
struct WallClock {
    wall: i64,
    steady: Instant,
}

impl WallClock {
    fn start() -> Self {
        WallClock { wall: catalog::now(), steady: Instant::now() }
    }

    /// Was the clock set since the last call?
    fn was_set(&mut self) -> bool {
        let now = WallClock::start();
        let before = std::mem::replace(self, now);
        let expected = before.wall + self.steady.duration_since(before.steady).as_micros() as i64;
        self.wall.abs_diff(expected) > CLOCK_STEP.as_micros() as u64
    }
}
