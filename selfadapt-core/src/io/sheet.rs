//! A label image that lies on disk while it is made, four bytes a pixel, and goes when it is let go.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;

use crate::error::{Error, Result};
use crate::infer::stream::LabelSheet;

/// A temporary file of labels `[H, W]`. It has no name, so nothing is left of it after a crash.
#[derive(Debug)]
pub struct Sheet {
    file: File,
    folder: std::path::PathBuf,
    height: usize,
    width: usize,
}

impl Sheet {
    /// A sheet of zeros in `folder`, whose disk needs room for 4 bytes a pixel.
    ///
    /// # Errors
    /// If the file cannot be made.
    pub fn new(folder: impl AsRef<Path>, (height, width): (usize, usize)) -> Result<Self> {
        let folder = folder.as_ref();
        let failed = |error: std::io::Error| Error::write(folder, error);
        let bytes = (height as u64)
            .checked_mul(width as u64)
            .and_then(|pixels| pixels.checked_mul(4))
            .ok_or_else(|| Error::Image(format!("{height} x {width} pixels are too many")))?;
        let file = tempfile::tempfile_in(folder).map_err(failed)?;
        file.set_len(bytes).map_err(failed)?;
        Ok(Self {
            file,
            folder: folder.to_owned(),
            height,
            width,
        })
    }

    /// `(height, width)` in pixels.
    pub fn size(&self) -> (usize, usize) {
        (self.height, self.width)
    }

    fn seek(&mut self, row: usize, left: usize, count: usize) -> Result<()> {
        if row >= self.height || left + count > self.width {
            return Err(Error::Setting(format!(
                "row {row}, columns {left} to {} lie beyond {} x {} labels",
                left + count,
                self.height,
                self.width
            )));
        }
        let at = (row as u64 * self.width as u64 + left as u64) * 4;
        self.file
            .seek(SeekFrom::Start(at))
            .map_err(|error| Error::write(&self.folder, error))?;
        Ok(())
    }
}

impl LabelSheet for Sheet {
    fn read(&mut self, row: usize, left: usize, labels: &mut [u32]) -> Result<()> {
        self.seek(row, left, labels.len())?;
        let mut bytes = vec![0; labels.len() * 4];
        self.file
            .read_exact(&mut bytes)
            .map_err(|error| Error::read(&self.folder, error))?;
        for (label, bytes) in labels.iter_mut().zip(bytes.as_chunks::<4>().0) {
            *label = u32::from_le_bytes(*bytes);
        }
        Ok(())
    }

    fn write(&mut self, row: usize, left: usize, labels: &[u32]) -> Result<()> {
        self.seek(row, left, labels.len())?;
        let bytes: Vec<u8> = labels
            .iter()
            .flat_map(|label| label.to_le_bytes())
            .collect();
        self.file
            .write_all(&bytes)
            .map_err(|error| Error::write(&self.folder, error))
    }
}

/// Labels in the order of their first pixels, row by row, as they are read from a sheet from top to bottom.
#[derive(Debug)]
pub struct Renumbering {
    new: Vec<u32>,
    count: u32,
}

impl Renumbering {
    /// For labels `1..=largest`.
    pub fn new(largest: usize) -> Self {
        Self {
            new: vec![0; largest + 1],
            count: 0,
        }
    }

    /// Gives the labels of the next pixels their new numbers.
    pub fn apply(&mut self, labels: &mut [u32]) {
        for label in labels.iter_mut().filter(|label| **label != 0) {
            if let Some(new) = self.new.get_mut(*label as usize) {
                if *new == 0 {
                    self.count += 1;
                    *new = self.count;
                }
                *label = *new;
            }
        }
    }

    /// How many labels were met.
    pub fn count(&self) -> usize {
        self.count as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_come_back_and_labels_are_numbered_by_first_pixel() {
        let folder = tempfile::tempdir().unwrap();
        let mut sheet = Sheet::new(folder.path(), (3, 5)).unwrap();
        sheet.write(0, 3, &[7, 7]).unwrap();
        sheet.write(2, 1, &[70_000, 0, 7]).unwrap();
        let mut line = [1; 5];
        let mut numbers = Renumbering::new(70_000);
        let expected = [[0, 0, 0, 1, 1], [0; 5], [0, 2, 0, 1, 0]];
        for (row, expected) in expected.iter().enumerate() {
            sheet.read(row, 0, &mut line).unwrap();
            numbers.apply(&mut line);
            assert_eq!(&line, expected);
        }
        assert_eq!(numbers.count(), 2);
        assert!(sheet.write(3, 0, &[1]).is_err());
        assert!(sheet.write(0, 4, &[1, 1]).is_err());
        // Nothing of it is seen in the folder.
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
