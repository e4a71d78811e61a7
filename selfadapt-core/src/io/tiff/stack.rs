//! What the pages of a TIFF file are: ImageJ's, OME's and tifffile's descriptions of stacks.

use quick_xml::XmlVersion;
use quick_xml::events::Event;

use super::super::axes::Axis;
use super::directory::Contents;

/// The axes outside a page, slowest first, and the page for each of their positions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stack {
    pub axes: Vec<(Axis, usize)>,
    pub pages: Vec<usize>,
    pub origin: &'static str,
    /// How many planes the description promises; more than there are pages if they follow each other without
    /// directories of their own.
    pub promised: usize,
}

/// Reads the description of the first page; without one, pages of one kind make an axis of unknown meaning.
///
/// # Errors
/// A sentence, if the description promises planes that the file does not hold.
pub(super) fn describe(contents: &Contents) -> Result<Stack, String> {
    let text = contents.description.trim();
    let alike: Vec<usize> = match contents.pages.first() {
        None => return Err("it holds no page".to_owned()),
        Some(first) => (0..contents.pages.len())
            .filter(|&i| contents.pages[i].like(first))
            .collect(),
    };
    let described = if text.starts_with("ImageJ=") {
        imagej(text, alike.len())
    } else if text.starts_with('{') {
        shaped(text, contents)
    } else if text.starts_with('<') && text.contains("<Pixels") || text.contains(":Pixels") {
        return ome(text, contents.pages.len());
    } else {
        None
    };
    Ok(match described {
        Some((axes, origin)) => {
            let promised = axes.iter().map(|&(_, size)| size).product();
            Stack {
                axes,
                pages: alike,
                origin,
                promised,
            }
        }
        None => {
            let promised = alike.len();
            let axes = if promised > 1 {
                vec![(Axis::Unknown, promised)]
            } else {
                Vec::new()
            };
            Stack {
                axes,
                pages: alike,
                origin: "TIFF tags",
                promised,
            }
        }
    })
}

/// ImageJ: `channels`, `slices` and `frames`, channels running fastest; else a bare number of `images`.
fn imagej(text: &str, pages: usize) -> Option<(Vec<(Axis, usize)>, &'static str)> {
    let value = |key: &str| {
        text.lines()
            .find_map(|line| {
                line.strip_prefix(key)?
                    .strip_prefix('=')?
                    .trim()
                    .parse::<usize>()
                    .ok()
            })
            .filter(|&value| value > 0)
    };
    let images = value("images").unwrap_or(1);
    let axes = [
        ("frames", Axis::Time),
        ("slices", Axis::Z),
        ("channels", Axis::Channel),
    ]
    .map(|(key, axis)| (axis, value(key).unwrap_or(1)));
    let product = axes
        .iter()
        .try_fold(1_usize, |product, &(_, size)| product.checked_mul(size))?;
    if product == images.max(pages) {
        let axes = axes.into_iter().filter(|&(_, size)| size > 1).collect();
        return Some((axes, "ImageJ"));
    }
    (images >= pages && images > 1).then(|| (vec![(Axis::Unknown, images)], "ImageJ"))
}

/// tifffile: `{"shape": [3, 64, 64], "axes": "CYX"}`, the page's own axes included.
fn shaped(text: &str, contents: &Contents) -> Option<(Vec<(Axis, usize)>, &'static str)> {
    let json: serde_json::Value = serde_json::from_str(text).ok()?;
    let shape: Option<Vec<usize>> = json
        .get("shape")?
        .as_array()?
        .iter()
        .map(|size| size.as_u64().and_then(|size| usize::try_from(size).ok()))
        .collect();
    let shape = shape?;
    let letters: Vec<char> = json
        .get("axes")
        .and_then(|axes| axes.as_str())
        .unwrap_or("")
        .chars()
        .collect();
    let page = contents.pages.first()?;
    let inner = match (page.samples, page.planar) {
        (1, _) => vec![page.height, page.width],
        (samples, false) => vec![page.height, page.width, samples],
        (samples, true) => vec![samples, page.height, page.width],
    };
    let outer = shape.strip_suffix(inner.as_slice())?;
    let axes = outer.iter().enumerate().map(|(i, &size)| {
        let axis = if letters.len() == shape.len() {
            Axis::from_letter(letters[i])
        } else {
            Axis::Unknown
        };
        (axis, size)
    });
    let planes = outer
        .iter()
        .try_fold(1_usize, |product, &size| product.checked_mul(size))?;
    (planes >= 1).then(|| (axes.collect(), "tifffile"))
}

/// OME: the first image's sizes and plane order; `TiffData` says which directory holds which plane.
fn ome(text: &str, directories: usize) -> Result<Stack, String> {
    let mut reader = quick_xml::Reader::from_str(text);
    let mut order: Vec<(Axis, usize)> = Vec::new();
    let mut channel_samples = None;
    let mut blocks: Vec<Block> = Vec::new();
    loop {
        let event = reader
            .read_event()
            .map_err(|error| format!("its OME description: {error}"))?;
        match event {
            Event::Start(tag) | Event::Empty(tag) => {
                let attribute = |key: &str| {
                    tag.attributes()
                        .flatten()
                        .find(|attribute| attribute.key.local_name().as_ref() == key)
                        .and_then(|attribute| {
                            attribute
                                .normalized_value(XmlVersion::Implicit1_0)
                                .ok()
                                .map(|v| v.into_owned())
                        })
                };
                let number =
                    |key: &str| attribute(key).and_then(|value| value.parse::<usize>().ok());
                match tag.local_name().as_ref() {
                    "Pixels" => {
                        let letters = attribute("DimensionOrder")
                            .ok_or("its OME description has no DimensionOrder")?;
                        // XYCZT: X runs fastest, so the slowest axis is the last letter.
                        for letter in letters
                            .chars()
                            .skip(2)
                            .collect::<Vec<_>>()
                            .into_iter()
                            .rev()
                        {
                            let size = number(&format!("Size{letter}")).unwrap_or(1);
                            order.push((Axis::from_letter(letter), size));
                        }
                    }
                    "Channel" => {
                        channel_samples = channel_samples.or(number("SamplesPerPixel"));
                    }
                    "TiffData" => blocks.push(Block {
                        directory: number("IFD"),
                        first: [
                            ("FirstC", Axis::Channel),
                            ("FirstZ", Axis::Z),
                            ("FirstT", Axis::Time),
                        ]
                        .map(|(key, axis)| (axis, number(key).unwrap_or(0))),
                        count: number("PlaneCount"),
                    }),
                    _ => {}
                }
            }
            Event::End(tag) if tag.local_name().as_ref() == "Pixels" => break,
            Event::Eof => break,
            _ => {}
        }
    }
    if order.is_empty() {
        return Err("its OME description has no Pixels element".to_owned());
    }
    if let Some(samples) = channel_samples {
        for (axis, size) in &mut order {
            if *axis == Axis::Channel {
                *size = size.div_ceil(samples.max(1));
            }
        }
    }
    let planes = order
        .iter()
        .try_fold(1_usize, |product, &(_, size)| product.checked_mul(size))
        .filter(|&planes| planes > 0 && planes <= directories)
        .ok_or_else(|| {
            let sizes: Vec<String> =
                order.iter().map(|(axis, size)| format!("{}={size}", axis.letter())).collect();
            format!(
                "its OME description promises planes {}, but the file holds {directories}: the rest lies in \
                 other files of a set; save the set as one file, for example with Bio-Formats' bfconvert",
                sizes.join(" ")
            )
        })?;
    let pages = place_planes(&order, &blocks, planes, directories)?;
    order.retain(|&(_, size)| size > 1);
    Ok(Stack {
        axes: order,
        pages,
        origin: "OME",
        promised: planes,
    })
}

/// A `TiffData` element.
struct Block {
    directory: Option<usize>,
    first: [(Axis, usize); 3],
    count: Option<usize>,
}

fn place_planes(
    order: &[(Axis, usize)],
    blocks: &[Block],
    planes: usize,
    directories: usize,
) -> Result<Vec<usize>, String> {
    let mut pages: Vec<Option<usize>> = vec![None; planes];
    for block in blocks {
        let plane = order.iter().fold(0_usize, |plane, &(axis, size)| {
            let first = block
                .first
                .iter()
                .find(|(a, _)| *a == axis)
                .map_or(0, |&(_, first)| first);
            plane.saturating_mul(size).saturating_add(first)
        });
        let count = block
            .count
            .unwrap_or(if block.directory.is_some() { 1 } else { planes });
        let start = block.directory.unwrap_or(0);
        for k in 0..count.min(planes) {
            if let Some(page) = pages.get_mut(plane.saturating_add(k)) {
                *page = Some(start.saturating_add(k));
            }
        }
    }
    if blocks.is_empty() {
        pages = (0..planes).map(Some).collect();
    }
    let found: Option<Vec<usize>> = pages
        .into_iter()
        .map(|page| page.filter(|&page| page < directories))
        .collect();
    found.ok_or_else(|| {
        format!("its OME description places planes outside the {directories} pages of the file")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn imagej_hyperstack_and_plain_stack() {
        let text = "ImageJ=1.53t\nimages=12\nchannels=2\nslices=3\nframes=2\nhyperstack=true\n";
        let axes = vec![(Axis::Time, 2), (Axis::Z, 3), (Axis::Channel, 2)];
        assert_eq!(imagej(text, 12), Some((axes, "ImageJ")));
        let odd = "ImageJ=1.53t\nimages=7\nchannels=2\nslices=3\n";
        assert_eq!(imagej(odd, 7), Some((vec![(Axis::Unknown, 7)], "ImageJ")));
        assert_eq!(imagej("ImageJ=1.53t\n", 1), Some((Vec::new(), "ImageJ")));
    }

    #[test]
    fn ome_orders_planes() {
        let text = r#"<?xml version="1.0"?><OME xmlns="x"><Image ID="Image:0"><Pixels DimensionOrder="XYZCT"
            SizeX="4" SizeY="4" SizeZ="2" SizeC="3" SizeT="1" Type="uint8">
            <TiffData IFD="5" FirstC="2" FirstZ="1" PlaneCount="1"/>
            <TiffData IFD="0" PlaneCount="5"/></Pixels></Image></OME>"#;
        let stack = ome(text, 6).unwrap();
        assert_eq!(stack.axes, vec![(Axis::Channel, 3), (Axis::Z, 2)]);
        assert_eq!(stack.pages, vec![0, 1, 2, 3, 4, 5]);
        assert!(ome(text, 4).unwrap_err().contains("bfconvert"));
    }
}
