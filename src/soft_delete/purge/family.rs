//! Rows that are to go together: what happens to each follows from those that reference it.

use std::collections::HashMap;

use pgrx::pg_sys::Oid;

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

    /// Those that go, by the table that holds them.
    pub fn going(&self) -> Vec<(Oid, Vec<Tid>)> {
        let mut leaves: Vec<(Oid, Vec<Tid>)> = Vec::new();
        for member in self.members.iter().filter(|member| member.fate == Fate::Goes) {
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
        assert_eq!(family.going(), [(Oid::from(1), vec![place(3).tid])]);
        assert_eq!(family.tally(), HashMap::from([(("d".to_owned(), Oid::from(1)), 1)]));
    }

    #[test]
    fn a_circle_goes_as_a_whole_or_not_at_all() {
        let circle = [(0, 1), (1, 2), (2, 0)];
        let mut whole = family(3, &circle);
        whole.settle();
        assert_eq!(whole.going()[0].1.len(), 3);
        let mut none = family(3, &circle);
        none.set(place(1), Fate::Waits);
        none.settle();
        assert!(none.going().is_empty());
    }

    #[test]
    fn a_row_that_references_itself_is_in_nobodys_way() {
        let mut family = family(1, &[(0, 0)]);
        family.settle();
        assert_eq!(family.fate(place(0)), Some(Fate::Goes));
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
