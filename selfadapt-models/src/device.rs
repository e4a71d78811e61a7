//! Whether a device computes what the CPU does: asked before a run relies on it.

use candle_core::Tensor;
use selfadapt_core::error::{Error, Result};
use selfadapt_core::maps::Prediction;
use selfadapt_core::model::{Mode, ModelConfig};
use selfadapt_core::network::Network;
use selfadapt_core::params::{Lend, ParamSet};
use selfadapt_core::random_weights::random_weights;
use selfadapt_kernels::device::{Device, Precision};

/// How far apart results may be, as a share of the largest number, and the gradients by a weight, as a share of their
/// length: sums in another order are off by a thousandth, and where rounding opens a ReLU gradients jump. In bf16, through
/// drawn weights, little is left to compare of them but their size (0.5 lengths apart were seen of a right one).
const fn tolerances(precision: Precision) -> (f64, f64) {
    match precision {
        Precision::F32 => (1e-3, 0.05),
        Precision::Tf32 => (0.02, 0.3),
        Precision::Bf16 => (0.15, 2.),
    }
}

/// Side of the images, at least, in pixels.
const SIDE: usize = 32;

/// Passes two small images through the model with drawn weights, forward and backward, on `device` and on the CPU.
///
/// # Errors
/// If the model has no form for the device, that fails, or numbers come out that are not the CPU's.
pub fn agrees(model: &dyn ModelConfig, device: &Device) -> Result<()> {
    let input = model.input();
    let side = SIDE.next_multiple_of(input.divisor);
    let shape = [2, input.channels, side, side];
    let numbers: Vec<f32> = (0..shape.iter().product::<usize>())
        .map(|i| (i * 7919 % 10_007) as f32 / 5003.5 - 1.)
        .collect();
    let images = Tensor::from_vec(numbers, &shape, &candle_core::Device::Cpu)?;
    let weights = random_weights(model, 1)?;
    let here = Results::of(model.on(&Device::cpu())?.as_ref(), &weights, &images)?;
    let (results, gradients) = tolerances(device.precision());
    let there = Results::of(model.on(device)?.as_ref(), &weights, &images)?;
    let longest = here.gradients.iter().map(|g| length(g)).fold(0., f64::max);
    let maps = here.maps.iter().zip(&there.maps);
    let of_weights = here.gradients.iter().zip(&there.gradients);
    for (what, most, here, there) in maps
        .map(|(a, b)| ("results", results * largest(a), a, b))
        .chain(of_weights.map(|(a, b)| {
            // A bias before a batch norm has a gradient of 0 but for rounding.
            let most = gradients * length(a) + 0.01 * results * longest;
            ("gradients", most, a, b)
        }))
    {
        let apart: Vec<f32> = here.iter().zip(there).map(|(a, b)| a - b).collect();
        let off = match what {
            "results" => largest(&apart),
            _ => length(&apart),
        };
        // A NaN is not below anything.
        let fine = off <= most + 1e-6;
        if !fine {
            return Err(Error::Setting(format!(
                "{}: expected {what} that are the CPU's to {most:.2e}, found them off by {off:.2e}; its driver or \
                 selfadapt's kernels are at fault: please report the device",
                device.name()
            )));
        }
    }
    Ok(())
}

/// What a network makes of images and of a loss, as plain numbers.
struct Results {
    maps: Vec<Vec<f32>>,
    gradients: Vec<Vec<f32>>,
}

impl Results {
    fn of(model: &dyn ModelConfig, weights: &ParamSet, images: &Tensor) -> Result<Self> {
        let plain = |tensor: &Tensor| tensor.flatten_all()?.to_vec1::<f32>();
        let still = Network::new(model, weights.fork()?, Lend::Detached)?;
        let found = still.model.forward(images, Mode::Eval)?;
        let maps = found.heads.iter().chain([&found.embedding]).map(plain);
        let maps = maps.collect::<candle_core::Result<_>>()?;
        let moving = Network::new(model, weights.fork()?, Lend::Tracked)?;
        let gradients = moving.model.backward(images, Mode::Train, &mut squares)?;
        let of_weights = moving.params.trainable();
        let gradients = of_weights
            .filter_map(|(_, var)| gradients.get(var))
            .map(plain);
        Ok(Self {
            maps,
            gradients: gradients.collect::<candle_core::Result<_>>()?,
        })
    }
}

/// A loss that every map has a part in.
fn squares(prediction: &Prediction) -> Result<Tensor> {
    let mut total = prediction.embedding.sqr()?.mean_all()?;
    for map in &prediction.heads {
        total = (total + map.sqr()?.mean_all()?)?;
    }
    Ok(total)
}

fn largest(values: &[f32]) -> f64 {
    let sizes = values.iter().map(|&v| f64::from(v).abs());
    sizes.fold(0., |most, v| if v.is_nan() { v } else { f64::max(most, v) })
}

fn length(values: &[f32]) -> f64 {
    values
        .iter()
        .map(|&v| f64::from(v).powi(2))
        .sum::<f64>()
        .sqrt()
}
