//! A job that waits for something long gives its worker up: for its hours, for a limit that holds it back, for a lock that nobody lets
//! go of, for children, for a person. Its cursor has all that it needs to go on.

use std::time::Duration;

use super::executor::{Executor, Next};
use super::kind::{Outcome, Until};
use super::retry::WaitsFor;
use super::store;
use super::throttle::inputs::VACUUM;
use super::throttle::{FIGURES, Hold, REST, SLOWDOWN, WAL_RATE};
use crate::error::Result;
use crate::server::catch::transaction;
use crate::server::spi;

/// From so long on a wait is worth the start of another process, which takes some milliseconds.
pub const WORTH_IT: Duration = Duration::from_secs(2);

/// A limit that holds a job back for so long will do so for longer.
const LASTS: Duration = Duration::from_secs(5);
/// What a worker counts by itself, which would begin anew with each: the pace of a job, the WAL that it may write, its patience with a
/// VACUUM, which has an end. And nobody takes figures for jobs that are parked.
const BRIEF: [&str; 5] = [REST, SLOWDOWN, WAL_RATE, VACUUM, FIGURES];
/// And if it was parked because of one, and one holds it back again. Its figures need a moment to be fresh.
const STILL_HELD: Duration = Duration::from_secs(1);
/// How often it looks whether the limit still holds it back.
const LOOK_AGAIN: Duration = Duration::from_secs(10);

impl Executor {
    /// A long wait holds no worker. But while other workers are at the job, it is not the job that waits.
    pub(super) fn parked_if_long(&self, outcome: Outcome) -> Result<Outcome> {
        let worth_it = |time| time >= WORTH_IT && !self.context.lock_tries().has_warmed_up();
        Ok(match outcome {
            Outcome::Wait { reason, time } if worth_it(time) && self.is_alone()? => {
                Outcome::Park { reason, until: Until::After(time) }
            }
            Outcome::Park { reason, until: Until::After(time) } if !self.is_alone()? => Outcome::Wait { reason, time },
            other => other,
        })
    }

    /// Parks the job in the transaction of the step that asks for it.
    pub(super) fn park(&mut self, reason: &str, detail: Option<&str>, until: Until) -> Result<Next> {
        let (job, news) = (self.context.job().id, !self.woken);
        spi::bookkeeping(|| store::park(job, until, reason, detail, news))?;
        Ok(Next::Leave)
    }

    /// A step is to be tried again after a pause. `true`: the job is parked for so long, and this worker leaves. Not if somebody has the
    /// job's row locked: then the worker waits.
    pub(super) fn parked_between_tries(&mut self, pause: Duration, wait: Option<WaitsFor>) -> bool {
        let Some(WaitsFor { reason, detail }) = wait.filter(|_| pause >= WORTH_IT) else { return false };
        let job = self.context.job().id;
        let parked = transaction(|| {
            if !self.is_alone()? {
                return Ok(false);
            }
            spi::bookkeeping(|| store::park(job, Until::After(pause), &reason, Some(&detail), false))?;
            Ok(true)
        });
        parked.unwrap_or(false)
    }

    /// A limit of the server holds the job back for so long by now. Gives the pause for which it is parked, if it is worth that.
    pub(super) fn parks_for(&self, hold: &Hold, held: Duration) -> Option<Duration> {
        let patience = if self.woken { STILL_HELD } else { LASTS };
        (held >= patience && !BRIEF.contains(&hold.input)).then_some(LOOK_AGAIN)
    }

    pub(super) fn is_alone(&self) -> Result<bool> {
        if self.context.workers() == 1 {
            return Ok(true);
        }
        spi::bookkeeping(|| store::is_alone(self.context.job().id, self.context.slot()))
    }
}
