//! Our Mesmer against deepcell and onnxruntime: preprocessing, tiles, maps, labels.

use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};
use ndarray::{Array3, ArrayD, Axis, Ix3};
use selfadapt_core::error::Result;
use selfadapt_core::head::{Equivariance, Head, HeadKind};
use selfadapt_core::image::{Image, PixelType};
use selfadapt_core::infer::{InferOptions, predict};
use selfadapt_core::labels::Labels;
use selfadapt_core::maps::Prediction;
use selfadapt_core::model::{InstanceDecoder, Mode, ModelConfig, SegmentationModel, Sizing};
use selfadapt_core::network::Network;
use selfadapt_core::params::{Lend, ParamSet, Role};
use selfadapt_kernels::gaussian::{Edge, gaussian};
use selfadapt_kernels::h_maxima::{components, h_maxima};
use selfadapt_metrics::average_precision::average_precision;
use selfadapt_models::format::{self, Loaded};
use selfadapt_models::mesmer::decode::{Compartment, MesmerDecoder};
use selfadapt_models::mesmer::{Compartments, MesmerConfig};

use crate::npz::Npz;

/// A small network of random weights with all that Mesmer's file has: see `golden/make_mesmer.py`.
pub fn small_model() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/mesmer.onnx")
}

/// Mesmer's own network, which may not be given away: `SELFADAPT_MESMER_ONNX` says where it is, if it is there.
fn real_model() -> Option<PathBuf> {
    let path = std::env::var_os("SELFADAPT_MESMER_ONNX").map(PathBuf::from);
    if path.is_none() {
        println!("skipped: SELFADAPT_MESMER_ONNX does not say where Mesmer's network is");
    }
    path
}

pub fn config_of(loaded: &Loaded) -> MesmerConfig {
    let config: &dyn std::any::Any = loaded.config.as_ref();
    config.downcast_ref::<MesmerConfig>().unwrap().clone()
}

pub fn values(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

/// The largest difference, in parts of the range of what is expected.
pub fn apart(found: &[f32], expected: &[f32]) -> f32 {
    assert_eq!(found.len(), expected.len());
    let least = expected.iter().copied().fold(f32::INFINITY, f32::min);
    let most = expected.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let differences = found.iter().zip(expected).map(|(a, b)| (a - b).abs());
    let largest = differences.fold(0f32, |l, d| if d.is_nan() { d } else { l.max(d) });
    largest / (most - least)
}

/// The original's output of a head (`[H, W, C]`, activated), from our maps.
pub fn activated(prediction: &Prediction, head: usize) -> Vec<f32> {
    activated_of(prediction, head, 0)
}

/// The same of one image of a batch.
fn activated_of(prediction: &Prediction, head: usize, image: usize) -> Vec<f32> {
    let map = &prediction.heads[head];
    let map = if head.is_multiple_of(2) {
        map.clone()
    } else {
        candle_nn::ops::softmax(map, 1).unwrap()
    };
    values(&map.get(image).unwrap().permute((1, 2, 0)).unwrap())
}

fn image_of(array: &ArrayD<f32>) -> Image {
    let array = array.clone().into_dimensionality::<Ix3>().unwrap();
    let planes = array
        .permuted_axes([2, 0, 1])
        .as_standard_layout()
        .into_owned();
    Image::new(planes, PixelType::U8).unwrap()
}

fn labels_of(array: &ArrayD<u32>) -> Labels {
    let shape = array.shape();
    Labels::from_rows(shape[0], shape[1], array.iter().copied().collect()).unwrap()
}

fn ap90(expected: &Labels, found: &Labels) -> f64 {
    average_precision(expected, found, &[0.9]).unwrap()[0].ap
}

#[test]
fn a_missing_pixel_size_is_asked_for() {
    let config = MesmerConfig::default();
    let error = config
        .working_scale(Sizing::Native)
        .unwrap_err()
        .to_string();
    assert!(error.contains("give --pixel-size"), "{error}");
    let error = config
        .working_scale(Sizing::Diameter(20.))
        .unwrap_err()
        .to_string();
    assert!(error.contains("knows no diameters"), "{error}");
    assert!(config.working_scale(Sizing::PixelSize(-1.)).is_err());
    assert_eq!(config.working_scale(Sizing::PixelSize(0.25)).unwrap(), 0.5);
    let sized = config.sized(Sizing::PixelSize(0.4)).unwrap();
    assert_eq!(sized.working_scale(Sizing::Native).unwrap(), 0.8);
}

#[test]
fn prepared_images_are_those_of_deepcell_to_the_bit() {
    let Some(dir) = crate::assets::dir() else {
        return;
    };
    for name in ["tile256", "crop512"] {
        let mut npz = Npz::open(dir.join(format!("mesmer/{name}.npz")));
        let prepared = MesmerConfig::default()
            .prepare(&image_of(&npz.f32("raw")), 1.)
            .unwrap();
        let found = values(&prepared.permute((1, 2, 0)).unwrap());
        let expected = npz.f32("pre");
        let other = found.iter().zip(&expected).filter(|(a, b)| a != b).count();
        assert_eq!(
            other,
            0,
            "{name}: {} apart",
            apart(&found, expected.as_slice().unwrap())
        );
    }
}

#[test]
fn instances_of_the_recorded_maps_are_those_of_deepcell() {
    let Some(dir) = crate::assets::dir() else {
        return;
    };
    for (name, interior, ending) in [
        ("tile256", "_ch1_f32", ""),
        ("crop512", "_ch1", "_from_f16"),
    ] {
        let mut npz = Npz::open(dir.join(format!("mesmer/{name}.npz")));
        for (compartment, labels, head) in [
            (Compartment::WholeCell, "whole_cell", 0),
            (Compartment::Nuclear, "nuclear", 2),
        ] {
            let expected = npz.u32(&format!("{labels}{ending}"));
            let size = (expected.shape()[0], expected.shape()[1]);
            let distance = npz.f32(&format!("semantic_{head}"));
            let interior = npz.f32(&format!("semantic_{}{interior}", head + 1));
            let decoder = MesmerDecoder::new(MesmerConfig::default(), compartment);
            let found = decoder.instances(
                distance.as_slice().unwrap(),
                interior.as_slice().unwrap(),
                size,
            );
            let found = found.unwrap();
            let other = found.iter().zip(&expected).filter(|(a, b)| a != b).count();
            assert_eq!(other, 0, "{name} {labels}: pixels differ");
        }
    }
    let (mut maps, mut steps) = (
        Npz::open(dir.join("mesmer/tile256.npz")),
        Npz::open(dir.join("mesmer/tile256_post_steps.npz")),
    );
    let interior = maps.f32("semantic_1_ch1_f32");
    let smooth = gaussian(
        interior.as_slice().unwrap(),
        (256, 256),
        (2., 2.),
        Edge::Mirrored,
    )
    .unwrap();
    assert!(
        smooth == steps.f32("interior_smoothed").as_slice().unwrap(),
        "smoothing differs"
    );
    let distance = maps.f32("semantic_0");
    let peaks = h_maxima(distance.as_slice().unwrap(), 256, 256, 0.075, 2).unwrap();
    let markers = components(&peaks, 256, 256).unwrap();
    assert!(
        markers == steps.u32("markers").as_slice().unwrap(),
        "markers differ"
    );
}

/// Says 1 on a tile whose first pixel is 1, else 0.
struct Flagged([Head; 1]);

impl SegmentationModel for Flagged {
    fn heads(&self) -> &[Head] {
        &self.0
    }

    fn forward(&self, images: &Tensor, _: Mode) -> Result<Prediction> {
        let flag = images.narrow(2, 0, 1)?.narrow(3, 0, 1)?;
        Ok(Prediction {
            heads: vec![flag.broadcast_as(images.shape())?.contiguous()?],
            embedding: flag.flatten_from(1)?,
        })
    }
}

#[test]
fn tiles_are_weighted_by_the_splines_of_deepcell() {
    let Some(dir) = crate::assets::dir() else {
        return;
    };
    let mut windows = Npz::open(dir.join("mesmer/spline_windows.npz"));
    let head = Head {
        name: "flag",
        channels: 1,
        kind: HeadKind::Regression(Equivariance::Scalar),
    };
    let network = Network {
        model: Box::new(Flagged([head])),
        params: ParamSet::new([], |_| Role::Weight).unwrap(),
        grid: 1,
    };
    let spec = selfadapt_core::model::InputSpec {
        channels: 1,
        ..MesmerConfig::default().input()
    };
    // Three tiles along both axes, of which one is flagged.
    let names = ["0_64", "64_64", "64_0"];
    for (row, column) in [(0, 0), (1, 0), (1, 1), (2, 1), (0, 2)] {
        let mut pixels = vec![0f32; 640 * 640];
        pixels[row * 192 * 640 + column * 192] = 1.;
        let image = Tensor::from_vec(pixels, (1, 640, 640), &Device::Cpu).unwrap();
        let found = predict(&network, &spec, &image, InferOptions::default()).unwrap();
        let found = found.heads[0].get(0).unwrap().get(0).unwrap();
        let found = found.narrow(0, row * 192, 256).unwrap();
        let found = values(&found.narrow(1, column * 192, 256).unwrap());
        let (down, across) = (windows.f64(names[row]), windows.f64(names[column]));
        for (at, &weight) in found.iter().enumerate() {
            let expected = down[[at / 256]] * across[[at % 256]];
            assert!(
                (f64::from(weight) - expected).abs() < 1e-6,
                "{row} {column} {at}"
            );
        }
    }
}

#[test]
fn maps_and_labels_are_those_of_mesmer() {
    let (Some(dir), Some(path)) = (crate::assets::dir(), real_model()) else {
        return;
    };
    let loaded = format::open(path).unwrap();
    let config = config_of(&loaded);
    assert_eq!(config, MesmerConfig::default());
    let network = Network::new(&config, loaded.params, Lend::Detached).unwrap();
    let decoders = [Compartment::WholeCell, Compartment::Nuclear]
        .map(|compartment| MesmerDecoder::new(config.clone(), compartment));
    for name in ["tile256", "crop512", "full1024"] {
        let mut npz = Npz::open(dir.join(format!("mesmer/{name}.npz")));
        let raw = if name == "full1024" {
            let planes = [npz.f32("hh3"), npz.f32("membrane")];
            ndarray::stack(Axis(2), &[planes[0].view(), planes[1].view()]).unwrap()
        } else {
            npz.f32("raw")
        };
        let image = image_of(&raw);
        let prepared = config.prepare(&image, 1.).unwrap();
        let start = std::time::Instant::now();
        let maps = predict(
            &network,
            &config.input(),
            &prepared,
            InferOptions::default(),
        )
        .unwrap();
        println!("{name}: network {:?}", start.elapsed());
        if name == "tile256" {
            for head in [0, 2] {
                let expected = npz.f32(&format!("semantic_{head}"));
                let distance = apart(&activated(&maps, head), expected.as_slice().unwrap());
                let classes = activated(&maps, head + 1);
                let interior: Vec<f32> = classes.iter().skip(1).step_by(3).copied().collect();
                let expected = npz.f32(&format!("semantic_{}_ch1_f32", head + 1));
                let interior = apart(&interior, expected.as_slice().unwrap());
                println!("{name}: semantic_{head} within {distance}, classes within {interior}");
                assert!(distance < 1e-3 && interior < 1e-3, "{distance} {interior}");
            }
        }
        for (decoder, labels) in decoders.iter().zip(["whole_cell", "nuclear"]) {
            let found = decoder.decode(&maps, image.size()).unwrap();
            let expected = labels_of(&npz.u32(labels));
            let ap = ap90(&expected, &found);
            println!(
                "{name} {labels}: {} for {} objects, AP@0.9 {ap:.4}",
                found.count(),
                expected.count()
            );
            assert!(ap >= 0.97, "{name} {labels}: AP@0.9 {ap}");
        }
    }
}

/// `cargo xtask interop mesmer` says where an adapted network is, and what ONNX Runtime computed with it.
#[test]
fn a_written_network_computes_what_onnxruntime_does() {
    let place = |name| std::env::var_os(name).map(PathBuf::from);
    let (Some(written), Some(maps)) = (
        place("SELFADAPT_MESMER_WRITTEN"),
        place("SELFADAPT_MESMER_MAPS"),
    ) else {
        println!("skipped: cargo xtask interop mesmer runs it");
        return;
    };
    let loaded = format::open(written).unwrap();
    let network = Network::new(&config_of(&loaded), loaded.params, Lend::Detached).unwrap();
    let mut npz = Npz::open(maps);
    let tiles = npz.f32("tiles");
    let tiles = Tensor::from_vec(tiles.iter().copied().collect(), tiles.shape(), &Device::Cpu);
    let tiles = tiles.unwrap().permute((0, 3, 1, 2)).unwrap();
    let said = network
        .model
        .forward(&tiles.contiguous().unwrap(), Mode::Eval);
    let said = said.unwrap();
    println!("| head | selfadapt against onnxruntime |\n| --- | ---: |");
    for head in 0..4 {
        let expected = npz.f32(&format!("semantic_{head}"));
        let mut found = Vec::new();
        for tile in 0..expected.shape()[0] {
            found.extend(activated_of(&said, head, tile));
        }
        let off = apart(&found, expected.as_slice().unwrap());
        println!("| semantic_{head} | {off:.1e} |");
        assert!(off < 1e-3, "semantic_{head}: {off}");
    }
}

#[test]
fn small_images_are_mirrored_up_to_a_tile() {
    let loaded = format::open(small_model()).unwrap();
    let config = config_of(&loaded);
    let network = Network::new(&config, loaded.params, Lend::Detached).unwrap();
    let pixels = Array3::from_shape_fn((2, 40, 90), |(c, y, x)| ((c + y * 3 + x * 5) % 17) as f32);
    let image = Image::new(pixels, PixelType::U8).unwrap();
    let prepared = config.prepare(&image, 1.).unwrap();
    let maps = predict(
        &network,
        &config.input(),
        &prepared,
        InferOptions::default(),
    )
    .unwrap();
    for (head, map) in network.model.heads().iter().zip(&maps.heads) {
        assert_eq!(map.dims(), [1, head.channels, 40, 90]);
    }
    let both = MesmerConfig {
        compartment: Compartments::Both,
        ..config
    };
    let others = both.other_decoders();
    assert_eq!(others.len(), 1);
    assert_eq!(others[0].0, "nuclear");
    let nuclei = others[0].1.decode(&maps, (40, 90)).unwrap();
    assert_eq!(nuclei.size(), (40, 90));
    assert!(both.decoder().decode(&maps, (40, 90)).is_ok());
}
