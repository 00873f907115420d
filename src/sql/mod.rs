//! Text of SQL: what is ours, what is a user's, and names in it. Here nothing is run.

pub mod fragments;
pub mod glue;
pub mod quote;
