//! CPnet on a device whose memory may be full: batches are halved where images do not depend on each other, and a pass
//! whose batch must stay whole is computed on the CPU.

use std::sync::atomic::Ordering;

use candle_core::backprop::GradStore;
use candle_core::{Result as TensorResult, Tensor};
use selfadapt_core::error::{Error, Result};
use selfadapt_core::maps::Prediction;
use selfadapt_core::model::Mode;
use selfadapt_kernels::device::{Device, OutOfMemory, out_of_memory};

use super::net::{Block, CpNet};

impl CpNet {
    /// As [`CpNet::predict`] on the network's device. Where its memory is full, in eval mode with half of the images at a
    /// time from then on, else on the CPU; says so.
    ///
    /// # Errors
    /// As [`CpNet::predict`].
    pub(super) fn predict_within_memory(&self, images: &Tensor, mode: Mode) -> Result<Prediction> {
        if self.device.is_cpu() {
            return Ok(self.predict(&self.device, images, mode)?);
        }
        let batch = images.dim(0)?;
        let most = self.most_images().max(1);
        if mode == Mode::Eval && batch > most {
            return self.predict_in_parts(images, most);
        }
        let counted = self.counted(mode)?;
        let full = match self.predict(&self.device, images, mode) {
            Ok(prediction) => return Ok(prediction),
            Err(error) => full(error.into())?,
        };
        if mode == Mode::Eval && batch > 1 {
            let half = batch.div_ceil(2);
            self.fits.store(half, Ordering::Relaxed);
            tracing::warn!("{full}: going on with {half} instead of {batch} images a pass");
            return self.predict_in_parts(images, half);
        }
        tracing::warn!("{full}: this pass of {batch} images is computed on the CPU");
        self.recount(&counted)?;
        Ok(self.predict(&Device::cpu(), images, mode)?)
    }

    /// At most `most` images at a time, in eval mode: what comes out is the same, but for what a sum's order rounds.
    fn predict_in_parts(&self, images: &Tensor, most: usize) -> Result<Prediction> {
        let batch = images.dim(0)?;
        let mut parts = Vec::new();
        for start in (0..batch).step_by(most) {
            let part = images.narrow(0, start, most.min(batch - start))?;
            parts.push(self.predict_within_memory(&part, Mode::Eval)?);
        }
        let joined = |of: &dyn Fn(&Prediction) -> Tensor| {
            let tensors: Vec<Tensor> = parts.iter().map(of).collect();
            Tensor::cat(&tensors, 0)
        };
        let heads = (0..parts.first().map_or(0, |part| part.heads.len()))
            .map(|head| joined(&|part| part.heads[head].clone()))
            .collect::<TensorResult<_>>()?;
        Ok(Prediction {
            heads,
            embedding: joined(&|part| part.embedding.clone())?,
        })
    }

    /// As [`CpNet::differentiate`] on the network's device; where its memory is full, once more on the CPU (`loss` is then
    /// asked a second time), for a step's batch is one: its statistics and its loss are those of all images. Says so.
    ///
    /// # Errors
    /// As [`CpNet::differentiate`].
    pub(super) fn differentiate_within_memory(
        &self,
        images: &Tensor,
        mode: Mode,
        loss: &mut dyn FnMut(&Prediction) -> Result<Tensor>,
    ) -> Result<GradStore> {
        if self.device.is_cpu() {
            return self.differentiate(&self.device, images, mode, loss);
        }
        let counted = self.counted(mode)?;
        let full = match self.differentiate(&self.device, images, mode, loss) {
            Ok(gradients) => return Ok(gradients),
            Err(error) => full(error)?,
        };
        tracing::warn!(
            "{full}: this step of {} images is computed on the CPU; fewer crops a batch would fit",
            images.dim(0)?
        );
        self.recount(&counted)?;
        self.differentiate(&Device::cpu(), images, mode, loss)
    }

    /// The most images of a forward pass, fewer than any number once the device's memory was full.
    pub fn most_images(&self) -> usize {
        self.fits.load(Ordering::Relaxed)
    }

    /// Refuses what only the CPU does.
    ///
    /// # Errors
    /// If the network's device is another.
    pub(super) fn expect_cpu(&self, what: &str) -> Result<()> {
        if self.device.is_cpu() {
            return Ok(());
        }
        Err(Error::Setting(format!(
            "CPnet on {}: expected f32 weights and images and a pass without a graph, found {what}; build the network \
             on the CPU for that",
            self.device.name()
        )))
    }

    /// Every batch norm's block, in a fixed order.
    fn blocks(&self) -> impl Iterator<Item = &Block> {
        let down = self.down.iter();
        let down = down.flat_map(|level| level.conv.iter().chain([&level.proj]));
        let up = self.up.iter().flat_map(|level| {
            let styled = level.styled.iter().map(|styled| &styled.block);
            styled.chain([&level.first, &level.proj])
        });
        down.chain(up).chain([&self.output])
    }

    /// The running statistics, where a pass moves them.
    fn counted(&self, mode: Mode) -> TensorResult<Vec<[Tensor; 3]>> {
        match mode {
            Mode::Eval => Ok(Vec::new()),
            Mode::Train => self.blocks().map(|block| block.norm.counted()).collect(),
        }
    }

    /// Puts them back after a pass that came to no end.
    fn recount(&self, counted: &[[Tensor; 3]]) -> TensorResult<()> {
        let mut both = self.blocks().zip(counted);
        both.try_for_each(|(block, counted)| block.norm.recount(counted))
    }
}

/// What was full, where that is the error.
fn full(error: Error) -> Result<OutOfMemory> {
    match &error {
        Error::Tensor(reason) => match out_of_memory(reason) {
            Some(full) => Ok(full.clone()),
            None => Err(error),
        },
        _ => Err(error),
    }
}
