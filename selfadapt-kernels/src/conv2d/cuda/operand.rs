//! What a convolution on a GPU reads and what happens to its result: the forms of the CPU's, on arrays.

use candle_core::{Result, bail};

use super::NAME;
use crate::conv2d::geometry::Planes;
use crate::cuda::{Array, Launch};

/// `scale * x + shift`, channel by channel.
#[derive(Clone, Copy, Debug)]
pub struct Affine<'a> {
    /// `[C]`.
    pub scale: &'a Array<f32>,
    /// `[C]`, or `[B, C]` where it differs from image to image.
    pub shift: &'a Array<f32>,
}

/// A tensor times a factor for each channel.
#[derive(Clone, Copy, Debug)]
pub struct Term<'a> {
    /// `[B, C, H, W]`.
    pub values: &'a Array<f32>,
    /// `[C]`.
    pub scale: &'a Array<f32>,
}

/// A tensor `[B, C, H, W]` that is read as `relu(scale * x + shift + second.scale * second)`, zero around it.
#[derive(Clone, Copy, Debug)]
pub struct Input<'a> {
    /// `[B, C, H, W]`.
    pub values: &'a Array<f32>,
    /// A factor and a term for each channel.
    pub affine: Option<Affine<'a>>,
    /// A multiple of another tensor.
    pub second: Option<Term<'a>>,
    /// Whether negative values become zero, after all the above.
    pub relu: bool,
}

/// Keeps values where `affine(values) > 0`: the backward of a ReLU behind an affine.
#[derive(Clone, Copy, Debug)]
pub struct Gate<'a> {
    /// What went into the affine, `[B, C, H, W]`.
    pub values: &'a Array<f32>,
    /// The affine between `values` and the ReLU.
    pub affine: Affine<'a>,
    /// Whether there was a ReLU: without one everything is kept, but `values` can still be summed with.
    pub relu: bool,
}

/// Sums over the pixels of one channel of one image, of the stored values `v`; see [`crate::conv2d::Sums`].
#[derive(Clone, Copy, Debug, Default)]
pub enum Sums<'a> {
    /// None.
    #[default]
    None,
    /// `v - center` and `(v - center)^2`, `center` being `[C]`.
    Moments(&'a Array<f32>),
    /// `v` and `v * (x - center)`, `x` being the gate's values and `center` `[C]`.
    Products(&'a Array<f32>),
}

/// `gate(result + bias + residual)`, and sums over what is stored.
#[derive(Clone, Copy, Debug, Default)]
pub struct Epilogue<'a> {
    /// A term for each channel, `[C]`.
    pub bias: Option<&'a Array<f32>>,
    /// A tensor of the result's shape.
    pub residual: Option<&'a Array<f32>>,
    /// Where to keep the sum; it is zero elsewhere.
    pub gate: Option<Gate<'a>>,
    /// What to sum up.
    pub sums: Sums<'a>,
}

/// The two sums that [`Sums`] asks for.
#[derive(Debug)]
pub struct ChannelSums(
    /// `[2, B, C]`.
    pub Array<f64>,
);

impl Affine<'_> {
    fn check(&self, planes: Planes, what: &str) -> Result<()> {
        self.scale.expect(NAME, what, planes.channels)?;
        let images = planes.batch * planes.channels;
        if self.shift.len() != planes.channels && self.shift.len() != images {
            bail!(
                "{NAME}: expected {} or {images} terms of {what}, got {}",
                planes.channels,
                self.shift.len()
            )
        }
        Ok(())
    }

    /// Terms from one image to the next.
    fn pitch(&self, planes: Planes) -> u32 {
        match self.shift.len() == planes.channels {
            true => 0,
            false => planes.channels as u32,
        }
    }
}

impl<'a> Input<'a> {
    /// The values as they are.
    pub fn plain(values: &'a Array<f32>) -> Self {
        Self {
            values,
            affine: None,
            second: None,
            relu: false,
        }
    }

    pub(super) fn check(&self, planes: Planes, what: &str) -> Result<()> {
        self.values.expect(NAME, what, planes.len())?;
        if let Some(affine) = self.affine {
            affine.check(planes, what)?;
        }
        if let Some(second) = self.second {
            second.values.expect(NAME, "a second term", planes.len())?;
            second
                .scale
                .expect(NAME, "a second term's factors", planes.channels)?;
        }
        Ok(())
    }

    /// Passes it in the order of `OPERAND` in tiles.cuh.
    pub(super) fn pass<'l>(&self, planes: Planes, launch: Launch<'l>) -> Launch<'l> {
        launch
            .array(self.values)
            .maybe(self.affine.map(|affine| affine.scale))
            .maybe(self.affine.map(|affine| affine.shift))
            .u32(self.affine.map_or(0, |affine| affine.pitch(planes)))
            .maybe(self.second.map(|second| second.values))
            .maybe(self.second.map(|second| second.scale))
            .u32(u32::from(self.relu))
    }
}

impl Epilogue<'_> {
    pub(super) fn center(&self) -> Option<&Array<f32>> {
        match self.sums {
            Sums::None => None,
            Sums::Moments(center) | Sums::Products(center) => Some(center),
        }
    }

    pub(super) fn check(&self, planes: Planes) -> Result<()> {
        if let Some(bias) = self.bias {
            bias.expect(NAME, "the bias", planes.channels)?;
        }
        if let Some(residual) = self.residual {
            residual.expect(NAME, "the residual", planes.len())?;
        }
        if let Some(gate) = self.gate {
            gate.values.expect(NAME, "the gate", planes.len())?;
            gate.affine.check(planes, "the gate's affine")?;
        }
        if let Some(center) = self.center() {
            center.expect(NAME, "the centers", planes.channels)?;
        }
        if matches!(self.sums, Sums::Products(_)) && self.gate.is_none() {
            bail!("{NAME}: expected a gate whose values Sums::Products multiplies, got none")
        }
        Ok(())
    }

    /// Passes it in the order of `CONVOLUTION` in tiles.cuh, up to the centers.
    pub(super) fn pass<'l>(&self, planes: Planes, launch: Launch<'l>) -> Launch<'l> {
        launch
            .maybe(self.bias)
            .maybe(self.residual)
            .maybe(self.gate.map(|gate| gate.values))
            .maybe(self.gate.map(|gate| gate.affine.scale))
            .maybe(self.gate.map(|gate| gate.affine.shift))
            .u32(self.gate.map_or(0, |gate| gate.affine.pitch(planes)))
            .u32(u32::from(self.gate.is_some_and(|gate| gate.relu)))
            .u32(match self.sums {
                Sums::None => 0,
                Sums::Moments(_) => 1,
                Sums::Products(_) => 2,
            })
            .maybe(self.center())
    }
}
