//! Which plane of a file becomes the image, and which axis its channels.

use ndarray::{Array3, ArrayD, Axis as NdAxis, IxDyn};

use super::axes::{Axes, Axis, Layout};
use super::sample::Sample;

/// Which part of a [`Layout`] becomes the image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Selection {
    pub y: usize,
    pub x: usize,
    pub channel: Option<usize>,
    /// The channel axis was guessed from its size.
    pub inferred: bool,
    /// One index per axis, of use where the axis is none of the three above.
    pub at: Vec<usize>,
    /// How many planes there were to choose from.
    pub planes: usize,
}

/// Largest number of channels that Cellpose's `convert_image` takes for channels rather than Z planes.
const MOST_INFERRED_CHANNELS: usize = 5;

/// 32 GiB of 32-bit floats.
const MOST_VALUES: usize = 1 << 33;

impl Selection {
    /// Decides what the axes are, as `transforms.convert_image` and `move_min_dim` of Cellpose 3.1.1 do where
    /// the file leaves it open: the smallest of three axes holds channels if it has at most five entries.
    ///
    /// # Errors
    /// A sentence that says which axis is in the way and what to set.
    pub fn choose(layout: &Layout, wish: &Axes) -> Result<Self, String> {
        let count = layout.sizes.len();
        if let Some(axis) = wish.channel_axis.filter(|&axis| axis >= count) {
            return Err(format!(
                "channel axis {axis} was asked for, but the file has {count} axes ({}); \
                 choose 0 to {}",
                layout.describe(),
                count.saturating_sub(1)
            ));
        }
        let find = |wanted| layout.axes.iter().position(|&axis| axis == wanted);
        let (y, x, mut channel, inferred) = match (find(Axis::Y), find(Axis::X)) {
            (Some(y), Some(x)) => {
                let (channel, inferred) = channel_of_known(layout, wish, y, x)?;
                (y, x, channel, inferred)
            }
            _ => infer(layout, wish)?,
        };
        if channel.is_none() {
            // A channel axis of one entry is still one.
            channel = find(Axis::Channel).filter(|&axis| axis != y && axis != x);
        }
        let others: Vec<usize> = (0..count)
            .filter(|&axis| axis != y && axis != x && Some(axis) != channel)
            .collect();
        let planes: usize = others.iter().map(|&axis| layout.sizes[axis]).product();
        let plane = match wish.plane {
            None if planes > 1 => return Err(stack_refused(layout, &others)),
            None => 0,
            Some(plane) if plane < planes => plane,
            Some(plane) => {
                return Err(format!(
                    "plane {plane} was asked for, but there {} ({}); planes count from 0",
                    if planes == 1 {
                        "is 1 plane".to_owned()
                    } else {
                        format!("are {planes} planes")
                    },
                    layout.describe()
                ));
            }
        };
        let values = channel
            .map_or(1, |axis| layout.sizes[axis])
            .saturating_mul(layout.sizes[y])
            .saturating_mul(layout.sizes[x]);
        if values > MOST_VALUES {
            return Err(format!(
                "an image of {values} values is more than SelfAdapt takes at once ({}); cut it into smaller ones",
                layout.describe()
            ));
        }
        let mut at = vec![0; count];
        let mut rest = plane;
        for &axis in others.iter().rev() {
            let size = layout.sizes[axis].max(1);
            at[axis] = rest % size;
            rest /= size;
        }
        Ok(Self {
            y,
            x,
            channel,
            inferred,
            at,
            planes,
        })
    }

    /// `(channels, height, width)` of the image.
    pub fn shape(&self, layout: &Layout) -> (usize, usize, usize) {
        let channels = self.channel.map_or(1, |axis| layout.sizes[axis]);
        (channels, layout.sizes[self.y], layout.sizes[self.x])
    }

    /// Cuts the image `[C, H, W]` out of the whole array, whose axes are `sizes` in row-major order.
    ///
    /// # Errors
    /// If `data` has not as many numbers as `sizes` says.
    pub fn cut<T: Sample>(&self, sizes: &[usize], data: Vec<T>) -> Result<Array3<T>, String> {
        let found = data.len();
        let mut array = ArrayD::from_shape_vec(IxDyn(sizes), data).map_err(|_| {
            format!(
                "expected {} numbers, found {found}",
                sizes.iter().product::<usize>()
            )
        })?;
        let mut kept: Vec<usize> = (0..sizes.len()).collect();
        for axis in (0..sizes.len()).rev() {
            if axis != self.y && axis != self.x && Some(axis) != self.channel {
                array.index_axis_inplace(NdAxis(axis), self.at[axis]);
                kept.remove(axis);
            }
        }
        let place = |wanted: usize| kept.iter().position(|&axis| axis == wanted).unwrap_or(0);
        let array = match self.channel {
            Some(channel) => {
                array.permuted_axes(vec![place(channel), place(self.y), place(self.x)])
            }
            None => array
                .permuted_axes(vec![place(self.y), place(self.x)])
                .insert_axis(NdAxis(0)),
        };
        let image = array
            .into_dimensionality()
            .map_err(|error| error.to_string())?;
        Ok(image.as_standard_layout().into_owned())
    }
}

/// The channel axis where Y and X are known.
fn channel_of_known(
    layout: &Layout,
    wish: &Axes,
    y: usize,
    x: usize,
) -> Result<(Option<usize>, bool), String> {
    if let Some(axis) = wish.channel_axis {
        if axis == y || axis == x {
            return Err(format!(
                "channel axis {axis} was asked for, but that is the {} axis ({})",
                layout.axes[axis].letter(),
                layout.describe()
            ));
        }
        return Ok((Some(axis), false));
    }
    let long: Vec<usize> = (0..layout.sizes.len())
        .filter(|&a| a != y && a != x && layout.sizes[a] > 1)
        .collect();
    let channels: Vec<usize> = long
        .iter()
        .copied()
        .filter(|&a| layout.axes[a] == Axis::Channel)
        .collect();
    match (channels.as_slice(), long.as_slice()) {
        ([], &[only]) if layout.axes[only] == Axis::Unknown && wish.plane.is_none() => {
            let few = layout.sizes[only] <= MOST_INFERRED_CHANNELS;
            Ok((few.then_some(only), few))
        }
        ([], _) => Ok((None, false)),
        (&[channel], _) => Ok((Some(channel), false)),
        _ => Err(format!(
            "there are two channel axes ({}); name one as the channel axis and choose a plane of the other",
            layout.describe()
        )),
    }
}

/// All four answers where no axis is known.
fn infer(layout: &Layout, wish: &Axes) -> Result<(usize, usize, Option<usize>, bool), String> {
    let mut left: Vec<usize> = (0..layout.sizes.len())
        .filter(|&axis| Some(axis) != wish.channel_axis)
        .collect();
    let size = |axis: usize| layout.sizes[axis];
    let room = if wish.channel_axis.is_some() { 2 } else { 3 };
    while left.len() > room {
        match left.iter().position(|&axis| size(axis) == 1) {
            Some(place) => left.remove(place),
            None => break,
        };
    }
    let mut channel = wish.channel_axis;
    let single_stack = left.len() == 3 && wish.plane.is_some();
    if channel.is_none() && left.len() > 2 && !single_stack {
        let smallest = left.iter().map(|&axis| size(axis)).min().unwrap_or(0);
        let last = left.len() - 1;
        if smallest <= MOST_INFERRED_CHANNELS {
            // Cellpose prefers the last axis, then the first that is as small.
            let place = if size(left[last]) == smallest {
                last
            } else {
                left.iter()
                    .position(|&axis| size(axis) == smallest)
                    .unwrap_or(last)
            };
            channel = Some(left.remove(place));
        }
    }
    match left.as_slice() {
        [.., y, x] => Ok((
            *y,
            *x,
            channel,
            wish.channel_axis.is_none() && channel.is_some(),
        )),
        _ => Err(format!(
            "expected an image of two or more axes, found {}",
            layout.describe()
        )),
    }
}

fn stack_refused(layout: &Layout, others: &[usize]) -> String {
    let long: Vec<usize> = others
        .iter()
        .copied()
        .filter(|&a| layout.sizes[a] > 1)
        .collect();
    let named: Vec<String> = long
        .iter()
        .map(|&axis| {
            let name = match layout.axes[axis] {
                Axis::Z => "Z".to_owned(),
                Axis::Time => "time".to_owned(),
                _ => format!("axis {axis}"),
            };
            format!("{name} has {} planes", layout.sizes[axis])
        })
        .collect();
    let planes: usize = long.iter().map(|&axis| layout.sizes[axis]).product();
    let first = long.first().copied().unwrap_or(0);
    format!(
        "{} ({}), and images are taken one plane at a time: choose a plane from 0 to {}, or, if these are \
         channels, name the channel axis ({first})",
        named.join(" and "),
        layout.describe(),
        planes.saturating_sub(1)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::sample::Dtype;

    fn layout(letters: &str, sizes: &[usize]) -> Layout {
        Layout {
            sizes: sizes.to_vec(),
            axes: letters.chars().map(Axis::from_letter).collect(),
            origin: "test",
            dtype: Dtype::U8,
        }
    }

    fn shape(letters: &str, sizes: &[usize], wish: Axes) -> Result<(usize, usize, usize), String> {
        let layout = layout(letters, sizes);
        Selection::choose(&layout, &wish).map(|selection| selection.shape(&layout))
    }

    #[test]
    fn unknown_axes_are_read_as_cellpose_reads_them() {
        let none = Axes::default();
        assert_eq!(shape("??", &[40, 50], none), Ok((1, 40, 50)));
        assert_eq!(shape("???", &[3, 40, 50], none), Ok((3, 40, 50)));
        assert_eq!(shape("???", &[40, 50, 5], none), Ok((5, 40, 50)));
        assert_eq!(shape("???", &[40, 3, 50], none), Ok((3, 40, 50)));
        assert_eq!(
            shape("???", &[4, 40, 4], none),
            Ok((4, 4, 40)),
            "the last of equals"
        );
        assert_eq!(shape("???", &[1, 40, 50], none), Ok((1, 40, 50)));
        assert_eq!(shape("????", &[1, 40, 50, 2], none), Ok((2, 40, 50)));
        let refused = shape("???", &[6, 40, 50], none).unwrap_err();
        assert!(
            refused.contains("axis 0 has 6 planes") && refused.contains("0 to 5"),
            "{refused}"
        );
        assert!(
            shape("?", &[40], none)
                .unwrap_err()
                .contains("two or more axes")
        );
    }

    #[test]
    fn wishes_come_first() {
        let channel = |axis| Axes {
            channel_axis: Some(axis),
            plane: None,
        };
        let plane = |plane| Axes {
            channel_axis: None,
            plane: Some(plane),
        };
        assert_eq!(shape("???", &[6, 40, 50], channel(0)), Ok((6, 40, 50)));
        assert_eq!(shape("???", &[3, 40, 50], plane(2)), Ok((1, 40, 50)));
        assert_eq!(shape("ZYX", &[3, 40, 50], channel(0)), Ok((3, 40, 50)));
        assert!(
            shape("ZYX", &[3, 40, 50], channel(1))
                .unwrap_err()
                .contains("Y axis")
        );
        assert!(
            shape("ZYX", &[3, 40, 50], channel(7))
                .unwrap_err()
                .contains("3 axes")
        );
        assert!(
            shape("YX", &[40, 50], plane(1))
                .unwrap_err()
                .contains("is 1 plane")
        );
        assert_eq!(shape("YX", &[40, 50], plane(0)), Ok((1, 40, 50)));
    }

    #[test]
    fn metadata_beats_size() {
        assert_eq!(shape("CYX", &[9, 40, 50], Axes::default()), Ok((9, 40, 50)));
        let refused = shape("ZCYX", &[4, 2, 40, 50], Axes::default()).unwrap_err();
        assert!(refused.contains("Z has 4 planes"), "{refused}");
        let both = Axes {
            channel_axis: None,
            plane: Some(3),
        };
        assert_eq!(shape("ZCYX", &[4, 2, 40, 50], both), Ok((2, 40, 50)));
        assert!(
            shape("CYXC", &[2, 40, 50, 3], Axes::default())
                .unwrap_err()
                .contains("two channel axes")
        );
    }

    #[test]
    fn cutting_takes_the_right_numbers() {
        let layout = layout("TZYXC", &[2, 3, 2, 2, 2]);
        let wish = Axes {
            channel_axis: None,
            plane: Some(4),
        }; // t = 1, z = 1
        let selection = Selection::choose(&layout, &wish).unwrap();
        let data: Vec<f64> = (0..48).map(f64::from).collect();
        let image = selection.cut(&layout.sizes, data).unwrap();
        let expected: Vec<f64> = [32, 34, 36, 38, 33, 35, 37, 39].map(f64::from).to_vec();
        assert_eq!(image.iter().copied().collect::<Vec<_>>(), expected);
    }
}
