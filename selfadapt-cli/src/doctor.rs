//! `selfadapt doctor`: what this machine offers and where models are, for a person in doubt and for bug reports.

use std::path::{Path, PathBuf};

use selfadapt_kernels::conv2d::half_tiles;
use selfadapt_kernels::device::available;
use selfadapt_kernels::simd_vector::Level;
use serde::Serialize;

use crate::failure::{Failure, Outcome};
use crate::models::catalogue::{CATALOGUE, Family};
use crate::models::places::Places;

/// Variables that change what selfadapt does, and what for.
const VARIABLES: [&str; 10] = [
    "SELFADAPT_MODELS_PATH",
    "SELFADAPT_MODELS_URL",
    "SELFADAPT_OFFLINE",
    "CELLPOSE_LOCAL_MODELS_PATH",
    "KERAS_HOME",
    "RAYON_NUM_THREADS",
    "SELFADAPT_NVRTC",
    "RUST_LOG",
    "SSL_CERT_FILE",
    "HTTPS_PROXY",
];

/// Show what this machine offers, and where models are looked for
///
/// Put its lines into a report of a fault. It changes nothing and uses no network.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  selfadapt doctor
  selfadapt doctor --json")]
pub struct Args {
    /// Print as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Serialize)]
struct Report {
    selfadapt: &'static str,
    /// Whether the program was compiled with optimisation as `cargo build --release` does.
    release: bool,
    system: String,
    processor: Option<String>,
    cores: usize,
    threads: usize,
    /// The vectors that the kernels use.
    vectors: String,
    memory_mib: Option<u64>,
    memory_available_mib: Option<u64>,
    /// What networks can be computed on.
    devices: Vec<String>,
    /// Why there is no GPU among them, where there is none.
    no_gpu: Option<String>,
    formats: Vec<&'static str>,
    folders: Vec<Folder>,
    variables: Vec<(&'static str, String)>,
}

/// A folder of models.
#[derive(Debug, Serialize)]
struct Folder {
    of: &'static str,
    path: Option<PathBuf>,
    state: State,
    models: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum State {
    Absent,
    Writable,
    ReadOnly,
}

pub fn run(args: Args) -> Result<Outcome, Failure> {
    let report = Report::gather();
    if args.json {
        let text = serde_json::to_string_pretty(&report)
            .map_err(|error| Failure::new(error.to_string(), "leave --json out"))?;
        println!("{text}");
    } else {
        report.print();
    }
    Ok(Outcome::Fine)
}

impl Report {
    fn gather() -> Self {
        let level = Level::current();
        let gpus = available();
        let no_gpu = gpus.as_ref().err().map(ToString::to_string);
        let gpus = gpus.unwrap_or_default();
        let gpus = gpus.iter().map(ToString::to_string);
        let tiles = half_tiles().then(|| "cpu:bf16, matrix tiles, for Cellpose models".to_owned());
        Self {
            selfadapt: env!("CARGO_PKG_VERSION"),
            release: !cfg!(debug_assertions),
            system: format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
            processor: field("/proc/cpuinfo", "model name"),
            cores: std::thread::available_parallelism().map_or(1, Into::into),
            threads: rayon::current_num_threads(),
            vectors: format!("{level:?}, {} numbers at once", level.lanes()),
            memory_mib: mebibytes("/proc/meminfo", "MemTotal"),
            memory_available_mib: mebibytes("/proc/meminfo", "MemAvailable"),
            devices: ["cpu".to_owned()]
                .into_iter()
                .chain(tiles)
                .chain(gpus)
                .collect(),
            no_gpu,
            formats: selfadapt_models::format::formats()
                .iter()
                .map(|format| format.files)
                .collect(),
            folders: folders(&Places::of_this_user()),
            variables: VARIABLES
                .into_iter()
                .filter_map(|name| Some((name, std::env::var(name).ok()?)))
                .collect(),
        }
    }

    fn print(&self) {
        let build = if self.release { "release" } else { "debug" };
        println!("selfadapt  {} ({build} build)", self.selfadapt);
        println!("system     {}", self.system);
        let processor = self.processor.as_deref().unwrap_or("unknown");
        println!("processor  {processor}, {} cores", self.cores);
        println!("threads    {}", self.threads);
        println!("vectors    {}", self.vectors);
        if let (Some(all), Some(free)) = (self.memory_mib, self.memory_available_mib) {
            println!("memory     {all} MiB, {free} MiB available");
        }
        for (index, device) in self.devices.iter().enumerate() {
            println!("{:9}  {device}", if index == 0 { "devices" } else { "" });
        }
        if let Some(reason) = &self.no_gpu {
            println!("{:9}  no GPU: {reason}", "");
        }
        for (index, format) in self.formats.iter().enumerate() {
            println!("{:9}  {format}", if index == 0 { "opens" } else { "" });
        }
        for folder in &self.folders {
            let path = folder.path.as_ref().map_or_else(
                || "no home folder".into(),
                |path| path.display().to_string(),
            );
            let state = match folder.state {
                State::Absent => ", not there",
                State::Writable => "",
                State::ReadOnly => ", not writable",
            };
            let models = match folder.models.len() {
                0 => String::new(),
                _ => format!(": {}", folder.models.join(", ")),
            };
            println!("{:9}  {path}{state}{models}", folder.of);
        }
        for (name, value) in &self.variables {
            println!("variable   {name}={value}");
        }
    }
}

/// Folders in which models are looked for, in this order.
fn folders(places: &Places) -> Vec<Folder> {
    let named = |family: Family| CATALOGUE.iter().filter(move |entry| entry.family == family);
    let in_own = |path: &Path| {
        let mut names: Vec<String> = CATALOGUE
            .iter()
            .filter(|entry| path.join(entry.local()).exists())
            .map(|entry| entry.name.to_owned())
            .collect();
        names.extend(places.added());
        names
    };
    let own = places.own.clone();
    let mut all = vec![Folder {
        of: "models",
        state: state(own.as_deref()),
        models: own.as_deref().map(in_own).unwrap_or_default(),
        path: own,
    }];
    for (of, family) in [
        ("cellpose", Family::Cellpose),
        ("stardist", Family::StarDist),
        ("deepcell", Family::Mesmer),
    ] {
        let path = places.of(family);
        let mut models: Vec<String> = named(family)
            .filter(|entry| places.find_in_package(entry).is_some())
            .map(|entry| entry.name.to_owned())
            .collect();
        if family == Family::Cellpose {
            models.extend(places.cellpose_list());
        }
        all.push(Folder {
            of,
            state: state(path),
            models,
            path: path.map(Path::to_owned),
        });
    }
    all
}

fn state(folder: Option<&Path>) -> State {
    match folder {
        Some(folder) if folder.is_dir() => match tempfile::tempfile_in(folder) {
            Ok(_) => State::Writable,
            Err(_) => State::ReadOnly,
        },
        _ => State::Absent,
    }
}

/// The value behind `name :` in one of Linux's files about itself.
fn field(file: &str, name: &str) -> Option<String> {
    let text = std::fs::read_to_string(file).ok()?;
    let line = text.lines().find(|line| line.starts_with(name))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

/// A number of kB there, in MiB.
pub fn mebibytes(file: &str, name: &str) -> Option<u64> {
    let value = field(file, name)?;
    let kib: u64 = value.split(' ').next()?.parse().ok()?;
    Some(kib / 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_os = "linux")]
    fn memory_is_read() {
        let all = mebibytes("/proc/meminfo", "MemTotal").unwrap();
        let free = mebibytes("/proc/meminfo", "MemAvailable").unwrap();
        assert!(0 < free && free <= all, "{free} of {all}");
        assert_eq!(mebibytes("/proc/meminfo", "NoSuchLine"), None);
    }

    #[test]
    fn folders_are_told_apart() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(state(Some(folder.path())), State::Writable);
        assert_eq!(state(Some(&folder.path().join("none"))), State::Absent);
        assert_eq!(state(None), State::Absent);
    }
}
