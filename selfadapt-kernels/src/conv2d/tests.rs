//! Both algorithms at every level against the definition in `f64`, and the candle operation around them.

use super::*;
use crate::simd_vector::{Level, with_level};
use candle_core::{Device, Var};
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

/// Largest errors allowed, measured with a margin of about four.
fn tolerance(winograd: bool) -> f64 {
    if winograd { 4e-5 } else { 5e-6 }
}

/// Compares forward and all gradients, with and without everything done on the way, with the definition.
fn compare(geometry: &Geometry, algorithm: Algorithm) {
    let tolerance = tolerance(algorithm.uses_winograd(geometry).unwrap());
    let planes = geometry.input_planes();
    let weight = noise(geometry.weight_len(), 1);
    let input = noise(geometry.input_len(), 2);
    let gradient = noise(geometry.output_len(), 3);
    let bias = noise(geometry.out_channels(), 4);
    let residual = noise(geometry.output_len(), 5);
    let scale = noise(planes.channels, 6);
    let shift = noise(planes.batch * planes.channels, 7);
    let at = |what: &str| {
        format!(
            "{what}, {geometry:?}, {algorithm:?}, {:?}",
            Level::current()
        )
    };

    let mut output = vec![f32::NAN; geometry.output_len()];
    let plain = Input::plain(&input);
    let run = |input, epilogue, output: &mut [f32]| {
        slices::forward(geometry, algorithm, input, &weight, epilogue, output).unwrap();
    };
    run(plain, Epilogue::default(), &mut output);
    let expected = reference::forward(geometry, &wide(&input), &wide(&weight), None);
    assert!(error(&output, &expected) < tolerance, "{}", at("forward"));

    // Everything at once: affine and ReLU while packing, bias and residual while storing.
    let changed: Vec<f64> = wide(&input)
        .iter()
        .enumerate()
        .map(|(i, v)| {
            let plane = i / planes.plane();
            let (scale, shift) = (scale[plane % planes.channels], shift[plane]);
            (v * f64::from(scale) + f64::from(shift)).max(0.0)
        })
        .collect();
    let fused = Input {
        values: &input,
        affine: Some(Affine {
            scale: &scale,
            shift: &shift,
        }),
        relu: true,
    };
    let epilogue = Epilogue {
        bias: Some(&bias),
        residual: Some(&residual),
    };
    run(fused, epilogue, &mut output);
    let mut expected = reference::forward(geometry, &changed, &wide(&weight), Some(&wide(&bias)));
    for (sum, residual) in expected.iter_mut().zip(&residual) {
        *sum += f64::from(*residual);
    }
    assert!(
        error(&output, &expected) < tolerance,
        "{}",
        at("fused forward")
    );

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
    slices::backward_weight(geometry, algorithm, fused, dy, &mut by_weight).unwrap();
    let expected = reference::backward_weight(geometry, &changed, &wide(&gradient));
    assert!(
        error(&by_weight, &expected) < tolerance,
        "{}",
        at("fused gradient by weight")
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

fn tensor(shape: &[usize], seed: u64, dtype: DType) -> Tensor {
    let values = noise(shape.iter().product(), seed);
    Tensor::from_vec(values, shape, &Device::Cpu)
        .unwrap()
        .to_dtype(dtype)
        .unwrap()
}

#[test]
fn candle_gradients_of_strided_views_agree_between_types() {
    // The input is a transposed view and the loss weighs every output differently.
    let gradients = |dtype: DType, algorithm: Algorithm| {
        let x = Var::from_tensor(&tensor(&[2, 18, 9, 13], 1, dtype)).unwrap();
        let weight = Var::from_tensor(&tensor(&[21, 18, 3, 3], 2, dtype)).unwrap();
        let bias = Var::from_tensor(&tensor(&[21], 3, dtype)).unwrap();
        let view = x.transpose(2, 3).unwrap();
        let y = conv2d(&view, &weight, Some(&bias), 1, algorithm).unwrap();
        assert_eq!(y.dims(), [2, 21, 13, 9]);
        let loss = (&y * tensor(&[2, 21, 13, 9], 4, dtype))
            .unwrap()
            .sum_all()
            .unwrap();
        let store = loss.backward().unwrap();
        [
            &y,
            store.get(&x).unwrap(),
            store.get(&weight).unwrap(),
            store.get(&bias).unwrap(),
        ]
        .map(|t| {
            t.to_dtype(DType::F64)
                .unwrap()
                .flatten_all()
                .unwrap()
                .to_vec1()
                .unwrap()
        })
    };
    let expected: [Vec<f64>; 4] = gradients(DType::F64, Algorithm::Auto);
    for algorithm in [Algorithm::Auto, Algorithm::Direct, Algorithm::Winograd] {
        let got: [Vec<f64>; 4] = gradients(DType::F32, algorithm);
        for (got, expected) in got.iter().zip(&expected) {
            let got: Vec<f32> = got.iter().map(|&v| v as f32).collect();
            assert!(error(&got, expected) < 4e-5, "{algorithm:?}");
        }
    }
}

#[test]
fn gradients_agree_with_finite_differences() {
    for (kernel, stride) in [(3, 1), (1, 1), (3, 2), (7, 2)] {
        let x = tensor(&[2, 3, 5, 4], 1, DType::F64);
        let weight = tensor(&[4, 3, kernel, kernel], 2, DType::F64);
        let bias = tensor(&[4], 3, DType::F64);
        let inputs = [x, weight, bias].map(|t| Var::from_tensor(&t).unwrap());
        let loss = |inputs: [&Tensor; 3]| {
            let y = conv2d(
                inputs[0],
                inputs[1],
                Some(inputs[2]),
                stride,
                Algorithm::Auto,
            )
            .unwrap();
            (y.sin().unwrap()).sum_all().unwrap()
        };
        let store = loss([&inputs[0], &inputs[1], &inputs[2]])
            .backward()
            .unwrap();
        for (which, input) in inputs.iter().enumerate() {
            let direction = tensor(input.dims(), 10 + which as u64, DType::F64);
            let shifted = |step: f64| {
                let moved = (input.as_tensor() + (&direction * step).unwrap()).unwrap();
                let mut all = [
                    inputs[0].as_tensor(),
                    inputs[1].as_tensor(),
                    inputs[2].as_tensor(),
                ];
                all[which] = &moved;
                loss(all).to_scalar::<f64>().unwrap()
            };
            let expected = (shifted(1e-5) - shifted(-1e-5)) / 2e-5;
            let slope = (store.get(input).unwrap() * &direction).unwrap();
            let slope = slope.sum_all().unwrap().to_scalar::<f64>().unwrap();
            assert!(
                (slope - expected).abs() < 1e-7 * expected.abs().max(1.0),
                "{slope} {expected}"
            );
        }
    }
}

#[test]
fn half_precision_comes_back_as_half() {
    let x = tensor(&[1, 4, 6, 6], 1, DType::BF16);
    let weight = tensor(&[5, 4, 3, 3], 2, DType::BF16);
    let y = conv2d(&x, &weight, None, 1, Algorithm::Auto).unwrap();
    let exact = conv2d(
        &x.to_dtype(DType::F64).unwrap(),
        &weight.to_dtype(DType::F64).unwrap(),
        None,
        1,
        Algorithm::Auto,
    );
    let difference = (y.to_dtype(DType::F64).unwrap() - exact.unwrap()).unwrap();
    let largest = difference
        .abs()
        .unwrap()
        .max_all()
        .unwrap()
        .to_scalar::<f64>()
        .unwrap();
    assert_eq!(y.dtype(), DType::BF16);
    assert!(largest < 0.05, "{largest}");
}

#[test]
fn mismatches_are_errors_that_name_both_sides() {
    let f32s = |shape: &[usize]| tensor(shape, 1, DType::F32);
    let (x, weight) = (f32s(&[1, 2, 4, 4]), f32s(&[3, 2, 3, 3]));
    let message = |x: &Tensor, weight: &Tensor, bias: Option<&Tensor>, algorithm| {
        conv2d(x, weight, bias, 2, algorithm)
            .unwrap_err()
            .to_string()
    };
    let cases = [
        (
            message(&f32s(&[2, 4, 4]), &weight, None, Algorithm::Auto),
            "got [2, 4, 4]",
        ),
        (
            message(&x, &f32s(&[3, 1, 3, 3]), None, Algorithm::Auto),
            "[Co, 2, k, k]",
        ),
        (
            message(&x, &weight, Some(&f32s(&[4])), Algorithm::Auto),
            "expected bias [3], got [4]",
        ),
        (
            message(
                &x,
                &tensor(&[3, 2, 3, 3], 1, DType::F64),
                None,
                Algorithm::Auto,
            ),
            "F64",
        ),
        (message(&x, &weight, None, Algorithm::Winograd), "stride 2"),
        (
            message(
                &tensor(&[1, 2, 4, 4], 1, DType::U8),
                &tensor(&[3, 2, 3, 3], 1, DType::U8),
                None,
                Algorithm::Auto,
            ),
            "U8",
        ),
    ];
    for (text, part) in cases {
        assert!(
            text.starts_with("conv2d: expected") && text.contains(part),
            "{text}"
        );
    }
    let geometry = geometry([1, 2, 4, 4], 3, 3, 1);
    let mut out = [0.0; 3];
    let text = slices::backward_bias(&geometry, &[0.0; 5], &mut out)
        .unwrap_err()
        .to_string();
    assert!(text.contains("48") && text.contains("got 5"), "{text}");
}
