//! Finished jobs that have left something outside of our tables: the scheduler removes it, and comes back until that
//! has worked. It has the right to, and no text of a user's runs in a DROP.

use std::time::Duration;

use super::{kind, store};
use crate::error::Result;
use crate::server::catch::transaction;
use crate::server::raise::{self, Level};
use crate::server::spi;

/// One try for every job that is due. None of them waits for anybody longer than a second.
pub fn clean_up() -> Result<()> {
    for (job, kind) in transaction(|| spi::bookkeeping(store::due_cleanups))? {
        let tried = transaction(|| {
            if !spi::bookkeeping(|| store::lock_for_cleanup(job))? {
                return Ok(None);
            }
            let reason = kind::clean_up(&kind, job)?;
            if reason.is_none() {
                spi::bookkeeping(|| {
                    store::cleaned_up(job)?;
                    store::add_event(job, "cleaned up", None)
                })?;
            }
            Ok(reason)
        });
        let reason = match tried {
            Ok(None) => continue,
            Ok(Some(reason)) => reason,
            Err(error) => {
                let message = format!("job {job} could not be cleaned up: {}", error.message);
                raise::report(Level::Log, crate::error::Error { message: message.clone(), ..error });
                message
            }
        };
        transaction(|| spi::bookkeeping(|| store::clean_up_later(job, &reason)))?;
    }
    Ok(())
}

/// When the next job is due, if any is to be cleaned up.
pub fn next() -> Result<Option<Duration>> {
    let seconds = transaction(|| spi::bookkeeping(store::seconds_to_cleanup))?;
    Ok(seconds.map(|seconds| Duration::from_secs_f64(seconds.clamp(0.0, 3600.0))))
}
