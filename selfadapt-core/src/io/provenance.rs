//! What an image file held and what was taken from it, in words.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::axes::{Axes, Layout};
use super::select::Selection;

/// Where an image came from. Displays as `512 x 512, 3 channels, u8, axes YXC from ImageJ`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Provenance {
    /// The file.
    pub path: PathBuf,
    /// Sizes of the file's array, in its own order.
    pub shape: Vec<usize>,
    /// A letter per axis of `shape`: `Y`, `X`, `C`hannel, `Z`, `T`ime, `?` unknown.
    pub axes: String,
    /// Who said what the axes are: `ImageJ`, `OME`, `tifffile`, `TIFF tags`, `PNG`, `the array's shape`...
    pub axes_from: &'static str,
    /// Number type in the file: `u8`, `f32`...
    pub dtype: &'static str,
    /// Rows of the image.
    pub height: usize,
    /// Columns of the image.
    pub width: usize,
    /// Channels of the image.
    pub channels: usize,
    /// Index of the channel axis in `shape`, if there is one.
    pub channel_axis: Option<usize>,
    /// The channel axis was guessed from its size.
    pub channel_axis_inferred: bool,
    /// The plane taken, counted from 0, if there was a choice.
    pub plane: Option<usize>,
    /// How many planes there were.
    pub planes: usize,
}

impl Provenance {
    pub(super) fn new(path: &Path, layout: &Layout, selection: &Selection, axes: &Axes) -> Self {
        let (channels, height, width) = selection.shape(layout);
        Self {
            path: path.to_owned(),
            shape: layout.sizes.clone(),
            axes: layout.letters(),
            axes_from: layout.origin,
            dtype: layout.dtype.name(),
            height,
            width,
            channels,
            channel_axis: selection.channel,
            channel_axis_inferred: selection.inferred,
            plane: axes.plane.filter(|_| selection.planes > 1),
            planes: selection.planes,
        }
    }
}

impl fmt::Display for Provenance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = if self.channels == 1 { "" } else { "s" };
        write!(
            f,
            "{} x {}, {} channel{plural}, {}, axes {} from {}",
            self.height, self.width, self.channels, self.dtype, self.axes, self.axes_from
        )?;
        if let (Some(axis), true) = (self.channel_axis, self.channel_axis_inferred) {
            write!(f, ", axis {axis} taken for channels")?;
        }
        if let Some(plane) = self.plane {
            write!(f, ", plane {plane} of {}", self.planes)?;
        }
        Ok(())
    }
}
