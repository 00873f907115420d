//! ALTER TABLE of a table with soft delete beside an application that reads and writes through its views: none of its statements ends in
//! a deadlock, and what is done to the table is done to the views.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::Result;
use upkeep_tests::jobs::{join, sqlstate};
use upkeep_tests::session::Session;
use upkeep_tests::testing::{self, Database};
use upkeep_tests::wait::wait_until;

const TABLES: &str = "
    CREATE TABLE orders (id int PRIMARY KEY, n int, renamed int);
    CREATE TABLE items (id int PRIMARY KEY, n int);
    INSERT INTO orders SELECT g, 0, 0 FROM generate_series(1, 1000) g;
    INSERT INTO items SELECT g, 0 FROM generate_series(1, 1000) g;
    SELECT upkeep.enable_soft_delete('orders'), upkeep.enable_soft_delete('items', hide => 'swap')";

const APPLICATION: [&str; 6] = [
    "SELECT count(*) FROM orders_live; SELECT count(*) FROM items",
    "UPDATE orders_live SET n = n + 1 WHERE id = 1; UPDATE items SET n = n + 1 WHERE id = 1",
    "SELECT count(*) FROM orders_deleted d FULL JOIN orders_live l USING (id)",
    "SELECT count(*) FROM items i FULL JOIN items_deleted d USING (id); SELECT count(*) FROM items_deleted",
    "SELECT count(*) FROM orders_live l FULL JOIN orders_deleted d USING (id); DELETE FROM items WHERE id = 2",
    "SELECT count(*) FROM orders_deleted",
];

/// Each is one thread's, again and again, until the value is dropped.
struct Application {
    stop: Arc<AtomicBool>,
    rounds: Vec<Arc<AtomicU64>>,
    threads: Vec<thread::JoinHandle<Vec<String>>>,
}

impl Application {
    fn start(db: &Database, statements: &[&'static str]) -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let mut application = Application { stop, rounds: Vec::new(), threads: Vec::new() };
        for &statement in statements {
            let mut session = db.connect()?;
            let (stop, rounds) = (application.stop.clone(), Arc::new(AtomicU64::new(0)));
            application.rounds.push(rounds.clone());
            application.threads.push(thread::spawn(move || {
                let mut errors = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    if let Err(error) = session.run(statement) {
                        errors.push(format!("{error:#}"));
                        let _ = session.run("ROLLBACK");
                    }
                    rounds.fetch_add(1, Ordering::Relaxed);
                }
                errors
            }));
        }
        Ok(application)
    }

    /// All are at work.
    fn goes_on(&self) -> Result<()> {
        let before: Vec<u64> = self.rounds.iter().map(|rounds| rounds.load(Ordering::Relaxed)).collect();
        wait_until("the application goes on", Duration::from_secs(60), || {
            self.rounds.iter().zip(&before).all(|(rounds, before)| rounds.load(Ordering::Relaxed) > before + 3)
        })
    }

    /// What its statements ended in.
    fn end(self) -> Result<Vec<String>> {
        self.stop.store(true, Ordering::Relaxed);
        let mut errors = Vec::new();
        for thread in self.threads {
            errors.extend(join(thread)?);
        }
        Ok(errors)
    }
}

fn nothing_lags_behind(session: &mut Session, statement: &str) -> Result<()> {
    let warnings: Vec<String> = session
        .notices()
        .iter()
        .filter(|notice| notice.severity() == "WARNING")
        .map(|notice| notice.message().to_owned())
        .collect();
    assert_eq!(warnings, Vec::<String>::new(), "{statement}");
    assert_eq!(
        session.rows("SELECT relname, problem FROM upkeep.soft_delete_drift")?,
        Vec::<String>::new(),
        "{statement}"
    );
    Ok(())
}

fn deadlocks(errors: &[String]) -> Vec<&String> {
    errors.iter().filter(|error| error.contains("deadlock")).collect()
}

#[test]
fn nobody_who_reads_a_view_ends_in_a_deadlock_with_alter_table() -> Result<()> {
    let db = testing::database()?;
    let mut session = db.connect()?;
    session.run(TABLES)?;
    let owner = db.role("owner")?;
    let application = Application::start(&db, &APPLICATION)?;
    let own = format!("ALTER TABLE orders OWNER TO {owner}");
    for statement in [
        "ALTER TABLE orders ADD COLUMN a int",
        "ALTER TABLE items_all ADD COLUMN a int",
        "ALTER TABLE orders RENAME COLUMN renamed TO b",
        "BEGIN; ALTER TABLE orders ALTER COLUMN b SET NOT NULL; ALTER TABLE orders ADD COLUMN c int; COMMIT",
        "ALTER TABLE orders RENAME TO orders2",
        "ALTER TABLE orders2 RENAME TO orders",
        "ALTER VIEW items RENAME TO items2",
        "ALTER TABLE items2 RENAME TO items",
        "SELECT upkeep.enable_timestamps('orders')",
        "SELECT upkeep.enable_userstamps('items_all')",
        &own,
        "SELECT upkeep.alter_soft_deleted('orders', 'ALTER TABLE orders DROP COLUMN a')",
    ] {
        application.goes_on()?;
        run_as_often_as_it_takes(&mut session, statement)?;
        nothing_lags_behind(&mut session, statement)?;
    }
    let errors = application.end()?;
    assert_eq!(deadlocks(&errors), Vec::<&String>::new());
    Ok(())
}

/// On a busy machine the application may be in the way of all three attempts of a verb: it is called again, as its hint says.
fn run_as_often_as_it_takes(session: &mut Session, statement: &str) -> Result<()> {
    let gave_up =
        |error: &anyhow::Error| statement.starts_with("SELECT upkeep.") && format!("{error:#}").contains("55P03");
    for _ in 0..20 {
        match session.run(statement) {
            Err(error) if gave_up(&error) => {}
            ended => return ended,
        }
    }
    session.run(statement)
}

/// A transaction that has the table, and then wants the view, has its way as well.
#[test]
fn who_has_the_table_before_the_view_goes_on() -> Result<()> {
    let db = testing::database()?;
    let (mut session, mut other) = (db.connect()?, db.connect()?);
    session.run(TABLES)?;
    other.run("BEGIN; UPDATE orders SET n = 1 WHERE id = 1")?;
    let pid = session.pid()?;
    let altering = thread::spawn(move || -> Result<Session> {
        session.run("ALTER TABLE orders ADD COLUMN a int")?;
        nothing_lags_behind(&mut session, "ADD COLUMN")?;
        Ok(session)
    });
    let waits = format!("SELECT count(*) FROM pg_locks WHERE pid = {pid} AND NOT granted");
    wait_until("the ALTER TABLE waits", Duration::from_secs(30), || {
        other.text(&waits).is_ok_and(|count| count == "1")
    })?;
    other.run("SELECT count(*) FROM orders_live; SELECT count(*) FROM orders_deleted; COMMIT")?;
    join(altering)??;
    Ok(())
}

/// A view that is not to be had in time ends the statement as its table would. Nothing is done by half, and nobody waits who may not
/// alter the table.
#[test]
fn the_table_and_its_views_change_together_or_not_at_all() -> Result<()> {
    let db = testing::database()?;
    let (mut session, mut other) = (db.connect()?, db.connect()?);
    session.run(TABLES)?;
    let mut stranger = db.connect_as(&db.role("stranger")?)?;
    let columns =
        "SELECT count(*) FROM pg_attribute WHERE attrelid = ANY ('{orders, orders_live, orders_deleted}'::regclass[])
                   AND attnum > 0 AND NOT attisdropped";
    let before = session.text(columns)?;
    for lock in [
        "COMMENT ON VIEW orders_live IS 'mine'",
        "COMMENT ON VIEW orders_deleted IS 'mine'",
        "SELECT count(*) FROM orders",
    ] {
        other.run(&format!("BEGIN; {lock}"))?;
        for statement in [
            "ALTER TABLE orders ADD COLUMN a int",
            "ALTER TABLE orders RENAME TO a",
            "ALTER TABLE orders RENAME COLUMN n TO a",
            "SELECT upkeep.enable_timestamps('orders')",
            "SELECT upkeep.enable_userstamps('orders')",
        ] {
            session.run("SET lock_timeout = '300 ms'")?;
            assert_eq!(sqlstate(&mut session, statement)?, "55P03", "{lock}: {statement}");
            nothing_lags_behind(&mut session, statement)?;
            assert_eq!(session.text(columns)?, before, "{lock}: {statement}");
        }
        stranger.run("SET lock_timeout = '300 ms'")?;
        assert_eq!(sqlstate(&mut stranger, "ALTER TABLE orders ADD COLUMN a int")?, "42501", "{lock}");
        other.run("ROLLBACK")?;
    }
    session.run("SELECT upkeep.enable_timestamps('orders')")?;
    nothing_lags_behind(&mut session, "enable_timestamps")?;
    assert_ne!(session.text(columns)?, before);
    Ok(())
}
