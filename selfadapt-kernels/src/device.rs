//! What to compute on: a value. And which GPUs there are, or why there is none.

use std::fmt;
#[cfg(feature = "cuda")]
use std::sync::Arc;

use candle_core::{Error, Result as TensorResult};

use crate::conv2d::half_tiles;

#[cfg(feature = "cuda")]
use crate::cuda::{Machine, open};

/// How a device rounds the factors of convolutions before it multiplies them; sums are f32.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Precision {
    /// Not at all.
    #[default]
    F32,
    /// To 10 bits of fraction, for tensor cores of compute capability 8.0 on.
    Tf32,
    /// To 7 bits of fraction, likewise; also for a processor's matrix tiles.
    Bf16,
}

/// What networks compute on. Tensors lie on the CPU all the same; a network brings what it needs to its device and its
/// results back.
#[derive(Clone, Debug, Default)]
pub struct Device {
    /// How the CPU rounds factors.
    on_cpu: Precision,
    /// The GPU and its name, or none for the CPU.
    #[cfg(feature = "cuda")]
    gpu: Option<(Arc<dyn Machine>, String)>,
}

impl Device {
    /// The CPU.
    pub fn cpu() -> Self {
        Self::default()
    }

    /// The CPU with factors of convolutions rounded to bf16, on its matrix tiles.
    ///
    /// # Errors
    /// If it has none.
    pub fn cpu_bf16() -> TensorResult<Self> {
        if !half_tiles() {
            candle_core::bail!(
                "{CPU_BF16}: expected a processor with matrix tiles of bf16 (Intel AMX, which Linux must permit), found none"
            )
        }
        Ok(Self {
            on_cpu: Precision::Bf16,
            ..Self::default()
        })
    }

    /// Opens GPU number `ordinal`.
    ///
    /// # Errors
    /// If there is no such GPU, it has no tensor cores for the precision, there is no NVRTC to compile its kernels, or
    /// the program was built without the feature `cuda`.
    pub fn cuda(ordinal: usize, precision: Precision) -> TensorResult<Self> {
        #[cfg(feature = "cuda")]
        {
            let machine = open(ordinal, precision)?;
            Ok(Self::on(machine, format!("cuda:{ordinal}")))
        }
        #[cfg(not(feature = "cuda"))]
        {
            let _ = precision;
            candle_core::bail!("cuda:{ordinal}: {}", NoGpu::NotBuilt)
        }
    }

    /// A machine, under a name for messages.
    #[cfg(feature = "cuda")]
    pub fn on(machine: Arc<dyn Machine>, name: String) -> Self {
        Self {
            gpu: Some((machine, name)),
            ..Self::default()
        }
    }

    /// The GPU, if it is one.
    #[cfg(feature = "cuda")]
    pub fn machine(&self) -> Option<&Arc<dyn Machine>> {
        self.gpu.as_ref().map(|(machine, _)| machine)
    }

    /// How it rounds factors.
    pub fn precision(&self) -> Precision {
        #[cfg(feature = "cuda")]
        if let Some(machine) = self.machine() {
            return machine.precision();
        }
        self.on_cpu
    }

    /// Whether it is the CPU.
    pub fn is_cpu(&self) -> bool {
        #[cfg(feature = "cuda")]
        if self.gpu.is_some() {
            return false;
        }
        true
    }

    /// `cpu`, `cpu:bf16`, or `cuda:N`.
    pub fn name(&self) -> &str {
        #[cfg(feature = "cuda")]
        if let Some((_, name)) = &self.gpu {
            return name;
        }
        match self.on_cpu {
            Precision::Bf16 => CPU_BF16,
            Precision::F32 | Precision::Tf32 => CPU,
        }
    }
}

const CPU: &str = "cpu";
const CPU_BF16: &str = "cpu:bf16";

impl PartialEq for Device {
    /// Whether both compute on the same thing.
    fn eq(&self, other: &Self) -> bool {
        #[cfg(feature = "cuda")]
        if let (Some((a, _)), Some((b, _))) = (&self.gpu, &other.gpu) {
            return Arc::ptr_eq(a, b);
        }
        self.is_cpu() && other.is_cpu() && self.on_cpu == other.on_cpu
    }
}

/// A device whose memory is full.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutOfMemory {
    /// Its name.
    pub device: String,
    /// Bytes that were asked for and were not free.
    pub asked: usize,
    /// Bytes that it has in all.
    pub memory: usize,
}

impl fmt::Display for OutOfMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}: expected {} free bytes of its {}, found fewer; take a smaller batch",
            self.device, self.asked, self.memory
        )
    }
}

impl std::error::Error for OutOfMemory {}

impl From<OutOfMemory> for Error {
    fn from(error: OutOfMemory) -> Self {
        Self::Cuda(Box::new(error))
    }
}

/// The device whose memory was full, if that is what an error says.
pub fn out_of_memory(error: &Error) -> Option<&OutOfMemory> {
    match error {
        Error::Cuda(reason) => reason.downcast_ref(),
        Error::WithBacktrace { inner, .. }
        | Error::Context { inner, .. }
        | Error::WithPath { inner, .. } => out_of_memory(inner),
        _ => None,
    }
}

/// A GPU that CUDA's driver knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gpu {
    /// Its number among the machine's GPUs, from 0 on: the N of `cuda:N`.
    pub ordinal: usize,
    /// As the driver calls it.
    pub name: String,
    /// Bytes of memory.
    pub memory: usize,
    /// Compute capability, major and minor: (9, 0) for an H100.
    pub capability: (u32, u32),
}

impl fmt::Display for Gpu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (major, minor) = self.capability;
        let gibibytes = self.memory as f64 / f64::from(1 << 30);
        write!(
            f,
            "cuda:{}: {}, {gibibytes:.0} GiB, compute capability {major}.{minor}",
            self.ordinal, self.name
        )
    }
}

/// Why no GPU can be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoGpu {
    /// The program was built without the feature `cuda`.
    NotBuilt,
    /// The machine has no CUDA driver.
    NoDriver,
    /// It has one, which counts no GPU.
    NoneFound,
    /// It has one, which failed; in its words.
    Failed(String),
}

impl fmt::Display for NoGpu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotBuilt => f.write_str("this program was built without the feature cuda"),
            Self::NoDriver => f.write_str(
                "no CUDA driver (libcuda) was found; it comes with NVIDIA's driver of the graphics card",
            ),
            Self::NoneFound => f.write_str("the CUDA driver knows of no GPU"),
            Self::Failed(words) => write!(f, "the CUDA driver failed: {words}"),
        }
    }
}

impl std::error::Error for NoGpu {}

/// The machine's GPUs, asked of the driver now. A program that was built with the feature `cuda` starts and answers on
/// any machine; nothing is loaded before this is called.
///
/// # Errors
/// Says why there is none.
pub fn available() -> Result<Vec<Gpu>, NoGpu> {
    #[cfg(feature = "cuda")]
    {
        crate::cuda::gpus()
    }
    #[cfg(not(feature = "cuda"))]
    {
        Err(NoGpu::NotBuilt)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn asking_for_gpus_works_on_any_machine() {
        match available() {
            Ok(gpus) => {
                for (ordinal, gpu) in gpus.iter().enumerate() {
                    assert_eq!(gpu.ordinal, ordinal);
                    println!("{gpu}");
                }
                assert!(!gpus.is_empty());
            }
            Err(reason) => {
                println!("no GPU: {reason}");
                assert_eq!(reason == NoGpu::NotBuilt, cfg!(not(feature = "cuda")));
            }
        }
    }

    #[test]
    fn a_full_memory_is_told_from_other_errors() {
        let full = OutOfMemory {
            device: "cuda:0".into(),
            asked: 1 << 30,
            memory: 1 << 33,
        };
        let error = Error::from(full.clone()).context("conv2d").bt();
        assert_eq!(out_of_memory(&error), Some(&full));
        assert!(error.to_string().contains("take a smaller batch"));
        assert_eq!(out_of_memory(&Error::Msg(full.to_string())), None);
    }

    #[test]
    fn what_is_not_there_cannot_be_opened() {
        assert_eq!(Device::cpu().name(), "cpu");
        assert_eq!(Device::cpu(), Device::default());
        let error = Device::cuda(4096, Precision::F32).unwrap_err().to_string();
        assert!(error.starts_with("cuda:4096: "), "{error}");
    }

    #[test]
    fn a_gpu_is_described_by_what_one_asks_for_it_with() {
        let gpu = Gpu {
            ordinal: 1,
            name: "NVIDIA H100".into(),
            memory: 80 << 30,
            capability: (9, 0),
        };
        assert_eq!(
            gpu.to_string(),
            "cuda:1: NVIDIA H100, 80 GiB, compute capability 9.0"
        );
    }
}
