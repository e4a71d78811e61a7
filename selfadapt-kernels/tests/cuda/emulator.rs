//! A machine for tests: the same `.cu` texts, compiled as C++ by the system's compiler.

use std::collections::BTreeMap;
use std::ffi::{c_int, c_void};
use std::process::Command;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use candle_core::{Result, bail};
use libloading::{Library, Symbol};

use selfadapt_kernels::cuda::{Machine, PROGRAMS, Program};
use selfadapt_kernels::device::{OutOfMemory, Precision};

/// Words after each array that no kernel may touch.
const GUARD: usize = 32;

type Entry = unsafe extern "C" fn(u32, u32, *mut *mut c_void) -> c_int;

/// Memory of the process, and a library of all kernels.
#[derive(Debug)]
struct Emulator {
    library: Arc<Library>,
    /// Words of each address that is in use.
    sizes: Mutex<BTreeMap<u64, usize>>,
    /// Bytes that may be in use.
    memory: usize,
    precision: Precision,
}

/// The emulator, compiled at the first call; prints a line and returns `None` where there is no C++ compiler (which is
/// an error if `SELFADAPT_REQUIRE_CXX` is set).
///
/// # Panics
/// If the kernels do not compile.
pub fn emulator() -> Option<Arc<dyn Machine>> {
    emulator_of(usize::MAX)
}

/// As [`emulator`], with that precision of convolutions.
///
/// # Panics
/// As [`emulator`].
#[allow(dead_code)] // for selfadapt-models/tests/device
pub fn emulator_in(precision: Precision) -> Option<Arc<dyn Machine>> {
    emulator_with(usize::MAX, precision)
}

/// As [`emulator`], with so many bytes of memory.
///
/// # Panics
/// As [`emulator`].
pub fn emulator_of(memory: usize) -> Option<Arc<dyn Machine>> {
    emulator_with(memory, Precision::F32)
}

fn emulator_with(memory: usize, precision: Precision) -> Option<Arc<dyn Machine>> {
    static LIBRARY: OnceLock<Option<Arc<Library>>> = OnceLock::new();
    let found = LIBRARY.get_or_init(|| {
        let compiler = std::env::var("CXX").unwrap_or_else(|_| "c++".into());
        if Command::new(&compiler).arg("--version").output().is_err() {
            assert!(
                std::env::var_os("SELFADAPT_REQUIRE_CXX").is_none(),
                "no C++ compiler {compiler:?}"
            );
            return None;
        }
        Some(Arc::new(build(&compiler)))
    });
    if found.is_none() {
        println!("skipped: no C++ compiler (c++, or CXX) to check the CUDA kernels' numbers with");
    }
    let machine = |library| Emulator {
        library,
        sizes: Mutex::default(),
        memory,
        precision,
    };
    let found = found.clone().map(machine);
    found.map(|emulator| Arc::new(emulator) as Arc<dyn Machine>)
}

fn build(compiler: &str) -> Library {
    let folder = std::env::temp_dir().join(format!("selfadapt-kernels-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let mut objects = Vec::new();
    // One compilation a program, at the same time: texts may define the same helpers.
    for program in PROGRAMS {
        // Unnamed, so that the linker does not take one program's instance of a template for that of another.
        let mut text = format!(
            "{}\nnamespace {{\n{}\n}}\n",
            include_str!("emulator.h"),
            program.text()
        );
        for kernel in program.kernels {
            text += &format!(
                "extern \"C\" int emulate_{kernel}(unsigned blocks, unsigned threads, void** arguments) {{ \
                 return emulator::launch({kernel}, blocks, threads, arguments); }}\n"
            );
        }
        let source = folder.join(format!("{}.cpp", program.name));
        std::fs::write(&source, text.replace("#pragma once", "")).unwrap();
        let object = source.with_extension("o");
        let mut command = Command::new(compiler);
        command
            .args([
                "-std=c++17",
                "-O1",
                "-fPIC",
                "-c",
                "-w",
                "-ffp-contract=off",
                "-o",
            ])
            .args([&object, &source]);
        objects.push((object, command.spawn().unwrap()));
    }
    let library = folder.join("libkernels.so");
    let mut link = Command::new(compiler);
    link.args(["-shared", "-o"]).arg(&library);
    for (object, mut compilation) in objects {
        assert!(
            compilation.wait().unwrap().success(),
            "{object:?} does not compile"
        );
        link.arg(object);
    }
    assert!(link.status().unwrap().success(), "the kernels do not link");
    // SAFETY: it is what was compiled just now, and has no initialisers but those of empty lists.
    let loaded = unsafe { Library::new(&library) }.unwrap();
    std::fs::remove_dir_all(&folder).unwrap();
    loaded
}

// SAFETY: addresses are of boxed words of the process; kernels are found by name; one launch runs at a time.
unsafe impl Machine for Emulator {
    fn precision(&self) -> Precision {
        self.precision
    }

    fn allocate(&self, bytes: usize) -> Result<u64> {
        // All ones: a NaN, so that a kernel which leaves something unwritten shows; and so that one which writes past
        // the end does, for there are more words than were asked for.
        let words = bytes.div_ceil(8) + GUARD;
        let mut sizes = self.sizes.lock().unwrap_or_else(PoisonError::into_inner);
        if 8 * (sizes.values().sum::<usize>() + words) > self.memory {
            return Err(OutOfMemory {
                device: "emulator".into(),
                asked: bytes,
                memory: self.memory,
            }
            .into());
        }
        let memory = vec![u64::MAX; words].into_boxed_slice();
        let at = Box::into_raw(memory).cast::<u64>() as u64;
        sizes.insert(at, words);
        Ok(at)
    }

    unsafe fn free(&self, at: u64) {
        let mut sizes = self.sizes.lock().unwrap_or_else(PoisonError::into_inner);
        let words = sizes.remove(&at).unwrap();
        // SAFETY: the slice is that of `allocate`, of as many words.
        let memory =
            unsafe { Box::from_raw(std::ptr::slice_from_raw_parts_mut(at as *mut u64, words)) };
        let guard = &memory[words - GUARD..];
        assert!(
            std::thread::panicking() || guard.iter().all(|&word| word == u64::MAX),
            "a kernel wrote past the end of an array"
        );
    }

    unsafe fn upload(&self, to: u64, bytes: &[u8]) -> Result<()> {
        // SAFETY: the caller vouches for the room.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), to as *mut u8, bytes.len()) };
        Ok(())
    }

    unsafe fn download(&self, bytes: &mut [u8], from: u64) -> Result<()> {
        // SAFETY: the caller vouches for what lies there.
        unsafe {
            std::ptr::copy_nonoverlapping(from as *const u8, bytes.as_mut_ptr(), bytes.len());
        }
        Ok(())
    }

    unsafe fn launch(
        &self,
        _: &'static Program,
        kernel: &'static str,
        blocks: u32,
        threads: u32,
        arguments: &mut [*mut c_void],
    ) -> Result<()> {
        // The fibers and the indices are variables of the library.
        static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
        let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        // SAFETY: every kernel has such a function (above); the caller vouches for the arguments.
        let ended = unsafe {
            let entry: Symbol<Entry> = self
                .library
                .get(format!("emulate_{kernel}"))
                .map_err(candle_core::Error::wrap)?;
            entry(blocks, threads, arguments.as_mut_ptr())
        };
        if ended != 0 {
            bail!("{kernel}: some threads of a block ended where others wait for them")
        }
        Ok(())
    }
}

/// Numbers between -1 and 1 that look random, the same ones for a seed.
pub fn numbers(seed: u64, len: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    (0..len)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 40) as f32 / (1 << 23) as f32 - 1.0
        })
        .collect()
}

/// Zeros and ones.
pub fn mask(seed: u64, len: usize) -> Vec<f32> {
    let keep = |value: &f32| f32::from(*value > -0.4);
    numbers(seed, len).iter().map(keep).collect()
}

/// The largest difference between two lists of one length.
pub fn largest_difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    let differences = a.iter().zip(b).map(|(a, b)| (a - b).abs());
    differences.fold(0.0, |most, one| if one <= most { most } else { one })
}
