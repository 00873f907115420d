//! A table with soft delete gets another name: what we have called after it is called after the new one. Whoever has chosen a name
//! himself keeps it.

use pgrx::pg_sys::Oid;
use pgrx::spi::quote_identifier;

use crate::error::{Error, OBJECT_NOT_IN_PREREQUISITE_STATE, Result, SUCCESSFUL_COMPLETION};
use crate::server::catch::subtransaction;
use crate::server::raise::{self, Level};
use crate::server::{heap, spi};
use crate::soft_delete::managed::{Managed, qualified};
use crate::soft_delete::objects::{owner, with_ending};

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
    spi::bookkeeping(|| {
        spi::execute(
            "UPDATE upkeep._soft_delete_table SET name = $2::pg_catalog.text WHERE relid OPERATOR(pg_catalog.=) $1",
            &[managed.relid.into(), name.as_str().into()],
        )
    })?;
    for (relid, ending) in followers(managed) {
        let Some((schema, old)) = heap::name(relid) else { continue };
        let new = with_ending(&name, ending);
        if old != with_ending(&managed.name, ending) || old == new {
            continue;
        }
        let keyword = if relid == managed.relid { "TABLE" } else { "VIEW" };
        let rename = format!("ALTER {keyword} {} RENAME TO {}", qualified(&schema, &old), quote_identifier(&new));
        if relid == managed.relid && is_published(relid)? {
            keeps(&schema, &old, "It is in a publication, and subscribers know it by its name.", &rename);
            continue;
        }
        match subtransaction(|| spi::as_owner(owner(relid)?, || spi::execute(&rename, &[]))) {
            Ok(_) => raise::report(
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
            ),
            Err(error) => keeps(
                &schema,
                &old,
                &format!("It cannot be called {}: {}.", quote_identifier(&new), error.message),
                &rename,
            ),
        }
    }
    Ok(())
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
