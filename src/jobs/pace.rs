//! How big the next batch is: sizes that meet a time.

use std::time::Duration;

/// A size that grows and shrinks to meet the target: at most twice, at least a
/// quarter of the last one; unchanged between half of the target and the target,
/// so that it settles.
pub fn next_size(size: u32, took: Duration, target: Duration, limits: (u32, u32)) -> u32 {
    let took = took.as_secs_f64().max(1e-6);
    let target = target.as_secs_f64();
    let factor = if (0.5..=1.0).contains(&(took / target)) {
        1.0
    } else {
        // Aims at three quarters: the middle of the band.
        (0.75 * target / took).clamp(0.25, 2.0)
    };
    ((f64::from(size) * factor) as u32).clamp(limits.0, limits.1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TARGET: Duration = Duration::from_millis(200);

    #[test]
    fn a_good_size_is_kept() {
        assert_eq!(next_size(100, Duration::from_millis(150), TARGET, (1, 1000)), 100);
    }

    #[test]
    fn growth_is_bounded_and_shrinking_is_quick() {
        assert_eq!(next_size(100, Duration::from_millis(1), TARGET, (1, 1000)), 200);
        assert_eq!(next_size(100, Duration::from_secs(9), TARGET, (1, 1000)), 25);
        assert_eq!(next_size(1, Duration::from_secs(9), TARGET, (1, 1000)), 1);
    }

    proptest! {
        /// With a constant cost per unit the size settles where a batch takes the target's time.
        #[test]
        fn it_settles(start in 1u32..100_000, unit_micros in 1u64..2000) {
            let mut size = start;
            for _ in 0..40 {
                let took = Duration::from_micros(unit_micros * u64::from(size));
                size = next_size(size, took, TARGET, (1, 1_000_000));
            }
            let took = Duration::from_micros(unit_micros * u64::from(size));
            prop_assert!(took <= TARGET, "{size}: {took:?}");
            prop_assert!(took >= TARGET / 4, "{size}: {took:?}");
        }
    }
}
