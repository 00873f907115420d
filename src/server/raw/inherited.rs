//! What `ALTER ROLE` and `ALTER DATABASE .. SET` have set for a worker of ours is taken back before its first statement
//! (LAW 8): a database's owner sets it, and reaches workers that are superuser.
//!
//! The server cannot be asked to leave it out, and the settings' defaults are gone once it is applied. But a worker comes
//! from the postmaster with the server's own values, of the command line, the configuration and the program: they are
//! noted before it connects, and given back after it, whatever the settings are called. `RESET` and a reload of the
//! configuration then mean what they mean to the server.

use std::collections::HashMap;
use std::ffi::{CStr, CString, c_int};

use pgrx::pg_sys::{self, GucSource, config_generic};

struct Own {
    value: CString,
    source: GucSource::Type,
}

/// The server's own settings.
pub struct Inherited(HashMap<CString, Own>);

fn variables() -> &'static [*mut config_generic] {
    // SAFETY: the server's array of all settings; from 16 on a copy, which is left to the session.
    unsafe {
        #[cfg(feature = "pg15")]
        let (first, count) = (pg_sys::get_guc_variables(), pg_sys::GetNumConfigOptions());
        #[cfg(not(feature = "pg15"))]
        let (first, count) = {
            let mut count = 0;
            (pg_sys::get_guc_variables(&mut count), count)
        };
        std::slice::from_raw_parts(first, count as usize)
    }
}

/// As a text that sets it. The server's own would keep six digits of a number.
///
/// Safety: one of [`variables`].
unsafe fn value_of(variable: *const config_generic) -> Option<CString> {
    // SAFETY: a setting is of the kind that its `vartype` says; its text is copied.
    unsafe {
        if (*variable).vartype == pg_sys::config_type::PGC_REAL {
            let number = (*variable.cast::<pg_sys::config_real>()).variable;
            return CString::new((*number).to_string()).ok();
        }
        let value = pg_sys::GetConfigOption((*variable).name, true, false);
        (!value.is_null()).then(|| CStr::from_ptr(value).to_owned())
    }
}

impl Inherited {
    /// Before the connection is made.
    pub fn note() -> Self {
        let mut own = HashMap::new();
        for &variable in variables() {
            // SAFETY: a setting of this process.
            unsafe {
                if let Some(value) = value_of(variable) {
                    let name = CStr::from_ptr((*variable).name).to_owned();
                    own.insert(name, Own { value, source: (*variable).source });
                }
            }
        }
        Inherited(own)
    }

    /// After it.
    pub fn take_back(&self) {
        let by_somebody = GucSource::PGC_S_GLOBAL..=GucSource::PGC_S_DATABASE_USER;
        for &variable in variables() {
            // SAFETY: a setting of this process.
            unsafe {
                if by_somebody.contains(&(*variable).source) || by_somebody.contains(&(*variable).reset_source) {
                    self.restore(variable);
                }
            }
        }
    }

    /// Safety: one of [`variables`], whose values nobody else of this process reads meanwhile.
    unsafe fn restore(&self, variable: *mut config_generic) {
        // SAFETY: as the caller promises; source and name are the setting's own fields.
        unsafe {
            let name = CStr::from_ptr((*variable).name);
            // These are of one transaction, and begin with the others of the same name.
            if [c"transaction_isolation", c"transaction_read_only", c"transaction_deferrable"].contains(&name) {
                return;
            }
            // A text that is set with less authority than the one that is there is ignored. Not the least of all: settings
            // with that one are in no list of those which differ, and this one is in it.
            (*variable).source = GucSource::PGC_S_DYNAMIC_DEFAULT;
            (*variable).reset_source = GucSource::PGC_S_DYNAMIC_DEFAULT;
            match self.0.get(name) {
                // In a worker, what the server takes for its own before it knows the database.
                _ if name == c"client_encoding" => {
                    let encoding = CStr::from_ptr(pg_sys::GetDatabaseEncodingName());
                    set(name, encoding, GucSource::PGC_S_DYNAMIC_DEFAULT);
                }
                Some(own) => set(name, &own.value, own.source.max(GucSource::PGC_S_DYNAMIC_DEFAULT)),
                None => empty(variable),
            }
        }
    }
}

/// A setting that nobody has defined, and the server does not know.
///
/// Safety: one of [`variables`].
unsafe fn empty(variable: *mut config_generic) {
    // SAFETY: a placeholder is a config_string; its texts are left to the process, which is to end anyway.
    unsafe {
        if (*variable).flags & pg_sys::GUC_CUSTOM_PLACEHOLDER as c_int != 0 {
            // Without a value, so that a library which defines it later finds none.
            let text = variable.cast::<pg_sys::config_string>();
            *(*text).variable = std::ptr::null_mut();
            (*text).reset_val = std::ptr::null_mut();
        }
    }
}

fn set(name: &CStr, value: &CStr, source: GucSource::Type) {
    // SAFETY: both strings are NUL-terminated and copied by the server. What does not work is a warning in its log.
    unsafe {
        pg_sys::set_config_option(
            name.as_ptr(),
            value.as_ptr(),
            pg_sys::GucContext::PGC_SUSET,
            source,
            pg_sys::GucAction::GUC_ACTION_SET,
            true,
            pg_sys::WARNING as c_int,
            false,
        );
    }
}

/// What was `SET` in this session is no more.
pub fn reset_session() {
    // SAFETY: as `RESET ALL` and `RESET SESSION AUTHORIZATION`; the role comes back with the latter.
    unsafe {
        pg_sys::ResetAllOptions();
        pg_sys::set_config_option(
            c"session_authorization".as_ptr(),
            std::ptr::null(),
            pg_sys::GucContext::PGC_SUSET,
            GucSource::PGC_S_SESSION,
            pg_sys::GucAction::GUC_ACTION_SET,
            true,
            pg_sys::WARNING as c_int,
            false,
        );
    }
}
