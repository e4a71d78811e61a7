//! Weight files: checkpoints and size models made by the real packages, damaged ones, and hostile ones.

use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use proptest::prelude::*;
use selfadapt_models::weights::{Weights, torch};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fixtures/weights")
        .join(name)
}

fn refusal(name: &str) -> String {
    torch::read(fixture(name)).unwrap_err().to_string()
}

fn assert_same(a: &Weights, b: &Weights) {
    assert_eq!(a.layout, b.layout);
    assert!(a.names().eq(b.names()));
    for ((name, a), (_, b)) in a.tensors.iter().zip(&b.tensors) {
        assert_eq!((a.dtype(), a.dims()), (b.dtype(), b.dims()), "{name}");
        assert_eq!(numbers(a), numbers(b), "{name}");
    }
}

/// The numbers as f64: exact for every type used here.
fn numbers(tensor: &Tensor) -> Vec<u64> {
    let values = tensor.flatten_all().unwrap().to_dtype(DType::F64).unwrap();
    let values = values.to_vec1::<f64>().unwrap();
    values.into_iter().map(f64::to_bits).collect()
}

#[derive(serde::Deserialize)]
struct Expected(String, String, Vec<usize>, Vec<f64>);

#[test]
fn every_checkpoint_of_real_torch_reads_as_torch_says() {
    let text = std::fs::read_to_string(fixture("expected.json")).unwrap();
    let files: std::collections::BTreeMap<String, Vec<Expected>> =
        serde_json::from_str(&text).unwrap();
    assert!(files.len() >= 8);
    for (file, expected) in files {
        let weights = torch::read(fixture(&file)).unwrap();
        assert_eq!(weights.tensors.len(), expected.len(), "{file}");
        for ((name, tensor), Expected(key, dtype, shape, values)) in
            weights.tensors.iter().zip(expected)
        {
            let dtype = match dtype.as_str() {
                "float64" => DType::F64,
                "float32" => DType::F32,
                "float16" => DType::F16,
                "bfloat16" => DType::BF16,
                "int64" => DType::I64,
                "int32" => DType::I32,
                "int16" | "int8" => DType::I16,
                "uint32" => DType::U32,
                "uint8" | "bool" => DType::U8,
                other => panic!("{other}"),
            };
            assert_eq!(
                (name, tensor.dtype(), tensor.dims()),
                (&key, dtype, shape.as_slice()),
                "{file}"
            );
            let values: Vec<u64> = values.into_iter().map(f64::to_bits).collect();
            assert_eq!(numbers(tensor), values, "{file}: {name}");
        }
    }
}

#[test]
fn module_versions_come_along() {
    let versions = torch::read(fixture("net.pt"))
        .unwrap()
        .layout
        .module_versions;
    let expected = [("", 1), ("0", 1), ("1", 2)].map(|(path, v)| (path.to_owned(), v));
    assert_eq!(versions, expected);
}

#[test]
fn a_network_gets_bare_names_and_f32() {
    let parallel = torch::read(fixture("parallel.pt")).unwrap();
    let bare = torch::read(fixture("net.pt")).unwrap();
    assert!(parallel.for_network().unwrap().names().eq(bare.names()));
    let mixed = torch::read(fixture("dtypes.pt")).unwrap();
    for (name, tensor) in mixed.for_network().unwrap().tensors {
        let float = name.contains("float");
        assert_eq!(tensor.dtype() == DType::F32, float, "{name}");
    }
}

#[test]
fn what_is_not_weights_is_refused_by_name() {
    for (file, words) in [
        ("evil.pt", "refers to posix.system"),
        ("whole_model.pt", "torch.nn.modules.container.Sequential"),
        ("two_sets.pt", "several sets of weights (a, b)"),
        (
            "no_weights.pt",
            "found a dict {loss: a list of 2, epoch: an int}",
        ),
        ("big_endian.pt", "byte order \"big\""),
        ("size_numpy2.npy", "expected a torch checkpoint"),
        ("absent.pt", "absent.pt: No such file"),
    ] {
        let message = refusal(file);
        assert!(message.contains(words), "{file}: {message}");
    }
    assert!(!Path::new("pwned").exists());
}

#[test]
fn what_was_written_reads_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("copy");
    for file in ["net.pt", "views.pt", "parallel.pt"] {
        let weights = torch::read(fixture(file)).unwrap();
        torch::write(&path, &weights).unwrap();
        assert_same(&torch::read(&path).unwrap(), &weights);
    }
}

#[test]
fn storages_are_stored_aligned_and_need_no_decompression() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("copy");
    torch::write(&path, &torch::read(fixture("net.pt")).unwrap()).unwrap();
    let mut archive = zip::ZipArchive::new(std::fs::File::open(&path).unwrap()).unwrap();
    assert_eq!(archive.len(), 3 + 7);
    for index in 0..archive.len() {
        let entry = archive.by_index(index).unwrap();
        assert_eq!(entry.compression(), zip::CompressionMethod::Stored);
        assert_eq!(entry.data_start().unwrap() % 64, 0);
    }
}

#[test]
fn cellposes_own_checkpoint_survives_a_round_trip() {
    #[derive(serde::Deserialize)]
    struct Entry {
        name: String,
        shape: Vec<usize>,
        dtype: String,
    }
    let Some(assets) = crate::assets::dir() else {
        return;
    };
    let list = std::fs::read_to_string(assets.join("cellpose/state_dict.json")).unwrap();
    let list: Vec<Entry> = serde_json::from_str(&list).unwrap();
    let weights = torch::read(assets.join("cellpose/cyto_scellseg.pt")).unwrap();
    assert_eq!(weights.tensors.len(), 313);
    for ((name, tensor), entry) in weights.tensors.iter().zip(&list) {
        let dtype = if entry.dtype == "int64" {
            DType::I64
        } else {
            DType::F32
        };
        assert_eq!(
            (name, tensor.dims(), tensor.dtype()),
            (&entry.name, entry.shape.as_slice(), dtype)
        );
    }
    assert_eq!(weights.layout.module_versions.len(), 205);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("copy");
    torch::write(&path, &weights).unwrap();
    assert_same(&torch::read(&path).unwrap(), &weights);
}

#[test]
fn a_checkpoint_cut_anywhere_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["parameters.pt", "legacy.pt"] {
        let path = folder.path().join(name);
        let bytes = std::fs::copy(fixture(name), &path).unwrap();
        let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
        for length in (0..bytes).rev() {
            file.set_len(length).unwrap();
            assert!(torch::read(&path).is_err(), "{name} cut to {length} bytes");
        }
    }
}

/// A zip of stored entries, as torch's.
fn archive(entries: &[(&str, &[u8])], path: &Path) {
    use std::io::Write;
    let mut archive = zip::ZipWriter::new(std::fs::File::create(path).unwrap());
    let options =
        zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    for (name, bytes) in entries {
        archive.start_file(format!("a/{name}"), options).unwrap();
        archive.write_all(bytes).unwrap();
    }
    archive.finish().unwrap();
}

/// A pickle of `{"w": tensor}` with a f32 storage of `length` elements.
fn one_tensor(length: u32, offset: u32, shape: &[u32], strides: &[u32]) -> Vec<u8> {
    let int = |value: u32| [b"\x8a\x05".as_slice(), &value.to_le_bytes(), b"\0"].concat();
    let tuple = |values: &[u32]| {
        let values: Vec<u8> = values.iter().flat_map(|&value| int(value)).collect();
        [b"(", values.as_slice(), b"t"].concat()
    };
    [
        b"\x80\x02}X\x01\0\0\0wctorch._utils\n_rebuild_tensor_v2\n((X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\x000X\x03\0\0\0cpu".as_slice(),
        &int(length),
        b"tQ",
        &int(offset),
        &tuple(shape),
        &tuple(strides),
        b"\x89}tRs.",
    ]
    .concat()
}

#[test]
fn declared_shapes_are_held_against_the_real_storage() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("made");
    let try_one = |length, offset, shape: &[u32], strides: &[u32]| {
        let pickle = one_tensor(length, offset, shape, strides);
        archive(&[("data.pkl", &pickle), ("data/0", &[0; 16])], &path);
        torch::read(&path).map_err(|error| error.to_string())
    };
    assert_eq!(
        try_one(4, 1, &[3], &[1]).unwrap().get("w").unwrap().dims(),
        [3]
    );
    for (length, offset, shape, strides, words) in [
        (
            4,
            2,
            [3].as_slice(),
            [1].as_slice(),
            "reaches beyond its storage",
        ),
        (4, 0, &[2, 2], &[3, 1], "reaches beyond its storage"),
        (5, 0, &[4], &[1], "should have 20 bytes and has 16"),
        (3, 0, &[3], &[1], "longer than the 12 bytes expected"),
        (4, 0, &[u32::MAX; 3], &[0; 3], "beyond any memory"),
        (4, 0, &[1 << 30], &[0], "repeat their storages"),
        (u32::MAX, 0, &[u32::MAX], &[1], "and has 16"),
        (4, 0, &[1; 17], &[1; 17], "shape [1, 1,"),
        (4, 0, &[4], &[1, 1], "with strides [1, 1]"),
    ] {
        let message = try_one(length, offset, shape, strides).unwrap_err();
        assert!(message.contains(words), "{message}");
    }
}

#[test]
fn hostile_pickles_end_in_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("made");
    let read = |pickle: &[u8]| {
        archive(&[("data.pkl", pickle)], &path);
        torch::read(&path).unwrap_err().to_string()
    };
    let deep = [b"\x80\x02".as_slice(), &b"]".repeat(1 << 20), b"a"].concat();
    let nested = [deep.as_slice(), &b"a".repeat((1 << 20) - 2), b"."].concat();
    let marks = b"(".repeat(1 << 20);
    // A list put into itself under a million names, then a million times the same large tuple.
    let cycle = b"\x80\x02]q\0h\0ah\0a.".to_vec();
    let wide = [
        b"\x80\x02](".as_slice(),
        &b"N".repeat(1 << 20),
        b"eq\0",
        &b"0ccollections\nOrderedDict\nh\0\x85R".repeat(100),
        b".",
    ]
    .concat();
    let long_text = [
        b"\x80\x02X".as_slice(),
        &(1u32 << 20).to_le_bytes(),
        &b"a".repeat(1 << 20),
        b"q\0",
        &b"0c_codecs\nencode\nh\0\x85R".repeat(100),
        b".",
    ]
    .concat();
    let huge = b" ".repeat((16 << 20) + 1);
    for (pickle, words) in [
        (deep.as_slice(), "ends early"),
        (&nested, "found a list of 1"),
        (&marks, "ends early"),
        (&cycle, "found a list of 2"),
        (&wide, "pairs"),
        (&long_text, "over and over"),
        (&huge, "longer than the 16777216 bytes"),
        (
            b"\x80\x02cos\nsystem\nX\x02\0\0\0ls\x85R.",
            "refers to os.system",
        ),
        (
            b"\x80\x04\x8c\x02os\x8c\x06system\x93.",
            "refers to os.system",
        ),
        (b"\x80\x02cbuiltins\neval\n.", "refers to builtins.eval"),
        (
            b"\x80\x02X\xff\xff\xff\xffabc.",
            "4294967295 bytes expected",
        ),
        (b"\x80\x02h\x05.", "memo has nothing under 5"),
        (b"\x80\x02(0.", "a value is missing"),
        (b"\x80\x02N)R.", "a call of something that is not a name"),
        (b"\x80\x02\x82\x01.", "opcode 0x82"),
        (b"i os\nsystem\n", "opcode 0x69"),
        (b"I12\n.", "opcode 0x49"),
        (b"", "ends early"),
    ] {
        let message = read(pickle);
        assert!(message.contains(words), "{message}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn flipped_bytes_never_panic(
        file in prop::sample::select(vec!["net.pt", "legacy.pt", "views.pt", "wrapped.pt"]),
        flips in prop::collection::vec((any::<prop::sample::Index>(), 1u8..), 1..6),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let mut bytes = std::fs::read(fixture(file)).unwrap();
        for (at, flip) in flips {
            let at = at.index(bytes.len());
            bytes[at] ^= flip;
        }
        let path = folder.path().join(file);
        std::fs::write(&path, bytes).unwrap();
        let _ = torch::read(&path);
    }

    /// Behind the zip's checksums: the pickle itself is garbled.
    #[test]
    fn garbled_pickles_never_panic(
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in any::<prop::sample::Index>(),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("made");
        let mut pickle = one_tensor(4, 0, &[2, 2], &[2, 1]);
        for (at, value) in flips {
            let at = at.index(pickle.len());
            pickle[at] = value;
        }
        pickle.truncate(pickle.len().min(40 + cut.index(pickle.len())));
        archive(&[("data.pkl", &pickle), ("data/0", &[0; 16])], &path);
        let _ = torch::read(&path);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))] // each brings a file to disk

    #[test]
    fn any_tensor_survives_a_round_trip(
        values in prop::collection::vec(any::<f32>(), 0..40),
        name in "[a-zA-Z0-9_.é]{1,20}",
    ) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("made");
        let tensor = Tensor::new(values.as_slice(), &Device::Cpu).unwrap();
        let weights = Weights { tensors: vec![(name, tensor)], ..Weights::default() };
        torch::write(&path, &weights).unwrap();
        let read = torch::read(&path).unwrap();
        let got: Vec<u32> = read.tensors[0].1.to_vec1::<f32>().unwrap().iter().map(|v| v.to_bits()).collect();
        let bits: Vec<u32> = values.iter().map(|v| v.to_bits()).collect();
        prop_assert_eq!(got, bits);
        prop_assert_eq!(&read.layout.order[0], &weights.tensors[0].0);
    }
}
