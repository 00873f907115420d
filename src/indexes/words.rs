//! Figures in words.

/// A length of time in words: microseconds.
pub fn length(microseconds: i64) -> String {
    let minutes = microseconds / 60_000_000;
    match minutes {
        m if m >= 2 * 24 * 60 => format!("{} days", m / (24 * 60)),
        m if m >= 2 * 60 => format!("{} hours", m / 60),
        m if m != 1 => format!("{m} minutes"),
        m => format!("{m} minute"),
    }
}
