//! Arrays of an `.npz` archive, so that archives of any length fit.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use super::items::Items;

/// Deflate shrinks at most this much.
const LARGEST_RATIO: u64 = 1032;

/// An archive whose entries can be opened one by one, each from its beginning.
#[derive(Clone, Debug)]
pub(super) struct Archive {
    path: std::path::PathBuf,
    names: Vec<String>,
}

impl Archive {
    /// Opens an archive and lists its arrays.
    ///
    /// # Errors
    /// A sentence, if it is no zip archive or was cut off.
    pub fn open(path: &Path) -> Result<Self, String> {
        let zip = unzip(path)?;
        let mut names: Vec<String> = zip
            .file_names()
            .flatten()
            .filter_map(|name| name.strip_suffix(".npy").map(str::to_owned))
            .collect();
        names.sort();
        Ok(Self {
            path: path.to_owned(),
            names,
        })
    }

    /// The names of its arrays, sorted.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    pub fn has(&self, name: &str) -> bool {
        self.names.iter().any(|other| other == name)
    }

    /// The whole shape of an array.
    pub fn shape(&self, name: &str) -> Result<Vec<usize>, String> {
        self.with(name, |items| Ok(items.shape.clone()))
    }

    /// Calls `use_it` with the items of an array.
    ///
    /// # Errors
    /// A sentence, if there is no such array, or it promises more than the archive holds.
    pub fn with<T>(
        &self,
        name: &str,
        use_it: impl FnOnce(&mut Items<'_>) -> Result<T, String>,
    ) -> Result<T, String> {
        let mut zip = unzip(&self.path)?;
        let mut entry = zip
            .by_name(&format!("{name}.npy"))
            .map_err(|error| format!("array {name}: {error}"))?;
        let (length, packed) = (entry.size(), entry.compressed_size());
        if length > packed.saturating_mul(LARGEST_RATIO).saturating_add(64) {
            return Err(format!(
                "array {name} claims {length} bytes in {packed}; the file is damaged"
            ));
        }
        let mut source = BufReader::with_capacity(1 << 20, &mut entry as &mut dyn Read);
        let mut items = Items::open(name, &mut source, length)
            .map_err(|reason| format!("array {name}: {reason}"))?;
        use_it(&mut items)
    }

    /// The texts of an array, row-major, and its shape.
    ///
    /// # Errors
    /// As [`Archive::with`], and if the array holds something else.
    pub fn texts(&self, name: &str) -> Result<(Vec<usize>, Vec<String>), String> {
        self.with(name, |items| items.texts())
    }
}

fn unzip(path: &Path) -> Result<zip::ZipArchive<BufReader<File>>, String> {
    let file = File::open(path).map_err(|error| error.to_string())?;
    zip::ZipArchive::new(BufReader::new(file)).map_err(|error| {
        format!("{error}: it is no .npz archive, or was cut off; load it again if its size differs from the site's")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Made by NumPy: `tests/fixtures/datasets/objects.py`.
    fn archive() -> Archive {
        let path =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/datasets/objects.npz");
        Archive::open(&path).unwrap()
    }

    #[test]
    fn texts_and_tables_of_numpy() {
        let archive = archive();
        assert_eq!(
            archive.names(),
            ["meta", "numbers", "protocol2", "ragged", "tissue_list"]
        );
        let (shape, tissues) = archive.texts("tissue_list").unwrap();
        assert_eq!(
            (shape, tissues.as_slice()),
            (
                vec![2],
                &["Breast", "lymph node metastasis"].map(String::from)[..]
            )
        );
        let (shape, table) = archive.texts("meta").unwrap();
        assert_eq!(shape, [3, 3]);
        assert_eq!(
            table[3..],
            ["a.tif", "0.5", "Breast", "b.tif", "0.377", "GI"]
        );
        let reason = archive.texts("numbers").unwrap_err();
        assert!(reason.contains("found numbers"), "{reason}");
    }

    #[test]
    fn items_are_read_in_order_and_passed_over() {
        let archive = archive();
        let last = archive.with("numbers", |items| items.read(2)).unwrap();
        assert_eq!(last.shape, [2, 4]);
        assert_eq!(last.values, (16..24).map(f64::from).collect::<Vec<_>>());
        let back = archive.with("numbers", |items| {
            items.read(1)?;
            items.read(1)
        });
        assert!(back.unwrap_err().contains("no item 1"));
        for name in ["ragged", "protocol2"] {
            let [first, second] = archive
                .with(name, |items| Ok([items.read(0)?, items.read(1)?]))
                .unwrap();
            assert_eq!((&first.shape[..], first.values[11]), (&[3, 4][..], 11.));
            assert_eq!((&second.shape[..], second.values[9]), (&[2, 5][..], 2700.));
        }
    }
}
