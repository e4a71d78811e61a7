//! Cellpose's flow maps as files: the colour picture, and values stretched to bytes.

use std::f32::consts::PI;

use image::{Rgb, RgbImage};
use ndarray::{Array2, ArrayView2, ArrayView3};

use super::overlay::percentiles;
use crate::error::{Error, Result};

/// What Cellpose's network says about an image, at the size of the image.
#[derive(Clone, Copy, Debug)]
pub struct Flows<'a> {
    flow: ArrayView3<'a, f32>,
    cell_logit: ArrayView2<'a, f32>,
}

impl<'a> Flows<'a> {
    /// `flow [2, H, W]`: (dy, dx) as the network gives them, about five times unit length; `cell_logit [H, W]`: the logit
    /// of the cell probability.
    ///
    /// # Errors
    /// If the shapes do not fit each other.
    pub fn new(flow: ArrayView3<'a, f32>, cell_logit: ArrayView2<'a, f32>) -> Result<Self> {
        let (height, width) = cell_logit.dim();
        if flow.dim() != (2, height, width) {
            return Err(Error::Image(format!(
                "expected flows of shape [2, {height}, {width}], found {:?}",
                flow.dim()
            )));
        }
        Ok(Self { flow, cell_logit })
    }

    /// `(dy, dx)`, `[2, H, W]`.
    pub fn flow(&self) -> ArrayView3<'a, f32> {
        self.flow
    }

    /// Logits `[H, W]`.
    pub fn cell_logit(&self) -> ArrayView2<'a, f32> {
        self.cell_logit
    }
}

/// The flow picture of Cellpose (`plot.dx_to_circ` of 3.1.1): hue is direction, brightness is length, stretched from
/// the 1st to the 99th percentile.
pub fn flow_picture(flows: &Flows<'_>) -> RgbImage {
    let flow = flows.flow;
    let (dy, dx) = (
        flow.index_axis(ndarray::Axis(0), 0),
        flow.index_axis(ndarray::Axis(0), 1),
    );
    let mut length = Array2::zeros(dy.dim());
    ndarray::Zip::from(&mut length)
        .and(&dy)
        .and(&dx)
        .for_each(|length, &dy, &dx| *length = (dy * dy + dx * dx).sqrt());
    let (low, range) = stretch(length.view());
    let (height, width) = dy.dim();
    RgbImage::from_fn(width as u32, height as u32, |x, y| {
        let at = [y as usize, x as usize];
        let angle = dx[at].atan2(dy[at]) + PI;
        let half = 255.0 * stretched(length[at], low, range) / 2.0;
        Rgb([0.0, 2.0, 4.0].map(|third| {
            // `as` cuts off the fraction and keeps to 0..=255, as NumPy's clip and astype do.
            (half * ((angle + third * PI / 3.0).cos() + 1.0)) as u8
        }))
    })
}

/// Cell logits stretched to bytes from the 1st to the 99th percentile, as `io.masks_flows_to_seg` of Cellpose 3.1.1.
pub(super) fn logit_bytes(flows: &Flows<'_>) -> Vec<u8> {
    let (low, range) = stretch(flows.cell_logit);
    flows
        .cell_logit
        .iter()
        .map(|&logit| (stretched(logit, low, range) * 255.0) as u8)
        .collect()
}

/// The 1st percentile, and the distance to the 99th if that is more than 0.001 (`transforms.normalize99`).
fn stretch(values: ArrayView2<'_, f32>) -> (f32, Option<f32>) {
    let (low, high) = percentiles(values.iter().copied(), 0.01, 0.99);
    let range = high - low;
    (low, (range > 1e-3).then_some(range))
}

fn stretched(value: f32, low: f32, range: Option<f32>) -> f32 {
    range.map_or(0.0, |range| ((value - low) / range).clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::Array3;

    #[test]
    fn direction_becomes_hue() {
        // Lengths 0..99 along x, all pointing down (dy > 0): the angle is pi, where red is darkest.
        let flow = Array3::from_shape_fn(
            (2, 1, 100),
            |(axis, _, x)| if axis == 0 { x as f32 } else { 0.0 },
        );
        let logit = Array2::zeros((1, 100));
        let picture = flow_picture(&Flows::new(flow.view(), logit.view()).unwrap());
        assert_eq!(picture.get_pixel(0, 0).0, [0, 0, 0]);
        assert_eq!(picture.get_pixel(99, 0).0, [0, 191, 191]);
    }

    #[test]
    fn shapes_must_fit() {
        let flow = Array3::zeros((2, 3, 4));
        assert!(Flows::new(flow.view(), Array2::zeros((3, 5)).view()).is_err());
    }
}
