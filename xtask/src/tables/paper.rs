//! The paper's printed numbers, from `xtask/paper`.

use crate::steps::Outcome;

use crate::experiment::numbers::Spread;

/// A table of the paper.
#[derive(Clone, Debug)]
pub struct Paper(toml::Table);

impl Paper {
    /// Table 1: model, stop, set.
    ///
    /// # Errors
    /// If the file is not TOML.
    pub fn table1() -> Outcome<Self> {
        parse(include_str!("../../paper/table1.toml"))
    }

    /// Table 2: what is left out, set.
    ///
    /// # Errors
    /// If the file is not TOML.
    pub fn table2() -> Outcome<Self> {
        parse(include_str!("../../paper/table2.toml"))
    }

    /// The number at a place, mean and standard deviation; several where it is not known which; none where there is
    /// no such place.
    pub fn at(&self, place: &[&str]) -> Vec<Spread> {
        let (Some((last, way)), mut table) = (place.split_last(), &self.0) else {
            return Vec::new();
        };
        for key in way {
            match table.get(*key).and_then(toml::Value::as_table) {
                Some(inner) => table = inner,
                None => return Vec::new(),
            }
        }
        let Some(found) = table.get(*last).and_then(toml::Value::as_array) else {
            return Vec::new();
        };
        let numbers = |list: &[toml::Value]| -> Vec<f64> {
            list.iter().filter_map(toml::Value::as_float).collect()
        };
        let spread = |numbers: &[f64]| match numbers {
            [mean] => Some(Spread::exact(*mean)),
            [mean, deviation] => Some(Spread {
                mean: *mean,
                deviation: Some(*deviation),
            }),
            _ => None,
        };
        if found.iter().all(toml::Value::is_float) {
            return spread(&numbers(found)).into_iter().collect();
        }
        let lists = found.iter().filter_map(toml::Value::as_array);
        lists.filter_map(|list| spread(&numbers(list))).collect()
    }
}

fn parse(text: &str) -> Outcome<Paper> {
    text.parse().map(Paper).map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_printed_numbers_give_the_papers_own_percentages() {
        let table = Paper::table1().unwrap();
        let at = |place: &[&str]| table.at(place)[0].mean;
        // "relative margins of 29.6% on LiveCell, 21.9% on TissueNet (Cytoplasm), and 26.0% on TissueNet (Nuclei)".
        for (set, percent) in [
            ("livecell", 29.6),
            ("tissuenet-cyto", 21.9),
            ("tissuenet-nuclei", 26.0),
        ] {
            let gain = 100. * (at(&["base", "test-max", set]) / at(&["base", "none", set]) - 1.);
            assert!((gain - percent).abs() < 0.06, "{set}: {gain}");
        }
        assert!(table.at(&["tuned", "none", "tissuenet-nuclei"]).is_empty());
        assert_eq!(
            table.at(&["base", "fn", "livecell"])[0].deviation,
            Some(0.008)
        );
        // "a 15.5% relative performance decrease" without L2-SP.
        let table = Paper::table2().unwrap();
        let at = |part: &str| table.at(&[part, "tissuenet-nuclei"])[0].mean;
        let loss = 100. * (1. - at("no-l2sp") / at("all"));
        assert!((loss - 15.5).abs() < 0.06, "{loss}");
        assert_eq!(table.at(&["no-tta", "livecell"]).len(), 2);
    }
}
