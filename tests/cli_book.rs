//! The book's commands, run as they stand, on small images and with few steps.

use std::path::Path;
use std::process::Command;

use ndarray::Array3;
use selfadapt_core::io;

use crate::http_server::{Reply, Server};
use crate::{assets, book};

/// Side of the images, in pixels.
const CORNER: usize = 112;

/// Laid over the settings of every adaptation, so that a test takes seconds.
const SMALL: &str = "\
[adapt]
crop = 64
batch = 2
views = 1
steps = 4

[watch]
every = 2
crops = 2
stop = false

[choice]
steps = 2
by = [\"inconsistency\"]
";

/// Chapters in the order of a reader: each goes on in the folder that those before it left.
const CHAPTERS: [&str; 8] = [
    "quick-start.md",
    "diameter-and-channels.md",
    "when-to-adapt.md",
    "report.md",
    "models.md",
    "from-cellpose.md",
    "other-programs.md",
    "reproducing.md",
];

/// Commands of the blocks that are marked `sh`.
fn commands(page: &str) -> Vec<String> {
    let mut inside = false;
    let mut commands = Vec::new();
    for line in page.lines() {
        match line {
            "```sh" => inside = true,
            line if line.starts_with("```") => inside = false,
            line if inside && !line.is_empty() => commands.push(line.to_owned()),
            _ => {}
        }
    }
    commands
}

#[test]
fn every_command_of_the_book_runs_as_written() {
    let Some(assets) = assets::dir() else { return };
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    for name in ["images", "labels", "bin"] {
        std::fs::create_dir(here.join(name)).unwrap();
    }
    for image in ["mouse_00", "mouse_01"] {
        // A corner of each: every command goes through all images.
        let corner = |file: String, to: &str| {
            let (image, _) =
                io::read(assets.join("data").join(&file), &io::Axes::default()).unwrap();
            let pixels = image.pixels();
            let corner = Array3::from_shape_fn((1, CORNER, CORNER), |at| pixels[at] as u16);
            io::tiff::write(here.join(to).join(&file), corner.view()).unwrap();
        };
        corner(format!("{image}.tif"), "images");
        corner(format!("{image}_masks.tif"), "labels");
    }
    std::fs::write(here.join("small.toml"), SMALL).unwrap();
    let binary = Path::new(env!("CARGO_BIN_EXE_selfadapt"));
    let weights = std::fs::read(assets.join("cellpose/cyto_scellseg.pt")).unwrap();
    let size = include_bytes!("fixtures/size_model/first.npy");
    let server = Server::start(move |request, _| match request.path.as_str() {
        "/cyto3" => Reply::file(request, &weights, "\"weights\""),
        "/size_cyto3.npy" => Reply::file(request, size, "\"size\""),
        _ => Reply::status("404 Not Found"),
    });
    let path = format!(
        "{}:{}",
        binary.parent().unwrap().display(),
        std::env::var("PATH").unwrap_or_default()
    );
    let mut run = 0;
    for chapter in CHAPTERS {
        let page = std::fs::read_to_string(book::page(chapter)).unwrap();
        for written in commands(&page) {
            // The only change: settings that make it short, where the command names none.
            let mut command = written.clone();
            if command.starts_with("selfadapt adapt") && !command.contains("--config") {
                command.push_str(" --config small.toml");
            }
            let output = Command::new("sh")
                .args(["-c", &command])
                .current_dir(here)
                .env("PATH", &path)
                .env("HOME", here.join("home"))
                .env("SELFADAPT_MODELS_URL", &server.url)
                .env_remove("SELFADAPT_MODELS_PATH")
                .env_remove("SELFADAPT_OFFLINE")
                .env_remove("CELLPOSE_LOCAL_MODELS_PATH")
                .env_remove("RUST_LOG")
                .output()
                .unwrap();
            assert!(
                output.status.success(),
                "docs/{chapter}: {written}\n{}{}",
                String::from_utf8_lossy(&output.stdout),
                String::from_utf8_lossy(&output.stderr)
            );
            run += 1;
        }
    }
    assert!(run > 20, "only {run} commands were found");
    for file in [
        "run/report.html",
        "after/mouse_00_rois.zip",
        "by-hand/segment.json",
        "again/manifest.json",
    ] {
        assert!(here.join(file).is_file(), "{file}");
    }
}

#[test]
fn chapters_are_in_the_summary_and_links_lead_somewhere() {
    let summary = std::fs::read_to_string(book::page("SUMMARY.md")).unwrap();
    let mut pages = Vec::new();
    for folder in ["", "models/", "results/"] {
        for entry in std::fs::read_dir(book::page(folder)).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            pages.extend(name.ends_with(".md").then(|| format!("{folder}{name}")));
        }
    }
    for name in pages {
        let listed = summary.matches(&format!("({name})")).count();
        assert_eq!(listed, usize::from(name != "SUMMARY.md"), "{name}");
        let path = book::page(&name);
        let page = std::fs::read_to_string(&path).unwrap();
        for link in page
            .split("](")
            .skip(1)
            .filter_map(|rest| rest.split(')').next())
        {
            let file = link.split('#').next().unwrap_or_default();
            let elsewhere = link.starts_with("http") || file.is_empty();
            let there = path.parent().unwrap().join(file).exists();
            assert!(elsewhere || there, "{name}: {link}");
        }
    }
}

#[test]
fn the_complete_example_of_a_model_is_the_compiled_one() {
    let toy = include_str!("toy.rs");
    book::assert_generated("library.md", "toy", &format!("```rust\n{toy}```\n"));
    let example = include_str!("library_example.rs");
    book::assert_generated("library.md", "example", &format!("```rust\n{example}```\n"));
}
