//! Whoever reads a view locks the view, and then the table. An ALTER TABLE locks the table, and the views only when they follow
//! it: by then readers that have a view wait for the table, and the server ends one of both (40P01). So before such a statement the
//! views are locked, and the table with them.
//!
//! Who waits for one of them has none of the others for longer than a moment: a transaction that had the table before it reads the view
//! goes on as well. How long he waits for the first one is his own affair: the statement is his (so this is no `ddl::attempt`).

use std::cell::Cell;
use std::time::{Duration, Instant};

use super::{follow, names, ours};
use crate::error::{Error, LOCK_NOT_AVAILABLE, OBJECT_NOT_IN_PREREQUISITE_STATE, QUERY_CANCELED, Result};
use crate::server::alteration::Alteration;
use crate::server::catch::subtransaction;
use crate::server::raise::{self, Level};
use crate::server::{Oid, catalog, heap, spi, timeout, worker};
use crate::settings;
use crate::soft_delete::managed::{self, Managed};
use crate::soft_delete::objects;

const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_millis(400);
/// Then there are always transactions that go the other way round, and the server has to part them.
const ATTEMPTS: u32 = 30;

/// `read`: what the statement is about to alter.
pub fn before_alter(read: impl FnOnce() -> Result<Option<Alteration>>) {
    if follow::is_ours() {
        return;
    }
    let prepared = subtransaction(|| {
        let Some(alteration) = read()? else { return Ok(()) };
        prepare(&alteration)
    });
    if let Err(error) = prepared {
        // The statement's own `lock_timeout`: nothing has been done, and nothing lags behind. Anything else is the statement's to say.
        if [LOCK_NOT_AVAILABLE, QUERY_CANCELED].contains(&error.sqlstate) {
            raise::report(Level::Error, error);
        }
    }
}

fn prepare(alteration: &Alteration) -> Result<()> {
    if !follow::anything_to_follow()? {
        return Ok(());
    }
    for partition in alteration.partitions(true) {
        objects::make_way_for_parent(partition)?;
    }
    if !alteration.excludes_readers {
        return Ok(());
    }
    let relid = alteration.relation();
    let wanted = relations(alteration, relid)?;
    if wanted.is_empty() {
        return Ok(());
    }
    let lock = |relids: &[Oid]| {
        lock_all(relids)?;
        // They may have been waited for. What is not to be locked any more is let go of.
        if relations(alteration, relid)? == wanted {
            Ok(())
        } else {
            Err(Error::new(OBJECT_NOT_IN_PREREQUISITE_STATE, "it has changed meanwhile"))
        }
    };
    subtransaction(|| lock(&wanted))
}

/// The views that will follow, and the table; none if none will, or if it is not the caller's to alter.
fn relations(alteration: &Alteration, relid: Oid) -> Result<Vec<Oid>> {
    let Some(managed) = managed::find(relid)? else { return Ok(Vec::new()) };
    let renames_leader = alteration.is_rename && names::leader(&managed) == Some(relid);
    if (managed.relid != relid && !renames_leader)
        || !catalog::has_privileges_of(catalog::current_user(), managed.owner)
    {
        return Ok(Vec::new());
    }
    let mut relids = views(&managed)?;
    if !relids.is_empty() {
        relids.push(managed.relid);
    }
    Ok(relids)
}

/// Those of its views that soft delete changes: whoever has written another one does not wait for the owner of the table.
fn views(managed: &Managed) -> Result<Vec<Oid>> {
    let followed = ours::views(managed)?.into_iter().filter(ours::View::follows);
    Ok(followed.map(|view| view.oid).collect())
}

/// The views of a table which are locked with it.
pub fn views_of(relid: Oid) -> Result<Vec<Oid>> {
    match managed::find(relid)?.filter(|managed| managed.relid == relid) {
        Some(managed) => views(&managed),
        None => Ok(Vec::new()),
    }
}

/// All of them at once, or 55P03 after `lock_timeout`.
fn lock_all(relids: &[Oid]) -> Result<()> {
    let patience = timeout::of_locks();
    let start = Instant::now();
    let left = || patience.map(|patience| patience.saturating_sub(start.elapsed()).max(Duration::from_millis(1)));
    // So long one is waited for while others are held: too short for a deadlock to be found at somebody else's expense (LAW 14).
    let one_wait = settings::ddl_lock_timeout().min(timeout::of_deadlocks() / 2).max(Duration::from_millis(1));
    let mut first = 0;
    let mut pause = FIRST_PAUSE;
    for _ in 0..ATTEMPTS {
        let at = Cell::new(first);
        let attempt = subtransaction(|| {
            match left() {
                Some(left) => spi::with_lock_timeout(left, || Ok(heap::lock_exclusively(relids[first])))?,
                None => heap::lock_exclusively(relids[first]),
            };
            let until = Instant::now() + left().unwrap_or(one_wait).min(one_wait);
            for other in (0..relids.len()).filter(|&other| other != first) {
                at.set(other);
                let wait = until.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
                spi::with_lock_timeout(wait, || Ok(heap::lock_exclusively(relids[other])))?;
            }
            Ok(())
        });
        match attempt {
            Err(error) if error.sqlstate == LOCK_NOT_AVAILABLE => {
                if at.get() == first || patience.is_some_and(|patience| start.elapsed() + pause >= patience) {
                    return Err(error);
                }
            }
            done => return done,
        }
        // Next time it is waited for with nothing in hand.
        first = at.get();
        worker::wait_in_session(pause);
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
    for relid in relids {
        heap::lock_exclusively(*relid);
    }
    Ok(())
}
