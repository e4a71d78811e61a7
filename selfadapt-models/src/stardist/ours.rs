//! The settings that the package takes as arguments rather than from its files: a file of our own beside them.

use serde::{Deserialize, Serialize};

use super::StarDistConfig;

/// How images are prepared for the network; see [`StarDistConfig`].
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Beside {
    scale: f64,
    trained_diameter: f64,
    percentiles: [f64; 2],
    normalise_jointly: bool,
    channels: Vec<usize>,
}

/// Replaces settings by those of the file.
///
/// # Errors
/// If the text is no such file, or a setting has no meaning.
pub fn lay_over(config: &mut StarDistConfig, text: &str) -> Result<(), String> {
    let beside: Beside = serde_json::from_str(text).map_err(|error| error.to_string())?;
    config.scale = beside.scale;
    config.trained_diameter = beside.trained_diameter;
    config.percentiles = beside.percentiles;
    config.normalise_jointly = beside.normalise_jointly;
    config.channels = beside.channels;
    config.check().map_err(|error| error.to_string())
}

/// The file's text.
///
/// # Errors
/// If a setting is not a number of JSON.
pub fn write(config: &StarDistConfig) -> Result<String, String> {
    let beside = Beside {
        scale: config.scale,
        trained_diameter: config.trained_diameter,
        percentiles: config.percentiles,
        normalise_jointly: config.normalise_jointly,
        channels: config.channels.clone(),
    };
    serde_json::to_string_pretty(&beside).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_laid_over() {
        let config = StarDistConfig {
            scale: 0.4,
            trained_diameter: 30.,
            percentiles: [3., 99.],
            normalise_jointly: false,
            channels: vec![2],
            ..StarDistConfig::default()
        };
        let mut found = StarDistConfig::default();
        lay_over(&mut found, &write(&config).unwrap()).unwrap();
        assert_eq!(found, config);
        let text = write(&config).unwrap();
        let wrong = text.replace("0.4", "-1.0");
        let error = lay_over(&mut found, &wrong).unwrap_err();
        assert!(error.contains("scale: expected a positive"), "{error}");
        let unknown = text.replace("scale", "size");
        let error = lay_over(&mut found, &unknown).unwrap_err();
        assert!(error.contains("unknown field `size`"), "{error}");
    }
}
