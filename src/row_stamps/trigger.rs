//! The trigger as text: what its arguments and its WHEN say.

use std::collections::BTreeMap;
use std::ffi::CStr;

use crate::error::{DUPLICATE_COLUMN, Error, INVALID_PARAMETER_VALUE, Result};
use crate::server::encoding;
use crate::sql::quote::identifier;

/// Fires after the table's other BEFORE triggers, which go in the order of their names, and so sees their changes.
pub const NAME: &str = "zzz_upkeep_row_stamps";

/// What a column is for. In this order they stand in the trigger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    CreatedAt,
    UpdatedAt,
    CreatedBy,
    UpdatedBy,
    Version,
}

impl Role {
    pub const ALL: [Role; crate::row_stamps::raw::MAX_STAMPS] =
        [Role::CreatedAt, Role::UpdatedAt, Role::CreatedBy, Role::UpdatedBy, Role::Version];

    pub fn word(self) -> &'static str {
        match self {
            Role::CreatedAt => "created_at",
            Role::UpdatedAt => "updated_at",
            Role::CreatedBy => "created_by",
            Role::UpdatedBy => "updated_by",
            Role::Version => "version",
        }
    }
}

/// What a table's trigger is to do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stamps {
    pub columns: BTreeMap<Role, String>,
    /// Empty: no times.
    pub clock: String,
    pub refuse_created_at: bool,
    pub refuse_created_by: bool,
    /// Empty: no version.
    pub mode: String,
    pub required: bool,
}

impl Stamps {
    /// Takes a role off, and what was told about it.
    pub fn forget(&mut self, role: Role) {
        self.columns.remove(&role);
        match role {
            Role::CreatedAt => self.refuse_created_at = false,
            Role::UpdatedAt => {}
            Role::CreatedBy => self.refuse_created_by = false,
            Role::UpdatedBy => {}
            Role::Version => (self.mode, self.required) = (String::new(), false),
        }
        if !self.columns.contains_key(&Role::CreatedAt) && !self.columns.contains_key(&Role::UpdatedAt) {
            self.clock.clear();
        }
    }

    /// No column has two roles.
    pub fn check(&self, table: &str) -> Result<()> {
        for (role, name) in &self.columns {
            if let Some((other, _)) = self.columns.iter().find(|(other, also)| *other > role && *also == name) {
                return Err(Error::new(
                    DUPLICATE_COLUMN,
                    format!("column \"{name}\" of {table} cannot be both {} and {}", role.word(), other.word()),
                )
                .hint("SELECT * FROM upkeep.row_stamps; shows what is stamped already."));
            }
        }
        Ok(())
    }

    fn arguments(&self) -> Vec<String> {
        let mut arguments: Vec<String> = self.columns.keys().map(|role| role.word().to_owned()).collect();
        if !self.clock.is_empty() {
            arguments.push(format!("clock={}", self.clock));
        }
        for (refuses, role) in [(self.refuse_created_at, Role::CreatedAt), (self.refuse_created_by, Role::CreatedBy)] {
            if refuses && self.columns.contains_key(&role) {
                arguments.push(format!("refuse={}", role.word()));
            }
        }
        if !self.mode.is_empty() {
            arguments.push(format!("mode={}", self.mode));
        }
        if self.required {
            arguments.push("required".to_owned());
        }
        arguments
    }

    /// The statement that makes the trigger, in place of an older one. Its WHEN is always true, which the server finds
    /// out once a statement; it is there for the columns that it names.
    pub fn create_trigger(&self, table: &str) -> String {
        let columns: String =
            self.columns.values().map(|name| format!(" OR NEW.{} IS NULL", identifier(name))).collect();
        let arguments: Vec<String> = self.arguments().iter().map(|argument| format!("'{argument}'")).collect();
        format!(
            "CREATE OR REPLACE TRIGGER {NAME} BEFORE INSERT OR UPDATE ON {table} FOR EACH ROW
             WHEN (true{columns}) EXECUTE FUNCTION upkeep._stamp_row({})",
            arguments.join(", ")
        )
    }
}

/// A column's name as it was given.
pub fn column_name(role: Role, name: &CStr) -> Result<String> {
    let name = encoding::from_server(name.to_bytes());
    if name.is_empty() {
        return Err(Error::new(INVALID_PARAMETER_VALUE, format!("the argument {} is empty", role.word()))
            .hint("Name a column, or give NULL to do without it."));
    }
    Ok(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamps(columns: &[(Role, &str)]) -> Stamps {
        Stamps {
            columns: columns.iter().map(|(role, name)| (*role, (*name).to_owned())).collect(),
            ..Stamps::default()
        }
    }

    #[test]
    fn roles_and_columns_stand_in_the_same_order() {
        let mut all = stamps(&[(Role::Version, "v\"1"), (Role::CreatedAt, "made"), (Role::UpdatedBy, "who")]);
        (all.mode, all.required, all.clock) = ("echo".into(), true, "statement".into());
        all.refuse_created_at = true;
        let text = all.create_trigger("s.t");
        assert!(
            text.contains("(true OR NEW.\"made\" IS NULL OR NEW.\"who\" IS NULL OR NEW.\"v\"\"1\" IS NULL)"),
            "{text}"
        );
        assert!(
            text.contains(
                "('created_at', 'updated_by', 'version', 'clock=statement', 'refuse=created_at', 'mode=echo', 'required')"
            ),
            "{text}"
        );
    }

    #[test]
    fn what_is_forgotten_leaves_nothing() {
        let mut all =
            stamps(&[(Role::Version, "v"), (Role::CreatedAt, "c"), (Role::UpdatedAt, "u"), (Role::CreatedBy, "b")]);
        (all.mode, all.required, all.clock) = ("echo".into(), true, "clock".into());
        (all.refuse_created_at, all.refuse_created_by) = (true, true);
        all.forget(Role::CreatedAt);
        assert_eq!(all.clock, "clock");
        for role in Role::ALL {
            all.forget(role);
        }
        assert_eq!(all, Stamps::default());
    }

    #[test]
    fn a_column_has_one_role() {
        assert!(stamps(&[(Role::CreatedAt, "at"), (Role::UpdatedAt, "at")]).check("t").is_err());
        assert!(stamps(&[(Role::CreatedAt, "at"), (Role::UpdatedAt, "AT")]).check("t").is_ok());
    }
}
