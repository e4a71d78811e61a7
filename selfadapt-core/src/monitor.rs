//! Looking at a model without labels: fixed validation crops, and the reading that a network gives on them.

use candle_core::{D, Device, Tensor};
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::crops::{ImageSource, crop, is_blank};
use crate::dihedral::Dihedral;
use crate::error::{Error, Result};
use crate::maps::Prediction;
use crate::model::{InstanceDecoder, Mode};
use crate::network::Network;
use crate::perturb::Perturb;
use crate::stop::Reading;
use crate::teacher::label;

/// Two views are enough to see how much a model contradicts itself, at twice the cost of one.
const SPREAD_VIEWS: [Dihedral; 2] = [Dihedral::ALL[0], Dihedral::ALL[5]];

/// Unlabelled crops, one an image, at which every model of a run is looked at.
#[derive(Debug)]
pub struct Probe {
    crops: Tensor,
    /// The same crops, degraded once and for all.
    degraded: Tensor,
    images: Vec<usize>,
}

impl Probe {
    /// Chooses up to `count` images and a crop of `side` pixels in each, by seed. Blank crops are passed over.
    ///
    /// # Errors
    /// If no image has anything in it, or one cannot be read.
    pub fn choose(
        source: &dyn ImageSource,
        side: usize,
        count: usize,
        seed: u64,
        device: &Device,
    ) -> Result<Self> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut order: Vec<usize> = (0..source.len()).collect();
        order.shuffle(&mut rng);
        let (mut crops, mut images) = (Vec::new(), Vec::new());
        // A long folder of blank images is given up on rather than read to its end.
        for &index in order.iter().take(4 * count.max(8)) {
            if crops.len() == count {
                break;
            }
            let image = source.prepared(index)?;
            let (_, height, width) = image.dims3()?;
            let mut start = |size: usize| rng.random_range(0..=size.saturating_sub(side));
            let place = (start(height), start(width));
            let cut = crop(&image, place, (side, side))?;
            if !is_blank(&cut)? {
                crops.push(cut);
                images.push(index);
            }
        }
        if crops.is_empty() {
            return Err(Error::Image(format!(
                "expected something to see, found only constant pixels in {} images",
                order.len().min(4 * count.max(8))
            )));
        }
        let crops = Tensor::stack(&crops, 0)?;
        let degraded = Perturb::default().apply(&crops, &mut rng)?;
        Ok(Self {
            crops: crops.to_device(device)?,
            degraded: degraded.to_device(device)?,
            images,
        })
    }

    /// The crops `[N, C, side, side]`.
    pub fn crops(&self) -> &Tensor {
        &self.crops
    }

    /// Which image each crop was cut from.
    pub fn images(&self) -> &[usize] {
        &self.images
    }

    /// Runs a network on the crops, `batch` at a time, and decodes its maps.
    ///
    /// # Errors
    /// If the crops do not fit the network or its maps not the decoder.
    pub fn read(
        &self,
        network: &Network,
        decoder: &dyn InstanceDecoder,
        batch: usize,
    ) -> Result<Reading> {
        let (count, _, height, width) = self.crops.dims4()?;
        let mut reading = Reading::default();
        for start in (0..count).step_by(batch.max(1)) {
            let crops = self
                .crops
                .narrow(0, start, batch.max(1).min(count - start))?;
            let prediction = network.model.forward(&crops, Mode::Eval)?;
            let degraded = self.degraded.narrow(0, start, crops.dim(0)?)?;
            let degraded = network.model.forward(&degraded, Mode::Eval)?;
            let spread = label(network, &SPREAD_VIEWS, &crops)?.spread;
            for index in 0..crops.dim(0)? {
                let one = |maps: &Tensor| maps.narrow(0, index, 1)?.contiguous();
                let alone = |all: &Prediction| -> Result<Prediction> {
                    let heads = all
                        .heads
                        .iter()
                        .map(one)
                        .collect::<candle_core::Result<_>>()?;
                    Ok(Prediction {
                        heads,
                        embedding: one(&all.embedding)?,
                    })
                };
                reading
                    .degraded
                    .push(decoder.decode(&alone(&degraded)?, (height, width))?);
                let alone = alone(&prediction)?;
                let labels = decoder.decode(&alone, (height, width))?;
                reading
                    .inconsistency
                    .push(decoder.inconsistency(&alone, &labels)?);
                reading.instances.push(labels);
                reading
                    .embeddings
                    .push(alone.embedding.flatten_all()?.to_vec1()?);
                reading.confidence.push(confidence(network, &alone)?);
                let spreads = network
                    .model
                    .heads()
                    .iter()
                    .zip(&spread)
                    .filter(|(head, _)| !head.is_classification())
                    .map(|(_, map)| Ok(f64::from(one(map)?.mean_all()?.to_scalar::<f32>()?)))
                    .collect::<Result<Vec<f64>>>()?;
                reading.spread.push(mean(&spreads));
            }
        }
        Ok(reading)
    }
}

/// Mean probability of the winning class over pixels and classification heads.
fn confidence(network: &Network, prediction: &Prediction) -> Result<f64> {
    let mut of_heads = Vec::new();
    for (head, logits) in network.model.heads().iter().zip(&prediction.heads) {
        if !head.is_classification() {
            continue;
        }
        let sure = if head.channels == 1 {
            // sigmoid(|z|) is the probability of the likelier side.
            candle_nn::ops::sigmoid(&logits.abs()?)?
        } else {
            candle_nn::ops::softmax(logits, 1)?.max_keepdim(D::Minus(3))?
        };
        of_heads.push(f64::from(sure.mean_all()?.to_scalar::<f32>()?));
    }
    Ok(mean(&of_heads))
}

/// The mean; NaN of nothing.
fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}
