//! What the axes of a file are, and what may be wished of them.

use serde::{Deserialize, Serialize};

use super::sample::Dtype;

/// What to take from a file that holds more than one plane. The default asks for nothing: axes come from the
/// file's metadata, else they are inferred as Cellpose infers them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Axes {
    /// Index of the channel axis in the shape that the file declares, counted from 0.
    pub channel_axis: Option<usize>,
    /// Which plane to take, counted from 0 over all remaining axes in file order (pages, Z, T).
    pub plane: Option<usize>,
}

/// The meaning of an axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Axis {
    Y,
    X,
    Channel,
    Z,
    Time,
    Unknown,
}

impl Axis {
    pub fn letter(self) -> char {
        match self {
            Axis::Y => 'Y',
            Axis::X => 'X',
            Axis::Channel => 'C',
            Axis::Z => 'Z',
            Axis::Time => 'T',
            Axis::Unknown => '?',
        }
    }

    pub fn from_letter(letter: char) -> Self {
        match letter {
            'Y' => Axis::Y,
            'X' => Axis::X,
            'C' | 'S' => Axis::Channel,
            'Z' => Axis::Z,
            'T' => Axis::Time,
            _ => Axis::Unknown,
        }
    }
}

/// A file's array before its pixels are read.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    pub sizes: Vec<usize>,
    pub axes: Vec<Axis>,
    /// Who said what the axes are: `ImageJ`, `OME`, `TIFF tags`.
    pub origin: &'static str,
    pub dtype: Dtype,
}

impl Layout {
    /// `3 x 64 x 64, axes ZYX from ImageJ, u8`.
    pub fn describe(&self) -> String {
        let sizes: Vec<String> = self.sizes.iter().map(usize::to_string).collect();
        format!(
            "{}, axes {} from {}, {}",
            sizes.join(" x "),
            self.letters(),
            self.origin,
            self.dtype.name()
        )
    }

    pub fn letters(&self) -> String {
        self.axes.iter().map(|axis| axis.letter()).collect()
    }
}
