//! A statement of a job's that waits for a lock at this moment, and who has it: the worker itself waits in the server, and can write
//! nothing down. So the view asks.

use pgrx::datum::TimestampWithTimeZone;
use pgrx::prelude::*;

use crate::calls::standing;
use crate::ddl;
use crate::error::Result;
use crate::server::raise::answer;
use crate::server::{Oid, catalog, spi};

/// For what an executor waits; null: for no lock, or it is not there any more. What others do is told to those who see the job.
#[pg_extern(sql = false)]
fn executor_waits_for(pid: i32, backend_start: TimestampWithTimeZone) -> Option<String> {
    answer(look(pid, backend_start))
}

fn look(pid: i32, backend_start: TimestampWithTimeZone) -> Result<Option<String>> {
    let user = catalog::current_user();
    let may_see_all = standing::caller_is_admin()
        || catalog::role_oid("pg_monitor").is_some_and(|monitor| catalog::has_privileges_of(user, monitor));
    let waits = spi::bookkeeping(|| {
        let owner = spi::query_one(
            "SELECT a.usesysid FROM pg_catalog.pg_stat_get_activity($1) a
             WHERE a.backend_type OPERATOR(pg_catalog.=) 'pg_upkeep executor' AND a.backend_start OPERATOR(pg_catalog.=) $2
               AND a.wait_event_type OPERATOR(pg_catalog.=) 'Lock'",
            &[pid.into(), backend_start.into()],
            |row| row.require::<Oid>(1),
        )?;
        match owner {
            Some(owner) if may_see_all || catalog::has_privileges_of(user, owner) => ddl::whom_it_waits_for(pid),
            _ => Ok(None),
        }
    })?;
    Ok(waits.map(|who| format!("its statement waits for a lock; {who}")))
}
