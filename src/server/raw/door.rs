//! The door: settings under which a statement of ours runs in somebody's process (LAW 28).
//!
//! Whoever runs a statement can decide by settings what its names mean and how its values are read and written, and anybody
//! sets them: in his session, `ALTER ROLE .. SET`, `ALTER DATABASE .. SET`. So there are two kinds of statement, and no third:
//!
//! - **Ours**, on our own tables and the catalogs: prepared and executed under [`OURS`]. At execution too, because the server
//!   analyses a saved plan anew under the search_path that it then finds. This is what every function of
//!   [`super::spi`] does unless it is told otherwise, and `raw::run_ours`.
//! - **Theirs**, on a user's table, or with text of his: planned and run under the settings in force, because triggers that it
//!   sets off, policies and inlined SQL functions have to see what they would see below a statement of his. Every name of
//!   ours in it is qualified, types and operators too, and no value is made text of, or read from text, in it. `spi::theirs`,
//!   [`super::repeated`], `raw::run_theirs`.
//!
//! Values become text, and text values, in statements between those: under [`EXACT`], as the owner of the table.
//!
//! A pin that is in force already costs one comparison of a variable of the server's. What was set is put back when the
//! [`Pinned`] is dropped; if an error leaves by longjmp, by the abort of the (sub)transaction that every place which
//! catches one needs anyway: it undoes all nest levels that were opened since its beginning.

use std::ffi::{CStr, c_char, c_int};

use pgrx::pg_sys;

use super::unguarded::{bytea_output, locale_monetary, xmlbinary, xmloption};

/// A setting of the server's and the value that it has to have.
pub struct Pin {
    pub name: &'static CStr,
    pub value: &'static CStr,
    /// Has it that value? A plain read.
    pub holds: unsafe fn() -> bool,
}

/// Safety: null, or a text that ends in a zero.
unsafe fn is(found: *const c_char, wanted: &CStr) -> bool {
    // SAFETY: as the caller promises.
    unsafe { !found.is_null() && CStr::from_ptr(found) == wanted }
}

macro_rules! pin {
    ($name:literal, $value:expr, $holds:expr) => {
        Pin {
            name: $name,
            value: $value,
            // SAFETY: reads a variable of the server's, which a process with one thread has for itself; a text that it
            // points to stays until the setting changes.
            holds: || unsafe { $holds },
        }
    };
}

const SEARCH_PATH: &CStr = c"pg_catalog, pg_temp";

/// Left out on purpose: `TimeZone`, because times with a zone are written with their offset, and another zone would change
/// what a time without one means beside them (a purge compares such columns); `escape_string_warning` and `backslash_quote`
/// say nothing about what we write while `standard_conforming_strings` is on; `row_security`: nothing of ours has policies,
/// and on a table of theirs it is theirs; `lc_numeric` and `lc_time` are for patterns of to_char() that we do not use;
/// `timezone_abbreviations`: we write offsets. Collations are part of a column or written with COLLATE; `default_*` of a
/// transaction are read when it begins.
pub static EXACT: [Pin; 13] = [
    // What a name means. Temporary objects last, and nothing else.
    pin!(c"search_path", SEARCH_PATH, is(pg_sys::namespace_search_path, SEARCH_PATH)),
    // Without them `ON DELETE CASCADE` between our own tables would not happen.
    pin!(
        c"session_replication_role",
        c"origin",
        pg_sys::SessionReplicationRole == pg_sys::SESSION_REPLICATION_ROLE_ORIGIN as c_int
    ),
    // How the literals that we write are read.
    pin!(c"standard_conforming_strings", c"on", pg_sys::standard_conforming_strings),
    pin!(c"transform_null_equals", c"off", !pg_sys::Transform_null_equals),
    pin!(c"array_nulls", c"on", pg_sys::Array_nulls),
    // What the server writes of names: text that is compared with text, or stored.
    pin!(c"quote_all_identifiers", c"off", !pg_sys::quote_all_identifiers),
    // How values are written and read: all digits of a float, dates and times in one form, binary data in one.
    pin!(c"extra_float_digits", c"1", pg_sys::extra_float_digits > 0),
    pin!(
        c"DateStyle",
        c"ISO, MDY",
        pg_sys::DateStyle == pg_sys::USE_ISO_DATES as c_int && pg_sys::DateOrder == pg_sys::DATEORDER_MDY as c_int
    ),
    pin!(c"IntervalStyle", c"postgres", pg_sys::IntervalStyle == pg_sys::INTSTYLE_POSTGRES as c_int),
    pin!(c"bytea_output", c"hex", bytea_output == 1),
    pin!(c"xmlbinary", c"base64", xmlbinary == 0),
    pin!(c"xmloption", c"content", xmloption == 1),
    // Only where text of values is kept: it differs from the server's own nearly everywhere, and is slow to set.
    pin!(c"lc_monetary", c"C", is(locale_monetary, c"C")),
];

/// For statements of ours.
pub static OURS: &[Pin] = {
    let (ours, _) = EXACT.split_at(12);
    ours
};

/// Sets what does not hold, by `set`, at a level of settings that `open` opens; 0: there was nothing to do.
///
/// # Safety
/// In a transaction. Where `set` is not guarded, the caller's frames have nothing to drop.
#[inline]
pub unsafe fn pin(pins: &'static [Pin], open: unsafe fn() -> c_int, set: unsafe fn(&CStr, &CStr)) -> c_int {
    let mut level = 0;
    let mut i = 0;
    while i < pins.len() {
        let pin = &pins[i];
        i += 1;
        // SAFETY: as the caller promises: `open` and `set` are called in his transaction; `holds` are plain reads.
        unsafe {
            if !(pin.holds)() {
                if level == 0 {
                    level = open();
                }
                set(pin.name, pin.value);
            }
        }
    }
    level
}

/// Settings are pinned as long as this lives.
pub struct Pinned {
    level: c_int,
}

impl Pinned {
    pub fn ours() -> Self {
        Pinned::new(OURS)
    }

    /// Text of values means the same whoever reads it.
    pub fn exact() -> Self {
        Pinned::new(&EXACT)
    }

    fn new(pins: &'static [Pin]) -> Self {
        // SAFETY: in a transaction; these are pgrx's own, guarded functions.
        Pinned { level: unsafe { pin(pins, || pg_sys::NewGUCNestLevel(), set_local) } }
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        // An error puts them back itself, when its (sub)transaction is aborted.
        if self.level > 0 && !std::thread::panicking() {
            // SAFETY: the level was opened by us, and those above it are closed.
            unsafe { pg_sys::AtEOXact_GUC(true, self.level) };
        }
    }
}

/// Safety: in a transaction.
unsafe fn set_local(name: &CStr, value: &CStr) {
    set(name, value, pg_sys::GucAction::GUC_ACTION_SAVE);
}

/// Sets a setting as a superuser could.
pub fn set(name: &CStr, value: &CStr, action: pg_sys::GucAction::Type) {
    // SAFETY: both strings are NUL-terminated and copied by the server.
    unsafe {
        pg_sys::set_config_option(
            name.as_ptr(),
            value.as_ptr(),
            pg_sys::GucContext::PGC_SUSET,
            pg_sys::GucSource::PGC_S_SESSION,
            action,
            true,
            0,
            false,
        );
    }
}

/// For the rest of this session, which runs text that the server wrote and none of a user's.
pub fn pin_session() {
    for pin in &EXACT {
        // SAFETY: plain reads.
        if !unsafe { (pin.holds)() } {
            set(pin.name, pin.value, pg_sys::GucAction::GUC_ACTION_SET);
        }
    }
}
