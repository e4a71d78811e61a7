//! Times convolution and its gradients on the layers of CPnet and on others: medians in milliseconds.
//!
//! `cargo bench -p selfadapt-kernels --bench conv2d [-- LEVEL...]`: every instruction set of this processor, or
//! those named (`avx512`, `avx2`, `neon`, `portable`). Threads: `RAYON_NUM_THREADS`. Compare with
//! `torch.nn.functional.conv2d` and `torch.ops.aten.convolution_backward` on the same shapes, and let
//! glibc keep freed blocks for both (`MALLOC_TOP_PAD_=268435456 MALLOC_TRIM_THRESHOLD_=2147483647`).

use std::error::Error;
use std::time::Instant;

use selfadapt_kernels::conv2d::{Algorithm, Epilogue, Geometry, Input, slices};
use selfadapt_kernels::simd_vector::{Level, with_level};

/// How often each operation runs.
const ROUNDS: usize = 5;

/// Images in a batch.
const BATCH: usize = 8;

/// Input channels, output channels, side of the image, side of the kernel, stride.
const LAYERS: [(usize, usize, usize, usize, usize); 11] = [
    (32, 32, 224, 3, 1),
    (64, 64, 112, 3, 1),
    (128, 128, 56, 3, 1),
    (256, 256, 28, 3, 1),
    (2, 32, 224, 3, 1),
    (64, 32, 224, 1, 1),
    (32, 3, 224, 1, 1),
    (256, 256, 28, 1, 1),
    (64, 128, 56, 3, 2),
    (3, 64, 224, 7, 2),
    (256, 512, 56, 1, 2),
];

fn main() -> Result<(), Box<dyn Error>> {
    // `cargo bench` adds a flag of its own.
    let named: Vec<String> = std::env::args()
        .skip(1)
        .filter(|argument| !argument.starts_with("--"))
        .collect();
    let name = |level: Level| format!("{level:?}").to_lowercase();
    if let Some(unknown) = named
        .iter()
        .find(|named| !Level::ALL.iter().any(|&level| name(level) == **named))
    {
        return Err(format!("expected an instruction set such as avx2, found {unknown}").into());
    }
    let levels = Level::ALL.into_iter().filter(|level| {
        level.is_available() && (named.is_empty() || named.contains(&name(*level)))
    });
    for level in levels {
        println!("{level:?}: forward, gradient by data, by weight");
        with_level(level, time_layers)??;
    }
    Ok(())
}

fn time_layers() -> Result<(), Box<dyn Error>> {
    for (ci, co, side, kernel, stride) in LAYERS {
        let geometry = Geometry::new([BATCH, ci, side, side], [co, ci, kernel, kernel], stride)?;
        for algorithm in [Algorithm::Direct, Algorithm::Winograd] {
            if algorithm == Algorithm::Winograd && !Algorithm::Auto.uses_winograd(&geometry)? {
                continue;
            }
            let [forward, data, weight] = time_layer(&geometry, algorithm)?;
            println!(
                "{ci:4} -> {co:4} @ {side:3} {kernel}x{kernel}/{stride} {:8} {forward:8.2} {data:8.2} {weight:8.2}",
                format!("{algorithm:?}")
            );
        }
    }
    Ok(())
}

/// Milliseconds of the forward, the gradient by the input and the gradient by the weight.
fn time_layer(geometry: &Geometry, algorithm: Algorithm) -> Result<[f64; 3], Box<dyn Error>> {
    let input = ramp(geometry.input_len());
    let weight = ramp(geometry.weight_len());
    let gradient = ramp(geometry.output_len());
    let (input, gradient) = (Input::plain(&input), Input::plain(&gradient));
    let mut output = vec![0.0; geometry.output_len()];
    let mut by_input = vec![0.0; geometry.input_len()];
    let mut by_weight = vec![0.0; geometry.weight_len()];
    let none = Epilogue::default();
    let mut times = [const { Vec::new() }; 3];
    for _ in 0..ROUNDS {
        let start = Instant::now();
        slices::forward(geometry, algorithm, input, &weight, none, &mut output)?;
        times[0].push(start.elapsed());
        let start = Instant::now();
        slices::backward_data(geometry, algorithm, gradient, &weight, none, &mut by_input)?;
        times[1].push(start.elapsed());
        let start = Instant::now();
        slices::backward_weight(geometry, algorithm, input, gradient, &mut by_weight)?;
        times[2].push(start.elapsed());
    }
    Ok(times.map(|mut times| {
        times.sort();
        times[ROUNDS / 2].as_secs_f64() * 1e3
    }))
}

/// Values in -1..1 without denormal numbers.
fn ramp(len: usize) -> Vec<f32> {
    (0..len)
        .map(|i| (i * 7919 % 2003) as f32 / 1001.5 - 1.0)
        .collect()
}
