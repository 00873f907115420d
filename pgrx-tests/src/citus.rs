//! What Citus 14 leaves in the catalogs, for tests without it: it is in none of the package registries. The kinds of its tables are as
//! they were read there; a table is empty in itself (a shell), its rows are in shards named after it.

use anyhow::Result;

use crate::session::Session;

/// Kind, partmethod, repmodel and colocation group of each of its tables.
pub const KINDS: [(&str, char, char, u32); 6] = [
    ("hash", 'h', 's', 2),
    ("replicated", 'h', 'c', 2),
    ("reference", 'n', 't', 3),
    ("citus_local", 'n', 's', 0),
    ("single_shard", 'n', 's', 4),
    ("append", 'a', 'c', 5),
];

/// Its catalogs, without a table of it.
pub fn catalogs(session: &mut Session) -> Result<()> {
    session.run(
        "SET allow_system_table_mods = on;
         CREATE TABLE pg_catalog.pg_dist_partition (
             logicalrelid regclass NOT NULL, partmethod \"char\" NOT NULL, partkey text, colocationid int NOT NULL DEFAULT 0,
             repmodel \"char\" NOT NULL DEFAULT 'c', autoconverted boolean NOT NULL DEFAULT false);
         CREATE TABLE pg_catalog.pg_dist_shard (
             logicalrelid regclass NOT NULL, shardid bigint NOT NULL,
             shardstorage \"char\" NOT NULL, shardminvalue text, shardmaxvalue text);
         GRANT SELECT ON pg_catalog.pg_dist_partition, pg_catalog.pg_dist_shard TO PUBLIC;
         RESET allow_system_table_mods",
    )
}

/// Makes a table one of Citus's, of this kind.
pub fn distribute(session: &mut Session, table: &str, kind: &str) -> Result<()> {
    let Some((_, method, model, group)) = KINDS.into_iter().find(|(known, ..)| *known == kind) else {
        anyhow::bail!("Citus has no tables of kind {kind}");
    };
    session.run(&format!(
        "SET allow_system_table_mods = on;
         INSERT INTO pg_catalog.pg_dist_partition (logicalrelid, partmethod, colocationid, repmodel)
         VALUES ('{table}', '{method}', {group}, '{model}'); RESET allow_system_table_mods"
    ))
}

/// A shard of a table on this node, like its table: `TABLE_NUMBER`.
pub fn shard(session: &mut Session, table: &str, number: u32) -> Result<()> {
    session.run(&format!(
        "CREATE TABLE {table}_{number} (LIKE {table} INCLUDING ALL); SET allow_system_table_mods = on;
         INSERT INTO pg_catalog.pg_dist_shard VALUES ('{table}', {number}, 't'); RESET allow_system_table_mods"
    ))
}
