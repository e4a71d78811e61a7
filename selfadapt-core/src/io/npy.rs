//! NumPy's array files: `.npy`, and the first or only array of an `.npz`.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use ndarray::{Array3, ArrayBase, Data, Dimension};
use ndarray_npy::{WritableElement, WriteNpyExt};

use super::atomic;
use super::axes::{Axes, Axis, Layout};
use super::sample::{Dtype, Endian, Sample};
use super::select::Selection;
use crate::error::{Error, Result};

/// The first bytes of every `.npy` file.
const MAGIC: &[u8] = b"\x93NUMPY";

/// Deflate shrinks at most this much.
const LARGEST_RATIO: u64 = 1032;

/// What the header of an array says.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Header {
    /// `None`: Python objects.
    pub dtype: Option<(Dtype, Endian)>,
    pub fortran_order: bool,
    pub shape: Vec<usize>,
}

/// Reads one plane `[C, H, W]` of a `.npy` file.
///
/// # Errors
/// If the file is no array of numbers, is shorter than its header says, or `wish` leaves the plane open.
pub(super) fn read<T: Sample>(path: &Path, wish: &Axes) -> Result<(Array3<T>, Layout, Selection)> {
    let fail = |reason: String| Error::read(path, reason);
    let file = File::open(path).map_err(|error| Error::read(path, error))?;
    let length = file
        .metadata()
        .map_err(|error| Error::read(path, error))?
        .len();
    array(&mut BufReader::new(file), length, wish).map_err(fail)
}

/// Reads one plane of the array `name` in an `.npz` file; without a name there must be a single array.
///
/// # Errors
/// As for a `.npy` file, and if there are several arrays and none was named.
pub(super) fn read_npz<T: Sample>(
    path: &Path,
    name: Option<&str>,
    wish: &Axes,
) -> Result<(Array3<T>, Layout, Selection)> {
    let read = || -> std::result::Result<_, String> {
        let file = File::open(path).map_err(|error| error.to_string())?;
        let mut archive =
            zip::ZipArchive::new(BufReader::new(file)).map_err(|error| error.to_string())?;
        let mut names: Vec<String> = archive
            .file_names()
            .flatten()
            .filter(|name| name.ends_with(".npy"))
            .map(|name| name.into_owned())
            .collect();
        names.sort();
        let entry = match (name, names.as_slice()) {
            (Some(name), _) => format!("{name}.npy"),
            (None, [only]) => only.clone(),
            _ => {
                return Err(format!(
                    "expected one array, found {}: {}; save the image as a .npy file of its own",
                    names.len(),
                    names.join(", ")
                ));
            }
        };
        let mut entry = archive
            .by_name(&entry)
            .map_err(|error| format!("{entry}: {error}"))?;
        let (length, packed) = (entry.size(), entry.compressed_size());
        if length > packed.saturating_mul(LARGEST_RATIO).saturating_add(64) {
            return Err(format!(
                "it claims {length} bytes in {packed}; the file is damaged"
            ));
        }
        array(&mut entry, length, wish)
    };
    read().map_err(|reason| Error::read(path, reason))
}

fn array<T: Sample>(
    reader: &mut impl Read,
    length: u64,
    wish: &Axes,
) -> std::result::Result<(Array3<T>, Layout, Selection), String> {
    let (header, at) = header(reader)?;
    let (dtype, endian) = header.dtype.ok_or(
        "expected numbers, found Python objects; only Cellpose's _seg.npy files of that kind are read, as labels",
    )?;
    let layout = Layout {
        axes: vec![Axis::Unknown; header.shape.len()],
        sizes: header.shape,
        origin: "the array's shape",
        dtype,
    };
    let numbers = layout
        .sizes
        .iter()
        .try_fold(1_u64, |product, &size| product.checked_mul(size as u64))
        .and_then(|count| count.checked_mul(dtype.size() as u64))
        .ok_or("its shape overflows")?;
    if numbers > length.saturating_sub(at) {
        return Err(format!(
            "its header promises {numbers} bytes ({}), but only {} follow; the file was cut off",
            layout.describe(),
            length.saturating_sub(at)
        ));
    }
    if numbers == 0 {
        return Err(format!(
            "expected pixels, found an array of shape {:?}",
            layout.sizes
        ));
    }
    let selection = Selection::choose(&layout, wish)?;
    let mut bytes = Vec::with_capacity(numbers as usize);
    reader
        .take(numbers)
        .read_to_end(&mut bytes)
        .map_err(|error| error.to_string())?;
    let data: Vec<T> = dtype.decode(&bytes, endian).collect();
    drop(bytes);
    let pixels = if header.fortran_order {
        // Column-major is row-major with the axes reversed.
        let last = layout.sizes.len() - 1;
        let reversed: Vec<usize> = layout.sizes.iter().rev().copied().collect();
        let turned = Selection {
            y: last - selection.y,
            x: last - selection.x,
            channel: selection.channel.map(|axis| last - axis),
            at: selection.at.iter().rev().copied().collect(),
            ..selection.clone()
        };
        turned.cut(&reversed, data)?
    } else {
        selection.cut(&layout.sizes, data)?
    };
    Ok((pixels, layout, selection))
}

/// Reads the header; returns it and its length in bytes.
///
/// # Errors
/// A sentence, if the bytes are no `.npy` header of version 1 to 3.
pub(super) fn header(reader: &mut impl Read) -> std::result::Result<(Header, u64), String> {
    let (text, at) = header_text(reader)?;
    let header = parse(&text).ok_or_else(|| format!("cannot make sense of its header {text:?}"))?;
    Ok((header, at))
}

/// Reads the header's text; returns it and the header's length in bytes.
///
/// # Errors
/// As [`header`].
pub(super) fn header_text(reader: &mut impl Read) -> std::result::Result<(String, u64), String> {
    let mut start = [0; 8];
    reader
        .read_exact(&mut start)
        .map_err(|_| "the file is too short for a .npy header")?;
    if !start.starts_with(MAGIC) {
        return Err("expected a .npy file, found other bytes at its start".to_owned());
    }
    let wide = match start[6] {
        1 => 2,
        2 | 3 => 4,
        other => return Err(format!("expected .npy version 1 to 3, found {other}")),
    };
    let mut count = [0; 4];
    reader
        .read_exact(&mut count[..wide])
        .map_err(|_| "its header is cut off")?;
    let count = u32::from_le_bytes(count);
    if count > 1 << 20 {
        return Err(format!(
            "its header claims {count} bytes; the file is damaged"
        ));
    }
    let mut text = vec![0; count as usize];
    reader
        .read_exact(&mut text)
        .map_err(|_| "its header is cut off")?;
    let text = String::from_utf8_lossy(&text).into_owned();
    Ok((text, 8 + wide as u64 + u64::from(count)))
}

/// The name of the number type in a header's text.
pub(super) fn descr(text: &str) -> Option<&str> {
    let (_, rest) = text.split_once("'descr'")?;
    let rest = rest.trim_start().strip_prefix(':')?.trim_start();
    rest.strip_prefix('\'')?.split('\'').next()
}

/// `{'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }`
pub(super) fn parse(text: &str) -> Option<Header> {
    let after = |key: &str| {
        let (_, rest) = text.split_once(&format!("'{key}'"))?;
        Some(rest.trim_start().strip_prefix(':')?.trim_start())
    };
    let descr = descr(text)?;
    let fortran_order = after("fortran_order")?.starts_with("True");
    let inside = after("shape")?.strip_prefix('(')?.split(')').next()?;
    let shape: Option<Vec<usize>> = inside
        .split(',')
        .map(|size| size.trim().trim_end_matches('L'))
        .filter(|size| !size.is_empty())
        .map(|size| size.parse().ok())
        .collect();
    Some(Header {
        dtype: number_type(descr)?,
        fortran_order,
        shape: shape?,
    })
}

/// NumPy's name of a number type, `<u2`; the inner `None` stands for objects.
pub(super) fn number_type(descr: &str) -> Option<Option<(Dtype, Endian)>> {
    let (endian, name) = match descr.split_at_checked(1)? {
        ("<" | "|" | "=", name) => (Endian::Little, name),
        (">", name) => (Endian::Big, name),
        _ => (Endian::Little, descr),
    };
    Some(Some((
        match name {
            "b1" => Dtype::Bool,
            "u1" => Dtype::U8,
            "u2" => Dtype::U16,
            "u4" => Dtype::U32,
            "u8" => Dtype::U64,
            "i1" => Dtype::I8,
            "i2" => Dtype::I16,
            "i4" => Dtype::I32,
            "i8" => Dtype::I64,
            "f2" => Dtype::F16,
            "f4" => Dtype::F32,
            "f8" => Dtype::F64,
            "O" | "O8" => return Some(None),
            _ => return None,
        },
        endian,
    )))
}

/// Writes an array as `.npy`, atomically.
///
/// # Errors
/// If the file cannot be written.
pub fn write<A, S, D>(path: impl AsRef<Path>, array: &ArrayBase<S, D>) -> Result<()>
where
    A: WritableElement,
    S: Data<Elem = A>,
    D: Dimension,
{
    let path = path.as_ref();
    atomic::write(path, |sink| {
        array
            .write_npy(sink)
            .map_err(|error| Error::write(path, error))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::{Array2, ShapeBuilder, array};

    #[test]
    fn headers_of_numpy() {
        let header = parse("{'descr': '>f8', 'fortran_order': True, 'shape': (3,), }").unwrap();
        assert_eq!(header.dtype, Some((Dtype::F64, Endian::Big)));
        assert!(header.fortran_order);
        assert_eq!(header.shape, [3]);
        let objects = parse("{'descr': '|O', 'fortran_order': False, 'shape': (), }").unwrap();
        assert_eq!(objects.dtype, None);
        assert!(objects.shape.is_empty());
        assert_eq!(
            parse("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (2,)}"),
            None
        );
    }

    #[test]
    fn both_orders_come_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.npy");
        let rows = array![[1_u16, 2, 3], [4, 5, 60000]];
        let mut columns = Array2::zeros((2, 3).f());
        columns.assign(&rows);
        for array in [&rows, &columns] {
            write(&path, array).unwrap();
            let (pixels, layout, _) = read::<f32>(&path, &Axes::default()).unwrap();
            assert_eq!(layout.dtype, Dtype::U16);
            assert_eq!(pixels.index_axis(ndarray::Axis(0), 0), rows.mapv(f32::from));
        }
    }

    #[test]
    fn a_promise_beyond_the_file_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.npy");
        write(&path, &array![[1.0_f32, 2.0], [3.0, 4.0]]).unwrap();
        let mut bytes = std::fs::read(&path).unwrap();
        let text = String::from_utf8_lossy(&bytes).replace("(2, 2)", "(9000000, 9000)");
        assert_ne!(text.as_bytes(), bytes.as_slice());
        let at = bytes
            .windows(6)
            .position(|window| window == b"(2, 2)")
            .unwrap();
        bytes.splice(at..at + 15, *b"(90000, 90000) ");
        std::fs::write(&path, &bytes).unwrap();
        let message = read::<f32>(&path, &Axes::default())
            .unwrap_err()
            .to_string();
        assert!(
            message.contains("cut off") && message.contains("a.npy"),
            "{message}"
        );
    }
}
