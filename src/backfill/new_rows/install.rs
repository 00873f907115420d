//! Creating the trigger, all of it in one step's transaction.

use pgrx::Uuid;

use super::Names;
use super::columns::columns;
use super::text::{self, Text};
use crate::backfill::definition::Definition;
use crate::ddl::{self, Attempt, Blocked, Tries, Wanted, keep_schema};
use crate::error::{
    Error, INSUFFICIENT_PRIVILEGE, INTERNAL_ERROR, OBJECT_NOT_IN_PREREQUISITE_STATE, Result, UNDEFINED_TABLE,
};
use crate::jobs::clean_up;
use crate::server::deparse::{self, Filling};
use crate::server::function::{create_sql, create_trigger};
use crate::server::table_lock::Mode;
use crate::server::{Oid, catalog, heap, spi};
use crate::sql::fragments;
use crate::sql::quote::identifier;

pub enum Installed {
    /// It was there.
    Already,
    /// Created on these tables.
    Now(Vec<String>),
    /// Somebody is in the way: try again later.
    Blocked(Blocked),
    /// The job was canceled or paused meanwhile.
    Unwanted,
}

/// Creates the trigger on the tables that lack it, as the current user, who owns the job. The job is marked to be
/// cleaned up in the same transaction.
pub fn install(job: Uuid, relids: &[Oid], definition: &Definition, tries: &Tries) -> Result<Installed> {
    let names = Names::of(job);
    let wanted = wanted(&lacking(&names, relids)?);
    if wanted.is_empty() {
        return Ok(Installed::Already);
    }
    for wanted in &wanted {
        check_rights(wanted.relid)?;
    }
    let installed = ddl::attempt(&wanted, tries, || {
        if !spi::bookkeeping(|| clean_up::will_need_cleanup(job))? {
            return Ok(Installed::Unwanted);
        }
        // Looked at again: another worker may have been first, and had the job's row locked until now.
        let lacking = lacking(&names, relids)?;
        if lacking.is_empty() {
            return Ok(Installed::Already);
        }
        for &relid in &lacking {
            if !heap::exists(relid) {
                return Err(Error::new(UNDEFINED_TABLE, "a table was dropped before its trigger could be created"));
            }
            keep_schema(relid)?;
        }
        create(job, &names, relids, &lacking, definition).map(Installed::Now)
    })?;
    Ok(match installed {
        Attempt::Done(installed) => installed,
        Attempt::Blocked(blocked) => Installed::Blocked(blocked),
    })
}

/// As CREATE TRIGGER locks them. Partitions get the trigger of their parent.
fn wanted(relids: &[Oid]) -> Vec<Wanted> {
    let wanted =
        |&relid: &Oid| Wanted { relid, mode: Mode::ShareRowExclusive, with_children: heap::is_partitioned(relid) };
    relids.iter().map(wanted).collect()
}

/// Nobody waits behind somebody who may not create the trigger any more.
fn check_rights(relid: Oid) -> Result<()> {
    let may = spi::query_one("SELECT pg_catalog.has_table_privilege($1, 'TRIGGER')", &[relid.into()], |row| {
        row.get::<bool>(1)
    })?;
    // What is gone is found out under the locks.
    if may.flatten() != Some(false) {
        return Ok(());
    }
    let (schema, name) = heap::name(relid).unwrap_or_default();
    Err(Error::new(
        INSUFFICIENT_PRIVILEGE,
        format!("no trigger may be created on {}", pgrx::spi::quote_qualified_identifier(schema, name)),
    )
    .detail("The job's owner had the right to when it was asked for.")
    .hint("GRANT TRIGGER ON that table TO the job's owner; then upkeep.retry()."))
}

/// Those of the tables that have no trigger of the job's, in the order in which everybody should lock them.
fn lacking(names: &Names, relids: &[Oid]) -> Result<Vec<Oid>> {
    spi::bookkeeping(|| {
        spi::execute_returning(
            "SELECT r.relid FROM pg_catalog.unnest($1) r (relid)
             WHERE NOT EXISTS (
                 SELECT FROM pg_catalog.pg_trigger t
                 JOIN pg_catalog.pg_proc p ON p.oid OPERATOR(pg_catalog.=) t.tgfoid
                 WHERE t.tgrelid OPERATOR(pg_catalog.=) r.relid
                   AND p.proname OPERATOR(pg_catalog.=) $2
                   AND p.pronamespace OPERATOR(pg_catalog.=) 'upkeep'::pg_catalog.regnamespace)
             ORDER BY r.relid",
            &[relids.to_vec().into(), names.function.as_str().into()],
            |row| row.require(1),
        )
    })
}

fn create(job: Uuid, names: &Names, relids: &[Oid], lacking: &[Oid], definition: &Definition) -> Result<Vec<String>> {
    let root = relids.first().copied().unwrap_or(Oid::INVALID);
    let (schema, name) = heap::name(root).ok_or_else(changed)?;
    let table = pgrx::spi::quote_qualified_identifier(schema, name);
    let update = fragments::update(&table, &definition.assignments, definition.condition.as_deref());
    let filling = deparse::filling(update.text(), root)?;
    let columns = columns(root)?;
    let simple = is_simple(&filling)?;
    let text = Text::new(names, &filling, &columns, simple).ok_or_else(changed)?;
    if function(&names.function)?.is_none() {
        create_functions(names, &text)?;
    }
    let mut tables = Vec::new();
    for &relid in lacking {
        let (schema, name) = heap::name(relid).ok_or_else(changed)?;
        let table = pgrx::spi::quote_qualified_identifier(&schema, &name);
        spi::unambiguous(|| spi::execute(&text.create_trigger(&table, &job.to_string()), &[]))?;
        tables.push(table);
    }
    Ok(tables)
}

fn changed() -> Error {
    Error::new(OBJECT_NOT_IN_PREREQUISITE_STATE, "the table has changed since the job was created")
        .hint("Look at the definition, cancel this job and start a new one.")
}

/// The values are analysed as the current user, who owns the job, and never again: reading a literal can run his code.
/// Under the switch, because only we may create anything in our schema, nothing is done but DDL on names of ours.
fn create_functions(names: &Names, text: &Text<'_>) -> Result<()> {
    let owner = catalog::role_name(catalog::current_user()).unwrap_or_default();
    let owner = identifier(&owner);
    let values = text.values().ok_or_else(changed)?;
    spi::bookkeeping(|| spi::execute(&format!("DROP FUNCTION IF EXISTS upkeep.\"{}\"", names.values), &[]))?;
    spi::unambiguous(|| create_sql(&names.values, &text.takes(), &text.gives(), &values))?;
    create_trigger(&names.function, &text.function())?;
    spi::bookkeeping(|| {
        for name in [&names.values, &names.function] {
            spi::execute(&format!("REVOKE ALL ON FUNCTION upkeep.\"{name}\" FROM PUBLIC"), &[])?;
            spi::execute(&format!("ALTER FUNCTION upkeep.\"{name}\" OWNER TO {owner}"), &[])?;
        }
        Ok(())
    })?;
    let missing = || Error::new(INTERNAL_ERROR, "a function that was just created is not there");
    let function_oid = function(&names.function)?.ok_or_else(missing)?;
    catalog::let_function_need(function_oid, function(&names.values)?.ok_or_else(missing)?);
    // Outside of the switch, where the settings are the ones that were captured with the job.
    spi::set_transaction("search_path", &text::with_temporary_last(&catalog::setting(c"search_path")));
    let settings: String = SETTINGS.iter().map(|name| format!(" SET \"{name}\" FROM CURRENT")).collect();
    spi::theirs::execute(&format!("ALTER FUNCTION upkeep.\"{}\"(){FIXED}{settings}", names.function), &[])?;
    Ok(())
}

/// Planned once for all values: planned for one, `10 / n` would be computed before any CASE around it.
const FIXED: &str =
    " SET row_security TO on SET standard_conforming_strings TO on SET plan_cache_mode TO force_generic_plan";

/// What functions that the expressions call may depend on: the settings captured with a job (LAW 8), and how values
/// become text.
const SETTINGS: [&str; 7] = [
    "search_path",
    "TimeZone",
    "DateStyle",
    "IntervalStyle",
    "default_text_search_config",
    "extra_float_digits",
    "bytea_output",
];

fn function(name: &str) -> Result<Option<Oid>> {
    spi::bookkeeping(|| {
        let found = spi::execute_returning(
            "SELECT p.oid FROM pg_catalog.pg_proc p
             WHERE p.proname OPERATOR(pg_catalog.=) $1
               AND p.pronamespace OPERATOR(pg_catalog.=) 'upkeep'::pg_catalog.regnamespace",
            &[name.into()],
            |row| row.require(1),
        )?;
        Ok(found.into_iter().next())
    })
}

/// Can the trigger's WHEN say it? It is evaluated as the writer, under his settings: only functions of the server's
/// that everybody may call and that depend on nothing else.
fn is_simple(filling: &Filling) -> Result<bool> {
    let Some((functions, operators)) = text::called(&filling.condition_tree) else { return Ok(false) };
    let oids = |numbers: Vec<u32>| numbers.into_iter().map(Oid::from).collect::<Vec<_>>();
    let simple = spi::bookkeeping(|| {
        spi::query_one(
            "SELECT coalesce(pg_catalog.bool_and(
                        p.oid OPERATOR(pg_catalog.<) 16384::pg_catalog.oid
                        AND p.provolatile OPERATOR(pg_catalog.=) 'i'
                        AND pg_catalog.has_function_privilege('public', p.oid, 'EXECUTE')), true)
             FROM pg_catalog.pg_proc p
             WHERE p.oid OPERATOR(pg_catalog.=) ANY ($1)
                OR p.oid OPERATOR(pg_catalog.=) ANY (
                    SELECT o.oprcode::pg_catalog.oid FROM pg_catalog.pg_operator o
                    WHERE o.oid OPERATOR(pg_catalog.=) ANY ($2))",
            &[oids(functions).into(), oids(operators).into()],
            |row| row.require(1),
        )
    })?;
    Ok(simple.unwrap_or(false))
}
