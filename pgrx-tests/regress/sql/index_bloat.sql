-- What upkeep.measure_index_bloat says to those who cannot be helped.

CREATE TABLE bloat_t (id int PRIMARY KEY, r int4range, EXCLUDE USING gist (r WITH &&));
CREATE INDEX bloat_hash ON bloat_t USING hash (id);
CREATE TABLE bloat_p (id int PRIMARY KEY) PARTITION BY RANGE (id);
CREATE TABLE "bloat P'1" PARTITION OF bloat_p FOR VALUES FROM (1) TO (9);
CREATE TABLE bloat_none (id int PRIMARY KEY) PARTITION BY RANGE (id);
CREATE ROLE bloat_stranger;

SELECT upkeep.measure_index_bloat(NULL);
SELECT upkeep.measure_index_bloat('bloat_t_pkey', 1);
SELECT upkeep.measure_index_bloat('bloat_t_pkey', sample_pages => 2000000000);
SELECT upkeep.measure_index_bloat(4294967295);
SELECT upkeep.measure_index_bloat('bloat_t');
SELECT upkeep.measure_index_bloat('bloat_hash');
SELECT upkeep.measure_index_bloat('bloat_p_pkey');
SELECT upkeep.measure_index_bloat('bloat_none_pkey');
SET ROLE bloat_stranger;
SELECT upkeep.measure_index_bloat('bloat_t_pkey');
RESET ROLE;

-- An exclusion constraint's index cannot be rebuilt concurrently.
CREATE TABLE bloat_x (id int, EXCLUDE USING btree (id WITH =));
ANALYZE bloat_t, bloat_x;
SELECT indexrelname, index_size, verdict, reindex_command FROM upkeep.bloated_indexes
 WHERE relname LIKE 'bloat%' ORDER BY indexrelname COLLATE "C";
SELECT * FROM upkeep.measure_index_bloat('bloat_x_id_excl');

DROP TABLE bloat_t, bloat_p, bloat_none, bloat_x;
DROP ROLE bloat_stranger;
