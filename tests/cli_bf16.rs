//! `--device cpu:bf16`: the same cells on a processor with matrix tiles, and a reason where there are none.

use serde_json::Value;

use crate::{assets, told};

#[test]
fn rounded_factors_find_the_same_cells() {
    let Some(assets) = assets::dir() else { return };
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    let copy = |from: &str, to: &str| std::fs::copy(assets.join(from), here.join(to)).unwrap();
    copy("cellpose/cyto_scellseg.pt", "cyto.pt");
    copy("data/mouse_00.tif", "mouse_00.tif");
    let segment = |model: &str, device: &str, out: &str| {
        told(
            here,
            &[
                "segment",
                "--model",
                model,
                "--device",
                device,
                "--diameter",
                "26",
                "--out",
                out,
                "mouse_00.tif",
            ],
        )
    };
    let stardist = assets.join("stardist");
    let refused = segment(stardist.to_str().unwrap(), "cpu:bf16", "stars");
    let said = segment("cyto.pt", "cpu:bf16", "rounded");
    if !selfadapt_kernels::conv2d::half_tiles() {
        for said in [said, refused] {
            assert!(
                said.contains("expected a processor with matrix tiles"),
                "{said}"
            );
            assert!(said.contains("--device cpu computes in f32"), "{said}");
        }
        return;
    }
    assert!(said.starts_with("exit code 0"), "{said}");
    assert!(
        refused.contains("expected a model with a form for it, found stardist"),
        "{refused}"
    );
    let said = segment("cyto.pt", "cpu", "exact");
    assert!(said.starts_with("exit code 0"), "{said}");
    std::fs::rename(
        here.join("exact/mouse_00_cp_masks.tif"),
        here.join("exact/mouse_00_masks.tif"),
    )
    .unwrap();
    let said = told(
        here,
        &[
            "evaluate",
            "--pred",
            "rounded",
            "--truth",
            "exact",
            "--thresholds",
            "0.75",
            "--json",
            "scores.json",
        ],
    );
    assert!(said.starts_with("exit code 0"), "{said}");
    let scores = std::fs::read(here.join("scores.json")).unwrap();
    let scores: Value = serde_json::from_slice(&scores).unwrap();
    let precision = &scores["overall"]["average_precision"][0];
    assert_eq!(precision["threshold"], 0.75);
    assert!(precision["ap"].as_f64().unwrap() > 0.85, "{precision}");
}
