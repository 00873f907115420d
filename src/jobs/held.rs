//! An executor that is held back between two steps: it has no transaction and no snapshot, looks again every moment,
//! and leaves as soon as its job does not want it any more.

use std::time::{Duration, Instant};

use super::executor::Executor;
use super::kind::Until;
use super::limits::Limits;
use super::throttle::{FIGURES, Hold};
use super::{activity, retry, seat, store};
use crate::error::Result;
use crate::server::catch::transaction;
use crate::server::{catalog, spi, system, worker};
use crate::settings;

/// How often to look whether the job still wants to run, and with which limits.
const LOOK_AT_JOB: Duration = Duration::from_secs(1);

impl Executor {
    /// Waits until the next step may be made. `false`: leave instead.
    pub(super) fn hold_back(&mut self) -> Result<bool> {
        let mut looked = Instant::now();
        let since = Instant::now();
        let mut held = false;
        while let Some(hold) = self.throttle.hold(self.work.relid(), self.context.portions()) {
            seat::rests_for(hold.is_pace() && self.throttle.is_slowed());
            held = true;
            let news = self.throttle.history.held(&hold, self.woken, system::monotonic());
            let woken = news.is_none() && worker::wait(hold.pause.min(LOOK_AT_JOB));
            if news.is_some() || woken || looked.elapsed() >= LOOK_AT_JOB {
                looked = Instant::now();
                if !self.look_while_held(&hold, news)? || self.parks(&hold, since.elapsed()) {
                    return Ok(false);
                }
            }
        }
        if held {
            seat::works();
        }
        self.throttle.history.released(system::monotonic());
        Ok(true)
    }

    /// Does the job give its worker up, because this lasts? Not while somebody has its row locked.
    fn parks(&mut self, hold: &Hold, held: Duration) -> bool {
        let Some(pause) = self.parks_for(hold, held) else { return false };
        if !self.woken {
            self.throttle.history.parked(hold, system::monotonic());
        }
        let job = self.context.job().id;
        let parked = transaction(|| {
            if !self.is_alone()? {
                return Ok(false);
            }
            // By what it is throttled is told. Who cannot be told now is held back here until he can.
            self.write_pending()?;
            spi::bookkeeping(|| store::park(job, Until::After(pause), &hold.reason, None, false))?;
            Ok(true)
        });
        parked.unwrap_or(false)
    }

    /// A short look at the job, and what people should see. `false`: leave.
    fn look_while_held(&mut self, hold: &Hold, news: Option<String>) -> Result<bool> {
        let (job, slot) = (self.context.job().id, self.context.slot());
        let now = Instant::now();
        let wall = now.saturating_duration_since(self.written);
        let held_until = self.throttle.held_until();
        let note = || held_until.map_or(Ok(()), |until| spi::bookkeeping(|| store::note_held_until(job, slot, until)));
        let looked = transaction(|| {
            if !catalog::extension_exists() {
                return Ok(None);
            }
            let Some(live) = spi::bookkeeping(|| store::live(job))? else { return Ok(None) };
            if !live.is_runnable() || self.must_leave(live.workers, &live.limits)? {
                self.tell_pending()?;
                // By now the slot is somebody else's perhaps: then this does nothing.
                note()?;
                return Ok(None);
            }
            if let Some(reason) = &news {
                spi::bookkeeping(|| store::set_wait_reason(job, slot, reason, None, wall))?;
                self.write_pending()?;
                note()?;
            }
            // Samples have stopped: perhaps there is another launcher, which puts them elsewhere.
            let segment = if hold.input == FIGURES { activity::current_segment()? } else { None };
            Ok(Some((live.limits, segment)))
        });
        match looked {
            Ok(Some((limits, segment))) => {
                if news.is_some() {
                    self.written = now;
                    self.throttle.history.written();
                }
                self.throttle.set_limits(limits);
                if let Some(segment) = segment {
                    self.throttle.follow(segment, self.context.portions());
                }
                Ok(true)
            }
            Ok(None) => Ok(false),
            // Somebody holds our own tables (DROP or ALTER EXTENSION) or our job's row. We wait anyway.
            Err(busy) if retry::is_transient(&busy) => {
                if news.is_some() {
                    self.throttle.history.unwritten(system::monotonic());
                }
                Ok(true)
            }
            Err(other) => Err(other),
        }
    }

    /// Writes down what there is to tell although no step follows; unless somebody has the job locked, for whom no worker stays. Called in
    /// a transaction.
    pub(super) fn tell_pending(&self) -> Result<()> {
        retry::unless_in_the_way(|| self.write_pending())
    }

    fn write_pending(&self) -> Result<()> {
        let (job, pending) = (self.context.job().id, self.throttle.history.pending());
        spi::bookkeeping(|| {
            pending.iter().try_for_each(|event| store::add_event(job, event.event, Some(&event.detail)))
        })
    }

    /// Is there no more work for this worker now? Called in a transaction.
    pub(super) fn must_leave(&self, workers: i32, limits: &Limits) -> Result<bool> {
        let (job, slot) = (self.context.job().id, self.context.slot());
        if slot >= workers
            || !settings::enabled()
            || seat::has_no_place(job, slot, &self.placed)?
            || seat::gives_way(job, slot, self.nature.throttled)?
        {
            return Ok(true);
        }
        spi::bookkeeping(|| super::slot::wait_for_hours(self.context.job().id, limits))
    }

    pub(super) fn note_step(&mut self, took: Duration) {
        if self.nature.throttled {
            self.throttle.history.step_ended(took, system::monotonic());
            let usual = self.context.usual_batch_time();
            self.throttle.end_step(took, usual, self.context.step_done().for_good, self.context.portions());
        }
    }
}
