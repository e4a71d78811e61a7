//! Masked losses: a mean over the kept elements, value and gradient in one pass.
//!
//! With m a mask of zeros and ones of sum n: `L = sum m loss(prediction, target) / n` and
//! `dL / dprediction = m loss'(prediction, target) / n`; both are 0 where nothing is kept. What is masked does not
//! count, even if it is infinite or NaN. Gradients reach the prediction only: target and mask are constants, and
//! sums are taken in f64.

use std::sync::OnceLock;

use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CustomOp1, DType, Device, Layout, Result, Shape, Tensor, bail};

use crate::math::Real;
use crate::storage::{check, filled, image_dims, slice, unsupported, with_slice};

mod cpu;
#[cfg(feature = "cuda")]
pub mod cuda;
#[cfg(test)]
mod tests;

pub use cpu::{BinaryCrossEntropy, Pointwise, SquaredError, cross_entropy, kept, masked_mean};

/// Mean of `-t ln s(l) - (1 - t) ln(1 - s(l))` over kept elements, s the logistic function, a differentiable scalar.
///
/// `logits`, `target_prob` (in `[0, 1]`) and `mask` (0 or 1) have one shape; logits and targets one type, f32 or f64.
///
/// # Errors
/// If shapes or types differ.
pub fn masked_bce_with_logits(
    logits: &Tensor,
    target_prob: &Tensor,
    mask: &Tensor,
) -> Result<Tensor> {
    let name = Kind::BinaryCrossEntropy.name();
    check(name, "the mask", mask, logits.dims(), mask.dtype())?;
    apply(Kind::BinaryCrossEntropy, logits, target_prob, mask)
}

/// Mean of `-sum_k t_k ln softmax(l)_k` over kept pixels, a differentiable scalar.
///
/// `logits` and `target_prob` (classes adding up to 1) are `[B, K, H, W]` of one type, f32 or f64; `mask` (0 or 1) is
/// `[B, 1, H, W]`.
///
/// # Errors
/// If shapes or types do not fit, or there is no class.
pub fn masked_cross_entropy(
    logits: &Tensor,
    target_prob: &Tensor,
    mask: &Tensor,
) -> Result<Tensor> {
    let name = Kind::CrossEntropy.name();
    let (b, k, h, w) = image_dims(name, logits)?;
    if k == 0 {
        bail!(
            "{name}: expected at least one class, got logits of shape {:?}",
            logits.dims()
        )
    }
    check(name, "the mask", mask, &[b, 1, h, w], mask.dtype())?;
    apply(Kind::CrossEntropy, logits, target_prob, mask)
}

/// Mean of `(p - t)^2` over kept elements, a differentiable scalar.
///
/// `pred`, `target` and `mask` (0 or 1) have one shape; predictions and targets one type, f32 or f64.
///
/// # Errors
/// If shapes or types differ.
pub fn masked_mse(pred: &Tensor, target: &Tensor, mask: &Tensor) -> Result<Tensor> {
    let name = Kind::SquaredError.name();
    check(name, "the mask", mask, pred.dims(), mask.dtype())?;
    apply(Kind::SquaredError, pred, target, mask)
}

fn apply(kind: Kind, prediction: &Tensor, target: &Tensor, mask: &Tensor) -> Result<Tensor> {
    let dtype = prediction.dtype();
    if !matches!(dtype, DType::F32 | DType::F64) {
        return unsupported(kind.name(), dtype);
    }
    check(kind.name(), "the target", target, prediction.dims(), dtype)?;
    prediction.contiguous()?.apply_op1(MaskedLoss {
        kind,
        target: target.detach().contiguous()?,
        mask: mask.detach().to_dtype(dtype)?.contiguous()?,
        gradient: prediction.track_op().then(OnceLock::new),
    })
}

#[derive(Clone, Copy)]
enum Kind {
    BinaryCrossEntropy,
    CrossEntropy,
    SquaredError,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Kind::BinaryCrossEntropy => "masked_bce_with_logits",
            Kind::CrossEntropy => "masked_cross_entropy",
            Kind::SquaredError => "masked_mse",
        }
    }
}

struct MaskedLoss {
    kind: Kind,
    target: Tensor,
    mask: Tensor,
    /// Filled by the forward pass, if the prediction is to be differentiated.
    gradient: Option<OnceLock<Tensor>>,
}

impl MaskedLoss {
    fn run<T: Real>(&self, storage: &CpuStorage, layout: &Layout) -> Result<CpuStorage> {
        let name = self.kind.name();
        let p = slice::<T>(name, "the prediction", storage, layout)?;
        let value = with_slice::<T, _>(name, "the target", &self.target, |t| {
            with_slice::<T, _>(name, "the mask", &self.mask, |m| {
                let loss = |gradient: Option<&mut [_]>| match self.kind {
                    Kind::BinaryCrossEntropy => masked_mean(&BinaryCrossEntropy, p, t, m, gradient),
                    Kind::SquaredError => masked_mean(&SquaredError, p, t, m, gradient),
                    Kind::CrossEntropy => {
                        let pixels = layout.dims().iter().skip(2).product();
                        cross_entropy(p, t, m, layout.dims()[1], pixels, gradient)
                    }
                };
                let Some(kept) = &self.gradient else {
                    return Ok(loss(None));
                };
                let mut value = 0.0;
                // SAFETY: both losses write every element of a gradient that is given to them.
                let gradient: Vec<T> = unsafe { filled(p.len(), |g| value = loss(Some(g))) };
                let gradient = Tensor::from_vec(gradient, layout.dims(), &Device::Cpu)?;
                kept.get_or_init(|| gradient);
                Ok(value)
            })
        })?;
        Ok(T::to_cpu_storage_owned(vec![T::from_f64(value)]))
    }
}

impl CustomOp1 for MaskedLoss {
    fn name(&self) -> &'static str {
        self.kind.name()
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let value = match storage.dtype() {
            DType::F32 => self.run::<f32>(storage, layout)?,
            DType::F64 => self.run::<f64>(storage, layout)?,
            other => return unsupported(self.name(), other),
        };
        Ok((value, Shape::from(())))
    }

    fn bwd(&self, _: &Tensor, _: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let Some(gradient) = self.gradient.as_ref().and_then(OnceLock::get) else {
            bail!("{}: the forward pass recorded no gradient", self.name())
        };
        let upstream = grad.to_dtype(DType::F64)?.to_scalar::<f64>()?;
        if upstream == 1.0 {
            return Ok(Some(gradient.clone()));
        }
        Ok(Some(gradient.affine(upstream, 0.0)?))
    }
}
