//! Functions of the server's version-1 calling convention, written by hand: pgrx's guard would rebuild foreign errors, and costs
//! more than what some of them do.

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
