//! Nobody's DROP DATABASE fails because of us (LAW 16): before a statement that
//! needs a database to itself, our workers there are asked to leave.

use std::time::Duration;

use super::activity;
use crate::error::Result;
use crate::server::lock::{Lock, Purpose};
use crate::server::{Oid, catalog, spi, worker};

/// The statement itself gives up after 5 s.
const PATIENCE: Duration = Duration::from_secs(5);
const LOOK: Duration = Duration::from_millis(10);

/// What a statement wants with a database that it has to itself.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Demand {
    Drop,
    Rename,
    /// To another tablespace.
    Move,
    Copy,
}

/// The database, if the caller may do that to it: nobody's jobs end for a statement that cannot succeed.
fn at_disposal(name: &str, demand: Demand) -> Result<Option<Oid>> {
    let found = spi::query_one(
        "SELECT d.oid, d.datistemplate, r.rolsuper OR r.rolcreatedb
         FROM pg_catalog.pg_database d, pg_catalog.pg_roles r
         WHERE d.datname OPERATOR(pg_catalog.=) $1::pg_catalog.name AND pg_catalog.pg_has_role(d.datdba, 'USAGE')
           AND r.oid OPERATOR(pg_catalog.=) $2",
        &[name.into(), catalog::current_user().into()],
        |row| Ok((row.next::<Oid>()?, row.next::<bool>()?, row.next::<bool>()?)),
    )?;
    Ok(found.and_then(|(database, is_template, may_create)| {
        let may = match demand {
            Demand::Drop => !is_template,
            Demand::Move => true,
            Demand::Rename | Demand::Copy => may_create,
        };
        let is_open = demand != Demand::Copy && database == catalog::my_database();
        (may && !is_open).then_some(database)
    }))
}

/// Does somebody need this database to himself? In a transaction.
pub fn is_wanted_alone() -> bool {
    !Lock::new(Purpose::Alone, 0).is_free()
}

/// Asks our workers to leave a database that the caller owns, and waits for it. If the
/// statement then fails, the launcher comes back after a while and the jobs go on.
pub fn leave_database(name: &str, demand: Demand) -> Result<()> {
    let Some(database) = at_disposal(name, demand)? else { return Ok(()) };
    // Whoever was started and is not connected yet cannot be asked.
    Lock::new(Purpose::Alone, 0).of(database).share_for_transaction();
    let launcher = activity::launcher()?;
    let entry = launcher.as_ref().and_then(|launcher| launcher.segment.database(database));
    let tries = PATIENCE.as_millis() / LOOK.as_millis();
    for _ in 0..tries {
        let mut workers = activity::workers_in(database)?;
        // A command of a job may be this very statement.
        workers.retain(|worker| worker.pid != worker::my_pid());
        if workers.is_empty() {
            break;
        }
        // It says nothing against their jobs.
        if let Some(entry) = entry {
            entry.note_sent_away(catalog::now());
        }
        workers.into_iter().for_each(worker::terminate);
        worker::wait_in_session(LOOK);
    }
    Ok(())
}
