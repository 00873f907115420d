//! The server's own time zones.

use std::ffi::{CStr, CString};

use pgrx::pg_sys;

/// Seconds since 1970-01-01 00:00 UTC.
pub type Instant = i64;

/// A stretch of time between two changes of the clock.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Stretch {
    /// Seconds east of UTC.
    pub offset: i64,
    /// When the next one begins.
    pub until: Option<Instant>,
}

/// A time zone of this server, loaded once per process and kept.
#[derive(Clone, Copy)]
pub struct ServerZone(*mut pg_sys::pg_tz);

impl ServerZone {
    /// By any name that `SET TimeZone` takes; `None` if there is no such zone.
    pub fn named(name: &str) -> Option<Self> {
        let name = CString::new(name).ok()?;
        // SAFETY: the zone lives as long as the process. Zones that count leap seconds are refused, as SET does.
        unsafe {
            let zone = pg_sys::pg_tzset(name.as_ptr());
            (!zone.is_null() && pg_sys::pg_tz_acceptable(zone)).then_some(ServerZone(zone))
        }
    }

    /// Its name, spelled as the server spells it.
    pub fn name(&self) -> String {
        // SAFETY: a NUL-terminated string inside the zone.
        unsafe { CStr::from_ptr(pg_sys::pg_get_timezone_name(self.0)).to_string_lossy().into_owned() }
    }

    /// The stretch that holds this moment.
    pub fn at(&self, moment: Instant) -> Stretch {
        let (mut before, mut after, mut boundary) = (0, 0, 0);
        let (mut before_dst, mut after_dst) = (0, 0);
        // SAFETY: reads the zone's table; writes only what is passed.
        let found = unsafe {
            pg_sys::pg_next_dst_boundary(
                &moment,
                &mut before,
                &mut before_dst,
                &mut boundary,
                &mut after,
                &mut after_dst,
                self.0,
            )
        };
        Stretch { offset: before, until: (found > 0).then_some(boundary) }
    }
}
