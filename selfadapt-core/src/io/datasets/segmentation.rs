//! The `segmentation` of a COCO annotation: outlines, or runs as numbers or as text.

use std::fmt;

use serde::Deserialize;
use serde::de::{self, Deserializer, SeqAccess, Visitor, value::MapAccessDeserializer};

use super::runs::Runs;

/// What an annotation's mask is given as.
#[derive(Clone, Debug, PartialEq)]
pub enum Segmentation {
    /// Outlines `x, y, x, y, ...` in pixels; the mask is what is in any of them.
    Outlines(Vec<Vec<f64>>),
    /// Runs of an image of `[height, width]`.
    Runs([u32; 2], Counts),
}

/// Run lengths, beginning with background.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Counts {
    /// As they are.
    Numbers(Vec<u32>),
    /// Compressed.
    Text(String),
}

impl Segmentation {
    /// The mask in an image of `(height, width)`.
    ///
    /// # Errors
    /// A sentence, if it does not fit the image.
    pub fn runs(&self, size: (u32, u32)) -> Result<Runs, String> {
        match self {
            Self::Outlines(outlines) => {
                let parts: Result<Vec<Runs>, String> = outlines
                    .iter()
                    .map(|outline| Runs::from_outline(size, outline))
                    .collect();
                Ok(Runs::union(parts?))
            }
            Self::Runs(own, counts) => {
                if *own != [size.0, size.1] {
                    return Err(format!(
                        "a mask of {} x {} pixels in an image of {} x {}",
                        own[0], own[1], size.0, size.1
                    ));
                }
                match counts {
                    Counts::Numbers(counts) => Runs::from_counts(size, counts),
                    Counts::Text(text) => Runs::from_text(size, text),
                }
            }
        }
    }
}

impl<'de> Deserialize<'de> for Segmentation {
    fn deserialize<D: Deserializer<'de>>(source: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = Segmentation;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of outlines, or runs with size and counts")
            }

            fn visit_seq<S: SeqAccess<'de>>(self, mut items: S) -> Result<Segmentation, S::Error> {
                let (mut outlines, mut flat) = (Vec::new(), Vec::new());
                while let Some(item) = items.next_element::<Item>()? {
                    match item {
                        Item::Outline(outline) => outlines.push(outline),
                        Item::Number(number) => flat.push(number),
                    }
                }
                // A single outline without a list around it.
                if !flat.is_empty() {
                    outlines.push(flat);
                }
                Ok(Segmentation::Outlines(outlines))
            }

            fn visit_map<M: de::MapAccess<'de>>(self, map: M) -> Result<Segmentation, M::Error> {
                #[derive(Deserialize)]
                struct Encoded {
                    size: [u32; 2],
                    counts: Counts,
                }
                let Encoded { size, counts } =
                    Encoded::deserialize(MapAccessDeserializer::new(map))?;
                Ok(Segmentation::Runs(size, counts))
            }
        }
        source.deserialize_any(Either)
    }
}

/// What a list of outlines may hold.
enum Item {
    Outline(Vec<f64>),
    Number(f64),
}

impl<'de> Deserialize<'de> for Item {
    fn deserialize<D: Deserializer<'de>>(source: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = Item;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an outline, x, y, x, y, ...")
            }

            fn visit_seq<S: SeqAccess<'de>>(self, mut items: S) -> Result<Item, S::Error> {
                let mut outline = Vec::new();
                while let Some(number) = items.next_element::<f64>()? {
                    outline.push(number);
                }
                Ok(Item::Outline(outline))
            }

            fn visit_f64<E>(self, value: f64) -> Result<Item, E> {
                Ok(Item::Number(value))
            }

            fn visit_u64<E>(self, value: u64) -> Result<Item, E> {
                Ok(Item::Number(value as f64))
            }

            fn visit_i64<E>(self, value: i64) -> Result<Item, E> {
                Ok(Item::Number(value as f64))
            }
        }
        source.deserialize_any(Either)
    }
}

impl<'de> Deserialize<'de> for Counts {
    fn deserialize<D: Deserializer<'de>>(source: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = Counts;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("run lengths, as numbers or as text")
            }

            fn visit_seq<S: SeqAccess<'de>>(self, mut items: S) -> Result<Counts, S::Error> {
                let mut counts = Vec::new();
                while let Some(count) = items.next_element::<u32>()? {
                    counts.push(count);
                }
                Ok(Counts::Numbers(counts))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Counts, E> {
                Ok(Counts::Text(text.to_owned()))
            }

            fn visit_string<E: de::Error>(self, text: String) -> Result<Counts, E> {
                Ok(Counts::Text(text))
            }
        }
        source.deserialize_any(Either)
    }
}
