//! The launcher: one process, connected to no database, that sends a scheduler
//! to each database that wants one, when it wants one.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use pgrx::pg_guard;
use pgrx::pg_sys::{self, Oid};

use super::{activity, scheduler};
use crate::error::Result;
use crate::queries::drain;
use crate::server::catalog;
use crate::server::catch::transaction;
use crate::server::raise::{self, Level};
use crate::server::segment::{self, NEVER, Segment};
use crate::server::worker::{self, Handle, Registration};
use crate::settings;

/// The postmaster brings a launcher back after a crash.
const RESTART: Duration = Duration::from_secs(1);
/// When `max_worker_processes` is used up.
const WITHOUT_ROOM: Duration = Duration::from_secs(5);

/// With schedules, how often at least to look whether the clock was set.
const CLOCK_WATCH: Duration = Duration::from_secs(60);
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

#[pg_guard]
#[unsafe(no_mangle)]
pub extern "C-unwind" fn upkeep_launcher_main(database: pg_sys::Datum) {
    let only = database.value() as u32;
    worker::accept_signals();
    worker::connect_without_database();
    let (handle, segment) = segment::create();
    worker::report_application_name(&activity::launcher_name(handle, only));
    worker::report_activity(None);
    Launcher { only, handle, segment, schedulers: HashMap::new(), was_off: false, clock: WallClock::start() }.run();
    worker::leave();
}

struct Launcher {
    /// 0: all databases.
    only: u32,
    handle: u32,
    segment: &'static Segment,
    schedulers: HashMap<Oid, Handle>,
    was_off: bool,
    clock: WallClock,
}

impl Launcher {
    fn run(mut self) {
        while !self.segment.is_stopping() {
            let pause = match self.visit() {
                Ok(Some(pause)) => pause,
                // The only database we serve is gone, or the extension in it.
                Ok(None) => return,
                Err(error) => {
                    raise::report(Level::Log, error);
                    WITHOUT_ROOM
                }
            };
            worker::wait(pause);
        }
    }

    /// Sends schedulers where they are due; returns how long nothing else will be.
    fn visit(&mut self) -> Result<Option<Duration>> {
        if !settings::enabled() {
            self.was_off = true;
            return Ok(Some(Duration::from_secs(3600)));
        }
        if std::mem::take(&mut self.was_off) | self.clock.was_set() {
            self.segment.make_all_due();
        }
        let databases = transaction(|| Ok(catalog::connectable_databases()))?;
        self.segment.retain(|oid| databases.iter().any(|database| database.oid == oid));
        transaction(|| {
            drain::forget_databases(catalog::database_exists);
            Ok(())
        })?;
        self.schedulers.retain(|_, handle| handle.is_running());

        let now = catalog::now();
        let mut next = NEVER;
        let mut served = false;
        for database in databases {
            if (self.only != 0 && database.oid.to_u32() != self.only) || !settings::allows_database(&database.name) {
                drain::is_left_alone(database.oid);
                continue;
            }
            let Some(entry) = self.segment.database(database.oid) else { continue };
            if self.only != 0 && entry.absent.load(Ordering::Acquire) != 0 {
                return Ok(None);
            }
            served = true;
            if let Some(handle) = self.schedulers.get(&database.oid) {
                if entry.is_due(now)
                    && let Some(pid) = handle.pid()
                {
                    worker::wake(pid);
                }
                continue;
            }
            let next_due = entry.next_due.load(Ordering::Acquire);
            // What statements cost waits to be written down. A scheduler that was sent away is not sent back for that.
            let drain =
                if next_due > now + scheduler::HANDS_OFF.as_micros() as i64 { drain::due(database.oid) } else { None };
            if !entry.is_due(now) && drain.is_none_or(|at| at > now) {
                next = next.min(drain.map_or(next_due, |at| at.min(next_due)));
                continue;
            }
            if self.schedulers.len() > settings::max_workers().max(0) as usize {
                next = next.min(now + WITHOUT_ROOM.as_micros() as i64);
                continue;
            }
            match scheduler::start(database.oid, self.handle) {
                Some(handle) => {
                    // If it dies before it can say when to come back, this holds.
                    entry.next_due.store(now + scheduler::HANDS_OFF.as_micros() as i64, Ordering::Release);
                    self.schedulers.insert(database.oid, handle);
                }
                None => {
                    next = next.min(now + WITHOUT_ROOM.as_micros() as i64);
                    break;
                }
            }
        }
        if self.only != 0 && !served {
            return Ok(None);
        }
        let pause = next.saturating_sub(catalog::now()).max(0) as u64;
        let longest = if self.segment.is_scheduled() { CLOCK_WATCH } else { Duration::from_secs(24 * 3600) };
        // Nobody tells us when the first statement after a quiet time was counted.
        let longest = drain::longest_pause().map_or(longest, |pause| longest.min(pause));
        Ok(Some(Duration::from_micros(pause).min(longest)))
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
