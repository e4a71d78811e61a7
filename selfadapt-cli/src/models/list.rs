//! `selfadapt models list`: which names there are, and what is on this machine.

use std::path::PathBuf;

use serde::Serialize;

use super::add::Added;
use super::catalogue::{CATALOGUE, Family};
use super::places::Places;
use crate::failure::{Failure, Outcome};

/// Show the names of models, and which are on this machine
///
/// Names go after --model of `segment` and `adapt`. Models of your own are those that `models add` named, and
/// those on Cellpose's own list of users' models.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  selfadapt models list
  selfadapt models list --here
  selfadapt models list --json")]
pub struct Args {
    /// Only those on this machine
    #[arg(long)]
    here: bool,
    /// Print as JSON
    #[arg(long)]
    json: bool,
}

/// A line of the list.
#[derive(Debug, Serialize)]
struct Line {
    name: String,
    family: Option<Family>,
    about: String,
    licence: Option<&'static str>,
    /// Where it lies on this machine.
    path: Option<PathBuf>,
}

pub fn run(args: Args) -> Result<Outcome, Failure> {
    let places = Places::of_this_user();
    let mut lines: Vec<Line> = CATALOGUE
        .iter()
        .map(|entry| Line {
            name: entry.name.to_owned(),
            family: Some(entry.family),
            about: entry.about.to_owned(),
            licence: Some(entry.licence),
            path: places.find(entry),
        })
        .collect();
    lines.extend(places.added().into_iter().map(|name| {
        let path = places.find_added(&name);
        let about = path.as_deref().map(Added::read).transpose();
        let about = match about {
            Ok(added) => added
                .flatten()
                .map_or_else(|| "added here".into(), |added| added.about()),
            Err(reason) => reason.to_string(),
        };
        line_of_own(name, about, path)
    }));
    lines.extend(places.cellpose_list().into_iter().map(|name| {
        let path = places.cellpose.as_ref().map(|folder| folder.join(&name));
        line_of_own(name, "on Cellpose's list of users' models".into(), path)
    }));
    if args.here {
        lines.retain(|line| line.path.is_some());
    }
    if args.json {
        let text = serde_json::to_string_pretty(&lines)
            .map_err(|error| Failure::new(error.to_string(), "leave --json out"))?;
        println!("{text}");
        return Ok(Outcome::Fine);
    }
    let width = |of: fn(&Line) -> &str| lines.iter().map(|line| of(line).len()).max().unwrap_or(0);
    let (names, abouts) = (width(|line| &line.name), width(|line| &line.about));
    for line in &lines {
        let family = line.family.map_or("own", Family::title);
        let here = line
            .path
            .as_ref()
            .map_or_else(|| "-".to_owned(), |path| path.display().to_string());
        println!(
            "{:names$}  {family:8}  {:abouts$}  {here}",
            line.name, line.about
        );
    }
    if lines.iter().any(|line| line.path.is_none()) {
        println!("\n-: not on this machine; get it with `selfadapt models fetch NAME`");
    }
    Ok(Outcome::Fine)
}

fn line_of_own(name: String, about: String, path: Option<PathBuf>) -> Line {
    Line {
        name,
        family: None,
        about,
        licence: None,
        path,
    }
}
