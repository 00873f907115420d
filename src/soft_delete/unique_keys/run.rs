//! The job: for each key build its successor concurrently, then let that take its place under a short lock.
//!
//! Builds run outside of transactions: each step looks first at what is there (LAW 17). An index that a build has left
//! invalid is dropped, and so is a successor that never took its place.

use std::time::Duration;

use crate::sql::quote::literal;
use pgrx::Uuid;
use pgrx::spi::quote_identifier;
use serde::{Deserialize, Serialize};

use super::plan::{self, Fate, Key, Subject};
use crate::ddl::{Holders, waits_for_lock, without_waiting};
use crate::error::*;
use crate::jobs::clean_up;
use crate::jobs::kind::{Completion, Context, Job, Outcome, Plan, Work};
use crate::jobs::retry::{Tries, Verdict};
use crate::server::{Oid, heap, spi};

/// Builds of one index that may fail before the job does.
const MOST_TRIES: u32 = 3;
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct Cursor {
    /// The index that is being built, and how often that has failed.
    building: Option<String>,
    tries: u32,
    done: u32,
}

pub struct Run {
    job: Uuid,
    relid: Oid,
    busy: u32,
}

/// What a successor is like before it has taken its place.
enum Found {
    Nothing,
    Invalid,
    Valid,
}

impl Run {
    pub fn open(job: &Job) -> Result<Self> {
        let relid = job.relid.ok_or_else(|| gone(&job.target))?;
        Ok(Run { job: job.id, relid, busy: 0 })
    }

    fn next(&self, context: &mut Context, subject: &Subject, mut cursor: Cursor) -> Result<Outcome> {
        let keys = plan::keys(subject)?;
        let left = keys.iter().filter(|key| matches!(key.fate, Fate::Replaced { .. })).count();
        context.plan = Some(Plan {
            strategy: "one index after the other".into(),
            rows_estimate: 0,
            units_total: f64::from(cursor.done) + left as f64,
        });
        let Some(key) = keys.into_iter().find(|key| matches!(key.fate, Fate::Replaced { .. })) else {
            // A key may have become one that is kept while its successor was built.
            if let Some((_, Some(leftover))) = leftovers(self.job)?.first() {
                return Ok(Outcome::TopLevel(format!("DROP INDEX CONCURRENTLY IF EXISTS {leftover}")));
            }
            spi::bookkeeping(|| clean_up::cleaned_up(self.job))?;
            return Ok(Outcome::Done { rows_left: 0 });
        };
        let Fate::Replaced { definition } = &key.fate else { return Ok(Outcome::Continue) };
        let successor = successor_name(self.job, key.indexrelid);
        let outcome = match self.look(&successor)? {
            Found::Valid => return self.replace(context, subject, &key, &successor, cursor),
            Found::Invalid => Outcome::TopLevel(format!("DROP INDEX CONCURRENTLY {}", self.qualified(&successor)?)),
            Found::Nothing if let Some(astray) = self.astray(&successor)? => {
                cursor.tries += 1;
                if cursor.tries > MOST_TRIES {
                    return Ok(Outcome::Fail(Error::new(
                        SERIALIZATION_FAILURE,
                        format!("another table has the name of {} each time that an index is built", subject.sql),
                    )));
                }
                Outcome::TopLevel(format!("DROP INDEX CONCURRENTLY IF EXISTS {astray}"))
            }
            Found::Nothing => {
                if !spi::bookkeeping(|| clean_up::will_need_cleanup(self.job))? {
                    return Ok(Outcome::Continue);
                }
                context.event("building", format!("the successor of {}", quote_identifier(&key.name)));
                cursor.building = Some(key.name.clone());
                Outcome::TopLevel(plan::create_command(&successor, definition))
            }
        };
        context.claimed = true;
        context.cursor = Some(serde_json::to_value(cursor)?);
        Ok(outcome)
    }

    /// The table's index of this name.
    fn index(&self, name: &str) -> Result<Option<Oid>> {
        let found = spi::execute_returning(
            "SELECT i.indexrelid FROM pg_catalog.pg_index i
             JOIN pg_catalog.pg_class x ON x.oid OPERATOR(pg_catalog.=) i.indexrelid
             WHERE i.indrelid OPERATOR(pg_catalog.=) $1 AND x.relname OPERATOR(pg_catalog.=) $2::pg_catalog.name",
            &[self.relid.into(), name.into()],
            |row| row.require::<Oid>(1),
        )?;
        Ok(found.into_iter().next())
    }

    /// A successor that was built on another table, which had this one's name when CREATE INDEX looked it up.
    fn astray(&self, name: &str) -> Result<Option<String>> {
        spi::query_one(
            "SELECT pg_catalog.format('%I.%I', n.nspname, x.relname) FROM pg_catalog.pg_class x
             JOIN pg_catalog.pg_index i ON i.indexrelid OPERATOR(pg_catalog.=) x.oid
             JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) x.relnamespace
             WHERE x.relname OPERATOR(pg_catalog.=) $2::pg_catalog.name AND i.indrelid OPERATOR(pg_catalog.<>) $1
               AND pg_catalog.pg_has_role(x.relowner, 'USAGE')",
            &[self.relid.into(), name.into()],
            |row| row.require::<String>(1),
        )
    }

    fn look(&self, name: &str) -> Result<Found> {
        let valid = spi::query_one(
            "SELECT i.indisvalid AND i.indisready FROM pg_catalog.pg_index i
             JOIN pg_catalog.pg_class x ON x.oid OPERATOR(pg_catalog.=) i.indexrelid
             WHERE i.indrelid OPERATOR(pg_catalog.=) $1 AND x.relname OPERATOR(pg_catalog.=) $2::pg_catalog.name",
            &[self.relid.into(), name.into()],
            |row| row.require::<bool>(1),
        )?;
        Ok(match valid {
            None => Found::Nothing,
            Some(false) => Found::Invalid,
            Some(true) => Found::Valid,
        })
    }

    /// An index is in the schema of its table.
    fn qualified(&self, name: &str) -> Result<String> {
        let (schema, _) = heap::name(self.relid).ok_or_else(|| gone("(unnamed)"))?;
        Ok(format!("{}.{}", quote_identifier(schema), quote_identifier(name)))
    }

    /// The old key goes and the new one takes its name, in one transaction that waits for nobody.
    fn replace(
        &self,
        context: &mut Context,
        subject: &Subject,
        key: &Key,
        successor: &str,
        cursor: Cursor,
    ) -> Result<Outcome> {
        let table = &subject.sql;
        let drop = match &key.constraint {
            Some(constraint) => format!("ALTER TABLE {table} DROP CONSTRAINT {}", quote_identifier(constraint)),
            None => format!("DROP INDEX {}", self.qualified(&key.name)?),
        };
        let rename = format!("ALTER INDEX {} RENAME TO {}", self.qualified(successor)?, quote_identifier(&key.name));
        let comment = match &key.comment {
            Some(comment) => Some(format!("COMMENT ON INDEX {} IS {}", self.qualified(&key.name)?, literal(comment))),
            None => None,
        };
        let replaced = without_waiting(|| {
            if !heap::lock_exclusively(self.relid) {
                return Err(gone(table));
            }
            // Under the lock: is everything still as it was?
            let unchanged =
                plan::keys(subject)?.iter().any(|now| now.indexrelid == key.indexrelid && now.fate == key.fate);
            if unchanged {
                let built = self.index(successor)?;
                spi::execute(&drop, &[])?;
                spi::execute(&rename, &[])?;
                comment.as_deref().map_or(Ok(0), |comment| spi::execute(comment, &[]))?;
                // The lock is the table's; a schema can get another name all the same, and what was done by name was done to
                // something else. Then all of it is undone.
                if heap::exists(key.indexrelid) || built.is_none() || self.index(&key.name)? != built {
                    return Err(Error::new(
                        SERIALIZATION_FAILURE,
                        format!("the schema of {table} was renamed meanwhile"),
                    ));
                }
            }
            Ok(unchanged)
        })?;
        match replaced {
            Some(true) => {
                context.event("replaced", format!("{} counts live rows only", quote_identifier(&key.name)));
                context.units = 1.0;
                context.cursor = Some(serde_json::to_value(Cursor { done: cursor.done + 1, ..Cursor::default() })?);
                Ok(Outcome::Continue)
            }
            Some(false) => Ok(Outcome::Continue),
            None => {
                let reason = waits_for_lock(&[self.relid], Holders::All, "replace a unique key")?;
                let time = (Duration::from_millis(100) * 2u32.saturating_pow(self.busy.min(10))).min(LONGEST_PAUSE);
                Ok(Outcome::Wait { reason, time })
            }
        }
    }
}

impl Work for Run {
    fn step(&mut self, context: &mut Context) -> Result<Outcome> {
        let cursor: Cursor = match &context.cursor {
            Some(stored) => serde_json::from_value(stored.clone())?,
            None => Cursor::default(),
        };
        if !heap::exists(self.relid) {
            return Err(gone(&context.job.target));
        }
        let subject = plan::subject(Some(self.relid))?;
        let outcome = self.next(context, &subject, cursor)?;
        self.busy = if matches!(outcome, Outcome::Wait { .. }) { self.busy + 1 } else { 0 };
        Ok(outcome)
    }

    fn relid(&self) -> Option<Oid> {
        Some(self.relid)
    }

    /// The server has written the definitions.
    fn writes_its_statements(&self) -> bool {
        true
    }

    /// What the build has left is looked at by the next step, whatever it answered.
    fn top_level_done(&mut self, context: &mut Context, answer: Result<Completion>) -> Result<Outcome> {
        let Err(error) = answer else { return Ok(Outcome::Continue) };
        let mut cursor: Cursor = match &context.cursor {
            Some(stored) => serde_json::from_value(stored.clone())?,
            None => Cursor::default(),
        };
        cursor.tries += 1;
        let tries = cursor.tries;
        context.cursor = Some(serde_json::to_value(cursor)?);
        match Tries::default().judge(&error) {
            Verdict::Again(_) if tries < MOST_TRIES => {
                let reason = format!("waits to build an index again after SQLSTATE {}", error.sqlstate);
                // What the error says contains data, which events show to the owner only (LAW 5).
                context.event("build failed", error.message);
                Ok(Outcome::Wait { reason, time: Duration::from_secs(1) })
            }
            _ => Ok(Outcome::Fail(error)),
        }
    }
}

fn gone(table: &str) -> Error {
    Error::new(UNDEFINED_TABLE, format!("table {table} does not exist (any more)"))
}

fn prefix(job: Uuid) -> String {
    let id: String = job.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("upkeep_live_{id}_")
}

fn successor_name(job: Uuid, index: Oid) -> String {
    format!("{}{}", prefix(job), index.to_u32())
}

/// The job's indexes that have not taken anybody's place, and their table.
fn leftovers(job: Uuid) -> Result<Vec<(Oid, Option<String>)>> {
    spi::bookkeeping(|| {
        spi::execute_returning(
            "SELECT i.indrelid, pg_catalog.format('%I.%I', n.nspname, x.relname)
             FROM upkeep._job j
             JOIN pg_catalog.pg_index i ON i.indrelid OPERATOR(pg_catalog.=) j.relid
             JOIN pg_catalog.pg_class x ON x.oid OPERATOR(pg_catalog.=) i.indexrelid
                  AND pg_catalog.starts_with(x.relname::pg_catalog.text, $2)
             JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) x.relnamespace
             WHERE j.id OPERATOR(pg_catalog.=) $1",
            &[job.into(), prefix(job).into()],
            |row| Ok((row.require(1)?, row.get(2)?)),
        )
    })
}

/// Drops them. `Some`: why that must wait.
pub fn drop_leftovers(job: Uuid) -> Result<Option<String>> {
    let found = leftovers(job)?;
    let Some(&(relid, _)) = found.first() else { return Ok(None) };
    let gone = without_waiting(|| {
        spi::bookkeeping(|| {
            heap::lock_exclusively(relid);
            for index in found.iter().filter_map(|(_, index)| index.as_deref()) {
                spi::execute(&format!("DROP INDEX IF EXISTS {index}"), &[])?;
            }
            // As in `replace`: by name it may have been somebody else's.
            match leftovers(job)?.is_empty() {
                true => Ok(()),
                false => Err(Error::new(SERIALIZATION_FAILURE, "the schema of the table was renamed meanwhile")),
            }
        })
    })?;
    if gone.is_some() {
        return Ok(None);
    }
    waits_for_lock(&[relid], Holders::All, "drop an unfinished index").map(Some)
}
