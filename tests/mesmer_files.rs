//! Mesmer's ONNX files: a small one against onnxruntime, written back, damaged, and of other networks.

use std::path::Path;

use candle_core::{DType, Device, Tensor};
use selfadapt_core::model::Mode;
use selfadapt_core::network::Network;
use selfadapt_core::params::Lend;
use selfadapt_models::format::{self, Loaded};
use selfadapt_models::weights::safetensors;

use crate::mesmer::{activated, apart, config_of, small_model, values};

#[test]
fn a_small_network_says_what_onnxruntime_says() {
    let loaded = format::open(small_model()).unwrap();
    let config = config_of(&loaded);
    assert_eq!(loaded.provenance.format, "mesmer");
    assert_eq!((config.filters, config.blocks), (4, [2, 1, 2, 1]));
    assert_eq!((config.pyramid, config.semantic, config.dense), (6, 5, 7));
    assert_eq!(config.tile, 64);
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/mesmer.safetensors");
    let golden = safetensors::read(golden).unwrap();
    let image = golden.get("image").unwrap().permute((0, 3, 1, 2)).unwrap();
    let image = image.contiguous().unwrap();
    // Without a graph, and in plain candle.
    for lend in [Lend::Detached, Lend::Tracked] {
        let network = Network::new(&config, loaded.params.clone(), lend).unwrap();
        let prediction = network.model.forward(&image, Mode::Eval).unwrap();
        assert_eq!(prediction.embedding.dims(), [1, 128]);
        for head in 0..4 {
            let expected = values(golden.get(&format!("semantic_{head}")).unwrap());
            let difference = apart(&activated(&prediction, head), &expected);
            assert!(difference < 1e-5, "{lend:?} semantic_{head}: {difference}");
        }
    }
}

#[test]
fn a_written_file_is_the_read_one_with_the_new_weights() {
    let folder = tempfile::tempdir().unwrap();
    let loaded = format::open(small_model()).unwrap();
    let save = format::named("mesmer").unwrap().save.unwrap();
    let write = |name: &str, loaded: &Loaded| {
        let path = folder.path().join(name);
        let (config, layout) = (loaded.config.as_ref(), &loaded.provenance.layout);
        save(&path, config, &loaded.params, layout).unwrap();
        path
    };
    let same = std::fs::read(write("same.onnx", &loaded)).unwrap();
    assert!(same == std::fs::read(small_model()).unwrap(), "other bytes");

    let bias = loaded.params.get("conv_1_semantic_2.bias").unwrap();
    bias.set(&Tensor::new(&[0.75f32], &Device::Cpu).unwrap())
        .unwrap();
    let changed = format::open(write("changed", &loaded)).unwrap();
    for ((name, old, _), (_, new, _)) in loaded.params.iter().zip(changed.params.iter()) {
        let differ = |t: &candle_core::Var| values(&t.to_dtype(DType::F32).unwrap());
        assert_eq!(differ(old), differ(new), "{name}");
    }
    // Through a safetensors file as well: the graph travels with the weights.
    let safe = folder.path().join("small.safetensors");
    let layout = &loaded.provenance.layout;
    selfadapt_models::run_folder::write_safetensors(
        &safe,
        &config_of(&loaded),
        &loaded.params,
        layout,
    )
    .unwrap();
    let back = write("back.onnx", &format::open(&safe).unwrap());
    assert_eq!(
        std::fs::read(back).unwrap(),
        std::fs::read(folder.path().join("changed")).unwrap()
    );

    let random = selfadapt_core::random_weights::random_weights(&config_of(&loaded), 3).unwrap();
    let error = save(
        &folder.path().join("none"),
        loaded.config.as_ref(),
        &random,
        layout,
    );
    let error = error.unwrap_err().to_string();
    assert!(error.contains("come without the ONNX file"), "{error}");
}

#[test]
fn files_of_other_networks_and_damaged_ones_are_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let bytes = std::fs::read(small_model()).unwrap();
    let say = |bytes: &[u8]| {
        let path = folder.path().join("bad.onnx");
        std::fs::write(&path, bytes).unwrap();
        format::open(&path).unwrap_err().to_string()
    };
    // Replaced by a text of the same length wherever it stands.
    let with = |old: &str, new: &str| {
        assert_eq!(old.len(), new.len());
        let mut bytes = bytes.clone();
        let places: Vec<usize> = (0..bytes.len() - old.len())
            .filter(|&at| bytes[at..].starts_with(old.as_bytes()))
            .collect();
        assert!(!places.is_empty(), "{old}");
        for at in places {
            bytes[at..at + old.len()].copy_from_slice(new.as_bytes());
        }
        bytes
    };
    for (old, new, expected) in [
        (
            "panopticnet/P3/Conv2D",
            "panopticnet/Q3/Conv2D",
            "P3: expected a Conv node",
        ),
        ("MaxPool", "MinPool", "expected 1 MaxPool nodes, found 0"),
        (
            "BatchNormalization",
            "WatchNormalization",
            "conv1_bn: expected a BatchNormalization node",
        ),
        (
            "semantic_3",
            "semantic_9",
            "conv_0_semantic_3: expected a Conv node",
        ),
        (
            "C5_reduced",
            "C6_reduced",
            "C5_reduced: expected a Conv node",
        ),
    ] {
        let error = say(&with(old, new));
        assert!(error.contains("not Mesmer's network"), "{error}");
        assert!(error.contains(expected), "{error}");
    }
    for length in [70, 1000, bytes.len() / 2, bytes.len() - 1] {
        let error = say(&bytes[..length]);
        assert!(error.contains("not a whole ONNX file"), "{length}: {error}");
    }
    let error = say(b"\x08\x08\x12\x04none");
    assert!(error.contains("there is no graph in it"), "{error}");
    std::fs::create_dir(folder.path().join("saved")).unwrap();
    std::fs::write(folder.path().join("saved/saved_model.pb"), "").unwrap();
    let error = format::open(folder.path().join("saved"))
        .unwrap_err()
        .to_string();
    assert!(error.contains("tf2onnx"), "{error}");
}
