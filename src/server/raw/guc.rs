//! A setting that is read where nothing may fail or cost anything: a plain variable, which the server sets.

use std::ffi::{CStr, c_int};
use std::sync::atomic::AtomicI32;

use pgrx::pg_sys;

/// The words that an enum setting takes and what they mean, as the server wants them.
pub struct Words<const N: usize>([pg_sys::config_enum_entry; N]);
// SAFETY: constant; the names live as long as the process.
unsafe impl<const N: usize> Sync for Words<N> {}

impl<const N: usize> Words<N> {
    /// The last one must be [`END`].
    pub const fn new(words: [pg_sys::config_enum_entry; N]) -> Self {
        assert!(words[N - 1].name.is_null());
        Words(words)
    }
}

pub const fn word(name: &'static CStr, value: c_int) -> pg_sys::config_enum_entry {
    pg_sys::config_enum_entry { name: name.as_ptr(), val: value, hidden: false }
}

pub const END: pg_sys::config_enum_entry = pg_sys::config_enum_entry { name: std::ptr::null(), val: 0, hidden: false };

/// Defines an enum setting that superusers may change. Its default is what the variable holds now.
pub fn define_plain_enum<const N: usize>(
    name: &'static CStr,
    short: &'static CStr,
    long: &'static CStr,
    words: &'static Words<N>,
    variable: &'static AtomicI32,
) {
    let default = variable.load(std::sync::atomic::Ordering::Relaxed);
    // SAFETY: all of it lives as long as the process, and one thread reads and writes the variable.
    unsafe {
        pg_sys::DefineCustomEnumVariable(
            name.as_ptr(),
            short.as_ptr(),
            long.as_ptr(),
            variable.as_ptr(),
            default,
            words.0.as_ptr(),
            pg_sys::GucContext::PGC_SUSET,
            0,
            None,
            None,
            None,
        );
    }
}
