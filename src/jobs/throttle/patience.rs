//! A VACUUM is waited for, but not for ever: some take days.

use std::collections::HashMap;
use std::time::Duration;

pub const LIMIT: Duration = Duration::from_secs(60);

#[derive(Debug, Default)]
pub struct Patience {
    since: HashMap<i32, Duration>,
    outwaited: Vec<i32>,
}

impl Patience {
    /// Forgets those that have ended.
    pub fn look(&mut self, running: impl Iterator<Item = i32> + Clone) {
        let runs = |pid: i32| running.clone().any(|running| running == pid);
        self.since.retain(|&pid, _| runs(pid));
        self.outwaited.retain(|&pid| runs(pid));
    }

    /// Has this one been waited for long enough? True once.
    pub fn is_over(&mut self, pid: i32, now: Duration) -> bool {
        let since = *self.since.entry(pid).or_insert(now);
        let over = now.saturating_sub(since) >= LIMIT && !self.outwaited.contains(&pid);
        if over {
            self.outwaited.push(pid);
        }
        over
    }

    pub fn outwaited(&self) -> &[i32] {
        &self.outwaited
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_vacuum_is_waited_for_once() {
        let mut patience = Patience::default();
        let at = Duration::from_secs;
        assert!(!patience.is_over(7, at(100)));
        assert!(!patience.is_over(7, at(159)));
        assert!(!patience.is_over(8, at(160)), "another one begins");
        assert!(patience.is_over(7, at(160)));
        assert!(!patience.is_over(7, at(161)), "said once");
        assert_eq!(patience.outwaited(), [7]);
        patience.look([8].into_iter());
        assert!(patience.outwaited().is_empty());
        assert!(!patience.is_over(7, at(300)), "the same process at another VACUUM");
    }
}
