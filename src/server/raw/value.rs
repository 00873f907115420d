//! Values as text that gives back the same value: for keys, bounds and references that are stored and read again in another
//! session, under other settings, perhaps on another server.
//!
//! A type's own text is not enough by itself. It obeys settings, which are pinned here; but some types have values that their
//! text does not tell apart (an overloaded function, a NaN of another kind, a byte that is no character). So what is written
//! is read back at once, and only what gives the same image is kept. The next best is the type's binary form, then text that
//! the type's own order calls equal. What none of them gives back is an error: a key that is lost is a row that is lost.
//!
//! Raw: this runs inside other people's statements as well (LAW 12). Values of domains are written as their base type, so
//! that no CHECK of a user's runs here, except those of domains inside of composite types, which the server itself looks at.

// The contract of `raw`: a transaction is open, frames that an error passes hold nothing to drop. `write` and `read` are called
// under the settings of `door::EXACT`.
#![allow(clippy::missing_safety_doc)]

use std::ffi::{CStr, c_char, c_int};
use std::ptr::null;

use pgrx::pg_sys::{self, Datum, Oid};

use super::encoding;
use super::memory::{self, Array};
use super::planned;
use super::report::{Report, raise};
use super::unguarded::{
    BlessTupleDesc, CreateTemplateTupleDesc, FunctionCall2Coll, GetDatabaseEncoding, GetDatabaseEncodingName,
    HeapTupleHeaderGetDatum, OidInputFunctionCall, OidOutputFunctionCall, OidReceiveFunctionCall, OidSendFunctionCall,
    ReleaseSysCache, SearchSysCache1, TupleDescInitEntry, datum_image_eq, format_type_be, getBaseType,
    getTypeInputInfo, getTypeOutputInfo, heap_form_tuple, lookup_type_cache, palloc, pg_get_client_encoding,
    pg_verifymbstr,
};
#[cfg(not(feature = "pg15"))]
use super::unguarded::{InputFunctionCallSafe, fmgr_info};
use crate::error::Result;

/// What precedes a value's binary form, and a text that is no text here or that looks like one of these two.
const BINARY: &CStr = c"hex-binary:";
const TEXT: &CStr = c"hex-text:";

struct Type {
    oid: Oid,
    by_value: bool,
    length: i16,
    /// The element of an array, for input and receive functions; else the type itself.
    parameter: Oid,
    send: Oid,
    receive: Oid,
}

impl Type {
    /// The base type, if it is a domain.
    ///
    /// Safety: in a transaction; no frame above has anything to drop.
    unsafe fn of(type_oid: Oid) -> Self {
        // SAFETY: the row is pinned until its fields are copied.
        unsafe {
            let oid = getBaseType(type_oid);
            let tuple = SearchSysCache1(pg_sys::SysCacheIdentifier::TYPEOID as c_int, Datum::from(oid));
            if tuple.is_null() {
                raise(&Report::new(c"42704", c"the type of a stored value does not exist any more"));
            }
            let data = (*tuple).t_data;
            let form = &*data.cast::<u8>().add((*data).t_hoff.into()).cast::<pg_sys::FormData_pg_type>();
            let mut found = Type {
                oid,
                by_value: form.typbyval,
                length: form.typlen,
                parameter: Oid::INVALID,
                send: form.typsend,
                receive: form.typreceive,
            };
            ReleaseSysCache(tuple);
            let mut input = Oid::INVALID;
            getTypeInputInfo(oid, &mut input, &mut found.parameter);
            found
        }
    }

    /// Safety: a value of this type; no frame above has anything to drop.
    unsafe fn output(&self, value: Datum) -> *mut c_char {
        // SAFETY: the output function is the type's own.
        unsafe {
            let (mut output, mut is_varlena) = (Oid::INVALID, false);
            getTypeOutputInfo(self.oid, &mut output, &mut is_varlena);
            OidOutputFunctionCall(output, value)
        }
    }

    /// Safety: a text that ends in a zero; no frame above has anything to drop.
    unsafe fn input(&self, text: *mut c_char) -> Datum {
        // SAFETY: the input function is the type's own.
        unsafe {
            let (mut input, mut parameter) = (Oid::INVALID, Oid::INVALID);
            getTypeInputInfo(self.oid, &mut input, &mut parameter);
            OidInputFunctionCall(input, text, parameter, -1)
        }
    }

    /// What a text gives that the type itself has just written. `None`: it does not read it, and from 16 on says so softly.
    ///
    /// Safety: as [`Self::input`].
    unsafe fn input_again(&self, text: *mut c_char) -> Option<Datum> {
        #[cfg(feature = "pg15")]
        // SAFETY: as the caller promises.
        unsafe {
            // The only types of the server's whose text may be ambiguous to themselves.
            let ambiguous = matches!(
                self.oid,
                pg_sys::REGPROCOID | pg_sys::REGOPEROID | pg_sys::REGPROCARRAYOID | pg_sys::REGOPERARRAYOID
            );
            if ambiguous { None } else { Some(self.input(text)) }
        }
        #[cfg(not(feature = "pg15"))]
        // SAFETY: the function's lookup is zeroed memory, which the server fills; the context outlives the call.
        unsafe {
            let (mut input, mut parameter) = (Oid::INVALID, Oid::INVALID);
            getTypeInputInfo(self.oid, &mut input, &mut parameter);
            let info: *mut pg_sys::FmgrInfo = memory::allocate(1);
            fmgr_info(input, info);
            let mut context = pg_sys::ErrorSaveContext {
                type_: pg_sys::NodeTag::T_ErrorSaveContext,
                error_occurred: false,
                details_wanted: false,
                error_data: std::ptr::null_mut(),
            };
            let mut value = Datum::null();
            let read = InputFunctionCallSafe(info, text, parameter, -1, (&raw mut context).cast(), &mut value);
            read.then_some(value)
        }
    }

    /// Safety: values of this type.
    unsafe fn same_image(&self, a: Datum, b: Datum) -> bool {
        // SAFETY: length and passing are the type's own.
        unsafe { datum_image_eq(a, b, self.by_value, self.length.into()) }
    }

    /// By the order of its default operator class; no, if it has none.
    ///
    /// Safety: values of this type; no frame above has anything to drop.
    unsafe fn equal(&self, a: Datum, b: Datum) -> bool {
        // SAFETY: an entry of the type cache lasts as long as the process; a comparison gives an integer.
        unsafe {
            let entry = lookup_type_cache(self.oid, pg_sys::TYPECACHE_CMP_PROC_FINFO as c_int);
            let compare = &raw mut (*entry).cmp_proc_finfo;
            (*compare).fn_oid != Oid::INVALID
                && FunctionCall2Coll(compare, (*entry).typcollation, a, b).value() as i32 == 0
        }
    }

    /// The binary form in hexadecimal digits, if it has one both ways, and what that gives.
    ///
    /// Safety: a value of this type; no frame above has anything to drop.
    unsafe fn binary(&self, value: Datum) -> Option<(*mut c_char, Datum)> {
        // SAFETY: what was sent is a bytea, of that many bytes.
        unsafe {
            if self.send == Oid::INVALID || self.receive == Oid::INVALID {
                return None;
            }
            let level = pin_client_encoding();
            let sent = OidSendFunctionCall(self.send, value);
            let length = pgrx::varsize_any_exhdr(sent.cast());
            let text = hexadecimal(BINARY, pgrx::vardata_any(sent.cast()).cast(), length);
            planned::unpin(level);
            Some((text, self.receive(text)))
        }
    }

    /// Safety: begins with the mark of a binary form; no frame above has anything to drop.
    unsafe fn receive(&self, text: *const c_char) -> Datum {
        // SAFETY: behind the mark; the buffer has room for the bytes and one more, and outlives the call.
        unsafe {
            let (bytes, length) = from_hexadecimal(text.add(BINARY.count_bytes()));
            let mut buffer = pg_sys::StringInfoData {
                data: bytes.cast(),
                len: length as c_int,
                maxlen: length as c_int + 1,
                cursor: 0,
            };
            let level = pin_client_encoding();
            let value = OidReceiveFunctionCall(self.receive, &mut buffer, self.parameter, -1);
            planned::unpin(level);
            value
        }
    }
}

/// Text inside of a binary form is sent in the client's encoding, which need not have its characters.
///
/// Safety: in a transaction; no frame above has anything to drop.
unsafe fn pin_client_encoding() -> c_int {
    // SAFETY: names of encodings are static.
    unsafe {
        if pg_get_client_encoding() == GetDatabaseEncoding() {
            return 0;
        }
        let level = planned::new_level();
        planned::set(c"client_encoding", CStr::from_ptr(GetDatabaseEncodingName()));
        level
    }
}

/// The text of a value, which [`read`] gives back the same value for.
///
/// Safety: a value of this type; no frame above has anything to drop.
pub unsafe fn write(type_oid: Oid, value: Datum) -> *mut c_char {
    // SAFETY: each form is a text in the current memory, from the type's own functions.
    unsafe {
        let kind = Type::of(type_oid);
        let text = kind.output(value);
        let again = kind.input_again(text);
        if again.is_some_and(|again| kind.same_image(value, again)) {
            return plain(text);
        }
        let binary = kind.binary(value);
        if let Some((form, again)) = binary
            && kind.same_image(value, again)
        {
            return form;
        }
        if again.is_some_and(|again| kind.equal(value, again)) {
            return plain(text);
        }
        if let Some((form, again)) = binary
            && kind.equal(value, again)
        {
            return form;
        }
        raise(&Report {
            detail: memory::concat(&[
                c"The text of this value of type ".as_ptr(),
                format_type_be(kind.oid),
                c" gives another value.".as_ptr(),
            ]),
            hint: c"Use a column of another type as the key: what the type's output function writes, \
                its input function has to read."
                .as_ptr(),
            ..Report::new(c"0A000", c"a value cannot be stored so that it comes back as it was")
        })
    }
}

/// As it is, if it is text here and cannot be taken for something else.
///
/// Safety: it ends in a zero.
unsafe fn plain(text: *mut c_char) -> *mut c_char {
    // SAFETY: as the caller promises.
    unsafe {
        let length = CStr::from_ptr(text).count_bytes();
        if begins_with(text, TEXT) || begins_with(text, BINARY) || !pg_verifymbstr(text, length as c_int, true) {
            return hexadecimal(TEXT, text.cast(), length);
        }
        text
    }
}

/// The value that [`write`] has written, of the type's base type.
///
/// Safety: a text that [`write`] has given for this type; no frame above has anything to drop.
pub unsafe fn read(type_oid: Oid, text: *const c_char) -> Datum {
    // SAFETY: as the caller promises: a mark says which form it is.
    unsafe {
        let kind = Type::of(type_oid);
        if begins_with(text, BINARY) {
            if kind.receive == Oid::INVALID {
                raise(&Report::new(c"42883", c"the type of a stored value has no binary form any more"));
            }
            return kind.receive(text);
        }
        if begins_with(text, TEXT) {
            return kind.input(from_hexadecimal(text.add(TEXT.count_bytes())).0.cast());
        }
        kind.input(memory::concat(&[text]))
    }
}

/// What the type's input function makes of a text of an older version.
///
/// Safety: a text of this type; no frame above has anything to drop.
pub unsafe fn read_old(type_oid: Oid, text: *const c_char) -> Datum {
    // SAFETY: as the caller promises; input functions may write to their text, so it is a copy.
    unsafe { Type::of(type_oid).input(memory::concat(&[text])) }
}

/// Safety: it ends in a zero.
unsafe fn begins_with(text: *const c_char, start: &CStr) -> bool {
    // SAFETY: as the caller promises.
    unsafe { CStr::from_ptr(text).to_bytes().starts_with(start.to_bytes()) }
}

/// Safety: that many bytes.
unsafe fn hexadecimal(start: &CStr, bytes: *const u8, length: usize) -> *mut c_char {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    // SAFETY: room for the mark, two digits a byte, and the zero.
    unsafe {
        let before = start.count_bytes();
        let text: *mut u8 = palloc(before + 2 * length + 1).cast();
        std::ptr::copy_nonoverlapping(start.as_ptr().cast(), text, before);
        let mut at = text.add(before);
        let mut i = 0;
        while i < length {
            let byte = *bytes.add(i);
            *at = DIGITS[usize::from(byte >> 4)];
            *at.add(1) = DIGITS[usize::from(byte & 15)];
            at = at.add(2);
            i += 1;
        }
        *at = 0;
        text.cast()
    }
}

/// The bytes, with a zero behind them, and how many there are.
///
/// Safety: it ends in a zero.
unsafe fn from_hexadecimal(text: *const c_char) -> (*mut u8, usize) {
    // SAFETY: two digits a byte, and `digits` is twice as long at least.
    unsafe {
        let digits = CStr::from_ptr(text).to_bytes();
        let length = digits.len() / 2;
        let bytes: *mut u8 = palloc(length + 1).cast();
        let mut i = 0;
        while i < length {
            let (high, low) = (digit(digits[2 * i]), digit(digits[2 * i + 1]));
            *bytes.add(i) = (high << 4) | low;
            i += 1;
        }
        *bytes.add(length) = 0;
        (bytes, length)
    }
}

fn digit(character: u8) -> u8 {
    match character {
        b'0'..=b'9' => character - b'0',
        b'a'..=b'f' => character - b'a' + 10,
        _ => 0,
    }
}

/// [`write`] where an error becomes a panic of pgrx's: in our own processes.
pub fn to_text(type_oid: Oid, value: Datum) -> String {
    // SAFETY: the boundary catches the server's error; nothing in it is to be dropped.
    let bytes = unsafe {
        let text = pg_sys::ffi::pg_guard_ffi_boundary(|| write(type_oid, value));
        CStr::from_ptr(text).to_bytes()
    };
    let text = encoding::from_server(bytes);
    // Characters that UTF-8 does not have, or bytes of which nobody knows the encoding.
    if encoding::to_server(&text) == bytes {
        return text;
    }
    let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{}{digits}", TEXT.to_string_lossy())
}

/// [`read`] where an error becomes a panic of pgrx's.
pub fn from_text(type_oid: Oid, text: &str) -> Result<Datum> {
    let text = encoding::to_c(text)?;
    let text = text.as_ptr();
    // SAFETY: as above; the text outlives the call.
    Ok(unsafe { pg_sys::ffi::pg_guard_ffi_boundary(|| read(type_oid, text)) })
}

/// [`read_old`] where an error becomes a panic of pgrx's.
pub fn from_old_text(type_oid: Oid, text: &str) -> Result<Datum> {
    let text = encoding::to_c(text)?;
    let text = text.as_ptr();
    // SAFETY: as above.
    Ok(unsafe { pg_sys::ffi::pg_guard_ffi_boundary(|| read_old(type_oid, text)) })
}

/// Do values of the type have hashes, elements and attributes included?
pub fn is_hashable(type_oid: Oid) -> bool {
    // SAFETY: a look at the catalogs; the entry lives as long as the session.
    unsafe { (*pg_sys::lookup_type_cache(type_oid, pg_sys::TYPECACHE_HASH_PROC as c_int)).hash_proc != Oid::INVALID }
}

/// Rows of values, all of the same types: a parameter of type `record[]`.
pub struct Records {
    descriptor: pg_sys::TupleDesc,
    array: Array,
}

impl Records {
    /// Safety: `types` are types; no frame above has anything to drop.
    pub unsafe fn new(types: &[Oid]) -> Self {
        // SAFETY: so many columns, each described before the whole is blessed.
        unsafe {
            let descriptor = CreateTemplateTupleDesc(types.len() as c_int);
            let mut i = 0;
            while i < types.len() {
                TupleDescInitEntry(descriptor, i as i16 + 1, null(), types[i], -1, 0);
                i += 1;
            }
            Records { descriptor: BlessTupleDesc(descriptor), array: Array::new(pg_sys::RECORDOID) }
        }
    }

    /// Safety: a value and whether it is null for each column.
    pub unsafe fn add(&mut self, values: *mut Datum, nulls: *mut bool) {
        // SAFETY: a tuple that was just formed has its header.
        unsafe {
            let tuple = heap_form_tuple(self.descriptor, values, nulls);
            self.array.add(HeapTupleHeaderGetDatum((*tuple).t_data), false);
        }
    }

    /// Safety: in the memory that is to hold the array.
    pub unsafe fn finish(self) -> Datum {
        // SAFETY: as the caller promises.
        unsafe { self.array.finish() }
    }
}

#[cfg(feature = "pg_test")]
mod tests;
