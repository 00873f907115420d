//! The triggers and views of soft delete: what there should be, created where it is missing. As the tables' owners.

use pgrx::spi::quote_identifier;

use super::managed::{self, Managed};
use super::program;
use crate::ddl::{Wanted, in_callers_transaction, keep_schema, require_trigger};
use crate::error::{DUPLICATE_OBJECT, Error, Result, UNDEFINED_TABLE};
use crate::server::raise::{self, Level};
use crate::server::table_lock::Mode;
use crate::server::{Oid, heap, spi};
use crate::sql::quote::{identifier, literal, qualified};

const ROW: &str = "upkeep_soft_delete_row";
const STATEMENT: &str = "upkeep_soft_delete";
const DEAD_ROW: &str = "upkeep_soft_delete_dead_row";
const INSERTED: &str = "upkeep_soft_delete_insert";
const BEGIN: &str = "upkeep_soft_delete_begin";
const NO_DELETE: &str = "upkeep_soft_delete_no_delete";
const NO_TRUNCATE: &str = "upkeep_soft_delete_no_truncate";
/// After the user's own, in the order of names.
const FLAG: &str = "zz_upkeep_soft_delete_flag";
/// Those that the server makes on partitions as well.
const OF_ROWS: [&str; 3] = [ROW, DEAD_ROW, FLAG];
/// After the server's own check, which is called RI_ConstraintTrigger_...
const LIVE_PARENT: &str = "upkeep_live_parent";
const CHECKS: [&str; 4] = [
    "upkeep_live_parent_insert",
    "upkeep_live_parent_update",
    "upkeep_live_parent_insert_deferred",
    "upkeep_live_parent_update_deferred",
];

/// A table of a tree: itself, or a partition on any level.
struct Member {
    table: String,
    relid: Oid,
}

fn tree(relid: Oid) -> Result<Vec<Member>> {
    spi::bookkeeping(|| {
        spi::look_up(
            "SELECT t.relid::pg_catalog.oid, pg_catalog.format('%I.%I', n.nspname, c.relname)
             FROM (SELECT $1 AS relid UNION SELECT p.relid::pg_catalog.oid FROM pg_catalog.pg_partition_tree($1) p) t
             JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) t.relid
             JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace
             WHERE c.relkind OPERATOR(pg_catalog.=) ANY ('{r,p}'::pg_catalog.\"char\"[])
             ORDER BY t.relid",
            &[relid.into()],
            |row| Ok(Member { relid: row.require(1)?, table: row.require(2)? }),
        )
    })
}

/// What soft delete needs for itself when it is enabled: the table, and those that reference it, which get checks.
pub fn wanted_to_enable(relid: Oid) -> Result<Vec<Wanted>> {
    let mut wanted = vec![Wanted { relid, mode: EXCLUSIVE, with_children: true }];
    for relid in referencing(relid)? {
        // A check that is there may have to look at more columns, and is made anew.
        let has_checks = triggers(relid)?.ours.iter().any(|trigger| trigger.is_check);
        wanted.push(Wanted { relid, mode: if has_checks { EXCLUSIVE } else { FOR_TRIGGER }, with_children: true });
    }
    Ok(wanted)
}

/// How DDL on a table with soft delete locks one that references it. As CREATE TRIGGER does: who reads it does not notice.
const FOR_TRIGGER: Mode = Mode::ShareRowExclusive;
const EXCLUSIVE: Mode = Mode::AccessExclusive;

/// The other tables that reference it.
fn referencing(relid: Oid) -> Result<Vec<Oid>> {
    let mut children: Vec<Oid> = managed::referencing(relid)?.into_iter().map(|key| key.child).collect();
    children.dedup();
    children.retain(|&child| child != relid);
    Ok(children)
}

/// Locks, until the transaction ends and in short attempts, the table with its partitions and views, and of those that
/// reference it, which may be anybody's, the ones whose checks are not as they are to be; `ending`: all that have checks, which go.
pub fn lock_all(managed: &Managed, ending: bool) -> Result<()> {
    let wanted = || {
        let views = managed::find(managed.relid)?.map(|managed| [managed.live_view, managed.deleted_view]);
        let views = views.into_iter().flatten().flatten();
        let mut wanted: Vec<Wanted> =
            views.map(|relid| Wanted { relid, mode: EXCLUSIVE, with_children: false }).collect();
        wanted.push(Wanted { relid: managed.relid, mode: EXCLUSIVE, with_children: true });
        for relid in referencing(managed.relid)? {
            if let Some(mode) = lock_of_child(relid, ending)? {
                wanted.push(Wanted { relid, mode, with_children: true });
            }
        }
        Ok(wanted)
    };
    in_callers_transaction(&managed.sql(), wanted, || {
        if !heap::exists(managed.relid) {
            return Err(Error::new(UNDEFINED_TABLE, "the table was dropped meanwhile"));
        }
        for Wanted { relid, .. } in wanted()? {
            keep_schema(relid)?;
            for member in tree(relid)? {
                keep_schema(member.relid)?;
            }
        }
        Ok(())
    })
}

fn lock_of_child(child: Oid, ending: bool) -> Result<Option<Mode>> {
    let there = triggers(child)?;
    let usual = |name: &str| CHECKS.contains(&name);
    let goes = if ending {
        there.ours.iter().any(|trigger| usual(&trigger.name))
    } else {
        // One that is called otherwise gets its name back.
        there.ours.iter().any(|trigger| trigger.is_check && !usual(&trigger.name))
    };
    if goes {
        return Ok(Some(EXCLUSIVE));
    }
    let changes = live_parents(child)?.map_or_else(Vec::new, |checks| checks.changes);
    let mode = if changes.iter().any(|change| change.goes) { EXCLUSIVE } else { FOR_TRIGGER };
    Ok((!changes.is_empty()).then_some(mode))
}

/// A trigger that runs a function of soft delete.
struct Trigger {
    name: String,
    /// It looks whether what a row references is live.
    is_check: bool,
    /// As the server writes it, if it is enabled as triggers usually are.
    definition: Option<String>,
}

/// Ours, and the names of all others.
struct Triggers {
    ours: Vec<Trigger>,
    others: Vec<String>,
}

fn triggers(relid: Oid) -> Result<Triggers> {
    let found: Vec<(Trigger, bool)> = spi::bookkeeping(|| {
        spi::look_up(
            "SELECT t.tgname::pg_catalog.text,
                    p.pronamespace OPERATOR(pg_catalog.=) 'upkeep'::pg_catalog.regnamespace
                        AND pg_catalog.starts_with(p.proname::pg_catalog.text, '_soft_delete_'),
                    p.proname OPERATOR(pg_catalog.=) '_soft_delete_live_parent',
                    CASE WHEN t.tgenabled OPERATOR(pg_catalog.=) 'O' THEN pg_catalog.pg_get_triggerdef(t.oid) END
             FROM pg_catalog.pg_trigger t
             JOIN pg_catalog.pg_proc p ON p.oid OPERATOR(pg_catalog.=) t.tgfoid
             WHERE t.tgrelid OPERATOR(pg_catalog.=) $1",
            &[relid.into()],
            |row| {
                let trigger = Trigger { name: row.require(1)?, is_check: row.require(3)?, definition: row.get(4)? };
                Ok((trigger, row.require(2)?))
            },
        )
    })?;
    let (ours, others): (Vec<_>, Vec<_>) = found.into_iter().partition(|(_, is_ours)| *is_ours);
    Ok(Triggers {
        ours: ours.into_iter().map(|(trigger, _)| trigger).collect(),
        others: others.into_iter().map(|(trigger, _)| trigger.name).collect(),
    })
}

impl Triggers {
    fn has(&self, name: &str) -> bool {
        self.find(name).is_some()
    }

    fn find(&self, name: &str) -> Option<&Trigger> {
        self.ours.iter().find(|known| known.name == name)
    }

    /// Is it to be made? Somebody's own trigger of that name stays, and is reported in `taken`.
    fn lack(&self, name: &str, table: &str, taken: &mut Vec<Taken>) -> bool {
        let is_taken = self.others.iter().any(|known| known == name);
        if is_taken {
            taken.push(Taken { trigger: name.to_owned(), table: table.to_owned() });
        }
        !is_taken && !self.has(name)
    }
}

/// Somebody's own trigger that has the name of one of ours.
#[must_use]
pub struct Taken {
    trigger: String,
    table: String,
}

impl Taken {
    pub fn error(&self) -> Error {
        let Taken { trigger, table } = self;
        Error::new(DUPLICATE_OBJECT, format!("trigger {trigger} of {table} is not the one of soft delete"))
            .detail("Somebody has made another trigger of that name; soft delete leaves it alone, and lacks its own.")
            .hint(format!("ALTER TRIGGER {trigger} ON {table} RENAME TO ..; and call upkeep.repair_soft_delete()"))
    }
}

/// Nothing that is in the way stops the rest.
pub fn warn(taken: Vec<Taken>) {
    for taken in taken {
        raise::report(Level::Warning, taken.error());
    }
}

/// Is this the name of a trigger that soft delete makes?
pub fn is_name_of_ours(trigger: &str) -> bool {
    [ROW, STATEMENT, DEAD_ROW, INSERTED, BEGIN, NO_DELETE, NO_TRUNCATE, FLAG].contains(&trigger)
        || trigger.strip_prefix(LIVE_PARENT).is_some_and(|rest| rest.starts_with('_'))
}

/// Makes all triggers of a table with soft delete that are missing: after enabling, and after it got a partition or a
/// foreign key. What cannot be made, because somebody's own trigger has the name, comes back.
pub fn ensure(managed: &Managed) -> Result<Vec<Taken>> {
    let mut taken = Vec::new();
    let root = managed.sql();
    for member in tree(managed.relid)? {
        let there = triggers(member.relid)?;
        let table = &member.table;
        let mut wanted = vec![
            (
                STATEMENT,
                format!("AFTER UPDATE ON {table} FOR EACH STATEMENT EXECUTE FUNCTION upkeep._soft_delete_updated()"),
            ),
            (
                INSERTED,
                format!("AFTER INSERT ON {table} FOR EACH STATEMENT EXECUTE FUNCTION upkeep._soft_delete_inserted()"),
            ),
            (
                NO_DELETE,
                format!(
                    "AFTER DELETE ON {table} REFERENCING OLD TABLE AS deleted
                     FOR EACH STATEMENT EXECUTE FUNCTION upkeep._soft_delete_guard()"
                ),
            ),
            (
                NO_TRUNCATE,
                format!("BEFORE TRUNCATE ON {table} FOR EACH STATEMENT EXECUTE FUNCTION upkeep._soft_delete_guard()"),
            ),
        ];
        if member.relid == managed.relid {
            let at = identifier(&managed.deleted_at);
            wanted.push((
                ROW,
                format!(
                    "AFTER UPDATE ON {table} FOR EACH ROW
                     WHEN ((OLD.{at} IS NULL) OPERATOR(pg_catalog.<>) (NEW.{at} IS NULL)
                           AND upkeep._is_by_hand({}::pg_catalog.regclass, NEW.{}))
                     EXECUTE FUNCTION upkeep._soft_delete_updated_row()",
                    literal(&root),
                    identifier(&managed.deletion_id)
                ),
            ));
            wanted.push((
                DEAD_ROW,
                format!(
                    "AFTER UPDATE ON {table} FOR EACH ROW WHEN (OLD.{at} IS NOT NULL AND NEW.{at} IS NOT NULL)
                     EXECUTE FUNCTION upkeep._soft_delete_dead_row()"
                ),
            ));
            if managed.flag.is_some() {
                wanted.push((
                    FLAG,
                    format!(
                        "BEFORE INSERT OR UPDATE ON {table} FOR EACH ROW EXECUTE FUNCTION upkeep._soft_delete_flag()"
                    ),
                ));
            }
        }
        wanted.retain(|(name, _)| there.lack(name, table, &mut taken));
        let is_root = member.relid == managed.relid;
        if wanted.iter().any(|(name, _)| !is_root || OF_ROWS.contains(name)) {
            require_trigger(managed.relid, managed.owner, (!is_root).then_some(member.relid))?;
        }
        spi::as_owner(managed.owner, || {
            for (name, rest) in &wanted {
                spi::execute(&format!("CREATE TRIGGER {name} {rest}"), &[])?;
            }
            Ok(())
        })?;
    }
    taken.extend(ensure_live_parents(managed.relid)?);
    let mut children: Vec<Oid> = managed::referencing(managed.relid)?.into_iter().map(|key| key.child).collect();
    children.dedup();
    for child in children.into_iter().filter(|&child| child != managed.relid) {
        taken.extend(ensure_live_parents(child)?);
    }
    Ok(taken)
}

/// Removes what [`ensure`] has made; the table is not in the catalog any more.
pub fn remove(managed: &Managed) -> Result<()> {
    for member in tree(managed.relid)? {
        let there = triggers(member.relid)?;
        for name in [STATEMENT, INSERTED, NO_DELETE, NO_TRUNCATE, ROW, DEAD_ROW, FLAG] {
            // The partitions' copies of a row trigger go with the one they were made from.
            let copied = member.relid != managed.relid && OF_ROWS.contains(&name);
            if !copied && there.has(name) {
                // A partition may be somebody else's, who let the table's owner create the trigger; to drop it is the owner's alone.
                spi::as_owner(owner(member.relid)?, || {
                    spi::execute(&format!("DROP TRIGGER {name} ON {}", member.table), &[])
                })?;
            }
        }
    }
    warn(ensure_live_parents(managed.relid)?);
    for key in managed::referencing(managed.relid)? {
        warn(ensure_live_parents(key.child)?);
    }
    Ok(())
}

/// What is to be done about the checks of a table.
struct Checks {
    table: String,
    owner: Oid,
    /// It references tables with soft delete.
    any: bool,
    changes: Vec<Change>,
    taken: Vec<Taken>,
}

/// A check that is not as it is to be.
struct Change {
    name: String,
    /// There is one, which is dropped.
    goes: bool,
    /// What makes the new one.
    comes: Option<String>,
}

/// The check of a table that references tables with soft delete, where it is not what it is to be. `None`: there is no such table.
fn live_parents(relid: Oid) -> Result<Option<Checks>> {
    let mut taken = Vec::new();
    let there = triggers(relid)?;
    let (all, _) = program::references(relid)?;
    let Some((schema, name)) = crate::server::heap::name(relid) else { return Ok(None) };
    let table = qualified(&schema, &name);
    let managed = managed::find(relid)?;
    // A partition has the copy of its root's.
    let own: Vec<_> = all.into_iter().filter(|key| key.child == relid).collect();
    let mut changes = Vec::new();
    for deferrable in [false, true] {
        let keys: Vec<_> = own.iter().filter(|key| key.deferrable == deferrable).collect();
        let mut columns: Vec<&String> = keys.iter().flat_map(|key| &key.child_columns).collect();
        columns.sort_unstable();
        columns.dedup();
        let row = |name: &str| {
            let fields: Vec<String> =
                columns.iter().map(|column| format!("{name}.{}", quote_identifier(column.as_str()))).collect();
            format!("ROW({})", fields.join(", "))
        };
        // In the server's own words, parentheses and all: it is compared with what is there. `pg`: what names of the server's have in
        // front, which is left out in its own and never in what is run.
        let when = |event: &str, pg: &str| {
            let changed = format!("{pg}record_image_ne({}, {})", row("old"), row("new"));
            match (&managed, event) {
                (None, "INSERT") => String::new(),
                (None, _) => format!("WHEN ({changed}) "),
                (Some(managed), "INSERT") => format!("WHEN ((new.{} IS NULL)) ", quote_identifier(&managed.deleted_at)),
                (Some(managed), _) => format!(
                    "WHEN (((new.{at} IS NULL) AND ({changed} OR ((old.{at} IS NOT NULL) \
                     AND upkeep._is_by_hand(({}::{pg}regclass)::{pg}oid, new.{}))))) ",
                    literal(&managed.sql()),
                    quote_identifier(&managed.deletion_id),
                    at = quote_identifier(&managed.deleted_at),
                ),
            }
        };
        let (suffix, timing) = if deferrable {
            ("_deferred", "DEFERRABLE INITIALLY DEFERRED")
        } else {
            ("", "NOT DEFERRABLE INITIALLY IMMEDIATE")
        };
        for event in ["INSERT", "UPDATE"] {
            let name = format!("{LIVE_PARENT}_{}{suffix}", event.to_lowercase());
            let known = there.find(&name);
            let definition = |pg: &str| {
                format!(
                    "CREATE CONSTRAINT TRIGGER {name} AFTER {event} ON {table} {timing} FOR EACH ROW \
                     {}EXECUTE FUNCTION upkeep._soft_delete_live_parent()",
                    when(event, pg)
                )
            };
            let is_wanted = !keys.is_empty() && (known.is_some() || there.lack(&name, &table, &mut taken));
            let is_as_wanted = known.is_some_and(|known| known.definition.as_ref() == Some(&definition("")));
            if (known.is_some() || is_wanted) && !(is_wanted && is_as_wanted) {
                let comes = is_wanted.then(|| definition("pg_catalog."));
                changes.push(Change { goes: known.is_some(), comes, name });
            }
        }
    }
    Ok(Some(Checks { table, owner: owner(relid)?, any: !own.is_empty(), changes, taken }))
}

/// Makes the check of a table that references tables with soft delete what it is to be, or removes it if it references none.
/// Where there is nothing to change the table is not locked.
pub fn ensure_live_parents(relid: Oid) -> Result<Vec<Taken>> {
    let Some(Checks { table, owner, any, changes, taken }) = live_parents(relid)? else { return Ok(Vec::new()) };
    if any && !changes.is_empty() {
        require_trigger(relid, owner, None)?;
    }
    for Change { name, goes, comes } in changes {
        spi::as_owner(owner, || {
            if goes {
                spi::execute(&format!("DROP TRIGGER {name} ON {table}"), &[])?;
            }
            if let Some(create) = &comes {
                spi::execute(create, &[])?;
            }
            Ok(())
        })?;
    }
    Ok(taken)
}

/// A partition to be gets the checks of its parent under the same names. Its own, which it has because it was one before, or references
/// a table with soft delete by itself, go first: whoever attaches it may drop them.
pub fn make_way_for_parent(partition: Oid) -> Result<()> {
    spi::unambiguous(|| {
        let own = spi::execute_returning(
            "SELECT pg_catalog.format('DROP TRIGGER %I ON %I.%I', t.tgname, n.nspname, c.relname)
             FROM pg_catalog.pg_trigger t
             JOIN pg_catalog.pg_proc p ON p.oid OPERATOR(pg_catalog.=) t.tgfoid
             JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) t.tgrelid
             JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace
             WHERE t.tgrelid OPERATOR(pg_catalog.=) $1 AND t.tgparentid OPERATOR(pg_catalog.=) 0::pg_catalog.oid
               AND p.pronamespace OPERATOR(pg_catalog.=) 'upkeep'::pg_catalog.regnamespace
               AND p.proname OPERATOR(pg_catalog.=) '_soft_delete_live_parent'
               AND pg_catalog.pg_has_role(c.relowner, 'USAGE')",
            &[partition.into()],
            |row| row.require::<String>(1),
        )?;
        for statement in own {
            spi::execute(&statement, &[])?;
        }
        Ok(())
    })
}

pub fn owner(relid: Oid) -> Result<Oid> {
    let owner = spi::query_one(
        "SELECT c.relowner FROM pg_catalog.pg_class c WHERE c.oid OPERATOR(pg_catalog.=) $1",
        &[relid.into()],
        |row| row.require(1),
    )?;
    Ok(owner.unwrap_or(Oid::INVALID))
}

/// A name with an ending, as long as the server allows.
pub fn with_ending(name: &str, ending: &str) -> String {
    const LONGEST: usize = 63;
    let mut end = name.len().min(LONGEST - ending.len());
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}{ending}", &name[..end])
}

/// Creates the view of live rows of a table, or that of deleted ones, under this name, with the table's grants.
pub fn create_view(managed: &Managed, schema: &str, name: &str, live: bool) -> Result<Oid> {
    let columns = managed::columns(managed.relid)?;
    let list: Vec<String> = columns.iter().map(|column| format!("t.{}", identifier(&column.name))).collect();
    let view = qualified(schema, name);
    let condition = if live { "IS NULL" } else { "IS NOT NULL" };
    spi::as_owner(managed.owner, || {
        spi::execute(
            &format!(
                "CREATE VIEW {view} WITH (security_invoker = true) AS
                 SELECT {} FROM {} AS t WHERE t.{} {condition}",
                list.join(", "),
                managed.sql(),
                identifier(&managed.deleted_at)
            ),
            &[],
        )
    })?;
    let found =
        spi::execute_returning("SELECT $1::pg_catalog.regclass::pg_catalog.oid", &[view.as_str().into()], |row| {
            row.require::<Oid>(1)
        })?;
    let oid = found.into_iter().next().unwrap_or(Oid::INVALID);
    if live {
        // It is new: nobody has put anything on it.
        warn(ensure_view_triggers(managed, oid)?);
    }
    let privileges: &[&str] = if live { &["SELECT", "INSERT", "UPDATE", "DELETE"] } else { &["SELECT"] };
    spi::as_owner(managed.owner, || copy_grants(managed, &view, privileges))?;
    Ok(oid)
}

/// Makes the triggers of a live view that are missing.
pub fn ensure_view_triggers(managed: &Managed, view: Oid) -> Result<Vec<Taken>> {
    let mut taken = Vec::new();
    let there = triggers(view)?;
    let Some((schema, name)) = crate::server::heap::name(view) else { return Ok(taken) };
    let view = qualified(&schema, &name);
    spi::as_owner(managed.owner, || {
        for (name, rest) in [
            (ROW, format!("INSTEAD OF DELETE ON {view} FOR EACH ROW EXECUTE FUNCTION upkeep._soft_delete_view_row()")),
            (BEGIN, format!("BEFORE DELETE ON {view} FOR EACH STATEMENT EXECUTE FUNCTION upkeep._soft_delete_view()")),
            (
                STATEMENT,
                format!("AFTER DELETE ON {view} FOR EACH STATEMENT EXECUTE FUNCTION upkeep._soft_delete_view()"),
            ),
        ] {
            if there.lack(name, &view, &mut taken) {
                spi::execute(&format!("CREATE TRIGGER {name} {rest}"), &[])?;
            }
        }
        Ok(())
    })?;
    Ok(taken)
}

/// Whoever may do it to the table may do it to the view; the table's own rights are looked at as well.
fn copy_grants(managed: &Managed, view: &str, privileges: &[&str]) -> Result<()> {
    let grants = spi::execute_returning(
        "SELECT a.privilege_type,
                CASE a.grantee WHEN 0::pg_catalog.oid THEN 'PUBLIC' ELSE pg_catalog.quote_ident(r.rolname) END,
                a.is_grantable
         FROM pg_catalog.pg_class c
         CROSS JOIN LATERAL pg_catalog.aclexplode(c.relacl) a
         LEFT JOIN pg_catalog.pg_roles r ON r.oid OPERATOR(pg_catalog.=) a.grantee
         WHERE c.oid OPERATOR(pg_catalog.=) $1 AND a.grantee OPERATOR(pg_catalog.<>) c.relowner",
        &[managed.relid.into()],
        |row| Ok((row.next::<String>()?, row.next::<String>()?, row.next::<bool>()?)),
    )?;
    for (privilege, grantee, grantable) in grants {
        if privileges.contains(&&*privilege) {
            let option = if grantable { " WITH GRANT OPTION" } else { "" };
            spi::execute(&format!("GRANT {privilege} ON {view} TO {grantee}{option}"), &[])?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::with_ending;

    #[test]
    fn names_stay_names() {
        assert_eq!(with_ending("users", "_live"), "users_live");
        let long = with_ending(&"ü".repeat(40), "_deleted");
        assert!(long.len() <= 63 && long.ends_with("ü_deleted"), "{long}");
    }
}
