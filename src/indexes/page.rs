//! `upkeep.index_report()` as a page for people: self-contained, no script, sizes as pictures.

use serde_json::Value;

use crate::page::words::{size, string};
use crate::page::{self, html::Html};

/// How a list of the report is shown.
struct Section {
    key: &'static str,
    title: &'static str,
    lead: &'static str,
    /// The figure that is drawn, and what it is called.
    size: &'static str,
    size_label: &'static str,
    /// Sentences.
    texts: &'static [&'static str],
    /// Small print: column and label.
    facts: &'static [(&'static str, &'static str)],
    /// SQL: column and what it is for.
    commands: &'static [(&'static str, &'static str)],
}

const DROP_AND_CREATE: &[(&str, &str)] = &[("drop_command", "Drop it"), ("create_command", "The way back")];

const SECTIONS: &[Section] = &[
    Section {
        key: "invalid",
        title: "Invalid",
        lead: "Written to and never read: what is left of builds that failed.",
        size: "index_size",
        size_label: "size",
        texts: &["problem"],
        facts: &[("missing_partitions", "partitions")],
        commands: &[("repair_command", "Repair")],
    },
    Section {
        key: "unused",
        title: "Unused",
        lead: "Nothing has used these anywhere for as long as was asked for. Dearest first.",
        size: "index_size",
        size_label: "size",
        texts: &["reason"],
        facts: &[
            ("entries_written", "entries written"),
            ("hot_prevented_by", "HOT updates prevented by"),
            ("hot_updates_prevented", "updates that were not HOT"),
        ],
        commands: DROP_AND_CREATE,
    },
    Section {
        key: "duplicate",
        title: "Duplicate",
        lead: "The same index twice: one of them is enough.",
        size: "index_size",
        size_label: "size",
        texts: &["reason"],
        facts: &[],
        commands: DROP_AND_CREATE,
    },
    Section {
        key: "redundant",
        title: "Redundant",
        lead: "Another index can stand in for these; what would be lost is said with each.",
        size: "index_size",
        size_label: "size",
        texts: &["reason"],
        facts: &[("what_would_be_lost", "would be lost")],
        commands: DROP_AND_CREATE,
    },
    Section {
        key: "bloated",
        title: "Bloated",
        lead: "More pages than a rebuild would need.",
        size: "bloat_bytes",
        size_label: "to be had back",
        texts: &["basis"],
        facts: &[("index_size", "size in bytes"), ("estimated_size", "after a rebuild"), ("verdict", "verdict")],
        commands: &[("reindex_command", "Rebuild")],
    },
    Section {
        key: "unindexed_foreign_keys",
        title: "Foreign keys without an index",
        lead: "A DELETE on the other side, or a change of its key, reads the whole table, once per row.",
        size: "table_size",
        size_label: "table",
        texts: &["reason"],
        facts: &[("severity", "severity"), ("columns", "columns"), ("partitions_without", "partitions")],
        commands: &[("create_command", "Create it")],
    },
    Section {
        key: "missing",
        title: "Read from end to end",
        lead: "Tables that sequential scans read far too often, and columns that an index would narrow down if queries look for them.",
        size: "table_size",
        size_label: "table",
        texts: &["evidence"],
        facts: &[("attname", "column"), ("seq_scan", "sequential scans"), ("idx_scan", "index scans")],
        commands: &[],
    },
];

const VERDICTS: [(&str, &str, &str); 4] = [
    ("used", "v1", "scanned, here or on a standby"),
    ("kept", "v2", "needed for what it guarantees"),
    ("unknown", "v3", "not watched long enough, or not everywhere"),
    ("unused", "v4", "nobody needs it"),
];

/// `style_hash`: SHA-256 of [`STYLE`] in base64, which alone the page's own policy lets through.
pub fn render(report: &Value, style_hash: &str) -> String {
    let mut html = Html::page();
    let database = string(&report["database"]);
    page::open(&mut html, &format!("Indexes of {database}"), STYLE, style_hash);
    html.open("body", &[]);
    header(&mut html, report, &database);
    verdicts(&mut html, &report["verdicts"]);
    contents(&mut html, &report["sections"]);
    for section in SECTIONS {
        let list = &report["sections"][section.key];
        if list.is_object() {
            show(&mut html, section, list);
        }
    }
    html.finish()
}

fn header(html: &mut Html, report: &Value, database: &str) {
    let conditions = &report["conditions"];
    html.open("header", &[])
        .open("h1", &[])
        .text("Indexes of ")
        .element("span", &[("class", "name")], database)
        .close();
    let since = string(&conditions["stats_since"]);
    let line = format!(
        "{} on PostgreSQL {}. Use is counted since {}.",
        string(&report["generated_at"]).replace('T', " "),
        string(&report["server_version"]),
        since.get(..10).unwrap_or(&since)
    );
    html.element("p", &[("class", "small")], &line);
    if let Some(unknown) = conditions["unknown"].as_str() {
        html.open("p", &[("class", "warning")]).text("No index is called unused: ").text(unknown).text(".").close();
    }
    html.close();
}

/// One bar of all bytes, and its key.
fn verdicts(html: &mut Html, verdicts: &Value) {
    let bytes = |name: &str| verdicts[name]["bytes"].as_f64().unwrap_or(0.0);
    let total: f64 = VERDICTS.iter().map(|(name, ..)| bytes(name)).sum();
    html.open("section", &[("class", "verdicts")]).element("h2", &[], "Verdicts");
    if total > 0.0 {
        html.open(
            "svg",
            &[
                ("viewBox", "0 0 1000 24"),
                ("preserveAspectRatio", "none"),
                ("role", "img"),
                ("aria-label", "share of each verdict in the bytes of all indexes"),
            ],
        );
        let mut x = 0.0;
        for (name, class, _) in VERDICTS {
            let width = 1000.0 * bytes(name) / total;
            let (left, wide) = (format!("{x:.1}"), format!("{width:.1}"));
            html.open(
                "rect",
                &[("class", class), ("x", left.as_str()), ("width", wide.as_str()), ("y", "0"), ("height", "24")],
            );
            html.close();
            x += width;
        }
        html.close();
    }
    html.open("ul", &[("class", "key")]);
    for (name, class, meaning) in VERDICTS {
        let count = verdicts[name]["indexes"].as_i64().unwrap_or(0);
        html.open("li", &[]).open("b", &[("class", class)]).text(name).close();
        html.open("span", &[("class", "figure")]).text(&format!("{count} indexes, {}", size(bytes(name)))).close();
        html.element("span", &[("class", "small")], meaning).close();
    }
    html.close().close();
}

fn contents(html: &mut Html, sections: &Value) {
    html.open("nav", &[]);
    for section in SECTIONS {
        if let Some(count) = sections[section.key]["count"].as_i64() {
            let target = format!("#{}", section.key);
            html.open("a", &[("href", target.as_str())]).text(section.title).text(" ");
            html.element("b", &[], &count.to_string()).close();
        }
    }
    html.close();
}

fn show(html: &mut Html, section: &Section, list: &Value) {
    let rows = list["rows"].as_array().map_or(&[][..], Vec::as_slice);
    let count = list["count"].as_i64().unwrap_or(0);
    html.open("section", &[("id", section.key)]);
    html.open("h2", &[]).text(section.title).text(" ").element("b", &[], &count.to_string()).close();
    html.element("p", &[("class", "small")], section.lead);
    if rows.is_empty() {
        html.element("p", &[("class", "none")], "None.");
    } else if (rows.len() as i64) < count {
        html.element("p", &[("class", "small")], &format!("The first {} are shown.", rows.len()));
    }
    let largest = rows.iter().filter_map(|row| row[section.size].as_f64()).fold(0.0, f64::max);
    for row in rows {
        show_row(html, section, row, largest);
    }
    html.close();
}

fn show_row(html: &mut Html, section: &Section, row: &Value, largest: f64) {
    html.open("article", &[]).open("h3", &[]);
    let own = ["indexrelname", "conname", "attname"].iter().map(|key| string(&row[*key])).find(|name| !name.is_empty());
    let table = format!("{}.{}", string(&row["schemaname"]), string(&row["relname"]));
    match own {
        Some(name) => html.element("span", &[("class", "name")], &name).element("span", &[("class", "of")], &table),
        None => html.element("span", &[("class", "name")], &table),
    };
    html.close();
    if let Some(bytes) = row[section.size].as_f64().filter(|&bytes| bytes > 0.0) {
        let width = if largest > 0.0 { format!("{:.1}", 100.0 * bytes / largest) } else { "0".into() };
        html.open("div", &[("class", "size")]);
        html.open("svg", &[("viewBox", "0 0 100 8"), ("preserveAspectRatio", "none"), ("aria-hidden", "true")]);
        html.open("rect", &[("class", "track"), ("width", "100"), ("height", "8")]).close();
        html.open("rect", &[("class", "bar"), ("width", width.as_str()), ("height", "8")]).close();
        html.close().element("span", &[], &format!("{} {}", size(bytes), section.size_label)).close();
    }
    for key in section.texts {
        let text = string(&row[*key]);
        if !text.is_empty() {
            html.element("p", &[], &text);
        }
    }
    let facts =
        section.facts.iter().map(|(key, label)| (string(&row[*key]), label)).filter(|(fact, _)| !fact.is_empty());
    let mut facts = facts.peekable();
    if facts.peek().is_some() {
        html.open("dl", &[]);
        for (fact, label) in facts {
            html.open("div", &[]).element("dt", &[], label).element("dd", &[], &fact).close();
        }
        html.close();
    }
    for (key, label) in section.commands {
        if let Some(command) = row[*key].as_str() {
            html.open("div", &[("class", "command")]).element("span", &[("class", "small")], label);
            html.element("pre", &[], command).close();
        }
    }
    html.close();
}

/// Colors of the verdicts are told apart in any kind of color vision, and by their order.
pub const STYLE: &str = concat!(include_str!("../page/base.css"), include_str!("page.css"));

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn report(name: &str) -> Value {
        json!({
            "database": name, "server_version": "18", "generated_at": "2026-01-01T00:00:00Z",
            "conditions": { "stats_since": "2025-01-01 00:00:00+00", "unknown": name },
            "verdicts": { "used": { "indexes": 3, "bytes": 3000 }, "unused": { "indexes": 1, "bytes": 1000 } },
            "sections": { "unused": { "count": 200, "bytes": 8192, "rows": [{
                "schemaname": name, "relname": name, "indexrelname": name, "index_size": 8192, "reason": name,
                "hot_prevented_by": [name], "entries_written": 1234567, "drop_command": name, "create_command": name,
            }] } },
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
    fn it_says_what_is_not_shown() {
        let page = render(&report("x"), "hash");
        assert!(page.contains("The first 1 are shown."));
        assert!(page.contains("1,234,567"));
        assert!(page.contains("8.0 kB size"));
    }

    #[test]
    fn nothing_is_loaded_and_nothing_runs() {
        let page = render(&report("x"), "hash");
        assert!(page.contains("default-src &#39;none&#39;; style-src &#39;sha256-hash&#39;"));
        for forbidden in ["<script", "src=", "url(", "@import", "style=", " on"] {
            let found = page.split("</style>").last().is_some_and(|body| {
                body.contains(forbidden)
                    && (forbidden != " on" || body.contains(" onclick") || body.contains(" onload"))
            });
            assert!(!found, "{forbidden}");
        }
        assert!(!STYLE.contains("url(") && !STYLE.contains("@import") && !STYLE.contains('<'));
    }

    #[test]
    fn an_empty_report_is_a_page() {
        assert!(render(&json!({}), "hash").contains("</html>"));
    }
}
