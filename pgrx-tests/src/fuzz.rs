//! The fuzzer of calls: every function in the schema upkeep, by an unprivileged role, a table's owner, a member of
//! pg_monitor and a superuser, with hostile values of every type, inside random transactions, while jobs and schedules
//! run. The server must not crash, no error may be an internal one, nobody may gain a right or see what he may not, and
//! in the end nothing may be left behind.

mod dice;
mod values;
mod world;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use postgres::SimpleQueryMessage;
use postgres::error::DbError;
use regex::Regex;

use self::dice::Dice;
use self::world::{DATABASE, Ids, SECRET};
use crate::cluster::Cluster;
use crate::pg::SUPERUSER;
use crate::session::Session;
use crate::tree::Tree;
use crate::wait::wait_until;

/// Set in the environment: another sequence of calls than the usual one.
pub const SEED: &str = "UPKEEP_SEED";

const ROLES: [&str; 4] = ["fuzz_stranger", "fuzz_owner", "fuzz_monitor", SUPERUSER];
/// Once in so many calls the lists of what can be named are made anew.
const LOOK_AGAIN: u32 = 50;
/// Crashes after which it is enough.
const ENOUGH_CRASHES: usize = 5;

/// A function or procedure of ours.
struct Function {
    name: String,
    procedure: bool,
    trigger: bool,
    /// Names and types of the arguments that go in.
    arguments: Vec<(String, String)>,
    /// How many of the last ones may be left out.
    defaults: usize,
}

struct Fuzz {
    server: Cluster,
    dice: Dice,
    ids: Ids,
    functions: Vec<Function>,
    sessions: [Option<Session>; 4],
    /// Whether the session has a transaction that goes on after this call.
    open: [bool; 4],
    /// By what went wrong: how often, and the first call that did it.
    findings: BTreeMap<String, (usize, String)>,
    log: u64,
    crashes: usize,
    states: BTreeMap<String, usize>,
}

/// Makes so many calls; what was found is an error.
pub fn run(tree: &Tree, calls: u32) -> Result<String> {
    let seed = match std::env::var(SEED) {
        Ok(seed) => seed.parse().context(SEED)?,
        Err(_) => 20_261_128,
    };
    let mut fuzz = Fuzz::new(tree, seed)?;
    let before = world::rights(&mut fuzz.server.connect(DATABASE)?)?;
    // What was found until then is worth telling, whatever ends it early.
    let ended = fuzz.make(calls).and_then(|()| fuzz.finish(&before));
    if let Err(error) = ended {
        fuzz.found(format!("it could not go on: {error:#}"), String::new());
    }
    let mut text = format!("{calls} calls of {} functions, seed {seed}; how they ended:", fuzz.functions.len());
    for (state, count) in &fuzz.states {
        write!(text, " {state} {count}")?;
    }
    text.push('\n');
    if fuzz.findings.is_empty() {
        writeln!(text, "{calls} calls, nothing found")?;
        return Ok(text);
    }
    for (what, (count, call)) in &fuzz.findings {
        write!(text, "\n{what} ({count} times)\n    first by: {call}\n")?;
    }
    bail!("{text}\n{} findings; {SEED}={seed} repeats these calls", fuzz.findings.len())
}

impl Fuzz {
    fn new(tree: &Tree, seed: u64) -> Result<Self> {
        let server = Cluster::builder(tree, &Cluster::unique_name("fuzz"))
            .preloaded()
            .set("max_prepared_transactions", 20)
            .set("upkeep.worker_nice", 0)
            .set("upkeep.query_interval", "2s")
            .start()?;
        let mut session = server.with_extension(DATABASE)?;
        session.run(world::SETUP)?;
        let functions = functions(&mut session)?;
        Ok(Fuzz {
            log: server.log_position(),
            server,
            dice: Dice::new(seed),
            ids: Ids::default(),
            functions,
            sessions: [None, None, None, None],
            open: [false; 4],
            findings: BTreeMap::new(),
            crashes: 0,
            states: BTreeMap::new(),
        })
    }

    fn make(&mut self, calls: u32) -> Result<()> {
        for number in 0..calls {
            if number % LOOK_AGAIN == 0 {
                self.ids = Ids::look(&mut self.server.connect(DATABASE)?)?;
            }
            self.step(number)?;
            if self.crashes >= ENOUGH_CRASHES {
                break;
            }
        }
        Ok(())
    }

    fn step(&mut self, number: u32) -> Result<()> {
        let who = self.dice.below(ROLES.len());
        let call = if self.dice.one_in(5) { self.other(who) } else { self.call(who) };
        let transaction_ends = self.dice.one_in(3);
        let script = match self.dice.below(8) {
            _ if self.open[who] => {
                let end = if self.dice.one_in(2) { "COMMIT" } else { "ROLLBACK" };
                self.open[who] = !transaction_ends;
                vec![
                    format!("SAVEPOINT s{number}"),
                    call,
                    if transaction_ends { end.into() } else { format!("ROLLBACK TO s{number}") },
                ]
            }
            0 => vec!["BEGIN".into(), call, "COMMIT".into()],
            1 => vec!["BEGIN".into(), "SAVEPOINT s".into(), call, "ROLLBACK TO s".into(), "COMMIT".into()],
            2 => vec!["BEGIN".into(), "SAVEPOINT s".into(), call, "RELEASE s".into(), "ROLLBACK".into()],
            3 => vec![in_block(&call)],
            4 if !call.starts_with("CALL") => vec![
                "BEGIN".into(),
                format!("DECLARE fuzz CURSOR WITH HOLD FOR {call}"),
                "FETCH 1 FROM fuzz".into(),
                "COMMIT".into(),
                "FETCH ALL FROM fuzz".into(),
                "CLOSE ALL".into(),
            ],
            5 => vec!["BEGIN".into(), call, format!("PREPARE TRANSACTION 'fuzz {number}'")],
            6 => {
                self.open[who] = true;
                vec!["BEGIN".into(), call]
            }
            _ => vec![call],
        };
        for statement in &script {
            let went_well = self.send(who, statement)?;
            if !went_well && statement.starts_with("SAVEPOINT") {
                // The transaction has failed before: it ends here.
                self.open[who] = false;
                break;
            }
        }
        if !self.open[who] {
            self.send(who, "ROLLBACK")?;
        }
        if let Some(prepare) = script.last().filter(|s| s.starts_with("PREPARE TRANSACTION")) {
            let end = if self.dice.one_in(2) { "COMMIT PREPARED" } else { "ROLLBACK PREPARED" };
            self.send(who, &prepare.replace("PREPARE TRANSACTION", end))?;
        }
        self.read_log(script.iter().max_by_key(|s| s.len()).map_or("", |s| s));
        Ok(())
    }

    /// A call of one of our functions.
    fn call(&mut self, who: usize) -> String {
        let at = self.dice.below(self.functions.len());
        let function = &self.functions[at];
        let required = function.arguments.len() - function.defaults;
        let mut given = Vec::new();
        let mut by_name = false;
        for (number, (name, type_name)) in function.arguments.iter().enumerate() {
            if number >= required && self.dice.one_in(2) {
                by_name = true;
                continue;
            }
            let value = values::value(&mut self.dice, &self.ids, type_name, name, ROLES[who] == SUPERUSER);
            given.push(if by_name && !name.is_empty() { format!("\"{name}\" => {value}") } else { value });
        }
        let call = format!("upkeep.\"{}\"({})", function.name, given.join(", "));
        match (function.procedure, self.dice.below(3)) {
            (true, _) => format!("CALL {call}"),
            (false, 0) => format!("SELECT * FROM {call}"),
            (false, _) => format!("SELECT {call}"),
        }
    }

    /// What applications do meanwhile.
    fn other(&mut self, who: usize) -> String {
        let views = [
            "jobs",
            "job_events",
            "schedules",
            "schedule_runs",
            "deletions",
            "soft_delete_drift",
            "index_usage",
            "duplicate_indexes",
            "query_stats",
            "status",
            "quarantined_rows",
            "bloated_indexes",
            "missing_indexes",
            "invalid_indexes",
            "unused_indexes",
            "_query_text",
            "_index",
        ];
        let id = self.dice.below(200);
        if self.dice.one_in(8) {
            return format!("DELETE FROM app.self_live WHERE id BETWEEN {id} AND {id} + 30 RETURNING id");
        }
        if who == 1 && self.dice.one_in(6) {
            return self.trigger();
        }
        if who == 1 && self.dice.one_in(4) {
            let more = id % 5;
            let ddl = [
                format!(
                    "CREATE TABLE IF NOT EXISTS app.more_{more} (id int PRIMARY KEY,
                         parent int REFERENCES app.parent ON DELETE CASCADE, n int)"
                ),
                format!("DROP TABLE IF EXISTS app.more_{more} CASCADE"),
                format!("ALTER TABLE app.self ADD COLUMN IF NOT EXISTS extra_{more} int DEFAULT {id}"),
                format!("ALTER TABLE app.self DROP COLUMN IF EXISTS extra_{more}"),
                format!("DELETE FROM app.self WHERE id = {id}"),
                "TRUNCATE app.keyless".into(),
                "ALTER TABLE app.policed RENAME COLUMN v TO w".into(),
                "ALTER TABLE app.policed RENAME COLUMN w TO v".into(),
                "DROP VIEW app.policed_live".into(),
                "DROP TRIGGER IF EXISTS upkeep_soft_delete ON app.child".into(),
                "ALTER TABLE app.note DISABLE TRIGGER USER".into(),
                "ALTER TABLE app.note ENABLE TRIGGER USER".into(),
                "CREATE INDEX ON app.self (n)".into(),
                "ALTER TABLE app.parts ATTACH PARTITION app.keyless FOR VALUES IN (1)".into(),
                "ALTER TABLE app.child SET SCHEMA \"App\"".into(),
                "ALTER TABLE \"App\".child SET SCHEMA app".into(),
            ];
            return self.dice.pick(&ddl).clone();
        }
        if ROLES[who] == SUPERUSER && self.dice.one_in(4) {
            let databases = [
                "DROP DATABASE IF EXISTS fuzz_none",
                "ALTER DATABASE fuzz_none RENAME TO fuzz_nothing",
                "CREATE DATABASE fuzz_none TEMPLATE fuzz_nothing",
            ];
            return (*self.dice.pick(&databases)).into();
        }
        match self.dice.below(10) {
            0 => format!("DELETE FROM app.parent_live WHERE id = {id} RETURNING id"),
            1 => format!(
                "INSERT INTO app.child (id, parent, n) VALUES ({id} + 1000, {id}, 1) ON CONFLICT DO NOTHING RETURNING id"
            ),
            2 => format!("UPDATE app.parent_live SET n = n + 1 WHERE id = {id} RETURNING n"),
            3 => format!(
                "INSERT INTO app.parent_live (id, n) VALUES ({id} + 1000, 1) ON CONFLICT DO NOTHING RETURNING id"
            ),
            4 => format!("UPDATE app.tag SET n = {id} WHERE n = {id} RETURNING n"),
            _ if ROLES[who] == SUPERUSER && self.dice.one_in(20) => "SELECT upkeep.resume_all()".into(),
            _ => format!("SELECT * FROM upkeep.\"{}\"", self.dice.pick(&views)),
        }
    }

    /// One of our trigger functions where we would never put it: they are PUBLIC's.
    fn trigger(&mut self) -> String {
        let functions: Vec<_> = self.functions.iter().filter(|f| f.trigger).map(|f| f.name.clone()).collect();
        let relations = [
            "app.self",
            "app.self_live",
            "app.policed",
            "app.policed_live",
            "app.keyless",
            "app.parts",
            "app.parent_live",
            "app.tag",
            "app.seen",
        ];
        let relation = *self.dice.pick(&relations);
        let number = self.dice.below(3);
        if self.dice.one_in(3) {
            return format!("DROP TRIGGER IF EXISTS zz_fuzz_{number} ON {relation}");
        }
        if self.dice.one_in(3) {
            let twin = "AFTER DELETE ON app.self_live FOR EACH STATEMENT EXECUTE FUNCTION upkeep._soft_delete_view()";
            return format!("CREATE TRIGGER zz_fuzz_{number} {twin}");
        }
        let when = *self.dice.pick(&["BEFORE", "AFTER", "INSTEAD OF"]);
        let event = *self.dice.pick(&["DELETE", "UPDATE", "INSERT", "INSERT OR UPDATE OR DELETE", "TRUNCATE"]);
        let tables = if event == "DELETE" && when == "AFTER" && self.dice.one_in(3) {
            "REFERENCING OLD TABLE AS deleted"
        } else {
            ""
        };
        let each = *self.dice.pick(&["STATEMENT", "ROW"]);
        let function = self.dice.pick(&functions);
        let arguments = *self.dice.pick(&["", "", "'x'", "'1', '2', '3'", "'updated_at', 'transaction'"]);
        format!(
            "CREATE TRIGGER zz_fuzz_{number} {when} {event} ON {relation} {tables} 
                FOR EACH {each} EXECUTE FUNCTION upkeep.\"{function}\"({arguments})"
        )
    }

    /// Whether it went without an error.
    fn send(&mut self, who: usize, statement: &str) -> Result<bool> {
        if self.sessions[who].is_none() {
            self.open[who] = false;
            let mut session = self.server.connect_again_as(DATABASE, ROLES[who])?;
            // So that waiting for one another, and for jobs, comes to an end.
            session.run(
                "SET statement_timeout = '300ms'; SET lock_timeout = '30ms'; SET client_min_messages = 'notice'",
            )?;
            self.sessions[who] = Some(session);
        }
        let session = self.sessions[who].as_mut().context("no session")?;
        let answer = session.simple_query(statement);
        let told: Vec<_> = session.notices().iter().map(DbError::to_string).collect();
        let role = ROLES[who];
        let said = format!("{role}: {}", shortened(statement));
        let went_well = answer.is_ok();
        match answer {
            Ok(messages) => {
                *self.states.entry("00000".into()).or_default() += 1;
                let seen = messages.iter().any(|message| match message {
                    SimpleQueryMessage::Row(row) => {
                        (0..row.len()).any(|i| row.get(i).is_some_and(|text| text.contains(SECRET)))
                    }
                    _ => false,
                });
                if seen && role != SUPERUSER {
                    self.found(format!("{role} sees the secret"), said.clone());
                }
            }
            Err(error) => match error.as_db_error() {
                Some(db) => self.judge(role, &db.clone(), &said),
                None => {
                    self.sessions[who] = None;
                    self.open[who] = false;
                    self.after_a_lost_connection(&said)?;
                }
            },
        }
        for notice in told {
            if notice.contains(SECRET) && role != SUPERUSER {
                self.found(format!("{role} is told the secret: {notice}"), said.clone());
            }
            if notice.contains("fuzz caught XX") {
                self.found(format!("an internal error in a block: {}", general(&notice)), said.clone());
            }
        }
        Ok(went_well)
    }

    fn judge(&mut self, role: &str, error: &DbError, said: &str) {
        let code = error.code().code();
        *self.states.entry(code.to_owned()).or_default() += 1;
        let text = format!("{} {:?} {:?} {:?}", error.message(), error.detail(), error.hint(), error.where_());
        if text.contains(SECRET) && role != SUPERUSER {
            self.found(format!("an error tells {role} the secret: {text}"), said.to_owned());
        }
        let internal = code.starts_with("XX")
            || text.contains("panicked")
            || text.contains("internal error")
            || text.contains("unexpected null");
        if internal && !expected(error.message()) {
            let place = format!(
                "{}:{} {}",
                error.file().unwrap_or("?"),
                error.line().unwrap_or(0),
                error.routine().unwrap_or("")
            );
            self.found(format!("{code} {} at {place}", general(error.message())), said.to_owned());
        }
    }

    fn after_a_lost_connection(&mut self, said: &str) -> Result<()> {
        // The server says in its log what became of the session before it lets anybody in again.
        drop(self.server.connect_again(DATABASE)?);
        let log = self.server.log_since(self.log);
        self.log = self.server.log_position();
        let crashed = log.lines().find(|l| l.contains("was terminated by signal"));
        match crashed {
            Some(line) => {
                self.crashes += 1;
                self.sessions = [None, None, None, None];
                let line = line.split_once("LOG:").map_or(line, |(_, line)| line);
                self.found(format!("a crash: {}", general(line)), said.to_owned());
            }
            None => self.found("a session ended".into(), said.to_owned()),
        }
        Ok(())
    }

    /// Crashes of workers, internal errors in them, and code of the stranger's that ran as somebody else.
    fn read_log(&mut self, last: &str) {
        let log = self.server.log_since(self.log);
        self.log = self.server.log_position();
        for line in log.lines() {
            let internal =
                line.contains("pg_upkeep ") && (line.contains("panicked") || line.contains("internal error"));
            if line.contains("fuzz gained: ") {
                let what = line.split_once("fuzz gained: ").map_or("", |(_, what)| what);
                self.found(format!("the stranger's code runs as {}", shortened(&general(what))), last.to_owned());
            } else if line.contains("was terminated by signal") || line.contains("PANIC:") || internal {
                self.found(
                    format!("in the log: {}", general(line.split_once("] ").map_or(line, |(_, l)| l))),
                    last.to_owned(),
                );
            }
        }
    }

    fn found(&mut self, what: String, call: String) {
        self.findings.entry(what).or_insert((0, call)).0 += 1;
    }

    /// Ends everything, and looks what is left.
    fn finish(&mut self, before: &[String]) -> Result<()> {
        self.sessions = [None, None, None, None];
        let mut session = self.server.connect_again(DATABASE)?;
        for prepared in session.values::<String>("SELECT gid::pg_catalog.text FROM pg_catalog.pg_prepared_xacts")? {
            session.run(&format!("ROLLBACK PREPARED '{prepared}'"))?;
        }
        session.run("SELECT upkeep.unschedule(id) FROM upkeep.schedules")?;
        session.run(
            "SELECT upkeep.cancel(id) FROM upkeep.jobs WHERE state IN ('queued', 'running', 'waiting', 'paused')",
        )?;
        let left =
            "SELECT pg_catalog.count(*) FROM pg_catalog.pg_stat_activity WHERE backend_type = 'pg_upkeep executor'";
        let gone = wait_until("the executors to leave", Duration::from_secs(30), || {
            session.value::<i64>(left).is_ok_and(|n| n == 0)
        });
        if gone.is_err() {
            let who = session.rows(
                "SELECT pid, query, wait_event FROM pg_catalog.pg_stat_activity WHERE backend_type LIKE 'pg_upkeep%'",
            )?;
            self.found(format!("workers are left behind: {who:?}"), String::new());
        }
        let leftovers = [
            (
                "locks",
                "SELECT l FROM pg_catalog.pg_locks l JOIN pg_catalog.pg_stat_activity a USING (pid)
                        WHERE a.backend_type = 'client backend' AND a.pid <> pg_catalog.pg_backend_pid()",
            ),
            (
                "transactions",
                "SELECT a.pid, a.state, a.query FROM pg_catalog.pg_stat_activity a
                               WHERE a.backend_type = 'client backend' AND a.pid <> pg_catalog.pg_backend_pid()
                                  AND a.xact_start IS NOT NULL",
            ),
        ];
        for (what, query) in leftovers {
            let mut rows = Vec::new();
            let gone = wait_until("it to go", Duration::from_secs(5), || {
                rows = session.rows(query).unwrap_or_default();
                rows.is_empty()
            });
            if gone.is_err() {
                self.found(format!("{what} are left behind: {rows:?}"), String::new());
            }
        }
        let after = world::rights(&mut session)?;
        for (what, ours, theirs) in [("lost", before, &*after), ("gained", &*after, before)] {
            for right in ours.iter().filter(|right| !theirs.contains(right)) {
                self.found(format!("{what}: {}", shortened(right)), String::new());
            }
        }
        self.read_log("");
        Ok(())
    }
}

/// The functions of the schema, those for our own use too: PUBLIC may call some of them.
fn functions(session: &mut Session) -> Result<Vec<Function>> {
    let rows = session.rows(
        "SELECT p.proname, p.prokind, p.prorettype = 'pg_catalog.trigger'::pg_catalog.regtype, p.pronargdefaults,
                (SELECT pg_catalog.string_agg(pg_catalog.concat_ws(':', coalesce(p.proargnames[a.n], ''), t.typname), ',' ORDER BY a.n)
                   FROM pg_catalog.unnest(p.proargtypes::pg_catalog.oid[]) WITH ORDINALITY a (type, n)
                   JOIN pg_catalog.pg_type t ON t.oid = a.type)
           FROM pg_catalog.pg_proc p
          WHERE p.pronamespace = 'upkeep'::pg_catalog.regnamespace AND p.prokind IN ('f', 'p')
          ORDER BY p.proname, p.oid",
    )?;
    rows.iter()
        .map(|row| {
            let fields: Vec<&str> = row.split('|').collect();
            let [name, kind, trigger, defaults, arguments] = fields[..] else { bail!("{row}") };
            let arguments = arguments.split(',').filter(|a| !a.is_empty()).filter_map(|a| a.split_once(':'));
            Ok(Function {
                name: name.to_owned(),
                procedure: kind == "p",
                trigger: trigger == "t",
                arguments: arguments.map(|(name, type_name)| (name.to_owned(), type_name.to_owned())).collect(),
                defaults: defaults.parse()?,
            })
        })
        .collect()
}

/// In a subtransaction of PL/pgSQL that catches what it ends in.
fn in_block(call: &str) -> String {
    let run = match call.strip_prefix("SELECT ") {
        Some(rest) => format!("PERFORM {rest}"),
        None => call.split(" RETURNING ").next().unwrap_or(call).to_owned(),
    };
    format!(
        "DO $fuzz$ BEGIN {run}; EXCEPTION WHEN OTHERS THEN RAISE NOTICE 'fuzz caught % %', SQLSTATE, SQLERRM; END $fuzz$"
    )
}

/// Internal errors that are not of our making.
fn expected(_message: &str) -> bool {
    false
}

/// A message without what differs from run to run.
fn general(text: &str) -> String {
    let uuids = Regex::new(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}").expect("a constant");
    let numbers = Regex::new(r"\d+").expect("a constant");
    numbers.replace_all(&uuids.replace_all(text, "UUID"), "N").into_owned()
}

fn shortened(text: &str) -> String {
    const LONGEST: usize = 700;
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{} ..", &text[..end]),
        None => text.to_owned(),
    }
}
