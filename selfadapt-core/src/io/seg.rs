//! Cellpose's `_seg.npy`: what its graphical interface opens and saves.

use std::path::Path;

use super::flows::{Flows, flow_picture, logit_bytes};
use super::label_files::from_shape;
use super::outlines::outline_pixels;
use super::pickle::read::Pickle;
use super::pickle::write::{Item, object_array};
use super::sample::Dtype;
use super::{atomic, npy};
use crate::error::{Error, Result};
use crate::labels::Labels;

/// What goes into a `_seg.npy`.
#[derive(Clone, Copy, Debug)]
pub struct Segmentation<'a> {
    /// The objects.
    pub labels: &'a Labels,
    /// The network's maps; without them the interface shows masks, but cannot recompute them.
    pub flows: Option<Flows<'a>>,
    /// The image file; the interface looks for it there, then beside the `_seg.npy`.
    pub image: &'a Path,
    /// Object diameter that the model was run with, pixels of the image.
    pub diameter: f64,
    /// Cellpose's channel numbers `[chan, chan2]`: 0 gray, 1 red, 2 green, 3 blue; 0 for no second channel.
    pub channels: [u8; 2],
}

/// Writes a dict as `np.save` does, atomically, with the keys and number types of `io.masks_flows_to_seg` of
/// Cellpose 3.1.1: `outlines`, `masks`, `chan_choose`, `ismanual`, `filename`, `flows`, `diameter`.
///
/// # Errors
/// If the flows have another size than the labels, or the file cannot be written.
pub fn write(path: impl AsRef<Path>, segmentation: &Segmentation<'_>) -> Result<()> {
    let path = path.as_ref();
    let labels = segmentation.labels;
    let (height, width) = labels.size();
    let on = outline_pixels(labels);
    let edges: Vec<u32> = labels
        .as_slice()
        .iter()
        .zip(&on)
        .map(|(&label, &on)| if on { label } else { 0 })
        .collect();
    let flows = match &segmentation.flows {
        Some(flows) => flow_items(flows, (height, width))?,
        // What the interface itself holds before anything was run.
        None => (0..4)
            .map(|_| Item::List(Vec::new()))
            .chain([Item::List(vec![Item::List(Vec::new())])])
            .collect(),
    };
    let [first, second] = segmentation
        .channels
        .map(|channel| Item::Int(i64::from(channel)));
    let filename = segmentation.image.to_string_lossy();
    let dict = Item::Dict(vec![
        ("outlines", label_item(&edges, labels)),
        ("masks", label_item(labels.as_slice(), labels)),
        ("chan_choose", Item::List(vec![first, second])),
        (
            "ismanual",
            Item::Array {
                dtype: Dtype::Bool,
                shape: vec![labels.count()],
                bytes: vec![0; labels.count()],
            },
        ),
        ("filename", Item::Text(&filename)),
        ("flows", Item::List(flows)),
        ("diameter", Item::Float(segmentation.diameter)),
    ]);
    atomic::write(path, |sink| {
        std::io::Write::write_all(sink, &object_header())
            .and_then(|()| object_array(sink, &dict))
            .map_err(|error| Error::write(path, error))
    })
}

/// The `.npy` header of an object array without axes, padded to 128 bytes.
fn object_header() -> Vec<u8> {
    let mut header =
        b"\x93NUMPY\x01\x00\x76\x00{'descr': '|O', 'fortran_order': False, 'shape': (), }".to_vec();
    header.resize(127, b' ');
    header.push(b'\n');
    header
}

fn label_item(pixels: &[u32], labels: &Labels) -> Item<'static> {
    let (height, width) = labels.size();
    let small = labels.count() < usize::from(u16::MAX);
    Item::Array {
        dtype: if small { Dtype::U16 } else { Dtype::U32 },
        shape: vec![height, width],
        bytes: if small {
            pixels
                .iter()
                .flat_map(|&label| (label as u16).to_le_bytes())
                .collect()
        } else {
            pixels
                .iter()
                .flat_map(|&label| label.to_le_bytes())
                .collect()
        },
    }
}

/// The five entries: flow picture, cell probability in bytes, an empty Z flow, no destinations, `[dy, dx, logit]`.
fn flow_items(flows: &Flows<'_>, (height, width): (usize, usize)) -> Result<Vec<Item<'static>>> {
    if flows.cell_logit().dim() != (height, width) {
        return Err(Error::Image(format!(
            "expected flows of {height} x {width} as the labels, found {:?}",
            flows.cell_logit().dim()
        )));
    }
    let bytes = |shape: Vec<usize>, bytes| Item::Array {
        dtype: Dtype::U8,
        shape,
        bytes,
    };
    let maps = flows.flow().into_iter().chain(flows.cell_logit());
    Ok(vec![
        bytes(vec![1, height, width, 3], flow_picture(flows).into_raw()),
        bytes(vec![1, height, width], logit_bytes(flows)),
        bytes(vec![1, height, width, 3], vec![0; height * width * 3]),
        Item::List(Vec::new()),
        Item::Array {
            dtype: Dtype::F32,
            shape: vec![3, height, width],
            bytes: maps.flat_map(|value| value.to_le_bytes()).collect(),
        },
    ])
}

/// Reads the masks of a `_seg.npy`, written by SelfAdapt, Cellpose or its interface. Nothing in the file is run.
///
/// # Errors
/// If the file is no such dict, or is cut off.
pub fn read_masks(path: impl AsRef<Path>) -> Result<Labels> {
    let path = path.as_ref();
    let read = || -> std::result::Result<Labels, String> {
        let bytes = std::fs::read(path).map_err(|error| error.to_string())?;
        let (header, at) = npy::header(&mut bytes.as_slice())?;
        if header.dtype.is_some() {
            return Err("expected a dict, found an array of numbers".to_owned());
        }
        let pickle = Pickle::read(bytes.get(at as usize..).unwrap_or(&[]))?;
        let masks = pickle.get(pickle.root(), "masks").ok_or(
            "expected a dict with the key 'masks' as Cellpose saves it, found none; save it anew in Cellpose",
        )?;
        let array = pickle.array(masks)?;
        let data = array.dtype.decode(&array.data, array.endian).collect();
        from_shape(&array.shape, array.fortran_order, data)
    };
    read().map_err(|reason| Error::read(path, reason))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::{Array2, Array3};

    #[test]
    fn masks_come_back_with_and_without_flows() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a_seg.npy");
        let pixels = (0..120)
            .map(|i| if i % 12 < 5 { i / 40 + 1 } else { 0 })
            .collect();
        let labels = Labels::from_rows(10, 12, pixels).unwrap();
        let flow = Array3::from_shape_fn((2, 10, 12), |(a, y, x)| (a + y * x) as f32);
        let logit = Array2::from_shape_fn((10, 12), |(y, x)| y as f32 - x as f32);
        let flows = Flows::new(flow.view(), logit.view()).unwrap();
        for flows in [None, Some(flows)] {
            let segmentation = Segmentation {
                labels: &labels,
                flows,
                image: Path::new("a.tif"),
                diameter: 30.0,
                channels: [0, 0],
            };
            write(&path, &segmentation).unwrap();
            assert_eq!(read_masks(&path).unwrap(), labels);
        }
        let bytes = std::fs::read(&path).unwrap();
        for length in [0, 60, 130, 300, bytes.len() / 2] {
            std::fs::write(&path, &bytes[..length]).unwrap();
            assert!(read_masks(&path).is_err(), "{length}");
        }
    }

    #[test]
    fn numbers_are_no_dict() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a_seg.npy");
        npy::write(&path, &Array2::<u8>::zeros((2, 2))).unwrap();
        assert!(
            read_masks(&path)
                .unwrap_err()
                .to_string()
                .contains("expected a dict")
        );
    }
}
