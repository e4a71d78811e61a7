//! The package's config.json and thresholds.json, read strictly and written back.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use super::StarDistConfig;

/// Thresholds of the package where a folder has no thresholds.json.
const THRESHOLDS: (f64, f64) = (0.5, 0.4);

/// Keys of config.json that do not shape the network, beside the other `train_...`.
const OTHERS: [&str; 4] = [
    "unet_dropout",
    "net_input_shape",
    "net_mask_shape",
    "use_gpu",
];

/// Whether a config.json is that of a StarDist model, 2D or 3D, whatever else it says.
pub fn is_stardist(text: &str) -> bool {
    serde_json::from_str::<Map<String, Value>>(text)
        .is_ok_and(|keys| keys.contains_key("n_rays") && keys.contains_key("backbone"))
}

/// The configuration that a model folder's two files say.
///
/// # Errors
/// If they are not JSON, name something unknown, or describe a network that is not a 2D U-Net of ours.
pub fn read(config: &str, thresholds: Option<&str>) -> Result<StarDistConfig, String> {
    let mut keys: Map<String, Value> =
        serde_json::from_str(config).map_err(|error| format!("config.json: {error}"))?;
    let mut take = Keys(&mut keys);
    refuse_other_networks(&mut take)?;
    let usual = StarDistConfig::default();
    let mut config = StarDistConfig {
        n_rays: take.required("n_rays")?,
        // The package's default, which old files leave out.
        grid: take.square("grid")?.unwrap_or(1),
        n_channel_in: take.or("n_channel_in", 1)?,
        unet_n_depth: take.or("unet_n_depth", usual.unet_n_depth)?,
        unet_kernel_size: take.square("unet_kernel_size")?.unwrap_or(3),
        unet_n_filter_base: take.or("unet_n_filter_base", usual.unet_n_filter_base)?,
        unet_n_conv_per_depth: take.or("unet_n_conv_per_depth", usual.unet_n_conv_per_depth)?,
        unet_pool: take.square("unet_pool")?.unwrap_or(2),
        unet_activation: take.or("unet_activation", usual.unet_activation)?,
        unet_last_activation: take.or("unet_last_activation", usual.unet_last_activation)?,
        unet_batch_norm: take.or("unet_batch_norm", false)?,
        unet_prefix: take.or("unet_prefix", String::new())?,
        net_conv_after_unet: take.or("net_conv_after_unet", usual.net_conv_after_unet)?,
        train_dist_loss: take.or("train_dist_loss", usual.train_dist_loss)?,
        train_loss_weights: take.or("train_loss_weights", usual.train_loss_weights)?,
        train_background_reg: take.or("train_background_reg", usual.train_background_reg)?,
        ..usual
    };
    let outputs: usize = take.or("n_channel_out", config.n_rays + 1)?;
    if outputs != config.n_rays + 1 {
        return Err(format!(
            "config.json: n_channel_out: expected one more than the {} rays, found {outputs}",
            config.n_rays
        ));
    }
    let patch: Option<Vec<usize>> = take.optional("train_patch_size")?;
    if let Some(patch) = patch {
        config.patch = patch.iter().copied().min().unwrap_or(config.patch);
        keys.insert("train_patch_size".into(), json!(patch));
    }
    for (key, value) in keys {
        if !(key.starts_with("train_") || OTHERS.contains(&key.as_str())) {
            return Err(format!(
                "config.json: {key} is not a setting of StarDist 0.9.1"
            ));
        }
        config.others.insert(key, value.to_string());
    }
    (config.prob_thresh, config.nms_thresh) = match thresholds {
        Some(text) => read_thresholds(text)?,
        None => THRESHOLDS,
    };
    config
        .check()
        .map_err(|error| format!("config.json: {error}"))?;
    Ok(config)
}

fn refuse_other_networks(keys: &mut Keys<'_>) -> Result<(), String> {
    let axes: String = keys.or("axes", "YXC".to_owned())?;
    let dimensions: usize = keys.or("n_dim", 2)?;
    if dimensions != 2 || axes.contains('Z') {
        return Err(format!(
            "a model for {dimensions}D images (axes {axes}): expected a 2D model; 3D is not supported"
        ));
    }
    if axes != "YXC" {
        return Err(format!("config.json: axes: expected YXC, found {axes}"));
    }
    let backbone: String = keys.or("backbone", "unet".to_owned())?;
    if backbone != "unet" {
        return Err(format!(
            "config.json: backbone {backbone}: expected unet, the only one of StarDist 2D"
        ));
    }
    let classes: Option<usize> = keys.optional("n_classes")?;
    if let Some(classes) = classes {
        return Err(format!(
            "config.json: n_classes {classes}: models that tell classes apart are not supported; expected null"
        ));
    }
    Ok(())
}

fn read_thresholds(text: &str) -> Result<(f64, f64), String> {
    let keys: BTreeMap<String, Value> =
        serde_json::from_str(text).map_err(|error| format!("thresholds.json: {error}"))?;
    let one = |name: &str, usual: f64| match keys.get(name) {
        None | Some(Value::Null) => Ok(usual),
        Some(value) => match value.as_f64() {
            Some(number) if 0. < number && number < 1. => Ok(number),
            _ => Err(format!(
                "thresholds.json: {name}: expected more than 0 and less than 1, found {value}"
            )),
        },
    };
    Ok((one("prob", THRESHOLDS.0)?, one("nms", THRESHOLDS.1)?))
}

/// Entries of config.json, taken out one by one so that what is left is unknown.
struct Keys<'a>(&'a mut Map<String, Value>);

impl Keys<'_> {
    /// An entry, where it is there and not null.
    fn optional<T: DeserializeOwned>(&mut self, key: &str) -> Result<Option<T>, String> {
        match self.0.remove(key) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => serde_json::from_value(value.clone())
                .map(Some)
                .map_err(|error| format!("config.json: {key} = {value}: {error}")),
        }
    }

    fn or<T: DeserializeOwned>(&mut self, key: &str, usual: T) -> Result<T, String> {
        Ok(self.optional(key)?.unwrap_or(usual))
    }

    fn required<T: DeserializeOwned>(&mut self, key: &str) -> Result<T, String> {
        self.optional(key)?
            .ok_or_else(|| format!("config.json: there is no {key}"))
    }

    /// A pair of equal numbers.
    fn square(&mut self, key: &str) -> Result<Option<usize>, String> {
        match self.optional::<Vec<usize>>(key)?.as_deref() {
            None => Ok(None),
            Some(&[down, across]) if down == across => Ok(Some(down)),
            Some(other) => Err(format!(
                "config.json: {key}: expected the same number for both axes, found {other:?}"
            )),
        }
    }
}

/// A number as Python writes it: whole ones without a point.
fn number(value: f64) -> Value {
    if value.fract() == 0. && value.abs() < 1e9 {
        json!(value as i64)
    } else {
        json!(value)
    }
}

/// config.json and thresholds.json as the package writes them.
///
/// # Errors
/// If an entry of [`StarDistConfig::others`] is no JSON.
pub fn write(config: &StarDistConfig) -> Result<(String, String), String> {
    let pair = |value: usize| json!([value, value]);
    let mut keys = Map::new();
    for (key, text) in &config.others {
        let value = serde_json::from_str(text)
            .map_err(|error| format!("others.{key}: expected JSON, found {text}: {error}"))?;
        keys.insert(key.clone(), value);
    }
    let shape = json!({
        "n_dim": 2,
        "axes": "YXC",
        "n_channel_in": config.n_channel_in,
        "n_channel_out": config.n_rays + 1,
        "n_rays": config.n_rays,
        "grid": pair(config.grid),
        "backbone": "unet",
        "n_classes": null,
        "unet_n_depth": config.unet_n_depth,
        "unet_kernel_size": pair(config.unet_kernel_size),
        "unet_n_filter_base": config.unet_n_filter_base,
        "unet_n_conv_per_depth": config.unet_n_conv_per_depth,
        "unet_pool": pair(config.unet_pool),
        "unet_activation": config.unet_activation,
        "unet_last_activation": config.unet_last_activation,
        "unet_batch_norm": config.unet_batch_norm,
        "unet_prefix": config.unet_prefix,
        "net_conv_after_unet": config.net_conv_after_unet,
        "train_dist_loss": config.train_dist_loss,
        "train_loss_weights": config.train_loss_weights.map(number),
        "train_background_reg": number(config.train_background_reg),
    });
    if let Value::Object(shape) = shape {
        keys.extend(shape);
    }
    let thresholds = json!({ "prob": config.prob_thresh, "nms": config.nms_thresh });
    Ok((Value::Object(keys).to_string(), thresholds.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PUBLISHED: &str = r#"{"n_dim": 2, "axes": "YXC", "n_channel_in": 3, "n_channel_out": 33,
        "train_checkpoint": "weights_best.h5", "n_rays": 32, "grid": [2, 2], "backbone": "unet", "n_classes": null,
        "unet_n_depth": 3, "unet_kernel_size": [3, 3], "unet_activation": "relu", "train_patch_size": [512, 256],
        "train_dist_loss": "mse", "train_loss_weights": [1, 0.5], "train_background_reg": 0,
        "net_input_shape": [null, null, 3], "use_gpu": false}"#;

    fn changed(key: &str, value: Value) -> String {
        let mut keys: Map<String, Value> = serde_json::from_str(PUBLISHED).unwrap();
        keys.insert(key.into(), value);
        Value::Object(keys).to_string()
    }

    #[test]
    fn what_is_read_is_written_back() {
        let config = read(PUBLISHED, Some(r#"{"prob": 0.69, "nms": 0.3}"#)).unwrap();
        assert_eq!(
            (config.n_channel_in, config.grid, config.patch),
            (3, 2, 256)
        );
        assert_eq!((config.prob_thresh, config.nms_thresh), (0.69, 0.3));
        let (written, thresholds) = write(&config).unwrap();
        assert_eq!(read(&written, Some(&thresholds)).unwrap(), config);
        let keys: Map<String, Value> = serde_json::from_str(&written).unwrap();
        let before: Map<String, Value> = serde_json::from_str(PUBLISHED).unwrap();
        for (key, value) in before {
            assert_eq!(keys.get(&key), Some(&value), "{key}");
        }
    }

    #[test]
    fn old_files_leave_most_out() {
        let config = read(r#"{"n_rays": 32, "backbone": "unet"}"#, None).unwrap();
        assert_eq!(
            (config.grid, config.prob_thresh, config.nms_thresh),
            (1, 0.5, 0.4)
        );
    }

    #[test]
    fn what_is_not_understood_is_named() {
        let say = |text: &str, thresholds| read(text, thresholds).unwrap_err();
        for (key, value, complaint) in [
            ("n_dim", json!(3), "3D is not supported"),
            ("axes", json!("ZYXC"), "3D is not supported"),
            ("axes", json!("CYX"), "expected YXC"),
            (
                "backbone",
                json!("resnet"),
                "backbone resnet: expected unet",
            ),
            ("n_classes", json!(2), "tell classes apart"),
            ("grid", json!([2, 4]), "the same number for both axes"),
            ("grid", json!([3, 3]), "grid: expected 1, 2, 4"),
            ("n_rays", json!("many"), "n_rays = \"many\""),
            ("n_rays", json!(2), "n_channel_out"),
            ("unet_kernel_size", json!([4, 4]), "an odd side"),
            ("unet_activation", json!("gelu"), "unknown variant `gelu`"),
            ("train_dist_loss", json!("huber"), "unknown variant `huber`"),
            (
                "train_loss_weights",
                json!([1, 0.2, 1]),
                "train_loss_weights = ",
            ),
            (
                "train_background_reg",
                json!(-1),
                "train_background_reg: expected 0",
            ),
            ("unet_magic", json!(1), "unet_magic is not a setting"),
        ] {
            let error = say(&changed(key, value), None);
            assert!(error.contains(complaint), "{key}: {error}");
        }
        assert!(say("{", None).contains("config.json: EOF"));
        assert!(say("{}", None).contains("there is no n_rays"));
        let wrong = say(PUBLISHED, Some(r#"{"prob": 1.5}"#));
        assert!(wrong.contains("prob: expected more than 0"), "{wrong}");
    }
}
