//! Teaching StarDist: targets and losses as in stardist 0.9.1 (golden/make_stardist_train.py), rays of drawn discs, and a
//! tiny set learned by heart.

use candle_core::{Device, Tensor, Var};
use ndarray::{Array2, Array3, ArrayD, Axis};
use proptest::prelude::*;
use selfadapt_core::labels::Labels;
use selfadapt_core::maps::Prediction;
use selfadapt_core::model::ModelConfig;
use selfadapt_core::supervise::Example;
use selfadapt_core::supervise::config::TrainConfig;
use selfadapt_core::supervise::warp::Warp;
use selfadapt_models::stardist::{DistLoss, StarDistConfig};

use crate::npz::Npz;
use crate::train::learned_by_heart;

fn golden() -> Npz {
    Npz::open(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/golden/stardist_train.npz"
    ))
}

/// The whole of a square image, as it is.
fn still(side: usize) -> Warp {
    Warp {
        flip: false,
        angle: 0.,
        scale: 1.,
        shift: (0., 0.),
        side,
    }
}

fn targets(config: &StarDistConfig, labels: &Labels, warp: &Warp) -> Array3<f32> {
    let teaching = config.supervision().unwrap();
    let maps = teaching.maps(labels).unwrap();
    teaching.crop(maps.view(), warp).unwrap()
}

#[test]
fn targets_are_those_of_stardist() {
    let mut npz = golden();
    let cases = [
        ("labels", "prob.1", "dist.1.8", 1, 8),
        ("labels", "prob.2", "dist.2.32", 2, 32),
        ("labels", "prob.2", "dist.2.7", 2, 7),
        ("labels", "prob.4", "dist.4.16", 4, 16),
        ("whole", "prob.whole", "dist.whole", 1, 8),
    ];
    for (labels, prob, dist, grid, n_rays) in cases {
        let pixels = npz.u32(labels);
        let side = pixels.shape()[0];
        let labels = Labels::from_rows(side, side, pixels.iter().copied().collect()).unwrap();
        let config = StarDistConfig {
            grid,
            n_rays,
            ..StarDistConfig::default()
        };
        let found = targets(&config, &labels, &still(side));
        let (prob, dist) = (npz.f32(prob), npz.f32(dist));
        assert_eq!(found.dim(), (1 + n_rays, side / grid, side / grid));
        for ((k, y, x), &found) in found.indexed_iter() {
            let expected = match k {
                0 => prob[[y, x]],
                _ => dist[[y, x, k - 1]],
            };
            // Depths are rounded once here, distances go the same steps.
            let tolerance = if k == 0 { 1e-6 } else { 1e-5 };
            assert!(
                (found - expected).abs() <= tolerance,
                "grid {grid}, channel {k}, {y}, {x}: {found} instead of {expected}"
            );
        }
    }
}

/// `[B, H, W, C]` to `[B, C, H, W]`.
fn tensor(array: &ArrayD<f32>) -> Tensor {
    let tensor = Tensor::from_slice(array.as_slice().unwrap(), array.shape(), &Device::Cpu);
    let moved = tensor.unwrap().permute((0, 3, 1, 2)).unwrap();
    moved.contiguous().unwrap()
}

#[test]
fn losses_and_gradients_are_those_of_stardist() {
    let mut npz = golden();
    let [true_prob, true_dist, logit, dist] =
        ["true_prob", "true_dist", "logit", "dist"].map(|name| npz.f32(&format!("loss.{name}")));
    let targets = Tensor::cat(&[tensor(&true_prob), tensor(&true_dist)], 1).unwrap();
    let kinds = [
        ("mae", DistLoss::Mae),
        ("mse", DistLoss::Mse),
        ("iou", DistLoss::Iou),
    ];
    for (name, train_dist_loss) in kinds {
        let config = StarDistConfig {
            n_rays: 6,
            train_dist_loss,
            ..StarDistConfig::default()
        };
        let vars = [&logit, &dist].map(|array| Var::from_tensor(&tensor(array)).unwrap());
        let prediction = Prediction {
            heads: vars.iter().map(|var| var.as_tensor().clone()).collect(),
            embedding: Tensor::zeros((2, 1), candle_core::DType::F32, &Device::Cpu).unwrap(),
        };
        let teaching = config.supervision().unwrap();
        let (total, parts) = teaching.loss(&prediction, &targets).unwrap();
        let found = [
            f64::from(total.to_scalar::<f32>().unwrap()),
            parts.classification,
            parts.regression,
        ];
        let expected = npz.f64(&format!("loss.{name}"));
        for (found, expected) in found.iter().zip(&expected) {
            assert!(
                (found - expected).abs() < 2e-6 * expected,
                "{name}: {found} instead of {expected}"
            );
        }
        let gradients = total.backward().unwrap();
        // Keras adds 1e-7 to probabilities before it takes their logarithm, which shows where the network is sure and wrong.
        for (var, (by, tolerance)) in vars.iter().zip([("by_logit", 3e-5), ("by_dist", 2e-6)]) {
            let expected = tensor(&npz.f32(&format!("loss.{name}.{by}")));
            let numbers = |t: &Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            let (found, expected) = (numbers(gradients.get(var).unwrap()), numbers(&expected));
            let largest = expected.iter().fold(0f32, |most, v| most.max(v.abs()));
            for (found, expected) in found.iter().zip(&expected) {
                assert!(
                    (found - expected).abs() < tolerance * largest,
                    "{name} {by}: {found} instead of {expected}, the largest is {largest}"
                );
            }
        }
    }
}

#[test]
fn what_lies_beyond_the_image_does_not_count() {
    let labels = Labels::new(Array2::from_shape_fn((32, 32), |(y, x)| {
        u32::from(y > 20 && x > 20)
    }));
    let config = StarDistConfig::default();
    let moved = Warp {
        shift: (-16., 0.),
        ..still(32)
    };
    // The lower half of the image fills the crop's upper one.
    let found = targets(&config, &labels, &moved);
    let prob = found.index_axis(Axis(0), 0);
    assert!(
        prob.indexed_iter()
            .all(|((y, _), &p)| (p == -1.) == (y >= 8))
    );
    assert!(prob.iter().any(|&p| p == 1.));
    let mut seen = prob.iter().zip(found.index_axis(Axis(0), 1));
    assert!(seen.all(|(&p, &d)| (p > 0.) == (d > 0.)));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]
    #[test]
    fn the_rays_of_a_disc_are_its_radius(
        radius in 4f64..16.,
        centre in (-0.5f64..0.5, -0.5f64..0.5),
        flip in any::<bool>(),
        angle in 0f64..std::f64::consts::TAU,
        scale in 0.75f64..1.25,
    ) {
        // The middle of the crop looks at the middle of the image.
        let labels = Labels::new(Array2::from_shape_fn((80, 80), |(y, x)| {
            u32::from((y as f64 - 40. - centre.0).hypot(x as f64 - 40. - centre.1) < radius)
        }));
        let config = StarDistConfig { grid: 1, unet_n_depth: 1, ..StarDistConfig::default() };
        let warp = Warp { flip, angle, scale, ..still(80) };
        let found = targets(&config, &labels, &warp);
        let (deepest, _) = found
            .index_axis(Axis(0), 0)
            .indexed_iter()
            .find(|(_, p)| **p == 1.)
            .map(|(place, p)| (place, *p))
            .unwrap();
        let rays: Vec<f32> = (1..33).map(|k| found[[k, deepest.0, deepest.1]]).collect();
        let mean = rays.iter().sum::<f32>() / 32.;
        prop_assert!((f64::from(mean) - radius * scale).abs() < 1., "{mean} of {}", radius * scale);
        // From beside the middle two opposite rays differ, and their sum is the diameter; along the axes no place is
        // rounded.
        for k in [0, 8] {
            let across = f64::from(rays[k] + rays[k + 16]);
            prop_assert!((across - 2. * radius * scale).abs() < 2., "ray {k}: {across}");
        }
    }
}

#[test]
fn images_that_do_not_divide_keep_their_labels_under_them() {
    // Prepared, this image is mirrored up to 64 x 48: the added pixels have no labels.
    let pixels =
        Array2::from_shape_fn((50, 40), |(y, x)| u32::from((20..30).contains(&y) && x < 9));
    let values = pixels.mapv(|label| label as f32).insert_axis(Axis(0));
    let image = selfadapt_core::image::Image::new(values, selfadapt_core::image::PixelType::Float);
    let config = StarDistConfig::default();
    let teaching = config.supervision().unwrap();
    let example = Example::new(
        &config,
        teaching.as_ref(),
        &image.unwrap(),
        &Labels::new(pixels),
    );
    let example = example.unwrap();
    assert_eq!(example.size(), (50, 40));
    assert_eq!((example.scale(), example.diameter()), (1., None));
}

/// A network for the discs of 13 pixels.
fn small() -> StarDistConfig {
    StarDistConfig {
        unet_n_depth: 2,
        unet_n_filter_base: 8,
        net_conv_after_unet: 16,
        n_rays: 16,
        ..StarDistConfig::default()
    }
}

#[test]
fn a_small_network_learns_a_tiny_set_by_heart() {
    let model = small();
    let config = TrainConfig {
        crops_per_epoch: 16,
        learning_rate: 3e-3,
        ..model.supervision().unwrap().defaults(true)
    };
    let reports = learned_by_heart(&model, config);
    let (first, last) = (&reports[0].parts, &reports[59].parts);
    println!("from {first:?} to {last:?}");
    assert!(last.regression < 0.4 * first.regression);
    assert!(last.classification < 0.6 * first.classification);
}

#[test]
fn what_cannot_be_taught_says_why() {
    let say = |config: StarDistConfig| config.supervision().err().unwrap().to_string();
    let mut completing = StarDistConfig::default();
    let value = ("train_shape_completion".to_owned(), "true".to_owned());
    completing.others.extend([value]);
    let message = say(completing.clone());
    assert!(message.contains("expected false, found true"), "{message}");
    // What the package writes of other models is no obstacle.
    completing
        .others
        .values_mut()
        .for_each(|v| *v = "false".into());
    assert!(completing.supervision().is_ok());
    let message = say(StarDistConfig {
        train_loss_weights: [0., 0.],
        ..StarDistConfig::default()
    });
    assert!(message.contains("train_loss_weights"), "{message}");
}
