//! Batch normalisation over `[B, C, H, W]`: `y = gamma (x - mean) / sqrt(variance + eps) + beta`, optionally clipped at 0.
//!
//! In training the moments are the batch's own, per channel over B, H and W, the variance biased (divided by
//! the count n), and the gradient passes through them: with `x^ = (x - mean) / sqrt(variance + eps)`,
//!
//! ```text
//! dgamma = sum dy x^    dbeta = sum dy
//! dx = gamma / sqrt(variance + eps) (dy - dbeta / n - x^ dgamma / n)
//! ```
//!
//! In evaluation the moments are given and constant: `dx = gamma / sqrt(variance + eps) dy`. With `relu` the
//! output is `max(y, 0)` and dy counts only where y is above 0; the sign is computed again rather than kept.

use std::sync::OnceLock;

use candle_core::backend::BackendStorage;
use candle_core::{
    CpuStorage, CustomOp1, CustomOp3, DType, Layout, Result, Shape, Tensor, WithDType, bail,
};

use crate::storage::{check, filled, image_dims, slice, unsupported, with_slice};

mod cpu;
#[cfg(feature = "cuda")]
pub mod cuda;
#[cfg(test)]
mod tests;

pub use cpu::{Affine, Moments, ParameterGradients, moments};

const NAME: &str = "batch_norm";

/// A normalised batch and the moments that it was normalised by.
#[derive(Clone, Debug)]
pub struct BatchNormed {
    /// The output `[B, C, H, W]`; gradients reach x, gamma and beta.
    pub y: Tensor,
    /// Mean of each channel `[C]`, a constant for autograd.
    pub mean: Tensor,
    /// Biased variance of each channel `[C]`, a constant for autograd.
    pub variance: Tensor,
}

/// Normalises `x [B, C, H, W]` by its own moments, then scales by `gamma [C]`, shifts by `beta [C]` and, with
/// `relu`, clips at 0. All f32 or all f64.
///
/// # Errors
/// If shapes or types do not fit, or a channel has no pixel to take moments of.
pub fn batch_norm_train(
    x: &Tensor,
    gamma: &Tensor,
    beta: &Tensor,
    eps: f64,
    relu: bool,
) -> Result<BatchNormed> {
    let (b, c, h, w) = image_dims(NAME, x)?;
    if b * h * w == 0 && c > 0 {
        bail!(
            "{NAME}: expected at least one pixel a channel to take moments of, got an input of shape {:?}",
            x.dims()
        )
    }
    let x = x.contiguous()?;
    // [2, C]: means, then variances; exact ones are left in the op.
    let taken = OnceLock::new();
    let both = x.apply_op1_no_bwd(&TakeMoments(&taken))?;
    let Some(moments) = taken.into_inner() else {
        bail!("{NAME}: no implementation on {:?}", x.device().location())
    };
    Ok(BatchNormed {
        y: apply(
            &x,
            gamma,
            beta,
            BatchNorm {
                moments,
                eps,
                relu,
                train: true,
            },
        )?,
        mean: both.get(0)?,
        variance: both.get(1)?,
    })
}

/// Normalises `x [B, C, H, W]` by the given `mean [C]` and biased `variance [C]`, constants for autograd; else as
/// [`batch_norm_train`].
///
/// # Errors
/// If shapes or types do not fit.
pub fn batch_norm_eval(
    x: &Tensor,
    gamma: &Tensor,
    beta: &Tensor,
    mean: &Tensor,
    variance: &Tensor,
    eps: f64,
    relu: bool,
) -> Result<Tensor> {
    let (_, c, _, _) = image_dims(NAME, x)?;
    let read = |what: &str, t: &Tensor| {
        check(NAME, what, t, &[c], x.dtype())?;
        t.to_dtype(DType::F64)?.to_vec1::<f64>()
    };
    let moments = Moments {
        mean: read("mean", mean)?,
        variance: read("variance", variance)?,
    };
    apply(
        &x.contiguous()?,
        gamma,
        beta,
        BatchNorm {
            moments,
            eps,
            relu,
            train: false,
        },
    )
}

fn apply(x: &Tensor, gamma: &Tensor, beta: &Tensor, op: BatchNorm) -> Result<Tensor> {
    let (_, c, _, _) = x.dims4()?;
    check(NAME, "gamma", gamma, &[c], x.dtype())?;
    check(NAME, "beta", beta, &[c], x.dtype())?;
    x.apply_op3(&gamma.contiguous()?, &beta.contiguous()?, op)
}

struct TakeMoments<'a>(&'a OnceLock<Moments>);

impl CustomOp1 for TakeMoments<'_> {
    fn name(&self) -> &'static str {
        NAME
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        fn run<T: WithDType>(
            storage: &CpuStorage,
            layout: &Layout,
        ) -> Result<(Moments, CpuStorage)> {
            let (_, c, h, w) = layout.shape().dims4()?;
            let x = slice::<T>(NAME, "the input", storage, layout)?;
            let moments = if c == 0 {
                Moments {
                    mean: vec![],
                    variance: vec![],
                }
            } else {
                moments(x, c, h * w)
            };
            let both = moments
                .mean
                .iter()
                .chain(&moments.variance)
                .map(|&m| T::from_f64(m));
            let both = T::to_cpu_storage_owned(both.collect());
            Ok((moments, both))
        }
        let (moments, both) = match storage.dtype() {
            DType::F32 => run::<f32>(storage, layout)?,
            DType::F64 => run::<f64>(storage, layout)?,
            other => return unsupported(NAME, other),
        };
        let shape = (2, moments.mean.len()).into();
        self.0.get_or_init(|| moments);
        Ok((both, shape))
    }
}

struct BatchNorm {
    moments: Moments,
    eps: f64,
    relu: bool,
    train: bool,
}

impl BatchNorm {
    fn affine<T: WithDType>(&self, gamma: &[T], beta: &[T], pixels: usize) -> Affine<T> {
        Affine::new(&self.moments, gamma, beta, self.eps, pixels, self.relu)
    }

    fn backward<T: WithDType>(
        &self,
        x: &Tensor,
        gamma: &Tensor,
        beta: &Tensor,
        dy: &Tensor,
    ) -> Result<Gradients> {
        let (_, c, h, w) = x.dims4()?;
        let affine = with_slice::<T, _>(NAME, "gamma", gamma, |gamma| {
            with_slice::<T, _>(NAME, "beta", beta, |beta| {
                Ok(self.affine(gamma, beta, h * w))
            })
        })?;
        // Frozen parameters and the input image need no gradient, unless it passes through the moments.
        let parameters = gamma.track_op() || beta.track_op() || (self.train && x.track_op());
        let (parameters, dx) = with_slice::<T, _>(NAME, "the input", x, |xs| {
            with_slice::<T, _>(NAME, "the gradient", dy, |dys| {
                let parameters = parameters.then(|| affine.parameter_gradients(xs, dys));
                let through = parameters.as_ref().filter(|_| self.train);
                let dx = x.track_op().then(|| {
                    // SAFETY: `input_gradient` writes every element.
                    unsafe { filled(xs.len(), |dx| affine.input_gradient(xs, dys, through, dx)) }
                });
                Ok((parameters, dx))
            })
        })?;
        let vector = |values: &[f64]| {
            let values: Vec<T> = values.iter().map(|&v| T::from_f64(v)).collect();
            Tensor::from_vec(values, c, x.device())
        };
        Ok((
            dx.map(|dx| Tensor::from_vec(dx, x.dims(), x.device()))
                .transpose()?,
            parameters.as_ref().map(|p| vector(&p.gamma)).transpose()?,
            parameters.as_ref().map(|p| vector(&p.beta)).transpose()?,
        ))
    }
}

type Gradients = (Option<Tensor>, Option<Tensor>, Option<Tensor>);

impl CustomOp3 for BatchNorm {
    fn name(&self) -> &'static str {
        NAME
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        gamma: &CpuStorage,
        gamma_layout: &Layout,
        beta: &CpuStorage,
        beta_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        macro_rules! run {
            ($t:ty) => {{
                let (_, _, h, w) = x_layout.shape().dims4()?;
                let x = slice::<$t>(NAME, "the input", x, x_layout)?;
                let gamma = slice::<$t>(NAME, "gamma", gamma, gamma_layout)?;
                let affine = self.affine(gamma, slice(NAME, "beta", beta, beta_layout)?, h * w);
                // SAFETY: `forward` writes every element of the output.
                <$t>::to_cpu_storage_owned(unsafe { filled(x.len(), |y| affine.forward(x, y)) })
            }};
        }
        let y = match x.dtype() {
            DType::F32 => run!(f32),
            DType::F64 => run!(f64),
            other => return unsupported(NAME, other),
        };
        Ok((y, x_layout.shape().clone()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        gamma: &Tensor,
        beta: &Tensor,
        _y: &Tensor,
        grad: &Tensor,
    ) -> Result<Gradients> {
        let grad = grad.contiguous()?;
        match x.dtype() {
            DType::F32 => self.backward::<f32>(x, gamma, beta, &grad),
            DType::F64 => self.backward::<f64>(x, gamma, beta, &grad),
            other => unsupported(NAME, other),
        }
    }
}
