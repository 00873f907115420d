//! The statistics of statements, and what is read from them.

mod attacks;
mod locks;
mod reports;
mod stats;
