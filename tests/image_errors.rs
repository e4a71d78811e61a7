//! Label images of every kind of file, what is refused and why, and what damaged files do.

use std::path::PathBuf;

use selfadapt_core::io;

use crate::images::{NONE, PLANE_1, fixture, label};

#[test]
fn refusals_say_what_to_do() {
    for (name, axes, expected) in [
        (
            "pages7.tif",
            NONE,
            "axis 0 has 7 planes (7 x 6 x 9, axes ?YX from TIFF tags, u16)",
        ),
        ("pages7.tif", NONE, "choose a plane from 0 to 6"),
        ("ome_zyx.tif", NONE, "Z has 3 planes"),
        ("imagej_zcyx.tif", NONE, "Z has 2 planes"),
        ("jpeg2000.tif", NONE, "found compression 34712 (JPEG 2000)"),
        ("cut_off.tif", NONE, "cut off"),
        (
            "claims_too_much.tif",
            NONE,
            "claims 900000000 bytes of pixels",
        ),
        ("two.npz", NONE, "expected one array, found 2: a.npy, b.npy"),
        ("labels_seg.npy", NONE, "found Python objects"),
        ("none.tif", NONE, "No such file"),
        ("make.py", NONE, "found .py"),
        ("u8.tif", PLANE_1, "there is 1 plane"),
    ] {
        let message = io::read(fixture(name), &axes).unwrap_err().to_string();
        assert!(
            message.contains(expected) && message.contains(name),
            "{name}: {message}"
        );
    }
}

/// A stack that promises more planes than any file holds is refused before memory is set aside for them.
#[test]
fn promised_planes_must_be_there() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("stack.tif");
    let whole = std::fs::read(fixture("shaped_truncated.tif")).unwrap();
    let at = |text: &[u8]| whole.windows(text.len()).position(|found| found == text);
    let shape = at(b"[3, 6, 9]").unwrap();
    let mut bytes = whole.clone();
    bytes[shape..shape + 9].copy_from_slice(b"[9, 6, 9]");
    std::fs::write(&path, bytes).unwrap();
    let message = io::read(&path, &PLANE_1)
        .map(|_| ())
        .unwrap_err()
        .to_string();
    assert!(
        message.contains("promises 9 planes of 108 bytes"),
        "{message}"
    );
}

#[test]
fn labels_of_every_kind_of_file() {
    for name in [
        "labels.png",
        "palette8.png",
        "palette4.png",
        "palette.tif",
        "labels_f32.tif",
        "labels_seg.npy",
    ] {
        let labels = io::read_labels(fixture(name)).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!((labels.count(), labels.size()), (4, (18, 21)), "{name}");
        for ((y, x), &found) in labels.pixels().indexed_iter() {
            assert_eq!(found, label(y, x), "{name} at {y}, {x}");
        }
    }
    // Background -1, big-endian, columns reversed in memory.
    let mirrored = io::read_labels(fixture("labels_i32_seg.npy")).unwrap();
    for ((y, x), &found) in mirrored.pixels().indexed_iter() {
        assert_eq!(found, label(y, 20 - x));
    }
    for (name, expected) in [
        ("rgb8.png", "found 3 channels"),
        ("i16.tif", "found -293 in row 0, column 0"),
        ("f32_zlib_predictor3.tif", "found -18.25"),
    ] {
        let message = io::read_labels(fixture(name)).unwrap_err().to_string();
        assert!(message.contains(expected), "{name}: {message}");
    }
}

/// Whatever happens to a file, reading it ends in an image or an error, never in a panic.
///
/// `SELFADAPT_DAMAGE_ROUNDS` damages each file so many times.
#[test]
fn damaged_files_never_panic() {
    let folder = tempfile::tempdir().unwrap();
    let mut names: Vec<PathBuf> = std::fs::read_dir(fixture(""))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    names.sort();
    let rounds = std::env::var("SELFADAPT_DAMAGE_ROUNDS");
    let rounds = rounds.map_or(60, |rounds| rounds.parse().unwrap());
    let mut state = rounds as u64;
    let mut random = |below: usize| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    let (mut read, mut refused) = (0, 0);
    for name in names
        .iter()
        .filter(|name| name.extension().is_some_and(|e| e != "py"))
    {
        let whole = std::fs::read(name).unwrap();
        let copy = folder.path().join(name.file_name().unwrap());
        for round in 0..rounds {
            let mut bytes = whole.clone();
            if round % 3 == 0 {
                bytes.truncate(random(whole.len()));
            } else {
                for _ in 0..1 + random(4) {
                    // Damage sits mostly where the structure is: at the ends.
                    let at = match round % 3 {
                        1 => random(whole.len()),
                        _ => random(whole.len().min(250)),
                    };
                    bytes[at] = random(256) as u8;
                }
            }
            std::fs::write(&copy, &bytes).unwrap();
            let outcome = io::read(&copy, &NONE);
            let _ = io::read_labels(&copy);
            match outcome {
                Ok(_) => read += 1,
                Err(error) => {
                    refused += 1;
                    assert!(error.to_string().len() > 20, "{error}");
                }
            }
        }
    }
    assert!(
        read > 100 && refused > 500,
        "{read} read, {refused} refused"
    );
}
