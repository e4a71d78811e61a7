//! Deflated TIFF files of one or more planes.

use std::path::Path;

use ndarray::{ArrayView2, ArrayView3};
use tiff::encoder::colortype::{ColorType, Gray8, Gray16, Gray32, Gray32Float, RGB16};
use tiff::encoder::compression::DeflateLevel;
use tiff::encoder::{Compression, TiffEncoder, TiffKind, TiffKindBig, TiffKindStandard, TiffValue};
use tiff::tags::Tag;

use super::super::atomic::{self, Sink};
use crate::error::{Error, Result};

/// A number type that TIFF files are written in.
pub trait Pixel: Copy + sealed::Sealed {
    #[doc(hidden)]
    type Color: ColorType<Inner = Self>;
}

mod sealed {
    pub trait Sealed {}
}

macro_rules! pixels {
    ($($type:ty => $color:ty),*) => { $(
        impl sealed::Sealed for $type {}
        impl Pixel for $type {
            type Color = $color;
        }
    )* };
}
pixels!(u8 => Gray8, u16 => Gray16, u32 => Gray32, f32 => Gray32Float);

/// From this many bytes on the file becomes a BigTIFF, as offsets of 32 bits may no longer do.
const BIG: u64 = 0xf000_0000;

/// Writes planes `[N, H, W]` as one page each, deflated, atomically; the description holds the shape as tifffile
/// writes it, `[H, W]` for a single plane.
///
/// # Errors
/// If a size is 0 or beyond 32 bits, or the file cannot be written.
pub fn write<P>(path: impl AsRef<Path>, planes: ArrayView3<'_, P>) -> Result<()>
where
    P: Pixel,
    [P]: TiffValue,
{
    let path = path.as_ref();
    let (count, height, width) = planes.dim();
    let description = if count == 1 {
        format!("{{\"shape\": [{height}, {width}]}}")
    } else {
        format!("{{\"shape\": [{count}, {height}, {width}]}}")
    };
    let pages: Vec<ArrayView2<'_, P>> = planes.outer_iter().collect();
    let bytes = (count * height * width) as u64 * size_of::<P>() as u64;
    write_pages::<P::Color>(path, (height, width), &pages, &description, bytes)
}

/// Writes a colour image `[H, W, 3]` of 16 bits, deflated, atomically.
///
/// # Errors
/// As [`write()`], and if there are not three channels.
pub fn write_rgb(path: impl AsRef<Path>, image: ArrayView3<'_, u16>) -> Result<()> {
    let path = path.as_ref();
    let (height, width, channels) = image.dim();
    if channels != 3 {
        return Err(Error::write(
            path,
            format!("expected 3 channels, found {channels}"),
        ));
    }
    let rows = image.as_standard_layout();
    let flat = rows
        .view()
        .into_shape_with_order((height, width * 3))
        .map_err(|error| Error::write(path, error))?;
    let description = format!("{{\"shape\": [{height}, {width}, 3]}}");
    write_pages::<RGB16>(
        path,
        (height, width),
        &[flat],
        &description,
        2 * flat.len() as u64,
    )
}

fn write_pages<C>(
    path: &Path,
    (height, width): (usize, usize),
    pages: &[ArrayView2<'_, C::Inner>],
    description: &str,
    bytes: u64,
) -> Result<()>
where
    C: ColorType,
    C::Inner: Copy,
    [C::Inner]: TiffValue,
{
    let (Ok(wide), Ok(high)) = (u32::try_from(width), u32::try_from(height)) else {
        return Err(Error::write(
            path,
            format!("{height} x {width} pixels are too many for TIFF"),
        ));
    };
    if wide == 0 || high == 0 || pages.is_empty() {
        return Err(Error::write(
            path,
            format!("expected pixels, found {high} x {wide}"),
        ));
    }
    atomic::write(path, |sink| {
        let done = if bytes < BIG {
            encode::<C, TiffKindStandard>(sink, wide, high, pages, description)
        } else {
            encode::<C, TiffKindBig>(sink, wide, high, pages, description)
        };
        done.map_err(|error| Error::write(path, error))
    })
}

fn encode<C, K>(
    sink: &mut Sink,
    width: u32,
    height: u32,
    pages: &[ArrayView2<'_, C::Inner>],
    description: &str,
) -> tiff::TiffResult<()>
where
    C: ColorType,
    C::Inner: Copy,
    K: TiffKind,
    [C::Inner]: TiffValue,
{
    let mut encoder = TiffEncoder::<_, K>::new_generic(sink)?
        .with_compression(Compression::Deflate(DeflateLevel::Balanced));
    for (number, page) in pages.iter().enumerate() {
        let mut image = encoder.new_image::<C>(width, height)?;
        if number == 0 {
            image
                .encoder()
                .write_tag(Tag::ImageDescription, description)?;
        }
        let page = page.as_standard_layout();
        image.write_data(page.as_slice().unwrap_or(&[]))?;
    }
    Ok(())
}
