//! Foreign keys without an index, and the indexes that are missing.

use super::{Case, FOREIGN_KEY, MISSING};

pub const CASES: &[Case] = &[
    (
        "a foreign key without an index",
        "CREATE TABLE t (a int PRIMARY KEY); CREATE TABLE r (a int REFERENCES t)",
        FOREIGN_KEY,
        &["r|{a}|low"],
    ),
    (
        "with one",
        "CREATE TABLE t (a int PRIMARY KEY); CREATE TABLE r (a int REFERENCES t); CREATE INDEX ON r (a)",
        FOREIGN_KEY,
        &[],
    ),
    (
        "with a primary key that begins with it",
        "CREATE TABLE t (a int PRIMARY KEY); CREATE TABLE r (a int REFERENCES t, b int, PRIMARY KEY (a, b))",
        FOREIGN_KEY,
        &[],
    ),
    (
        "with a primary key that ends with it",
        "CREATE TABLE t (a int PRIMARY KEY); CREATE TABLE r (a int REFERENCES t, b int, PRIMARY KEY (b, a))",
        FOREIGN_KEY,
        &["r|{a}|low"],
    ),
    (
        "any order of columns",
        "CREATE TABLE t (a int, b int, PRIMARY KEY (a, b)); CREATE TABLE r (a int, b int, c int, FOREIGN KEY (a, b) \
         REFERENCES t); CREATE INDEX ON r (b, a, c)",
        FOREIGN_KEY,
        &[],
    ),
    (
        "a column between",
        "CREATE TABLE t (a int, b int, PRIMARY KEY (a, b)); CREATE TABLE r (a int, b int, c int, FOREIGN KEY (a, b) \
         REFERENCES t); CREATE INDEX ON r (b, c, a)",
        FOREIGN_KEY,
        &["r|{a,b}|low"],
    ),
    (
        "columns as the key has them",
        "CREATE TABLE t (a int, b int, PRIMARY KEY (a, b)); CREATE TABLE r (x int, y int, FOREIGN KEY (y, x) REFERENCES t)",
        FOREIGN_KEY,
        &["r|{y,x}|low"],
    ),
    (
        "INCLUDE does not count",
        "CREATE TABLE t (a int, b int, PRIMARY KEY (a, b)); CREATE TABLE r (a int, b int, FOREIGN KEY (a, b) \
         REFERENCES t); CREATE INDEX ON r (a) INCLUDE (b)",
        FOREIGN_KEY,
        &["r|{a,b}|low"],
    ),
    (
        "a partial index does not count",
        "CREATE TABLE t (a int PRIMARY KEY); CREATE TABLE r (a int REFERENCES t, b bool); CREATE INDEX ON r (a) WHERE b",
        FOREIGN_KEY,
        &["r|{a}|low"],
    ),
    (
        "unless it is IS NOT NULL",
        "CREATE TABLE t (a int PRIMARY KEY); CREATE TABLE r (a int REFERENCES t); CREATE INDEX ON r (a) WHERE a IS NOT NULL",
        FOREIGN_KEY,
        &[],
    ),
    (
        "of both columns",
        "CREATE TABLE t (a int, b int, PRIMARY KEY (a, b)); CREATE TABLE r (a int, b int, FOREIGN KEY (a, b) \
         REFERENCES t); CREATE INDEX ON r (a, b) WHERE a IS NOT NULL AND b IS NOT NULL",
        FOREIGN_KEY,
        &[],
    ),
    (
        "of another column it does not count",
        "CREATE TABLE t (a int PRIMARY KEY); CREATE TABLE r (a int REFERENCES t, b int); CREATE INDEX ON r (a) WHERE b IS NOT NULL",
        FOREIGN_KEY,
        &["r|{a}|low"],
    ),
    (
        "nor with IS NULL",
        "CREATE TABLE t (a int PRIMARY KEY); CREATE TABLE r (a int REFERENCES t); CREATE INDEX ON r (a) WHERE a IS NULL",
        FOREIGN_KEY,
        &["r|{a}|low"],
    ),
    (
        "nor with one of them in an OR",
        "CREATE TABLE t (a int PRIMARY KEY); CREATE TABLE r (a int REFERENCES t); CREATE INDEX ON r (a) WHERE a IS NOT NULL OR a > 5",
        FOREIGN_KEY,
        &["r|{a}|low"],
    ),
    (
        "nor with something more",
        "CREATE TABLE t (a int PRIMARY KEY); CREATE TABLE r (a int REFERENCES t); CREATE INDEX ON r (a) WHERE a IS NOT NULL AND a > 5",
        FOREIGN_KEY,
        &["r|{a}|low"],
    ),
    (
        "an expression does not count",
        "CREATE TABLE t (a int PRIMARY KEY); CREATE TABLE r (a int REFERENCES t); CREATE INDEX ON r ((a + 0))",
        FOREIGN_KEY,
        &["r|{a}|low"],
    ),
    (
        "hash counts for one column",
        "CREATE TABLE t (a int PRIMARY KEY); CREATE TABLE r (a int REFERENCES t); CREATE INDEX ON r USING hash (a)",
        FOREIGN_KEY,
        &[],
    ),
    (
        "brin does not count",
        "CREATE TABLE t (a int PRIMARY KEY); CREATE TABLE r (a int REFERENCES t); CREATE INDEX ON r USING brin (a)",
        FOREIGN_KEY,
        &["r|{a}|low"],
    ),
    (
        "gist counts where it knows equality",
        "CREATE TABLE t (a int PRIMARY KEY); CREATE TABLE r (a int REFERENCES t); CREATE INDEX ON r USING gist (a)",
        FOREIGN_KEY,
        &[],
    ),
    (
        "another collation does not count",
        "CREATE TABLE t (a text PRIMARY KEY); CREATE TABLE r (a text REFERENCES t); CREATE INDEX ON r (a COLLATE \"POSIX\")",
        FOREIGN_KEY,
        &["r|{a}|low"],
    ),
    (
        "an operator class with the same equality counts",
        "CREATE TABLE t (a text PRIMARY KEY); CREATE TABLE r (a text REFERENCES t); CREATE INDEX ON r (a text_pattern_ops)",
        FOREIGN_KEY,
        &[],
    ),
    (
        "int refers to bigint",
        "CREATE TABLE t (a bigint PRIMARY KEY); CREATE TABLE r (a int REFERENCES t); CREATE INDEX ON r (a)",
        FOREIGN_KEY,
        &[],
    ),
    (
        "int refers to numeric: no index on int can serve that",
        "CREATE TABLE t (a numeric PRIMARY KEY); CREATE TABLE r (a int REFERENCES t); CREATE INDEX ON r (a)",
        FOREIGN_KEY,
        &["r|{a}|low"],
    ),
    (
        "an invalid index does not count",
        "CREATE TABLE t (a int PRIMARY KEY); CREATE TABLE r (a int REFERENCES t); INSERT INTO t VALUES (1); \
         INSERT INTO r VALUES (1), (1);; FAILS CREATE UNIQUE INDEX CONCURRENTLY i ON r (a)",
        FOREIGN_KEY,
        &["r|{a}|low"],
    ),
    (
        "a table that refers to itself",
        "CREATE TABLE t (a int PRIMARY KEY, b int REFERENCES t)",
        FOREIGN_KEY,
        &["t|{b}|low"],
    ),
    (
        "much is deleted on the other side",
        "CREATE TABLE t (a int PRIMARY KEY); CREATE TABLE r (a int REFERENCES t); \
         INSERT INTO t SELECT generate_series(1, 2000); INSERT INTO r SELECT generate_series(1, 1500);; \
         DELETE FROM t WHERE a > 1990;; ANALYZE t, r",
        FOREIGN_KEY,
        &["r|{a}|high"],
    ),
    (
        "the other side is only updated",
        "CREATE TABLE t (a int PRIMARY KEY, b int); CREATE TABLE r (a int REFERENCES t); \
         INSERT INTO t SELECT generate_series(1, 2000); INSERT INTO r SELECT generate_series(1, 1500);; \
         UPDATE t SET b = 1 WHERE a = 5;; ANALYZE t, r",
        FOREIGN_KEY,
        &["r|{a}|medium"],
    ),
    (
        "the other side is tiny",
        "CREATE TABLE t (a int PRIMARY KEY); CREATE TABLE r (a int REFERENCES t); \
         INSERT INTO t SELECT generate_series(1, 10); INSERT INTO r SELECT i % 9 + 1 FROM generate_series(1, 1500) i;; \
         DELETE FROM t WHERE a = 10;; ANALYZE t, r",
        FOREIGN_KEY,
        &["r|{a}|medium"],
    ),
    (
        "nothing is ever deleted there",
        "CREATE TABLE t (a int PRIMARY KEY); CREATE TABLE r (a int REFERENCES t); \
         INSERT INTO t SELECT generate_series(1, 2000); INSERT INTO r SELECT generate_series(1, 1500);; ANALYZE t, r",
        "SELECT severity, reason FROM upkeep.unindexed_foreign_keys WHERE schemaname = 'c'",
        &["low|nothing was deleted from t or updated in it since the statistics began"],
    ),
    (
        "the table itself is tiny",
        "CREATE TABLE t (a int PRIMARY KEY); CREATE TABLE r (a int REFERENCES t); \
         INSERT INTO t SELECT generate_series(1, 2000);; DELETE FROM t WHERE a > 1990",
        "SELECT severity, reason FROM upkeep.unindexed_foreign_keys WHERE schemaname = 'c'",
        &["low|the table is tiny (0 rows): reading it costs little"],
    ),
    (
        "a partitioned table without an index: every partition first, then the whole",
        "CREATE TABLE t (a int PRIMARY KEY); CREATE TABLE p (k int, a int REFERENCES t) PARTITION BY RANGE (k); \
         CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (10); CREATE TABLE p2 PARTITION OF p FOR VALUES FROM (10) TO (20)",
        "SELECT relname, partitions_without, create_command FROM upkeep.unindexed_foreign_keys WHERE schemaname = 'c'",
        &[
            "p|{c.p1,c.p2}|CREATE INDEX CONCURRENTLY ON c.p1 (a);\nCREATE INDEX CONCURRENTLY ON c.p2 (a);\nCREATE INDEX ON c.p (a);",
        ],
    ),
    (
        "a partitioned table with an index",
        "CREATE TABLE t (a int PRIMARY KEY); CREATE TABLE p (k int, a int REFERENCES t) PARTITION BY RANGE (k); \
         CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (10); CREATE INDEX ON p (a)",
        FOREIGN_KEY,
        &[],
    ),
    (
        "each partition with its own index is as good",
        "CREATE TABLE t (a int PRIMARY KEY); CREATE TABLE p (k int, a int REFERENCES t) PARTITION BY RANGE (k); \
         CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (10); CREATE INDEX ON p1 (a)",
        FOREIGN_KEY,
        &[],
    ),
    (
        "one partition without",
        "CREATE TABLE t (a int PRIMARY KEY); CREATE TABLE p (k int, a int REFERENCES t) PARTITION BY RANGE (k); \
         CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (10); CREATE INDEX ON p1 (a); \
         CREATE TABLE p2 PARTITION OF p FOR VALUES FROM (10) TO (20)",
        "SELECT partitions_without FROM upkeep.unindexed_foreign_keys WHERE schemaname = 'c'",
        &["{c.p2}"],
    ),
    (
        "a partition whose columns have other numbers",
        "CREATE TABLE t (a int PRIMARY KEY); CREATE TABLE p (k int, a int REFERENCES t) PARTITION BY RANGE (k); \
         CREATE TABLE p1 (gone int, a int, k int); ALTER TABLE p1 DROP COLUMN gone; \
         ALTER TABLE p ATTACH PARTITION p1 FOR VALUES FROM (0) TO (10); CREATE INDEX ON p1 (a)",
        FOREIGN_KEY,
        &[],
    ),
    (
        "a partitioned table on the other side",
        "CREATE TABLE p (a int PRIMARY KEY) PARTITION BY RANGE (a); CREATE TABLE p1 PARTITION OF p FOR VALUES \
         FROM (0) TO (10); CREATE TABLE r (a int REFERENCES p)",
        FOREIGN_KEY,
        &["r|{a}|low"],
    ),
    (
        "a partitioned table without partitions",
        "CREATE TABLE t (a int PRIMARY KEY); CREATE TABLE p (k int, a int REFERENCES t) PARTITION BY RANGE (k)",
        FOREIGN_KEY,
        &["p|{a}|low"],
    ),
    (
        "hostile names",
        "CREATE TABLE t (a int PRIMARY KEY); CREATE TABLE \"r\"\"'\" (\"A;--\" int REFERENCES t)",
        "SELECT create_command FROM upkeep.unindexed_foreign_keys WHERE schemaname = 'c'",
        &["CREATE INDEX CONCURRENTLY ON c.\"r\"\"'\" (\"A;--\");"],
    ),
    (
        "a table that is read from end to end, and the column that would help",
        "CREATE TABLE t (a int, b int, c text); INSERT INTO t SELECT i, i % 3, repeat('x', 60) \
         FROM generate_series(1, 20000) i; ANALYZE t;; SET enable_seqscan = on;; SELECT count(*) FROM t;; \
         DO $$ BEGIN FOR i IN 1..60 LOOP PERFORM count(*) FROM t WHERE a = i; END LOOP; END $$",
        MISSING,
        &["t|a"],
    ),
    (
        "with an index on it",
        "CREATE TABLE t (a int, b int, c text); INSERT INTO t SELECT i, i % 3, repeat('x', 60) \
         FROM generate_series(1, 20000) i; CREATE INDEX ON t (a); ANALYZE t;; SET enable_seqscan = on;; \
         DO $$ BEGIN FOR i IN 1..60 LOOP PERFORM count(*) FROM t WHERE b = i; END LOOP; END $$",
        MISSING,
        &["t|"],
    ),
    (
        "without statistics nothing is claimed",
        "CREATE TABLE t (a int, b int, c text); INSERT INTO t SELECT i, i % 3, repeat('x', 60) \
         FROM generate_series(1, 20000) i;; SET enable_seqscan = on;; DO $$ BEGIN FOR i IN 1..60 LOOP PERFORM count(*) \
         FROM t WHERE a = i; END LOOP; END $$",
        MISSING,
        &["t|"],
    ),
    (
        "reading the first row is not reading the table",
        "CREATE TABLE t (a int, b int, c text); INSERT INTO t SELECT i, i % 3, repeat('x', 60) \
         FROM generate_series(1, 20000) i; ANALYZE t;; SET enable_seqscan = on;; \
         DO $$ BEGIN FOR i IN 1..60 LOOP PERFORM 1 FROM t LIMIT 1; END LOOP; END $$",
        MISSING,
        &[],
    ),
    (
        "a small table may be read",
        "CREATE TABLE t (a int); INSERT INTO t SELECT i FROM generate_series(1, 5000) i; ANALYZE t;; \
         SET enable_seqscan = on;; DO $$ BEGIN FOR i IN 1..60 LOOP PERFORM count(*) FROM t WHERE a = i; END LOOP; END $$",
        MISSING,
        &[],
    ),
    (
        "a few scans are no habit",
        "CREATE TABLE t (a int, b int, c text); INSERT INTO t SELECT i, i % 3, repeat('x', 60) \
         FROM generate_series(1, 20000) i; ANALYZE t;; SET enable_seqscan = on;; \
         DO $$ BEGIN FOR i IN 1..40 LOOP PERFORM count(*) FROM t WHERE a = i; END LOOP; END $$",
        MISSING,
        &[],
    ),
];
