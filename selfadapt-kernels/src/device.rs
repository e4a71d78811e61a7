//! Which GPUs there are to compute on, or why there is none.

use std::fmt;

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
