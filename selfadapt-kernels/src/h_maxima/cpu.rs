//! Reconstruction by dilation in two sweeps and a queue (Vincent 1993), and connected components.

use std::collections::VecDeque;

/// An image's size, and the steps to the neighbours of a pixel that come after it row by row.
struct Grid {
    height: usize,
    width: usize,
    /// (dy, dx), dy >= 0.
    after: Vec<(usize, isize)>,
}

impl Grid {
    fn new(pixels: usize, width: usize, radius: usize) -> Self {
        let reach = radius as isize;
        let steps = (0..=reach).flat_map(|dy| (-reach..=reach).map(move |dx| (dy, dx)));
        let after = steps
            .filter(|&(dy, dx)| dy * dy + dx * dx <= reach * reach && (dy, dx) > (0, 0))
            .map(|(dy, dx)| (dy as usize, dx))
            .collect();
        Self {
            height: pixels / width.max(1),
            width,
            after,
        }
    }

    /// The neighbours of `at` that come after it, or before it.
    fn around(&self, at: usize, after: bool) -> impl Iterator<Item = usize> + '_ {
        let (y, x) = (at / self.width, at % self.width);
        self.after.iter().filter_map(move |&(dy, dx)| {
            let (y, x) = if after {
                (y + dy, x.checked_add_signed(dx))
            } else {
                (y.checked_sub(dy)?, x.checked_add_signed(-dx))
            };
            let x = x.filter(|&x| x < self.width)?;
            (y < self.height).then_some(y * self.width + x)
        })
    }
}

/// Lifts `seed` along neighbours within a disk of `radius`, never above `mask`.
pub fn reconstruction(seed: Vec<f32>, mask: &[f32], width: usize, radius: usize) -> Vec<f32> {
    let mut rebuilt = seed;
    let grid = Grid::new(mask.len(), width, radius);
    for at in 0..mask.len() {
        lift(&mut rebuilt, mask, &grid, at, false);
    }
    let mut queue = VecDeque::new();
    for at in (0..mask.len()).rev() {
        lift(&mut rebuilt, mask, &grid, at, true);
        let level = rebuilt[at];
        let more = |other: usize| rebuilt[other] < level && rebuilt[other] < mask[other];
        if grid.around(at, true).any(more) {
            queue.push_back(at);
        }
    }
    while let Some(at) = queue.pop_front() {
        let level = rebuilt[at];
        for other in grid.around(at, false).chain(grid.around(at, true)) {
            if rebuilt[other] < level && rebuilt[other] < mask[other] {
                rebuilt[other] = level.min(mask[other]);
                queue.push_back(other);
            }
        }
    }
    rebuilt
}

fn lift(rebuilt: &mut [f32], mask: &[f32], grid: &Grid, at: usize, after: bool) {
    let around = grid.around(at, after).map(|other| rebuilt[other]);
    let highest = around.fold(rebuilt[at], f32::max);
    rebuilt[at] = highest.min(mask[at]);
}

/// Numbers marks that touch, corners included.
pub fn components(marks: &[bool], width: usize) -> Vec<u32> {
    let grid = Grid {
        height: marks.len() / width.max(1),
        width,
        after: vec![(0, 1), (1, -1), (1, 0), (1, 1)],
    };
    let mut labels = vec![0; marks.len()];
    let mut count = 0;
    let mut open = Vec::new();
    for first in 0..marks.len() {
        if !marks[first] || labels[first] != 0 {
            continue;
        }
        count += 1;
        labels[first] = count;
        open.push(first);
        while let Some(at) = open.pop() {
            for other in grid.around(at, false).chain(grid.around(at, true)) {
                if marks[other] && labels[other] == 0 {
                    labels[other] = count;
                    open.push(other);
                }
            }
        }
    }
    labels
}
