//! StarDist's files: models of every shape that the package offers, written back, zipped, and damaged.

use std::io::Write;
use std::path::{Path, PathBuf};

use candle_core::Tensor;
use ndarray::{ArrayD, Axis, Dimension, Ix3};
use selfadapt_core::image::{Image, PixelType};
use selfadapt_core::infer::{InferOptions, predict};
use selfadapt_core::model::{ModelConfig, Sizing};
use selfadapt_core::network::Network;
use selfadapt_core::params::Lend;
use selfadapt_models::format::{self, Loaded};
use selfadapt_models::run_folder;

use crate::npz::Npz;
use crate::stardist::config_of;

/// The models of `golden/stardist/make.py`.
const MODELS: [&str; 4] = ["plain", "rgb_norm", "grid4_elu", "pool4"];

fn golden(name: &str) -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.join("golden/stardist").join(name)
}

/// The image of a model and both maps that the package predicts, `[Y, X]` and `[Y, X, rays]`.
fn expected(name: &str) -> (Image, ArrayD<f32>, ArrayD<f32>) {
    let mut npz = Npz::open(golden(&format!("{name}.npz")));
    let pixels = npz.f32("image").into_dimensionality::<Ix3>().unwrap();
    let pixels = pixels.permuted_axes([2, 0, 1]);
    let image = Image::new(pixels.as_standard_layout().to_owned(), PixelType::U8).unwrap();
    (image, npz.f32("prob"), npz.f32("dist"))
}

/// The maps of one of these images: object probability and distances.
fn maps(loaded: Loaded, image: &Image) -> [Tensor; 2] {
    let config = config_of(&loaded);
    let network = Network::new(&config, loaded.params, Lend::Detached).unwrap();
    let scale = config.working_scale(Sizing::Native).unwrap();
    let prepared = config.prepare(image, scale).unwrap();
    let options = InferOptions::default();
    let found = predict(&network, &config.input(), &prepared, options).unwrap();
    let prob = candle_nn::ops::sigmoid(&found.heads[0]).unwrap();
    [prob, found.heads[1].clone()].map(|map| map.get(0).unwrap())
}

/// The largest difference, of distances from 1e-3 up as the package cuts them.
fn apart(found: &Tensor, expected: &ArrayD<f32>, least: f32) -> f32 {
    let found = found.to_vec3::<f32>().unwrap();
    let differences = expected.indexed_iter().map(|(at, expected)| {
        let channel = at.slice().get(2).copied().unwrap_or(0);
        (found[channel][at[0]][at[1]].max(least) - expected).abs()
    });
    differences.fold(0., |most: f32, d| if d.is_nan() { d } else { most.max(d) })
}

#[test]
fn models_of_every_shape_predict_as_in_the_package() {
    for name in MODELS {
        let (image, prob, dist) = expected(name);
        let loaded = format::open(golden(name)).unwrap();
        assert_eq!(loaded.provenance.format, "stardist");
        let [found_prob, found_dist] = maps(loaded, &image);
        let largest = dist.iter().fold(0f32, |most, d| most.max(d.abs()));
        let off = [
            apart(&found_prob, &prob, 0.),
            apart(&found_dist, &dist, 1e-3) / largest,
        ];
        println!(
            "{name}: prob within {}, dist within {} of {largest}",
            off[0], off[1]
        );
        assert!(off.iter().all(|off| *off < 1e-4), "{name}: {off:?}");
    }
}

#[test]
fn what_is_written_is_the_same_model() {
    for name in MODELS {
        let folder = tempfile::tempdir().unwrap();
        let loaded = format::open(golden(name)).unwrap();
        let sized = loaded.config.sized(Sizing::Diameter(44.)).unwrap();
        // There by way of a safetensors file, and from that to a folder.
        let (middle, written) = (folder.path().join("m.safetensors"), folder.path().join("m"));
        let layout = &loaded.provenance.layout;
        run_folder::write_safetensors(&middle, sized.as_ref(), &loaded.params, layout).unwrap();
        let between = format::open(&middle).unwrap();
        let save = format::named("stardist").unwrap().save.unwrap();
        let layout = &between.provenance.layout;
        save(&written, between.config.as_ref(), &between.params, layout).unwrap();
        let again = format::open(&written).unwrap();
        let (before, after) = (config_of(&loaded), config_of(&again));
        assert_eq!((before.scale, after.scale), (1., 0.5));
        assert_eq!(after, config_of(&between), "{name}");
        assert_eq!(loaded.params.len(), again.params.len());
        for (a, b) in loaded.params.iter().zip(again.params.iter()) {
            let bits = |var: &Tensor| -> Vec<u32> {
                let flat = var.to_dtype(candle_core::DType::F32).unwrap();
                let flat = flat.flatten_all().unwrap().to_vec1::<f32>().unwrap();
                flat.into_iter().map(f32::to_bits).collect()
            };
            assert_eq!((a.0, bits(a.1), a.2), (b.0, bits(b.1), b.2), "{name}");
        }
        // The package's own two files say the same as before.
        for file in ["config.json", "thresholds.json"] {
            let json = |path: PathBuf| -> serde_json::Value {
                serde_json::from_slice(&std::fs::read(path.join(file)).unwrap()).unwrap()
            };
            assert_eq!(json(golden(name)), json(written.clone()), "{name}/{file}");
        }
    }
}

#[test]
fn archives_are_opened_with_their_folder_or_without() {
    let folder = tempfile::tempdir().unwrap();
    let (image, prob, _) = expected("plain");
    for root in ["", "2D_demo/", "a/b/"] {
        let path = folder.path().join("model.zip");
        let mut zip = zip::ZipWriter::new(std::fs::File::create(&path).unwrap());
        let options = zip::write::SimpleFileOptions::default();
        for file in ["config.json", "thresholds.json", "weights_best.h5"] {
            zip.start_file(format!("{root}{file}"), options).unwrap();
            let bytes = std::fs::read(golden("plain").join(file)).unwrap();
            zip.write_all(&bytes).unwrap();
        }
        // What macOS adds.
        zip.start_file("__MACOSX/._config.json", options).unwrap();
        zip.finish().unwrap();
        let loaded = format::open(&path).unwrap();
        assert_eq!(config_of(&loaded).prob_thresh, 0.6);
        assert!(apart(&maps(loaded, &image)[0], &prob, 0.) < 1e-4);
    }
}

/// A copy of the plain model with one file replaced, or taken away.
fn changed(file: &str, contents: Option<&[u8]>) -> String {
    let folder = tempfile::tempdir().unwrap();
    for name in ["config.json", "thresholds.json", "weights_best.h5"] {
        let from = golden("plain").join(name);
        std::fs::copy(from, folder.path().join(name)).unwrap();
    }
    let path = folder.path().join(file);
    match contents {
        Some(contents) => std::fs::write(path, contents).unwrap(),
        None => std::fs::remove_file(path).unwrap(),
    }
    match format::open(folder.path()) {
        Ok(_) => format!("{file}: opened"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn folders_that_are_no_such_model_are_explained() {
    let config = std::fs::read_to_string(golden("plain/config.json")).unwrap();
    let with = |from: &str, to: &str| {
        assert!(config.contains(from), "{from}");
        changed("config.json", Some(config.replace(from, to).as_bytes()))
    };
    let of_another = std::fs::read(golden("rgb_norm/weights_best.h5")).unwrap();
    let of_pool = std::fs::read(golden("pool4/weights_best.h5")).unwrap();
    let whole = std::fs::read(golden("plain/weights_best.h5")).unwrap();
    for (found, complaint) in [
        (with("\"n_dim\": 2", "\"n_dim\": 3"), "3D is not supported"),
        (
            with("\"unet\"", "\"resnet\""),
            "backbone resnet: expected unet",
        ),
        (with("unet_pool", "unet_pond"), "unet_pond is not a setting"),
        (
            with("\"n_rays\": 32", "\"n_rays\": \"32\""),
            "n_rays = \"32\"",
        ),
        (
            with("\"net_conv_after_unet\": 8", "\"net_conv_after_unet\": 16"),
            "another architecture",
        ),
        (changed("config.json", None), "known are"),
        (changed("weights_best.h5", None), "without weights"),
        (
            changed("weights_best.h5", Some(&of_another)),
            "another architecture",
        ),
        (
            changed("weights_best.h5", Some(&of_pool)),
            "another architecture",
        ),
        (
            changed("weights_best.h5", Some(&whole[..9000])),
            "not a whole HDF5 file",
        ),
        (
            changed("weights_best.h5", Some(b"")),
            "not a whole HDF5 file",
        ),
        (
            changed("thresholds.json", Some(b"{")),
            "thresholds.json: EOF",
        ),
        (
            changed("thresholds.json", Some(b"{\"prob\": 7}")),
            "prob: expected more than 0",
        ),
        (
            changed("thresholds.json", Some(b"{\"nms\": \"x\"}")),
            "nms: expected more than 0",
        ),
        (
            changed("selfadapt.json", Some(b"{\"scale\": 0}")),
            "selfadapt.json: missing field",
        ),
    ] {
        assert!(found.contains(complaint), "{found}\nlacks: {complaint}");
    }
    // The package goes on with 0.5 and 0.4 where there are no thresholds, and so do we.
    assert_eq!(changed("thresholds.json", None), "thresholds.json: opened");
}

/// One channel in place of three, and three in place of one, are refused by the image's name for it.
#[test]
fn channels_that_do_not_fit_are_named() {
    let (three, _, _) = expected("rgb_norm");
    let config = config_of(&format::open(golden("plain")).unwrap());
    let error = config.prepare(&three, 1.).unwrap_err().to_string();
    assert!(
        error.contains("takes 1 channels, the image has 3"),
        "{error}"
    );
    let first = three.pixels().select(Axis(0), &[0]);
    let one = Image::new(first, PixelType::U8).unwrap();
    let config = config_of(&format::open(golden("rgb_norm")).unwrap());
    let error = config.prepare(&one, 1.).unwrap_err().to_string();
    assert!(
        error.contains("takes 3 channels, the image has 1"),
        "{error}"
    );
}
