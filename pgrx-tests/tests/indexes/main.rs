//! The views of indexes, their verdicts and their sizes.

mod bloat;
mod cases;
mod views;
