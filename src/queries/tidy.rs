//! What becomes of the history: hours and days are added up, what is too old or too much leaves.
//!
//! Partitions are emptied by TRUNCATE, for which whoever has read the history in his transaction is in the way for as long as that
//! takes. So each is emptied in a transaction of its own, which may come to nothing and is tried again at another look; until then the
//! ring stays where it is (LAW 32).

use std::collections::BTreeMap;

use super::cover::{Span, period_at, period_of};
use super::packed;
use super::store::{self, Interval};
use crate::error::*;
use crate::jobs::chore::Visit;
use crate::queries::raw::memory::Database;
use crate::server::catch::transaction;
use crate::server::raise::{self, Level};
use crate::server::{catalog, spi};
use crate::settings;

/// Part of `upkeep.query_history_size` that texts may take.
pub(super) const TEXTS_SHARE: u64 = 4;

/// How far back it is looked whether an hour or a day has not been added up: the server may have been down.
const LOOK_BACK: [i64; 3] = [0, 3 * period_of(2), 40 * period_of(2)];

/// Where the ring of a level goes with the next row.
enum Turn {
    /// It stays in its partition,
    Stay,
    /// which counts from here on.
    Begin(i16),
    /// It moves on, if the next partition is empty.
    MoveOn(i16),
}

fn turn(span: Span) -> Result<Turn> {
    let (position, since) = store::ring(span.level)?;
    let width = (settings::query_retentions()[span.level].as_micros() as i64 / i64::from(store::RING - 1)).max(1);
    Ok(match since {
        None => Turn::Begin(position),
        // The clock was ahead and has been put right: without this nothing would leave until it is there again.
        Some(since) if since > catalog::now() => Turn::Begin(position),
        Some(since) if span.period - since >= width => Turn::MoveOn((position + 1) % store::RING),
        Some(_) => Turn::Stay,
    })
}

/// Moves the ring of a level on when its partition spans a seventh of the retention.
pub(super) fn advance(span: Span) -> Result<()> {
    match turn(span)? {
        Turn::Stay => Ok(()),
        Turn::Begin(position) => store::set_ring(span.level, position, span.period),
        Turn::MoveOn(next) if store::holds(span.level, next)? => Ok(()),
        Turn::MoveOn(next) => store::set_ring(span.level, next, span.period),
    }
}

pub(super) fn add_up(level: usize, period: i64) -> Result<()> {
    let end = period + period_of(level);
    let parts: Vec<Span> = store::spans(period, end)?
        .into_iter()
        .filter(|span| span.level + 1 == level && span.period >= period && span.period < end)
        .collect();
    let mut records = BTreeMap::new();
    let mut flags = 0;
    for &part in &parts {
        if let Some((more, more_flags)) = store::read(part, None)? {
            packed::merge(&mut records, more);
            flags |= more_flags;
        }
    }
    let (Some(started), Some(finished)) =
        (parts.iter().map(|part| part.started).min(), parts.iter().map(|part| part.finished).max())
    else {
        return Ok(());
    };
    let span = Span { level, period, started, finished };
    store::remove(level, period)?;
    advance(span)?;
    store::insert(&Interval { span, parts: parts.len() as i32, flags, records: &records })?;
    if level == 1 {
        store::note_seen(&records.keys().copied().collect::<Vec<_>>())?;
    }
    Ok(())
}

/// A scheduler's visit, between transactions.
pub(super) struct Tidying<'a> {
    visit: &'a mut Visit,
    tried: bool,
    /// Partitions that could not be emptied at this visit; and who was in the way of the first.
    locked: Vec<(usize, i16)>,
    held_up: Option<String>,
}

impl<'a> Tidying<'a> {
    pub fn new(visit: &'a mut Visit) -> Self {
        Tidying { visit, tried: false, locked: Vec::new(), held_up: None }
    }

    /// Before a row is written: where the ring is to move on, the next partition is emptied.
    pub fn make_room(&mut self, span: Span) {
        let full = looked(|| match turn(span)? {
            Turn::MoveOn(next) if store::holds(span.level, next)? => Ok(Some(next)),
            _ => Ok(None),
        });
        match full {
            Ok(Some(next)) => {
                self.empty(span.level, next);
            }
            Ok(None) => {}
            Err(error) => self.pass_over("room in the history of statements", error),
        }
    }

    /// Once an hour, and as long as anything is in the way: adds up what is over, and lets go of what is too old or too much.
    pub fn tidy(&mut self, now: i64) {
        for level in [1, 2] {
            let from = now - LOOK_BACK[level];
            let until = period_at(level, now);
            match looked(|| store::unfinished(level, period_at(2, from), until)) {
                Ok(periods) => periods.into_iter().for_each(|period| self.add_up(level, period)),
                Err(error) => self.pass_over("sums of the history of statements", error),
            }
        }
        for (level, retention) in settings::query_retentions().into_iter().enumerate() {
            match looked(|| store::partitions_before(level, now - retention.as_micros() as i64)) {
                Ok(positions) => positions.into_iter().for_each(|position| {
                    self.empty(level, position);
                }),
                Err(error) => self.pass_over("old history of statements", error),
            }
        }
        if let Err(error) = self.shrink(now) {
            self.pass_over("the size of the history of statements", error);
        }
    }

    fn add_up(&mut self, level: usize, period: i64) {
        self.make_room(Span { level, period, started: period, finished: period + period_of(level) });
        if let Err(error) = looked(|| add_up(level, period)) {
            self.pass_over("a sum of the history of statements", error);
        }
    }

    fn shrink(&mut self, now: i64) -> Result<()> {
        let Some(most) = settings::query_history_size() else { return Ok(()) };
        for _ in 0..3 * store::RING {
            let (texts, rest) = looked(store::sizes)?;
            // However large the table of texts has become.
            let room = most - (texts as u64).min(most / TEXTS_SHARE);
            if rest as u64 <= room {
                return Ok(());
            }
            let Some((level, position)) = looked(oldest)? else { return Ok(()) };
            if self.empty_and(level, position, || leave(level, position, now)) {
                continue;
            }
            // Rows can always go. Their room is for later ones, once it is vacuumed.
            return looked(|| store::delete_beyond(room as i64));
        }
        Ok(())
    }

    fn empty(&mut self, level: usize, position: i16) -> bool {
        self.empty_and(level, position, || Ok(()))
    }

    /// Empties a partition, unless somebody has it locked. Then what was to come with it is left undone.
    fn empty_and(&mut self, level: usize, position: i16, before: impl FnOnce() -> Result<()>) -> bool {
        if self.locked.contains(&(level, position)) {
            return false;
        }
        self.tried = true;
        let emptied = transaction(|| {
            // Readers wait behind us for so long at most (LAW 14).
            spi::set_transaction("lock_timeout", &settings::ddl_lock_timeout().as_millis().to_string());
            spi::bookkeeping(|| {
                before()?;
                store::empty(level, position)
            })
        });
        let Err(error) = emptied else { return true };
        if error.sqlstate != LOCK_NOT_AVAILABLE {
            self.pass_over("a partition of the history of statements", error);
            return false;
        }
        self.locked.push((level, position));
        if self.held_up.is_none() {
            let who = looked(|| store::held_by(&[store::partition(level, position)?]));
            self.held_up = Some(who.unwrap_or(error.message));
        }
        false
    }

    fn pass_over(&mut self, what: &str, error: Error) {
        self.visit.pass_over(what, error);
    }

    /// Says in the log, once, who keeps old history from leaving.
    pub fn tell(self, database: &Database) {
        if !self.tried {
            return;
        }
        let told = database.note_held_up(self.held_up.is_some());
        let Some(who) = self.held_up.filter(|_| !told) else { return };
        let report = Error::new(LOCK_NOT_AVAILABLE, format!("history of statements: {who}"))
            .detail("Statements are counted and stored as before. Old history leaves once the lock can be had.")
            .hint("A session that has read it holds the lock until the end of its transaction.");
        raise::report(Level::Log, report);
    }
}

/// One transaction of ours on the history.
fn looked<T>(f: impl FnOnce() -> Result<T>) -> Result<T> {
    transaction(|| spi::bookkeeping(f))
}

/// What is to leave first: the finest history is the largest, and coarser rows repeat it. In the end what is being written to.
fn oldest() -> Result<Option<(usize, i16)>> {
    for level in 0..3 {
        if let Some(position) = store::oldest(level)? {
            return Ok(Some((level, position)));
        }
    }
    for level in 0..3 {
        let (position, _) = store::ring(level)?;
        if store::holds(level, position)? {
            return Ok(Some((level, position)));
        }
    }
    Ok(None)
}

/// What is written to begins anew with another partition.
fn leave(level: usize, position: i16, now: i64) -> Result<()> {
    if store::ring(level)?.0 == position {
        store::set_ring(level, (position + 1) % store::RING, now)?;
    }
    Ok(())
}
