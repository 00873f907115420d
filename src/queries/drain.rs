//! The scheduler's part: what was counted goes from shared memory into the history, hours and days are added up, old history
//! leaves.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use super::cover::{Span, period_at, period_of};
use super::figures::{Key, Record};
use super::store::{self, Interval};
use super::{counters, packed};
use crate::error::*;
use crate::server::catch::{subtransaction, transaction};
use crate::server::queries::memory::{self, Drained, Presence};
use crate::server::queries::texts::{self, Waiting};
use crate::server::raise::{self, Level};
use crate::server::{catalog, spi, worker};
use crate::settings;

thread_local! {
    /// Out of shared memory and not in the tables yet. Nobody borrows it while statements run: a termination ends this process
    /// in the middle of one.
    static UNDER_WAY: RefCell<Option<Rc<Drained>>> = const { RefCell::new(None) };
}

/// Most texts kept per entry of `upkeep.query_max`.
const TEXTS_PER_ENTRY: i64 = 4;
/// Part of `upkeep.query_history_size` that texts may take.
const TEXTS_SHARE: u64 = 4;
/// How far back it is looked whether an hour or a day has not been added up: the server may have been down.
const LOOK_BACK: [i64; 3] = [0, 3 * period_of(2), 40 * period_of(2)];

/// When what waits in a database is to be drained, as a timestamp; `None`: nothing waits.
pub fn due(database: pgrx::pg_sys::Oid) -> Option<i64> {
    let interval = settings::query_interval()?.as_micros() as i64;
    let since = memory::waiting_since(database.to_u32())?;
    // At whole minutes; at once if the clock was set back.
    Some(if since > catalog::now() + interval { since.min(0) } else { (since.div_euclid(interval) + 1) * interval })
}

/// How long the launcher may be without a look whether anything waits.
pub fn longest_pause() -> Option<Duration> {
    settings::query_interval().filter(|_| memory::is_available())
}

/// Keeps the history of this database; says when to come back. Called between transactions.
pub fn visit() -> Option<Duration> {
    if !memory::is_available() || worker::in_recovery() {
        return None;
    }
    let here = catalog::my_database();
    memory::set_presence(here.to_u32(), Presence::Present);
    memory::tend();
    let left = due(here)? - catalog::now();
    if left > 0 {
        return Some(Duration::from_micros(left as u64));
    }
    if let Err(error) = drain(here.to_u32()) {
        raise::report(Level::Log, Error { message: format!("history of statements: {}", error.message), ..error });
        return Some(Duration::from_secs(10));
    }
    due(here).map(|at| Duration::from_micros((at - catalog::now()).max(1000) as u64))
}

/// The extension is not in this database: what runs here is not kept apart.
pub fn extension_is_absent() {
    memory::set_presence(catalog::my_database().to_u32(), Presence::Absent);
}

/// The launcher sends no scheduler to this database: nobody will fetch its texts.
pub fn is_left_alone(database: pgrx::pg_sys::Oid) {
    memory::leave_alone(database.to_u32());
}

/// Databases that do not exist any more are not kept apart. In a transaction.
pub fn forget_databases(exists: impl Fn(pgrx::pg_sys::Oid) -> bool) {
    memory::tend();
    memory::forget_databases(|oid| exists(oid.into()));
}

/// Called when the process ends, however that came about.
pub fn give_back() {
    if let Some(drained) = UNDER_WAY.take() {
        memory::give_back(&drained);
    }
}

fn drain(here: u32) -> Result<()> {
    let now = catalog::now();
    let (Some(database), Some(drained)) = (memory::database(here), memory::drain(here)) else { return Ok(()) };
    let first_use = drained.first_use;
    let before = database.drained_at();
    let drained = Rc::new(drained);
    UNDER_WAY.set(Some(Rc::clone(&drained)));
    let written = transaction(|| {
        let started = if first_use > 0 { first_use.min(now) } else { now };
        let span = Span { level: 0, period: started, started, finished: now.max(started + 1) };
        let sample = counters::sample(database, &drained.entries);
        spi::bookkeeping(|| write(span, before == 0, &drained, sample))
    });
    match written {
        Ok(sample) => {
            UNDER_WAY.take();
            sample.remember(database, &drained.entries);
            database.set_drained_at(now);
        }
        Err(error) => {
            give_back();
            return Err(error);
        }
    }
    store_texts(here)?;
    let hour = |at: i64| period_at(1, at);
    if before == 0 || hour(before) != hour(now) || hour(first_use) != hour(now) {
        tidy(now)?;
    }
    Ok(())
}

fn write(span: Span, first: bool, drained: &Drained, sample: counters::Sample) -> Result<counters::Sample> {
    // One that was given up and entered anew meanwhile is there twice.
    let mut records: BTreeMap<Key, Record> = BTreeMap::new();
    for (i, entry) in drained.entries.iter().enumerate() {
        let record = Record { key: entry.key, figures: entry.figures.clone(), counters: sample.delta(i) };
        packed::merge(&mut records, vec![record]);
    }
    if !records.is_empty() {
        let mut flags = if sample.lossy { store::FORGOTTEN } else { 0 };
        if first && store::has_history()? {
            flags |= store::CUT_SHORT;
        }
        advance(span)?;
        store::insert(&Interval { span, parts: 1, flags, records: &records })?;
        for level in [1, 2] {
            add_late(level, span, flags, &records)?;
        }
    }
    Ok(sample)
}

/// The clock was set back into an hour or a day that is added up already: its row stands for the interval too.
fn add_late(level: usize, late: Span, flags: i32, records: &BTreeMap<Key, Record>) -> Result<()> {
    let period = period_at(level, late.period);
    let Some((span, parts)) = store::whole(level, period)? else { return Ok(()) };
    let Some((before, before_flags)) = store::read(span, None)? else { return Ok(()) };
    let mut sum = records.clone();
    packed::merge(&mut sum, before);
    store::remove(level, period)?;
    store::insert(&Interval {
        span: Span { started: span.started.min(late.started), finished: span.finished.max(late.finished), ..span },
        // Of a day the parts are hours.
        parts: if level == 1 { parts + 1 } else { parts },
        flags: flags | before_flags,
        records: &sum,
    })
}

/// By themselves: no text that cannot be stored costs an interval.
fn store_texts(here: u32) -> Result<()> {
    let Some(all) = texts::texts() else { return Ok(()) };
    let texts = all.waiting(here);
    if texts.is_empty() {
        return Ok(());
    }
    transaction(|| {
        spi::bookkeeping(|| {
            for text in &texts {
                store_text(text)?;
            }
            bound_texts()
        })
    })?;
    all.done(&texts);
    Ok(())
}

/// One that is not valid in this database's encoding (its search_path may be from the configuration file) is stored without what is not
/// ASCII. Any other error ends the transaction: they all wait for the next time.
fn store_text(waiting: &Waiting) -> Result<()> {
    let Waiting { queryid, user, text, search_path, truncated, .. } = waiting;
    let ascii = |bytes: &[u8]| bytes.iter().map(|byte| if byte.is_ascii() { *byte } else { b'?' }).collect::<Vec<_>>();
    let insert =
        |text: &[u8], path: &[u8]| match subtransaction(|| store::insert_text(*queryid, *user, text, *truncated, path))
        {
            Err(error) if error.sqlstate.class() != *b"22" => Err(error),
            result => Ok(result.is_ok()),
        };
    if insert(text, search_path)? || insert(text, &ascii(search_path))? || insert(&ascii(text), &ascii(search_path))? {
        return Ok(());
    }
    // Nor so: perhaps when it is next met.
    if let Some(texts) = texts::texts() {
        texts.forget(*queryid, waiting.who);
    }
    Ok(())
}

fn bound_texts() -> Result<()> {
    let most = TEXTS_PER_ENTRY * i64::from(settings::query_max());
    let count = store::count_texts()?;
    let room = settings::query_history_size().map(|bytes| bytes / TEXTS_SHARE);
    let too_large = room.is_some_and(|room| store::sizes().is_ok_and(|(texts, _)| texts as u64 > room));
    let keep = if too_large { (count / 2).min(most) } else { most };
    if (count > most || too_large)
        && store::prune_texts(keep * 9 / 10)?
        && let Some(texts) = texts::texts()
    {
        // What is gone and still in use is taken down again.
        texts.forget_all();
    }
    Ok(())
}

/// Moves the ring of a level on when its partition spans a seventh of the retention.
pub(super) fn advance(span: Span) -> Result<()> {
    let (position, since) = store::ring(span.level)?;
    let width = (settings::query_retentions()[span.level].as_micros() as i64 / i64::from(store::RING - 1)).max(1);
    match since {
        None => store::set_ring(span.level, position, span.period),
        // The clock was ahead and has been put right: without this nothing would leave until it is there again.
        Some(since) if since > catalog::now() => store::set_ring(span.level, position, span.period),
        Some(since) if span.period - since >= width => {
            let next = (position + 1) % store::RING;
            store::empty(span.level, next)?;
            store::set_ring(span.level, next, span.period)
        }
        Some(_) => Ok(()),
    }
}

/// Once an hour: adds up what is over, and lets go of what is too old or too much.
fn tidy(now: i64) -> Result<()> {
    for level in [1, 2] {
        let from = now - LOOK_BACK[level];
        let until = period_at(level, now);
        let periods = transaction(|| spi::bookkeeping(|| store::unfinished(level, period_at(2, from), until)))?;
        for period in periods {
            transaction(|| spi::bookkeeping(|| add_up(level, period)))?;
        }
    }
    transaction(|| spi::bookkeeping(|| expire(now)))?;
    transaction(|| spi::bookkeeping(|| shrink(now)))
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

fn expire(now: i64) -> Result<()> {
    for (level, retention) in settings::query_retentions().into_iter().enumerate() {
        for position in store::partitions_before(level, now - retention.as_micros() as i64)? {
            store::empty(level, position)?;
        }
    }
    Ok(())
}

fn shrink(now: i64) -> Result<()> {
    let Some(most) = settings::query_history_size() else { return Ok(()) };
    for _ in 0..3 * store::RING {
        let (texts, rest) = store::sizes()?;
        if (texts + rest) as u64 <= most {
            return Ok(());
        }
        // The finest history is the largest, and coarser rows repeat it.
        let mut oldest = None;
        for level in 0..3 {
            if oldest.is_none() {
                oldest = store::oldest(level)?.map(|position| (level, position));
            }
        }
        match oldest {
            Some((level, position)) => store::empty(level, position)?,
            None if !give_up_finest(now)? => return Ok(()),
            None => (),
        }
    }
    Ok(())
}

/// Only what is being written to is left: the finest level that holds anything begins anew. False: all of them are empty.
fn give_up_finest(now: i64) -> Result<bool> {
    for level in 0..3 {
        let (position, _) = store::ring(level)?;
        if store::holds(level, position)? {
            store::set_ring(level, (position + 1) % store::RING, now)?;
            store::empty(level, position)?;
            return Ok(true);
        }
    }
    Ok(false)
}
