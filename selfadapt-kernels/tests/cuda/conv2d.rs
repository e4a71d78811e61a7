//! Convolution: the numbers of its CUDA kernels against the CPU's direct form.

use std::sync::Arc;

use selfadapt_kernels::conv2d::cuda::{self, Filters, backward_bias, backward_weight};
use selfadapt_kernels::conv2d::{
    Affine, Algorithm, ChannelSums, Epilogue, Gate, Geometry, Input, PackedFilters, Sums, Term,
    slices,
};
use selfadapt_kernels::cuda::{Array, Machine};
use selfadapt_kernels::device::Precision;

use crate::emulator::{largest_difference, numbers};
use crate::machines::each_machine;

/// A tensor `[B, C, H, W]` with numbers of its channels, here and on a machine.
struct Operand {
    values: Vec<f32>,
    second: Vec<f32>,
    scale: Vec<f32>,
    shift: Vec<f32>,
    along: Vec<f32>,
    there: [Array<f32>; 5],
}

impl Operand {
    /// With a shift for each image, or one for all.
    fn new(
        machine: &Arc<dyn Machine>,
        (seed, of_images): (u64, bool),
        batch: usize,
        channels: usize,
        plane: usize,
    ) -> Self {
        let len = batch * channels * plane;
        let shifts = if of_images { batch } else { 1 } * channels;
        let here = [
            numbers(seed, len),
            numbers(seed + 1, len),
            numbers(seed + 2, channels),
            numbers(seed + 3, shifts),
            numbers(seed + 4, channels),
        ];
        let there = here.each_ref().map(|v| Array::of(machine, v).unwrap());
        let [values, second, scale, shift, along] = here;
        Self {
            values,
            second,
            scale,
            shift,
            along,
            there,
        }
    }

    fn affine(&self) -> (Affine<'_>, cuda::Affine<'_>) {
        let here = Affine {
            scale: &self.scale,
            shift: &self.shift,
        };
        let there = cuda::Affine {
            scale: &self.there[2],
            shift: &self.there[3],
        };
        (here, there)
    }

    fn input(&self, relu: bool) -> (Input<'_>, cuda::Input<'_>) {
        let (here, there) = self.affine();
        let here = Input {
            values: &self.values,
            affine: Some(here),
            second: Some(Term {
                values: &self.second,
                scale: &self.along,
            }),
            relu,
        };
        let there = cuda::Input {
            values: &self.there[0],
            affine: Some(there),
            second: Some(cuda::Term {
                values: &self.there[1],
                scale: &self.there[4],
            }),
            relu,
        };
        (here, there)
    }
}

fn close(ours: &Array<f32>, theirs: &[f32], most: f32, what: &str) {
    let off = largest_difference(&ours.read().unwrap(), theirs);
    let largest = theirs.iter().fold(1.0_f32, |most, v| most.max(v.abs()));
    assert!(off <= most * largest, "{what}: {off} of {largest}");
}

fn sums_close(ours: &cuda::ChannelSums, theirs: &ChannelSums, most: f64, what: &str) {
    let ours = ours.0.read().unwrap();
    assert_eq!(ours.len(), 2 * theirs.first.len());
    for (ours, theirs) in ours.iter().zip(theirs.first.iter().chain(&theirs.second)) {
        let most = most * theirs.abs().max(1.0);
        assert!((ours - theirs).abs() <= most, "{what}: {ours} for {theirs}");
    }
}

/// Forward and the gradients with everything that can be fused into them; `most` is what results may be off by, of the
/// largest.
fn compare(
    machine: &Arc<dyn Machine>,
    input: [usize; 4],
    co: usize,
    side: usize,
    (precision, most): (Precision, f32),
) {
    let [batch, ci, height, width] = input;
    let geometry = Geometry::new(input, [co, ci, side, side], 1).unwrap();
    let at = format!("{input:?} to {co}, side {side}");
    let of = |values: &[f32]| Array::of(machine, values).unwrap();
    let plane = height * width;
    let x = Operand::new(machine, (10, true), batch, ci, plane);
    let dy = Operand::new(machine, (20, false), batch, co, plane);
    let weight: Vec<f32> = numbers(1, geometry.weight_len())
        .iter()
        .map(|v| v / ((ci * side * side) as f32).sqrt())
        .collect();
    let (bias, center) = (numbers(2, co), numbers(3, co));
    let (weight_there, bias_there, center_there) = (of(&weight), of(&bias), of(&center));

    let ((here, there), residual) = (x.input(true), &dy);
    let epilogue = Epilogue {
        bias: Some(&bias),
        residual: Some(&residual.values),
        sums: Sums::Moments { center: &center },
        ..Epilogue::default()
    };
    let mut y = vec![0.0; geometry.output_len()];
    let pack = PackedFilters::forward(&geometry, Algorithm::Direct, &weight).unwrap();
    let sums = pack.apply(&geometry, here, epilogue, &mut y).unwrap();
    let epilogue = cuda::Epilogue {
        bias: Some(&bias_there),
        residual: Some(&residual.there[0]),
        sums: cuda::Sums::Moments(&center_there),
        ..cuda::Epilogue::default()
    };
    let filters = Filters::forward(&geometry, &weight_there).unwrap();
    let (ours, sums_there) = filters
        .apply(&geometry, there, epilogue, precision)
        .unwrap();
    close(&ours, &y, most, &format!("forward, {at}"));
    sums_close(&sums_there.unwrap(), &sums, 50.0 * f64::from(most), &at);
    let plain = cuda::Epilogue::default();
    let (_, none) = filters.apply(&geometry, there, plain, precision).unwrap();
    assert!(none.is_none());

    let (here, there) = dy.input(false);
    let center = numbers(4, ci);
    let center_there = of(&center);
    for relu in [false, true] {
        let (affine, affine_there) = x.affine();
        let epilogue = Epilogue {
            gate: Some(Gate {
                values: &x.values,
                affine,
                relu,
            }),
            sums: Sums::Products { center: &center },
            ..Epilogue::default()
        };
        let mut dx = vec![0.0; geometry.input_len()];
        let pack = PackedFilters::backward_data(&geometry, Algorithm::Direct, &weight).unwrap();
        let sums = pack.apply(&geometry, here, epilogue, &mut dx).unwrap();
        let epilogue = cuda::Epilogue {
            gate: Some(cuda::Gate {
                values: &x.there[0],
                affine: affine_there,
                relu,
            }),
            sums: cuda::Sums::Products(&center_there),
            ..cuda::Epilogue::default()
        };
        let filters = Filters::backward_data(&geometry, &weight_there).unwrap();
        let (ours, sums_there) = filters
            .apply(&geometry, there, epilogue, precision)
            .unwrap();
        close(&ours, &dx, most, &format!("by data, {at}"));
        sums_close(&sums_there.unwrap(), &sums, 50.0 * f64::from(most), &at);
    }

    let (by_output, by_output_there) = dy.input(false);
    let (here, there) = x.input(true);
    let mut by_weight = vec![0.0; geometry.weight_len()];
    slices::backward_weight(
        &geometry,
        Algorithm::Direct,
        here,
        by_output,
        &mut by_weight,
    )
    .unwrap();
    let ours = backward_weight(&geometry, there, by_output_there, precision).unwrap();
    close(&ours, &by_weight, most, &format!("by weight, {at}"));
    let mut by_bias = vec![0.0; co];
    slices::backward_bias(&geometry, &dy.values, &mut by_bias).unwrap();
    let ours = backward_bias(&geometry, &dy.there[0]).unwrap();
    close(&ours, &by_bias, 2e-6, &format!("by bias, {at}"));
}

#[test]
fn convolutions_and_their_gradients_are_the_cpus() {
    each_machine(|machine| {
        for side in [1, 3] {
            for (batch, ci, height, width, co) in [
                (2, 1, 1, 1, 3),
                (1, 2, 2, 3, 1),
                (2, 3, 17, 2, 2),
                (2, 32, 17, 17, 32),
                (1, 65, 3, 17, 2),
                (2, 2, 12, 16, 65),
                (1, 65, 17, 16, 65),
                (3, 33, 4, 40, 64),
            ] {
                compare(
                    &machine,
                    [batch, ci, height, width],
                    co,
                    side,
                    (Precision::F32, 2e-6),
                );
            }
        }
    });
}

#[test]
fn tensor_cores_multiply_the_same_with_rounded_factors() {
    each_machine(|machine| {
        // On a GPU that has them; the emulator shows which lane holds what.
        for precision in [(Precision::Tf32, 2e-3), (Precision::Bf16, 2e-2)] {
            for side in [1, 3] {
                for (batch, ci, height, width, co) in
                    [(2, 3, 5, 7, 32), (1, 17, 12, 12, 65), (1, 9, 8, 17, 64)]
                {
                    compare(&machine, [batch, ci, height, width], co, side, precision);
                }
            }
        }
    });
}

#[test]
fn no_image_is_no_result_and_no_gradient() {
    each_machine(|machine| {
        let geometry = Geometry::new([0, 3, 4, 4], [5, 3, 3, 3], 1).unwrap();
        let weight = Array::of(&machine, &numbers(1, geometry.weight_len())).unwrap();
        let none = Array::<f32>::zeros(&machine, 0).unwrap();
        let input = cuda::Input::plain(&none);
        let filters = Filters::forward(&geometry, &weight).unwrap();
        let epilogue = cuda::Epilogue::default();
        let (y, _) = filters
            .apply(&geometry, input, epilogue, Precision::F32)
            .unwrap();
        assert!(y.is_empty());
        let by_weight = backward_weight(&geometry, input, input, Precision::F32).unwrap();
        assert_eq!(by_weight.read().unwrap(), vec![0.0; weight.len()]);
        let by_bias = backward_bias(&geometry, &none).unwrap();
        assert_eq!(by_bias.read().unwrap(), [0.0; 5]);
    });
}

#[test]
fn what_does_not_fit_is_refused_by_name() {
    each_machine(|machine| {
        let of = |len| Array::of(&machine, &numbers(1, len)).unwrap();
        let geometry = Geometry::new([1, 3, 4, 4], [5, 3, 3, 3], 1).unwrap();
        let filters = Filters::forward(&geometry, &of(geometry.weight_len())).unwrap();
        let say = |geometry: &Geometry, values: &Array<f32>, epilogue| {
            let input = cuda::Input::plain(values);
            let refused = filters.apply(geometry, input, epilogue, Precision::F32);
            refused.unwrap_err().to_string()
        };
        let plain = cuda::Epilogue::default();
        let text = say(&geometry, &of(47), plain);
        assert!(
            text.contains("conv2d: expected the input to have 48 numbers, got 47"),
            "{text}"
        );
        let center = of(5);
        let epilogue = cuda::Epilogue {
            sums: cuda::Sums::Products(&center),
            ..plain
        };
        let text = say(&geometry, &of(48), epilogue);
        assert!(text.contains("expected a gate"), "{text}");
        let other = Geometry::new([1, 3, 4, 4], [6, 3, 3, 3], 1).unwrap();
        let text = say(&other, &of(48), plain);
        assert!(text.contains("from 3 to 6 channels"), "{text}");
        let wide = Geometry::new([1, 3, 4, 4], [5, 3, 5, 5], 1).unwrap();
        let text = Filters::forward(&wide, &of(wide.weight_len())).unwrap_err();
        assert!(text.to_string().contains("got 5x5"), "{text}");
    });
}
