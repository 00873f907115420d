//! Where the server's clock begins: its times are microseconds since 2000-01-01, those of the world since 1970.

/// Microseconds from 1970 to 2000.
pub const FROM_1970: i64 = SECONDS_FROM_1970 * 1_000_000;
pub const SECONDS_FROM_1970: i64 = 946_684_800;
