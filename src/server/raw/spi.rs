//! SQL from Rust.
//!
//! [`bookkeeping`] is the only way to the private tables: static statements of
//! ours under the switched user (LAW 1). Everything else runs as whoever is asking.
//!
//! What is run by the functions of this file is a statement of ours, and the door pins its settings (LAW 28). Statements on
//! users' tables, and text of theirs, go through [`theirs`].

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::ffi::CString;

use pgrx::datum::{DatumWithOid, FromDatum, IntoDatum};
use pgrx::pg_sys;
use pgrx::spi::{Spi, SpiClient, SpiHeapTupleData};

use super::door::{self, Pinned};
use super::encoding;
use crate::error::{Error, FEATURE_NOT_SUPPORTED, INTERNAL_ERROR, Result};

/// pgrx sends the bytes of a text as they are.
fn sendable(sql: &str) -> Result<&str> {
    if encoding::is_converted() && !sql.is_ascii() {
        return Err(not_supported());
    }
    Ok(sql)
}

fn not_supported() -> Error {
    Error::new(
        FEATURE_NOT_SUPPORTED,
        "names and texts outside ASCII are supported in databases with the encoding UTF8 only",
    )
}

/// Whether a text, or all of an array, is one that pgrx can take: it panics if not.
struct IsReadable(bool);

impl IsReadable {
    unsafe fn text(text: pg_sys::Datum) -> bool {
        // SAFETY: not null, and of type text.
        let bytes = unsafe { pgrx::varlena_to_byte_slice(pg_sys::pg_detoast_datum_packed(text.cast_mut_ptr())) };
        bytes.is_ascii() || (!encoding::is_converted() && std::str::from_utf8(bytes).is_ok())
    }

    /// Safety: a text[] that is not null.
    unsafe fn array(array: pg_sys::Datum) -> bool {
        let (mut values, mut nulls, mut count) = (std::ptr::null_mut(), std::ptr::null_mut(), 0);
        // SAFETY: not null, and of type text[]; what comes back has so many elements.
        unsafe {
            let array = pg_sys::pg_detoast_datum(array.cast_mut_ptr()).cast();
            let align = pg_sys::TYPALIGN_INT as std::ffi::c_char;
            pg_sys::deconstruct_array(array, pg_sys::TEXTOID, -1, false, align, &mut values, &mut nulls, &mut count);
            (0..count as usize).all(|at| *nulls.add(at) || Self::text(*values.add(at)))
        }
    }
}

impl FromDatum for IsReadable {
    unsafe fn from_polymorphic_datum(datum: pg_sys::Datum, is_null: bool, type_oid: pg_sys::Oid) -> Option<Self> {
        // SAFETY: as the type says.
        Some(IsReadable(unsafe {
            match type_oid {
                _ if is_null => true,
                pg_sys::TEXTOID => Self::text(datum),
                pg_sys::TEXTARRAYOID => Self::array(datum),
                _ => true,
            }
        }))
    }
}

impl IntoDatum for IsReadable {
    fn into_datum(self) -> Option<pg_sys::Datum> {
        Some(self.0.into())
    }

    fn type_oid() -> pg_sys::Oid {
        pg_sys::ANYOID
    }

    fn is_compatible_with(_other: pg_sys::Oid) -> bool {
        true
    }
}

/// A text for people to look at, of whatever encoding: what cannot be read has question marks in it.
pub struct Legible(pub String);

impl FromDatum for Legible {
    /// Safety: as the trait's: a text.
    unsafe fn from_polymorphic_datum(datum: pg_sys::Datum, is_null: bool, _type_oid: pg_sys::Oid) -> Option<Self> {
        if is_null {
            return None;
        }
        // SAFETY: not null, and of type text, as who reads it says.
        let bytes = unsafe { pgrx::varlena_to_byte_slice(pg_sys::pg_detoast_datum_packed(datum.cast_mut_ptr())) };
        let marked = || bytes.iter().map(|&byte| if byte.is_ascii() { char::from(byte) } else { '?' }).collect();
        let read = std::str::from_utf8(bytes).ok().filter(|text| text.is_ascii() || !encoding::is_converted());
        Some(Legible(read.map_or_else(marked, str::to_owned)))
    }
}

impl IntoDatum for Legible {
    fn into_datum(self) -> Option<pg_sys::Datum> {
        self.0.into_datum()
    }

    fn type_oid() -> pg_sys::Oid {
        pg_sys::TEXTOID
    }
}

/// One row of a result.
pub struct Row<'a> {
    tuple: SpiHeapTupleData<'a>,
    /// The last column that was read by its turn.
    last: Cell<usize>,
}

impl<'a> Row<'a> {
    fn new(tuple: SpiHeapTupleData<'a>) -> Self {
        Row { tuple, last: Cell::new(0) }
    }

    /// Column `ordinal`, counted from 1.
    pub fn get<T: FromDatum + IntoDatum>(&self, ordinal: usize) -> Result<Option<T>> {
        if !encoding::is_utf8() && !self.tuple.get::<IsReadable>(ordinal)?.is_none_or(|readable| readable.0) {
            return Err(not_supported());
        }
        Ok(self.tuple.get(ordinal)?)
    }

    /// A column that is never null.
    pub fn require<T: FromDatum + IntoDatum>(&self, ordinal: usize) -> Result<T> {
        self.get(ordinal)?.ok_or_else(|| {
            crate::error::Error::new(crate::error::INTERNAL_ERROR, format!("unexpected null in column {ordinal}"))
        })
    }

    /// The next column, one after the other as the statement gives them.
    pub fn next_or_null<T: FromDatum + IntoDatum>(&self) -> Result<Option<T>> {
        self.last.set(self.last.get() + 1);
        self.get(self.last.get())
    }

    /// The same of a text, whatever is in it.
    pub fn next_legible(&self) -> Result<Option<String>> {
        self.last.set(self.last.get() + 1);
        Ok(self.tuple.get::<Legible>(self.last.get())?.map(|text| text.0))
    }

    /// The same, of one that is never null.
    pub fn next<T: FromDatum + IntoDatum>(&self) -> Result<T> {
        self.last.set(self.last.get() + 1);
        self.require(self.last.get())
    }
}

/// Reads without a transaction id: looking costs nothing, and works on a standby.
pub fn query<T>(sql: &str, args: &[DatumWithOid<'_>], each: impl Fn(Row<'_>) -> Result<T>) -> Result<Vec<T>> {
    let _pinned = Pinned::ours();
    prove(sql, args)?;
    read(sql, args, each)
}

/// Read-only SPI looks with the active snapshot; a worker's transaction has none by itself.
fn with_snapshot<T>(f: impl FnOnce() -> Result<T>) -> Result<T> {
    // SAFETY: in a transaction; after an error its abort pops the snapshot.
    unsafe {
        if pg_sys::ActiveSnapshotSet() {
            return f();
        }
        pg_sys::PushActiveSnapshot(pg_sys::GetTransactionSnapshot());
        let result = f();
        pg_sys::PopActiveSnapshot();
        result
    }
}

/// Looks in `f` are as of now, not as of the transaction's first look.
pub fn freshly<T>(f: impl FnOnce() -> Result<T>) -> Result<T> {
    // SAFETY: in a transaction; after an error its abort pops the snapshot.
    unsafe {
        pg_sys::PushActiveSnapshot(pg_sys::GetLatestSnapshot());
        let result = f();
        pg_sys::PopActiveSnapshot();
        result
    }
}

/// The first row, if there is one.
pub fn query_one<T>(sql: &str, args: &[DatumWithOid<'_>], each: impl Fn(Row<'_>) -> Result<T>) -> Result<Option<T>> {
    Ok(query(sql, args, each)?.into_iter().next())
}

/// Writes; returns the number of rows.
pub fn execute(sql: &str, args: &[DatumWithOid<'_>]) -> Result<u64> {
    let _pinned = Pinned::ours();
    prove(sql, args)?;
    write(sql, args)
}

/// Writes and reads what `RETURNING` gives (or any SELECT that must see this
/// transaction's own writes).
pub fn execute_returning<T>(
    sql: &str,
    args: &[DatumWithOid<'_>],
    each: impl Fn(Row<'_>) -> Result<T>,
) -> Result<Vec<T>> {
    let _pinned = Pinned::ours();
    prove(sql, args)?;
    write_returning(sql, args, each)
}

/// Lets builds for tests look at a statement of ours.
fn prove(sql: &str, args: &[DatumWithOid<'_>]) -> Result<()> {
    #[cfg(debug_assertions)]
    super::proof::ours(sql, &args.iter().map(DatumWithOid::oid).collect::<Vec<_>>())?;
    #[cfg(not(debug_assertions))]
    let _ = (sql, args);
    Ok(())
}

fn read<T>(sql: &str, args: &[DatumWithOid<'_>], each: impl Fn(Row<'_>) -> Result<T>) -> Result<Vec<T>> {
    with_snapshot(|| {
        Spi::connect(|client| client.select(sendable(sql)?, None, args)?.map(|tuple| each(Row::new(tuple))).collect())
    })
}

fn write(sql: &str, args: &[DatumWithOid<'_>]) -> Result<u64> {
    Spi::connect_mut(|client: &mut SpiClient<'_>| Ok(client.update(sendable(sql)?, None, args)?.len() as u64))
}

fn write_returning<T>(sql: &str, args: &[DatumWithOid<'_>], each: impl Fn(Row<'_>) -> Result<T>) -> Result<Vec<T>> {
    if super::worker::in_recovery() {
        // There is nothing of our own to see, and a transaction id, which the other way takes, there cannot be.
        return read(sql, args, each);
    }
    Spi::connect_mut(|client| client.update(sendable(sql)?, None, args)?.map(|tuple| each(Row::new(tuple))).collect())
}

/// The same under the settings in force: for statements on users' tables, in which every name is qualified but for those in
/// their `fragments`, text of the user's that runs as himself.
pub mod theirs {
    use super::{DatumWithOid, Result, Row};

    fn prove(sql: &str, fragments: &[&str]) -> Result<()> {
        #[cfg(debug_assertions)]
        super::super::proof::names(sql, false, fragments)?;
        #[cfg(not(debug_assertions))]
        let _ = (sql, fragments);
        Ok(())
    }

    /// Runs looks at a user's table as its owner: they see all rows, whatever FORCE ROW LEVEL SECURITY hides from him, and no
    /// policy is asked.
    pub fn as_owner<T>(owner: super::pg_sys::Oid, f: impl FnOnce() -> Result<T>) -> Result<T> {
        let _confined = super::Confined::to(owner, super::pg_sys::SECURITY_NOFORCE_RLS);
        f()
    }

    /// Runs a statement that changes a user's table as its owner, as the server's foreign keys do (`raw::become_user`).
    pub fn acting_as<T>(owner: super::pg_sys::Oid, f: impl FnOnce() -> Result<T>) -> Result<T> {
        let _switch = super::Switch::to(owner, super::pg_sys::SECURITY_NOFORCE_RLS, false);
        f()
    }

    pub fn query<T>(sql: &str, fragments: &[&str], each: impl Fn(Row<'_>) -> Result<T>) -> Result<Vec<T>> {
        prove(sql, fragments)?;
        super::read(sql, &[], each)
    }

    /// The first row, if there is one.
    pub fn query_one<T>(sql: &str, fragments: &[&str], each: impl Fn(Row<'_>) -> Result<T>) -> Result<Option<T>> {
        Ok(query(sql, fragments, each)?.into_iter().next())
    }

    pub fn execute(sql: &str, fragments: &[&str]) -> Result<u64> {
        prove(sql, fragments)?;
        super::write(sql, &[] as &[DatumWithOid<'_>])
    }

    pub fn execute_returning<T>(sql: &str, fragments: &[&str], each: impl Fn(Row<'_>) -> Result<T>) -> Result<Vec<T>> {
        prove(sql, fragments)?;
        super::write_returning(sql, &[], each)
    }

    /// How often deferred triggers may have deferred others, before it is left to the commit.
    const ROUNDS: u32 = 3;

    /// From here on constraints are checked at once: else what a deferred one finds would only show at the commit, where no
    /// row can be put aside any more.
    pub fn check_at_once() -> Result<()> {
        execute("SET CONSTRAINTS ALL IMMEDIATE", &[]).map(drop)
    }

    /// Runs what was deferred all the same: a trigger may say `SET CONSTRAINTS ALL DEFERRED` itself.
    pub fn run_deferred() -> Result<()> {
        (0..ROUNDS).try_for_each(|_| check_at_once())
    }
}

/// Puts the user back however the scope is left; after an error the abort of the (sub)transaction does the same again, which
/// is harmless.
struct Switch {
    user: pg_sys::Oid,
    security: i32,
    was_bookkeeping: bool,
}

thread_local! {
    static IN_BOOKKEEPING: Cell<bool> = const { Cell::new(false) };
}

/// Is this inside of [`bookkeeping`], and not as the owner of some table, who may be a superuser?
#[cfg(debug_assertions)]
pub(super) fn in_bookkeeping() -> bool {
    IN_BOOKKEEPING.get()
}

impl Switch {
    fn to(role: pg_sys::Oid, more: u32, bookkeeping: bool) -> Self {
        let was_bookkeeping = IN_BOOKKEEPING.replace(bookkeeping);
        let mut switch = Switch { user: pg_sys::InvalidOid, security: 0, was_bookkeeping };
        // SAFETY: plain reads and writes of this backend's identity.
        unsafe {
            pg_sys::GetUserIdAndSecContext(&mut switch.user, &mut switch.security);
            let more = (pg_sys::SECURITY_LOCAL_USERID_CHANGE | more) as i32;
            pg_sys::SetUserIdAndSecContext(role, switch.security | more);
        }
        switch
    }
}

impl Drop for Switch {
    fn drop(&mut self) {
        // SAFETY: the values were read when the switch was made, in this same transaction.
        unsafe { pg_sys::SetUserIdAndSecContext(self.user, self.security) };
        IN_BOOKKEEPING.set(self.was_bookkeeping);
    }
}

/// What is set while this lives, is not set afterwards, not by a plain `SET` either.
struct Unset {
    level: i32,
}

impl Unset {
    fn begin() -> Self {
        // SAFETY: in a transaction; a counter.
        Unset { level: unsafe { pg_sys::NewGUCNestLevel() } }
    }
}

impl Drop for Unset {
    fn drop(&mut self) {
        // An error unsets it all itself, when its (sub)transaction is aborted.
        if !std::thread::panicking() {
            // SAFETY: the level was opened by us, and those above it are closed.
            unsafe { pg_sys::AtEOXact_GUC(false, self.level) };
        }
    }
}

/// Runs `f`, text of a user's, in a worker of ours that goes on afterwards: nothing that it sets is set then. What an error
/// leaves is undone by the abort of its transaction.
pub fn without_settings<T>(f: impl FnOnce() -> Result<T>) -> Result<T> {
    let _unset = Unset::begin();
    f()
}

/// Runs `f` in a subtransaction of its caller's: no lock in it is waited for longer than this, whatever the session has set.
pub fn with_lock_timeout<T>(wait: std::time::Duration, f: impl FnOnce() -> Result<T>) -> Result<T> {
    let _unset = Unset::begin();
    set_transaction("lock_timeout", &wait.as_millis().to_string());
    f()
}

/// A table's owner in the session of somebody else. A statement of ours on his table may run code of his: checks of domains
/// whose values a default contains, functions that the planner computes, policies. It runs as himself, and leaves nothing
/// behind that would act as the caller later: as in the server's own maintenance commands no setting survives, and temporary
/// objects, deferred triggers and the like are refused.
struct Confined {
    // Dropped in this order.
    _settings: Unset,
    _switch: Switch,
}

impl Confined {
    fn to(owner: pg_sys::Oid, more: u32) -> Self {
        Confined {
            _settings: Unset::begin(),
            _switch: Switch::to(owner, pg_sys::SECURITY_RESTRICTED_OPERATION | more, false),
        }
    }
}

/// Runs static statements of ours on the private tables: as the bootstrap
/// superuser. No text of a user's may run inside `f`, nor be read: analysing a literal can call a function of his; hence
/// nothing has to be confined.
pub fn bookkeeping<T>(f: impl FnOnce() -> Result<T>) -> Result<T> {
    let _quiet = crate::server::quiet::Quiet::begin();
    let _switch = Switch::to(pg_sys::Oid::from(pg_sys::BOOTSTRAP_SUPERUSERID), 0, true);
    // For all of `f`: what the server deparses for us is no statement.
    let _pinned = Pinned::ours();
    f()
}

/// Runs statements of ours as the owner of a table: DDL on it, which must not make it anybody else's.
pub fn as_owner<T>(owner: pg_sys::Oid, f: impl FnOnce() -> Result<T>) -> Result<T> {
    let _confined = Confined::to(owner, 0);
    // For all of `f`: what the server deparses for us is no statement.
    let _pinned = Pinned::ours();
    f()
}

/// Runs `f`, as whoever is asking, under settings that make text which the server writes mean the same when it is read.
pub fn unambiguous<T>(f: impl FnOnce() -> Result<T>) -> Result<T> {
    let _pinned = Pinned::exact();
    f()
}

/// For the rest of this session, which runs text that the server wrote and none of a user's.
pub fn unambiguous_session() {
    door::pin_session();
}

/// Sets a setting of this session, as `SET` does.
pub fn set_session(name: &str, value: &str) {
    if let (Ok(name), Ok(value)) = (CString::new(name), CString::new(value)) {
        door::set(&name, &value, pg_sys::GucAction::GUC_ACTION_SET);
    }
}

/// Sets a setting until the end of the transaction, as `SET LOCAL` does.
pub fn set_transaction(name: &str, value: &str) {
    if let (Ok(name), Ok(value)) = (CString::new(name), CString::new(value)) {
        door::set(&name, &value, pg_sys::GucAction::GUC_ACTION_LOCAL);
    }
}

/// A statement planned once per session, for what runs in every step.
pub struct Prepared {
    sql: String,
    types: Vec<pg_sys::PgOid>,
    plan: std::cell::OnceCell<pgrx::spi::OwnedPreparedStatement>,
}

impl Prepared {
    pub fn new(sql: impl Into<String>, types: &[pg_sys::Oid]) -> Self {
        Prepared {
            sql: sql.into(),
            types: types.iter().map(|&oid| pg_sys::PgOid::from(oid)).collect(),
            plan: std::cell::OnceCell::new(),
        }
    }

    fn plan(&self, client: &SpiClient<'_>) -> Result<&pgrx::spi::OwnedPreparedStatement> {
        if self.plan.get().is_none() {
            #[cfg(debug_assertions)]
            super::proof::ours(&self.sql, &self.types.iter().map(|oid| oid.value()).collect::<Vec<_>>())?;
            let plan = client.prepare_mut(sendable(&self.sql)?, &self.types)?.keep();
            let _ = self.plan.set(plan);
        }
        Ok(self.plan.get().expect("set above"))
    }

    /// Writes; returns the number of rows.
    pub fn execute(&self, args: &[DatumWithOid<'_>]) -> Result<u64> {
        let _pinned = Pinned::ours();
        Spi::connect_mut(|client| {
            let plan = self.plan(client)?;
            Ok(client.update(plan, None, args)?.len() as u64)
        })
    }

    /// Writes or reads with a fresh snapshot; gives the rows that come back.
    pub fn returning<T>(&self, args: &[DatumWithOid<'_>], each: impl Fn(Row<'_>) -> Result<T>) -> Result<Vec<T>> {
        let _pinned = Pinned::ours();
        Spi::connect_mut(|client| {
            let plan = self.plan(client)?;
            client.update(plan, None, args)?.map(|tuple| each(Row::new(tuple))).collect()
        })
    }
}

thread_local! {
    static KNOWN: RefCell<HashMap<&'static str, pg_sys::SPIPlanPtr>> = RefCell::new(HashMap::new());
    /// Inside of [`at_one_moment`].
    static ONE_MOMENT: Cell<bool> = const { Cell::new(false) };
}

/// All calls of [`look_up`] in `f` see the catalogs as they are now, at the same moment: as the server itself does, whatever
/// the isolation level of the transaction.
pub fn at_one_moment<T>(f: impl FnOnce() -> Result<T>) -> Result<T> {
    struct Moment(bool);
    impl Drop for Moment {
        fn drop(&mut self) {
            ONE_MOMENT.set(self.0);
        }
    }
    // SAFETY: in a transaction; after an error its abort pops the snapshot.
    unsafe {
        pg_sys::CommandCounterIncrement();
        pg_sys::PushActiveSnapshot(pg_sys::GetLatestSnapshot());
        let _moment = Moment(ONE_MOMENT.replace(true));
        let result = f();
        pg_sys::PopActiveSnapshot();
        result
    }
}

/// A static look at catalogs that several are made of one after the other: planned once per session. Of the same text,
/// arguments always have the same types. It sees what is committed, as the server does when it resolves names: in a
/// transaction that sees the rows of an earlier moment, catalogs of that moment would say of a table what it is not any more.
pub fn look_up<T>(sql: &'static str, args: &[DatumWithOid<'_>], each: impl Fn(Row<'_>) -> Result<T>) -> Result<Vec<T>> {
    if !ONE_MOMENT.get() {
        return at_one_moment(|| look_up(sql, args, each));
    }
    run_known(sql, args, true, each)
}

/// As [`execute_returning`], planned once per session: for what is asked in every call of a function that changes one row.
pub fn known_returning<T>(
    sql: &'static str,
    args: &[DatumWithOid<'_>],
    each: impl Fn(Row<'_>) -> Result<T>,
) -> Result<Vec<T>> {
    run_known(sql, args, false, each)
}

fn run_known<T>(
    sql: &'static str,
    args: &[DatumWithOid<'_>],
    read_only: bool,
    each: impl Fn(Row<'_>) -> Result<T>,
) -> Result<Vec<T>> {
    let _pinned = Pinned::ours();
    Spi::connect(|_| {
        let plan = known(sql, args)?;
        let nulls: Vec<std::ffi::c_char> =
            args.iter().map(|arg| if arg.datum().is_none() { b'n' } else { b' ' } as std::ffi::c_char).collect();
        let null = pg_sys::Datum::from(0usize);
        let mut values: Vec<pg_sys::Datum> =
            args.iter().map(|arg| arg.datum().map_or(null, |datum| datum.sans_lifetime())).collect();
        // SAFETY: connected; the result's rows live until then. Read only: with the snapshot that is active.
        unsafe {
            let code = pg_sys::SPI_execute_plan(plan, values.as_mut_ptr(), nulls.as_ptr(), read_only, 0);
            let table = pg_sys::SPI_tuptable;
            if code != pg_sys::SPI_OK_SELECT as i32 || table.is_null() {
                return Err(Error::new(INTERNAL_ERROR, format!("a look at the catalogs gave {code}")));
            }
            let mut found = Vec::new();
            for at in 0..pg_sys::SPI_processed as usize {
                if let Some(row) = SpiHeapTupleData::new((*table).tupdesc, *(*table).vals.add(at))? {
                    found.push(each(Row::new(row))?);
                }
            }
            Ok(found)
        }
    })
}

fn known(sql: &'static str, args: &[DatumWithOid<'_>]) -> Result<pg_sys::SPIPlanPtr> {
    if let Some(plan) = KNOWN.with_borrow(|known| known.get(sql).copied()) {
        return Ok(plan);
    }
    let mut types: Vec<pg_sys::Oid> = args.iter().map(|arg| arg.oid()).collect();
    #[cfg(debug_assertions)]
    super::proof::ours(sql, &types)?;
    let text = encoding::to_c(sql)?;
    // SAFETY: connected; a kept plan lives as long as the session.
    unsafe {
        let plan = pg_sys::SPI_prepare(text.as_ptr(), types.len() as i32, types.as_mut_ptr());
        if plan.is_null() || pg_sys::SPI_keepplan(plan) != 0 {
            return Err(Error::new(INTERNAL_ERROR, "a look at the catalogs could not be prepared"));
        }
        KNOWN.with_borrow_mut(|known| known.insert(sql, plan));
        Ok(plan)
    }
}
