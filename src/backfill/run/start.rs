//! The first step in a table: look at it, choose the way, fix where it ends.

use super::Run;
use super::cursor::{Phase, Shared};
use super::session::Session;
use super::units::{ALL_UNITS, FILL_UNITS, plan_of};
use crate::backfill::key::Key;
use crate::backfill::options::Walk;
use crate::backfill::strategy::{self, Choice};
use crate::backfill::{list, survey};
use crate::error::Result;
use crate::jobs::kind::{Context, Outcome};
use crate::server::{Oid, heap, spi};

impl Run {
    /// Reads what the run has settled already. `false`: nothing yet.
    pub(super) fn recall(&mut self) -> Result<bool> {
        let shared = list::shared(self.job, self.table()?.number)?;
        if shared.phase == Phase::Start {
            return Ok(false);
        }
        self.adopt(&shared);
        Ok(true)
    }

    /// Takes over what all workers share.
    pub(super) fn adopt(&mut self, shared: &Shared) {
        self.since = shared.since as u32;
        self.proved |= shared.proved;
        self.blocks = f64::from(shared.end_block.max(1));
        self.rows = shared.rows_estimate.max(1.0);
        let Some(choice) = &shared.choice else { return };
        self.sizes.max_range = limits(choice, shared.range_rows);
        if self.sizes.range_blocks == 0 {
            self.sizes.range_blocks = choice.range_blocks;
            self.sizes.range_rows = shared.range_rows;
        }
    }

    pub(super) fn start(&mut self, context: &mut Context, session: &Session) -> Result<Outcome> {
        let table = self.table()?;
        let (number, weight) = (table.number, table.weight);
        let Some((mut shared, _)) = list::lock(self.job, number, context.slot())? else {
            context.clear_cursor();
            return Ok(Outcome::Continue);
        };
        if shared.phase == Phase::Start {
            self.settle(context, session, &mut shared)?;
            list::write(self.job, number, &shared, None)?;
            context.keep_for_good();
            if let Some(choice) = &shared.choice {
                let (way, rows) = (choice.describe(), shared.rows_to_change as f64);
                let plan = self.with_tree(context, |_, tree| {
                    tree.note(way, weight, rows);
                    Ok(plan_of(tree))
                })?;
                context.set_plan(plan);
            }
        }
        self.adopt(&shared);
        Ok(Outcome::Continue)
    }

    fn settle(&mut self, context: &mut Context, session: &Session, shared: &mut Shared) -> Result<()> {
        let definition = &self.definition;
        let facts = survey::facts(self.relid, &session.parts, &definition.columns)?;
        let choice = strategy::choose(&facts, &definition.options);
        let rows_per_block = facts.rows / f64::from(facts.blocks.max(1));
        *shared = Shared {
            phase: Phase::Fill,
            key: Some(session.parts.key.iter().flat_map(|key| &key.columns).map(|c| c.name.clone()).collect()),
            order: session.parts.key.as_ref().map(Key::order),
            exact: true,
            filenode: filenode(self.relid)?,
            end_block: facts.blocks,
            range_rows: ((rows_per_block * f64::from(choice.range_blocks)) as u32).max(100),
            rows_estimate: facts.rows.max(1.0),
            rows_to_change: facts.rows_to_change() as i64,
            since: heap::next_full_xid(),
            held: choice.held,
            proved: self.proved,
            ..Shared::default()
        };
        if choice.walk == Walk::Keys {
            shared.last_key = session.last_key()?;
        }
        self.tell(context, "strategy", format!("{}: {}", choice.describe(), choice.reason));
        shared.choice = Some(choice);
        Ok(())
    }

    /// Units of progress that the fill is worth in all.
    pub(super) fn fill_units(&self) -> f64 {
        if self.definition.condition.is_some() { FILL_UNITS } else { ALL_UNITS }
    }
}

/// Largest ranges, in blocks and rows.
fn limits(choice: &Choice, range_rows: u32) -> (u32, u32) {
    let rows_per_block = (range_rows / choice.range_blocks.max(1)).max(1);
    (choice.most_blocks, choice.most_blocks.saturating_mul(rows_per_block).max(range_rows))
}

/// The table's file: it changes when VACUUM FULL, CLUSTER or ALTER TABLE rewrite it.
pub fn filenode(relid: Oid) -> Result<u32> {
    let node: Option<Oid> = spi::query_one(
        "SELECT coalesce(pg_catalog.pg_relation_filenode($1), 0::pg_catalog.oid)",
        &[relid.into()],
        |row| row.require(1),
    )?;
    Ok(node.map_or(0, |node| node.to_u32()))
}
