//! Deletions that are held, and what is known of those whose rows are gone. Static statements on private tables.

use std::collections::HashMap;

use pgrx::Uuid;
use pgrx::prelude::*;

use crate::calls::{arguments, standing};
use crate::error::{Error, INSUFFICIENT_PRIVILEGE, INVALID_PARAMETER_VALUE, Result, UNDEFINED_OBJECT};
use crate::server::raise::answer;
use crate::server::{Oid, catalog, spi};

/// `upkeep.hold_deletion(deletion, reason)`
#[pg_extern(sql = false)]
fn hold_deletion(deletion: Option<Uuid>, reason: Option<&str>) -> Uuid {
    answer((|| {
        arguments::check_text("reason", reason)?;
        let reason = arguments::required(reason, "reason")?;
        if reason.trim().is_empty() {
            return Err(Error::new(INVALID_PARAMETER_VALUE, "a hold needs a reason")
                .hint("For example: SELECT upkeep.hold_deletion(deletion, 'court case 4711');"));
        }
        change(arguments::required(deletion, "deletion")?, Some(reason), "hold")
    })())
}

/// `upkeep.release_deletion(deletion)`
#[pg_extern(sql = false)]
fn release_deletion(deletion: Option<Uuid>) -> Uuid {
    answer(arguments::required(deletion, "deletion").and_then(|deletion| change(deletion, None, "release")))
}

/// Members of the owners of all its tables may: what they hold, nobody else's purge may take.
fn change(deletion: Uuid, reason: Option<&str>, verb: &str) -> Result<Uuid> {
    standing::refuse_in_recovery(&format!("{verb} a deletion"))?;
    let owners: Vec<(Option<Oid>, Option<String>)> = spi::bookkeeping(|| {
        spi::execute_returning(
            "SELECT c.relowner, CASE WHEN c.oid IS NOT NULL THEN pg_catalog.format('%I.%I', n.nspname, c.relname) END
             FROM upkeep._deletion d
             LEFT JOIN upkeep._deletion_table t ON t.deletion OPERATOR(pg_catalog.=) d.id
             LEFT JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) coalesce(t.relid, d.relid)
             LEFT JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace
             WHERE d.id OPERATOR(pg_catalog.=) $1",
            &[deletion.into()],
            |row| Ok((row.get(1)?, row.get(2)?)),
        )
    })?;
    if owners.is_empty() {
        return Err(Error::new(UNDEFINED_OBJECT, format!("deletion {deletion} does not exist"))
            .hint("SELECT id, deleted_at, relid, reason FROM upkeep.deletions;"));
    }
    let user = catalog::current_user();
    let foreign = owners.iter().find(|(owner, _)| owner.is_some_and(|owner| !catalog::has_privileges_of(user, owner)));
    let table = match foreign {
        Some((_, table)) => table.as_deref().unwrap_or("a table"),
        // Nobody owns what is gone.
        None if owners.iter().all(|(owner, _)| owner.is_none()) && !catalog::is_superuser(user) => {
            "a table that is gone"
        }
        None => "",
    };
    if !table.is_empty() {
        return Err(Error::new(INSUFFICIENT_PRIVILEGE, format!("permission denied to {verb} deletion {deletion}"))
            .detail(format!("You are not a member of the owner of {table}, from which it deleted rows.")));
    }
    spi::bookkeeping(|| {
        spi::execute(
            "UPDATE upkeep._deletion SET held = $2 WHERE id OPERATOR(pg_catalog.=) $1",
            &[deletion.into(), reason.into()],
        )
    })?;
    Ok(deletion)
}

/// The deletions that are held, as the text of an array.
pub fn held() -> Result<String> {
    let ids: Vec<Uuid> = spi::bookkeeping(|| {
        spi::execute_returning("SELECT id FROM upkeep._deletion WHERE held IS NOT NULL", &[], |row| row.require(1))
    })?;
    Ok(format!("{{{}}}", ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")))
}

/// Keeps these deletions from being held until the transaction ends. True: one is held already.
pub fn lock_and_look(deletions: &[String]) -> Result<bool> {
    let held = spi::bookkeeping(|| {
        spi::execute_returning(
            "SELECT held IS NOT NULL FROM upkeep._deletion
             WHERE id OPERATOR(pg_catalog.=) ANY ($1::pg_catalog.uuid[]) ORDER BY id FOR SHARE",
            &[deletions.to_vec().into()],
            |row| row.require::<bool>(1),
        )
    })?;
    Ok(held.into_iter().any(|held| held))
}

/// Counts what is gone of each deletion: it cannot be brought back any more.
pub fn note_purged(tally: &HashMap<(String, Oid), i64>) -> Result<()> {
    if tally.is_empty() {
        return Ok(());
    }
    let mut entries: Vec<_> = tally.iter().collect();
    // Two purges that meet in a deletion lock it in the same order.
    entries.sort_by_key(|((deletion, relid), _)| (deletion.clone(), relid.to_u32()));
    let deletions: Vec<String> = entries.iter().map(|((deletion, _), _)| deletion.clone()).collect();
    let relids: Vec<Oid> = entries.iter().map(|((_, relid), _)| *relid).collect();
    let rows: Vec<i64> = entries.iter().map(|(_, rows)| **rows).collect();
    spi::bookkeeping(|| {
        spi::execute(
            "UPDATE upkeep._deletion_table t SET purged = t.purged OPERATOR(pg_catalog.+) p.rows
             FROM ROWS FROM (pg_catalog.unnest($1::pg_catalog.uuid[]), pg_catalog.unnest($2), pg_catalog.unnest($3))
                  p (deletion, relid, rows)
             WHERE t.deletion OPERATOR(pg_catalog.=) p.deletion AND t.relid OPERATOR(pg_catalog.=) p.relid",
            &[deletions.into(), relids.into(), rows.into()],
        )
    })?;
    Ok(())
}
