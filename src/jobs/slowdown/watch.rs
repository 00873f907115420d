//! The scheduler's part: work and rest in turns, what statements take in both, and what follows from that.

use std::time::Duration;

use pg_upkeep_memory::board::{Board, Pace};
use pg_upkeep_memory::counters::Eye;

use super::compare::{Felt, Statements};
use super::control::{Bounds, Control, FEWEST};
use super::crowd::Crowds;
use crate::jobs::registry;
use crate::jobs::shares::Workers;
use crate::server::{sessions, system};
use crate::settings;

/// From the beginning of a rest until all workers rest, and what they have left behind is over.
const SETTLE: Duration = Duration::from_millis(20);
/// What is looked at of a rest.
const REST: Duration = Duration::from_millis(120);
/// A look that comes so late has seen something else, too.
const LATE: Duration = Duration::from_millis(15);
/// Work between two rests: somewhere between, so that nothing that comes regularly always falls into the one or the other.
const WORK: (Duration, Duration) = (Duration::from_millis(300), Duration::from_millis(700));
/// At full speed that nobody is disturbed by, rests are so much rarer.
const RARE: u32 = 2;
/// With nobody there, one looks so often: at first, and when that has lasted.
const ALONE: (Duration, Duration) = (Duration::from_millis(50), Duration::from_millis(500));
/// Where nobody counts statements, one looks so often at who is at one.
const GLANCE: Duration = Duration::from_millis(10);
/// With fewer calls in a turn, and nobody at a statement, there is nobody to be noticed by.
const NOBODY: u64 = 2;
/// Jobs that work less than this part of the time are held back by something else: nothing is learnt of what they cost.
const AT_WORK: f64 = 0.002;
/// Who is still at a portion of his work when a rest is to begin is waited for. For this long.
const PATIENCE: Duration = Duration::from_secs(2);
/// Whoever has not looked for so long has missed what came between.
const ASLEEP: Duration = Duration::from_secs(10);
/// What was known so long ago still says where to begin.
const REMEMBERED: Duration = Duration::from_secs(600);

#[derive(Clone, Copy, Debug, PartialEq)]
enum Phase {
    /// Nobody was there. The next look is so long after the last.
    Alone(Duration),
    Work,
    /// All are coming to rest, and then rest until then.
    Settle(Duration),
    Rest(Duration),
}

/// Work of one turn.
#[derive(Clone, Copy, Default)]
struct Worked {
    since: Duration,
    /// On the board's account, as it began.
    before: Duration,
    /// The part of the time that was spent at it.
    share: f64,
}

/// How things stand at a look.
struct At {
    now: Duration,
    /// All that has been worked up to now.
    worked: Duration,
    busy_since: Option<Duration>,
    /// Clients that are at a statement. Of a long one, or one that is stuck, nothing has been counted yet.
    active: u32,
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
    /// Since when all are to come to rest.
    settling: Duration,
    /// When the portion began whose end did not come in time.
    outwaited: Option<Duration>,
    /// It has looked before.
    begun: bool,
    /// Calls of this turn.
    calls: u64,
    worked: Worked,
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
            phase: Phase::Alone(ALONE.0),
            next: Duration::ZERO,
            settling: Duration::ZERO,
            outwaited: None,
            begun: false,
            calls: 0,
            worked: Worked::default(),
            share: 0.0,
            shared: 0.0,
            chance: 0x2545_F491_4F6C_DD1D,
            felt: None,
            by_figures: false,
        }
    }
}

impl Watch {
    /// Looks if it is time to, for so many workers that are at work. Returns when to come again.
    pub fn visit(&mut self, board: &Board, workers: Workers) -> Duration {
        let now = system::monotonic();
        if self.begun && now.saturating_sub(self.next) > ASLEEP {
            *self = Watch::default();
        }
        if let Some(left) = self.next.checked_sub(now).filter(|left| !left.is_zero()) {
            if !self.by_figures {
                self.glance();
            }
            return self.wait(left);
        }
        // Where the server has no limit, jobs may have theirs.
        let limit = settings::max_slowdown().unwrap_or(f64::INFINITY);
        let bounds = Bounds { limit, most: workers.sharing.max(1) as f64 };
        self.begin_watch(board, now);
        let (workers, ended) = self.without_outwaited(workers, now);
        let worked = board.worked() + workers.unbooked;
        let at = At { now, worked, busy_since: workers.busy_since, active: sessions::crowd().active };
        let counted = self.look(&at);
        if ended && !matches!(self.phase, Phase::Alone(_)) {
            self.begin_turn(&at, bounds);
        } else {
            self.turn(&at, counted, bounds);
        }
        let rest_until = match self.phase {
            Phase::Alone(_) | Phase::Work => Duration::ZERO,
            Phase::Settle(until) | Phase::Rest(until) => until,
        };
        board.set_pace(Pace {
            share: self.control.share(bounds),
            alone: matches!(self.phase, Phase::Alone(_)),
            workers: bounds.most,
            cost: self.control.cost(),
            felt: self.felt.map(|felt| (felt.typical, felt.tail)),
            rest_until,
            at: now,
        });
        self.wait(self.next.saturating_sub(now))
    }

    /// A portion whose end did not come in time is what it is, beside work and rest alike: the others go on. `true`: it has come to its
    /// end, and is on the account as a whole.
    fn without_outwaited(&mut self, workers: Workers, now: Duration) -> (Workers, bool) {
        let Some(since) = self.outwaited else { return (workers, false) };
        if workers.busy_since != Some(since) {
            self.outwaited = None;
            return (workers, true);
        }
        let unbooked = workers.unbooked.saturating_sub(now.saturating_sub(since));
        (Workers { unbooked, busy_since: None, ..workers }, false)
    }

    fn wait(&self, left: Duration) -> Duration {
        if self.by_figures { left } else { left.min(GLANCE) }
    }

    /// Whoever has watched before, in another process perhaps, has learnt something.
    fn begin_watch(&mut self, board: &Board, now: Duration) {
        if !std::mem::replace(&mut self.begun, true)
            && let Some(pace) = board.pace().filter(|pace| now.saturating_sub(pace.at) < REMEMBERED)
        {
            self.control = Control::remembered(pace.share, pace.cost);
        }
    }

    /// Who is at a statement?
    fn glance(&mut self) {
        match self.phase {
            Phase::Alone(_) | Phase::Work => self.crowds.add(true, sessions::crowd()),
            Phase::Rest(_) => self.crowds.add(false, sessions::crowd()),
            Phase::Settle(_) => {}
        }
    }

    /// What the kernel says of the phase that ends.
    fn note_stalls(&mut self, now: Duration) {
        let total = if self.by_figures { None } else { system::stalled() };
        if let (Some(total), Some((since, before)), Phase::Work | Phase::Rest(_)) = (total, self.stalled, self.phase) {
            let new = std::array::from_fn(|of| total[of].saturating_sub(before[of]));
            self.crowds.stalled(self.phase == Phase::Work, now.saturating_sub(since), new);
        }
        self.stalled = total.map(|total| (now, total));
    }

    /// Takes what has been executed since the last look. `false`: nobody counts.
    fn look(&mut self, at: &At) -> bool {
        let (phase, calls, statements) = (self.phase, &mut self.calls, &mut self.statements);
        registry::clients().is_some_and(|clients| {
            clients.look(&mut self.eye, &mut |whose, new| {
                *calls += new.count();
                match phase {
                    Phase::Work => statements.work(whose, new),
                    // Beside somebody who is at it still.
                    Phase::Settle(_) if at.busy_since.is_some() => statements.work(whose, new),
                    Phase::Rest(until) if at.now < until + LATE => statements.rest(whose, new),
                    Phase::Alone(_) | Phase::Settle(_) | Phase::Rest(_) => {}
                }
            })
        })
    }

    /// The next phase begins; after a rest, what the turn has shown is judged.
    fn turn(&mut self, at: &At, counted: bool, bounds: Bounds) {
        let now = at.now;
        self.note_stalls(now);
        let somebody = at.active > 0 || if counted { self.calls >= NOBODY } else { !self.crowds.is_empty() };
        match self.phase {
            Phase::Alone(last) if !somebody => self.alone(now, (last * 2).min(ALONE.1), counted),
            Phase::Rest(_) if !somebody => self.alone(now, ALONE.0, counted),
            Phase::Alone(_) | Phase::Work => {
                if self.phase == Phase::Work {
                    self.note_share(at);
                } else {
                    self.crowds.forget_turn();
                    self.worked = Worked { since: now, before: at.worked, share: 0.0 };
                }
                self.settling = now;
                self.settle(now);
            }
            // What cannot be divided goes on: that is work, and the others rest until it has ended.
            Phase::Settle(_) if at.busy_since.is_some() => {
                if now.saturating_sub(self.settling) < PATIENCE {
                    self.note_share(at);
                    self.settle(now);
                } else {
                    self.outwaited = at.busy_since;
                    self.control.unseen(bounds);
                    self.begin_turn(at, bounds);
                }
            }
            Phase::Settle(until) if until.saturating_sub(now) >= REST / 2 => self.begin(Phase::Rest(until), until),
            Phase::Settle(_) => self.begin_turn(at, bounds),
            Phase::Rest(until) => {
                // In time for its end, and nobody has worked in it.
                let seen = now < until + LATE && at.busy_since.is_none_or(|since| since >= until);
                if seen && self.worked.share >= AT_WORK {
                    self.judge(at, bounds);
                }
                self.begin_turn(at, bounds);
            }
        }
    }

    /// Which part of the time of this turn was spent at work.
    fn note_share(&mut self, at: &At) {
        let time = at.now.saturating_sub(self.worked.since).as_secs_f64();
        let worked = at.worked.saturating_sub(self.worked.before).as_secs_f64();
        self.worked.share = worked / time.max(f64::MIN_POSITIVE);
    }

    fn begin_turn(&mut self, at: &At, bounds: Bounds) {
        self.forget_turn();
        self.worked = Worked { since: at.now, before: at.worked, share: 0.0 };
        let next = at.now + self.irregular(self.control.share(bounds) >= bounds.most);
        self.begin(Phase::Work, next);
    }

    /// What has not been judged of the last one will not be.
    fn forget_turn(&mut self) {
        self.statements.forget_turn();
        self.crowds.forget_turn();
        self.calls = 0;
    }

    fn alone(&mut self, now: Duration, pause: Duration, counted: bool) {
        self.forget_turn();
        self.by_figures = counted;
        self.felt = None;
        self.begin(Phase::Alone(pause), now + pause);
    }

    fn settle(&mut self, now: Duration) {
        self.begin(Phase::Settle(now + SETTLE + REST), now + SETTLE);
    }

    fn begin(&mut self, phase: Phase, next: Duration) {
        self.phase = phase;
        self.next = next;
    }

    fn judge(&mut self, at: &At, bounds: Bounds) {
        let share = self.worked.share;
        let keep = self.control.keeps(self.statements.turn(), self.felt, share);
        let weight = (self.calls as f64).max(1.0);
        self.shared = self.shared * keep + weight;
        self.share += (share - self.share) * weight / self.shared;
        let figures = self.statements.end_turn(keep).filter(|felt| felt.calls >= FEWEST);
        let felt = figures.or(self.crowds.end_turn(keep)).filter(|felt| felt.calls >= FEWEST);
        match felt {
            Some(felt) => self.control.felt(felt, self.share, bounds),
            // Somebody may be stuck.
            None if at.active > 0 => {}
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

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds = Bounds { limit: 1.2, most: 1.0 };
    const MS: Duration = Duration::from_millis(1);

    /// One worker that works for half of its time, beside a client that is always at something.
    struct World {
        watch: Watch,
        now: Duration,
        worked: Duration,
        busy_since: Option<Duration>,
        workers: usize,
    }

    impl World {
        /// At the beginning of work.
        fn new() -> Self {
            let mut world =
                World { watch: Watch::default(), now: 1000 * MS, worked: Duration::ZERO, busy_since: None, workers: 1 };
            world.watch.by_figures = true;
            world.until(|phase| phase == Phase::Work);
            world
        }

        /// The next look, at its time.
        fn look(&mut self) {
            let next = self.watch.next.max(self.now);
            if self.busy_since.is_some() || self.watch.phase == Phase::Work {
                self.worked += (next - self.now) / 2;
            }
            self.now = next;
            let workers = Workers { sharing: self.workers, unbooked: Duration::ZERO, busy_since: self.busy_since };
            let (workers, ended) = self.watch.without_outwaited(workers, self.now);
            let at = At { now: self.now, worked: self.worked, busy_since: workers.busy_since, active: 1 };
            if ended {
                self.watch.begin_turn(&at, BOUNDS);
            } else {
                self.watch.turn(&at, true, BOUNDS);
            }
        }

        fn until(&mut self, is_reached: impl Fn(Phase) -> bool) {
            (0..1000).find(|_| {
                self.look();
                is_reached(self.watch.phase)
            });
            assert!(is_reached(self.watch.phase), "{:?}", self.watch.phase);
        }

        fn share(&self) -> f64 {
            self.watch.control.share(BOUNDS)
        }
    }

    fn is_settling(phase: Phase) -> bool {
        matches!(phase, Phase::Settle(_))
    }

    fn is_rest(phase: Phase) -> bool {
        matches!(phase, Phase::Rest(_))
    }

    #[test]
    fn a_rest_begins_when_the_portions_in_hand_have_ended() {
        let mut world = World::new();
        let share = world.share();
        world.busy_since = Some(world.now);
        world.until(is_settling);
        let settling = world.now;
        while world.now < settling + 500 * MS {
            world.look();
            assert!(is_settling(world.watch.phase), "somebody is at it still");
        }
        world.busy_since = None;
        let ended = world.now;
        world.until(is_rest);
        assert!(world.now <= ended + 2 * SETTLE, "{:?} later", world.now - ended);
        let Phase::Rest(until) = world.watch.phase else { unreachable!() };
        assert!(until >= world.now + REST / 2);
        assert!(world.watch.worked.share > 0.4, "that was work, too: {}", world.watch.worked.share);
        assert_eq!(world.share(), share);
    }

    #[test]
    fn whose_end_does_not_come_is_not_waited_for_a_second_time() {
        let mut world = World::new();
        let share = world.share();
        let began = world.now;
        world.busy_since = Some(began);
        world.until(is_settling);
        let settling = world.now;
        world.until(|phase| phase == Phase::Work);
        let waited = world.now - settling;
        assert!(waited >= PATIENCE && waited < PATIENCE + 2 * SETTLE + REST, "{waited:?}");
        assert_eq!(world.share(), share / 2.0, "what nobody can see goes slower");
        world.until(is_rest);
        world.until(|phase| phase == Phase::Work);
        assert!(world.now < began + PATIENCE + 3000 * MS, "the others have their turns beside it");
        assert_eq!(world.share(), share / 2.0, "once for a portion");
        // Its end is a turn's beginning: all of its time is on the account at once.
        world.worked += 4000 * MS;
        world.busy_since = None;
        world.look();
        assert_eq!((world.watch.phase, world.watch.outwaited), (Phase::Work, None));
        assert_eq!(world.watch.worked.before, world.worked);
        // The next one that is so long is another.
        world.busy_since = Some(world.now);
        world.until(is_settling);
        world.until(|phase| phase == Phase::Work);
        assert!(world.share() <= share / 4.0, "{}", world.share());
    }

    #[test]
    fn a_rest_that_somebody_worked_in_is_not_judged() {
        let mut world = World::new();
        world.until(is_rest);
        world.busy_since = Some(world.now);
        let before = world.share();
        world.until(|phase| phase == Phase::Work);
        assert_eq!(world.share(), before);
    }
}
