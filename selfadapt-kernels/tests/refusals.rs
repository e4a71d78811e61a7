//! What does not fit is refused by the operation's name, with what was expected and what was found.

use candle_core::{DType, Device, Result, Tensor, Var};
use selfadapt_kernels::adamw::{AdamW, Settings};
use selfadapt_kernels::batch_norm::{batch_norm_eval, batch_norm_train};
use selfadapt_kernels::ema::ema;
use selfadapt_kernels::flow_error::flow_error;
use selfadapt_kernels::follow_flows::{Field, follow_flows};
use selfadapt_kernels::masked_loss::{masked_bce_with_logits, masked_cross_entropy, masked_mse};
use selfadapt_kernels::max_pool::max_pool2d;
use selfadapt_kernels::quantile::quantile_per_channel;
use selfadapt_kernels::upsample::{bilinear, nearest_2x};
use selfadapt_kernels::views::{Activation, View, ViewsMerge, turn};

fn zeros(shape: &[usize], dtype: DType) -> Result<Tensor> {
    Tensor::zeros(shape, dtype, &Device::Cpu)
}

/// Fails unless `result` is an error that holds every one of `words`.
fn refused<T>(result: Result<T>, words: &[&str]) {
    let error = result.err().map(|error| error.to_string());
    let error = error.unwrap_or_else(|| "a result".to_owned());
    for word in words {
        assert!(error.contains(word), "expected {word:?} in: {error}");
    }
}

#[test]
fn layers_name_the_type_and_the_axes_that_they_take() -> Result<()> {
    let whole = zeros(&[1, 2, 4, 4], DType::U32)?;
    let flat = zeros(&[2, 4, 4], DType::F32)?;
    let two = zeros(&[2], DType::F32)?;
    type Layer<'a> = (&'a str, Box<dyn Fn(&Tensor) -> Result<Tensor>>);
    let (a, b) = (two.clone(), two.clone());
    let layers: [Layer; 5] = [
        ("max_pool", Box::new(|x| max_pool2d(x, 2, 2))),
        ("nearest", Box::new(nearest_2x)),
        ("bilinear", Box::new(|x| bilinear(x, 3, 3))),
        (
            "batch_norm",
            Box::new(move |x| Ok(batch_norm_train(x, &a, &a, 1e-5, true)?.y)),
        ),
        (
            "batch_norm",
            Box::new(move |x| batch_norm_eval(x, &b, &b, &b, &b, 1e-5, true)),
        ),
    ];
    for (name, layer) in layers {
        refused(layer(&whole), &[name, "expected f32 or f64", "U32"]);
        refused(layer(&flat), &[name, "[B, C, H, W]", "[2, 4, 4]"]);
    }
    refused(
        turn(&zeros(&[4], DType::F32)?, View::ALL[1]),
        &["turn", "[4]"],
    );
    Ok(())
}

#[test]
fn losses_name_the_argument_that_does_not_fit() -> Result<()> {
    let maps = zeros(&[1, 2, 4, 4], DType::F32)?;
    let wide = zeros(&[1, 2, 4, 5], DType::F32)?;
    let mask = zeros(&[1, 1, 4, 4], DType::F32)?;
    let words = ["expected", "[1, 2, 4, 4]", "[1, 2, 4, 5]"];
    refused(masked_bce_with_logits(&maps, &wide, &maps), &words);
    refused(masked_mse(&maps, &maps, &wide), &words);
    refused(masked_cross_entropy(&maps, &wide, &mask), &words);
    let words = ["mask", "[1, 1, 4, 4]", "[1, 2, 4, 4]"];
    refused(masked_cross_entropy(&maps, &maps, &maps), &words);
    let double = zeros(&[1, 2, 4, 4], DType::F64)?;
    refused(masked_mse(&maps, &double, &maps), &["F32", "F64"]);
    Ok(())
}

#[test]
fn views_and_quantiles_name_what_does_not_fit() -> Result<()> {
    let mut merge = ViewsMerge::new(Activation::Identity);
    merge.push(
        &zeros(&[1, 1, 4, 4], DType::F32)?,
        View::ALL[0],
        &[(0, 1.0)],
    )?;
    let other = zeros(&[1, 1, 4, 6], DType::F32)?;
    refused(
        merge.push(&other, View::ALL[0], &[(0, 1.0)]),
        &["[1, 1, 4, 4]", "[1, 1, 4, 6]"],
    );
    let x = zeros(&[1, 2, 4, 4], DType::F32)?;
    refused(
        quantile_per_channel(&zeros(&[1, 2, 4, 4], DType::F64)?, None, 0.5),
        &["quantile", "F64"],
    );
    refused(
        quantile_per_channel(&x, Some(&other), 0.5),
        &["quantile", "mask", "[1, 1, 4, 6]"],
    );
    refused(quantile_per_channel(&x, None, 1.5), &["quantile", "1.5"]);
    Ok(())
}

#[test]
fn the_optimiser_names_the_weight_that_does_not_fit() -> Result<()> {
    let weight = Var::from_tensor(&zeros(&[3], DType::F32)?)?;
    let (short, double) = (zeros(&[2], DType::F32)?, zeros(&[3], DType::F64)?);
    let anchor = zeros(&[3], DType::F32)?;
    let settings = Settings {
        rate: 1e-3,
        weight_decay: 0.0,
        l2sp: 0.1,
        scale: 1.0,
    };
    for (gradient, found) in [(&short, "[2]"), (&double, "F64")] {
        let step = AdamW::default().step(&[("head.bias", &weight, gradient, &anchor)], &settings);
        refused(step, &["adamw", "head.bias", "[3]", found]);
    }
    refused(ema(&[&weight], &[&short], 0.9), &["ema", "[3]", "[2]"]);
    refused(ema(&[&weight], &[&double], 0.9), &["ema", "F32", "F64"]);
    refused(ema(&[&weight], &[&anchor], 1.5), &["ema", "1.5"]);
    Ok(())
}

#[test]
fn dynamics_name_the_sizes_that_do_not_fit() -> Result<()> {
    refused(Field::new(&[0.0; 7], 2, 2), &["follow_flows", "8", "7"]);
    let field = Field::new(&[0.0; 8], 2, 2)?;
    refused(follow_flows(&field, &[4], 1, true), &["follow_flows", "4"]);
    refused(
        flow_error(&[1; 4], &[0.0; 7], 2, 2),
        &["flow_error", "8", "7"],
    );
    refused(
        flow_error(&[1; 3], &[0.0; 8], 2, 2),
        &["flow_error", "4", "3"],
    );
    Ok(())
}
