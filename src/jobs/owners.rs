//! Owners by name. A dump carries their names, and elsewhere these are all that there is to go by (LAW 20). So a name
//! follows the role when that is renamed: whoever has an owner's old name by then is not to get his jobs, nor what else
//! `pause_all()` holds.
//!
//! All of it runs inside [`spi::bookkeeping`].

use std::ffi::CStr;

use pgrx::Uuid;
use pgrx::datum::DatumWithOid;
use pgrx::prelude::*;

use super::registry;
use crate::error::{DUPLICATE_OBJECT, Error, LOCK_NOT_AVAILABLE, Result, UNDEFINED_OBJECT};
use crate::server::lock::{Lock, Purpose};
use crate::server::{Oid, catalog, spi};

/// The private tables whose rows belong to a role, without their schema.
pub fn owned() -> impl Iterator<Item = &'static str> {
    let held = registry::chores().iter().filter_map(|chore| chore.held());
    std::iter::once(JOBS).chain(held.map(|held| held.table()))
}

/// That of jobs.
pub const JOBS: &str = "_job";

const UNFINISHED: &str = "state OPERATOR(pg_catalog.=) ANY (ARRAY['queued', 'running', 'paused'])";

/// Takes down what owners are called by now. What somebody has locked is for a later look.
pub fn follow_all() -> Result<()> {
    for table in owned() {
        for owner in renamed(table)? {
            follow(table, "owner OPERATOR(pg_catalog.=) $2", owner.into())?;
        }
    }
    Ok(())
}

/// Of this row, which the caller has locked.
pub fn follow_owner_of(table: &str, row: Uuid) -> Result<()> {
    follow(table, "id OPERATOR(pg_catalog.=) $2", row.into())
}

/// Of the rows of which this is so, with `$2`.
fn follow(table: &str, so: &str, which: DatumWithOid<'_>) -> Result<()> {
    spi::execute(
        &format!(
            "UPDATE upkeep.{table} t SET owner_name = r.rolname
             FROM pg_catalog.pg_roles r
             WHERE r.oid OPERATOR(pg_catalog.=) t.owner AND t.id OPERATOR(pg_catalog.=) ANY (ARRAY(
                 SELECT i.id FROM upkeep.{table} i
                 JOIN pg_catalog.pg_roles q ON q.oid OPERATOR(pg_catalog.=) i.owner
                 WHERE q.rolname OPERATOR(pg_catalog.<>) i.owner_name AND i.system_identifier OPERATOR(pg_catalog.=) $1
                   AND i.{so}
                 FOR UPDATE OF i SKIP LOCKED))"
        ),
        &[catalog::system_identifier().into(), which],
    )
    .map(drop)
}

/// Owners that are called otherwise than this table says. From one to the next in the index, whatever number of rows each has.
fn renamed(table: &str) -> Result<Vec<Oid>> {
    spi::query(
        &format!(
            "WITH RECURSIVE o (owner, owner_name) AS (
                 (SELECT t.owner, t.owner_name FROM upkeep.{table} t WHERE t.system_identifier OPERATOR(pg_catalog.=) $1
                  ORDER BY t.owner, t.owner_name LIMIT 1)
                 UNION ALL
                 SELECT n.owner, n.owner_name
                 FROM o CROSS JOIN LATERAL (
                     SELECT t.owner, t.owner_name FROM upkeep.{table} t
                     WHERE t.system_identifier OPERATOR(pg_catalog.=) $1
                       AND ROW(t.owner, t.owner_name) OPERATOR(pg_catalog.>) ROW(o.owner, o.owner_name)
                     ORDER BY t.owner, t.owner_name LIMIT 1) n)
             SELECT DISTINCT o.owner FROM o JOIN pg_catalog.pg_roles r ON r.oid OPERATOR(pg_catalog.=) o.owner
             WHERE r.rolname OPERATOR(pg_catalog.<>) o.owner_name"
        ),
        &[catalog::system_identifier().into()],
        |row| row.require(1),
    )
}

/// Of a name of this owner's, in the table that it is unique in: two who want the same must see each other, and the unique
/// index alone would answer with its own words.
pub fn name_lock(table: &str, owner: Oid, name: &str) -> Lock {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let mut hasher = DefaultHasher::new();
    (table, owner.to_u32(), name).hash(&mut hasher);
    Lock::new(Purpose::Name, hasher.finish())
}

/// Whose a row is here. An OID of another server is that of some other role, so only the owner's name counts; of this one the
/// owner is the same role, whatever it is called by now. 0: nobody's. The bits of an oid's Datum, since an [`Oid`] that is 0
/// would be given as null.
#[pg_extern(sql = false)]
fn owner_here(system_identifier: i64, owner: Oid, owner_name: &CStr) -> i64 {
    let same_server = system_identifier == catalog::system_identifier();
    let owner = if same_server { Some(owner) } else { catalog::role_called(owner_name) };
    owner.map_or(0, |owner| i64::from(owner.to_u32()))
}

/// Does a job belong to this server and database, or did it come with a dump (LAW 20)?
#[pg_extern(sql = false)]
pub fn is_here(system_identifier: i64, database: Oid) -> bool {
    system_identifier == catalog::system_identifier() && database == catalog::my_database()
}

/// What a role has under this name; of jobs the unfinished one.
pub fn called(table: &str, owner: Oid, name: &str) -> Result<Option<Uuid>> {
    let unfinished = if table == JOBS { UNFINISHED } else { "true" };
    let found = spi::execute_returning(
        &format!(
            "SELECT id FROM upkeep.{table}
             WHERE name OPERATOR(pg_catalog.=) $2 AND upkeep._owner(system_identifier, owner, owner_name) OPERATOR(pg_catalog.=) $1
               AND {unfinished}"
        ),
        &[owner.into(), name.into()],
        |row| row.require::<Uuid>(1),
    )?;
    Ok(found.into_iter().next())
}

/// Rows that came with a dump or a copy: those that belong here from now on, and those that cannot yet, and why.
pub struct Adopted {
    pub moved: Vec<Uuid>,
    pub stay: Vec<(Uuid, Error)>,
}

/// A row of another place.
struct Foreign {
    id: Uuid,
    owner_name: String,
    owner: Oid,
    name: Option<String>,
}

/// Takes in what of these rows came with a dump or a copy; the caller has locked them. One that cannot be is in nobody's way
/// (LAW 32): its role is not on this server, or has something of that name here.
pub fn adopt(table: &str, rows: &[Uuid]) -> Result<Adopted> {
    let foreign = spi::execute_returning(
        &format!(
            "SELECT t.id, t.owner_name::pg_catalog.text, upkeep._owner(t.system_identifier, t.owner, t.owner_name), t.name
             FROM upkeep.{table} t
             WHERE t.id OPERATOR(pg_catalog.=) ANY ($1) AND NOT upkeep._is_here(t.system_identifier, t.database)
             ORDER BY t.created_at, t.id"
        ),
        &[rows.to_vec().into()],
        |row| {
            Ok(Foreign {
                id: row.next()?,
                owner_name: row.next_legible()?.unwrap_or_default(),
                owner: row.next()?,
                name: row.next_or_null()?,
            })
        },
    )?;
    let mut adopted = Adopted { moved: Vec::new(), stay: Vec::new() };
    for row in foreign {
        match take_in(table, &row)? {
            None => adopted.moved.push(row.id),
            Some(missing) => adopted.stay.push((row.id, missing)),
        }
    }
    Ok(adopted)
}

/// What it lacks, or `None`: it belongs here now.
fn take_in(table: &str, row: &Foreign) -> Result<Option<Error>> {
    if row.owner == Oid::INVALID {
        let missing = Error::new(UNDEFINED_OBJECT, format!("role \"{}\" does not exist", row.owner_name));
        return Ok(Some(missing.hint("Create the role that it belongs to; then: SELECT upkeep.resume_all();")));
    }
    let Some(name) = &row.name else { return move_here(table, row).map(|()| None) };
    // The unique index would wait for whoever is about to take the name.
    let done = name_lock(table, row.owner, name).during(|| match namesake(table, row, name)? {
        None => move_here(table, row).map(|()| None),
        Some(other) => {
            let message = format!("role \"{}\" has another one named \"{name}\" here", row.owner_name);
            Ok(Some(
                Error::new(DUPLICATE_OBJECT, message)
                    .detail(format!("It is {other}."))
                    .hint("End or rename either of them; then: SELECT upkeep.resume_all();"),
            ))
        }
    });
    done.unwrap_or_else(|| {
        let taken = Error::new(LOCK_NOT_AVAILABLE, format!("another transaction uses the name \"{name}\""));
        Ok(Some(taken.hint("As soon as that has ended: SELECT upkeep.resume_all();")))
    })
}

/// What its owner has here already under its name.
fn namesake(table: &str, row: &Foreign, name: &str) -> Result<Option<Uuid>> {
    let unfinished = if table == JOBS { UNFINISHED } else { "true" };
    let found = spi::execute_returning(
        &format!(
            "SELECT id FROM upkeep.{table}
             WHERE owner OPERATOR(pg_catalog.=) $1 AND name OPERATOR(pg_catalog.=) $2
               AND system_identifier OPERATOR(pg_catalog.=) $3 AND id OPERATOR(pg_catalog.<>) $4 AND {unfinished}"
        ),
        &[row.owner.into(), name.into(), catalog::system_identifier().into(), row.id.into()],
        |row| row.require::<Uuid>(1),
    )?;
    Ok(found.into_iter().next())
}

fn move_here(table: &str, row: &Foreign) -> Result<()> {
    spi::execute(
        &format!(
            "UPDATE upkeep.{table} SET owner = $2, system_identifier = $3, database = $4
             WHERE id OPERATOR(pg_catalog.=) $1"
        ),
        &[row.id.into(), row.owner.into(), catalog::system_identifier().into(), catalog::my_database().into()],
    )
    .map(drop)
}

/// Is there anything whose owner's name a dump would carry to work elsewhere?
pub fn anything_owned() -> Result<bool> {
    for table in owned() {
        let condition = if table == JOBS { UNFINISHED } else { "true" };
        let found =
            spi::query_one(&format!("SELECT EXISTS (SELECT FROM upkeep.{table} WHERE {condition})"), &[], |row| {
                row.require::<bool>(1)
            })?;
        if found == Some(true) {
            return Ok(true);
        }
    }
    Ok(false)
}
