//! Flow following on a GPU, a thread a pixel.

use std::sync::Arc;

use candle_core::Result;

use super::{Field, check_starts};
use crate::cuda::{Array, Launch, Machine, Program, blocks_for, count};

const NAME: &str = "follow_flows";

/// Its kernels.
pub const PROGRAM: Program = Program {
    name: "follow_flows.cu",
    source: include_str!("follow_flows.cu"),
    kernels: &["follow_flows"],
};

/// As [`super::follow_flows`], to the bit.
///
/// # Errors
/// If a start lies outside of the image, or the device fails.
pub fn follow_flows(
    machine: &Arc<dyn Machine>,
    field: &Field,
    starts: &[u32],
    steps: usize,
    interpolate: bool,
) -> Result<Vec<[f32; 2]>> {
    check_starts(field, starts)?;
    let vectors = Array::of(machine, field.steps.as_flattened())?;
    let (n, starts) = (count(NAME, starts.len())?, Array::of(machine, starts)?);
    let mut ends: Array<f32> = Array::room(machine, 2 * n as usize)?;
    count(NAME, vectors.len())?;
    count(NAME, ends.len())?;
    let launch = Launch::new(machine, &PROGRAM, "follow_flows")
        .array(&vectors)
        .u32(field.height as u32)
        .u32(field.width as u32)
        .array(&starts)
        .u32(n)
        .u32(count(NAME, steps)?)
        .u32(u32::from(interpolate))
        .out(&mut ends);
    // SAFETY: the arguments are the kernel's; positions stay within the image, whose field has a row and a column more;
    // starts lie in it; there are two numbers an end.
    unsafe { launch.run(blocks_for(n)) }?;
    Ok(ends.read()?.as_chunks().0.to_vec())
}
