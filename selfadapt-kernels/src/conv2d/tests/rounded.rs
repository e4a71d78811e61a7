//! Factors rounded to bf16, against the definition in `f64` of the rounded numbers: on tiles, and in the plain loops that stand for
//! them below AVX-512.

use super::*;

/// The nearest number of 8 binary places, written another way than the kernel's.
fn rounded(value: &f32) -> f32 {
    let unit = 2f64.powi(f64::from(value.abs()).log2().floor() as i32 - 7);
    match *value == 0. {
        true => 0.,
        false => ((f64::from(*value) / unit).round_ties_even() * unit) as f32,
    }
}

fn all_rounded(values: &[f32]) -> Vec<f64> {
    values
        .iter()
        .map(|value| f64::from(rounded(value)))
        .collect()
}

/// Compares forward and the gradient by the input.
fn compare_rounded(geometry: &Geometry) {
    let (weight, input, gradient) = (
        noise(geometry.weight_len(), 1),
        noise(geometry.input_len(), 2),
        noise(geometry.output_len(), 3),
    );
    let tolerance = tolerance(geometry, false);
    let at = |what: &str| format!("{what}, {geometry:?}, {:?}", Level::current());
    let none = Epilogue::default();

    assert!(bf16::suits(geometry, false));
    let mut output = vec![f32::NAN; geometry.output_len()];
    let plain = Input::plain(&input);
    slices::forward(geometry, Algorithm::Bf16, plain, &weight, none, &mut output).unwrap();
    let (x, w) = (all_rounded(&input), all_rounded(&weight));
    let expected = reference::forward(geometry, &x, &w, None);
    let found = error(&output, &expected);
    assert!(found < tolerance, "{found}: {}", at("forward"));

    if bf16::suits(geometry, true) {
        let mut by_input = vec![f32::NAN; geometry.input_len()];
        let dy = Input::plain(&gradient);
        slices::backward_data(geometry, Algorithm::Bf16, dy, &weight, none, &mut by_input).unwrap();
        let expected = reference::backward_data(geometry, &all_rounded(&gradient), &w);
        let found = error(&by_input, &expected);
        assert!(found < tolerance, "{found}: {}", at("gradient by data"));
    }
}

#[test]
fn rounded_sums_are_those_of_the_rounded_numbers() {
    let shapes = [
        ([1, 32, 1, 1], 32),
        ([2, 32, 2, 3], 3),
        ([1, 64, 17, 17], 48),
        ([1, 32, 3, 225], 16),
        ([2, 96, 5, 33], 64),
        ([1, 32, 40, 16], 33),
        ([0, 32, 8, 8], 4),
    ];
    on_every_level(|| {
        for (input, out_channels) in shapes {
            for kernel in [1, 3, 5] {
                compare_rounded(&geometry(input, out_channels, kernel, 1));
            }
        }
    });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]
    #[test]
    fn any_sizes_agree_with_the_rounded_definition(
        batch in 1_usize..3, depth in 1_usize..4, co in 1_usize..70, h in 1_usize..24, w in 1_usize..70, half in 0_usize..2,
    ) {
        let geometry = geometry([batch, 32 * depth, h, w], co, 2 * half + 1, 1);
        on_every_level(|| compare_rounded(&geometry));
    }
}

#[test]
fn what_does_not_suit_is_computed_exactly() {
    let few = geometry([1, 31, 9, 9], 32, 3, 1);
    let strided = geometry([1, 32, 9, 9], 32, 3, 2);
    assert!(!bf16::suits(&few, false) && bf16::suits(&few, true));
    assert!(!bf16::suits(&strided, false));
    let run = |geometry: &Geometry, algorithm: Algorithm| {
        let (input, weight) = (
            noise(geometry.input_len(), 2),
            noise(geometry.weight_len(), 1),
        );
        let mut output = vec![0.; geometry.output_len()];
        let (input, none) = (Input::plain(&input), Epilogue::default());
        slices::forward(geometry, algorithm, input, &weight, none, &mut output).unwrap();
        output
    };
    on_every_level(|| {
        for geometry in [&few, &strided] {
            assert!(run(geometry, Algorithm::Bf16) == run(geometry, Algorithm::Auto));
        }
    });
}

#[test]
fn what_is_not_a_number_or_beyond_bf16_stays_so() {
    let geometry = geometry([1, 32, 1, 2], 1, 1, 1);
    let weight = vec![1.; 32];
    for (odd, expected) in [(f32::NAN, f32::NAN), (f32::INFINITY, f32::INFINITY)] {
        let mut input = vec![0.; 64];
        input[0] = odd;
        on_every_level(|| {
            let (input, none) = (Input::plain(&input), Epilogue::default());
            let mut output = vec![0.; 2];
            slices::forward(
                &geometry,
                Algorithm::Bf16,
                input,
                &weight,
                none,
                &mut output,
            )
            .unwrap();
            assert_eq!(output[0].is_nan(), expected.is_nan(), "{output:?}");
            assert!(!output[0].is_finite() && output[1] == 0., "{output:?}");
        });
    }
}
