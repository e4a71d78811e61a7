//! CUDA's compiler at run time, which needs no GPU.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use candle_core::{Error, Result, bail};
use cudarc::nvrtc::sys::is_culib_present;
use cudarc::nvrtc::{CompileError, CompileOptions, compile_ptx_with_opts};
use libloading::Library;

use super::Program;

/// Names the folder that holds NVRTC's libraries where the system's loader does not look, such as that of a Python wheel.
pub const FOLDER: &str = "SELFADAPT_NVRTC";

/// Whether NVRTC can be loaded, from the folder that `SELFADAPT_NVRTC` names if it is set, else from where the system
/// looks for libraries. Asked once.
///
/// # Errors
/// If the folder is named and does not hold it.
pub fn present() -> Result<bool> {
    static PRESENT: OnceLock<std::result::Result<bool, String>> = OnceLock::new();
    let found = PRESENT.get_or_init(|| {
        if let Some(folder) = std::env::var_os(FOLDER) {
            load_from(Path::new(&folder))?;
        }
        // SAFETY: it loads a library of NVRTC's name, whose initialisers are NVIDIA's.
        Ok(unsafe { is_culib_present() })
    });
    found.clone().map_err(Error::Msg)
}

/// Loads the libraries of a folder for good: later look-ups by name find them.
fn load_from(folder: &Path) -> std::result::Result<(), String> {
    let fail = |reason: String| format!("{FOLDER}={}: {reason}", folder.display());
    let entries = std::fs::read_dir(folder).map_err(|reason| fail(reason.to_string()))?;
    let files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    // The compiler looks for its built-in functions by name, so they come first.
    for stem in ["nvrtc-builtins", "nvrtc"] {
        let mut named: Vec<&PathBuf> = files.iter().filter(|file| is_library(file, stem)).collect();
        named.sort();
        let Some(file) = named.first() else {
            return Err(fail(format!("expected lib{stem} in it, found none")));
        };
        // SAFETY: its initialisers are NVIDIA's; the person who named the folder vouches for what is in it.
        let library = unsafe { Library::new(file.as_path()) };
        // Never unloaded.
        std::mem::forget(library.map_err(|reason| fail(reason.to_string()))?);
    }
    Ok(())
}

/// Whether a file is called `libSTEM.so`, `libSTEM.so.VERSION`, `libSTEM.dylib` or `STEM64_VERSION.dll`.
fn is_library(file: &Path, stem: &str) -> bool {
    let name = file.file_name().and_then(|name| name.to_str());
    let name = name.unwrap_or_default();
    name.strip_prefix("lib").unwrap_or(name).starts_with(stem)
        && !name.contains("static")
        && !name.contains(".alt.")
        && (stem.contains("builtins") || !name.contains("builtins"))
        && (name.contains(".so") || name.ends_with(".dylib") || name.ends_with(".dll"))
}

/// A program's PTX for GPUs of a compute capability (and later ones).
///
/// # Errors
/// If NVRTC is absent, or what it says of the text.
pub fn compile(program: &Program, (major, minor): (u32, u32)) -> Result<String> {
    if !present()? {
        bail!(
            "{}: expected NVRTC, found none; name its folder in {FOLDER}",
            program.name
        )
    }
    let options = CompileOptions {
        // Products and sums round apart, as in the CPU's form: the loops are bound by memory, not by arithmetic.
        fmad: Some(false),
        options: vec![
            format!("--gpu-architecture=compute_{major}{minor}"),
            "--std=c++17".into(),
        ],
        name: Some(program.name.into()),
        ..CompileOptions::default()
    };
    match compile_ptx_with_opts(program.text(), options) {
        Ok(ptx) => Ok(ptx.to_src()),
        Err(CompileError::CompileError { log, .. }) => {
            bail!(
                "{}, for compute capability {major}.{minor}: {}",
                program.name,
                log.to_string_lossy()
            )
        }
        Err(other) => bail!("{}: NVRTC: {other:?}", program.name),
    }
}
