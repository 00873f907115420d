//! Upgrades: a database that came step by step from an older version must be the same as a fresh installation.

use std::collections::BTreeSet;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};

use super::{Passed, Suite};
use crate::cluster::Cluster;
use crate::paths;
use crate::session::Session;

pub fn run(suite: &Suite) -> Result<Passed> {
    let version = paths::extension_version()?;
    let origins = origins()?;
    if origins.is_empty() {
        return Ok(Passed::with(format!("0 upgrades: {version} is the first version")));
    }
    let cluster = Cluster::builder(suite.tree()?, &Cluster::unique_name("upgrade")).preloaded().start()?;
    let fresh = catalog_of(&cluster, "fresh", None)?;
    let mut text = String::new();
    for origin in &origins {
        let upgraded = catalog_of(&cluster, &format!("from {origin}"), Some(origin))?;
        if upgraded != fresh {
            let show = |sign: char, lines: Vec<&String>| -> String {
                lines.iter().map(|line| format!("\n{sign} {line}")).collect()
            };
            let missing = show('-', fresh.difference(&upgraded).collect());
            let left = show('+', upgraded.difference(&fresh).collect());
            bail!("{origin} updated to {version} is not a fresh {version}:{missing}{left}");
        }
        text += &format!("{origin} -> {version}: {} catalog facts are the same\n", fresh.len());
    }
    Ok(Passed::with(format!("{text}{} upgrades", origins.len())))
}

/// The versions that an upgrade script starts from. Each has a frozen install script to try it with.
fn origins() -> Result<Vec<String>> {
    let frozen = names(paths::frozen_scripts()?)?;
    let mut origins = Vec::new();
    for name in names(paths::scripts()?)? {
        if let [_, from, to] = name.split("--").collect::<Vec<_>>()[..] {
            if !frozen.contains(&format!("pg_upkeep--{from}")) {
                bail!("there is an upgrade from {from} to {to}, but no install script of {from} to try it with");
            }
            origins.push(from.to_owned());
        }
    }
    Ok(origins)
}

fn names(scripts: Vec<PathBuf>) -> Result<Vec<String>> {
    let name = |script: &PathBuf| Ok(script.file_stem().context("a script has a name")?.to_string_lossy().into_owned());
    scripts.iter().map(name).collect()
}

fn catalog_of(cluster: &Cluster, database: &str, origin: Option<&str>) -> Result<BTreeSet<String>> {
    cluster.create_database(database)?;
    let mut session = cluster.connect(database)?;
    match origin {
        None => session.run("CREATE EXTENSION pg_upkeep")?,
        Some(version) => {
            session.run(&format!("CREATE EXTENSION pg_upkeep VERSION '{version}'"))?;
            session.run("ALTER EXTENSION pg_upkeep UPDATE")?;
        }
    }
    facts(&mut session)
}

/// All that can be said about the extension's objects, one fact a line. Nothing with an oid in it.
fn facts(session: &mut Session) -> Result<BTreeSet<String>> {
    let mut facts = BTreeSet::new();
    for query in FACTS {
        facts.extend(session.rows(&format!("{MEMBERS} {query}"))?);
    }
    Ok(facts)
}

/// The extension's objects. A table's columns, indexes, constraints, triggers and policies hang on the table.
const MEMBERS: &str = "WITH member AS (
    SELECT d.classid, d.objid FROM pg_depend d JOIN pg_extension e ON e.oid = d.refobjid
     WHERE d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e' AND e.extname = 'pg_upkeep'),
  relation AS (SELECT c.* FROM pg_class c JOIN member m ON m.objid = c.oid AND m.classid = 'pg_class'::regclass),
  granted AS (SELECT oid, 'pg_class'::regclass AS classid, relacl AS acl FROM pg_class
    UNION ALL SELECT oid, 'pg_proc'::regclass, proacl FROM pg_proc
    UNION ALL SELECT oid, 'pg_namespace'::regclass, nspacl FROM pg_namespace
    UNION ALL SELECT oid, 'pg_type'::regclass, typacl FROM pg_type)";

const FACTS: &[&str] = &[
    // What there is, and its comments, columns' included.
    "SELECT 'object', pg_describe_object(classid, objid, 0) FROM member",
    "SELECT 'comment', pg_describe_object(d.classoid, d.objoid, d.objsubid), d.description
       FROM pg_description d JOIN member m ON m.classid = d.classoid AND m.objid = d.objoid",
    "SELECT 'grant', pg_describe_object(m.classid, m.objid, 0), a.grantee::regrole, a.privilege_type, a.is_grantable
       FROM member m JOIN granted g ON g.oid = m.objid AND g.classid = m.classid, aclexplode(g.acl) a",
    // pg_get_functiondef tells everything about a function but its cost in aggregates, of which there are none.
    "SELECT 'function', pg_get_functiondef(p.oid) FROM pg_proc p JOIN member m ON m.objid = p.oid
        AND m.classid = 'pg_proc'::regclass WHERE p.prokind <> 'a'",
    "SELECT 'relation', oid::regclass, relkind, relpersistence, reloptions, relrowsecurity, relforcerowsecurity,
        relreplident FROM relation",
    "SELECT 'view', oid::regclass, pg_get_viewdef(oid) FROM relation WHERE relkind IN ('v', 'm')",
    "SELECT 'column', r.oid::regclass, a.attnum, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull,
        a.attidentity, a.attgenerated, a.attstorage, a.attcollation::regcollation, a.attacl,
        pg_get_expr(x.adbin, x.adrelid)
       FROM relation r JOIN pg_attribute a ON a.attrelid = r.oid AND a.attnum > 0 AND NOT a.attisdropped
       LEFT JOIN pg_attrdef x ON x.adrelid = r.oid AND x.adnum = a.attnum",
    "SELECT 'index', pg_get_indexdef(i.indexrelid), i.indisvalid FROM pg_index i JOIN relation r ON r.oid = i.indrelid",
    "SELECT 'constraint', r.oid::regclass, c.conname, pg_get_constraintdef(c.oid)
       FROM pg_constraint c JOIN relation r ON r.oid = c.conrelid",
    "SELECT 'trigger', pg_get_triggerdef(t.oid), t.tgenabled FROM pg_trigger t JOIN relation r ON r.oid = t.tgrelid
      WHERE NOT t.tgisinternal",
    "SELECT 'rule', pg_get_ruledef(w.oid) FROM pg_rewrite w JOIN relation r ON r.oid = w.ev_class",
    "SELECT 'policy', tablename, policyname, permissive, roles, cmd, qual, with_check
       FROM pg_policies WHERE schemaname = 'upkeep'",
    "SELECT 'sequence', s.seqrelid::regclass, s.seqtypid::regtype, s.seqstart, s.seqincrement, s.seqmax, s.seqmin,
        s.seqcache, s.seqcycle FROM pg_sequence s JOIN relation r ON r.oid = s.seqrelid",
    "SELECT 'enum', e.enumtypid::regtype, e.enumlabel, rank() OVER (PARTITION BY e.enumtypid ORDER BY e.enumsortorder)
       FROM pg_enum e JOIN member m ON m.objid = e.enumtypid AND m.classid = 'pg_type'::regclass",
    "SELECT 'event trigger', v.evtname, v.evtevent, v.evtfoid::regproc, v.evtenabled, v.evttags
       FROM pg_event_trigger v JOIN member m ON m.objid = v.oid AND m.classid = 'pg_event_trigger'::regclass",
    "SELECT 'dumped', t.oid::regclass, t.condition FROM pg_extension e,
        unnest(e.extconfig, e.extcondition) AS t (oid, condition) WHERE e.extname = 'pg_upkeep'",
    "SELECT 'extension', extversion, extrelocatable, extnamespace::regnamespace
       FROM pg_extension WHERE extname = 'pg_upkeep'",
];
