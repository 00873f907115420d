//! A lock that a job wants while it changes indexes: [`super::turn`].

use pgrx::spi::{quote_identifier, quote_qualified_identifier};
use serde::{Deserialize, Serialize};

use crate::server::lock::{Lock, Purpose};
use crate::server::{catalog, heap};

/// What is locked, from the whole to the table.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    Database,
    Schema(u32),
    Table(u32),
}

/// A lock that a job wants.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Part {
    pub what: What,
    pub shared: bool,
}

impl Part {
    pub fn lock(self) -> Lock {
        let key = match self.what {
            What::Database => 0,
            What::Schema(oid) => 1 << 32 | u64::from(oid),
            What::Table(oid) => 2 << 32 | u64::from(oid),
        };
        Lock::new(Purpose::Turn, key)
    }

    /// Could whoever waits for it have it now? In a transaction.
    pub fn is_free(self) -> bool {
        self.lock().could_be_had(self.shared)
    }

    /// Does an older job that waits for this one go first? Else those who share it would keep it from whoever wants it for himself, one
    /// after the other, for ever.
    pub fn goes_before(self, other: Part) -> bool {
        self.what == other.what && !self.shared
    }

    pub fn description(self) -> String {
        let named = match self.what {
            What::Database => None,
            What::Schema(oid) => {
                catalog::schema_name(oid.into()).map(|schema| format!("schema {}", quote_identifier(schema)))
            }
            What::Table(oid) => heap::name(oid.into()).map(|(schema, name)| quote_qualified_identifier(schema, name)),
        };
        named.unwrap_or_else(|| "this database".to_owned())
    }
}
