//! Taking the next portion of a pass over a table, and going from one pass to the next.

use std::time::Duration;

use super::Run;
use super::cursor::{Blocks, KeyText, Keys, Phase, Portion, Rows, Shared, Sweep};
use super::holder;
use super::horizon::Advice;
use super::session::{self, Session, Which};
use super::start::filenode;
use super::units::ALL_UNITS;
use crate::backfill::list;
use crate::backfill::options::Walk;
use crate::backfill::statements::Begin;
use crate::backfill::strategy::Choice;
use crate::error::{Error, INTERNAL_ERROR, OBJECT_NOT_IN_PREREQUISITE_STATE, Result};
use crate::jobs::kind::{Context, Outcome, Plan};
use crate::quarantine;
use crate::server::heap;
use crate::server::repeated::Arg;

/// Remembered rows taken at a time.
const ROWS: i64 = 500;
/// Blocks of one portion of a sweep; a step does a part of it.
const SWEEP_BLOCKS: u32 = 16_384;
/// Rounds for rows that others have locked, and the longest pause before one: half a
/// minute in all, after which they are left.
const ROUNDS: u32 = 12;
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// A sweep that found something to do is followed by another: others may have written
/// behind it. Not for ever, though.
const SWEEPS: u32 = 3;

/// What a worker gets out of a pass.
enum Claimed {
    Portion(Portion),
    /// Nothing now: others still work on this pass.
    Nothing,
    /// Nothing for so long: rows are locked.
    Rest(Duration),
    /// The next pass begins.
    NextPass,
    /// The table is done.
    Done,
}

impl Run {
    pub(super) fn claim(&mut self, context: &mut Context, session: &Session, finished: Portion) -> Result<Outcome> {
        context.clear_cursor();
        if !self.check_meaning()? {
            self.session = None;
            return self.hold(context, finished).map(|()| Outcome::Continue);
        }
        let number = self.table()?.number;
        let Some((mut shared, others)) = list::lock(self.job, number, context.slot())? else {
            return Ok(Outcome::Continue);
        };
        self.modernize(session, &mut shared)?;
        shared.absorb(&finished);
        shared.proved |= self.proved;
        self.adopt(&shared);
        let claimed = loop {
            match self.take(context, session, &mut shared, others)? {
                Claimed::NextPass => {}
                claimed => break claimed,
            }
        };
        let rest = if let Claimed::Rest(time) = claimed { Some(time) } else { None };
        list::write(self.job, number, &shared, rest)?;
        context.keep_for_good();
        if let Claimed::Portion(portion) = claimed {
            self.hold(context, portion)?;
        }
        Ok(Outcome::Continue)
    }

    /// Names keep their meaning from creation to the end (LAW 21): looked at once per portion.
    /// `false`: the statements have to be made anew, since row security has been turned on or off.
    fn check_meaning(&self) -> Result<bool> {
        let (fingerprint, row_security) = self.meaning()?;
        session::check_meaning(&fingerprint, &self.definition)?;
        Ok(self.relid == self.root || self.through_root == row_security)
    }

    fn take(&mut self, context: &mut Context, session: &Session, shared: &mut Shared, others: i64) -> Result<Claimed> {
        self.notice_rewrite(context, shared)?;
        let portion = match shared.phase {
            Phase::Start => None,
            Phase::Fill => self.take_fill(context, session, shared)?,
            Phase::Revisit => self.take_rows(shared)?,
            Phase::Sweep => take_sweep(shared),
        };
        if let Some(portion) = portion {
            return Ok(Claimed::Portion(portion));
        }
        // Whoever is the last to come back ends the pass.
        if others > 0 {
            return Ok(Claimed::Nothing);
        }
        self.end_pass(context, shared)
    }

    /// VACUUM FULL, CLUSTER and ALTER TABLE put rows elsewhere: a pass over blocks starts again.
    fn notice_rewrite(&self, context: &mut Context, shared: &mut Shared) -> Result<()> {
        let by_blocks = match shared.phase {
            Phase::Fill => shared.choice.as_ref().is_some_and(|choice| choice.walk == Walk::Blocks),
            Phase::Sweep => true,
            _ => false,
        };
        if !by_blocks {
            return Ok(());
        }
        let filenode = filenode(self.relid)?;
        if filenode == shared.filenode {
            return Ok(());
        }
        let blocks = heap::blocks(self.relid);
        self.tell(
            context,
            "rewritten",
            "the table was rewritten by another command; starts again at its first block, rows that are done are skipped".to_owned(),
        );
        if shared.phase == Phase::Fill {
            shared.filenode = filenode;
            shared.next_block = 0;
            shared.end_block = blocks;
        } else {
            shared.begin_sweep(filenode, blocks);
        }
        Ok(())
    }

    fn take_fill(&mut self, context: &mut Context, session: &Session, shared: &mut Shared) -> Result<Option<Portion>> {
        let choice = shared.choice.clone().ok_or_else(|| Error::new(INTERNAL_ERROR, "a fill without a strategy"))?;
        if let Some(vacuum) = self.vacuum_due(shared, &choice) {
            return Ok(Some(Portion::Vacuum(vacuum)));
        }
        let advice = self.advice(context, shared, &choice);
        let strides = if advice.plain { 1 } else { choice.strides };
        let useless_strides = advice.plain && choice.strides > 1;
        match choice.walk {
            Walk::Blocks => {
                if shared.next_block >= shared.end_block {
                    return Ok(None);
                }
                let most = if useless_strides { choice.plain_blocks } else { choice.most_blocks };
                let blocks = self.sizes.range_blocks.min(most).saturating_mul(advice.ranges);
                let first = shared.next_block;
                let blocks = blocks.min(fair_share(shared.end_block, context.workers()));
                let blocks = blocks.min(self.between_vacuums(f64::from(shared.end_block)));
                let last = first.saturating_add(blocks).min(shared.end_block);
                shared.next_block = last;
                Ok(Some(Portion::Blocks(Blocks::new(first, last, most, strides, shared.proved))))
            }
            Walk::Keys => {
                let part = if useless_strides { choice.plain_blocks } else { choice.range_blocks };
                let most =
                    (u64::from(self.sizes.max_range.1) * u64::from(part) / u64::from(choice.most_blocks.max(1))) as u32;
                let rows =
                    if useless_strides { self.sizes.range_rows.min(most.max(10)) } else { self.sizes.range_rows };
                let rows = rows.min(fair_share(shared.rows_estimate as u32, context.workers()) / advice.ranges.max(1));
                let rows = rows.min(self.between_vacuums(shared.rows_estimate) / advice.ranges.max(1));
                self.take_keys(session, shared, (advice.ranges, rows.max(10)), strides)
            }
        }
    }

    /// How large the next window should be, and whether strides gain anything in it.
    fn advice(&mut self, context: &mut Context, shared: &mut Shared, choice: &Choice) -> Advice {
        let usual = choice.window_ranges;
        let plain = Advice { ranges: usual, plain: true, changed: false };
        if choice.strides == 1 {
            return plain;
        }
        let horizon = heap::horizon(self.relid);
        if shared.held {
            if horizon.is_some_and(|horizon| heap::precedes(horizon, shared.since as u32)) {
                return plain;
            }
            shared.held = false;
            self.tell_of_strides(context, shared, choice, None);
        }
        let largest = heap::shared_buffers() / 4 / self.sizes.range_blocks.max(1);
        let advice = self.horizon.advise(horizon, (usual, largest));
        if advice.changed {
            let holder = advice.plain.then(|| holder::describe().ok().flatten().unwrap_or_else(|| "unknown".into()));
            self.tell_of_strides(context, shared, choice, holder.as_deref());
        }
        advice
    }

    fn take_keys(
        &mut self,
        session: &Session,
        shared: &mut Shared,
        (ranges, rows): (u32, u32),
        strides: u32,
    ) -> Result<Option<Portion>> {
        let Some(last) = &shared.last_key else { return Ok(None) };
        if shared.after_key.as_ref() == Some(last) {
            return Ok(None);
        }
        if session.parts.key.is_none() {
            return Err(Error::new(OBJECT_NOT_IN_PREREQUISITE_STATE, "the key that the backfill goes by is gone"));
        }
        let mut bounds = vec![shared.after_key.clone().unwrap_or_default()];
        bounds.extend(boundaries(session, shared.after_key.as_ref(), last, (ranges, rows))?);
        if bounds.len() <= ranges as usize {
            bounds.push(last.clone());
        }
        bounds.dedup();
        shared.claimed_rows += f64::from(rows) * bounds.len().saturating_sub(1) as f64;
        shared.after_key = bounds.last().cloned();
        Ok(Some(Portion::Keys(Keys::new(bounds, rows, strides, shared.proved))))
    }

    /// Keys that an older version has written, as this one writes them. The last one may have been rounded: then rows behind
    /// it would be left out.
    fn modernize(&self, session: &Session, shared: &mut Shared) -> Result<()> {
        if shared.exact || session.parts.key.is_none() {
            return Ok(());
        }
        shared.exact = true;
        if let Some(after) = &mut shared.after_key {
            *after = session.modern(after)?;
        }
        if let Some(last) = &mut shared.last_key {
            *last = session.modern(last)?;
            if shared.phase == Phase::Fill {
                shared.last_key = session.last_key()?.or(shared.last_key.take());
            }
        }
        Ok(())
    }

    fn take_rows(&self, shared: &mut Shared) -> Result<Option<Portion>> {
        let rows = quarantine::locked_after(self.job, self.relid, shared.after_number, ROWS)?;
        let Some(&quarantine::Remembered { number: until, .. }) = rows.last() else { return Ok(None) };
        let after = std::mem::replace(&mut shared.after_number, until);
        Ok(Some(Portion::Rows(Rows { after, until, found: 0 })))
    }

    /// Nobody has anything in hand: what comes next?
    fn end_pass(&mut self, context: &mut Context, shared: &mut Shared) -> Result<Claimed> {
        let (locked, quarantined) = quarantine::remembered(self.job, self.relid)?;
        let has_condition = self.definition.condition.is_some();
        match shared.phase {
            Phase::Start | Phase::Fill => begin_revisit(shared),
            Phase::Revisit if locked > 0 && shared.round < ROUNDS => {
                let pause = Duration::from_millis(100) * 2u32.pow(shared.round.min(10));
                shared.round += 1;
                shared.after_number = 0;
                let first = shared.round == 1;
                if !first {
                    return Ok(Claimed::Rest(pause.min(LONGEST_PAUSE)));
                }
            }
            Phase::Revisit if has_condition && shared.sweep == 0 => self.begin_sweep(shared)?,
            Phase::Revisit if has_condition && shared.found > 0 && shared.sweep < SWEEPS => {
                self.begin_sweep(shared)?;
            }
            Phase::Revisit => return Ok(self.finish(context, shared, locked, quarantined)),
            Phase::Sweep => begin_revisit(shared),
        }
        Ok(Claimed::NextPass)
    }

    fn begin_sweep(&mut self, shared: &mut Shared) -> Result<()> {
        shared.sweep += 1;
        shared.begin_sweep(filenode(self.relid)?, heap::blocks(self.relid));
        Ok(())
    }

    fn finish(&self, context: &mut Context, shared: &mut Shared, locked: i64, quarantined: i64) -> Claimed {
        if shared.left > 0 {
            let examples: Vec<String> = shared.examples.iter().map(ToString::to_string).collect();
            self.tell(
                context,
                "rows left",
                format!(
                    "{} rows still match the condition after their update, for example {}",
                    shared.left,
                    examples.join(", ")
                ),
            );
        }
        if locked > 0 {
            self.tell(context, "rows left", format!("{locked} rows were locked by others throughout"));
        }
        shared.rows_left = Some(shared.left + quarantined + locked);
        Claimed::Done
    }

    /// Strides are given up for a while, or taken up again.
    fn tell_of_strides(&self, context: &mut Context, shared: &Shared, choice: &Choice, holder: Option<&str>) {
        let choice = Choice { held: holder.is_some(), ..choice.clone() };
        let why = match holder {
            Some(holder) => {
                format!(
                    "a transaction that has been open for more than 10 s keeps dead rows from being pruned ({holder})"
                )
            }
            None => "dead rows can be pruned".into(),
        };
        self.tell(context, "strategy", format!("{}: {why}", choice.describe()));
        if self.relid == self.root {
            context.set_plan(Plan {
                strategy: choice.describe(),
                rows_estimate: shared.rows_to_change,
                units_total: ALL_UNITS,
            });
        }
    }
}

/// The largest portion of a small table that leaves work for the other workers.
fn fair_share(all: u32, workers: i32) -> u32 {
    match u32::try_from(workers) {
        Ok(workers) if workers > 1 => (all / (2 * workers)).max(1),
        _ => u32::MAX,
    }
}

/// The keys after the first, up to the last, at which ranges of so many rows end: at most
/// `ranges` of them, as far as there are full ones.
pub fn boundaries(
    session: &Session,
    after: Option<&KeyText>,
    last: &KeyText,
    (ranges, rows): (u32, u32),
) -> Result<Vec<KeyText>> {
    let begin = if after.is_some() { Begin::AfterKey } else { Begin::Start };
    let mut args: Vec<Arg<'_>> = after.into_iter().flatten().chain(last).map(|text| Arg::Text(text)).collect();
    let per_range = i32::try_from(rows).unwrap_or(i32::MAX);
    let all = i32::try_from(ranges.saturating_mul(rows)).unwrap_or(i32::MAX);
    args.extend([Arg::Int(all), Arg::Int(per_range)]);
    let rows = session.statement(Which::Boundaries(begin)).rows(&args)?;
    Ok(rows.into_iter().filter_map(|row| row.into_iter().collect()).collect())
}

/// The same, but for the end itself, where the rows come out even: it divides nothing.
pub fn boundaries_inside(
    session: &Session,
    after: Option<&KeyText>,
    last: &KeyText,
    most: (u32, u32),
) -> Result<Vec<KeyText>> {
    let mut between = boundaries(session, after, last, most)?;
    between.retain(|bound| bound != last);
    Ok(between)
}

fn begin_revisit(shared: &mut Shared) {
    shared.phase = Phase::Revisit;
    shared.round = 0;
    shared.after_number = 0;
}

fn take_sweep(shared: &mut Shared) -> Option<Portion> {
    if shared.next_block >= shared.end_block {
        return None;
    }
    let next = shared.next_block;
    let last = next.saturating_add(SWEEP_BLOCKS).min(shared.end_block);
    shared.next_block = last;
    Some(Portion::Sweep(Sweep { next, last, found: 0, left: 0, examples: Vec::new() }))
}
