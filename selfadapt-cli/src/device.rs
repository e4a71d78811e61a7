//! `--device`: what networks compute on, as a person asks for it, and what that comes to on this machine.

use std::fmt;
use std::str::FromStr;

use selfadapt_core::error::Error;
use selfadapt_core::model::ModelConfig;
use selfadapt_kernels::device::{Device, Precision, available};
use selfadapt_models::device::agrees;
use serde::{Deserialize, Serialize};

use crate::failure::Failure;

const CPU: &str = "cpu";
const CPU_BF16: &str = "cpu:bf16";

/// What `--device` is, in the help.
pub const HELP: &str = "What networks compute on: auto, cpu, cuda:N, or cuda:N:tf32, cuda:N:bf16 or cpu:bf16 \
    for factors so rounded, on tensor cores or on Intel's matrix tiles; auto is the first GPU that can be used, else the processor";

/// `--device` of commands that have it in a file as well.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct DeviceFlag {
    #[arg(long, value_name = "DEVICE", help = format!("{HELP} [default: auto]"))]
    pub device: Option<DeviceChoice>,
}

/// What a person asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum DeviceChoice {
    /// The first GPU, if the model has a form for it and it computes as the CPU does; else the CPU.
    #[default]
    Auto,
    /// The CPU, with factors of convolutions as they are or rounded to bf16.
    Cpu(Precision),
    /// This GPU, with factors of convolutions so rounded, or an error.
    Cuda(usize, Precision),
}

/// What follows a GPU's number, for each way to round but not at all.
const ROUNDED: [(&str, Precision); 2] = [(":tf32", Precision::Tf32), (":bf16", Precision::Bf16)];

/// A model's settings with their device.
pub struct Placed {
    pub model: Box<dyn ModelConfig>,
    /// `cpu`, or a GPU as `--device` names it.
    pub device: String,
}

impl FromStr for DeviceChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            CPU => Ok(Self::Cpu(Precision::F32)),
            CPU_BF16 => Ok(Self::Cpu(Precision::Bf16)),
            _ => text
                .strip_prefix("cuda:")
                .and_then(gpu)
                .ok_or_else(|| {
                    format!(
                        "expected auto, cpu, cpu:bf16, cuda:N such as cuda:0, or cuda:N:tf32 or cuda:N:bf16, found {text}"
                    )
                }),
        }
    }
}

/// A GPU's number and how it rounds.
fn gpu(text: &str) -> Option<DeviceChoice> {
    let rounded = ROUNDED
        .iter()
        .find_map(|&(ending, precision)| Some((text.strip_suffix(ending)?, precision)));
    let (number, precision) = rounded.unwrap_or((text, Precision::F32));
    Some(DeviceChoice::Cuda(number.parse().ok()?, precision))
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Cpu(Precision::Bf16) => f.write_str(CPU_BF16),
            Self::Cpu(_) => f.write_str(CPU),
            Self::Cuda(number, precision) => {
                let ending = ROUNDED.iter().find(|(_, of)| of == precision);
                write!(
                    f,
                    "cuda:{number}{}",
                    ending.map_or("", |(ending, _)| ending)
                )
            }
        }
    }
}

impl TryFrom<String> for DeviceChoice {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<DeviceChoice> for String {
    fn from(choice: DeviceChoice) -> Self {
        choice.to_string()
    }
}

impl DeviceChoice {
    /// Settings whose networks compute on what is asked for, or on what there is; says which at -v.
    ///
    /// # Errors
    /// If a GPU is asked for that is not there, has a full memory or other numbers than the CPU, or that the model has
    /// no form for.
    pub fn place(self, model: &dyn ModelConfig) -> Result<Placed, Failure> {
        let placed = match self {
            Self::Cpu(Precision::Bf16) => on_tiles(model).map_err(|error| {
                Failure::new(
                    reason(&error),
                    "--device cpu computes in f32, on any processor and with any model",
                )
            })?,
            Self::Cpu(_) => on_cpu(model)?,
            Self::Cuda(number, precision) => on_gpu(model, number, precision).map_err(|error| {
                Failure::new(
                    reason(&error),
                    "`selfadapt doctor` lists the devices; --device cpu needs no GPU, and --device auto takes one where it can be used",
                )
            })?,
            Self::Auto => match available().map_err(|reason| reason.to_string()) {
                Ok(_) => on_first_gpu(model).or_else(|reason| {
                    tracing::warn!("there is a GPU, and the CPU is used: {reason}");
                    on_cpu(model)
                })?,
                Err(reason) => {
                    tracing::debug!("no GPU is used: {reason}");
                    on_cpu(model)?
                }
            },
        };
        match placed.device.as_str() {
            CPU => tracing::debug!("device: {CPU}"),
            other => tracing::info!("device: {other}"),
        }
        Ok(placed)
    }
}

/// What a device's error says, without naming the layer that it came through.
fn reason(error: &Error) -> String {
    match error {
        Error::Tensor(reason) => reason.to_string(),
        other => other.to_string(),
    }
}

fn on_cpu(model: &dyn ModelConfig) -> Result<Placed, Error> {
    let device = Device::cpu();
    Ok(Placed {
        model: model.on(&device)?,
        device: device.name().to_owned(),
    })
}

/// The first GPU, or the CPU for a model that has a form for no other: there is nothing to be warned of then.
fn on_first_gpu(model: &dyn ModelConfig) -> Result<Placed, Error> {
    let device = Device::cuda(0, Precision::F32)?;
    match model.on(&device) {
        Ok(placed) => compared(
            model,
            placed,
            &device,
            DeviceChoice::Cuda(0, Precision::F32),
        ),
        Err(reason) => {
            tracing::info!("no GPU is used: {reason}");
            on_cpu(model)
        }
    }
}

/// This GPU, opened.
fn on_gpu(model: &dyn ModelConfig, number: usize, precision: Precision) -> Result<Placed, Error> {
    let device = Device::cuda(number, precision)?;
    let choice = DeviceChoice::Cuda(number, precision);
    compared(model, model.on(&device)?, &device, choice)
}

/// The CPU's matrix tiles.
fn on_tiles(model: &dyn ModelConfig) -> Result<Placed, Error> {
    let device = Device::cpu_bf16()?;
    let choice = DeviceChoice::Cpu(Precision::Bf16);
    compared(model, model.on(&device)?, &device, choice)
}

/// Has a device compute what the CPU knows: what is wrong with either shows before any image is touched.
fn compared(
    model: &dyn ModelConfig,
    placed: Box<dyn ModelConfig>,
    device: &Device,
    choice: DeviceChoice,
) -> Result<Placed, Error> {
    agrees(model, device)?;
    Ok(Placed {
        model: placed,
        device: choice.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use selfadapt_models::cellpose::CellposeConfig;

    #[test]
    fn choices_are_read_as_they_are_written() {
        for text in [
            "auto",
            "cpu",
            "cpu:bf16",
            "cuda:0",
            "cuda:12",
            "cuda:1:tf32",
            "cuda:0:bf16",
        ] {
            assert_eq!(text.parse::<DeviceChoice>().unwrap().to_string(), text);
        }
        for wrong in [
            "",
            "gpu",
            "cuda",
            "cuda:",
            "cuda:x",
            "cuda:-1",
            "CPU",
            "cuda:0:f16",
            "cuda::tf32",
            "cpu:tf32",
        ] {
            let error = wrong.parse::<DeviceChoice>().unwrap_err();
            assert!(
                error.contains("expected auto, cpu, cpu:bf16, cuda:N"),
                "{error}"
            );
        }
        let written = serde_json::to_string(&DeviceChoice::Cuda(1, Precision::F32)).unwrap();
        assert_eq!(written, "\"cuda:1\"");
        assert_eq!(
            serde_json::from_str::<DeviceChoice>(&written).unwrap(),
            DeviceChoice::Cuda(1, Precision::F32)
        );
    }

    #[test]
    fn a_gpu_that_is_not_there_is_an_error_and_auto_goes_on() {
        let model = CellposeConfig::default();
        let Err(error) = DeviceChoice::Cuda(4096, Precision::F32).place(&model) else {
            panic!("found the GPU cuda:4096");
        };
        assert!(error.to_string().starts_with("cuda:4096: "), "{error}");
        if available().is_err() {
            assert_eq!(DeviceChoice::Auto.place(&model).unwrap().device, "cpu");
        }
        assert_eq!(
            DeviceChoice::Cpu(Precision::F32)
                .place(&model)
                .unwrap()
                .device,
            "cpu"
        );
    }
}
