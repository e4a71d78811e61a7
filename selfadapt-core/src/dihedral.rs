//! The eight flips and quarter turns of a square, on images and on what heads mean.

use candle_core::Tensor;
use selfadapt_kernels::views::View;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::head::{Equivariance, Head, HeadKind};

/// A flip left-right (or none), followed by quarter turns counter-clockwise.
///
/// The order and sense are those of `numpy.flip(x, -1)` and `numpy.rot90(x, turns)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dihedral {
    /// Whether columns are reversed first.
    pub flip: bool,
    /// Quarter turns, 0 to 3.
    pub turns: u8,
}

/// Where an output channel comes from: its source channel, and the sign that it takes.
pub type ChannelMap = Vec<(usize, f32)>;

impl Dihedral {
    /// Nothing changes.
    pub const IDENTITY: Self = Self {
        flip: false,
        turns: 0,
    };

    /// All eight; the first four are the turns without a flip.
    pub const ALL: [Self; 8] = [
        Self {
            flip: false,
            turns: 0,
        },
        Self {
            flip: false,
            turns: 1,
        },
        Self {
            flip: false,
            turns: 2,
        },
        Self {
            flip: false,
            turns: 3,
        },
        Self {
            flip: true,
            turns: 0,
        },
        Self {
            flip: true,
            turns: 1,
        },
        Self {
            flip: true,
            turns: 2,
        },
        Self {
            flip: true,
            turns: 3,
        },
    ];

    /// The first `count` views as the paper's and ACTIS' settings use them: 1, 4 (turns), 6 (turns and
    /// the two mirror axes) or 8.
    ///
    /// # Errors
    /// If `count` is none of these.
    pub fn views(count: usize) -> Result<Vec<Self>> {
        match count {
            1 | 4 | 8 => Ok(Self::ALL[..count].to_vec()),
            6 => Ok(vec![
                Self::ALL[0],
                Self::ALL[1],
                Self::ALL[2],
                Self::ALL[3],
                Self::ALL[4],
                Self::ALL[6],
            ]),
            _ => Err(Error::Setting(format!(
                "views: expected 1, 4, 6 or 8, found {count}"
            ))),
        }
    }

    /// The view that undoes this one.
    #[must_use]
    pub fn inverse(self) -> Self {
        // A flip followed by turns is a reflection, and each reflection is its own inverse.
        Self {
            flip: self.flip,
            turns: if self.flip {
                self.turns
            } else {
                (4 - self.turns) % 4
            },
        }
    }

    /// The same view, as kernels name it.
    pub(crate) fn kernel(self) -> View {
        View {
            flip: self.flip,
            turns: self.turns,
        }
    }

    /// Turns images or scalar maps `[B, C, H, W]`; an odd number of turns swaps H and W.
    ///
    /// # Errors
    /// If the tensor has not four axes.
    pub fn on_image(self, images: &Tensor) -> Result<Tensor> {
        let flipped = if self.flip {
            reverse(images, 3)?
        } else {
            images.clone()
        };
        Ok(match self.turns % 4 {
            0 => flipped,
            1 => reverse(&flipped, 3)?.transpose(2, 3)?.contiguous()?,
            2 => reverse(&reverse(&flipped, 2)?, 3)?,
            _ => reverse(&flipped.transpose(2, 3)?.contiguous()?, 3)?,
        })
    }

    /// Turns a head's map `[B, channels, H, W]` together with what its channels mean.
    ///
    /// # Errors
    /// If the map is not that of the head.
    pub fn on_head(self, head: &Head, map: &Tensor) -> Result<Tensor> {
        let turned = self.on_image(map)?;
        let channels = self.channel_map(head)?;
        if channels
            .iter()
            .enumerate()
            .all(|(to, &(from, sign))| to == from && sign > 0.)
        {
            return Ok(turned);
        }
        let planes = channels
            .iter()
            .map(|&(from, sign)| turned.narrow(1, from, 1)?.affine(f64::from(sign), 0.))
            .collect::<candle_core::Result<Vec<_>>>()?;
        Ok(Tensor::cat(&planes, 1)?)
    }

    /// How the channels of a head are exchanged and negated when its map takes this view.
    ///
    /// # Errors
    /// If a vector head has not two channels, or a ray head's channels are no multiple of four.
    pub fn channel_map(self, head: &Head) -> Result<ChannelMap> {
        let n = head.channels;
        match head.kind {
            HeadKind::Classification | HeadKind::Regression(Equivariance::Scalar) => {
                Ok((0..n).map(|channel| (channel, 1.)).collect())
            }
            HeadKind::Regression(Equivariance::Vector) => {
                if n != 2 {
                    return Err(Error::Setting(format!(
                        "head {}: a vector head has 2 channels, found {n}",
                        head.name
                    )));
                }
                let mut map = vec![(0, 1.), (1, if self.flip { -1. } else { 1. })];
                for _ in 0..self.turns % 4 {
                    // A quarter turn counter-clockwise sends (dY, dX) to (-dX, dY).
                    let (y, x) = (map[0], map[1]);
                    map = vec![(x.0, -x.1), y];
                }
                Ok(map)
            }
            HeadKind::Regression(Equivariance::Rays) => {
                // Without a flip or a turn nothing moves, whatever the number.
                if self == Self::ALL[0] {
                    return Ok((0..n).map(|channel| (channel, 1.)).collect());
                }
                if !n.is_multiple_of(4) || n == 0 {
                    return Err(Error::Setting(format!(
                        "head {}: rays turn by quarters only if their number is a multiple of 4, found {n}",
                        head.name
                    )));
                }
                // With phi from +x towards +y: a flip sends phi to pi - phi, a turn to phi - pi / 2.
                let turned = |k: usize| (k + usize::from(self.turns % 4) * (n / 4)) % n;
                let flipped = |k: usize| if self.flip { (n + n / 2 - k) % n } else { k };
                Ok((0..n).map(|k| (flipped(turned(k)), 1.)).collect())
            }
        }
    }
}

/// Reverses one axis.
fn reverse(tensor: &Tensor, axis: usize) -> Result<Tensor> {
    let size = tensor.dim(axis)? as u32;
    let backwards = Tensor::from_iter((0..size).rev(), tensor.device())?;
    Ok(tensor.contiguous()?.index_select(&backwards, axis)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    const VECTOR: Head = Head {
        name: "flows",
        channels: 2,
        kind: HeadKind::Regression(Equivariance::Vector),
    };
    const RAYS: Head = Head {
        name: "dist",
        channels: 32,
        kind: HeadKind::Regression(Equivariance::Rays),
    };

    /// A field sampled on an even square grid around a centre that no view moves.
    fn sample(channels: usize, value: impl Fn(usize, f64, f64) -> f64) -> Tensor {
        const SIZE: usize = 6;
        let mut numbers = Vec::new();
        for channel in 0..channels {
            for row in 0..SIZE {
                for column in 0..SIZE {
                    let at = |i: usize| i as f64 - (SIZE as f64 - 1.) / 2.;
                    numbers.push(value(channel, at(row), at(column)) as f32);
                }
            }
        }
        Tensor::from_vec(numbers, (1, channels, SIZE, SIZE), &Device::Cpu).unwrap()
    }

    /// Where a view sends the vector (dy, dx), and so the point (y, x) about the centre.
    fn send(view: Dihedral, (mut y, mut x): (f64, f64)) -> (f64, f64) {
        if view.flip {
            x = -x;
        }
        for _ in 0..view.turns {
            (y, x) = (-x, y);
        }
        (y, x)
    }

    fn difference(a: &Tensor, b: &Tensor) -> f32 {
        let numbers = |t: &Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        numbers(a)
            .iter()
            .zip(numbers(b))
            .map(|(a, b)| (a - b).abs())
            .fold(0., f32::max)
    }

    #[test]
    fn a_vector_field_turns_with_its_image() {
        // An arbitrary analytic field without symmetry.
        let field = |y: f64, x: f64| (y * y - 0.3 * x + 1., 0.5 * x * y - 2. * y + 0.7);
        for view in Dihedral::ALL {
            let before = sample(
                2,
                |c, y, x| if c == 0 { field(y, x).0 } else { field(y, x).1 },
            );
            // The turned field at p is the turned vector of the field at the point sent to p.
            let after = sample(2, |c, y, x| {
                let source = Dihedral::ALL
                    .iter()
                    .map(|v| send(*v, (y, x)))
                    .find(|&p| send(view, p) == (y, x))
                    .unwrap();
                let vector = send(view, field(source.0, source.1));
                if c == 0 { vector.0 } else { vector.1 }
            });
            assert!(
                difference(&view.on_head(&VECTOR, &before).unwrap(), &after) < 1e-6,
                "{view:?}"
            );
        }
    }

    #[test]
    fn rays_turn_with_their_image() {
        // Distance from each pixel to the border of an off-centre ellipse-like star, along an angle.
        let distance = |y: f64, x: f64, dy: f64, dx: f64| {
            3. + 0.2 * y * dy - 0.4 * x * dx + 0.1 * dx + 0.3 * y
        };
        let direction = |k: usize| {
            let phi = std::f64::consts::TAU * k as f64 / 32.;
            (phi.sin(), phi.cos())
        };
        for view in Dihedral::ALL {
            let before = sample(32, |k, y, x| {
                let (dy, dx) = direction(k);
                distance(y, x, dy, dx)
            });
            let after = sample(32, |k, y, x| {
                let back = |p: (f64, f64)| send(view.inverse(), p);
                let (source, ray) = (back((y, x)), back(direction(k)));
                distance(source.0, source.1, ray.0, ray.1)
            });
            assert!(
                difference(&view.on_head(&RAYS, &before).unwrap(), &after) < 1e-5,
                "{view:?}"
            );
        }
    }

    #[test]
    fn the_inverse_undoes_images_and_heads_of_any_shape() {
        let image = Tensor::arange(0f32, 64. * 15., &Device::Cpu).unwrap();
        for head in [VECTOR, RAYS] {
            let map = image.narrow(0, 0, head.channels * 15).unwrap();
            let map = map.reshape((1, head.channels, 3, 5)).unwrap();
            for view in Dihedral::ALL {
                let there = view.on_head(&head, &map).unwrap();
                let back = view.inverse().on_head(&head, &there).unwrap();
                assert_eq!(difference(&back, &map), 0., "{view:?} {head:?}");
            }
        }
    }

    #[test]
    fn odd_channel_numbers_are_refused() {
        assert!(
            Dihedral::ALL[1]
                .channel_map(&Head {
                    channels: 3,
                    ..VECTOR
                })
                .is_err()
        );
        assert!(
            Dihedral::ALL[1]
                .channel_map(&Head {
                    channels: 6,
                    ..RAYS
                })
                .is_err()
        );
        assert!(Dihedral::views(5).is_err());
    }
}
