//! `selfadapt models fetch`: the one command that touches the network.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use selfadapt_core::error::Error;
use serde::Serialize;

use super::catalogue::{Digest, Entry, Family};
use super::download::Download;
use super::find;
use super::origin::{self, Origin};
use super::places::{OWN, Places};
use super::verify::accept;
use crate::console;
use crate::failure::{Failure, Outcome};

/// The variable that names other addresses than the catalogue's.
const MIRRORS: &str = "SELFADAPT_MODELS_URL";

/// Download models by name
///
/// Nothing else in selfadapt uses the network. A model that is on this machine already, also in the folders of
/// Cellpose, StarDist and DeepCell, is not downloaded again. A download that was cut is taken up where it
/// ended. Files are compared with the digest that their package publishes; where there is none, the first
/// download is recorded beside the file, and later ones are compared with that.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  selfadapt models fetch cyto3
  selfadapt models fetch cyto2 nuclei 2D_versatile_fluo
  SELFADAPT_MODELS_URL=https://mirror.example.org/models selfadapt models fetch cyto3
  selfadapt models fetch cyto3 --to /shared/models

Environment:
  SELFADAPT_MODELS_PATH   folder for models [default: ~/.selfadapt/models]
  SELFADAPT_MODELS_URL    addresses to fetch from instead of the packages' own, separated by commas
  SELFADAPT_OFFLINE       1: as --offline
  SSL_CERT_FILE           certificates to trust instead of Mozilla's
  HTTPS_PROXY, NO_PROXY   as other programs take them")]
pub struct Args {
    /// Names, as `selfadapt models list` shows them
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
    /// Never touch the network: succeed if everything is here, fail if not
    #[arg(long)]
    offline: bool,
    /// Download again what is here already
    #[arg(long)]
    force: bool,
    /// Folder to put the files into
    #[arg(long, value_name = "DIR")]
    to: Option<PathBuf>,
    /// How long a server may be silent: 30s, 2m
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = crate::adapt::resolve::duration)]
    timeout: Duration,
    /// Print what was done as JSON
    #[arg(long)]
    json: bool,
}

/// The variable that forbids to use the network.
const OFFLINE: &str = "SELFADAPT_OFFLINE";

/// What came of one name.
#[derive(Debug, Serialize)]
struct Fetched {
    name: &'static str,
    path: PathBuf,
    /// Whether it was on this machine before.
    was_here: bool,
    licence: &'static str,
    /// The record beside the file; none for what other programs downloaded.
    #[serde(skip_serializing_if = "Option::is_none")]
    origin: Option<Origin>,
}

pub fn run(mut args: Args) -> Result<Outcome, Failure> {
    args.offline |= offline()?;
    let places = Places::of_this_user();
    // A slip of the pen in the last name is told before the first is downloaded.
    let entries: Vec<&Entry> = args
        .names
        .iter()
        .map(|name| find::catalogued(name, &places))
        .collect::<Result<_, _>>()?;
    let mut all = Vec::new();
    for entry in entries {
        let fetched = fetch(entry, &places, &args)?;
        if !args.json {
            tell(&fetched);
        }
        all.push(fetched);
    }
    if args.json {
        let text = serde_json::to_string_pretty(&all)
            .map_err(|error| Failure::new(error.to_string(), "leave --json out"))?;
        println!("{text}");
    }
    Ok(Outcome::Fine)
}

fn offline() -> Result<bool, Failure> {
    match std::env::var(OFFLINE).unwrap_or_default().as_str() {
        "" | "0" | "false" | "no" => Ok(false),
        "1" | "true" | "yes" => Ok(true),
        other => Err(Failure::new(
            format!("{OFFLINE}: expected 1 or 0, found {other}"),
            "set it to 1 to forbid the network, or unset it",
        )),
    }
}

fn tell(fetched: &Fetched) {
    let Fetched { name, path, .. } = fetched;
    match (&fetched.origin, fetched.was_here) {
        (Some(origin), false) => println!(
            "{name}: {} ({} bytes; {})",
            path.display(),
            origin.bytes,
            origin.checked.words()
        ),
        _ => println!("{name}: is here already, {}", path.display()),
    }
}

fn fetch(entry: &'static Entry, places: &Places, args: &Args) -> Result<Fetched, Failure> {
    let here = match &args.to {
        Some(folder) => Some(folder.join(entry.local())).filter(|path| path.exists()),
        None => places.find(entry),
    };
    if let Some(path) = here.filter(|_| !args.force) {
        return Ok(Fetched {
            name: entry.name,
            origin: origin::read(&path)?,
            path,
            was_here: true,
            licence: entry.licence,
        });
    }
    if args.offline {
        return Err(Failure::new(
            format!(
                "{}: is not on this machine, and --offline or SELFADAPT_OFFLINE forbids to fetch it",
                entry.name
            ),
            format!(
                "fetch it on a machine with network, and copy its folder of models here ({OWN} names the folder)"
            ),
        ));
    }
    if entry.family == Family::Mesmer {
        return Err(mesmer(entry, places));
    }
    let folder = match &args.to {
        Some(folder) => folder.clone(),
        None => places.own()?.to_owned(),
    };
    std::fs::create_dir_all(&folder).map_err(|error| Error::write(&folder, error))?;
    let _lock = lock(&folder)?;
    tracing::info!("{}: {}", entry.name, entry.licence);
    // The weights last: where they are, the size model is too.
    if let Some(size) = entry.size_model {
        file(entry, size, &folder.join(size), Digest::Unpublished, args)?;
    }
    let path = folder.join(entry.local());
    let origin = file(entry, entry.file, &path, entry.digest, args)?;
    Ok(Fetched {
        name: entry.name,
        path,
        was_here: false,
        licence: entry.licence,
        origin: Some(origin),
    })
}

/// One fetch a folder at a time; a second one waits, and then finds the files of the first.
fn lock(folder: &Path) -> Result<File, Failure> {
    let path = folder.join(".fetch.lock");
    let failed = |error: std::io::Error| Failure::from(Error::write(&path, error));
    let lock = File::create(&path).map_err(failed)?;
    if lock.try_lock().is_err() {
        tracing::info!(
            "waiting for another selfadapt that fetches into {}",
            folder.display()
        );
        lock.lock().map_err(failed)?;
    }
    Ok(lock)
}

/// Brings one file, trying source after source.
fn file(
    entry: &Entry,
    remote: &str,
    path: &Path,
    digest: Digest,
    args: &Args,
) -> Result<Origin, Failure> {
    let recorded = origin::read(path)?;
    if let Some(recorded) = recorded.clone().filter(|_| path.is_file() && !args.force) {
        return Ok(recorded);
    }
    let download = Download::of(path);
    let mut refusals = Vec::new();
    for source in sources(entry.family) {
        let url = format!("{source}{remote}");
        let bar = console::bytes_bar(remote);
        let came = download.from(&url, args.timeout, &bar);
        bar.finish_and_clear();
        let accepted = came.and_then(|()| accept(&download, path, digest, recorded.as_ref()));
        match accepted {
            Ok((digests, checked)) => {
                let origin = Origin {
                    source: url,
                    bytes: digests.bytes,
                    sha256: digests.sha256,
                    checked,
                    fetched_unix_seconds: SystemTime::now()
                        .duration_since(UNIX_EPOCH)
                        .map_or(0, |time| time.as_secs()),
                    licence: entry.licence.to_owned(),
                };
                // First the record: a file without one would never be compared again.
                origin::write(path, &origin)?;
                download
                    .finish(path)
                    .map_err(|error| Error::write(path, error))?;
                return Ok(origin);
            }
            Err(reason) => {
                tracing::warn!("{url}: {reason}");
                refusals.push(format!("{url}: {reason}"));
            }
        }
    }
    Err(Failure::new(
        format!("{}: no source gave it\n{}", entry.name, refusals.join("\n")),
        format!(
            "try later: a download that was cut goes on where it ended; or name another address in {MIRRORS}; or put the file {} into {} yourself",
            path.file_name().unwrap_or_default().to_string_lossy(),
            path.parent().unwrap_or(Path::new(".")).display()
        ),
    ))
}

/// Addresses to which a file's name is added: the user's if given, else the package's own.
fn sources(family: Family) -> Vec<String> {
    let given = std::env::var(MIRRORS).unwrap_or_default();
    let given: Vec<String> = given
        .split(',')
        .map(str::trim)
        .filter(|source| !source.is_empty())
        .map(|source| format!("{}/", source.trim_end_matches('/')))
        .collect();
    if given.is_empty() {
        family
            .sources()
            .iter()
            .map(|source| (*source).to_owned())
            .collect()
    } else {
        given
    }
}

/// DeepCell gives its models to people who registered, for a token, in a form that is read after conversion.
fn mesmer(entry: &Entry, places: &Places) -> Failure {
    let to = places.own.as_ref().map_or_else(
        || entry.local(),
        |own| own.join(entry.local()).display().to_string(),
    );
    Failure::new(
        format!(
            "{}: DeepCell gives this model only to those who registered ({})",
            entry.name, entry.licence
        ),
        format!(
            "get a token at https://users.deepcell.org, let DeepCell download the model once, and convert it:\n\
             pip install deepcell tf2onnx\n\
             DEEPCELL_ACCESS_TOKEN=... python -c \"from deepcell.applications import Mesmer; Mesmer()\"\n\
             python -m tf2onnx.convert --saved-model ~/.deepcell/models/MultiplexSegmentation --opset 15 --output {to}"
        ),
    )
}
