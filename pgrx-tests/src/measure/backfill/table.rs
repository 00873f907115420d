//! The tables that are filled.

use anyhow::Result;

use crate::observe::Sizes;
use crate::session::Session;

pub const TABLE: &str = "filled";
const BASE: &str = "base";
/// Header and the fixed columns of a row: id, k and a to e.
const FIXED_BYTES: u32 = 24 + 8 + 4 + 5 * 4;

#[derive(Clone)]
pub struct Shape {
    pub rows: u64,
    /// Bytes of a row before the fill, its header included.
    pub row_bytes: u32,
    /// Bytes that the filled column adds.
    pub added_bytes: u32,
    pub uuid_key: bool,
    /// Columns with an index each, besides the primary key.
    pub indexed: &'static [&'static str],
}

/// In heap order, as a time of creation is.
pub const ONE_INDEX: &[&str] = &["k"];
/// Two more in heap order; three whose neighbours lie anywhere in the heap, with 10,000, 100 and only different values.
pub const SIX_INDEXES: &[&str] = &["k", "a", "b", "c", "d", "e"];
/// In no order at all: a leaf's entries come from as many pages.
pub const SCATTERED_INDEX: &[&str] = &["e"];
/// On the filled column itself: no update of it can be HOT.
pub const INDEX_ON_FILLED: &[&str] = &["k", "label"];

impl Shape {
    /// Rows of 150 bytes which grow by a text of 15.
    pub fn usual(rows: u64) -> Self {
        Self { rows, row_bytes: 150, added_bytes: 15, uuid_key: false, indexed: ONE_INDEX }
    }

    /// What to assign: a text from another column. A short text has one byte of header.
    pub fn assignments(&self) -> String {
        format!("label = left(payload, {})", self.added_bytes - 1)
    }

    /// The rows every fresh table starts from, made once.
    pub fn make_base(&self, session: &mut Session) -> Result<()> {
        let key = if self.uuid_key { "md5(n::text)::uuid" } else { "n" };
        // The uuid is eight bytes longer than a bigint. Texts of more than 126 bytes have a header of four bytes.
        let payload = self.row_bytes - FIXED_BYTES - if self.uuid_key { 8 } else { 0 };
        let payload = if payload > 127 { payload - 4 } else { payload - 1 };
        session.run(&format!(
            "DROP TABLE IF EXISTS {BASE};
             CREATE UNLOGGED TABLE {BASE} AS
             SELECT {key} AS id, (n / 3)::int AS k, (n / 10)::int AS a, (n * 2)::int AS b,
                    hashint8(n) % 10000 AS c, hashint8(n) % 100 AS d, hashint8(n) AS e,
                    left(repeat(md5(n::text), 30), {payload}) AS payload
               FROM generate_series(1, {rows}::bigint) n",
            rows = self.rows
        ))
    }

    /// A fresh table: full pages, all visible, statistics up to date, nothing left to write.
    pub fn make_table(&self, session: &mut Session) -> Result<()> {
        session.run(&format!(
            "DROP TABLE IF EXISTS {TABLE};
             CREATE TABLE {TABLE} (LIKE {BASE}) WITH (autovacuum_enabled = off, fillfactor = 100);
             ALTER TABLE {TABLE} ADD COLUMN label text;
             INSERT INTO {TABLE} SELECT * FROM {BASE};
             ALTER TABLE {TABLE} ADD PRIMARY KEY (id)"
        ))?;
        for column in self.indexed {
            session.run(&format!("CREATE INDEX ON {TABLE} ({column})"))?;
        }
        session.run(&format!("VACUUM (ANALYZE) {TABLE}"))?;
        session.run("CHECKPOINT")
    }

    /// The sizes of the filled table without a dead row in it.
    pub fn compact_sizes(&self, session: &mut Session) -> Result<Sizes> {
        self.make_table(session)?;
        session.run(&format!("UPDATE {TABLE} SET {}", self.assignments()))?;
        session.run(&format!("VACUUM FULL {TABLE}"))?;
        Sizes::of(session, TABLE)
    }

    /// Rows that do not have what they should.
    pub fn wrong_rows(&self, session: &mut Session) -> Result<i64> {
        let text = format!("left(payload, {})", self.added_bytes - 1);
        session.value(&format!("SELECT count(*) FROM {TABLE} WHERE label IS DISTINCT FROM {text}"))
    }
}
