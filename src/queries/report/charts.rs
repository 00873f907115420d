//! Charts of the page, as SVG that stretches: labels are text beside the picture, so that a phone does not shrink them. Whoever
//! does not see pictures finds the same figures in a table below.

use serde_json::Value;

use crate::page::html::Html;
use crate::page::words::grouped;

const WIDTH: f64 = 1000.0;
const HEIGHT: f64 = 200.0;
/// Rows of a heat map: buckets of one octave.
const OCTAVE: f64 = 2.0;

/// A stretch of the report.
pub struct Point<'a> {
    pub value: &'a Value,
    /// From the left, 0 to [`WIDTH`].
    left: f64,
    width: f64,
}

impl Point<'_> {
    fn number(&self, key: &str) -> f64 {
        self.value[key].as_f64().unwrap_or(0.0)
    }
}

/// Points side by side, all of the same width.
pub fn points(series: &Value) -> Vec<Point<'_>> {
    let list = series.as_array().map_or(&[][..], Vec::as_slice);
    let width = WIDTH / list.len().max(1) as f64;
    list.iter().enumerate().map(|(i, value)| Point { value, left: i as f64 * width, width }).collect()
}

fn svg(html: &mut Html, label: &str) {
    let size = format!("0 0 {WIDTH} {HEIGHT}");
    html.open(
        "svg",
        &[("viewBox", size.as_str()), ("preserveAspectRatio", "none"), ("role", "img"), ("aria-label", label)],
    );
}

/// A picture between its labels: those of the vertical axis from the top.
fn framed(html: &mut Html, points: &[Point<'_>], labels: &[String], draw: impl FnOnce(&mut Html)) {
    html.open("div", &[("class", "chart")]).open("div", &[("class", "scale"), ("aria-hidden", "true")]);
    for label in labels {
        html.element("span", &[], label);
    }
    html.close();
    draw(html);
    html.open("div", &[("class", "times"), ("aria-hidden", "true")]);
    let edge = |point: Option<&Point<'_>>, key: &str| point.map_or(String::new(), |point| moment(&point.value[key]));
    html.element("span", &[], &edge(points.first(), "started_at"));
    html.element("span", &[], &edge(points.last(), "finished_at")).close().close();
}

/// `2026-01-31 23:59`.
pub fn moment(value: &Value) -> String {
    value.as_str().unwrap_or_default().chars().take(16).map(|c| if c == 'T' { ' ' } else { c }).collect()
}

/// Powers of ten around all values, in ms.
fn decades(values: impl Iterator<Item = f64>) -> (i32, i32) {
    let (least, greatest) = values
        .filter(|value| *value > 0.0)
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(least, greatest), value| (least.min(value), greatest.max(value)));
    if least > greatest {
        return (0, 1);
    }
    let low = least.log10().floor() as i32;
    (low, (greatest.log10().ceil() as i32).max(low + 1))
}

fn height(value: f64, (low, high): (i32, i32)) -> f64 {
    let share = (value.max(1e-9).log10() - f64::from(low)) / f64::from(high - low);
    HEIGHT * (1.0 - share.clamp(0.0, 1.0))
}

fn decade_labels((low, high): (i32, i32)) -> Vec<String> {
    (low..=high).rev().map(|decade| time(10f64.powi(decade))).collect()
}

/// A length of time in ms, as people say it.
pub fn time(ms: f64) -> String {
    let (value, unit) = match ms {
        ms if ms <= 0.0 => return "0".into(),
        ms if ms < 1.0 => (ms * 1000.0, "µs"),
        ms if ms < 1000.0 => (ms, "ms"),
        ms if ms < 120_000.0 => (ms / 1000.0, "s"),
        ms if ms < 7_200_000.0 => (ms / 60_000.0, "min"),
        ms => (ms / 3_600_000.0, "h"),
    };
    match value {
        value if value >= 9999.5 => format!("{} {unit}", grouped(value.round() as i64)),
        value if value >= 99.95 => format!("{value:.0} {unit}"),
        value if value >= 9.995 => format!("{} {unit}", trimmed(format!("{value:.1}"))),
        value => format!("{} {unit}", trimmed(format!("{value:.2}"))),
    }
}

fn trimmed(number: String) -> String {
    number.trim_end_matches('0').trim_end_matches('.').to_owned()
}

pub const PERCENTILES: [(&str, &str, &str); 3] =
    [("p99_time", "p99", "v4"), ("p95_time", "p95", "v2"), ("p50_time", "p50", "v1")];

pub fn percentiles(html: &mut Html, points: &[Point<'_>]) {
    let values = points.iter().flat_map(|point| PERCENTILES.map(|(key, ..)| point.number(key)));
    let range = decades(values);
    framed(html, points, &decade_labels(range), |html| {
        svg(html, "median, 95th and 99th percentile of all statements over time; the figures are in the table below");
        jobs(html, points);
        grid(html, range.1 - range.0);
        for (key, _, class) in PERCENTILES {
            let path = path(points, key, range);
            let class = format!("line {class}");
            html.open("path", &[("class", class.as_str()), ("d", path.as_str())]).close();
        }
        html.close();
    });
}

/// The stretches in which jobs were under way, behind everything else.
pub const JOBS: (&str, &str) = ("jobs of pg_upkeep under way", "v3");

pub fn has_jobs(points: &[Point<'_>]) -> bool {
    points.iter().any(|point| point.number("jobs") > 0.0)
}

fn jobs(html: &mut Html, points: &[Point<'_>]) {
    for point in points.iter().filter(|point| point.number("jobs") > 0.0) {
        let [x, wide, high] = [point.left, point.width, HEIGHT].map(|figure| format!("{figure:.2}"));
        html.open(
            "rect",
            &[("class", JOBS.1), ("fill-opacity", "0.15"), ("x", &x), ("y", "0"), ("width", &wide), ("height", &high)],
        );
        let title = format!("{}: jobs under way: {}", moment(&point.value["started_at"]), point.number("jobs"));
        html.element("title", &[], &title).close();
    }
}

/// Through all points in a row that have calls; where there were none the line is broken.
fn path(points: &[Point<'_>], key: &str, range: (i32, i32)) -> String {
    let (mut path, mut pen_down) = (String::new(), false);
    for point in points {
        let value = point.number(key);
        if value > 0.0 {
            let (x, y) = (point.left + point.width / 2.0, height(value, range));
            // A dot is a line of no length: a lone point is seen as well.
            path += &if pen_down { format!("L{x:.1} {y:.1}") } else { format!("M{x:.1} {y:.1}L{x:.1} {y:.1}") };
        }
        pen_down = value > 0.0;
    }
    path
}

fn grid(html: &mut Html, parts: i32) {
    for part in 0..=parts {
        let y = format!("{:.1}", HEIGHT * f64::from(part) / f64::from(parts));
        let width = WIDTH.to_string();
        html.open("line", &[("class", "grid"), ("x1", "0"), ("x2", &width), ("y1", &y), ("y2", &y)]).close();
    }
}

/// Time to the right, latency upwards, the darker the more calls.
pub fn heat_map(html: &mut Html, points: &[Point<'_>]) {
    let octave = |ms: f64| (ms.max(0.001).log2() / OCTAVE.log2()).floor() as i32;
    let cells: Vec<_> = points
        .iter()
        .map(|point| {
            let mut rows = std::collections::BTreeMap::<i32, f64>::new();
            for bucket in point.value["histogram"].as_array().into_iter().flatten() {
                let (lower, calls) = (bucket[0].as_f64().unwrap_or(0.0), bucket[2].as_f64().unwrap_or(0.0));
                *rows.entry(octave(lower)).or_default() += calls;
            }
            (point, rows)
        })
        .collect();
    let rows = || cells.iter().flat_map(|(_, rows)| rows.keys().copied());
    let (Some(low), Some(high)) = (rows().min(), rows().max()) else { return };
    let most = cells.iter().flat_map(|(_, rows)| rows.values().copied()).fold(1.0, f64::max);
    let tall = HEIGHT / f64::from(high - low + 1);
    let labels = [high + 1, (high + 1 + low) / 2, low].map(|row| time(OCTAVE.powi(row)));
    framed(html, points, &labels, |html| {
        svg(html, "number of calls by time and latency; the figures are in the JSON report");
        for (point, rows) in &cells {
            for (row, calls) in rows {
                // By the logarithm, or a few slow calls would not be seen beside a million fast ones.
                let shade = format!("{:.2}", 0.12 + 0.88 * (1.0 + calls).ln() / (1.0 + most).ln());
                let [x, y, wide, high] =
                    [point.left, f64::from(high - row) * tall, point.width, tall].map(|figure| format!("{figure:.2}"));
                html.open(
                    "rect",
                    &[
                        ("class", "v1"),
                        ("fill-opacity", shade.as_str()),
                        ("x", x.as_str()),
                        ("y", y.as_str()),
                        ("width", wide.as_str()),
                        ("height", high.as_str()),
                    ],
                );
                let [from, to] = [*row, *row + 1].map(|row| time(OCTAVE.powi(row)));
                let what = format!(
                    "{}: {} calls from {from} to {to}",
                    moment(&point.value["started_at"]),
                    grouped(calls.round() as i64)
                );
                html.element("title", &[], &what).close();
            }
        }
        html.close();
    });
}

pub const FAILURES: [(&str, &str, &str); 4] = [
    ("errors", "errors", "v4"),
    ("timeouts", "timeouts", "v1"),
    ("cancellations", "cancellations", "v2"),
    ("unknown_errors", "of unknown cause", "v3"),
];

pub fn failures(html: &mut Html, points: &[Point<'_>]) {
    let sum = |point: &Point<'_>| FAILURES.iter().map(|(key, ..)| point.number(key)).sum::<f64>();
    let most = points.iter().map(sum).fold(0.0, f64::max);
    if most == 0.0 {
        html.element("p", &[("class", "none")], "None.");
        return;
    }
    framed(html, points, &[grouped(most as i64), "0".into()], |html| {
        svg(html, "statements that failed, over time; the figures are in the table below");
        grid(html, 1);
        for point in points {
            let mut top = HEIGHT;
            for (key, label, class) in FAILURES {
                let tall = HEIGHT * point.number(key) / most;
                if tall == 0.0 {
                    continue;
                }
                top -= tall;
                let [x, y, wide, high] = [point.left, top, point.width, tall].map(|figure| format!("{figure:.2}"));
                html.open("rect", &[("class", class), ("x", &x), ("y", &y), ("width", &wide), ("height", &high)]);
                let count = grouped(point.number(key) as i64);
                html.element("title", &[], &format!("{}: {count} {label}", moment(&point.value["started_at"]))).close();
            }
        }
        html.close();
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        assert_eq!(
            [0.0, 0.0042, 0.25, 1.0, 12.34, 999.6, 1500.0, 90_000.0, 600_000.0, 3.6e7].map(time),
            ["0", "4.2 µs", "250 µs", "1 ms", "12.3 ms", "1000 ms", "1.5 s", "90 s", "10 min", "10 h"]
        );
    }

    #[test]
    fn a_line_is_broken_where_nothing_ran() {
        let series =
            serde_json::json!([{ "p50_time": 1.0 }, { "p50_time": 10.0 }, { "p50_time": null }, { "p50_time": 1.0 }]);
        let path = path(&points(&series), "p50_time", (0, 1));
        assert_eq!(path, "M125.0 200.0L125.0 200.0L375.0 0.0M875.0 200.0L875.0 200.0");
    }

    #[test]
    fn the_axis_holds_every_value() {
        assert_eq!(decades([0.3, 42.0, 0.0].into_iter()), (-1, 2));
        assert_eq!(decades([10.0].into_iter()), (1, 2));
        assert_eq!(decades(std::iter::empty()), (0, 1));
        assert_eq!(decade_labels((-1, 1)), ["10 ms", "1 ms", "100 µs"]);
        assert_eq!([1.0, 10.0, 1e9, 0.0].map(|value| height(value, (0, 1))), [HEIGHT, 0.0, 0.0, HEIGHT]);
    }
}
