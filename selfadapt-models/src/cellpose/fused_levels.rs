//! The levels of CPnet on fused blocks: forward with what the gradient needs, and backward.

use std::sync::Arc;

use candle_core::Result;
use candle_core::backprop::GradStore;
use selfadapt_core::model::Mode;

use super::net::{Block, Down, Styled, Up};
use crate::fused::{self, Folded, Fused, Pending, Placed, Read, linear, linear_backward};
use crate::layers::BatchNorm;

/// A map on the network's device.
pub(super) type Map = fused::Map<Placed>;
/// The gradient by one.
pub(super) type Gradient = fused::Gradient<Placed>;

/// What an encoder level's gradient needs of its forward pass.
pub(super) struct DownTrace {
    pub x: Map,
    after: [Map; 3],
    proj: Folded,
    norms: [Folded; 4],
}

/// What a decoder level's gradient needs of its forward pass.
pub(super) struct UpTrace {
    pub x: Arc<Map>,
    /// The first block's result with the skip connection added.
    pub deep: Map,
    after: [Map; 2],
    proj: Folded,
    first: Folded,
    styled: [Folded; 3],
}

/// The gradients that leave a level by its two first blocks.
pub(super) struct Leaving {
    pub proj: Pending,
    pub first: Pending,
}

/// The style `[B, D]` that decoder blocks are shifted by, and its gradient.
pub(super) struct StyleGradient<'a> {
    pub style: &'a [f64],
    pub by_style: Vec<f64>,
}

/// Where the sums of a map are taken about that `next` normalises: its running means, in train mode only.
pub(super) fn center(mode: Mode, next: &BatchNorm) -> Result<Option<Vec<f32>>> {
    match mode {
        Mode::Eval => Ok(None),
        Mode::Train => next.running_mean.to_vec1().map(Some),
    }
}

impl Block {
    pub fn fused(&self) -> Fused<'_> {
        Fused {
            norm: &self.norm,
            relu: self.relu,
            conv: &self.conv,
        }
    }

    /// Runs the block where `next` normalises the result.
    fn run(
        &self,
        x: &Map,
        mode: Mode,
        residual: Option<&Map>,
        next: &BatchNorm,
    ) -> Result<(Map, Folded)> {
        let center = center(mode, next)?;
        self.fused().run(x, mode, None, residual, center.as_deref())
    }
}

impl Styled {
    fn run(
        &self,
        (x, style): (&Map, &[f64]),
        mode: Mode,
        residual: Option<&Map>,
        center: Option<&[f32]>,
    ) -> Result<(Map, Folded)> {
        let shift = linear(&self.full, style)?;
        let block = self.block.fused();
        block.run(x, mode, Some(shift), residual, center)
    }

    fn backward(
        &self,
        (x, norm): (&Map, &Folded),
        gradient: Read,
        total: &[f64],
        style: &mut StyleGradient,
        gradients: &mut GradStore,
    ) -> Result<Pending> {
        let block = self.block.fused();
        let pending = block.backward(x, norm, gradient, total, gradients)?;
        let (shift, into) = (&pending.of_images, &mut style.by_style);
        linear_backward(&self.full, style.style, shift, into, gradients)?;
        Ok(pending)
    }
}

impl Down {
    /// The level's map, with moments if there is a `center` for them.
    pub fn run(&self, x: Map, mode: Mode, center: Option<&[f32]>) -> Result<(Map, DownTrace)> {
        let [first, second, third, fourth] = &self.conv;
        let (a, norm_1) = first.run(&x, mode, None, &second.norm)?;
        let (side, proj) = self.proj.fused().run(&x, mode, None, None, None)?;
        let (b, norm_2) = second.run(&a, mode, Some(&side), &third.norm)?;
        drop(side);
        let (c, norm_3) = third.run(&b, mode, None, &fourth.norm)?;
        let (y, norm_4) = fourth.fused().run(&c, mode, None, Some(&b), center)?;
        let trace = DownTrace {
            x,
            after: [a, b, c],
            proj,
            norms: [norm_1, norm_2, norm_3, norm_4],
        };
        Ok((y, trace))
    }

    /// From the gradient by the level's map; also returns its input.
    pub fn backward(
        &self,
        trace: DownTrace,
        mut by_y: Gradient,
        gradients: &mut GradStore,
    ) -> Result<(Leaving, Map)> {
        let [first, second, third, fourth] = &self.conv;
        let DownTrace {
            x,
            after: [a, b, c],
            proj,
            norms: [norm_1, norm_2, norm_3, norm_4],
        } = trace;
        let whole = Read::plain(&by_y.values);
        let by_c = fourth
            .fused()
            .backward(&c, &norm_4, whole, &by_y.total, gradients)?;
        let by_b = third
            .fused()
            .backward(&b, &norm_3, by_c.read(&c), &by_c.total, gradients)?;
        drop((by_c, c));
        by_b.add_to(&b, &mut by_y)?;
        drop((by_b, b));
        let whole = Read::plain(&by_y.values);
        let by_a = second
            .fused()
            .backward(&a, &norm_2, whole, &by_y.total, gradients)?;
        let by_first =
            first
                .fused()
                .backward(&x, &norm_1, by_a.read(&a), &by_a.total, gradients)?;
        drop((by_a, a));
        let by_proj = self
            .proj
            .fused()
            .backward(&x, &proj, whole, &by_y.total, gradients)?;
        let leaving = Leaving {
            proj: by_proj,
            first: by_first,
        };
        Ok((leaving, x))
    }
}

impl Up {
    /// The level's map, with moments if there is a `center` for them.
    pub fn run(
        &self,
        x: Arc<Map>,
        (skip, style): (&Map, &[f64]),
        mode: Mode,
        center: Option<&[f32]>,
    ) -> Result<(Map, UpTrace)> {
        let [first, second, third] = &self.styled;
        let about = |next: &Styled| self::center(mode, &next.block.norm);
        let (deep, norm_0) = self.first.run(&x, mode, Some(skip), &first.block.norm)?;
        let (side, proj) = self.proj.fused().run(&x, mode, None, None, None)?;
        let (a, norm_1) =
            first.run((&deep, style), mode, Some(&side), about(second)?.as_deref())?;
        drop(side);
        let (b, norm_2) = second.run((&a, style), mode, None, about(third)?.as_deref())?;
        let (y, norm_3) = third.run((&b, style), mode, Some(&a), center)?;
        let trace = UpTrace {
            x,
            deep,
            after: [a, b],
            proj,
            first: norm_0,
            styled: [norm_1, norm_2, norm_3],
        };
        Ok((y, trace))
    }

    /// From the gradient by the level's map; also returns its input, and the gradient by the skip connection with the
    /// map along which it runs.
    pub fn backward(
        &self,
        trace: UpTrace,
        mut by_y: Gradient,
        style: &mut StyleGradient,
        gradients: &mut GradStore,
    ) -> Result<(Leaving, Arc<Map>, (Pending, Map))> {
        let [first, second, third] = &self.styled;
        let UpTrace {
            x,
            deep,
            after: [a, b],
            proj,
            first: norm_0,
            styled: [norm_1, norm_2, norm_3],
        } = trace;
        let whole = Read::plain(&by_y.values);
        let by_b = third.backward((&b, &norm_3), whole, &by_y.total, style, gradients)?;
        let (through, total) = (by_b.read(&b), &by_b.total);
        let by_a = second.backward((&a, &norm_2), through, total, style, gradients)?;
        drop((by_b, b));
        by_a.add_to(&a, &mut by_y)?;
        drop((by_a, a));
        let whole = Read::plain(&by_y.values);
        let by_deep = first.backward((&deep, &norm_1), whole, &by_y.total, style, gradients)?;
        let by_proj = self
            .proj
            .fused()
            .backward(&x, &proj, whole, &by_y.total, gradients)?;
        drop(by_y);
        let (through, total) = (by_deep.read(&deep), &by_deep.total);
        let by_first = self
            .first
            .fused()
            .backward(&x, &norm_0, through, total, gradients)?;
        let leaving = Leaving {
            proj: by_proj,
            first: by_first,
        };
        Ok((leaving, x, (by_deep, deep)))
    }
}
