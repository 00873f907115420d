//! What the scheduler saw of the server, as it is put on the board.

use serde::{Deserialize, Serialize};

use pg_upkeep_memory::board::SAMPLE_BYTES;

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    pub replicas: Vec<Replica>,
    pub slots: Vec<Slot>,
    /// WAL segments that wait for the archiver; `None`: nothing is archived.
    pub archive: Option<u64>,
    pub disks: Vec<Disk>,
    pub vacuums: Vec<Vacuum>,
    /// Sessions that wait for a lock of one of our workers.
    pub blocked: u32,
    /// Bytes of WAL a second.
    pub wal_rate: f64,
}

/// A standby or a subscriber, or the slot of one that is not connected.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Replica {
    pub name: String,
    pub slot: Option<String>,
    pub connected: bool,
    /// Of a subscriber: the database that it gets the changes of. A standby follows them all.
    pub database: Option<u32>,
    /// What it has replayed, or what its slot keeps.
    pub position: u64,
    /// ms
    pub lag: f64,
    /// Bytes a second, if it had enough to do to tell.
    pub rate: Option<f64>,
}

/// A replication slot about to be given up by the server.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Slot {
    pub name: String,
    /// Bytes that can be written until the slot may be lost.
    pub safe: i64,
    /// Below this it is in danger; `None`: the server says that it is.
    pub danger: Option<i64>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Disk {
    pub place: String,
    pub free: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vacuum {
    pub pid: i32,
    pub database: u32,
    pub relid: u32,
}

impl Sample {
    /// The sample as bytes that fit the board: of too many replicas the ones furthest behind.
    pub fn encode(mut self) -> Vec<u8> {
        self.replicas.sort_by(|a, b| b.lag.total_cmp(&a.lag).then(a.position.cmp(&b.position)));
        loop {
            let bytes = serde_json::to_vec(&self).unwrap_or_default();
            if bytes.len() <= SAMPLE_BYTES {
                return bytes;
            }
            let half = |length: usize| length / 2;
            self.replicas.truncate(half(self.replicas.len()));
            self.slots.truncate(half(self.slots.len()));
            self.vacuums.truncate(half(self.vacuums.len()));
            self.disks.sort_by_key(|disk| disk.free);
            self.disks.truncate(half(self.disks.len()).max(1));
        }
    }

    pub fn decode(bytes: &[u8]) -> Option<Self> {
        serde_json::from_slice(bytes).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_survives_the_board() {
        let sample = Sample {
            replicas: vec![Replica { name: "a \"b\"".into(), position: u64::MAX, lag: 1.5, ..Replica::default() }],
            archive: Some(3),
            vacuums: vec![Vacuum { pid: 1, database: 2, relid: u32::MAX }],
            ..Sample::default()
        };
        assert_eq!(Sample::decode(&sample.clone().encode()), Some(sample));
        assert_eq!(Sample::decode(b"{"), None);
    }

    #[test]
    fn of_too_many_standbys_the_last_ones_count() {
        let replicas =
            (0..5000).map(|i| Replica { name: format!("standby {i}"), lag: f64::from(i), ..Replica::default() });
        let bytes = Sample { replicas: replicas.collect(), ..Sample::default() }.encode();
        let read = Sample::decode(&bytes).unwrap();
        assert_eq!(read.replicas[0].name, "standby 4999");
        assert!(read.replicas.len() > 50 && bytes.len() <= SAMPLE_BYTES);
    }
}
