//! Runs in turns.

use std::collections::BTreeMap;
use std::time::Instant;

use anyhow::{Context, Result};

use crate::figures::{max, median, min};

/// What one run gave: figure -> value.
pub type Sample = BTreeMap<&'static str, f64>;

/// One way of doing the work.
pub struct Variant<'a> {
    pub name: String,
    pub run: Box<dyn FnMut() -> Result<Sample> + 'a>,
}

/// All runs of a variant.
pub struct Series {
    pub name: String,
    pub samples: Vec<Sample>,
}

impl Series {
    pub fn values(&self, figure: &str) -> Vec<f64> {
        self.samples.iter().filter_map(|s| s.get(figure).copied()).collect()
    }

    pub fn median(&self, figure: &str) -> f64 {
        median(&self.values(figure))
    }

    pub fn range(&self, figure: &str) -> (f64, f64) {
        let values = self.values(figure);
        (min(&values), max(&values))
    }
}

/// Runs a, b, c, a, b, c, ...
pub fn alternate(runs: usize, variants: &mut [Variant]) -> Result<Vec<Series>> {
    let mut series: Vec<Series> =
        variants.iter().map(|v| Series { name: v.name.clone(), samples: Vec::new() }).collect();
    for run in 1..=runs {
        for (variant, series) in variants.iter_mut().zip(&mut series) {
            let clock = Instant::now();
            let sample = (variant.run)().with_context(|| variant.name.clone())?;
            println!(
                "  run {run} of {runs}: {} ({:.0} s with its set-up)",
                variant.name,
                clock.elapsed().as_secs_f64()
            );
            series.samples.push(sample);
        }
    }
    Ok(series)
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    #[test]
    fn variants_take_turns() {
        let order = RefCell::new(Vec::new());
        let variant = |name: &'static str| Variant {
            name: name.to_owned(),
            run: Box::new({
                let order = &order;
                move || {
                    order.borrow_mut().push(name);
                    Ok(Sample::from([("turn", order.borrow().len() as f64)]))
                }
            }),
        };
        let series = alternate(2, &mut [variant("a"), variant("b")]).unwrap();
        assert_eq!(*order.borrow(), ["a", "b", "a", "b"]);
        assert_eq!((series[0].median("turn"), series[1].range("turn")), (2.0, (2.0, 4.0)));
    }
}
