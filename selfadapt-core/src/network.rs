//! A model together with the parameters that it runs on.

use crate::error::Result;
use crate::model::{ModelConfig, SegmentationModel};
use crate::params::{Lend, ParamSet};

/// A model and its parameters.
pub struct Network {
    /// The network.
    pub model: Box<dyn SegmentationModel>,
    /// The storage that it reads.
    pub params: ParamSet,
    /// Its maps hold every `grid`-th pixel, of rows and of columns, from the first on
    /// ([`crate::model::InputSpec::grid`]).
    pub grid: usize,
}

impl Network {
    /// Builds the configured model on `params`, which it keeps (nothing is copied).
    ///
    /// # Errors
    /// If a weight is missing, misshaped or unknown.
    pub fn new(config: &dyn ModelConfig, params: ParamSet, lend: Lend) -> Result<Self> {
        let model = params.lend(lend, |weights| config.build(weights))?;
        Ok(Self {
            model,
            params,
            grid: config.input().grid,
        })
    }
}

impl std::fmt::Debug for Network {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "Network({:?}, {} parameters)",
            self.model.heads(),
            self.params.len()
        )
    }
}
