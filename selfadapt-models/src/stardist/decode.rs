//! From StarDist's maps to instances, as `predict_instances` of stardist 0.9.1 does.

use std::ops::Range;

use selfadapt_core::error::{Error, Result};
use selfadapt_core::labels::Labels;
use selfadapt_core::maps::Prediction;
use selfadapt_core::model::InstanceDecoder;
use selfadapt_core::parts::Block;
use selfadapt_kernels::star_distances::star_distances;
use selfadapt_kernels::star_nms::{Stars, best_first, suppress};
use selfadapt_kernels::star_polygons::draw_part;

use super::StarDistConfig;

/// Predictions so close to the edge of the padded image propose nothing (`b=2`).
const BORDER: usize = 2;

/// Distances are at least this (`predict`).
const LEAST_DISTANCE: f32 = 1e-3;

/// Decodes maps with the thresholds of a configuration.
#[derive(Clone, Debug)]
pub struct StarDistDecoder {
    config: StarDistConfig,
}

/// Objects as star polygons, most probable first. Lengths are in pixels of the network's input.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StarObjects {
    /// Centres (y, x).
    pub centres: Vec<[f32; 2]>,
    /// Object probability at the centre.
    pub probabilities: Vec<f32>,
    /// Distances `[objects, rays]` from the centre to the border.
    pub distances: Vec<f32>,
}

impl StarDistDecoder {
    /// A decoder with the thresholds of `config`.
    pub fn new(config: StarDistConfig) -> Self {
        Self { config }
    }

    /// The objects that non-maximum suppression leaves of all that `prediction` proposes; the image at the working
    /// scale has `size` pixels.
    ///
    /// # Errors
    /// If the maps are not those of this model, or hold numbers that are not finite.
    pub fn objects(&self, prediction: &Prediction, size: (usize, usize)) -> Result<StarObjects> {
        let maps = Maps::of(prediction, self.config.n_rays)?;
        self.kept(&maps, size)
    }

    fn kept(&self, maps: &Maps, size: (usize, usize)) -> Result<StarObjects> {
        self.config.check()?;
        let proposed = self.proposed(maps, size)?;
        let rays = self.config.n_rays;
        let order = best_first(&proposed.probabilities);
        let sorted = proposed.chosen(&order, rays);
        let stars = Stars {
            centres: &sorted.centres,
            distances: &sorted.distances,
            rays,
        };
        let kept = suppress(stars, self.config.nms_thresh as f32)?;
        Ok(sorted.chosen(&kept, rays))
    }

    /// The objects drawn into the rows and columns that are wanted of an image of `size` pixels.
    fn labels(
        &self,
        maps: &Maps,
        size: (usize, usize),
        [rows, columns]: [Range<usize>; 2],
    ) -> Result<Labels> {
        let objects = self.kept(maps, self.working(size))?;
        let back = 1. / self.config.scale;
        let place = |[y, x]: [f32; 2]| [y, x].map(|at| (f64::from(at) * back) as f32);
        let centres: Vec<[f32; 2]> = objects.centres.iter().copied().map(place).collect();
        let stars = Stars {
            centres: &centres,
            distances: &objects.distances,
            rays: self.config.n_rays,
        };
        let (height, width) = (rows.len(), columns.len());
        let probabilities = &objects.probabilities;
        let labels = draw_part(stars, probabilities, [back; 2], [rows, columns])?;
        Labels::from_rows(height, width, labels)
    }

    /// All pixels above the threshold, with their distances.
    fn proposed(&self, maps: &Maps, size: (usize, usize)) -> Result<StarObjects> {
        let (grid, divisor) = (self.config.grid, self.config.divisor());
        let padded = |length: usize| length.next_multiple_of(divisor) / grid;
        let inside = |at: usize, length: usize| {
            // The edge that counts is that of the padded image, and what lies beyond the image is dropped.
            (BORDER..padded(length).saturating_sub(BORDER)).contains(&at) && at * grid < length
        };
        let plane = maps.height * maps.width;
        let (top, left) = maps.origin;
        let (rows, columns) = (top..top + maps.height, left..left + maps.width);
        let mut found = StarObjects::default();
        for y in rows.filter(|&y| inside(y, size.0)) {
            for x in columns.clone().filter(|&x| inside(x, size.1)) {
                let at = (y - top) * maps.width + x - left;
                let probability = 1. / (1. + (-maps.logits[at]).exp());
                if probability.is_nan() {
                    return Err(Error::NotFinite(format!(
                        "the object probability at row {y}, column {x} of the map"
                    )));
                }
                if f64::from(probability) > self.config.prob_thresh {
                    found.centres.push([(y * grid) as f32, (x * grid) as f32]);
                    found.probabilities.push(probability);
                    let rays = (0..self.config.n_rays).map(|k| maps.distances[k * plane + at]);
                    // A comparison, not `max`, which would hide what is not a number.
                    let least = |d: f32| {
                        if d < LEAST_DISTANCE {
                            LEAST_DISTANCE
                        } else {
                            d
                        }
                    };
                    found.distances.extend(rays.map(least));
                }
            }
        }
        Ok(found)
    }

    /// The size of the working image.
    fn working(&self, (height, width): (usize, usize)) -> (usize, usize) {
        let scaled = |length: usize| {
            let scaled = (length as f64 * self.config.scale).round_ties_even();
            (scaled as usize).max(1)
        };
        (scaled(height), scaled(width))
    }
}

impl StarObjects {
    /// Those at `places`, in that order.
    fn chosen(&self, places: &[usize], rays: usize) -> Self {
        Self {
            centres: places.iter().map(|&i| self.centres[i]).collect(),
            probabilities: places.iter().map(|&i| self.probabilities[i]).collect(),
            distances: places
                .iter()
                .flat_map(|&i| &self.distances[i * rays..][..rays])
                .copied()
                .collect(),
        }
    }
}

impl InstanceDecoder for StarDistDecoder {
    fn decode(&self, prediction: &Prediction, (height, width): (usize, usize)) -> Result<Labels> {
        let maps = Maps::of(prediction, self.config.n_rays)?;
        self.labels(&maps, (height, width), [0..height, 0..width])
    }

    /// Exact where all objects that decide about one lie within the block together with it.
    fn decode_part(&self, maps: &Prediction, block: &Block) -> Result<Option<Labels>> {
        let (rows, columns) = (&block.rows, &block.columns);
        let maps = Maps {
            origin: (rows.source().start, columns.source().start),
            ..Maps::of(maps, self.config.n_rays)?
        };
        let wanted = [rows.wanted.clone(), columns.wanted.clone()];
        self.labels(&maps, block.image(), wanted).map(Some)
    }

    /// How far the distances predicted all over an object are from those to the border of the object that was drawn:
    /// squared difference over squared distance, over all predictions in an object, weighted by their object
    /// probability as StarDist's training is; the mean over objects.
    fn inconsistency(&self, prediction: &Prediction, labels: &Labels) -> Result<f64> {
        let (rays, step) = (
            self.config.n_rays,
            self.config.grid as f64 / self.config.scale,
        );
        let maps = Maps::of(prediction, rays)?;
        let (height, width) = labels.size();
        let pixels = labels.as_slice();
        let (mut places, mut from) = (Vec::new(), Vec::new());
        for y in 0..maps.height {
            for x in 0..maps.width {
                let at = [y, x].map(|at| (at as f64 * step).round() as usize);
                if at[0] < height && at[1] < width && pixels[at[0] * width + at[1]] != 0 {
                    places.push(at);
                    from.push(y * maps.width + x);
                }
            }
        }
        let drawn = star_distances(pixels, height, width, &places, rays)?;
        let plane = maps.height * maps.width;
        let mut sums = vec![[0.; 2]; labels.count()];
        for ((place, &at), drawn) in places.iter().zip(&from).zip(drawn.chunks(rays)) {
            let weight = 1. / (1. + f64::from(-maps.logits[at]).exp());
            let mut parts = [0.; 2];
            for (k, &drawn) in drawn.iter().enumerate() {
                let drawn = f64::from(drawn) * self.config.scale;
                let predicted = f64::from(maps.distances[k * plane + at].max(LEAST_DISTANCE));
                parts[0] += (predicted - drawn).powi(2);
                parts[1] += drawn.powi(2);
            }
            let label = pixels[place[0] * width + place[1]] as usize;
            if let Some(sum) = sums.get_mut(label - 1) {
                sum[0] += weight * parts[0];
                sum[1] += weight * parts[1];
            }
        }
        let errors: Vec<f64> = sums
            .iter()
            .filter(|[_, whole]| *whole > 0.)
            .map(|[error, whole]| error / whole)
            .collect();
        // An image without objects gives 0 / 0, which is the NaN that is due.
        Ok(errors.iter().sum::<f64>() / errors.len() as f64)
    }
}

/// The maps of an image, or of a part of it, in memory.
struct Maps {
    /// First row and column.
    origin: (usize, usize),
    height: usize,
    width: usize,
    /// Logits of the object probability `[height, width]`.
    logits: Vec<f32>,
    /// Distances `[rays, height, width]`.
    distances: Vec<f32>,
}

impl Maps {
    fn of(prediction: &Prediction, rays: usize) -> Result<Self> {
        let shapes: Vec<&[usize]> = prediction.heads.iter().map(|map| map.dims()).collect();
        match (shapes.as_slice(), prediction.heads.as_slice()) {
            (&[&[1, 1, height, width], &[1, r, h, w]], [logits, distances])
                if (r, h, w) == (rays, height, width) && h * w > 0 =>
            {
                Ok(Self {
                    origin: (0, 0),
                    height,
                    width,
                    logits: logits.flatten_all()?.to_vec1()?,
                    distances: distances.flatten_all()?.to_vec1()?,
                })
            }
            _ => Err(Error::Setting(format!(
                "StarDist's decoder: expected logits [1, 1, H, W] and distances [1, {rays}, H, W], found {shapes:?}"
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{Device, Tensor};

    /// Maps of 16 x 16 predictions at a grid of 2: discs of one radius around (y, x).
    fn discs(discs: &[(usize, usize, f32)], config: &StarDistConfig) -> Prediction {
        const SIDE: usize = 16;
        let mut logits = vec![-5f32; SIDE * SIDE];
        let mut distances = vec![0.5f32; config.n_rays * SIDE * SIDE];
        for &(y, x, radius) in discs {
            for i in 0..SIDE * SIDE {
                let (dy, dx) = (
                    (i / SIDE * 2) as f32 - y as f32,
                    (i % SIDE * 2) as f32 - x as f32,
                );
                let depth = radius - dy.hypot(dx);
                if depth <= 0. {
                    continue;
                }
                logits[i] = depth;
                for k in 0..config.n_rays {
                    let angle = 2. * std::f32::consts::PI * k as f32 / config.n_rays as f32;
                    // The distance from inside a circle to the circle.
                    let along = dx * angle.cos() + dy * angle.sin();
                    let across = dy.hypot(dx).powi(2) - along * along;
                    distances[k * SIDE * SIDE + i] = (radius * radius - across).sqrt() - along;
                }
            }
        }
        let tensor = |values, channels| {
            Tensor::from_vec(values, (1, channels, SIDE, SIDE), &Device::Cpu).unwrap()
        };
        let heads = vec![tensor(logits, 1), tensor(distances, config.n_rays)];
        Prediction {
            embedding: heads[0].clone(),
            heads,
        }
    }

    #[test]
    fn discs_become_discs_and_agree_with_their_maps() {
        let config = StarDistConfig::default();
        let decoder = StarDistDecoder::new(config.clone());
        let maps = discs(&[(10, 10, 6.), (18, 22, 5.)], &config);
        let objects = decoder.objects(&maps, (32, 32)).unwrap();
        assert_eq!(objects.centres, [[10., 10.], [18., 22.]]);
        let labels = decoder.decode(&maps, (32, 32)).unwrap();
        let areas = labels.areas();
        for (area, radius) in areas.iter().zip([6f64, 5.]) {
            let disc = std::f64::consts::PI * radius * radius;
            assert!((*area as f64 / disc - 1.).abs() < 0.15, "{areas:?}");
        }
        // A disc's own pixels lie up to half a pixel from its border.
        let fit = decoder.inconsistency(&maps, &labels).unwrap();
        assert!(fit < 0.03, "{fit}");
        let longer = Prediction {
            heads: vec![maps.heads[0].clone(), (&maps.heads[1] * 1.5).unwrap()],
            embedding: maps.embedding.clone(),
        };
        let misfit = decoder.inconsistency(&longer, &labels).unwrap();
        assert!((0.2..0.4).contains(&misfit), "{misfit}");
    }

    #[test]
    fn half_a_working_size_gives_twice_the_discs() {
        let config = StarDistConfig {
            scale: 0.5,
            ..StarDistConfig::default()
        };
        let decoder = StarDistDecoder::new(config.clone());
        let maps = discs(&[(12, 16, 7.)], &config);
        let labels = decoder.decode(&maps, (64, 64)).unwrap();
        assert_eq!(labels.count(), 1);
        let disc = std::f64::consts::PI * 14f64.powi(2);
        assert!((labels.areas()[0] as f64 / disc - 1.).abs() < 0.06);
        assert!(decoder.inconsistency(&maps, &labels).unwrap() < 0.03);
    }

    #[test]
    fn edges_propose_nothing_and_padding_neither() {
        let config = StarDistConfig::default();
        let decoder = StarDistDecoder::new(config.clone());
        let maps = discs(&[(0, 16, 3.5), (24, 24, 5.)], &config);
        let all = decoder.objects(&maps, (32, 32)).unwrap();
        assert_eq!(all.centres, [[24., 24.]]);
        // Of a smaller image the same maps are those of its mirrored end.
        let cut = decoder.objects(&maps, (23, 32)).unwrap();
        assert!(cut.centres.iter().all(|[y, _]| *y < 23.), "{cut:?}");
        let none = decoder.decode(&discs(&[], &config), (32, 32)).unwrap();
        assert_eq!(none.count(), 0);
        let nothing = decoder.inconsistency(&maps, &none).unwrap();
        assert!(nothing.is_nan());
    }

    #[test]
    fn other_maps_and_numbers_are_refused() {
        let config = StarDistConfig::default();
        let maps = discs(&[(16, 16, 6.)], &config);
        let other = StarDistDecoder::new(StarDistConfig {
            n_rays: 8,
            ..config.clone()
        });
        let error = other.decode(&maps, (32, 32)).unwrap_err().to_string();
        assert!(error.contains("distances [1, 8, H, W]"), "{error}");
        let decoder = StarDistDecoder::new(config);
        for (which, message) in [(0, "object probability"), (1, "finite")] {
            let mut broken = maps.clone();
            broken.heads[which] = (&broken.heads[which] * f64::NAN).unwrap();
            let error = decoder.decode(&broken, (32, 32)).unwrap_err().to_string();
            assert!(error.contains(message), "{error}");
        }
    }
}
