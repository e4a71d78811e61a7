//! One file over HTTP: taken up where it was cut, tried again where that may help.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use indicatif::ProgressBar;
use selfadapt_core::io::atomic;
use serde::{Deserialize, Serialize};
use ureq::http::{Response, StatusCode, header};
use ureq::{Agent, Body};

use super::transport;

/// Attempts in a row that bring nothing new before a source is given up.
const ATTEMPTS: u32 = 3;

/// The first wait between attempts; each further one is twice as long.
const WAIT: Duration = Duration::from_millis(500);

/// What a server said of a file whose download is not complete, for the next attempt to ask for the same file.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Begun {
    source: String,
    /// Its strong `ETag`, else its `Last-Modified`.
    validator: String,
}

/// Why an attempt ended.
#[derive(Debug)]
enum Stop {
    /// Another attempt may do better.
    Passing(String),
    /// It would not.
    Final(String),
}

/// A file that is on its way: `.NAME.partial`, and what is known of it beside it.
#[derive(Debug)]
pub struct Download {
    partial: PathBuf,
    begun: PathBuf,
}

impl Download {
    /// A download that will become `file`. What an earlier one left is taken up.
    pub fn of(file: &Path) -> Self {
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        Self {
            partial: file.with_file_name(format!(".{name}.partial")),
            begun: file.with_file_name(format!(".{name}.begun.partial")),
        }
    }

    /// Where the bytes are.
    pub fn path(&self) -> &Path {
        &self.partial
    }

    /// Forgets what came so far.
    pub fn discard(&self) {
        for path in [&self.partial, &self.begun] {
            let _ = std::fs::remove_file(path);
        }
    }

    /// Gives the file its name. The bytes are on disk before the name is.
    ///
    /// # Errors
    /// If the disk refuses.
    pub fn finish(&self, file: &Path) -> std::io::Result<()> {
        File::open(&self.partial)?.sync_all()?;
        std::fs::rename(&self.partial, file)?;
        let _ = std::fs::remove_file(&self.begun);
        Ok(())
    }

    /// Brings the whole file from `url` into [`Download::path`]. `silence`: how long a server may say nothing.
    ///
    /// # Errors
    /// Why the source was given up, in words. What came so far stays, to be taken up later.
    pub fn from(&self, url: &str, silence: Duration, bar: &ProgressBar) -> Result<(), String> {
        let agent = transport::agent(url, silence)?;
        let (mut fruitless, mut wait) = (0, WAIT);
        loop {
            let had = self.resumable(url);
            let reason = match self.attempt(&agent, url, had, bar) {
                Ok(()) => return Ok(()),
                Err(Stop::Final(reason)) => return Err(reason),
                Err(Stop::Passing(reason)) => reason,
            };
            // Only what the next attempt can build on counts.
            if self.resumable(url) > had {
                (fruitless, wait) = (0, WAIT);
            } else {
                fruitless += 1;
            }
            if fruitless == ATTEMPTS {
                return Err(format!("{reason} ({ATTEMPTS} attempts)"));
            }
            tracing::warn!("{url}: {reason}; trying again");
            std::thread::sleep(wait);
            wait *= 2;
        }
    }

    /// How many bytes of this very file are here already.
    fn resumable(&self, url: &str) -> u64 {
        let same = self.validator().is_some_and(|begun| begun.source == url);
        match self.partial.metadata() {
            Ok(metadata) if same => metadata.len(),
            _ => 0,
        }
    }

    fn validator(&self) -> Option<Begun> {
        let text = std::fs::read_to_string(&self.begun).ok()?;
        serde_json::from_str(&text).ok()
    }

    fn attempt(&self, agent: &Agent, url: &str, had: u64, bar: &ProgressBar) -> Result<(), Stop> {
        let mut request = agent.get(url);
        if had > 0
            && let Some(begun) = self.validator()
        {
            tracing::info!("{url}: going on after {had} bytes");
            request = request
                .header(header::RANGE, format!("bytes={had}-"))
                .header(header::IF_RANGE, begun.validator);
        }
        let response = request
            .call()
            .map_err(|error| Stop::Passing(transport::words(&error)))?;
        let start = match response.status() {
            StatusCode::OK => 0,
            StatusCode::PARTIAL_CONTENT => match first_byte(&response) {
                Some(first) if first == had => had,
                _ => {
                    self.discard();
                    return Err(Stop::Passing(
                        "the server sent another part than asked for".into(),
                    ));
                }
            },
            StatusCode::RANGE_NOT_SATISFIABLE => {
                self.discard();
                return Err(Stop::Passing(
                    "the file on the server is shorter than what is here".into(),
                ));
            }
            status if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS => {
                return Err(Stop::Passing(format!("the server answered {status}")));
            }
            status => return Err(Stop::Final(format!("the server answered {status}"))),
        };
        self.receive(response, url, start, bar)
    }

    /// Writes a body behind the first `start` bytes.
    fn receive(
        &self,
        response: Response<Body>,
        url: &str,
        start: u64,
        bar: &ProgressBar,
    ) -> Result<(), Stop> {
        let length: Option<u64> =
            text(&response, header::CONTENT_LENGTH).and_then(|n| n.parse().ok());
        let whole = length.map(|length| start + length);
        bar.set_length(whole.unwrap_or(0));
        bar.set_position(start);
        if start == 0 {
            self.remember(&response, url)
                .map_err(|error| self.disk(&error))?;
        }
        let mut file = OpenOptions::new()
            .create(true)
            .write(true)
            .truncate(start == 0)
            .open(&self.partial)
            .map_err(|error| self.disk(&error))?;
        file.seek(SeekFrom::Start(start))
            .map_err(|error| self.disk(&error))?;
        let mut body = response.into_body().into_reader();
        let (mut at, mut buffer) = (start, vec![0; 1 << 16]);
        loop {
            let read = match body.read(&mut buffer) {
                Ok(0) => break,
                Ok(read) => read,
                Err(error) => {
                    return Err(Stop::Passing(cut(
                        at,
                        whole,
                        &transport::body_words(&error),
                    )));
                }
            };
            file.write_all(&buffer[..read])
                .map_err(|error| self.disk(&error))?;
            at += read as u64;
            bar.set_position(at);
        }
        match whole {
            Some(whole) if at != whole => {
                Err(Stop::Passing(cut(at, Some(whole), "the end came early")))
            }
            _ => Ok(()),
        }
    }

    /// Notes which file this is, if the server gives a means to ask for the same one again.
    fn remember(&self, response: &Response<Body>, url: &str) -> std::io::Result<()> {
        let strong = text(response, header::ETAG).filter(|tag| !tag.starts_with("W/"));
        let Some(validator) = strong.or_else(|| text(response, header::LAST_MODIFIED)) else {
            self.discard();
            return Ok(());
        };
        let begun = Begun {
            source: url.to_owned(),
            validator,
        };
        let text = serde_json::to_vec(&begun)?;
        // The old bytes must not be taken for the beginning of the new file.
        let _ = std::fs::remove_file(&self.partial);
        atomic::write_bytes(&self.begun, &text).map_err(std::io::Error::other)
    }

    fn disk(&self, error: &std::io::Error) -> Stop {
        Stop::Final(format!("cannot write {}: {error}", self.partial.display()))
    }
}

fn cut(at: u64, whole: Option<u64>, reason: &str) -> String {
    let of = whole.map_or_else(String::new, |whole| format!(" of {whole}"));
    format!("the connection was cut after {at}{of} bytes: {reason}")
}

fn text(response: &Response<Body>, name: header::HeaderName) -> Option<String> {
    Some(response.headers().get(name)?.to_str().ok()?.to_owned())
}

/// The first byte's place in the file: `bytes 100-199/200` is 100.
fn first_byte(response: &Response<Body>) -> Option<u64> {
    let range = text(response, header::CONTENT_RANGE)?;
    let (first, _) = range.strip_prefix("bytes ")?.split_once('-')?;
    first.parse().ok()
}
