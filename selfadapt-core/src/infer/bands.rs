//! The maps of an image that does not fit into memory, from top to bottom: the same numbers as those of the whole.

use std::collections::VecDeque;
use std::ops::Range;

use candle_core::{DType, Device, Tensor};

use super::cuts::Cuts;
use super::{InferOptions, Tile, forward, view};
use crate::error::{Error, Result};
use crate::head::Head;
use crate::maps::Prediction;
use crate::model::InputSpec;
use crate::network::Network;
use crate::parts::PreparedParts;

/// Rows of maps, made as they are asked for. Memory is that of the rows held and of one row of tiles.
pub(super) struct Bands<'a> {
    network: &'a Network,
    spec: &'a InputSpec,
    prepared: Box<dyn PreparedParts + 'a>,
    options: InferOptions,
    rows: Cuts,
    columns: Cuts,
    /// The next row of tiles.
    next: usize,
    maps: Vec<Rows>,
    /// Summed weights of the window over all tiles.
    down: Vec<f64>,
    across: Vec<f64>,
}

/// One head's map: rows that are still added to, and rows that are done.
struct Rows {
    head: Head,
    /// Output row, in the padded image, of the first of `sums`.
    first: usize,
    /// Weighted sums `[channels, width]` of the padded image.
    sums: VecDeque<Vec<f32>>,
    /// Output row, in the image, of the first of `done`.
    top: usize,
    /// Finished rows `[channels, width]` of the image.
    done: VecDeque<Vec<f32>>,
}

impl<'a> Bands<'a> {
    pub fn new(
        network: &'a Network,
        spec: &'a InputSpec,
        prepared: Box<dyn PreparedParts + 'a>,
        options: InferOptions,
    ) -> Self {
        let (height, width) = prepared.size();
        let (rows, columns) = (Cuts::new(height, spec), Cuts::new(width, spec));
        let total = |cuts: &Cuts| cuts.total(&cuts.windows(spec), spec);
        let maps = network.model.heads().iter().map(|head| Rows {
            head: head.clone(),
            first: 0,
            sums: VecDeque::new(),
            top: 0,
            done: VecDeque::new(),
        });
        Self {
            maps: maps.collect(),
            down: total(&rows),
            across: total(&columns),
            network,
            spec,
            prepared,
            options,
            rows,
            columns,
            next: 0,
        }
    }

    /// `(height, width)` of the maps.
    pub fn size(&self) -> (usize, usize) {
        let (height, width) = self.prepared.size();
        (
            height.div_ceil(self.spec.grid),
            width.div_ceil(self.spec.grid),
        )
    }

    /// The maps' pixels `rows` x `columns`, each head `[1, channels, ..]`. Rows above `rows` are let go: they cannot be
    /// asked for again.
    pub fn part(&mut self, rows: Range<usize>, columns: Range<usize>) -> Result<Prediction> {
        while self.next < self.rows.starts.len()
            && self
                .maps
                .iter()
                .any(|map| map.top + map.done.len() < rows.end)
        {
            self.advance()?;
        }
        let mut heads = Vec::with_capacity(self.maps.len());
        for map in &mut self.maps {
            while map.top < rows.start && map.done.pop_front().is_some() {
                map.top += 1;
            }
            let width = self.prepared.size().1.div_ceil(self.spec.grid);
            let (channels, high) = (map.head.channels, rows.len());
            let mut values = Vec::with_capacity(channels * high * columns.len());
            for channel in 0..channels {
                for row in rows.clone() {
                    let line = row.checked_sub(map.top).and_then(|at| map.done.get(at));
                    let line = line.ok_or_else(|| gone(&rows))?;
                    let from = channel * width;
                    values.extend_from_slice(&line[from + columns.start..from + columns.end]);
                }
            }
            let shape = (1, channels, high, columns.len());
            heads.push(Tensor::from_vec(values, shape, &Device::Cpu)?);
        }
        Ok(Prediction {
            heads,
            // Tiles have embeddings; parts of an image have none.
            embedding: Tensor::zeros((1, 1), DType::F32, &Device::Cpu)?,
        })
    }

    /// Runs one row of tiles, and finishes the rows that no later one reaches.
    fn advance(&mut self) -> Result<()> {
        let (j, top) = (self.next, self.rows.starts[self.next]);
        let strip = self.strip(top)?;
        let tiles: Vec<Tile> = self
            .columns
            .starts
            .iter()
            .enumerate()
            .map(|(i, &left)| Tile {
                place: (j, i),
                top: 0,
                left,
                view: view(self.spec, j, i),
            })
            .collect();
        let (grid, side) = (self.spec.grid, (self.rows.side, self.columns.side));
        let (down, across) = (
            self.rows.windows(self.spec),
            self.columns.windows(self.spec),
        );
        let Some(down) = down.get(j) else {
            return Ok(());
        };
        let wide = self.columns.padded / grid;
        for map in &mut self.maps {
            let needed = (top + side.0) / grid - map.first;
            map.sums.resize(
                needed.max(map.sums.len()),
                vec![0.; map.head.channels * wide],
            );
        }
        for batch in tiles.chunks(self.options.batch.max(1)) {
            let output = forward(self.network, &strip, batch, side)?;
            for (map, tensor) in self.maps.iter_mut().zip(&output.heads) {
                for (n, tile) in batch.iter().enumerate() {
                    let tensor = tensor.narrow(0, n, 1)?;
                    let tensor = tile.view.inverse().on_head(&map.head, &tensor)?;
                    map.add(
                        (top / grid, tile.left / grid),
                        &tensor,
                        down,
                        &across[tile.place.1],
                        wide,
                    )?;
                }
            }
        }
        self.next += 1;
        let reached = match self.rows.starts.get(self.next) {
            Some(start) => start / grid,
            None => self.rows.padded / grid,
        };
        self.finish(reached);
        Ok(())
    }

    /// The padded image's rows from `top` on, as many as a tile has: `[C, side, padded width]`.
    fn strip(&mut self, top: usize) -> Result<Tensor> {
        let (height, width) = self.prepared.size();
        let clip = |row: usize| row.saturating_sub(self.rows.before).min(height);
        let wanted = clip(top)..clip(top + self.rows.side);
        let (channels, side) = (self.spec.channels, self.rows.side);
        if wanted.is_empty() {
            let shape = (channels, side, self.columns.padded);
            return Ok(Tensor::zeros(shape, DType::F32, &Device::Cpu)?);
        }
        let above = self.rows.before.saturating_sub(top);
        let pixels = self.prepared.read(wanted.clone(), 0..width)?;
        if pixels.dim() != (channels, wanted.len(), width) {
            return Err(Error::Image(format!(
                "expected {channels} channels of {} x {width}, found {:?}",
                wanted.len(),
                pixels.dim()
            )));
        }
        let shape = pixels.dim();
        let pixels: Vec<f32> = pixels.into_iter().collect();
        let after = self.columns.padded - width - self.columns.before;
        Ok(Tensor::from_vec(pixels, shape, &Device::Cpu)?
            .pad_with_zeros(1, above, side - above - wanted.len())?
            .pad_with_zeros(2, self.columns.before, after)?)
    }

    /// Divides the rows above `reached` of the padded image by their weights.
    fn finish(&mut self, reached: usize) {
        let grid = self.spec.grid;
        let (height, width) = self.prepared.size();
        let (top, left) = (self.rows.before / grid, self.columns.before / grid);
        let (high, wide) = (height.div_ceil(grid), width.div_ceil(grid));
        let padded = self.columns.padded / grid;
        for map in &mut self.maps {
            while map.first < reached
                && let Some(row) = map.sums.pop_front()
            {
                let y = map.first;
                map.first += 1;
                if !(top..top + high).contains(&y) {
                    continue;
                }
                let mut line = Vec::with_capacity(map.head.channels * wide);
                for channel in row.chunks(padded) {
                    line.extend(
                        (left..left + wide).map(|x| {
                            (f64::from(channel[x]) / (self.down[y] * self.across[x])) as f32
                        }),
                    );
                }
                map.done.push_back(line);
            }
        }
    }
}

fn gone(rows: &Range<usize>) -> Error {
    Error::Setting(format!(
        "rows {rows:?} of the maps were let go or lie beyond the image"
    ))
}

impl Rows {
    /// Adds a tile's map `[1, channels, side, side]`, as a canvas does.
    fn add(
        &mut self,
        (top, left): (usize, usize),
        map: &Tensor,
        down: &[f64],
        across: &[f64],
        wide: usize,
    ) -> Result<()> {
        let expected = (1, self.head.channels, down.len(), across.len());
        if map.dims4()? != expected {
            return Err(Error::Setting(format!(
                "head {}: expected a tile {expected:?}, the network gave {:?}",
                self.head.name,
                map.dims()
            )));
        }
        let values = map.flatten_all()?.to_dtype(DType::F32)?.to_vec1::<f32>()?;
        for (channel, values) in values.chunks(down.len() * across.len()).enumerate() {
            let rows = self.sums.iter_mut().skip(top - self.first);
            for ((sums, values), down) in rows.zip(values.chunks(across.len())).zip(down) {
                let sums = &mut sums[channel * wide + left..];
                for ((sum, &value), across) in sums.iter_mut().zip(values).zip(across) {
                    // In f64 and back, as Cellpose does.
                    *sum = (f64::from(*sum) + f64::from(value) * (down * across)) as f32;
                }
            }
        }
        Ok(())
    }
}
