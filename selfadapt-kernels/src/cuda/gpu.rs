//! A GPU as a machine, through CUDA's driver, which is looked for when it is first asked for.

use std::collections::BTreeMap;
use std::ffi::c_void;
use std::sync::{Arc, Mutex, PoisonError};

use candle_core::{Error, Result, bail};
use cudarc::driver::result::{self, DriverError, device};
use cudarc::driver::sys::CUdevice_attribute::{
    CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR,
};
use cudarc::driver::sys::{CUresult, is_culib_present};
use cudarc::driver::{CudaContext, CudaFunction, CudaModule, CudaStream};
use cudarc::nvrtc::Ptx;

use super::{Machine, Program, nvrtc};
use crate::device::{Gpu, NoGpu, OutOfMemory, Precision};

/// As [`crate::device::available`].
///
/// # Errors
/// Says why there is none.
pub fn gpus() -> std::result::Result<Vec<Gpu>, NoGpu> {
    // SAFETY: it loads a library of the driver's name, whose initialisers are NVIDIA's.
    if !unsafe { is_culib_present() } {
        return Err(NoGpu::NoDriver);
    }
    let failed = |error: DriverError| match error.0 {
        CUresult::CUDA_ERROR_NO_DEVICE => NoGpu::NoneFound,
        _ => NoGpu::Failed(format!("{error:?}")),
    };
    result::init().map_err(failed)?;
    let count = device::get_count().map_err(failed)?;
    if count == 0 {
        return Err(NoGpu::NoneFound);
    }
    (0..count)
        .map(|ordinal| describe(ordinal).map_err(failed))
        .collect()
}

fn describe(ordinal: i32) -> std::result::Result<Gpu, DriverError> {
    let of = device::get(ordinal)?;
    // SAFETY: `of` was returned by `get`.
    let (memory, major, minor) = unsafe {
        (
            device::total_mem(of)?,
            device::get_attribute(of, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?,
            device::get_attribute(of, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?,
        )
    };
    Ok(Gpu {
        ordinal: ordinal as usize,
        name: device::get_name(of)?,
        memory,
        capability: (major as u32, minor as u32),
    })
}

/// The least compute capability with tensor cores for tf32 and bf16.
const TENSOR_CORES: (u32, u32) = (8, 0);

/// Opens GPU number `ordinal`.
///
/// # Errors
/// If there is no such GPU, it has no tensor cores for the precision, or NVRTC is not there to compile its kernels.
pub fn open(ordinal: usize, precision: Precision) -> Result<Arc<dyn Machine>> {
    let all = gpus().map_err(|reason| Error::Msg(format!("cuda:{ordinal}: {reason}")))?;
    let Some(gpu) = all.get(ordinal).cloned() else {
        bail!(
            "cuda:{ordinal}: expected a GPU below {}, found {}",
            all.len(),
            all.iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join("; ")
        )
    };
    if precision != Precision::F32 && gpu.capability < TENSOR_CORES {
        let (major, minor) = gpu.capability;
        bail!(
            "cuda:{ordinal}: expected compute capability 8.0 or more for {precision:?}, found {major}.{minor}; leave the \
             precision out for f32"
        )
    }
    if !nvrtc::present()? {
        bail!(
            "cuda:{ordinal}: expected NVRTC (libnvrtc) to compile kernels with, found none; install CUDA's toolkit or \
             pip's nvidia-cuda-nvrtc and name its folder in SELFADAPT_NVRTC"
        )
    }
    let context = CudaContext::new(ordinal).map_err(|error| failed("opening the GPU", error))?;
    Ok(Arc::new(Opened {
        stream: context.default_stream(),
        context,
        gpu,
        precision,
        modules: Mutex::default(),
    }))
}

#[derive(Debug)]
struct Opened {
    gpu: Gpu,
    precision: Precision,
    context: Arc<CudaContext>,
    stream: Arc<CudaStream>,
    /// Programs compiled so far, by name.
    modules: Mutex<BTreeMap<&'static str, Arc<CudaModule>>>,
}

fn failed(doing: &str, error: DriverError) -> Error {
    Error::Msg(format!("cuda: {doing}: {error:?}"))
}

impl Opened {
    fn function(&self, program: &'static Program, kernel: &str) -> Result<CudaFunction> {
        let mut modules = self.modules.lock().unwrap_or_else(PoisonError::into_inner);
        let module = match modules.get(program.name) {
            Some(module) => module.clone(),
            None => {
                let ptx = Ptx::from_src(nvrtc::compile(program, self.gpu.capability)?);
                let loaded = self.context.load_module(ptx);
                let module = loaded.map_err(|error| failed(program.name, error))?;
                modules.insert(program.name, module.clone());
                module
            }
        };
        module
            .load_function(kernel)
            .map_err(|error| failed(kernel, error))
    }
}

// SAFETY: addresses are the driver's, which keeps them until they are freed; one stream runs all in order; kernels are
// found by name in the module that their program was compiled to.
unsafe impl Machine for Opened {
    fn precision(&self) -> Precision {
        self.precision
    }

    fn allocate(&self, bytes: usize) -> Result<u64> {
        self.context
            .bind_to_thread()
            .map_err(|error| failed("allocation", error))?;
        // SAFETY: `bytes` is at least 1 by this trait's contract; the address is only handed on.
        let found = unsafe {
            match self.context.has_async_alloc() {
                true => result::malloc_async(self.stream.cu_stream(), bytes),
                false => result::malloc_sync(bytes),
            }
        };
        found.map_err(|error| match error.0 {
            CUresult::CUDA_ERROR_OUT_OF_MEMORY => OutOfMemory {
                device: format!("cuda:{}", self.gpu.ordinal),
                asked: bytes,
                memory: self.gpu.memory,
            }
            .into(),
            _ => failed("allocation", error),
        })
    }

    unsafe fn free(&self, at: u64) {
        let bound = self.context.bind_to_thread();
        // SAFETY: the caller hands back what `allocate` gave; the stream frees it after all that was launched.
        let freed = bound.and_then(|()| unsafe {
            match self.context.has_async_alloc() {
                true => result::free_async(at, self.stream.cu_stream()),
                false => result::free_sync(at),
            }
        });
        // A failure here is one of an earlier launch, which the next call reports.
        self.context.record_err(freed);
    }

    unsafe fn upload(&self, to: u64, bytes: &[u8]) -> Result<()> {
        let bound = self.context.bind_to_thread();
        // SAFETY: the caller vouches for the room; a copy from pageable memory has read it all when it returns.
        let copied = bound.and_then(|()| unsafe {
            result::memcpy_htod_async(to, bytes, self.stream.cu_stream())
        });
        copied.map_err(|error| failed("copy to the GPU", error))
    }

    unsafe fn download(&self, bytes: &mut [u8], from: u64) -> Result<()> {
        let bound = self.context.bind_to_thread();
        // SAFETY: the caller vouches for what lies at `from`; the stream is waited for before `bytes` is read.
        let copied = bound.and_then(|()| unsafe {
            result::memcpy_dtoh_async(bytes, from, self.stream.cu_stream())
        });
        let done = copied.and_then(|()| self.stream.synchronize());
        done.map_err(|error| failed("kernels, or the copy from the GPU", error))
    }

    unsafe fn launch(
        &self,
        program: &'static Program,
        kernel: &'static str,
        blocks: u32,
        threads: u32,
        arguments: &mut [*mut c_void],
    ) -> Result<()> {
        let function = self.function(program, kernel)?;
        let bound = self.context.bind_to_thread();
        // SAFETY: the function's module lives as long as `self`; the caller vouches for the arguments.
        let launched = bound.and_then(|()| unsafe {
            result::launch_kernel(
                function.cu_function(),
                (blocks, 1, 1),
                (threads, 1, 1),
                0,
                self.stream.cu_stream(),
                arguments,
            )
        });
        launched.map_err(|error| failed(kernel, error))
    }
}
