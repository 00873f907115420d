//! Many tests at once (Benjamini and Hochberg): of what is reported, the expected share that is chance stays below the limit
//! that the values are compared with.

/// Each p value, adjusted: the smallest limit at which it would be reported.
pub fn adjust(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&a, &b| values[b].total_cmp(&values[a]));
    let mut adjusted = vec![1.0; values.len()];
    let mut least = 1.0f64;
    for (smaller, &i) in order.iter().enumerate() {
        let rank = values.len() - smaller;
        least = least.min(values[i] * (values.len() as f64 / rank as f64));
        adjusted[i] = least;
    }
    adjusted
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_example_of_the_paper() {
        let values = [
            0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344, 0.0459, 0.3240, 0.4262, 0.5719, 0.6528,
            0.7590, 1.0,
        ];
        // Four of fifteen at 5 %, as published.
        assert_eq!(adjust(&values).iter().filter(|&&value| value <= 0.05).count(), 4);
        assert!((adjust(&values)[0] - 0.0015).abs() < 1e-12);
        assert!(adjust(&[]).is_empty());
    }

    proptest! {
        #[test]
        fn never_smaller_and_in_the_same_order(values in proptest::collection::vec(0.0..=1.0f64, 1..50)) {
            let adjusted = adjust(&values);
            for (i, &a) in values.iter().enumerate() {
                prop_assert!(adjusted[i] >= a && adjusted[i] <= 1.0);
                for (j, &b) in values.iter().enumerate() {
                    prop_assert!(a > b || adjusted[i] <= adjusted[j]);
                }
            }
        }
    }
}
