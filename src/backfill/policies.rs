//! Row security of a table that is to be filled: whose policies they are, and which settings they read. A session sets such a setting
//! (`app.tenant`), and a worker has it not: then the policies show it nothing, and the job is done with no row.

use pgrx::spi::quote_identifier;

use crate::error::{Error, Result, SqlState};
use crate::server::{Oid, spi};

pub const APPLIES: &str =
    "row security applies to you: only rows that its policies let you see and change will be filled";

/// Settings that policies of this table read which apply to the current user. Those that their functions read nobody knows.
fn settings(relid: Oid) -> Result<Vec<String>> {
    let found = spi::query_one(
        "SELECT ARRAY(
             SELECT DISTINCT m.found[1] FROM pg_catalog.pg_policy p
             CROSS JOIN LATERAL pg_catalog.regexp_matches(
                 pg_catalog.concat_ws(' ', pg_catalog.pg_get_expr(p.polqual, p.polrelid),
                                      pg_catalog.pg_get_expr(p.polwithcheck, p.polrelid)),
                 'current_setting\\(''([^'']+)''', 'g') AS m (found)
             WHERE p.polrelid OPERATOR(pg_catalog.=) $1
               AND (0::pg_catalog.oid OPERATOR(pg_catalog.=) ANY (p.polroles) OR EXISTS (
                        SELECT FROM pg_catalog.unnest(p.polroles) r (oid) WHERE pg_catalog.pg_has_role(r.oid, 'USAGE')))
               AND pg_catalog.strpos(m.found[1], '.') OPERATOR(pg_catalog.>) 0
             ORDER BY 1)",
        &[relid.into()],
        |row| row.require::<Vec<String>>(1),
    )?;
    Ok(found.unwrap_or_default())
}

/// What a worker lacks, if that is known.
pub fn lacking(relid: Oid) -> Result<Option<String>> {
    let settings = settings(relid)?;
    Ok((!settings.is_empty()).then(|| {
        format!(
            "Its policies read {}: set in your session, and not in the workers that run the job.",
            settings.join(", ")
        )
    }))
}

/// For the current user, to whom policies of the table `name` apply.
pub fn warning(relid: Oid, name: &str) -> Result<Error> {
    let owner = spi::query_one(
        "SELECT pg_catalog.pg_get_userbyid(c.relowner)::pg_catalog.text, c.relforcerowsecurity
         FROM pg_catalog.pg_class c WHERE c.oid OPERATOR(pg_catalog.=) $1",
        &[relid.into()],
        |row| Ok((row.require::<String>(1)?, row.require::<bool>(2)?)),
    )?;
    let lacking = lacking(relid)?.unwrap_or_else(|| {
        "Settings of your session that a policy reads are not set in the workers that run the job.".to_owned()
    });
    let who = match owner {
        Some((owner, false)) => format!("as the table's owner (SET ROLE {};), ", quote_identifier(owner)),
        _ => String::new(),
    };
    let text = APPLIES.replacen("rows", &format!("rows of {name}"), 1);
    Ok(Error::new(SqlState::new(b"01000"), text)
        .detail(lacking)
        .hint(format!("To fill all rows, ask for it {who}as a superuser, or as a role with BYPASSRLS.")))
}
