//! Elementary functions without branches or table look-ups, so that loops over them vectorise.

use candle_core::WithDType;

/// A floating-point type that kernels compute in: f32 with polynomials, f64 with the standard library.
pub trait Real: WithDType {
    /// `e^x` for x up to 0, to 2 ulp; below about -87 (f32) the smallest normal number.
    fn exp_nonpositive(self) -> Self;

    /// `ln(1 + x)` for x in `[0, 1]`, to 3 ulp.
    fn ln_1p_unit(self) -> Self;

    /// `ln x` for normal x of at least 1, to an absolute error of 1e-7 or 2 ulp.
    fn ln_from_one(self) -> Self;

    /// Square root.
    fn root(self) -> Self;

    /// Absolute value.
    fn magnitude(self) -> Self;

    /// `1 / (1 + e^-x)` without overflow.
    #[inline(always)]
    fn sigmoid(self) -> Self {
        let small = (Self::zero() - self.magnitude()).exp_nonpositive();
        let winner = Self::one() / (Self::one() + small);
        if self < Self::zero() {
            small * winner
        } else {
            winner
        }
    }
}

impl Real for f32 {
    #[inline(always)]
    fn exp_nonpositive(self) -> f32 {
        // e^x = 2^n e^r with n the nearest integer to x / ln 2; adding 1.5 * 2^23 rounds to it and leaves it in the
        // low bits.
        const ROUND: f32 = 12_582_912.0;
        // ln 2 in two parts, the first short enough for exact products (Cody and Waite).
        const LN2_HIGH: f32 = 0.693_359_4;
        const LN2_LOW: f32 = -2.121_944_4e-4;
        let x = if self < -87.0 { -87.0 } else { self };
        let shifted = x * std::f32::consts::LOG2_E + ROUND;
        let n = shifted - ROUND;
        let r = (x - n * LN2_HIGH) - n * LN2_LOW;
        // Minimax polynomial of (e^r - 1 - r) / r^2 on |r| <= ln(2) / 2 (Cephes' expf).
        let p = 1.987_569_1e-4;
        let p = p * r + 1.398_199_9e-3;
        let p = p * r + 8.333_452e-3;
        let p = p * r + 4.166_579_6e-2;
        let p = p * r + 1.666_666_5e-1;
        let p = p * r + 0.5;
        let power = f32::from_bits((shifted.to_bits().wrapping_add(127)) << 23);
        (p * (r * r) + r + 1.0) * power
    }

    #[inline(always)]
    fn ln_1p_unit(self) -> f32 {
        // ln(1 + x) = 2 artanh(x / (2 + x)), whose argument is at most 1/3.
        let z = self / (2.0 + self);
        let s = z * z;
        let p = 1.0 / 15.0;
        let p = p * s + 1.0 / 13.0;
        let p = p * s + 1.0 / 11.0;
        let p = p * s + 1.0 / 9.0;
        let p = p * s + 1.0 / 7.0;
        let p = p * s + 0.2;
        let p = p * s + 1.0 / 3.0;
        2.0 * (z + z * s * p)
    }

    #[inline(always)]
    fn ln_from_one(self) -> f32 {
        // x = 2^n m with m in [sqrt(1/2), sqrt(2)); ln m = 2 artanh((m - 1) / (m + 1)).
        const HALF_ROOT: u32 = 0x3f35_04f3;
        let n = (self.to_bits().wrapping_sub(HALF_ROOT) as i32) >> 23;
        let m = f32::from_bits(self.to_bits().wrapping_sub((n << 23) as u32));
        let z = (m - 1.0) / (m + 1.0);
        let s = z * z;
        let p = 1.0 / 9.0;
        let p = p * s + 1.0 / 7.0;
        let p = p * s + 0.2;
        let p = p * s + 1.0 / 3.0;
        n as f32 * std::f32::consts::LN_2 + 2.0 * (z + z * s * p)
    }

    #[inline(always)]
    fn root(self) -> f32 {
        self.sqrt()
    }

    #[inline(always)]
    fn magnitude(self) -> f32 {
        self.abs()
    }
}

impl Real for f64 {
    #[inline(always)]
    fn exp_nonpositive(self) -> f64 {
        self.exp()
    }

    #[inline(always)]
    fn ln_1p_unit(self) -> f64 {
        self.ln_1p()
    }

    #[inline(always)]
    fn ln_from_one(self) -> f64 {
        self.ln()
    }

    #[inline(always)]
    fn root(self) -> f64 {
        self.sqrt()
    }

    #[inline(always)]
    fn magnitude(self) -> f64 {
        self.abs()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The largest error of `got` against `exact` over f32 values, relative to the greater of `floor` and the value.
    fn worst(
        values: impl Iterator<Item = f32>,
        floor: f64,
        got: fn(f32) -> f32,
        exact: fn(f64) -> f64,
    ) -> f64 {
        values
            .map(|x| {
                let exact = exact(f64::from(x));
                (f64::from(got(x)) - exact).abs() / exact.abs().max(floor)
            })
            .fold(0.0, f64::max)
    }

    #[test]
    fn elementary_functions_are_exact_to_a_few_ulp() {
        let unit = || (0..=100_000).map(|i| i as f32 / 100_000.0);
        assert!(
            worst(
                unit().map(|u| -87.0 * u),
                0.0,
                f32::exp_nonpositive,
                f64::exp
            ) < 2.4e-7
        );
        assert!(worst(unit(), 1e-30, f32::ln_1p_unit, f64::ln_1p) < 3.6e-7);
        assert!(
            worst(
                unit().map(|u| 1.0 + 99.0 * u),
                0.5,
                f32::ln_from_one,
                f64::ln
            ) < 2.4e-7
        );
        let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
        assert!(worst(unit().map(|u| 80.0 * (u - 0.5)), 0.0, f32::sigmoid, sigmoid) < 3.6e-7);
    }

    #[test]
    fn extremes_stay_in_range_and_nan_stays_nan() {
        assert_eq!(f32::INFINITY.sigmoid(), 1.0);
        assert!((0.0..1e-37).contains(&f32::NEG_INFINITY.sigmoid()));
        assert_eq!(0f32.sigmoid(), 0.5);
        assert_eq!(0f32.exp_nonpositive(), 1.0);
        assert_eq!(1f32.ln_from_one(), 0.0);
        assert!(f32::NAN.sigmoid().is_nan());
        assert!(f32::NAN.exp_nonpositive().is_nan());
    }
}
