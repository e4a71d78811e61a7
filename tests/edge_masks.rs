//! Masks at the image's edge: dropped as Cellpose 3.1.1's `exclude_on_edges` drops them.

use std::path::Path;

use candle_core::{Device, Tensor};
use ndarray::Ix2;
use selfadapt_core::labels::Labels;
use selfadapt_core::maps::Prediction;
use selfadapt_core::model::ModelConfig;
use selfadapt_kernels::fill_holes::remove_edge_masks;
use selfadapt_metrics::average_precision::average_precision;
use selfadapt_models::cellpose::CellposeConfig;

use crate::npz::Npz;

fn expected() -> Npz {
    Npz::open(Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/edge_masks.npz"))
}

#[test]
fn labels_at_the_edge_go_and_the_others_are_numbered_as_in_cellpose() {
    let mut npz = expected();
    for case in ["wide", "tall", "row", "full", "corner"] {
        let labels = npz.u32(case).into_dimensionality::<Ix2>().unwrap();
        let (height, width) = labels.dim();
        let kept = remove_edge_masks(&labels.into_raw_vec_and_offset().0, height, width).unwrap();
        let cellpose = npz.u32(&format!("{case}.kept"));
        assert_eq!(kept, cellpose.into_raw_vec_and_offset().0, "{case}");
    }
}

#[test]
fn the_decoder_leaves_out_what_cellpose_leaves_out() {
    let Some(dir) = crate::assets::dir() else {
        return;
    };
    let mut real = Npz::open(dir.join("cellpose/eval_stardist_img2d_d30.npz"));
    let map = |npz: &mut Npz, name: &str, channels: usize| {
        let values = npz.f32(name).into_raw_vec_and_offset().0;
        Tensor::from_vec(values, (1, channels, 512, 512), &Device::Cpu).unwrap()
    };
    let heads = vec![map(&mut real, "dP", 2), map(&mut real, "cellprob", 1)];
    let embedding = Tensor::zeros((1, 256), candle_core::DType::F32, &Device::Cpu).unwrap();
    let prediction = Prediction { heads, embedding };
    let config = CellposeConfig {
        exclude_on_edges: true,
        ..CellposeConfig::default()
    };
    let found = config.decoder().decode(&prediction, (512, 512)).unwrap();
    let kept = expected().u32("stardist_img2d_d30.kept");
    let kept = Labels::new(kept.into_dimensionality::<Ix2>().unwrap());
    assert_eq!((found.count(), kept.count()), (96, 96));
    let ap = average_precision(&kept, &found, &[0.95]).unwrap()[0].ap;
    assert_eq!(ap, 1., "AP at IoU 0.95");
}
