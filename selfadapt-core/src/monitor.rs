//! Looking at a model without labels: fixed validation crops, and the reading that a network gives on them.

use candle_core::{D, Device, Tensor};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use crate::dihedral::Dihedral;
use crate::error::Result;
use crate::maps::Prediction;
use crate::model::{InstanceDecoder, Mode};
use crate::network::Network;
use crate::outlines;
use crate::perturb::Perturb;
use crate::source::ImageSource;
use crate::stop::Reading;
use crate::validation::{self, Place};

/// A second view beside the image itself is enough to see how much a model contradicts itself.
const OTHER_VIEW: Dihedral = Dihedral::ALL[5];

/// Unlabelled crops, spread over the images, at which every model of a run is looked at.
#[derive(Debug)]
pub struct Probe {
    crops: Tensor,
    /// The same crops, degraded once and for all.
    degraded: Tensor,
    /// How much each crop changes at each pixel.
    edges: Vec<Vec<f32>>,
    places: Vec<Place>,
}

impl Probe {
    /// Chooses up to `count` crops of `side` pixels by seed ([`validation::choose`]).
    /// `degradation` is what the model should withstand ([`crate::model::ModelConfig::perturb`]).
    ///
    /// # Errors
    /// As [`validation::choose`].
    pub fn choose(
        source: &dyn ImageSource,
        side: usize,
        count: usize,
        seed: u64,
        degradation: &Perturb,
        device: &Device,
    ) -> Result<Self> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let (crops, places) = validation::choose(source, side, count, &mut rng)?;
        let degraded = degradation.apply(&crops, &mut rng)?;
        let edges = (0..places.len())
            .map(|index| outlines::edges(&crops.get(index)?))
            .collect::<Result<_>>()?;
        Ok(Self {
            edges,
            crops: crops.to_device(device)?,
            degraded: degraded.to_device(device)?,
            places,
        })
    }

    /// The crops `[N, C, side, side]`.
    pub fn crops(&self) -> &Tensor {
        &self.crops
    }

    /// Where each crop was cut.
    pub fn places(&self) -> &[Place] {
        &self.places
    }

    /// Height and width of a crop.
    ///
    /// # Errors
    /// None: the crops have four axes.
    pub fn size(&self) -> Result<(usize, usize)> {
        let (_, _, height, width) = self.crops.dims4()?;
        Ok((height, width))
    }

    /// What a network says of each crop, `batch` of them at a time.
    ///
    /// # Errors
    /// If the crops do not fit the network.
    pub fn maps(&self, network: &Network, batch: usize) -> Result<Vec<Prediction>> {
        let mut maps = Vec::new();
        for (start, length) in self.batches(batch) {
            let crops = self.crops.narrow(0, start, length)?;
            let all = network.model.forward(&crops, Mode::Eval)?;
            for index in 0..length {
                maps.push(all.alone(index)?);
            }
        }
        Ok(maps)
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
        let size = self.size()?;
        let mut reading = Reading::default();
        for (start, length) in self.batches(batch) {
            let crops = self.crops.narrow(0, start, length)?;
            let look = |crops: &Tensor| network.model.forward(crops, Mode::Eval);
            let plain = look(&crops)?;
            let turned = look(&network.seen(&crops, OTHER_VIEW)?)?;
            let turned = undo(network, turned)?;
            let degraded = look(&self.degraded.narrow(0, start, length)?)?;
            for index in 0..length {
                let plain = plain.alone(index)?;
                let turned = turned.alone(index)?;
                let decode = |maps: &Prediction| decoder.decode(maps, size);
                let labels = decode(&plain)?;
                let contradiction = decoder.inconsistency(&plain, &labels)?;
                reading.inconsistency.push(contradiction);
                let edges = &self.edges[start + index];
                reading.sharpness.push(outlines::sharpness(edges, &labels));
                reading.instances.push(labels);
                reading.turned.push(decode(&turned)?);
                reading.degraded.push(decode(&degraded.alone(index)?)?);
                let features = plain.embedding.flatten_all()?.to_vec1()?;
                reading.embeddings.push(features);
                reading.confidence.push(confidence(network, &plain)?);
                reading.spread.push(spread(network, &plain, &turned)?);
            }
        }
        Ok(reading)
    }

    /// The crops in parts of `batch`: where each begins, and how many it has.
    fn batches(&self, batch: usize) -> impl Iterator<Item = (usize, usize)> {
        let (count, batch) = (self.places.len(), batch.max(1));
        (0..count)
            .step_by(batch)
            .map(move |start| (start, batch.min(count - start)))
    }
}

/// Turns maps of crops seen through the other view back.
fn undo(network: &Network, seen: Prediction) -> Result<Prediction> {
    let heads = network.model.heads().iter().zip(&seen.heads);
    Ok(Prediction {
        heads: heads
            .map(|(head, map)| OTHER_VIEW.inverse().on_head(head, map))
            .collect::<Result<_>>()?,
        embedding: seen.embedding,
    })
}

/// Mean standard deviation of the regression targets over the two views.
fn spread(network: &Network, plain: &Prediction, turned: &Prediction) -> Result<f64> {
    let heads = network.model.heads().iter();
    let maps = plain.heads.iter().zip(&turned.heads);
    let spreads = heads
        .zip(maps)
        .filter(|(head, _)| !head.is_classification())
        .map(|(_, (plain, turned))| {
            // Two numbers deviate from their mean by half their difference.
            let half = ((plain - turned)?.abs()? * 0.5)?;
            Ok(f64::from(half.mean_all()?.to_scalar::<f32>()?))
        })
        .collect::<Result<Vec<f64>>>()?;
    Ok(mean(&spreads))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::labels::Labels;
    use crate::network::fixtures::sampled;

    /// Finds nothing.
    struct Nothing;

    impl InstanceDecoder for Nothing {
        fn decode(&self, _: &Prediction, (height, width): (usize, usize)) -> Result<Labels> {
            Labels::from_rows(height, width, vec![0; height * width])
        }
    }

    #[test]
    fn the_other_view_of_a_coarse_map_is_of_the_same_pixels() {
        let pixels = (0..8 * 8).map(|i| (i * 37 % 101) as f32);
        let crops = Tensor::from_iter(pixels, &Device::Cpu).unwrap();
        let crops = crops.reshape((1, 1, 8, 8)).unwrap();
        let probe = Probe {
            degraded: crops.clone(),
            edges: vec![outlines::edges(&crops.get(0).unwrap()).unwrap()],
            places: vec![Place {
                image: 0,
                top: 0,
                left: 0,
            }],
            crops,
        };
        for grid in [1, 2, 4] {
            let reading = probe.read(&sampled(grid), &Nothing, 1).unwrap();
            assert_eq!(reading.spread, [0.], "grid {grid}");
        }
    }
}
