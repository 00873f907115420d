//! What clients feel, for those who work beside them.

use pg_upkeep_memory::counters::{Eye, Whose};
use pg_upkeep_memory::histogram::Histogram;

use super::cover::Span;
use super::figures::Record;
use super::raw::memory;
use super::store;
use crate::error::Result;
use crate::jobs::slowdown::Clients;
use crate::server::spi;
use crate::settings;

/// Their statements and commits as they are counted here.
#[derive(Debug)]
pub struct Counted;

impl Clients for Counted {
    fn look(&self, eye: &mut Eye, see: &mut dyn FnMut(Whose, &Histogram)) -> bool {
        settings::counts_queries() && memory::look_at_clients(eye, see)
    }

    fn load(&self) -> Result<Option<f64>> {
        // Who wishes to see what jobs execute would have them slow themselves down.
        if self.calls().is_none() || settings::report_queries() != settings::ReportedQueries::Clients {
            return Ok(None);
        }
        let load = spi::bookkeeping(|| {
            spi::query_one(
                "SELECT coalesce(pg_catalog.sum(h.total_time), 0) OPERATOR(pg_catalog./) 3600000
                 FROM upkeep.query_history(pg_catalog.now() OPERATOR(pg_catalog.-) '1 hour'::pg_catalog.interval,
                                           pg_catalog.now(), '1 hour'::pg_catalog.interval) h
                 WHERE h.toplevel",
                &[],
                |row| row.require::<f64>(1),
            )
        })?;
        Ok(load)
    }

    fn stored(&self, since: i64, until: i64, see: &mut dyn FnMut(Whose, &Histogram)) -> Result<()> {
        let within = |span: &Span| span.level == 0 && span.started >= since && span.finished <= until;
        let spans: Vec<_> = store::spans(since, until)?.into_iter().filter(within).collect();
        store::each(&spans, None, |_, records, _| {
            let of_clients = |Record { key, .. }: &&Record| key.toplevel && !key.by_job && key.queryid != 0;
            for Record { key, figures, .. } in records.iter().filter(of_clients) {
                see(Whose::of(key.queryid as u32, (key.queryid >> 32) as u32, key.user), &figures.histogram);
            }
        })
    }

    fn calls(&self) -> Option<u32> {
        memory::calls_of_clients().filter(|_| settings::counts_queries())
    }
}
