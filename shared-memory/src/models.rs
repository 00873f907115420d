//! Every order of two or three processes' steps, and every value that a processor may show them, tried out by loom: within the
//! bounds that it is given, two or three switches of a process in the middle of its work. Each model is run once more with a mistake
//! made on purpose, and has to find it.

use std::sync::Arc;
use std::time::Duration;

use loom::model::Builder;
use loom::thread;

use crate::Host;
use crate::board::{Board, Mark};
use crate::counters::{Failure, Me, Memory, Own, Owned, Presence, Statement};
use crate::sync::{Mistake, make};

/// Of 2 entries, or fewer.
const DB: u32 = 7;

struct Process(u32);

/// Processes with these numbers are gone.
const GONE: u32 = 666;

impl Host for Process {
    fn pid(&self) -> u32 {
        self.0
    }

    fn is_alive(&self, pid: u32) -> bool {
        pid != GONE
    }

    fn wait(&self, _turn: u32) {
        thread::yield_now();
    }

    fn now(&self) -> i64 {
        1
    }
}

/// A process that counts.
struct Session {
    me: Me,
    own: Own,
    memory: Memory,
}

impl Session {
    fn new(memory: &Owned, number: u32) -> Session {
        Session::of(memory, number, DB)
    }

    fn of(memory: &Owned, number: u32, database: u32) -> Session {
        Session { me: Me { number, pid: number + 1, database }, own: Own::new(), memory: memory.memory() }
    }

    fn count(&mut self, queryid: i64) {
        let statement = Statement { queryid, user: 1, toplevel: true, by_job: false };
        self.memory.count_failure(&mut self.own, self.me, statement, Failure::Error, || 1);
    }
}

/// How often something was counted for `queryid` (0: others), as a reader sees it.
fn counted(memory: Memory, queryid: i64) -> u64 {
    let entries = memory.live(&Process(99), DB);
    entries.iter().filter(|entry| entry.key.queryid == queryid).map(|entry| entry.figures.failures[0]).sum()
}

fn all(memory: Memory) -> u64 {
    memory.live(&Process(99), DB).iter().map(|entry| entry.figures.failures[0]).sum()
}

/// Runs a model, with a mistake or without.
fn model(mistake: Option<Mistake>, preemptions: usize, run: impl Fn() + Sync + Send + 'static) {
    make(mistake);
    let mut builder = Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.max_branches = 5_000;
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| builder.check(run)));
    make(None);
    match (mistake, outcome) {
        (None, Err(cause)) => std::panic::resume_unwind(cause),
        (Some(mistake), Ok(())) => panic!("the model does not find {mistake:?}"),
        (None, Ok(())) | (Some(_), Err(_)) => (),
    }
}

/// One process counts what it has counted before, while another gives the only entry to another statement.
fn an_entry_changes_hands(mistake: Option<Mistake>) {
    model(mistake, 3, || {
        let memory = Arc::new(Owned::new(1, 2));
        let mut first = Session::new(&memory, 0);
        first.count(10);
        let mut second = Session::new(&memory, 1);
        let thread = {
            let memory = Arc::clone(&memory);
            thread::spawn(move || {
                second.count(20);
                drop(memory);
            })
        };
        first.count(10);
        thread.join().unwrap();
        let (ten, twenty) = (counted(memory.memory(), 10), counted(memory.memory(), 20));
        assert!(twenty <= 1, "{twenty} counted for a statement that was counted once");
        assert!(ten <= 2, "{ten}");
        assert_eq!(all(memory.memory()), 3, "sums are exact");
    });
}

#[test]
fn nothing_is_counted_for_another_statement() {
    an_entry_changes_hands(None);
}

#[test]
fn a_generation_changed_too_late_is_found() {
    an_entry_changes_hands(Some(Mistake::LookBeforeGeneration));
}

/// A database that was here before this one is forgotten while two processes of this one look for its place.
fn places(mistake: Option<Mistake>) {
    model(mistake, 3, || {
        let memory = Arc::new(Owned::new(1, 2));
        let shared = memory.memory();
        assert!(shared.database(6, 1).is_some());
        // It has the second place.
        assert!(shared.database(DB, 1).is_some());
        let threads: Vec<_> = [2, 3]
            .map(|pid| {
                let memory = Arc::clone(&memory);
                thread::spawn(move || memory.memory().database(DB, pid).is_some())
            })
            .into_iter()
            .collect();
        shared.forget_databases(&Process(1), |oid| oid != 6, |_| ());
        for thread in threads {
            thread.join().unwrap();
        }
        assert!(shared.places_of(DB) <= 1, "two numbers for one database");
    });
}

#[test]
fn a_database_has_one_place() {
    places(None);
}

#[test]
fn the_first_free_place_is_found() {
    places(Some(Mistake::FirstFreePlace));
}

/// Two at once want a place for a database that has none, while one becomes free.
fn first_of_a_database(mistake: Option<Mistake>) {
    model(mistake, 3, || {
        let memory = Arc::new(Owned::new(1, 2));
        let shared = memory.memory();
        assert!(shared.database(6, 1).is_some());
        let threads: Vec<_> = [2, 3]
            .map(|pid| {
                let memory = Arc::clone(&memory);
                thread::spawn(move || memory.memory().database(DB, pid).is_some())
            })
            .into_iter()
            .collect();
        shared.forget_databases(&Process(1), |oid| oid != 6, |_| ());
        let found: Vec<bool> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
        assert!(shared.places_of(DB) <= 1, "two numbers for one database");
        assert!(found.contains(&true) || shared.places_of(DB) == 0);
    });
}

#[test]
fn two_that_come_first_have_one_place() {
    first_of_a_database(None);
}

#[test]
fn a_place_taken_by_two_at_once_is_found() {
    first_of_a_database(Some(Mistake::ClaimWithoutLock));
}

/// Both places are taken when a database gets the extension, and in one of those that do not have it somebody counts.
fn a_place_changes_hands(mistake: Option<Mistake>, known: Presence) {
    model(mistake, 3, move || {
        let memory = Arc::new(Owned::new(1, 2));
        let shared = memory.memory();
        assert!(shared.set_presence(&Process(1), 5, Presence::Present, |_| ()).is_some());
        let mut without = Session::of(&memory, 0, 6);
        without.count(10);
        if known == Presence::Absent {
            shared.set_presence(&Process(1), 6, Presence::Absent, |_| ());
        }
        let thread = {
            let memory = Arc::clone(&memory);
            thread::spawn(move || {
                memory.memory().set_presence(&Process(50), DB, Presence::Present, |lost| assert_eq!(lost, 6)).is_some()
            })
        };
        without.count(10);
        let has_one = thread.join().unwrap();
        assert_eq!((shared.places_of(5), shared.places_of(6) + shared.places_of(DB)), (1, 1));
        assert_eq!(shared.places_of(DB), usize::from(has_one));
        assert_eq!(others_of(shared, DB), 0, "counted for another database");
        // Whoever is without a place counts for the rest.
        without.count(0);
        assert_eq!(others_of(shared, DB), 0, "counted for another database");
        let entries: u64 = shared.live(&Process(99), 6).iter().map(|entry| entry.figures.failures[0]).sum();
        assert_eq!(entries, 3, "sums are exact");
        // And whoever has got one, there.
        let mut with = Session::of(&memory, 1, DB);
        with.count(0);
        assert_eq!(others_of(shared, DB), u64::from(has_one));
    });
}

/// What was counted for the others of a database.
fn others_of(memory: Memory, oid: u32) -> u64 {
    let entries = memory.live(&Process(99), oid);
    let others = entries.iter().filter(|entry| entry.key.queryid == 0 && entry.database == oid);
    others.map(|entry| entry.figures.failures[0]).sum()
}

#[test]
fn a_database_with_the_extension_has_a_place() {
    a_place_changes_hands(None, Presence::Absent);
    a_place_changes_hands(None, Presence::Unknown);
}

#[test]
fn a_place_given_away_while_it_is_counted_at_is_found() {
    a_place_changes_hands(Some(Mistake::LookBeforePlace), Presence::Absent);
    a_place_changes_hands(Some(Mistake::BelieveThePlace), Presence::Absent);
}

/// Two schedulers want a place, of which there is one, while the database that has it is dropped.
fn one_place_is_wanted(mistake: Option<Mistake>, databases: [u32; 2]) {
    model(mistake, 2, move || {
        let memory = Arc::new(Owned::new(1, 2));
        let shared = memory.memory();
        shared.set_presence(&Process(1), 5, Presence::Present, |_| ());
        shared.set_presence(&Process(1), 6, Presence::Absent, |_| ());
        let threads: Vec<_> = databases
            .map(|oid| {
                let memory = Arc::clone(&memory);
                thread::spawn(move || {
                    memory.memory().set_presence(&Process(40 + oid), oid, Presence::Present, |_| ()).is_some()
                })
            })
            .into_iter()
            .collect();
        shared.forget_databases(&Process(1), |oid| oid != 6, |_| ());
        let [first, second] = [0, 1].map(|at| (databases[at], at));
        let found: Vec<bool> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
        for (oid, at) in [first, second] {
            assert!(shared.places_of(oid) <= 1, "two numbers for one database");
            assert!(!found[at] || shared.places_of(oid) == 1, "a place is lost that was had");
        }
        assert_eq!(shared.places_of(5), 1);
    });
}

#[test]
fn a_place_is_given_to_one() {
    one_place_is_wanted(None, [7, 8]);
    one_place_is_wanted(None, [7, 7]);
}

#[test]
fn a_place_of_another_that_is_cleared_is_found() {
    one_place_is_wanted(Some(Mistake::ClearUnseen), [7, 8]);
}

/// The extension leaves a database, or is found not to be there, while its place goes to another one.
fn a_presence_is_said(mistake: Option<Mistake>) {
    model(mistake, 2, || {
        let memory = Arc::new(Owned::new(1, 2));
        let shared = memory.memory();
        shared.set_presence(&Process(1), 5, Presence::Present, |_| ());
        assert!(shared.database(6, 1).is_some());
        let thread = {
            let memory = Arc::clone(&memory);
            thread::spawn(move || memory.memory().set_presence(&Process(60), 6, Presence::Absent, |_| ()))
        };
        let has_one = shared.set_presence(&Process(50), DB, Presence::Present, |_| ()).is_some();
        thread.join().unwrap();
        assert_eq!(shared.database(DB, 1).map(|place| place.presence()), has_one.then_some(Presence::Present));
    });
}

#[test]
fn what_is_said_of_a_place_is_said_of_its_database() {
    a_presence_is_said(None);
}

#[test]
fn what_is_said_of_the_wrong_database_is_found() {
    a_presence_is_said(Some(Mistake::SayWithoutLock));
}

/// A drain takes what was counted, and cannot store it, while its database's place goes to another one.
#[test]
fn what_is_given_back_is_its_databases() {
    model(None, 2, || {
        let memory = Arc::new(Owned::new(1, 2));
        let shared = memory.memory();
        shared.set_presence(&Process(1), 5, Presence::Present, |_| ());
        let mut session = Session::of(&memory, 0, 6);
        session.count(0);
        let thread = {
            let memory = Arc::clone(&memory);
            thread::spawn(move || {
                let memory = memory.memory();
                if let Some(drained) = memory.drain(&Process(60), 6) {
                    memory.give_back(&Process(60), 1, &drained);
                }
            })
        };
        shared.set_presence(&Process(50), DB, Presence::Present, |_| ());
        thread.join().unwrap();
        assert_eq!(others_of(shared, DB), 0, "given back to another database");
        let all: u64 = shared.live(&Process(99), 6).iter().map(|entry| entry.figures.failures[0]).sum();
        assert_eq!(all, 1, "sums are exact");
    });
}

/// A process has ended while it moved the counts of an entry. Others read, drain, reset.
fn a_mover_is_gone(mistake: Option<Mistake>, what: fn(Memory)) {
    model(mistake, 2, move || {
        let memory = Arc::new(Owned::new(1, 2));
        let shared = memory.memory();
        let mut session = Session::new(&memory, 0);
        session.count(10);
        memory.begin_move_of_first(GONE);
        let thread = {
            let memory = Arc::clone(&memory);
            thread::spawn(move || what(memory.memory()))
        };
        session.count(10);
        thread.join().unwrap();
        assert_eq!(counted(shared, 10), 2);
    });
}

#[test]
fn readers_and_drains_come_past_one_that_is_gone() {
    a_mover_is_gone(None, |memory| {
        assert!(counted(memory, 10) >= 1);
    });
    a_mover_is_gone(None, |memory| {
        let drained = memory.drain(&Process(50), DB).unwrap();
        let count: u64 = drained.entries.iter().map(|entry| entry.figures.failures[0]).sum();
        assert!((1..=2).contains(&count), "{count}");
    });
}

#[test]
fn waiting_for_one_that_is_gone_is_found() {
    a_mover_is_gone(Some(Mistake::WaitForTheGone), |memory| {
        counted(memory, 10);
    });
    a_mover_is_gone(Some(Mistake::WaitForTheGone), |memory| {
        memory.drain(&Process(50), DB);
    });
}

/// A process has ended under the lock, in the middle of giving an entry away: it is free again afterwards, and what it held is
/// among the others.
fn a_holder_is_gone(mistake: Option<Mistake>) {
    model(mistake, 2, || {
        let memory = Arc::new(Owned::new(1, 2));
        let shared = memory.memory();
        let mut session = Session::new(&memory, 0);
        session.count(10);
        memory.die_evicting_first(GONE);
        let thread = {
            let memory = Arc::clone(&memory);
            thread::spawn(move || memory.memory().tend(&Process(50)))
        };
        session.count(20);
        thread.join().unwrap();
        assert_eq!(all(shared), 2);
        session.count(20);
        assert!(counted(shared, 20) >= 1, "there is room again");
        assert_eq!(all(shared), 3);
    });
}

#[test]
fn a_lock_of_one_that_is_gone_is_broken_open() {
    a_holder_is_gone(None);
}

#[test]
fn a_lock_for_ever_is_found() {
    a_holder_is_gone(Some(Mistake::WaitForTheGone));
}

/// What is counted is drained, or it is known that it waits; what cannot be stored comes again.
#[test]
fn drains_lose_nothing() {
    for stores in [true, false] {
        model(None, 2, move || {
            let memory = Arc::new(Owned::new(2, 2));
            let shared = memory.memory();
            let mut session = Session::new(&memory, 0);
            session.count(10);
            let thread = {
                let memory = Arc::clone(&memory);
                thread::spawn(move || {
                    let memory = memory.memory();
                    let drained = memory.drain(&Process(50), DB).unwrap();
                    if stores {
                        return drained.entries.iter().map(|entry| entry.figures.failures[0]).sum();
                    }
                    memory.give_back(&Process(50), 1, &drained);
                    0_u64
                })
            };
            session.count(10);
            let taken = thread.join().unwrap();
            assert_eq!(counted(shared, 10), 2, "live figures have it once");
            let waits = shared.waiting_since(DB).is_some();
            let rest: u64 = shared
                .drain(&Process(50), DB)
                .map_or(0, |drained| drained.entries.iter().map(|entry| entry.figures.failures[0]).sum());
            assert_eq!(taken + rest, 2);
            assert!(waits || rest == 0, "it waits and nobody knows");
        });
    }
}

/// The extension leaves a database while it is counted there.
#[test]
fn what_is_given_up_is_among_the_others() {
    model(None, 2, || {
        let memory = Arc::new(Owned::new(2, 2));
        let mut session = Session::new(&memory, 0);
        session.count(10);
        let thread = {
            let memory = Arc::clone(&memory);
            thread::spawn(move || memory.memory().set_presence(&Process(50), DB, Presence::Absent, |_| ()))
        };
        session.count(10);
        thread.join().unwrap();
        assert_eq!(all(memory.memory()), 2);
    });
}

const SECOND: Duration = Duration::from_secs(1);

/// Two schedulers, of which one was held up until its lease was over, put up a sample each; somebody reads.
fn samples(mistake: Option<Mistake>) {
    model(mistake, 2, || {
        let board = Arc::new(Board::empty());
        let writers: Vec<_> = [1_u8, 2]
            .map(|value| {
                let board = Arc::clone(&board);
                thread::spawn(move || board.publish(&[value; 8], u32::from(value) * SECOND))
            })
            .into_iter()
            .collect();
        if let Some((bytes, at)) = board.read() {
            let value = at.as_secs() as u8;
            assert_eq!(bytes, [value; 8], "of two samples");
        }
        for writer in writers {
            writer.join().unwrap();
        }
    });
}

#[test]
fn a_sample_is_read_whole_or_not_at_all() {
    samples(None);
}

#[test]
fn a_sample_of_two_is_found() {
    samples(Some(Mistake::BelieveTheSequence));
}

/// A lease is over, and two want it; or one of them still believes that it has it.
fn leases(mistake: Option<Mistake>) {
    model(mistake, 3, || {
        let board = Arc::new(Board::empty());
        assert!(board.hold(1, SECOND, SECOND));
        let threads: Vec<_> = [1, 2, 3]
            .map(|pid| {
                let board = Arc::clone(&board);
                thread::spawn(move || board.hold(pid, 3 * SECOND, SECOND))
            })
            .into_iter()
            .collect();
        let held = threads.into_iter().map(|thread| thread.join().unwrap()).filter(|&held| held).count();
        assert_eq!(held, 1);
    });
}

#[test]
fn one_process_has_the_lease() {
    leases(None);
}

#[test]
fn a_lease_of_two_is_found() {
    leases(Some(Mistake::LeaseWithoutLooking));
}

/// The ring goes round while it is read.
fn positions(mistake: Option<Mistake>) {
    model(mistake, 3, || {
        let board = Arc::new(Board::empty());
        board.note_position(Mark { wal: 1, at: SECOND });
        board.note_position(Mark { wal: 2, at: 2 * SECOND });
        let thread = {
            let board = Arc::clone(&board);
            thread::spawn(move || {
                for i in 3..=4 {
                    board.note_position(Mark { wal: i, at: i as u32 * SECOND });
                }
            })
        };
        for mark in board.positions() {
            assert_eq!(mark.at.as_secs(), mark.wal, "a position of two times");
        }
        thread.join().unwrap();
        assert_eq!(board.positions(), [Mark { wal: 4, at: 4 * SECOND }]);
    });
}

#[test]
fn positions_are_whole() {
    positions(None);
}

#[test]
fn positions_written_over_are_found() {
    positions(Some(Mistake::BelieveOverwritten));
}
