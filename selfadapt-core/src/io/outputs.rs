//! Where results go and what they are called: as Cellpose 3.1.1 names them.

use std::path::{Path, PathBuf};

use ndarray::Array3;

use super::flows::{Flows, flow_picture};
use super::{png, tiff, zarr};
use crate::error::{Error, Result};
use crate::labels::Labels;

/// Label image as TIFF.
pub const MASKS_TIF: &str = "_cp_masks.tif";
/// Label image as PNG.
pub const MASKS_PNG: &str = "_cp_masks.png";
/// Label image as OME-Zarr.
pub const MASKS_ZARR: &str = "_cp_masks.zarr";
/// What Cellpose's graphical interface opens.
pub const SEG: &str = "_seg.npy";
/// Outlines as text.
pub const OUTLINES_TXT: &str = "_cp_outlines.txt";
/// Outlines as ImageJ ROIs.
pub const ROIS: &str = "_rois.zip";
/// Outlines drawn on the image.
pub const OUTLINES_PNG: &str = "_outlines_cp_masks.png";
/// Flow picture.
pub const FLOW_PICTURE: &str = "_flows_cp_masks.tif";
/// Flow field.
pub const FLOW: &str = "_dP_cp_masks.tif";

/// `folder/stem` + `suffix`, beside the image if there is no `folder`; the stem ends at the last dot.
pub fn path(image: impl AsRef<Path>, folder: Option<&Path>, suffix: &str) -> PathBuf {
    let image = image.as_ref();
    let mut name = image.file_stem().unwrap_or_default().to_owned();
    name.push(suffix);
    folder
        .or(image.parent())
        .unwrap_or(Path::new(""))
        .join(name)
}

/// Writes a label image as deflated TIFF, atomically: 16 bits up to 65535 objects, else 32.
///
/// # Errors
/// If the file cannot be written.
pub fn write_masks_tif(path: impl AsRef<Path>, labels: &Labels) -> Result<()> {
    let pixels = labels.pixels().insert_axis(ndarray::Axis(0));
    if labels.count() <= usize::from(u16::MAX) {
        tiff::write(path, pixels.mapv(|label| label as u16).view())
    } else {
        tiff::write(path, pixels)
    }
}

/// Writes a label image as PNG of 16 bits, atomically.
///
/// # Errors
/// If there are more than 65535 objects, or the file cannot be written.
pub fn write_masks_png(path: impl AsRef<Path>, labels: &Labels) -> Result<()> {
    if labels.count() > usize::from(u16::MAX) {
        return Err(Error::write(
            path,
            format!(
                "a PNG holds at most 65535 objects, found {}; write a TIFF in its place",
                labels.count()
            ),
        ));
    }
    png::write_gray16(path, labels.pixels().mapv(|label| label as u16).view())
}

/// Writes a label image as OME-Zarr (NGFF 0.4) of 32 bits.
///
/// # Errors
/// If there is something of that name already, or it cannot be written.
pub fn write_masks_zarr(path: impl AsRef<Path>, labels: &Labels) -> Result<()> {
    let pixels = labels.pixels();
    zarr::write_labels(path, labels.size(), zarr::Ngff::V04, &mut |row, line| {
        line.iter_mut()
            .zip(pixels.row(row))
            .for_each(|(to, &from)| *to = from);
        Ok(())
    })
}

/// Writes the flow picture as colour TIFF of 16 bits, atomically.
///
/// Cellpose 3.1.1 multiplies its 8-bit picture by 65535, which overflows; here 255 becomes 65535.
///
/// # Errors
/// If the file cannot be written.
pub fn write_flow_picture(path: impl AsRef<Path>, flows: &Flows<'_>) -> Result<()> {
    let picture = flow_picture(flows);
    let size = (picture.height() as usize, picture.width() as usize, 3);
    let pixels = picture
        .into_raw()
        .into_iter()
        .map(|value| u16::from(value) * 257)
        .collect();
    let pixels =
        Array3::from_shape_vec(size, pixels).map_err(|error| Error::write(path.as_ref(), error))?;
    tiff::write_rgb(path, pixels.view())
}

/// Writes the flow field (dy, dx) as TIFF of two pages of 32-bit floats, atomically.
///
/// # Errors
/// If the file cannot be written.
pub fn write_flow(path: impl AsRef<Path>, flows: &Flows<'_>) -> Result<()> {
    tiff::write(path, flows.flow())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::{Axes, read, read_labels};
    use ndarray::{Array2, Axis};

    #[test]
    fn names_follow_the_image() {
        assert_eq!(
            path("a/b.ome.tif", None, MASKS_TIF),
            Path::new("a/b.ome_cp_masks.tif")
        );
        assert_eq!(
            path("a/b.tif", Some(Path::new("out")), SEG),
            Path::new("out/b_seg.npy")
        );
        assert_eq!(path("b.tif", None, SEG), Path::new("b_seg.npy"));
    }

    #[test]
    fn many_labels_need_32_bits() {
        let folder = tempfile::tempdir().unwrap();
        let (tif, png) = (folder.path().join("a.tif"), folder.path().join("a.png"));
        let labels = Labels::from_rows(257, 256, (0..65_792).collect()).unwrap();
        write_masks_tif(&tif, &labels).unwrap();
        assert_eq!(read_labels(&tif).unwrap(), labels);
        assert!(
            write_masks_png(&png, &labels)
                .unwrap_err()
                .to_string()
                .contains("65791")
        );
        assert!(!png.exists());
        let fewer = Labels::from_rows(256, 256, (0..65_536).collect()).unwrap();
        write_masks_tif(&tif, &fewer).unwrap();
        write_masks_png(&png, &fewer).unwrap();
        let (_, provenance) = read(&tif, &Axes::default()).unwrap();
        assert_eq!(provenance.dtype, "u16");
        assert_eq!(read_labels(&tif).unwrap(), fewer);
        assert_eq!(read_labels(&png).unwrap(), fewer);
    }

    #[test]
    fn flows_come_back() {
        let folder = tempfile::tempdir().unwrap();
        let (dp, rgb) = (folder.path().join("dp.tif"), folder.path().join("rgb.tif"));
        let flow =
            Array3::from_shape_fn((2, 5, 7), |(a, y, x)| (a * 100 + y * 10 + x) as f32 / 7.0);
        let flows = Flows::new(flow.view(), flow.index_axis(Axis(0), 0)).unwrap();
        write_flow(&dp, &flows).unwrap();
        let (back, _) = read(&dp, &Axes::default()).unwrap();
        assert_eq!(back.pixels(), flow);
        write_flow_picture(&rgb, &flows).unwrap();
        let (back, _) = read(&rgb, &Axes::default()).unwrap();
        let picture = flow_picture(&flows);
        let expected = Array2::from_shape_fn((5, 7), |(y, x)| {
            f32::from(picture.get_pixel(x as u32, y as u32).0[1]) * 257.0
        });
        assert_eq!(back.pixels().index_axis(Axis(0), 1), expected);
    }
}
