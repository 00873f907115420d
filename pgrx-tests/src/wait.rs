//! Waiting for something to become true. Tests never sleep and hope.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

const POLL: Duration = Duration::from_millis(10);

/// Looks until `condition` holds. `what` completes the sentence "waited 5s for ...".
pub fn wait_until(what: &str, timeout: Duration, mut condition: impl FnMut() -> bool) -> Result<()> {
    wait_for(what, timeout, || Ok(condition().then_some(())))
}

/// Looks until `look` finds something. An error ends the wait.
pub fn wait_for<T>(what: &str, timeout: Duration, mut look: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let start = Instant::now();
    loop {
        if let Some(found) = look()? {
            return Ok(found);
        }
        if start.elapsed() > timeout {
            bail!("waited {timeout:?} for {what}");
        }
        std::thread::sleep(POLL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_ends_with_the_condition_or_with_the_timeout() {
        let mut looks = 0;
        wait_until("a third look", Duration::from_secs(5), || {
            looks += 1;
            looks == 3
        })
        .unwrap();
        let error = wait_until("pigs to fly", Duration::from_millis(20), || false).unwrap_err();
        assert_eq!(error.to_string(), "waited 20ms for pigs to fly");
    }
}
