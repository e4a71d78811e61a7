//! Filters in the order in which a GPU reads them, and the convolution by them.

use candle_core::{Result, bail};

use super::operand::{ChannelSums, Epilogue, Input};
use super::{NAME, PROGRAM, is_three, kernel, tile};
use crate::conv2d::Geometry;
use crate::conv2d::geometry::Planes;
use crate::cuda::{Array, Launch, blocks_for, count};
use crate::device::Precision;

/// Channels that a block multiplies at a time: `DEPTH` in conv2d.cu.
const DEPTH: usize = 8;

/// A weight `[Co, Ci, k, k]` (`k` 1 or 3) packed for convolutions, or turned for their gradients by data: good for
/// images of any number and size.
#[derive(Debug)]
pub struct Filters {
    /// `[k k, inputs, outputs]`, both padded with zeros.
    packed: Array<f32>,
    side: usize,
    /// Channels read and written.
    inputs: usize,
    outputs: usize,
    turned: bool,
}

impl Filters {
    /// Packs `weight` for [`Filters::apply`] on inputs.
    ///
    /// # Errors
    /// If the weight is not `[Co, Ci, k, k]` of the geometry, `k` is neither 1 nor 3, or the device fails.
    pub fn forward(geometry: &Geometry, weight: &Array<f32>) -> Result<Self> {
        Self::pack(geometry, weight, false)
    }

    /// Packs `weight` for [`Filters::apply`] on gradients by outputs.
    ///
    /// # Errors
    /// As [`Filters::forward`].
    pub fn backward_data(geometry: &Geometry, weight: &Array<f32>) -> Result<Self> {
        Self::pack(geometry, weight, true)
    }

    fn pack(geometry: &Geometry, weight: &Array<f32>, turned: bool) -> Result<Self> {
        is_three(geometry)?;
        weight.expect(NAME, "the weight", geometry.weight_len())?;
        if weight.is_empty() {
            bail!("{NAME}: expected at least one channel on each side, got {geometry:?}")
        }
        let (co, ci) = (geometry.out_channels(), geometry.in_channels());
        let (inputs, outputs) = match turned {
            false => (ci, co),
            true => (co, ci),
        };
        let taps = geometry.kernel() * geometry.kernel();
        let rows = inputs.next_multiple_of(DEPTH);
        let columns = outputs.next_multiple_of(tile(outputs).0);
        let n = count(NAME, taps * rows * columns)?;
        let mut packed = Array::room(weight.machine(), n as usize)?;
        let launch = Launch::new(weight.machine(), &PROGRAM, "conv2d_pack")
            .array(weight)
            .u32(n)
            .u32(co as u32)
            .u32(ci as u32)
            .u32(taps as u32)
            .u32(rows as u32)
            .u32(columns as u32)
            .u32(u32::from(turned))
            .out(&mut packed);
        // SAFETY: the arguments are the kernel's; the weight has co x ci x taps numbers, `packed` has n.
        unsafe { launch.run(blocks_for(n)) }?;
        Ok(Self {
            packed,
            side: geometry.kernel(),
            inputs,
            outputs,
            turned,
        })
    }

    /// The convolution of `input` (or the gradient by data of a gradient `input`) plus the epilogue's terms, and the sums
    /// that it asks for.
    ///
    /// # Errors
    /// If an array has not the length that `geometry` calls for, the filters are another geometry's, or the device fails.
    pub fn apply(
        &self,
        geometry: &Geometry,
        input: Input,
        epilogue: Epilogue,
        precision: Precision,
    ) -> Result<(Array<f32>, Option<ChannelSums>)> {
        let three = is_three(geometry)?;
        let (from, to) = match self.turned {
            false => (geometry.input_planes(), geometry.output_planes()),
            true => (geometry.output_planes(), geometry.input_planes()),
        };
        if (self.side, self.inputs, self.outputs) != (geometry.kernel(), from.channels, to.channels)
        {
            bail!(
                "{NAME}: expected filters of side {} from {} to {} channels, got side {} from {} to {}",
                geometry.kernel(),
                from.channels,
                to.channels,
                self.side,
                self.inputs,
                self.outputs
            )
        }
        input.check(from, "the input")?;
        epilogue.check(to)?;
        count(NAME, from.len())?;
        count(NAME, to.len())?;
        let machine = input.values.machine();
        let mut y = Array::room(machine, to.len())?;
        let (program, kernel) = kernel(precision, false, three, to.channels);
        let (channels, pixels) = tile(to.channels);
        let tiles = to.plane().div_ceil(pixels);
        let blocks = to.channels.div_ceil(channels) * tiles * to.batch;
        let planes = to.batch * to.channels;
        let summed = epilogue.center().is_some();
        let parts = match summed {
            true => Some(Array::<f64>::room(machine, 2 * tiles * planes)?),
            false => None,
        };
        let launch = Launch::new(machine, program, kernel);
        let launch = input.pass(from, launch).u32(to.batch as u32);
        let launch = launch
            .u32(from.channels as u32)
            .u32(to.channels as u32)
            .u32(to.height as u32)
            .u32(to.width as u32)
            .array(&self.packed);
        let launch = epilogue.pass(to, launch).maybe(parts.as_ref()).out(&mut y);
        // SAFETY: the arguments are the kernel's; lengths were checked above against `from` and `to`, whose numbers are
        // fewer than 2^31; filters are padded to whole tiles; a block stores its own tile and its own parts, of which
        // there are 2 for each tile and channel; what is missing is not read.
        unsafe { launch.run(count(NAME, blocks)?) }?;
        let sums = match &parts {
            Some(parts) => Some(add_tiles(parts, to, tiles)?),
            None => None,
        };
        Ok((y, sums))
    }
}

/// Sums the tiles' parts `[2, tiles, B, C]` in their order.
fn add_tiles(parts: &Array<f64>, planes: Planes, tiles: usize) -> Result<ChannelSums> {
    let of_one = planes.batch * planes.channels;
    let mut sums = Array::room(parts.machine(), 2 * of_one)?;
    let n = count(NAME, 2 * of_one)?;
    let launch = Launch::new(parts.machine(), &PROGRAM, "conv2d_sums")
        .array(parts)
        .u32(n)
        .u32(of_one as u32)
        .u32(tiles as u32)
        .out(&mut sums);
    // SAFETY: the arguments are the kernel's; `parts` has `tiles` parts for each of the n sums.
    unsafe { launch.run(blocks_for(n)) }?;
    Ok(ChannelSums(sums))
}
