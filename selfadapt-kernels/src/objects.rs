//! Finds the objects of an instance image: their labels, areas and bounding boxes.

use std::ops::Range;

use candle_core::{Result, bail};

/// Fails unless `found` numbers make `channels` planes of `height` by `width` pixels.
pub(crate) fn expect_size(
    op: &str,
    what: &str,
    found: usize,
    [channels, height, width]: [usize; 3],
) -> Result<()> {
    let pixels = height.checked_mul(width).filter(|&n| n < u32::MAX as usize);
    match pixels.and_then(|pixels| pixels.checked_mul(channels)) {
        Some(expected) if expected == found => Ok(()),
        Some(expected) => bail!(
            "{op}: {what}: expected {channels} x {height} x {width} = {expected} numbers, found {found}"
        ),
        None => bail!(
            "{op}: {what}: an image of {height} x {width} pixels is too large, at most 2^32 - 2 pixels \
             are possible; cut it into pieces"
        ),
    }
}

/// The distinct labels of an image, and the place of each among them.
///
/// Memory is bounded by the image, however large its labels are.
pub(crate) struct Numbering {
    sorted: Vec<u32>,
    /// Place by label, where labels are small enough for a table no longer than the image.
    table: Option<Vec<u32>>,
}

impl Numbering {
    /// Collects the labels of an image, background (0) left out.
    pub(crate) fn new(labels: &[u32]) -> Self {
        let largest = labels.iter().copied().max().unwrap_or(0) as usize;
        if largest > labels.len() {
            let mut sorted: Vec<u32> = labels
                .chunk_by(|a, b| a == b)
                .filter_map(|run| run.first().copied().filter(|&label| label != 0))
                .collect();
            sorted.sort_unstable();
            sorted.dedup();
            return Self {
                sorted,
                table: None,
            };
        }
        let mut table = vec![0; largest + 1];
        for &label in labels {
            table[label as usize] = 1;
        }
        table[0] = 0;
        let mut sorted = Vec::new();
        for (label, place) in table.iter_mut().enumerate() {
            if *place == 1 {
                *place = sorted.len() as u32;
                sorted.push(label as u32);
            }
        }
        Self {
            sorted,
            table: Some(table),
        }
    }

    /// The labels in ascending order.
    pub(crate) fn labels(&self) -> &[u32] {
        &self.sorted
    }

    /// The place of a label that the image holds; background and strangers have none that means anything.
    pub(crate) fn place(&self, label: u32) -> usize {
        match &self.table {
            Some(table) => table[label as usize] as usize,
            None => self.sorted.partition_point(|&other| other < label),
        }
    }
}

/// One object of an instance image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    /// Its number in the image, never 0.
    pub label: u32,
    /// Its area in pixels.
    pub pixels: usize,
    /// Rows that it touches.
    pub rows: Range<usize>,
    /// Columns that it touches.
    pub columns: Range<usize>,
}

/// All objects of `labels` `[height, width]`, by ascending label, as SciPy's `find_objects`.
///
/// Labels may have gaps and any size.
///
/// # Errors
/// If `labels` does not hold `height * width` numbers.
pub fn objects(labels: &[u32], height: usize, width: usize) -> Result<Vec<Object>> {
    expect_size("objects", "labels", labels.len(), [1, height, width])?;
    Ok(locate(labels, width, &Numbering::new(labels)))
}

/// [`objects`] for an image whose size is known to fit and whose labels are numbered.
pub(crate) fn locate(labels: &[u32], width: usize, numbering: &Numbering) -> Vec<Object> {
    let mut objects: Vec<Object> = numbering
        .labels()
        .iter()
        .map(|&label| Object {
            label,
            pixels: 0,
            rows: 0..0,
            columns: 0..0,
        })
        .collect();
    for (y, row) in labels.chunks_exact(width.max(1)).enumerate() {
        let mut x = 0;
        for run in row.chunk_by(|a, b| a == b) {
            if run[0] != 0 {
                let object = &mut objects[numbering.place(run[0])];
                let mut columns = x..x + run.len();
                if object.pixels == 0 {
                    object.rows.start = y;
                } else {
                    columns.start = columns.start.min(object.columns.start);
                    columns.end = columns.end.max(object.columns.end);
                }
                object.rows.end = y + 1;
                object.columns = columns;
                object.pixels += run.len();
            }
            x += run.len();
        }
    }
    objects
}

/// Median diameter in pixels of the circles that have the objects' areas, 0 without objects.
///
/// As Cellpose's `utils.diameters`: the median of `sqrt(area)`, divided by `sqrt(pi) / 2`. (Cellpose drops
/// the smallest label where an image has no background at all; here every object counts.)
pub fn median_diameter(labels: &[u32]) -> f64 {
    let numbering = Numbering::new(labels);
    let mut areas = vec![0_u32; numbering.labels().len()];
    for &label in labels.iter().filter(|&&label| label != 0) {
        areas[numbering.place(label)] += 1;
    }
    areas.sort_unstable();
    let side = |i: usize| f64::from(areas[i]).sqrt();
    let median = match areas.len() {
        0 => return 0.0,
        n if n % 2 == 1 => side(n / 2),
        n => (side(n / 2 - 1) + side(n / 2)) / 2.0,
    };
    median / (std::f64::consts::PI.sqrt() / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_have_their_boxes_whatever_their_numbers() {
        for (one, two) in [(1, 2), (3, 9), (7, u32::MAX)] {
            let labels = [0, one, one, 0, two, 0, 0, one, two, two, 0, 0];
            let found = objects(&labels, 3, 4).unwrap();
            let expected = [(one, 3, 0..2, 1..4), (two, 3, 1..3, 0..2)];
            let expected = expected.map(|(label, pixels, rows, columns)| Object {
                label,
                pixels,
                rows,
                columns,
            });
            assert_eq!(found, expected);
        }
    }

    #[test]
    fn sizes_that_do_not_fit_are_errors() {
        let message = objects(&[0; 5], 2, 3).unwrap_err().to_string();
        assert!(message.contains("2 x 3 = 6"), "{message}");
        assert!(objects(&[], usize::MAX, 2).is_err());
        assert!(objects(&[], 1 << 16, 1 << 16).is_err());
        assert!(objects(&[], 0, 7).unwrap().is_empty());
        assert!(objects(&[], 7, 0).unwrap().is_empty());
    }

    #[test]
    fn diameter_is_that_of_the_median_circle() {
        // The example of Cellpose's documentation has areas 2, 1 and 2 once numbered apart.
        let labels = [0, 1, 1, 2, 0, 0, 3, 3, 0];
        let expected = 2_f64.sqrt() / (std::f64::consts::PI.sqrt() / 2.0);
        assert_eq!(median_diameter(&labels), expected);
        let labels = [0, 1, 5, 5, 5, 5];
        assert_eq!(
            median_diameter(&labels),
            1.5 / (std::f64::consts::PI.sqrt() / 2.0)
        );
        assert_eq!(median_diameter(&[0; 4]), 0.0);
        assert_eq!(median_diameter(&[]), 0.0);
    }
}
