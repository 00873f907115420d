//! Who may have the next worker, and who gives one up for it (LAW 35).
//!
//! The workers of the server are shared out between databases first, and between roles within them. Nobody's share is
//! kept free: whoever is alone has all of them, and gives some up, after a step, when others want them. So that nobody
//! waits for something that has no steps, one worker is out of reach of each role's, and each database's, commands.

use std::cmp::Reverse;
use std::time::Duration;

/// Somebody who only waits (held back, for rows that are locked, between two tries) gives his worker up after this.
pub const LONGEST_REST: Duration = Duration::from_secs(5);
/// Nobody is asked to leave before he has done something.
pub const SHORTEST_TURN: Duration = Duration::from_secs(2);
/// With more who want a worker than there are workers, a turn lasts so long.
pub const TURN: Duration = Duration::from_secs(60);

/// A worker that is at work.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Holder {
    pub database: u32,
    pub role: u32,
    pub job: u64,
    /// It has no steps after which it could leave.
    pub long: bool,
    pub held: Duration,
    pub resting: Duration,
    /// It was asked to leave, and does after its step.
    pub asked: bool,
}

/// A slot of a job that waits for one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Want {
    pub database: u32,
    pub role: u32,
    pub job: u64,
}

/// Another database in which slots of jobs wait.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Waiting {
    pub database: u32,
    pub since: u64,
}

/// The workers whose pace can be set.
#[derive(Clone, Copy, Debug, Default)]
pub struct Workers {
    /// Those who share what the application leaves.
    pub sharing: usize,
    /// What they have worked at the portions in hand, which is on no account yet.
    pub unbooked: Duration,
    /// Since when the first of them has been at his.
    pub busy_since: Option<Duration>,
}

fn count(holders: &[Holder], counts: impl Fn(&Holder) -> bool) -> usize {
    holders.iter().filter(|holder| counts(holder)).count()
}

pub fn of_database(holders: &[Holder], database: u32) -> usize {
    count(holders, |holder| holder.database == database)
}

pub fn of_role(holders: &[Holder], role: u32) -> usize {
    count(holders, |holder| holder.role == role)
}

/// The server, as far as it says who can come.
#[derive(Clone, Copy)]
pub struct Server {
    pub max_workers: usize,
    /// There is more than one database with jobs.
    pub several_databases: bool,
}

/// May one more of this role's in this database be begun that has no steps? Those of one role never have all workers of
/// the server. Where there are several databases, those of one do not either, nor those of a role all that its database
/// can have.
pub fn may_be_long(holders: &[Holder], want: Want, server: Server) -> bool {
    let all_but = |n: usize| server.max_workers.saturating_sub(n).max(1);
    let long = |counts: &dyn Fn(&Holder) -> bool| count(holders, |holder| holder.long && counts(holder));
    let of_role = |holder: &Holder| holder.role == want.role;
    let of_database = |holder: &Holder| holder.database == want.database;
    long(&of_role) < all_but(1)
        && (!server.several_databases
            || long(&of_database) < all_but(1) && long(&|holder| of_role(holder) && of_database(holder)) < all_but(2))
}

/// How many of the free workers are for other databases: those that have fewer than this one, or as many and have
/// waited for longer. `since`: since when this one waits.
pub fn reserved(holders: &[Holder], others: &[Waiting], database: u32, since: u64) -> usize {
    let mine = (of_database(holders, database), since);
    others.iter().filter(|other| (of_database(holders, other.database), other.since) < mine).count()
}

/// A slot of a job, as far as its turn goes.
pub struct Turn {
    pub role: u32,
    /// How long ago it last got a worker; `None`: never.
    pub last: Option<Duration>,
}

/// The order in which slots get workers, given in the order of their age: the role with the fewest workers is next; of
/// two with as many the one that had none for longer.
pub fn order(turns: &[Turn], holders: &[Holder]) -> Vec<usize> {
    let served = |role: u32| {
        let last = turns.iter().filter(|turn| turn.role == role).filter_map(|turn| turn.last).min();
        Reverse(last.unwrap_or(Duration::MAX))
    };
    let mut keyed: Vec<_> = (0..turns.len())
        .map(|at| {
            let role = turns[at].role;
            let before = turns[..at].iter().filter(|turn| turn.role == role).count();
            ((of_role(holders, role) + before, served(role)), at)
        })
        .collect();
    keyed.sort();
    keyed.into_iter().map(|(_, at)| at).collect()
}

/// Who leaves after his step so that this want is met. `None`: nobody has to.
///
/// Each leave for a difference of two or more brings the numbers of workers of the databases nearer to each other, or
/// those of the roles without taking the databases' apart: that ends. Where the difference is one, turns are taken.
pub fn gives_way(holders: &[Holder], want: Want) -> Option<usize> {
    let wants = (of_database(holders, want.database), of_role(holders, want.role));
    let rank = |holder: &Holder| {
        let (database, role) = (of_database(holders, holder.database), of_role(holders, holder.role));
        let (other_database, other_role) = (holder.database != want.database, holder.role != want.role);
        let no_poorer = !other_database || database > wants.0;
        let turn_is_over = holder.held >= TURN;
        if holder.resting >= LONGEST_REST && holder.job != want.job {
            Some(0)
        } else if other_database && database >= wants.0 + 2 {
            Some(1)
        } else if other_role && no_poorer && role >= wants.1 + 2 {
            Some(2)
        } else if turn_is_over && (wants.0 == 0 && other_database || wants.1 == 0 && other_role && no_poorer) {
            Some(3)
        } else {
            None
        }
        .map(|rank| (rank, Reverse(database), Reverse(role), Reverse(holder.held)))
    };
    let can_leave = |holder: &&Holder| !holder.long && !holder.asked && holder.held >= SHORTEST_TURN;
    let ranked = holders.iter().enumerate().filter(|(_, holder)| can_leave(holder));
    ranked.filter_map(|(at, holder)| Some((rank(holder)?, at))).min().map(|(_, at)| at)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ALICE: u32 = 11;
    const MALLORY: u32 = 12;
    const LONG_AGO: Duration = Duration::from_secs(600);

    fn at_work(database: u32, role: u32) -> Holder {
        Holder { database, role, job: 1, held: SHORTEST_TURN, ..Holder::default() }
    }

    fn wants(database: u32, role: u32) -> Want {
        Want { database, role, job: 2 }
    }

    #[test]
    fn who_gives_way() {
        let commands = |n| vec![Holder { long: true, held: LONG_AGO, ..at_work(1, MALLORY) }; n];
        let mallorys = |n| vec![at_work(1, MALLORY); n];
        let cases: [(&str, Vec<Holder>, Want, Option<usize>); 14] = [
            ("nobody is there", vec![], wants(1, ALICE), None),
            ("one role has all", mallorys(4), wants(1, ALICE), Some(0)),
            ("one role has one more", mallorys(1), wants(1, ALICE), None),
            ("his own further slots wait", mallorys(4), wants(1, MALLORY), None),
            ("one database has all", mallorys(4), wants(2, MALLORY), Some(0)),
            ("one database, one worker", mallorys(1), wants(2, ALICE), None),
            ("the turn is over", vec![Holder { held: TURN, ..at_work(1, MALLORY) }], wants(2, ALICE), Some(0)),
            ("of a role as well", vec![Holder { held: TURN, ..at_work(1, MALLORY) }], wants(1, ALICE), Some(0)),
            (
                "he has only just come",
                vec![Holder { held: Duration::ZERO, ..at_work(1, MALLORY) }; 4],
                wants(1, ALICE),
                None,
            ),
            ("commands have no steps", commands(3), wants(1, ALICE), None),
            ("beside commands", [commands(3), mallorys(1)].concat(), wants(1, ALICE), Some(3)),
            ("was asked already", vec![Holder { asked: true, ..at_work(1, MALLORY) }; 4], wants(1, ALICE), None),
            (
                "whoever rests goes first",
                vec![at_work(1, MALLORY), Holder { resting: LONGEST_REST, ..at_work(1, ALICE) }],
                wants(1, ALICE),
                Some(1),
            ),
            (
                "but not for his own job",
                vec![Holder { resting: LONGEST_REST, job: 2, ..at_work(1, ALICE) }],
                wants(1, ALICE),
                None,
            ),
        ];
        for (what, holders, want, expected) in cases {
            assert_eq!(gives_way(&holders, want), expected, "{what}");
        }
    }

    #[test]
    fn the_role_with_the_fewest_workers_is_next() {
        let turn = |role| Turn { role, last: None };
        let turns = [turn(MALLORY), turn(MALLORY), turn(MALLORY), turn(ALICE), turn(ALICE)];
        assert_eq!(order(&turns, &[]), [0, 3, 1, 4, 2]);
        assert_eq!(order(&turns, &[at_work(1, MALLORY), at_work(2, MALLORY)]), [3, 4, 0, 1, 2]);
        let turns = [Turn { role: MALLORY, last: Some(Duration::from_secs(1)) }, turn(ALICE)];
        assert_eq!(order(&turns, &[]), [1, 0], "after his turn it is the other's");
    }

    #[test]
    fn one_worker_is_out_of_reach_of_one_roles_commands() {
        let command = |database, role| Holder { long: true, ..at_work(database, role) };
        let one = |max_workers| Server { max_workers, several_databases: false };
        let several = |max_workers| Server { max_workers, several_databases: true };
        let three = vec![command(1, MALLORY); 3];
        assert!(may_be_long(&three[..2], wants(1, MALLORY), one(4)));
        assert!(!may_be_long(&three, wants(1, MALLORY), one(4)));
        assert!(may_be_long(&three, wants(1, ALICE), one(4)));
        assert!(may_be_long(&[], wants(1, ALICE), one(1)), "of one there is nothing to keep free");
        assert!(!may_be_long(&[command(1, ALICE)], wants(1, ALICE), one(2)));
        assert!(may_be_long(&[at_work(1, ALICE)], wants(1, ALICE), one(2)), "what has steps does not count");

        // One for other databases, and one for other roles of this one.
        assert!(!may_be_long(&three[..2], wants(1, MALLORY), several(4)));
        assert!(may_be_long(&three[..2], wants(1, ALICE), several(4)));
        assert!(!may_be_long(&three, wants(1, ALICE), several(4)));
        assert!(may_be_long(&three, wants(2, ALICE), several(4)));
        let everywhere = [command(1, MALLORY), command(2, MALLORY), command(3, MALLORY)];
        assert!(!may_be_long(&everywhere, wants(4, MALLORY), several(4)), "of his in all databases");
        assert!(may_be_long(&[], wants(1, ALICE), several(1)));
        assert!(may_be_long(&[command(1, MALLORY)], wants(2, MALLORY), several(3)));
    }

    #[test]
    fn free_workers_are_for_those_who_have_fewer() {
        let waiting = |database, since| Waiting { database, since };
        let holders = [at_work(1, ALICE), at_work(1, ALICE), at_work(2, ALICE)];
        assert_eq!(reserved(&holders, &[], 1, 5), 0);
        assert_eq!(reserved(&holders, &[waiting(2, 9), waiting(3, 9)], 1, 5), 2);
        assert_eq!(reserved(&holders, &[waiting(1, 1)], 2, 5), 0, "it has more");
        assert_eq!(reserved(&holders, &[waiting(3, 4)], 4, 5), 1, "it has waited for longer");
        assert_eq!(reserved(&holders, &[waiting(3, 6)], 4, 5), 0);
    }

    proptest! {
        /// Whatever is asked for by whomever: leaves without a turn's end come to an end, and nobody has two workers
        /// more than somebody who waits, in databases and among the roles of one.
        #[test]
        fn shares_come_to_rest(
            parties in proptest::collection::vec((1u32..4, 1u32..4), 1..12),
            workers in 1usize..9,
        ) {
            let want = |&(database, role): &(u32, u32)| wants(database, role);
            // Everybody wants more than there is.
            let mut holders: Vec<Holder> = parties.iter().cycle().take(workers).map(|p| at_work(p.0, p.1)).collect();
            for _ in 0..200 {
                let next = parties.iter().find_map(|party| Some((gives_way(&holders, want(party))?, party)));
                let Some((leaves, party)) = next else { break };
                holders[leaves] = at_work(party.0, party.1);
            }
            for party in &parties {
                prop_assert_eq!(gives_way(&holders, want(party)), None, "{:?} {:?}", &holders, party);
                let databases = (of_database(&holders, party.0), of_role(&holders, party.1));
                for holder in &holders {
                    if holder.database != party.0 {
                        prop_assert!(of_database(&holders, holder.database) < databases.0 + 2);
                    } else if holder.role != party.1 {
                        prop_assert!(of_role(&holders, holder.role) < databases.1 + 2);
                    }
                }
            }
        }
    }
}
