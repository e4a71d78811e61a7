//! StarDist's loss of distances along rays: pixels weighed by how deep they lie in their object, background pulled to 0.
//!
//! With distances `p` predicted and `t` right of R rays at N pixels of a batch, and weights `m` in `[0, 1]`:
//!
//! ```text
//! L = sum_i m_i e_i / (sum_i m_i + N eps)  +  beta / (N R) sum_i (1 - m_i) sum_k |p_ik|          eps = 1e-7
//!
//! e_i = 1/R sum_k |t_ik - p_ik|                                                                  absolute
//! e_i = 1/R sum_k (t_ik - p_ik)^2                                                                squared
//! e_i = 1 - sum_k sign(p_ik) min(t_ik, p_ik)^2 / (sum_k max(t_ik, p_ik)^2 + R eps)               overlap
//! ```
//!
//! `masked_loss_mae`, `_mse` and `_iou` of stardist 0.9.1 with `norm_by_mask`, averaged as Keras does. Gradients reach the
//! prediction only, and are those of TensorFlow: 0 where a difference is.

use std::sync::OnceLock;

use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CustomOp1, DType, Device, Layout, Result, Shape, Tensor, bail};

use crate::math::Real;
use crate::storage::{check, filled, image_dims, slice, unsupported, with_slice};

mod cpu;
#[cfg(test)]
mod tests;

pub use cpu::{Problem, star_loss_of};

const OP: &str = "star_loss";

/// What a wrong distance costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Penalty {
    /// The mean absolute difference over the rays.
    Absolute,
    /// The mean squared difference over the rays.
    Squared,
    /// What the two star polygons' intersection over union lacks to 1, both seen as sums of squared rays.
    Overlap,
}

/// The loss above, a differentiable scalar: `predicted` and `right` `[B, R, H, W]`, `weights` `[B, 1, H, W]`, all of one
/// type, f32 or f64; `background` is beta.
///
/// # Errors
/// If shapes or types differ.
pub fn star_loss(
    predicted: &Tensor,
    right: &Tensor,
    weights: &Tensor,
    penalty: Penalty,
    background: f64,
) -> Result<Tensor> {
    let (b, _, h, w) = image_dims(OP, predicted)?;
    let dtype = predicted.dtype();
    check(OP, "the right distances", right, predicted.dims(), dtype)?;
    check(OP, "the weights", weights, &[b, 1, h, w], dtype)?;
    predicted.contiguous()?.apply_op1(StarLoss {
        right: right.detach().contiguous()?,
        weights: weights.detach().contiguous()?,
        penalty,
        background,
        gradient: predicted.track_op().then(OnceLock::new),
    })
}

struct StarLoss {
    right: Tensor,
    weights: Tensor,
    penalty: Penalty,
    background: f64,
    /// Filled by the forward pass, if the prediction is to be differentiated.
    gradient: Option<OnceLock<Tensor>>,
}

impl StarLoss {
    fn run<T: Real>(&self, storage: &CpuStorage, layout: &Layout) -> Result<CpuStorage> {
        let predicted = slice::<T>(OP, "the prediction", storage, layout)?;
        let rays = layout.dims()[1];
        let pixels = layout.dims().iter().skip(2).product();
        let value = with_slice::<T, _>(OP, "the right distances", &self.right, |right| {
            with_slice::<T, _>(OP, "the weights", &self.weights, |weights| {
                let problem = Problem {
                    predicted,
                    right,
                    weights,
                    rays,
                    pixels,
                    penalty: self.penalty,
                    background: self.background,
                };
                let Some(kept) = &self.gradient else {
                    return Ok(star_loss_of::<T, T>(&problem, None));
                };
                let mut value = 0.0;
                // SAFETY: every element of a gradient that is given to it is written.
                let gradient: Vec<T> =
                    unsafe { filled(predicted.len(), |g| value = star_loss_of(&problem, Some(g))) };
                let gradient = Tensor::from_vec(gradient, layout.dims(), &Device::Cpu)?;
                kept.get_or_init(|| gradient);
                Ok(value)
            })
        })?;
        Ok(T::to_cpu_storage_owned(vec![T::from_f64(value)]))
    }
}

impl CustomOp1 for StarLoss {
    fn name(&self) -> &'static str {
        OP
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let value = match storage.dtype() {
            DType::F32 => self.run::<f32>(storage, layout)?,
            DType::F64 => self.run::<f64>(storage, layout)?,
            other => return unsupported(OP, other),
        };
        Ok((value, Shape::from(())))
    }

    fn bwd(&self, _: &Tensor, _: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let Some(gradient) = self.gradient.as_ref().and_then(OnceLock::get) else {
            bail!("{OP}: the forward pass recorded no gradient")
        };
        let upstream = grad.to_dtype(DType::F64)?.to_scalar::<f64>()?;
        Ok(Some(gradient.affine(upstream, 0.0)?))
    }
}
