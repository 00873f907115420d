//! A database session that reads well in tests: values by SQL, errors and notices as things to look at.

use std::borrow::Cow;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex};

use anyhow::{Context, Result, anyhow, bail};
use postgres::error::DbError;
use postgres::types::FromSqlOwned;
use postgres::{Client, Config, NoTls, SimpleQueryMessage};

use crate::hostile;
use crate::overdue::Watched;

/// A client of the `postgres` crate, and what the server told it on the side.
pub struct Session {
    client: Client,
    notices: Arc<Mutex<Vec<DbError>>>,
    watched: Arc<Watched>,
}

impl Session {
    pub fn open(mut config: Config) -> Result<Self> {
        let server = config.clone();
        let notices = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&notices);
        config.notice_callback(move |notice| sink.lock().expect("nobody panics here").push(notice));
        let client = config.connect(NoTls).context("cannot connect")?;
        let watched = Watched::new(server, client.cancel_token());
        Ok(Self { client, notices, watched })
    }

    /// Runs any number of statements: one transaction, unless the text says otherwise.
    pub fn run(&mut self, sql: &str) -> Result<()> {
        self.batch(sql).map_err(|e| explain(&e, sql))
    }

    /// The one value of a query.
    pub fn value<T: FromSqlOwned>(&mut self, sql: &str) -> Result<T> {
        let row = self.send(sql, |client, sql| client.query_one(sql, &[])).map_err(|e| explain(&e, sql))?;
        row.try_get(0).with_context(|| sql.to_owned())
    }

    /// The first column of each row.
    pub fn values<T: FromSqlOwned>(&mut self, sql: &str) -> Result<Vec<T>> {
        let rows = self.send(sql, |client, sql| client.query(sql, &[])).map_err(|e| explain(&e, sql))?;
        rows.iter().map(|row| row.try_get(0).with_context(|| sql.to_owned())).collect()
    }

    /// The rows as text, columns separated by `|`, null as nothing: what `psql -At` prints.
    pub fn rows(&mut self, sql: &str) -> Result<Vec<String>> {
        let messages = self.send(sql, |client, sql| client.simple_query(sql)).map_err(|e| explain(&e, sql))?;
        let line = |row: postgres::SimpleQueryRow| {
            (0..row.len()).map(|i| row.get(i).unwrap_or_default().to_owned()).collect::<Vec<_>>().join("|")
        };
        let rows = messages.into_iter().filter_map(|m| match m {
            SimpleQueryMessage::Row(row) => Some(line(row)),
            _ => None,
        });
        Ok(rows.collect())
    }

    /// The one value of a query as text, null as nothing.
    pub fn text(&mut self, sql: &str) -> Result<String> {
        let mut rows = self.rows(sql)?;
        if rows.len() != 1 {
            bail!("{} rows instead of one: {sql}", rows.len());
        }
        Ok(rows.remove(0))
    }

    /// The error that this must end in.
    pub fn error(&mut self, sql: &str) -> Result<DbError> {
        match self.batch(sql) {
            Ok(()) => bail!("no error: {sql}"),
            Err(error) => error.as_db_error().cloned().ok_or_else(|| explain(&error, sql)),
        }
    }

    /// Notices and warnings since the last call.
    pub fn notices(&mut self) -> Vec<DbError> {
        std::mem::take(&mut *self.notices.lock().expect("nobody panics here"))
    }

    /// What cancels a statement of this session that lasts too long.
    pub fn watched(&self) -> Arc<Watched> {
        Arc::clone(&self.watched)
    }

    pub fn pid(&mut self) -> Result<i32> {
        self.value("SELECT pg_backend_pid()")
    }

    fn batch(&mut self, sql: &str) -> Result<(), postgres::Error> {
        self.send(sql, |client, sql| client.batch_execute(sql))
    }

    fn send<T>(&mut self, sql: &str, run: impl FnOnce(&mut Client, &str) -> T) -> T {
        let sql = plain(sql);
        self.watched.begins();
        let result = run(&mut self.client, &sql);
        if let Some(sessions) = self.watched.ends() {
            println!("it was canceled, as it did not end: {sql}\nwhat the server was doing then:\n{sessions}");
        }
        result
    }
}

impl Deref for Session {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

impl DerefMut for Session {
    fn deref_mut(&mut self) -> &mut Client {
        &mut self.client
    }
}

/// What is sent instead of this: the same, but in the hostile suite.
fn plain(sql: &str) -> Cow<'_, str> {
    if hostile::wanted() { hostile::with_plain_columns(sql) } else { Cow::Borrowed(sql) }
}

/// The server's whole answer: the crate's own text is only "db error".
fn explain(error: &postgres::Error, sql: &str) -> anyhow::Error {
    let Some(db) = error.as_db_error() else { return anyhow!("{error}: {sql}") };
    let mut text = format!("{}: {} {}", db.severity(), db.code().code(), db.message());
    for (label, part) in [("DETAIL", db.detail()), ("HINT", db.hint()), ("CONTEXT", db.where_())] {
        if let Some(part) = part {
            text += &format!("\n{label}: {part}");
        }
    }
    anyhow!("{text}\nin: {sql}")
}
