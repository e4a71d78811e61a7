//! Every instruction set that this processor offers computes the same bits, in each operation that is compiled for several.
//!
//! The level is one for the whole process, so this is a program of its own with one test. Convolution, whose levels round
//! differently, is compared level by level in its own tests.

use candle_core::{DType, Device, Result, Tensor, Var};
use selfadapt_kernels::adamw::{AdamW, Settings};
use selfadapt_kernels::batch_norm::{batch_norm_eval, batch_norm_train};
use selfadapt_kernels::blend::{Blend, blend, blend_through_max_pool};
use selfadapt_kernels::conv2d::Term;
use selfadapt_kernels::follow_flows::{Field, follow_flows};
use selfadapt_kernels::label_flows::label_flows;
use selfadapt_kernels::masked_loss::{masked_bce_with_logits, masked_cross_entropy, masked_mse};
use selfadapt_kernels::max_pool::max_pool2d;
use selfadapt_kernels::quantile::quantile_per_channel;
use selfadapt_kernels::simd::{Level, detected, restrict};
use selfadapt_kernels::star_loss::{Penalty, star_loss};
use selfadapt_kernels::upsample::{bilinear, nearest_2x};
use selfadapt_kernels::views::{Activation, View, ViewsMerge, turn};

/// What an operation computed, as bits.
type Found = Vec<(String, Vec<u64>)>;

/// Values in -1..1 that follow from the seed, `shape` of them.
fn numbers(seed: usize, shape: &[usize], dtype: DType) -> Result<Tensor> {
    let len: usize = shape.iter().product();
    let values: Vec<f32> = (0..len)
        .map(|i| ((i + 31 * seed) * 7919 % 2003) as f32 / 1001.5 - 1.0)
        .collect();
    Tensor::from_vec(values, shape, &Device::Cpu)?.to_dtype(dtype)
}

fn bits(tensor: &Tensor) -> Result<Vec<u64>> {
    let values: Vec<f64> = tensor.to_dtype(DType::F64)?.flatten_all()?.to_vec1()?;
    Ok(values.into_iter().map(f64::to_bits).collect())
}

/// The result of `of` on `inputs`, and of the sum of its squares the gradient by each.
fn with_gradients(
    name: &str,
    inputs: &[Tensor],
    found: &mut Found,
    of: impl Fn(&[Var]) -> Result<Tensor>,
) -> Result<()> {
    let vars: Vec<Var> = inputs.iter().map(Var::from_tensor).collect::<Result<_>>()?;
    let y = of(&vars)?;
    found.push((name.to_owned(), bits(&y)?));
    let gradients = y.sqr()?.sum_all()?.backward()?;
    for (i, var) in vars.iter().enumerate() {
        let gradient = gradients.get(var).map_or(Ok(Vec::new()), bits)?;
        assert_eq!(gradient.len(), var.elem_count(), "{name}, gradient {i}");
        found.push((format!("{name}, gradient {i}"), gradient));
    }
    Ok(())
}

/// The layers on maps of `shape`: odd widths, and widths beyond the blocks that they work in.
fn layers(shape: [usize; 4], dtype: DType, found: &mut Found) -> Result<()> {
    let [_, channels, height, width] = shape;
    let x = numbers(1, &shape, dtype)?;
    let vector = |seed| numbers(seed, &[channels], dtype);
    let name = |what: &str| format!("{what} of {shape:?} {dtype:?}");
    let normed = [x.clone(), vector(2)?, vector(3)?];
    for relu in [false, true] {
        with_gradients(&name("batch_norm_train"), &normed, found, |v| {
            Ok(batch_norm_train(&v[0], &v[1], &v[2], 1e-5, relu)?.y)
        })?;
        let moments = batch_norm_train(&normed[0], &normed[1], &normed[2], 1e-5, relu)?;
        found.push((name("batch_norm_train, mean"), bits(&moments.mean)?));
        found.push((name("batch_norm_train, variance"), bits(&moments.variance)?));
        let (mean, variance) = (vector(4)?, (vector(5)? + 1.5)?);
        with_gradients(&name("batch_norm_eval"), &normed, found, |v| {
            batch_norm_eval(&v[0], &v[1], &v[2], &mean, &variance, 1e-5, relu)
        })?;
    }
    let only = [x];
    for (kernel, stride) in [(2, 2), (3, 2), (2, 1), (2, 3)] {
        if kernel <= height.min(width) {
            let name = name(&format!("max_pool2d {kernel} {stride}"));
            with_gradients(&name, &only, found, |v| max_pool2d(&v[0], kernel, stride))?;
        }
    }
    with_gradients(&name("nearest_2x"), &only, found, |v| nearest_2x(&v[0]))?;
    with_gradients(&name("bilinear"), &only, found, |v| {
        bilinear(&v[0], 2 * height + 1, width.div_ceil(2))
    })
}

/// The losses, also where a map is longer than the runs that it is cut into.
fn losses(shape: [usize; 4], dtype: DType, found: &mut Found) -> Result<()> {
    let [batch, _, height, width] = shape;
    let name = |what: &str| format!("{what} of {shape:?} {dtype:?}");
    let logits = [(numbers(1, &shape, dtype)? * 6.0)?];
    let target = ((numbers(2, &shape, dtype)? + 1.0)? / 2.0)?;
    let mask = numbers(3, &shape, dtype)?.ge(0.0)?.to_dtype(dtype)?;
    with_gradients(&name("bce"), &logits, found, |v| {
        masked_bce_with_logits(&v[0], &target, &mask)
    })?;
    with_gradients(&name("mse"), &logits, found, |v| {
        masked_mse(&v[0], &target, &mask)
    })?;
    let mask = mask.narrow(1, 0, 1)?.contiguous()?;
    let shares = target.broadcast_div(&target.sum_keepdim(1)?)?;
    with_gradients(&name("cross_entropy"), &logits, found, |v| {
        masked_cross_entropy(&v[0], &shares, &mask)
    })?;
    let weights = (numbers(4, &[batch, 1, height, width], dtype)? + 1.0)?;
    let right = (target * 9.0)?;
    for penalty in [Penalty::Absolute, Penalty::Squared, Penalty::Overlap] {
        with_gradients(
            &name(&format!("star_loss {penalty:?}")),
            &logits,
            found,
            |v| star_loss(&v[0], &right, &weights, penalty, 0.1),
        )?;
    }
    Ok(())
}

fn views(shape: [usize; 4], dtype: DType, found: &mut Found) -> Result<()> {
    let [batch, channels, height, width] = shape;
    for activation in [
        Activation::Identity,
        Activation::Sigmoid,
        Activation::Softmax,
    ] {
        let mut merge = ViewsMerge::new(activation);
        let same: Vec<(usize, f32)> = (0..channels).map(|channel| (channel, 1.0)).collect();
        for (seed, view) in View::ALL.into_iter().enumerate() {
            let sides = if view.swaps_axes() {
                [width, height]
            } else {
                [height, width]
            };
            let output = numbers(seed, &[batch, channels, sides[0], sides[1]], dtype)?;
            found.push((format!("turn {view:?}"), bits(&turn(&output, view)?)?));
            merge.push(&output, view, &same)?;
        }
        let (mean, spread) = merge.finish()?;
        found.push((format!("mean {activation:?} {shape:?}"), bits(&mean)?));
        found.push((format!("spread {activation:?} {shape:?}"), bits(&spread)?));
    }
    let quantiles = quantile_per_channel(&numbers(9, &shape, DType::F32)?, None, 0.8)?;
    let quantiles = quantiles
        .into_iter()
        .flatten()
        .map(|q| u64::from(q.to_bits()));
    found.push((format!("quantile {shape:?}"), quantiles.collect()));
    Ok(())
}

fn optimiser(found: &mut Found) -> Result<()> {
    let lengths = [1, 17, 70_001];
    let vars = |seed: usize| -> Result<Vec<Var>> {
        lengths
            .iter()
            .map(|&len| Var::from_tensor(&numbers(seed, &[len], DType::F32)?))
            .collect()
    };
    let (weights, teachers) = (vars(1)?, vars(2)?);
    let names = ["a", "b", "c"];
    let others: Vec<(Tensor, Tensor)> = lengths
        .iter()
        .map(|&len| {
            Ok((
                numbers(3, &[len], DType::F32)?,
                numbers(4, &[len], DType::F32)?,
            ))
        })
        .collect::<Result<_>>()?;
    let settings = Settings {
        rate: 1e-2,
        weight_decay: 0.05,
        l2sp: 0.3,
        scale: 0.7,
    };
    let mut optimizer = AdamW::default();
    for _ in 0..3 {
        let items: Vec<_> = (0..3)
            .map(|i| (names[i], &weights[i], &others[i].0, &others[i].1))
            .collect();
        let teachers: Vec<&Var> = teachers.iter().collect();
        let pulled = optimizer.step_with_ema(&items, &teachers, 0.99, &settings)?;
        found.push(("adamw, pull".into(), vec![pulled.to_bits()]));
    }
    for (weight, teacher) in weights.iter().zip(&teachers) {
        found.push(("adamw, weight".into(), bits(weight)?));
        found.push(("adamw, teacher".into(), bits(teacher)?));
    }
    Ok(())
}

fn blends([height, width]: [usize; 2], found: &mut Found) -> Result<()> {
    let shape = [2, 3, height, width];
    let list = |seed, shape: &[usize]| {
        numbers(seed, shape, DType::F32)?
            .flatten_all()?
            .to_vec1::<f32>()
    };
    let (a, b, c) = (list(1, &shape)?, list(2, &shape)?, list(3, &shape)?);
    let (scale, shift) = (list(4, &[3])?, list(5, &[6])?);
    let all = [&a, &b, &c].map(|values| Term {
        values,
        scale: &scale,
    });
    let push = |found: &mut Found, out: Vec<f32>| {
        let out = out.into_iter().map(|value| u64::from(value.to_bits()));
        found.push((format!("blend {shape:?}"), out.collect()));
    };
    for count in 0..=3 {
        let terms = Blend {
            terms: &all[..count],
            shift: &shift,
        };
        let mut out = list(6, &shape)?;
        blend(shape, Some(&scale), terms, &mut out)?;
        push(found, out);
    }
    let halved = [2, 3, height / 2, width / 2];
    let pooled = list(7, &halved)?;
    let pooled = [Term {
        values: &pooled,
        scale: &scale,
    }];
    let pooled = Blend {
        terms: &pooled,
        shift: &[],
    };
    let own = Blend {
        terms: &all[..1],
        shift: &shift,
    };
    let mut out = list(6, &shape)?;
    blend_through_max_pool(shape, None, own, &b, pooled, &mut out)?;
    push(found, out);
    Ok(())
}

fn flows(found: &mut Found) -> Result<()> {
    let (height, width) = (37, 70);
    let labels: Vec<u32> = (0..height * width)
        .map(|i| ((i / width / 9) * 8 + i % width / 9 + 1) as u32 * u32::from(i % width % 9 != 0))
        .collect();
    let steps = label_flows(&labels, height, width)?;
    found.push((
        "label_flows".into(),
        steps.iter().map(|step| step.to_bits()).collect(),
    ));
    let steps: Vec<f32> = steps.into_iter().map(|step| step as f32).collect();
    let field = Field::new(&steps, height, width)?;
    let starts: Vec<u32> = (0..(height * width) as u32)
        .filter(|i| i % 3 != 0)
        .collect();
    for interpolate in [false, true] {
        let ends = follow_flows(&field, &starts, 200, interpolate)?;
        let ends = ends.into_iter().flatten().map(|at| u64::from(at.to_bits()));
        found.push((format!("follow_flows {interpolate}"), ends.collect()));
    }
    Ok(())
}

fn everything() -> Result<Found> {
    let mut found = Vec::new();
    for dtype in [DType::F32, DType::F64] {
        for shape in [
            [1, 2, 1, 1],
            [2, 3, 17, 31],
            [1, 2, 4, 225],
            [1, 1, 36, 302],
        ] {
            layers(shape, dtype, &mut found)?;
        }
        for shape in [[1, 2, 1, 1], [2, 3, 17, 31], [1, 2, 150, 160]] {
            losses(shape, dtype, &mut found)?;
            views(shape, dtype, &mut found)?;
        }
    }
    optimiser(&mut found)?;
    for sides in [[2, 2], [6, 34], [4, 600]] {
        blends(sides, &mut found)?;
    }
    flows(&mut found)?;
    Ok(found)
}

#[test]
fn every_instruction_set_computes_the_same_bits() -> Result<()> {
    restrict(Level::Baseline);
    let baseline = everything()?;
    assert!(
        baseline
            .iter()
            .any(|(_, bits)| bits.iter().any(|&bits| bits != 0))
    );
    for level in [Level::Avx2, Level::Avx512] {
        restrict(level);
        for ((name, expected), (_, found)) in baseline.iter().zip(everything()?) {
            let differing = expected.iter().zip(&found).filter(|(a, b)| a != b).count();
            assert_eq!(
                (expected.len(), differing),
                (found.len(), 0),
                "{name} at {level:?}, where this processor offers {:?}",
                detected()
            );
        }
    }
    Ok(())
}
