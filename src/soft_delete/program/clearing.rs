//! ON DELETE SET NULL and SET DEFAULT: references to deleted rows are cleared, and remembered.

use super::children::Referencing;
use super::keys::{common, with_arrays};
use super::{Action, Clearing};
use crate::error::{Error, OBJECT_NOT_IN_PREREQUISITE_STATE, Result};
use crate::server::raw::Planned;
use crate::server::types;
use crate::soft_delete::managed::{self, ForeignKey, Operator};
use crate::sql::quote::{identifier, literal, qualified};

pub(super) fn clear(referencing: &Referencing<'_>) -> Result<Action> {
    let key = referencing.key;
    let child_key = managed::primary_key(key.child_root)?;
    if child_key.is_empty() {
        return Err(without_primary_key(key));
    }
    let (keys, columns) = (child_key.len(), key.set_columns.len());
    let clear = format!(
        "UPDATE {} AS c SET {} FROM {} WHERE {} RETURNING {}",
        referencing.table,
        set(key),
        referencing.rows,
        referencing.matching,
        returned(referencing, &child_key)
    );
    Ok(Action::Clear {
        child: key.child_root,
        clearing: Clearing {
            clear: Planned::new(clear, with_arrays(&referencing.used)),
            keys,
            columns,
            remember: Planned::new(remember(key, &child_key), common(&vec![types::TEXTARRAY; keys + 2 * columns])),
        },
    })
}

fn without_primary_key(key: &ForeignKey) -> Error {
    Error::new(
        OBJECT_NOT_IN_PREREQUISITE_STATE,
        format!(
            "table \"{}\" has no primary key, by which its cleared references could be found again",
            key.child_name
        ),
    )
    .detail(format!("Foreign key \"{}\" is ON DELETE SET NULL or SET DEFAULT.", key.name))
    .hint(format!("ALTER TABLE {} ADD PRIMARY KEY (..);", qualified(&key.child_schema, &key.child_name)))
}

fn set(key: &ForeignKey) -> String {
    let value = if key.on_delete == 'n' { "NULL" } else { "DEFAULT" };
    let set: Vec<String> = key.set_columns.iter().map(|name| format!("{} = {value}", identifier(name))).collect();
    set.join(", ")
}

/// As [`Clearing::clear`] says: the row's key, the values that were there, twice, and those that are there now.
fn returned(referencing: &Referencing<'_>, child_key: &[(String, Operator)]) -> String {
    let Referencing { key, table, .. } = referencing;
    let of_child = |name: &String| format!("c.{}", identifier(name));
    // As the row has it: equal is not the same (1.0 and 1.00, one month and 30 days). The statement's snapshot still shows it
    // to itself; unless a trigger has changed the row's key, or another transaction has just changed the row.
    let same: Vec<String> = child_key
        .iter()
        .map(|(name, equal)| {
            let name = identifier(name);
            equal.between((&format!("o.{name}"), ""), (&format!("c.{name}"), ""))
        })
        .collect();
    let own = |name: &String| format!("(SELECT o.{} FROM {table} AS o WHERE {})", identifier(name), same.join(" AND "));
    let of_parent =
        key.set_columns.iter().filter_map(|name| key.child_columns.iter().position(|column| column == name));
    let mut returned: Vec<String> = child_key.iter().map(|(name, _)| of_child(name)).collect();
    returned.extend(key.set_columns.iter().map(own));
    returned.extend(of_parent.map(|i| format!("d.k{i}")));
    returned.extend(key.set_columns.iter().map(of_child));
    returned.join(", ")
}

/// Takes an array of texts for each of the keys, the values that were there, and those that are there now.
fn remember(key: &ForeignKey, child_key: &[(String, Operator)]) -> String {
    let names = |names: &mut dyn Iterator<Item = &String>| {
        let quoted: Vec<String> = names.map(|name| literal(name)).collect();
        format!("ARRAY[{}]::pg_catalog.name[]", quoted.join(", "))
    };
    let (keys, columns) = (child_key.len(), key.set_columns.len());
    let texts = |from: usize, count: usize| {
        let texts: Vec<String> = (from..from + count).map(|i| format!("r.t{i}")).collect();
        format!("pg_catalog.jsonb_build_array({})", texts.join(", "))
    };
    let count = keys + 2 * columns;
    let arrays: Vec<String> = (0..count).map(|i| format!("pg_catalog.unnest(${})", 4 + i)).collect();
    let aliases: Vec<String> = (0..count).map(|i| format!("t{i}")).collect();
    // 0.5.0 had no such column.
    let (exact, is_exact) = if managed::is_up_to_date() { (", exact", ", true") } else { ("", "") };
    format!(
        "INSERT INTO upkeep._deletion_cleared
             (deletion, relid, conname, key_columns, columns, key, old_values, new_values{exact})
         SELECT $1, {}::pg_catalog.oid, {}, {}, {}, {}, {}, {}{is_exact} FROM ROWS FROM ({}) AS r ({})",
        key.child.to_u32(),
        literal(&key.name),
        names(&mut child_key.iter().map(|(name, _)| name)),
        names(&mut key.set_columns.iter()),
        texts(0, keys),
        texts(keys, columns),
        texts(keys + columns, columns),
        arrays.join(", "),
        aliases.join(", ")
    )
}
