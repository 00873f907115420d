//! What SQL calls.

use super::{conditions, page, snapshot};
use pgrx::prelude::*;

use crate::calls::arguments;
use crate::error::Result;
use crate::server::json::JsonB;
use crate::server::raise::answer;
use crate::server::spi;

#[pg_extern(sql = false)]
fn index_conditions() -> JsonB {
    answer(conditions::now().map(JsonB))
}

#[pg_extern(sql = false)]
fn import_index_usage(node: Option<&str>, figures: Option<JsonB>) -> i32 {
    answer(arguments::check_text("node", node).and_then(|()| snapshot::import(node, figures.map(|figures| figures.0))))
}

#[pg_extern(sql = false)]
fn index_report_html() -> String {
    answer(report_page())
}

fn report_page() -> Result<String> {
    let report = spi::query_one("SELECT upkeep.index_report()", &[], |row| row.require::<JsonB>(1))?;
    let hash = crate::page::style_hash(page::STYLE)?;
    Ok(page::render(&report.map_or(serde_json::Value::Null, |report| report.0), &hash))
}
