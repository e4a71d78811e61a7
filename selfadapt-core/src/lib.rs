//! The SelfAdapt method, for any model that predicts classes or numbers per pixel.
#![forbid(unsafe_code)]
pub mod crops;
pub mod dihedral;
pub mod error;
pub mod head;
pub mod image;
pub mod infer;
pub mod io;
pub mod labels;
pub mod maps;
pub mod model;
pub mod network;
pub mod normalise;
pub mod params;
pub mod perturb;
pub mod resize;
pub mod schedule;
pub mod stop;
