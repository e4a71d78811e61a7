//! The readers of the libraries as functions of bytes: each must come back, with an error or without, for any input.

use std::cell::OnceCell;
use std::io::{Cursor, Write};
use std::path::{Path, PathBuf};

use selfadapt_core::io::datasets::{Dataset, Wish, coco, overlaps, runs::Runs};
use selfadapt_core::io::{self, Axes};
use selfadapt_models::weights::{hdf5, onnx, safetensors, size_model, torch};
use selfadapt_models::{format, run_folder};
use zip::write::SimpleFileOptions;

/// A reader under test.
#[derive(Clone, Copy)]
pub struct Reader {
    /// Its name on the command line, and that of its folder of seeds.
    pub name: &'static str,
    /// Reads the bytes.
    pub read: fn(&[u8]),
}

/// Every reader of the libraries.
pub const READERS: &[Reader] = &[
    Reader {
        name: "torch",
        read: |bytes| {
            with_file("a.pt", bytes, |path| {
                let _ = torch::read(path).and_then(|weights| weights.for_network());
            });
        },
    },
    Reader {
        // A zip's checksums would stop nearly every change, so the zip is made around the pickle.
        name: "torch-pickle",
        read: |bytes| {
            let storage: Vec<u8> = (0..=255).collect();
            let zipped = zipped(&[
                ("a/data.pkl", bytes),
                ("a/byteorder", b"little"),
                ("a/data/0", &storage),
                ("a/data/1", &storage),
                ("a/data/2", &storage),
            ]);
            with_file("a.pt", &zipped, |path| {
                let _ = torch::read(path).and_then(|weights| weights.for_network());
            });
        },
    },
    Reader {
        name: "safetensors",
        read: |bytes| {
            with_file("a.safetensors", bytes, |path| {
                let _ = safetensors::read(path);
            });
        },
    },
    Reader {
        name: "hdf5",
        read: |bytes| {
            let _ = hdf5::parse(bytes.to_vec());
        },
    },
    Reader {
        name: "onnx",
        read: |bytes| {
            if let Ok(graph) = onnx::Graph::parse(bytes) {
                for initializer in &graph.initializers {
                    let _ = initializer.tensor();
                }
            }
            let _ = onnx::skeleton(bytes, |_| true);
        },
    },
    Reader {
        name: "size-model",
        read: |bytes| {
            with_file("a.npy", bytes, |path| {
                let _ = size_model::SizeModel::read(path);
            });
        },
    },
    Reader {
        // A snapshot or a delivered model: the configuration is in its metadata.
        name: "snapshot",
        read: |bytes| {
            with_file("a.safetensors", bytes, |path| {
                let _ = format::open(path);
            });
        },
    },
    Reader {
        name: "run-folder",
        read: |bytes| {
            with_file(run_folder::CONFIG_FILE, bytes, |path| {
                if let Some(folder) = path.parent() {
                    let _ = run_folder::open(folder);
                }
            });
        },
    },
    Reader {
        name: "tiff",
        read: |bytes| image("a.tif", bytes),
    },
    Reader {
        name: "ome-xml",
        read: |bytes| image("a.tif", &described(bytes)),
    },
    Reader {
        name: "png",
        read: |bytes| image("a.png", bytes),
    },
    Reader {
        name: "jpeg",
        read: |bytes| image("a.jpg", bytes),
    },
    Reader {
        name: "npy",
        read: |bytes| image("a.npy", bytes),
    },
    Reader {
        name: "npz",
        read: |bytes| image("a.npz", bytes),
    },
    Reader {
        name: "npz-array",
        read: |bytes| image("a.npz", &zipped(&[("a.npy", bytes)])),
    },
    Reader {
        name: "zarr",
        read: zarr,
    },
    Reader {
        name: "seg",
        read: |bytes| {
            with_file("a_seg.npy", bytes, |path| {
                let _ = io::read_labels(path);
            });
        },
    },
    Reader {
        name: "coco",
        read: |bytes| with_file("a.json", bytes, annotations),
    },
    Reader {
        name: "coco-runs",
        read: |bytes| {
            let _ = Runs::from_text((24, 32), &String::from_utf8_lossy(bytes));
        },
    },
    Reader {
        // The table of TissueNet 1.1, which is an array of Python objects.
        name: "tissuenet-meta",
        read: |bytes| {
            let mut array = b"\x93NUMPY\x01\x00\x76\x00".to_vec();
            array.extend(b"{'descr': '|u1', 'fortran_order': False, 'shape': (2, 2, 2, 2), }");
            array.resize(128, b' ');
            array.extend([1; 16]);
            let zipped = zipped(&[("X.npy", &array), ("y.npy", &array), ("meta.npy", bytes)]);
            with_file("tissuenet_v1.1_test.npz", &zipped, |path| {
                if let Ok(dataset) = Dataset::open(path, None, &Wish::default()) {
                    let _ = dataset.visit(&[0, 1], &mut |_, _| Ok(()));
                }
            });
        },
    },
];

/// The images of a COCO file, their masks, and the labels of those that are small.
fn annotations(path: &Path) {
    const SMALL: u32 = 256;
    let Ok(images) = coco::images(path) else {
        return;
    };
    let wanted = images
        .iter()
        .map(|(image, _)| (image.id, (image.height, image.width)))
        .collect();
    let Ok(masks) = coco::masks(path, &wanted) else {
        return;
    };
    for (id, (height, width)) in wanted {
        if let (Some(of), true) = (masks.get(&id), height.max(width) <= SMALL) {
            let _ = overlaps::paint((height as usize, width as usize), &of.masks);
        }
    }
}

/// As an image with the axes of the file and with chosen ones, and as labels.
fn image(name: &str, bytes: &[u8]) {
    with_file(name, bytes, |path| {
        if let Ok((image, _)) = io::read(path, &Axes::default()) {
            let _ = io::check_finite(&image);
        }
        let chosen = Axes {
            channel_axis: None,
            plane: Some(1),
        };
        let _ = io::read(path, &chosen);
        let _ = io::read_labels(path);
    });
}

/// The OME-Zarr fixtures as `(file, bytes)`, in order; the first byte of an input says which file is replaced, the others
/// by what.
///
/// # Errors
/// If a fixture cannot be read.
pub fn zarr_files() -> std::io::Result<Vec<(PathBuf, Vec<u8>)>> {
    let (mut folders, mut files) = (vec![zarr_fixtures()], Vec::new());
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder)? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_none_or(|extension| extension != "py") {
                let bytes = std::fs::read(&path)?;
                let inside = path.strip_prefix(zarr_fixtures()).map(Path::to_owned);
                files.push((inside.unwrap_or_default(), bytes));
            }
        }
    }
    files.sort();
    Ok(files)
}

fn zarr_fixtures() -> PathBuf {
    // This file is also part of the workspace's tests, whose manifest lies beside this one's folder as well.
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/zarr")
}

/// One of the fixtures with one of its files replaced.
fn zarr(bytes: &[u8]) {
    thread_local! {
        static COPY: OnceCell<(tempfile::TempDir, Vec<(PathBuf, Vec<u8>)>)> = const { OnceCell::new() };
    }
    let copied = || {
        let folder = tempfile::tempdir()?;
        let files = zarr_files()?;
        for (name, bytes) in &files {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap_or(&path))?;
            std::fs::write(path, bytes)?;
        }
        std::io::Result::Ok((folder, files))
    };
    COPY.with(|cell| {
        let Some((folder, files)) = cell.get().or_else(|| {
            let _ = cell.set(copied().ok()?);
            cell.get()
        }) else {
            return;
        };
        let Some((&first, bytes)) = bytes.split_first() else {
            return;
        };
        let (name, whole) = &files[usize::from(first) % files.len()];
        let path = folder.path().join(name);
        if std::fs::write(&path, bytes).is_ok()
            && let Some(image) = name.iter().next()
            && let Ok((image, _)) = io::read(folder.path().join(image), &Axes::default())
        {
            let _ = io::check_finite(&image);
        }
        let _ = std::fs::write(&path, whole);
    });
}

/// Calls `read` on a file of that name and content; its folder holds nothing else.
pub fn with_file(name: &str, bytes: &[u8], read: impl FnOnce(&Path)) {
    thread_local! {
        static FOLDER: OnceCell<tempfile::TempDir> = const { OnceCell::new() };
    }
    FOLDER.with(|cell| {
        let Some(folder) = cell.get().or_else(|| {
            let _ = cell.set(tempfile::tempdir().ok()?);
            cell.get()
        }) else {
            return;
        };
        let path = folder.path().join(name);
        if std::fs::write(&path, bytes).is_ok() {
            read(&path);
        }
        let _ = std::fs::remove_file(&path);
    });
}

/// A zip of stored entries.
pub fn zipped(entries: &[(&str, &[u8])]) -> Vec<u8> {
    let mut writer = zip::ZipWriter::new(Cursor::new(Vec::new()));
    let stored = SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    for (name, bytes) in entries {
        let started = writer.start_file(*name, stored);
        if started.is_ok() {
            let _ = writer.write_all(bytes);
        }
    }
    writer.finish().map(Cursor::into_inner).unwrap_or_default()
}

/// A TIFF file of 2 x 2 pixels and three pages with this description.
fn described(text: &[u8]) -> Vec<u8> {
    let mut file = b"II*\0\x08\0\0\0".to_vec();
    let text_at = 8 + 3 * (2 + 12 * 7 + 4);
    let pixels_at = text_at + text.len() as u32 + 1;
    for page in 0..3_u32 {
        let next = 8 + (page + 1) * (2 + 12 * 7 + 4);
        let entries = [
            (256, 4, 1, 2),
            (257, 4, 1, 2),
            (258, 3, 1, 8),
            (259, 3, 1, 1),
            (270, 2, text.len() as u32 + 1, text_at),
            (273, 4, 1, pixels_at),
            (279, 4, 1, 4),
        ];
        file.extend(7_u16.to_le_bytes());
        for (tag, kind, count, value) in entries {
            file.extend(u16::to_le_bytes(tag));
            file.extend(u16::to_le_bytes(kind));
            file.extend(u32::to_le_bytes(count));
            file.extend(u32::to_le_bytes(value));
        }
        file.extend(if page < 2 { next } else { 0 }.to_le_bytes());
    }
    file.extend(text);
    file.push(0);
    file.extend([1, 2, 3, 4]);
    file
}
