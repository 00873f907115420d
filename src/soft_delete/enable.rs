//! `upkeep.enable_soft_delete`.

use std::ffi::CStr;

use pgrx::datum::Interval;
use pgrx::prelude::*;
use pgrx::spi::quote_identifier;

use super::managed::{self, Managed};
use super::{ddl, objects, program};
use crate::calls::{arguments, relation, standing};
use crate::ddl::{in_callers_transaction, keep_schema};
use crate::error::*;
use crate::server::raise::{self, Level, answer};
use crate::server::{Oid, catalog, encoding, heap, spi};
use crate::sql::quote::{identifier, literal, qualified};

struct Request<'a> {
    hide: &'a str,
    deleted_at: &'a str,
    deleted_by: &'a str,
    deletion_id: &'a str,
    flag: Option<&'a str>,
    retention: Option<Interval>,
    on_unmanaged: &'a str,
}

#[pg_extern(sql = false)]
#[allow(clippy::too_many_arguments)]
fn upkeep_enable_soft_delete(
    target: Option<Oid>,
    hide: Option<&str>,
    deleted_at: Option<&CStr>,
    deleted_by: Option<&CStr>,
    deletion_id: Option<&CStr>,
    flag: Option<&CStr>,
    retention: Option<Interval>,
    on_unmanaged: Option<&str>,
) {
    let name = |name: Option<&CStr>| name.map(|name| encoding::from_server(name.to_bytes()));
    let (at, by, id, flag) = (name(deleted_at), name(deleted_by), name(deletion_id), name(flag));
    answer((|| {
        arguments::check_text("hide", hide)?;
        arguments::check_text("on_unmanaged", on_unmanaged)?;
        enable(
            arguments::required(target, "target")?,
            &Request {
                hide: arguments::required(hide, "hide")?,
                deleted_at: arguments::required(at.as_deref(), "deleted_at")?,
                deleted_by: arguments::required(by.as_deref(), "deleted_by")?,
                deletion_id: arguments::required(id.as_deref(), "deletion_id")?,
                flag: flag.as_deref(),
                retention,
                on_unmanaged: arguments::required(on_unmanaged, "on_unmanaged")?,
            },
        )
    })())
}

struct Class {
    schema: String,
    name: String,
    kind: String,
    owner: Oid,
    may: bool,
    partition: bool,
    inherits: bool,
    temporary: bool,
    published: bool,
    partition_columns: Vec<String>,
    deferrable_key: Option<String>,
}

const CLASS: &str = "
    SELECT n.nspname::pg_catalog.text, c.relname::pg_catalog.text, c.relkind::pg_catalog.text, c.relowner,
           pg_catalog.pg_has_role(c.relowner, 'USAGE'), c.relispartition,
           EXISTS (SELECT FROM pg_catalog.pg_inherits i
                   WHERE (i.inhrelid OPERATOR(pg_catalog.=) c.oid AND NOT c.relispartition)
                      OR (i.inhparent OPERATOR(pg_catalog.=) c.oid AND c.relkind OPERATOR(pg_catalog.<>) 'p')),
           c.relpersistence OPERATOR(pg_catalog.=) 't',
           EXISTS (SELECT FROM pg_catalog.pg_publication_tables p
                   WHERE p.schemaname OPERATOR(pg_catalog.=) n.nspname AND p.tablename OPERATOR(pg_catalog.=) c.relname),
           ARRAY(SELECT a.attname::pg_catalog.text FROM pg_catalog.pg_partitioned_table p
                 JOIN pg_catalog.pg_attribute a ON a.attrelid OPERATOR(pg_catalog.=) p.partrelid
                      AND a.attnum OPERATOR(pg_catalog.=) ANY (p.partattrs::pg_catalog.int2[])
                 WHERE p.partrelid OPERATOR(pg_catalog.=) c.oid),
           (SELECT k.conname::pg_catalog.text FROM pg_catalog.pg_constraint k
            WHERE k.conrelid OPERATOR(pg_catalog.=) c.oid AND k.contype OPERATOR(pg_catalog.=) 'p' AND k.condeferrable)
    FROM pg_catalog.pg_class c
    JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace
    WHERE c.oid OPERATOR(pg_catalog.=) $1";

fn class(relid: Oid) -> Result<Class> {
    spi::query_one(CLASS, &[relid.into()], |row| {
        Ok(Class {
            schema: row.next()?,
            name: row.next()?,
            kind: row.next()?,
            owner: row.next()?,
            may: row.next()?,
            partition: row.next()?,
            inherits: row.next()?,
            temporary: row.next()?,
            published: row.next()?,
            partition_columns: row.next()?,
            deferrable_key: row.next_or_null()?,
        })
    })?
    .ok_or_else(|| relation::missing(relid))
}

/// Whoever owns the table, or is a member of its owner.
pub fn require_owner(may: bool, table: &str) -> Result<()> {
    if may {
        return Ok(());
    }
    Err(Error::new(INSUFFICIENT_PRIVILEGE, format!("must be owner of table {table}")))
}

/// Before the table's lock is waited for, so that nobody waits for what is not his; and again under it, which is what counts.
pub fn require_owner_of(managed: &Managed) -> Result<()> {
    require_owner(catalog::has_privileges_of(catalog::current_user(), managed.owner), &managed.sql())
}

fn check(relid: Oid, class: &Class, request: &Request<'_>) -> Result<()> {
    let table = qualified(&class.schema, &class.name);
    if class.may {
        refuse_enabled(relid, &table)?;
    }
    if !matches!(&*class.kind, "r" | "p") {
        return Err(Error::new(WRONG_OBJECT_TYPE, format!("{table} is not a table"))
            .hint("Name an ordinary or a partitioned table."));
    }
    if class.schema == "upkeep" || relid.to_u32() < crate::server::catalog::FIRST_NORMAL_OID {
        return Err(Error::new(INSUFFICIENT_PRIVILEGE, format!("{table} is not a table of yours")));
    }
    require_owner(class.may, &table)?;
    check_words(request)?;
    check_kind(class, request, &table)?;
    check_published(class, request, &table)?;
    check_primary_key(relid, class, &table)?;
    check_names(class, request.hide)?;
    check_unmanaged(relid, &table, request.on_unmanaged)
}

fn check_words(request: &Request<'_>) -> Result<()> {
    arguments::one_of(request.hide, "hide", &["live_view", "swap", "swap_published", "none"])?;
    arguments::one_of(request.on_unmanaged, "on_unmanaged", &["refuse", "restrict", "ignore"]).map(drop)
}

fn refuse_enabled(relid: Oid, table: &str) -> Result<()> {
    // By the name of its live view, too: with hide => 'swap' that is the one that the table had.
    if managed::find_whole(relid)?.is_some() {
        return Err(Error::new(DUPLICATE_OBJECT, format!("soft delete is enabled on {table} already")).hint(format!(
            "To enable it in another way: SELECT upkeep.disable_soft_delete({}, 'keep');",
            literal(table)
        )));
    }
    Ok(())
}

/// Kinds of tables that cannot have it.
fn check_kind(class: &Class, request: &Request<'_>, table: &str) -> Result<()> {
    let no = |why: &str| Err(Error::new(FEATURE_NOT_SUPPORTED, format!("{table} {why}")));
    if class.partition {
        return no("is a partition").map_err(|error: Error| error.hint("Name the partitioned table."));
    }
    if class.inherits {
        return no("is a parent or a child by inheritance").map_err(|error: Error| {
            error
                .detail("Keys and triggers of a table do not hold for those that inherit from it.")
                .hint(format!("Make it a partitioned table, or: ALTER TABLE .. NO INHERIT {table};"))
        });
    }
    if class.temporary {
        return no("is a temporary table");
    }
    let of_ours: Vec<&str> =
        [request.deleted_at, request.deleted_by, request.deletion_id].into_iter().chain(request.flag).collect();
    if class.partition_columns.iter().any(|column| of_ours.contains(&&**column)) {
        return no("is partitioned by a column that a deletion sets");
    }
    Ok(())
}

/// Subscribers know a table by its name.
fn check_published(class: &Class, request: &Request<'_>, table: &str) -> Result<()> {
    if request.hide == "swap" && class.published {
        let renamed = qualified(&class.schema, &objects::with_ending(&class.name, "_all"));
        return Err(Error::new(OBJECT_NOT_IN_PREREQUISITE_STATE, format!("{table} is in a publication"))
            .detail(format!("Subscribers know {table} by its name, which would change to {renamed}."))
            .hint(format!(
                "To keep the name: SELECT upkeep.enable_soft_delete({0}, hide => 'live_view'); With subscribers that have renamed \
                 theirs to {renamed}: SELECT upkeep.enable_soft_delete({0}, hide => 'swap_published');",
                literal(table)
            )));
    }
    Ok(())
}

fn check_primary_key(relid: Oid, class: &Class, table: &str) -> Result<()> {
    if managed::primary_key(relid)?.is_empty() {
        let (what, hint) = match &class.deferrable_key {
            None => ("has no primary key", format!("ALTER TABLE {table} ADD PRIMARY KEY (..);")),
            Some(key) => (
                "has a deferrable primary key",
                format!("ALTER TABLE {table} DROP CONSTRAINT {}, ADD PRIMARY KEY (..);", identifier(key)),
            ),
        };
        return Err(Error::new(OBJECT_NOT_IN_PREREQUISITE_STATE, format!("{table} {what}"))
            .detail("Deleted rows are told apart by it, at every moment.")
            .hint(hint));
    }
    Ok(())
}

/// What the views, and a swapped table, will be called is free.
fn check_names(class: &Class, hide: &str) -> Result<()> {
    let endings = match hide {
        "none" => return Ok(()),
        "live_view" => ["_live", "_deleted"],
        _ => ["_all", "_deleted"],
    };
    let names = endings.map(|ending| objects::with_ending(&class.name, ending));
    let taken = spi::query_one(
        "SELECT c.relname::pg_catalog.text,
                CASE c.relkind WHEN 'v' THEN 'VIEW' WHEN 'm' THEN 'MATERIALIZED VIEW' WHEN 'f' THEN 'FOREIGN TABLE'
                               WHEN 'S' THEN 'SEQUENCE' WHEN 'c' THEN 'TYPE'
                               WHEN 'i' THEN 'INDEX' WHEN 'I' THEN 'INDEX' ELSE 'TABLE' END
         FROM pg_catalog.pg_class c
         JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace
         WHERE n.nspname OPERATOR(pg_catalog.=) $1::pg_catalog.name
           AND c.relname OPERATOR(pg_catalog.=) ANY ($2::pg_catalog.name[]) ORDER BY 1",
        &[class.schema.as_str().into(), names.to_vec().into()],
        |row| Ok((row.require::<String>(1)?, row.require::<String>(2)?)),
    )?;
    match taken {
        None => Ok(()),
        Some((name, kind)) => {
            let taken = qualified(&class.schema, &name);
            Err(Error::new(DUPLICATE_TABLE, format!("relation {taken} already exists"))
                .detail("A view of soft delete, or the table itself, would have that name.")
                .hint(if kind == "VIEW" {
                    format!("Rename it, or drop it if an extension that was dropped has left it: DROP VIEW {taken};")
                } else {
                    format!("Rename it: ALTER {kind} {taken} RENAME TO ..;")
                }))
        }
    }
}

fn check_unmanaged(relid: Oid, table: &str, on_unmanaged: &str) -> Result<()> {
    if on_unmanaged != "refuse" {
        return Ok(());
    }
    let mut unmanaged: Vec<String> = managed::referencing(relid)?
        .into_iter()
        .filter(|key| key.on_delete == 'c' && !key.child_managed && key.child_root != relid)
        .map(|key| qualified(&key.child_schema, &key.child_name))
        .collect();
    unmanaged.dedup();
    let Some(first) = unmanaged.first() else { return Ok(()) };
    Err(Error::new(
        OBJECT_NOT_IN_PREREQUISITE_STATE,
        format!("tables without soft delete reference {table} ON DELETE CASCADE"),
    )
    .detail(format!(
        "They are: {}. Their rows would have to go for good with a row that may come back.",
        unmanaged.join(", ")
    ))
    .hint(format!(
        "Enable it on them first: SELECT upkeep.enable_soft_delete({}); or say what is to be done: \
        on_unmanaged => 'restrict' or 'ignore'.",
        literal(first)
    )))
}

/// A live row has no value in it, unless it is the flag, and we write it.
fn require_free(relid: Oid, table: &str, name: &str, definition: &str) -> Result<()> {
    let found = spi::query_one(
        "SELECT a.attnotnull, a.attgenerated OPERATOR(pg_catalog.<>) '' FROM pg_catalog.pg_attribute a
         WHERE a.attrelid OPERATOR(pg_catalog.=) $1 AND a.attname OPERATOR(pg_catalog.=) $2",
        &[relid.into(), name.into()],
        |row| Ok((row.require::<bool>(1)?, row.require::<bool>(2)?)),
    )?;
    let (not_null, generated) = found.unwrap_or_default();
    if generated {
        return Err(Error::new(DATATYPE_MISMATCH, format!("column \"{name}\" of {table} is generated"))
            .detail("A deletion sets it.")
            .hint("Name another column, which is added if it is not there."));
    }
    if not_null && !definition.contains("NOT NULL") {
        return Err(Error::new(DATATYPE_MISMATCH, format!("column \"{name}\" of {table} is NOT NULL"))
            .detail("It is null in every live row.")
            .hint("Name another column, which is added if it is not there."));
    }
    Ok(())
}

/// Adds a column that is missing; one that is there must be of one of these types.
fn column(relid: Oid, table: &str, owner: Oid, name: &str, definition: &str, fit: &[&str]) -> Result<()> {
    let there = managed::columns(relid)?.into_iter().find(|column| column.name == name);
    match there {
        Some(column) if fit.contains(&&*column.type_sql) => require_free(relid, table, name, definition),
        Some(column) => {
            Err(Error::new(DATATYPE_MISMATCH, format!("column \"{name}\" of {table} is of type {}", column.type_sql))
                .detail(format!("For soft delete it must be {}.", fit.join(" or ")))
                .hint("Name another column, which is added if it is not there."))
        }
        None => {
            crate::ddl::require_owner(relid, owner)?;
            let sql = format!("ALTER TABLE {table} ADD COLUMN {} {definition}", identifier(name));
            spi::as_owner(owner, || spi::execute(&sql, &[])).map(drop)
        }
    }
}

fn enable(relid: Oid, request: &Request<'_>) -> Result<()> {
    standing::refuse_in_recovery("enable soft delete")?;
    standing::refuse_other_version()?;
    let class = class(relid)?;
    check(relid, &class, request)?;
    let table = qualified(&class.schema, &class.name);
    in_callers_transaction(&table, || objects::wanted_to_enable(relid), || enable_now(relid, request))
}

fn enable_now(relid: Oid, request: &Request<'_>) -> Result<()> {
    if !heap::exists(relid) {
        return Err(Error::new(UNDEFINED_TABLE, "the table was dropped meanwhile"));
    }
    keep_schema(relid)?;
    // Again, now that nobody can change it.
    let class = class(relid)?;
    check(relid, &class, request)?;
    let table = qualified(&class.schema, &class.name);
    let add = |name: &str, definition: &str, fit: &[&str]| column(relid, &table, class.owner, name, definition, fit);
    add(request.deleted_at, "timestamp with time zone", &["timestamp with time zone", "timestamp without time zone"])?;
    add(request.deleted_by, "text", &["text", "name", "character varying"])?;
    add(request.deletion_id, "uuid", &["uuid"])?;
    if let Some(flag) = request.flag {
        add(flag, "boolean NOT NULL DEFAULT false", &["boolean"])?;
        check_flag(&table, &class, request, flag)?;
    }
    let swap = request.hide.starts_with("swap");
    let relname = if swap { objects::with_ending(&class.name, "_all") } else { class.name.clone() };
    if swap {
        let rename = format!("ALTER TABLE {table} RENAME TO {}", identifier(&relname));
        spi::as_owner(class.owner, || spi::execute(&rename, &[]))?;
    }
    let hide = if swap { "swap" } else { request.hide };
    spi::bookkeeping(ddl::follow::sweep)?;
    store(relid, &class.name, hide, request)?;
    let managed =
        managed::find(relid)?.ok_or_else(|| Error::new(INTERNAL_ERROR, "what was just stored is not there"))?;
    if hide != "none" {
        let live = if swap { class.name.clone() } else { objects::with_ending(&class.name, "_live") };
        ddl::views::make(&managed, &managed.schema, &live, true)?;
        ddl::views::make(&managed, &managed.schema, &objects::with_ending(&class.name, "_deleted"), false)?;
    }
    if let Some(taken) = objects::ensure(&managed)?.first() {
        return Err(taken.error());
    }
    super::retention::begin(&managed)?;
    // Finds out now what could not be done later.
    program::build(relid)?;
    tell_of_full_keys(&managed, class.kind == "p")
}

/// Deleted rows keep their values of these keys from new ones.
fn tell_of_full_keys(managed: &Managed, partitioned: bool) -> Result<()> {
    let names = spi::query_one(
        "SELECT pg_catalog.string_agg(x.relname::pg_catalog.text, ', ' ORDER BY x.relname)
         FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class x ON x.oid OPERATOR(pg_catalog.=) i.indexrelid
         WHERE i.indrelid OPERATOR(pg_catalog.=) $1 AND i.indisunique AND NOT i.indisprimary AND i.indpred IS NULL",
        &[managed.relid.into()],
        |row| row.get::<String>(1),
    )?;
    let Some(names) = names.flatten() else { return Ok(()) };
    let table = managed.sql();
    let hint = if partitioned {
        format!(
            "For each: CREATE UNIQUE INDEX CONCURRENTLY .. WHERE {at} IS NULL on each partition, \
            then CREATE UNIQUE INDEX .. WHERE {at} IS NULL on {table}, then drop the full one.",
            at = quote_identifier(&managed.deleted_at)
        )
    } else {
        format!("SELECT upkeep.make_unique_keys_partial({}); makes them keys of live rows.", literal(&table))
    };
    raise::report(
        Level::Notice,
        Error::new(SUCCESSFUL_COMPLETION, format!("unique keys of {table} hold for deleted rows as well: {names}"))
            .detail("An INSERT that repeats a deleted row's value is refused, and so is an upsert that meets it.")
            .hint(hint),
    );
    Ok(())
}

fn check_flag(table: &str, class: &Class, request: &Request<'_>, flag: &str) -> Result<()> {
    let (at, flag) = (identifier(request.deleted_at), identifier(flag));
    let apart = spi::theirs::as_owner(class.owner, || {
        spi::theirs::execute_returning(
            &format!(
                "SELECT EXISTS (SELECT FROM {table} AS t
                     WHERE (t.{at} IS NULL AND t.{flag} IS NOT FALSE) OR (t.{at} IS NOT NULL AND t.{flag} IS NOT TRUE))"
            ),
            &[],
            |row| row.require::<bool>(1),
        )
    })?;
    if apart != [true] {
        return Ok(());
    }
    Err(Error::new(OBJECT_NOT_IN_PREREQUISITE_STATE, format!("columns {flag} and {at} of {table} do not say the same"))
        .hint(format!(
            "First have both columns and: UPDATE {table} SET {at} = CASE WHEN {flag} THEN coalesce({at}, now()) END, \
            {flag} = coalesce({flag}, false);"
        )))
}

fn store(relid: Oid, name: &str, hide: &str, request: &Request<'_>) -> Result<()> {
    spi::bookkeeping(|| {
        spi::execute(
            "INSERT INTO upkeep._soft_delete_table
                 (relid, name, hide, deleted_at, deleted_by, deletion_id, flag, retention, on_unmanaged, row_type)
             SELECT $1::pg_catalog.oid, $2::pg_catalog.text, $3, $4::pg_catalog.text, $5::pg_catalog.text,
                    $6::pg_catalog.text, $7::pg_catalog.text, $8, $9, c.reltype
             FROM pg_catalog.pg_class c WHERE c.oid OPERATOR(pg_catalog.=) $1::pg_catalog.oid",
            &[
                relid.into(),
                name.into(),
                hide.into(),
                request.deleted_at.into(),
                request.deleted_by.into(),
                request.deletion_id.into(),
                request.flag.into(),
                request.retention.into(),
                request.on_unmanaged.into(),
            ],
        )
    })
    .map(drop)
}
