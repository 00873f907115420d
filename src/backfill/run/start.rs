//! The first step of a run: look at the table, choose the way, fix where it ends.

use super::Run;
use super::cursor::{Again, Phase, Shared};
use super::session::{Session, Which};
use crate::backfill::options::Walk;
use crate::backfill::strategy::{self, Choice};
use crate::backfill::{store, survey, target};
use crate::error::Result;
use crate::jobs::kind::{Context, Outcome, Plan};
use crate::server::{heap, spi};

/// What the fill is of the whole, where there is a sweep after it.
pub const FILL_UNITS: f64 = 95.0;
pub const ALL_UNITS: f64 = 100.0;

impl Run {
    /// Reads what the run has settled already. `false`: nothing yet.
    pub(super) fn recall(&mut self) -> Result<bool> {
        let shared = store::shared(self.job)?;
        let shared: Shared = serde_json::from_value(shared).unwrap_or_default();
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
        self.max_range = limits(choice, shared.range_rows);
        if self.range_blocks == 0 {
            self.range_blocks = choice.range_blocks;
            self.range_rows = shared.range_rows;
        }
    }

    pub(super) fn start(&mut self, context: &mut Context, session: &Session) -> Result<Outcome> {
        let shared = context.with_shared(|context, value, _| {
            let mut shared: Shared = serde_json::from_value(value)?;
            if shared.phase == Phase::Start {
                self.settle(context, session, &mut shared)?;
            }
            Ok((serde_json::to_value(&shared)?, shared))
        })?;
        self.adopt(&shared);
        Ok(Outcome::Continue)
    }

    fn settle(&mut self, context: &mut Context, session: &Session, shared: &mut Shared) -> Result<()> {
        let table = target::check(Some(self.relid))?;
        let definition = &self.definition;
        let facts =
            survey::facts(&table, &definition.columns, definition.condition.as_deref(), session.parts.key.as_ref())?;
        let choice = strategy::choose(&facts, &definition.options);
        let rows_per_block = facts.rows / f64::from(facts.blocks.max(1));
        *shared = Shared {
            phase: Phase::Fill,
            filenode: filenode(self.relid)?,
            end_block: facts.blocks,
            range_rows: ((rows_per_block * f64::from(choice.range_blocks)) as u32).max(100),
            rows_estimate: facts.rows.max(1.0),
            rows_to_change: facts.rows_to_change() as i64,
            since: heap::next_full_xid(),
            held: choice.held,
            again: shared.again.filter(|&again| again == Again::Resumed),
            ..Shared::default()
        };
        if choice.walk == Walk::Keys {
            let last = session.statement(Which::LastKey).rows(&[])?;
            shared.last_key = last.into_iter().next().and_then(|row| row.into_iter().collect());
        }
        context.event("strategy", format!("{}: {}", choice.describe(), choice.reason));
        context.plan = Some(Plan {
            strategy: choice.describe(),
            rows_estimate: facts.rows_to_change() as i64,
            units_total: ALL_UNITS,
        });
        shared.choice = Some(choice);
        Ok(())
    }

    /// The first step in a database that the job was restored into: names keep what they mean
    /// here from now on, and transaction ids of the other server mean nothing.
    pub(super) fn settle_in(&mut self, context: &mut Context, session: &Session) -> Result<Outcome> {
        let known = context.with_shared(|_, value, _| {
            if let Some(known) = store::fingerprint(self.job)? {
                return Ok((value, known)); // another worker was first
            }
            let mut shared: Shared = serde_json::from_value(value)?;
            shared.since = heap::next_full_xid();
            store::settle_in(self.job, &session.fingerprint)?;
            Ok((serde_json::to_value(&shared)?, session.fingerprint.clone()))
        })?;
        self.definition.fingerprint = Some(known);
        self.filtering = false;
        // The next look at the shared cursor brings `since`.
        self.range_blocks = 0;
        Ok(Outcome::Continue)
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
pub fn filenode(relid: pgrx::pg_sys::Oid) -> Result<u32> {
    let node: Option<pgrx::pg_sys::Oid> = spi::query_one(
        "SELECT coalesce(pg_catalog.pg_relation_filenode($1), 0::pg_catalog.oid)",
        &[relid.into()],
        |row| row.require(1),
    )?;
    Ok(node.map_or(0, |node| node.to_u32()))
}
