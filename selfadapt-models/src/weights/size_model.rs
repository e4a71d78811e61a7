//! Cellpose's size models (`size_*.npy`): a linear map from an image's style to its cells' diameter.

use std::io::Read;
use std::path::Path;

use selfadapt_core::error::{Error, Result};

use super::{numpy, pickle};

/// The shortest diameter that a size model predicts, in pixels (`SizeModel._size_estimation`).
const SHORTEST: f64 = 5.0;

/// What a size model file holds.
#[derive(Clone, Debug, PartialEq)]
pub struct SizeModel {
    /// `A`: one coefficient per style component.
    pub coefficients: Vec<f64>,
    /// `smean`: the mean style of the training images, as long as `coefficients`.
    pub style_mean: Vec<f64>,
    /// `diam_mean`: the diameter at which the network works, in pixels (30 for cyto, 17 for nuclei).
    pub diam_mean: f64,
    /// `ymean`: the mean of ln(diameter / `diam_mean`) over the training images.
    pub log_ratio_mean: f64,
}

impl SizeModel {
    /// Reads a size model of numpy 1 or 2; nothing in the file is executed.
    ///
    /// # Errors
    /// If the file is not a pickled dict of `A`, `smean`, `diam_mean` and `ymean`, or holds any other object.
    pub fn read(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let complain =
            |reason: String| Error::read(path, format!("not a Cellpose size model: {reason}"));
        let file = std::fs::File::open(path).map_err(|error| Error::read(path, error))?;
        let mut bytes = Vec::new();
        file.take(pickle::MAX_BYTES as u64)
            .read_to_end(&mut bytes)
            .map_err(|error| Error::read(path, error))?;
        Self::parse(&bytes).map_err(complain)
    }

    fn parse(bytes: &[u8]) -> Result<Self, String> {
        let (graph, dict) = numpy::object(bytes)?;
        let entry = |key: &str| {
            let id = graph.entry(dict, key).ok_or_else(|| {
                format!(
                    "expected a dict with A, smean, diam_mean and ymean, found {} without {key}",
                    graph.describe(dict)
                )
            })?;
            let numbers =
                numpy::numbers(&graph, id).map_err(|reason| format!("{key}: {reason}"))?;
            match numbers.iter().find(|number| !number.is_finite()) {
                Some(number) => Err(format!("{key} holds {number}")),
                None => Ok(numbers),
            }
        };
        let single = |key: &str| match entry(key)?.as_slice() {
            [number] => Ok(*number),
            several => Err(format!("{key} has {} numbers, expected one", several.len())),
        };
        let model = Self {
            coefficients: entry("A")?,
            style_mean: entry("smean")?,
            diam_mean: single("diam_mean")?,
            log_ratio_mean: single("ymean")?,
        };
        if model.coefficients.is_empty() || model.coefficients.len() != model.style_mean.len() {
            return Err(format!(
                "A has {} numbers and smean {}, expected as many",
                model.coefficients.len(),
                model.style_mean.len()
            ));
        }
        if model.diam_mean <= 0.0 {
            return Err(format!(
                "diam_mean is {}, expected more than 0",
                model.diam_mean
            ));
        }
        Ok(model)
    }

    /// The diameter in pixels that an image's style suggests, at least 5:
    /// `exp(A · (style - smean) + ln(diam_mean) + ymean)`.
    ///
    /// # Errors
    /// If `style` is not as long as the model's.
    pub fn diameter(&self, style: &[f32]) -> Result<f64> {
        if style.len() != self.coefficients.len() {
            return Err(Error::Weights(format!(
                "the size model takes styles of {} numbers, found {}",
                self.coefficients.len(),
                style.len()
            )));
        }
        let dot: f64 = style
            .iter()
            .zip(&self.style_mean)
            .zip(&self.coefficients)
            .map(|((style, mean), coefficient)| coefficient * (f64::from(*style) - mean))
            .sum();
        Ok((dot + self.diam_mean.ln() + self.log_ratio_mean)
            .exp()
            .max(SHORTEST))
    }
}
