//! What the sets have in common: choosing a split and images of a kind, names, and telling what is missing.

use super::files::Files;
use super::{Kind, Split};
use crate::error::{Error, Result};

/// An error about a whole dataset, with where it is to be had and its terms.
pub(super) fn missing(kind: Kind, files: &Files, what: &str) -> Error {
    Error::read(
        files.root(),
        format!(
            "{what}; {} is {}, found {}. It is to be had at {} ({})",
            kind.name(),
            kind.layout(),
            files.summary(),
            kind.home(),
            kind.licence()
        ),
    )
}

/// The one split that is there, or the one that was asked for.
pub(super) fn choose_split(
    kind: Kind,
    files: &Files,
    there: &[Split],
    wish: Option<Split>,
) -> Result<Split> {
    let names = |splits: &[Split]| {
        let names: Vec<&str> = splits.iter().map(|split| split.name()).collect();
        names.join(", ")
    };
    match (wish, there) {
        (Some(split), _) if there.contains(&split) => Ok(split),
        (Some(split), []) => Err(missing(kind, files, &format!("no split {}", split.name()))),
        (Some(split), _) => Err(missing(
            kind,
            files,
            &format!("no split {}, only {}", split.name(), names(there)),
        )),
        (None, &[only]) => Ok(only),
        (None, []) => Err(missing(kind, files, "no split of it")),
        (None, _) => Err(Error::Setting(format!(
            "{} has the splits {}: choose one",
            files.root().display(),
            names(there)
        ))),
    }
}

/// Which of `values` are `wanted`, regardless of case, blanks and hyphens.
///
/// # Errors
/// If there is none: a sentence that lists what there is.
pub(super) fn matching(
    what: &str,
    values: &[String],
    wanted: &str,
) -> std::result::Result<Vec<bool>, String> {
    let plain = |text: &str| -> String {
        text.chars()
            .filter(|c| c.is_alphanumeric())
            .flat_map(char::to_lowercase)
            .collect()
    };
    let wanted_plain = plain(wanted);
    let hits: Vec<bool> = values
        .iter()
        .map(|value| plain(value) == wanted_plain)
        .collect();
    if hits.contains(&true) {
        return Ok(hits);
    }
    let mut there: Vec<&str> = values.iter().map(String::as_str).collect();
    there.sort_unstable();
    there.dedup();
    there.truncate(40);
    Err(format!(
        "no image of the {what} {wanted}; there are {}",
        there.join(", ")
    ))
}

/// A name that is a file name everywhere: letters, digits, dots, hyphens and underscores.
pub(super) fn plain_name(text: &str) -> String {
    let name: String = text
        .chars()
        .map(|c| {
            let fine = c.is_alphanumeric() || matches!(c, '-' | '_' | '.');
            if fine { c } else { '-' }
        })
        .collect();
    name.trim_matches(['.', '-']).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_match_however_they_are_written() {
        let values = ["SH-SY5Y", "A172"].map(String::from);
        assert_eq!(
            matching("cell type", &values, "shsy5y"),
            Ok(vec![true, false])
        );
        let reason = matching("cell type", &values, "hela").unwrap_err();
        assert!(reason.ends_with("there are A172, SH-SY5Y"), "{reason}");
    }
}
