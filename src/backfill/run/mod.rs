//! The backfill at work: one step after another in an executor.
//!
//! Passes: fill (windows of blocks or keys, stride after stride), revisit (rows that were
//! locked), sweep (every block once more, if there is a condition that tells what is left).
//! A worker takes a portion of the pass ([`claim`]) and works it off; the pass ends when
//! nobody has anything in hand.

mod careful;
mod claim;
pub mod cursor;
mod fill;
mod holder;
mod horizon;
mod pace;
mod revisit;
mod session;
mod start;
mod sweep;

use std::collections::HashSet;
use std::rc::Rc;

use pgrx::Uuid;
use pgrx::pg_sys::Oid;

use super::definition::Definition;
use crate::error::{Error, Result, UNDEFINED_TABLE};
use crate::jobs::kind::{Context, Job, Kind, Outcome};
use crate::server::{heap, spi};
use cursor::Portion;
use horizon::Horizon;
use session::Session;

/// What a worker remembers between steps; all of it can be found out again.
pub struct Run {
    job: Uuid,
    relid: Oid,
    target: String,
    definition: Definition,
    session: Option<Rc<Session>>,
    horizon: Horizon,
    /// Sizes that meet the batch time: blocks of a range, rows of a range, blocks of a sweep.
    range_blocks: u32,
    range_rows: u32,
    sweep_blocks: u32,
    /// The end of a range of keys that takes too long and has too few rows to be split.
    indivisible: Option<cursor::KeyText>,
    /// Ranges of keys taken in one step, where they turned out small.
    span: usize,
    /// Largest range of blocks, and of rows.
    max_range: (u32, u32),
    /// Size of the table when the pass began, for progress.
    blocks: f64,
    rows: f64,
    /// Transactions (low 32 bits) from here on belong to the run.
    since: u32,
    /// Rows that still match after their update exist: the fill has to know them.
    filtering: bool,
    /// The transactions which wrote them.
    still_matching: HashSet<u32>,
    /// Said once, not for every batch.
    told_of_locks: bool,
    /// Some row was updated and did stop matching.
    proved: bool,
}

impl Run {
    pub fn open(job: &Job) -> Result<Self> {
        let relid = job.relid.ok_or_else(|| {
            // After a restore that left the table out.
            Error::new(UNDEFINED_TABLE, format!("table {} does not exist in this database", job.target))
        })?;
        Ok(Run {
            job: job.id,
            relid,
            target: job.target.clone(),
            definition: serde_json::from_value(job.params.clone())?,
            session: None,
            horizon: Horizon::default(),
            range_blocks: 0,
            range_rows: 0,
            sweep_blocks: sweep::FIRST_BLOCKS,
            indivisible: None,
            span: 1,
            max_range: (1, 1),
            blocks: 1.0,
            rows: 1.0,
            since: 0,
            filtering: false,
            still_matching: HashSet::new(),
            told_of_locks: false,
            proved: false,
        })
    }

    /// The statements, under the table's name of now. The lock that the step holds keeps it.
    fn session(&mut self) -> Result<Rc<Session>> {
        if let Some(session) = &self.session
            && session.is_current(self.relid)
        {
            return Ok(Rc::clone(session));
        }
        let session = Rc::new(Session::open(self.relid, &self.definition)?);
        self.session = Some(Rc::clone(&session));
        self.filtering = super::store::any_still_matching(self.job)?;
        Ok(session)
    }
}

impl Kind for Run {
    fn step(&mut self, context: &mut Context) -> Result<Outcome> {
        if !heap::lock_for_update(self.relid) {
            return Err(Error::new(
                UNDEFINED_TABLE,
                format!("table {} was dropped while it was being filled", self.target),
            ));
        }
        // Else what a deferred constraint finds would only show at the commit, where no row can
        // be put aside any more.
        spi::execute("SET CONSTRAINTS ALL IMMEDIATE", &[])?;
        let session = self.session()?;
        if self.definition.fingerprint.is_none() {
            return self.settle_in(context, &session);
        }
        let portion = Portion::read(context.cursor.as_ref())?;
        if self.range_blocks == 0 && !self.recall()? {
            return self.start(context, &session);
        }
        match portion {
            Some(portion) if !portion.is_finished() => match portion {
                Portion::Blocks(blocks) => self.fill_blocks(context, &session, blocks),
                Portion::Keys(keys) => self.fill_keys(context, &session, keys),
                Portion::Rows(rows) => self.revisit(context, &session, rows),
                Portion::Sweep(sweep) => self.sweep(context, &session, sweep),
            },
            finished => self.claim(context, &session, finished),
        }
    }
}
