//! Whole images through our Cellpose against Cellpose 3.1.1: the same cells, map by map and mask by mask.

use std::path::Path;

use candle_core::Tensor;
use ndarray::{Array2, Array3, ArrayD, Ix2};
use selfadapt_core::image::{Image, PixelType};
use selfadapt_core::infer::{InferOptions, predict, stitched};
use selfadapt_core::io::{self, Axes};
use selfadapt_core::labels::Labels;
use selfadapt_core::maps::Prediction;
use selfadapt_core::model::{ModelConfig, Sizing};
use selfadapt_core::network::Network;
use selfadapt_core::params::Lend;
use selfadapt_metrics::average_precision::average_precision;
use selfadapt_models::cellpose::net::style;
use selfadapt_models::cellpose::{CellposeConfig, size};
use selfadapt_models::format;
use selfadapt_models::weights::size_model::SizeModel;

use crate::npz::Npz;

fn network(dir: &Path) -> Network {
    let loaded = format::open(dir.join("cellpose/cyto_scellseg.pt")).unwrap();
    assert_eq!(loaded.config.working_scale(Sizing::Native).unwrap(), 1.);
    Network::new(loaded.config.as_ref(), loaded.params, Lend::Detached).unwrap()
}

fn image(dir: &Path, name: &str) -> Image {
    let path = dir.join(format!("data/{name}.tif"));
    io::read(path, &Axes::default()).unwrap().0
}

fn segment(
    network: &Network,
    config: &CellposeConfig,
    image: &Image,
    diameter: f64,
) -> (Prediction, Labels) {
    let scale = config.working_scale(Sizing::Diameter(diameter)).unwrap();
    let prepared = config.prepare(image, scale).unwrap();
    let prediction = predict(network, &config.input(), &prepared, InferOptions::default()).unwrap();
    let labels = config.decoder().decode(&prediction, image.size()).unwrap();
    (prediction, labels)
}

fn labels(masks: ArrayD<u32>) -> Labels {
    Labels::new(masks.into_dimensionality::<Ix2>().unwrap())
}

/// Same count within 1 %, average precision at IoU 0.9 at least 0.99.
fn assert_same_cells(name: &str, expected: &Labels, found: &Labels) {
    assert!(
        expected.count() > 5,
        "{name}: the reference has too few cells to say anything"
    );
    let off = expected.count().abs_diff(found.count()) as f64 / expected.count() as f64;
    let score = average_precision(expected, found, &[0.9]).unwrap()[0].ap;
    let differing = expected
        .as_slice()
        .iter()
        .zip(found.as_slice())
        .filter(|(a, b)| (**a > 0) != (**b > 0));
    println!(
        "{name}: {} cells, Cellpose {}, AP at 0.9 {score}, {} pixels of another class",
        found.count(),
        expected.count(),
        differing.count()
    );
    assert!(
        off <= 0.01,
        "{name}: {} cells, Cellpose {}",
        found.count(),
        expected.count()
    );
    assert!(score >= 0.99, "{name}: AP at IoU 0.9 is {score}");
}

fn values(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

fn largest_difference(found: &[f32], expected: &[f32]) -> f32 {
    assert_eq!(found.len(), expected.len());
    let differences = found.iter().zip(expected).map(|(a, b)| (a - b).abs());
    differences.fold(0., |largest, d| if d.is_nan() { d } else { largest.max(d) })
}

#[test]
fn images_decode_to_cellposes_cells() {
    let Some(dir) = crate::assets::dir() else {
        return;
    };
    let network = network(&dir);
    let config = CellposeConfig::default();
    for (name, diameter) in [
        ("mouse_00", 30.),
        ("mouse_00", 20.),
        ("stardist_img2d", 30.),
        ("stardist_img2d", 20.),
    ] {
        let case = format!("{name}_d{diameter}");
        let mut npz = Npz::open(dir.join(format!("cellpose/eval_{case}.npz")));
        let image = image(&dir, name);
        let (prediction, found) = segment(&network, &config, &image, diameter);
        assert_same_cells(&case, &labels(npz.u32("masks")), &found);
        if diameter == 30. {
            // No resizing, so the maps are comparable; they are stored in half precision.
            for (head, key) in prediction.heads.iter().zip(["dP", "cellprob"]) {
                let expected = npz.f32(key);
                let difference = largest_difference(&values(head), expected.as_slice().unwrap());
                assert!(difference < 0.02, "{case}: {key} differs by {difference}");
            }
        }
        let error = config.decoder().inconsistency(&prediction, &found).unwrap();
        assert!(
            (0.001..0.4).contains(&error),
            "{case}: mean flow error {error}"
        );
    }
}

#[test]
fn every_setting_decodes_to_cellposes_cells() {
    let Some(dir) = crate::assets::dir() else {
        return;
    };
    let network = network(&dir);
    let mouse = image(&dir, "mouse_00");
    // What cellpose_settings.py makes of the same file.
    let (height, _) = mouse.size();
    let at = mouse.pixels();
    let gray = Array3::from_shape_fn((1, 150, 209), |(_, y, x)| at[[0, y + 20, x + 31]]);
    let rgb = Array3::from_shape_fn((3, 130, 195), |(c, y, x)| match c {
        0 => at[[0, y + 10, x + 5]],
        1 => 255. - at[[0, y + 10, x + 5]],
        _ => at[[0, height - 1 - (y + 10), x + 5]],
    });
    let gray = Image::new(gray, PixelType::U8).unwrap();
    let rgb = Image::new(rgb, PixelType::U8).unwrap();

    let usual = CellposeConfig::default();
    let cases = [
        ("odd", &gray, 23., usual.clone()),
        (
            "augment",
            &gray,
            30.,
            CellposeConfig {
                augment: true,
                ..usual.clone()
            },
        ),
        (
            "no_resample",
            &gray,
            23.,
            CellposeConfig {
                resample: false,
                ..usual.clone()
            },
        ),
        (
            "no_interp",
            &gray,
            23.,
            CellposeConfig {
                interp: false,
                ..usual.clone()
            },
        ),
        (
            "two_channels",
            &rgb,
            25.,
            CellposeConfig {
                channels: [1, 2],
                ..usual.clone()
            },
        ),
        (
            "inverted",
            &rgb,
            25.,
            CellposeConfig {
                invert: true,
                ..usual.clone()
            },
        ),
    ];
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures");
    let mut npz = Npz::open(fixtures.join("cellpose_settings.npz"));
    for (name, image, diameter, config) in cases {
        let scale = config.working_scale(Sizing::Diameter(diameter)).unwrap();
        let prepared = config.prepare(image, scale).unwrap();
        let whole = stitched(
            &network,
            &config.input(),
            &prepared,
            InferOptions { batch: 4 },
        )
        .unwrap();
        let found = config
            .decoder()
            .decode(&whole.prediction, image.size())
            .unwrap();
        assert_same_cells(name, &labels(npz.u32(name)), &found);

        let styles = style(&whole.tile_embeddings)
            .unwrap()
            .sum_keepdim(0)
            .unwrap();
        let difference = largest_difference(
            &values(&style(&styles).unwrap()),
            npz.f32(&format!("{name}.style")).as_slice().unwrap(),
        );
        assert!(difference < 1e-5, "{name}: style differs by {difference}");

        let logits = &whole.prediction.heads[1];
        let (height, width) = (logits.dim(2).unwrap(), logits.dim(3).unwrap());
        let logits = Array2::from_shape_vec((height, width), values(logits)).unwrap();
        let logits = if config.resample {
            selfadapt_core::resize::bilinear(logits.view(), image.size())
        } else {
            logits
        };
        let rows = logits.rows().into_iter().step_by(8);
        let found: Vec<f32> = rows
            .flat_map(|row| row.into_iter().step_by(8).copied())
            .collect();
        let expected = npz.f32(&format!("{name}.cellprob"));
        let difference = largest_difference(&found, expected.as_slice().unwrap());
        assert!(
            difference < 1e-3,
            "{name}: cell logits differ by {difference}"
        );
    }

    let model = SizeModel {
        coefficients: npz.f64("size.A").iter().copied().collect(),
        style_mean: npz.f64("size.smean").iter().copied().collect(),
        diam_mean: 30.,
        log_ratio_mean: 0.1,
    };
    let found = size::estimate(&network, &usual, &model, &gray, InferOptions::default()).unwrap();
    let expected = npz.f64("size.diameters");
    assert!(
        (found.by_style / expected[[1]] - 1.).abs() < 1e-4,
        "{found:?}, Cellpose {expected}"
    );
    assert!(
        (found.pixels / expected[[0]] - 1.).abs() < 1e-3,
        "{found:?}, Cellpose {expected}"
    );
}

#[test]
fn poor_images_give_labels_and_no_panic() {
    let Some(dir) = crate::assets::dir() else {
        return;
    };
    let network = network(&dir);
    let config = CellposeConfig {
        exclude_on_edges: true,
        ..CellposeConfig::default()
    };
    let constant = |value: f32, height, width| {
        Image::new(
            Array3::from_elem((1, height, width), value),
            PixelType::Float,
        )
        .unwrap()
    };
    for image in [
        constant(0., 1, 1),
        constant(700., 33, 50),
        constant(0., 3, 300),
    ] {
        let (prediction, found) = segment(&network, &config, &image, 30.);
        assert_eq!(found.size(), image.size());
        let error = config.decoder().inconsistency(&prediction, &found).unwrap();
        assert!(found.count() > 0 || error.is_nan());
    }
    let tracked = Network::new(&config, network.params.clone(), Lend::Tracked).unwrap();
    let prepared = config.prepare(&constant(1., 20, 20), 1.).unwrap();
    let error = predict(
        &tracked,
        &config.input(),
        &prepared,
        InferOptions::default(),
    )
    .unwrap_err();
    assert!(error.to_string().contains("Lend::Detached"), "{error}");
}
