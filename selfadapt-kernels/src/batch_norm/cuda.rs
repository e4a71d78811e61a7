//! Batch norm with ReLU on a GPU, moments and sums in f64.

use candle_core::{Result, bail};

use super::NAME;
use crate::cuda::{Array, Launch, Program, blocks_for, count};

/// Its kernels.
pub const PROGRAM: Program = Program {
    name: "batch_norm.cu",
    source: include_str!("batch_norm.cu"),
    kernels: &[
        "plane_moments",
        "merge_moments",
        "fold",
        "affine",
        "plane_gradients",
        "merge_gradients",
        "input_gradient",
    ],
};

/// Mean and biased variance of every channel.
#[derive(Debug)]
pub struct Moments {
    /// `[C]`.
    pub mean: Array<f64>,
    /// `[C]`.
    pub variance: Array<f64>,
}

/// Gradients by gamma and beta.
#[derive(Debug)]
pub struct ParameterGradients {
    /// `[C]`.
    pub gamma: Array<f64>,
    /// `[C]`.
    pub beta: Array<f64>,
}

/// A batch norm whose statistics and parameters are known: an affine map per channel.
#[derive(Debug)]
pub struct Affine {
    pixels: u32,
    channels: u32,
    relu: bool,
    mean: Array<f64>,
    inverse: Array<f64>,
    scale: Array<f32>,
    shift: Array<f32>,
}

/// Images of `x [B, channels, pixels]`.
fn batch(x: &Array<f32>, channels: usize, pixels: usize) -> Result<u32> {
    let image = channels * pixels;
    if image == 0 || !x.len().is_multiple_of(image) {
        bail!(
            "{NAME}: expected whole images of {channels} channels and {pixels} pixels, got {} numbers",
            x.len()
        )
    }
    count(NAME, x.len())?;
    Ok((x.len() / image) as u32)
}

/// The moments of `x [B, channels, pixels]`, as [`super::moments`].
///
/// # Errors
/// If `x` is empty or not made of whole images, or the device fails.
pub fn moments(x: &Array<f32>, channels: usize, pixels: usize) -> Result<Moments> {
    let batch = batch(x, channels, pixels)?;
    if batch == 0 {
        bail!("{NAME}: expected at least one image to take moments of, got none")
    }
    let machine = x.machine();
    let planes = batch * channels as u32;
    let [mut means, mut squares] = [
        Array::room(machine, planes as usize)?,
        Array::room(machine, planes as usize)?,
    ];
    let launch = Launch::new(machine, &PROGRAM, "plane_moments")
        .array(x)
        .u32(planes)
        .u32(pixels as u32)
        .out(&mut means)
        .out(&mut squares);
    // SAFETY: the arguments are the kernel's; x has `planes` planes of `pixels`, the others a number each.
    unsafe { launch.run(planes) }?;
    let mut moments = Moments {
        mean: Array::room(machine, channels)?,
        variance: Array::room(machine, channels)?,
    };
    let launch = Launch::new(machine, &PROGRAM, "merge_moments")
        .array::<f64>(&means)
        .array::<f64>(&squares)
        .u32(batch)
        .u32(channels as u32)
        .u32(pixels as u32)
        .out(&mut moments.mean)
        .out(&mut moments.variance);
    // SAFETY: the arguments are the kernel's; sizes as above, the results have a number a channel.
    unsafe { launch.run(blocks_for(channels as u32)) }?;
    Ok(moments)
}

impl Affine {
    /// Folds `gamma (x - mean) / sqrt(variance + eps) + beta` for planes of `pixels`; `relu` clips at 0.
    ///
    /// # Errors
    /// If lengths differ or the device fails.
    pub fn new(
        moments: Moments,
        gamma: &Array<f32>,
        beta: &Array<f32>,
        eps: f64,
        pixels: usize,
        relu: bool,
    ) -> Result<Self> {
        let channels = gamma.len();
        beta.expect(NAME, "beta", channels)?;
        moments.mean.expect(NAME, "the mean", channels)?;
        moments.variance.expect(NAME, "the variance", channels)?;
        let machine = gamma.machine();
        let mut affine = Self {
            pixels: count(NAME, pixels)?,
            channels: count(NAME, channels)?,
            relu,
            inverse: Array::room(machine, channels)?,
            scale: Array::room(machine, channels)?,
            shift: Array::room(machine, channels)?,
            mean: moments.mean,
        };
        let launch = Launch::new(machine, &PROGRAM, "fold")
            .array(&affine.mean)
            .array(&moments.variance)
            .array(gamma)
            .array(beta)
            .u32(affine.channels)
            .f64(eps)
            .out(&mut affine.inverse)
            .out(&mut affine.scale)
            .out(&mut affine.shift);
        // SAFETY: the arguments are the kernel's; every array has a number a channel.
        unsafe { launch.run(blocks_for(affine.channels)) }?;
        Ok(affine)
    }

    fn batch(&self, x: &Array<f32>) -> Result<u32> {
        batch(x, self.channels as usize, self.pixels as usize)
    }

    /// The normalised `x`.
    ///
    /// # Errors
    /// If `x` is not made of whole images, or the device fails.
    pub fn forward(&self, x: &Array<f32>) -> Result<Array<f32>> {
        self.batch(x)?;
        let mut y = Array::room(x.machine(), x.len())?;
        let launch = Launch::new(x.machine(), &PROGRAM, "affine")
            .array(x)
            .u32(x.len() as u32)
            .u32(self.channels)
            .u32(self.pixels)
            .array(&self.scale)
            .array(&self.shift)
            .u32(u32::from(self.relu))
            .out(&mut y);
        // SAFETY: the arguments are the kernel's; x and y are of whole images, the others of a number a channel.
        unsafe { launch.run(blocks_for(x.len() as u32)) }?;
        Ok(y)
    }

    /// The gradients by gamma and beta, given the gradient `dy` by the output.
    ///
    /// # Errors
    /// If lengths do not fit, or the device fails.
    pub fn parameter_gradients(
        &self,
        x: &Array<f32>,
        dy: &Array<f32>,
    ) -> Result<ParameterGradients> {
        let batch = self.batch(x)?;
        dy.expect(NAME, "the gradient", x.len())?;
        let machine = x.machine();
        let (planes, channels) = (batch * self.channels, self.channels as usize);
        let [mut sums, mut moments] = [
            Array::<f64>::room(machine, planes as usize)?,
            Array::<f64>::room(machine, planes as usize)?,
        ];
        let launch = Launch::new(machine, &PROGRAM, "plane_gradients")
            .array(x)
            .array(dy)
            .u32(planes)
            .u32(self.channels)
            .u32(self.pixels)
            .array(&self.mean)
            .array(&self.scale)
            .array(&self.shift)
            .u32(u32::from(self.relu))
            .out(&mut sums)
            .out(&mut moments);
        // SAFETY: the arguments are the kernel's; x and dy have `planes` planes, the sums a number each.
        unsafe { launch.run(planes) }?;
        let mut gradients = ParameterGradients {
            gamma: Array::room(machine, channels)?,
            beta: Array::room(machine, channels)?,
        };
        let launch = Launch::new(machine, &PROGRAM, "merge_gradients")
            .array(&sums)
            .array(&moments)
            .array(&self.inverse)
            .u32(batch)
            .u32(self.channels)
            .out(&mut gradients.gamma)
            .out(&mut gradients.beta);
        // SAFETY: the arguments are the kernel's; sizes as above, the results have a number a channel.
        unsafe { launch.run(blocks_for(self.channels)) }?;
        Ok(gradients)
    }

    /// The gradient by `x`, given the gradient `dy` by the output. With `through_moments` the moments are those of `x`
    /// itself and the gradient passes through them.
    ///
    /// # Errors
    /// If lengths do not fit, or the device fails.
    pub fn input_gradient(
        &self,
        x: &Array<f32>,
        dy: &Array<f32>,
        through_moments: Option<&ParameterGradients>,
    ) -> Result<Array<f32>> {
        self.batch(x)?;
        dy.expect(NAME, "the gradient", x.len())?;
        if let Some(gradients) = through_moments {
            let channels = self.channels as usize;
            gradients
                .gamma
                .expect(NAME, "the gradient by gamma", channels)?;
            gradients
                .beta
                .expect(NAME, "the gradient by beta", channels)?;
        }
        let mut dx = Array::room(x.machine(), x.len())?;
        let launch = Launch::new(x.machine(), &PROGRAM, "input_gradient")
            .array(x)
            .array(dy)
            .u32(x.len() as u32)
            .u32(self.channels)
            .u32(self.pixels)
            .array(&self.mean)
            .array(&self.inverse)
            .array(&self.scale)
            .array(&self.shift)
            .u32(u32::from(self.relu))
            .u32(u32::from(through_moments.is_some()))
            .maybe(through_moments.map(|gradients| &gradients.gamma))
            .maybe(through_moments.map(|gradients| &gradients.beta))
            .out(&mut dx);
        // SAFETY: the arguments are the kernel's; x, dy and dx are of one length, the others of a number a channel; what
        // is missing is not read.
        unsafe { launch.run(blocks_for(x.len() as u32)) }?;
        Ok(dx)
    }
}
