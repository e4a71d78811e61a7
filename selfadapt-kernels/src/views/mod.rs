//! The eight dihedral views of an image batch, and the mean and spread of what a network says of them.
//!
//! View g = (flip, turns) of an image is a left-right flip (if any) followed by quarter turns counter-clockwise, as
//! `torch.rot90(x, turns, [2, 3])`. [`ViewsMerge`] undoes g on a network's output, channel permutation and signs
//! included, and keeps Welford's running moments: with `d = v - mean`,
//!
//! ```text
//! mean += d / n    squares += d (v - mean)    spread = sqrt(squares / n)
//! ```

use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CustomOp1, DType, Layout, Result, Shape, Tensor};

use crate::math::Real;
use crate::storage::{filled, image_dims, unsupported};

mod cpu;
#[cfg(feature = "cuda")]
pub mod cuda;
mod merge;
#[cfg(test)]
mod tests;

pub use cpu::{Planes, accumulate, turn as turn_planes};
pub use merge::{Activation, ViewsMerge};

const NAME: &str = "turn";

/// A left-right flip (or none) followed by quarter turns counter-clockwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct View {
    /// Whether columns are reversed first.
    pub flip: bool,
    /// Quarter turns, taken modulo 4.
    pub turns: u8,
}

impl View {
    /// All eight; the first four are the turns without a flip.
    pub const ALL: [View; 8] = {
        let mut all = [View {
            flip: false,
            turns: 0,
        }; 8];
        let mut i = 0;
        while i < 8 {
            all[i] = View {
                flip: i >= 4,
                turns: (i % 4) as u8,
            };
            i += 1;
        }
        all
    };

    /// The view that undoes this one; a reflection undoes itself.
    #[must_use]
    pub fn inverse(self) -> View {
        let turns = if self.flip {
            self.turns % 4
        } else {
            (4 - self.turns % 4) % 4
        };
        View { turns, ..self }
    }

    /// Whether rows become columns.
    pub fn swaps_axes(self) -> bool {
        self.turns % 2 == 1
    }

    /// Whether the view's rows, and its columns, run against the axis of the image along which they lie.
    pub fn reversed(self) -> [bool; 2] {
        // Two pixels a side show it: where the view's first pixel lies, and where the next one of each axis does.
        let from = |row, column| self.inverse().position((2, 2), row, column);
        let first = from(0, 0);
        [from(1, 0), from(0, 1)].map(|next| next.0 < first.0 || next.1 < first.1)
    }

    /// Where the view (of an `h x w` image) holds the image's pixel (y, x).
    fn position(self, (h, w): (usize, usize), y: usize, x: usize) -> (usize, usize) {
        let x = if self.flip { w - 1 - x } else { x };
        match self.turns % 4 {
            0 => (y, x),
            1 => (w - 1 - x, y),
            2 => (h - 1 - y, w - 1 - x),
            _ => (x, h - 1 - y),
        }
    }
}

/// The view of `x [B, C, H, W]` (f32 or f64): `[B, C, H, W]`, or `[B, C, W, H]` after an odd number of turns.
/// Differentiable.
///
/// # Errors
/// If `x` has other axes or another type.
pub fn turn(x: &Tensor, view: View) -> Result<Tensor> {
    image_dims(NAME, x)?;
    x.apply_op1(Turn(view))
}

struct Turn(View);

impl CustomOp1 for Turn {
    fn name(&self) -> &'static str {
        NAME
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        fn run<T: Real>(storage: &CpuStorage, layout: &Layout, view: View) -> Result<CpuStorage> {
            let planes = Planes::<T>::new(storage, layout)?;
            // SAFETY: `turn` writes every element.
            let y = unsafe { filled(layout.shape().elem_count(), |y| cpu::turn(&planes, view, y)) };
            Ok(T::to_cpu_storage_owned(y))
        }
        let (b, c, h, w) = layout.shape().dims4()?;
        let y = match storage.dtype() {
            DType::F32 => run::<f32>(storage, layout, self.0)?,
            DType::F64 => run::<f64>(storage, layout, self.0)?,
            other => return unsupported(NAME, other),
        };
        let (h, w) = if self.0.swaps_axes() { (w, h) } else { (h, w) };
        Ok((y, (b, c, h, w).into()))
    }

    fn bwd(&self, _: &Tensor, _: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        Ok(Some(grad.apply_op1_no_bwd(&Turn(self.0.inverse()))?))
    }
}
