//! Somebody waits for a lock of ours: shorter batches, at once, and longer ones again when nobody does.

use std::time::Duration;

/// Shortest target.
const SHORTEST: Duration = Duration::from_millis(10);

/// The part of its time that a batch takes now.
#[derive(Debug)]
pub struct Consideration {
    share: f64,
}

impl Default for Consideration {
    fn default() -> Self {
        Consideration { share: 1.0 }
    }
}

impl Consideration {
    /// After a step: did anybody wait when it ended?
    pub fn note(&mut self, somebody_waits: bool, usual: Duration) {
        let least = SHORTEST.as_secs_f64() / usual.as_secs_f64().max(SHORTEST.as_secs_f64());
        self.share = if somebody_waits { (self.share / 2.0).max(least) } else { (self.share * 1.05).min(1.0) };
    }

    pub fn batch_time(&self, usual: Duration) -> Duration {
        if self.share >= 1.0 { usual } else { usual.mul_f64(self.share).max(SHORTEST.min(usual)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const USUAL: Duration = Duration::from_millis(200);

    #[test]
    fn batches_get_shorter_at_once_and_longer_slowly() {
        let mut consideration = Consideration::default();
        assert_eq!(consideration.batch_time(USUAL), USUAL);
        consideration.note(true, USUAL);
        assert_eq!(consideration.batch_time(USUAL), USUAL / 2);
        for _ in 0..20 {
            consideration.note(true, USUAL);
        }
        assert_eq!(consideration.batch_time(USUAL), SHORTEST);
        for _ in 0..20 {
            consideration.note(false, USUAL);
        }
        assert!(consideration.batch_time(USUAL) < USUAL / 4);
        for _ in 0..100 {
            consideration.note(false, USUAL);
        }
        assert_eq!(consideration.batch_time(USUAL), USUAL);
    }
}
