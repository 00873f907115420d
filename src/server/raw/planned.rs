//! SPI for code that runs inside other people's statements (LAW 12): without pgrx's guard, which rebuilds every error that it
//! sees. A foreign error leaves these functions by longjmp: no frame above them may hold anything to drop, and memory comes
//! from the server.

use std::cell::{Cell, OnceCell};
use std::ffi::{CStr, CString, c_char, c_int};

use pgrx::pg_sys::{self, Datum, Oid};

use super::door::{self, Pin};
use super::named::objects::Objects;
use super::report::{Report, raise};
use super::unguarded::{
    AtEOXact_GUC, CommandCounterIncrement, GetLatestSnapshot, GetTransactionSnapshot, NewGUCNestLevel, SPI_connect,
    SPI_execute_snapshot, SPI_finish, SPI_getbinval, SPI_gettypeid, SPI_keepplan, SPI_prepare,
    SPI_register_trigger_data, set_config_option,
};
use super::{encoding, named};

/// A statement that is planned once per session. It lives as long as the session, or until its owner is thrown away.
pub struct Planned {
    sql: CString,
    types: Vec<Oid>,
    plan: Cell<pg_sys::SPIPlanPtr>,
    has_fragments: bool,
    #[cfg(debug_assertions)]
    fragments: Vec<String>,
    /// The relation that it names; invalid: not looked at.
    relation: Cell<Oid>,
    /// What else it may name, if no text of the user's is in it.
    objects: OnceCell<Objects>,
}

impl Planned {
    pub fn new(sql: String, types: Vec<Oid>) -> Self {
        let sql = CString::new(encoding::to_server(&sql)).unwrap_or_default();
        Planned {
            sql,
            types,
            plan: Cell::new(std::ptr::null_mut()),
            relation: Cell::new(Oid::INVALID),
            objects: OnceCell::new(),
            has_fragments: false,
            #[cfg(debug_assertions)]
            fragments: Vec::new(),
        }
    }

    /// With text of the user's in it, whose names are his own.
    #[cfg(debug_assertions)]
    pub fn around(mut self, fragment: &str) -> Self {
        self.has_fragments = true;
        self.fragments.push(fragment.to_owned());
        self
    }

    #[cfg(not(debug_assertions))]
    pub fn around(mut self, _fragment: &str) -> Self {
        self.has_fragments = true;
        self
    }

    #[cfg(debug_assertions)]
    pub fn sql(&self) -> &CStr {
        &self.sql
    }

    #[cfg(debug_assertions)]
    pub fn fragments(&self) -> &[String] {
        &self.fragments
    }

    /// Its text names this relation, and none but it outside of what is the user's. If a name is another's when it runs, it
    /// is an error and nothing is done ([`named`]); the same for types, operators and collations, `objects` of the relation.
    /// Before it runs for the first time.
    pub fn names(&self, relation: Oid, objects: &Objects) {
        self.relation.set(relation);
        if !self.has_fragments {
            let _ = self.objects.set(objects.clone().with_types(&self.types));
        }
    }

    /// Safety: `text` is the statement's own, or its plan's.
    unsafe fn expect(&self, text: *const c_char) {
        let relation = self.relation.get();
        if relation != Oid::INVALID {
            // SAFETY: `Drop` forgets both texts before they go.
            unsafe { named::expect(text, &[relation], self.objects.get().cloned(), false) };
        }
    }

    /// As triggers run it, its errors as panics: those pass Rust by a jump, which the boundary stops.
    #[cfg(feature = "pg_test")]
    pub fn run_alone(&self) -> u64 {
        // SAFETY: in a transaction, with no parameters; nothing is dropped inside of the boundary.
        unsafe {
            pg_sys::ffi::pg_guard_ffi_boundary(|| {
                connect();
                let rows = run_theirs(self, std::ptr::null_mut(), std::ptr::null(), Sight::Latest);
                finish();
                rows
            })
        }
    }

    pub fn arguments(&self) -> usize {
        self.types.len()
    }
}

impl Drop for Planned {
    fn drop(&mut self) {
        let plan = self.plan.get();
        // SAFETY: a kept plan that nobody runs.
        unsafe {
            named::forget(self.sql.as_ptr());
            if !plan.is_null() {
                named::forget(named::text_of(plan));
                pg_sys::SPI_freeplan(plan);
            }
        }
    }
}

/// Which rows a statement sees.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Sight {
    /// What any statement of this transaction would.
    Transaction,
    /// All that has been committed; a row that the transaction may not see is a serialization failure if it is changed. As
    /// the server's own foreign keys look.
    Latest,
}

/// Safety: no frame above has anything to drop, and [`finish`] comes.
pub unsafe fn connect() {
    // SAFETY: in a transaction.
    unsafe { SPI_connect() };
}

/// The memory whose children are those of this connection's executions, as the server makes them: it tells a statement of
/// ours from those that functions and triggers run inside it, which have connections of their own. In the memory that
/// [`connect`] has made the current one; null elsewhere.
///
/// Safety: in a transaction.
pub unsafe fn executions() -> pg_sys::MemoryContext {
    // SAFETY: the current context is there; a context's name ends in a zero.
    unsafe {
        // SPI_connect() makes this one right behind the current one, and tells nobody. The newest child is in front.
        let context = (*pg_sys::CurrentMemoryContext).prevchild;
        if context.is_null() || CStr::from_ptr((*context).name) != c"SPI Exec" { std::ptr::null_mut() } else { context }
    }
}

/// Safety: after [`connect`].
pub unsafe fn finish() {
    // SAFETY: as the caller promises.
    unsafe { SPI_finish() };
}

/// Lets the statements of this connection name the transition tables of a trigger.
///
/// Safety: connected, in the call of that trigger.
pub unsafe fn see_transition_tables(trigger: *mut pg_sys::TriggerData) {
    // SAFETY: as the caller promises: the data lives longer than the connection.
    unsafe { SPI_register_trigger_data(trigger) };
}

/// Runs a statement on our own tables or the catalogs, under the settings of the door; gives the number of rows. Between
/// [`connect`] and [`finish`].
///
/// Safety: connected; `values` and `nulls` are as many as the statement takes, of its types, or null if it takes none.
pub unsafe fn run_ours(statement: &Planned, values: *mut Datum, nulls: *const c_char, sight: Sight) -> u64 {
    // SAFETY: as the caller promises. If an error passes, its abort unpins.
    unsafe {
        let level = pin(door::OURS);
        let rows = run(statement, values, nulls, sight, true);
        unpin(level);
        rows
    }
}

/// Runs a statement on a user's table, in which every name is qualified, under the settings in force.
///
/// Safety: as [`run_ours`].
pub unsafe fn run_theirs(statement: &Planned, values: *mut Datum, nulls: *const c_char, sight: Sight) -> u64 {
    // SAFETY: as the caller promises.
    unsafe { run(statement, values, nulls, sight, false) }
}

/// Safety: as [`run_ours`].
unsafe fn run(statement: &Planned, values: *mut Datum, nulls: *const c_char, sight: Sight, pinned: bool) -> u64 {
    // SAFETY: text and types are the statement's and outlive the call; a kept plan lives until the statement is
    // dropped, and is in nobody's hand then.
    unsafe {
        if statement.plan.get().is_null() {
            statement.expect(statement.sql.as_ptr());
            let plan = SPI_prepare(
                statement.sql.as_ptr(),
                statement.types.len() as c_int,
                statement.types.as_ptr().cast_mut(),
            );
            if plan.is_null() || SPI_keepplan(plan) != 0 {
                raise(&Report::new(c"XX000", c"a statement of pg_upkeep could not be prepared"));
            }
            statement.expect(named::text_of(plan));
            #[cfg(debug_assertions)]
            super::proof::plan(plan, statement, pinned);
            #[cfg(not(debug_assertions))]
            let _ = pinned;
            statement.plan.set(plan);
        }
        let (mut snapshot, mut crosscheck) = (std::ptr::null_mut(), std::ptr::null_mut());
        if sight == Sight::Latest && pg_sys::XactIsoLevel >= pg_sys::XACT_REPEATABLE_READ as c_int {
            CommandCounterIncrement();
            snapshot = GetLatestSnapshot();
            crosscheck = GetTransactionSnapshot();
        }
        let result = SPI_execute_snapshot(statement.plan.get(), values, nulls, snapshot, crosscheck, false, true, 0);
        if result < 0 {
            raise(&Report::new(c"XX000", c"a statement of pg_upkeep was not run"));
        }
        pg_sys::SPI_processed
    }
}

/// Column `number` (from 1) of the first row of the last result; `None`: null, or no row.
///
/// Safety: connected.
pub unsafe fn value(number: c_int) -> Option<Datum> {
    // SAFETY: a result with rows has the first; of a column that is not there the server says null.
    unsafe {
        let table = pg_sys::SPI_tuptable;
        if table.is_null() || pg_sys::SPI_processed == 0 {
            return None;
        }
        let mut null = true;
        let datum = SPI_getbinval(*(*table).vals, (*table).tupdesc, number, &mut null);
        if null { None } else { Some(datum) }
    }
}

/// The last result as a whole: what runs next does not touch it.
///
/// Safety: connected.
pub unsafe fn result() -> *mut pg_sys::SPITupleTable {
    // SAFETY: a variable of this process.
    unsafe { pg_sys::SPI_tuptable }
}

/// The type of a column (from 0) of a result.
///
/// Safety: a result, which has its columns' description.
pub unsafe fn column_type(result: *mut pg_sys::SPITupleTable, column: usize) -> Oid {
    // SAFETY: as the caller promises.
    unsafe { SPI_gettypeid((*result).tupdesc, column as c_int + 1) }
}

/// Attribute `number` of a tuple.
///
/// Safety: a tuple with that description.
pub unsafe fn attribute(tuple: pg_sys::HeapTuple, desc: pg_sys::TupleDesc, number: i16) -> Option<Datum> {
    // SAFETY: as the caller promises.
    unsafe {
        let mut null = true;
        let datum = SPI_getbinval(tuple, desc, number.into(), &mut null);
        if null { None } else { Some(datum) }
    }
}

/// Attribute `number` of a tuple, which is of that type: an error if it has become another one since somebody has looked.
///
/// Safety: as [`attribute`].
pub unsafe fn typed(tuple: pg_sys::HeapTuple, desc: pg_sys::TupleDesc, number: i16, type_oid: Oid) -> Option<Datum> {
    // SAFETY: static texts; nothing to drop.
    unsafe {
        if SPI_gettypeid(desc, number.into()) != type_oid {
            raise(&Report {
                hint: c"Try the transaction again.".as_ptr(),
                ..Report::new(c"40001", c"a column of the table has changed meanwhile")
            });
        }
        attribute(tuple, desc, number)
    }
}

/// From here until [`unpin`], or the abort, statements of ours: `pins` of the door. What it gives is for `unpin`.
///
/// Safety: in a transaction; no frame above has anything to drop.
pub unsafe fn pin(pins: &'static [Pin]) -> c_int {
    // SAFETY: as the caller promises: neither function is guarded, nor has anything to drop.
    unsafe { door::pin(pins, new_level, set) }
}

/// For [`set`]; it ends with [`unpin`].
///
/// Safety: in a transaction.
pub unsafe fn new_level() -> c_int {
    // SAFETY: as the caller promises.
    unsafe { NewGUCNestLevel() }
}

/// Safety: at a level of its own; no frame above has anything to drop.
pub unsafe fn set(name: &CStr, value: &CStr) {
    // SAFETY: both texts end in a zero, and are copied.
    unsafe {
        set_config_option(
            name.as_ptr(),
            value.as_ptr(),
            pg_sys::GucContext::PGC_SUSET,
            pg_sys::GucSource::PGC_S_SESSION,
            pg_sys::GucAction::GUC_ACTION_SAVE,
            true,
            0,
            false,
        );
    }
}

/// Safety: what [`pin`] or [`new_level`] has given, with all levels above it closed.
pub unsafe fn unpin(level: c_int) {
    if level > 0 {
        // SAFETY: as the caller promises.
        unsafe { AtEOXact_GUC(true, level) };
    }
}
