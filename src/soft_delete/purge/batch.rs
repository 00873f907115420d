//! One batch: locks its rows, finds what references them, and deletes what nobody holds.

use std::cell::RefCell;
use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use pgrx::datum::TimestampWithTimeZone;

use super::family::{Family, Fate, Going, Place};
use super::graph::Graph;
use super::{hold, statements};
use crate::error::{
    Error, FEATURE_NOT_SUPPORTED, INSUFFICIENT_PRIVILEGE, INTERNAL_ERROR, OBJECT_NOT_IN_PREREQUISITE_STATE, Result,
    SERIALIZATION_FAILURE,
};
use crate::server::repeated::{Arg, Statement, Tid};
use crate::server::{Oid, catalog, heap, spi, types};
use crate::soft_delete::managed::Managed;
use crate::soft_delete::objects::owner;
use crate::soft_delete::raw;
use crate::sql::quote::identifier;

/// What all statements of a purge share.
pub struct Purge<'a> {
    pub target: &'a Managed,
    pub graph: &'a Graph,
    /// Rows deleted before this are due, and those of deletions that are held are not: texts for the server.
    pub cutoff: &'a str,
    pub held: &'a str,
    pub statements: &'a Statements,
}

/// Statements that were planned, by their text.
#[derive(Default)]
pub struct Statements(RefCell<HashMap<String, Rc<Statement>>>);

impl Statements {
    pub fn get(&self, sql: String, types: &[Oid]) -> Rc<Statement> {
        let mut known = self.0.borrow_mut();
        // Names change and partitions come and go: not for ever.
        if known.len() > 500 {
            known.clear();
        }
        Rc::clone(known.entry(sql.clone()).or_insert_with(|| Rc::new(Statement::new(sql, types))))
    }
}

/// What came of a batch.
#[derive(Debug, Default)]
pub struct Done {
    /// Rows of all tables that are gone.
    pub rows: i64,
    /// Rows of the target, by what became of them. Somebody else had them locked, or they are not due any more:
    pub locked: Vec<Place>,
    /// Too much references them for one batch: more of it is gone now.
    pub unfinished: Vec<Place>,
    /// They stay, because a row which stays references them by this foreign key of the graph.
    pub held_by: Vec<(Place, usize)>,
    /// Fewer rows were deleted than were to be: a trigger of the user's kept some.
    pub kept_by_trigger: bool,
}

const TIDS: Oid = types::TIDARRAY;
const TIME: Oid = types::TIMESTAMPTZ;
const UUIDS: Oid = types::UUIDARRAY;

/// At most so many rows that reference those of a batch are looked at, by foreign key and leaf.
const MOST_REFERENCES: usize = 20_000;

impl Purge<'_> {
    /// Deletes rows of the target, and what goes with them.
    pub fn batch(&self, places: &[Place]) -> Result<Done> {
        let mut family = Family::default();
        let mut done = Done::default();
        let mut fresh = self.lock(self.target, places, &mut family)?;
        done.locked = places.iter().copied().filter(|place| !family.contains(*place)).collect();
        let mut level = vec![(self.target.relid, std::mem::take(&mut fresh))];
        while let Some((relid, parents)) = level.pop() {
            for (index, edge) in self.graph.holders(relid) {
                let children = self.look_below(index, &parents, &mut family)?;
                if let (Some(child), false) = (&edge.child, children.is_empty()) {
                    level.push((child.relid, children));
                }
            }
        }
        family.settle();
        self.refuse_held(&family)?;
        let of_target = owner(self.target.relid)?;
        let mut roles = HashMap::new();
        for member in &family.members {
            if let Entry::Vacant(role) = roles.entry(member.relid) {
                role.insert(self.acting_on(member.relid, of_target)?);
            }
        }
        let role = |relid: Oid| roles.get(&relid).copied().unwrap_or(Oid::INVALID);
        let statements = family.going_as(role).ok_or_else(|| {
            Error::new(FEATURE_NOT_SUPPORTED, "rows of tables of several owners reference each other in a circle")
                .detail("Each owner's rows are deleted as himself, those that reference others first.")
                .hint("Give the tables one owner, or set one of the references to NULL.")
        })?;
        let mut wanted = 0;
        for (role, going) in &statements {
            wanted += going.iter().map(|(_, tids)| tids.len()).sum::<usize>();
            done.rows += self.delete(*role, going)?;
        }
        done.kept_by_trigger = done.rows < wanted as i64;
        hold::note_purged(&family.tally())?;
        for place in places.iter().filter(|place| family.contains(**place)) {
            match family.fate(*place) {
                Some(Fate::Waits) => done.unfinished.push(*place),
                Some(Fate::Stays(edge)) => done.held_by.push((*place, edge)),
                _ => {}
            }
        }
        Ok(done)
    }

    /// Locks rows that are due, as far as nobody else has, and adds them to the family.
    fn lock(&self, managed: &Managed, places: &[Place], family: &mut Family) -> Result<Vec<Place>> {
        let mut locked = Vec::with_capacity(places.len());
        for (leaf, tids) in by_leaf(places) {
            let statement = self.statements.get(statements::lock(&name(leaf)?, managed), &[TIME, UUIDS, TIDS]);
            statement.names(&[leaf]);
            let asked: HashSet<Tid> = tids.iter().copied().collect();
            let tids = tid_array(&tids);
            for row in statement.rows(&[Arg::Text(self.cutoff), Arg::Text(self.held), Arg::Text(&tids)])? {
                let [Some(tid), deletion] = &row[..] else { continue };
                let place = Place { leaf, tid: tid.parse()? };
                // A row that was changed before we had it is somewhere else now.
                if asked.contains(&place.tid) && family.add(place, managed.relid, deletion.clone()) {
                    locked.push(place);
                }
            }
        }
        Ok(locked)
    }

    /// What references these rows by one foreign key: joins the family, or keeps them. Gives those that joined.
    fn look_below(&self, index: usize, parents: &[Place], family: &mut Family) -> Result<Vec<Place>> {
        let edge = &self.graph.edges[index];
        let mut found: Vec<(Place, Place)> = Vec::new();
        let mut too_many: Vec<Place> = Vec::new();
        for (leaf, tids) in by_leaf(parents) {
            let statement = self.statements.get(statements::references(&name(leaf)?, edge), &[TIDS, types::INT4]);
            statement.names(&[leaf, edge.key.child]);
            let rows = statement.rows(&[Arg::Text(&tid_array(&tids)), Arg::Int(MOST_REFERENCES as i32 + 1)])?;
            if rows.len() > MOST_REFERENCES {
                too_many.extend(tids.iter().map(|&tid| Place { leaf, tid }));
            }
            for row in rows {
                let [Some(child_leaf), Some(child), Some(parent)] = &row[..] else { continue };
                let child = Place { leaf: oid(child_leaf), tid: child.parse()? };
                found.push((child, Place { leaf, tid: parent.parse()? }));
            }
        }
        let mut candidates: Vec<Place> =
            found.iter().map(|(child, _)| *child).filter(|child| !family.contains(*child)).collect();
        candidates.sort_by_key(Place::order);
        candidates.dedup();
        let joined = match &edge.child {
            Some(child) => self.lock(child, &candidates, family)?,
            None => Vec::new(),
        };
        for (child, parent) in found {
            if family.contains(child) {
                family.link(index, child, parent);
            } else {
                family.set(parent, Fate::Stays(index));
            }
        }
        for parent in too_many {
            family.set(parent, Fate::Waits);
        }
        Ok(joined)
    }

    /// Somebody may have held a deletion since the list was read. From here on he waits for us.
    fn refuse_held(&self, family: &Family) -> Result<()> {
        let deletions: HashSet<&String> = family.members.iter().filter_map(|member| member.deletion.as_ref()).collect();
        if hold::lock_and_look(&deletions.into_iter().cloned().collect::<Vec<_>>())? {
            return Err(Error::new(SERIALIZATION_FAILURE, "a deletion was held meanwhile"));
        }
        Ok(())
    }

    /// As whom rows of a table go: who purges deletes from what is the target's owner's, or his own; what is somebody else's,
    /// whose triggers run, as its owner, as the server's foreign keys do.
    fn acting_on(&self, relid: Oid, of_target: Oid) -> Result<Oid> {
        let owner = owner(relid)?;
        Ok(if relid == self.target.relid || owner == of_target { catalog::current_user() } else { owner })
    }

    fn delete(&self, role: Oid, going: &Going) -> Result<i64> {
        if going.is_empty() {
            return Ok(0);
        }
        let leaves = going.iter().map(|(leaf, _)| name(*leaf)).collect::<Result<Vec<_>>>()?;
        let statement = self.statements.get(statements::delete(&leaves), &vec![TIDS; leaves.len()]);
        statement.names(&going.iter().map(|(leaf, _)| *leaf).collect::<Vec<_>>());
        let tids: Vec<String> = going.iter().map(|(_, tids)| tid_array(tids)).collect();
        let args: Vec<Arg<'_>> = tids.iter().map(|tids| Arg::Text(tids)).collect();
        let before: TimestampWithTimeZone = (self.cutoff.parse())
            .map_err(|error| Error::new(INTERNAL_ERROR, format!("not a time: {} ({error})", self.cutoff)))?;
        let delete = || raw::purge(before.into(), &statement, &args);
        let rows = if role == catalog::current_user() {
            delete()?
        } else {
            going.iter().try_for_each(|(leaf, _)| require_delete(*leaf))?;
            spi::theirs::acting_as(role, delete)?
        };
        Ok(rows.first().and_then(|row| row.first()?.as_ref()?.parse().ok()).unwrap_or(0))
    }
}

/// The purge needs the right that a DELETE by its owner's own hand would.
fn require_delete(leaf: Oid) -> Result<()> {
    let allowed = spi::query_one(
        "SELECT coalesce(pg_catalog.has_table_privilege($1, 'DELETE'), true), pg_catalog.quote_ident(current_user)",
        &[leaf.into()],
        |row| Ok((row.require::<bool>(1)?, row.require::<String>(2)?)),
    )?;
    let Some((false, role)) = allowed else { return Ok(()) };
    let table = name(leaf)?;
    Err(Error::new(INSUFFICIENT_PRIVILEGE, format!("permission denied for table {table}"))
        .hint(format!("GRANT SELECT, UPDATE, DELETE ON {table} TO {role};")))
}

fn by_leaf(places: &[Place]) -> Vec<(Oid, Vec<Tid>)> {
    let mut leaves: Vec<(Oid, Vec<Tid>)> = Vec::new();
    for place in places {
        match leaves.iter_mut().find(|(leaf, _)| *leaf == place.leaf) {
            Some((_, tids)) => tids.push(place.tid),
            None => leaves.push((place.leaf, vec![place.tid])),
        }
    }
    leaves
}

pub fn oid(text: &str) -> Oid {
    Oid::from(text.parse::<u32>().unwrap_or(0))
}

/// The server's text of an array of places.
fn tid_array(tids: &[Tid]) -> String {
    let mut text = String::with_capacity(tids.len() * 14 + 2);
    text.push('{');
    for (i, tid) in tids.iter().enumerate() {
        if i > 0 {
            text.push(',');
        }
        text.push('"');
        text.push_str(&tid.to_string());
        text.push('"');
    }
    text.push('}');
    text
}

/// The table under the name that it has now; the step holds a lock on it or on what it is a partition of.
pub fn name(relid: Oid) -> Result<String> {
    let (schema, name) = heap::name(relid)
        .ok_or_else(|| Error::new(OBJECT_NOT_IN_PREREQUISITE_STATE, "a table or partition was dropped meanwhile"))?;
    Ok(format!("{}.{}", identifier(&schema), identifier(&name)))
}
