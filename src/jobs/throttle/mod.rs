//! What holds a job back: the database's own trouble, its limits, its hours.
//!
//! The scheduler takes samples ([`sampler`]) and puts them on the board in shared memory; an executor judges by them
//! before each step ([`inputs`]), without SQL, without a transaction and holding no snapshot (LAWS 14, 15).

pub mod calendar;
pub mod history;
pub mod hours;
pub mod inputs;
pub mod lag;
pub mod patience;
pub mod policy;
pub mod sample;
pub mod sampler;
pub mod show;
pub mod waiters;
pub mod wal_rate;

use std::time::Duration;

use self::history::History;
use self::inputs::{Facts, Held};
use self::patience::Patience;
use self::policy::Policy;
use self::sample::Sample;
use self::waiters::Consideration;
use self::wal_rate::Bucket;
use super::kind::{Event, Job};
use super::limits::Limits;
use super::portions::Portions;
use super::registry;
use super::slowdown::pace::{self, May, Slowed};
use crate::jobs::raw::segment;
use crate::server::{Oid, catalog, lock, system};
use crate::settings;
use pg_upkeep_memory::board::Mark;

/// An older sample says nothing any more.
const STALE: Duration = Duration::from_secs(5);
/// How often somebody who is held back looks again.
const LOOK_AGAIN: Duration = Duration::from_millis(200);
/// With a limit on WAL, a step and its pause together should be no longer than this.
const CYCLE: Duration = Duration::from_millis(500);
const SHORTEST_BATCH: Duration = Duration::from_millis(10);

/// What keeps the next step back, and for how long at least.
#[derive(Clone, Debug, PartialEq)]
pub struct Hold {
    pub input: &'static str,
    pub reason: String,
    pub pause: Duration,
}

impl Hold {
    /// It belongs to the job's pace.
    pub fn is_pace(&self) -> bool {
        [REST, SLOWDOWN].contains(&self.input)
    }
}

/// The throttle of one executor.
pub struct Throttle {
    /// The launcher's segment, with the board.
    segment: u32,
    limits: Limits,
    /// The table of the next step.
    relid: Option<u32>,
    /// May the owner know standbys by their names?
    names: bool,
    sample: Option<(Duration, Sample)>,
    bucket: Bucket,
    worked: bool,
    rest_until: Duration,
    /// The length of a step that a limit on WAL leaves.
    paced_batch: Option<Duration>,
    last_step: Duration,
    step_ended: Duration,
    consideration: Consideration,
    patience: Patience,
    /// It works in portions, and can go slower.
    paced: bool,
    /// How fast it goes if what others feel slows it down, and since when it has gone so slowly that it is told of.
    slowed: Option<Slowed>,
    slow_since: Option<Duration>,
    /// The share of its time that its limits leave it.
    ratio: f64,
    pub history: History,
}

impl Throttle {
    /// `held_until`: so long the worker before was to wait, in µs of the server's clock.
    pub fn new(segment: u32, job: &Job, limits: Limits, held_until: Option<i64>) -> Self {
        let left = held_until.map_or(0, |until| until.saturating_sub(catalog::now()).clamp(0, LONGEST_DEBT));
        Throttle {
            segment,
            limits,
            relid: None,
            names: catalog::may_see_statistics(job.owner),
            sample: None,
            bucket: Bucket::default(),
            worked: false,
            rest_until: system::monotonic() + Duration::from_micros(left as u64),
            paced_batch: None,
            last_step: Duration::ZERO,
            step_ended: Duration::ZERO,
            consideration: Consideration::default(),
            patience: Patience::default(),
            paced: registry::nature(&job.kind).is_paced(),
            slowed: None,
            slow_since: None,
            ratio: 1.0,
            history: History::default(),
        }
    }

    /// The limits as they are now.
    pub fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// The launcher is another one: this is its segment.
    pub fn follow(&mut self, segment: u32, portions: &Portions) {
        self.segment = segment;
        portions.view.follow(segment, registry::clients());
    }

    /// May the next step be made, on this table? `None`: yes.
    pub fn hold(&mut self, table: Option<Oid>, portions: &Portions) -> Option<Hold> {
        self.relid = table.map(|relid| relid.to_u32());
        let now = system::monotonic();
        let policy = Policy::of(settings::throttles(), &self.limits);
        portions.view.limit(policy.slowdown.filter(|_| self.paced));
        let by_wal = self.by_wal_rate(&policy, now);
        self.by_sample(&policy, now)
            .or(by_wal)
            .or_else(|| by_slowdown(portions, now))
            .or_else(|| self.by_rest(portions, now))
    }

    fn by_sample(&mut self, policy: &Policy, now: Duration) -> Option<Hold> {
        let board = segment::attach(self.segment).map(|segment| &segment.board);
        if let Some(board) = board
            && board.taken_at() != self.sample.as_ref().map(|(at, _)| *at)
            && let Some((bytes, at)) = board.read()
        {
            self.sample = Sample::decode(&bytes).map(|sample| (at, sample));
        }
        let fresh = self.sample.as_ref().filter(|(at, _)| now.saturating_sub(*at) < STALE);
        let Some((_, sample)) = fresh else {
            let since = self
                .sample
                .as_ref()
                .map_or_else(String::new, |(at, _)| format!(", none for {} s", now.saturating_sub(*at).as_secs()));
            return policy.needs_figures().then(|| Hold {
                input: FIGURES,
                reason: format!("waits for figures of the server{since}"),
                pause: LOOK_AGAIN / 4,
            });
        };
        self.patience.look(sample.vacuums.iter().map(|vacuum| vacuum.pid));
        let facts = Facts {
            sample,
            policy,
            wal: system::wal_insert_position(),
            database: catalog::my_database().to_u32(),
            relid: self.relid,
            outwaited: self.patience.outwaited(),
            names: self.names,
        };
        let Held { input, reason } = inputs::judge(&facts)?;
        if input == inputs::VACUUM {
            let mine = |vacuum: &&sample::Vacuum| Some(vacuum.relid) == self.relid;
            for pid in sample.vacuums.iter().filter(mine).map(|vacuum| vacuum.pid) {
                if self.patience.is_over(pid, now) {
                    let detail = format!("goes on beside VACUUM (process {pid}) after {} s", patience::LIMIT.as_secs());
                    self.history.tell(Event { event: "vacuum", detail });
                }
            }
        }
        Some(Hold { input, reason, pause: LOOK_AGAIN })
    }

    fn by_wal_rate(&mut self, policy: &Policy, now: Duration) -> Option<Hold> {
        let Some(rate) = policy.wal_rate else {
            self.bucket = Bucket::default();
            self.paced_batch = None;
            return None;
        };
        let mark = Mark { wal: system::wal_insert_position(), at: now };
        let pause = self.bucket.wait(mark, rate, std::mem::take(&mut self.worked));
        if pause.is_zero() {
            return None;
        }
        let kilobytes = |rate: f64| rate / 1024.0;
        let seen = kilobytes(self.bucket.seen);
        Some(Hold {
            input: WAL_RATE,
            reason: format!("WAL rate {seen:.0} kB/s (limit {:.0} kB/s)", kilobytes(rate as f64)),
            pause: pause.clamp(Duration::from_millis(1), Duration::from_secs(1)),
        })
    }

    fn by_rest(&mut self, portions: &Portions, now: Duration) -> Option<Hold> {
        // Who is gone needs no rest. After a step that could not be divided it would go on for seconds.
        if self.ratio >= 1.0 && portions.view.may() == May::Work(1.0) {
            self.rest_until = now;
        }
        let left = self.rest_until.checked_sub(now).filter(|left| !left.is_zero())?;
        Some(Hold {
            input: REST,
            reason: "rests after its last batch, as its limits want it".into(),
            pause: left.clamp(Duration::from_millis(1), LOOK_AGAIN),
        })
    }

    /// Until when the last step is to be made up for, in µs of the server's clock.
    pub fn held_until(&mut self) -> Option<i64> {
        let now = system::monotonic();
        let policy = Policy::of(settings::throttles(), &self.limits);
        let mark = Mark { wal: system::wal_insert_position(), at: now };
        let by_wal = policy.wal_rate.map_or(Duration::ZERO, |rate| self.bucket.wait(mark, rate, false));
        let left = by_wal.max(self.rest_until.saturating_sub(now));
        let micros = i64::try_from(left.as_micros()).unwrap_or(LONGEST_DEBT).min(LONGEST_DEBT);
        (micros > 0).then(|| catalog::now() + micros)
    }

    /// A step begins: how long may it take?
    pub fn begin_step(&mut self, usual: Duration, portions: &Portions) -> Duration {
        let now = system::monotonic();
        if !self.last_step.is_zero() {
            self.pace(now.saturating_sub(self.step_ended), usual);
        }
        let policy = Policy::of(settings::throttles(), &self.limits);
        portions.view.limit(policy.slowdown.filter(|_| self.paced));
        let share = portions.grant(policy.work_ratio);
        self.slowed = portions.view.slowed().filter(|slowed| slowed.share < policy.work_ratio);
        self.ratio = policy.work_ratio;
        let considerate = self.consideration.batch_time(usual);
        let paced = self.paced_batch.map_or(considerate, |paced| paced.min(considerate));
        let batch_time = Portions::longest_step(share, paced);
        portions.begin(share, batch_time, policy.wal_rate.is_some());
        batch_time
    }

    /// Is it what others feel that slows it down?
    pub fn is_slowed(&self) -> bool {
        self.slowed.is_some()
    }

    /// How fast the job goes, and why not faster.
    pub fn slowed(&self) -> Option<String> {
        let by_ratio = || format!("goes at {} % (throttle_work_ratio)", pace::percent(self.ratio));
        let by_others = self.slowed.as_ref().map(|slowed| slowed.text.clone());
        by_others.or_else(|| (self.paced && self.ratio < 1.0).then(by_ratio))
    }

    /// Half of the time, and less, is told of when it lasts.
    fn tell_of_pace(&mut self, now: Duration) {
        const WORTH_A_WORD: f64 = 0.5;
        const LASTS: Duration = Duration::from_secs(10);
        let Some(slowed) = self.slowed.as_ref().filter(|slowed| slowed.share < WORTH_A_WORD) else {
            self.slow_since = None;
            return;
        };
        if now.saturating_sub(*self.slow_since.get_or_insert(now)) >= LASTS {
            self.history.tell_seldom(SLOWDOWN, now, slowed.text.clone());
        }
    }

    /// Long steps with long pauses become short ones with short ones.
    fn pace(&mut self, paused: Duration, usual: Duration) {
        if self.limits.max_wal_rate.is_none() && settings::throttles().wal_rate.is_none() {
            return;
        }
        let cycle = self.last_step + paused;
        if cycle > CYCLE && paused > self.last_step {
            let share = CYCLE.as_secs_f64() / cycle.as_secs_f64();
            self.paced_batch = Some(self.last_step.mul_f64(share).clamp(SHORTEST_BATCH.min(usual), usual));
        } else if cycle < CYCLE / 2 {
            self.paced_batch = self.paced_batch.map(|batch| batch.mul_f64(1.25)).filter(|batch| *batch < usual);
        }
    }

    /// A step has been committed.
    pub fn end_step(&mut self, took: Duration, usual: Duration, claimed: bool, portions: &Portions) {
        let now = system::monotonic();
        self.rest_until = now + portions.end();
        self.tell_of_pace(now);
        self.worked = true;
        self.last_step = took;
        self.step_ended = now;
        // Whoever waits for a step that takes its next portion is another worker of the job.
        let somebody_waits = lock::somebody_waited() && !claimed;
        self.consideration.note(somebody_waits, usual);
        if somebody_waits {
            let batch = self.consideration.batch_time(usual).as_millis();
            self.history.tell_seldom(
                WAITERS,
                now,
                format!("another session waited for rows of a batch: batches of {batch} ms for a while"),
            );
        }
    }
}

/// What statements take without jobs is measured now and then.
fn by_slowdown(portions: &Portions, now: Duration) -> Option<Hold> {
    let May::RestUntil(until) = portions.view.may() else { return None };
    let pause = until.saturating_sub(now).clamp(Duration::from_millis(1), LOOK_AGAIN);
    Some(Hold { input: SLOWDOWN, reason: "rests to see what statements take without it (max_slowdown)".into(), pause })
}

/// An hour, in µs: a clock may have been set meanwhile.
const LONGEST_DEBT: i64 = 3_600_000_000;

/// Inputs that are not read off a sample.
pub const FIGURES: &str = "figures";
pub const REST: &str = "work ratio";
pub const SLOWDOWN: &str = "slowdown";
pub const WAL_RATE: &str = "WAL rate";
const WAITERS: &str = "waiting sessions";
