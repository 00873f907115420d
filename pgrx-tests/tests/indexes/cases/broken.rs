//! Indexes that are invalid, and the repair that each needs.

use super::{Case, INVALID, VERDICT};

pub const CASES: &[Case] = &[
    ("nothing broken", "CREATE TABLE t (a int PRIMARY KEY)", INVALID, &[]),
    ("a concurrent build that failed",
     "CREATE TABLE t (a int); INSERT INTO t VALUES (1), (1);; FAILS CREATE UNIQUE INDEX CONCURRENTLY i ON t (a)",
     INVALID, &["i||REINDEX INDEX CONCURRENTLY c.i;"]),
    ("it is not unused", "CREATE TABLE t (a int); INSERT INTO t VALUES (1), (1);; \
                          FAILS CREATE UNIQUE INDEX CONCURRENTLY i ON t (a)", VERDICT, &["i|unknown"]),
    ("a rebuild that failed leaves _ccnew",
     "CREATE TABLE t (a int, b int); INSERT INTO t VALUES (1, 1), (2, 2); \
      CREATE FUNCTION f(int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS 'BEGIN RETURN 6 / $1; END';
      CREATE INDEX i ON t (f(a)); INSERT INTO t VALUES (3, 3); \
      CREATE OR REPLACE FUNCTION f(int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS 'BEGIN RETURN 6 / ($1 - 3); END';; \
      FAILS REINDEX INDEX CONCURRENTLY i",
        "SELECT indexrelname, missing_partitions, repair_command FROM upkeep.invalid_indexes WHERE schemaname = 'c'; \
         CREATE OR REPLACE FUNCTION c.f(int) RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT $1'", &["i_ccnew||DROP \
      INDEX CONCURRENTLY c.i_ccnew;"]),
    ("a second one is numbered",
     "CREATE TABLE t (a int, b int); INSERT INTO t VALUES (1, 1), (2, 2); \
      CREATE FUNCTION f(int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS 'BEGIN RETURN 6 / $1; END';
      CREATE INDEX i ON t (f(a)); INSERT INTO t VALUES (3, 3); \
      CREATE OR REPLACE FUNCTION f(int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS 'BEGIN RETURN 6 / ($1 - 3); END';; \
      FAILS REINDEX INDEX CONCURRENTLY i;; FAILS REINDEX INDEX CONCURRENTLY i",
     "SELECT indexrelname, problem FROM upkeep.invalid_indexes WHERE schemaname = 'c' ORDER BY 1; \
      CREATE OR REPLACE FUNCTION c.f(int) RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT $1'",
     &["i_ccnew|what a REINDEX CONCURRENTLY that failed had built: drop it, then try again", "i_ccnew1|what a REINDEX \
      CONCURRENTLY that failed had built: drop it, then try again"]),
    ("a valid index of such a name is nobody's leftover", "CREATE TABLE t (a int); CREATE INDEX i_ccnew ON t (a)", INVALID, &[]),
    ("partitions without a partitioned index",
     "CREATE TABLE p (k int, a int) PARTITION BY RANGE (k); CREATE TABLE p1 PARTITION OF p FOR VALUES \
      FROM (0) TO (10); CREATE TABLE p2 PARTITION OF p FOR VALUES FROM (10) TO (20);
      CREATE INDEX x ON ONLY p (a DESC) INCLUDE (k) WHERE a > 0; CREATE INDEX x2 ON p2 (a DESC) INCLUDE (k) \
      WHERE a > 0; ALTER INDEX x ATTACH PARTITION x2",
     INVALID, &["x|{c.p1}|CREATE INDEX CONCURRENTLY p1_x ON c.p1 USING btree (a DESC) INCLUDE (k) \
                 WHERE (a > 0);\nALTER INDEX c.x ATTACH PARTITION c.p1_x;"]),
    ("a partitioned primary key without its parts",
     "CREATE TABLE p (k int NOT NULL) PARTITION BY RANGE (k); CREATE TABLE p1 PARTITION OF p FOR VALUES \
      FROM (0) TO (10); ALTER TABLE ONLY p ADD PRIMARY KEY (k)",
     INVALID, &["p_pkey|{c.p1}|CREATE UNIQUE INDEX CONCURRENTLY p1_p_pkey ON c.p1 USING btree (k);\nALTER TABLE c.p1 \
                 ADD CONSTRAINT p1_p_pkey PRIMARY KEY USING INDEX p1_p_pkey;\nALTER INDEX c.p_pkey ATTACH PARTITION c.p1_p_pkey;"]),
    ("a part that is itself invalid",
     "CREATE TABLE p (k int, a int) PARTITION BY RANGE (k); CREATE TABLE p1 PARTITION OF p FOR VALUES \
      FROM (0) TO (10); INSERT INTO p VALUES (1, 1), (1, 1);
      CREATE FUNCTION f(int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS 'BEGIN RETURN 1 / ($1 - 1); END'; \
      CREATE INDEX x ON ONLY p (f(a));; FAILS CREATE INDEX CONCURRENTLY x1 ON p1 (f(a));; ALTER INDEX x ATTACH PARTITION x1",
     INVALID, &["x|{c.p1}|REINDEX INDEX CONCURRENTLY c.x1;\nALTER INDEX c.x ATTACH PARTITION c.x1;", "x1||REINDEX \
      INDEX CONCURRENTLY c.x1;"]),
    ("an index that is dropped halfway",
     "CREATE TABLE t (a int); CREATE INDEX i ON t (a); UPDATE pg_index SET indisvalid = false, indisready = false, \
      indislive = false WHERE indexrelid = 'i'::regclass",
     "SELECT indexrelname, problem, repair_command FROM upkeep.invalid_indexes WHERE schemaname = 'c'; \
      UPDATE pg_index SET indisvalid = true, indisready = true, indislive = true WHERE indexrelid = 'c.i'::regclass",
     &["i|a DROP INDEX CONCURRENTLY did not end|DROP INDEX CONCURRENTLY c.i;"]),
    ("what is left on a TOAST table",
     "CREATE TABLE t (a text); UPDATE pg_index SET indisvalid = false WHERE indrelid = (SELECT reltoastrelid \
      FROM pg_class WHERE oid = 't'::regclass)",
     "SELECT schemaname, repair_command ~ '^REINDEX INDEX CONCURRENTLY pg_toast.pg_toast_\\d+_index;$' \
      FROM upkeep.invalid_indexes; UPDATE pg_index SET indisvalid = true WHERE NOT indisvalid",
     &["pg_toast|t"]),
];
