//! Which index is used, unused, kept or unknown, and the reason that is given.

use super::{Case, REASON, UNUSED, VERDICT};

const PARTITIONED: &str = "CREATE TABLE p (k int, a int) PARTITION BY RANGE (k);
    CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (10); CREATE TABLE p2 PARTITION OF p FOR VALUES FROM (10) TO (20);
    INSERT INTO p SELECT i % 20, i FROM generate_series(1, 500) i; CREATE INDEX p_a ON p (a);";

pub const CASES: &[Case] = &[
    ("an index that was scanned is used",
     "CREATE TABLE t (a int); INSERT INTO t SELECT generate_series(1, 500); CREATE INDEX i ON t (a);; SELECT * FROM t WHERE a = 5",
     VERDICT, &["i|used"]),
    ("an index that was not is unused",
     "CREATE TABLE t (a int); CREATE INDEX i ON t (a)",
     VERDICT, &["i|unused"]),
    ("a primary key is kept, though checking it is no scan",
     "CREATE TABLE t (a int PRIMARY KEY); INSERT INTO t SELECT generate_series(1, 100)",
     REASON, &["t_pkey|kept|primary key"]),
    ("a unique constraint is kept",
     "CREATE TABLE t (a int UNIQUE)",
     REASON, &["t_a_key|kept|unique: it checks what is written, which is not counted as a scan"]),
    ("a unique index without a constraint is kept",
     "CREATE TABLE t (a int); CREATE UNIQUE INDEX i ON t (a)",
     VERDICT, &["i|kept"]),
    ("a partial unique index is kept",
     "CREATE TABLE t (a int, b int); CREATE UNIQUE INDEX i ON t (a) WHERE b > 0",
     VERDICT, &["i|kept"]),
    ("a unique index on an expression is kept",
     "CREATE TABLE t (a text); CREATE UNIQUE INDEX i ON t (lower(a))",
     VERDICT, &["i|kept"]),
    ("an exclusion constraint is kept",
     "CREATE TABLE t (r int4range, EXCLUDE USING gist (r WITH &&))",
     REASON, &["t_r_excl|kept|exclusion constraint"]),
    ("a deferrable unique constraint is kept",
     "CREATE TABLE t (a int UNIQUE DEFERRABLE INITIALLY DEFERRED)",
     VERDICT, &["t_a_key|kept"]),
    ("what a foreign key refers to is kept, a bare unique index too",
     "CREATE TABLE t (a int NOT NULL); CREATE UNIQUE INDEX i ON t (a); CREATE TABLE r (a int REFERENCES t (a))",
     REASON, &["i|kept|foreign key r_a_fkey refers to it"]),
    ("the only index of a foreign key is kept",
     "CREATE TABLE t (a int PRIMARY KEY); CREATE TABLE r (a int REFERENCES t); CREATE INDEX i ON r (a)",
     REASON, &["i|kept|the only index for foreign key r_a_fkey: without it each DELETE on the other side reads this table",
               "t_pkey|kept|primary key"]),
    ("of two idle indexes for a foreign key the narrower is kept",
     "CREATE TABLE t (a int PRIMARY KEY); CREATE TABLE r (a int REFERENCES t, b int); CREATE INDEX wide ON r (a, b); \
      CREATE INDEX narrow ON r (a)",
     VERDICT, &["narrow|kept", "t_pkey|kept", "wide|unused"]),
    ("of two alike the older is kept",
     "CREATE TABLE t (a int PRIMARY KEY); CREATE TABLE r (a int REFERENCES t); CREATE INDEX x2 ON r (a); CREATE INDEX x1 ON r (a)",
     VERDICT, &["t_pkey|kept", "x1|unused", "x2|kept"]),
    ("an index in use serves the foreign key, the idle one need not",
     "CREATE TABLE t (a int PRIMARY KEY); CREATE TABLE r (a int REFERENCES t, b int); INSERT INTO t SELECT generate_series(1, 500);
      INSERT INTO r SELECT i, i FROM generate_series(1, 500) i; CREATE INDEX wide ON r (a, b);; \
      SELECT * FROM r WHERE a = 7 AND b = 7;; CREATE INDEX narrow ON r (a)",
     VERDICT, &["narrow|unused", "t_pkey|used", "wide|used"]),
    ("a primary key that leads with it serves the foreign key",
     "CREATE TABLE t (a int PRIMARY KEY); CREATE TABLE r (a int REFERENCES t, b int, PRIMARY KEY (a, b)); CREATE INDEX i ON r (a)",
     VERDICT, &["i|unused", "r_pkey|kept", "t_pkey|kept"]),
    ("two columns in the other order serve a foreign key",
     "CREATE TABLE t (a int, b int, PRIMARY KEY (a, b)); CREATE TABLE r (a int, b int, FOREIGN KEY (a, b) \
      REFERENCES t); CREATE INDEX i ON r (b, a)",
     VERDICT, &["i|kept", "t_pkey|kept"]),
    ("one column of two does not",
     "CREATE TABLE t (a int, b int, PRIMARY KEY (a, b)); CREATE TABLE r (a int, b int, FOREIGN KEY (a, b) \
      REFERENCES t); CREATE INDEX i ON r (a)",
     VERDICT, &["i|unused", "t_pkey|kept"]),
    ("replica identity is kept",
     "CREATE TABLE t (a int NOT NULL); CREATE UNIQUE INDEX i ON t (a); ALTER TABLE t REPLICA IDENTITY USING INDEX i",
     VERDICT, &["i|kept"]),
    ("the CLUSTER order is kept",
     "CREATE TABLE t (a int); CREATE INDEX i ON t (a); ALTER TABLE t CLUSTER ON i",
     REASON, &["i|kept|CLUSTER order of the table"]),
    ("an index that belongs to an extension is kept",
     "CREATE TABLE t (a int); CREATE INDEX i ON t (a); ALTER EXTENSION pg_trgm ADD TABLE t",
     "SELECT indexrelname, verdict, reason FROM upkeep.index_usage WHERE schemaname = 'c'; ALTER EXTENSION pg_trgm DROP TABLE t",
     &["i|kept|belongs to extension pg_trgm"]),
    ("an expression whose statistics the planner has is kept",
     "CREATE TABLE t (a text); INSERT INTO t SELECT i::text FROM generate_series(1, 300) i; CREATE INDEX i ON t (lower(a)); ANALYZE t",
     REASON, &["i|kept|the planner uses the statistics of its expression; CREATE STATISTICS on the expression and ANALYZE replace them"]),
    ("an expression that was never analyzed is not",
     "CREATE TABLE t (a text); CREATE INDEX i ON t (lower(a))",
     VERDICT, &["i|unused"]),
    ("CREATE STATISTICS stands in for the index's statistics",
     "CREATE TABLE t (a text); INSERT INTO t SELECT i::text FROM generate_series(1, 300) i; CREATE INDEX i ON t (lower(a));
      CREATE STATISTICS s ON (lower(a)) FROM t; ANALYZE t",
     VERDICT, &["i|unused"]),
    ("statistics on another expression do not",
     "CREATE TABLE t (a text); INSERT INTO t SELECT i::text FROM generate_series(1, 300) i; CREATE INDEX i ON t (lower(a));
      CREATE STATISTICS s ON (upper(a)) FROM t; ANALYZE t",
     VERDICT, &["i|kept"]),
    ("statistics that were never gathered do not",
     "CREATE TABLE t (a text); INSERT INTO t SELECT i::text FROM generate_series(1, 300) i; CREATE INDEX i ON t (lower(a)); ANALYZE t;
      CREATE STATISTICS s ON (lower(a)) FROM t",
     VERDICT, &["i|kept"]),
    ("a predicate has no statistics of its own",
     "CREATE TABLE t (a int); INSERT INTO t SELECT generate_series(1, 300); CREATE INDEX i ON t (a) WHERE a > 5; ANALYZE t",
     VERDICT, &["i|unused"]),
    ("a partitioned index is unused as a whole, its parts are kept",
     PARTITIONED, VERDICT, &["p1_a_idx|kept", "p2_a_idx|kept", "p_a|unused"]),
    ("only the whole is proposed",
     PARTITIONED, UNUSED, &["p_a"]),
    ("one used partition means used",
     "CREATE TABLE p (k int, a int) PARTITION BY RANGE (k); CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (10);
      CREATE TABLE p2 PARTITION OF p FOR VALUES FROM (10) TO (20); INSERT INTO p SELECT i % 20, i FROM generate_series(1, 500) i;
      CREATE INDEX p_a ON p (a);; SELECT * FROM p1 WHERE a = 5",
     VERDICT, &["p1_a_idx|used", "p2_a_idx|used", "p_a|used"]),
    ("scans of partitions are those of the whole",
     "CREATE TABLE p (k int, a int) PARTITION BY RANGE (k); CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (10);
      CREATE TABLE p2 PARTITION OF p FOR VALUES FROM (10) TO (20); INSERT INTO p SELECT i % 20, i FROM generate_series(1, 500) i;
      CREATE INDEX p_a ON p (a);; SELECT * FROM p1 WHERE a = 5;; SELECT * FROM p WHERE a = 5",
     "SELECT indexrelname, idx_scan, index_size = (SELECT sum(pg_relation_size(indexrelid)) FROM pg_stat_user_indexes \
      WHERE relname IN ('p1', 'p2')) FROM upkeep.index_usage WHERE indexrelname = 'p_a'",
     &["p_a|3|t"]),
    ("partitions of partitions count too",
     "CREATE TABLE p (k int, l int, a int) PARTITION BY RANGE (k); CREATE TABLE q PARTITION OF p FOR VALUES \
      FROM (0) TO (10) PARTITION BY RANGE (l);
      CREATE TABLE r PARTITION OF q FOR VALUES FROM (0) TO (10); INSERT INTO p SELECT 1, 1, i FROM generate_series(1, \
      500) i; CREATE INDEX p_a ON p (a);; SELECT * FROM r WHERE a = 3",
     VERDICT, &["p_a|used", "q_a_idx|used", "r_a_idx|used"]),
    ("a partition's own index is judged for itself",
     "CREATE TABLE p (k int, a int) PARTITION BY RANGE (k); CREATE TABLE p1 PARTITION OF p FOR VALUES \
      FROM (0) TO (10); CREATE INDEX own ON p1 (a)",
     VERDICT, &["own|unused"]),
    ("replica identity of a partition keeps the whole",
     "CREATE TABLE p (k int NOT NULL, a int NOT NULL) PARTITION BY RANGE (k); CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (10);
      CREATE INDEX p_a ON p (a); ALTER TABLE p1 CLUSTER ON p1_a_idx",
     VERDICT, &["p1_a_idx|kept", "p_a|kept"]),
    ("a partitioned foreign key keeps the whole",
     "CREATE TABLE t (a int PRIMARY KEY); CREATE TABLE p (k int, a int REFERENCES t) PARTITION BY RANGE (k);
      CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (10); CREATE INDEX p_a ON p (a)",
     VERDICT, &["p1_a_idx|kept", "p_a|kept", "t_pkey|kept"]),
    ("a partition's own index that serves the foreign key is kept",
     "CREATE TABLE t (a int PRIMARY KEY); CREATE TABLE p (k int, a int REFERENCES t) PARTITION BY RANGE (k);
      CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (10); CREATE INDEX own ON p1 (a)",
     VERDICT, &["own|kept", "t_pkey|kept"]),
    ("a partitioned index with a partition missing is not judged",
     "CREATE TABLE p (k int, a int) PARTITION BY RANGE (k); CREATE TABLE p1 PARTITION OF p FOR VALUES \
      FROM (0) TO (10); CREATE INDEX p_a ON ONLY p (a)",
     VERDICT, &["p_a|unknown"]),
    ("an index on a materialized view",
     "CREATE MATERIALIZED VIEW m AS SELECT 1 AS a; CREATE INDEX i ON m (a)",
     VERDICT, &["i|unused"]),
    ("gin, gist, brin, hash and spgist",
     "CREATE TABLE t (a int, b text, r int4range); CREATE INDEX i1 ON t USING brin (a); CREATE INDEX i2 ON t USING hash (b);
      CREATE INDEX i3 ON t USING gist (r); CREATE INDEX i4 ON t USING gin (b gin_trgm_ops); CREATE INDEX i5 ON t USING spgist (b)",
     VERDICT, &["i1|unused", "i2|unused", "i3|unused", "i4|unused", "i5|unused"]),
    ("the way back: everything that an index can say",
     "CREATE TABLE \"T x\" (\"A\" text COLLATE \"C\", b int, \"c'd\" numeric);
      CREATE INDEX i1 ON \"T x\" (\"A\" COLLATE \"POSIX\" text_pattern_ops DESC NULLS LAST, b NULLS FIRST) \
      INCLUDE (\"c'd\") WITH (fillfactor = 70) WHERE b > 5;
      CREATE INDEX \"i 2\"\"\" ON \"T x\" (lower(\"A\"), (b + 1)); CREATE INDEX i3 ON \"T x\" USING gist (b) WITH (buffering = on);
      CREATE INDEX i4 ON \"T x\" USING gin (\"A\" gin_trgm_ops) WITH (fastupdate = off); \
      CREATE INDEX i5 ON \"T x\" (b DESC) INCLUDE (\"c'd\")",
     VERDICT, &["i 2\"|unused", "i1|unused", "i3|unused", "i4|unused", "i5|unused"]),
    (
        "the way back of a partitioned index",
        "CREATE TABLE p (k int, a int) PARTITION BY RANGE (k); CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (10);
         CREATE INDEX x ON p (a DESC) INCLUDE (k) WHERE a > 0; CREATE INDEX y ON p (k, a DESC)",
        UNUSED,
        &["x", "y"],
    ),
    (
        "another tablespace",
        "SET allow_in_place_tablespaces = on;; CREATE TABLESPACE elsewhere LOCATION '';; CREATE TABLE t (a int, b int);
         INSERT INTO t SELECT i, i FROM generate_series(1, 2000) i; CREATE INDEX x ON t (a) TABLESPACE elsewhere; \
         CREATE INDEX y ON t (b) TABLESPACE elsewhere WHERE a > 0",
        "SELECT indexrelname, index_size = pg_relation_size(indexrelid), create_command FROM upkeep.unused_indexes \
         WHERE schemaname = 'c' ORDER BY 1",
        &[
            "x|t|CREATE INDEX CONCURRENTLY x ON c.t USING btree (a) TABLESPACE elsewhere;",
            "y|t|CREATE INDEX CONCURRENTLY y ON c.t USING btree (b) TABLESPACE elsewhere WHERE (a > 0);",
        ],
    ),
    ("the definition is the server's",
     "CREATE TABLE t (a varchar(10), b char(3) COLLATE \"C\", c int[], d name, e timestamptz, f inet, g cidr); \
      CREATE INDEX i1 ON t (a, b DESC, c NULLS FIRST);
      CREATE INDEX i2 ON t (d, e DESC NULLS LAST); CREATE INDEX i3 ON t (f, g); \
      CREATE INDEX i4 ON t (a varchar_pattern_ops); CREATE INDEX i5 ON t (a text_ops);
      CREATE INDEX i6 ON t USING gin (c); CREATE INDEX i7 ON t (d COLLATE \"POSIX\"); \
      CREATE INDEX i8 ON t USING gist (f inet_ops); CREATE UNIQUE INDEX i9 ON t (e) NULLS NOT DISTINCT; \
      CREATE INDEX i10 ON t (e, a text_pattern_ops); CREATE INDEX i11 ON t (e, a COLLATE \"C\"); \
      CREATE INDEX i12 ON t USING gist (f inet_ops, e)",
     "SELECT indexrelname, indexdef, pg_get_indexdef(indexrelid) FROM upkeep.index_usage WHERE indexdef IS DISTINCT \
      FROM pg_get_indexdef(indexrelid)",
     &[]),
    ("columns whose updates only this index keeps from being HOT",
     "CREATE TABLE t (a int, b int, c int, d int, e text); CREATE INDEX i ON t (a, b) INCLUDE (c) WHERE d > 0; \
      CREATE INDEX j ON t (a, lower(e))",
     "SELECT indexrelname, hot_prevented_by FROM upkeep.unused_indexes WHERE schemaname = 'c' ORDER BY 1",
     &["i|{b,c,d}", "j|{e}"]),
    ("an update that was not HOT is counted where a column is an index's own",
     "CREATE TABLE t (a int, b int) WITH (fillfactor = 50); INSERT INTO t SELECT i, i FROM generate_series(1, 10) i; \
      CREATE INDEX i ON t (a); CREATE INDEX j ON t (a, b);; UPDATE t SET b = 0",
     "SELECT indexrelname, hot_updates_prevented, entries_written, hot_share FROM upkeep.unused_indexes WHERE schemaname = 'c' ORDER BY 1",
     &["i|0|20|0", "j|10|20|0"]),
    ("the dearest comes first",
     "CREATE TABLE t (a int, b text); INSERT INTO t SELECT i, repeat('x', 50) || i FROM generate_series(1, 2000) i; \
      CREATE INDEX small ON t (a); CREATE INDEX large ON t (b)",
     UNUSED, &["large", "small"]),
    ("an index of another session's temporary table is not seen, one's own is",
     "CREATE TEMP TABLE mine (a int); CREATE INDEX mine_i ON mine (a)",
     "SELECT verdict FROM upkeep.index_usage WHERE indexrelname = 'mine_i'; DROP TABLE mine", &["unused"]),
    ("an unlogged table's index",
     "CREATE UNLOGGED TABLE t (a int); CREATE INDEX i ON t (a)",
     VERDICT, &["i|unused"]),
    ("hostile names",
     "CREATE TABLE \"'; DROP TABLE x; --\" (\"<script>\" int, \"a\nb\" int); CREATE INDEX \"i\"\"' USING gin (\" \
      ON \"'; DROP TABLE x; --\" (\"<script>\" DESC, \"a\nb\") WHERE \"<script>\" > 0",
     "SELECT count(*) FROM upkeep.unused_indexes WHERE schemaname = 'c'", &["1"]),
];
