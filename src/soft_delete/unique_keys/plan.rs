//! The unique keys of a table, and what becomes of each.

use pgrx::spi::quote_identifier;

use crate::calls::{arguments, relation};
use crate::error::*;
use crate::server::{Oid, catalog, heap, spi};
use crate::soft_delete::managed;
use crate::sql::quote;

/// A soft-deleted table whose owner asks.
#[derive(Clone, Debug)]
pub struct Subject {
    pub relid: Oid,
    /// Quoted and qualified.
    pub sql: String,
    pub deleted_at: String,
    /// Whose table it is, where it is not that of whoever asks himself: he may have the owner's rights, or be a superuser.
    owner: Option<String>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Fate {
    /// The definition of its successor: what follows the name in CREATE UNIQUE INDEX.
    Replaced {
        definition: String,
    },
    LiveOnly,
    Kept {
        reason: String,
        alternative: String,
    },
}

#[derive(Clone, Debug)]
pub struct Key {
    pub indexrelid: Oid,
    /// The index's name.
    pub name: String,
    pub constraint: Option<String>,
    pub comment: Option<String>,
    pub fate: Fate,
}

/// Checks who asks for what.
pub fn subject(target: Option<Oid>) -> Result<Subject> {
    let relid = arguments::required(target, "target")?;
    let managed = managed::find_whole(relid)?;
    let relid = managed.as_ref().map_or(relid, |managed| managed.relid);
    let found = spi::query_one(
        "SELECT pg_catalog.format('%I.%I', n.nspname, c.relname), pg_catalog.pg_has_role(c.relowner, 'USAGE'),
                c.relkind OPERATOR(pg_catalog.=) 'p', c.relowner
         FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace
         WHERE c.oid OPERATOR(pg_catalog.=) $1",
        &[relid.into()],
        |row| Ok((row.require::<String>(1)?, row.require::<bool>(2)?, row.require::<bool>(3)?, row.require::<Oid>(4)?)),
    )?;
    let Some((sql, owned, partitioned, owner)) = found else {
        return Err(relation::missing(relid));
    };
    let Some(managed) = managed else { return Err(managed::not_enabled(&sql)) };
    if !owned {
        return Err(Error::new(INSUFFICIENT_PRIVILEGE, format!("must be owner of table {sql} to change its keys")));
    }
    let at = quote_identifier(&managed.deleted_at);
    if partitioned {
        return Err(Error::new(FEATURE_NOT_SUPPORTED, format!("the unique keys of {sql} cannot be changed concurrently"))
            .detail("It is partitioned: PostgreSQL builds no index of a partitioned table concurrently.")
            .hint(format!(
                "For each key: CREATE UNIQUE INDEX CONCURRENTLY .. WHERE {at} IS NULL on each partition, \
                 then CREATE UNIQUE INDEX .. WHERE {at} IS NULL on {sql}, which finds them there, then drop the constraint."
            )));
    }
    let owner = (owner != catalog::current_user()).then(|| catalog::role_name(owner).unwrap_or_default());
    Ok(Subject { relid, sql, deleted_at: managed.deleted_at, owner })
}

/// An index as the catalogs describe it.
struct Facts {
    definition: String,
    predicate: Option<String>,
    has_expressions: bool,
    tablespace: Option<String>,
    constraint_definition: Option<String>,
    primary: bool,
    exclusion: bool,
    deferrable: bool,
    replica_identity: bool,
    valid: bool,
    attached: bool,
    referenced_by: Option<String>,
}

const KEYS: &str = "
    SELECT i.indexrelid, x.relname::pg_catalog.text, k.conname::pg_catalog.text,
           coalesce(pg_catalog.obj_description(k.oid, 'pg_constraint'), pg_catalog.obj_description(i.indexrelid, 'pg_class')),
           pg_catalog.pg_get_indexdef(i.indexrelid), pg_catalog.pg_get_expr(i.indpred, i.indrelid),
           (SELECT t.spcname::pg_catalog.text FROM pg_catalog.pg_tablespace t WHERE t.oid OPERATOR(pg_catalog.=) x.reltablespace),
           pg_catalog.pg_get_constraintdef(k.oid),
           i.indisprimary, i.indisexclusion OR coalesce(k.contype OPERATOR(pg_catalog.=) 'x', false),
           coalesce(k.condeferrable, false) OR NOT i.indimmediate, i.indisreplident,
           i.indisvalid AND i.indisready AND i.indislive, x.relispartition,
           (SELECT pg_catalog.string_agg(pg_catalog.format('%I of %s', f.conname, f.conrelid::pg_catalog.regclass), ', ' ORDER BY f.oid)
            FROM pg_catalog.pg_constraint f
            WHERE f.conindid OPERATOR(pg_catalog.=) i.indexrelid AND f.contype OPERATOR(pg_catalog.=) 'f'),
           i.indexprs IS NOT NULL
    FROM pg_catalog.pg_index i
    JOIN pg_catalog.pg_class x ON x.oid OPERATOR(pg_catalog.=) i.indexrelid
    LEFT JOIN pg_catalog.pg_constraint k
         ON k.conindid OPERATOR(pg_catalog.=) i.indexrelid AND k.conrelid OPERATOR(pg_catalog.=) i.indrelid
        AND k.contype OPERATOR(pg_catalog.=) ANY (ARRAY['p', 'u', 'x']::pg_catalog.\"char\"[])
    WHERE i.indrelid OPERATOR(pg_catalog.=) $1 AND (i.indisunique OR i.indisexclusion)
    ORDER BY i.indisprimary DESC, i.indexrelid";

/// The unique keys as they are now. Texts are the server's, every name qualified.
pub fn keys(subject: &Subject) -> Result<Vec<Key>> {
    // Definitions are read from the newest catalogs, and indexes found by a snapshot: under the lock none goes in between.
    if !heap::lock_for_reading(subject.relid) {
        return Err(relation::missing(subject.relid));
    }
    spi::unambiguous(|| {
        spi::execute_returning(KEYS, &[subject.relid.into()], |row| {
            let facts = Facts {
                definition: row.require(5)?,
                predicate: row.get(6)?,
                tablespace: row.get(7)?,
                constraint_definition: row.get(8)?,
                primary: row.require(9)?,
                exclusion: row.require(10)?,
                deferrable: row.require(11)?,
                replica_identity: row.require(12)?,
                valid: row.require(13)?,
                attached: row.require(14)?,
                referenced_by: row.get(15)?,
                has_expressions: row.require(16)?,
            };
            let name: String = row.require(2)?;
            let fate = facts.fate(&name, subject);
            Ok(Key { indexrelid: row.require(1)?, name, constraint: row.get(3)?, comment: row.get(4)?, fate })
        })
    })
}

impl Facts {
    fn fate(&self, name: &str, subject: &Subject) -> Fate {
        let live = format!("{} IS NULL", quote_identifier(&subject.deleted_at));
        if is_live_only(self.predicate.as_deref(), &live) {
            return Fate::LiveOnly;
        }
        let kept = |reason: &str, alternative: String| Fate::Kept { reason: reason.to_owned(), alternative };
        let add = match self.successor(name, &live) {
            Some(definition) => format!("CREATE UNIQUE INDEX CONCURRENTLY ON {definition};"),
            None => format!("Create a unique index with WHERE {live} by hand."),
        };
        if self.primary {
            return kept(
                "it is the primary key, and deleted rows keep theirs",
                "Give rows generated keys, and what people type a unique key of its own.".to_owned(),
            );
        }
        // To build an index its text is read, and values in it are made by functions of the owner's: the checks of domains.
        if let Some(owner) = &subject.owner
            && (self.has_expressions || self.predicate.is_some())
        {
            let owner = quote_identifier(owner);
            return kept(
                &format!("its expressions or its condition are text of {owner}, which does not run as another role"),
                format!(
                    "SET ROLE {owner}; SELECT upkeep.make_unique_keys_partial({}); RESET ROLE;",
                    quote::literal(&subject.sql)
                ),
            );
        }
        if let Some(references) = &self.referenced_by {
            return kept(
                &format!("foreign keys point at it ({references}), which a partial index cannot serve"),
                "Let them reference the primary key instead, then call upkeep.make_unique_keys_partial() again."
                    .to_owned(),
            );
        }
        if self.attached {
            return kept("it belongs to a key of the partitioned table", "Change the key there.".to_owned());
        }
        if self.exclusion {
            let definition = self.constraint_definition.as_deref().unwrap_or_default();
            return kept(
                "it is an exclusion constraint, which cannot be built concurrently",
                format!(
                    "ALTER TABLE {table} ADD {definition} WHERE ({live}); then ALTER TABLE {table} DROP CONSTRAINT {};",
                    quote_identifier(name),
                    table = subject.sql,
                ),
            );
        }
        if self.deferrable {
            return kept("it is deferrable, which no partial index can be", add);
        }
        if self.replica_identity {
            return kept(
                "it is the replica identity of the table",
                format!(
                    "ALTER TABLE {} REPLICA IDENTITY DEFAULT; then call upkeep.make_unique_keys_partial() again.",
                    subject.sql
                ),
            );
        }
        if !self.valid {
            return kept("the index is not valid", format!("REINDEX INDEX CONCURRENTLY {};", quote_identifier(name)));
        }
        match self.successor(name, &live) {
            Some(definition) => Fate::Replaced { definition },
            None => kept("its definition could not be read", add),
        }
    }

    /// What follows ON in the definition of the index that takes its place.
    fn successor(&self, name: &str, live: &str) -> Option<String> {
        let body = self.definition.strip_prefix(&format!("CREATE UNIQUE INDEX {} ON ", quote_identifier(name)))?;
        let body = match &self.predicate {
            Some(predicate) => body.strip_suffix(&format!(" WHERE {predicate}"))?,
            None => body,
        };
        let place = self
            .tablespace
            .as_deref()
            .map_or_else(String::new, |name| format!(" TABLESPACE {}", quote_identifier(name)));
        let also = self.predicate.as_deref().map_or_else(String::new, |predicate| format!("{predicate} AND "));
        Some(format!("{body}{place} WHERE {also}{live}"))
    }
}

/// The predicate as the server writes it: alone, or one of several that must all hold.
fn is_live_only(predicate: Option<&str>, live: &str) -> bool {
    let Some(predicate) = predicate else { return false };
    let live = format!("({live})");
    if predicate == live {
        return true;
    }
    let Some(inner) = predicate.strip_prefix('(').and_then(|rest| rest.strip_suffix(')')) else { return false };
    // `(a) OR ..` is one operand in parentheses of its own wherever AND is at the top.
    top_level_operands(inner).is_some_and(|operands| operands.contains(&live.as_str()))
}

/// The operands of ` AND ` outside of parentheses and quotes; `None` if there is another operator between them.
fn top_level_operands(text: &str) -> Option<Vec<&str>> {
    let (mut depth, mut start, mut quote) = (0i32, 0, None);
    let mut operands = Vec::new();
    for (at, character) in text.char_indices() {
        match (quote, character) {
            (Some(open), c) if c == open => quote = None,
            (Some(_), _) => {}
            (None, '\'' | '"') => quote = Some(character),
            (None, '(') => depth += 1,
            (None, ')') => depth -= 1,
            (None, ' ') if depth == 0 && text[at..].starts_with(" AND ") => {
                operands.push(text[start..at].trim());
                start = at + 5;
            }
            (None, ' ') if depth == 0 && text[at..].starts_with(" OR ") => return None,
            _ => {}
        }
    }
    operands.push(text[start..].trim());
    Some(operands)
}

/// The statement that builds an index of this name.
pub fn create_command(name: &str, definition: &str) -> String {
    format!("CREATE UNIQUE INDEX CONCURRENTLY {} ON {definition}", quote_identifier(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_counts_live_rows_only_is_left_alone() {
        let live = "deleted_at IS NULL";
        for predicate in
            ["(deleted_at IS NULL)", "((deleted_at IS NULL) AND (n > 3))", "((n > 3) AND (deleted_at IS NULL))"]
        {
            assert!(is_live_only(Some(predicate), live), "{predicate}");
        }
        for predicate in [
            "(deleted_at IS NOT NULL)",
            "((deleted_at IS NULL) OR (n > 3))",
            "((n > 3) AND ((deleted_at IS NULL) OR (m > 3)))",
            "((t = '(deleted_at IS NULL)'::text) AND (n > 3))",
            "(t = ') AND (deleted_at IS NULL) AND ('::text)",
        ] {
            assert!(!is_live_only(Some(predicate), live), "{predicate}");
        }
        assert!(!is_live_only(None, live));
    }
}
