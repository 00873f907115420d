//! When the history is to be written.

use crate::queries::raw::memory;
use crate::server::{Oid, catalog};
use crate::settings;

/// When what waits in a database is to be drained, as a timestamp; `None`: nothing waits.
pub(super) fn due(database: Oid) -> Option<i64> {
    let interval = settings::query_interval()?.as_micros() as i64;
    let since = memory::waiting_since(database.to_u32())?;
    // At whole minutes; at once if the clock was set back.
    Some(if since > catalog::now() + interval { since.min(0) } else { (since.div_euclid(interval) + 1) * interval })
}
