//! A statement on a user's table that runs many times: planned once, as whoever runs it.
//!
//! Unlike [`super::spi::Prepared`] its parameters have types that only the table knows
//! (its key), and a million returned rows cost no memory. It runs under the settings in force, for the triggers that it sets
//! off; text becomes values before it, and values text after it, in a form that depends on none (see [`super::door`]).

use std::cell::{Cell, RefCell};
use std::ffi::{CStr, c_char, c_int};
use std::ptr;

use pgrx::pg_sys;

use super::door::Pinned;
use super::encoding::to_c;
use super::named::objects::Objects;
use super::unguarded::slot_getsomeattrs_int;
use super::{named, value};
use crate::error::{Error, INTERNAL_ERROR, Result};

/// A parameter's value.
#[derive(Clone, Debug)]
pub enum Arg<'a> {
    Int(i32),
    /// A transaction id.
    Xid(u32),
    Tid(Tid),
    /// In the form that [`Statement::rows`] gives: the value that it was there.
    Text(&'a str),
    /// Stored by a version before 0.6.0: read as it was then, under the session's settings.
    Old(&'a str),
}

/// A row's place: block and line pointer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tid {
    pub block: u32,
    pub offset: u16,
}

/// What an UPDATE did that returns one boolean per row.
#[derive(Clone, Copy, Debug, Default)]
pub struct Flagged {
    pub rows: u64,
    /// Rows for which the boolean was true.
    pub flagged: u64,
}

/// A row as texts from which the same values come back ([`value`]).
pub type TextRow = Vec<Option<String>>;

pub struct Statement {
    sql: String,
    types: Vec<pg_sys::Oid>,
    plan: Cell<pg_sys::SPIPlanPtr>,
    has_fragments: bool,
    /// One plan for whatever the parameters are.
    generic: bool,
    #[cfg(debug_assertions)]
    fragments: Vec<String>,
    relations: RefCell<Vec<pg_sys::Oid>>,
    /// What else it may name, if no text of the user's is in it.
    objects: RefCell<Option<Objects>>,
}

impl Statement {
    pub fn new(sql: impl Into<String>, types: &[pg_sys::Oid]) -> Self {
        Statement {
            sql: sql.into(),
            types: types.to_vec(),
            plan: Cell::new(ptr::null_mut()),
            relations: RefCell::default(),
            objects: RefCell::default(),
            has_fragments: false,
            generic: false,
            #[cfg(debug_assertions)]
            fragments: Vec::new(),
        }
    }

    /// Planned once, whatever its parameters: the server would plan it for each of them while that seems to be worth it, and for a few
    /// rows it is not.
    pub fn planned_once(mut self) -> Self {
        self.generic = true;
        self
    }

    /// With text of the user's in it, whose names are his own.
    #[cfg(debug_assertions)]
    pub fn around(mut self, fragments: &[&str]) -> Self {
        self.has_fragments = fragments.iter().any(|text| !text.is_empty());
        self.fragments.extend(fragments.iter().map(|text| (*text).to_owned()));
        self
    }

    #[cfg(not(debug_assertions))]
    pub fn around(mut self, fragments: &[&str]) -> Self {
        self.has_fragments = fragments.iter().any(|text| !text.is_empty());
        self
    }

    /// Its text names these relations, from here on, and none but them outside of what is the user's. If a name is another's
    /// when it runs, that is a serialization failure, and nothing is done ([`named`]).
    pub fn names(&self, relations: &[pg_sys::Oid]) {
        if *self.relations.borrow() != relations {
            self.forget_plan();
            *self.relations.borrow_mut() = relations.to_vec();
        }
    }

    fn forget_plan(&self) {
        let plan = self.plan.replace(ptr::null_mut());
        if !plan.is_null() {
            // SAFETY: a kept plan of ours, which nobody runs.
            unsafe {
                named::forget(named::text_of(plan));
                pg_sys::SPI_freeplan(plan);
            }
        }
    }

    fn expect(&self, text: *const c_char) -> Option<Expected> {
        let relations = self.relations.borrow();
        // SAFETY: forgotten before the text goes.
        (!relations.is_empty()).then(|| unsafe {
            named::expect(text, &relations, self.objects.borrow().clone(), true);
            Expected(text)
        })
    }

    /// Runs an UPDATE whose first returned column is a boolean.
    pub fn count(&self, args: &[Arg<'_>]) -> Result<Flagged> {
        connected(|| {
            let mut counter = Counter::new();
            // SAFETY: the counter outlives the execution, and is its first field's address.
            let rows = unsafe {
                self.execute(args, (&raw mut counter).cast())?;
                pg_sys::SPI_processed
            };
            Ok(Flagged { rows, flagged: counter.flagged })
        })
    }

    /// Runs any statement; gives the rows it returns, with a snapshot of its own.
    pub fn rows(&self, args: &[Arg<'_>]) -> Result<Vec<TextRow>> {
        self.rows_after(args, || ())
    }

    /// The same; `begin` is called right before it is executed, in its connection.
    pub fn rows_after(&self, args: &[Arg<'_>], begin: impl FnOnce()) -> Result<Vec<TextRow>> {
        connected(|| {
            // SAFETY: SPI's own receiver fills SPI_tuptable; null if nothing is returned.
            unsafe {
                self.execute_after(args, ptr::null_mut(), begin)?;
                let table = pg_sys::SPI_tuptable;
                if table.is_null() {
                    return Ok(Vec::new());
                }
                let _pinned = (pg_sys::SPI_processed > 0).then(Pinned::exact);
                Ok((0..pg_sys::SPI_processed as usize)
                    .map(|row| text_row(*(*table).vals.add(row), (*table).tupdesc))
                    .collect())
            }
        })
    }

    /// Safety: as [`Self::execute_after`].
    unsafe fn execute(&self, args: &[Arg<'_>], dest: *mut pg_sys::DestReceiver) -> Result<()> {
        // SAFETY: as the caller promises.
        unsafe { self.execute_after(args, dest, || ()) }
    }

    /// Safety: connected; `dest` is null or a receiver that outlives the call.
    unsafe fn execute_after(
        &self,
        args: &[Arg<'_>],
        dest: *mut pg_sys::DestReceiver,
        begin: impl FnOnce(),
    ) -> Result<()> {
        // SAFETY: inside SPI_connect; the plan is kept, parameters live in SPI's context.
        unsafe {
            let plan = self.plan()?;
            let options = pg_sys::SPIExecuteOptions { params: self.parameters(args)?, dest, ..Default::default() };
            begin();
            check(pg_sys::SPI_execute_plan_extended(plan, &options))
        }
    }

    /// Safety: connected.
    unsafe fn plan(&self) -> Result<pg_sys::SPIPlanPtr> {
        if self.plan.get().is_null() {
            #[cfg(debug_assertions)]
            super::proof::names(&self.sql, false, &self.fragments.iter().map(String::as_str).collect::<Vec<_>>())?;
            let text = to_c(&self.sql)?;
            let mut types = self.types.clone();
            if !self.has_fragments {
                let objects = Objects::of(&self.relations.borrow())?.with_types(&types);
                *self.objects.borrow_mut() = Some(objects);
            }
            // SAFETY: inside SPI_connect; types are copied.
            unsafe {
                let expected = self.expect(text.as_ptr());
                let options = if self.generic { pg_sys::CURSOR_OPT_GENERIC_PLAN } else { 0 };
                let (count, types) = (types.len() as c_int, types.as_mut_ptr());
                let plan = pg_sys::SPI_prepare_cursor(text.as_ptr(), count, types, options as c_int);
                if plan.is_null() {
                    check(pg_sys::SPI_result)?;
                }
                check(pg_sys::SPI_keepplan(plan))?;
                drop(expected);
                // For as long as the plan lives.
                if let Some(expected) = self.expect(named::text_of(plan)) {
                    std::mem::forget(expected);
                }
                self.plan.set(plan);
            }
        }
        Ok(self.plan.get())
    }

    /// Safety: connected; `args` are as many as the statement takes.
    unsafe fn parameters(&self, args: &[Arg<'_>]) -> Result<pg_sys::ParamListInfo> {
        // A list of length 0 is not what the server passes: other extensions read beyond it.
        if self.types.is_empty() {
            return Ok(ptr::null_mut());
        }
        let _pinned = args.iter().any(|arg| matches!(arg, Arg::Text(_))).then(Pinned::exact);
        // SAFETY: makeParamList allocates room for as many parameters as are filled in.
        unsafe {
            let list = pg_sys::makeParamList(self.types.len() as c_int);
            for (i, (&type_oid, arg)) in self.types.iter().zip(args).enumerate() {
                let parameter = &mut *(*list).params.as_mut_ptr().add(i);
                parameter.value = datum(type_oid, arg)?;
                parameter.isnull = false;
                parameter.pflags = pg_sys::PARAM_FLAG_CONST as u16;
                parameter.ptype = type_oid;
            }
            Ok(list)
        }
    }
}

impl Drop for Statement {
    fn drop(&mut self) {
        // While a panic unwinds the server is in an error state: then the plan is left to the
        // session, which ends soon.
        if !std::thread::panicking() {
            self.forget_plan();
        }
    }
}

/// Until this goes.
struct Expected(*const c_char);

impl Drop for Expected {
    fn drop(&mut self) {
        // SAFETY: of a text that was expected; nobody keeps a reference into the map.
        unsafe { named::forget(self.0) };
    }
}

fn datum(type_oid: pg_sys::Oid, arg: &Arg<'_>) -> Result<pg_sys::Datum> {
    Ok(match arg {
        Arg::Int(value) => pg_sys::Datum::from(*value),
        Arg::Xid(value) => pg_sys::Datum::from(*value),
        Arg::Tid(tid) => {
            // SAFETY: palloc gives room for one item pointer.
            let pointer = unsafe {
                let pointer: *mut pg_sys::ItemPointerData = pg_sys::palloc(size_of::<pg_sys::ItemPointerData>()).cast();
                (*pointer).ip_blkid.bi_hi = (tid.block >> 16) as u16;
                (*pointer).ip_blkid.bi_lo = (tid.block & 0xFFFF) as u16;
                (*pointer).ip_posid = tid.offset;
                pointer
            };
            pg_sys::Datum::from(pointer)
        }
        Arg::Text(text) => value::from_text(type_oid, text)?,
        Arg::Old(text) => value::from_old_text(type_oid, text)?,
    })
}

unsafe fn text_row(tuple: pg_sys::HeapTuple, descriptor: pg_sys::TupleDesc) -> TextRow {
    // SAFETY: a row of the current result.
    unsafe {
        (1..=(*descriptor).natts)
            .map(|column| {
                let mut null = true;
                let datum = pg_sys::SPI_getbinval(tuple, descriptor, column, &mut null);
                (!null).then(|| value::to_text(pg_sys::SPI_gettypeid(descriptor, column), datum))
            })
            .collect()
    }
}

fn connected<T>(f: impl FnOnce() -> Result<T>) -> Result<T> {
    // SAFETY: paired; an error in between is cleaned up by the (sub)transaction's abort.
    unsafe {
        check(pg_sys::SPI_connect())?;
        let result = f();
        check(pg_sys::SPI_finish())?;
        result
    }
}

fn check(code: c_int) -> Result<()> {
    if code >= 0 {
        return Ok(());
    }
    // SAFETY: a static string for any code.
    let name = unsafe { CStr::from_ptr(pg_sys::SPI_result_code_string(code)) };
    Err(Error::new(INTERNAL_ERROR, format!("unexpected SPI result: {}", name.to_string_lossy())))
}

/// A receiver that counts: SPI's own would copy every returned row.
#[repr(C)]
struct Counter {
    receiver: pg_sys::DestReceiver,
    flagged: u64,
}

impl Counter {
    fn new() -> Self {
        Counter {
            receiver: pg_sys::DestReceiver {
                receiveSlot: Some(receive),
                rStartup: Some(start),
                rShutdown: Some(end),
                rDestroy: Some(end),
                mydest: pg_sys::CommandDest::DestNone,
            },
            flagged: 0,
        }
    }
}

/// Once per row: no guard, nothing that can fail.
unsafe extern "C-unwind" fn receive(slot: *mut pg_sys::TupleTableSlot, receiver: *mut pg_sys::DestReceiver) -> bool {
    // SAFETY: the executor hands over a filled slot, and the receiver is a Counter.
    unsafe {
        if (*slot).tts_nvalid < 1 {
            slot_getsomeattrs_int(slot, 1);
        }
        let flag = !*(*slot).tts_isnull && (*(*slot).tts_values).value() & 0xFF != 0;
        (*receiver.cast::<Counter>()).flagged += u64::from(flag);
    }
    true
}

unsafe extern "C-unwind" fn start(
    _receiver: *mut pg_sys::DestReceiver,
    _operation: c_int,
    _columns: pg_sys::TupleDesc,
) {
}

unsafe extern "C-unwind" fn end(_receiver: *mut pg_sys::DestReceiver) {}

impl std::fmt::Display for Tid {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "({},{})", self.block, self.offset)
    }
}

impl std::str::FromStr for Tid {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        text.strip_prefix('(')
            .and_then(|rest| rest.strip_suffix(')'))
            .and_then(|pair| pair.split_once(','))
            .and_then(|(block, offset)| Some(Tid { block: block.parse().ok()?, offset: offset.parse().ok()? }))
            .ok_or_else(|| Error::new(INTERNAL_ERROR, format!("not a row's place: {text}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_reads_as_it_is_written() {
        let tid = Tid { block: 4_000_000_000, offset: 291 };
        assert_eq!(tid.to_string().parse::<Tid>().unwrap(), tid);
        assert!("(1;2)".parse::<Tid>().is_err());
    }
}
