//! The hooks of this library that everybody's statements pass (LAWS 12, 13): who installs any, in the order in which they are
//! installed. The last one is the first to see a statement. One more, `server::named`, looks at nothing but statements of ours, and is
//! there without preload too.

use crate::{jobs, queries, soft_delete};

/// Only while `shared_preload_libraries` are loaded, so that every session has them or none.
pub fn install() {
    jobs::raw::make_way::install();
    soft_delete::raw::upserts::install();
    queries::raw::utility::install();
    queries::raw::executor::install();
}
