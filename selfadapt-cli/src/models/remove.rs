//! `selfadapt models remove`: deletes what `models fetch` and `models add` wrote, and nothing else.

use std::path::Path;

use selfadapt_core::error::Error;

use super::places::Places;
use super::{catalogue, find, origin};
use crate::failure::{Failure, Outcome};

/// Delete a model that was fetched or added
///
/// What Cellpose, StarDist and DeepCell downloaded is theirs and stays. The record of a fetched file's digest
/// stays too, so that a later fetch can be compared with it; --forget deletes it.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  selfadapt models remove cyto3
  selfadapt models remove my-nuclei
  selfadapt models remove cyto3 --forget")]
pub struct Args {
    /// Names, as `selfadapt models list --here` shows them
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
    /// Forget the digests of fetched files too: a later fetch trusts what comes
    #[arg(long)]
    forget: bool,
}

pub fn run(args: Args) -> Result<Outcome, Failure> {
    let places = Places::of_this_user();
    let own = places.own()?;
    for name in &args.names {
        match catalogue::named(name) {
            Some(entry) => {
                let mut removed = false;
                let local = entry.local();
                for file in [Some(local.as_str()), entry.size_model]
                    .into_iter()
                    .flatten()
                {
                    removed |= delete(&own.join(file), args.forget)?;
                }
                if !removed {
                    return Err(not_ours(name, places.find(entry).as_deref(), own));
                }
            }
            None if places.added().contains(name) => {
                let folder = own.join(name);
                std::fs::remove_dir_all(&folder).map_err(|error| Error::write(&folder, error))?;
                println!("{}: removed", folder.display());
            }
            None => {
                // An unknown name, or one of Cellpose's own list.
                let path = find::path(name)?;
                return Err(not_ours(name, Some(&path), own));
            }
        }
    }
    Ok(Outcome::Fine)
}

/// Deletes a fetched file and what is left of its download; whether there was anything.
fn delete(file: &Path, forget: bool) -> Result<bool, Failure> {
    let mut removed = false;
    super::download::Download::of(file).discard();
    let record = origin::path(file);
    let also = Some(record.as_path()).filter(|_| forget);
    for path in [Some(file), also].into_iter().flatten() {
        if path.is_file() {
            std::fs::remove_file(path).map_err(|error| Error::write(path, error))?;
            println!("{}: removed", path.display());
            removed = true;
        }
    }
    Ok(removed)
}

fn not_ours(name: &str, elsewhere: Option<&Path>, own: &Path) -> Failure {
    match elsewhere {
        Some(path) => Failure::new(
            format!(
                "{name}: lies in {}, outside of selfadapt's own folder",
                path.display()
            ),
            "delete it there by hand if no other program needs it",
        ),
        None => Failure::new(
            format!("{name}: is not in {}", own.display()),
            "`selfadapt models list --here` shows what is on this machine",
        ),
    }
}
