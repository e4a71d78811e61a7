//! What is written for each image, and under which names.

use std::path::{Path, PathBuf};

use candle_core::Tensor;
use clap::ValueEnum;
use ndarray::{Array2, Array3, ArrayView2, Axis};
use selfadapt_core::error::{Error, Result};
use selfadapt_core::head::{Equivariance, Head, HeadKind};
use selfadapt_core::image::Image;
use selfadapt_core::io::{self, Flows, outputs as names, overlay};
use selfadapt_core::labels::Labels;
use selfadapt_core::maps::Prediction;
use selfadapt_core::resize::bilinear;
use serde::Serialize;

use crate::failure::Failure;

/// A kind of result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Save {
    /// The label image, <stem>_cp_masks
    Masks,
    /// <stem>_seg.npy, which Cellpose's graphical interface opens
    Seg,
    /// Outlines as text, <stem>_cp_outlines.txt
    Outlines,
    /// Outlines for ImageJ, <stem>_rois.zip
    Rois,
    /// The flow field and its picture, for models that predict flows
    Flows,
    /// The image with outlines drawn on it
    Overlay,
}

/// The file format of a label image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum MaskFormat {
    Tif,
    Png,
    /// OME-Zarr 0.4
    Zarr,
}

/// What to write for every image.
#[derive(Debug)]
pub struct Saves {
    kinds: Vec<Save>,
    format: MaskFormat,
    /// Indices of the flow head and of the cell head among the model's heads.
    flow_heads: Option<(usize, usize)>,
    /// Names of further kinds of instances, whose files stand beside those of the first.
    others: Vec<&'static str>,
}

/// One image's results.
pub struct Segmented<'a> {
    pub path: &'a Path,
    /// Name of a further kind of instances; none for the first.
    pub kind: Option<&'static str>,
    pub image: &'a Image,
    pub labels: &'a Labels,
    pub prediction: &'a Prediction,
    /// Object diameter in pixels.
    pub diameter: f64,
    /// Cellpose's channel numbers.
    pub channels: [u8; 2],
}

impl Saves {
    /// Refuses flows of a model that has none.
    pub fn new(
        kinds: &[Save],
        format: MaskFormat,
        heads: &[Head],
    ) -> std::result::Result<Self, Failure> {
        let place = |kind| heads.iter().position(|head| head.kind == kind);
        let flow = place(HeadKind::Regression(Equivariance::Vector));
        let cell = place(HeadKind::Classification);
        let flow_heads = flow
            .zip(cell)
            .filter(|&(flow, cell)| (heads[flow].channels, heads[cell].channels) == (2, 1));
        if kinds.contains(&Save::Flows) && flow_heads.is_none() {
            let names: Vec<&str> = heads.iter().map(|head| head.name).collect();
            return Err(Failure::new(
                format!(
                    "--save flows: this model predicts no flows, but {}",
                    names.join(", ")
                ),
                "leave flows out of --save",
            ));
        }
        let mut kinds = kinds.to_vec();
        kinds.sort_by_key(|kind| *kind as u8);
        kinds.dedup();
        Ok(Self {
            kinds,
            format,
            flow_heads,
            others: Vec::new(),
        })
    }

    /// With the files of further kinds of instances, by their names.
    pub fn beside(self, others: Vec<&'static str>) -> Self {
        Self { others, ..self }
    }

    /// The files that an image leads to.
    pub fn paths(&self, image: &Path, folder: &Path) -> Vec<PathBuf> {
        let of_kind = |of: Option<&'static str>| {
            let suffixes = self.kinds.iter().flat_map(|kind| self.suffixes(*kind));
            suffixes.map(move |suffix| place(image, folder, of, suffix))
        };
        let others = self.others.iter().flat_map(|other| of_kind(Some(*other)));
        of_kind(None).chain(others).collect()
    }

    fn suffixes(&self, kind: Save) -> &'static [&'static str] {
        match (kind, self.format) {
            (Save::Masks, MaskFormat::Tif) => &[names::MASKS_TIF],
            (Save::Masks, MaskFormat::Png) => &[names::MASKS_PNG],
            (Save::Masks, MaskFormat::Zarr) => &[names::MASKS_ZARR],
            (Save::Seg, _) => &[names::SEG],
            (Save::Outlines, _) => &[names::OUTLINES_TXT],
            (Save::Rois, _) => &[names::ROIS],
            (Save::Flows, _) => &[names::FLOW_PICTURE, names::FLOW],
            (Save::Overlay, _) => &[names::OUTLINES_PNG],
        }
    }

    /// Writes all files of an image.
    pub fn write(&self, segmented: &Segmented<'_>, folder: &Path) -> Result<()> {
        let labels = segmented.labels;
        let maps = if self.kinds.contains(&Save::Flows) || self.kinds.contains(&Save::Seg) {
            self.flow_maps(segmented.prediction, labels.size())?
        } else {
            None
        };
        let flows = match &maps {
            Some((flow, cell)) => Some(Flows::new(flow.view(), cell.view())?),
            None => None,
        };
        // Cellpose's interface is started from anywhere, and the image lies in another folder than its results.
        let image =
            std::path::absolute(segmented.path).unwrap_or_else(|_| segmented.path.to_owned());
        for kind in &self.kinds {
            for suffix in self.suffixes(*kind) {
                let path = place(segmented.path, folder, segmented.kind, suffix);
                match *suffix {
                    names::MASKS_TIF => names::write_masks_tif(path, labels)?,
                    names::MASKS_PNG => names::write_masks_png(path, labels)?,
                    names::MASKS_ZARR => names::write_masks_zarr(path, labels)?,
                    names::OUTLINES_TXT => io::outlines::write_text(path, labels)?,
                    names::ROIS => {
                        io::rois::write(path, labels)?;
                    }
                    names::OUTLINES_PNG => {
                        let picture =
                            overlay::overlay(segmented.image, labels, &overlay::Style::default())?;
                        io::png::write_rgb(path, &picture)?;
                    }
                    names::SEG => io::seg::write(
                        path,
                        &io::seg::Segmentation {
                            labels,
                            flows,
                            image: &image,
                            diameter: segmented.diameter,
                            channels: segmented.channels,
                        },
                    )?,
                    names::FLOW_PICTURE => names::write_flow_picture(path, &present(&flows)?)?,
                    names::FLOW => names::write_flow(path, &present(&flows)?)?,
                    other => {
                        return Err(Error::Setting(format!("no writer for files {other}")));
                    }
                }
            }
        }
        Ok(())
    }

    /// Flows `[2, H, W]` and cell logits `[H, W]` at the image's size, if the model has them.
    fn flow_maps(
        &self,
        prediction: &Prediction,
        size: (usize, usize),
    ) -> Result<Option<(Array3<f32>, Array2<f32>)>> {
        let Some((flow, cell)) = self.flow_heads else {
            return Ok(None);
        };
        let (Some(flow), Some(cell)) = (prediction.heads.get(flow), prediction.heads.get(cell))
        else {
            return Ok(None);
        };
        let flow = planes(flow, size)?;
        let mut cell = planes(cell, size)?;
        Ok(cell.pop().map(|cell| {
            let mut stack = Array3::zeros((flow.len(), size.0, size.1));
            for (mut to, from) in stack.axis_iter_mut(Axis(0)).zip(&flow) {
                to.assign(from);
            }
            (stack, cell)
        }))
    }
}

/// Where a file goes: `a_cp_masks.tif`, and `a_nuclear_cp_masks.tif` for a further kind of instances.
fn place(image: &Path, folder: &Path, kind: Option<&str>, suffix: &str) -> PathBuf {
    match kind {
        Some(kind) => names::path(image, Some(folder), &format!("_{kind}{suffix}")),
        None => names::path(image, Some(folder), suffix),
    }
}

fn present<'a>(flows: &Option<Flows<'a>>) -> Result<Flows<'a>> {
    flows.ok_or_else(|| Error::Setting("this model predicts no flows".into()))
}

/// The channels of a map `[1, C, h, w]`, each resized to `size`.
fn planes(map: &Tensor, size: (usize, usize)) -> Result<Vec<Array2<f32>>> {
    let (_, _, height, width) = map.dims4()?;
    let values = map.flatten_all()?.to_vec1::<f32>()?;
    values
        .chunks(height * width)
        .map(|plane| {
            let plane = ArrayView2::from_shape((height, width), plane)
                .map_err(|reason| Error::Image(reason.to_string()))?;
            Ok(if size == (height, width) {
                plane.to_owned()
            } else {
                bilinear(plane, size)
            })
        })
        .collect()
}
