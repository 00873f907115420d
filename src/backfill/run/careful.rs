//! The slow way through a range where one UPDATE failed: leave out the rows that others
//! have locked, and halve down to those whose new value is an error.

use std::collections::HashSet;
use std::rc::Rc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::Run;
use super::limit::{Limit, longest};
use super::session::{Session, Which};
use crate::backfill::definition::OnError;
use crate::backfill::key::Key;
use crate::backfill::statements::Read;
use crate::backfill::store;
use crate::error::{Error, INTERNAL_ERROR, LOCK_NOT_AVAILABLE, QUERY_CANCELED, Result, SqlState};
use crate::jobs::kind::{Context, Outcome};
use crate::jobs::retry::{ROW_TOO_SLOW, is_row_error};
use crate::quarantine;
use crate::server::catch::subtransaction;
use crate::server::repeated::{Arg, Flagged, Statement, TextRow, Tid};
use crate::server::timeout::limited;
use crate::server::{heap, lock, spi, timeout};
use crate::settings;

/// When none of so many rows could be updated, it is not the rows.
const FIRST_TRIES: i64 = 20;

/// The statements of one portion of a range, with their parameters.
pub struct Range<'a> {
    pub update: Rc<Statement>,
    pub look: Rc<Statement>,
    pub lock: Rc<Statement>,
    pub args: Vec<Arg<'a>>,
}

/// What became of some rows.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    pub rows: u64,
    /// Of these, still matching.
    pub flagged: u64,
    pub quarantined: i64,
    /// Locked by others.
    pub locked: Vec<Value>,
    /// Not done, because they or others of their range take long: each is done by itself later.
    pub slow: Vec<Value>,
    /// The transaction id that wrote them, if it was one.
    pub xid: Option<u32>,
}

impl Tally {
    /// And what became of others; the transaction id is that of the first.
    pub fn add(&mut self, other: Tally) {
        self.rows += other.rows;
        self.flagged += other.flagged;
        self.quarantined += other.quarantined;
        self.locked.extend(other.locked);
        self.slow.extend(other.slow);
        self.xid = self.xid.or(other.xid);
    }

    pub fn of(done: Flagged) -> Self {
        Tally { rows: done.rows, flagged: done.flagged, ..Tally::default() }
    }
}

/// A row to update: its place now, and what finds it again.
#[derive(Clone, Debug)]
pub struct Candidate {
    pub tid: Tid,
    pub row_key: Value,
}

impl Candidate {
    /// Of a row that begins with its place and the columns of its key, if it has one.
    pub fn read(row: &TextRow, key: Option<&Key>) -> Result<Self> {
        let Some((Some(tid), values)) = row.split_first() else {
            return Err(Error::new(INTERNAL_ERROR, "a row without a place"));
        };
        let row_key = match key {
            Some(key) => key.row_key(values)?,
            None => json!({ "ctid": tid }),
        };
        Ok(Candidate { tid: tid.parse()?, row_key })
    }
}

impl Run {
    pub(super) fn fill_carefully(
        &mut self,
        context: &mut Context,
        session: &Session,
        range: &Range<'_>,
        patience: Patience,
    ) -> Result<Tally> {
        let key = session.parts.key.as_ref();
        let all = candidates(&range.look.rows(&range.args)?, key)?;
        let free = candidates(&range.lock.rows(&range.args)?, key)?;
        // By key and not by place: a row that somebody changed between the two looks has moved,
        // and would be done now and once more as a locked one.
        let taken: HashSet<&Value> = free.iter().map(|row| &row.row_key).collect();
        let known: HashSet<&Value> = all.iter().map(|row| &row.row_key).collect();
        let mut locked: Vec<Value> =
            (all.iter().map(|row| &row.row_key)).filter(|key| !taken.contains(key)).cloned().collect();
        // Or its key is equal to what it was, but not the same.
        if !known.is_superset(&taken) {
            let mut left = Vec::with_capacity(locked.len());
            for row_key in locked {
                let now = candidates(&find(session, &row_key, true, Read::Look)?, key)?;
                if !now.iter().any(|row| taken.contains(&row.row_key)) {
                    left.push(row_key);
                }
            }
            locked = left;
        }
        let mut tally = self.update_candidates(context, session, &free, patience)?;
        tally.locked.extend(locked);
        // With a condition the sweep finds them again by itself.
        if self.definition.condition.is_none() {
            quarantine::remember_locked(self.job, self.relid, &tally.locked)?;
        }
        self.leave_slow(context, &tally)?;
        self.tell_of_locks(context, tally.locked.len());
        Ok(tally)
    }

    pub(super) fn tell_of_locks(&mut self, context: &mut Context, locked: usize) {
        if locked > 0 && !self.told_of_locks {
            self.told_of_locks = true;
            let rows = if locked == 1 { "row is" } else { "rows are" };
            let text = format!("{locked} {rows} locked by other transactions and will be done later");
            self.tell(context, "locked rows", text);
        }
    }

    /// Rows that take long are remembered as those that somebody has locked: they are done after the others, one by one.
    pub(super) fn leave_slow(&mut self, context: &mut Context, tally: &Tally) -> Result<()> {
        if tally.slow.is_empty() {
            return Ok(());
        }
        quarantine::remember_locked(self.job, self.relid, &tally.slow)?;
        if !self.told_of_slow {
            self.told_of_slow = true;
            let text = format!(
                "{} rows take long, are beside one that does, or were waited for, and are done by themselves later",
                tally.slow.len()
            );
            self.tell(context, "slow rows", text);
        }
        Ok(())
    }

    /// Updates rows that this transaction has locked; puts those aside that cannot be, and leaves those that take long.
    pub(super) fn update_candidates(
        &mut self,
        context: &Context,
        session: &Session,
        rows: &[Candidate],
        patience: Patience,
    ) -> Result<Tally> {
        let mut tally = Tally::default();
        let mut budget = Budget {
            already: quarantine::count(self.job)?,
            most: self.definition.options.max_quarantined(),
            first_tries: !self.proved,
            started: Instant::now(),
            time: Limit::of_page(context).time,
            of_one: settings::max_row_time().map(|row_time| row_time.min(longest(context))),
            patience: Some(patience),
        };
        let update = session.statement(Which::UpdatePlaces);
        let usual = timeout::of_locks();
        wait_for_locks(patience.0);
        self.halve(&update, rows, &mut budget, &mut tally)?;
        wait_for_locks(usual);
        Ok(tally)
    }

    /// Updates one row that this transaction has locked, which has all the time that a row may have (LAW 35); then it is
    /// put aside like one whose new value is an error.
    pub(super) fn update_one(&mut self, session: &Session, row: &Candidate, time: Option<Duration>) -> Result<Tally> {
        let mut tally = Tally::default();
        let mut budget = Budget {
            already: 0,
            most: i64::MAX,
            first_tries: false,
            started: Instant::now(),
            time: None,
            of_one: time,
            patience: None,
        };
        let update = session.statement(Which::UpdatePlaces);
        self.halve(&update, std::slice::from_ref(row), &mut budget, &mut tally)?;
        Ok(tally)
    }

    /// A row had all the time that it may have.
    pub(super) fn quarantine_slow(&mut self, row_key: &Value, limit: Duration) -> Result<()> {
        let error = Error::new(QUERY_CANCELED, format!("{ROW_TOO_SLOW} ({} s)", limit.as_secs_f64())).hint(
            "Something in the assignments or in a trigger does not end: correct it, or raise \
            upkeep.max_row_time; then upkeep.retry().",
        );
        if self.definition.on_error == OnError::Stop {
            return Err(Error { detail: Some(row_detail(&error, row_key)), ..error });
        }
        quarantine::put_aside(self.job, self.relid, row_key, &error)
    }

    fn halve(&mut self, update: &Statement, rows: &[Candidate], budget: &mut Budget, tally: &mut Tally) -> Result<()> {
        // The job fails anyhow: no need to try the rest.
        if rows.is_empty() || budget.is_spent(tally) {
            return Ok(());
        }
        if budget.is_out_of_time() || budget.gives_way() {
            tally.slow.extend(rows.iter().map(|row| row.row_key.clone()));
            return Ok(());
        }
        let places = tid_array(rows);
        let job = self.job;
        let started = Instant::now();
        let result = limited(budget.of_one, || {
            subtransaction(|| {
                let done = update.count(&[Arg::Text(&places)])?;
                spi::theirs::run_deferred()?;
                if done.flagged > 0 {
                    store::note_still_matching(job, heap::current_xid())?;
                }
                Ok(done)
            })
        });
        let of_one = budget.of_one;
        let too_long =
            |error: &Error| error.sqlstate == QUERY_CANCELED && of_one.is_some_and(|time| started.elapsed() >= time);
        if matches!(&result, Err(error) if error.sqlstate == LOCK_NOT_AVAILABLE) {
            budget.has_waited(started.elapsed());
        }
        match (result, rows) {
            (Ok(done), _) => {
                tally.rows += done.rows;
                tally.flagged += done.flagged;
                self.filtering |= done.flagged > 0;
                Ok(())
            }
            (Err(error), [row]) if error.sqlstate == LOCK_NOT_AVAILABLE => {
                tally.locked.push(row.row_key.clone());
                drop(error);
                Ok(())
            }
            (Err(error), [row]) if too_long(&error) => {
                tally.slow.push(row.row_key.clone());
                drop(error);
                Ok(())
            }
            (Err(error), [row]) if is_row_error(error.sqlstate) => {
                if self.definition.on_error == OnError::Stop {
                    return Err(Error { detail: Some(row_detail(&error, &row.row_key)), position: None, ..error });
                }
                tally.quarantined += 1;
                quarantine::put_aside(job, self.relid, &row.row_key, &error)
            }
            (Err(error), _)
                if error.sqlstate == LOCK_NOT_AVAILABLE || is_row_error(error.sqlstate) || too_long(&error) =>
            {
                let (left, right) = rows.split_at(rows.len() / 2);
                self.halve(update, left, budget, tally)?;
                self.halve(update, right, budget, tally)
            }
            (Err(error), _) => Err(error),
        }
    }

    /// One cause never puts a hundred rows aside (LAW 22).
    pub(super) fn judge_quarantine(&mut self, context: &mut Context) -> Result<Option<Outcome>> {
        let quarantined = quarantine::count(self.job)?;
        let limit = self.definition.options.max_quarantined();
        let none_worked = !self.proved && quarantined >= FIRST_TRIES;
        if quarantined <= limit && !none_worked {
            let rows = if quarantined == 1 { "1 row is".to_owned() } else { format!("{quarantined} rows are") };
            context.event("quarantine", format!("{rows} put aside by now"));
            return Ok(None);
        }
        let Some((sqlstate, message, count)) = quarantine::most_frequent_error(self.job)? else {
            return Ok(None);
        };
        let (what, hint) = if none_worked {
            let what = format!("none of the first {quarantined} rows could be updated");
            (what, "Correct the rows or the assignments; then upkeep.retry().")
        } else {
            let what = format!("{quarantined} rows could not be updated, more than max_quarantined ({limit})");
            (
                what,
                "Correct the rows or the assignments; or start another job with a higher options.max_quarantined: what is filled stays.",
            )
        };
        let error = Error::new(SqlState::parse(&sqlstate), format!("{what}: {message}"))
            .detail(format!("This was the error of {count} of {quarantined} rows; all are in upkeep.quarantined_rows."))
            .hint(hint);
        Ok(Some(Outcome::Fail(error)))
    }
}

/// How many rows may still be put aside before the job fails.
struct Budget {
    already: i64,
    most: i64,
    first_tries: bool,
    /// What all of them together may take, and each try.
    started: Instant,
    time: Option<Duration>,
    of_one: Option<Duration>,
    /// `None`: one row, which has all its time.
    patience: Option<Patience>,
}

/// What tries at rows that are locked by now may wait for other locks (of a parent's row, of rows that triggers write), all together. One
/// of them may wait for all of it; the others hardly wait then, for somebody else may wait for the rows that we have (LAW 14).
#[derive(Clone, Copy)]
pub(super) struct Patience(Option<Duration>);

impl Patience {
    /// After so much of it.
    pub fn after(waited: Duration) -> Self {
        Patience(timeout::of_locks().map(|all| all.saturating_sub(waited)))
    }
}

fn wait_for_locks(time: Option<Duration>) {
    if time != timeout::of_locks() {
        let ms = time.map_or(0, |time| time.as_millis().max(1));
        spi::set_session("lock_timeout", &format!("{ms}ms"));
    }
}

impl Budget {
    /// Somebody waits for a row of ours: what is done is committed.
    fn gives_way(&self) -> bool {
        self.patience.is_some() && lock::somebody_waits()
    }

    fn has_waited(&mut self, time: Duration) {
        if let Some(Patience(Some(left))) = &mut self.patience {
            *left = left.saturating_sub(time);
            wait_for_locks(Some(*left));
        }
    }

    fn is_out_of_time(&self) -> bool {
        self.time.is_some_and(|time| self.started.elapsed() >= time)
    }

    fn is_spent(&self, tally: &Tally) -> bool {
        let quarantined = self.already + tally.quarantined;
        quarantined > self.most || (self.first_tries && tally.rows == 0 && quarantined >= FIRST_TRIES)
    }
}

pub fn candidates(rows: &[TextRow], key: Option<&Key>) -> Result<Vec<Candidate>> {
    rows.iter().map(|row| Candidate::read(row, key)).collect()
}

/// The literal of a tid[].
pub fn tid_array(rows: &[Candidate]) -> String {
    let places: Vec<String> = rows.iter().map(|row| format!("\"{}\"", row.tid)).collect();
    format!("{{{}}}", places.join(","))
}

fn row_detail(error: &Error, row_key: &Value) -> String {
    match &error.detail {
        Some(detail) => format!("Row {row_key}: {detail}"),
        None => format!("Row {row_key}."),
    }
}

/// The row that a stored key is equal to, by the operator class.
pub(super) fn find(session: &Session, row_key: &Value, exact: bool, read: Read) -> Result<Vec<TextRow>> {
    let Some(key) = &session.parts.key else {
        let place = row_key.get("ctid").and_then(Value::as_str);
        let place = place.ok_or_else(|| Error::new(INTERNAL_ERROR, format!("a stored row without ctid: {row_key}")))?;
        return session.statement(Which::ReadByPlace(read)).rows(&[Arg::Text(place)]);
    };
    let texts = key.texts(row_key)?;
    let arg = |text| if exact { Arg::Text(text) } else { Arg::Old(text) };
    let args: Vec<Arg<'_>> = texts.iter().map(|text| arg(text)).collect();
    session.statement(Which::ReadByKey(read)).rows(&args)
}
