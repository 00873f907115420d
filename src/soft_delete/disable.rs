//! `upkeep.disable_soft_delete`: checks before, and what is taken down after, the rows have been seen to
//! (`soft_delete::raw::ending`, which is the function that SQL calls).

use pgrx::Uuid;

use super::ddl::ours;
use super::enable::require_owner_of;
use super::managed::{self, Managed};
use super::{objects, request};
use crate::calls::{arguments, standing};
use crate::error::*;
use crate::server::named::objects::Objects;
use crate::server::raw::Planned;
use crate::server::{Oid, spi};
use crate::sql::quote::{identifier, literal};

/// What is to be done about the rows that are deleted. The table is locked.
pub struct Ending {
    pub relid: Oid,
    table: String,
    /// Finds one, which is refused.
    pub refuse_deleted: Option<Planned>,
    /// Deletes them for good.
    pub purge: Option<Planned>,
}

pub fn begin(target: Oid, deleted_rows: Option<&str>) -> Result<Ending> {
    standing::refuse_in_recovery("disable soft delete")?;
    standing::refuse_other_version()?;
    let deleted_rows = arguments::required(deleted_rows, "deleted_rows")?;
    let deleted_rows = arguments::one_of(deleted_rows, "deleted_rows", &["refuse", "keep", "purge"])?;
    let managed = request::target(target)?;
    require_owner_of(&managed)?;
    objects::lock_all(&managed, true)?;
    // Again: whoever had the lock may have given the table to somebody else, or another name.
    let managed = request::target(managed.relid)?;
    require_owner_of(&managed)?;
    let table = managed.sql();
    let purge = deleted_rows == "purge";
    if purge {
        refuse_held(&managed)?;
    }
    let deleted = format!("{table} AS t WHERE NOT ({})", managed.live("t"));
    let objects = Objects::of(&[managed.relid])?;
    let statement = |sql: String| {
        let statement = Planned::new(sql, Vec::new());
        statement.names(managed.relid, &objects);
        statement
    };
    Ok(Ending {
        relid: managed.relid,
        refuse_deleted: (deleted_rows == "refuse").then(|| statement(format!("SELECT FROM {deleted} LIMIT 1"))),
        purge: purge.then(|| statement(format!("DELETE FROM {deleted}"))),
        table,
    })
}

/// What is held no purge takes; nobody can hold one from here on.
fn refuse_held(managed: &Managed) -> Result<()> {
    let held: Vec<(Uuid, Option<String>)> = spi::bookkeeping(|| {
        spi::execute_returning(
            "SELECT d.id, d.held FROM upkeep._deletion d
             WHERE d.undeleted_at IS NULL AND d.id OPERATOR(pg_catalog.=) ANY (
                 SELECT t.deletion FROM upkeep._deletion_table t
                 WHERE t.relid OPERATOR(pg_catalog.=) $1 AND t.purged OPERATOR(pg_catalog.<) t.rows)
             ORDER BY d.id FOR SHARE OF d",
            &[managed.relid.into()],
            |row| Ok((row.require(1)?, row.get(2)?)),
        )
    })?;
    let Some((id, reason)) = held.into_iter().find_map(|(id, held)| Some((id, held?))) else { return Ok(()) };
    Err(Error::new(
        OBJECT_NOT_IN_PREREQUISITE_STATE,
        format!("deletion {id} is held, which has rows in {}", managed.sql()),
    )
    .detail(format!("It is held because: {reason}"))
    .hint(format!(
        "SELECT upkeep.release_deletion('{id}'); or keep the rows: SELECT upkeep.disable_soft_delete({}, 'keep');",
        literal(&managed.sql())
    )))
}

pub fn has_deleted_rows(ending: &Ending) -> Error {
    Error::new(OBJECT_NOT_IN_PREREQUISITE_STATE, format!("{} has deleted rows", ending.table))
        .detail("Without soft delete they look like any other row.")
        .hint(format!(
            "SELECT upkeep.disable_soft_delete({}, 'keep'); or, to delete them for good, 'purge'.",
            literal(&ending.table)
        ))
}

pub fn end(ending: &Ending) -> Result<()> {
    // A trigger of the user's may have changed anything while rows were deleted.
    let Some(managed) = managed::find(ending.relid)?.filter(|managed| managed.relid == ending.relid) else {
        return Ok(());
    };
    super::retention::end(&managed)?;
    drop_views(&managed)?;
    spi::bookkeeping(|| {
        spi::execute(
            "DELETE FROM upkeep._soft_delete_table WHERE relid OPERATOR(pg_catalog.=) $1",
            &[managed.relid.into()],
        )
    })?;
    objects::remove(&managed)?;
    if managed.hide == "swap" {
        let rename = format!("ALTER TABLE {} RENAME TO {}", managed.sql(), identifier(&managed.name));
        spi::as_owner(managed.owner, || spi::execute(&rename, &[]))?;
    }
    Ok(())
}

/// What depends on a view is the server's to say; what is part of it, and not ours, would go without a word.
fn drop_views(managed: &Managed) -> Result<()> {
    for view in [managed.live_view, managed.deleted_view].into_iter().flatten() {
        let Some(seen) = ours::locked(view)? else { continue };
        let mut reasons = seen.all_differences();
        if !seen.is_the_tables_owners() {
            reasons.insert(0, "its owner".to_owned());
        }
        if !reasons.is_empty() {
            return Err(ours::refuse(
                "disable_soft_delete does not drop",
                &seen,
                &reasons,
                format!(
                    "Drop what somebody has put on it and call it again, or the view itself: BEGIN; DROP VIEW {}; \
                    SELECT upkeep.disable_soft_delete({}, ..); COMMIT;",
                    seen.sql,
                    literal(&managed.sql())
                ),
            ));
        }
        spi::as_owner(managed.owner, || spi::execute(&format!("DROP VIEW {}", seen.sql), &[]))?;
    }
    Ok(())
}
