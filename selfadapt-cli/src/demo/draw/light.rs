//! From cells to camera counts: stain, thickness, granules, uneven light, point spread, photon and read noise.

use ndarray::{Array2, Array3, Axis};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, Poisson};
use selfadapt_core::perturb::blur;

use super::Domain;
use super::scene::{Scene, normal};
use super::texture::{rough, smooth};

/// What the camera counts where no photon came.
const PEDESTAL: f32 = 100.;
/// Counts a photon.
const GAIN: f32 = 4.;

/// The image `[2, side, side]`: cytoplasm, nuclei.
pub fn photograph(domain: &Domain, scene: &Scene, rng: &mut ChaCha8Rng) -> Array3<u16> {
    let side = scene.labels.dim().0;
    let (mut cytoplasm, mut nuclei) = stained(domain, scene, rng);
    granules(domain, scene, &mut cytoplasm, rng);
    specks(domain, &mut cytoplasm, rng);
    nuclei.scaled_add(domain.leak, &cytoplasm);
    let light = illumination(domain, side, rng);
    let mut image = Array3::zeros((2, side, side));
    for (mut plane, signal) in image.axis_iter_mut(Axis(0)).zip([cytoplasm, nuclei]) {
        let seen = spread(domain, signal * &light);
        plane.assign(&count(domain, &seen, rng));
    }
    image
}

/// Light that both stains send, before the microscope.
fn stained(domain: &Domain, scene: &Scene, rng: &mut ChaCha8Rng) -> (Array2<f32>, Array2<f32>) {
    let side = scene.labels.dim().0;
    let cells = scene.labels.iter().copied().max().unwrap_or(0) as usize;
    let mut brightness = || -> Vec<f32> {
        (0..=cells)
            .map(|_| normal(domain.brightness_spread, rng).exp())
            .collect()
    };
    // The two stains of a cell differ, the nuclear one less from cell to cell.
    let (body, core) = (brightness(), brightness());
    let texture = rough(side, domain.grain, 3, rng);
    let chromatin = rough(side, 5., 2, rng);
    let cloud = smooth(side, 40., rng);
    let (mut cytoplasm, mut nuclei) = (Array2::zeros((side, side)), Array2::zeros((side, side)));
    for (place, &label) in scene.labels.indexed_iter() {
        let medium = domain.background * (1. + 0.25 * cloud[place]);
        let (mut body_light, mut core_light) = (medium, 0.5 * medium);
        if label != 0 {
            let label = label as usize;
            let radial = scene.radial[place].min(1.);
            let ball = (1. - radial * radial).max(0.).sqrt();
            let thick = 1. - domain.roundness * (1. - ball);
            let inside = (scene.nuclear[place] * 6.).clamp(0., 1.);
            let grainy = (1. + domain.texture * texture[place]).max(0.1);
            let rim = domain.membrane * (-(scene.border[place] / 1.5).powi(2)).exp();
            let spared = 1. - domain.spared * inside;
            body_light += body[label] * (thick * grainy * spared + rim);
            let dense = (1. + 0.2 * chromatin[place]).max(0.2);
            core_light += core[label].sqrt() * inside * dense;
        }
        cytoplasm[place] = body_light;
        nuclei[place] = core_light;
    }
    (cytoplasm, nuclei)
}

/// Vesicles and the like: bright dots in the cytoplasm.
fn granules(domain: &Domain, scene: &Scene, cytoplasm: &mut Array2<f32>, rng: &mut ChaCha8Rng) {
    let side = scene.labels.dim().0;
    let area = std::f32::consts::PI * (domain.diameter / 2.).powi(2);
    let tries = (domain.granules * (side * side) as f32 / area) as usize;
    for _ in 0..tries {
        let place = [rng.random_range(0..side), rng.random_range(0..side)];
        let (strength, size) = (0.4 + 0.8 * rng.random::<f32>(), 0.9 + rng.random::<f32>());
        if scene.labels[place] != 0 && scene.nuclear[place] < 0. {
            let here = cytoplasm[place];
            dot(cytoplasm, place, strength * here, size);
        }
    }
}

/// Dirt and dead cells' remains.
fn specks(domain: &Domain, cytoplasm: &mut Array2<f32>, rng: &mut ChaCha8Rng) {
    let side = cytoplasm.dim().0;
    for _ in 0..domain.specks {
        let place = [rng.random_range(0..side), rng.random_range(0..side)];
        let (strength, size) = (
            1.5 + 2. * rng.random::<f32>(),
            1. + 1.5 * rng.random::<f32>(),
        );
        dot(cytoplasm, place, strength, size);
    }
}

/// Adds a round spot.
fn dot(plane: &mut Array2<f32>, [y, x]: [usize; 2], strength: f32, size: f32) {
    let reach = (3. * size) as usize + 1;
    let (height, width) = plane.dim();
    for row in y.saturating_sub(reach)..(y + reach + 1).min(height) {
        for column in x.saturating_sub(reach)..(x + reach + 1).min(width) {
            let (dy, dx) = (row as f32 - y as f32, column as f32 - x as f32);
            plane[[row, column]] += strength * (-(dy * dy + dx * dx) / (2. * size * size)).exp();
        }
    }
}

/// How much of the light reaches each pixel: less with the distance from a point beside the centre.
fn illumination(domain: &Domain, side: usize, rng: &mut ChaCha8Rng) -> Array2<f32> {
    let mut middle = || side as f32 * (0.2 + 0.6 * rng.random::<f32>());
    let (y, x) = (middle(), middle());
    let far = side as f32 * 0.9;
    Array2::from_shape_fn((side, side), |(row, column)| {
        let distance = (row as f32 - y).hypot(column as f32 - x) / far;
        1. - domain.vignette * (distance * distance).min(1.)
    })
}

/// The microscope: a sharp point spread, and a haze from above and below the focus.
fn spread(domain: &Domain, signal: Array2<f32>) -> Array2<f32> {
    let size = signal.dim();
    let blurred = |deviation: f32| {
        let mut plane = signal.clone();
        if let Some(pixels) = plane.as_slice_mut() {
            blur(pixels, size, f64::from(deviation));
        }
        plane
    };
    let (sharp, haze) = (blurred(domain.blur), blurred(10. * domain.blur));
    sharp * (1. - domain.haze) + haze * domain.haze
}

/// The camera: photons come one by one, and reading them adds noise.
fn count(domain: &Domain, light: &Array2<f32>, rng: &mut ChaCha8Rng) -> Array2<u16> {
    light.mapv(|light| {
        let expected = light * domain.photons;
        // Below any light there is nothing to draw from.
        let came = Poisson::new(expected).map_or(0., |photons| photons.sample(rng));
        let read = came + normal(domain.read_noise, rng);
        (PEDESTAL + GAIN * read).round().clamp(0., 65_535.) as u16
    })
}
