//! A table with soft delete gets another name: what we have called after it is called after the new one. Whoever has chosen a name
//! himself keeps it.

use pgrx::spi::quote_identifier;

use super::ours;
use crate::error::{Error, OBJECT_NOT_IN_PREREQUISITE_STATE, Result, SUCCESSFUL_COMPLETION};
use crate::server::catch::subtransaction;
use crate::server::raise::{self, Level};
use crate::server::{Oid, catalog, heap, spi};
use crate::soft_delete::managed::Managed;
use crate::soft_delete::objects::{owner, with_ending};
use crate::sql::quote::qualified;

/// What has the name that people know: after `swap` the view of live rows, else the table.
pub fn leader(managed: &Managed) -> Option<Oid> {
    if managed.hide == "swap" { managed.live_view } else { Some(managed.relid) }
}

/// What is called after it, and its ending.
fn followers(managed: &Managed) -> Vec<(Oid, &'static str)> {
    let first = match &*managed.hide {
        "swap" => Some((managed.relid, "_all")),
        _ => managed.live_view.map(|view| (view, "_live")),
    };
    first.into_iter().chain(managed.deleted_view.map(|view| (view, "_deleted"))).collect()
}

/// `changed`: what a statement was about.
pub fn follow(managed: &Managed, changed: Oid) -> Result<()> {
    if leader(managed) != Some(changed) {
        return Ok(());
    }
    let Some((schema, name)) = heap::name(changed) else { return Ok(()) };
    if has_moved(changed)? {
        tell_of_those_that_stay(managed, &schema)?;
    }
    if name == managed.name {
        return Ok(());
    }
    let known = kept_names(managed)?;
    let mut kept = Vec::new();
    for (relid, ending) in followers(managed) {
        let Some((schema, old)) = heap::name(relid) else { continue };
        let new = with_ending(&name, ending);
        // A name that it keeps only because it could not get another one is nobody's own.
        let is_of_ours = old == with_ending(&managed.name, ending) || known.contains(&old);
        if !is_of_ours || old == new {
            continue;
        }
        let keyword = if relid == managed.relid { "TABLE" } else { "VIEW" };
        let rename = format!("ALTER {keyword} {} RENAME TO {}", qualified(&schema, &old), quote_identifier(&new));
        let why = match in_the_way(managed, relid)? {
            Some(why) => Some(why),
            None => match subtransaction(|| spi::as_owner(owner(relid)?, || spi::execute(&rename, &[]))) {
                Ok(_) => None,
                Err(error) => Some(format!("It cannot be called {}: {}.", quote_identifier(&new), error.message)),
            },
        };
        if let Some(why) = why {
            keeps(&schema, &old, &why, &rename);
            kept.push(old);
            continue;
        }
        raise::report(
            Level::Notice,
            Error::new(
                SUCCESSFUL_COMPLETION,
                format!(
                    "{} is called {} now, after {}",
                    qualified(&schema, &old),
                    quote_identifier(&new),
                    quote_identifier(&name)
                ),
            ),
        );
    }
    spi::bookkeeping(|| {
        spi::execute(
            "UPDATE upkeep._soft_delete_table
             SET name = $2::pg_catalog.text, kept_names = $3::pg_catalog.text[]::pg_catalog.name[]
             WHERE relid OPERATOR(pg_catalog.=) $1",
            &[managed.relid.into(), name.as_str().into(), kept.into()],
        )
    })?;
    Ok(())
}

fn kept_names(managed: &Managed) -> Result<Vec<String>> {
    let found = spi::bookkeeping(|| {
        spi::look_up(
            "SELECT s.kept_names::pg_catalog.text[] FROM upkeep._soft_delete_table s
             WHERE s.relid OPERATOR(pg_catalog.=) $1",
            &[managed.relid.into()],
            |row| row.require::<Vec<String>>(1),
        )
    })?;
    Ok(found.into_iter().next().unwrap_or_default())
}

/// Why it is not called otherwise, whether or not the new name is free. It is renamed as its owner: whoever may do so himself has it
/// done, and a view only while it is one of soft delete.
fn in_the_way(managed: &Managed, relid: Oid) -> Result<Option<String>> {
    let owner = owner(relid)?;
    if !catalog::has_privileges_of(catalog::current_user(), owner) {
        let owner = catalog::role_name(owner).unwrap_or_default();
        return Ok(Some(format!("It belongs to {}.", quote_identifier(&owner))));
    }
    if relid == managed.relid {
        let published = is_published(relid)?;
        return Ok(published.then(|| "It is in a publication, and subscribers know it by its name.".to_owned()));
    }
    // Looked at before it is waited for, and again when nobody can change it.
    for locks in [false, true] {
        let Some(seen) = (if locks { ours::locked(relid)? } else { ours::look(relid)? }) else {
            return Ok(Some("It is gone.".to_owned()));
        };
        let differences = if seen.is_the_tables_owners() { seen.differences() } else { seen.all_differences() };
        if !differences.is_empty() {
            return Ok(Some(format!("It is not as soft delete has written it: {}.", differences.join(", "))));
        }
    }
    Ok(None)
}

fn keeps(schema: &str, name: &str, why: &str, rename: &str) {
    raise::report(
        Level::Warning,
        Error::new(OBJECT_NOT_IN_PREREQUISITE_STATE, format!("{} keeps its name", qualified(schema, name)))
            .detail(why)
            .hint(format!("When that is no longer so: {rename};")),
    );
}

/// In this transaction, to another schema: only then the server writes where a relation belongs.
fn has_moved(relid: Oid) -> Result<bool> {
    let written: Vec<String> = spi::bookkeeping(|| {
        spi::look_up(
            "SELECT d.xmin::pg_catalog.text FROM pg_catalog.pg_depend d
             WHERE d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_class'::pg_catalog.regclass
               AND d.objid OPERATOR(pg_catalog.=) $1 AND d.objsubid OPERATOR(pg_catalog.=) 0
               AND d.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_namespace'::pg_catalog.regclass",
            &[relid.into()],
            |row| row.require(1),
        )
    })?;
    Ok(written.iter().filter_map(|xid| xid.parse().ok()).any(heap::is_of_this_transaction))
}

/// They may be in another schema because applications look for them there.
fn tell_of_those_that_stay(managed: &Managed, schema: &str) -> Result<()> {
    let mut moves = Vec::new();
    for (relid, _) in followers(managed) {
        if let Some((other, name)) = heap::name(relid).filter(|(other, _)| other != schema)
            && !has_moved(relid)?
        {
            let keyword = if relid == managed.relid { "TABLE" } else { "VIEW" };
            moves.push(format!(
                "ALTER {keyword} {} SET SCHEMA {};",
                qualified(&other, &name),
                quote_identifier(schema)
            ));
        }
    }
    if !moves.is_empty() {
        raise::report(
            Level::Notice,
            Error::new(SUCCESSFUL_COMPLETION, format!("what belongs to {} stays in its schema", managed.sql()))
                .hint(format!("To have it in the new one as well: {}", moves.join(" "))),
        );
    }
    Ok(())
}

fn is_published(relid: Oid) -> Result<bool> {
    let found: Vec<bool> = spi::bookkeeping(|| {
        spi::look_up(
            "SELECT EXISTS (SELECT FROM pg_catalog.pg_class c
                            JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace
                            JOIN pg_catalog.pg_publication_tables p ON p.schemaname OPERATOR(pg_catalog.=) n.nspname
                             AND p.tablename OPERATOR(pg_catalog.=) c.relname
                            WHERE c.oid OPERATOR(pg_catalog.=) $1)",
            &[relid.into()],
            |row| row.require(1),
        )
    })?;
    Ok(found == [true])
}
