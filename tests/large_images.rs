//! Images gone through in parts: the same labels as of the whole image, pixel for pixel.

use std::ops::Range;

use ndarray::{Array3, ArrayView2};
use selfadapt_core::error::Result;
use selfadapt_core::image::{Image, PixelType};
use selfadapt_core::infer::stream::{self, LabelSheet, StreamOptions};
use selfadapt_core::infer::{InferOptions, predict};
use selfadapt_core::io::{Renumbering, Sheet, Whole};
use selfadapt_core::labels::Labels;
use selfadapt_core::model::{InstanceDecoder, ModelConfig};
use selfadapt_core::network::Network;
use selfadapt_core::params::{Lend, ParamSet, Role};
use selfadapt_core::parts::ImageParts;
use selfadapt_kernels::label_flows::label_flows;
use selfadapt_models::cellpose::CellposeConfig;
use selfadapt_models::cellpose::decode::CellposeDecoder;

use crate::mirror::Mirror;

/// Discs and ellipses on a jittered lattice, many of them touching.
fn cells(height: usize, width: usize) -> Vec<u32> {
    let mut labels = vec![0; height * width];
    let mut number = 0;
    for (j, top) in (0..height).step_by(21).enumerate() {
        for (i, left) in (0..width).step_by(23).enumerate() {
            number += 1;
            let jitter = |salt: usize| ((i * 7919 + j * 104_729 + salt * 31) % 9) as f64 - 4.;
            let (y, x) = (top as f64 + jitter(1), left as f64 + jitter(2));
            let (a, b) = (9. + jitter(3) / 2., 9. + jitter(4) / 2.);
            for row in (y - a).max(0.) as usize..((y + a + 1.) as usize).min(height) {
                for column in (x - b).max(0.) as usize..((x + b + 1.) as usize).min(width) {
                    let (dy, dx) = ((row as f64 - y) / a, (column as f64 - x) / b);
                    if dy * dy + dx * dx < 1. {
                        labels[row * width + column] = number;
                    }
                }
            }
        }
    }
    labels
}

/// The image whose channels are the flows and logits of `labels`.
fn image_of(labels: &[u32], height: usize, width: usize) -> Image {
    let flows = label_flows(labels, height, width).unwrap();
    let flows = flows.iter().map(|&flow| 5. * flow as f32);
    let logits = labels
        .iter()
        .map(|&label| if label == 0 { -6. } else { 6. });
    let pixels = flows.chain(logits).collect();
    let pixels = Array3::from_shape_vec((3, height, width), pixels).unwrap();
    Image::new(pixels, PixelType::Float).unwrap()
}

/// A model without weights.
fn network(model: &dyn ModelConfig) -> Network {
    let params = ParamSet::new([], |_| Role::Weight).unwrap();
    Network::new(model, params, Lend::Detached).unwrap()
}

/// What a model without weights finds in an image that is gone through in parts.
pub fn in_parts(
    model: &dyn ModelConfig,
    image: &Image,
    scale: f64,
    [core, overlap]: [usize; 2],
) -> (Labels, stream::Streamed) {
    let folder = tempfile::tempdir().unwrap();
    let (height, width) = image.size();
    let mut sheet = Sheet::new(folder.path(), (height, width)).unwrap();
    let options = StreamOptions {
        infer: InferOptions { batch: 3 },
        core,
        overlap,
    };
    let mut source = Whole(image.clone());
    let (network, mut heard) = (network(model), 0.);
    let streamed = stream::segment(
        &network,
        model,
        &mut source,
        scale,
        options,
        &mut sheet,
        &mut |share| heard = share,
    )
    .unwrap();
    assert_eq!(heard, 1.);
    let mut numbers = Renumbering::new(streamed.objects);
    let mut pixels = vec![0; height * width];
    for (row, line) in pixels.chunks_exact_mut(width).enumerate() {
        sheet.read(row, 0, line).unwrap();
        numbers.apply(line);
    }
    assert_eq!(numbers.count(), streamed.objects);
    (Labels::from_rows(height, width, pixels).unwrap(), streamed)
}

/// What it finds in the whole image.
pub fn as_a_whole(model: &dyn ModelConfig, image: &Image, scale: f64) -> Labels {
    let prepared = model.prepare(image, scale).unwrap();
    let options = InferOptions { batch: 8 };
    let maps = predict(&network(model), &model.input(), &prepared, options).unwrap();
    let decoder = model.decoder_at(scale);
    decoder.decode(&maps, image.size()).unwrap()
}

#[test]
fn parts_give_the_labels_of_the_whole() {
    let (height, width) = (331, 418);
    let image = image_of(&cells(height, width), height, width);
    for (scale, core, overlap) in [(1., 128, 64), (1., 64, 64), (0.7, 100, 64), (1.4, 150, 80)] {
        let whole = as_a_whole(&Mirror, &image, scale);
        assert!(whole.count() > 250, "{}", whole.count());
        let (parts, streamed) = in_parts(&Mirror, &image, scale, [core, overlap]);
        assert_eq!((streamed.cut, streamed.disputed), (0, 0));
        assert_eq!(
            parts.count(),
            whole.count(),
            "scale {scale}, cores of {core}"
        );
        let (parts, whole) = (parts.as_slice(), whole.as_slice());
        let different = parts.iter().zip(whole).filter(|(a, b)| a != b).count();
        assert_eq!(different, 0, "scale {scale}, cores of {core}");
    }
}

#[test]
fn what_is_larger_than_the_overlap_is_told() {
    let (height, width) = (200, 200);
    // One disc of 160 pixels, seen by blocks of 64 + 2 x 8 pixels.
    let inside =
        |i: usize| (i / width).abs_diff(100).pow(2) + (i % width).abs_diff(100).pow(2) < 6400;
    let labels: Vec<u32> = (0..height * width).map(|i| u32::from(inside(i))).collect();
    let image = image_of(&labels, height, width);
    let (_, streamed) = in_parts(&Mirror, &image, 1., [64, 8]);
    assert!(streamed.cut > 0, "{streamed:?}");
}

/// Cellpose's own preparation of a file in parts, and a label image of more than 65535 objects.
#[test]
fn a_hundred_thousand_cells() {
    // 5 x 5 pixels each, whose flows meet in the middle.
    let side = 317 * 6;
    let place = |i: usize| (i / side % 6, i % side % 6);
    let label = |i: usize| match place(i) {
        (0..5, 0..5) => (i / side / 6 * 317 + i % side / 6) as u32 + 1,
        _ => 0,
    };
    let towards = |at: usize| 2. - at as f32;
    let mut flows = vec![0.; 2 * side * side];
    let mut logits = vec![-6.; side * side];
    for i in (0..side * side).filter(|&i| label(i) != 0) {
        let (dy, dx) = (towards(place(i).0), towards(place(i).1));
        let length = dy.hypot(dx).max(1e-6);
        (flows[i], flows[side * side + i]) = (5. * dy / length, 5. * dx / length);
        logits[i] = 6.;
    }
    let params = selfadapt_kernels::masks::MaskParams {
        flow_threshold: 0.,
        ..Default::default()
    };
    let found =
        selfadapt_kernels::masks::compute_masks(&params, &flows, &logits, side, side).unwrap();
    let expected: Vec<u32> = (0..side * side).map(label).collect();
    assert!(found == expected);

    let folder = tempfile::tempdir().unwrap();
    let labels = Labels::from_rows(side, side, found).unwrap();
    assert_eq!(labels.count(), 317 * 317);
    let tif = folder.path().join("a.tif");
    selfadapt_core::io::outputs::write_masks_tif(&tif, &labels).unwrap();
    assert!(selfadapt_core::io::read_labels(&tif).unwrap() == labels);
    assert_eq!(labels.areas(), vec![25; 317 * 317]);
}

#[test]
fn one_cell_that_fills_the_image() {
    let (height, width) = (40, 50);
    let labels = vec![1; height * width];
    let image = image_of(&labels, height, width);
    // Cellpose drops masks above 40 % of the image.
    assert_eq!(as_a_whole(&Mirror, &image, 1.).count(), 0);
    let whole = CellposeDecoder::new(CellposeConfig {
        max_size_fraction: 1.,
        ..CellposeConfig::default()
    });
    let prepared = Mirror.prepare(&image, 1.).unwrap();
    let maps = predict(
        &network(&Mirror),
        &Mirror.input(),
        &prepared,
        InferOptions::default(),
    )
    .unwrap();
    let found = whole.decode(&maps, (height, width)).unwrap();
    assert_eq!((found.count(), found.areas()), (1, vec![height * width]));
    let view = ArrayView2::from_shape((height, width), found.as_slice()).unwrap();
    assert_eq!(
        selfadapt_core::io::outlines::outline_pixels(&found).len(),
        view.len()
    );
}

/// An image of any size that is made up as it is read: discs of 18 pixels, 24 pixels apart.
struct Discs {
    side: usize,
    /// One disc: dy, dx, logit.
    tile: Image,
}

const PITCH: usize = 24;

impl Discs {
    fn new(side: usize) -> Self {
        let inside =
            |i: usize| (i / PITCH).abs_diff(12).pow(2) + (i % PITCH).abs_diff(12).pow(2) < 81;
        let labels: Vec<u32> = (0..PITCH * PITCH).map(|i| u32::from(inside(i))).collect();
        let tile = image_of(&labels, PITCH, PITCH);
        Self { side, tile }
    }
}

impl ImageParts for Discs {
    fn size(&self) -> (usize, usize) {
        (self.side, self.side)
    }

    fn channels(&self) -> usize {
        3
    }

    fn read(&mut self, rows: Range<usize>, columns: Range<usize>) -> Result<Array3<f32>> {
        let tile = self.tile.pixels();
        Ok(Array3::from_shape_fn(
            (3, rows.len(), columns.len()),
            |(c, y, x)| tile[[c, (rows.start + y) % PITCH, (columns.start + x) % PITCH]],
        ))
    }
}

/// `SELFADAPT_LARGE=20000 cargo test --workspace --test all -- --ignored --nocapture large_images::memory`: everything
/// but the network itself, at full size.
#[test]
#[ignore = "takes minutes, and measures the memory of the whole process"]
fn memory_is_that_of_a_band() {
    let side = std::env::var("SELFADAPT_LARGE").map_or(8000, |side| side.parse().unwrap());
    let folder = tempfile::tempdir().unwrap();
    let mut sheet = Sheet::new(folder.path(), (side, side)).unwrap();
    let options = StreamOptions {
        infer: InferOptions::default(),
        core: 1024,
        overlap: 128,
    };
    let start = std::time::Instant::now();
    let (mut source, network) = (Discs::new(side), network(&Mirror));
    let streamed = stream::segment(
        &network,
        &Mirror,
        &mut source,
        1.,
        options,
        &mut sheet,
        &mut |_| {},
    )
    .unwrap();
    let mut numbers = Renumbering::new(streamed.objects);
    let path = folder.path().join("a.tif");
    selfadapt_core::io::tiff::write_labels(
        &path,
        (side, side),
        streamed.objects,
        &mut |row, line| {
            sheet.read(row, 0, line)?;
            numbers.apply(line);
            Ok(())
        },
    )
    .unwrap();
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = status
        .lines()
        .find(|line| line.starts_with("VmHWM"))
        .unwrap_or("VmHWM unknown");
    println!(
        "{side} x {side}: {} objects, {:.0} s, {peak}",
        numbers.count(),
        start.elapsed().as_secs_f64()
    );
    assert_eq!((streamed.cut, streamed.disputed), (0, 0));
    // A disc that the edge cuts to less than 15 pixels is dropped.
    let whole = side / PITCH;
    assert!((whole * whole..=(whole + 1) * (whole + 1)).contains(&numbers.count()));
}
