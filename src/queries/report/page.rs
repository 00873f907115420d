//! `upkeep.performance_report()` as a page for people: self-contained, no script.

use serde_json::Value;

use super::charts::{self, FAILURES, PERCENTILES, Point, time};
use crate::page::html::Html;
use crate::page::words::{grouped, size, string};
use crate::page::{self};

pub const STYLE: &str = concat!(include_str!("../../page/base.css"), include_str!("page.css"));

/// A list of statements: its key in the report, title, lead, and how its figure is said.
type List = (&'static str, &'static str, &'static str, fn(&Value) -> Option<(f64, String)>);

const LISTS: [List; 6] = [
    ("total", "Most time", "Statements by the time that all their calls took.", |row| {
        figure(row, "total_time", |ms| format!("{} in all", time(ms)))
    }),
    ("p95", "Slowest", "Statements by the time that 95 of 100 calls did not exceed.", |row| {
        figure(row, "p95_time", |ms| format!("{} p95", time(ms)))
    }),
    ("calls", "Most often", "Statements by the number of calls.", |row| {
        figure(row, "calls", |calls| format!("{} calls", grouped(calls as i64)))
    }),
    ("errors", "Most failures", "Statements by errors, timeouts and cancellations together.", |row| {
        let all: f64 = FAILURES.iter().filter_map(|(key, ..)| row[*key].as_f64()).sum();
        Some((all, format!("{} failed", grouped(all as i64))))
    }),
    ("io", "Most blocks read and written", "As counted by pg_stat_statements.", |row| {
        let all = row["blks_read"].as_f64()? + row["blks_written"].as_f64()?;
        Some((all, format!("{} blocks", grouped(all as i64))))
    }),
    ("wal", "Most WAL", "As counted by pg_stat_statements.", |row| figure(row, "wal_bytes", size)),
];

fn figure(row: &Value, key: &str, say: impl Fn(f64) -> String) -> Option<(f64, String)> {
    row[key].as_f64().map(|value| (value, say(value)))
}

/// `style_hash`: SHA-256 of [`STYLE`] in base64.
pub fn render(report: &Value, style_hash: &str) -> String {
    let mut html = Html::page();
    let database = string(&report["database"]);
    page::open(&mut html, &format!("Performance of {database}"), STYLE, style_hash);
    html.open("body", &[]).element("a", &[("class", "skip"), ("href", "#report")], "Skip to the report");
    header(&mut html, report, &database);
    html.open("main", &[("id", "report")]);
    let points = charts::points(&report["series"]);
    if points.is_empty() {
        html.element(
            "p",
            &[("class", "warning")],
            "Nothing is stored about this time. The history is written \
            once a minute (upkeep.query_interval), on servers with pg_upkeep in shared_preload_libraries.",
        );
    } else {
        totals(&mut html, &report["totals"]);
        time_charts(&mut html, &points);
        regressions(&mut html, &report["regressions"]);
        for list in &LISTS {
            top(&mut html, list, &report["top"][list.0]);
        }
    }
    html.finish()
}

fn header(html: &mut Html, report: &Value, database: &str) {
    html.open("header", &[]).open("h1", &[]).text("Performance of ");
    html.element("span", &[("class", "name")], database).close();
    let [since, until, now] = ["since", "until", "generated_at"].map(|key| charts::moment(&report[key]));
    let line =
        format!("From {since} to {until} UTC, on PostgreSQL {}. Written at {now}.", string(&report["server_version"]));
    html.element("p", &[("class", "small")], &line);
    if report["totals"]["lossy"] == true {
        html.element(
            "p",
            &[("class", "warning")],
            "A restart cut an interval short, or pg_stat_statements forgot \
            statements meanwhile: some of what ran is missing.",
        );
    }
    html.close();
    let list = |key: &str| is_ranked(&report["top"][key]);
    html.open("nav", &[("aria-label", "Contents")]);
    let fixed = [("latency", "Latency"), ("heat", "Spread"), ("failures", "Failures"), ("regressions", "Regressions")];
    let lists = LISTS.iter().filter(|(key, ..)| list(key)).map(|(key, title, ..)| (*key, *title));
    for (key, title) in fixed.into_iter().chain(lists) {
        html.element("a", &[("href", &format!("#{key}"))], title);
    }
    html.close();
}

fn totals(html: &mut Html, totals: &Value) {
    let count = |key: &str| grouped(totals[key].as_i64().unwrap_or(0));
    let ms = |key: &str| totals[key].as_f64().map_or_else(|| "-".into(), time);
    html.open("dl", &[("class", "totals")]);
    for (label, value) in [
        ("calls", count("calls")),
        ("statements", count("statements")),
        ("time in all", ms("total_time")),
        ("median", ms("p50_time")),
        ("p95", ms("p95_time")),
        ("p99", ms("p99_time")),
        ("slowest", ms("max_time")),
        ("errors", count("errors")),
    ] {
        html.open("div", &[]).element("dt", &[], label).element("dd", &[], &value).close();
    }
    html.close();
}

fn time_charts(html: &mut Html, points: &[Point<'_>]) {
    html.open("section", &[("id", "latency")]).element("h2", &[], "Latency");
    html.element(
        "p",
        &[("class", "small")],
        "Of all statements together; what runs within functions is in the calls of the functions.",
    );
    charts::percentiles(html, points);
    let mut entries = PERCENTILES.map(|(_, label, class)| (label, class)).to_vec();
    if charts::has_jobs(points) {
        entries.push(charts::JOBS);
    }
    key(html, &entries);
    table(html, points, &PERCENTILES.map(|(key, label, _)| (key, label)), |value| {
        value.as_f64().map_or_else(|| "-".into(), time)
    });
    html.close().open("section", &[("id", "heat")]).element("h2", &[], "Spread");
    html.element("p", &[("class", "small")], "Calls by time and latency: the stronger the color, the more.");
    charts::heat_map(html, points);
    html.close().open("section", &[("id", "failures")]).element("h2", &[], "Failures");
    charts::failures(html, points);
    key(html, &FAILURES.map(|(_, label, class)| (label, class)));
    table(html, points, &FAILURES.map(|(key, label, _)| (key, label)), string);
    html.close();
}

fn key(html: &mut Html, entries: &[(&str, &str)]) {
    html.open("ul", &[("class", "key")]);
    for (label, class) in entries {
        html.open("li", &[]).element("b", &[("class", class)], label).close();
    }
    html.close();
}

/// The chart's figures, folded away.
fn table(html: &mut Html, points: &[Point<'_>], columns: &[(&str, &str)], say: impl Fn(&Value) -> String) {
    html.open("details", &[]).element("summary", &[], "The figures");
    html.open("div", &[("class", "wide"), ("tabindex", "0")]).open("table", &[]).open("tr", &[]);
    html.element("th", &[("scope", "col")], "from (UTC)").element("th", &[("scope", "col")], "calls");
    for (_, label) in columns {
        html.element("th", &[("scope", "col")], label);
    }
    html.close();
    for point in points {
        html.open("tr", &[]).element("td", &[], &charts::moment(&point.value["started_at"]));
        html.element("td", &[], &string(&point.value["calls"]));
        for (key, _) in columns {
            html.element("td", &[], &say(&point.value[*key]));
        }
        html.close();
    }
    html.close().close().close();
}

fn top(html: &mut Html, &(id, title, lead, figure): &List, rows: &Value) {
    if !is_ranked(rows) {
        return;
    }
    let rows = rows.as_array().map_or(&[][..], Vec::as_slice);
    html.open("section", &[("id", id)]).element("h2", &[], title).element("p", &[("class", "small")], lead);
    // All others together have no bar: beside it the statements' own would not be seen.
    let ranked = || rows.iter().filter(|row| row["rank"].is_i64());
    let largest = ranked().filter_map(figure).map(|(value, _)| value).fold(0.0, f64::max);
    for row in rows {
        html.open("article", &[]).open("h3", &[]);
        let rank = row["rank"].as_i64().map_or_else(String::new, |rank| format!("{rank}."));
        html.element("span", &[("class", "of")], &rank).element("span", &[("class", "name")], &title_of(row)).close();
        if let Some((value, said)) = figure(row) {
            html.open("div", &[("class", "size")]);
            if row["rank"].is_i64() {
                bar(html, if largest > 0.0 { value / largest } else { 0.0 });
            }
            html.element("span", &[], &said).close();
        }
        html.open("dl", &[]);
        if let Some(share) = row["share"].as_f64() {
            fact(html, "share", &format!("{:.1} %", 100.0 * share));
        }
        if row["rank"].is_null() {
            fact(html, "statements", &string(&row["statements"]));
        }
        fact(html, "calls", &string(&row["calls"]));
        for (key, label) in [
            ("mean_time", "mean"),
            ("p50_time", "median"),
            ("p95_time", "p95"),
            ("p99_time", "p99"),
            ("max_time", "slowest"),
        ] {
            if let Some(ms) = row[key].as_f64() {
                fact(html, label, &time(ms));
            }
        }
        fact(html, "rows", &string(&row["rows"]));
        html.close();
        text_of(html, row);
        html.close();
    }
    html.close();
}

fn bar(html: &mut Html, share: f64) {
    let width = format!("{:.1}", 100.0 * share);
    html.open("svg", &[("viewBox", "0 0 100 8"), ("preserveAspectRatio", "none"), ("aria-hidden", "true")]);
    html.open("rect", &[("class", "track"), ("width", "100"), ("height", "8")]).close();
    html.open("rect", &[("class", "bar"), ("width", &width), ("height", "8")]).close().close();
}

/// Is there more than all others?
fn is_ranked(rows: &Value) -> bool {
    rows.as_array().is_some_and(|rows| rows.iter().any(|row| row["rank"].is_i64()))
}

fn fact(html: &mut Html, label: &str, value: &str) {
    html.open("div", &[]).element("dt", &[], label).element("dd", &[], value).close();
}

/// What fits into a heading.
const TITLE: usize = 90;

fn title_of(row: &Value) -> String {
    let Some(query) = row["query"].as_str() else {
        return format!("queryid {}", string(&row["queryid"]));
    };
    let line = query.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(TITLE) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

/// The whole text, where the heading has not all of it, and what it is asked for by.
fn text_of(html: &mut Html, row: &Value) {
    let query = string(&row["query"]);
    let queryid = string(&row["queryid"]);
    if query.is_empty() || queryid.is_empty() || queryid == "0" {
        return;
    }
    html.open("details", &[]).element("summary", &[], &format!("Statement, queryid {queryid}"));
    html.element("pre", &[("tabindex", "0")], &query).close();
}

fn regressions(html: &mut Html, rows: &Value) {
    let rows = rows.as_array().map_or(&[][..], Vec::as_slice);
    html.open("section", &[("id", "regressions")]).open("h2", &[]).text("Regressions ");
    html.element("b", &[], &rows.len().to_string()).close();
    html.element(
        "p",
        &[("class", "small")],
        "Statements that became slower than in the 14 days before, at the \
        same hours of the day. Of these, at most 5 % are expected to be chance.",
    );
    if rows.is_empty() {
        html.element("p", &[("class", "none")], "None.");
    }
    for row in rows {
        let percent = 100.0 * row["effect"].as_f64().unwrap_or(0.0);
        html.open("article", &[]).open("h3", &[]).element("span", &[("class", "name")], &title_of(row)).close();
        html.element(
            "p",
            &[],
            &format!(
                "{percent:.0} % slower in {} calls; {} more in all.",
                string(&row["calls"]),
                row["added_time"].as_f64().map_or_else(String::new, time)
            ),
        );
        html.open("dl", &[]);
        for (now, then, label) in [
            ("p50_time", "baseline_p50_time", "median"),
            ("p95_time", "baseline_p95_time", "p95"),
            ("p99_time", "baseline_p99_time", "p99"),
        ] {
            let [now, then] = [now, then].map(|key| row[key].as_f64().map_or_else(|| "-".into(), time));
            fact(html, label, &format!("{then} → {now}"));
        }
        html.close();
        if row["same_hours"] == false {
            html.element(
                "p",
                &[("class", "small")],
                "The baseline has other hours of the day only: this may be the daily cycle.",
            );
        }
        text_of(html, row);
        html.close();
    }
    html.close();
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn report(name: &str) -> Value {
        let point = |hour: i64| {
            json!({
                "started_at": format!("2026-01-01T{hour:02}:00:00+00:00"), "finished_at": "2026-01-01T23:00:00+00:00",
                "calls": 1000, "p50_time": 0.2, "p95_time": 5.0, "p99_time": 70.0, "errors": hour, "timeouts": 1,
                "histogram": [[0.2, 0.25, 900], [64.0, 80.0, 100]], "jobs": hour - 1,
            })
        };
        let row = json!({
            "rank": 1, "queryid": "-7", "userid": 10, "share": 0.25, "calls": 1234567, "rows": 1, "total_time": 5000.0,
            "mean_time": 1.0, "p50_time": 0.2, "p95_time": 5.0, "p99_time": 70.0, "max_time": 100.0, "query": name,
        });
        let mut worse = row.clone();
        worse["effect"] = 0.31.into();
        worse["same_hours"] = false.into();
        json!({
            "database": name, "server_version": name, "generated_at": name, "since": name, "until": "2026-01-02T00:00:00+00:00",
            "totals": { "calls": 5, "lossy": true }, "series": [point(1), point(2)],
            "top": { "total": [row, { "rank": null, "queryid": "0", "query": "<others>", "statements": 3, "total_time": 1.0 }] },
            "regressions": [worse],
        })
    }

    #[test]
    fn hostile_names_are_text() {
        let page = render(&report("<script>alert(1)</script>\"'"), "hash");
        assert!(!page.contains("<script"));
        assert!(page.contains("&lt;script&gt;alert(1)&lt;/script&gt;&quot;&#39;"));
        // As many tags as with a harmless name.
        assert_eq!(page.matches('<').count(), render(&report("x"), "hash").matches('<').count());
    }

    #[test]
    fn nothing_is_loaded_and_nothing_runs() {
        let page = render(&report("x"), "hash");
        assert!(page.contains("default-src &#39;none&#39;; style-src &#39;sha256-hash&#39;"));
        let body = page.split("</style>").last().unwrap();
        for forbidden in ["<script", "src=", "url(", "@import", "style=", " onclick", " onload", "javascript:"] {
            assert!(!body.contains(forbidden), "{forbidden}");
        }
        assert!(!STYLE.contains("url(") && !STYLE.contains("@import") && !STYLE.contains('<'));
    }

    #[test]
    fn figures_are_in_it() {
        let page = render(&report("SELECT 1"), "hash");
        let figures =
            ["1,234,567", "25.0 %", "31 % slower", "5 s in all", "other hours of the day", "2026-01-01 02:00"];
        for figure in figures.into_iter().chain(["jobs under way: 1"]) {
            assert!(page.contains(figure), "{figure}");
        }
        assert!(page.contains("&lt;others&gt;"));
    }

    #[test]
    fn an_empty_report_is_a_page() {
        let page = render(&json!({}), "hash");
        assert!(page.contains("Nothing is stored about this time.") && page.contains("</html>"));
    }

    #[test]
    fn a_long_statement_has_a_short_title() {
        let row = json!({ "query": "ä ".repeat(500) });
        assert_eq!(title_of(&row).chars().count(), TITLE + 1);
        assert_eq!(title_of(&json!({ "queryid": "5" })), "queryid 5");
    }
}
