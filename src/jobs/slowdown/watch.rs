//! The scheduler's part: work and rest in turns, what statements take in both, and what follows from that.

use std::time::Duration;

use pg_upkeep_memory::board::{Board, Pace};
use pg_upkeep_memory::counters::Eye;

use super::compare::{Felt, Statements};
use super::control::{Bounds, Control};
use super::crowd::Crowds;
use crate::jobs::registry;
use crate::server::{sessions, system};
use crate::settings;

/// From the beginning of a rest until all workers rest, and what they have left behind is over.
const SETTLE: Duration = Duration::from_millis(20);
/// What is looked at of a rest.
const REST: Duration = Duration::from_millis(120);
/// A look at a rest that comes so late has seen work, too.
const LATE: Duration = Duration::from_millis(15);
/// Work between two rests: somewhere between, so that nothing that comes regularly always falls into the one or the other.
const WORK: (Duration, Duration) = (Duration::from_millis(300), Duration::from_millis(700));
/// Where nobody counts statements, one looks so often at who is at one.
const GLANCE: Duration = Duration::from_millis(10);
/// With nobody there, one looks so often.
const ALONE: Duration = Duration::from_millis(500);
/// At full speed that nobody is disturbed by, rests are so much rarer.
const RARE: u32 = 2;
/// What was known so long ago still says where to begin.
const REMEMBERED: Duration = Duration::from_secs(600);
/// What is kept of what was known before, at each turn: a few seconds' worth, or half a minute's when there is little to go by.
const KEEP: (f64, f64) = (0.9, 0.985);
/// Judged by so many calls, all is well known.
const MANY: f64 = 400.0;
/// Fewer calls are not judged by; what is expected of a job outweighs the first of them anyway.
const FEWEST: f64 = 20.0;
/// With fewer in a look there is nobody to be noticed by.
const NOBODY: u64 = 2;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Phase {
    /// Nobody was there.
    Alone,
    Work,
    /// All are coming to rest, and then rest until then.
    Settle(Duration),
    Rest(Duration),
}

pub struct Watch {
    eye: Eye,
    statements: Statements,
    crowds: Crowds,
    /// Since when the kernel's figures have not been read, and what they were.
    stalled: Option<(Duration, [Duration; 2])>,
    control: Control,
    phase: Phase,
    next: Duration,
    /// It has looked before.
    begun: bool,
    /// Calls of this turn.
    calls: u64,
    /// The share of the work that is known, and how many calls that is known of; the older ones count less.
    share: f64,
    shared: f64,
    chance: u64,
    felt: Option<Felt>,
    /// By latencies of statements; else by who is at one, and for what he waits.
    by_figures: bool,
}

impl Default for Watch {
    fn default() -> Self {
        Watch {
            eye: Eye::default(),
            statements: Statements::default(),
            crowds: Crowds::default(),
            stalled: None,
            control: Control::default(),
            phase: Phase::Alone,
            next: Duration::ZERO,
            begun: false,
            calls: 0,
            share: 0.0,
            shared: 0.0,
            chance: 0x2545_F491_4F6C_DD1D,
            felt: None,
            by_figures: false,
        }
    }
}

impl Watch {
    /// Looks if it is time to, for so many workers that are at work. `own`: jobs have limits of their own. Returns when to come again.
    pub fn visit(&mut self, board: &Board, workers: usize, own: bool) -> Duration {
        let now = system::monotonic();
        // Where only jobs have limits, those are theirs.
        let Some(limit) = settings::max_slowdown().or(own.then_some(f64::INFINITY)) else { return ALONE };
        let glances = !self.by_figures;
        if let Some(left) = self.next.checked_sub(now).filter(|left| !left.is_zero()) {
            if glances {
                self.glance();
            }
            return if glances { left.min(GLANCE) } else { left };
        }
        let bounds = Bounds { limit, most: workers.max(1) as f64 };
        if !std::mem::replace(&mut self.begun, true)
            && let Some(pace) = board.pace().filter(|pace| now.saturating_sub(pace.at) < REMEMBERED)
        {
            self.control = Control::remembered(pace.share, pace.cost);
        }
        let counted = self.look(now);
        self.turn(now, counted, bounds);
        let rest_until = match self.phase {
            Phase::Alone | Phase::Work => Duration::ZERO,
            Phase::Settle(until) | Phase::Rest(until) => until,
        };
        board.set_pace(Pace {
            share: self.control.share(bounds),
            alone: self.phase == Phase::Alone,
            workers: bounds.most,
            cost: self.control.cost(),
            felt: self.felt.map(|felt| (felt.typical, felt.tail)),
            rest_until,
            at: now,
        });
        let left = self.next.saturating_sub(now);
        if self.by_figures { left } else { left.min(GLANCE) }
    }

    /// Who is at a statement?
    fn glance(&mut self) {
        match self.phase {
            Phase::Alone | Phase::Work => self.crowds.add(true, sessions::crowd()),
            Phase::Rest(_) => self.crowds.add(false, sessions::crowd()),
            Phase::Settle(_) => {}
        }
    }

    /// What the kernel says of the phase that ends.
    fn note_stalls(&mut self, now: Duration) {
        let Some(total) = system::stalled() else { return };
        if let (Some((since, before)), Phase::Work | Phase::Rest(_)) = (self.stalled, self.phase) {
            let new = std::array::from_fn(|of| total[of].saturating_sub(before[of]));
            self.crowds.stalled(self.phase == Phase::Work, now.saturating_sub(since), new);
        }
        self.stalled = Some((now, total));
    }

    /// Takes what has been executed since the last look. `false`: nobody counts.
    fn look(&mut self, now: Duration) -> bool {
        let (phase, calls, statements) = (self.phase, &mut self.calls, &mut self.statements);
        registry::clients().is_some_and(|clients| {
            clients.look(&mut self.eye, &mut |whose, new| {
                *calls += new.count();
                match phase {
                    Phase::Work => statements.work(whose, new),
                    Phase::Rest(until) if now < until + LATE => statements.rest(whose, new),
                    Phase::Alone | Phase::Settle(_) | Phase::Rest(_) => {}
                }
            })
        })
    }

    /// The next phase begins; after a rest, what the turn has shown is judged.
    fn turn(&mut self, now: Duration, counted: bool, bounds: Bounds) {
        if !self.by_figures {
            self.note_stalls(now);
        }
        let nobody = if counted { self.calls < NOBODY } else { self.crowds.is_empty() };
        match self.phase {
            Phase::Alone | Phase::Rest(_) if nobody => self.begin(Phase::Alone, now + ALONE),
            Phase::Alone | Phase::Work => self.begin(Phase::Settle(now + SETTLE + REST), now + SETTLE),
            Phase::Settle(until) => {
                let until = until.max(now + REST / 2);
                self.begin(Phase::Rest(until), until);
            }
            Phase::Rest(_) => {
                self.judge(bounds);
                let until = now + self.irregular(self.control.share(bounds) >= bounds.most);
                self.begin(Phase::Work, until);
            }
        }
        match self.phase {
            Phase::Alone => {
                self.crowds.forget_turn();
                self.by_figures = counted;
                self.felt = None;
                self.calls = 0;
            }
            Phase::Work => self.calls = 0,
            Phase::Settle(_) | Phase::Rest(_) => {}
        }
    }

    fn begin(&mut self, phase: Phase, next: Duration) {
        self.phase = phase;
        self.next = next;
    }

    fn judge(&mut self, bounds: Bounds) {
        let share = self.control.share(bounds);
        let surprised =
            self.statements.turn().is_some_and(|turn| turn.calls >= FEWEST && self.control.is_surprised(turn, share));
        let known = self.felt.is_some_and(|felt| felt.calls >= MANY);
        let keep = match (surprised, known) {
            (true, _) => 0.0,
            (false, true) => KEEP.0,
            (false, false) => KEEP.1,
        };
        let weight = (self.calls as f64).max(1.0);
        self.shared = self.shared * keep + weight;
        self.share += (share - self.share) * weight / self.shared;
        let figures = self.statements.end_turn(keep).filter(|felt| felt.calls >= FEWEST);
        let felt = figures.or(self.crowds.end_turn(keep)).filter(|felt| felt.calls >= FEWEST);
        match felt {
            Some(felt) => self.control.felt(felt, self.share, bounds),
            None => self.control.unjudged(bounds),
        }
        self.felt = felt;
        self.by_figures = figures.is_some();
    }

    fn irregular(&mut self, rarely: bool) -> Duration {
        // xorshift
        self.chance ^= self.chance << 13;
        self.chance ^= self.chance >> 7;
        self.chance ^= self.chance << 17;
        let part = (self.chance >> 11) as f64 / (1_u64 << 53) as f64;
        let work = WORK.0 + (WORK.1 - WORK.0).mul_f64(part);
        if rarely { work * RARE } else { work }
    }
}
