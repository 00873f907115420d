//! The statements of soft delete for one relation: what the engine (`soft_delete::raw`) runs in other people's
//! statements. Parameters 1 to 3 are always the deletion's id, when, and who; what follows are the keys, an array a column.
//!
//! [`own`] writes what is done to the table itself, [`image`] what a DELETE on its live view does, [`children`] and [`clearing`]
//! what becomes of rows that reference it, [`parents`] what looks whether a row references deleted ones; [`keys`] how keys are
//! handed on.

mod children;
mod clearing;
mod image;
mod keys;
mod own;
mod parents;

use std::ffi::CString;

use super::managed::{self, Column};
use crate::error::Result;
use crate::server::named::objects::Objects;
use crate::server::raw::Planned;
use crate::server::{Oid, catalog, encoding, spi};

pub use keys::{common, counted_own, wanted_keys};
pub use parents::references;

/// What arrays of keys are told apart by, never by their place: foreign keys are added, renamed and dropped meanwhile.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct KeyColumn {
    /// In the table (not a view or a partition of it).
    pub number: i16,
    /// The type of arrays of it.
    pub array_oid: Oid,
}

impl From<&Column> for KeyColumn {
    fn from(column: &Column) -> Self {
        KeyColumn { number: column.number, array_oid: column.array_oid }
    }
}

/// A key column of the table, and where it is in the relation whose rows a trigger sees.
pub struct Key {
    pub column: KeyColumn,
    pub number: i16,
    pub type_oid: Oid,
    pub by_value: bool,
    pub length: i16,
}

impl Key {
    fn of(column: &Column) -> Self {
        Key {
            column: column.into(),
            number: column.number,
            type_oid: column.type_oid,
            by_value: column.by_value,
            length: column.length,
        }
    }
}

/// What a deleted row means for what references it.
pub enum Action {
    /// Live rows go too; `child` is the table with soft delete, its `keys` come back.
    Cascade { child: Oid, statement: Planned, keys: Vec<KeyColumn> },
    /// References are cleared, and remembered.
    Clear { child: Oid, clearing: Clearing },
    /// No live row may be there: now (RESTRICT), or once everything else is done.
    Refuse { now: bool, statement: Planned, names_table: bool, refusal: Refusal },
    /// Its table has no soft delete, and was to be ignored.
    Nothing,
}

/// How references are cleared.
pub struct Clearing {
    /// The UPDATE. It returns of each row its `keys`, `columns` values that it had (of the row itself, and as the deleted row
    /// has them), and those that it has now. They become text outside of it, under settings which no trigger may see.
    pub clear: Planned,
    pub keys: usize,
    pub columns: usize,
    pub remember: Planned,
}

/// What a refusal says.
pub struct Refusal {
    pub sqlstate: &'static std::ffi::CStr,
    pub message: CString,
    pub hint: Option<CString>,
    pub schema: CString,
    pub table: CString,
    pub constraint: CString,
}

pub struct Child {
    /// The table that the statements of `action` name.
    pub relid: Oid,
    /// When this was put together. What is done is done as the owner under the lock (`raw::become_owner`), as the server's
    /// own foreign keys do it.
    pub owner: Oid,
    /// Which of the table's keys the foreign key references.
    pub keys: Vec<KeyColumn>,
    pub action: Action,
}

/// A table with soft delete that this one references.
pub struct Parent {
    pub relid: Oid,
    pub owner: Oid,
    pub deferrable: bool,
    /// Attributes of the referencing row; parameters of `look` from 4 on.
    pub columns: Vec<Key>,
    pub look: Planned,
    /// The same for many rows; which columns it takes.
    pub references: Vec<KeyColumn>,
    pub look_all: Planned,
    pub refusal: Refusal,
}

/// What is done to the table itself.
pub struct Own {
    /// The table (not a view or a partition of it).
    pub relid: Oid,
    pub owner: Oid,
    /// The primary key, then what else foreign keys reference.
    pub keys: Vec<Key>,
    pub primary: usize,
    pub children: Vec<Child>,
    /// What to do instead of DELETE and TRUNCATE.
    pub guard_hint: CString,
    /// What to do instead of changing a deleted row by an INSERT.
    pub upsert_hint: CString,
    /// For the guard during a purge, over its transition table: a row that may not go (parameter 1: unless it was deleted
    /// before), and the count of those gone.
    pub not_due: Planned,
    pub note_purged: Planned,
    /// FOR UPDATE on deleted rows: parameters the arrays of the primary key.
    pub lock: Planned,
    /// Which of these are rows of the table itself, where tables inherit from it; the same parameters, and `keys` come back.
    pub own_rows: Option<(Planned, Vec<KeyColumn>)>,
    /// Rows whose deletion was set by hand get what belongs to it; the same for those brought back.
    pub stamp: Planned,
    pub unstamp: Planned,
    /// DELETE of one row of a view: the row as the statement saw it, then the values of the primary key.
    pub delete_one: Planned,
    /// Is a row that is still live as it was?
    pub look_one: Planned,
    /// The same for many rows, an array of each; how many belong to the deletion by now, and how many are as they were.
    pub delete_many: Planned,
    pub look_many: Planned,
    /// Of the table itself.
    pub back: Option<Back>,
    /// Invalid: there is none.
    pub live_view: Oid,
    pub row_type: Oid,
    /// The view shows all columns of `keys` as they are.
    pub view_fits: bool,
    pub deleted_at: i16,
    pub deletion_id: i16,
    pub has_timezone: bool,
    /// 0: there is none.
    pub flag: i16,
}

/// How rows of a deletion (parameter 1) come back.
pub struct Back {
    /// Gives how many, and the `keys` by which they reference others.
    pub update: Planned,
    pub keys: Vec<KeyColumn>,
    /// How many there are still.
    pub left: Planned,
}

pub struct Program {
    pub own: Option<Own>,
    pub parents: Vec<Parent>,
    /// Relations whose changes make it out of date; in order.
    pub relations: Vec<Oid>,
    /// The same for types and roles, as the server calls them when they change.
    pub hashes: Vec<u32>,
}

/// The statements for a table with soft delete, a partition or live view of one, or a table that references one: all made
/// of the catalogs of one moment.
pub fn build(relid: Oid) -> Result<Program> {
    spi::at_one_moment(|| put_together(relid))
}

fn put_together(relid: Oid) -> Result<Program> {
    let managed = managed::find(relid)?;
    let mut relations = vec![relid];
    let own = match &managed {
        Some(managed) => Some(own::of(relid, managed, &mut relations)?),
        None => None,
    };
    let parents = parents::of(relid, &mut relations)?;
    if !managed::is_up_to_date() {
        // Changed by ALTER EXTENSION UPDATE.
        relations.push(catalog::relation_of_ours(c"_deletion_cleared"));
    }
    relations.sort_unstable_by_key(|relid| relid.to_u32());
    relations.dedup();
    let mut program = Program { own, parents, relations, hashes: Vec::new() };
    program.fix_names(relid)?;
    program.hashes = program.objects();
    Ok(program)
}

impl Program {
    /// Does a change of this relation make it out of date?
    pub fn names(&self, relid: Oid) -> bool {
        self.relations.binary_search_by_key(&relid.to_u32(), |known| known.to_u32()).is_ok()
    }

    /// Tells the statements which tables they are about: an error if a name is another table's when they run.
    fn fix_names(&self, relid: Oid) -> Result<()> {
        if let Some(own) = &self.own {
            let statements =
                [&own.lock, &own.stamp, &own.unstamp, &own.delete_one, &own.look_one, &own.delete_many, &own.look_many];
            let objects = Objects::of(&[own.relid])?;
            let back = own.back.iter().flat_map(|back| [&back.update, &back.left]);
            let own_rows = own.own_rows.iter().map(|(statement, _)| statement);
            statements
                .into_iter()
                .chain(back)
                .chain(own_rows)
                .for_each(|statement| statement.names(own.relid, &objects));
            for child in &own.children {
                match &child.action {
                    Action::Cascade { statement, .. } | Action::Refuse { statement, names_table: true, .. } => {
                        // Keys have the collations of the table that is referenced.
                        statement.names(child.relid, &Objects::of(&[child.relid, own.relid])?)
                    }
                    Action::Clear { clearing, .. } => {
                        clearing.clear.names(child.relid, &Objects::of(&[child.relid, own.relid])?)
                    }
                    Action::Refuse { .. } | Action::Nothing => {}
                }
            }
        }
        for parent in &self.parents {
            let objects = Objects::of(&[parent.relid, relid])?;
            parent.look.names(parent.relid, &objects);
            parent.look_all.names(parent.relid, &objects);
        }
        Ok(())
    }

    fn objects(&self) -> Vec<u32> {
        let (mut types, mut roles) = (Vec::new(), Vec::new());
        if let Some(own) = &self.own {
            types.push(own.row_type);
            types.extend(own.keys.iter().map(|key| key.type_oid));
            roles.push(own.owner);
            roles.extend(own.children.iter().map(|child| child.owner));
        }
        for parent in &self.parents {
            types.extend(parent.columns.iter().map(|key| key.type_oid));
            roles.push(parent.owner);
        }
        crate::soft_delete::raw::programs::hashes(&types, &roles)
    }
}

fn text(text: &str) -> CString {
    encoding::to_c(text).unwrap_or_default()
}
