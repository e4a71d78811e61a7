//! Between the initialisers of an ONNX file of Mesmer and the weights of our network.

use std::collections::BTreeMap;

use candle_core::{DType, Device, Tensor};

use super::MesmerConfig;
use super::plan::{Convolution, HEAD_CHANNELS, Plan, STEM_NORM};
use crate::weights::onnx::{Graph, Initializer, Node};

/// What we call the inputs of a convolution and of a batch normalisation behind the first, in ONNX's order.
const CONVOLUTION: [&str; 2] = ["weight", "bias"];
const NORM: [&str; 4] = ["weight", "bias", "running_mean", "running_var"];

/// Channels of the input: nuclear and membrane.
const IMAGE_CHANNELS: usize = 2;

/// A layer of the file: its operation, and the names of its initialisers.
struct Layer<'a> {
    node: &'a Node<'a>,
    initializers: &'a [&'a str],
}

/// Layers by their name in the original, which is the second part of their initialisers' names:
/// `panopticnet/P3/Conv2D/ReadVariableOp:0`.
fn layers<'a>(graph: &'a Graph<'a>) -> BTreeMap<&'a str, Layer<'a>> {
    let with_weights = graph
        .nodes
        .iter()
        .filter(|node| matches!(node.op, "Conv" | "BatchNormalization"));
    with_weights
        .filter_map(|node| {
            let initializers = node.inputs.get(1..)?;
            let name = initializers.first()?.split('/').nth(1)?;
            Some((name, Layer { node, initializers }))
        })
        .collect()
}

/// The file's name of every weight of ours, by ours.
///
/// # Errors
/// If a layer is missing or stored in another manner.
pub fn names(graph: &Graph, config: &MesmerConfig) -> Result<BTreeMap<String, String>, String> {
    let layers = layers(graph);
    let mut names = BTreeMap::new();
    let mut add = |layer: &str, op: &str, parts: &[&str], stride: usize| {
        let found = layers.get(layer).filter(|found| found.node.op == op);
        let found = found.ok_or_else(|| {
            format!("{layer}: expected a {op} node whose weights bear this name, found none")
        })?;
        if found.initializers.len() != parts.len() {
            return Err(format!(
                "{layer}: expected a {op} node with {}, found one with {} initialisers",
                parts.join(", "),
                found.initializers.len()
            ));
        }
        let strides = found.node.integers.iter();
        let strides = strides.filter(|(name, _)| *name == "strides");
        if strides
            .flat_map(|(_, steps)| steps)
            .any(|&step| step != stride as i64)
        {
            return Err(format!("{layer}: expected stride {stride}, found another"));
        }
        for (part, initializer) in parts.iter().zip(found.initializers) {
            names.insert(format!("{layer}.{part}"), (*initializer).to_owned());
        }
        Ok(())
    };
    for conv in Plan::of(config).layers() {
        add(&conv.name, "Conv", &CONVOLUTION, conv.stride)?;
    }
    add(STEM_NORM, "BatchNormalization", &NORM, 1)?;
    Ok(names)
}

/// The sizes of the network that a file holds, all else as by default.
///
/// # Errors
/// If it is another network.
pub fn config(graph: &Graph) -> Result<MesmerConfig, String> {
    let layers = layers(graph);
    let outputs = |layer: &str| {
        let name = layers
            .get(layer)
            .and_then(|found| found.initializers.first());
        let found = name.and_then(|name| find(graph, name));
        let found = found.and_then(|found| found.shape.first().copied());
        found.ok_or_else(|| {
            format!("{layer}: expected a Conv node whose weights bear this name, found none")
        })
    };
    let blocks = |stage: usize| {
        let name = |block: usize| format!("conv{stage}_block{block}_1_conv");
        (1..)
            .take_while(|&block| layers.contains_key(name(block).as_str()))
            .count()
    };
    let config = MesmerConfig {
        filters: outputs("conv1_conv")?,
        blocks: [blocks(2), blocks(3), blocks(4), blocks(5)],
        pyramid: outputs("C5_reduced")?,
        semantic: outputs("conv_0_semantic_upsample_0")?,
        dense: outputs("conv_0_semantic_0")?,
        tile: tile(graph)?,
        ..MesmerConfig::default()
    };
    config.check().map_err(|error| error.to_string())?;
    Ok(config)
}

/// The side of the input `[N, side, side, 2]`.
fn tile(graph: &Graph) -> Result<usize, String> {
    let input = graph
        .inputs
        .iter()
        .find(|input| find(graph, input.name).is_none())
        .ok_or("the graph has no input")?;
    match input.shape[..] {
        [_, Some(height), Some(width), Some(IMAGE_CHANNELS)] if height == width => Ok(height),
        _ => Err(format!(
            "input {}: expected [N, side, side, {IMAGE_CHANNELS}] (nuclear and membrane channel last), found {:?}",
            input.name, input.shape
        )),
    }
}

fn find<'a>(graph: &'a Graph<'a>, name: &str) -> Option<&'a Initializer<'a>> {
    graph.initializers.iter().find(|known| known.name == name)
}

/// Checks that the file's operations are those of the network, so that equal weights mean equal outputs.
fn check_operations(graph: &Graph, config: &MesmerConfig) -> Result<(), String> {
    let blocks: usize = config.blocks.iter().sum();
    let expected = [
        ("Conv", Plan::of(config).layers().count()),
        // Two in the pyramid and three in each head.
        ("Resize", 2 + 3 * HEAD_CHANNELS.len()),
        ("Add", blocks + 2),
        // Behind the stem, three in a block, one in each head, and one behind the distances.
        ("Relu", 1 + 3 * blocks + HEAD_CHANNELS.len() + 2),
        ("Softmax", 2),
        ("MaxPool", 1),
        ("BatchNormalization", 1),
    ];
    for (op, expected) in expected {
        let found = graph.nodes.iter().filter(|node| node.op == op).count();
        if found != expected {
            return Err(format!("expected {expected} {op} nodes, found {found}"));
        }
    }
    for n in 0..HEAD_CHANNELS.len() {
        let name = format!("semantic_{n}");
        if !graph.outputs.contains(&name.as_str()) {
            return Err(format!(
                "expected an output {name}, found {}",
                graph.outputs.join(", ")
            ));
        }
    }
    Ok(())
}

/// The weights of a file by our names, and the settings that follow from them.
///
/// # Errors
/// If a node or an initialiser is missing or of another shape, or the graph is another network; the message names it.
pub fn import(graph: &Graph) -> Result<(MesmerConfig, Vec<(String, Tensor)>), String> {
    let config = config(graph)?;
    let names = names(graph, &config)?;
    let plan = Plan::of(&config);
    let shapes: BTreeMap<&str, &Convolution> = plan
        .layers()
        .map(|conv| (conv.name.as_str(), conv))
        .collect();
    let known: BTreeMap<&str, &Initializer> = graph
        .initializers
        .iter()
        .map(|initializer| (initializer.name, initializer))
        .collect();
    let mut tensors = Vec::new();
    for (ours, theirs) in &names {
        let found = known
            .get(theirs.as_str())
            .ok_or_else(|| format!("{theirs}: expected among the initialisers, missing"))?;
        let (layer, part) = ours.split_once('.').unwrap_or((ours, ""));
        let expected = match (shapes.get(layer), part) {
            (Some(conv), "weight") => vec![conv.outputs, conv.inputs, conv.side, conv.side],
            (Some(conv), _) => vec![conv.outputs],
            (None, _) => vec![config.filters],
        };
        if found.shape != expected {
            return Err(format!(
                "{theirs}: expected the shape {expected:?}, found {:?}",
                found.shape
            ));
        }
        tensors.push((ours.clone(), found.tensor()?));
    }
    check_operations(graph, &config)?;
    let count = Tensor::zeros((), DType::I64, &Device::Cpu).map_err(|error| error.to_string())?;
    tensors.push((format!("{STEM_NORM}.num_batches_tracked"), count));
    Ok((config, tensors))
}
