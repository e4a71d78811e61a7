//! Times what turns flows into masks, step by step and as a whole: medians in milliseconds.
//!
//! `cargo bench -p selfadapt-kernels --bench dynamics [-- [FILE HEIGHT WIDTH]]`: without a file, on round
//! cells in a 512 x 512 image. FILE holds three planes of `f32`, `dy`, `dx` and the cell logit, as written by
//! NumPy's `np.concatenate([dP, cellprob[None]]).astype('<f4').tofile(FILE)`, so that Cellpose can be timed on
//! the same flows: `dynamics.resize_and_compute_masks(dP, cellprob)`. Threads: `RAYON_NUM_THREADS`.

use std::error::Error;
use std::hint::black_box;
use std::time::Instant;

use selfadapt_kernels::fill_holes::fill_holes_and_remove_small;
use selfadapt_kernels::flow_error::flow_error;
use selfadapt_kernels::follow_flows::{Field, follow_flows};
use selfadapt_kernels::label_flows::label_flows;
use selfadapt_kernels::masks::{MaskParams, compute_masks};
use selfadapt_kernels::overlap::overlap;
use selfadapt_kernels::sinks::gather;

/// How often each operation runs.
const ROUNDS: usize = 15;

fn main() -> Result<(), Box<dyn Error>> {
    // `cargo bench` adds a flag of its own.
    let arguments: Vec<String> = std::env::args()
        .skip(1)
        .filter(|argument| !argument.starts_with("--"))
        .collect();
    let (planes, height, width) = match arguments.as_slice() {
        [] => (round_cells(512, 42), 512, 512),
        [file, height, width] => {
            let bytes = std::fs::read(file)?;
            let (numbers, _) = bytes.as_chunks::<4>();
            let planes = numbers.iter().map(|&n| f32::from_le_bytes(n)).collect();
            (planes, height.parse()?, width.parse()?)
        }
        _ => return Err("expected no arguments, or FILE HEIGHT WIDTH".into()),
    };
    if planes.len() != 3 * height * width {
        let found = planes.len();
        return Err(format!("expected 3 x {height} x {width} numbers, found {found}").into());
    }
    let (flows, cellprob) = planes.split_at(2 * height * width);
    let params = MaskParams::default();

    let starts: Vec<u32> = (0..)
        .zip(cellprob)
        .filter(|(_, logit)| **logit > 0.0)
        .map(|(pixel, _)| pixel)
        .collect();
    let field = Field::of_network(flows, cellprob, 0.0, height, width)?;
    let ends = follow_flows(&field, &starts, params.niter, true)?;
    let masks = gather(&starts, &ends, height, width, params.max_size_fraction)?;
    let count = masks.iter().max().copied().unwrap_or(0);
    println!(
        "{height} x {width}, {} cell pixels, {count} sinks",
        starts.len()
    );

    time("compute_masks", || {
        compute_masks(&params, flows, cellprob, height, width)
    })?;
    time("follow_flows", || {
        follow_flows(&field, &starts, params.niter, true)
    })?;
    time("sinks", || gather(&starts, &ends, height, width, 0.4))?;
    time("flow_error", || flow_error(&masks, flows, height, width))?;
    time("label_flows", || label_flows(&masks, height, width))?;
    time("fill_holes", || {
        fill_holes_and_remove_small(&masks, height, width, 15)
    })?;
    time("overlap", || overlap(&masks, &masks))?;
    Ok(())
}

fn time<T, E>(name: &str, run: impl Fn() -> Result<T, E>) -> Result<(), E> {
    run()?;
    let mut times = Vec::new();
    for _ in 0..ROUNDS {
        let start = Instant::now();
        black_box(run()?);
        times.push(start.elapsed().as_secs_f64() * 1e3);
    }
    times.sort_by(f64::total_cmp);
    println!("{name:14} {:9.3}", times[ROUNDS / 2]);
    Ok(())
}

/// Flows and logits of round cells on a grid, `pitch` pixels apart.
fn round_cells(size: usize, pitch: usize) -> Vec<f32> {
    let mut planes = vec![0.0; 3 * size * size];
    for i in 0..size * size {
        let middle = (pitch / 2) as f32;
        let dy = middle - (i / size % pitch) as f32;
        let dx = middle - (i % size % pitch) as f32;
        let distance = dy.hypot(dx);
        let length = 5.0 / distance.max(1.0);
        planes[i] = dy * length;
        planes[size * size + i] = dx * length;
        planes[2 * size * size + i] = 0.45 * pitch as f32 - distance;
    }
    planes
}
