//! NumPy's files as NumPy writes them, for fixtures: arrays of numbers, texts and objects, and archives of them.
#![allow(dead_code)] // each test binary uses some of them

use std::io::Write;
use std::path::Path;

use ndarray::{Array, Array2, ArrayD, Dimension, IxDyn};
use zip::write::SimpleFileOptions;

/// Writes a deflated `.npz`.
pub fn npz(path: &Path, arrays: &[(&str, Vec<u8>)]) {
    let mut writer = zip::ZipWriter::new(std::fs::File::create(path).unwrap());
    let deflated =
        SimpleFileOptions::default().compression_method(zip::CompressionMethod::Deflated);
    for (name, bytes) in arrays {
        writer.start_file(format!("{name}.npy"), deflated).unwrap();
        writer.write_all(bytes).unwrap();
    }
    writer.finish().unwrap();
}

/// A number as NumPy stores it.
pub trait Number: Copy {
    /// NumPy's name of its type.
    const DESCR: &str;
    /// Its bytes.
    fn write(self, to: &mut Vec<u8>);
}

macro_rules! numbers {
    ($($type:ty => $descr:literal),*) => { $(
        impl Number for $type {
            const DESCR: &str = $descr;
            fn write(self, to: &mut Vec<u8>) {
                to.extend(self.to_le_bytes());
            }
        }
    )* };
}
numbers!(u8 => "|u1", u16 => "<u2", i32 => "<i4", f32 => "<f4");

/// An array as `.npy`.
pub fn npy<N: Number, D: Dimension>(array: &Array<N, D>) -> Vec<u8> {
    let mut bytes = header(N::DESCR, array.shape());
    array.iter().for_each(|number| number.write(&mut bytes));
    bytes
}

/// An array of 32-bit floats of any shape, all 0.
pub fn zeros(shape: &[usize]) -> ArrayD<f32> {
    ArrayD::zeros(IxDyn(shape))
}

/// A list of texts as NumPy's `U`.
pub fn npy_text(texts: &[&str]) -> Vec<u8> {
    let most = texts
        .iter()
        .map(|text| text.chars().count())
        .max()
        .unwrap_or(1);
    let mut bytes = header(&format!("<U{most}"), &[texts.len()]);
    for text in texts {
        let mut codes: Vec<u32> = text.chars().map(u32::from).collect();
        codes.resize(most, 0);
        bytes.extend(codes.iter().flat_map(|code| code.to_le_bytes()));
    }
    bytes
}

/// An element of an array of objects.
#[derive(Clone, Copy)]
pub enum Cell<'a> {
    Text(&'a str),
    Number(f64),
    Bytes(&'a Array2<u8>),
}

/// An array of Python objects, row-major, as `np.save` pickles it.
pub fn npy_objects(shape: &[usize], cells: &[Cell<'_>]) -> Vec<u8> {
    let mut bytes = header("|O", shape);
    bytes.extend(b"\x80\x03");
    array(&mut bytes, shape, "O8", b"|");
    bytes.extend(b"](");
    for cell in cells {
        match cell {
            Cell::Text(text) => pickled_text(&mut bytes, text),
            Cell::Number(number) => {
                bytes.push(b'G');
                bytes.extend(number.to_be_bytes());
            }
            Cell::Bytes(pixels) => {
                array(&mut bytes, pixels.shape(), "u1", b"|");
                bytes.push(b'B');
                bytes.extend((pixels.len() as u32).to_le_bytes());
                bytes.extend(pixels.iter());
                bytes.extend(b"tb");
            }
        }
    }
    bytes.extend(b"etb.");
    bytes
}

/// The beginning of a pickled array, up to its data.
fn array(bytes: &mut Vec<u8>, shape: &[usize], dtype: &str, order: &[u8]) {
    bytes.extend(
        b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85C\x01b\x87R(K\x01(",
    );
    for &size in shape {
        bytes.push(b'J');
        bytes.extend((size as i32).to_le_bytes());
    }
    bytes.extend(b"tcnumpy\ndtype\n");
    pickled_text(bytes, dtype);
    bytes.extend(b"\x89\x88\x87R(K\x03");
    pickled_text(bytes, std::str::from_utf8(order).unwrap());
    bytes.extend(b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x3ftb\x89");
}

fn pickled_text(bytes: &mut Vec<u8>, text: &str) {
    bytes.push(b'X');
    bytes.extend((text.len() as u32).to_le_bytes());
    bytes.extend(text.as_bytes());
}

/// A `.npy` header of version 1.
pub fn header(descr: &str, shape: &[usize]) -> Vec<u8> {
    let sizes: String = shape.iter().map(|size| format!("{size},")).collect();
    let mut text = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': ({sizes}), }}");
    while (10 + text.len() + 1) % 64 != 0 {
        text.push(' ');
    }
    text.push('\n');
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((text.len() as u16).to_le_bytes());
    bytes.extend(text.into_bytes());
    bytes
}
