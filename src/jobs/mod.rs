//! The engine: one row per long piece of work, one executor for every kind of it.

pub mod kind;
