//! Every reader on the inputs that fuzzing starts from, and on damaged forms of each: short, changed, extended.

use crate::fuzz_readers::{self as readers, READERS};
use crate::fuzz_seed_files as seeds;

/// Changes for each seed; `cargo xtask fuzz` makes millions, guided by coverage.
const CHANGES: usize = 60;

/// Values that sizes and counts are most likely to go wrong with.
const BYTES: [u8; 6] = [0, 1, 0x7f, 0x80, 0xfe, 0xff];

#[test]
fn readers_come_back_from_damaged_files() {
    let mut executions = 0;
    for reader in READERS {
        let seeds = seeds::of(reader.name).unwrap();
        assert!(!seeds.is_empty(), "{} has no seed", reader.name);
        for seed in &seeds {
            (reader.read)(seed);
            let mut state = 0x9e37_79b9_7f4a_7c15_u64 ^ seed.len() as u64;
            let mut next = |below: usize| {
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1_442_695_040_888_963_407);
                (state >> 33) as usize % below.max(1)
            };
            for change in 0..CHANGES {
                let mut bytes = seed.clone();
                match change % 4 {
                    0 => bytes.truncate(next(seed.len())),
                    1 => {
                        let at = next(bytes.len());
                        bytes.insert(at, BYTES[next(BYTES.len())]);
                    }
                    _ => {
                        for _ in 0..1 + next(4) {
                            let at = next(bytes.len());
                            if let Some(byte) = bytes.get_mut(at) {
                                *byte = BYTES[next(BYTES.len())];
                            }
                        }
                    }
                }
                (reader.read)(&bytes);
                executions += 1;
            }
        }
    }
    println!("{executions} damaged files");
}

/// What fuzzing found once, and what must not come back: fuzz/found/READER-*.
#[test]
fn what_was_found_stays_found() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/found");
    let mut count = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let reader = READERS.iter().find(|reader| {
            let rest = name.strip_prefix(reader.name);
            rest.is_some_and(|rest| rest.starts_with("--"))
        });
        if let Some(reader) = reader {
            (reader.read)(&std::fs::read(&path).unwrap());
            count += 1;
        }
    }
    println!("{count} inputs");
}

/// A small file that claims a great many pixels is refused, and before memory is set aside for them.
#[test]
fn a_kilobyte_of_a_thousand_million_pixels_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    };
    let side = 31_623_u32;
    let mut tiff = b"II*\0\x08\0\0\0\x08\0".to_vec();
    for (tag, kind, value) in [
        (256_u16, 4_u16, side),
        (257, 4, side),
        (258, 3, 8),
        (259, 3, 50_000),
        (273, 4, 8),
        (277, 3, 1),
        (278, 4, side),
        (279, 4, 900),
    ] {
        tiff.extend(tag.to_le_bytes());
        tiff.extend(kind.to_le_bytes());
        tiff.extend(1_u32.to_le_bytes());
        tiff.extend(value.to_le_bytes());
    }
    tiff.resize(1000, 0);
    let mut npy = b"\x93NUMPY\x01\x00\x76\x00".to_vec();
    npy.extend(
        format!("{{'descr': '|u1', 'fortran_order': False, 'shape': ({side}, {side}), }}")
            .into_bytes(),
    );
    npy.resize(1000, b' ');
    let mut png = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR".to_vec();
    png.extend(side.to_be_bytes());
    png.extend(side.to_be_bytes());
    png.extend([8, 0, 0, 0, 0, 0, 0, 0, 0]);
    png.resize(1000, 0);
    let zarr = folder.path().join("a.zarr");
    std::fs::create_dir(&zarr).unwrap();
    let metadata = format!(
        "{{\"zarr_format\":2,\"shape\":[{side},{side}],\"chunks\":[512,512],\"dtype\":\"|u1\",\"order\":\"C\",\
         \"fill_value\":0,\"filters\":null,\"compressor\":null}}"
    );
    std::fs::write(zarr.join(".zarray"), metadata).unwrap();
    let npz = readers::zipped(&[("a.npy", npy.as_slice())]);
    for path in [
        write("a.tif", &tiff),
        write("a.npy", &npy),
        write("a.png", &png),
        write("a.npz", &npz),
        zarr,
    ] {
        let start = std::time::Instant::now();
        let read = selfadapt_core::io::read(&path, &selfadapt_core::io::Axes::default());
        assert!(read.is_err(), "{}", path.display());
        // Setting a thousand million floats to zero takes longer.
        assert!(
            start.elapsed().as_millis() < 500,
            "{}: {:?}",
            path.display(),
            start.elapsed()
        );
    }
}
