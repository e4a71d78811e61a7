//! The SelfAdapt method, for any model that predicts classes or numbers per pixel.
#![forbid(unsafe_code)]
pub mod error;
pub mod head;
pub mod image;
pub mod io;
pub mod labels;
pub mod maps;
pub mod model;
pub mod network;
pub mod params;
pub mod stop;
