//! Functions that only old install scripts name. An update from there replaces them; until it is made the library must have them, and
//! all that they say is that it is to be made.

use pgrx::{Uuid, pg_extern};

use crate::calls::standing::refuse_other_version;
use crate::server::raise::answer;

macro_rules! retired {
    ($($name:ident, since $version:literal;)*) => {
        $(
            #[doc = concat!("Not since ", $version, ".")]
            #[pg_extern(sql = false)]
            fn $name() -> Option<Uuid> {
                answer(refuse_other_version().map(|()| None))
            }
        )*
    };
}

retired! {
    upkeep_backfill, since "0.2.0";
    alter_job, since "0.2.0";
    upkeep_backfill_0_2, since "0.9.0";
    alter_job_0_2, since "0.9.0";
    upkeep_query_history, since "0.9.0";
}
