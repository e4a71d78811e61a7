//! Areas of intersections against counting, and suppression in easy, degenerate and many cases.

use proptest::prelude::*;

use super::intersection::{area_in, intersection_area};
use super::polygon::Polygon;
use super::{Stars, best_first, suppress};

fn polygon(corners: &[[i32; 2]]) -> Polygon {
    Polygon::new(corners.to_vec())
}

fn square(x: i32, y: i32, side: i32) -> Polygon {
    polygon(&[[x, y], [x + side, y], [x + side, y + side], [x, y + side]])
}

#[test]
fn areas_of_known_intersections() {
    let unit = square(0, 0, 10);
    for (other, expected) in [
        (square(0, 0, 10), 100.),
        (square(5, 5, 10), 25.),
        (square(10, 0, 10), 0.),
        (square(10, 10, 10), 0.),
        (square(2, 2, 3), 9.),
        (square(-5, 0, 10), 50.),
        (square(20, 20, 5), 0.),
        // The other sense of rotation.
        (polygon(&[[0, 0], [0, 10], [10, 10], [10, 0]]), 100.),
        // A corner touches the middle of an edge.
        (polygon(&[[5, 0], [8, -4], [2, -4]]), 0.),
        (polygon(&[[5, 0], [8, 4], [2, 4]]), 12.),
        // A spike out of the square has no area.
        (
            polygon(&[[2, 2], [6, 2], [6, 40], [6, 2], [6, 6], [2, 6]]),
            16.,
        ),
        // Figure of eight: both loops count.
        (polygon(&[[0, 0], [4, 4], [4, 0], [0, 4]]), 8.),
        // A loop run through twice counts once.
        (
            polygon(&[
                [0, 0],
                [4, 0],
                [4, 4],
                [0, 4],
                [0, 0],
                [4, 0],
                [4, 4],
                [0, 4],
            ]),
            16.,
        ),
        (polygon(&[[3, 3]]), 0.),
        (polygon(&[[3, 3], [7, 5]]), 0.),
    ] {
        assert_eq!(intersection_area(&unit, &other), expected, "{other:?}");
        assert_eq!(intersection_area(&other, &unit), expected, "{other:?}");
    }
}

#[test]
fn corners_of_intersections_are_rounded_to_whole_pixels() {
    // The edges cross at (2.5, 2.5), which becomes (3, 3).
    let a = polygon(&[[0, 0], [5, 5], [0, 5]]);
    let b = polygon(&[[0, 0], [5, 0], [0, 5]]);
    assert_eq!(intersection_area(&a, &b), 7.5);
}

#[test]
fn straight_corners_do_not_count() {
    // pyclipper says so: the crossing (15.5, 6) becomes (16, 6), and the corner (15, 7) before it is dropped.
    let a = polygon(&[[16, 5], [30, 5], [30, 20], [14, 9], [15, 7]]);
    let b = polygon(&[[10, 6], [40, 6], [40, 40], [10, 40]]);
    assert_eq!(a.corners.len(), 4);
    assert_eq!(intersection_area(&a, &b), 133.);
    assert!(
        polygon(&[[0, 0], [4, 4], [8, 8], [2, 2]])
            .corners
            .is_empty()
    );
    assert!(polygon(&[[5, 5]; 32]).corners.is_empty());
}

/// Pixels of a fine lattice that lie in both, by even-odd counting of simple polygons.
fn counted(a: &Polygon, b: &Polygon) -> f64 {
    const FINE: i64 = 8;
    let inside = |p: &Polygon, x: f64, y: f64| {
        let n = p.corners.len();
        (0..n).fold(false, |inside, i| {
            let ([x0, y0], [x1, y1]) = (
                p.corners[i].map(f64::from),
                p.corners[(i + 1) % n].map(f64::from),
            );
            if (y0 > y) != (y1 > y) && x < x0 + (y - y0) * (x1 - x0) / (y1 - y0) {
                !inside
            } else {
                inside
            }
        })
    };
    let mut count = 0;
    for i in a.bounds.low[1] * FINE..a.bounds.high[1] * FINE {
        for j in a.bounds.low[0] * FINE..a.bounds.high[0] * FINE {
            let (x, y) = (
                (j as f64 + 0.5) / FINE as f64,
                (i as f64 + 0.5) / FINE as f64,
            );
            count += i32::from(inside(a, x, y) && inside(b, x, y));
        }
    }
    f64::from(count) / (FINE * FINE) as f64
}

fn star() -> impl Strategy<Value = (f32, f32, Vec<f32>)> {
    (
        0f32..30.,
        0f32..30.,
        prop::collection::vec(4f32..20., 8..24),
    )
}

fn polygon_of((y, x, distances): &(f32, f32, Vec<f32>)) -> Polygon {
    let stars = Stars {
        centres: &[[*y, *x]],
        distances,
        rays: distances.len(),
    };
    super::polygon::polygons(&stars).pop().unwrap()
}

proptest! {
    #[test]
    fn areas_are_those_counted(a in star(), b in star()) {
        let (a, b) = (polygon_of(&a), polygon_of(&b));
        let found = intersection_area(&a, &b);
        prop_assert_eq!(found, intersection_area(&b, &a));
        prop_assert!(intersection_area(&a, &a) <= a.area + 1e-9);
        if a.turn != 0 && b.turn != 0 {
            // Each crossing moves by up to half a pixel, and there are about twice as many as rays at most.
            let expected = counted(&a, &b);
            prop_assert!((found - expected).abs() < 0.12 * a.area.min(b.area) + 12., "{found} for {expected}");
            prop_assert_eq!(intersection_area(&a, &a), a.area);
        }
    }

    #[test]
    fn wide_numbers_give_the_same(a in star(), b in star()) {
        let (a, b) = (polygon_of(&a), polygon_of(&b));
        prop_assert_eq!(area_in::<i64>(&a, &b), area_in::<i128>(&a, &b));
    }
}

fn circle(radius: f32) -> Vec<f32> {
    vec![radius; 32]
}

#[test]
fn the_best_of_those_that_overlap_survives() {
    let centres = [[50., 50.], [52., 51.], [50., 90.], [50., 79.], [200., 200.]];
    let distances = [10., 9., 10., 10., 3.].map(circle).concat();
    let stars = Stars {
        centres: &centres,
        distances: &distances,
        rays: 32,
    };
    // 1 lies in 0; 3 shares a third with 2.
    assert_eq!(suppress(stars, 0.3).unwrap(), [0, 2, 4]);
    assert_eq!(suppress(stars, 0.5).unwrap(), [0, 2, 3, 4]);
    assert_eq!(suppress(stars, 1.).unwrap(), [0, 1, 2, 3, 4]);
}

#[test]
fn a_suppressed_star_suppresses_none() {
    let centres = [[50., 50.], [50., 56.], [50., 64.]];
    let distances = [10.; 3].map(circle).concat();
    let stars = Stars {
        centres: &centres,
        distances: &distances,
        rays: 32,
    };
    assert_eq!(suppress(stars, 0.4).unwrap(), [0, 2]);
}

#[test]
fn none_one_and_points_survive() {
    let stars = |centres, distances| Stars {
        centres,
        distances,
        rays: 4,
    };
    assert!(suppress(stars(&[], &[]), 0.3).unwrap().is_empty());
    assert_eq!(suppress(stars(&[[1., 1.]], &[0.; 4]), 0.3).unwrap(), [0]);
    // Cut to whole pixels, a thousandth of one becomes a triangle at (5, 5), as in the original.
    let points = [[5., 5.]; 3];
    assert_eq!(suppress(stars(&points, &[1e-3; 12]), 0.3).unwrap(), [0]);
    // Without area nothing overlaps.
    assert_eq!(suppress(stars(&points, &[0.; 12]), 0.3).unwrap(), [0, 1, 2]);
}

#[test]
fn impossible_stars_are_refused() {
    let say = |centres: &[[f32; 2]], distances: &[f32], rays| {
        let stars = Stars {
            centres,
            distances,
            rays,
        };
        suppress(stars, 0.3).unwrap_err().to_string()
    };
    assert!(say(&[[0., 0.]], &[1.; 2], 2).contains("at least 3 rays"));
    assert!(say(&[[0., 0.]], &[1.; 5], 4).contains("4 distances for each of 1 stars, found 5"));
    assert!(say(&[[0., 0.]], &[1., f32::NAN, 1., 1.], 4).contains("finite"));
    assert!(say(&[[0., 0.]], &[1., 1e8, 1., 1.], 4).contains("wider than"));
}

#[test]
fn many_stars_give_the_same_on_any_number_of_threads() {
    let mut centres = Vec::new();
    let mut distances = Vec::new();
    for i in 0..1500u32 {
        let noise = |k: u32| ((i * 32 + k) * 2_654_435 % 1009) as f32 / 1009.;
        centres.push([noise(40) * 300., noise(77) * 300.]);
        distances.extend((0..32).map(|k| 6. + 6. * noise(1000) + noise(k)));
    }
    let stars = Stars {
        centres: &centres,
        distances: &distances,
        rays: 32,
    };
    let on = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
        pool.unwrap().install(|| suppress(stars, 0.3)).unwrap()
    };
    let kept = on(1);
    assert_eq!(kept, on(4));
    // The definition, without grid or bounds.
    let polygons = super::polygon::polygons(&stars);
    let mut slow: Vec<usize> = Vec::new();
    for index in 0..polygons.len() {
        let free =
            |&best: &usize| super::intersection::overlap(&polygons[best], &polygons[index]) <= 0.3;
        if slow.iter().all(free) {
            slow.push(index);
        }
    }
    assert_eq!(kept, slow);
}

#[test]
fn equal_probabilities_come_last_first() {
    assert_eq!(best_first(&[0.5, 0.9, 0.5, 0.1]), [1, 2, 0, 3]);
}
