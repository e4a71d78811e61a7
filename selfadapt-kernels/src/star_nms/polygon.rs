//! A star polygon on whole pixels: vertices, bounds, area, and whether it is simple.

use rayon::prelude::*;

use super::Stars;

/// Coordinates (x, y).
pub(super) type Point = [i64; 2];

/// Coordinates beyond which nothing can be right.
const RANGE: i64 = 1 << 24;

/// Extents beyond which products might not fit.
const EXTENT: i64 = 1 << 19;

/// The smallest box around a polygon, its edges included.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    pub low: Point,
    pub high: Point,
}

impl Bounds {
    pub fn touch(&self, other: &Self) -> bool {
        (0..2).all(|axis| self.low[axis] <= other.high[axis] && other.low[axis] <= self.high[axis])
    }
}

/// A closed polygon with corners at whole pixels.
#[derive(Clone, Debug)]
pub(super) struct Polygon {
    /// Corners in order, without those where the outline goes straight on or straight back.
    pub corners: Vec<[i32; 2]>,
    pub bounds: Bounds,
    /// Half of the absolute sum over edges, whatever the polygon's winding.
    pub area: f64,
    /// 1 or -1 by the sense of rotation where no two edges touch but at their common corner; else 0.
    pub turn: i64,
}

/// Builds the polygons of all stars.
pub(super) fn polygons(stars: &Stars<'_>) -> Vec<Polygon> {
    let step = (2. * std::f64::consts::PI / stars.rays as f64) as f32;
    // As the original: angles and their sines in single precision.
    let directions: Vec<[f32; 2]> = (0..stars.rays)
        .map(|k| {
            let angle = f64::from(step * k as f32);
            [angle.cos() as f32, angle.sin() as f32]
        })
        .collect();
    stars
        .centres
        .par_iter()
        .zip(stars.distances.par_chunks(stars.rays))
        .map(|(&[y, x], distances)| {
            let corners = distances.iter().zip(&directions).map(|(&d, &[dx, dy])| {
                // Conversion cuts towards zero.
                [(x + d * dx) as i32, (y + d * dy) as i32]
            });
            Polygon::new(corners.collect())
        })
        .collect()
}

pub(super) fn cross(a: Point, b: Point) -> i64 {
    a[0] * b[1] - a[1] * b[0]
}

pub(super) fn minus(a: Point, b: Point) -> Point {
    [a[0] - b[0], a[1] - b[1]]
}

impl Polygon {
    pub fn new(corners: Vec<[i32; 2]>) -> Self {
        let mut bounds = Bounds {
            low: [i64::MAX; 2],
            high: [i64::MIN; 2],
        };
        for corner in &corners {
            for (axis, &at) in corner.iter().enumerate() {
                bounds.low[axis] = bounds.low[axis].min(at.into());
                bounds.high[axis] = bounds.high[axis].max(at.into());
            }
        }
        let mut polygon = Self {
            corners,
            bounds,
            area: 0.,
            turn: 0,
        };
        if polygon.is_out_of_range() {
            return polygon;
        }
        let twice: i64 = polygon
            .edges()
            .map(|(from, along)| cross(from, along))
            .sum();
        polygon.area = 0.5 * twice.abs() as f64;
        straighten(&mut polygon.corners);
        if polygon.is_simple() {
            polygon.turn = twice.signum();
        }
        polygon
    }

    pub fn is_out_of_range(&self) -> bool {
        (0..2).any(|axis| {
            let (low, high) = (self.bounds.low[axis], self.bounds.high[axis]);
            low < -RANGE || high > RANGE || high - low > EXTENT
        })
    }

    /// Edges as (start, vector), relative to the lower corner of the bounds.
    pub fn edges(&self) -> impl Iterator<Item = (Point, Point)> + '_ {
        let count = self.corners.len();
        (0..if count < 2 { 0 } else { count }).map(move |i| {
            let at = |i: usize| {
                let [x, y] = self.corners[i % count];
                minus([x.into(), y.into()], self.bounds.low)
            };
            (at(i), minus(at(i + 1), at(i)))
        })
    }

    /// Whether no two edges meet but neighbours at their common corner.
    fn is_simple(&self) -> bool {
        let edges: Vec<(Point, Point)> = self.edges().collect();
        let count = edges.len();
        if count < 3 {
            return false;
        }
        for (i, &(a, r)) in edges.iter().enumerate() {
            let (_, next) = edges[(i + 1) % count];
            // A spike: the next edge runs back along this one.
            if cross(r, next) == 0 && r[0] * next[0] + r[1] * next[1] < 0 {
                return false;
            }
            for (j, &(c, s)) in edges.iter().enumerate().skip(i + 2) {
                if i == 0 && j + 1 == count {
                    continue;
                }
                if segments_touch(a, r, c, s) {
                    return false;
                }
            }
        }
        true
    }

    /// Whether the overlap with `other` can exceed `threshold`, judged by bounds.
    ///
    /// Corners of the intersection are whole pixels of both bounds, so its area is at most that of their
    /// intersection.
    pub fn may_exceed(&self, other: &Self, threshold: f32) -> bool {
        let common = (0..2).map(|axis| {
            self.bounds.high[axis].min(other.bounds.high[axis])
                - self.bounds.low[axis].max(other.bounds.low[axis])
        });
        let largest: i64 = common.map(|extent| extent.max(0)).product();
        overlap_of(largest as f64, self.area, other.area) > threshold
    }
}

/// Drops corners on a line with their neighbours, spikes among them, until none is left; a polygon without area loses
/// all. Clipper does the same, and it matters: crossings are rounded, so that dropped corners count.
fn straighten(corners: &mut Vec<[i32; 2]>) {
    let mut at = 0;
    // Corners in a row that were found to turn.
    let mut good = 0;
    while corners.len() > 2 && good < corners.len() {
        let count = corners.len();
        at %= count;
        let corner = |i: usize| corners[i % count].map(i64::from);
        let (before, here, after) = (corner(at + count - 1), corner(at), corner(at + 1));
        if cross(minus(here, before), minus(after, here)) == 0 {
            corners.remove(at);
            // Its neighbours may be straight now.
            good = 0;
            at = (at + count - 2) % (count - 1);
        } else {
            good += 1;
            at += 1;
        }
    }
    if corners.len() < 3 {
        corners.clear();
    }
}

/// Intersection over the smaller area, as the original computes it.
pub(super) fn overlap_of(intersection: f64, area: f64, other: f64) -> f32 {
    (intersection / (area + 1e-10).min(other + 1e-10)) as f32
}

/// Whether two segments (start, vector) have a point in common.
fn segments_touch(a: Point, r: Point, c: Point, s: Point) -> bool {
    for axis in 0..2 {
        let (low, high) = (
            a[axis].min(a[axis] + r[axis]),
            a[axis].max(a[axis] + r[axis]),
        );
        if c[axis].min(c[axis] + s[axis]) > high || c[axis].max(c[axis] + s[axis]) < low {
            return false;
        }
    }
    let side = |from: Point, along: Point, to: Point| cross(along, minus(to, from)).signum();
    let end = |from: Point, along: Point| [from[0] + along[0], from[1] + along[1]];
    // With overlapping bounds, segments touch unless one lies strictly on one side of the other.
    side(a, r, c) * side(a, r, end(c, s)) <= 0 && side(c, s, a) * side(c, s, end(a, r)) <= 0
}
