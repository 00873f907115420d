//! Dropping what [`super::install()`] made, wherever it is by now.

use pgrx::Uuid;

use super::Names;
use crate::ddl::{self, Attempt, Blocked, Tries, Wanted};
use crate::error::{Error, Result, SERIALIZATION_FAILURE};
use crate::server::table_lock::Mode;
use crate::server::{Oid, heap, spi};

pub enum Removed {
    /// Nothing is left of it.
    Gone,
    /// Somebody is in the way: try again later.
    Blocked(Blocked),
}

/// Drops the job's triggers and functions, whoever owns the tables. What somebody else has dropped is not missed; what else
/// somebody has made of the functions stays, and is an error that names it: their owner can let others use them.
pub fn remove(job: Uuid, tries: &Tries) -> Result<Removed> {
    let names = Names::of(job);
    let wanted = |(relid, _)| Wanted { relid, mode: Mode::AccessExclusive, with_children: heap::is_partitioned(relid) };
    let wanted = triggers(&names)?.into_iter().map(wanted).collect::<Vec<_>>();
    let gone = ddl::attempt(&wanted, tries, || {
        spi::bookkeeping(|| {
            for (_, trigger) in triggers(&names)? {
                spi::execute(&format!("DROP TRIGGER {trigger}"), &[])?;
            }
            // The locks are the tables'; a schema can get another name all the same, and then it was somebody else's trigger
            // of that name. All of it is undone.
            if !triggers(&names)?.is_empty() {
                return Err(Error::new(SERIALIZATION_FAILURE, "a table of the backfill was renamed meanwhile"));
            }
            // The one that calls the other first.
            for function in [&names.function, &names.values] {
                spi::execute(&format!("DROP FUNCTION IF EXISTS upkeep.\"{function}\""), &[])?;
            }
            Ok(())
        })
    })?;
    Ok(match gone {
        Attempt::Done(()) => Removed::Gone,
        Attempt::Blocked(blocked) => Removed::Blocked(blocked),
    })
}

/// Triggers that call the job's function, as `trigger ON table`, and their tables; of a partitioned tree the top's.
fn triggers(names: &Names) -> Result<Vec<(Oid, String)>> {
    spi::bookkeeping(|| {
        spi::execute_returning(
            "SELECT t.tgrelid, pg_catalog.format('%I ON %I.%I', t.tgname, n.nspname, c.relname)
             FROM pg_catalog.pg_trigger t
             JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) t.tgrelid
             JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace
             JOIN pg_catalog.pg_proc p ON p.oid OPERATOR(pg_catalog.=) t.tgfoid
             WHERE p.proname OPERATOR(pg_catalog.=) $1
               AND p.pronamespace OPERATOR(pg_catalog.=) 'upkeep'::pg_catalog.regnamespace
               AND t.tgparentid OPERATOR(pg_catalog.=) 0::pg_catalog.oid
             ORDER BY t.tgrelid, t.tgname",
            &[names.function.as_str().into()],
            |row| Ok((row.require(1)?, row.require(2)?)),
        )
    })
}
