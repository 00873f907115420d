//! `jsonb` in databases of any encoding: pgrx takes it for UTF-8, in both directions.

use std::ffi::CStr;

use pgrx::callconv::{Arg, ArgAbi, BoxRet, FcInfo};
use pgrx::datum::{Datum, UnboxDatum};
use pgrx::pg_sys;
use pgrx::pgrx_sql_entity_graph::metadata::{
    ArgumentError, ReturnsError, ReturnsRef, SqlMappingRef, SqlTranslatable, TypeOrigin,
};
use pgrx::{FromDatum, IntoDatum, direct_function_call, direct_function_call_as_datum};
use serde_json::Value;

use super::encoding;

type Theirs = pgrx::datum::JsonB;

#[derive(Debug)]
pub struct JsonB(pub Value);

impl FromDatum for JsonB {
    /// Safety: as the trait's: a jsonb.
    unsafe fn from_polymorphic_datum(datum: pg_sys::Datum, is_null: bool, _oid: pg_sys::Oid) -> Option<Self> {
        if is_null {
            return None;
        }
        // SAFETY: a jsonb, says the caller.
        let text: &CStr = unsafe { direct_function_call(pg_sys::jsonb_out, &[Some(datum)]) }?;
        read(text)
    }
}

fn read(text: &CStr) -> Option<JsonB> {
    let text = encoding::from_server(text.to_bytes());
    match serde_json::from_str(&text) {
        Ok(value) => Some(JsonB(value)),
        // The server's jsonb may be nested deeper, and its numbers may be larger, than what we read it into. An error
        // report of pgrx's unwinds: there is a text to drop, and whatever the callers hold.
        Err(error) => {
            pgrx::ereport!(
                ERROR,
                pgrx::PgSqlErrorCode::ERRCODE_STATEMENT_TOO_COMPLEX,
                "this jsonb is nested too deeply, or has a number that is too large",
                error.to_string()
            );
        }
    }
}

impl IntoDatum for JsonB {
    fn into_datum(self) -> Option<pg_sys::Datum> {
        if !encoding::is_converted() {
            return pgrx::datum::JsonB(self.0).into_datum();
        }
        let text = std::ffi::CString::new(encoding::to_server(&self.0.to_string())).expect("JSON has no zero byte");
        // SAFETY: a text of this database.
        unsafe { direct_function_call_as_datum(pg_sys::jsonb_in, &[Some(text.as_ptr().into())]) }
    }

    fn type_oid() -> pg_sys::Oid {
        pg_sys::JSONBOID
    }
}

// SAFETY: as for pgrx's own.
unsafe impl<'fcx> ArgAbi<'fcx> for JsonB {
    /// Safety: as the trait's: an argument that is a jsonb.
    unsafe fn unbox_arg_unchecked(arg: Arg<'_, 'fcx>) -> Self {
        // SAFETY: as the caller promises; pgrx hands over what the server was called with.
        let given: Given = unsafe { arg.unbox_arg_using_from_datum() }.expect("the argument is not null");
        given.0
    }
}

/// What somebody gives to a function of ours: as much as we read into our own memory.
struct Given(JsonB);

/// Bytes of its text. The usage of a hundred thousand indexes has about as many.
const LONGEST: usize = 16 << 20;

impl FromDatum for Given {
    /// Safety: as the trait's: a jsonb.
    unsafe fn from_polymorphic_datum(datum: pg_sys::Datum, is_null: bool, _oid: pg_sys::Oid) -> Option<Self> {
        if is_null {
            return None;
        }
        // SAFETY: a jsonb, says the caller.
        let text: &CStr = unsafe { direct_function_call(pg_sys::jsonb_out, &[Some(datum)]) }?;
        if text.count_bytes() > LONGEST {
            pgrx::ereport!(
                ERROR,
                pgrx::PgSqlErrorCode::ERRCODE_PROGRAM_LIMIT_EXCEEDED,
                "a jsonb that is given to pg_upkeep must have at most 16 MB as text"
            );
        }
        read(text).map(Self)
    }
}

// SAFETY: a copy comes back, which borrows nothing of the datum.
unsafe impl UnboxDatum for JsonB {
    type As<'src>
        = JsonB
    where
        Self: 'src;

    /// Safety: as the trait's: a jsonb that is not null.
    unsafe fn unbox<'src>(datum: Datum<'src>) -> Self::As<'src>
    where
        Self: 'src,
    {
        // SAFETY: as the caller promises.
        unsafe { Self::from_datum(datum.sans_lifetime(), false) }.expect("not null")
    }
}

// SAFETY: what is returned is a jsonb in the server's memory, or null.
unsafe impl BoxRet for JsonB {
    /// Safety: as the trait's.
    unsafe fn box_into<'fcx>(self, fcinfo: &mut FcInfo<'fcx>) -> Datum<'fcx> {
        match self.into_datum() {
            // SAFETY: a datum of our own type, made in the current memory of the call.
            Some(datum) => unsafe { fcinfo.return_raw_datum(datum) },
            None => fcinfo.return_null(),
        }
    }
}

// SAFETY: in SQL it is what pgrx's type is.
unsafe impl SqlTranslatable for JsonB {
    const TYPE_IDENT: &'static str = <Theirs as SqlTranslatable>::TYPE_IDENT;
    const TYPE_ORIGIN: TypeOrigin = <Theirs as SqlTranslatable>::TYPE_ORIGIN;
    const ARGUMENT_SQL: Result<SqlMappingRef, ArgumentError> = <Theirs as SqlTranslatable>::ARGUMENT_SQL;
    const RETURN_SQL: Result<ReturnsRef, ReturnsError> = <Theirs as SqlTranslatable>::RETURN_SQL;
}

/// A jsonb that goes through our hands unread: all digits of its numbers stay.
pub struct Untouched(String);

impl FromDatum for Untouched {
    /// Safety: as the trait's: a jsonb.
    unsafe fn from_polymorphic_datum(datum: pg_sys::Datum, is_null: bool, _oid: pg_sys::Oid) -> Option<Self> {
        if is_null {
            return None;
        }
        // SAFETY: a jsonb, says the caller.
        let text: &CStr = unsafe { direct_function_call(pg_sys::jsonb_out, &[Some(datum)]) }?;
        Some(Untouched(encoding::from_server(text.to_bytes())))
    }
}

impl IntoDatum for Untouched {
    fn into_datum(self) -> Option<pg_sys::Datum> {
        let text = std::ffi::CString::new(encoding::to_server(&self.0)).expect("JSON has no zero byte");
        // SAFETY: a text of this database.
        unsafe { direct_function_call_as_datum(pg_sys::jsonb_in, &[Some(text.as_ptr().into())]) }
    }

    fn type_oid() -> pg_sys::Oid {
        pg_sys::JSONBOID
    }
}

// SAFETY: what is returned is a jsonb in the server's memory, or null.
unsafe impl BoxRet for Untouched {
    /// Safety: as the trait's.
    unsafe fn box_into<'fcx>(self, fcinfo: &mut FcInfo<'fcx>) -> Datum<'fcx> {
        match self.into_datum() {
            // SAFETY: a datum of our own type, made in the current memory of the call.
            Some(datum) => unsafe { fcinfo.return_raw_datum(datum) },
            None => fcinfo.return_null(),
        }
    }
}

// SAFETY: in SQL it is what pgrx's type is.
unsafe impl SqlTranslatable for Untouched {
    const TYPE_IDENT: &'static str = <Theirs as SqlTranslatable>::TYPE_IDENT;
    const TYPE_ORIGIN: TypeOrigin = <Theirs as SqlTranslatable>::TYPE_ORIGIN;
    const ARGUMENT_SQL: Result<SqlMappingRef, ArgumentError> = <Theirs as SqlTranslatable>::ARGUMENT_SQL;
    const RETURN_SQL: Result<ReturnsRef, ReturnsError> = <Theirs as SqlTranslatable>::RETURN_SQL;
}
