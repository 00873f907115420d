//! Which table a worker turns to that has nothing in hand: the largest that nobody has, so that many small
//! ones go side by side; when there is none, one that others are at, so that a huge one still gets all workers.

use std::collections::HashMap;
use std::time::Duration;

use super::Run;
use super::Sizes;
use super::cursor::{Hand, Phase, Portion, Shared};
use super::session::analysed;
use super::units::{ALL_UNITS, plan_of};
use super::whole::{Again, Tree};
use crate::backfill::tree::{self, Leaf};
use crate::backfill::{list, store};
use crate::error::{Error, OBJECT_NOT_IN_PREREQUISITE_STATE, Result, UNDEFINED_TABLE};
use crate::jobs::kind::{Context, Outcome};
use crate::quarantine;
use crate::server::{Oid, heap};

/// How often tables that came meanwhile are looked for once the list is through (LAW 23).
const ROUNDS: u32 = 10;
/// A pause for whoever cannot help.
const PAUSE: Duration = Duration::from_millis(50);
/// Longest rest between two looks at rows that others have locked.
const LONGEST_REST: Duration = Duration::from_secs(5);

/// Tables that were put on the list, and rows of such as came too late.
#[derive(Default)]
struct Added {
    tables: usize,
    left: i64,
}

impl Run {
    pub(super) fn choose(&mut self, context: &mut Context) -> Result<Outcome> {
        let sight = list::look(self.job, context.slot())?;
        self.proved |= sight.proved;
        if !sight.tree.started || sight.tree.again.is_some() {
            return self.list_tables(context);
        }
        if sight.free.is_some() {
            return self.take_table(context);
        }
        for (number, shared) in &sight.others {
            if self.can_help(*number, shared)? {
                context.set_cursor(&Hand { table: *number, portion: Portion::Enter })?;
                return Ok(Outcome::Continue);
            }
        }
        if !sight.others.is_empty() {
            let reason = "the other workers of this job finish their part".to_owned();
            return Ok(Outcome::Wait { reason, time: PAUSE });
        }
        if let Some(time) = sight.rests {
            let reason = "rows are locked by other transactions".to_owned();
            return Ok(Outcome::Wait { reason, time: time.clamp(Duration::from_millis(10), LONGEST_REST) });
        }
        self.list_tables(context)
    }

    /// Is there something to hand out in a table that others are at?
    fn can_help(&self, number: i32, shared: &Shared) -> Result<bool> {
        Ok(match shared.phase {
            Phase::Start => false,
            Phase::Fill if shared.last_key.is_some() => shared.after_key != shared.last_key,
            Phase::Fill | Phase::Sweep => shared.next_block < shared.end_block,
            Phase::Revisit => match list::table(self.job, number)? {
                Some(table) => !quarantine::locked_after(self.job, table.relid, shared.after_number, 1)?.is_empty(),
                None => false,
            },
        })
    }

    /// Takes the largest table that is free, under the lock that makes two workers take two.
    fn take_table(&mut self, context: &mut Context) -> Result<Outcome> {
        let job = self.job;
        let taken = self.with_tree(context, |context, _| Ok(list::look(job, context.slot())?.free))?;
        if let Some(table) = taken {
            context.set_cursor(&Hand { table, portion: Portion::Enter })?;
        }
        Ok(Outcome::Continue)
    }

    pub(super) fn with_tree<T>(
        &self,
        context: &mut Context,
        change: impl FnOnce(&mut Context, &mut Tree) -> Result<T>,
    ) -> Result<T> {
        context.with_shared(|context, value, _| {
            let mut tree: Tree = serde_json::from_value(value)?;
            let result = change(context, &mut tree)?;
            Ok((serde_json::to_value(&tree)?, result))
        })
    }

    /// The first and the last thing of a run: which tables are there? At the end those that came
    /// meanwhile are found; when there are none, it is done.
    fn list_tables(&mut self, context: &mut Context) -> Result<Outcome> {
        let job = self.job;
        let outcome = self.with_tree(context, |context, tree| {
            if tree.again.is_some() {
                return begin_again(job, tree);
            }
            let sight = list::look(job, context.slot())?;
            if sight.free.is_some() || !sight.others.is_empty() || sight.rests.is_some() {
                return Ok(Outcome::Continue); // somebody else was first
            }
            if !heap::exists(self.root) {
                return Err(self.root_is_gone());
            }
            let Added { tables, left } = if tree.closed { Added::default() } else { self.add_tables(context, tree)? };
            if tables > 0 {
                return Ok(Outcome::Continue);
            }
            Ok(Outcome::Done { rows_left: list::rows_left(job)? + left })
        })?;
        // Children that came meanwhile may lack the trigger.
        self.look_for_trigger();
        Ok(match outcome {
            Outcome::Done { rows_left } => self.end(rows_left),
            other => other,
        })
    }

    pub(super) fn root_is_gone(&self) -> Error {
        Error::new(UNDEFINED_TABLE, format!("table {} was dropped while it was being filled", self.target))
    }

    /// Puts the leaves that are not on the list on it.
    fn add_tables(&self, context: &mut Context, tree: &mut Tree) -> Result<Added> {
        let known = list::tables(self.job)?;
        let by_relid: HashMap<Oid, &list::Listed> = known.iter().map(|table| (table.relid, table)).collect();
        let leaves = tree::leaves_now(self.root)?;
        let (back, new): (Vec<Leaf>, Vec<Leaf>) =
            leaves.into_iter().partition(|leaf| by_relid.contains_key(&leaf.relid));
        let mut added = Added::default();
        for leaf in back {
            let table = by_relid[&leaf.relid];
            if table.gone {
                list::take_back(self.job, table.number)?;
                context.event("table back", format!("{} is part of the tree again", leaf.sql));
                added.tables += 1;
            }
        }
        let (unsuitable, new): (Vec<Leaf>, Vec<Leaf>) = new.into_iter().partition(|leaf| leaf.unsuitable.is_some());
        if tree.rounds == 0 || !new.is_empty() {
            for leaf in unsuitable {
                let why = leaf.unsuitable.unwrap_or_default();
                context.event("table left out", format!("{} {why} and is left out", leaf.sql));
            }
        }
        if new.is_empty() {
            tree.started = true;
            return Ok(added);
        }
        self.refuse_unknown(&known, &new)?;
        if tree.rounds > ROUNDS {
            context.event(
                "tables left",
                format!("{} tables that came meanwhile are left, the first is {}", new.len(), new[0].sql),
            );
            // Nobody has counted them: at least one row each.
            added.left = new.len() as i64;
            return Ok(added);
        }
        let first = known.iter().map(|table| table.number).max().unwrap_or(0) + 1;
        for (number, leaf) in (first..).zip(&new) {
            let weight = if leaf.relid == self.root && new.len() == 1 {
                ALL_UNITS
            } else {
                f64::from(heap::blocks_if_free(leaf.relid).unwrap_or(leaf.pages.max(0) as u32)) + 1.0
            };
            list::add(self.job, number, leaf.relid, &leaf.sql, weight)?;
            tree.weight += weight;
            if tree.started {
                context.event("table found", format!("{} came while the backfill ran", leaf.sql));
            }
        }
        if !tree.started && new.len() > 1 {
            context.event("tables", format!("{} tables", new.len()));
        }
        tree.started = true;
        tree.rounds += 1;
        tree.tables += new.len();
        context.set_plan(plan_of(tree));
        added.tables += new.len();
        Ok(added)
    }

    /// After a restore, a table that is not found under its name may be there under another one, and done.
    fn refuse_unknown(&self, known: &[list::Listed], new: &[Leaf]) -> Result<()> {
        let lost = known.iter().find(|table| table.relid == Oid::INVALID && !table.gone);
        let (Some(lost), None) = (lost, &self.definition.condition) else { return Ok(()) };
        Err(Error::new(
            OBJECT_NOT_IN_PREREQUISITE_STATE,
            format!("{} was not found in the database that the job was restored into", lost.sql),
        )
        .detail(format!(
            "{} is not known to the job. If it is the same table under another name, its rows would be changed twice.",
            new[0].sql
        ))
        .hint(
            "Give the tables the names they had when the job was created and call upkeep.retry(), \
            or cancel the job and start one with a condition.",
        ))
    }

    /// Turns to a table of the list. `false`: it is not there any more.
    pub(super) fn enter(&mut self, context: &mut Context, number: i32) -> Result<bool> {
        if self.table.as_ref().is_none_or(|table| table.number != number) {
            self.table = None;
            let Some(table) = list::table(self.job, number)? else {
                context.clear_cursor();
                return Ok(false);
            };
            self.relid = table.relid;
            self.table = Some(table);
            self.session = None;
            self.sizes = Sizes { max_range: self.sizes.max_range, ..Sizes::unknown() };
        }
        // From the top down, as DDL does.
        if self.relid != self.root && self.through_root && !heap::lock_for_update(self.root) {
            return Err(self.root_is_gone());
        }
        if heap::lock_for_update(self.relid) && tree::is_below(self.relid, self.root)? {
            heap::know_partition(self.relid)?;
            return Ok(true);
        }
        if !heap::exists(self.root) {
            return Err(self.root_is_gone());
        }
        self.leave_table(context)?;
        Ok(false)
    }

    /// The table was dropped, or taken out of the tree: what is left of it is not our business.
    fn leave_table(&mut self, context: &mut Context) -> Result<()> {
        context.clear_cursor();
        if let Some(table) = self.table.take()
            && list::leave(self.job, &table)?
        {
            let how = if heap::exists(table.relid) { "does not belong to the tree any more" } else { "was dropped" };
            context.event("table gone", format!("{} {how}; its rows are left as they are", table.sql));
        }
        Ok(())
    }

    /// Sees to it, before anything else, that what was put aside is tried once more, if the run was told so.
    pub(super) fn begin_again(&mut self, context: &mut Context) -> Result<bool> {
        let job = self.job;
        if list::look(job, context.slot())?.tree.again.is_none() {
            return Ok(false);
        }
        self.with_tree(context, |_, tree| begin_again(job, tree))?;
        Ok(true)
    }

    /// The first step in a database that the job was restored into: names keep what they mean
    /// here from now on, and transaction ids of the other server mean nothing.
    pub(super) fn settle_in(&mut self, context: &mut Context) -> Result<Outcome> {
        let fingerprint = self.meaning()?.0;
        let job = self.job;
        let known = self.with_tree(context, |_, _| {
            if let Some(known) = store::fingerprint(job)? {
                return Ok(known); // another worker was first
            }
            list::settle_in(job, &fingerprint, heap::next_full_xid())?;
            Ok(fingerprint)
        })?;
        self.definition.fingerprint = Some(known);
        self.filtering = false;
        self.table = None;
        Ok(Outcome::Continue)
    }

    /// What the names in the text mean now, and whether row security of the table that was asked for
    /// applies. No lock of it is kept.
    pub(super) fn meaning(&self) -> Result<(String, bool)> {
        let (table, analysis) = analysed(self.root, &self.definition)?.ok_or_else(|| self.root_is_gone())?;
        Ok((analysis.fingerprint, table.row_security))
    }
}

fn begin_again(job: pgrx::Uuid, tree: &mut Tree) -> Result<Outcome> {
    if let Some(again) = tree.again.take() {
        list::try_again(job, again)?;
        tree.closed |= again == Again::Leftovers;
    }
    Ok(Outcome::Continue)
}
