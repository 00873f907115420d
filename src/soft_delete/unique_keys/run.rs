//! The job: for each key build its successor concurrently, then let that take its place under a short lock. Two steps for each key, of
//! a sequence that is planned when the job begins, and once more at its end.
//!
//! Builds run outside of transactions: each step looks first at what is there (LAW 17). An index that a build has left
//! invalid is dropped, and so is a successor that never took its place.

use std::time::Duration;

use crate::sql::quote::literal;
use pgrx::Uuid;
use pgrx::spi::quote_identifier;
use serde::{Deserialize, Serialize};

use super::plan::{self, Fate, Key, Subject};
use crate::ddl::{self, Attempt, Wanted};
use crate::error::*;
use crate::jobs::clean_up;
use crate::jobs::kind::{Completion, Context, Job, Outcome, Work};
use crate::jobs::retry::{Tries, Verdict};
use crate::jobs::sequence::{Part, Planned};
use crate::server::table_lock::Mode;
use crate::server::{Oid, heap, spi};

/// Builds of one index that may fail before the job does.
const MOST_TRIES: u32 = 3;

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct Cursor {
    /// How often the build has failed.
    tries: u32,
}

/// How far a step brings a key.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Until {
    Built,
    Replaced,
}

/// What a step is to do: which key, as it was called when that was planned.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Params {
    until: Until,
    indexrelid: u32,
    name: String,
    successor: String,
}

/// What is to be done about a table as it is now.
pub fn plan(job: &Job) -> Result<Vec<Part>> {
    let relid = existing(job)?;
    let subject = plan::subject(Some(relid))?;
    let mut parts = Vec::new();
    for key in plan::keys(&subject)? {
        let Fate::Replaced { definition } = &key.fate else { continue };
        let successor = successor_name(job.id, key.indexrelid);
        let step = |until: Until, action: &str, command: String, lock_mode| {
            let params = Params {
                until,
                indexrelid: key.indexrelid.to_u32(),
                name: key.name.clone(),
                successor: successor.clone(),
            };
            Ok::<_, Error>(Part::Step(Planned {
                action: action.to_owned(),
                command: Some(command),
                relid: Some(relid),
                lock_mode: Some(lock_mode),
                reversible: false,
                params: serde_json::to_value(params)?,
            }))
        };
        let build = plan::create_command(&successor, definition);
        let replace = Replacement::of(relid, &subject, &key, &successor)?.command();
        parts.push(step(Until::Built, "build index", build, "ShareUpdateExclusiveLock")?);
        parts.push(step(Until::Replaced, "replace index", replace, "AccessExclusiveLock")?);
    }
    Ok(parts)
}

fn existing(job: &Job) -> Result<Oid> {
    job.relid.filter(|&relid| heap::exists(relid)).ok_or_else(|| gone(&job.target))
}

/// A step at work.
pub struct Run {
    job: Uuid,
    relid: Oid,
    params: Params,
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
        Ok(Run { job: job.id, relid, params: serde_json::from_value(job.params.clone())? })
    }

    /// The key, if it is still to be replaced. In a copy of the database it has another OID, and the same name.
    fn key(&self, subject: &Subject) -> Result<Option<Key>> {
        let mut keys = plan::keys(subject)?;
        let is_it = |key: &Key| key.indexrelid.to_u32() == self.params.indexrelid && key.name == self.params.name;
        let found = keys
            .iter()
            .position(is_it)
            .or_else(|| keys.iter().position(|key| key.name == self.params.name))
            .or_else(|| keys.iter().position(|key| key.indexrelid.to_u32() == self.params.indexrelid));
        Ok(found.map(|at| keys.swap_remove(at)).filter(|key| matches!(key.fate, Fate::Replaced { .. })))
    }

    fn next(&mut self, context: &mut Context, subject: &Subject) -> Result<Outcome> {
        let successor = self.params.successor.clone();
        let Some(key) = self.key(subject)? else {
            // It has become one that is kept while its successor was built, or somebody has dropped it.
            if let Found::Valid | Found::Invalid = self.look(&successor)? {
                return Ok(Outcome::TopLevel(format!(
                    "DROP INDEX CONCURRENTLY IF EXISTS {}",
                    self.qualified(&successor)?
                )));
            }
            self.forget_clean_up()?;
            context.skipped("the key is not to be replaced any more");
            return Ok(Outcome::Done { rows_left: 0 });
        };
        let Fate::Replaced { definition } = &key.fate else { return Ok(Outcome::Continue) };
        let mut cursor: Cursor = context.cursor()?.unwrap_or_default();
        let outcome = match self.look(&successor)? {
            Found::Valid if self.params.until == Until::Built => return Ok(Outcome::Done { rows_left: 0 }),
            Found::Valid => return self.replace(context, subject, &key, &successor),
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
                Outcome::TopLevel(plan::create_command(&successor, definition))
            }
        };
        context.keep_for_good();
        context.set_cursor(&cursor)?;
        Ok(outcome)
    }

    /// Nothing of the job is left to be removed, if so.
    fn forget_clean_up(&self) -> Result<()> {
        if leftovers(self.job)?.is_empty() {
            spi::bookkeeping(|| clean_up::cleaned_up(self.job))?;
        }
        Ok(())
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

    fn qualified(&self, name: &str) -> Result<String> {
        qualified(self.relid, name)
    }

    /// The old key goes and the new one takes its name, in one transaction that waits for nobody.
    fn replace(&self, context: &mut Context, subject: &Subject, key: &Key, successor: &str) -> Result<Outcome> {
        let table = &subject.sql;
        let replacement = Replacement::of(self.relid, subject, key, successor)?;
        let replaced = ddl::attempt(&[alone(self.relid)], context.lock_tries(), || {
            if !heap::exists(self.relid) {
                return Err(gone(table));
            }
            // Under the lock: is everything still as it was?
            let unchanged =
                plan::keys(subject)?.iter().any(|now| now.indexrelid == key.indexrelid && now.fate == key.fate);
            if unchanged {
                let built = self.index(successor)?;
                replacement.run()?;
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
            Attempt::Done(true) => {
                context.has_had_locks();
                context.event("replaced", format!("{} counts live rows only", quote_identifier(&key.name)));
                self.forget_clean_up()?;
                Ok(Outcome::Done { rows_left: 0 })
            }
            Attempt::Done(false) => Ok(Outcome::Continue),
            Attempt::Blocked(blocked) => Ok(context.locked_out(blocked, "replace a unique key")),
        }
    }
}

/// The statements with which a successor takes the place of a key.
struct Replacement {
    drop: String,
    rename: String,
    comment: Option<String>,
}

impl Replacement {
    fn of(relid: Oid, subject: &Subject, key: &Key, successor: &str) -> Result<Self> {
        let drop = match &key.constraint {
            Some(constraint) => format!("ALTER TABLE {} DROP CONSTRAINT {}", subject.sql, quote_identifier(constraint)),
            None => format!("DROP INDEX {}", qualified(relid, &key.name)?),
        };
        let name = qualified(relid, &key.name)?;
        let comment = key.comment.as_deref().map(|comment| format!("COMMENT ON INDEX {name} IS {}", literal(comment)));
        let rename = format!("ALTER INDEX {} RENAME TO {}", qualified(relid, successor)?, quote_identifier(&key.name));
        Ok(Replacement { drop, rename, comment })
    }

    fn statements(&self) -> impl Iterator<Item = &str> {
        [self.drop.as_str(), self.rename.as_str()].into_iter().chain(self.comment.as_deref())
    }

    /// As people would type it.
    fn command(&self) -> String {
        self.statements().map(|statement| format!("{statement};")).collect::<Vec<_>>().join(" ")
    }

    fn run(&self) -> Result<()> {
        self.statements().try_for_each(|statement| spi::execute(statement, &[]).map(drop))
    }
}

/// An index is in the schema of its table.
fn qualified(relid: Oid, name: &str) -> Result<String> {
    let (schema, _) = heap::name(relid).ok_or_else(|| gone("(unnamed)"))?;
    Ok(format!("{}.{}", quote_identifier(schema), quote_identifier(name)))
}

impl Work for Run {
    fn step(&mut self, context: &mut Context) -> Result<Outcome> {
        if !heap::exists(self.relid) {
            return Err(gone(&context.job().target));
        }
        let subject = plan::subject(Some(self.relid))?;
        self.next(context, &subject)
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
        let mut cursor: Cursor = context.cursor()?.unwrap_or_default();
        cursor.tries += 1;
        let tries = cursor.tries;
        context.set_cursor(&cursor)?;
        match Tries::default().judge(&error) {
            Verdict::Again(_) if tries < MOST_TRIES => {
                let reason = format!("waits to build an index again after SQLSTATE {}", error.sqlstate);
                // What the error says contains data, which events show to the owner only (LAW 5).
                let event = if error.sqlstate == QUERY_CANCELED { "build interrupted" } else { "build failed" };
                context.event(event, error.message);
                Ok(Outcome::Wait { reason, time: Duration::from_secs(1) })
            }
            _ => Ok(Outcome::Fail(error)),
        }
    }
}

/// The table, for oneself. Its indexes nobody has who has not the table.
fn alone(relid: Oid) -> Wanted {
    Wanted { relid, mode: Mode::AccessExclusive, with_children: false }
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
    let gone = ddl::attempt(&[alone(relid)], &clean_up::tries(job)?, || {
        spi::bookkeeping(|| {
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
    Ok(match gone {
        Attempt::Done(()) => None,
        Attempt::Blocked(blocked) => Some(blocked.reason("drop an unfinished index")),
    })
}
