//! Both algorithms at every level against the definition in `f64`.

mod fused;
mod rounded;
mod tensors;

use super::*;
use crate::simd_vector::{Level, with_level};
use proptest::prelude::*;

/// Values in -1..1 from a fixed sequence (SplitMix64).
fn noise(len: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (0..len)
        .map(|_| {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            ((z ^ (z >> 31)) >> 40) as f32 / (1 << 23) as f32 - 1.0
        })
        .collect()
}

fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().map(|&v| f64::from(v)).collect()
}

/// The largest difference, relative to the root mean square of `expected`.
fn error(got: &[f32], expected: &[f64]) -> f64 {
    assert_eq!(got.len(), expected.len());
    let mean = expected.iter().map(|v| v * v).sum::<f64>() / expected.len().max(1) as f64;
    let largest = got
        .iter()
        .zip(expected)
        .map(|(&g, &e)| {
            assert!(g.is_finite());
            (f64::from(g) - e).abs()
        })
        .fold(0.0, f64::max);
    if largest == 0.0 {
        0.0
    } else {
        largest / mean.sqrt()
    }
}

/// Largest errors allowed. Directly, rounding grows as the root of the number of terms: 475 of them reach 5.2e-6.
fn tolerance(geometry: &Geometry, winograd: bool) -> f64 {
    let terms = (geometry.weight_len() / geometry.out_channels().max(1)) as f64;
    if winograd {
        4e-5
    } else {
        5e-6 * (terms / 100.).sqrt().max(1.)
    }
}

/// Compares forward and all gradients with the definition.
fn compare(geometry: &Geometry, algorithm: Algorithm) {
    let tolerance = tolerance(geometry, algorithm.uses_winograd(geometry).unwrap());
    let weight = noise(geometry.weight_len(), 1);
    let input = noise(geometry.input_len(), 2);
    let gradient = noise(geometry.output_len(), 3);
    let at = |what: &str| {
        format!(
            "{what}, {geometry:?}, {algorithm:?}, {:?}",
            Level::current()
        )
    };

    let mut output = vec![f32::NAN; geometry.output_len()];
    let plain = Input::plain(&input);
    slices::forward(
        geometry,
        algorithm,
        plain,
        &weight,
        Epilogue::default(),
        &mut output,
    )
    .unwrap();
    let expected = reference::forward(geometry, &wide(&input), &wide(&weight), None);
    let found = error(&output, &expected);
    assert!(found < tolerance, "{found}: {}", at("forward"));

    let mut by_input = vec![f32::NAN; geometry.input_len()];
    let dy = Input::plain(&gradient);
    let none = Epilogue::default();
    slices::backward_data(geometry, algorithm, dy, &weight, none, &mut by_input).unwrap();
    let expected = reference::backward_data(geometry, &wide(&gradient), &wide(&weight));
    assert!(
        error(&by_input, &expected) < tolerance,
        "{}",
        at("gradient by data")
    );

    let mut by_weight = vec![f32::NAN; geometry.weight_len()];
    slices::backward_weight(geometry, algorithm, plain, dy, &mut by_weight).unwrap();
    let expected = reference::backward_weight(geometry, &wide(&input), &wide(&gradient));
    assert!(
        error(&by_weight, &expected) < tolerance,
        "{}",
        at("gradient by weight")
    );
    let mut by_bias = vec![f32::NAN; geometry.out_channels()];
    slices::backward_bias(geometry, &gradient, &mut by_bias).unwrap();
    let expected = reference::backward_bias(geometry, &wide(&gradient));
    assert!(
        error(&by_bias, &expected) < tolerance,
        "{}",
        at("gradient by bias")
    );
}

fn on_every_level(work: impl Fn()) {
    for level in Level::ALL.into_iter().filter(|level| level.is_available()) {
        with_level(level, &work).unwrap();
    }
}

fn geometry(input: [usize; 4], out_channels: usize, kernel: usize, stride: usize) -> Geometry {
    Geometry::new(input, [out_channels, input[1], kernel, kernel], stride).unwrap()
}

#[test]
fn sizes_from_one_pixel_up_agree_with_the_definition() {
    let shapes = [
        ([1, 2, 1, 1], 32),
        ([2, 5, 2, 3], 7),
        ([2, 32, 17, 17], 3),
        ([1, 2, 9, 225], 32),
        ([1, 33, 225, 5], 17),
        ([3, 40, 3, 30], 48),
        ([0, 4, 8, 8], 4),
    ];
    on_every_level(|| {
        for (input, out_channels) in shapes {
            compare(&geometry(input, out_channels, 1, 1), Algorithm::Direct);
            compare(&geometry(input, out_channels, 3, 1), Algorithm::Direct);
            compare(&geometry(input, out_channels, 3, 1), Algorithm::Winograd);
        }
    });
}

#[test]
fn strides_and_large_kernels_agree_with_the_definition() {
    on_every_level(|| {
        for (kernel, stride) in [(1, 2), (3, 2), (7, 2), (5, 1), (7, 1), (3, 3), (1, 3)] {
            compare(
                &geometry([2, 3, 17, 20], 18, kernel, stride),
                Algorithm::Direct,
            );
            compare(
                &geometry([1, 20, 2, 1], 5, kernel, stride),
                Algorithm::Direct,
            );
        }
    });
}

#[test]
fn wide_sums_on_few_rows_agree_with_the_definition() {
    // Found by the random sizes below.
    on_every_level(|| compare(&geometry([1, 19, 8, 39], 23, 5, 2), Algorithm::Direct));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn any_sizes_agree_with_the_definition(
        batch in 1_usize..3, ci in 1_usize..40, co in 1_usize..40, h in 1_usize..24, w in 1_usize..40,
        half in 0_usize..3, stride in 1_usize..4,
    ) {
        on_every_level(|| {
            compare(&geometry([batch, ci, h, w], co, 2 * half + 1, stride), Algorithm::Direct);
            compare(&geometry([batch, ci, h, w], co, 3, 1), Algorithm::Winograd);
        });
    }
}

#[test]
fn results_do_not_change_from_run_to_run() {
    for algorithm in [Algorithm::Direct, Algorithm::Winograd] {
        let geometry = geometry([3, 32, 40, 40], 32, 3, 1);
        let (input, gradient) = (
            noise(geometry.input_len(), 1),
            noise(geometry.output_len(), 2),
        );
        let run = || {
            let mut out = vec![0.0; geometry.weight_len()];
            let (input, gradient) = (Input::plain(&input), Input::plain(&gradient));
            slices::backward_weight(&geometry, algorithm, input, gradient, &mut out).unwrap();
            out
        };
        // Other tests restrict the process's level meanwhile.
        on_every_level(|| {
            let first = run();
            assert!((0..5).all(|_| run() == first), "{algorithm:?}");
        });
    }
}
