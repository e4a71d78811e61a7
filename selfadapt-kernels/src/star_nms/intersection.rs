//! The area that two polygons share, its corners moved to whole pixels.
//!
//! Every edge is cut where it meets another one. A piece bounds the intersection if both windings are non-zero
//! on one of its sides and not on the other; windings are counted exactly, in whole numbers, so edges that
//! touch, coincide or cross in a corner need no care. The area is the sum of `p x q / 2` over such pieces, their ends
//! rounded to whole pixels as Clipper rounds them.

use super::polygon::{Point, Polygon, cross, minus, overlap_of};

/// Extent of a pair up to which all products fit into 64 bits; see [`windings`].
const SMALL: i64 = 600;

/// Intersection over the smaller of both areas.
pub(super) fn overlap(a: &Polygon, b: &Polygon) -> f32 {
    overlap_of(intersection_area(a, b), a.area, b.area)
}

/// An edge of either polygon.
struct Edge {
    from: Point,
    along: Point,
    /// 0 or 1.
    owner: usize,
    /// Whether it reaches the common part of both bounds.
    relevant: bool,
}

/// A place on an edge, between 0 and 1.
#[derive(Clone, Copy)]
struct Cut {
    over: i64,
    under: i64,
}

impl Cut {
    fn new(over: i64, under: i64) -> Self {
        if under < 0 {
            Self {
                over: -over,
                under: -under,
            }
        } else {
            Self { over, under }
        }
    }

    fn is_inside(self) -> bool {
        0 < self.over && self.over < self.under
    }

    fn before(&self, other: &Self) -> std::cmp::Ordering {
        let left = i128::from(self.over) * i128::from(other.under);
        let right = i128::from(other.over) * i128::from(self.under);
        left.cmp(&right)
    }
}

pub(super) fn intersection_area(a: &Polygon, b: &Polygon) -> f64 {
    let extent = |axis: usize| {
        a.bounds.high[axis].max(b.bounds.high[axis]) - a.bounds.low[axis].min(b.bounds.low[axis])
    };
    if extent(0).max(extent(1)) <= SMALL {
        area_in::<i64>(a, b)
    } else {
        area_in::<i128>(a, b)
    }
}

/// [`intersection_area`], its products in numbers `W`.
pub(super) fn area_in<W: Whole>(a: &Polygon, b: &Polygon) -> f64 {
    let axis = |axis: usize| {
        (
            a.bounds.low[axis].min(b.bounds.low[axis]),
            a.bounds.low[axis].max(b.bounds.low[axis]),
            a.bounds.high[axis].min(b.bounds.high[axis]),
        )
    };
    let (x, y) = (axis(0), axis(1));
    // Everything relative to the lower corner of both, so that numbers stay small.
    let origin = [x.0, y.0];
    let window = [(x.1 - x.0, x.2 - x.0), (y.1 - y.0, y.2 - y.0)];
    let mut edges = Vec::with_capacity(a.corners.len() + b.corners.len());
    for (owner, polygon) in [a, b].into_iter().enumerate() {
        let shift = minus(polygon.bounds.low, origin);
        edges.extend(polygon.edges().map(|(from, along)| {
            let from = [from[0] + shift[0], from[1] + shift[1]];
            let relevant = (0..2).all(|axis| {
                let (start, end) = (from[axis], from[axis] + along[axis]);
                start.min(end) <= window[axis].1 && start.max(end) >= window[axis].0
            });
            Edge {
                from,
                along,
                owner,
                relevant,
            }
        }));
    }
    let turns = [a.turn, b.turn];
    let mut cuts = Vec::new();
    let mut twice = 0;
    for (index, edge) in edges.iter().enumerate() {
        if !edge.relevant {
            continue;
        }
        find_cuts(&edges, index, &turns, &mut cuts);
        for ends in cuts.windows(2) {
            let inside = windings::<W>(&edges, index, ends, &turns);
            let Some([left, right]) = inside else {
                continue;
            };
            if left != right {
                let piece = cross(rounded(edge, ends[0]), rounded(edge, ends[1]));
                twice += if left { piece } else { -piece };
            }
        }
    }
    0.5 * twice as f64
}

/// All places where an edge meets others, in order, with its two ends.
fn find_cuts(edges: &[Edge], index: usize, turns: &[i64; 2], cuts: &mut Vec<Cut>) {
    let edge = &edges[index];
    let r = edge.along;
    cuts.clear();
    cuts.push(Cut { over: 0, under: 1 });
    for (n, other) in edges.iter().enumerate() {
        let known_apart = other.owner == edge.owner && turns[edge.owner] != 0;
        if n == index || !other.relevant || known_apart {
            continue;
        }
        let (apart, s) = (minus(other.from, edge.from), other.along);
        let spread = cross(r, s);
        if spread != 0 {
            let here = Cut::new(cross(apart, s), spread);
            let there = Cut::new(cross(apart, r), spread);
            if here.is_inside() && 0 <= there.over && there.over <= there.under {
                cuts.push(here);
            }
        } else if cross(apart, r) == 0 {
            let under = r[0] * r[0] + r[1] * r[1];
            for end in [apart, [apart[0] + s[0], apart[1] + s[1]]] {
                let here = Cut::new(end[0] * r[0] + end[1] * r[1], under);
                if here.is_inside() {
                    cuts.push(here);
                }
            }
        }
    }
    cuts[1..].sort_by(Cut::before);
    cuts.push(Cut { over: 1, under: 1 });
    cuts.dedup_by(|a, b| a.before(b).is_eq());
}

/// Whole numbers wide enough for the products of a pair.
pub(super) trait Whole:
    Copy
    + From<i64>
    + PartialOrd
    + std::ops::Add<Output = Self>
    + std::ops::Sub<Output = Self>
    + std::ops::Mul<Output = Self>
{
}
impl Whole for i64 {}
impl Whole for i128 {}

/// Whether the points just left and just right of a piece lie in both polygons; nothing if an earlier edge
/// has the same piece.
///
/// With coordinates up to S, the middle of the piece is a fraction over `q <= 8 S^4`, and the largest product is
/// `16 S^6`: below 2^63 for S up to [`SMALL`], and below 2^127 for the 2^20 pixels that two polygons that touch
/// can cover together.
fn windings<W: Whole>(
    edges: &[Edge],
    index: usize,
    ends: &[Cut],
    turns: &[i64; 2],
) -> Option<[bool; 2]> {
    let edge = &edges[index];
    let (start, end) = (ends[0], ends[1]);
    let [rx, ry] = edge.along.map(W::from);
    let q = W::from(2) * W::from(start.under) * W::from(end.under);
    let share = W::from(start.over) * W::from(end.under) + W::from(end.over) * W::from(start.under);
    let middle = [
        W::from(edge.from[0]) * q + rx * share,
        W::from(edge.from[1]) * q + ry * share,
    ];
    let zero = W::from(0);
    let mut left = [0i32; 2];
    // How many edges run through the middle along the piece, less those against it.
    let mut through = [0i32; 2];
    let own_is_known = turns[edge.owner] != 0;
    if own_is_known {
        // The inside of a simple polygon lies on one side of each of its edges.
        left[edge.owner] = i32::from(turns[edge.owner] > 0);
        through[edge.owner] = 1;
    }
    for (n, other) in edges.iter().enumerate() {
        if own_is_known && other.owner == edge.owner {
            continue;
        }
        let from = [
            W::from(other.from[0]) * q - middle[0],
            W::from(other.from[1]) * q - middle[1],
        ];
        let along = other.along.map(W::from);
        // A ray from the middle to the left meets those edges whose ends lie before and behind it.
        let behind = rx * from[0] + ry * from[1] > zero;
        let before = rx * (from[0] + along[0] * q) + ry * (from[1] + along[1] * q) > zero;
        if behind == before {
            continue;
        }
        // Where the middle lies as seen along the other edge: left if positive.
        let side = along[1] * from[0] - along[0] * from[1];
        if side > zero && behind {
            left[other.owner] += 1;
        } else if side < zero && !behind {
            left[other.owner] -= 1;
        } else if side == zero {
            if n < index {
                return None;
            }
            through[other.owner] += if behind { -1 } else { 1 };
        }
    }
    let right = [left[0] - through[0], left[1] - through[1]];
    let both = |windings: [i32; 2]| windings[0] != 0 && windings[1] != 0;
    Some([both(left), both(right)])
}

/// A place on an edge, rounded to whole pixels, halves up.
fn rounded(edge: &Edge, cut: Cut) -> Point {
    std::array::from_fn(|axis| {
        let over = i128::from(edge.from[axis]) * i128::from(cut.under)
            + i128::from(edge.along[axis]) * i128::from(cut.over);
        let under = i128::from(cut.under);
        (2 * over + under).div_euclid(2 * under) as i64
    })
}
