//! `segment.json`: what was run on what, with which result.

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use selfadapt_core::io::{self, Axes};
use selfadapt_models::format::Provenance;
use serde_json::{Map, Value, json};

use super::pipeline::{Done, Results, Scaling};
use crate::console::count;
use crate::failure::Failure;

/// The file's name in the folder of results.
const FILE: &str = "segment.json";

/// Everything that the file tells.
pub struct Manifest<'a> {
    pub provenance: &'a Provenance,
    pub settings: Map<String, Value>,
    pub scaling: &'a Scaling,
    pub axes: Axes,
    pub batch: usize,
    pub device: &'a str,
    pub results: &'a Results,
    pub seconds: f64,
}

impl Manifest<'_> {
    /// Writes the file into `folder`, atomically, and returns its text.
    pub fn write(&self, folder: &Path) -> Result<String, Failure> {
        let text = format!("{:#}\n", self.report());
        io::atomic::write_bytes(folder.join(FILE), text.as_bytes())?;
        Ok(text)
    }

    /// `33 images, 712 cells, 12.3 s: out`.
    pub fn summary(&self, folder: &Path) -> String {
        let Results { done, failed } = self.results;
        let mut text = format!(
            "{}, {}",
            count(done.len(), "image"),
            count(self.cells(), "cell")
        );
        let empty = done.iter().filter(|image| image.cells == 0).count();
        if empty > 0 {
            text.push_str(&format!(", {empty} without any"));
        }
        if !failed.is_empty() {
            text.push_str(&format!(", {} failed", failed.len()));
        }
        text.push_str(&format!(", {:.1} s: {}", self.seconds, folder.display()));
        text
    }

    fn cells(&self) -> usize {
        self.results.done.iter().map(|image| image.cells).sum()
    }

    fn report(&self) -> Value {
        let done = &self.results.done;
        let total = |of: fn(&Done) -> f64| done.iter().map(of).sum::<f64>();
        let (sizing, scale) = match self.scaling {
            Scaling::Fixed { sizing, scale } => (json!(sizing), json!(scale)),
            // Each image has its own.
            Scaling::ByImage(size) => (json!({ "size-model": size.path() }), Value::Null),
        };
        let ended = SystemTime::now().duration_since(UNIX_EPOCH);
        json!({
            "selfadapt": env!("CARGO_PKG_VERSION"),
            "ended_unix_seconds": ended.map_or(0, |time| time.as_secs()),
            "model": {
                "path": self.provenance.path,
                "format": self.provenance.format,
                "sha256": self.provenance.sha256,
                "settings": self.settings,
            },
            "sizing": sizing,
            "scale": scale,
            "axes": self.axes,
            "batch_size": self.batch,
            "device": self.device,
            "threads": rayon::current_num_threads(),
            "counts": {
                "images": done.len(),
                "failed": self.results.failed.len(),
                "cells": self.cells(),
            },
            "seconds": {
                "total": self.seconds,
                "read": total(|image| image.seconds.read),
                "size": total(|image| image.seconds.size),
                "network": total(|image| image.seconds.network),
                "decode": total(|image| image.seconds.decode),
                "write": total(|image| image.seconds.write),
            },
            "images": done,
            "failed": self.results.failed,
        })
    }
}
