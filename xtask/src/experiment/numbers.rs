//! Means over seeds, shares of gains, and how both are written.

/// A mean over seeds and how far they lie apart.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    /// The mean.
    pub mean: f64,
    /// The standard deviation (n - 1 in its denominator); none of a single number.
    pub deviation: Option<f64>,
}

/// Gains below this are noise, and no share of them is taken.
pub const LEAST_GAIN: f64 = 0.01;

impl Spread {
    /// Of a number that is not drawn.
    pub fn exact(mean: f64) -> Self {
        Self {
            mean,
            deviation: None,
        }
    }

    /// Of one number a seed; not a number of none.
    pub fn of(values: &[f64]) -> Self {
        let count = values.len() as f64;
        let mean = values.iter().sum::<f64>() / count;
        let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
        Self {
            mean,
            deviation: (values.len() > 1).then(|| (squares / (count - 1.)).sqrt()),
        }
    }

    /// As the paper writes scores: `.480 ± .008`. The spread of numbers that are all the same is left out.
    pub fn score(&self) -> String {
        match self.deviation {
            Some(deviation) if deviation > 0. => {
                format!("{} ± {}", score(self.mean), score(deviation))
            }
            _ => score(self.mean),
        }
    }
}

/// A score without its leading zero; a dash where it is not a number.
pub fn score(value: f64) -> String {
    if value.is_nan() {
        return "-".into();
    }
    let text = format!("{value:.3}");
    match text.strip_prefix("0.") {
        Some(digits) => format!(".{digits}"),
        None => text.replacen("-0.", "-.", 1),
    }
}

/// A difference of scores with its sign.
pub fn difference(value: f64) -> String {
    let sign = if value < 0. { "-" } else { "+" };
    format!("{sign}{}", score(value.abs()))
}

/// Which part of the way from `from` to `to` was gone, in percent; a dash where there is hardly a way.
pub fn share(from: f64, to: f64, at: f64) -> String {
    let (way, gone) = (to - from, at - from);
    if way.is_nan() || gone.is_nan() || way < LEAST_GAIN {
        return "-".into();
    }
    format!("{:.0} %", 100. * gone / way)
}

/// A table in Markdown: the first `texts` columns are texts, the others numbers.
pub fn markdown(head: &[&str], texts: usize, rows: &[Vec<String>]) -> String {
    let line = |cells: &[&str]| format!("| {} |\n", cells.join(" | "));
    let rule: Vec<&str> = (0..head.len())
        .map(|column| if column < texts { "---" } else { "---:" })
        .collect();
    let mut text = line(head) + &line(&rule);
    for row in rows {
        let cells: Vec<&str> = row.iter().map(String::as_str).collect();
        text += &line(&cells);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_are_written_as_the_paper_does() {
        assert_eq!(Spread::of(&[0.5, 0.6, 0.7]).score(), ".600 ± .100");
        assert_eq!(Spread::of(&[0.5]).score(), ".500");
        assert_eq!(Spread::of(&[0.25, 0.25]).score(), ".250");
        assert_eq!(Spread::of(&[]).score(), "-");
        assert_eq!(score(1.), "1.000");
        assert_eq!(difference(-0.0121), "-.012");
        assert_eq!(difference(0.2), "+.200");
    }

    #[test]
    fn shares_are_the_papers() {
        // "99.4% and 96.2% of the maximum possible improvement"; "98.6% and 94.4%"; "71.5%", "52.8%".
        for (from, to, at, percent) in [
            (0.603, 0.760, 0.759, "99 %"),
            (0.603, 0.760, 0.754, "96 %"),
            (0.324, 0.395, 0.394, "99 %"),
            (0.324, 0.395, 0.391, "94 %"),
            (0.415, 0.538, 0.503, "72 %"),
            (0.415, 0.538, 0.480, "53 %"),
            (0.5, 0.6, 0.45, "-50 %"),
        ] {
            assert_eq!(share(from, to, at), percent);
        }
        assert_eq!(share(0.5, 0.505, 0.505), "-");
    }
}
