//! SPI and errors for code that runs inside other people's statements (LAW 12): declared again without pgrx's guard, which
//! rebuilds every error it sees. A foreign error leaves these functions by longjmp: no frame above them may hold anything to
//! drop, and memory comes from the server.

// One contract for all of them: a transaction is open, and frames that an error passes hold nothing to drop.
#![allow(clippy::missing_safety_doc)]

use std::cell::{Cell, OnceCell};
use std::ffi::{CStr, CString, c_char, c_int, c_long, c_void};

use pgrx::pg_sys::{self, Datum, Oid};

use super::door::{self, Pin};
use super::named::objects::Objects;
use super::{encoding, named};

unsafe extern "C-unwind" {
    fn SPI_connect() -> c_int;
    fn SPI_finish() -> c_int;
    fn SPI_prepare(src: *const c_char, nargs: c_int, types: *mut Oid) -> pg_sys::SPIPlanPtr;
    fn NewGUCNestLevel() -> c_int;
    fn AtEOXact_GUC(commit: bool, level: c_int);
    fn set_config_option(
        name: *const c_char,
        value: *const c_char,
        context: pg_sys::GucContext::Type,
        source: pg_sys::GucSource::Type,
        action: pg_sys::GucAction::Type,
        change: bool,
        level: c_int,
        reload: bool,
    ) -> c_int;
    fn SPI_register_trigger_data(data: *mut pg_sys::TriggerData) -> c_int;
    fn SPI_keepplan(plan: pg_sys::SPIPlanPtr) -> c_int;
    fn SPI_execute_snapshot(
        plan: pg_sys::SPIPlanPtr,
        values: *mut Datum,
        nulls: *const c_char,
        snapshot: pg_sys::Snapshot,
        crosscheck: pg_sys::Snapshot,
        read_only: bool,
        fire_triggers: bool,
        count: c_long,
    ) -> c_int;
    fn SPI_getbinval(tuple: pg_sys::HeapTuple, desc: pg_sys::TupleDesc, number: c_int, isnull: *mut bool) -> Datum;
    fn GetLatestSnapshot() -> pg_sys::Snapshot;
    fn GetTransactionSnapshot() -> pg_sys::Snapshot;
    fn CommandCounterIncrement();
    fn palloc(size: usize) -> *mut c_void;
    fn palloc0(size: usize) -> *mut c_void;
    fn text_to_cstring(text: *const pg_sys::text) -> *mut c_char;
    fn cstring_to_text(text: *const c_char) -> *mut pg_sys::text;
    fn datumCopy(value: Datum, by_value: bool, length: c_int) -> Datum;
    fn MemoryContextAlloc(context: pg_sys::MemoryContext, size: usize) -> *mut c_void;
    fn AllocSetContextCreateInternal(
        parent: pg_sys::MemoryContext,
        name: *const c_char,
        min_context_size: usize,
        init_block_size: usize,
        max_block_size: usize,
    ) -> pg_sys::MemoryContext;
    fn initArrayResult(element: Oid, context: pg_sys::MemoryContext, subcontext: bool) -> *mut pg_sys::ArrayBuildState;
    fn accumArrayResult(
        state: *mut pg_sys::ArrayBuildState,
        value: Datum,
        null: bool,
        element: Oid,
        context: pg_sys::MemoryContext,
    ) -> *mut pg_sys::ArrayBuildState;
    fn makeArrayResult(state: *mut pg_sys::ArrayBuildState, context: pg_sys::MemoryContext) -> Datum;
    fn errstart(elevel: c_int, domain: *const c_char) -> bool;
    fn errfinish(filename: *const c_char, lineno: c_int, funcname: *const c_char);
    fn errcode(sqlstate: c_int) -> c_int;
    fn errmsg_internal(fmt: *const c_char, ...) -> c_int;
    fn errdetail_internal(fmt: *const c_char, ...) -> c_int;
    fn errhint(fmt: *const c_char, ...) -> c_int;
    fn err_generic_string(field: c_int, text: *const c_char) -> c_int;
}

/// A statement that is planned once per session. It lives as long as the session, or until its owner is thrown away.
pub struct Statement {
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

impl Statement {
    pub fn new(sql: String, types: Vec<Oid>) -> Self {
        let sql = CString::new(encoding::to_server(&sql)).unwrap_or_default();
        Statement {
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

    unsafe fn expect(&self, text: *const c_char) {
        let relation = self.relation.get();
        if relation != Oid::INVALID {
            unsafe { named::expect(text, &[relation], self.objects.get().cloned(), false) };
        }
    }

    pub fn arguments(&self) -> usize {
        self.types.len()
    }
}

impl Drop for Statement {
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

pub unsafe fn connect() {
    unsafe { SPI_connect() };
}

/// The memory whose children are those of this connection's executions, as the server makes them: it tells a statement of
/// ours from those that functions and triggers run inside it, which have connections of their own. In the memory that
/// [`connect`] has made the current one; null elsewhere.
pub unsafe fn executions() -> pg_sys::MemoryContext {
    unsafe {
        // SPI_connect() makes this one right behind the current one, and tells nobody. The newest child is in front.
        let context = (*pg_sys::CurrentMemoryContext).prevchild;
        if context.is_null() || CStr::from_ptr((*context).name) != c"SPI Exec" { std::ptr::null_mut() } else { context }
    }
}

pub unsafe fn finish() {
    unsafe { SPI_finish() };
}

/// Lets the statements of this connection name the transition tables of a trigger.
pub unsafe fn see_transition_tables(trigger: *mut pg_sys::TriggerData) {
    unsafe { SPI_register_trigger_data(trigger) };
}

/// Runs a statement on our own tables or the catalogs, under the settings of the door; gives the number of rows. Between
/// [`connect`] and [`finish`].
pub unsafe fn run_ours(statement: &Statement, values: *mut Datum, nulls: *const c_char, sight: Sight) -> u64 {
    unsafe {
        let level = pin(door::OURS);
        let rows = run(statement, values, nulls, sight, true);
        unpin(level);
        rows
    }
}

/// Runs a statement on a user's table, in which every name is qualified, under the settings in force.
pub unsafe fn run_theirs(statement: &Statement, values: *mut Datum, nulls: *const c_char, sight: Sight) -> u64 {
    unsafe { run(statement, values, nulls, sight, false) }
}

unsafe fn run(statement: &Statement, values: *mut Datum, nulls: *const c_char, sight: Sight, pinned: bool) -> u64 {
    unsafe {
        if statement.plan.get().is_null() {
            statement.expect(statement.sql.as_ptr());
            let plan = SPI_prepare(
                statement.sql.as_ptr(),
                statement.types.len() as c_int,
                statement.types.as_ptr().cast_mut(),
            );
            if plan.is_null() || SPI_keepplan(plan) != 0 {
                raise(&Report::new(c"XX000", c"a statement of soft delete could not be prepared"));
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
            raise(&Report::new(c"XX000", c"a statement of soft delete was not run"));
        }
        pg_sys::SPI_processed
    }
}

/// Column `number` (from 1) of the first row of the last result; `None`: null, or no row.
pub unsafe fn value(number: c_int) -> Option<Datum> {
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
pub unsafe fn result() -> *mut pg_sys::SPITupleTable {
    unsafe { pg_sys::SPI_tuptable }
}

/// The type of a column (from 0) of a result.
pub unsafe fn column_type(result: *mut pg_sys::SPITupleTable, column: usize) -> Oid {
    unsafe extern "C-unwind" {
        fn SPI_gettypeid(desc: pg_sys::TupleDesc, number: c_int) -> Oid;
    }
    unsafe { SPI_gettypeid((*result).tupdesc, column as c_int + 1) }
}

/// Attribute `number` of a tuple.
pub unsafe fn attribute(tuple: pg_sys::HeapTuple, desc: pg_sys::TupleDesc, number: i16) -> Option<Datum> {
    unsafe {
        let mut null = true;
        let datum = SPI_getbinval(tuple, desc, number.into(), &mut null);
        if null { None } else { Some(datum) }
    }
}

/// Attribute `number` of a tuple, which is of that type: an error if it has become another one since somebody has looked.
pub unsafe fn typed(tuple: pg_sys::HeapTuple, desc: pg_sys::TupleDesc, number: i16, type_oid: Oid) -> Option<Datum> {
    unsafe extern "C-unwind" {
        fn SPI_gettypeid(desc: pg_sys::TupleDesc, number: c_int) -> Oid;
    }
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

pub unsafe fn copy(value: Datum, by_value: bool, length: i16) -> Datum {
    unsafe { datumCopy(value, by_value, length.into()) }
}

/// Memory of the current context for `count` values, zeroed.
pub unsafe fn allocate<T>(count: usize) -> *mut T {
    unsafe { palloc0((size_of::<T>() * count).max(1)).cast() }
}

/// Memory that lives as long as the transaction.
pub unsafe fn allocate_for_transaction<T>(count: usize) -> *mut T {
    unsafe { allocate_in(pg_sys::TopTransactionContext, count) }
}

pub unsafe fn allocate_in<T>(context: pg_sys::MemoryContext, count: usize) -> *mut T {
    unsafe { MemoryContextAlloc(context, (size_of::<T>() * count).max(1)).cast() }
}

/// A memory context of its own, which goes with its parent at the latest.
pub unsafe fn new_context(parent: pg_sys::MemoryContext) -> pg_sys::MemoryContext {
    unsafe {
        AllocSetContextCreateInternal(
            parent,
            c"pg_upkeep".as_ptr(),
            pg_sys::ALLOCSET_DEFAULT_MINSIZE as usize,
            pg_sys::ALLOCSET_DEFAULT_INITSIZE as usize,
            pg_sys::ALLOCSET_DEFAULT_MAXSIZE as usize,
        )
    }
}

pub unsafe fn text(text: *const c_char) -> Datum {
    unsafe { Datum::from(cstring_to_text(text)) }
}

pub unsafe fn to_c(text: Datum) -> *mut c_char {
    unsafe { text_to_cstring(text.cast_mut_ptr()) }
}

/// The pieces one after the other, in the server's memory.
pub unsafe fn concat(pieces: &[*const c_char]) -> *mut c_char {
    unsafe {
        let mut length = 1;
        for &piece in pieces {
            length += CStr::from_ptr(piece).count_bytes();
        }
        let whole: *mut c_char = palloc(length).cast();
        let mut at = whole;
        for &piece in pieces {
            let count = CStr::from_ptr(piece).count_bytes();
            std::ptr::copy_nonoverlapping(piece, at, count);
            at = at.add(count);
        }
        *at = 0;
        whole
    }
}

/// Another user for some statements, as the server's foreign keys switch to a table's owner. Nothing is dropped when an error
/// passes: its (sub)transaction puts the user back.
///
/// Not a restricted operation, and settings are not put back: the triggers that a cascade sets off are to find what they find
/// below ON DELETE CASCADE, where they may queue deferred triggers, create temporary tables and set variables of the session.
/// It opens nothing that is not open: whoever writes to a table runs its owner's triggers, and a superuser runs them as
/// superuser. For DDL and looks, which set off no triggers by themselves, `spi::as_owner` is stricter.
#[derive(Clone, Copy)]
pub struct Identity {
    user: Oid,
    security: c_int,
}

pub unsafe fn become_user(user: Oid, more: u32) -> Identity {
    unsafe {
        let mut identity = Identity { user: Oid::INVALID, security: 0 };
        pg_sys::GetUserIdAndSecContext(&mut identity.user, &mut identity.security);
        pg_sys::SetUserIdAndSecContext(
            user,
            identity.security | (pg_sys::SECURITY_LOCAL_USERID_CHANGE | more) as c_int,
        );
        identity
    }
}

/// The owner of a relation, as he is under the lock that the statement takes of it: who has had it before, or when its
/// statements were put together, is no measure. It may have been handed over while a trigger of somebody's, or another lock,
/// was waited for, and then its new owner's triggers would run as the old one.
pub unsafe fn become_owner(relid: Oid, lock: u32) -> Identity {
    unsafe extern "C-unwind" {
        fn try_relation_open(relid: Oid, lock: pg_sys::LOCKMODE) -> pg_sys::Relation;
        fn relation_close(relation: pg_sys::Relation, lock: pg_sys::LOCKMODE);
    }
    unsafe {
        // The lock stays, as that of the statement would.
        let relation = try_relation_open(relid, lock as pg_sys::LOCKMODE);
        if relation.is_null() {
            raise(&Report::new(c"42P01", c"a table was dropped in the middle of the statement"));
        }
        let owner = (*(*relation).rd_rel).relowner;
        relation_close(relation, pg_sys::NoLock as pg_sys::LOCKMODE);
        become_user(owner, pg_sys::SECURITY_NOFORCE_RLS)
    }
}

pub unsafe fn become_again(identity: Identity) {
    unsafe { pg_sys::SetUserIdAndSecContext(identity.user, identity.security) };
}

/// From here until [`unpin`], or the abort, statements of ours: `pins` of the door. What it gives is for `unpin`.
pub unsafe fn pin(pins: &'static [Pin]) -> c_int {
    unsafe { door::pin(pins, new_level, set) }
}

/// For [`set`]; it ends with [`unpin`].
pub unsafe fn new_level() -> c_int {
    unsafe { NewGUCNestLevel() }
}

pub unsafe fn set(name: &CStr, value: &CStr) {
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

pub unsafe fn unpin(level: c_int) {
    if level > 0 {
        unsafe { AtEOXact_GUC(true, level) };
    }
}

/// An error of ours; null: not given.
pub struct Report {
    pub sqlstate: &'static CStr,
    pub message: *const c_char,
    pub detail: *const c_char,
    pub hint: *const c_char,
    pub schema: *const c_char,
    pub table: *const c_char,
    pub constraint: *const c_char,
}

impl Report {
    pub const fn new(sqlstate: &'static CStr, message: &CStr) -> Self {
        Report::with(sqlstate, message.as_ptr())
    }

    pub const fn with(sqlstate: &'static CStr, message: *const c_char) -> Self {
        let nothing = std::ptr::null();
        Report {
            sqlstate,
            message,
            detail: nothing,
            hint: nothing,
            schema: nothing,
            table: nothing,
            constraint: nothing,
        }
    }
}

pub unsafe fn raise(report: &Report) -> ! {
    const TEXT: &CStr = c"%s";
    unsafe {
        errstart(pgrx::PgLogLevel::ERROR as c_int, std::ptr::null());
        let code = report.sqlstate.as_ptr();
        let mut packed = 0;
        let mut i = 5;
        while i > 0 {
            i -= 1;
            packed = (packed << 6) | ((*code.add(i) as c_int - 48) & 0x3F);
        }
        errcode(packed);
        errmsg_internal(TEXT.as_ptr(), report.message);
        if !report.detail.is_null() {
            errdetail_internal(TEXT.as_ptr(), report.detail);
        }
        if !report.hint.is_null() {
            errhint(TEXT.as_ptr(), report.hint);
        }
        for (field, text) in [(b's', report.schema), (b't', report.table), (b'n', report.constraint)] {
            if !text.is_null() {
                err_generic_string(field.into(), text);
            }
        }
        errfinish(c"pg_upkeep".as_ptr(), 0, std::ptr::null());
    }
    unreachable!("ERROR does not return")
}

/// Declares a function of the server's version-1 calling convention.
macro_rules! version_1 {
    ($($finfo:ident),* $(,)?) => {
        $(#[unsafe(no_mangle)]
        pub extern "C" fn $finfo() -> &'static pgrx::pg_sys::Pg_finfo_record {
            const V1: pgrx::pg_sys::Pg_finfo_record = pgrx::pg_sys::Pg_finfo_record { api_version: 1 };
            &V1
        })*
    };
}
pub(crate) use version_1;

/// An array that is being built, in a memory context that it does not leave.
pub struct Array {
    state: *mut pg_sys::ArrayBuildState,
    element: Oid,
}

impl Array {
    pub unsafe fn new(element: Oid) -> Self {
        unsafe { Array::new_in(element, pg_sys::CurrentMemoryContext) }
    }

    pub unsafe fn new_in(element: Oid, context: pg_sys::MemoryContext) -> Self {
        unsafe { Array { state: initArrayResult(element, context, false), element } }
    }

    pub unsafe fn add(&mut self, value: Datum, null: bool) {
        unsafe { self.state = accumArrayResult(self.state, value, null, self.element, pg_sys::CurrentMemoryContext) };
    }

    pub unsafe fn finish(self) -> Datum {
        unsafe { makeArrayResult(self.state, pg_sys::CurrentMemoryContext) }
    }
}
