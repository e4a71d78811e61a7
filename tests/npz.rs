//! Reads NumPy's `.npz` archives into plain arrays, whatever type of number they store.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use half::f16;
use ndarray::{ArrayD, IxDyn, ShapeBuilder};
use ndarray_npy::npy::header::Header;
use zip::ZipArchive;

/// An opened archive. Every method panics with the array's name when it cannot deliver.
pub struct Npz {
    path: PathBuf,
    archive: ZipArchive<BufReader<File>>,
}

impl Npz {
    /// Opens the archive at `path`.
    pub fn open(path: impl AsRef<Path>) -> Self {
        let path = path.as_ref().to_owned();
        let file = File::open(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let archive = ZipArchive::new(BufReader::new(file))
            .unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        Self { path, archive }
    }

    /// Names of the arrays, sorted.
    pub fn names(&self) -> Vec<String> {
        let names = self.archive.file_names();
        let mut names: Vec<String> = names
            .map(|name| name.unwrap().trim_end_matches(".npy").to_owned())
            .collect();
        names.sort_unstable();
        names
    }

    /// Array `name` as `f64`; integers above 2^53 are rounded.
    pub fn f64(&mut self, name: &str) -> ArrayD<f64> {
        self.array(name, |number| match number {
            Number::Float(value) => value,
            Number::Integer(value) => value as f64,
        })
    }

    /// Array `name` as `f32`; exact for `f16`, `f32` and integers below 2^24.
    pub fn f32(&mut self, name: &str) -> ArrayD<f32> {
        self.f64(name).mapv(|value| value as f32)
    }

    /// Array `name` as `i64`; it must be stored as integers or booleans.
    pub fn i64(&mut self, name: &str) -> ArrayD<i64> {
        self.array(name, |number| match number {
            Number::Integer(value) => value,
            Number::Float(value) => panic!("{name}: expected integers, found {value}"),
        })
    }

    /// Array `name` as `u32`; it must be stored as integers or booleans, and fit.
    pub fn u32(&mut self, name: &str) -> ArrayD<u32> {
        self.i64(name)
            .mapv(|value| u32::try_from(value).unwrap_or_else(|e| panic!("{name}: {value}: {e}")))
    }

    fn array<T: Clone>(&mut self, name: &str, convert: impl Fn(Number) -> T) -> ArrayD<T> {
        let place = format!("{}: {name}", self.path.display());
        let mut entry = self
            .archive
            .by_name(&format!("{name}.npy"))
            .unwrap_or_else(|e| panic!("{place}: {e}"));
        let header = Header::from_reader(&mut entry).unwrap_or_else(|e| panic!("{place}: {e}"));
        let mut bytes = Vec::new();
        entry
            .read_to_end(&mut bytes)
            .unwrap_or_else(|e| panic!("{place}: {e}"));
        let kind = header.type_descriptor.to_string();
        let values: Vec<T> = match kind.trim_matches('\'') {
            "<f2" => numbers(&bytes, |b| Number::Float(f16::from_le_bytes(b).to_f64())),
            "<f4" => numbers(&bytes, |b| Number::Float(f32::from_le_bytes(b).into())),
            "<f8" => numbers(&bytes, |b| Number::Float(f64::from_le_bytes(b))),
            "|b1" | "|u1" => numbers(&bytes, |b| Number::Integer(u8::from_le_bytes(b).into())),
            "<u2" => numbers(&bytes, |b| Number::Integer(u16::from_le_bytes(b).into())),
            "<u4" => numbers(&bytes, |b| Number::Integer(u32::from_le_bytes(b).into())),
            "<i4" => numbers(&bytes, |b| Number::Integer(i32::from_le_bytes(b).into())),
            "<i8" => numbers(&bytes, |b| Number::Integer(i64::from_le_bytes(b))),
            other => panic!("{place}: this reader knows no {other}"),
        }
        .map(convert)
        .collect();
        let shape = IxDyn(&header.shape).set_f(header.layout.is_fortran());
        let array = ArrayD::from_shape_vec(shape, values);
        // Row-major whatever the file's layout, so that `as_slice` always works.
        array
            .unwrap_or_else(|e| panic!("{place}: {e}"))
            .as_standard_layout()
            .into_owned()
    }
}

enum Number {
    Float(f64),
    Integer(i64),
}

fn numbers<'a, const N: usize>(
    bytes: &'a [u8],
    read: impl Fn([u8; N]) -> Number + 'a,
) -> Box<dyn Iterator<Item = Number> + 'a> {
    let (whole, _) = bytes.as_chunks::<N>();
    Box::new(whole.iter().map(move |&chunk| read(chunk)))
}

#[test]
fn half_precision_and_integer_arrays_are_read() {
    let Some(dir) = crate::assets::dir() else {
        return;
    };
    let mut npz = Npz::open(dir.join("cellpose/masks_to_flows.npz"));
    assert!(npz.names().iter().any(|name| name == "mu_gpu_algo"));
    let mask = npz.u32("mask");
    assert_eq!(mask.shape(), [96, 96]);
    assert_eq!(mask.iter().max(), Some(&9));
    let (stored_f64, stored_f32) = (npz.f64("mu"), npz.f32("mu_gpu_algo"));
    let norm = |y: f64, x: f64| y.hypot(x);
    let inside = mask.indexed_iter().find(|(_, label)| **label == 1);
    let (y, x) = inside.map(|(at, _)| (at[0], at[1])).unwrap();
    let unit = norm(stored_f64[[0, y, x]], stored_f64[[1, y, x]]);
    assert!((unit - 1.0).abs() < 1e-12, "{unit}");
    let unit = norm(stored_f32[[0, y, x]].into(), stored_f32[[1, y, x]].into());
    assert!((unit - 1.0).abs() < 1e-6, "{unit}");
    // The network's flows are stored in half precision and are about 5 long.
    let flows = npz.f32("dP");
    assert!(flows.iter().all(|v| v.is_finite()) && flows.iter().any(|v| v.abs() > 1.0));
}
