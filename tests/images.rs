//! Image files written by tifffile, imagecodecs, OpenCV and NumPy, read by ours.

use std::path::{Path, PathBuf};

use selfadapt_core::io::{self, Axes};

pub fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fixtures/images")
        .join(name)
}

/// The pixels of `fixtures/images/make.py`.
fn value(c: usize, y: usize, x: usize, step: usize) -> f64 {
    (7 + step * c + 31 * y + x) as f64
}

fn wrapped(c: usize, y: usize, x: usize, step: usize, modulus: usize) -> f64 {
    ((7 + step * c + 31 * y + x) % modulus) as f64
}

pub fn label(y: usize, x: usize) -> u32 {
    match (y, x) {
        (11..13, 14..17) => 0,
        (2..6, 3..9) => 1,
        (8..15, 1..5) => 2,
        (9..=15, 12..20) => 3,
        (17, 20) => 4,
        _ => 0,
    }
}

pub const NONE: Axes = Axes {
    channel_axis: None,
    plane: None,
};
pub const PLANE_1: Axes = Axes {
    channel_axis: None,
    plane: Some(1),
};
const CHANNEL_0: Axes = Axes {
    channel_axis: Some(0),
    plane: None,
};

type Row = (
    &'static str,
    Axes,
    &'static str,
    fn(usize, usize, usize) -> f64,
);

/// File, wish, how it describes itself, pixels.
const READABLE: &[Row] = &[
    (
        "u8.tif",
        NONE,
        "18 x 21, 1 channel, u8, axes YX from tifffile",
        |c, y, x| wrapped(c, y, x, 0, 256),
    ),
    (
        "u16_big_endian.tif",
        NONE,
        "18 x 21, 1 channel, u16, axes YX from tifffile",
        |c, y, x| value(c, y, x, 0),
    ),
    (
        "u32.tif",
        NONE,
        "18 x 21, 1 channel, u32, axes YX from tifffile",
        |c, y, x| value(c, y, x, 0) + 1e5,
    ),
    (
        "i8.tif",
        NONE,
        "18 x 21, 1 channel, i8, axes YX from tifffile",
        |c, y, x| (value(c, y, x, 0) / 8.0).floor() - 40.0,
    ),
    (
        "i16.tif",
        NONE,
        "18 x 21, 1 channel, i16, axes YX from tifffile",
        |c, y, x| value(c, y, x, 0) - 300.0,
    ),
    (
        "i32.tif",
        NONE,
        "18 x 21, 1 channel, i32, axes YX from tifffile",
        |c, y, x| value(c, y, x, 0) - 300.0,
    ),
    (
        "f32_zlib_predictor3.tif",
        NONE,
        "18 x 21, 1 channel, f32, axes YX from tifffile",
        |c, y, x| value(c, y, x, 0) / 4.0 - 20.0,
    ),
    (
        "f64_big_endian_predictor3.tif",
        NONE,
        "18 x 21, 1 channel, f64, axes YX from tifffile",
        |c, y, x| value(c, y, x, 0) / 4.0 - 20.0,
    ),
    (
        "f16.tif",
        NONE,
        "18 x 21, 1 channel, f16, axes YX from tifffile",
        |c, y, x| value(c, y, x, 0) / 4.0,
    ),
    (
        "u16_lzw_predictor2.tif",
        NONE,
        "18 x 21, 1 channel, u16, axes YX from tifffile",
        |c, y, x| value(c, y, x, 0),
    ),
    (
        "u16_big_endian_predictor2.tif",
        NONE,
        "18 x 21, 1 channel, u16, axes YX from tifffile",
        |c, y, x| value(c, y, x, 0),
    ),
    (
        "u16_packbits.tif",
        NONE,
        "18 x 21, 1 channel, u16, axes YX from tifffile",
        |c, y, x| value(c, y, x, 0),
    ),
    (
        "u16_zstd.tif",
        NONE,
        "18 x 21, 1 channel, u16, axes YX from tifffile",
        |c, y, x| value(c, y, x, 0),
    ),
    (
        "u16_strips.tif",
        NONE,
        "18 x 21, 1 channel, u16, axes YX from tifffile",
        |c, y, x| value(c, y, x, 0),
    ),
    (
        "u16_tiles.tif",
        NONE,
        "18 x 21, 1 channel, u16, axes YX from tifffile",
        |c, y, x| value(c, y, x, 0),
    ),
    (
        "bigtiff.tif",
        NONE,
        "18 x 21, 1 channel, u16, axes YX from tifffile",
        |c, y, x| value(c, y, x, 0),
    ),
    (
        "rgb_interleaved.tif",
        NONE,
        "18 x 21, 3 channels, u8, axes YXC from tifffile",
        |c, y, x| wrapped(c, y, x, 50, 256),
    ),
    (
        "rgb_planar_tiles.tif",
        NONE,
        "18 x 21, 3 channels, u8, axes CYX from tifffile",
        |c, y, x| wrapped(c, y, x, 50, 256),
    ),
    (
        "five_samples.tif",
        NONE,
        "6 x 9, 5 channels, u16, axes YXC from tifffile",
        |c, y, x| value(c, y, x, 1000),
    ),
    (
        "pages3.tif",
        NONE,
        "6 x 9, 3 channels, u16, axes ?YX from TIFF tags, axis 0 taken for channels",
        |c, y, x| value(c, y, x, 1000),
    ),
    (
        "pages3.tif",
        PLANE_1,
        "6 x 9, 1 channel, u16, axes ?YX from TIFF tags, plane 1 of 3",
        |c, y, x| value(c + 1, y, x, 1000),
    ),
    (
        "pages7.tif",
        PLANE_1,
        "6 x 9, 1 channel, u16, axes ?YX from TIFF tags, plane 1 of 7",
        |c, y, x| value(c + 1, y, x, 1000),
    ),
    (
        "pages7.tif",
        CHANNEL_0,
        "6 x 9, 7 channels, u16, axes ?YX from TIFF tags",
        |c, y, x| value(c, y, x, 1000),
    ),
    (
        "shaped_truncated.tif",
        NONE,
        "6 x 9, 3 channels, u16, axes ?YX from tifffile, axis 0 taken for channels",
        |c, y, x| value(c, y, x, 1000),
    ),
    (
        "imagej_cyx.tif",
        NONE,
        "6 x 9, 3 channels, u16, axes CYX from ImageJ",
        |c, y, x| value(c, y, x, 1000),
    ),
    (
        "imagej_zcyx.tif",
        PLANE_1,
        "6 x 9, 2 channels, u16, axes ZCYX from ImageJ, plane 1 of 2",
        |c, y, x| value(c + 2, y, x, 1000),
    ),
    (
        "ome_cyx.tif",
        NONE,
        "6 x 9, 3 channels, u16, axes CYX from OME",
        |c, y, x| value(c, y, x, 1000),
    ),
    (
        "ome_zyx.tif",
        PLANE_1,
        "6 x 9, 1 channel, u16, axes ZYX from OME, plane 1 of 3",
        |c, y, x| value(c + 1, y, x, 1000),
    ),
    (
        "white_is_zero.tif",
        NONE,
        "18 x 21, 1 channel, u8, axes YX from tifffile",
        |c, y, x| wrapped(c, y, x, 0, 256),
    ),
    (
        "palette.tif",
        NONE,
        "18 x 21, 1 channel, u8, axes YX from tifffile",
        |_, y, x| [0.0, 1.0, 2.0, 5.0, 9.0][label(y, x) as usize],
    ),
    (
        "bits1.tif",
        NONE,
        "18 x 21, 1 channel, u8, axes YX from tifffile",
        |_, y, x| f64::from(label(y, x).min(1)),
    ),
    (
        "bits12.tif",
        NONE,
        "18 x 21, 1 channel, u16, axes YX from tifffile",
        |c, y, x| value(c, y, x, 0),
    ),
    (
        "gray8.png",
        NONE,
        "18 x 21, 1 channel, u8, axes YX from PNG",
        |c, y, x| wrapped(c, y, x, 0, 256),
    ),
    (
        "gray16.png",
        NONE,
        "18 x 21, 1 channel, u16, axes YX from PNG",
        |c, y, x| value(c, y, x, 0),
    ),
    (
        "gray1.png",
        NONE,
        "18 x 21, 1 channel, u8, axes YX from PNG",
        |_, y, x| f64::from(label(y, x).min(1) * 255),
    ),
    (
        "rgb8.png",
        NONE,
        "18 x 21, 3 channels, u8, axes YXC from PNG",
        |c, y, x| wrapped(c, y, x, 50, 256),
    ),
    (
        "rgba8.png",
        NONE,
        "18 x 21, 3 channels, u8, axes YXC from PNG",
        |c, y, x| wrapped(c, y, x, 50, 256),
    ),
    (
        "gray_alpha8.png",
        NONE,
        "18 x 21, 1 channel, u8, axes YX from PNG",
        |c, y, x| wrapped(c, y, x, 50, 256),
    ),
    (
        "palette8.png",
        NONE,
        "18 x 21, 3 channels, u8, axes YXC from PNG",
        |c, y, x| {
            let index = [0.0, 9.0, 18.0, 45.0, 81.0][label(y, x) as usize];
            [index, 255.0 - index, 77.0][c]
        },
    ),
    (
        "u16.npy",
        NONE,
        "18 x 21, 1 channel, u16, axes ?? from the array's shape",
        |c, y, x| value(c, y, x, 0),
    ),
    (
        "i64_fortran.npy",
        NONE,
        "6 x 9, 1 channel, i64, axes ?? from the array's shape",
        |c, y, x| value(c, y, x, 0) - 300.0,
    ),
    (
        "f8_big_endian.npy",
        NONE,
        "6 x 9, 1 channel, f64, axes ?? from the array's shape",
        |c, y, x| value(c, y, x, 0) / 4.0,
    ),
    (
        "bool.npy",
        NONE,
        "18 x 21, 1 channel, bool, axes ?? from the array's shape",
        |_, y, x| f64::from(label(y, x).min(1)),
    ),
    (
        "single.npz",
        NONE,
        "6 x 9, 3 channels, u16, axes ??? from the array's shape, axis 0 taken for channels",
        |c, y, x| value(c, y, x, 1000),
    ),
];

#[test]
fn files_of_other_programs_hold_the_same_pixels() {
    for (name, axes, described, pixel) in READABLE {
        let (image, provenance) =
            io::read(fixture(name), axes).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(&provenance.to_string(), described, "{name}");
        for ((c, y, x), &found) in image.pixels().indexed_iter() {
            assert_eq!(f64::from(found), pixel(c, y, x), "{name} at {c}, {y}, {x}");
        }
    }
}

#[test]
fn jpeg_pixels_are_close() {
    let (gray, described) = io::read(fixture("gray.jpg"), &NONE).unwrap();
    assert_eq!(
        described.to_string(),
        "18 x 21, 1 channel, u8, axes YX from JPEG"
    );
    assert!(
        gray.pixels()
            .indexed_iter()
            .all(|((_, _, x), &v)| (v - 10.0 * x as f32).abs() < 6.0)
    );
    let (colour, _) = io::read(fixture("colour.jpg"), &NONE).unwrap();
    let expected = [200.0, 90.0, 40.0];
    assert_eq!(colour.channels(), 3);
    assert!(
        colour
            .pixels()
            .indexed_iter()
            .all(|((c, ..), &v)| (v - expected[c]).abs() < 4.0)
    );
}

#[test]
fn reference_images_match_their_index() {
    let Some(assets) = crate::assets::dir() else {
        return;
    };
    let index = std::fs::read(assets.join("data/index.json")).unwrap();
    let index: Vec<serde_json::Value> = serde_json::from_slice(&index).unwrap();
    assert_eq!(index.len(), 60);
    for entry in index {
        let name = entry["name"].as_str().unwrap();
        let size = |axis: usize| entry["shape"][axis].as_u64().unwrap() as usize;
        let (image, provenance) = io::read(assets.join(format!("data/{name}.tif")), &NONE).unwrap();
        assert_eq!(
            (image.channels(), image.size()),
            (1, (size(0), size(1))),
            "{name}"
        );
        assert_eq!(
            provenance.dtype.replace('u', "uint"),
            entry["dtype"].as_str().unwrap(),
            "{name}"
        );
        io::check_finite(&image).unwrap();
        if entry["masks"].as_bool().unwrap() {
            let labels = io::read_labels(assets.join(format!("data/{name}_masks.tif"))).unwrap();
            assert_eq!(labels.size(), image.size(), "{name}");
            assert_eq!(
                labels.count() as u64,
                entry["n_objects"].as_u64().unwrap(),
                "{name}"
            );
        }
    }
    let found = io::inputs(&[assets.join("data")], &[]).unwrap();
    assert_eq!(found.images.len(), 60);
    assert!(found.images[0].ends_with("dsb_00.tif"));
}
