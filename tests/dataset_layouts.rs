//! Datasets in their layouts: every kind opened and read.

use std::path::Path;

use ndarray::Array2;
use selfadapt_core::io::datasets::{Compartment, Dataset, Kind, Sample, Split, Wish, subset};
use serde_json::json;

use crate::dataset_fixtures as fixtures;
use crate::numpy_fixtures as numpy;

/// Opens a dataset.
pub fn open(root: &Path, wish: Wish) -> Result<Dataset, String> {
    Dataset::open(root, None, &wish).map_err(|error| error.to_string())
}

pub fn split(split: Split) -> Wish {
    Wish {
        split: Some(split),
        ..Wish::default()
    }
}

/// Reads the samples at `chosen`.
fn read(dataset: &Dataset, chosen: &[usize]) -> Vec<(String, Sample)> {
    let mut samples = Vec::new();
    dataset
        .visit(chosen, &mut |at, sample| {
            samples.push((dataset.names()[at].clone(), sample?));
            Ok(())
        })
        .unwrap();
    samples
}

fn all(dataset: &Dataset) -> Vec<(String, Sample)> {
    read(dataset, &subset(dataset.names().len(), None, 0))
}

/// Pixels in both over pixels in either.
fn overlap(a: &Array2<u32>, b: ndarray::ArrayView2<'_, u32>) -> f64 {
    let pairs = || a.iter().zip(b.iter()).map(|(&a, &b)| (a > 0, b > 0));
    let both = pairs().filter(|&(a, b)| a && b).count();
    both as f64 / pairs().filter(|&(a, b)| a || b).count() as f64
}

#[test]
fn livecell() {
    let folder = tempfile::tempdir().unwrap();
    fixtures::livecell(folder.path(), &["A172", "BV2"]);
    let choose = open(folder.path(), Wish::default()).unwrap_err();
    assert!(choose.contains("train, val, test"), "{choose}");
    let dataset = open(folder.path(), split(Split::Test)).unwrap();
    assert_eq!((dataset.kind, dataset.names().len()), (Kind::Livecell, 4));
    assert_eq!(dataset.names()[0], "A172_Phase_test_1_00d00h00m_1");
    let samples = all(&dataset);
    for (number, (name, sample)) in samples.iter().enumerate() {
        let seed = 200 + 10 * (number / 2) + number % 2;
        let scene = fixtures::scene(seed as u64, (fixtures::SIDE, fixtures::SIDE));
        assert_eq!(sample.labels.count(), scene.discs.len(), "{name}");
        assert_eq!(
            sample.image.pixels()[[0, 3, 4]],
            f32::from(scene.image[[3, 4]])
        );
        let same = overlap(&scene.labels, sample.labels.pixels());
        // Runs are exact; an outline of 32 corners cuts a little off.
        assert!(
            if number % 2 == 1 {
                same == 1.
            } else {
                same > 0.9
            },
            "{name}: {same}"
        );
    }
    let wish = Wish {
        cell_type: Some("bv-2".into()),
        ..split(Split::Train)
    };
    let dataset = open(folder.path(), wish).unwrap();
    assert!(
        dataset
            .names()
            .iter()
            .all(|name| name.starts_with("BV2_Phase_train"))
    );
    let wish = Wish {
        cell_type: Some("HeLa".into()),
        ..split(Split::Train)
    };
    let reason = open(folder.path(), wish).unwrap_err();
    assert!(reason.ends_with("there are A172, BV2"), "{reason}");
}

#[test]
fn livecell_of_single_cell_types_and_numbered_annotations() {
    let folder = tempfile::tempdir().unwrap();
    fixtures::livecell(folder.path(), &["A172"]);
    let from = folder
        .path()
        .join("annotations/LIVECell/livecell_coco_test.json");
    let to = folder.path().join("annotations/LIVECell_single_cells/a172");
    std::fs::create_dir_all(&to).unwrap();
    let mut coco: serde_json::Value =
        serde_json::from_slice(&std::fs::read(&from).unwrap()).unwrap();
    let numbered: serde_json::Map<_, _> = coco["annotations"]
        .as_array()
        .unwrap()
        .iter()
        .map(|object| (object["id"].to_string(), object.clone()))
        .collect();
    let expected = all(&open(folder.path(), split(Split::Test)).unwrap());
    coco["annotations"] = numbered.into();
    std::fs::write(to.join("test.json"), coco.to_string()).unwrap();
    std::fs::remove_dir_all(folder.path().join("annotations/LIVECell")).unwrap();
    let dataset = open(folder.path(), Wish::default()).unwrap();
    for ((name, sample), (other, expected)) in all(&dataset).iter().zip(&expected) {
        assert_eq!(
            (name, sample.labels.count()),
            (other, expected.labels.count())
        );
    }
}

#[test]
fn what_is_no_object_of_livecell_is_counted() {
    let folder = tempfile::tempdir().unwrap();
    let scene = fixtures::scene(1, (64, 64));
    let image = folder.path().join("images/A172_1.tif");
    std::fs::create_dir(folder.path().join("images")).unwrap();
    fixtures::write_image(&image, &scene.image);
    let disc = fixtures::outline(scene.discs[0]);
    let objects = vec![
        fixtures::object(1, 1, 0, json!([disc])),
        fixtures::object(2, 1, 1, fixtures::runs(&scene.labels, 2)), // a crowd
        fixtures::object(3, 1, 0, json!([[100., 100., 110., 100., 110., 110.]])), // beside the image
        fixtures::object(4, 1, 0, json!([])),
        fixtures::object(5, 1, 0, json!([disc])), // all of it under the first
        fixtures::object(6, 9, 0, json!([disc])), // of an image that is not listed
        fixtures::object(7, 1, 0, json!({"size": [64, 64], "counts": "PPh0h1k1"})),
    ];
    let listed =
        |width: usize| json!({"id": 1, "width": width, "height": 64, "file_name": "A172_1.tif"});
    let file = folder.path().join("livecell_coco_test.json");
    let write = |width, objects: &[serde_json::Value]| {
        let coco = fixtures::coco(vec![listed(width)], objects.to_vec());
        std::fs::write(&file, coco.to_string()).unwrap();
    };
    write(64, &objects[..6]);
    let dataset = open(folder.path(), Wish::default()).unwrap();
    let samples = all(&dataset);
    let sample = &samples[0].1;
    assert_eq!(sample.labels.count(), 1);
    let left_out = sample.left_out;
    assert_eq!(
        (left_out.crowds, left_out.empty, left_out.covered),
        (1, 2, 1)
    );
    // A mask that does not fit is not passed over.
    write(64, &objects);
    let failed = open(folder.path(), Wish::default())
        .unwrap()
        .visit(&[0], &mut |_, _| Ok(()))
        .unwrap_err()
        .to_string();
    assert!(
        failed.contains("annotation 7") && failed.contains("livecell_coco_test.json"),
        "{failed}"
    );
    // An image of another size than its annotations say is an error of that image alone.
    write(63, &objects[..1]);
    let mut told = String::new();
    open(folder.path(), Wish::default())
        .unwrap()
        .visit(&[0], &mut |_, sample| {
            told = sample.unwrap_err().to_string();
            Ok(())
        })
        .unwrap();
    assert!(
        told.contains("A172_1.tif") && told.contains("(64, 63)"),
        "{told}"
    );
}

#[test]
fn tissuenet_of_both_versions() {
    for version in ["1.0", "1.1"] {
        let folder = tempfile::tempdir().unwrap();
        fixtures::tissuenet(folder.path(), version);
        let dataset = open(folder.path(), split(Split::Test)).unwrap();
        assert_eq!(dataset.version.as_deref(), Some(version));
        assert_eq!(dataset.channels, ["nuclear", "membrane"]);
        let first = if version == "1.0" {
            "Breast_CODEX_00000"
        } else {
            "Breast_00000"
        };
        assert_eq!(dataset.names()[0], first);
        assert_eq!(dataset.pixel_size, (version == "1.1").then_some(0.5));
        let cells = all(&dataset);
        let wish = Wish {
            compartment: Some(Compartment::Nuclear),
            ..split(Split::Test)
        };
        let nuclei = all(&open(folder.path(), wish).unwrap());
        for copy in 0..3 {
            let scene = fixtures::scene(1020 + copy as u64, (fixtures::SIDE, fixtures::SIDE));
            let (cell, nucleus) = (&cells[copy].1, &nuclei[copy].1);
            assert_eq!(nucleus.labels.as_slice(), scene.labels.as_slice().unwrap());
            assert!(cell.labels.areas()[0] > nucleus.labels.areas()[0]);
            let pixels = nucleus.image.pixels();
            assert_eq!(pixels.dim(), (2, fixtures::SIDE, fixtures::SIDE));
            assert_eq!(pixels[[0, 5, 9]], 10. * f32::from(scene.image[[5, 9]]));
            assert!(pixels[[1, 5, 9]] == 0. || pixels[[1, 5, 9]] == 500.);
        }
        // The third alone is read by passing over the first two.
        let third = read(&dataset, &[2]);
        assert_eq!(third[0].1.image.pixels(), cells[2].1.image.pixels());
        let of = |tissue: &str, platform: Option<&str>| Wish {
            tissue: Some(tissue.into()),
            platform: platform.map(str::to_owned),
            ..split(Split::Test)
        };
        assert_eq!(
            open(folder.path(), of("breast", None))
                .unwrap()
                .names()
                .len(),
            2
        );
        let platform = open(folder.path(), of("breast", Some("codex")));
        match version {
            "1.0" => assert_eq!(platform.unwrap().names(), ["Breast_CODEX_00000"]),
            _ => assert!(
                platform
                    .unwrap_err()
                    .contains("filename, experiment, pixel_size")
            ),
        }
        let reason = open(folder.path(), of("lung", None)).unwrap_err();
        assert!(reason.contains("there are Breast, GI"), "{reason}");
    }
}

#[test]
fn actis() {
    let folder = tempfile::tempdir().unwrap();
    fixtures::actis(folder.path(), "Mouse_n0");
    for (part, count) in [(Split::Train, 4), (Split::Val, 2), (Split::Test, 3)] {
        let dataset = open(folder.path(), split(part)).unwrap();
        assert_eq!((dataset.kind, dataset.names().len()), (Kind::Actis, count));
        assert_eq!(
            dataset.names()[0],
            format!("Mouse_n0_{}_00000", part.name())
        );
        let seed = 2000 + 10 * part.name().len() as u64;
        let scene = fixtures::scene(seed, (fixtures::SIDE, fixtures::SIDE));
        let samples = all(&dataset);
        assert_eq!(
            samples[0].1.labels.as_slice(),
            scene.labels.as_slice().unwrap()
        );
        assert_eq!(
            samples[0].1.image.pixels()[[0, 7, 8]],
            f32::from(scene.image[[7, 8]])
        );
    }
    fixtures::actis(folder.path(), "Flywing_n0");
    let reason = open(folder.path(), split(Split::Test)).unwrap_err();
    assert!(reason.contains("Flywing_n0, Mouse_n0"), "{reason}");
}

#[test]
fn actis_of_images_of_different_sizes() {
    let folder = tempfile::tempdir().unwrap();
    let scenes = [fixtures::scene(1, (44, 66)), fixtures::scene(2, (66, 50))];
    let labels: Vec<Array2<u8>> = scenes
        .iter()
        .map(|scene| scene.labels.mapv(|label| label as u8))
        .collect();
    let images: Vec<numpy::Cell> = scenes
        .iter()
        .map(|scene| numpy::Cell::Bytes(&scene.image))
        .collect();
    let labels: Vec<numpy::Cell> = labels.iter().map(numpy::Cell::Bytes).collect();
    let file = folder.path().join("test_data.npz");
    let arrays = [
        ("X_test", numpy::npy_objects(&[2], &images)),
        ("Y_test", numpy::npy_objects(&[2], &labels)),
    ];
    numpy::npz(&file, &arrays);
    let samples = all(&open(folder.path(), Wish::default()).unwrap());
    for (sample, scene) in samples.iter().zip(&scenes) {
        assert_eq!(sample.1.labels.as_slice(), scene.labels.as_slice().unwrap());
        assert_eq!(sample.1.image.size(), scene.image.dim());
    }
}

#[test]
fn cellpose_and_pairs() {
    let folder = tempfile::tempdir().unwrap();
    let (cellpose, pairs) = (folder.path().join("cellpose"), folder.path().join("pairs"));
    fixtures::cellpose(&cellpose);
    fixtures::pairs(&pairs, 3);
    let dataset = open(&cellpose, split(Split::Test)).unwrap();
    assert_eq!(
        (dataset.kind, dataset.names()),
        (Kind::Cellpose, &["000".to_owned(), "001".to_owned()][..])
    );
    let sample = &all(&dataset)[1].1;
    assert_eq!(sample.image.channels(), 3);
    assert_eq!(
        sample.labels.count(),
        fixtures::scene(3011, (fixtures::SIDE, fixtures::SIDE))
            .discs
            .len()
    );
    // The folder of a split alone is that split.
    assert_eq!(
        open(&cellpose.join("train"), split(Split::Train))
            .unwrap()
            .names()
            .len(),
        2
    );
    assert!(
        open(&cellpose, split(Split::Val))
            .unwrap_err()
            .contains("only train, test")
    );
    let dataset = open(&pairs, Wish::default()).unwrap();
    assert_eq!(
        (dataset.kind, dataset.split, dataset.names().len()),
        (Kind::Pairs, None, 3)
    );
    assert!(all(&dataset)[2].1.labels.count() > 5);
    std::fs::remove_file(pairs.join("cell_1_masks.tif")).unwrap();
    std::fs::remove_file(pairs.join("cell_2.tif")).unwrap();
    let reason = open(&pairs, Wish::default()).unwrap_err();
    assert!(
        reason.contains("1 images have no labels") && reason.contains("cell_1.tif"),
        "{reason}"
    );
    let wish = Wish {
        skip_unpaired: true,
        ..Wish::default()
    };
    let dataset = open(&pairs, wish).unwrap();
    assert_eq!(
        (dataset.names(), dataset.notes.len()),
        (&["cell_0".to_owned()][..], 2)
    );
    std::fs::remove_file(pairs.join("cell_0.tif")).unwrap();
    assert!(
        open(&pairs, Wish::default())
            .unwrap_err()
            .contains("no image with labels")
    );
}
