//! One head's map of a whole image, averaged from overlapping tiles.

use candle_core::{DType, Device, Tensor};

use super::cuts::Cuts;
use crate::error::{Error, Result};
use crate::head::Head;
use crate::model::{InputSpec, Window};

/// A head's map of the padded image, while tiles are added to it. Lengths are in output pixels.
pub(super) struct Canvas {
    head: Head,
    width: usize,
    grid: usize,
    /// Weighted sums `[channels, height, width]`.
    sums: Vec<f32>,
    /// Weights along each tile, by its place among the cuts.
    rows: Vec<Vec<f64>>,
    columns: Vec<Vec<f64>>,
    /// Whether maps of classes are blended as probabilities.
    probabilities: bool,
}

impl Canvas {
    pub fn new(head: &Head, rows: &Cuts, columns: &Cuts, spec: &InputSpec) -> Self {
        let grid = spec.grid;
        Self {
            head: head.clone(),
            width: columns.padded / grid,
            grid,
            sums: vec![0.; head.channels * (rows.padded / grid) * (columns.padded / grid)],
            rows: rows.windows(spec),
            columns: columns.windows(spec),
            probabilities: head.is_classification() && spec.window == Window::Spline,
        }
    }

    /// Adds a tile's map `[1, channels, side, side]`; `place` is that of the tile among the cuts (row, column), and its
    /// first pixel is `(top, left)`.
    pub fn add(
        &mut self,
        place: (usize, usize),
        (top, left): (usize, usize),
        map: &Tensor,
    ) -> Result<()> {
        let (down, across) = (&self.rows[place.0], &self.columns[place.1]);
        let (side_y, side_x) = (down.len(), across.len());
        let expected = (1, self.head.channels, side_y, side_x);
        if map.dims4()? != expected {
            return Err(Error::Setting(format!(
                "head {}: expected a tile {expected:?}, the network gave {:?}",
                self.head.name,
                map.dims()
            )));
        }
        let map = match self.probabilities {
            true if self.head.channels == 1 => candle_nn::ops::sigmoid(map)?,
            true => candle_nn::ops::softmax(map, 1)?,
            false => map.clone(),
        };
        let values = map.flatten_all()?.to_dtype(DType::F32)?.to_vec1::<f32>()?;
        let (top, left) = (top / self.grid, left / self.grid);
        let plane = self.sums.len() / self.head.channels;
        let planes = self.sums.chunks_mut(plane);
        for (sums, values) in planes.zip(values.chunks(side_y * side_x)) {
            let rows = sums.chunks_mut(self.width).skip(top);
            for ((sums, values), down) in rows.zip(values.chunks(side_x)).zip(down) {
                for ((sum, &value), across) in sums[left..].iter_mut().zip(values).zip(across) {
                    // In f64 and back, as Cellpose does.
                    *sum = (f64::from(*sum) + f64::from(value) * (down * across)) as f32;
                }
            }
        }
        Ok(())
    }

    /// Divides by the summed weights and cuts the padding off: `[1, channels, height, width]`.
    pub fn finish(
        self,
        (height, width): (usize, usize),
        rows: &Cuts,
        columns: &Cuts,
        spec: &InputSpec,
    ) -> Result<Tensor> {
        let grid = spec.grid;
        // The window is a product, tiles form a lattice: so is the sum over tiles.
        let (down, across) = (
            rows.total(&self.rows, spec),
            columns.total(&self.columns, spec),
        );
        let (out_height, out_width) = (height.div_ceil(grid), width.div_ceil(grid));
        let (top, left) = (rows.before / grid, columns.before / grid);
        let mut map = Vec::with_capacity(self.head.channels * out_height * out_width);
        for plane in self.sums.chunks(down.len() * across.len()) {
            for y in top..top + out_height {
                let row = &plane[y * self.width..][..self.width];
                map.extend(
                    (left..left + out_width)
                        .map(|x| (f64::from(row[x]) / (down[y] * across[x])) as f32),
                );
            }
        }
        if self.probabilities {
            let single = self.head.channels == 1;
            for value in &mut map {
                // Back to logits, which the softmax or sigmoid of whoever reads them undoes.
                let logarithm = |p: f32| p.max(f32::MIN_POSITIVE).ln();
                *value = if single {
                    logarithm(*value) - logarithm(1. - *value)
                } else {
                    logarithm(*value)
                };
            }
        }
        let shape = (1, self.head.channels, out_height, out_width);
        Ok(Tensor::from_vec(map, shape, &Device::Cpu)?)
    }
}
