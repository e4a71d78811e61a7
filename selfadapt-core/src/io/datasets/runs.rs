//! Masks as COCO stores them: runs down the columns, their text form, and outlines filled as pycocotools fills them.

/// A mask's foreground as runs `(first, length)` of pixels numbered down the columns: pixel `(row, column)` of an image
/// of height `h` is `column * h + row`. Runs ascend, do not overlap, and none is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Runs {
    height: u32,
    runs: Vec<(u32, u32)>,
}

/// Boundaries are followed in steps of a fifth of a pixel, as in `rleFrPoly` of pycocotools.
const STEPS: f64 = 5.;

/// The longest side of an image that masks are made for.
pub const LONGEST_SIDE: u32 = 1 << 14;

impl Runs {
    /// From run lengths that begin with background and alternate.
    ///
    /// # Errors
    /// A sentence, if they do not cover the image `(height, width)` exactly.
    pub fn from_counts(size: (u32, u32), counts: &[u32]) -> Result<Self, String> {
        let pixels = pixels(size)?;
        let (mut at, mut runs) = (0_u64, Vec::new());
        for (number, &count) in counts.iter().enumerate() {
            if number % 2 == 1 && count > 0 {
                // Within the sum that is compared below; a larger one ends the loop.
                runs.push((at as u32, count));
            }
            at += u64::from(count);
            if at > u64::from(pixels) {
                break;
            }
        }
        if at != u64::from(pixels) {
            let (height, width) = size;
            let than = if at > u64::from(pixels) {
                "more"
            } else {
                "fewer"
            };
            return Err(format!(
                "expected run lengths of {height} x {width} = {pixels} pixels, found {than}"
            ));
        }
        Ok(Self {
            height: size.0,
            runs,
        })
    }

    /// From COCO's compressed text: each number in groups of five bits, characters 48 to 111, the lowest group first and
    /// from the fourth number on as the difference to the last but one.
    ///
    /// # Errors
    /// A sentence, if the text is no such thing or does not cover the image exactly.
    pub fn from_text(size: (u32, u32), text: &str) -> Result<Self, String> {
        let mut counts: Vec<u32> = Vec::new();
        let mut bytes = text.bytes();
        while let Some(first) = bytes.next() {
            let (mut value, mut shift, mut byte) = (0_i64, 0, first);
            loop {
                let group = byte
                    .checked_sub(48)
                    .filter(|group| *group < 64)
                    .ok_or_else(|| format!("a byte {byte} does not belong into run lengths"))?;
                if shift > 30 {
                    return Err("a run length of more than 32 bits".into());
                }
                value |= i64::from(group & 0x1f) << shift;
                shift += 5;
                if group & 0x20 == 0 {
                    if group & 0x10 != 0 {
                        value -= 1 << shift;
                    }
                    break;
                }
                byte = bytes.next().ok_or("the run lengths are cut off")?;
            }
            if let [.., before, _] = counts[..]
                && counts.len() > 2
            {
                value += i64::from(before);
            }
            counts
                .push(u32::try_from(value).map_err(|_| format!("a run length of {value} pixels"))?);
        }
        Self::from_counts(size, &counts)
    }

    /// The inside of an outline `x, y, x, y, ...` in pixels, `(0, 0)` being the corner of the first pixel: `rleFrPoly` of
    /// pycocotools, to the pixel. An outline of fewer than three points, or one beside the image, has no inside.
    ///
    /// # Errors
    /// A sentence, if a number is missing or not finite, or the outline leaves the image by more than about its size.
    pub fn from_outline(size: (u32, u32), outline: &[f64]) -> Result<Self, String> {
        let pixels = pixels(size)?;
        let (height, width) = size;
        if !outline.len().is_multiple_of(2) {
            return Err(format!(
                "an outline of {} numbers, of which two make a point",
                outline.len()
            ));
        }
        if let Some(bad) = outline.iter().find(|value| !value.is_finite()) {
            return Err(format!("a coordinate {bad} in an outline"));
        }
        let mut this = Self {
            height,
            runs: Vec::new(),
        };
        let points: Vec<(f64, f64)> = outline.chunks_exact(2).map(|p| (p[0], p[1])).collect();
        let beside = |of: fn(&(f64, f64)) -> f64, side: u32| {
            points.iter().all(|point| of(point) < -1.)
                || points.iter().all(|point| of(point) > f64::from(side) + 1.)
        };
        if points.len() < 3 || beside(|point| point.0, width) || beside(|point| point.1, height) {
            return Ok(this);
        }
        // What is followed step by step must be of the image's order.
        let far = 2. * f64::from(width.max(height)) + 256.;
        if let Some((x, y)) = points.iter().find(|(x, y)| x.abs().max(y.abs()) > far) {
            return Err(format!(
                "an outline goes through ({x}, {y}), far outside of the image of {height} x {width} pixels"
            ));
        }
        let mut toggles = toggles(size, &points);
        toggles.push(pixels);
        toggles.sort_unstable();
        // Where the state changes twice it does not change.
        let mut open = None;
        let mut rest = toggles.as_slice();
        while let Some(&at) = rest.first() {
            let same = rest.iter().take_while(|&&other| other == at).count();
            rest = &rest[same..];
            if same % 2 == 0 && at < pixels {
                continue;
            }
            open = match open {
                Some(first) => {
                    this.push(first, at);
                    None
                }
                None => Some(at),
            };
        }
        Ok(this)
    }

    /// All pixels that are in any of `masks`.
    pub fn union(masks: Vec<Self>) -> Self {
        let height = masks.first().map_or(0, |mask| mask.height);
        let mut all: Vec<(u32, u32)> = masks.into_iter().flat_map(|mask| mask.runs).collect();
        all.sort_unstable();
        let mut runs: Vec<(u32, u32)> = Vec::with_capacity(all.len());
        for (first, length) in all {
            match runs.last_mut() {
                Some((start, so_far)) if *start + *so_far >= first => {
                    *so_far = (*so_far).max(first + length - *start);
                }
                _ => runs.push((first, length)),
            }
        }
        Self { height, runs }
    }

    /// How many pixels there are.
    pub fn area(&self) -> usize {
        self.runs.iter().map(|&(_, length)| length as usize).sum()
    }

    /// Its pixels, `(row, column)`, down the columns.
    pub fn pixels(&self) -> impl Iterator<Item = (usize, usize)> + '_ {
        let height = self.height.max(1);
        self.runs
            .iter()
            .flat_map(|&(first, length)| first..first + length)
            .map(move |pixel| ((pixel % height) as usize, (pixel / height) as usize))
    }

    fn push(&mut self, first: u32, end: u32) {
        if end > first {
            self.runs.push((first, end - first));
        }
    }
}

/// `height * width`, if masks are made for such an image.
fn pixels((height, width): (u32, u32)) -> Result<u32, String> {
    if height == 0 || width == 0 || height > LONGEST_SIDE || width > LONGEST_SIDE {
        return Err(format!(
            "expected an image of 1 to {LONGEST_SIDE} pixels a side, found {height} x {width}"
        ));
    }
    Ok(height * width)
}

/// Where, down the columns, the boundary passes from outside to inside or back.
fn toggles((height, width): (u32, u32), points: &[(f64, f64)]) -> Vec<u32> {
    let fine = |value: f64| (STEPS * value + 0.5) as i64;
    let corners: Vec<(i64, i64)> = points.iter().map(|&(x, y)| (fine(x), fine(y))).collect();
    let coarse = |fine: i64| (fine as f64 + 0.5) / STEPS - 0.5;
    let (last_column, below) = (f64::from(width - 1), f64::from(height));
    let mut toggles = Vec::new();
    let mut before: Option<(i64, i64)> = None;
    let mut step = |u: i64, v: i64| {
        if let Some((last_u, last_v)) = before
            && u != last_u
        {
            let x = coarse(if u < last_u { u } else { u - 1 });
            if x.floor() == x && x >= 0. && x <= last_column {
                let y = coarse(v.min(last_v)).clamp(0., below).ceil();
                toggles.push(x as u32 * height + y as u32);
            }
        }
        before = Some((u, v));
    };
    for (number, &start) in corners.iter().enumerate() {
        let end = corners[(number + 1) % corners.len()];
        let (dx, dy) = ((end.0 - start.0).abs(), (end.1 - start.1).abs());
        let along_x = dx >= dy;
        let turned = if along_x {
            start.0 > end.0
        } else {
            start.1 > end.1
        };
        let (from, to) = if turned { (end, start) } else { (start, end) };
        let length = dx.max(dy);
        let slope = if along_x {
            (to.1 - from.1) as f64 / dx.max(1) as f64
        } else {
            (to.0 - from.0) as f64 / dy as f64
        };
        for walked in 0..=length {
            let t = if turned { length - walked } else { walked };
            if along_x {
                // Where both differences are 0, pycocotools divides 0 by 0 and so stays at a point that toggles nothing.
                step(from.0 + t, (from.1 as f64 + slope * t as f64 + 0.5) as i64);
            } else {
                step((from.0 as f64 + slope * t as f64 + 0.5) as i64, from.1 + t);
            }
        }
    }
    toggles
}
