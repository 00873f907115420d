//! Indexes that do what another one does.

use super::{Case, DUPLICATE, REDUNDANT};

pub const CASES: &[Case] = &[
    (
        "twice the same",
        "CREATE TABLE t (a int, b text); CREATE INDEX i1 ON t (a); CREATE INDEX i2 ON t (a)",
        DUPLICATE,
        &["i2|i1"],
    ),
    (
        "three times the same",
        "CREATE TABLE t (a int, b text); CREATE INDEX i3 ON t (a); CREATE INDEX i2 ON t (a); CREATE INDEX i1 ON t (a)",
        DUPLICATE,
        &["i1|i3", "i2|i3"],
    ),
    (
        "the same on another table",
        "CREATE TABLE t (a int); CREATE TABLE s (a int); CREATE INDEX i1 ON t (a); CREATE INDEX i2 ON s (a)",
        DUPLICATE,
        &[],
    ),
    (
        "another order of columns",
        "CREATE TABLE t (a int, b int); CREATE INDEX i1 ON t (a, b); CREATE INDEX i2 ON t (b, a)",
        DUPLICATE,
        &[],
    ),
    (
        "another collation",
        "CREATE TABLE t (a text); CREATE INDEX i1 ON t (a); CREATE INDEX i2 ON t (a COLLATE \"C\")",
        DUPLICATE,
        &[],
    ),
    (
        "another collation covers nothing",
        "CREATE TABLE t (a text, b int); CREATE INDEX i1 ON t (a COLLATE \"C\", b); CREATE INDEX i2 ON t (a COLLATE \"POSIX\")",
        REDUNDANT,
        &[],
    ),
    (
        "another operator class",
        "CREATE TABLE t (a text); CREATE INDEX i1 ON t (a); CREATE INDEX i2 ON t (a text_pattern_ops)",
        DUPLICATE,
        &[],
    ),
    (
        "another operator class covers nothing",
        "CREATE TABLE t (a text, b int); CREATE INDEX i1 ON t (a, b); CREATE INDEX i2 ON t (a text_pattern_ops)",
        REDUNDANT,
        &[],
    ),
    (
        "another method",
        "CREATE TABLE t (a int); CREATE INDEX i1 ON t (a); CREATE INDEX i2 ON t USING brin (a)",
        DUPLICATE,
        &[],
    ),
    (
        "brin beside btree is not redundant",
        "CREATE TABLE t (a int); CREATE INDEX i1 ON t (a); CREATE INDEX i2 ON t USING brin (a)",
        REDUNDANT,
        &[],
    ),
    (
        "the same gin index twice",
        "CREATE TABLE t (a text); CREATE INDEX i1 ON t USING gin (a gin_trgm_ops); CREATE INDEX i2 ON t USING gin (a gin_trgm_ops)",
        DUPLICATE,
        &["i2|i1"],
    ),
    (
        "the same gist index twice",
        "CREATE TABLE t (a int4range); CREATE INDEX i1 ON t USING gist (a); CREATE INDEX i2 ON t USING gist (a)",
        DUPLICATE,
        &["i2|i1"],
    ),
    (
        "gist with other parameters of the operator class",
        "CREATE TABLE t (a text); CREATE INDEX i1 ON t USING gist (a gist_trgm_ops); \
         CREATE INDEX i2 ON t USING gist (a gist_trgm_ops (siglen = 32))",
        DUPLICATE,
        &[],
    ),
    (
        "brin with other ranges",
        "CREATE TABLE t (a int); CREATE INDEX i1 ON t USING brin (a); CREATE INDEX i2 ON t USING brin (a) WITH (pages_per_range = 4)",
        DUPLICATE,
        &[],
    ),
    (
        "an opposite direction is no duplicate",
        "CREATE TABLE t (a int); CREATE INDEX i1 ON t (a); CREATE INDEX i2 ON t (a DESC)",
        DUPLICATE,
        &[],
    ),
    (
        "but it is redundant: btrees are read both ways",
        "CREATE TABLE t (a int); CREATE INDEX i1 ON t (a);; INSERT INTO t SELECT generate_series(1, 300);; \
         SELECT * FROM t WHERE a = 7;; CREATE INDEX i2 ON t (a DESC)",
        REDUNDANT,
        &["i2|i1|nothing"],
    ),
    (
        "all directions the other way round",
        "CREATE TABLE t (a int, b int); CREATE UNIQUE INDEX i1 ON t (a, b DESC); CREATE INDEX i2 ON t (a DESC, b)",
        REDUNDANT,
        &["i2|i1|nothing"],
    ),
    (
        "one direction of two the other way round is another order",
        "CREATE TABLE t (a int, b int); CREATE UNIQUE INDEX i1 ON t (a, b); CREATE INDEX i2 ON t (a DESC, b)",
        REDUNDANT,
        &[],
    ),
    (
        "nulls at the other end are another order",
        "CREATE TABLE t (a int, b int); CREATE UNIQUE INDEX i1 ON t (a, b); CREATE INDEX i2 ON t (a NULLS FIRST)",
        REDUNDANT,
        &[],
    ),
    (
        "the same, backwards and nulls last is nulls first",
        "CREATE TABLE t (a int, b int); CREATE UNIQUE INDEX i1 ON t (a, b); CREATE INDEX i2 ON t (a DESC NULLS FIRST)",
        REDUNDANT,
        &["i2|i1|nothing"],
    ),
    (
        "the same expression twice",
        "CREATE TABLE t (a text); CREATE INDEX i1 ON t (lower(a)); CREATE INDEX   i2   ON   t   (  lower(a)  )",
        DUPLICATE,
        &["i2|i1"],
    ),
    (
        "another expression",
        "CREATE TABLE t (a text); CREATE INDEX i1 ON t (lower(a)); CREATE INDEX i2 ON t (upper(a))",
        DUPLICATE,
        &[],
    ),
    (
        "the same predicate twice",
        "CREATE TABLE t (a int, b int); CREATE INDEX i1 ON t (a) WHERE b > 0; CREATE INDEX i2 ON t (a)   WHERE   b > 0",
        DUPLICATE,
        &["i2|i1"],
    ),
    (
        "another predicate",
        "CREATE TABLE t (a int, b int); CREATE INDEX i1 ON t (a) WHERE b > 0; CREATE INDEX i2 ON t (a) WHERE b < 0",
        DUPLICATE,
        &[],
    ),
    (
        "predicates that have nothing to do with each other",
        "CREATE TABLE t (a int, b int); CREATE UNIQUE INDEX i1 ON t (a) WHERE b > 0; CREATE INDEX i2 ON t (a) WHERE b < 0",
        REDUNDANT,
        &[],
    ),
    (
        "a predicate that is implied by another",
        "CREATE TABLE t (a int, b int); CREATE UNIQUE INDEX i1 ON t (a) WHERE b > 0; CREATE INDEX i2 ON t (a) WHERE b > 10",
        REDUNDANT,
        &["i2|i1|nothing"],
    ),
    (
        "not the other way round",
        "CREATE TABLE t (a int, b int); CREATE UNIQUE INDEX i1 ON t (a) WHERE b > 10; CREATE INDEX i2 ON t (a) WHERE b > 0",
        REDUNDANT,
        &[],
    ),
    (
        "a full index covers a partial one, and says what that costs",
        "CREATE TABLE t (a int, b int); CREATE UNIQUE INDEX i1 ON t (a); CREATE INDEX i2 ON t (a) WHERE b > 0",
        REDUNDANT,
        &["i2|i1|rows outside of its predicate are then in the index that is read"],
    ),
    (
        "a partial index never covers a full one",
        "CREATE TABLE t (a int, b int); CREATE UNIQUE INDEX i1 ON t (a) WHERE b > 0; CREATE INDEX i2 ON t (a)",
        REDUNDANT,
        &[],
    ),
    (
        "other INCLUDE columns are no duplicate",
        "CREATE TABLE t (a int, b int, c int); CREATE INDEX i1 ON t (a) INCLUDE (b); CREATE INDEX i2 ON t (a) INCLUDE (c)",
        DUPLICATE,
        &[],
    ),
    (
        "a column in INCLUDE is not a key",
        "CREATE TABLE t (a int, b int); CREATE INDEX i1 ON t (a, b); CREATE INDEX i2 ON t (a) INCLUDE (b)",
        DUPLICATE,
        &[],
    ),
    (
        "a key column covers an INCLUDE column",
        "CREATE TABLE t (a int, b int); CREATE UNIQUE INDEX i1 ON t (a, b); CREATE INDEX i2 ON t (a) INCLUDE (b)",
        REDUNDANT,
        &["i2|i1|nothing"],
    ),
    (
        "an INCLUDE column that would be lost is named",
        "CREATE TABLE t (a int, b int); CREATE UNIQUE INDEX i1 ON t (a); CREATE INDEX i2 ON t (a) INCLUDE (b)",
        REDUNDANT,
        &["i2|i1|index-only scans that read its INCLUDE columns"],
    ),
    (
        "INCLUDE is no key that covers",
        "CREATE TABLE t (a int, b int); CREATE UNIQUE INDEX i1 ON t (a) INCLUDE (b); CREATE INDEX i2 ON t (a, b)",
        REDUNDANT,
        &[],
    ),
    (
        "of two that cover each other goes the one that takes nothing along",
        "CREATE TABLE t (a int, b int); INSERT INTO t SELECT i, i FROM generate_series(1, 300) i; \
         CREATE INDEX i2 ON t (a) INCLUDE (b);; SELECT a, b FROM t WHERE a = 3;; CREATE INDEX i1 ON t (a);; SELECT * FROM t WHERE a = 3",
        "SELECT indexrelname, covered_by FROM upkeep.redundant_indexes WHERE schemaname = 'c'",
        &["i1|i2"],
    ),
    (
        "a unique index makes another of the same columns superfluous",
        "CREATE TABLE t (a int); CREATE INDEX i1 ON t (a); CREATE UNIQUE INDEX i2 ON t (a)",
        REDUNDANT,
        &["i1|i2|nothing"],
    ),
    (
        "unique and not unique are no duplicates",
        "CREATE TABLE t (a int); CREATE INDEX i1 ON t (a); CREATE UNIQUE INDEX i2 ON t (a)",
        DUPLICATE,
        &[],
    ),
    (
        "unique (a) is not covered by (a, b)",
        "CREATE TABLE t (a int, b int); CREATE UNIQUE INDEX i1 ON t (a); CREATE UNIQUE INDEX i2 ON t (a, b)",
        REDUNDANT,
        &[],
    ),
    (
        "(a) is covered by the primary key (a, b)",
        "CREATE TABLE t (a int, b int, PRIMARY KEY (a, b)); CREATE INDEX i ON t (a)",
        REDUNDANT,
        &["i|t_pkey|nothing"],
    ),
    ("(b) is not", "CREATE TABLE t (a int, b int, PRIMARY KEY (a, b)); CREATE INDEX i ON t (b)", REDUNDANT, &[]),
    (
        "a primary key and a unique constraint on the same column",
        "CREATE TABLE t (a int PRIMARY KEY); ALTER TABLE t ADD CONSTRAINT u UNIQUE (a)",
        DUPLICATE,
        &["u|t_pkey"],
    ),
    (
        "the one that a foreign key refers to stays, and its command is not given",
        "CREATE TABLE t (a int NOT NULL); CREATE UNIQUE INDEX u ON t (a); CREATE TABLE r (a int REFERENCES t (a)); \
         ALTER TABLE t ADD PRIMARY KEY (a)",
        "SELECT indexrelname, duplicate_of, drop_command IS NULL FROM upkeep.duplicate_indexes WHERE schemaname = 'c'",
        &["u|t_pkey|t"],
    ),
    (
        "a deferrable constraint is another thing",
        "CREATE TABLE t (a int PRIMARY KEY); ALTER TABLE t ADD CONSTRAINT u UNIQUE (a) DEFERRABLE",
        DUPLICATE,
        &[],
    ),
    (
        "NULLS NOT DISTINCT is another thing",
        "CREATE TABLE t (a int); CREATE UNIQUE INDEX i1 ON t (a); CREATE UNIQUE INDEX i2 ON t (a) NULLS NOT DISTINCT",
        DUPLICATE,
        &[],
    ),
    (
        "a constraint's command, and its way back",
        "CREATE TABLE t (a int, CONSTRAINT u1 UNIQUE (a)); ALTER TABLE t ADD CONSTRAINT u2 UNIQUE (a)",
        "SELECT drop_command, create_command FROM upkeep.duplicate_indexes WHERE schemaname = 'c'",
        &["ALTER TABLE c.t DROP CONSTRAINT u2;|CREATE UNIQUE INDEX CONCURRENTLY u2 ON c.t USING btree (a); \
           ALTER TABLE c.t ADD CONSTRAINT u2 UNIQUE USING INDEX u2;"],
    ),
    (
        "the replica identity stays",
        "CREATE TABLE t (a int NOT NULL); CREATE UNIQUE INDEX i1 ON t (a); CREATE UNIQUE INDEX i2 ON t (a); \
         ALTER TABLE t REPLICA IDENTITY USING INDEX i2",
        DUPLICATE,
        &["i1|i2"],
    ),
    (
        "the CLUSTER order stays",
        "CREATE TABLE t (a int); CREATE INDEX i1 ON t (a); CREATE INDEX i2 ON t (a); ALTER TABLE t CLUSTER ON i2",
        DUPLICATE,
        &["i1|i2"],
    ),
    (
        "the CLUSTER order is not called redundant",
        "CREATE TABLE t (a int, b int, UNIQUE (a, b)); CREATE INDEX i ON t (a); ALTER TABLE t CLUSTER ON i",
        REDUNDANT,
        &[],
    ),
    (
        "the one in use stays",
        "CREATE TABLE t (a int); INSERT INTO t SELECT generate_series(1, 300);; \
         CREATE INDEX i1 ON t (a) WITH (fillfactor = 90);; CREATE INDEX i2 ON t (a) WITH (fillfactor = 90);; SELECT * FROM t WHERE a = 5",
        "SELECT duplicate_of = (SELECT indexrelname FROM upkeep.index_usage WHERE schemaname = 'c' \
         AND verdict = 'used') FROM upkeep.duplicate_indexes WHERE schemaname = 'c'",
        &["t"],
    ),
    (
        "storage parameters that would be lost are named",
        "CREATE TABLE t (a int, b int, UNIQUE (a, b)); CREATE INDEX i ON t (a) WITH (fillfactor = 50, deduplicate_items = off)",
        REDUNDANT,
        &["i|t_a_b_key|its storage parameters: fillfactor=50, deduplicate_items=off"],
    ),
    (
        "with other storage parameters it is no duplicate",
        "CREATE TABLE t (a int); CREATE INDEX i1 ON t (a); CREATE INDEX i2 ON t (a) WITH (fillfactor = 50)",
        DUPLICATE,
        &[],
    ),
    (
        "hash beside btree",
        "CREATE TABLE t (a text PRIMARY KEY); CREATE INDEX i ON t USING hash (a)",
        REDUNDANT,
        &["i|t_pkey|entries of constant size however long the values are"],
    ),
    (
        "hash beside a btree that begins with another column",
        "CREATE TABLE t (a int, b int, PRIMARY KEY (b, a)); CREATE INDEX i ON t USING hash (a)",
        REDUNDANT,
        &[],
    ),
    (
        "an expression before a column",
        "CREATE TABLE t (a text, b int); CREATE UNIQUE INDEX i1 ON t (lower(a), b); CREATE INDEX i2 ON t (lower(a))",
        REDUNDANT,
        &["i2|i1|nothing"],
    ),
    (
        "two expressions, of which the first is covered",
        "CREATE TABLE t (a text, b text); CREATE UNIQUE INDEX i1 ON t (lower(a), lower(b)); \
         CREATE INDEX i2 ON t (lower(a)); CREATE INDEX i3 ON t (lower(b))",
        REDUNDANT,
        &["i2|i1|nothing"],
    ),
    (
        "an expression does not begin with part of itself",
        "CREATE TABLE t (a int, b int); CREATE UNIQUE INDEX i1 ON t ((a + b), a); CREATE INDEX i2 ON t ((a + 1))",
        REDUNDANT,
        &[],
    ),
    (
        "the last of a chain covers all",
        "CREATE TABLE t (a int, b int, c int, PRIMARY KEY (a, b, c)); CREATE INDEX i1 ON t (a); CREATE INDEX i2 ON t (a, b)",
        REDUNDANT,
        &["i1|t_pkey|nothing", "i2|t_pkey|nothing"],
    ),
    (
        "what was never scanned covers nothing",
        "CREATE TABLE t (a int, b int); INSERT INTO t SELECT i, i FROM generate_series(1, 300) i; \
         CREATE INDEX i1 ON t (a);; SELECT * FROM t WHERE a = 5;; CREATE INDEX i2 ON t (a, b)",
        REDUNDANT,
        &[],
    ),
    (
        "a smaller index would be lost",
        "CREATE TABLE t (a int, b text, PRIMARY KEY (a, b)); INSERT INTO t SELECT i, repeat('x', 100) \
         FROM generate_series(1, 2000) i; CREATE INDEX i ON t (a)",
        "SELECT what_would_be_lost ~ '^a smaller index: .* kB instead of .* kB$' FROM upkeep.redundant_indexes WHERE schemaname = 'c'",
        &["t"],
    ),
    (
        "partitioned duplicates: the whole",
        "CREATE TABLE p (k int, a int) PARTITION BY RANGE (k); CREATE TABLE p1 PARTITION OF p FOR VALUES \
         FROM (0) TO (10); CREATE INDEX x1 ON p (a); CREATE INDEX x2 ON p (a)",
        DUPLICATE,
        &["x2|x1"],
    ),
    (
        "a partition's own duplicate of a part of the whole",
        "CREATE TABLE p (k int, a int) PARTITION BY RANGE (k); CREATE TABLE p1 PARTITION OF p FOR VALUES \
         FROM (0) TO (10); CREATE INDEX x1 ON p (a); CREATE INDEX own ON p1 (a)",
        DUPLICATE,
        &["own|p1_a_idx"],
    ),
    (
        "partitioned and covered: the whole",
        "CREATE TABLE p (k int, a int, PRIMARY KEY (k, a)) PARTITION BY RANGE (k); CREATE TABLE p1 PARTITION OF p FOR \
         VALUES FROM (0) TO (10); CREATE INDEX x ON p (k)",
        REDUNDANT,
        &["x|p_pkey|nothing"],
    ),
    (
        "an invalid index neither duplicates nor covers",
        "CREATE TABLE t (a int); INSERT INTO t VALUES (1), (1); CREATE INDEX i1 ON t (a);; \
         FAILS CREATE UNIQUE INDEX CONCURRENTLY i2 ON t (a)",
        REDUNDANT,
        &[],
    ),
    (
        "identical exclusion constraints are left alone",
        "CREATE TABLE t (r int4range, CONSTRAINT e1 EXCLUDE USING gist (r WITH &&), CONSTRAINT e2 EXCLUDE USING gist (r WITH &&))",
        DUPLICATE,
        &[],
    ),
    (
        "hostile names",
        "CREATE TABLE \"t'\"\"\" (\"a;\" int); CREATE INDEX \"1'\" ON \"t'\"\"\" (\"a;\"); CREATE INDEX \"2\"\"\" ON \"t'\"\"\" (\"a;\")",
        DUPLICATE,
        &["2\"|1'"],
    ),
];
