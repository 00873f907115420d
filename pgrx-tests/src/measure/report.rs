//! Tables for people, JSON for whoever compares with the next version.

use std::fs;
use std::time::Duration;

use anyhow::Result;
use serde_json::{Map, Value, json};

use super::series::Series;
use super::verdict::Comparison;
use crate::figures::{align, thousands};
use crate::paths;

pub struct Report {
    name: String,
    settings: Vec<(String, String)>,
    groups: Vec<Value>,
    missed: usize,
}

impl Report {
    pub fn new(name: &str, settings: Vec<(String, String)>) -> Self {
        Self { name: name.to_owned(), settings, groups: Vec::new(), missed: 0 }
    }

    pub fn settings_text(&self) -> String {
        let settings = self.settings.iter().map(|(name, value)| format!("{name} = {value}"));
        format!("settings: {}", settings.collect::<Vec<_>>().join(", "))
    }

    /// Shows a group of variants that ran in turns, and saves everything so far: a later group may take an hour.
    pub fn add(&mut self, title: &str, series: &[Series], comparisons: &[Comparison]) -> Result<()> {
        println!("\n{title}, median [least .. greatest]\n\n{}", samples_table(series));
        if !comparisons.is_empty() {
            println!("{}", comparisons_table(comparisons));
        }
        self.missed += comparisons.iter().filter(|c| c.verdict() == "MISSED").count();
        self.groups.push(json!({
            "title": title,
            "variants": series.iter().map(|s| json!({ "name": s.name, "samples": s.samples })).collect::<Vec<_>>(),
            "comparisons": comparisons.iter().map(|c| json!({
                "what": c.what, "value": c.value, "verdict": c.verdict(), "must": c.cells()[2], "goal": c.cells()[3],
            })).collect::<Vec<_>>(),
        }));
        self.save()
    }

    pub fn close(self, took: Duration) -> Result<()> {
        let file = format!("target/measure/{}.json", self.name);
        println!("{} promises missed; {:.0} minutes; samples in {file}", self.missed, took.as_secs_f64() / 60.0);
        Ok(())
    }

    fn save(&self) -> Result<()> {
        let dir = paths::target().join("measure");
        fs::create_dir_all(&dir)?;
        let settings: Map<_, _> = self.settings.iter().map(|(n, v)| (n.clone(), v.clone().into())).collect();
        let all = json!({ "measurement": self.name, "settings": settings, "groups": self.groups });
        fs::write(dir.join(format!("{}.json", self.name)), serde_json::to_string_pretty(&all)?)?;
        Ok(())
    }
}

fn samples_table(series: &[Series]) -> String {
    let mut figures: Vec<&str> = series.iter().flat_map(|s| &s.samples).flat_map(|s| s.keys().copied()).collect();
    figures.sort_unstable();
    figures.dedup();
    let mut rows = vec![std::iter::once(String::new()).chain(figures.iter().map(|f| (*f).to_owned())).collect()];
    for one in series {
        let cell = |figure: &&str| {
            if one.values(figure).is_empty() {
                return "-".to_owned();
            }
            let (least, greatest) = one.range(figure);
            let (least, median, greatest) = (number(least), number(one.median(figure)), number(greatest));
            if least == greatest { median } else { format!("{median} [{least} .. {greatest}]") }
        };
        rows.push(std::iter::once(one.name.clone()).chain(figures.iter().map(cell)).collect::<Vec<_>>());
    }
    align(&rows)
}

fn comparisons_table(comparisons: &[Comparison]) -> String {
    let header = ["", "is", "must", "goal", ""].map(str::to_owned).to_vec();
    let rows: Vec<_> = std::iter::once(header).chain(comparisons.iter().map(Comparison::cells)).collect();
    align(&rows)
}

/// Enough digits and no more.
fn number(value: f64) -> String {
    match value.abs() {
        v if v >= 100.0 => thousands(value),
        v if v >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}
