//! Databases whose encoding is not UTF-8: pgrx takes every text for UTF-8.

use std::ffi::CStr;

use pgrx::pg_sys;

fn is_converted() -> bool {
    // SAFETY: known since the process connected.
    let here = unsafe { pg_sys::GetDatabaseEncoding() };
    here != pg_sys::pg_enc::PG_UTF8 as i32 && here != pg_sys::pg_enc::PG_SQL_ASCII as i32
}

fn convert(bytes: &[u8], how: unsafe fn(*const std::ffi::c_char, i32, i32) -> *mut std::ffi::c_char) -> Vec<u8> {
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

/// A text of this database.
pub fn from_server(bytes: &[u8]) -> String {
    let bytes = if is_converted() { convert(bytes, pg_sys::pg_server_to_any) } else { bytes.to_vec() };
    String::from_utf8(bytes).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}

/// The bytes of a text in this database. An error if it has characters that the encoding does not know.
pub fn to_server(text: &str) -> Vec<u8> {
    if is_converted() && !text.is_ascii() {
        convert(text.as_bytes(), pg_sys::pg_any_to_server)
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
