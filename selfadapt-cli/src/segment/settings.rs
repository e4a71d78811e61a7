//! A model's settings by name, whatever model it is: read from and put back into its configuration.

use selfadapt_core::model::ModelConfig;
use serde_json::{Map, Value};

use crate::failure::Failure;

/// The field that names the model among its settings.
const MODEL: &str = "model";

/// All settings of a model, and its name under `model`.
pub fn listed(config: &dyn ModelConfig) -> Result<Map<String, Value>, Failure> {
    match serde_json::to_value(config) {
        Ok(Value::Object(settings)) => Ok(settings),
        Ok(other) => Err(unusable(&other.to_string())),
        Err(reason) => Err(unusable(&reason.to_string())),
    }
}

fn unusable(found: &str) -> Failure {
    Failure::new(
        format!("the model's configuration is not a table of settings: {found}"),
        "this is a fault of the model's code: please report it",
    )
}

/// A copy of a model's configuration with some settings replaced.
pub fn with(
    config: &dyn ModelConfig,
    changes: &[(String, Value)],
) -> Result<Box<dyn ModelConfig>, Failure> {
    let mut settings = listed(config)?;
    let mut changed = config.boxed();
    for (name, value) in changes {
        if name == MODEL || !settings.contains_key(name) {
            let model = settings
                .get(MODEL)
                .and_then(Value::as_str)
                .unwrap_or("this");
            let known: Vec<&str> = settings.keys().map(String::as_str).collect();
            let known: Vec<&str> = known.into_iter().filter(|known| *known != MODEL).collect();
            return Err(Failure::new(
                format!("{name}: a {model} model has no such setting"),
                format!("its settings are {}", known.join(", ")),
            ));
        }
        settings.insert(name.clone(), value.clone());
        // One at a time, so that a complaint can name the culprit.
        changed = serde_json::from_value(Value::Object(settings.clone())).map_err(|reason| {
            Failure::new(
                format!("{name} = {value}: {reason}"),
                "`selfadapt models info` shows each setting with a value that it can take",
            )
        })?;
    }
    Ok(changed)
}

/// Parses `NAME=VALUE`; a value that is no JSON is a text.
pub fn parse(text: &str) -> Result<(String, Value), String> {
    let (name, value) = text
        .split_once('=')
        .ok_or("expected NAME=VALUE, for example niter=300")?;
    let value = serde_json::from_str(value).unwrap_or_else(|_| Value::String(value.to_owned()));
    Ok((name.trim().to_owned(), value))
}

/// Parses a list of numbers like `0,0` into a JSON list.
pub fn numbers(text: &str) -> Result<Value, String> {
    let numbers: Result<Vec<u32>, _> = text.split(',').map(|n| n.trim().parse::<u32>()).collect();
    numbers
        .map(Value::from)
        .map_err(|_| "expected whole numbers with commas, for example 2,3".into())
}
