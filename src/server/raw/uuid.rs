//! Time-ordered UUIDs, also in places that an error of pgrx's may not pass.

use super::unguarded::{GetCurrentTimestamp, pg_strong_random};
use crate::server::epoch::FROM_1970;

/// Version 7 (RFC 9562), from the server's strong random source. No allocation, no error.
pub fn version_7() -> [u8; 16] {
    let mut bytes = [0u8; 16];
    // SAFETY: as many bytes as there are; neither raises.
    let now = unsafe {
        pg_strong_random(bytes.as_mut_ptr().cast(), bytes.len());
        GetCurrentTimestamp()
    };
    let microseconds = now.wrapping_add(FROM_1970) as u64;
    let time = (microseconds / 1000).to_be_bytes();
    bytes[..6].copy_from_slice(&time[2..]);
    // 12 bits below the millisecond (RFC 9562, 6.2, method 3): what is made one after the other sorts so.
    let fraction = (((microseconds % 1000) << 12) / 1000) as u16;
    bytes[6] = 0x70 | (fraction >> 8) as u8;
    bytes[7] = fraction as u8;
    bytes[8] = 0x80 | (bytes[8] & 0x3F);
    bytes
}
