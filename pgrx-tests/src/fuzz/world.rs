//! What the calls are made on, and what must not have changed when they are over.

use anyhow::Result;

use super::dice::Dice;
use crate::session::Session;

pub const DATABASE: &str = "fuzz";
pub const SETUP: &str = include_str!("world.sql");
/// Only the keeper of the vault may ever see it.
pub const SECRET: &str = "classified-9c41f0";

/// What there is to be named by a call. Looked at again every now and then.
#[derive(Default)]
pub struct Ids {
    pub relations: Vec<String>,
    uuids: Vec<String>,
}

impl Ids {
    pub fn look(session: &mut Session) -> Result<Self> {
        let relations = session.values(
            "SELECT pg_catalog.format('%I.%I', n.nspname, c.relname) FROM pg_catalog.pg_class c
               JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace
              WHERE n.nspname IN ('app', 'App', 'vault') AND c.relkind <> 't' ORDER BY 1",
        )?;
        let uuids = session.values(
            "(SELECT id::pg_catalog.text FROM upkeep.jobs ORDER BY created_at DESC LIMIT 60)
              UNION ALL (SELECT id::pg_catalog.text FROM upkeep.schedules LIMIT 30)
              UNION ALL (SELECT id::pg_catalog.text FROM upkeep.deletions ORDER BY deleted_at DESC LIMIT 60)",
        )?;
        Ok(Ids { relations, uuids })
    }

    pub fn uuid(&self, dice: &mut Dice) -> String {
        if dice.one_in(8) || self.uuids.is_empty() {
            let odd = ["00000000-0000-0000-0000-000000000000", "ffffffff-ffff-ffff-ffff-ffffffffffff", "no uuid"];
            return format!("'{}'", dice.pick(&odd));
        }
        format!("'{}'", dice.pick(&self.uuids))
    }
}

/// Who is who and who may do what, as text: the same before and after.
pub fn rights(session: &mut Session) -> Result<Vec<String>> {
    session.rows(
        "SELECT 'role', pg_catalog.to_jsonb(a) - 'rolpassword' FROM pg_catalog.pg_authid a
         UNION ALL SELECT 'member', pg_catalog.to_jsonb(m) FROM pg_catalog.pg_auth_members m
         UNION ALL SELECT 'database', pg_catalog.to_jsonb(d) - 'datfrozenxid' - 'datminmxid' FROM pg_catalog.pg_database d
         UNION ALL SELECT 'setting', pg_catalog.to_jsonb(s) FROM pg_catalog.pg_db_role_setting s
         UNION ALL SELECT 'schema', pg_catalog.to_jsonb(n) FROM pg_catalog.pg_namespace n WHERE n.nspname NOT LIKE 'pg\\_t%'
         UNION ALL SELECT 'function', pg_catalog.jsonb_build_array(p.oid::pg_catalog.regprocedure, p.proowner, p.proacl, p.prosecdef)
                     FROM pg_catalog.pg_proc p
         UNION ALL SELECT 'relation', pg_catalog.jsonb_build_array(c.relname, c.relkind, c.relowner, c.relacl, c.relrowsecurity)
                     FROM pg_catalog.pg_class c
                    WHERE c.relnamespace::pg_catalog.regnamespace::pg_catalog.text IN ('vault', 'upkeep', 'pg_catalog')
         UNION ALL SELECT 'owner', pg_catalog.jsonb_build_array(c.relname, c.relowner::pg_catalog.regrole)
                     FROM pg_catalog.pg_class c
                    WHERE c.relnamespace::pg_catalog.regnamespace::pg_catalog.text = 'app'
                      AND c.relowner::pg_catalog.regrole::pg_catalog.text <> 'fuzz_owner'
         UNION ALL SELECT 'default', pg_catalog.to_jsonb(d) FROM pg_catalog.pg_default_acl d
         UNION ALL SELECT 'secret', pg_catalog.to_jsonb(s) FROM vault.secret s
         UNION ALL SELECT 'empty', pg_catalog.to_jsonb(s) FROM vault.empty s
         ORDER BY 1, 2",
    )
}
