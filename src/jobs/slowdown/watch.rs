//! The scheduler's part: work and rest in turns, what statements take in both, and what follows from that.

use std::collections::HashMap;
use std::time::Duration;

use pg_upkeep_memory::board::{Board, Pace};
use pg_upkeep_memory::counters::{Eye, Whose};
use pg_upkeep_memory::histogram::Histogram;

use super::compare::{Calm, Felt, compare};
use super::control::{Bounds, Control};
use crate::jobs::registry;
use crate::server::system;
use crate::settings;

/// At work one looks so often.
const LOOK: Duration = Duration::from_millis(500);
/// From the beginning of a rest until all workers rest, and what they have left behind is over.
const SETTLE: Duration = Duration::from_millis(60);
/// What is looked at of a rest.
const REST: Duration = Duration::from_millis(340);
/// Work between two rests: somewhere between, so that nothing that comes regularly always falls into the one or the other.
const WORK: (Duration, Duration) = (Duration::from_millis(2000), Duration::from_millis(5000));
/// Of what was known of rests before, kept at each.
const KEEP: f32 = 0.93;
/// Fewer calls are not judged by: they wait for those of the next look.
const FEWEST: f64 = 200.0;
/// With fewer in a look there is nobody to be noticed by.
const NOBODY: u64 = 2;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Phase {
    Begin,
    /// Until the next rest.
    Work {
        until: Duration,
    },
    /// All are coming to rest.
    Settle {
        until: Duration,
    },
    Rest {
        until: Duration,
    },
}

/// What the last looks have found, for people to see.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Seen {
    pub felt: Option<Felt>,
    pub alone: bool,
    pub share: f64,
    pub workers: f64,
}

pub struct Watch {
    eye: Eye,
    calm: HashMap<Whose, Calm>,
    /// Since it was last judged.
    at_work: HashMap<Whose, Histogram>,
    at_rest: HashMap<Whose, Histogram>,
    control: Control,
    phase: Phase,
    next: Duration,
    /// What rests look like beside earlier ones: what has changed without us.
    drift: f64,
    chance: u64,
    pub seen: Seen,
}

impl Default for Watch {
    fn default() -> Self {
        Watch {
            eye: Eye::default(),
            calm: HashMap::new(),
            at_work: HashMap::new(),
            at_rest: HashMap::new(),
            control: Control::default(),
            phase: Phase::Begin,
            next: Duration::ZERO,
            drift: 1.0,
            chance: 0x2545_F491_4F6C_DD1D,
            seen: Seen::default(),
        }
    }
}

impl Watch {
    /// Looks if it is time to, for so many workers that are at work. Returns when to come again.
    pub fn visit(&mut self, board: &Board, workers: usize) -> Duration {
        let now = system::monotonic();
        let Some(limit) = settings::max_slowdown() else { return LOOK };
        if let Some(left) = self.next.checked_sub(now).filter(|left| !left.is_zero()) {
            return left;
        }
        let mut calls = 0;
        let mut into = match self.phase {
            Phase::Work { .. } => Some(&mut self.at_work),
            Phase::Rest { .. } => Some(&mut self.at_rest),
            Phase::Begin | Phase::Settle { .. } => None,
        };
        let counted = registry::clients().is_some_and(|clients| {
            clients.look(&mut self.eye, &mut |whose, new| {
                calls += new.count();
                if let Some(into) = &mut into {
                    into.entry(whose).or_default().merge(new);
                }
            })
        });
        let bounds = Bounds { limit, most: workers.max(1) as f64 };
        if counted {
            self.turn(now, calls, bounds);
        } else {
            self.seen.alone = true;
            self.begin(Phase::Begin, now + LOOK);
        }
        let rest_until = match self.phase {
            Phase::Begin | Phase::Work { .. } => Duration::ZERO,
            Phase::Settle { until } => until + REST,
            Phase::Rest { until } => until,
        };
        self.seen = Seen { share: self.control.share(bounds), workers: bounds.most, ..self.seen };
        let Seen { share, alone, workers, .. } = self.seen;
        board.set_pace(Pace { share, alone, workers, rest_until, at: now });
        self.next.saturating_sub(now)
    }

    /// What was looked at is judged, and the next phase begins if it is time.
    fn turn(&mut self, now: Duration, calls: u64, bounds: Bounds) {
        match self.phase {
            Phase::Work { until } => {
                self.judge(bounds, now >= until);
                self.seen.alone = calls < NOBODY;
                if self.seen.alone || now < until {
                    self.next = now + LOOK.min(until.saturating_sub(now).max(Duration::from_millis(1)));
                    if self.seen.alone {
                        self.next = now + LOOK;
                    }
                    return;
                }
                self.begin(Phase::Settle { until: now + SETTLE }, now + SETTLE);
            }
            Phase::Begin => self.begin(Phase::Settle { until: now + SETTLE }, now + SETTLE),
            Phase::Settle { .. } if calls < NOBODY => {
                self.seen.alone = true;
                self.begin(Phase::Work { until: now }, now + LOOK);
            }
            Phase::Settle { .. } => self.begin(Phase::Rest { until: now + REST }, now + REST),
            Phase::Rest { .. } => {
                self.learn();
                self.seen.alone = calls < NOBODY;
                let until = now + self.irregular();
                self.begin(Phase::Work { until }, now + LOOK);
            }
        }
    }

    fn begin(&mut self, phase: Phase, next: Duration) {
        self.phase = phase;
        self.next = next;
    }

    /// `ends`: there will be no more of it before the next rest.
    fn judge(&mut self, bounds: Bounds, ends: bool) {
        let felt = self.felt(&self.at_work);
        match felt {
            Some(felt) if felt.calls >= FEWEST || ends => {
                self.control.felt(felt.slowdown() / self.drift, felt.calls, bounds);
                self.seen.felt =
                    Some(Felt { typical: felt.typical / self.drift, tail: felt.tail / self.drift, ..felt });
                self.at_work.clear();
            }
            None if ends => self.at_work.clear(),
            _ => {}
        }
    }

    fn felt(&self, calls: &HashMap<Whose, Histogram>) -> Option<Felt> {
        compare(calls.iter().filter_map(|(whose, calls)| Some((self.calm.get(whose)?, calls))))
    }

    /// A rest has ended: it is what there is without us. If it is not what rests were, something else has changed, and what is seen at
    /// work is not ours to that part.
    fn learn(&mut self) {
        if let Some(felt) = self.felt(&self.at_rest).filter(|felt| felt.calls >= FEWEST) {
            self.drift = (0.6 * self.drift + 0.4 * felt.slowdown()).clamp(0.8, 5.0);
        }
        // What is executed no more is forgotten.
        self.calm.retain(|whose, calm| self.at_rest.contains_key(whose) || calm.fades(KEEP));
        for (whose, calls) in self.at_rest.drain() {
            self.calm.entry(whose).or_default().add(&calls, KEEP);
        }
    }

    fn irregular(&mut self) -> Duration {
        // xorshift
        self.chance ^= self.chance << 13;
        self.chance ^= self.chance >> 7;
        self.chance ^= self.chance << 17;
        let part = (self.chance >> 11) as f64 / (1_u64 << 53) as f64;
        WORK.0 + (WORK.1 - WORK.0).mul_f64(part)
    }
}
