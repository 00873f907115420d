//! The size of a relation without opening it: `pg_relation_size` takes a lock, and so stands in line behind
//! whoever alters the table.

use std::fs;

use pgrx::pg_sys;

pub const BLOCK_BYTES: u64 = pg_sys::BLCKSZ as u64;
const SEGMENT_BYTES: u64 = pg_sys::RELSEG_SIZE as u64 * BLOCK_BYTES;

/// Bytes of the relation whose first file `pg_relation_filepath` names; `None`: there is no such file any more.
/// Backends stand in the data directory, which these paths start from.
pub fn size(path: &str) -> Option<u64> {
    let mut bytes = fs::metadata(path).ok()?.len();
    let mut last = bytes;
    let mut segment = 0;
    while last >= SEGMENT_BYTES {
        segment += 1;
        last = fs::metadata(format!("{path}.{segment}")).map_or(0, |file| file.len());
        bytes += last;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_add_up() {
        let dir = std::env::temp_dir().join(format!("pg_upkeep-segments-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let path = dir.join("16384");
        // Sparse files: nothing is written.
        let file = |name: &str, bytes| fs::File::create(dir.join(name)).unwrap().set_len(bytes).unwrap();
        file("16384", SEGMENT_BYTES);
        file("16384.1", SEGMENT_BYTES);
        file("16384.2", 8192);
        file("16384.4", 8192);
        let path = path.to_str().unwrap().to_owned();
        assert_eq!(size(&path), Some(2 * SEGMENT_BYTES + 8192));
        file("16384", 0);
        assert_eq!(size(&path), Some(0));
        fs::remove_dir_all(&dir).unwrap();
        assert_eq!(size(&path), None);
    }
}
