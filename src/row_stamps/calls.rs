//! What SQL calls.

use super::{columns, store, target, trigger};
use std::ffi::CStr;

use pgrx::prelude::*;

use super::target::Table;
use super::trigger::{Role, Stamps};
use crate::calls::{arguments, standing};
use crate::ddl::{renamed, require_trigger};
use crate::error::{Error, NULL_VALUE_NOT_ALLOWED, Result, SERIALIZATION_FAILURE, UNDEFINED_OBJECT};
use crate::server::raise::answer;
use crate::server::{Oid, catalog};
use crate::sql::quote::identifier;

/// What is switched on and off together.
#[derive(Clone, Copy)]
enum Group {
    Timestamps,
    Userstamps,
    Version,
}

impl Group {
    fn roles(self) -> &'static [Role] {
        match self {
            Group::Timestamps => &[Role::CreatedAt, Role::UpdatedAt],
            Group::Userstamps => &[Role::CreatedBy, Role::UpdatedBy],
            Group::Version => &[Role::Version],
        }
    }

    fn function(self) -> &'static str {
        match self {
            Group::Timestamps => "timestamps",
            Group::Userstamps => "userstamps",
            Group::Version => "row_version",
        }
    }
}

#[pg_extern(sql = false)]
fn upkeep_enable_timestamps(
    target: Option<Oid>,
    created_at: Option<&CStr>,
    updated_at: Option<&CStr>,
    clock: Option<&str>,
    created_change: Option<&str>,
) {
    let enable = || {
        let clock = choice(clock, "clock", &["transaction", "statement", "clock"])?;
        let refuse = choice(created_change, "created_change", &["keep", "refuse"])? == "refuse";
        enable(target, Group::Timestamps, &[created_at, updated_at], |stamps| {
            clock.clone_into(&mut stamps.clock);
            stamps.refuse_created_at = refuse;
        })
    };
    answer(enable());
}

#[pg_extern(sql = false)]
fn upkeep_enable_userstamps(
    target: Option<Oid>,
    created_by: Option<&CStr>,
    updated_by: Option<&CStr>,
    created_change: Option<&str>,
) {
    let enable = || {
        let refuse = choice(created_change, "created_change", &["keep", "refuse"])? == "refuse";
        enable(target, Group::Userstamps, &[created_by, updated_by], |stamps| stamps.refuse_created_by = refuse)
    };
    answer(enable());
}

#[pg_extern(sql = false)]
fn upkeep_enable_row_version(target: Option<Oid>, mode: Option<&str>, version: Option<&CStr>, required: Option<bool>) {
    let enable = || {
        let mode = choice(mode, "mode", &["incremented", "echo"])?;
        let required = arguments::required(required, "required")?;
        enable(target, Group::Version, &[version], |stamps| {
            mode.clone_into(&mut stamps.mode);
            stamps.required = required;
        })
    };
    answer(enable());
}

#[pg_extern(sql = false)]
fn upkeep_disable_timestamps(target: Option<Oid>) {
    answer(disable(target, Group::Timestamps));
}

#[pg_extern(sql = false)]
fn upkeep_disable_userstamps(target: Option<Oid>) {
    answer(disable(target, Group::Userstamps));
}

#[pg_extern(sql = false)]
fn upkeep_disable_row_version(target: Option<Oid>) {
    answer(disable(target, Group::Version));
}

/// One of a few words.
fn choice<'a>(given: Option<&'a str>, argument: &str, known: &[&str]) -> Result<&'a str> {
    arguments::check_text(argument, given)?;
    arguments::one_of(arguments::required(given, argument)?, argument, known)
}

fn enable(target: Option<Oid>, group: Group, names: &[Option<&CStr>], set: impl Fn(&mut Stamps)) -> Result<()> {
    standing::refuse_in_recovery("enable row stamps")?;
    let mut wanted = Vec::new();
    for (&role, name) in group.roles().iter().zip(names) {
        if let Some(name) = name {
            wanted.push((role, trigger::column_name(role, name)?));
        }
    }
    if wanted.is_empty() {
        let roles: Vec<_> = group.roles().iter().map(|role| role.word()).collect();
        return Err(Error::new(NULL_VALUE_NOT_ALLOWED, format!("no column is named in {}", roles.join(" or ")))
            .hint(format!("SELECT upkeep.disable_{}('table'); takes the stamps off.", group.function())));
    }
    let table = target::check(target)?;
    // Looked at before the lock, and again after it: a column may have been added meanwhile.
    let exclusively = || Ok(!columns::missing(&table, &wanted)?.is_empty());
    require_trigger(table.relid, catalog::current_user(), None)?;
    table.while_locked(exclusively, |table, exclusively| enable_now(table, exclusively, group, &wanted, &set))
}

fn enable_now(
    table: &Table,
    exclusively: bool,
    group: Group,
    wanted: &[(Role, String)],
    set: impl Fn(&mut Stamps),
) -> Result<()> {
    let change = |stamps: &mut Stamps| {
        for &role in group.roles() {
            stamps.forget(role);
        }
        for (role, name) in wanted {
            stamps.columns.insert(*role, name.clone());
        }
        set(stamps);
    };
    target::check(Some(table.relid))?;
    require_trigger(table.relid, catalog::current_user(), None)?;
    let missing = columns::missing(table, wanted)?;
    if !missing.is_empty() && !exclusively {
        return Err(dropped_meanwhile(table, &missing));
    }
    let mut changed = Vec::new();
    for each in table.with_children()? {
        let each = each.named()?;
        let mut stamps = store::read(each.relid)?.unwrap_or_default();
        change(&mut stamps);
        stamps.check(&each.sql)?;
        changed.push((each, stamps));
    }
    columns::add(table, &missing)?;
    for (each, stamps) in &changed {
        store::write(each, stamps)?;
        if store::read(each.relid)?.is_none_or(|written| written.columns != stamps.columns) {
            return Err(renamed(&each.sql));
        }
    }
    if columns::missing(table, wanted)?.is_empty() { Ok(()) } else { Err(renamed(&table.sql)) }
}

/// Its lock is not the one under which columns are added.
fn dropped_meanwhile(table: &Table, missing: &[(Role, String)]) -> Error {
    let names: Vec<_> = missing.iter().map(|(_, name)| identifier(name)).collect();
    Error::new(SERIALIZATION_FAILURE, format!("columns of {} were dropped meanwhile: {}", table.sql, names.join(", ")))
        .hint("Call it again: they are added.")
}

fn disable(target: Option<Oid>, group: Group) -> Result<()> {
    standing::refuse_in_recovery("disable row stamps")?;
    let table = target::check(target)?;
    table.while_locked(|| Ok(true), |table, _| disable_now(table, group))
}

fn disable_now(table: &Table, group: Group) -> Result<()> {
    target::check(Some(table.relid))?;
    let without = |relid: Oid| -> Result<Option<Stamps>> {
        let Some(mut stamps) = store::read(relid)? else { return Ok(None) };
        let before = stamps.columns.len();
        for &role in group.roles() {
            stamps.forget(role);
        }
        Ok((stamps.columns.len() != before).then_some(stamps))
    };
    let mut found = false;
    for each in table.with_children()? {
        if without(each.relid)?.is_none() {
            continue;
        }
        let each = each.named()?;
        let Some(stamps) = without(each.relid)? else { continue };
        found = true;
        if stamps.columns.is_empty() {
            store::remove(&each)?
        } else {
            store::write(&each, &stamps)?
        }
        if without(each.relid)?.is_some() {
            return Err(renamed(&each.sql));
        }
    }
    if found { Ok(()) } else { Err(not_enabled(table, group)) }
}

fn not_enabled(table: &Table, group: Group) -> Error {
    let what = match group {
        Group::Timestamps => "timestamps",
        Group::Userstamps => "user stamps",
        Group::Version => "row version",
    };
    Error::new(UNDEFINED_OBJECT, format!("{} has no {what}", table.sql)).hint("SELECT * FROM upkeep.row_stamps;")
}
