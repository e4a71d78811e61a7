//! Weights for a model that has none: random by seed, shaped by what the model asks for.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use candle_core::{DType, Device, Shape, Tensor};
use candle_nn::VarBuilder;
use candle_nn::var_builder::SimpleBackend;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};

use crate::error::{Error, Result};
use crate::model::ModelConfig;
use crate::params::ParamSet;

/// Draws every weight that `config` asks for.
///
/// Kernels and matrices are normal with variance 2 / fan-in (He et al. 2015); scales and running variances are
/// 1, biases and running means 0.
///
/// # Errors
/// If the model cannot be built.
pub fn random_weights(config: &dyn ModelConfig, seed: u64) -> Result<ParamSet> {
    let drawn = Arc::new(Mutex::new(BTreeMap::new()));
    let source = Drawer {
        seed,
        drawn: drawn.clone(),
    };
    config.build(VarBuilder::from_backend(
        Box::new(source),
        DType::F32,
        Device::Cpu,
    ))?;
    let drawn = drawn
        .lock()
        .map_err(|_| Error::Weights("a builder panicked".into()))?;
    ParamSet::new(drawn.clone(), |name| config.role(name))
}

struct Drawer {
    seed: u64,
    drawn: Arc<Mutex<BTreeMap<String, Tensor>>>,
}

impl SimpleBackend for Drawer {
    fn get(
        &self,
        shape: Shape,
        name: &str,
        _: candle_nn::Init,
        dtype: DType,
        device: &Device,
    ) -> candle_core::Result<Tensor> {
        let tensor = match shape.dims() {
            [outputs, rest @ ..] if !rest.is_empty() && *outputs > 0 => {
                let fan_in: usize = rest.iter().product();
                let scale = (2. / fan_in.max(1) as f64).sqrt();
                // The name takes part, so that the draw does not depend on the order of asking.
                let mut rng = ChaCha8Rng::seed_from_u64(self.seed ^ fingerprint(name));
                let numbers: Vec<f32> = (0..shape.elem_count())
                    .map(|_| {
                        let normal: f64 = StandardNormal.sample(&mut rng);
                        (normal * scale) as f32
                    })
                    .collect();
                Tensor::from_vec(numbers, shape, device)?
            }
            _ if name.ends_with("running_var") || name.ends_with("weight") => {
                Tensor::ones(shape, DType::F32, device)?
            }
            _ => Tensor::zeros(shape, DType::F32, device)?,
        };
        let tensor = tensor.to_dtype(dtype)?;
        if let Ok(mut drawn) = self.drawn.lock() {
            drawn.insert(name.to_owned(), tensor.clone());
        }
        Ok(tensor)
    }

    fn get_unchecked(&self, name: &str, _: DType, _: &Device) -> candle_core::Result<Tensor> {
        candle_core::bail!("{name}: expected a shape to draw weights of, found none")
    }

    fn contains_tensor(&self, _: &str) -> bool {
        true
    }
}

/// FNV-1a.
fn fingerprint(name: &str) -> u64 {
    name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
    })
}
