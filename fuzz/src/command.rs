//! The readers of the command, whose crate is a binary: their source files are taken in as they are.

#[allow(dead_code)]
#[path = "../../selfadapt-cli/src/adapt/record.rs"]
mod record;
#[allow(dead_code)]
#[path = "../../selfadapt-cli/src/adapt/settings.rs"]
mod settings;

use crate::readers::{Reader, with_file};

/// `config.toml`, also laid over a complete one, and `run.jsonl`, also cut back as a resumed run does.
pub const READERS: &[Reader] = &[
    Reader {
        name: "config",
        read: |bytes| {
            with_file("config.toml", bytes, |path| {
                if let Some(folder) = path.parent() {
                    let read = settings::RunConfig::read(folder);
                    if let Ok(config) = &read {
                        let _ = config.to_toml();
                    }
                }
            });
        },
    },
    Reader {
        name: "record",
        read: |bytes| {
            with_file("run.jsonl", bytes, |path| {
                let _ = record::read(path);
                let _ = record::Record::open(path, 5);
            });
        },
    },
];

pub fn seeds(name: &str) -> Option<Vec<Vec<u8>>> {
    let preset = settings::Preset::Quick;
    match name {
        "config" => {
            let model = selfadapt_models::format::formats();
            let configs = model.iter().filter_map(|format| {
                let text = format!("{{\"model\":\"{}\"}}", format.name);
                serde_json::from_str(&text).ok()
            });
            let texts = configs.filter_map(|model| {
                let config = settings::RunConfig {
                    weights: "cyto.pt".into(),
                    inputs: vec!["images".into()],
                    sizing: selfadapt_core::model::Sizing::Diameter(26.),
                    snapshots: 9,
                    cache_mib: 100,
                    adapt: preset.adapt(),
                    choice: preset.choice(),
                    watch: preset.watch(),
                    model,
                };
                config.to_toml().ok().map(String::into_bytes)
            });
            Some(texts.chain([b"[adapt]\nsteps = 3\n".to_vec()]).collect())
        }
        "record" => Some(vec![
            br#"{"kind":"reading","step":5,"drifts":{"embedding-distance":0.5,"x":null},"instances":7,"crossed":null,"truth":{"ap50":0.8,"ap75":0.4}}
{"kind":"went-back","step":3,"reason":"loss"}
"#.to_vec(),
            b"{\"kind\":\"rea".to_vec(),
        ]),
        _ => None,
    }
}
