//! Our StarDist against stardist 0.9.1: the files, the network's maps, survivors, labels.

use std::path::Path;

use candle_core::{Device, Tensor};
use ndarray::{ArrayD, Axis};
use selfadapt_core::image::Image;
use selfadapt_core::infer::{InferOptions, predict};
use selfadapt_core::io::{self, Axes};
use selfadapt_core::labels::Labels;
use selfadapt_core::maps::Prediction;
use selfadapt_core::model::{InstanceDecoder, ModelConfig, Sizing};
use selfadapt_core::network::Network;
use selfadapt_core::params::Lend;
use selfadapt_kernels::star_nms::{Stars, suppress};
use selfadapt_kernels::star_polygons::draw;
use selfadapt_metrics::average_precision::average_precision;
use selfadapt_models::format::{self, Loaded};
use selfadapt_models::stardist::StarDistConfig;
use selfadapt_models::stardist::decode::StarDistDecoder;

use crate::npz::Npz;

/// A model's configuration by its type.
pub fn config_of(loaded: &Loaded) -> StarDistConfig {
    let config: &dyn std::any::Any = loaded.config.as_ref();
    config.downcast_ref::<StarDistConfig>().unwrap().clone()
}

pub fn image(dir: &Path, name: &str) -> Image {
    let path = dir.join(format!("data/{name}.tif"));
    io::read(path, &Axes::default()).unwrap().0
}

fn values(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

fn largest_difference(found: &[f32], expected: &[f32]) -> f32 {
    assert_eq!(found.len(), expected.len());
    let differences = found.iter().zip(expected).map(|(a, b)| (a - b).abs());
    differences.fold(0., |largest, d| if d.is_nan() { d } else { largest.max(d) })
}

/// The maps of an image, cut to those that the package gives: one for each begun grid cell of the image.
fn maps(dir: &Path, name: &str, config: &StarDistConfig, network: &Network) -> (Image, Prediction) {
    let image = image(dir, name);
    let scale = config.working_scale(Sizing::Native).unwrap();
    let prepared = config.prepare(&image, scale).unwrap();
    let maps = predict(network, &config.input(), &prepared, InferOptions::default()).unwrap();
    (image, maps)
}

fn labels_of(array: &ArrayD<u32>) -> Labels {
    let shape = array.shape();
    Labels::from_rows(shape[0], shape[1], array.iter().copied().collect()).unwrap()
}

fn points(array: &ArrayD<f32>) -> Vec<[f32; 2]> {
    array.outer_iter().map(|p| [p[[0]], p[[1]]]).collect()
}

#[test]
fn maps_survivors_and_labels_are_those_of_stardist() {
    let Some(dir) = crate::assets::dir() else {
        return;
    };
    let loaded = format::open(dir.join("stardist")).unwrap();
    let config = config_of(&loaded);
    assert_eq!(
        (config.prob_thresh, config.nms_thresh),
        (0.449_054_898_339_110_6, 0.3)
    );
    let network = Network::new(&config, loaded.params, Lend::Detached).unwrap();
    for (name, in_half, rays) in [
        ("mouse_00", false, "dist"),
        ("stardist_img2d", false, "dist_rays_0_8_16_24"),
        // 360 x 360 pixels, which are mirrored up to 368 x 368.
        ("dsb_08", false, ""),
    ] {
        let mut npz = Npz::open(dir.join(format!("stardist/pred_{name}.npz")));
        let (image, prediction) = maps(&dir, name, &config, &network);
        let expected = npz.f32("prob");
        let (height, width) = (expected.shape()[0], expected.shape()[1]);
        let cut = |map: &Tensor| {
            let map = map.get(0).unwrap().narrow(1, 0, height).unwrap();
            map.narrow(2, 0, width).unwrap().contiguous().unwrap()
        };
        let logits = cut(&prediction.heads[0]);
        let prob = values(&candle_nn::ops::sigmoid(&logits).unwrap());
        let difference = largest_difference(&prob, expected.as_slice().unwrap());
        let stored = if in_half { 1e-3 } else { 1e-4 };
        println!("{name}: prob within {difference}");
        assert!(difference < stored, "{name}: prob differs by {difference}");
        if !rays.is_empty() {
            let expected = npz.f32(rays);
            let step = 32 / expected.shape()[2];
            let found = values(&cut(&prediction.heads[1]));
            let mut worst = 0f32;
            let expected = expected.into_dimensionality::<ndarray::Ix3>().unwrap();
            for ((y, x, k), &expected) in expected.indexed_iter() {
                // The package's are at least 1e-3. Half precision keeps 11 bits of up to 26 pixels.
                let found = found[(k * step * height + y) * width + x].max(1e-3);
                worst = worst.max((found - expected).abs() - expected * 2f32.powi(-11));
            }
            println!("{name}: dist within {worst}");
            assert!(worst < 1e-3, "{name}: dist differs by {worst}");
        }
        let decoder = StarDistDecoder::new(config.clone());
        let objects = decoder.objects(&prediction, image.size()).unwrap();
        assert_eq!(
            objects.centres,
            points(&npz.f32("points")),
            "{name}: survivors"
        );
        let difference = largest_difference(
            &objects.probabilities,
            npz.f32("point_prob").as_slice().unwrap(),
        );
        assert!(
            difference < 1e-4,
            "{name}: probabilities differ by {difference}"
        );
        let difference = largest_difference(
            &objects.distances,
            npz.f32("point_dist").as_slice().unwrap(),
        );
        assert!(
            difference < 1e-3,
            "{name}: distances differ by {difference}"
        );
        let found = decoder.decode(&prediction, image.size()).unwrap();
        let expected = labels_of(&npz.u32("labels"));
        let other = found.as_slice().iter().zip(expected.as_slice());
        let other = other.filter(|(a, b)| a != b).count();
        println!("{name}: {} objects, {other} pixels differ", found.count());
        let ap = average_precision(&expected, &found, &[0.9]).unwrap()[0].ap;
        assert!(ap >= 0.99, "{name}: AP@0.9 {ap}");
        assert!(other < 10, "{name}: {other} pixels differ");
        let fit = decoder.inconsistency(&prediction, &found).unwrap();
        assert!((0.001..0.3).contains(&fit), "{name}: inconsistency {fit}");
    }
}

#[test]
fn suppression_and_drawing_are_those_of_stardist_on_its_own_candidates() {
    let Some(dir) = crate::assets::dir() else {
        return;
    };
    for name in ["mouse_00", "stardist_img2d"] {
        let mut npz = Npz::open(dir.join(format!("stardist/nms_{name}.npz")));
        let (centres, prob) = (points(&npz.f32("cand_points")), npz.f32("cand_prob"));
        let distances = npz.f32("cand_dist");
        let order = selfadapt_kernels::star_nms::best_first(prob.as_slice().unwrap());
        let sorted: Vec<[f32; 2]> = order.iter().map(|&i| centres[i]).collect();
        let of = |which: &[usize]| -> Vec<f32> {
            let rows = which
                .iter()
                .flat_map(|&i| distances.index_axis(Axis(0), i).to_owned());
            rows.collect()
        };
        let started = std::time::Instant::now();
        let kept = suppress(
            Stars {
                centres: &sorted,
                distances: &of(&order),
                rays: 32,
            },
            0.3,
        )
        .unwrap();
        println!(
            "{name}: {} of {} in {:?}",
            kept.len(),
            order.len(),
            started.elapsed()
        );
        let kept: Vec<usize> = kept.into_iter().map(|i| order[i]).collect();
        let expected: Vec<usize> = npz.i64("keep").iter().map(|&i| i as usize).collect();
        assert_eq!(kept, expected, "{name}");
        let expected = npz.u32("labels");
        let centres: Vec<[f32; 2]> = kept.iter().map(|&i| centres[i]).collect();
        let stars = Stars {
            centres: &centres,
            distances: &of(&kept),
            rays: 32,
        };
        let probabilities: Vec<f32> = kept.iter().map(|&i| prob.as_slice().unwrap()[i]).collect();
        let (height, width) = (expected.shape()[0], expected.shape()[1]);
        let labels = draw(stars, &probabilities, [1.; 2], height, width).unwrap();
        assert_eq!(labels, expected.as_slice().unwrap(), "{name}");
    }
}

/// An image that is cut into tiles gives the maps of the whole one.
#[test]
fn tiles_do_not_show() {
    let Some(dir) = crate::assets::dir() else {
        return;
    };
    let loaded = format::open(dir.join("stardist")).unwrap();
    let config = config_of(&loaded);
    let network = Network::new(&config, loaded.params, Lend::Detached).unwrap();
    // Twice the same image side by side, as wide as two tiles.
    let once = config.prepare(&image(&dir, "stardist_img2d"), 1.).unwrap();
    let wide = Tensor::cat(&[&once, &once, &once], 2).unwrap();
    let wide = wide.narrow(1, 0, 256).unwrap().contiguous().unwrap();
    let spec = config.input();
    assert!(wide.dims()[2] > spec.tile && wide.device().same_device(&Device::Cpu));
    let tiled = predict(&network, &spec, &wide, InferOptions::default()).unwrap();
    let whole = selfadapt_core::model::InputSpec { tile: 4096, ..spec };
    let whole = predict(&network, &whole, &wide, InferOptions::default()).unwrap();
    for (which, most) in [(0, 1e-3), (1, 1e-3)] {
        let difference =
            largest_difference(&values(&tiled.heads[which]), &values(&whole.heads[which]));
        println!("head {which}: {difference}");
        assert!(difference < most, "head {which} differs by {difference}");
    }
}

/// Labels at a given diameter are of the image's size, and those of the working image of its own.
#[test]
fn a_given_diameter_is_undone_in_the_labels() {
    let Some(dir) = crate::assets::dir() else {
        return;
    };
    let loaded = format::open(dir.join("stardist")).unwrap();
    let config = config_of(&loaded);
    let network = Network::new(&config, loaded.params, Lend::Detached).unwrap();
    let image = image(&dir, "stardist_img2d");
    let scale = config.working_scale(Sizing::Diameter(30.)).unwrap();
    let prepared = config.prepare(&image, scale).unwrap();
    let maps = predict(
        &network,
        &config.input(),
        &prepared,
        InferOptions::default(),
    )
    .unwrap();
    let labels = config
        .decoder_at(scale)
        .decode(&maps, image.size())
        .unwrap();
    let (height, width) = image.size();
    // Without what was mirrored beyond the image.
    let [height, width] = [height, width].map(|side| (side as f64 * scale).round() as usize);
    let decoder = config.decoder_at(1.);
    let working = decoder.decode(&maps, (height, width)).unwrap();
    assert_eq!(labels.size(), image.size());
    assert_eq!(labels.count(), working.count());
    // The working image's labels, enlarged: the same objects but for single pixels of their borders.
    let enlarged = (0..labels.size().0 * labels.size().1).map(|at| {
        let (y, x) = (at / labels.size().1, at % labels.size().1);
        let place = |at: usize, most: usize| ((at as f64 * scale).round() as usize).min(most - 1);
        working.as_slice()[place(y, height) * width + place(x, width)]
    });
    let (rows, columns) = labels.size();
    let enlarged = Labels::from_rows(rows, columns, enlarged.collect()).unwrap();
    let ap = average_precision(&enlarged, &labels, &[0.75]).unwrap()[0].ap;
    println!("{} objects, AP@0.75 {ap}", labels.count());
    assert!(ap > 0.98, "{ap}");
}
