//! Where cells lie and what shape they have: colonies of cells that touch, each with a nucleus or two.

use std::f32::consts::TAU;

use ndarray::Array2;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};

use super::Domain;
use super::texture::smooth;

/// Drawn cells.
pub struct Scene {
    /// Which cell each pixel belongs to; 0 is background.
    pub labels: Array2<u32>,
    /// Distance from the owner's centre, 0 there and 1 at its own border.
    pub radial: Array2<f32>,
    /// Pixels to the nearest border of the owner, its contact with neighbours included; roughly.
    pub border: Array2<f32>,
    /// Signed depth in a nucleus: 1 at its centre, 0 at its border, negative outside.
    pub nuclear: Array2<f32>,
}

/// A closed outline about a centre: the radius along each direction.
#[derive(Clone)]
struct Outline {
    y: f32,
    x: f32,
    radius: f32,
    /// Amplitude and phase of the second to the fifth harmonic.
    waves: [(f32, f32); 4],
}

impl Outline {
    fn draw(y: f32, x: f32, radius: f32, unevenness: f32, rng: &mut ChaCha8Rng) -> Self {
        let mut wave = |share: f32| {
            (
                share * unevenness * rng.random::<f32>(),
                TAU * rng.random::<f32>(),
            )
        };
        Self {
            y,
            x,
            radius,
            waves: [wave(1.), wave(0.5), wave(0.3), wave(0.2)],
        }
    }

    /// Distance of a point from the centre, 1 on the outline.
    fn radial(&self, y: f32, x: f32) -> f32 {
        let (dy, dx) = (y - self.y, x - self.x);
        let angle = dy.atan2(dx);
        let waves: f32 = self
            .waves
            .iter()
            .zip(2..)
            .map(|((amplitude, phase), n)| amplitude * (n as f32 * angle + phase).cos())
            .sum();
        dy.hypot(dx) / (self.radius * (1. + waves))
    }
}

/// Draws a scene of `side` pixels; cells that reach beyond it are cut by its edge.
pub fn draw(domain: &Domain, side: usize, rng: &mut ChaCha8Rng) -> Scene {
    let cells = place(domain, side as f32, rng);
    let nuclei = nuclei(&cells, domain, rng);
    // Borders are rough on the scale of some pixels.
    let wobble = [smooth(side, 9., rng), smooth(side, 9., rng)];
    let size = (side, side);
    let mut scene = Scene {
        labels: Array2::zeros(size),
        radial: Array2::from_elem(size, 9.),
        border: Array2::zeros(size),
        nuclear: Array2::from_elem(size, -1.),
    };
    for ((row, column), label) in scene.labels.indexed_iter_mut() {
        let y = row as f32 + domain.roughness * wobble[0][[row, column]];
        let x = column as f32 + domain.roughness * wobble[1][[row, column]];
        let (mut nearest, mut first, mut second) = (0, f32::INFINITY, f32::INFINITY);
        for (index, cell) in cells.iter().enumerate() {
            if (y - cell.y).abs().max((x - cell.x).abs()) > 2.2 * cell.radius {
                continue;
            }
            let radial = cell.radial(y, x);
            if radial < first {
                (second, first, nearest) = (first, radial, index);
            } else if radial < second {
                second = radial;
            }
        }
        let at = [row, column];
        scene.radial[at] = first;
        if first < 1. {
            *label = nearest as u32 + 1;
            let own = (1. - first) * cells[nearest].radius;
            // Between two cells the border lies where both are equally near.
            let shared = 0.5 * (second - first) * cells[nearest].radius;
            scene.border[at] = own.min(shared);
            let depth = nuclei[nearest].iter().map(|n| 1. - n.radial(y, x));
            scene.nuclear[at] = depth.fold(-1., f32::max);
        }
    }
    keep_largest_parts(&mut scene.labels, cells.len());
    scene
}

/// Colonies of cells that are as near to each other as the domain allows.
fn place(domain: &Domain, side: f32, rng: &mut ChaCha8Rng) -> Vec<Outline> {
    let colonies: Vec<(f32, f32)> = (0..domain.colonies)
        .map(|_| (side * rng.random::<f32>(), side * rng.random::<f32>()))
        .collect();
    let mut cells: Vec<Outline> = Vec::new();
    for _ in 0..domain.trials(side) {
        let radius = 0.5 * domain.diameter * normal(domain.size_spread, rng).exp();
        let (y, x) = if rng.random::<f32>() < domain.in_colonies && !colonies.is_empty() {
            let (y, x) = colonies[rng.random_range(0..colonies.len())];
            let spread = 0.16 * side;
            (y + normal(spread, rng), x + normal(spread, rng))
        } else {
            let anywhere = |r: f32| (side + 2. * radius) * r - radius;
            (anywhere(rng.random()), anywhere(rng.random()))
        };
        let beyond = |v: f32| v < -radius || v > side + radius;
        let room = |other: &Outline| {
            (y - other.y).hypot(x - other.x) > domain.packing * (radius + other.radius)
        };
        if !beyond(y) && !beyond(x) && cells.iter().all(room) {
            cells.push(Outline::draw(y, x, radius, domain.unevenness, rng));
        }
    }
    cells
}

/// One nucleus a cell, seldom two.
fn nuclei(cells: &[Outline], domain: &Domain, rng: &mut ChaCha8Rng) -> Vec<Vec<Outline>> {
    cells
        .iter()
        .map(|cell| {
            let radius = domain.nucleus * cell.radius * normal(0.08, rng).exp();
            let mut one = |y: f32, x: f32, radius: f32| {
                Outline::draw(cell.y + y, cell.x + x, radius, 0.22, rng)
            };
            let off = 0.12 * cell.radius;
            let whole = one(off, -off, radius);
            let (angle, part) = (TAU * rng.random::<f32>(), 0.72 * radius);
            if rng.random::<f32>() < 0.05 {
                let (y, x) = (0.85 * part * angle.sin(), 0.85 * part * angle.cos());
                let mut half = |sign: f32| {
                    Outline::draw(cell.y + sign * y, cell.x + sign * x, part, 0.15, rng)
                };
                return vec![half(1.), half(-1.)];
            }
            let (y, x) = (off * angle.sin(), off * angle.cos());
            vec![Outline {
                y: cell.y + y,
                x: cell.x + x,
                ..whole
            }]
        })
        .collect()
}

/// A number drawn from a normal distribution about 0.
pub fn normal(deviation: f32, rng: &mut ChaCha8Rng) -> f32 {
    let drawn: f32 = StandardNormal.sample(rng);
    deviation * drawn
}

/// Rough borders may cut a sliver off a cell: only its largest connected part stays.
fn keep_largest_parts(labels: &mut Array2<u32>, cells: usize) {
    let (height, width) = labels.dim();
    let mut part = Array2::<u32>::zeros((height, width));
    let mut largest = vec![(0_usize, 0_u32); cells + 1];
    let mut count = 0;
    let mut open = Vec::new();
    for start in 0..height * width {
        let place = (start / width, start % width);
        let label = labels[place];
        if label == 0 || part[place] != 0 {
            continue;
        }
        count += 1;
        part[place] = count;
        open.push(place);
        let mut pixels = 0;
        while let Some((y, x)) = open.pop() {
            pixels += 1;
            let (up, left) = (y.wrapping_sub(1), x.wrapping_sub(1));
            for next in [(up, x), (y + 1, x), (y, left), (y, x + 1)] {
                if labels.get(next) == Some(&label) && part[next] == 0 {
                    part[next] = count;
                    open.push(next);
                }
            }
        }
        if pixels > largest[label as usize].0 {
            largest[label as usize] = (pixels, count);
        }
    }
    for (label, part) in labels.iter_mut().zip(&part) {
        // A cell of which the image's edge leaves a few pixels is none that anyone would outline.
        let (pixels, kept) = largest[*label as usize];
        if *part != kept || pixels < 20 {
            *label = 0;
        }
    }
}
