//! A small HTTP server that misbehaves as told.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What a client asked.
#[derive(Clone, Debug)]
pub struct Request {
    pub path: String,
    /// Names in lower case.
    pub headers: BTreeMap<String, String>,
}

/// What it gets.
#[derive(Clone, Debug)]
pub struct Reply {
    pub status: &'static str,
    pub headers: Vec<(&'static str, String)>,
    pub body: Vec<u8>,
    /// Bytes of the body that are sent before the connection is cut; all if there are fewer.
    pub cut: usize,
    /// Bytes sent at once, and the pause before them.
    pub pace: (usize, Duration),
}

impl Reply {
    pub fn status(status: &'static str) -> Self {
        Self {
            status,
            headers: Vec::new(),
            body: b"<html>sorry</html>".to_vec(),
            cut: usize::MAX,
            pace: (usize::MAX, Duration::ZERO),
        }
    }

    /// A file with an `ETag`, from the byte that the request asks for.
    pub fn file(request: &Request, body: &[u8], etag: &str) -> Self {
        let mut reply = Self::status("200 OK");
        reply.headers.push(("ETag", etag.to_owned()));
        let same = request
            .headers
            .get("if-range")
            .is_none_or(|known| known == etag);
        let range = request.headers.get("range").filter(|_| same);
        let start: Option<usize> = range.and_then(|range| {
            range
                .strip_prefix("bytes=")?
                .strip_suffix('-')?
                .parse()
                .ok()
        });
        reply.body = match start {
            Some(start) => {
                let (last, all) = (body.len() - 1, body.len());
                let range = format!("bytes {start}-{last}/{all}");
                reply.status = "206 Partial Content";
                reply.headers.push(("Content-Range", range));
                body[start..].to_vec()
            }
            None => body.to_vec(),
        };
        reply
    }
}

/// Answers on a port of its own until the test ends.
pub struct Server {
    pub url: String,
    seen: Arc<Mutex<Vec<Request>>>,
}

impl Server {
    /// `answer` gets each request and its number, counted from 0.
    pub fn start(answer: impl Fn(&Request, usize) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (answer, log) = (Arc::new(answer), seen.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (answer, log) = (answer.clone(), log.clone());
                std::thread::spawn(move || serve(stream, &log, answer.as_ref()));
            }
        });
        Self { url, seen }
    }

    /// The requests so far.
    pub fn seen(&self) -> Vec<Request> {
        self.seen.lock().unwrap().clone()
    }

    /// The paths that were asked for.
    pub fn paths(&self) -> Vec<String> {
        self.seen()
            .into_iter()
            .map(|request| request.path)
            .collect()
    }
}

/// One request, one reply, and the connection ends; a client that has gone is no matter.
fn serve(
    mut stream: TcpStream,
    log: &Mutex<Vec<Request>>,
    answer: &dyn Fn(&Request, usize) -> Reply,
) -> Option<()> {
    let mut lines = BufReader::new(stream.try_clone().ok()?).lines();
    let path = lines.next()?.ok()?.split(' ').nth(1)?.to_owned();
    let headers = lines
        .map_while(|line| line.ok().filter(|line| !line.is_empty()))
        .filter_map(|line| {
            let (name, value) = line.split_once(": ")?;
            Some((name.to_lowercase(), value.to_owned()))
        })
        .collect();
    let request = Request { path, headers };
    let number = {
        let mut log = log.lock().ok()?;
        log.push(request.clone());
        log.len() - 1
    };
    let reply = answer(&request, number);
    write!(
        stream,
        "HTTP/1.1 {}\r\nContent-Length: {}\r\nConnection: close\r\n",
        reply.status,
        reply.body.len()
    )
    .ok()?;
    for (name, value) in &reply.headers {
        write!(stream, "{name}: {value}\r\n").ok()?;
    }
    stream.write_all(b"\r\n").ok()?;
    let sent = &reply.body[..reply.cut.min(reply.body.len())];
    let (size, pause) = reply.pace;
    for part in sent.chunks(size.min(sent.len().max(1))) {
        std::thread::sleep(pause);
        stream.write_all(part).ok()?;
    }
    Some(())
}
