//! Times every kernel but the convolution alone, at the sizes of CPnet's first level: `cargo bench -p selfadapt-kernels
//! --bench elementary`, with `RAYON_NUM_THREADS` threads. Prints the least and the median of the runs in milliseconds.
#![allow(clippy::unwrap_used)]

use std::time::Instant;

use candle_core::{DType, Device, Result, Tensor, Var};
use selfadapt_kernels::adamw::{AdamW, Settings};
use selfadapt_kernels::batch_norm::{batch_norm_eval, batch_norm_train};
use selfadapt_kernels::ema::ema;
use selfadapt_kernels::masked_loss::{masked_bce_with_logits, masked_cross_entropy, masked_mse};
use selfadapt_kernels::max_pool::max_pool2d;
use selfadapt_kernels::quantile::quantile;
use selfadapt_kernels::upsample::{bilinear, nearest_2x};
use selfadapt_kernels::views::{Activation, View, ViewsMerge, turn};

const RUNS: usize = 9;

fn time(name: &str, mut run: impl FnMut() -> Result<()>) -> Result<()> {
    run()?;
    let mut milliseconds = Vec::new();
    for _ in 0..RUNS {
        let start = Instant::now();
        run()?;
        milliseconds.push(start.elapsed().as_secs_f64() * 1e3);
    }
    milliseconds.sort_by(f64::total_cmp);
    println!(
        "{name:<40} {:8.2} {:8.2}",
        milliseconds[0],
        milliseconds[RUNS / 2]
    );
    Ok(())
}

/// Times `f` without a graph, then with a backward pass.
fn layer(name: &str, x: &Tensor, f: impl Fn(&Tensor) -> Result<Tensor>) -> Result<()> {
    time(&format!("{name} forward"), || f(x).map(drop))?;
    let x = Var::from_tensor(x)?;
    // A gradient of ones costs candle a tensor of its own; it is made in both.
    time(&format!("{name} forward and backward"), || {
        f(&x)?.backward().map(drop)
    })
}

fn random(shape: &[usize]) -> Result<Tensor> {
    Tensor::randn(0f32, 1.0, shape, &Device::Cpu)
}

fn main() -> Result<()> {
    println!("{:<40} {:>8} {:>8}", "ms", "least", "median");
    let x = random(&[8, 32, 224, 224])?;
    let half = random(&[8, 32, 112, 112])?;
    let (gamma, beta) = (
        Var::ones(32, DType::F32, &Device::Cpu)?,
        Var::zeros(32, DType::F32, &Device::Cpu)?,
    );
    let (zero, one) = (beta.as_detached_tensor(), gamma.as_detached_tensor());
    layer("batch norm train, relu", &x, |x| {
        Ok(batch_norm_train(x, &gamma, &beta, 1e-5, true)?.y)
    })?;
    layer("batch norm eval, relu", &x, |x| {
        batch_norm_eval(x, &one, &zero, &zero, &one, 1e-5, true)
    })?;
    layer("max pool 2x2", &x, |x| max_pool2d(x, 2, 2))?;
    layer("max pool 3x3, stride 2", &x, |x| max_pool2d(x, 3, 2))?;
    layer("nearest, 112 to 224", &half, nearest_2x)?;
    layer("bilinear, 112 to 224", &half, |x| bilinear(x, 224, 224))?;
    let maps = random(&[8, 3, 224, 224])?;
    let target = maps.abs()?.minimum(&maps.ones_like()?)?;
    let mask = maps.ge(-0.5)?.to_dtype(DType::F32)?;
    let pixels = mask.narrow(1, 0, 1)?.contiguous()?;
    layer("masked BCE, 3 channels", &maps, |x| {
        masked_bce_with_logits(x, &target, &mask)
    })?;
    layer("masked MSE, 3 channels", &maps, |x| {
        masked_mse(x, &target, &mask)
    })?;
    layer("masked CE, 3 classes", &maps, |x| {
        masked_cross_entropy(x, &target, &pixels)
    })?;
    let images = random(&[8, 2, 224, 224])?;
    time("eight views of 2 channels", || {
        View::ALL
            .into_iter()
            .try_for_each(|view| turn(&images, view).map(drop))
    })?;
    time("merge of eight views, 2 + 1 channels", || {
        let mut flows = ViewsMerge::new(Activation::Identity);
        let mut cell = ViewsMerge::new(Activation::Sigmoid);
        for view in View::ALL {
            flows.push(&maps.narrow(1, 0, 2)?, view, &[(1, -1.0), (0, 1.0)])?;
            cell.push(&maps.narrow(1, 2, 1)?, view, &[(0, 1.0)])?;
        }
        flows.finish()?;
        cell.finish().map(drop)
    })?;
    let values: Vec<f32> = pixels_of(&maps)?;
    time("quantile of 401408", || quantile(&values, 0.8).map(drop))?;
    let shape = [256, 256, 3, 3];
    let make = || -> Result<Vec<Var>> {
        (0..11)
            .map(|_| Var::from_tensor(&random(&shape)?))
            .collect()
    };
    let (weights, teachers, gradients, anchors) = (make()?, make()?, make()?, make()?);
    let names: Vec<String> = (0..weights.len()).map(|i| format!("weight{i}")).collect();
    let items: Vec<_> = (0..weights.len())
        .map(|i| {
            (
                names[i].as_str(),
                &weights[i],
                gradients[i].as_tensor(),
                anchors[i].as_tensor(),
            )
        })
        .collect();
    let settings = Settings {
        rate: 1e-4,
        weight_decay: 1e-3,
        l2sp: 1e-3,
        scale: 1.0,
    };
    let teachers: Vec<&Var> = teachers.iter().collect();
    let mut optimizer = AdamW::default();
    time("AdamW, L2-SP and EMA of 6.5 M", || {
        optimizer
            .step_with_ema(&items, &teachers, 0.99, &settings)
            .map(drop)
    })?;
    time("AdamW and L2-SP of 6.5 M", || {
        optimizer.step(&items, &settings).map(drop)
    })?;
    let students: Vec<&Tensor> = weights.iter().map(|w| w.as_tensor()).collect();
    time("EMA of 6.5 M", || ema(&teachers, &students, 0.99))
}

fn pixels_of(maps: &Tensor) -> Result<Vec<f32>> {
    maps.narrow(1, 0, 1)?.flatten_all()?.to_vec1()
}
