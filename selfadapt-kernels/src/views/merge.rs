//! Running mean and spread over views that are undone one by one.

use candle_core::{DType, Device, Result, Storage, Tensor, bail};
use rayon::prelude::*;

use super::View;
use super::cpu::{Planes, accumulate};
use crate::math::Real;
use crate::storage::image_dims;

const NAME: &str = "views merge";

/// What is applied to a network's output before it is averaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// Nothing.
    Identity,
    /// The logistic function, element by element.
    Sigmoid,
    /// Softmax over all channels.
    Softmax,
}

/// Collects views of one batch; memory for two maps, however many views.
#[derive(Debug)]
pub struct ViewsMerge {
    activation: Activation,
    count: usize,
    /// Shape of the merged maps `[B, C, H, W]`, once a view has been seen.
    shape: [usize; 4],
    moments: Moments,
}

/// Mean and sum of squared deviations.
#[derive(Debug)]
enum Moments {
    Empty,
    F32(Vec<f32>, Vec<f32>),
    F64(Vec<f64>, Vec<f64>),
}

impl ViewsMerge {
    /// Nothing collected yet.
    pub fn new(activation: Activation) -> Self {
        Self {
            activation,
            count: 0,
            shape: [0; 4],
            moments: Moments::Empty,
        }
    }

    /// How many views were collected.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Adds what the network said of `view`: `output [B, C, H, W]` in any layout (`[B, C, W, H]` for odd turns), f32 or
    /// f64. Channel k of the merged map is `channels[k].1` (1 or -1) times channel `channels[k].0` of the activated
    /// output: the permutation that undoing the view asks of the head.
    ///
    /// # Errors
    /// If the shape or type differs from that of earlier views, or a source channel does not exist.
    pub fn push(&mut self, output: &Tensor, view: View, channels: &[(usize, f32)]) -> Result<()> {
        let (b, sources, h, w) = image_dims(NAME, output)?;
        let (h, w) = if view.swaps_axes() { (w, h) } else { (h, w) };
        let shape = [b, channels.len(), h, w];
        if let Some((source, _)) = channels.iter().find(|(source, _)| *source >= sources) {
            bail!("{NAME}: expected source channels below {sources}, got {source}")
        }
        if matches!(self.moments, Moments::Empty) {
            let len = shape.iter().product();
            self.shape = shape;
            self.moments = match output.dtype() {
                DType::F32 => Moments::F32(vec![0.0; len], vec![0.0; len]),
                _ => Moments::F64(vec![0.0; len], vec![0.0; len]),
            };
        }
        if shape != self.shape {
            bail!(
                "{NAME}: expected a view that undoes to {:?}, got {shape:?}",
                self.shape
            )
        }
        let (storage, layout) = output.storage_and_layout();
        let Storage::Cpu(cpu) = &*storage else {
            bail!(
                "{NAME}: expected a view on the CPU, got {:?}; there is no other implementation",
                output.device().location()
            )
        };
        let count = self.count + 1;
        match (&mut self.moments, output.dtype()) {
            (Moments::F32(mean, squares), DType::F32) => {
                let planes = Planes::new(cpu, layout)?;
                accumulate(
                    &planes,
                    view,
                    channels,
                    self.activation,
                    count,
                    mean,
                    squares,
                );
            }
            (Moments::F64(mean, squares), DType::F64) => {
                let planes = Planes::new(cpu, layout)?;
                accumulate(
                    &planes,
                    view,
                    channels,
                    self.activation,
                    count,
                    mean,
                    squares,
                );
            }
            (_, other) => bail!("{NAME}: expected the type of the first view, got {other:?}"),
        }
        self.count = count;
        Ok(())
    }

    /// The mean over the views and their standard deviation (population: divided by the count), both `[B, C, H, W]`.
    ///
    /// # Errors
    /// If no view was collected.
    pub fn finish(self) -> Result<(Tensor, Tensor)> {
        fn tensors<T: Real>(
            mean: Vec<T>,
            mut squares: Vec<T>,
            count: usize,
            shape: [usize; 4],
        ) -> Result<(Tensor, Tensor)> {
            let share = T::from_f64(1.0 / count as f64);
            squares.par_chunks_mut(16_384).for_each(|chunk| {
                for s in chunk {
                    // Rounding may leave the sum of equal views a hair below 0; NaN stays.
                    *s = if *s < T::zero() {
                        T::zero()
                    } else {
                        (*s * share).root()
                    };
                }
            });
            let tensor = |values| Tensor::from_vec(values, &shape[..], &Device::Cpu);
            Ok((tensor(mean)?, tensor(squares)?))
        }
        match self.moments {
            Moments::Empty => bail!("{NAME}: expected at least one view, got none"),
            Moments::F32(mean, squares) => tensors(mean, squares, self.count, self.shape),
            Moments::F64(mean, squares) => tensors(mean, squares, self.count, self.shape),
        }
    }
}
