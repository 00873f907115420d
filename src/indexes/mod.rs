//! Indexes: which are used, which are in the way, which are missing. The views are SQL (`sql/schema/indexes/`); here is what
//! they cannot find out by themselves.

pub mod age;
pub mod bloat;
mod calls;
pub mod conditions;
pub mod nodes;
pub mod page;
pub mod snapshot;
mod words;
