//! Opening models: by their own format, as safetensors, as a run folder; and what is said of everything else.

use std::path::Path;

use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use proptest::prelude::*;
use selfadapt_core::error::Result;
use selfadapt_core::head::Head;
use selfadapt_core::image::Image;
use selfadapt_core::maps::Prediction;
use selfadapt_core::model::{
    InputSpec, InstanceDecoder, Mode, ModelConfig, SegmentationModel, Sizing,
};
use selfadapt_core::params::{ParamSet, Role};
use selfadapt_models::format::{self, Contents, ModelFormat, Recognition};
use selfadapt_models::run_folder;
use selfadapt_models::weights::{Layout, Weights, safetensors, torch};

/// A model of one 1x1 convolution, whose format is registered as a real one's.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Speck {
    outputs: usize,
}

struct SpeckNet(Vec<Head>);

impl SegmentationModel for SpeckNet {
    fn heads(&self) -> &[Head] {
        &self.0
    }
    fn forward(&self, images: &Tensor, _: Mode) -> Result<Prediction> {
        Ok(Prediction {
            heads: vec![images.clone()],
            embedding: images.clone(),
        })
    }
}

#[typetag::serde(name = "speck")]
impl ModelConfig for Speck {
    fn input(&self) -> InputSpec {
        unreachable!("opening asks for no input")
    }
    fn role(&self, name: &str) -> Role {
        match name {
            "steps" => Role::Constant,
            _ => Role::Weight,
        }
    }
    fn build(&self, weights: VarBuilder) -> Result<Box<dyn SegmentationModel>> {
        weights.get((self.outputs, 1, 1, 1), "speck.weight")?;
        weights.get(self.outputs, "speck.bias")?;
        Ok(Box::new(SpeckNet(Vec::new())))
    }
    fn decoder(&self) -> Box<dyn InstanceDecoder> {
        unreachable!("opening asks for no decoder")
    }
    fn working_scale(&self, _: Sizing) -> Result<f64> {
        Ok(1.0)
    }
    fn prepare(&self, _: &Image, _: f64) -> Result<Tensor> {
        unreachable!("opening prepares no image")
    }
    fn boxed(&self) -> Box<dyn ModelConfig> {
        Box::new(self.clone())
    }
}

inventory::submit! {
    ModelFormat {
        name: "speck",
        files: "a Speck checkpoint (torch file)",
        recognises: |candidate| match &candidate.contents {
            Contents::Tensors(weights) if weights.get("speck.weight").is_some() => Recognition::Known,
            Contents::Tensors(weights) if weights.get("speck2.weight").is_some() => {
                Recognition::Refused("a Speck 2 checkpoint, which is not read yet".into())
            }
            _ => Recognition::Foreign,
        },
        open: |candidate| {
            let Contents::Tensors(weights) = &candidate.contents else {
                unreachable!("only tensors are recognised");
            };
            let outputs = weights.get("speck.weight").map_or(0, |w| w.dims()[0]);
            let config = Speck { outputs };
            let params = ParamSet::new(weights.tensors.iter().cloned(), |name| config.role(name))?;
            Ok((Box::new(config), params))
        },
        save: Some(|path, _, params, layout| torch::write(path, &Weights::of_params(params, layout))),
    }
}

fn tensor(shape: &[usize]) -> Tensor {
    let n = shape.iter().product::<usize>();
    let values: Vec<f32> = (0..n).map(|i| i as f32 / 3.0 - 1.0).collect();
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
}

/// Names out of alphabetical order, half-precision weights, an integer beside them.
fn speck(prefix: &str) -> Weights {
    let steps = Tensor::new(&[7i64], &Device::Cpu).unwrap();
    let weight = tensor(&[2, 1, 1, 1]).to_dtype(DType::F16).unwrap();
    Weights {
        tensors: [
            ("steps", steps),
            ("speck.weight", weight),
            ("speck.bias", tensor(&[2])),
        ]
        .map(|(name, tensor)| (format!("{prefix}{name}"), tensor))
        .into(),
        ..Weights::default()
    }
}

fn words(result: Result<format::Loaded>) -> String {
    result.unwrap_err().to_string()
}

#[test]
fn a_checkpoint_is_opened_by_the_model_that_knows_its_names() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model");
    for prefix in ["", "module."] {
        torch::write(&path, &speck(prefix)).unwrap();
        let loaded = format::open(&path).unwrap();
        assert_eq!(loaded.provenance.format, "speck");
        assert_eq!(loaded.provenance.sha256.len(), 64);
        assert_eq!(loaded.provenance.bytes, path.metadata().unwrap().len());
        assert_eq!(
            loaded.provenance.layout.order,
            ["steps", "speck.weight", "speck.bias"]
        );
        let weight = loaded.params.get("speck.weight").unwrap();
        assert_eq!(weight.dtype(), DType::F32);
        assert_eq!(loaded.params.get("steps").unwrap().dtype(), DType::I64);
    }
}

#[test]
fn a_run_folder_opens_from_our_weights_or_else_from_the_models_own() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model");
    torch::write(&path, &speck("")).unwrap();
    let loaded = format::open(&path).unwrap();
    let run = folder.path().join("run");
    std::fs::create_dir(&run).unwrap();
    let layout = &loaded.provenance.layout;
    run_folder::write(&run, loaded.config.as_ref(), &loaded.params, layout).unwrap();
    let ours = format::open(&run).unwrap();
    assert_eq!(ours.provenance.path, run.join("delivered.safetensors"));
    assert_eq!(ours.provenance.layout, loaded.provenance.layout);
    assert_eq!(format!("{:?}", ours.config), format!("{:?}", loaded.config));
    std::fs::remove_file(run.join("delivered.safetensors")).unwrap();
    let native = format::open(&run).unwrap();
    assert_eq!(native.provenance.path, run.join("adapted"));
    for opened in [ours, native] {
        assert_eq!(opened.params.len(), 3);
        for (name, var, _) in loaded.params.iter() {
            let difference =
                (opened.params.get(name).unwrap().as_tensor() - var.as_tensor()).unwrap();
            let difference = difference.to_dtype(DType::F64).unwrap().abs().unwrap();
            assert_eq!(
                difference.sum_all().unwrap().to_scalar::<f64>().unwrap(),
                0.0
            );
        }
    }
    std::fs::remove_file(run.join("adapted")).unwrap();
    assert!(words(format::open(&run)).contains("the run did not finish"));
    std::fs::write(
        run.join("model.json"),
        r#"{"model": "spekc", "outputs": 2}"#,
    )
    .unwrap();
    let message = words(format::open(&run));
    assert!(
        message.contains("model.json: unknown variant `spekc`"),
        "{message}"
    );
}

#[test]
fn a_safetensors_file_of_ours_stands_alone_and_is_the_same_twice() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model");
    torch::write(&path, &speck("")).unwrap();
    let loaded = format::open(&path).unwrap();
    let [a, b] = ["a.safetensors", "b.safetensors"].map(|name| folder.path().join(name));
    for path in [&a, &b] {
        let layout = &loaded.provenance.layout;
        run_folder::write_safetensors(path, loaded.config.as_ref(), &loaded.params, layout)
            .unwrap();
    }
    assert_eq!(std::fs::read(&a).unwrap(), std::fs::read(&b).unwrap());
    let opened = format::open(&a).unwrap();
    assert_eq!(opened.provenance.format, "speck");
    assert_eq!(opened.provenance.layout, loaded.provenance.layout);
}

#[test]
fn missing_extra_and_misshaped_tensors_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model");
    let open = |change: fn(&mut Weights)| {
        let mut weights = speck("");
        change(&mut weights);
        torch::write(&path, &weights).unwrap();
        words(format::open(&path))
    };
    let missing = open(|weights| drop(weights.tensors.pop()));
    assert!(
        missing.contains("speck.bias: expected by the model, missing"),
        "{missing}"
    );
    let extra = open(|weights| weights.tensors.push(("more".into(), tensor(&[1]))));
    assert!(
        extra.contains("1 tensor is unknown to the model: more"),
        "{extra}"
    );
    let misshaped = open(|weights| weights.tensors[2].1 = tensor(&[3]));
    assert!(
        misshaped.contains("speck.bias: expected [2], the weights hold [3]"),
        "{misshaped}"
    );
    for message in [missing, extra, misshaped] {
        assert!(message.contains("model: "), "no path: {message}");
    }
}

#[test]
fn what_no_model_knows_is_described_beside_what_is_known() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("thing");
    let says = |bytes: &[u8]| {
        std::fs::write(&path, bytes).unwrap();
        words(format::open(&path))
    };
    for (bytes, what) in [
        (b"".as_slice(), "an empty file"),
        (b"<!DOCTYPE html>", "an HTML or XML page"),
        (b"II*\0....", "a TIFF image"),
        (
            b"version https://git-lfs.github.com/spec/v1",
            "git lfs pull",
        ),
        (
            b"\x80\x04K\x01.",
            "a Python pickle that torch did not write",
        ),
        (b"hello", "a file of unknown kind"),
    ] {
        let message = says(bytes);
        assert!(message.contains(what), "{message}");
        assert!(
            message.contains("a Speck checkpoint (torch file)"),
            "{message}"
        );
    }
    // A weights file alone cannot say which network it is for: the model that knows the format says so.
    let alone = says(b"\x89HDF\r\n\x1a\n");
    assert!(
        alone.contains("an HDF5 file by itself") && alone.contains("give the folder"),
        "{alone}"
    );
    assert!(says(b"PK\x03\x04 and no more").contains("truncated or damaged"));
    let mut foreign = Weights::default();
    foreign.tensors.push(("body.0".into(), tensor(&[1])));
    torch::write(&path, &foreign).unwrap();
    assert!(words(format::open(&path)).contains("a file of 1 tensors (body.0, ...)"));
    foreign.tensors[0].0 = "speck2.weight".into();
    torch::write(&path, &foreign).unwrap();
    assert!(words(format::open(&path)).ends_with("a Speck 2 checkpoint, which is not read yet"));
    assert!(words(format::open(folder.path())).contains("a folder of 1 entries (thing, ...)"));
    assert!(words(format::open("nowhere/at all")).contains("No such file"));
    let message = format::named("speckle").err().unwrap().to_string();
    assert!(
        message.contains("no model is called speckle; known are "),
        "{message}"
    );
}

#[test]
fn damaged_safetensors_are_errors() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.safetensors");
    safetensors::write(&path, &speck("")).unwrap();
    let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
    for length in (0..path.metadata().unwrap().len()).rev() {
        file.set_len(length).unwrap();
        assert!(safetensors::read(&path).is_err(), "cut to {length} bytes");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))] // each brings a file to disk

    #[test]
    fn safetensors_keep_order_types_metadata_and_bits(
        values in prop::collection::vec(any::<f32>(), 0..20),
        note in ".{0,20}",
    ) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.safetensors");
        let floats = Tensor::new(values.as_slice(), &Device::Cpu).unwrap();
        let halves = |dtype| floats.to_dtype(dtype).unwrap();
        let mut weights = Weights {
            tensors: [
                ("z", halves(DType::F16)),
                ("y", halves(DType::BF16)),
                ("x", floats.clone()),
                ("w", Tensor::new(&[1i64, -5], &Device::Cpu).unwrap()),
            ].map(|(name, tensor)| (name.to_owned(), tensor)).into(),
            layout: Layout { order: Vec::new(), module_versions: vec![("a".into(), 2)] },
            ..Weights::default()
        };
        weights.metadata.insert("note".into(), note);
        safetensors::write(&path, &weights).unwrap();
        let read = safetensors::read(Path::new(&path)).unwrap();
        prop_assert_eq!(&read.metadata, &weights.metadata);
        prop_assert_eq!(&read.layout.module_versions, &weights.layout.module_versions);
        prop_assert_eq!(&read.layout.order, &["z", "y", "x", "w"]);
        let bits = |tensor: &Tensor| tensor.to_vec1::<f32>().unwrap().into_iter().map(f32::to_bits).collect::<Vec<_>>();
        prop_assert_eq!(bits(&read.tensors[2].1), bits(&floats));
        for ((_, a), (_, b)) in read.tensors.iter().zip(&weights.tensors) {
            prop_assert_eq!((a.dtype(), a.dims()), (b.dtype(), b.dims()));
        }
    }
}

proptest! {
    #[test]
    fn flipped_bytes_never_panic(
        flips in prop::collection::vec((any::<prop::sample::Index>(), 1u8..), 1..6),
    ) {
        static WHOLE: std::sync::LazyLock<Vec<u8>> = std::sync::LazyLock::new(|| {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("x.safetensors");
            safetensors::write(&path, &speck("")).unwrap();
            std::fs::read(&path).unwrap()
        });
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.safetensors");
        let mut bytes = WHOLE.clone();
        for (at, flip) in flips {
            let at = at.index(bytes.len());
            bytes[at] ^= flip;
        }
        std::fs::write(&path, bytes).unwrap();
        let _ = format::open(&path);
    }
}
