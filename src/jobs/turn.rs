//! Jobs that build, rebuild or drop indexes of one table do so one after another: two at once end in a deadlock, and leave an
//! invalid index ([`index_command`]).
//!
//! A worker keeps the table's lock while it lives; whoever finds it taken goes back into the queue, and its scheduler starts it again
//! when the lock is free. What a table is a part of, up to the database, is locked as well, shared: partitions of one table do not
//! wait for each other, and a command on the whole of it waits for them all.

use pgrx::pg_sys::Oid;
use pgrx::spi::quote_identifier;
use serde::{Deserialize, Serialize};

use super::store::Opened;
use super::{command, store};
use crate::error::Result;
use crate::server::index_command::{self, Extent};
use crate::server::lock::{Lock, Purpose};
use crate::server::{heap, spi};
use crate::soft_delete::unique_keys;

/// Stands for the database.
const EVERYTHING: u32 = 0;

/// A table, or what it is a part of.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Part {
    oid: u32,
    shared: bool,
}

impl Part {
    fn lock(self) -> Lock {
        Lock::new(Purpose::Turn, self.oid.into())
    }

    /// Could whoever waits for it have it now? In a transaction.
    pub fn is_free(self) -> bool {
        self.lock().could_be_had(self.shared)
    }

    fn description(self) -> String {
        match heap::name(self.oid.into()) {
            Some((schema, name)) => format!("{}.{}", quote_identifier(schema), quote_identifier(name)),
            None => "this database".to_owned(),
        }
    }
}

/// Takes the job's turn for as long as this process lives. `false`: another job has it, and this one goes back into the queue. In a
/// transaction of its executor, under the session that is captured with the job.
pub fn take(opened: &Opened) -> Result<bool> {
    let Some(part) = taken_by_another(&wanted(opened)?) else { return Ok(true) };
    let reason = format!("waits for its turn: another job changes indexes of {}", part.description());
    spi::bookkeeping(|| store::wait_for_turn(opened.job.id, serde_json::to_value(part)?, &reason))?;
    Ok(false)
}

/// From the whole to the table.
fn wanted(opened: &Opened) -> Result<Vec<Part>> {
    let extent = match (opened.job.kind.as_str(), opened.job.relid) {
        (command::KIND, _) => index_command::extent(command::text(&opened.job.params))?,
        (unique_keys::KIND, Some(table)) => Extent::Tables(vec![table]),
        _ => Extent::Tables(Vec::new()),
    };
    let tables = match extent {
        Extent::Everything => return Ok(vec![Part { oid: EVERYTHING, shared: false }]),
        Extent::Tables(tables) if tables.is_empty() => return Ok(Vec::new()),
        Extent::Tables(tables) => tables,
    };
    let ancestors = spi::query(
        "SELECT DISTINCT a.relid::pg_catalog.oid FROM pg_catalog.unnest($1) t
         CROSS JOIN LATERAL pg_catalog.pg_partition_ancestors(t) a
         WHERE a.relid::pg_catalog.oid OPERATOR(pg_catalog.<>) ALL ($1)",
        &[tables.clone().into()],
        |row| Ok(row.require::<Oid>(1)?.to_u32()),
    )?;
    let above = std::iter::once(EVERYTHING).chain(ancestors).map(|oid| Part { oid, shared: true });
    Ok(above.chain(tables.into_iter().map(|table| Part { oid: table.to_u32(), shared: false })).collect())
}

/// Takes all or nothing; what somebody else has.
fn taken_by_another(wanted: &[Part]) -> Option<Part> {
    let taken = wanted.iter().take_while(|part| part.lock().keep(part.shared)).count();
    let part = wanted.get(taken)?;
    wanted[..taken].iter().for_each(|part| part.lock().let_go(part.shared));
    Some(*part)
}
