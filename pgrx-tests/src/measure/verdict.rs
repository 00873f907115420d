//! Figures against what was promised.

use super::series::Series;

/// What a comparison looks at.
#[derive(Clone, Copy)]
pub enum Measure {
    /// The median of a figure.
    Median(&'static str),
    /// The median of a figure, divided by that of the other variant.
    Ratio(&'static str),
    /// The difference between the medians of both variants.
    Gap(&'static str),
}

#[derive(Clone, Copy)]
pub enum Bound {
    AtLeast(f64),
    AtMost(f64),
    /// Reported for honesty; nothing was promised.
    None,
}

impl Bound {
    fn holds(self, value: f64) -> bool {
        match self {
            Self::AtLeast(bound) => value >= bound,
            Self::AtMost(bound) => value <= bound,
            Self::None => true,
        }
    }

    fn text(self) -> String {
        match self {
            Self::AtLeast(bound) => format!(">= {bound}"),
            Self::AtMost(bound) => format!("<= {bound}"),
            Self::None => String::new(),
        }
    }
}

/// What has to be reached, and what is to be.
#[derive(Clone, Copy)]
pub struct Promise {
    must: Bound,
    goal: Bound,
}

impl Promise {
    pub const NONE: Self = Self { must: Bound::None, goal: Bound::None };

    pub const fn at_least(must: f64, goal: f64) -> Self {
        Self { must: Bound::AtLeast(must), goal: Bound::AtLeast(goal) }
    }

    pub const fn at_most(must: f64, goal: f64) -> Self {
        Self { must: Bound::AtMost(must), goal: Bound::AtMost(goal) }
    }
}

/// One line of the verdict.
pub struct Comparison {
    pub what: String,
    pub value: f64,
    pub must: Bound,
    pub goal: Bound,
}

impl Comparison {
    /// `series` compared with `other`, which only ratios and gaps look at.
    pub fn new(what: impl Into<String>, series: &Series, other: &Series, measure: Measure) -> Self {
        let value = match measure {
            Measure::Median(figure) => series.median(figure),
            Measure::Ratio(figure) => series.median(figure) / other.median(figure),
            Measure::Gap(figure) => (series.median(figure) - other.median(figure)).abs(),
        };
        Self { what: what.into(), value, must: Bound::None, goal: Bound::None }
    }

    pub fn must(mut self, bound: Bound) -> Self {
        self.must = bound;
        self
    }

    pub fn goal(mut self, bound: Bound) -> Self {
        self.goal = bound;
        self
    }

    pub fn promised(self, promise: Promise) -> Self {
        self.must(promise.must).goal(promise.goal)
    }

    /// What, value, must, goal, verdict.
    pub fn cells(&self) -> Vec<String> {
        vec![
            self.what.clone(),
            format!("{:.2}", self.value),
            self.must.text(),
            self.goal.text(),
            self.verdict().to_owned(),
        ]
    }

    pub fn verdict(&self) -> &'static str {
        match (self.must, self.goal) {
            (Bound::None, Bound::None) => "",
            (must, _) if !must.holds(self.value) => "MISSED",
            (_, Bound::None) => "met",
            (_, goal) if goal.holds(self.value) => "goal met",
            (Bound::None, _) => "goal missed",
            _ => "met",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::series::Sample;

    fn series(value: f64) -> Series {
        Series { name: String::new(), samples: vec![Sample::from([("speed", value)])] }
    }

    #[test]
    fn verdicts() {
        let verdict = |value: f64| {
            let compared = Comparison::new("", &series(value), &series(10.0), Measure::Ratio("speed"));
            compared.must(Bound::AtLeast(1.4)).goal(Bound::AtLeast(2.0)).verdict()
        };
        assert_eq!([verdict(13.0), verdict(15.0), verdict(20.0)], ["MISSED", "met", "goal met"]);
        let gap = Comparison::new("", &series(7.0), &series(10.0), Measure::Gap("speed"));
        assert_eq!((gap.value, gap.verdict()), (3.0, ""));
        assert_eq!(gap.must(Bound::AtMost(2.0)).verdict(), "MISSED");
        let gap = Comparison::new("", &series(7.0), &series(10.0), Measure::Gap("speed"));
        assert_eq!(gap.goal(Bound::AtMost(2.0)).verdict(), "goal missed");
    }

    #[test]
    fn no_figure_is_a_miss() {
        let absent = Comparison::new("", &series(1.0), &series(1.0), Measure::Median("missing"));
        assert_eq!(absent.must(Bound::AtMost(1.0)).verdict(), "MISSED");
    }
}
