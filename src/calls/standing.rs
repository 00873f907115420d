//! How things stand where a function is called: may anything be written here, are library and tables of one version, who asks?

use crate::error::{Error, FEATURE_NOT_SUPPORTED, OBJECT_NOT_IN_PREREQUISITE_STATE, READ_ONLY_SQL_TRANSACTION, Result};
use crate::server::{Oid, catalog, spi, worker};
use crate::settings;

/// Nothing can be written on a standby; says it in the product's words.
pub fn refuse_in_recovery(what: &str) -> Result<()> {
    if worker::in_recovery() {
        return Err(Error::new(READ_ONLY_SQL_TRANSACTION, format!("cannot {what} on a standby"))
            .hint("Connect to the primary; jobs carry on here after a promotion."));
    }
    Ok(())
}

/// A new library meets the tables of an older version until somebody updates the extension.
pub fn refuse_other_version() -> Result<()> {
    if catalog::extension_is_current()? {
        return Ok(());
    }
    Err(Error::new(
        OBJECT_NOT_IN_PREREQUISITE_STATE,
        "this database has another version of pg_upkeep than the installed library",
    )
    .hint("ALTER EXTENSION pg_upkeep UPDATE;"))
}

/// On 15 and 16 a worker cannot connect as a role without LOGIN (LAW 10).
pub fn refuse_nologin_owner(owner: Oid, name: &str) -> Result<()> {
    if cfg!(not(any(feature = "pg15", feature = "pg16"))) {
        return Ok(());
    }
    let may_log_in = spi::query_one(
        "SELECT r.rolcanlogin FROM pg_catalog.pg_roles r WHERE r.oid OPERATOR(pg_catalog.=) $1",
        &[owner.into()],
        |row| row.require(1),
    )?;
    if may_log_in == Some(false) {
        return Err(Error::new(
            FEATURE_NOT_SUPPORTED,
            format!("role \"{name}\" cannot own a job, because it may not log in"),
        )
        .detail("A background worker connects as the owner of its job; before PostgreSQL 17 that needs LOGIN.")
        .hint(format!(
            "ALTER ROLE {} LOGIN; (without a password nobody can use it from outside)",
            pgrx::spi::quote_identifier(name)
        )));
    }
    Ok(())
}

/// Who may do what to a job (LAW 3).
#[derive(PartialEq)]
pub enum Right {
    /// Members of the owner only.
    Owner,
    /// Members of `upkeep.admin_role` as well.
    OwnerOrAdmin,
}

/// Is the caller one of those who may pause, cancel and drop the work of others (LAW 3)?
pub fn caller_is_admin() -> bool {
    let user = catalog::current_user();
    catalog::is_superuser(user)
        || settings::admin_role()
            .and_then(|role| catalog::role_oid(&role))
            .is_some_and(|role| catalog::has_privileges_of(user, role))
}
