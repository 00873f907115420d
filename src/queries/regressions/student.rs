//! Student's t distribution: how likely a value at least so large is by chance.

/// Probability of a value above `t`, with `freedom` degrees of freedom.
pub fn above(t: f64, freedom: f64) -> f64 {
    if !t.is_finite() {
        return if t > 0.0 { 0.0 } else { 1.0 };
    }
    let tail = 0.5 * incomplete_beta(freedom / (freedom + t * t), freedom / 2.0, 0.5);
    if t > 0.0 { tail } else { 1.0 - tail }
}

/// Regularized incomplete beta function.
fn incomplete_beta(x: f64, a: f64, b: f64) -> f64 {
    if x <= 0.0 {
        return 0.0;
    }
    if x >= 1.0 {
        return 1.0;
    }
    let front = (a * x.ln() + b * (1.0 - x).ln() + ln_gamma(a + b) - ln_gamma(a) - ln_gamma(b)).exp();
    // The fraction converges fast on this side only.
    if x < (a + 1.0) / (a + b + 2.0) {
        front * beta_fraction(x, a, b) / a
    } else {
        1.0 - front * beta_fraction(1.0 - x, b, a) / b
    }
}

/// The continued fraction of the incomplete beta function, from the front (Lentz's method).
fn beta_fraction(x: f64, a: f64, b: f64) -> f64 {
    let away_from_zero = |value: f64| if value.abs() < 1e-300 { 1e-300 } else { value };
    let mut c = 1.0;
    let mut d = 1.0 / away_from_zero(1.0 - (a + b) * x / (a + 1.0));
    let mut result = d;
    for step in 1..300 {
        let m = f64::from(step);
        let even = m * (b - m) * x / ((a + 2.0 * m - 1.0) * (a + 2.0 * m));
        let odd = -(a + m) * (a + b + m) * x / ((a + 2.0 * m) * (a + 2.0 * m + 1.0));
        let mut change = 1.0;
        for term in [even, odd] {
            d = 1.0 / away_from_zero(1.0 + term * d);
            c = away_from_zero(1.0 + term / c);
            change = c * d;
            result *= change;
        }
        if (change - 1.0).abs() < 1e-13 {
            break;
        }
    }
    result
}

/// Logarithm of the gamma function, for positive arguments: Stirling's series, after moving to where it is exact enough.
fn ln_gamma(x: f64) -> f64 {
    let (mut x, mut product) = (x, 1.0);
    while x < 15.0 {
        product *= x;
        x += 1.0;
    }
    let square = 1.0 / (x * x);
    let series = (1.0 / 12.0 - square * (1.0 / 360.0 - square * (1.0 / 1260.0 - square / 1680.0))) / x;
    (x - 0.5) * x.ln() - x + 0.5 * (2.0 * std::f64::consts::PI).ln() + series - product.ln()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn close(a: f64, b: f64) -> bool {
        (a - b).abs() < 1e-6
    }

    #[test]
    fn it_is_the_printed_table() {
        for (freedom, t) in [(1.0, 6.313752), (2.0, 2.919986), (6.0, 1.943180), (10.0, 1.812461), (1e7, 1.644854)] {
            assert!(close(above(t, freedom), 0.05), "{freedom}: {}", above(t, freedom));
        }
        assert!(close(above(3.707428, 6.0), 0.005));
        assert_eq!(above(f64::INFINITY, 6.0), 0.0);
        assert!(above(40.0, 6.0) > 0.0);
    }

    #[test]
    fn gamma_is_the_factorial() {
        assert!(close(ln_gamma(5.0), 24f64.ln()));
        assert!(close(ln_gamma(0.5), std::f64::consts::PI.sqrt().ln()));
    }

    proptest! {
        #[test]
        fn it_falls_and_is_symmetric(t in -30.0..30.0f64, more in 0.001..5.0f64, freedom in 1.0..1e6f64) {
            prop_assert!((above(t, freedom) + above(-t, freedom) - 1.0).abs() < 1e-9);
            prop_assert!(above(t + more, freedom) <= above(t, freedom));
            prop_assert!((0.0..=1.0).contains(&above(t, freedom)));
        }
    }
}
