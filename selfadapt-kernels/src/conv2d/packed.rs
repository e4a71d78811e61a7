//! Filters made ready for the kernels, to be kept for as long as the weights do not change.

use super::epilogue::{ChannelSums, Epilogue};
use super::geometry::{Geometry, Planes};
use super::operand::{Input, expect_len};
use super::output::{SharedOutput, as_uninit};
use super::plan::Plan;
use super::slices::check_weight;
use super::{Algorithm, bf16, direct, winograd};
use crate::simd_vector::Level;
use candle_core::Result;

/// The weights of a convolution, or of its gradient by the input, transformed and packed for this processor's
/// vectors. They serve batches and images of every size.
#[derive(Clone)]
pub struct PackedFilters {
    form: Form,
    level: Level,
    in_channels: usize,
    out_channels: usize,
    kernel: usize,
    stride: usize,
    gradient: bool,
}

#[derive(Clone)]
enum Form {
    Winograd(winograd::Filters),
    Direct(Plan),
    Bf16(bf16::Filters),
}

impl PackedFilters {
    /// Packs `weight` `[Co, Ci, k, k]` for the convolution itself.
    ///
    /// # Errors
    /// When the weight has not the length that `geometry` calls for, or the algorithm is not defined for it.
    pub fn forward(geometry: &Geometry, algorithm: Algorithm, weight: &[f32]) -> Result<Self> {
        check_weight(geometry, weight.len())?;
        let level = Level::current();
        let form = if algorithm == Algorithm::Bf16 && bf16::suits(geometry, false) {
            Form::Bf16(bf16::Filters::forward(geometry, weight))
        } else if algorithm.uses_winograd(geometry)? {
            Form::Winograd(winograd::Filters::forward(geometry, weight, level))
        } else {
            Form::Direct(Plan::forward(geometry, weight, level.lanes()))
        };
        Ok(Self::new(geometry, level, form, false))
    }

    /// Packs `weight` `[Co, Ci, k, k]` for the gradient by the input.
    ///
    /// # Errors
    /// As [`PackedFilters::forward`].
    pub fn backward_data(
        geometry: &Geometry,
        algorithm: Algorithm,
        weight: &[f32],
    ) -> Result<Self> {
        check_weight(geometry, weight.len())?;
        let level = Level::current();
        let form = if algorithm == Algorithm::Bf16 && bf16::suits(geometry, true) {
            Form::Bf16(bf16::Filters::backward_data(geometry, weight))
        } else if algorithm.uses_winograd(geometry)? {
            Form::Winograd(winograd::Filters::backward_data(geometry, weight, level))
        } else {
            Form::Direct(Plan::backward_data(geometry, weight, level.lanes()))
        };
        Ok(Self::new(geometry, level, form, true))
    }

    fn new(geometry: &Geometry, level: Level, form: Form, gradient: bool) -> Self {
        Self {
            form,
            level,
            in_channels: geometry.in_channels(),
            out_channels: geometry.out_channels(),
            kernel: geometry.kernel(),
            stride: geometry.stride(),
            gradient,
        }
    }

    /// Whether they were packed for the instruction set that this thread uses now.
    pub fn is_current(&self) -> bool {
        self.level == Level::current()
    }

    /// Convolves `input` (or, packed for the gradient, carries a gradient back to the input's shape), applies the
    /// epilogue, writes `output`, and returns the sums that the epilogue asks for.
    ///
    /// # Errors
    /// When a slice has not the length that `geometry` calls for, or the filters were packed for other channels,
    /// another kernel or another stride.
    pub fn apply(
        &self,
        geometry: &Geometry,
        input: Input,
        epilogue: Epilogue,
        output: &mut [f32],
    ) -> Result<ChannelSums> {
        let packed = (
            self.in_channels,
            self.out_channels,
            self.kernel,
            self.stride,
        );
        let wanted = (
            geometry.in_channels(),
            geometry.out_channels(),
            geometry.kernel(),
            geometry.stride(),
        );
        if packed != wanted {
            candle_core::bail!(
                "conv2d: expected filters packed for (Ci, Co, k, stride) {wanted:?}, got {packed:?}"
            )
        }
        let (source, target) = self.planes(geometry);
        input.check(
            source,
            if self.gradient {
                "the gradient"
            } else {
                "the input"
            },
        )?;
        epilogue.check(target)?;
        expect_len(output.len(), target.len(), "the output", target)?;
        Ok(self.run(
            geometry,
            &input,
            &epilogue,
            SharedOutput::new(as_uninit(output)),
        ))
    }

    fn planes(&self, geometry: &Geometry) -> (Planes, Planes) {
        let (input, output) = (geometry.input_planes(), geometry.output_planes());
        if self.gradient {
            (output, input)
        } else {
            (input, output)
        }
    }

    /// [`PackedFilters::apply`] on arguments that were checked.
    pub(super) fn run(
        &self,
        geometry: &Geometry,
        input: &Input,
        epilogue: &Epilogue,
        output: SharedOutput,
    ) -> ChannelSums {
        let planes = self.planes(geometry);
        match &self.form {
            Form::Winograd(filters) => {
                winograd::run(filters, planes, input, epilogue, output, self.level)
            }
            Form::Direct(plan) => direct::run(plan, planes, input, epilogue, output, self.level),
            Form::Bf16(filters) => bf16::run(filters, planes, input, epilogue, output, self.level),
        }
    }
}

impl std::fmt::Debug for PackedFilters {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let form = match self.form {
            Form::Winograd(_) => "Winograd",
            Form::Direct(_) => "direct",
            Form::Bf16(_) => "bf16",
        };
        write!(
            f,
            "PackedFilters({form}, {:?}, {} -> {}, kernel {}, stride {})",
            self.level, self.in_channels, self.out_channels, self.kernel, self.stride
        )
    }
}
