//! Databases whose encoding is not UTF-8: pgrx takes every text for UTF-8.

use std::ffi::{CStr, CString, c_char};

use pgrx::pg_sys;

use crate::error::{Error, INTERNAL_ERROR, Result};

pub fn is_converted() -> bool {
    // SAFETY: known since the process connected.
    let here = unsafe { pg_sys::GetDatabaseEncoding() };
    here != pg_sys::pg_enc::PG_UTF8 as i32 && here != pg_sys::pg_enc::PG_SQL_ASCII as i32
}

pub fn is_utf8() -> bool {
    // SAFETY: known since the process connected.
    unsafe { pg_sys::GetDatabaseEncoding() == pg_sys::pg_enc::PG_UTF8 as i32 }
}

fn convert(bytes: &[u8], how: unsafe fn(*const c_char, i32, i32) -> *mut c_char) -> Vec<u8> {
    let Ok(length) = i32::try_from(bytes.len()) else { return Vec::new() };
    // SAFETY: within the bytes. What comes back is the same pointer, or another text, which ends in a zero.
    unsafe {
        let converted = how(bytes.as_ptr().cast(), length, pg_sys::pg_enc::PG_UTF8 as i32);
        if converted.is_null() || std::ptr::eq(converted.cast(), bytes.as_ptr()) {
            bytes.to_vec()
        } else {
            CStr::from_ptr(converted).to_bytes().to_vec()
        }
    }
}

/// Outside a transaction the server cannot look conversions up.
fn needs_conversion(bytes: &[u8]) -> bool {
    // SAFETY: a plain read of this process's state.
    is_converted() && !bytes.is_ascii() && unsafe { pg_sys::IsTransactionState() }
}

/// A text of this database.
pub fn from_server(bytes: &[u8]) -> String {
    let bytes = if needs_conversion(bytes) { convert(bytes, pg_sys::pg_server_to_any) } else { bytes.to_vec() };
    String::from_utf8(bytes).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}

/// A text of this database that ends in a zero.
///
/// # Safety
/// It does.
pub unsafe fn text(text: *const c_char) -> String {
    // SAFETY: it ends in a zero, as the caller promises.
    from_server(unsafe { CStr::from_ptr(text) }.to_bytes())
}

/// As the server takes it.
pub fn to_c(text: &str) -> Result<CString> {
    CString::new(to_server(text)).map_err(|_| Error::new(INTERNAL_ERROR, "the text holds a zero byte"))
}

/// The bytes of a text in this database. An error if it has characters that the encoding does not know, other than the one that
/// stands for what nobody could read.
pub fn to_server(text: &str) -> Vec<u8> {
    if needs_conversion(text.as_bytes()) {
        convert(text.replace(char::REPLACEMENT_CHARACTER, "?").as_bytes(), pg_sys::pg_any_to_server)
    } else {
        text.as_bytes().to_vec()
    }
}

/// HTML that every encoding can hold.
pub fn html_to_server(html: String) -> String {
    if !is_converted() || html.is_ascii() {
        return html;
    }
    let mut ascii = String::with_capacity(html.len());
    for c in html.chars() {
        if c.is_ascii() { ascii.push(c) } else { ascii += &format!("&#{};", c as u32) }
    }
    ascii
}
