//! Images that do not fit into memory: maps from top to bottom, decoded in overlapping blocks, without seams.
//!
//! The image is divided into square cores; a block is a core and `overlap` pixels around it. Each block is decoded by
//! itself, and of the objects found there those are kept, whole, whose centre of mass lies in the block's core. Cores
//! do not overlap, so each object is kept exactly once, and where it lies within its block together with all that
//! decides about it, it has the very pixels that it has when the whole image is decoded at once.

use std::ops::Range;

use super::InferOptions;
use super::bands::Bands;
use crate::error::{Error, Result};
use crate::labels::Labels;
use crate::model::{ModelConfig, Window};
use crate::network::Network;
use crate::parts::{Block, ImageParts};
use crate::resize::Span;

/// How a large image is gone through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamOptions {
    /// How the network runs.
    pub infer: InferOptions,
    /// Side of a core, in image pixels.
    pub core: usize,
    /// Pixels around a core that are decoded with it: larger than any object.
    pub overlap: usize,
}

/// A label image that is filled in parts; 0 where nothing was written.
pub trait LabelSheet {
    /// The labels of a row from column `left` on.
    ///
    /// # Errors
    /// If it cannot be read back.
    fn read(&mut self, row: usize, left: usize, labels: &mut [u32]) -> Result<()>;

    /// Replaces the labels of a row from column `left` on.
    ///
    /// # Errors
    /// If the disk is full.
    fn write(&mut self, row: usize, left: usize, labels: &[u32]) -> Result<()>;
}

/// What came of an image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Streamed {
    /// Objects: labels `1..=objects`, in the order of blocks.
    pub objects: usize,
    /// Objects that reach the edge of their block within the image: larger than the overlap, and so cut there.
    pub cut: usize,
    /// Pixels that two blocks gave to different objects; the first keeps them. 0 where no object was cut.
    pub disputed: usize,
}

/// Segments `image` at `scale` working pixels an image pixel into `sheet`. `progress` hears the share that is done.
///
/// # Errors
/// If the model cannot work in parts, the image does not suit it, or the sheet cannot be written.
pub fn segment(
    network: &Network,
    config: &dyn ModelConfig,
    image: &mut dyn ImageParts,
    scale: f64,
    options: StreamOptions,
    sheet: &mut dyn LabelSheet,
    progress: &mut dyn FnMut(f64),
) -> Result<Streamed> {
    let (height, width) = image.size();
    let unable = || {
        Error::Setting(
            "this model works on whole images only; segment without --stream, or cut the image into pieces".into(),
        )
    };
    let spec = config.input();
    // Splined tiles are blended as probabilities, and mirrored where the image is small.
    if spec.window == Window::Spline {
        return Err(unable());
    }
    let prepared = config.prepare_parts(image, scale)?.ok_or_else(unable)?;
    let mut bands = Bands::new(network, &spec, prepared, options.infer);
    let (map_height, map_width) = bands.size();
    let decoder = config.decoder_at(scale);
    let mut streamed = Streamed::default();
    for down in cores(height, options.core) {
        let rows = Span {
            from: map_height,
            to: height,
            wanted: widened(&down, options.overlap, height),
        };
        for across in cores(width, options.core) {
            let columns = Span {
                from: map_width,
                to: width,
                wanted: widened(&across, options.overlap, width),
            };
            let maps = bands.part(rows.source(), columns.source())?;
            let block = Block {
                rows: rows.clone(),
                columns,
            };
            let labels = decoder.decode_part(&maps, &block)?.ok_or_else(unable)?;
            place(&labels, &block, [&down, &across], sheet, &mut streamed)?;
        }
        progress(down.end as f64 / height as f64);
    }
    Ok(streamed)
}

fn cores(length: usize, side: usize) -> impl Iterator<Item = Range<usize>> {
    let side = side.max(1);
    (0..length)
        .step_by(side)
        .map(move |start| start..(start + side).min(length))
}

fn widened(core: &Range<usize>, overlap: usize, length: usize) -> Range<usize> {
    core.start.saturating_sub(overlap)..core.end.saturating_add(overlap).min(length)
}

/// One object of a block, in pixels of the image.
#[derive(Clone, Copy, Default)]
struct Found {
    pixels: usize,
    rows: usize,
    columns: usize,
    is_cut: bool,
    /// Its number in the sheet, 0 if another block keeps it.
    number: u32,
}

/// Writes those objects of a block whose centre lies in its core.
fn place(
    labels: &Labels,
    block: &Block,
    [down, across]: [&Range<usize>; 2],
    sheet: &mut dyn LabelSheet,
    streamed: &mut Streamed,
) -> Result<()> {
    let (height, width) = block.size();
    if labels.size() != (height, width) {
        return Err(Error::Setting(format!(
            "a part of {height} x {width} pixels was decoded to {:?}",
            labels.size()
        )));
    }
    let (top, left) = (block.rows.wanted.start, block.columns.wanted.start);
    let inner = |span: &Span, at: usize| {
        (at == span.wanted.start && at > 0) || (at + 1 == span.wanted.end && at + 1 < span.to)
    };
    let mut found = vec![Found::default(); labels.count() + 1];
    for ((y, x), &label) in labels.pixels().indexed_iter() {
        let (y, x) = (top + y, left + x);
        let object = &mut found[label as usize];
        object.pixels += 1;
        object.rows += y;
        object.columns += x;
        object.is_cut |= inner(&block.rows, y) || inner(&block.columns, x);
    }
    for object in found.iter_mut().skip(1).filter(|object| object.pixels > 0) {
        let centre = (object.rows / object.pixels, object.columns / object.pixels);
        if down.contains(&centre.0) && across.contains(&centre.1) {
            streamed.objects += 1;
            streamed.cut += usize::from(object.is_cut);
            object.number = u32::try_from(streamed.objects)
                .map_err(|_| Error::Labels("more than 2^32 objects in one image".into()))?;
        }
    }
    let mut line = vec![0; width];
    for (y, row) in labels.as_slice().chunks_exact(width.max(1)).enumerate() {
        let number = |label: u32| found[label as usize].number;
        if row.iter().all(|&label| label == 0 || number(label) == 0) {
            continue;
        }
        sheet.read(top + y, left, &mut line)?;
        for (pixel, &label) in line.iter_mut().zip(row) {
            match (label, number(label), *pixel) {
                (0, ..) | (_, 0, _) => {}
                (_, number, 0) => *pixel = number,
                _ => streamed.disputed += 1,
            }
        }
        sheet.write(top + y, left, &line)?;
    }
    Ok(())
}
