//! Creating jobs: names, limits, and what is captured with them.

use pgrx::Uuid;
use serde_json::{Value, json};

use super::advice::Standstill;
use super::claims::Wait;
use super::kind::Kind;
use super::limits::Limits;
use super::{activity, advice, claims, owners, statement_of, store};
use crate::calls::{arguments, standing};
use crate::error::*;
use crate::server::json::JsonB;
use crate::server::lock::{Lock, Purpose};
use crate::server::raise::{self, Level};
use crate::server::{Oid, catalog, spi};
use crate::settings;

/// A job that somebody asks for.
pub struct NewJob<'a> {
    pub kind: &'static dyn Kind,
    pub name: Option<&'a str>,
    pub relid: Option<Oid>,
    /// Quoted and qualified name of the table, or the command's tag.
    pub target: String,
    pub params: Value,
    pub workers: i32,
    pub batch_time: Option<i32>,
    pub paused: bool,
    /// `None`: whoever asks cannot say so.
    pub if_not_exists: Option<bool>,
    pub retries: i32,
    pub limits: Limits,
    pub parent: Option<Parent>,
}

/// Whose child a job is. It has its limits, and is not counted beside it.
pub struct Parent {
    pub job: Uuid,
    /// Which of its children.
    pub place: String,
    /// How much of its work it stands for (0..1).
    pub share: f64,
}

impl NewJob<'_> {
    /// Nothing said about it: one worker, at once, no name.
    pub fn plain(kind: &'static dyn Kind, target: String, params: Value) -> Self {
        NewJob {
            kind,
            name: None,
            relid: None,
            target,
            params,
            workers: 1,
            batch_time: None,
            paused: false,
            if_not_exists: None,
            retries: 0,
            limits: Limits::default(),
            parent: None,
        }
    }
}

/// Settings of the caller's that decide what his text means (LAW 8).
const CAPTURED: [(&str, &std::ffi::CStr); 6] = [
    ("search_path", c"search_path"),
    ("TimeZone", c"TimeZone"),
    ("DateStyle", c"DateStyle"),
    ("IntervalStyle", c"IntervalStyle"),
    ("default_text_search_config", c"default_text_search_config"),
    ("standard_conforming_strings", c"standard_conforming_strings"),
];

/// Creates a job owned by `current_user`, or finds the one that `if_not_exists` means.
pub fn create(new: NewJob<'_>) -> Result<Uuid> {
    standing::refuse_in_recovery("create a job")?;
    standing::refuse_other_version()?;
    check_arguments(&new)?;
    let owner = catalog::current_user();
    let owner_name = catalog::role_name(owner).unwrap_or_default();
    standing::refuse_nologin_owner(owner, &owner_name)?;
    new.kind.check_params(&new.params)?;

    if let Some(name) = new.name {
        owners::name_lock(owners::JOBS, owner, name).for_transaction();
        if let Some(existing) = find_same(&new, owner, name)? {
            return Ok(existing);
        }
    }
    if new.parent.is_none() {
        check_limit(owner, &owner_name)?;
    }

    let id = catalog::uuid_v7();
    // Read before the switch below pins a search_path of ours.
    let session = captured_session()?;
    let limits = new.limits.with_timezone();
    let wanted = new.kind.claims(new.relid, &new.params)?;
    spi::bookkeeping(|| {
        if let Some(parent) = &new.parent {
            keep_parent(parent.job)?;
        }
        spi::execute(
            "INSERT INTO upkeep._job (id, kind, name, owner, owner_name, relid, target, params, session, state,
                                      workers, batch_time, retries, system_identifier, database, parent, place, share)
             VALUES ($1, $2, $3, $4, $5::pg_catalog.name, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18)",
            &[
                id.into(),
                new.kind.name().into(),
                new.name.into(),
                owner.into(),
                owner_name.as_str().into(),
                new.relid.into(),
                new.target.as_str().into(),
                JsonB(new.params).into(),
                JsonB(session).into(),
                (if new.paused { "paused" } else { "queued" }).into(),
                new.workers.into(),
                new.batch_time.into(),
                new.retries.into(),
                catalog::system_identifier().into(),
                catalog::my_database().into(),
                new.parent.as_ref().map(|parent| parent.job).into(),
                new.parent.as_ref().map(|parent| parent.place.as_str()).into(),
                new.parent.as_ref().map(|parent| parent.share).into(),
            ],
        )?;
        if let Some(parent) = &new.parent {
            store::inherit_limits(id, parent.job)?;
        }
        store::set_limits(id, &limits)?;
        store::add_event(id, if new.paused { "paused" } else { "queued" }, None)
    })?;
    claims::take(id, &wanted, Wait::ForOthers)?;
    if new.parent.is_some() {
        // Its parent's worker has nobody to warn.
        activity::wake_at_commit()?;
    } else if !new.paused {
        wake_or_warn()?;
    }
    Ok(id)
}

/// Children of one job. Kinds make a few; text of a user's must not make any number of them.
const MOST_CHILDREN: i64 = 1000;

/// Only a job that runs has children made, and what is done to it meanwhile waits until it has them: for the rest of a step. Not for
/// the rest of a statement of the user's, which may take hours; what that makes while its job is canceled goes when it has ended
/// ([`note_late`](super::children::note_late)).
fn keep_parent(parent: Uuid) -> Result<()> {
    let lock = if statement_of::job().is_some() { "" } else { "FOR SHARE" };
    let running = spi::execute_returning(
        &format!(
            "SELECT j.id FROM upkeep._job j
             WHERE j.id OPERATOR(pg_catalog.=) $1 AND j.state OPERATOR(pg_catalog.=) 'running' {lock}"
        ),
        &[parent.into()],
        |row| row.require::<Uuid>(1),
    )?;
    if running.is_empty() {
        return Err(Error::new(OBJECT_NOT_IN_PREREQUISITE_STATE, format!("job {parent} does not run any more")));
    }
    let children = spi::query_one(
        "SELECT pg_catalog.count(*) FROM upkeep._job WHERE parent OPERATOR(pg_catalog.=) $1",
        &[parent.into()],
        |row| row.require::<i64>(1),
    )?;
    if children.unwrap_or(0) >= MOST_CHILDREN {
        return Err(Error::new(
            CONFIGURATION_LIMIT_EXCEEDED,
            format!("job {parent} has {MOST_CHILDREN} jobs that are part of it"),
        ));
    }
    Ok(())
}

fn check_arguments(new: &NewJob<'_>) -> Result<()> {
    if new.if_not_exists == Some(true) && new.name.is_none() {
        return Err(Error::new(INVALID_PARAMETER_VALUE, "if_not_exists needs a name")
            .hint("Give the job a name: name => 'fill label'"));
    }
    new.name.map_or(Ok(()), check_name)?;
    check_workers(new.workers)?;
    new.limits.check()?;
    check_batch_time(new.batch_time)
}

pub fn check_name(name: &str) -> Result<()> {
    if name.trim().is_empty() || name.len() > 200 {
        return Err(Error::new(INVALID_PARAMETER_VALUE, "a job's name must have between 1 and 200 bytes"));
    }
    Ok(())
}

pub fn check_workers(workers: i32) -> Result<()> {
    let range = 1..=settings::MAX_WORKERS_PER_JOB;
    if !range.contains(&workers) {
        return Err(Error::new(
            INVALID_PARAMETER_VALUE,
            format!("workers must be between 1 and {}, but is {workers}", range.end()),
        ));
    }
    Ok(())
}

pub fn check_batch_time(milliseconds: Option<i32>) -> Result<()> {
    let range = settings::BATCH_TIME_RANGE;
    match milliseconds {
        Some(ms) if !range.contains(&ms) => Err(Error::new(
            INVALID_PARAMETER_VALUE,
            format!("batch_time must be between {} ms and {} ms, but is {ms} ms", range.start(), range.end()),
        )),
        _ => Ok(()),
    }
}

/// A job of that name which answers the request, or the error that it is another one.
fn find_same(new: &NewJob<'_>, owner: Oid, name: &str) -> Result<Option<Uuid>> {
    let found = spi::bookkeeping(|| {
        spi::execute_returning(
            "SELECT id, state,
                    kind OPERATOR(pg_catalog.=) $3 AND target OPERATOR(pg_catalog.=) $4 AND params OPERATOR(pg_catalog.=) $5
             FROM upkeep._job
             WHERE name OPERATOR(pg_catalog.=) $2 AND upkeep._owner(system_identifier, owner, owner_name) OPERATOR(pg_catalog.=) $1
               AND state OPERATOR(pg_catalog.<>) ALL (ARRAY['failed', 'canceled'])
             ORDER BY (state OPERATOR(pg_catalog.=) 'done'), created_at DESC LIMIT 1",
            &[
                owner.into(),
                name.into(),
                new.kind.name().into(),
                new.target.as_str().into(),
                JsonB(new.params.clone()).into(),
            ],
            |row| Ok((row.next::<Uuid>()?, row.next::<String>()?, row.next::<bool>()?)),
        )
    })?;
    let Some((id, state, same)) = found.into_iter().next() else { return Ok(None) };
    let finished = state == "done";
    if new.if_not_exists != Some(true) && finished {
        return Ok(None);
    }
    if !same {
        return Err(Error::new(DUPLICATE_OBJECT, format!("job \"{name}\" already exists with another definition"))
            .detail(format!("It is job {id}, state {state}."))
            .hint("Choose another name, or cancel and drop that job first."));
    }
    if new.if_not_exists != Some(true) {
        return Err(Error::new(DUPLICATE_OBJECT, format!("job \"{name}\" already exists"))
            .detail(format!("It is job {id}, state {state}."))
            .hint(match new.if_not_exists {
                None => "Choose another name.",
                Some(_) => "if_not_exists => true returns it instead.",
            }));
    }
    raise::report(
        Level::Notice,
        Error::new(DUPLICATE_OBJECT, format!("job \"{name}\" already exists, skipping"))
            .detail(format!("It is job {id}, state {state}.")),
    );
    Ok(Some(id))
}

/// Refuses one more unfinished job of this owner's than `upkeep.max_jobs_per_role` allows.
pub fn check_limit(owner: Oid, owner_name: &str) -> Result<()> {
    let limit = settings::max_jobs_per_role();
    // Requests of others that are not committed yet cannot be seen, but each of them holds a lock, and is not kept waiting
    // for: first ours, then a look at theirs, then at what is committed. So of two that would be one too many at least one
    // sees the other. The key's second half only tells the requests of one transaction apart.
    let key = u64::from(owner.to_u32()) << 32 | catalog::chance() & 0xFFFF_FFFF;
    Lock::new(Purpose::Owner, key).share_for_transaction();
    let in_the_making = spi::bookkeeping(|| others_in_the_making(owner))?;
    let unfinished = spi::bookkeeping(|| {
        spi::freshly(|| {
            spi::query_one(
                "SELECT pg_catalog.count(*) FROM upkeep._job
                 WHERE owner OPERATOR(pg_catalog.=) $1 AND parent IS NULL
                   AND state OPERATOR(pg_catalog.=) ANY (ARRAY['queued', 'running', 'paused'])",
                &[owner.into()],
                |row| row.require::<i64>(1),
            )
        })
    })?;
    if unfinished.unwrap_or(0) + in_the_making >= limit {
        return Err(Error::new(
            CONFIGURATION_LIMIT_EXCEEDED,
            format!("role \"{owner_name}\" has too many unfinished jobs"),
        )
        .detail(format!("upkeep.max_jobs_per_role is {limit}."))
        .hint(
            "Wait for some of them, or cancel them: SELECT upkeep.cancel(id) FROM upkeep.jobs WHERE state = 'queued';",
        ));
    }
    Ok(())
}

/// Jobs of this owner's that other transactions, prepared ones too, have asked for and not committed.
fn others_in_the_making(owner: Oid) -> Result<i64> {
    let count = spi::query_one(
        "SELECT pg_catalog.count(*) FROM pg_catalog.pg_lock_status() l
         WHERE l.locktype OPERATOR(pg_catalog.=) 'advisory' AND l.database OPERATOR(pg_catalog.=) $1
           AND l.classid OPERATOR(pg_catalog.=) $2 AND l.objsubid OPERATOR(pg_catalog.=) $3
           AND l.pid IS DISTINCT FROM pg_catalog.pg_backend_pid()",
        &[catalog::my_database().into(), owner.into(), (Purpose::Owner as i16).into()],
        |row| row.require::<i64>(1),
    )?;
    Ok(count.unwrap_or(0))
}

pub fn captured_session() -> Result<Value> {
    CAPTURED
        .iter()
        .map(|(name, c_name)| {
            let value = catalog::setting(c_name);
            arguments::check_length(name, value.len())?;
            Ok((name.to_string(), json!(value)))
        })
        .collect::<Result<serde_json::Map<_, _>>>()
        .map(Value::from)
}

/// Puts the captured settings in force, for text of the user's only: ours qualifies every name.
pub fn restore_session(session: &Value) {
    for (name, _) in CAPTURED {
        if let Some(value) = session.get(name).and_then(Value::as_str) {
            spi::set_session(name, value);
        }
    }
}

/// Wakes a worker at commit, or says what to type when there is none.
pub fn wake_or_warn() -> Result<()> {
    // Whatever nothing runs for now may be over before we commit.
    let woken = activity::wake_at_commit()?;
    let standstill = advice::standstill()?.or((!woken).then_some(advice::NO_WORKER));
    if let Some(Standstill { reason, hint }) = standstill {
        let message = format!("jobs wait, because {reason}");
        raise::report(Level::Warning, Error::new(OBJECT_NOT_IN_PREREQUISITE_STATE, message).hint(hint));
    }
    Ok(())
}
