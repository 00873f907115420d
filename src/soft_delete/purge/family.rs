//! Rows that are to go together: what happens to each follows from those that reference it.

use std::collections::{HashMap, HashSet};

use crate::server::Oid;
use crate::server::repeated::Tid;

/// A row: the table that holds it (a partition), and its place in it. Locked, it keeps its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Place {
    pub leaf: Oid,
    pub tid: Tid,
}

impl Place {
    /// In the order of the tables and of their pages.
    pub fn order(&self) -> (u32, Tid) {
        (self.leaf.to_u32(), self.tid)
    }
}

/// What becomes of a row, the mildest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fate {
    Goes,
    /// Not all of what references it has been seen.
    Waits,
    /// A row that stays references it, by this foreign key (its index in the graph).
    Stays(usize),
}

/// Rows by the table that holds them.
pub type Going = Vec<(Oid, Vec<Tid>)>;

#[derive(Clone, Debug)]
pub struct Member {
    pub place: Place,
    /// The soft-deleted table.
    pub relid: Oid,
    pub deletion: Option<String>,
    pub fate: Fate,
}

/// The rows of one batch, and which of them reference which.
#[derive(Default)]
pub struct Family {
    pub members: Vec<Member>,
    by_place: HashMap<Place, usize>,
    /// Child and parent.
    links: Vec<(usize, usize, usize)>,
}

impl Family {
    /// Adds a row that is locked; `false`: it is there already.
    pub fn add(&mut self, place: Place, relid: Oid, deletion: Option<String>) -> bool {
        if self.by_place.contains_key(&place) {
            return false;
        }
        self.by_place.insert(place, self.members.len());
        self.members.push(Member { place, relid, deletion, fate: Fate::Goes });
        true
    }

    pub fn contains(&self, place: Place) -> bool {
        self.by_place.contains_key(&place)
    }

    pub fn fate(&self, place: Place) -> Option<Fate> {
        self.by_place.get(&place).map(|&index| self.members[index].fate)
    }

    /// The child references the parent by this foreign key.
    pub fn link(&mut self, edge: usize, child: Place, parent: Place) {
        if let (Some(&child), Some(&parent)) = (self.by_place.get(&child), self.by_place.get(&parent))
            && child != parent
        {
            self.links.push((edge, child, parent));
        }
    }

    pub fn set(&mut self, place: Place, fate: Fate) {
        if let Some(&index) = self.by_place.get(&place) {
            let member = &mut self.members[index];
            member.fate = member.fate.max(fate);
        }
    }

    /// Whoever is referenced by a row that does not go does not go either.
    pub fn settle(&mut self) {
        loop {
            let mut changed = false;
            for &(edge, child, parent) in &self.links {
                let fate = match self.members[child].fate {
                    Fate::Stays(_) => Fate::Stays(edge),
                    other => other,
                };
                if self.members[parent].fate < fate && !matches!(self.members[parent].fate, Fate::Stays(_)) {
                    self.members[parent].fate = fate;
                    changed = true;
                }
            }
            if !changed {
                return;
            }
        }
    }

    /// Those that go as this role deletes them, for each statement by the table that holds them: what references goes before
    /// what it references, or together with it. `None`: they reference each other in a circle, and are not one role's.
    pub fn going_as(&self, role: impl Fn(Oid) -> Oid) -> Option<Vec<(Oid, Going)>> {
        let goes = |index: usize| self.members[index].fate == Fate::Goes;
        let mut left: Vec<Oid> = Vec::new();
        for member in self.members.iter().filter(|member| member.fate == Fate::Goes) {
            if !left.contains(&member.relid) {
                left.push(member.relid);
            }
        }
        let mut links: HashSet<(Oid, Oid)> = HashSet::new();
        for &(_, child, parent) in self.links.iter().filter(|&&(_, child, parent)| goes(child) && goes(parent)) {
            links.insert((self.members[child].relid, self.members[parent].relid));
        }
        let mut statements = Vec::new();
        while !left.is_empty() {
            // All of one role whose children are gone, or go with them.
            let together = |acting: Oid| {
                let mut those: Vec<Oid> = left.iter().copied().filter(|&relid| role(relid) == acting).collect();
                loop {
                    let before = those.len();
                    let all = those.clone();
                    those.retain(|relid| {
                        !links
                            .iter()
                            .any(|(child, parent)| parent == relid && left.contains(child) && !all.contains(child))
                    });
                    if those.len() == before {
                        return those;
                    }
                }
            };
            let mut roles: Vec<Oid> = left.iter().map(|&relid| role(relid)).collect();
            roles.dedup();
            let next = roles.into_iter().map(|acting| (acting, together(acting))).find(|(_, those)| !those.is_empty());
            let (acting, those) = next?;
            left.retain(|relid| !those.contains(relid));
            statements.push((acting, self.going(|relid| those.contains(&relid))));
        }
        Some(statements)
    }

    /// Those that go, by the table that holds them.
    fn going(&self, of: impl Fn(Oid) -> bool) -> Going {
        let mut leaves = Going::new();
        for member in self.members.iter().filter(|member| member.fate == Fate::Goes && of(member.relid)) {
            match leaves.iter_mut().find(|(leaf, _)| *leaf == member.place.leaf) {
                Some((_, tids)) => tids.push(member.place.tid),
                None => leaves.push((member.place.leaf, vec![member.place.tid])),
            }
        }
        leaves
    }

    /// How many rows of which deletion go from which table.
    pub fn tally(&self) -> HashMap<(String, Oid), i64> {
        let mut tally = HashMap::new();
        for member in self.members.iter().filter(|member| member.fate == Fate::Goes) {
            if let Some(deletion) = &member.deletion {
                *tally.entry((deletion.clone(), member.relid)).or_insert(0) += 1;
            }
        }
        tally
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn place(row: u16) -> Place {
        Place { leaf: Oid::from(1), tid: Tid { block: 0, offset: row } }
    }

    fn family(rows: u16, links: &[(u16, u16)]) -> Family {
        let mut family = Family::default();
        for row in 0..rows {
            assert!(family.add(place(row), Oid::from(1), Some("d".into())));
        }
        for &(child, parent) in links {
            family.link(7, place(child), place(parent));
        }
        family
    }

    #[test]
    fn a_row_that_stays_keeps_its_ancestors() {
        let mut family = family(4, &[(1, 0), (2, 1)]);
        family.set(place(2), Fate::Stays(3));
        family.settle();
        assert_eq!(family.fate(place(2)), Some(Fate::Stays(3)));
        assert_eq!(family.fate(place(0)), Some(Fate::Stays(7)));
        assert_eq!(family.going(|_| true), [(Oid::from(1), vec![place(3).tid])]);
        assert_eq!(family.tally(), HashMap::from([(("d".to_owned(), Oid::from(1)), 1)]));
    }

    #[test]
    fn a_circle_goes_as_a_whole_or_not_at_all() {
        let circle = [(0, 1), (1, 2), (2, 0)];
        let mut whole = family(3, &circle);
        whole.settle();
        assert_eq!(whole.going(|_| true)[0].1.len(), 3);
        let mut none = family(3, &circle);
        none.set(place(1), Fate::Waits);
        none.settle();
        assert!(none.going(|_| true).is_empty());
    }

    #[test]
    fn a_row_that_references_itself_is_in_nobodys_way() {
        let mut family = family(1, &[(0, 0)]);
        family.settle();
        assert_eq!(family.fate(place(0)), Some(Fate::Goes));
    }

    /// Tables 1, 2, 3: 3 references 2, which references 1.
    #[test]
    fn each_role_deletes_its_own_and_children_go_first() {
        let mut family = Family::default();
        for (row, table) in [(0, 1), (1, 2), (2, 3)] {
            assert!(family.add(Place { leaf: Oid::from(table), ..place(row) }, Oid::from(table), None));
        }
        let at = |row: u16| Place { leaf: Oid::from(u32::from(row) + 1), ..place(row) };
        family.link(0, at(1), at(0));
        family.link(0, at(2), at(1));
        let role = |relid: Oid| Oid::from(if relid == Oid::from(2) { 20 } else { 10 });
        let order = |family: &Family, role: &dyn Fn(Oid) -> Oid| {
            let statements = family.going_as(role)?;
            let tables = |going: &Going| going.iter().map(|(leaf, _)| leaf.to_u32()).collect::<Vec<_>>();
            Some(statements.iter().map(|(role, going)| (role.to_u32(), tables(going))).collect::<Vec<_>>())
        };
        assert_eq!(order(&family, &role), Some(vec![(10, vec![3]), (20, vec![2]), (10, vec![1])]));
        assert_eq!(order(&family, &|_| Oid::from(10)), Some(vec![(10, vec![1, 2, 3])]));
        family.link(0, at(0), at(2));
        assert_eq!(order(&family, &role), None);
        assert_eq!(order(&family, &|_| Oid::from(10)), Some(vec![(10, vec![1, 2, 3])]));
    }

    proptest! {
        /// No row that goes is referenced by one that does not.
        #[test]
        fn nobody_goes_before_those_who_reference_him(
            links in proptest::collection::vec((0u16..30, 0u16..30), 0..80),
            stay in proptest::collection::vec(0u16..30, 0..4),
            wait in proptest::collection::vec(0u16..30, 0..4),
        ) {
            let mut family = family(30, &links);
            stay.iter().for_each(|&row| family.set(place(row), Fate::Stays(0)));
            wait.iter().for_each(|&row| family.set(place(row), Fate::Waits));
            family.settle();
            for (child, parent) in links {
                if family.fate(place(parent)) == Some(Fate::Goes) {
                    prop_assert!(family.fate(place(child)) == Some(Fate::Goes));
                }
            }
        }
    }
}
