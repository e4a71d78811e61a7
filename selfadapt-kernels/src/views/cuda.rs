//! Turning planes and merging turned planes on a GPU.

use std::sync::Arc;

use candle_core::{Result, bail};

use super::{Activation, View};
use crate::cuda::{Array, Launch, Machine, Program, blocks_for, count};

const TURN: &str = "turn";
const MERGE: &str = "views merge";

/// Its kernels.
pub const PROGRAM: Program = Program {
    name: "views.cu",
    source: include_str!("views.cu"),
    kernels: &["turn", "accumulate", "spread"],
};

/// The view of planes `x [.., h, w]`, as [`super::turn_planes`].
///
/// # Errors
/// If `x` is not made of whole planes or the device fails.
pub fn turn(x: &Array<f32>, (h, w): (usize, usize), view: View) -> Result<Array<f32>> {
    if h * w == 0 || !x.len().is_multiple_of(h * w) {
        bail!(
            "{TURN}: expected whole planes of {h} x {w}, got {} numbers",
            x.len()
        )
    }
    let (h, w) = if view.swaps_axes() { (w, h) } else { (h, w) };
    let machine = x.machine();
    let mut y = Array::room(machine, x.len())?;
    // A pixel of the view lies where the inverse view of the view would put it.
    let inverse = view.inverse();
    let n = count(TURN, x.len())?;
    let launch = Launch::new(machine, &PROGRAM, "turn")
        .array(x)
        .u32(n)
        .u32(h as u32)
        .u32(w as u32)
        .u32(u32::from(inverse.flip))
        .u32(u32::from(inverse.turns % 4))
        .out(&mut y);
    // SAFETY: the arguments are the kernel's; x and y have `n` numbers in planes of `h w`, and a position lies in one.
    unsafe { launch.run(blocks_for(n)) }?;
    Ok(y)
}

/// Collects views of one batch, as [`super::ViewsMerge`].
#[derive(Debug)]
pub struct ViewsMerge {
    activation: Activation,
    count: usize,
    shape: [usize; 4],
    mean: Array<f32>,
    squares: Array<f32>,
}

impl ViewsMerge {
    /// Nothing collected yet, for merged maps of `shape [B, C, H, W]`.
    ///
    /// # Errors
    /// If there is not enough memory.
    pub fn new(
        machine: &Arc<dyn Machine>,
        activation: Activation,
        shape: [usize; 4],
    ) -> Result<Self> {
        let len = shape.iter().product();
        count(MERGE, len)?;
        Ok(Self {
            activation,
            count: 0,
            shape,
            mean: Array::zeros(machine, len)?,
            squares: Array::zeros(machine, len)?,
        })
    }

    /// Adds what the network said of `view`: `output [B, sources, ..]`, its planes `[W, H]` after odd turns. Channel k of
    /// the merged map is `channels[k].1` times channel `channels[k].0` of the activated output.
    ///
    /// # Errors
    /// If the output has another size, a source channel does not exist, or the device fails.
    pub fn push(
        &mut self,
        output: &Array<f32>,
        sources: usize,
        view: View,
        channels: &[(usize, f32)],
    ) -> Result<()> {
        let [batch, merged, h, w] = self.shape;
        output.expect(MERGE, "the output", batch * sources * h * w)?;
        if channels.len() != merged {
            bail!(
                "{MERGE}: expected {merged} channels, got {}",
                channels.len()
            )
        }
        if let Some((source, _)) = channels.iter().find(|(source, _)| *source >= sources) {
            bail!("{MERGE}: expected source channels below {sources}, got {source}")
        }
        count(MERGE, output.len())?;
        let machine = self.mean.machine().clone();
        let from: Vec<u32> = channels.iter().map(|(source, _)| *source as u32).collect();
        let signs: Vec<f32> = channels.iter().map(|(_, sign)| *sign).collect();
        let (from, signs) = (Array::of(&machine, &from)?, Array::of(&machine, &signs)?);
        let pixels = count(MERGE, batch * h * w)?;
        let activation = match self.activation {
            Activation::Identity => 0,
            Activation::Sigmoid => 1,
            Activation::Softmax => 2,
        };
        let launch = Launch::new(&machine, &PROGRAM, "accumulate")
            .array(output)
            .u32(pixels)
            .u32(sources as u32)
            .u32(merged as u32)
            .u32(h as u32)
            .u32(w as u32)
            .u32(u32::from(view.flip))
            .u32(u32::from(view.turns % 4))
            .u32(activation)
            .array(&from)
            .array(&signs)
            .f32((1.0 / (self.count + 1) as f64) as f32)
            .out(&mut self.mean)
            .out(&mut self.squares);
        // SAFETY: the arguments are the kernel's; the output has `sources` and the moments `merged` planes an image, and
        // the kernel reads only sources that exist.
        unsafe { launch.run(blocks_for(pixels)) }?;
        self.count += 1;
        Ok(())
    }

    /// The mean over the views and their standard deviation.
    ///
    /// # Errors
    /// If no view was collected or the device fails.
    pub fn finish(mut self) -> Result<(Array<f32>, Array<f32>)> {
        if self.count == 0 {
            bail!("{MERGE}: expected at least one view, got none")
        }
        let n = count(MERGE, self.squares.len())?;
        let machine = self.mean.machine().clone();
        let launch = Launch::new(&machine, &PROGRAM, "spread")
            .out(&mut self.squares)
            .u32(n)
            .f32((1.0 / self.count as f64) as f32);
        // SAFETY: the arguments are the kernel's; the array has `n` numbers.
        unsafe { launch.run(blocks_for(n)) }?;
        Ok((self.mean, self.squares))
    }
}
