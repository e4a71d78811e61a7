//! What happens to a convolution's result while it is stored, and what is summed up on the way.

use super::geometry::Planes;
use super::operand::{Affine, expect_len};
use candle_core::Result;

/// `gate(result + bias + residual)`, and sums over what is stored.
#[derive(Clone, Copy, Debug, Default)]
pub struct Epilogue<'a> {
    /// A term for each channel, `[C]`.
    pub bias: Option<&'a [f32]>,
    /// A tensor of the result's shape `[B, C, H, W]`.
    pub residual: Option<&'a [f32]>,
    /// Where to keep the sum; it is zero elsewhere.
    pub gate: Option<Gate<'a>>,
    /// What to sum up over the pixels of each channel of each image.
    pub sums: Sums<'a>,
}

/// Keeps values where `affine(values) > 0`: the backward of a ReLU behind an affine.
#[derive(Clone, Copy, Debug)]
pub struct Gate<'a> {
    /// What went into the affine, of the result's shape `[B, C, H, W]`.
    pub values: &'a [f32],
    /// The affine between `values` and the ReLU.
    pub affine: Affine<'a>,
    /// Whether there was a ReLU: without one everything is kept, but `values` can still be summed with.
    pub relu: bool,
}

/// Sums over the pixels of one channel of one image, of the stored values `v`.
#[derive(Clone, Copy, Debug, Default)]
pub enum Sums<'a> {
    /// None.
    #[default]
    None,
    /// `v - center` and `(v - center)^2`: the moments of a batch norm. A `center` `[C]` near the mean keeps
    /// the squares from cancelling.
    Moments {
        /// `[C]`.
        center: &'a [f32],
    },
    /// `v` and `v * (x - center)`, `x` being the gate's values: the reductions of a batch norm's backward.
    Products {
        /// `[C]`.
        center: &'a [f32],
    },
}

/// The two sums that [`Sums`] asks for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ChannelSums {
    /// The first sum, `[B, C]`; empty when none was asked for.
    pub first: Vec<f64>,
    /// The second sum, `[B, C]`; empty when none was asked for.
    pub second: Vec<f64>,
}

impl<'a> Sums<'a> {
    /// The centers, if anything is summed.
    #[inline(always)]
    pub(crate) fn center(&self) -> Option<&'a [f32]> {
        match *self {
            Sums::None => None,
            Sums::Moments { center } | Sums::Products { center } => Some(center),
        }
    }
}

impl Epilogue<'_> {
    pub(crate) fn check(&self, planes: Planes) -> Result<()> {
        if let Some(bias) = self.bias {
            expect_len(bias.len(), planes.channels, "the bias of", planes)?;
        }
        if let Some(residual) = self.residual {
            expect_len(residual.len(), planes.len(), "the residual of", planes)?;
        }
        if let Some(gate) = self.gate {
            expect_len(gate.values.len(), planes.len(), "the gate of", planes)?;
            gate.affine.check(planes, "the gate of")?;
        }
        if let Some(center) = self.sums.center() {
            expect_len(center.len(), planes.channels, "the centers of", planes)?;
        }
        if matches!(self.sums, Sums::Products { .. }) && self.gate.is_none() {
            candle_core::bail!(
                "conv2d: expected a gate whose values Sums::Products multiplies, got none"
            )
        }
        Ok(())
    }

    /// Space for the sums of `slots` parts of images, zero; empty when nothing is summed.
    pub(crate) fn slots(&self, slots: usize, channels: usize) -> Vec<f32> {
        match self.sums {
            Sums::None => Vec::new(),
            _ => vec![0.0; slots * 2 * channels],
        }
    }
}

impl ChannelSums {
    /// Adds up the tasks' slots `[2, C]`, `per_image` consecutive ones for each image, in their order.
    pub(crate) fn gather(slots: Vec<Vec<f32>>, per_image: usize, planes: Planes) -> Self {
        let channels = planes.channels;
        if slots.iter().all(Vec::is_empty) || channels == 0 {
            return Self::default();
        }
        let mut sums = Self {
            first: vec![0.0; planes.batch * channels],
            second: vec![0.0; planes.batch * channels],
        };
        let all = slots
            .iter()
            .flat_map(|task| task.chunks_exact(2 * channels));
        for (slot, values) in all.enumerate() {
            let (first, second) = values.split_at(channels);
            let image = slot / per_image * channels;
            for (totals, values) in [(&mut sums.first, first), (&mut sums.second, second)] {
                for (total, value) in totals[image..].iter_mut().zip(values) {
                    *total += f64::from(*value);
                }
            }
        }
        sums
    }
}
