//! Every flag of Cellpose 2.3.2 and 3.1.1 (`cellpose/cli.py`), and what it means here.

/// What a flag comes to.
#[derive(Debug, PartialEq, Eq)]
pub enum Means {
    /// The folder of images.
    Folder,
    /// One image.
    Image,
    /// How the stems of images end.
    Filter,
    /// The folder for results.
    Out,
    Model,
    /// Channel to segment (0), channel of nuclei (1).
    Channel(usize),
    /// A flag of `segment` with one value.
    Value(&'static str),
    /// A flag of `segment` and `adapt` with one value.
    Shared(&'static str),
    /// A setting of the model.
    Setting(&'static str),
    /// A setting of the model at this value.
    Fixed(&'static str, &'static str),
    /// Two values.
    Percentiles,
    MinSize,
    Niter,
    /// No `_seg.npy`.
    NoSeg,
    /// Masks in this format.
    Masks(&'static str),
    /// Another kind of result.
    Save(&'static str),
    /// About the machine: told and dropped, with so many values.
    Hardware(usize),
    /// Works at this value only.
    Only(&'static str, &'static str),
    /// Takes so many values, and is refused.
    Refused(usize, &'static str),
}

impl Means {
    /// How many values follow the flag.
    pub fn values(&self) -> usize {
        match self {
            Self::Fixed(..) | Self::NoSeg | Self::Masks(_) | Self::Save(_) => 0,
            Self::Percentiles => 2,
            Self::Hardware(values) | Self::Refused(values, _) => *values,
            _ => 1,
        }
    }
}

const VOLUMES: &str = "selfadapt works on planes, not on volumes; --plane N takes one of a stack";
const TRAINING: &str =
    "this is training with labels, which `selfadapt train` does; `selfadapt adapt` learns without";
const RESTORING: &str = "restoring images is a network of its own, which selfadapt does not build";
const NETWORK: &str = "the file's own weights tell how the network is built";

use Means::{
    Channel, Filter, Fixed, Folder, Hardware, Image, Masks, MinSize, Model, Niter, NoSeg, Only,
    Out, Percentiles, Refused, Save, Setting, Shared, Value,
};

/// Flags and their meaning. `--diameter`, `--augment`, `--verbose` and `--version` are ours too.
pub const TABLE: &[(&str, Means)] = &[
    // hardware
    ("--use_gpu", Hardware(0)),
    ("--gpu_device", Hardware(1)),
    ("--check_mkl", Hardware(0)),
    ("--mxnet", Hardware(0)),
    // input
    ("--dir", Folder),
    ("--image_path", Image),
    (
        "--look_one_level_down",
        Refused(
            0,
            "name the inner folders after the command instead: images/*/",
        ),
    ),
    ("--img_filter", Filter),
    ("--channel_axis", Shared("--channel-axis")),
    ("--z_axis", Refused(1, VOLUMES)),
    ("--chan", Channel(0)),
    ("--chan2", Channel(1)),
    ("--invert", Fixed("invert", "true")),
    (
        "--all_channels",
        Refused(
            0,
            "networks of Cellpose 2 and 3 take two channels; --chan and --chan2 choose them",
        ),
    ),
    // model
    ("--pretrained_model", Model),
    ("--restore_type", Refused(1, RESTORING)),
    ("--chan2_restore", Refused(0, RESTORING)),
    (
        "--add_model",
        Refused(
            1,
            "`selfadapt models add FILE --name NAME --to-cellpose` does this",
        ),
    ),
    (
        "--transformer",
        Refused(0, "the transformer of Cellpose 3 is not built here"),
    ),
    ("--pretrained_model_ortho", Refused(1, VOLUMES)),
    (
        "--unet",
        Refused(0, "U-Nets without flows are not built here"),
    ),
    ("--nclasses", Refused(1, NETWORK)),
    (
        "--net_avg",
        Refused(0, "one network is run, not the mean of four"),
    ),
    ("--residual_on", Refused(1, NETWORK)),
    ("--style_on", Refused(1, NETWORK)),
    ("--concatenation", Refused(1, NETWORK)),
    // algorithm
    ("--no_resample", Fixed("resample", "false")),
    ("--fast_mode", Fixed("resample", "false")),
    ("--no_interp", Fixed("interp", "false")),
    (
        "--no_norm",
        Refused(
            0,
            "images are always normalised; --norm_percentile 0 100 takes their whole range",
        ),
    ),
    ("--norm_percentile", Percentiles),
    ("--do_3D", Refused(0, VOLUMES)),
    ("--stitch_threshold", Only("0", VOLUMES)),
    ("--flow3D_smooth", Only("0", VOLUMES)),
    ("--anisotropy", Only("1", VOLUMES)),
    ("--min_size", MinSize),
    ("--flow_threshold", Setting("flow_threshold")),
    ("--cellprob_threshold", Setting("cellprob_threshold")),
    ("--niter", Niter),
    ("--exclude_on_edges", Fixed("exclude_on_edges", "true")),
    (
        "--bsize",
        Refused(
            1,
            "a flag of Cellpose 4; tiles have 224 pixels as in Cellpose 3",
        ),
    ),
    ("--batch_size", Value("--batch-size")),
    // output
    ("--save_png", Masks("png")),
    ("--save_tif", Masks("tif")),
    (
        "--output_name",
        Refused(1, "results are named after their images"),
    ),
    ("--no_npy", NoSeg),
    ("--savedir", Out),
    ("--dir_above", Refused(0, "name the folder by --savedir")),
    (
        "--in_folders",
        Refused(
            0,
            "all results of an image go to one folder; run once for each kind with its own --savedir",
        ),
    ),
    ("--save_flows", Save("flows")),
    ("--save_outlines", Save("overlay")),
    ("--save_rois", Save("rois")),
    ("--save_txt", Save("outlines")),
    (
        "--save_mpl",
        Refused(
            0,
            "figures by matplotlib are not drawn; --save_outlines draws the outlines",
        ),
    ),
    (
        "--save_ncolor",
        Refused(
            0,
            "masks in few colours are not drawn; --save_outlines draws the outlines",
        ),
    ),
    // training
    ("--train", Refused(0, TRAINING)),
    ("--train_size", Refused(0, TRAINING)),
    ("--test_dir", Refused(1, TRAINING)),
    ("--file_list", Refused(1, TRAINING)),
    ("--mask_filter", Value("--skip")),
    (
        "--diam_mean",
        Refused(1, "the file tells the diameter that it was trained at"),
    ),
    ("--learning_rate", Refused(1, TRAINING)),
    ("--weight_decay", Refused(1, TRAINING)),
    ("--n_epochs", Refused(1, TRAINING)),
    ("--train_batch_size", Refused(1, TRAINING)),
    ("--nimg_per_epoch", Refused(1, TRAINING)),
    ("--nimg_test_per_epoch", Refused(1, TRAINING)),
    ("--min_train_masks", Refused(1, TRAINING)),
    ("--SGD", Refused(1, TRAINING)),
    ("--save_every", Refused(1, TRAINING)),
    ("--save_each", Refused(0, TRAINING)),
    ("--model_name_out", Refused(1, TRAINING)),
    // others
    ("--Zstack", Refused(0, VOLUMES)),
];
