//! Facts of the catalogs and of this server that SQL would be the long way round to.

use std::ffi::CStr;

use pgrx::pg_sys::{self, Oid};

use super::encoding;

/// A database as the launcher sees it: from the shared catalog, connected to none.
pub struct Database {
    pub oid: Oid,
    pub name: String,
}

/// Databases that a worker may connect to: no templates, none being dropped.
/// Called in a transaction.
pub fn connectable_databases() -> Vec<Database> {
    let mut databases = Vec::new();
    // SAFETY: in a transaction; a row of pg_database has the fixed columns of its form, and is read before the scan
    // goes on.
    unsafe {
        let relation = pg_sys::table_open(pg_sys::DatabaseRelationId, pg_sys::AccessShareLock as pg_sys::LOCKMODE);
        let scan = pg_sys::table_beginscan_catalog(relation, 0, std::ptr::null_mut());
        loop {
            let tuple = pg_sys::heap_getnext(scan, pg_sys::ScanDirection::ForwardScanDirection);
            if tuple.is_null() {
                break;
            }
            let form = pg_sys::GETSTRUCT(tuple).cast::<pg_sys::FormData_pg_database>();
            // -2 marks what is left of an interrupted DROP DATABASE.
            if (*form).datallowconn && !(*form).datistemplate && (*form).datconnlimit != -2 {
                databases.push(Database {
                    oid: (*form).oid,
                    name: CStr::from_ptr((*form).datname.data.as_ptr()).to_string_lossy().into_owned(),
                });
            }
        }
        pg_sys::table_endscan(scan);
        pg_sys::table_close(relation, pg_sys::AccessShareLock as pg_sys::LOCKMODE);
    }
    databases
}

pub fn my_database() -> Oid {
    // SAFETY: a variable of this process.
    unsafe { pg_sys::MyDatabaseId }
}

/// `current_user`.
pub fn current_user() -> Oid {
    // SAFETY: known since the process connected.
    unsafe { pg_sys::GetUserId() }
}

/// OIDs below are handed out by initdb: catalogs, whatever schema they are in.
pub const FIRST_NORMAL_OID: u32 = 16384;

/// Different for every `initdb` and every pg_upgrade (LAW 20).
pub fn system_identifier() -> i64 {
    // SAFETY: the control file is in shared memory and was read at start.
    unsafe { pg_sys::GetSystemIdentifier() as i64 }
}

/// Does `user` have the privileges of `role`?
pub fn has_privileges_of(user: Oid, role: Oid) -> bool {
    // SAFETY: in a transaction; of a role that does not exist it says no.
    unsafe { pg_sys::has_privs_of_role(user, role) }
}

/// The OID of a role, if it exists.
pub fn role_oid(name: &str) -> Option<Oid> {
    role_called(&encoding::to_c(name).ok()?)
}

/// The same, of a `name` of the server's, in its encoding.
pub fn role_called(name: &CStr) -> Option<Oid> {
    // SAFETY: in a transaction; `name` outlives the call, which looks it up.
    let oid = unsafe { pg_sys::get_role_oid(name.as_ptr(), true) };
    (oid != Oid::INVALID).then_some(oid)
}

/// A role's name; `None` if it was dropped.
pub fn role_name(oid: Oid) -> Option<String> {
    // SAFETY: in a transaction; null, or a text in the current memory.
    unsafe {
        let name = pg_sys::GetUserNameFromId(oid, true);
        (!name.is_null()).then(|| encoding::text(name))
    }
}

/// A type as it is written in text that is stored, or read under somebody's search_path: qualified, unless its name is a
/// keyword. -1: without a length.
pub fn type_sql(oid: Oid, typmod: i32) -> String {
    const FLAGS: u32 = pg_sys::FORMAT_TYPE_TYPEMOD_GIVEN | pg_sys::FORMAT_TYPE_FORCE_QUALIFY;
    // SAFETY: a NUL-terminated string of the server's memory.
    unsafe { encoding::text(pg_sys::format_type_extended(oid, typmod, FLAGS as pg_sys::bits16)) }
}

/// The type itself, or what a domain is made of.
pub fn base_type(oid: Oid) -> Oid {
    // SAFETY: in a transaction; a type that is gone is an error.
    unsafe { pg_sys::getBaseType(oid) }
}

/// The same, and what `(n)` behind the domain's type says; -1: nothing.
pub fn base_type_and_modifier(oid: Oid, modifier: i32) -> (Oid, i32) {
    let mut modifier = modifier;
    // SAFETY: in a transaction; it writes to `modifier` only.
    let base = unsafe { pg_sys::getBaseTypeAndTypmod(oid, &mut modifier) };
    (base, modifier)
}

/// Is the extension installed in this database?
pub fn extension_exists() -> bool {
    // SAFETY: in a transaction; a static text.
    unsafe { pg_sys::get_extension_oid(c"pg_upkeep".as_ptr(), true) != Oid::INVALID }
}

/// A relation in the schema of the extension, by name.
pub fn relation_of_ours(name: &CStr) -> Oid {
    // SAFETY: looks both up in the catalog caches.
    unsafe {
        let schema = pg_sys::get_namespace_oid(c"upkeep".as_ptr(), true);
        if schema == Oid::INVALID { schema } else { pg_sys::get_relname_relid(name.as_ptr(), schema) }
    }
}

/// Is the script of this extension being run, which creates it or brings it up to date?
pub fn is_in_own_script() -> bool {
    // SAFETY: variables of this backend.
    unsafe {
        pg_sys::creating_extension
            && pg_sys::CurrentExtensionObject == pg_sys::get_extension_oid(c"pg_upkeep".as_ptr(), true)
    }
}

/// Is the extension in this database of the version that this library belongs to? True if there is none.
pub fn extension_is_current() -> crate::error::Result<bool> {
    let version = super::spi::query_one(
        "SELECT e.extversion FROM pg_catalog.pg_extension e
         WHERE e.extname OPERATOR(pg_catalog.=) 'pg_upkeep'",
        &[],
        |row| row.require::<String>(1),
    )?;
    Ok(version.is_none_or(|version| version == env!("CARGO_PKG_VERSION")))
}

/// Now, as the server stores it: microseconds since 2000.
pub fn now() -> i64 {
    // SAFETY: reads the clock.
    unsafe { pg_sys::GetCurrentTimestamp() }
}

/// The value of a setting, read at C level (LAW 6): a number in its base unit, without the unit that SHOW would print.
pub fn setting(name: &CStr) -> String {
    // SAFETY: the text is the setting's own, and is copied before anything can change it; null: nobody knows it.
    unsafe {
        let value = pg_sys::GetConfigOption(name.as_ptr(), true, false);
        if value.is_null() { String::new() } else { encoding::text(value) }
    }
}

/// A time-ordered UUID, version 7.
pub fn uuid_v7() -> pgrx::Uuid {
    pgrx::Uuid::from_bytes(super::uuid::version_7())
}

/// Refuses `SET upkeep.nonsense`.
pub fn reserve_setting_prefix() {
    // SAFETY: a static text, which the server copies.
    unsafe { pg_sys::MarkGUCPrefixReserved(c"upkeep".as_ptr()) };
}

/// In a transaction; shared catalogs are enough.
pub fn database_exists(oid: Oid) -> bool {
    // SAFETY: in a transaction; null for an unknown OID.
    unsafe { !pg_sys::get_database_name(oid).is_null() }
}

pub fn schema_name(oid: Oid) -> Option<String> {
    // SAFETY: a palloc'd string, or null for an unknown OID.
    unsafe {
        let name = pg_sys::get_namespace_name(oid);
        (!name.is_null()).then(|| encoding::text(name))
    }
}

/// Does the current user have the rights of the owner of this schema; `None`: of this database?
pub fn is_mine(schema: Option<Oid>) -> crate::error::Result<bool> {
    let mine = super::spi::query_one(
        "SELECT true FROM pg_catalog.pg_database d
         WHERE $1::pg_catalog.oid IS NULL AND d.datname OPERATOR(pg_catalog.=) pg_catalog.current_database()
           AND pg_catalog.pg_has_role(d.datdba, 'USAGE')
         UNION ALL
         SELECT true FROM pg_catalog.pg_namespace n
         WHERE n.oid OPERATOR(pg_catalog.=) $1 AND pg_catalog.pg_has_role(n.nspowner, 'USAGE')",
        &[schema.into()],
        |row| row.require::<bool>(1),
    )?;
    Ok(mine.is_some())
}

pub fn my_database_name() -> String {
    // SAFETY: in a transaction; null, or a text in the current memory.
    unsafe {
        let name = pg_sys::get_database_name(pg_sys::MyDatabaseId);
        if name.is_null() { String::new() } else { encoding::text(name) }
    }
}

/// May a role see what the statistics views hide from others?
pub fn may_see_statistics(role: Oid) -> bool {
    has_privileges_of(role, Oid::from(pg_sys::ROLE_PG_READ_ALL_STATS))
}

/// Does a role have all privileges of pg_monitor?
pub fn is_monitor(role: Oid) -> bool {
    has_privileges_of(role, Oid::from(pg_sys::ROLE_PG_MONITOR))
}

/// Is this text, in the encoding of this database?
pub fn is_text_here(bytes: &[u8]) -> bool {
    let Ok(length) = i32::try_from(bytes.len()) else { return false };
    // SAFETY: within the bytes; with `noError` it only answers.
    unsafe { pg_sys::pg_verifymbstr(bytes.as_ptr().cast(), length, true) }
}

pub fn is_superuser(user: Oid) -> bool {
    // SAFETY: in a transaction; an unknown role is none.
    unsafe { pg_sys::superuser_arg(user) }
}

/// The server's list of processes is read once per transaction, and then seems to stand still. Who waits for a process
/// to come or go must look anew.
pub fn forget_process_list() {
    // SAFETY: forgets a copy in this process's memory.
    unsafe { pg_sys::pgstat_clear_backend_activity_snapshot() };
}

/// Lets one function need another, as if the server had seen the call: neither is dropped without the other.
pub fn let_function_need(dependent: Oid, needed: Oid) {
    let function = |oid| pg_sys::ObjectAddress { classId: pg_sys::ProcedureRelationId, objectId: oid, objectSubId: 0 };
    // SAFETY: both addresses are of functions of this transaction; they are copied.
    unsafe {
        pg_sys::recordDependencyOn(&function(dependent), &function(needed), pg_sys::DependencyType::DEPENDENCY_NORMAL)
    };
}

/// A number from the server's strong random source.
pub fn chance() -> u64 {
    let mut bytes = [0u8; 8];
    // SAFETY: writes as many bytes as there are.
    unsafe { pg_sys::pg_strong_random(bytes.as_mut_ptr().cast(), bytes.len()) };
    u64::from_ne_bytes(bytes)
}
