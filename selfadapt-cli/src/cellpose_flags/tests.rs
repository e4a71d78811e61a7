//! Whole commands of Cellpose's, and what becomes of them.

use super::*;
use crate::book::assert_generated;

fn words(text: &str) -> Vec<OsString> {
    text.split(' ').map(OsString::from).collect()
}

/// The translated command without the program, and its notes.
fn ours(text: &str) -> (String, Vec<String>) {
    let translated = translate(words(text)).unwrap();
    let rest: Vec<String> = translated.arguments[1..]
        .iter()
        .map(|word| word.to_str().unwrap().to_owned())
        .collect();
    (rest.join(" "), translated.notes)
}

fn refused(text: &str) -> String {
    translate(words(text)).unwrap_err().to_string()
}

#[test]
fn a_usual_command_is_translated() {
    let (command, notes) = ours(
        "selfadapt segment --dir in --pretrained_model cyto2 --chan 2 --chan2 1 --diameter 0. --flow_threshold 0.6 \
         --cellprob_threshold -1 --min_size -1 --niter 0 --save_tif --save_rois --no_npy --use_gpu --verbose",
    );
    assert_eq!(
        command,
        "segment --model=cyto2 --set=flow_threshold=0.6 --set=cellprob_threshold=-1 --set=min_size=0 --verbose \
         --channels=2,1 --format=tif --save=masks,rois --out=in in"
    );
    assert_eq!(
        notes,
        [
            "--use_gpu: has no effect; --device chooses, by itself a GPU that can be used",
            "--out in: beside the images"
        ]
    );
}

#[test]
fn defaults_are_those_of_cellpose_and_are_told() {
    let (command, notes) = ours("selfadapt segment --image_path=a/b.tif");
    assert_eq!(
        command,
        "segment --model=cyto3 --diameter=30 --save=seg --out=a a/b.tif"
    );
    assert_eq!(notes.len(), 3, "{notes:?}");
}

#[test]
fn adapt_takes_the_same_command() {
    let (command, notes) = ours(
        "selfadapt --threads 2 adapt --dir in --pretrained_model nuclei --diameter 17 --save_png --niter 300 \
         --norm_percentile 2 98 --steps 5",
    );
    assert_eq!(
        command,
        "--threads 2 adapt --model=nuclei --set=niter=300 --set=percentiles=[2,98] --steps 5 --diameter=17 \
         --out=in/selfadapt in"
    );
    assert!(
        notes
            .iter()
            .any(|note| note.contains("adapt writes a model")),
        "{notes:?}"
    );
    let (command, _) = ours("selfadapt adapt --dir in --savedir run --img_filter _c1");
    assert!(command.ends_with("--out=run in/*_c1.*"), "{command}");
}

#[test]
fn our_own_commands_are_left_alone() {
    for command in [
        "selfadapt segment --model m --diameter 20 --out o in",
        "selfadapt models info m",
        "selfadapt evaluate --pred a --truth --dir",
        "selfadapt",
    ] {
        let translated = translate(words(command)).unwrap();
        assert_eq!(translated.arguments, words(command));
        assert!(translated.notes.is_empty());
    }
}

#[test]
fn what_has_no_counterpart_is_refused_by_name() {
    for (flags, expected) in [
        ("--do_3D", "planes"),
        ("--stitch_threshold 0.5", "planes"),
        ("--train", "labels"),
        ("--save_tif --save_png", "another format"),
        ("--no_npy", "nothing is left to save"),
        ("--image_path x.tif", "give one of them"),
        ("--chan", "expected a value"),
    ] {
        let message = refused(&format!("selfadapt segment --dir in {flags}"));
        let flag = flags.split(' ').next_back().unwrap_or(flags);
        assert!(message.contains(expected), "{flag}: {message}");
    }
    assert!(
        ours("selfadapt segment --dir in --stitch_threshold 0.0")
            .0
            .contains("segment")
    );
    assert!(
        refused("selfadapt adapt --dir in --batch_size 4").contains("adapt has no --batch-size")
    );
    let message = refused("selfadapt segment --image_path x.tif --img_filter _c1");
    assert!(message.contains("--dir, which is not given"), "{message}");
}

#[test]
fn flags_are_unique_and_not_ours() {
    let mut names: Vec<&str> = TABLE.iter().map(|(name, _)| *name).collect();
    names.sort_unstable();
    let all = names.len();
    names.dedup();
    assert_eq!(names.len(), all);
    for name in ["--diameter", "--augment", "--verbose", "--model", "--out"] {
        assert!(!names.contains(&name));
    }
}

#[test]
fn the_book_lists_every_flag() {
    let mut page = String::from("\n| flag of Cellpose | here |\n| --- | --- |\n");
    for (name, means) in TABLE {
        let here = match means {
            Means::Folder | Means::Image => "the images".into(),
            Means::Filter => "only images whose stems end so".into(),
            Means::Out => "`--out`".into(),
            Means::Model => "`--model`".into(),
            Means::Channel(_) => "`--channels`".into(),
            Means::Value(ours) => format!("`{ours}` (`segment` only)"),
            Means::Shared(ours) => format!("`{ours}`"),
            Means::Setting(setting) => format!("`--set {setting}=VALUE`"),
            Means::Fixed(setting, value) => format!("`--set {setting}={value}`"),
            Means::Percentiles => "`--set percentiles=[LOW,HIGH]`".into(),
            Means::MinSize => "`--set min_size=PIXELS`; a negative number is 0".into(),
            Means::Niter => "`--set niter=STEPS`; 0 leaves it to the scale".into(),
            Means::NoSeg => "`seg` is left out of `--save`".into(),
            Means::Masks(format) => format!("`--save masks --format {format}`"),
            Means::Save(kind) => format!("`--save {kind}`"),
            Means::Hardware(_) => "no effect, and a line".into(),
            Means::Only(value, reason) => format!("{value} only: {reason}"),
            Means::Refused(_, reason) => format!("refused: {reason}"),
        };
        page.push_str(&format!("| `{name}` | {here} |\n"));
    }
    page.push('\n');
    assert_generated("from-cellpose.md", "flags", &page);
}
