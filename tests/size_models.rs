//! Cellpose's size models: written by numpy 1 and 2, damaged, and hostile.

use std::path::{Path, PathBuf};

use proptest::prelude::*;
use selfadapt_models::weights::size_model::SizeModel;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fixtures/weights")
        .join(name)
}

#[test]
fn both_generations_of_numpy_are_read() {
    let old = SizeModel::read(fixture("size_numpy1.npy")).unwrap();
    let new = SizeModel::read(fixture("size_numpy2.npy")).unwrap();
    assert_eq!(old, new);
    assert_eq!(old, SizeModel::read(fixture("size_protocol2.npy")).unwrap());
    for (i, (a, mean)) in old.coefficients.iter().zip(&old.style_mean).enumerate() {
        assert!((a - (2.0 * i as f64 / 255.0 - 1.0)).abs() < 1e-15);
        assert!((mean - 0.5 * i as f64 / 255.0).abs() < 1e-7);
    }
    assert_eq!(old.coefficients.len(), 256);
    assert_eq!((old.diam_mean, old.log_ratio_mean), (30.0, 0.25));
}

#[test]
fn columns_big_endian_numbers_and_plain_floats_are_read() {
    let model = SizeModel::read(fixture("size_column.npy")).unwrap();
    assert_eq!(model.coefficients.len(), 256);
    assert_eq!(model.style_mean, [0.0; 256]);
    assert_eq!((model.diam_mean, model.log_ratio_mean), (17.0, -1.5));
}

#[test]
fn the_diameter_is_that_of_cellposes_formula() {
    let model = SizeModel::read(fixture("size_numpy2.npy")).unwrap();
    // np.exp(A @ (style - smean).T + np.log(diam_mean) + ymean) for these styles, in numpy 2.0.2.
    let style = |scale: f32| {
        (0..256)
            .map(|i| scale * i as f32 / 255.0)
            .collect::<Vec<_>>()
    };
    let diameter = |scale| model.diameter(&style(scale)).unwrap();
    assert!((diameter(0.5) / (30.0 * 0.25f64.exp()) - 1.0).abs() < 1e-6);
    assert!(
        (diameter(0.52) / 91.033_047_28 - 1.0).abs() < 1e-6,
        "{}",
        diameter(0.52)
    );
    assert_eq!(diameter(0.0), 5.0);
    let message = model.diameter(&[0.0; 3]).unwrap_err().to_string();
    assert!(
        message.contains("styles of 256 numbers, found 3"),
        "{message}"
    );
}

#[test]
fn anything_else_is_refused() {
    for (file, words) in [
        (
            "evil.npy",
            "refers to posix.system, which plain weights do not need; it was not called",
        ),
        (
            "plain_array.npy",
            "expected one pickled dict, found an array with the header",
        ),
        ("net.pt", "expected a .npy file"),
        ("absent.npy", "No such file"),
    ] {
        let message = SizeModel::read(fixture(file)).unwrap_err().to_string();
        assert!(
            message.contains(words) && message.contains(file),
            "{message}"
        );
    }
    assert!(!Path::new("pwned").exists());
}

#[test]
fn a_size_model_cut_anywhere_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("size_x.npy");
    let bytes = std::fs::copy(fixture("size_numpy1.npy"), &path).unwrap();
    let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
    for length in (0..bytes).rev() {
        file.set_len(length).unwrap();
        assert!(SizeModel::read(&path).is_err(), "cut to {length} bytes");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn flipped_bytes_never_panic(
        flips in prop::collection::vec((any::<prop::sample::Index>(), 1u8..), 1..8),
        late in any::<bool>(),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("size_x.npy");
        let mut bytes = std::fs::read(fixture("size_numpy2.npy")).unwrap();
        // Half of the time only the structure before the numbers.
        let range = if late { bytes.len() } else { 330 };
        for (at, flip) in flips {
            bytes[at.index(range)] ^= flip;
        }
        std::fs::write(&path, bytes).unwrap();
        if let Ok(model) = SizeModel::read(&path) {
            prop_assert_eq!(model.coefficients.len(), model.style_mean.len());
        }
    }
}
