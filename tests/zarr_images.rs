//! OME-Zarr images that zarr-python and numcodecs wrote (fixtures/zarr/make.py), read by ours, and damaged ones.

use std::path::{Path, PathBuf};

use selfadapt_core::io::{self, Axes};

use crate::folders::{copy, files};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fixtures/zarr")
        .join(name)
}

/// The pixels of make.py; in the files of version 3 the last columns were never written and are 3.
fn value(name: &str, c: usize, y: usize, x: usize) -> f32 {
    if name.starts_with("v3") && x >= 32 {
        3.
    } else {
        (7 + 1000 * c + 31 * y + x) as f32
    }
}

const NAMES: [&str; 10] = [
    "v2_blosc_lz4_shuffle.zarr",
    "v2_blosc_zstd_bits.zarr",
    "v2_blosc_blosclz.zarr",
    "v2_blosc_zlib_f64.zarr",
    "v2_zlib.zarr",
    "v2_plain.zarr",
    "v3_zstd.zarr",
    "v3_gzip_crc32c.zarr",
    "v3_blosc.zarr",
    "v3_sharded.zarr",
];

#[test]
fn every_packing_is_read_whole_and_in_parts() {
    for name in NAMES {
        let path = fixture(name);
        let (image, provenance) = io::read(&path, &Axes::default()).unwrap();
        assert_eq!((image.channels(), image.size()), (2, (18, 40)), "{name}");
        assert!(
            provenance.to_string().contains("CYX from OME-Zarr"),
            "{provenance}"
        );
        for ((c, y, x), &found) in image.pixels().indexed_iter() {
            assert_eq!(found, value(name, c, y, x), "{name}: {c} {y} {x}");
        }
        assert_eq!(
            io::size_in_parts(&path, &Axes::default()).unwrap(),
            Some((18, 40))
        );
        let (mut parts, _) = io::open_parts(&path, &Axes::default()).unwrap();
        for (rows, columns) in [(0..3, 0..40), (15..18, 30..34), (17..18, 39..40)] {
            let part = parts.read(rows.clone(), columns.clone()).unwrap();
            for ((c, y, x), &found) in part.indexed_iter() {
                assert_eq!(
                    found,
                    value(name, c, rows.start + y, columns.start + x),
                    "{name}"
                );
            }
        }
        // The array inside, named by itself, has no axes but those of its size.
        let (array, _) = io::read(path.join("0"), &Axes::default()).unwrap();
        assert_eq!(array.pixels(), image.pixels(), "{name}");
    }
}

#[test]
fn damaged_files_are_errors_or_other_numbers() {
    let folder = tempfile::tempdir().unwrap();
    for name in NAMES {
        let path = folder.path().join(name);
        copy(&fixture(name), &path);
        for file in files(&path) {
            let whole = std::fs::read(&file).unwrap();
            for step in 0..24 {
                let mut bytes = whole.clone();
                if step < 6 {
                    bytes.truncate(whole.len() * step / 6);
                } else {
                    let at = step * 7919 % whole.len().max(1);
                    if let Some(byte) = bytes.get_mut(at) {
                        *byte ^= [1, 0x80, 0xff][step % 3];
                    }
                }
                std::fs::write(&file, &bytes).unwrap();
                // Either is fine, as long as it comes back.
                drop(io::read(&path, &Axes::default()));
            }
            std::fs::write(&file, &whole).unwrap();
        }
        assert!(io::read(&path, &Axes::default()).is_ok(), "{name}");
    }
}

#[test]
fn what_is_no_image_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.zarr");
    std::fs::create_dir(&path).unwrap();
    let say = || io::read(&path, &Axes::default()).unwrap_err().to_string();
    assert!(say().contains("found none of them"), "{}", say());
    for (attributes, expected) in [
        ("{", "EOF"),
        ("{}", "a group without"),
        (r#"{"plate": {}}"#, "PLATE.zarr/ROW/COLUMN/FIELD"),
        (r#"{"multiscales": [{"datasets": []}]}"#, "name no dataset"),
        (
            r#"{"multiscales": [{"datasets": [{"path": "../../etc"}]}]}"#,
            "does not lie in its folder",
        ),
        (
            r#"{"multiscales": [{"datasets": [{"path": "/etc"}]}]}"#,
            "does not lie in its folder",
        ),
        (
            r#"{"multiscales": [{"datasets": [{"path": "0"}]}]}"#,
            "neither zarr.json nor .zarray",
        ),
    ] {
        std::fs::write(path.join(".zattrs"), attributes).unwrap();
        assert!(say().contains(expected), "{}", say());
    }
}
