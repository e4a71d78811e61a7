//! The programs: each operation's kernels and their source.

use crate::{
    adamw, batch_norm, blend, conv2d, ema, follow_flows, masked_loss, max_pool, quantile, upsample,
    views,
};

/// What every program's text begins with.
pub const PREAMBLE: &str = include_str!("common.cuh");

/// The text of one `.cu` file and the kernels in it.
#[derive(Debug, PartialEq, Eq)]
pub struct Program {
    /// The file's name.
    pub name: &'static str,
    /// Its text, to be compiled after [`PREAMBLE`].
    pub source: &'static str,
    /// Its kernels.
    pub kernels: &'static [&'static str],
}

impl Program {
    /// The whole text.
    pub fn text(&self) -> String {
        format!("{PREAMBLE}\n#line 1 \"{}\"\n{}", self.name, self.source)
    }
}

/// All of them.
pub const PROGRAMS: [&Program; 12] = [
    &adamw::cuda::PROGRAM,
    &batch_norm::cuda::PROGRAM,
    &blend::cuda::PROGRAM,
    &conv2d::cuda::PROGRAM,
    &conv2d::cuda::TENSOR,
    &ema::cuda::PROGRAM,
    &follow_flows::cuda::PROGRAM,
    &masked_loss::cuda::PROGRAM,
    &max_pool::cuda::PROGRAM,
    &quantile::cuda::PROGRAM,
    &upsample::cuda::PROGRAM,
    &views::cuda::PROGRAM,
];
