//! Functions in our schema whose bodies carry what a user wrote.
//!
//! `CREATE FUNCTION` would have to run as somebody who may create in our schema, and he would read the body: analysing a
//! literal calls the input function of its type, and that of an array or a composite over a domain evaluates the domain's
//! CHECK. So the body is analysed by whoever is asking, as himself, and we store the tree, which nobody reads again.

use pgrx::pg_sys::{self, Datum, Oid};
use pgrx::{IntoDatum, PgList};

use super::analyze::with_statement;
use super::encoding::to_c;
use crate::error::{Error, INTERNAL_ERROR, Result, UNDEFINED_OBJECT};

/// What a function is like beside its name and language.
struct Shape<'a> {
    takes: &'a [Oid],
    gives: &'a [Oid],
    result: Oid,
    source: &'a str,
    /// Analysed, or null.
    body: *mut pg_sys::Node,
    definer: bool,
    cost: f32,
}

/// Creates `upkeep.name(takes, OUT gives) RETURNS SETOF record LANGUAGE sql BEGIN ATOMIC query; END`. The query, over `$1`,
/// `$2` .., is analysed as the current user. The function is the bootstrap superuser's, to be given to somebody.
pub fn create_sql(name: &str, takes: &[Oid], gives: &[Oid], query: &str) -> Result<()> {
    // SAFETY: the tree is analysed with the types of the parameters, which outlive the call, and handed over once.
    with_statement(query, |raw, text| unsafe {
        let query = pg_sys::parse_analyze_fixedparams(
            raw,
            text.as_ptr(),
            takes.as_ptr(),
            takes.len() as i32,
            std::ptr::null_mut(),
        );
        let mut statements = PgList::<pg_sys::Query>::new();
        statements.push(query);
        let mut body = PgList::<pg_sys::List>::new();
        body.push(statements.into_pg());
        let (result, body) = (pg_sys::RECORDOID, body.into_pg().cast());
        create(name, c"sql", &Shape { takes, gives, result, source: "", body, definer: false, cost: 100.0 })
    })
}

/// Creates `upkeep.name() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER`. Its text is not looked at before it is called.
/// The function is the bootstrap superuser's, to be given to somebody.
pub fn create_trigger(name: &str, source: &str) -> Result<()> {
    let body = std::ptr::null_mut();
    let result = pg_sys::TRIGGEROID;
    let shape = Shape { takes: &[], gives: &[], result, source, body, definer: true, cost: 100.0 };
    // SAFETY: there is no tree.
    unsafe { create(name, c"plpgsql", &shape) }
}

/// As the server's `CREATE FUNCTION` does it, without its look at the rights on the schema and the validator's at the body.
///
/// Safety: the body of `shape` is an analysed tree, or null.
unsafe fn create(name: &str, language: &std::ffi::CStr, shape: &Shape<'_>) -> Result<()> {
    let (name, source) = (to_c(name)?, to_c(shape.source)?);
    let none = Datum::null();
    let (types, modes) = if shape.gives.is_empty() {
        (none, none)
    } else {
        let types: Vec<Oid> = shape.takes.iter().chain(shape.gives).copied().collect();
        let modes: Vec<i8> =
            shape.takes.iter().map(|_| b'i' as i8).chain(shape.gives.iter().map(|_| b'o' as i8)).collect();
        (types.into_datum().unwrap_or(none), modes.into_datum().unwrap_or(none))
    };
    // SAFETY: everything that is handed over is copied, or lives in the current memory context.
    unsafe {
        let language = pg_sys::get_language_oid(language.as_ptr(), true);
        if language == Oid::INVALID {
            return Err(Error::new(UNDEFINED_OBJECT, "the language of a function is gone"));
        }
        let schema = pg_sys::get_namespace_oid(c"upkeep".as_ptr(), false);
        let created = pg_sys::ProcedureCreate(
            name.as_ptr(),
            schema,
            false,
            !shape.gives.is_empty(),
            shape.result,
            Oid::from(pg_sys::BOOTSTRAP_SUPERUSERID),
            language,
            Oid::INVALID,
            source.as_ptr(),
            std::ptr::null(),
            shape.body,
            pg_sys::PROKIND_FUNCTION as _,
            shape.definer,
            false,
            false,
            pg_sys::PROVOLATILE_VOLATILE as _,
            pg_sys::PROPARALLEL_UNSAFE as _,
            pg_sys::buildoidvector(shape.takes.as_ptr(), shape.takes.len() as i32),
            types,
            modes,
            none,
            std::ptr::null_mut(),
            none,
            #[cfg(feature = "pg18")]
            std::ptr::null_mut(),
            none,
            Oid::INVALID,
            shape.cost,
            if shape.gives.is_empty() { 0.0 } else { 1.0 },
        );
        if created.objectId == Oid::INVALID {
            return Err(Error::new(INTERNAL_ERROR, "a function could not be created"));
        }
        pg_sys::CommandCounterIncrement();
    }
    Ok(())
}
