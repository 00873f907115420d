//! The scheduler's part: what was counted goes from shared memory into the history. What becomes of it there: [`super::tidy`].
//!
//! To store an interval takes no lock that a reader's is in the way of: whoever has read the history holds his until the end of his
//! transaction.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use super::cover::{Span, period_at};
use super::due::due;
use super::figures::{Key, Record};
use super::store::{self, Interval};
use super::tidy::{TEXTS_SHARE, Tidying, advance};
use super::{advice, counters, packed};
use crate::error::*;
use crate::jobs::chore::{Chore, Memory, Visit};
use crate::queries::raw::memory::{self, Drained, Presence};
use crate::queries::raw::texts::{self, Waiting};
use crate::server::catch::{subtransaction, transaction};
use crate::server::{Oid, catalog, spi, worker};
use crate::settings;

thread_local! {
    /// Out of shared memory and not in the tables yet. Nobody borrows it while statements run: a termination ends this process
    /// in the middle of one.
    static UNDER_WAY: RefCell<Option<Rc<Drained>>> = const { RefCell::new(None) };
}

/// Most texts kept per entry of `upkeep.query_max`.
const TEXTS_PER_ENTRY: i64 = 4;
/// What could not be stored is tried again after this time.
const AGAIN: Duration = Duration::from_secs(10);

/// The chore: keeps the history of this database.
pub struct Drain;

impl Chore for Drain {
    fn name(&self) -> &'static str {
        "the history of statements"
    }

    fn visit(&self, _memory: &Memory) -> Result<Visit> {
        Ok(visit())
    }

    fn due(&self, database: Oid) -> Option<i64> {
        due(database)
    }

    fn longest_pause(&self) -> Option<Duration> {
        settings::query_interval().filter(|_| memory::is_available())
    }

    fn forget_databases(&self, exists: &dyn Fn(Oid) -> bool) {
        memory::tend();
        memory::forget_databases(|oid| exists(oid.into()));
    }

    /// Nobody will fetch its texts.
    fn is_left_alone(&self, database: Oid) {
        memory::leave_alone(database.to_u32());
    }

    /// What runs here is not kept apart.
    fn extension_is_absent(&self) {
        memory::set_presence(catalog::my_database().to_u32(), Presence::Absent);
    }

    fn scheduler_ends(&self) {
        give_back();
    }

    fn advice(&self, attended: bool) -> Vec<String> {
        advice::all(attended)
    }
}

fn visit() -> Visit {
    let mut visit = Visit::default();
    if !memory::is_available() || worker::in_recovery() {
        return visit;
    }
    let here = catalog::my_database();
    memory::set_presence(here.to_u32(), Presence::Present);
    memory::tend();
    let Some(at) = due(here) else { return visit };
    let left = at - catalog::now();
    if left > 0 {
        visit.again_in(Duration::from_micros(left as u64));
        return visit;
    }
    if let Err(error) = drain(here.to_u32(), &mut visit) {
        visit.pass_over("the history of statements", error);
        visit.again_in(AGAIN);
    } else if let Some(at) = due(here) {
        visit.again_in(Duration::from_micros((at - catalog::now()).max(1000) as u64));
    }
    visit
}

/// What was taken goes back.
fn give_back() {
    if let Some(drained) = UNDER_WAY.take() {
        memory::give_back(&drained);
    }
}

fn drain(here: u32, visit: &mut Visit) -> Result<()> {
    let now = catalog::now();
    let (Some(database), Some(drained)) = (memory::database(here), memory::drain(here)) else { return Ok(()) };
    let first_use = drained.first_use;
    let before = database.drained_at();
    let drained = Rc::new(drained);
    UNDER_WAY.set(Some(Rc::clone(&drained)));
    let started = if first_use > 0 { first_use.min(now) } else { now };
    let span = Span { level: 0, period: started, started, finished: now.max(started + 1) };
    let mut tidying = Tidying::new(visit);
    tidying.make_room(span);
    let written = transaction(|| {
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
    let hour = |at: i64| period_at(1, at);
    if before == 0 || hour(before) != hour(now) || hour(first_use) != hour(now) || database.is_held_up() {
        tidying.tidy(now);
    }
    tidying.tell(database);
    store_texts(here)
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
    if !texts.is_empty() {
        transaction(|| {
            spi::bookkeeping(|| {
                for text in &texts {
                    store_text(text)?;
                }
                bound_texts()
            })
        })?;
        all.done(&texts);
    }
    if let Some(database) = memory::known(here) {
        database.note_lack_of_room(false);
    }
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

/// By what they hold, not by the size of their table: that does not change before it is vacuumed, which a snapshot that somebody
/// keeps can put off for long.
fn bound_texts() -> Result<()> {
    let (count, bytes) = store::texts_held()?;
    let room = settings::query_history_size().map_or(i64::MAX, |bytes| (bytes / TEXTS_SHARE) as i64);
    let fit = if bytes > room { (i128::from(count) * i128::from(room) / i128::from(bytes)) as i64 } else { count };
    let keep = fit.min(TEXTS_PER_ENTRY * i64::from(settings::query_max()));
    if count > keep
        && store::prune_texts(keep * 9 / 10)?
        && let Some(texts) = texts::texts()
    {
        // What is gone and still in use is taken down again.
        texts.forget_all();
    }
    Ok(())
}
