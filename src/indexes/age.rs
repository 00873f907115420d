//! When was an index created? The catalogs do not say. What they do say is by which transaction, and of some transaction ids we know
//! what time it was then: when the extension was installed, when figures were imported, when the files of the
//! transaction log were last written.

use crate::server::relation_file::BLOCK_BYTES;

/// At `time` (microseconds since 2000) the transaction ids below `xid` had been given out.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Mark {
    pub xid: u64,
    pub time: i64,
    /// Were they given out only just then? Otherwise it may have been (long) before.
    pub exact: bool,
}

/// How many transactions old an index of a certain age is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Threshold {
    /// An index of fewer is younger, by estimate.
    pub estimated: u64,
    /// An index of fewer is certainly younger.
    pub certain: u64,
}

/// Transaction ids per file of the transaction log.
const XIDS_PER_SEGMENT: u64 = 32 * BLOCK_BYTES * 4;

/// The threshold for what was created after `cutoff`. `marks` need no order; `now` is the mark of this moment.
pub fn threshold(marks: &[Mark], now: Mark, cutoff: i64) -> Threshold {
    if cutoff >= now.time {
        return Threshold { estimated: 0, certain: 0 };
    }
    let marks = || marks.iter().filter(|mark| mark.xid <= now.xid);
    let certain =
        marks().filter(|mark| mark.exact && mark.time >= cutoff).map(|mark| mark.xid).min().unwrap_or(now.xid);
    // All that is at or below the last mark of before is older.
    let before = marks().filter(|mark| mark.time <= cutoff).max_by_key(|mark| (mark.xid, -mark.time));
    let Some(before) = before else { return Threshold { estimated: now.xid, certain: now.xid - certain } };
    let after =
        marks().filter(|mark| mark.time > cutoff && mark.xid > before.xid).min_by_key(|mark| (mark.xid, mark.time));
    let after = after.unwrap_or(&now);
    let share = (cutoff - before.time) as f64 / (after.time - before.time) as f64;
    let at_cutoff = before.xid + ((after.xid - before.xid) as f64 * share) as u64;
    Threshold { estimated: now.xid - at_cutoff.min(certain), certain: now.xid - certain }
}

/// What a file of the transaction log tells: that its ids had all been given out when it was last written, if they have been by now.
pub fn segment_mark(number: u64, time: i64, next: u64) -> Option<Mark> {
    let end = (number + 1) * XIDS_PER_SEGMENT;
    // The files' numbers begin again when ids do, after 2^32.
    let epoch = next & !0xFFFF_FFFF;
    let xid = if epoch + end <= next { epoch + end } else { epoch.checked_sub(1 << 32)? + end };
    // Of the current file in an earlier epoch nothing is left.
    (next - xid < 1 << 31).then_some(Mark { xid, time, exact: false })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const DAY: i64 = 86_400_000_000;

    fn exact(xid: u64, day: i64) -> Mark {
        Mark { xid, time: day * DAY, exact: true }
    }

    #[test]
    fn between_two_marks_it_is_estimated() {
        let marks = [exact(1000, 0), exact(3000, 20)];
        assert_eq!(threshold(&marks, exact(5000, 30), 10 * DAY), Threshold { estimated: 3000, certain: 2000 });
    }

    #[test]
    fn without_a_mark_since_only_the_present_bounds_it() {
        assert_eq!(threshold(&[exact(1000, 0)], exact(2000, 100), 90 * DAY), Threshold { estimated: 100, certain: 0 });
    }

    #[test]
    fn without_an_old_mark_nothing_is_old() {
        let marks = [exact(1500, 99)];
        assert_eq!(threshold(&marks, exact(2000, 100), 70 * DAY), Threshold { estimated: 2000, certain: 500 });
    }

    #[test]
    fn a_file_written_late_proves_no_youth() {
        let late = Mark { xid: 1500, time: 99 * DAY, exact: false };
        let found = threshold(&[exact(1000, 0), late], exact(2000, 100), 70 * DAY);
        assert_eq!(found.certain, 0);
        assert!((500..=1000).contains(&found.estimated), "{found:?}");
    }

    #[test]
    fn no_age_asked_for_is_always_reached() {
        assert_eq!(threshold(&[], exact(2000, 100), 100 * DAY).estimated, 0);
    }

    #[test]
    fn files_of_the_log() {
        let per = XIDS_PER_SEGMENT;
        assert_eq!(segment_mark(0, 7, per + 5), Some(Mark { xid: per, time: 7, exact: false }));
        assert_eq!(segment_mark(1, 7, per + 5), None);
        let second_epoch = (1 << 32) + 2 * per;
        assert_eq!(segment_mark(0, 7, second_epoch).unwrap().xid, (1 << 32) + per);
        assert_eq!(segment_mark(4095, 7, second_epoch).unwrap().xid, 1 << 32);
        assert_eq!(segment_mark(2, 7, second_epoch), None);
    }

    proptest! {
        #[test]
        fn certainty_is_part_of_the_estimate(
            marks in proptest::collection::vec((0u64..10_000, 0i64..1000, any::<bool>()), 0..8), cutoff in 0i64..1001) {
            let marks: Vec<_> = marks.into_iter().map(|(xid, time, exact)| Mark { xid, time, exact }).collect();
            let found = threshold(&marks, Mark { xid: 10_000, time: 1000, exact: true }, cutoff);
            prop_assert!(found.certain <= found.estimated && found.estimated <= 10_000);
        }
    }
}
