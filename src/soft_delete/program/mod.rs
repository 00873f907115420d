//! The statements of soft delete for one relation: what the engine (`soft_delete::raw`) runs in other people's
//! statements. Parameters 1 to 3 are always the deletion's id, when, and who; what follows are the keys, an array a column.

use std::ffi::CString;

use pgrx::spi::quote_identifier;

use super::managed::{self, Column, ForeignKey, Managed, Operator};
use crate::error::{Error, FEATURE_NOT_SUPPORTED, INTERNAL_ERROR, OBJECT_NOT_IN_PREREQUISITE_STATE, Result};
use crate::server::named::objects::Objects;
use crate::server::raw::Planned;
use crate::server::{Oid, catalog, encoding, heap, spi, types, view};
use crate::sql::quote::{identifier, literal, qualified};

/// What arrays of keys are told apart by, never by their place: foreign keys are added, renamed and dropped meanwhile.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct KeyColumn {
    /// In the table (not a view or a partition of it).
    pub number: i16,
    /// The type of arrays of it.
    pub array_oid: Oid,
}

impl From<&Column> for KeyColumn {
    fn from(column: &Column) -> Self {
        KeyColumn { number: column.number, array_oid: column.array_oid }
    }
}

/// A key column of the table, and where it is in the relation whose rows a trigger sees.
pub struct Key {
    pub column: KeyColumn,
    pub number: i16,
    pub type_oid: Oid,
    pub by_value: bool,
    pub length: i16,
}

impl Key {
    fn of(column: &Column) -> Self {
        Key {
            column: column.into(),
            number: column.number,
            type_oid: column.type_oid,
            by_value: column.by_value,
            length: column.length,
        }
    }
}

/// What a deleted row means for what references it.
pub enum Action {
    /// Live rows go too; `child` is the table with soft delete, its `keys` come back.
    Cascade { child: Oid, statement: Planned, keys: Vec<KeyColumn> },
    /// References are cleared, and remembered.
    Clear { child: Oid, clearing: Clearing },
    /// No live row may be there: now (RESTRICT), or once everything else is done.
    Refuse { now: bool, statement: Planned, names_table: bool, refusal: Refusal },
    /// Its table has no soft delete, and was to be ignored.
    Nothing,
}

/// How references are cleared.
pub struct Clearing {
    /// The UPDATE. It returns of each row its `keys`, `columns` values that it had (of the row itself, and as the deleted row
    /// has them), and those that it has now. They become text outside of it, under settings which no trigger may see.
    pub clear: Planned,
    pub keys: usize,
    pub columns: usize,
    pub remember: Planned,
}

/// What a refusal says.
pub struct Refusal {
    pub sqlstate: &'static std::ffi::CStr,
    pub message: CString,
    pub hint: Option<CString>,
    pub schema: CString,
    pub table: CString,
    pub constraint: CString,
}

pub struct Child {
    /// The table that the statements of `action` name.
    pub relid: Oid,
    /// When this was put together. What is done is done as the owner under the lock (`raw::become_owner`), as the server's
    /// own foreign keys do it.
    pub owner: Oid,
    /// Which of the table's keys the foreign key references.
    pub keys: Vec<KeyColumn>,
    pub action: Action,
}

/// A table with soft delete that this one references.
pub struct Parent {
    pub relid: Oid,
    pub owner: Oid,
    pub deferrable: bool,
    /// Attributes of the referencing row; parameters of `look` from 4 on.
    pub columns: Vec<Key>,
    pub look: Planned,
    /// The same for many rows; which columns it takes.
    pub references: Vec<KeyColumn>,
    pub look_all: Planned,
    pub refusal: Refusal,
}

/// What is done to the table itself.
pub struct Own {
    /// The table (not a view or a partition of it).
    pub relid: Oid,
    pub owner: Oid,
    /// The primary key, then what else foreign keys reference.
    pub keys: Vec<Key>,
    pub primary: usize,
    pub children: Vec<Child>,
    /// What to do instead of DELETE and TRUNCATE.
    pub guard_hint: CString,
    /// What to do instead of changing a deleted row by an INSERT.
    pub upsert_hint: CString,
    /// For the guard during a purge, over its transition table: a row that may not go (parameter 1: unless it was deleted
    /// before), and the count of those gone.
    pub not_due: Planned,
    pub note_purged: Planned,
    /// FOR UPDATE on deleted rows: parameters the arrays of the primary key.
    pub lock: Planned,
    /// Which of these are rows of the table itself, where tables inherit from it; the same parameters, and `keys` come back.
    pub own_rows: Option<(Planned, Vec<KeyColumn>)>,
    /// Rows whose deletion was set by hand get what belongs to it; the same for those brought back.
    pub stamp: Planned,
    pub unstamp: Planned,
    /// DELETE of one row of a view: the row as the statement saw it, then the values of the primary key.
    pub delete_one: Planned,
    /// Is a row that is still live as it was?
    pub look_one: Planned,
    /// The same for many rows, an array of each; how many belong to the deletion by now, and how many are as they were.
    pub delete_many: Planned,
    pub look_many: Planned,
    /// Of the table itself.
    pub back: Option<Back>,
    /// Invalid: there is none.
    pub live_view: Oid,
    pub row_type: Oid,
    /// The view shows all columns of `keys` as they are.
    pub view_fits: bool,
    pub deleted_at: i16,
    pub deletion_id: i16,
    pub has_timezone: bool,
    /// 0: there is none.
    pub flag: i16,
}

/// How rows of a deletion (parameter 1) come back.
pub struct Back {
    /// Gives how many, and the `keys` by which they reference others.
    pub update: Planned,
    pub keys: Vec<KeyColumn>,
    /// How many there are still.
    pub left: Planned,
}

impl Back {
    fn of(managed: &Managed) -> Result<Self> {
        let references = references(managed.relid)?.1;
        let table = managed.sql();
        let of_it =
            format!("t.{} OPERATOR(pg_catalog.=) $1 AND NOT ({})", identifier(&managed.deletion_id), managed.live("t"));
        let update = format!("UPDATE {table} AS t SET {} WHERE {of_it}", managed.set_live());
        Ok(Back {
            update: Planned::new(counted_own(managed, &update, "t.", &references), common()),
            keys: key_shape(&references),
            left: Planned::new(format!("SELECT pg_catalog.count(*) FROM {table} AS t WHERE {of_it}"), common()),
        })
    }
}

pub struct Program {
    pub own: Option<Own>,
    pub parents: Vec<Parent>,
    /// Relations whose changes make it out of date; in order.
    pub relations: Vec<Oid>,
    /// The same for types and roles, as the server calls them when they change.
    pub hashes: Vec<u32>,
}

/// The statements for a table with soft delete, a partition or live view of one, or a table that references one: all made
/// of the catalogs of one moment.
pub fn build(relid: Oid) -> Result<Program> {
    spi::at_one_moment(|| put_together(relid))
}

fn put_together(relid: Oid) -> Result<Program> {
    let managed = managed::find(relid)?;
    let mut relations = vec![relid];
    let own = match &managed {
        Some(managed) => Some(own(relid, managed, &mut relations)?),
        None => None,
    };
    let parents = parents(relid, &mut relations)?;
    if !managed::is_up_to_date() {
        // Changed by ALTER EXTENSION UPDATE.
        relations.push(catalog::relation_of_ours(c"_deletion_cleared"));
    }
    relations.sort_unstable_by_key(|relid| relid.to_u32());
    relations.dedup();
    let mut program = Program { own, parents, relations, hashes: Vec::new() };
    program.fix_names(relid)?;
    program.hashes = program.objects();
    Ok(program)
}

impl Program {
    /// Does a change of this relation make it out of date?
    pub fn names(&self, relid: Oid) -> bool {
        self.relations.binary_search_by_key(&relid.to_u32(), |known| known.to_u32()).is_ok()
    }

    /// Tells the statements which tables they are about: an error if a name is another table's when they run.
    fn fix_names(&self, relid: Oid) -> Result<()> {
        if let Some(own) = &self.own {
            let statements =
                [&own.lock, &own.stamp, &own.unstamp, &own.delete_one, &own.look_one, &own.delete_many, &own.look_many];
            let objects = Objects::of(&[own.relid])?;
            let back = own.back.iter().flat_map(|back| [&back.update, &back.left]);
            let own_rows = own.own_rows.iter().map(|(statement, _)| statement);
            statements
                .into_iter()
                .chain(back)
                .chain(own_rows)
                .for_each(|statement| statement.names(own.relid, &objects));
            for child in &own.children {
                match &child.action {
                    Action::Cascade { statement, .. } | Action::Refuse { statement, names_table: true, .. } => {
                        // Keys have the collations of the table that is referenced.
                        statement.names(child.relid, &Objects::of(&[child.relid, own.relid])?)
                    }
                    Action::Clear { clearing, .. } => {
                        clearing.clear.names(child.relid, &Objects::of(&[child.relid, own.relid])?)
                    }
                    Action::Refuse { .. } | Action::Nothing => {}
                }
            }
        }
        for parent in &self.parents {
            let objects = Objects::of(&[parent.relid, relid])?;
            parent.look.names(parent.relid, &objects);
            parent.look_all.names(parent.relid, &objects);
        }
        Ok(())
    }

    fn objects(&self) -> Vec<u32> {
        let (mut types, mut roles) = (Vec::new(), Vec::new());
        if let Some(own) = &self.own {
            types.push(own.row_type);
            types.extend(own.keys.iter().map(|key| key.type_oid));
            roles.push(own.owner);
            roles.extend(own.children.iter().map(|child| child.owner));
        }
        for parent in &self.parents {
            types.extend(parent.columns.iter().map(|key| key.type_oid));
            roles.push(parent.owner);
        }
        crate::soft_delete::raw::programs::hashes(&types, &roles)
    }
}

fn common() -> Vec<Oid> {
    vec![types::UUID, types::TIMESTAMPTZ, types::TEXT]
}

fn text(text: &str) -> CString {
    encoding::to_c(text).unwrap_or_default()
}

/// Parameters 1 to 3, and an array for each key.
fn with_arrays(keys: &[Column]) -> Vec<Oid> {
    common().into_iter().chain(keys.iter().map(|key| key.array_oid)).collect()
}

fn own(relid: Oid, managed: &Managed, relations: &mut Vec<Oid>) -> Result<Own> {
    relations.push(managed.relid);
    // A foreign key may reference a partition, which alone is told of it.
    relations.extend(managed::partitions(managed.relid)?);
    let columns = managed::columns(managed.relid)?;
    let called = |name: &str| columns.iter().find(|column| column.name == name);
    // A view's columns have names of their own: what they show its query says.
    let shown = match managed.live_view {
        Some(view) if view == relid => view::shown(view, managed.relid)?,
        _ => Vec::new(),
    };
    // Where in the view, and which of the table's. What the view computes says nothing of the row.
    let image_columns: Vec<(usize, &Column)> = shown
        .iter()
        .enumerate()
        .filter_map(|(at, &shown)| Some((at, columns.iter().find(|column| column.number == shown)?)))
        .collect();
    let here = if relid == managed.relid { columns.clone() } else { managed::columns(relid)? };
    let number = |column: &Column| -> i16 {
        if managed.live_view == Some(relid) {
            return shown.iter().position(|&shown| shown == column.number).map_or(0, |at| at as i16 + 1);
        }
        here.iter().find(|here| here.name == column.name).map_or(0, |here| here.number)
    };
    let foreign_keys = managed::referencing(managed.relid)?;
    let primary_key = managed::primary_key(managed.relid)?;
    let primary = primary_key.len();
    let keys = key_columns(managed, &columns, &primary_key, &foreign_keys)?;
    let mut children = Vec::new();
    for key in &foreign_keys {
        relations.extend([key.child, key.child_root]);
        children.extend(child(managed, key, &keys, relations)?);
    }
    let table = managed.sql();
    let own_table = managed::own_rows(managed.relid, &managed.schema, &managed.relname);
    let rows = rows(primary, 4);
    // What the key's own index calls equal, under its column's collation.
    let equal = |value: &dyn Fn(usize) -> String| -> String {
        let conditions: Vec<String> = (0..primary)
            .map(|i| {
                let name = format!("t.{}", identifier(&keys[i].name));
                primary_key[i].1.between((&name, ""), (&value(i), &collate(&keys[i])))
            })
            .collect();
        conditions.join(" AND ")
    };
    let matching = equal(&|i| format!("d.k{i}"));
    let one = equal(&|i| format!("${}", 5 + i));
    let (row_type, row_array) = match managed.live_view {
        Some(view) if view == relid => managed::row_type(view)?,
        _ => (types::RECORD, types::RECORDARRAY),
    };
    let each = |of: &dyn Fn(usize, &Column) -> String| -> String {
        image_columns.iter().map(|&(at, column)| of(at, column)).collect::<Vec<_>>().join(", ")
    };
    let image = each(&|_, column| format!("t.{}", identifier(&column.name)));
    let unchanged = if image_columns.len() == shown.len() {
        format!("ROW({image}) OPERATOR(pg_catalog.*=) $4")
    } else {
        let seen = each(&|at, _| format!("($4).{}", identifier(&here[at].name)));
        format!("pg_catalog.record_image_eq(ROW({image}), ROW({seen}))")
    };
    // An array of rows comes apart into their columns.
    let images = (0..shown.len()).map(|at| format!("c{at}")).collect::<Vec<_>>().join(", ");
    let key_arrays = (0..primary).map(|i| format!("pg_catalog.unnest(${})", 5 + i)).collect::<Vec<_>>().join(", ");
    let key_names = (0..primary).map(|i| format!("k{i}")).collect::<Vec<_>>().join(", ");
    let gathered = format!("ROWS FROM ({key_arrays}, pg_catalog.unnest($4)) AS d ({key_names}, {images})");
    let seen = each(&|at, _| format!("d.c{at}"));
    let mut many_types = common();
    many_types.push(row_array);
    many_types.extend(keys[..primary].iter().map(|key| key.array_oid));
    let mut one_types = common();
    one_types.push(row_type);
    one_types.extend(keys[..primary].iter().map(|key| key.type_oid));
    let arrays = with_arrays(&keys[..primary]);
    let type_of_at = managed.check_types(&columns)?;
    if let Some(flag) = &managed.flag {
        managed.require_type(&columns, flag, &[types::BOOL])?;
    }
    let flag = managed.flag.as_ref().map_or_else(String::new, |flag| format!(", {} = true", identifier(flag)));
    let (at, by, id) =
        (identifier(&managed.deleted_at), identifier(&managed.deleted_by), identifier(&managed.deletion_id));
    let live_view = managed.live_view.and_then(heap::name);
    let by_view = live_view
        .map_or_else(String::new, |(schema, view)| format!("DELETE FROM {} .., or ", qualified(&schema, &view)));
    Ok(Own {
        relid: managed.relid,
        owner: managed.owner,
        guard_hint: text(&format!(
            "Delete rows so that they can come back: {by_view}SELECT upkeep.soft_delete({}, '..'); who may can also SET upkeep.allow_hard_delete = on.",
            literal(&table)
        )),
        upsert_hint: text(&format!(
            "SELECT upkeep.make_unique_keys_partial({}) has deleted rows keep no key from live ones. Or say what becomes of the row: ON CONFLICT .. DO UPDATE SET .., {plain} = NULL has it back, and .. WHERE {}.{plain} IS NULL leaves it alone.",
            literal(&table),
            quote_identifier(&managed.relname),
            plain = quote_identifier(&managed.deleted_at)
        )),
        not_due: Planned::new(
            format!(
                "SELECT FROM deleted AS d
                 WHERE d.{at} IS NULL OR d.{at} OPERATOR(pg_catalog.>=) $1
                    OR EXISTS (SELECT FROM upkeep._deletion h
                               WHERE h.id OPERATOR(pg_catalog.=) d.{id} AND h.held IS NOT NULL)
                 LIMIT 1"
            ),
            vec![types::TIMESTAMPTZ],
        ),
        note_purged: Planned::new(
            format!(
                "UPDATE upkeep._deletion_table t SET purged = t.purged OPERATOR(pg_catalog.+) p.rows
                 FROM (SELECT d.{id} AS id, pg_catalog.count(*) AS rows FROM deleted AS d GROUP BY 1) p
                 WHERE t.deletion OPERATOR(pg_catalog.=) p.id AND t.relid OPERATOR(pg_catalog.=) {}::pg_catalog.oid",
                managed.relid.to_u32()
            ),
            Vec::new(),
        ),
        keys: keys.iter().map(|key| Key { number: number(key), ..Key::of(key) }).collect(),
        primary,
        children,
        lock: Planned::new(
            format!(
                "SELECT pg_catalog.count(*) FROM (SELECT FROM {own_table} AS t, {rows} WHERE {matching} FOR UPDATE OF t) AS l"
            ),
            arrays.clone(),
        ),
        own_rows: heap::has_heirs(managed.relid).then(|| {
            let found: String =
                keys.iter().map(|key| format!(", pg_catalog.array_agg(t.{})", identifier(&key.name))).collect();
            let of_table = format!("FROM {own_table} AS t, {rows} WHERE {matching} AND t.{at} IS NOT NULL");
            (Planned::new(format!("SELECT pg_catalog.count(*){found} {of_table}"), arrays.clone()), key_shape(&keys))
        }),
        stamp: Planned::new(
            format!(
                "UPDATE {table} AS t SET {id} = $1, {by} = coalesce(t.{by}, $3){flag} FROM {rows}
                 WHERE {matching} AND t.{at} IS NOT NULL"
            ),
            arrays.clone(),
        ),
        unstamp: Planned::new(
            format!(
                "UPDATE {table} AS t SET {} FROM {rows}
                 WHERE {matching} AND t.{at} IS NULL AND (t.{id} IS NOT NULL OR t.{by} IS NOT NULL)",
                managed.set_live()
            ),
            arrays,
        ),
        delete_one: Planned::new(
            format!("UPDATE {table} AS t SET {} WHERE {one} AND t.{at} IS NULL AND {unchanged}", managed.set_deleted(),),
            one_types.clone(),
        ),
        look_one: Planned::new(
            format!("SELECT {unchanged} FROM {table} AS t WHERE {one} AND t.{at} IS NULL"),
            one_types,
        ),
        delete_many: Planned::new(
            format!(
                "UPDATE {table} AS t SET {} FROM {gathered} WHERE {matching} AND t.{at} IS NULL
                 AND pg_catalog.record_image_eq(ROW({image}), ROW({seen}))",
                managed.set_deleted(),
            ),
            many_types.clone(),
        ),
        look_many: Planned::new(
            format!(
                "SELECT pg_catalog.count(*) FILTER (WHERE t.{id} OPERATOR(pg_catalog.=) $1),
                        pg_catalog.count(*) FILTER (WHERE t.{at} IS NULL
                            AND pg_catalog.record_image_eq(ROW({image}), ROW({seen})))
                 FROM {table} AS t, {gathered} WHERE {matching}"
            ),
            many_types,
        ),
        back: if relid == managed.relid { Some(Back::of(managed)?) } else { None },
        live_view: managed.live_view.unwrap_or(Oid::INVALID),
        row_type,
        view_fits: keys.iter().all(|key| number(key) > 0),
        deleted_at: called(&managed.deleted_at).map_or(0, number),
        deletion_id: called(&managed.deletion_id).map_or(0, number),
        has_timezone: type_of_at != types::TIMESTAMP,
        flag: managed.flag.as_deref().and_then(called).map_or(0, number),
    })
}

/// The primary key, then what else is referenced.
fn key_columns(
    managed: &Managed,
    columns: &[Column],
    primary_key: &[(String, Operator)],
    foreign_keys: &[ForeignKey],
) -> Result<Vec<Column>> {
    let mut names: Vec<&String> = primary_key.iter().map(|(name, _)| name).collect();
    let referenced = |column: &&Column| foreign_keys.iter().any(|key| key.parent_columns.contains(&column.name));
    for column in columns.iter().filter(referenced) {
        if !names.contains(&&column.name) {
            names.push(&column.name);
        }
    }
    names.into_iter().map(|name| key_column(&managed.sql(), columns, name)).collect()
}

fn key_column(table: &str, columns: &[Column], name: &str) -> Result<Column> {
    let column = columns
        .iter()
        .find(|column| column.name == name)
        .ok_or_else(|| Error::new(INTERNAL_ERROR, format!("no column \"{name}\" in {table}")))?;
    if column.is_compound || column.array_oid == Oid::INVALID {
        return Err(Error::new(
            FEATURE_NOT_SUPPORTED,
            format!("column \"{name}\" of {table} cannot be a key for soft delete"),
        )
        .detail(format!("Keys are handed on in arrays, which its type {} does not allow.", column.type_sql)));
    }
    Ok(column.clone())
}

/// Keys as rows `d (k0, k1, ..)`: arrays from parameter `first` on.
fn rows(count: usize, first: usize) -> String {
    let arrays: Vec<String> = (0..count).map(|i| format!("pg_catalog.unnest(${})", first + i)).collect();
    let names: Vec<String> = (0..count).map(|i| format!("k{i}")).collect();
    format!("ROWS FROM ({}) AS d ({})", arrays.join(", "), names.join(", "))
}

/// A value from an array has no collation of its own.
fn collate(column: &Column) -> String {
    column.collation.as_ref().map_or_else(String::new, |collation| format!(" COLLATE {collation}"))
}

/// `WITH gone AS (statement RETURNING columns)`, and how many there were with the columns as arrays.
pub fn with_keys(statement: &str, alias: &str, columns: &[Column]) -> String {
    let returned: Vec<String> =
        columns.iter().enumerate().map(|(i, column)| format!("{alias}{} AS k{i}", identifier(&column.name))).collect();
    let arrays: Vec<String> = (0..columns.len()).map(|i| format!(", pg_catalog.array_agg(gone.k{i})")).collect();
    format!(
        "WITH gone AS ({statement} RETURNING {}) SELECT pg_catalog.count(*){} FROM gone",
        returned.join(", "),
        arrays.join("")
    )
}

/// The same, and keys only of rows of the table itself: foreign keys say nothing of those that inherit from it.
pub fn counted_own(managed: &Managed, update: &str, alias: &str, keys: &[Column]) -> String {
    if keys.is_empty() || !heap::has_heirs(managed.relid) {
        return counted(update, alias, keys);
    }
    let returned: String =
        keys.iter().enumerate().map(|(i, key)| format!(", {alias}{} AS k{i}", identifier(&key.name))).collect();
    let arrays: String = (0..keys.len())
        .map(|i| format!(", coalesce(pg_catalog.array_agg(gone.k{i}) FILTER (WHERE gone.own), '{{}}')"))
        .collect();
    format!(
        "WITH gone AS ({update} RETURNING {alias}tableoid OPERATOR(pg_catalog.=) {}::pg_catalog.oid AS own{returned})
         SELECT pg_catalog.count(*){arrays} FROM gone",
        managed.relid.to_u32()
    )
}

/// What of a table's rows its deletion has to know: nothing, if nobody references it.
pub fn wanted_keys(managed: &Managed) -> Result<Vec<Column>> {
    wanted_by(managed, &managed::referencing(managed.relid)?)
}

fn wanted_by(managed: &Managed, foreign_keys: &[ForeignKey]) -> Result<Vec<Column>> {
    if foreign_keys.is_empty() {
        return Ok(Vec::new());
    }
    let columns = managed::columns(managed.relid)?;
    key_columns(managed, &columns, &managed::primary_key(managed.relid)?, foreign_keys)
}

fn key_shape(columns: &[Column]) -> Vec<KeyColumn> {
    columns.iter().map(KeyColumn::from).collect()
}

fn child(managed: &Managed, key: &ForeignKey, keys: &[Column], relations: &mut Vec<Oid>) -> Result<Vec<Child>> {
    let named = |name: &String| keys.iter().find(|key| &key.name == name);
    let used: Vec<Column> = key.parent_columns.iter().filter_map(named).cloned().collect();
    let table = key.child_rows();
    let rows = rows(used.len(), 4);
    let mut matching: Vec<String> = (0..used.len())
        .map(|i| {
            let child = format!("c.{}", identifier(&key.child_columns[i]));
            key.operators[i].between((&format!("d.k{i}"), &collate(&used[i])), (&child, ""))
        })
        .collect();
    let child = if key.child_managed { managed::find(key.child_root)? } else { None };
    if let Some(child) = &child {
        matching.push(child.live("c"));
    }
    let matching = matching.join(" AND ");
    let refuse = |now: bool, refusal: Refusal| {
        let detail = literal(&format!("Key ({})=(", key.parent_columns.join(", ")));
        let values: Vec<String> = (0..used.len()).map(|i| format!("d.k{i}")).collect();
        let rest = literal(&format!(") is still referenced from table \"{}\".", key.child_name));
        Action::Refuse {
            now,
            statement: Planned::new(
                format!(
                    "SELECT {detail} OPERATOR(pg_catalog.||) pg_catalog.concat_ws(', ', {}) OPERATOR(pg_catalog.||) {rest}
                     FROM {table} AS c, {rows} WHERE {matching} LIMIT 1",
                    values.join(", ")
                ),
                with_arrays(&used),
            ),
            names_table: true,
            refusal,
        }
    };
    let mut actions = vec![match (key.on_delete, &child) {
        ('c', Some(child)) => {
            let update = format!("UPDATE {table} AS c SET {} FROM {rows} WHERE {matching}", child.set_deleted());
            // What comes back is for those that reference the child in their turn.
            let foreign_keys = managed::referencing(child.relid)?;
            relations.extend(foreign_keys.iter().flat_map(|key| [key.parent, key.child, key.child_root]));
            relations.extend(managed::partitions(child.relid)?);
            let wanted = wanted_by(child, &foreign_keys)?;
            Action::Cascade {
                child: child.relid,
                statement: Planned::new(counted(&update, "c.", &wanted), with_arrays(&used)),
                keys: key_shape(&wanted),
            }
        }
        ('c', None) if managed.on_unmanaged == "ignore" => Action::Nothing,
        ('c', None) => refuse(false, unmanaged(managed, key)),
        ('n' | 'd', _) => clear(key, &used, &table, &rows, &matching)?,
        ('r', _) => refuse(true, referenced(managed, key)),
        _ => refuse(false, referenced(managed, key)),
    }];
    // A default that is the value itself, or a trigger of the user's, may have left the reference as it was.
    if matches!(key.on_delete, 'n' | 'd') {
        actions.push(refuse(false, referenced(managed, key)));
    }
    if !key.child_owner_may {
        actions.insert(0, refuse_without_rights(managed, key, with_arrays(&used)));
    }
    let child = |action| Child { relid: key.child, owner: key.child_owner, keys: key_shape(&used), action };
    Ok(actions.into_iter().map(child).collect())
}

/// The owner of the referencing table, as whom a deletion acts on it, lacks rights on it: says whose they are to grant. Looked
/// at again each time, because a grant on a schema is no change of the table.
fn refuse_without_rights(managed: &Managed, key: &ForeignKey, types: Vec<Oid>) -> Action {
    let (table, oid) = (qualified(&key.child_schema, &key.child_name), key.child.to_u32());
    let owner = catalog::role_name(key.child_owner).unwrap_or_default();
    let (schema, role) = (quote_identifier(&key.child_schema), quote_identifier(&owner));
    let detail = format!(
        "Foreign key \"{}\" references table \"{}\": what becomes of its rows is done as their table's owner.",
        key.name, managed.relname
    );
    Action::Refuse {
        now: true,
        statement: Planned::new(
            format!(
                "SELECT {} FROM pg_catalog.pg_class c WHERE c.oid OPERATOR(pg_catalog.=) {oid}::pg_catalog.oid
                     AND NOT (pg_catalog.has_schema_privilege(c.relowner, c.relnamespace, 'USAGE')
                              AND pg_catalog.has_table_privilege(c.relowner, c.oid, 'SELECT')
                              AND pg_catalog.has_table_privilege(c.relowner, c.oid, 'UPDATE'))",
                literal(&detail)
            ),
            types,
        ),
        names_table: false,
        refusal: Refusal {
            sqlstate: c"42501",
            message: text(&format!("role \"{owner}\" may not change its table {table}")),
            hint: Some(text(&format!(
                "GRANT USAGE ON SCHEMA {schema} TO {role}; GRANT SELECT, UPDATE ON {table} TO {role};"
            ))),
            schema: text(&key.child_schema),
            table: text(&key.child_name),
            constraint: text(&key.name),
        },
    }
}

/// With the keys, or the number of rows alone.
pub fn counted(update: &str, alias: &str, keys: &[Column]) -> String {
    if keys.is_empty() { update.to_owned() } else { with_keys(update, alias, keys) }
}

fn referenced(managed: &Managed, key: &ForeignKey) -> Refusal {
    Refusal {
        sqlstate: c"23503",
        message: text(&format!(
            "update or delete on table \"{}\" violates foreign key constraint \"{}\" on table \"{}\"",
            managed.relname, key.name, key.child_name
        )),
        hint: None,
        schema: text(&key.child_schema),
        table: text(&key.child_name),
        constraint: text(&key.name),
    }
}

fn unmanaged(managed: &Managed, key: &ForeignKey) -> Refusal {
    let child = qualified(&key.child_schema, &key.child_name);
    Refusal {
        hint: Some(text(&format!(
            "Soft delete is not enabled on {child}, whose rows would have to go too: SELECT upkeep.enable_soft_delete({});",
            literal(&child)
        ))),
        ..referenced(managed, key)
    }
}

fn clear(key: &ForeignKey, used: &[Column], table: &str, rows: &str, matching: &str) -> Result<Action> {
    let child_key = managed::primary_key(key.child_root)?;
    if child_key.is_empty() {
        return Err(Error::new(
            OBJECT_NOT_IN_PREREQUISITE_STATE,
            format!(
                "table \"{}\" has no primary key, by which its cleared references could be found again",
                key.child_name
            ),
        )
        .detail(format!("Foreign key \"{}\" is ON DELETE SET NULL or SET DEFAULT.", key.name))
        .hint(format!("ALTER TABLE {} ADD PRIMARY KEY (..);", qualified(&key.child_schema, &key.child_name))));
    }
    let value = if key.on_delete == 'n' { "NULL" } else { "DEFAULT" };
    let set: Vec<String> = key.set_columns.iter().map(|name| format!("{} = {value}", identifier(name))).collect();
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
    let clear = format!(
        "UPDATE {table} AS c SET {} FROM {rows} WHERE {matching} RETURNING {}",
        set.join(", "),
        returned.join(", ")
    );
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
    let remember = format!(
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
    );
    let mut types = common();
    types.extend(vec![types::TEXTARRAY; count]);
    Ok(Action::Clear {
        child: key.child_root,
        clearing: Clearing {
            clear: Planned::new(clear, with_arrays(used)),
            keys,
            columns,
            remember: Planned::new(remember, types),
        },
    })
}

/// The tables with soft delete that a table references, and the columns by which it does.
pub fn references(relid: Oid) -> Result<(Vec<ForeignKey>, Vec<Column>)> {
    let foreign_keys = managed::referenced(relid)?;
    let references = |column: &Column| foreign_keys.iter().any(|key| key.child_columns.contains(&column.name));
    let columns = managed::columns(relid)?.into_iter().filter(references).collect();
    Ok((foreign_keys, columns))
}

fn parents(relid: Oid, relations: &mut Vec<Oid>) -> Result<Vec<Parent>> {
    let foreign_keys = managed::referenced(relid)?;
    let columns = managed::columns(relid)?;
    let mut parents = Vec::new();
    for key in &foreign_keys {
        relations.push(key.parent);
        let Some(parent) = managed::find(key.parent)? else { continue };
        relations.push(parent.relid);
        let table = key.parent_rows();
        let of_child = |name: &String| columns.iter().find(|column| &column.name == name);
        let used: Vec<Column> = key.child_columns.iter().filter_map(of_child).cloned().collect();
        let parent_columns = managed::columns(key.parent)?;
        let collation = |i: usize| {
            parent_columns.iter().find(|column| column.name == key.parent_columns[i]).map_or_else(String::new, collate)
        };
        let equal = |value: &dyn Fn(usize) -> String| {
            let conditions: Vec<String> = (0..used.len())
                .map(|i| {
                    let name = identifier(&key.parent_columns[i]);
                    key.operators[i].between((&format!("p.{name}"), ""), (&value(i), &collation(i)))
                })
                .collect();
            conditions.join(" AND ")
        };
        let start = literal(&format!("Key ({})=(", key.child_columns.join(", ")));
        let rest = literal(&format!(") refers to a deleted row of table \"{}\".", parent.name));
        let values: Vec<String> = key.parent_columns.iter().map(|name| format!("p.{}", identifier(name))).collect();
        let detail = format!(
            "{start} OPERATOR(pg_catalog.||) pg_catalog.concat_ws(', ', {}) OPERATOR(pg_catalog.||) {rest}",
            values.join(", ")
        );
        let dead = format!("NOT ({})", parent.live("p"));
        // One row, null if all is well. Not a WHERE outside: it would be pushed down, and only deleted rows be locked.
        let look = |from: String, condition: String| {
            format!(
                "SELECT pg_catalog.min(l.detail COLLATE pg_catalog.\"C\") FILTER (WHERE l.dead)
                 FROM (SELECT {dead} AS dead, {detail} AS detail FROM {from} WHERE {condition} FOR KEY SHARE OF p) AS l"
            )
        };
        let types = |each: &dyn Fn(&Column) -> Oid| common().into_iter().chain(used.iter().map(each)).collect();
        parents.push(Parent {
            relid: key.parent,
            owner: key.parent_owner,
            deferrable: key.deferrable,
            columns: used.iter().map(Key::of).collect(),
            look: Planned::new(
                look(format!("{table} AS p"), equal(&|i| format!("${}", 4 + i))),
                types(&|column| column.type_oid),
            ),
            references: key_shape(&used),
            look_all: Planned::new(
                look(format!("{table} AS p, {}", rows(used.len(), 4)), equal(&|i| format!("d.k{i}"))),
                types(&|column| column.array_oid),
            ),
            refusal: Refusal {
                sqlstate: c"23503",
                message: text(&format!(
                    "insert or update on table \"{}\" violates foreign key constraint \"{}\"",
                    key.child_name, key.name
                )),
                hint: None,
                schema: text(&key.child_schema),
                table: text(&key.child_name),
                constraint: text(&key.name),
            },
        });
    }
    Ok(parents)
}
