//! Small datasets of drawn cells in the layouts of the real ones, for tests of whatever reads or uses them.
#![allow(dead_code)] // each test binary uses some of them

use std::path::Path;

use ndarray::{Array2, Array3, Axis};
use selfadapt_core::io::{png, tiff};
use selfadapt_core::labels::Labels;
use serde_json::{Value, json};

use crate::numpy_fixtures::{Cell, npy, npy_objects, npy_text, npz};

/// Splits by their names in files.
pub const SPLITS: [&str; 3] = ["train", "val", "test"];

/// A drawn image: bright discs on a dark, noisy ground.
pub struct Scene {
    pub image: Array2<u8>,
    pub labels: Array2<u32>,
    /// Centre (row, column) and radius of each disc, in pixels.
    pub discs: Vec<(f64, f64, f64)>,
}

/// Draws discs of radius 5 to 8 that do not touch, on a grid of 22 pixels; the same for the same seed.
pub fn scene(seed: u64, (height, width): (usize, usize)) -> Scene {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x2545_f491_4f6c_dd1d;
    let mut draw = move || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f64 / f64::from(1 << 24)
    };
    let mut discs = Vec::new();
    for row in 0..height / 22 {
        for column in 0..width / 22 {
            let centre = |cell: usize, at: f64| cell as f64 * 22. + 9. + 4. * at;
            discs.push((
                centre(row, draw()),
                centre(column, draw()),
                5. + 3. * draw(),
            ));
        }
    }
    let mut labels = Array2::zeros((height, width));
    let image = Array2::from_shape_fn((height, width), |(y, x)| {
        let inside = discs.iter().position(|&(row, column, radius)| {
            // Pixel (y, x) is a square from (y, x) to (y + 1, x + 1).
            (y as f64 + 0.5 - row).hypot(x as f64 + 0.5 - column) < radius
        });
        labels[[y, x]] = inside.map_or(0, |disc| disc as u32 + 1);
        let base = if inside.is_some() { 150. } else { 30. };
        (base + 40. * draw()) as u8
    });
    Scene {
        image,
        labels,
        discs,
    }
}

/// Side of the drawn images, in pixels.
pub const SIDE: usize = 96;

/// LIVECell as it is unpacked: for each type and split two images, one of which has its objects as runs. Train and val
/// images share a folder.
pub fn livecell(root: &Path, types: &[&str]) {
    let annotations = root.join("annotations/LIVECell");
    std::fs::create_dir_all(&annotations).unwrap();
    for (number, split) in SPLITS.into_iter().enumerate() {
        let (mut images, mut objects) = (Vec::new(), Vec::new());
        for (kind, cell_type) in types.iter().enumerate() {
            let part = if split == "test" { "test" } else { "train_val" };
            let folder = root.join(format!("images/livecell_{part}_images/{cell_type}"));
            std::fs::create_dir_all(&folder).unwrap();
            for copy in 0..2 {
                let id = 1 + images.len();
                let scene = scene((100 * number + 10 * kind + copy) as u64, (SIDE, SIDE));
                let name = format!("{cell_type}_Phase_{split}_1_00d0{copy}h00m_1.tif");
                write_image(&folder.join(&name), &scene.image);
                images.push(json!({
                    "id": id, "width": SIDE, "height": SIDE, "file_name": name, "original_filename": name, "url": "none",
                }));
                for (index, disc) in scene.discs.iter().enumerate() {
                    let segmentation = if copy == 0 {
                        json!([outline(*disc)])
                    } else {
                        runs(&scene.labels, index as u32 + 1)
                    };
                    objects.push(object(objects.len() + 1, id, 0, segmentation));
                }
            }
        }
        let file = annotations.join(format!("livecell_coco_{split}.json"));
        std::fs::write(file, coco(images, objects).to_string()).unwrap();
    }
}

/// A COCO file of these images and annotations, in the order of LIVECell's.
pub fn coco(images: Vec<Value>, annotations: Vec<Value>) -> Value {
    json!({
        "info": {"year": "2021", "description": "drawn"},
        "licenses": [],
        "images": images,
        "annotations": annotations,
        "categories": [{"supercategory": "cell", "id": 1, "name": "cell"}],
    })
}

/// An annotation.
pub fn object(id: usize, image: usize, iscrowd: u8, segmentation: Value) -> Value {
    json!({
        "segmentation": segmentation, "area": 1, "iscrowd": iscrowd, "image_id": image,
        "bbox": [0, 0, 1, 1], "category_id": 1, "id": id,
    })
}

/// A disc's outline, `x, y, x, y, ...`.
pub fn outline((row, column, radius): (f64, f64, f64)) -> Vec<f64> {
    (0..32)
        .flat_map(|corner| {
            let angle = f64::from(corner) * std::f64::consts::TAU / 32.;
            [column + radius * angle.cos(), row + radius * angle.sin()]
        })
        .collect()
}

/// A label's pixels as uncompressed run lengths.
pub fn runs(labels: &Array2<u32>, label: u32) -> Value {
    let (mut counts, mut inside) = (vec![0_u32], false);
    for column in labels.axis_iter(Axis(1)) {
        for &pixel in column {
            if (pixel == label) != inside {
                counts.push(0);
                inside = !inside;
            }
            *counts.last_mut().unwrap() += 1;
        }
    }
    json!({"size": [labels.nrows(), labels.ncols()], "counts": counts})
}

/// TissueNet in the archives of `version` (`1.0` or `1.1`), three images a split: nuclei are the discs, cells are larger.
pub fn tissuenet(root: &Path, version: &str) {
    let folder = root.join(if version == "1.0" {
        ""
    } else {
        "tissuenet_v1-1"
    });
    std::fs::create_dir_all(&folder).unwrap();
    for (number, split) in SPLITS.into_iter().enumerate() {
        let scenes: Vec<Scene> = (0..3)
            .map(|copy| scene((1000 + 10 * number + copy) as u64, (SIDE, SIDE)))
            .collect();
        let cells: Vec<Array2<u32>> = scenes.iter().map(grown).collect();
        let shape = (scenes.len(), SIDE, SIDE, 2);
        let x = ndarray::Array4::from_shape_fn(shape, |(n, row, column, channel)| match channel {
            0 => f32::from(scenes[n].image[[row, column]]) * 10.,
            _ => cells[n][[row, column]].min(1) as f32 * 500.,
        });
        let y = ndarray::Array4::from_shape_fn(shape, |(n, row, column, channel)| {
            let of = if channel == 0 {
                &cells[n]
            } else {
                &scenes[n].labels
            };
            of[[row, column]] as i32
        });
        let (tissues, platforms) = (["Breast", "Breast", "GI"], ["CODEX", "MIBI", "CODEX"]);
        let mut arrays = vec![("X", npy(&x)), ("y", npy(&y))];
        let file = if version == "1.0" {
            arrays.push(("tissue_list", npy_text(&tissues)));
            arrays.push(("platform_list", npy_text(&platforms)));
            folder.join(format!("tissuenet_v1.0_{split}.npz"))
        } else {
            // 1.1's test split repeats the row of names.
            let header = [
                "filename",
                "experiment",
                "pixel_size",
                "screening_passed",
                "time_step",
                "specimen",
            ];
            let mut cells: Vec<Cell> = Vec::new();
            for (place, tissue) in tissues.iter().take(3).enumerate() {
                if place == 0 || split == "test" {
                    cells.extend(header.map(Cell::Text));
                }
                cells.extend([
                    Cell::Text("a.tif"),
                    Cell::Text("20200101"),
                    Cell::Number(0.5),
                    Cell::Text("Yes"),
                    Cell::Text("none"),
                    Cell::Text(tissue),
                ]);
            }
            arrays.push(("meta", npy_objects(&[cells.len() / 6, 6], &cells)));
            folder.join(format!("{split}.npz"))
        };
        npz(&file, &arrays);
    }
}

/// Labels of discs, each a pixel larger.
fn grown(scene: &Scene) -> Array2<u32> {
    let (height, width) = scene.labels.dim();
    Array2::from_shape_fn((height, width), |(y, x)| {
        let around = [(0, 0), (1, 0), (0, 1), (2, 1), (1, 2), (1, 1)];
        around
            .iter()
            .filter_map(|&(dy, dx)| {
                scene
                    .labels
                    .get([(y + dy).checked_sub(1)?, (x + dx).checked_sub(1)?])
            })
            .copied()
            .find(|&label| label > 0)
            .unwrap_or(0)
    })
}

/// A set of ACTIS: archives of `train` (with its validation images) and `test`, four, two and three images.
pub fn actis(root: &Path, set: &str) {
    let arrays = |split: &str, count: usize| -> [(String, Vec<u8>); 2] {
        let scenes: Vec<Scene> = (0..count)
            .map(|copy| scene((2000 + 10 * split.len() + copy) as u64, (SIDE, SIDE)))
            .collect();
        let x = Array3::from_shape_fn((count, SIDE, SIDE), |(n, y, x)| scenes[n].image[[y, x]]);
        let y = Array3::from_shape_fn((count, SIDE, SIDE), |(n, y, x)| {
            scenes[n].labels[[y, x]] as u16
        });
        [
            (format!("X_{split}"), npy(&x)),
            (format!("Y_{split}"), npy(&y)),
        ]
    };
    for (part, splits) in [
        ("train", &[("train", 4), ("val", 2)][..]),
        ("test", &[("test", 3)]),
    ] {
        let folder = root.join(set).join(part);
        std::fs::create_dir_all(&folder).unwrap();
        let all: Vec<(String, Vec<u8>)> = splits
            .iter()
            .flat_map(|&(split, count)| arrays(split, count))
            .collect();
        let named: Vec<(&str, Vec<u8>)> = all
            .iter()
            .map(|(name, bytes)| (name.as_str(), bytes.clone()))
            .collect();
        npz(&folder.join(format!("{part}_data.npz")), &named);
    }
}

/// Cellpose's set: `train/000_img.png`, `train/000_masks.png`, ..., two images a split, in colour.
pub fn cellpose(root: &Path) {
    for (number, split) in ["train", "test"].into_iter().enumerate() {
        let folder = root.join(split);
        std::fs::create_dir_all(&folder).unwrap();
        for copy in 0..2 {
            let scene = scene((3000 + 10 * number + copy) as u64, (SIDE, SIDE));
            let mut picture = image::RgbImage::new(SIDE as u32, SIDE as u32);
            for (x, y, pixel) in picture.enumerate_pixels_mut() {
                *pixel = image::Rgb([0, scene.image[[y as usize, x as usize]], 20]);
            }
            picture
                .save(folder.join(format!("{copy:03}_img.png")))
                .unwrap();
            let labels = scene.labels.mapv(|label| label as u16);
            png::write_gray16(folder.join(format!("{copy:03}_masks.png")), labels.view()).unwrap();
        }
    }
}

/// Pairs `cell_0.tif`, `cell_0_masks.tif` in one folder.
pub fn pairs(root: &Path, count: usize) {
    std::fs::create_dir_all(root).unwrap();
    for copy in 0..count {
        let scene = scene((4000 + copy) as u64, (SIDE, SIDE));
        write_image(&root.join(format!("cell_{copy}.tif")), &scene.image);
        let labels = Labels::new(scene.labels);
        let path = root.join(format!("cell_{copy}_masks.tif"));
        selfadapt_core::io::outputs::write_masks_tif(path, &labels).unwrap();
    }
}

/// Writes an image of 8 bits.
pub fn write_image(path: &Path, image: &Array2<u8>) {
    tiff::write(path, image.view().insert_axis(Axis(0))).unwrap();
}
