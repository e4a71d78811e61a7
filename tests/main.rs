//! Tests that cross crates.
#![forbid(unsafe_code)]

mod adapt;
mod assets;
mod cellpose;
mod cellpose_images;
mod coco_masks;
mod contract;
mod contract_teaching;
mod dataset_fixtures;
mod dataset_layouts;
mod dataset_refusals;
mod dynamics;
mod edge_masks;
mod folders;
mod format;
mod fused;
#[path = "../fuzz/src/readers.rs"]
mod fuzz_readers;
#[path = "../fuzz/src/seeds.rs"]
mod fuzz_seed_files;
mod fuzz_seeds;
mod held_sizes;
mod image_errors;
mod images;
mod large_images;
mod large_stardist;
mod layers;
mod library_example;
mod mesmer;
mod mesmer_files;
mod metrics;
mod mirror;
#[allow(dead_code)] // each topic uses the types of number that its files hold
mod npz;
mod numbers;
mod numpy_fixtures;
mod size_models;
mod stardist;
mod stardist_files;
mod stardist_fused;
mod stardist_train;
mod step_parity;
mod toy;
mod train;
mod trials;
mod waves;
mod weights;
mod zarr_images;
