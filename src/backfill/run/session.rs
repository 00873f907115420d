//! The statements of one backfill in one worker, planned as they are needed, for the
//! table under the name that it has now.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use pgrx::Uuid;

use crate::backfill::definition::{self, Analysis, Definition, Reach};
use crate::backfill::key::{self, Key};
use crate::backfill::list::{self, Listed};
use crate::backfill::options::Walk;
use crate::backfill::statements::{Begin, Parts, Read, Take};
use crate::backfill::target::{self, Table};
use crate::sql::quote::identifier;

use super::cursor::{KeyText, Phase};
use crate::error::{Error, OBJECT_NOT_IN_PREREQUISITE_STATE, Result, UNDEFINED_TABLE};
use crate::server::catch::undone;
use crate::server::repeated::Statement;
use crate::server::{Oid, heap, spi, types, value};

const MANY_BLOCKS: u32 = 64;

/// The statements that are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Which {
    UpdateBlocks(Take),
    ReadBlocks(Take, Read),
    UpdateKeys(Begin, Take),
    ReadKeys(Begin, Take, Read),
    UpdatePlaces,
    LockPlaces,
    ReadByKey(Read),
    ReadByPlace(Read),
    VerifyBlocks,
    LastKey,
    Boundaries(Begin),
}

pub struct Session {
    /// Of the table that was asked for, and of the one at hand.
    names: [(String, String); 2],
    /// The statements name the table that was asked for: its row security applies.
    pub through_root: bool,
    table: Oid,
    /// Nothing leads to its rows but their places: no sub-select that a semi-join could begin with. A table of few blocks may as well be
    /// read as a whole.
    by_places: bool,
    pub parts: Parts,
    statements: RefCell<HashMap<Which, Rc<Statement>>>,
}

/// The table that was asked for, under the name it has now, and what the text means for it. No lock of it
/// stays: others may want to change it while we are at one of its leaves. `None`: it is gone.
pub fn analysed(root: Oid, definition: &Definition) -> Result<Option<(Table, Analysis)>> {
    undone(|| {
        if !heap::lock_for_update(root) {
            return Ok(None);
        }
        let table = spi::freshly(|| target::check(Some(root)))?;
        let analysis = definition::analyse(&table, &definition.assignments, definition.condition.as_deref())?;
        Ok(Some((table, analysis)))
    })
}

impl Session {
    /// The text is analysed again: its names must mean what they meant at creation (LAW 21).
    pub fn open(root: Oid, leaf: &Listed, definition: &Definition, job: Uuid) -> Result<Self> {
        let Some((table, analysis)) = analysed(root, definition)? else {
            return Err(Error::new(UNDEFINED_TABLE, "the table that was asked for is gone"));
        };
        check_meaning(&analysis.fingerprint, definition)?;
        let names = [root, leaf.relid].map(|relid| heap::name(relid).unwrap_or_default());
        let [_, (schema, name)] = &names;
        let reach = Reach::of(&table, leaf.relid, &format!("{}.{}", identifier(schema), identifier(name)))?;
        let through_root = reach.own_rows.is_some();
        let key = find_key(root, leaf, definition, job)?;
        Ok(Session {
            names,
            through_root,
            table: if through_root { root } else { leaf.relid },
            by_places: !through_root && !analysis.has_sub_selects && heap::blocks(leaf.relid) >= MANY_BLOCKS,
            parts: definition::parts(reach, leaf.relid, definition, &analysis, key)?,
            statements: RefCell::default(),
        })
    }

    /// Are the tables still called what the statements call them?
    pub fn is_current(&self, root: Oid, leaf: Oid) -> bool {
        self.names.iter().zip([root, leaf]).all(|(name, relid)| heap::name(relid).as_ref() == Some(name))
    }

    pub fn statement(&self, which: Which) -> Rc<Statement> {
        Rc::clone(self.statements.borrow_mut().entry(which).or_insert_with(|| {
            let (sql, types) = self.text(which);
            let mut statement = Statement::new(sql, &types).around(&self.parts.fragments());
            if self.has_one_way(which) {
                statement = statement.planned_once();
            }
            statement.names(&[self.table]);
            Rc::new(statement)
        }))
    }

    /// Would a plan that knows the places be another one than a plan that does not? Where the condition is tested before anything else,
    /// an index may lead to the rows that it is true for: better than half a percent of the table, which is what unknown places are
    /// taken for, and worse than a few blocks.
    fn has_one_way(&self, which: Which) -> bool {
        let Which::UpdateBlocks(take) = which else { return false };
        self.by_places && (take != Take::All || self.parts.condition.is_none())
    }

    /// The greatest key.
    pub fn last_key(&self) -> Result<Option<KeyText>> {
        let last = self.statement(Which::LastKey).rows(&[])?;
        Ok(last.into_iter().next().and_then(|row| row.into_iter().collect()))
    }

    /// A key that an older version has written under the job's settings, as this one writes it.
    pub fn modern(&self, key: &KeyText) -> Result<KeyText> {
        let values: Vec<_> = self
            .key_types()
            .zip(key)
            .map(|(kind, text)| Ok((kind, value::from_old_text(kind, text)?)))
            .collect::<Result<_>>()?;
        spi::unambiguous(|| Ok(values.into_iter().map(|(kind, value)| value::to_text(kind, value)).collect()))
    }

    fn text(&self, which: Which) -> (String, Vec<Oid>) {
        let parts = &self.parts;
        match which {
            Which::UpdateBlocks(take) => (parts.update_blocks(take), blocks(take)),
            Which::ReadBlocks(take, read) => (parts.read_blocks(take, read), blocks(take)),
            Which::UpdateKeys(from, take) => (parts.update_keys(from, take), self.keys(from, strides(take))),
            Which::ReadKeys(from, take, read) => (parts.read_keys(from, take, read), self.keys(from, strides(take))),
            Which::UpdatePlaces => (parts.update_places(), vec![types::TIDARRAY]),
            Which::LockPlaces => (parts.lock_places(), vec![types::TIDARRAY]),
            Which::ReadByKey(read) => (parts.read_by_key(read), self.key_types().collect()),
            Which::ReadByPlace(read) => (parts.read_by_place(read), vec![types::TID]),
            Which::VerifyBlocks => (parts.verify_blocks(), vec![types::TID, types::TID, types::INT4]),
            Which::LastKey => (parts.last_key(), Vec::new()),
            Which::Boundaries(from) => (parts.boundaries(from), self.keys(from, &[types::INT4, types::INT4])),
        }
    }

    fn key_types(&self) -> impl Iterator<Item = Oid> + '_ {
        self.parts.key.iter().flat_map(Key::types)
    }

    fn keys(&self, from: Begin, more: &[Oid]) -> Vec<Oid> {
        let bounds = if from == Begin::Start { 1 } else { 2 };
        (0..bounds).flat_map(|_| self.key_types()).chain(more.iter().copied()).collect()
    }
}

fn blocks(take: Take) -> Vec<Oid> {
    let mut types = vec![types::TID, types::TID];
    types.extend_from_slice(strides(take));
    types
}

fn strides(take: Take) -> &'static [Oid] {
    match take {
        Take::All => &[],
        Take::Stride => &[types::INT4, types::INT4],
        Take::OldStride => &[types::INT4, types::INT4, types::XID, types::INT4],
    }
}

/// Do the names in the text still mean what they did?
pub fn check_meaning(fingerprint: &str, definition: &Definition) -> Result<()> {
    if definition.fingerprint.as_deref().is_none_or(|known| known == fingerprint) {
        return Ok(());
    }
    Err(Error::new(OBJECT_NOT_IN_PREREQUISITE_STATE, "a name in the backfill's text means something else now")
        .detail(
            "A function, operator, table, column or type that the assignments or the condition name was dropped, \
            replaced or hidden by another since the job was created.",
        )
        .hint("Look at the definition, cancel this job and start a new one."))
}

/// The key that was chosen when the table was begun, if it is still one: at creation for an ordinary table.
fn find_key(root: Oid, leaf: &Listed, definition: &Definition, job: Uuid) -> Result<Option<Key>> {
    let shared = list::shared(job, leaf.number)?;
    let has_condition = definition.condition.is_some();
    let names = match (&shared.key, shared.phase) {
        (Some(names), _) => names,
        (None, Phase::Start) if leaf.relid != root || definition.key.is_empty() => {
            let keys = key::keys(leaf.relid)?;
            return definition::choose_key(&keys, &leaf.sql, &definition.columns, has_condition);
        }
        _ => &definition.key,
    };
    if names.is_empty() {
        return Ok(None);
    }
    let found = key::keys(leaf.relid)?.into_iter().find(|key| key.columns.iter().map(|column| &column.name).eq(names));
    let needed = !has_condition || definition.options.strategy == Some(Walk::Keys);
    if found.is_none() && needed {
        return Err(Error::new(
            OBJECT_NOT_IN_PREREQUISITE_STATE,
            format!("the key ({}) that the backfill goes by is gone", names.join(", ")),
        )
        .detail(format!("It was a unique index of {}.", leaf.sql))
        .hint("Create the unique index again and call upkeep.retry()."));
    }
    if let (Some(found), Some(order)) = (&found, &shared.order)
        && shared.last_key.is_some()
        && found.order() != *order
    {
        return Err(Error::new(
            OBJECT_NOT_IN_PREREQUISITE_STATE,
            format!("the key ({}) that the backfill goes by has another order now", names.join(", ")),
        )
        .detail(format!("A column of it in {} has got another type or another collation.", leaf.sql))
        .hint("Cancel this job, and start one that names the rows which still need it in its condition."));
    }
    Ok(found)
}
