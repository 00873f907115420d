//! What an executor is started for.

use pgrx::Uuid;

use super::activity;
use crate::server::worker::{self, Registration};
use crate::server::{Oid, catalog};

/// What an executor is started with, in the bytes of `bgw_extra`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Assignment {
    pub owner: Oid,
    pub slot: i32,
    pub job: Uuid,
    /// The launcher's segment.
    pub segment: u32,
}

impl Assignment {
    pub fn encode(&self) -> [u8; 28] {
        let mut bytes = [0; 28];
        bytes[..4].copy_from_slice(&self.owner.to_u32().to_ne_bytes());
        bytes[4..8].copy_from_slice(&self.slot.to_ne_bytes());
        bytes[8..24].copy_from_slice(self.job.as_bytes());
        bytes[24..].copy_from_slice(&self.segment.to_ne_bytes());
        bytes
    }

    pub fn decode(bytes: &[u8; worker::EXTRA_BYTES]) -> Self {
        let word = |at: usize| [bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]];
        let mut job = [0; 16];
        job.copy_from_slice(&bytes[8..24]);
        Assignment {
            owner: Oid::from(u32::from_ne_bytes(word(0))),
            slot: i32::from_ne_bytes(word(4)),
            job: Uuid::from_bytes(job),
            segment: u32::from_ne_bytes(word(24)),
        }
    }

    pub fn start(&self) -> Option<worker::Handle> {
        Registration {
            kind: activity::EXECUTOR,
            function: c"upkeep_executor_main",
            argument: catalog::my_database().to_u32(),
            extra: &self.encode(),
            restart: None,
        }
        .start()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_assignment_survives_the_bytes_of_bgw_extra() {
        let assignment = Assignment {
            owner: Oid::from(4_000_000_000),
            slot: 63,
            job: Uuid::from_bytes(std::array::from_fn(|i| i as u8 * 15)),
            segment: 0x89AB_CDEF,
        };
        let mut extra = [0; worker::EXTRA_BYTES];
        extra[..28].copy_from_slice(&assignment.encode());
        assert_eq!(Assignment::decode(&extra), assignment);
    }
}
