//! Jobs that build, rebuild or drop indexes of one table, or need it for themselves, do so one after another: two at once end in a
//! deadlock, and leave an invalid index ([`crate::server::index_command`]).
//!
//! A worker keeps the table's lock while it lives; whoever finds it taken goes back into the queue, and its scheduler starts it again
//! when the lock is free. What a table is a part of, up to the database, is locked as well, shared: partitions of one table do not
//! wait for each other, and a command on the whole of it waits for them all.

use super::kind::Job;
use super::part::{Part, What};
use super::store::Opened;
use super::{registry, store};
use crate::ddl::may_maintain;
use crate::error::Result;
use crate::server::index_command::Extent;
use crate::server::{Oid, catalog, spi};

/// Takes the job's turn for as long as this process lives. `false`: another job has it, and this one goes back into the queue. In a
/// transaction of its executor, under the session that is captured with the job.
pub fn take(opened: &Opened) -> Result<bool> {
    let wanted = wanted(opened)?;
    if wanted.is_empty() {
        return Ok(true);
    }
    let older = spi::bookkeeping(|| store::waited_for_by_older(opened.job.id))?;
    let first = wanted.iter().find(|part| older.iter().any(|older| older.goes_before(**part)));
    let Some(part) = first.copied().or_else(|| taken_by_another(&wanted)) else { return Ok(true) };
    let reason = format!("waits for its turn: another job is at work on {}", part.description());
    spi::bookkeeping(|| store::wait_for_turn(opened.job.id, serde_json::to_value(part)?, &reason))?;
    Ok(false)
}

/// Nobody takes the turn of what he has no right on: his command fails by itself.
fn wanted(opened: &Opened) -> Result<Vec<Part>> {
    let Job { kind, params, .. } = &opened.job;
    // One of a kind that is not known fails when it is opened.
    let Ok(kind) = registry::kind(kind, params) else { return Ok(Vec::new()) };
    let extent = kind.extent(&opened.job, opened.begun)?;
    let shared = |what| Part { what, shared: true };
    let own = |what| Part { what, shared: false };
    Ok(match extent {
        Extent::Database if catalog::is_mine(None)? => vec![own(What::Database)],
        Extent::Schema(schema) if catalog::is_mine(Some(schema))? => {
            vec![shared(What::Database), own(What::Schema(schema.to_u32()))]
        }
        Extent::Tables(tables) => {
            let tables = may_maintain(&tables)?;
            if tables.is_empty() {
                return Ok(Vec::new());
            }
            let table = |oid: &Oid| What::Table(oid.to_u32());
            let (ancestors, schemas) = above(&tables)?;
            let mut parts = vec![shared(What::Database)];
            parts.extend(schemas.iter().map(|schema| shared(What::Schema(schema.to_u32()))));
            parts.extend(ancestors.iter().map(|ancestor| shared(table(ancestor))));
            parts.extend(tables.iter().map(|own_table| own(table(own_table))));
            parts
        }
        _ => Vec::new(),
    })
}

/// The tables that these are partitions of, and the schemas that all of them are in.
fn above(tables: &[Oid]) -> Result<(Vec<Oid>, Vec<Oid>)> {
    let ancestors = spi::query(
        "SELECT DISTINCT a.relid::pg_catalog.oid FROM pg_catalog.unnest($1) t
         CROSS JOIN LATERAL pg_catalog.pg_partition_ancestors(t) a
         WHERE a.relid::pg_catalog.oid OPERATOR(pg_catalog.<>) ALL ($1)",
        &[tables.to_vec().into()],
        |row| row.require::<Oid>(1),
    )?;
    let all = tables.iter().chain(&ancestors).copied().collect::<Vec<_>>();
    let schemas = spi::query(
        "SELECT DISTINCT c.relnamespace FROM pg_catalog.pg_class c WHERE c.oid OPERATOR(pg_catalog.=) ANY ($1)",
        &[all.into()],
        |row| row.require::<Oid>(1),
    )?;
    Ok((ancestors, schemas))
}

/// Takes all or nothing; what somebody else has.
fn taken_by_another(wanted: &[Part]) -> Option<Part> {
    let taken = wanted.iter().take_while(|part| part.lock().keep(part.shared)).count();
    let part = wanted.get(taken)?;
    wanted[..taken].iter().for_each(|part| part.lock().let_go(part.shared));
    Some(*part)
}
