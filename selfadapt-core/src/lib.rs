//! The SelfAdapt method, for any model that predicts classes or numbers per pixel.
#![forbid(unsafe_code)]
pub mod adapt;
pub mod crops;
pub mod degrade;
pub mod diameter;
pub mod dihedral;
pub mod error;
pub mod gate;
pub mod head;
pub mod image;
pub mod infer;
pub mod io;
pub mod labels;
pub mod maps;
pub mod model;
pub mod monitor;
pub mod network;
pub mod normalise;
pub mod objective;
pub mod params;
pub mod perturb;
pub mod random_weights;
pub mod resize;
pub mod run;
pub mod schedule;
pub mod stop;
pub mod teacher;
