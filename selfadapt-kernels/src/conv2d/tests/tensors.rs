//! The candle operation: gradients through autograd, number types, and what it refuses.

use super::{error, geometry};
use crate::conv2d::*;
use candle_core::{Device, Var};

fn tensor(shape: &[usize], seed: u64, dtype: DType) -> Tensor {
    let values = super::noise(shape.iter().product(), seed);
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
fn tensors_that_no_variable_is_part_of_get_no_gradient() {
    let x = tensor(&[1, 2, 4, 4], 1, DType::F32);
    let weight = Var::from_tensor(&tensor(&[3, 2, 3, 3], 2, DType::F32)).unwrap();
    let y = conv2d(&x, &weight, None, 1, Algorithm::Auto).unwrap();
    let store = y.sum_all().unwrap().backward().unwrap();
    assert!(store.get(&x).is_none() && store.get(&weight).is_some());
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

#[test]
fn operands_of_the_wrong_length_are_refused() {
    let geometry = geometry([2, 3, 4, 4], 5, 3, 1);
    let (values, weight) = (
        super::noise(geometry.input_len(), 1),
        super::noise(geometry.weight_len(), 2),
    );
    let mut output = vec![0.0; geometry.output_len()];
    let mut message = |input: Input, epilogue: Epilogue| {
        slices::forward(
            &geometry,
            Algorithm::Auto,
            input,
            &weight,
            epilogue,
            &mut output,
        )
        .unwrap_err()
        .to_string()
    };
    let plain = Input::plain(&values);
    let short = [0.0; 2];
    let affine = Affine {
        scale: &short,
        shift: &short,
    };
    let texts = [
        message(Input::plain(&short), Epilogue::default()),
        message(
            Input {
                affine: Some(affine),
                ..plain
            },
            Epilogue::default(),
        ),
        message(
            Input {
                second: Some(Term {
                    values: &values,
                    scale: &short,
                }),
                ..plain
            },
            Epilogue::default(),
        ),
        message(
            plain,
            Epilogue {
                bias: Some(&short),
                ..Epilogue::default()
            },
        ),
        message(
            plain,
            Epilogue {
                residual: Some(&short),
                ..Epilogue::default()
            },
        ),
        message(
            plain,
            Epilogue {
                sums: Sums::Moments { center: &short },
                ..Epilogue::default()
            },
        ),
        message(
            plain,
            Epilogue {
                sums: Sums::Products { center: &[0.0; 5] },
                ..Epilogue::default()
            },
        ),
    ];
    for text in texts {
        assert!(
            text.starts_with("conv2d: expected") && text.contains("got"),
            "{text}"
        );
    }
}
