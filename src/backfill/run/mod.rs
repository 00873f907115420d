//! The backfill at work: one step after another in an executor.
//!
//! Passes: fill (windows of blocks or keys, stride after stride), revisit (rows that were
//! locked), sweep (every block once more, if there is a condition that tells what is left).
//! A worker takes a portion of the pass ([`claim`]) and works it off; the pass ends when
//! nobody has anything in hand. Each table of the list has its own passes; [`choose`] says which
//! table a worker turns to.

mod careful;
mod choose;
mod claim;
pub mod cursor;
mod fill;
mod holder;
mod horizon;
mod limit;
mod portions;
mod revisit;
mod session;
mod start;
mod sweep;
mod trigger;
mod units;
mod vacuum;
pub mod whole;

use std::collections::HashSet;
use std::rc::Rc;

use pgrx::Uuid;

use super::definition::Definition;
use super::list::Listed;
use crate::backfill::raw::filling;
use crate::error::{Error, INTERNAL_ERROR, Result, UNDEFINED_TABLE};
use crate::jobs::kind::{Completion, Context, Job, Outcome, Work};
use crate::server::{Oid, heap, spi};
use crate::sql::quote::identifier;
use cursor::{Hand, Portion};
use horizon::Horizon;
use session::Session;

/// What a worker remembers between steps; all of it can be found out again.
pub struct Run {
    job: Uuid,
    /// The table that was asked for, and its name then.
    root: Oid,
    target: String,
    definition: Definition,
    /// Looked whether it was told to try again.
    begun: bool,
    /// Row security of the table that was asked for applies: statements on the others go through it.
    through_root: bool,
    /// What is below is about the table at hand.
    table: Option<Listed>,
    relid: Oid,
    session: Option<Rc<Session>>,
    horizon: Horizon,
    sizes: Sizes,
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
    told_of_slow: bool,
    /// Some row was updated and did stop matching.
    proved: bool,
    /// How far it is with its trigger.
    trigger: trigger::Trigger,
}

/// How much is done at once. What meets the batch time is found out on the way.
struct Sizes {
    /// 0: not known yet.
    range_blocks: u32,
    range_rows: u32,
    sweep_blocks: u32,
    /// The largest range of blocks, and of rows.
    max_range: (u32, u32),
    /// Blocks of one portion of a step, and rows.
    portion_blocks: u32,
    portion_rows: u32,
    /// Ranges of keys taken in one step, where they turned out small.
    span: usize,
    /// The end of a range of keys that takes too long and has too few rows to be split.
    indivisible: Option<cursor::KeyText>,
}

impl Sizes {
    fn unknown() -> Self {
        Sizes {
            range_blocks: 0,
            range_rows: 0,
            sweep_blocks: units::FIRST_BLOCKS,
            max_range: (1, 1),
            portion_blocks: units::FIRST_PORTION,
            portion_rows: units::FIRST_PORTION,
            span: 1,
            indivisible: None,
        }
    }
}

impl Run {
    pub fn open(job: &Job) -> Result<Self> {
        let root = job.relid.ok_or_else(|| {
            // After a restore that left the table out.
            Error::new(UNDEFINED_TABLE, format!("table {} does not exist in this database", job.target))
        })?;
        filling::works_on(job.id);
        Ok(Run {
            job: job.id,
            root,
            target: job.target.clone(),
            definition: serde_json::from_value(job.params.clone())?,
            begun: false,
            through_root: false,
            table: None,
            relid: Oid::INVALID,
            session: None,
            horizon: Horizon::default(),
            sizes: Sizes::unknown(),
            blocks: 1.0,
            rows: 1.0,
            since: 0,
            filtering: false,
            still_matching: HashSet::new(),
            told_of_locks: false,
            told_of_slow: false,
            proved: false,
            trigger: trigger::Trigger::default(),
        })
    }

    fn table(&self) -> Result<&Listed> {
        self.table.as_ref().ok_or_else(|| Error::new(INTERNAL_ERROR, "a step without a table"))
    }

    /// The table at hand, quoted and qualified.
    fn now_called(&self) -> String {
        let (schema, name) = heap::name(self.relid).unwrap_or_default();
        format!("{}.{}", identifier(&schema), identifier(&name))
    }

    /// Takes a portion of the table at hand into the slot's hand.
    fn hold(&self, context: &mut Context, portion: Portion) -> Result<()> {
        context.set_cursor(&Hand { table: self.table()?.number, portion })
    }

    /// An event, which names the table where it is one of several.
    fn tell(&self, context: &mut Context, event: &'static str, detail: String) {
        match &self.table {
            Some(table) if table.relid != self.root => context.event(event, format!("{}: {detail}", table.sql)),
            _ => context.event(event, detail),
        }
    }

    /// The statements, under the table's name of now. The lock that the step holds keeps it.
    fn session(&mut self) -> Result<Rc<Session>> {
        if let Some(session) = &self.session
            && session.is_current(self.root, self.relid)
        {
            return Ok(Rc::clone(session));
        }
        let session = Rc::new(Session::open(self.root, self.table()?, &self.definition, self.job)?);
        self.session = Some(Rc::clone(&session));
        self.through_root = session.through_root;
        self.filtering = super::store::any_still_matching(self.job)?;
        self.modernize_rows(&session)?;
        Ok(session)
    }
}

impl Work for Run {
    fn step(&mut self, context: &mut Context) -> Result<Outcome> {
        if self.definition.fingerprint.is_none() {
            return self.settle_in(context);
        }
        if let Some(outcome) = self.see_to_trigger(context)? {
            return Ok(outcome);
        }
        if !self.begun {
            self.begun = true;
            if self.begin_again(context)? {
                return Ok(Outcome::Continue);
            }
        }
        let Some(Hand { table, portion }) = context.cursor::<Hand>()? else {
            return self.choose(context);
        };
        if !self.enter(context, table)? {
            return Ok(Outcome::Continue);
        }
        spi::theirs::check_at_once()?;
        let session = self.session()?;
        crate::row_stamps::raw::leave_alone((!self.definition.options.touch_stamps).then_some(self.relid));
        if self.sizes.range_blocks == 0 && !self.recall()? {
            return self.start(context, &session);
        }
        let outcome = match portion {
            Portion::Blocks(ref blocks) if !portion.is_finished() => {
                self.fill_blocks(context, &session, blocks.clone())
            }
            Portion::Keys(ref keys) if !portion.is_finished() => self.fill_keys(context, &session, keys.clone()),
            Portion::Rows(ref rows) if !portion.is_finished() => self.revisit(context, &session, rows.clone()),
            Portion::Sweep(ref sweep) if !portion.is_finished() => self.sweep(context, &session, sweep.clone()),
            Portion::Vacuum(vacuum) => self.vacuum(context, vacuum),
            finished => self.claim(context, &session, finished),
        };
        context.scale_units(self.table()?.weight / units::ALL_UNITS);
        outcome
    }

    fn relid(&self) -> Option<Oid> {
        self.table.as_ref().map(|table| table.relid)
    }

    fn top_level_done(&mut self, context: &mut Context, answer: Result<Completion>) -> Result<Outcome> {
        self.vacuumed(context, answer)
    }
}
