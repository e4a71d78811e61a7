//! `selfadapt models`: what is said of good files, of bad ones, and of files that mean harm.

use std::io::Write;
use std::path::Path;

use candle_core::{DType, Device, Tensor};
use selfadapt_models::weights::{Weights, torch};
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

use crate::{assert_told, assets, told};

/// What is done to the tensors of a good checkpoint.
type Change<'a> = &'a dyn Fn(&mut Vec<(String, Tensor)>);

/// A torch archive around any pickle.
fn write_archive(path: &Path, pickle: &[u8]) {
    let mut archive = ZipWriter::new(std::fs::File::create(path).unwrap());
    let stored = SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    for (name, bytes) in [("archive/data.pkl", pickle), ("archive/version", b"3\n")] {
        archive.start_file(name, stored).unwrap();
        archive.write_all(bytes).unwrap();
    }
    archive.finish().unwrap();
}

#[test]
fn says_what_is_wrong_with_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    std::fs::write(path("notes.txt"), "not a model\n").unwrap();
    std::fs::write(path("empty.pt"), []).unwrap();
    // c os \n system: what runs a command in a careless reader.
    let harmful = b"cos\nsystem\n(S'touch harmed'\ntR.";
    write_archive(&path("harmful.pt"), harmful);
    for (name, model) in [
        ("models_info_text", "notes.txt"),
        ("models_info_empty", "empty.pt"),
        ("models_info_missing", "missing.pt"),
        ("models_info_unknown_name", "cyto2"),
        ("models_info_harmful", "harmful.pt"),
    ] {
        assert_told!(name, told(folder.path(), &["models", "info", model]));
    }
    assert!(!path("harmed").exists());
}

#[test]
fn names_tensors_that_do_not_fit() {
    let Some(assets) = assets::dir() else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let checkpoint = assets.join("cellpose/cyto_scellseg.pt");
    let whole = std::fs::read(&checkpoint).unwrap();
    std::fs::write(
        folder.path().join("truncated.pt"),
        &whole[..whole.len() / 2],
    )
    .unwrap();

    let weights = torch::read(&checkpoint).unwrap();
    let changed = |file: &str, change: Change| {
        let mut tensors = weights.tensors.clone();
        change(&mut tensors);
        let weights = Weights {
            tensors,
            ..Weights::default()
        };
        torch::write(folder.path().join(file), &weights).unwrap();
    };
    let zeros = |shape: &[usize]| Tensor::zeros(shape, DType::F32, &Device::Cpu).unwrap();
    changed("missing.pt", &|tensors| {
        tensors.retain(|(name, _)| name != "output.2.bias")
    });
    changed("extra.pt", &|tensors| {
        tensors.push(("output.3.weight".into(), zeros(&[3])))
    });
    changed("misshaped.pt", &|tensors| {
        let bias = tensors.iter_mut().find(|(name, _)| name == "output.2.bias");
        bias.unwrap().1 = zeros(&[4]);
    });
    for (name, model) in [
        ("models_info_truncated", "truncated.pt"),
        ("models_info_missing_tensor", "missing.pt"),
        ("models_info_extra_tensor", "extra.pt"),
        ("models_info_misshaped_tensor", "misshaped.pt"),
    ] {
        assert_told!(name, told(folder.path(), &["models", "info", model]));
    }
}

#[test]
fn a_checkpoint_survives_conversion_there_and_back() {
    let Some(assets) = assets::dir() else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let checkpoint = assets.join("cellpose/cyto_scellseg.pt");
    std::fs::copy(&checkpoint, folder.path().join("model.pt")).unwrap();
    let convert = |from: &str, to: &str| told(folder.path(), &["models", "convert", from, to]);
    assert_told!("models_convert", convert("model.pt", "model.safetensors"));
    assert_told!("models_convert_back", convert("model.safetensors", "back"));
    assert_told!("models_convert_exists", convert("model.pt", "back"));
    let [before, after] =
        ["model.pt", "back"].map(|name| torch::read(folder.path().join(name)).unwrap());
    let names: [Vec<&str>; 2] = [before.names().collect(), after.names().collect()];
    assert_eq!(names[0], names[1]);
    for name in names[0].iter().copied() {
        let [a, b] = [&before, &after].map(|weights| weights.get(name).unwrap());
        assert_eq!((a.dtype(), a.dims()), (b.dtype(), b.dims()), "{name}");
        let bits = |t: &Tensor| {
            t.to_dtype(DType::F64)
                .unwrap()
                .flatten_all()
                .unwrap()
                .to_vec1::<f64>()
                .unwrap()
        };
        assert!(bits(a) == bits(b), "{name} changed");
    }
    for (name, model) in [
        ("models_info", "model.pt"),
        ("models_info_json", "model.pt"),
    ] {
        let mut arguments = vec!["models", "info", model];
        if name.ends_with("json") {
            arguments.push("--json");
        }
        assert_told!(name, told(folder.path(), &arguments));
    }
}
