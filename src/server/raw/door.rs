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

unsafe extern "C" {
    static bytea_output: c_int;
    static xmlbinary: c_int;
    static xmloption: c_int;
    static locale_monetary: *const c_char;
}

/// A setting of the server's and the value that it has to have.
pub struct Pin {
    pub name: &'static CStr,
    pub value: &'static CStr,
    /// Has it that value? A plain read.
    pub holds: unsafe fn() -> bool,
}

unsafe fn is(found: *const c_char, wanted: &CStr) -> bool {
    unsafe { !found.is_null() && CStr::from_ptr(found) == wanted }
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
    Pin {
        name: c"search_path",
        value: SEARCH_PATH,
        holds: || unsafe { is(pg_sys::namespace_search_path, SEARCH_PATH) },
    },
    // Without them `ON DELETE CASCADE` between our own tables would not happen.
    Pin {
        name: c"session_replication_role",
        value: c"origin",
        holds: || unsafe { pg_sys::SessionReplicationRole == pg_sys::SESSION_REPLICATION_ROLE_ORIGIN as c_int },
    },
    // How the literals that we write are read.
    Pin {
        name: c"standard_conforming_strings",
        value: c"on",
        holds: || unsafe { pg_sys::standard_conforming_strings },
    },
    Pin { name: c"transform_null_equals", value: c"off", holds: || unsafe { !pg_sys::Transform_null_equals } },
    Pin { name: c"array_nulls", value: c"on", holds: || unsafe { pg_sys::Array_nulls } },
    // What the server writes of names: text that is compared with text, or stored.
    Pin { name: c"quote_all_identifiers", value: c"off", holds: || unsafe { !pg_sys::quote_all_identifiers } },
    // How values are written and read: all digits of a float, dates and times in one form, binary data in one.
    Pin { name: c"extra_float_digits", value: c"1", holds: || unsafe { pg_sys::extra_float_digits > 0 } },
    Pin {
        name: c"DateStyle",
        value: c"ISO, MDY",
        holds: || unsafe {
            pg_sys::DateStyle == pg_sys::USE_ISO_DATES as c_int && pg_sys::DateOrder == pg_sys::DATEORDER_MDY as c_int
        },
    },
    Pin {
        name: c"IntervalStyle",
        value: c"postgres",
        holds: || unsafe { pg_sys::IntervalStyle == pg_sys::INTSTYLE_POSTGRES as c_int },
    },
    Pin { name: c"bytea_output", value: c"hex", holds: || unsafe { bytea_output == 1 } },
    Pin { name: c"xmlbinary", value: c"base64", holds: || unsafe { xmlbinary == 0 } },
    Pin { name: c"xmloption", value: c"content", holds: || unsafe { xmloption == 1 } },
    // Only where text of values is kept: it differs from the server's own nearly everywhere, and is slow to set.
    Pin { name: c"lc_monetary", value: c"C", holds: || unsafe { is(locale_monetary, c"C") } },
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
