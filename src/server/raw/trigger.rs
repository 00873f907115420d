//! What a trigger was called for, and the bits of `pg_trigger.tgtype`.

use pgrx::pg_sys::{self, TriggerData};

pub const ROW: i16 = pg_sys::TRIGGER_TYPE_ROW as i16;
pub const BEFORE: i16 = pg_sys::TRIGGER_TYPE_BEFORE as i16;
pub const INSERT: i16 = pg_sys::TRIGGER_TYPE_INSERT as i16;
pub const DELETE: i16 = pg_sys::TRIGGER_TYPE_DELETE as i16;
pub const UPDATE: i16 = pg_sys::TRIGGER_TYPE_UPDATE as i16;
pub const TRUNCATE: i16 = pg_sys::TRIGGER_TYPE_TRUNCATE as i16;
pub const INSTEAD: i16 = pg_sys::TRIGGER_TYPE_INSTEAD as i16;

/// What happened, one of `pg_sys::TRIGGER_EVENT_INSERT`, `_DELETE`, `_UPDATE` and `_TRUNCATE`.
unsafe fn operation(data: *const TriggerData) -> u32 {
    // SAFETY: the caller's, from the trigger manager.
    unsafe { (*data).tg_event & pg_sys::TRIGGER_EVENT_OPMASK }
}

pub unsafe fn is_insert(data: *const TriggerData) -> bool {
    // SAFETY: as above.
    unsafe { operation(data) == pg_sys::TRIGGER_EVENT_INSERT }
}

pub unsafe fn is_update(data: *const TriggerData) -> bool {
    // SAFETY: as above.
    unsafe { operation(data) == pg_sys::TRIGGER_EVENT_UPDATE }
}

pub unsafe fn is_truncate(data: *const TriggerData) -> bool {
    // SAFETY: as above.
    unsafe { operation(data) == pg_sys::TRIGGER_EVENT_TRUNCATE }
}

pub unsafe fn is_for_row(data: *const TriggerData) -> bool {
    // SAFETY: as above.
    unsafe { (*data).tg_event & pg_sys::TRIGGER_EVENT_ROW != 0 }
}

pub unsafe fn is_before(data: *const TriggerData) -> bool {
    // SAFETY: as above.
    unsafe { (*data).tg_event & pg_sys::TRIGGER_EVENT_TIMINGMASK == pg_sys::TRIGGER_EVENT_BEFORE }
}
