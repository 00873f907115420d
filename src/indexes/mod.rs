//! What there is to know about a database's indexes.

pub mod bloat;
