//! Blends against their definition, and against pooling's and upsampling's own gradients.

use super::{Blend, blend, blend_through_max_pool, blend_through_nearest_2x};
use crate::conv2d::Term;
use crate::max_pool::{self, Window};
use crate::upsample::nearest_2x_backward;

fn noise(len: usize, seed: u64) -> Vec<f32> {
    let mix = |i: u64| (i + 1).wrapping_mul(seed * 2 + 0x9e37_79b9_7f4a_7c15);
    (0..len as u64)
        .map(|i| (mix(i) >> 40) as f32 / (1u64 << 23) as f32 - 1.0)
        .collect()
}

/// `sum_k scale_k x_k + shift`, in f64.
fn plain(terms: &Blend, channels: usize, pixels: usize, len: usize) -> Vec<f64> {
    (0..len)
        .map(|i| {
            let (plane, channel) = (i / pixels, i / pixels % channels);
            let of = |t: &Term| f64::from(t.scale[channel]) * f64::from(t.values[i]);
            let shift = terms.shift.get(plane).copied().unwrap_or(0.0);
            terms.terms.iter().map(of).sum::<f64>() + f64::from(shift)
        })
        .collect()
}

fn agree(found: &[f32], expected: &[f64]) {
    assert_eq!(found.len(), expected.len());
    for (found, expected) in found.iter().zip(expected) {
        assert!(
            (f64::from(*found) - expected).abs() < 1e-5,
            "{found} {expected}"
        );
    }
}

#[test]
fn blends_of_none_to_four_terms_are_their_sums() {
    for shape in [[0, 3, 4, 4], [1, 1, 1, 1], [2, 3, 5, 17], [1, 2, 225, 3]] {
        let [batch, channels, height, width] = shape;
        let (pixels, len) = (height * width, batch * channels * height * width);
        for count in 0..5 {
            let values: Vec<_> = (0..count).map(|k| noise(len, k)).collect();
            let scales: Vec<_> = (0..count).map(|k| noise(channels, 10 + k)).collect();
            let terms: Vec<Term> = values
                .iter()
                .zip(&scales)
                .map(|(values, scale)| Term { values, scale })
                .collect();
            let shift = noise(batch * channels, 20);
            let terms = Blend {
                terms: &terms,
                shift: if count == 2 { &[] } else { &shift },
            };
            let (own, before) = (noise(channels, 30), noise(len, 31));
            let mut out = before.clone();
            blend(shape, Some(&own), terms, &mut out).unwrap();
            let mut expected = plain(&terms, channels, pixels, len);
            for (i, value) in expected.iter_mut().enumerate() {
                *value += f64::from(own[i / pixels % channels]) * f64::from(before[i]);
            }
            agree(&out, &expected);
        }
    }
}

#[test]
fn gradients_pass_through_pooling_and_upsampling_as_by_themselves() {
    for [batch, channels, height, width] in
        [[0, 2, 2, 2], [2, 3, 2, 2], [1, 2, 18, 6], [1, 1, 4, 300]]
    {
        let (small, large) = (
            [batch, channels, height, width],
            [batch, channels, 2 * height, 2 * width],
        );
        let (few, many) = (
            small.iter().product::<usize>(),
            large.iter().product::<usize>(),
        );
        let (a, b, scale, shift) = (
            noise(few, 1),
            noise(few, 2),
            noise(channels, 3),
            noise(batch * channels, 4),
        );
        let terms = [
            Term {
                values: &a,
                scale: &scale,
            },
            Term {
                values: &b,
                scale: &scale,
            },
        ];
        let of_small = Blend {
            terms: &terms,
            shift: &shift,
        };
        let (x, c) = (noise(many, 5), noise(many, 6));
        let terms = [Term {
            values: &c,
            scale: &scale,
        }];
        let of_large = Blend {
            terms: &terms,
            shift: &shift,
        };
        let gradient: Vec<f32> = plain(&of_small, channels, height * width, few)
            .iter()
            .map(|&v| v as f32)
            .collect();

        let mut pooled = vec![0.0; many];
        let window = Window {
            height: 2 * height,
            width: 2 * width,
            kernel: 2,
            stride: 2,
        };
        max_pool::backward(&x, &gradient, window, &mut pooled);
        let before = noise(many, 7);
        let mut out = before.clone();
        blend_through_max_pool(large, None, of_large, &x, of_small, &mut out).unwrap();
        let mut expected = plain(&of_large, channels, 4 * height * width, many);
        for ((sum, before), pooled) in expected.iter_mut().zip(&before).zip(&pooled) {
            *sum += f64::from(*before) + f64::from(*pooled);
        }
        agree(&out, &expected);

        let large: Vec<f32> = plain(&of_large, channels, 4 * height * width, many)
            .iter()
            .map(|&v| v as f32)
            .collect();
        let mut gathered = vec![0.0; few];
        nearest_2x_backward(&large, height, width, &mut gathered);
        let mut out = vec![f32::NAN; few];
        blend_through_nearest_2x(small, of_large, of_small, &mut out).unwrap();
        let expected: Vec<f64> = gathered
            .iter()
            .zip(&gradient)
            .map(|(a, b)| f64::from(*a) + f64::from(*b))
            .collect();
        agree(&out, &expected);
    }
}

#[test]
fn errors_name_the_operation_and_the_lengths() {
    let none = Blend {
        terms: &[],
        shift: &[],
    };
    let say = |result: candle_core::Result<()>| result.unwrap_err().to_string();
    assert!(
        say(blend([1, 1, 2, 2], None, none, &mut [0.0; 3]))
            .contains("blend: expected an output of 4 values, got 3")
    );
    let short = [Term {
        values: &[0.0; 3],
        scale: &[1.0],
    }];
    let short = Blend {
        terms: &short,
        shift: &[],
    };
    assert!(
        say(blend([1, 1, 2, 2], None, short, &mut [0.0; 4]))
            .contains("terms of 4 values and 1 factors, got 3 and 1")
    );
    let odd = blend_through_max_pool([1, 1, 3, 2], None, none, &[0.0; 6], none, &mut [0.0; 6]);
    assert!(say(odd).contains("even sides, got 3 x 2"));
}
