//! What triggers on anybody's rows do.

use std::ffi::CString;

use pgrx::guc::{GucContext, GucFlags, GucRegistry, GucSetting};

static ALLOW_HARD_DELETE: GucSetting<bool> = GucSetting::<bool>::new(false);
static ACTOR: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(Some(c""));

pub fn define() {
    GucRegistry::define_string_guc(
        c"upkeep.actor",
        c"Who is at work, as an application knows him: what created_by, updated_by and deleted_by are set to.",
        c"Set per transaction, with SET LOCAL. Empty means the role that the session acts as.",
        &ACTOR,
        GucContext::Userset,
        GucFlags::default(),
    );
    GucRegistry::define_bool_guc(
        c"upkeep.allow_hard_delete",
        c"Lets DELETE and TRUNCATE remove rows for good from tables with soft delete.",
        c"",
        &ALLOW_HARD_DELETE,
        GucContext::Suset,
        GucFlags::default(),
    );
}

/// Where the server keeps `upkeep.actor`: null or a text that lives until the setting changes. For the triggers of
/// anybody's rows, where nothing is to be copied (LAW 13).
pub fn actor_place() -> *const *mut std::ffi::c_char {
    ACTOR.as_ptr()
}

pub fn allow_hard_delete() -> bool {
    ALLOW_HARD_DELETE.get()
}
