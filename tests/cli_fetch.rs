//! `selfadapt models fetch` against servers that cut, lie, refuse, move, dawdle, and are asked twice.

use std::path::Path;
use std::time::{Duration, Instant};

use assert_cmd::Command;

use crate::http_server::{Reply, Request, Server};
use crate::{assert_told, selfadapt};

/// What a torch file and a size model begin with, and enough behind it for a cut to matter.
fn weights() -> Vec<u8> {
    let noise = (0..300_000_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8);
    b"PK\x03\x04".iter().copied().chain(noise).collect()
}

fn size_model() -> Vec<u8> {
    b"\x93NUMPY and more".to_vec()
}

/// The file that a healthy server gives.
fn good(request: &Request) -> Reply {
    match request.path.as_str() {
        "/size_cyto3.npy" => Reply::file(request, &size_model(), "\"size\""),
        "/cyto3" | "/CP" => Reply::file(request, &weights(), "\"weights\""),
        _ => Reply::status("404 Not Found"),
    }
}

fn fetch(folder: &Path, url: &str, arguments: &[&str]) -> Command {
    let mut command = selfadapt(folder);
    command
        .env("SELFADAPT_MODELS_URL", url)
        .args(["models", "fetch"])
        .args(arguments);
    command
}

/// Runs it, and tells what it said without the server's port.
fn told(folder: &Path, url: &str, arguments: &[&str]) -> String {
    let output = fetch(folder, url, arguments).output().unwrap();
    let [out, err] = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
    let code = output.status.code().unwrap();
    let said = format!("exit code {code}\n--- stdout\n{out}--- stderr\n{err}");
    url.split(',')
        .fold(said, |said, url| said.replace(url, "[url]"))
}

fn model(folder: &Path, name: &str) -> Option<Vec<u8>> {
    std::fs::read(folder.join("home/.selfadapt/models").join(name)).ok()
}

/// Names in the folder of models, but for the lock.
fn left(folder: &Path) -> Vec<String> {
    let listed = folder.join("home/.selfadapt/models").read_dir();
    let mut names: Vec<String> = listed
        .into_iter()
        .flatten()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name != ".fetch.lock")
        .collect();
    names.sort();
    names
}

#[test]
fn brings_the_size_model_along_records_and_never_asks_twice() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    let server = Server::start(|request, _| good(request));
    assert_told!("models_fetch", told(here, &server.url, &["cyto3"]));
    assert_eq!(server.paths(), ["/size_cyto3.npy", "/cyto3"]);
    assert_eq!(model(here, "cyto3").unwrap(), weights());
    assert_eq!(model(here, "size_cyto3.npy").unwrap(), size_model());
    let record = String::from_utf8(model(here, "cyto3.origin.toml").unwrap()).unwrap();
    for line in [
        "checked = \"first-use\"",
        "bytes = 300004",
        "CC-BY-NC",
        "sha256 = \"",
    ] {
        assert!(record.contains(line), "{record}");
    }
    assert_told!("models_fetch_again", told(here, &server.url, &["cyto3"]));
    assert_told!(
        "models_fetch_offline_here",
        told(here, &server.url, &["cyto3", "--offline"])
    );
    assert_eq!(server.seen().len(), 2);
}

#[test]
fn goes_on_where_a_connection_was_cut() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(|request, number| Reply {
        cut: if number < 3 { 100_000 } else { usize::MAX },
        ..good(request)
    });
    let said = told(folder.path(), &server.url, &["CP"]);
    assert!(said.starts_with("exit code 0"), "{said}");
    assert_eq!(model(folder.path(), "CP").unwrap(), weights());
    let asked: Vec<Option<String>> = server
        .seen()
        .into_iter()
        .map(|request| request.headers.get("range").cloned())
        .collect();
    let from = |byte: u32| Some(format!("bytes={byte}-"));
    assert_eq!(asked, [None, from(100_000), from(200_000), from(300_000)]);
    assert_eq!(server.seen()[1].headers["if-range"], "\"weights\"");
}

#[test]
fn a_later_command_takes_up_what_an_earlier_one_left_unless_the_file_changed() {
    for changed in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let here = folder.path();
        // The connection breaks at the same byte whatever is asked: no attempt brings more.
        let broken = move |request: &Request, number: usize| Reply {
            cut: if number == 0 { 100_000 } else { 0 },
            ..good(request)
        };
        let ports = Server::start(move |request, number| match number {
            0..=3 => broken(request, number),
            _ if changed => Reply::file(
                request,
                &[b"PK\x03\x04", &[7; 1000][..]].concat(),
                "\"new\"",
            ),
            _ => good(request),
        });
        let said = told(here, &ports.url, &["CP"]);
        assert!(said.contains("cut after 100000 of 300004 bytes"), "{said}");
        assert!(said.starts_with("exit code 2"), "{said}");
        assert_eq!(model(here, "CP"), None);
        let said = told(here, &ports.url, &["CP"]);
        assert!(said.starts_with("exit code 0"), "{said}");
        let seen = ports.seen();
        assert_eq!(seen[4].headers["range"], "bytes=100000-");
        assert_eq!(model(here, "CP").unwrap() == weights(), !changed);
        assert_eq!(left(here), ["CP", "CP.origin.toml"]);
    }
}

#[test]
fn refuses_what_is_not_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    let zip = [b"PK\x03\x04", &[1; 500][..]].concat();
    let server = Server::start(move |request, _| match request.path.as_str() {
        "/python_2D_demo.zip" => Reply::file(request, &zip, "\"a\""),
        _ => Reply::status("200 OK"),
    });
    assert_told!(
        "models_fetch_wrong_digest",
        told(here, &server.url, &["2D_demo"])
    );
    assert_told!("models_fetch_page", told(here, &server.url, &["CP"]));
    assert!(left(here).is_empty(), "{:?}", left(here));
}

#[test]
fn a_file_that_changed_since_its_first_use_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    let server = Server::start(|request, number| match number {
        0 | 2 => good(request),
        _ => Reply::file(request, b"PK\x03\x04 another", "\"b\""),
    });
    let told = |arguments: &[&str]| told(here, &server.url, arguments);
    assert!(told(&["CP"]).starts_with("exit code 0"));
    assert_told!("models_fetch_changed", told(&["CP", "--force"]));
    assert_eq!(model(here, "CP").unwrap(), weights());
    // The record outlives the file, and says so of a file that is the same.
    let remove = |more: &[&str]| {
        let mut command = selfadapt(here);
        command
            .args(["models", "remove", "CP"])
            .args(more)
            .assert()
            .success();
    };
    remove(&[]);
    assert_eq!(left(here), ["CP.origin.toml"]);
    assert!(told(&["CP"]).contains("as recorded before"));
    remove(&["--forget"]);
    assert!(left(here).is_empty());
    assert!(told(&["CP"]).contains("recorded now"));
}

#[test]
fn a_missing_file_is_asked_for_once_a_failing_server_thrice_and_then_the_next_one() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    let missing = Server::start(|_, _| Reply::status("404 Not Found"));
    let failing = Server::start(|_, _| Reply::status("500 Internal Server Error"));
    let healthy = Server::start(|request, _| good(request));
    assert_told!("models_fetch_404", told(here, &missing.url, &["CP"]));
    assert_eq!(missing.seen().len(), 1);
    let urls = [&missing, &failing, &healthy]
        .map(|server| server.url.as_str())
        .join(",");
    assert_told!("models_fetch_500", told(here, &urls, &["CP"]));
    assert_eq!((missing.seen().len(), failing.seen().len()), (2, 3));
    assert_eq!(model(here, "CP").unwrap(), weights());
}

#[test]
fn follows_a_redirect_and_resumes_through_it() {
    let folder = tempfile::tempdir().unwrap();
    let store = Server::start(|request, number| Reply {
        cut: if number == 0 { 50_000 } else { usize::MAX },
        ..good(request)
    });
    let target = format!("{}/CP", store.url);
    let front = Server::start(move |_, _| {
        let mut reply = Reply::status("302 Found");
        reply.headers.push(("Location", target.clone()));
        reply
    });
    let said = told(folder.path(), &front.url, &["CP"]);
    assert!(said.starts_with("exit code 0"), "{said}");
    assert_eq!(model(folder.path(), "CP").unwrap(), weights());
    assert_eq!(store.seen()[1].headers["range"], "bytes=50000-");
}

#[test]
fn waits_for_a_slow_server_and_not_for_a_silent_one() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    let slow = Server::start(|request, _| Reply {
        pace: (30_001, Duration::from_millis(100)),
        ..good(request)
    });
    let began = Instant::now();
    let said = told(here, &slow.url, &["CP", "--timeout", "0.8s"]);
    assert!(said.starts_with("exit code 0"), "{said}");
    assert!(
        began.elapsed() > Duration::from_millis(900),
        "the whole took longer than one silence may"
    );
    assert_eq!(slow.seen().len(), 1);

    let silent = Server::start(|request, number| Reply {
        pace: (
            usize::MAX,
            Duration::from_secs(if number == 0 { 0 } else { 20 }),
        ),
        ..good(request)
    });
    assert_told!(
        "models_fetch_silent",
        told(here, &silent.url, &["cyto3", "--timeout", "0.3s"])
    );
    assert_eq!(silent.seen().len(), 4);
    assert!(began.elapsed() < Duration::from_secs(15));
}

#[test]
fn two_at_once_download_once() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    let server = Server::start(|request, _| Reply {
        pace: (60_000, Duration::from_millis(60)),
        ..good(request)
    });
    let said: Vec<String> = std::thread::scope(|scope| {
        let both = [(); 2].map(|()| scope.spawn(|| told(here, &server.url, &["cyto3"])));
        both.map(|one| one.join().unwrap()).to_vec()
    });
    for said in said {
        assert!(said.starts_with("exit code 0"), "{said}");
    }
    assert_eq!(server.paths(), ["/size_cyto3.npy", "/cyto3"]);
    assert_eq!(model(here, "cyto3").unwrap(), weights());
}

#[test]
fn offline_touches_no_network_and_names_are_never_guessed() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    let server = Server::start(|request, _| good(request));
    for (name, arguments) in [
        ("models_fetch_offline", &["cyto3", "--offline"][..]),
        ("models_fetch_near", &["cyto3", "cytoo2"]),
        ("models_fetch_far", &["banana"]),
        ("models_fetch_cellpose4", &["cpsam"]),
        ("models_fetch_mesmer", &["mesmer"]),
    ] {
        assert_told!(name, told(here, &server.url, arguments));
    }
    let by_variable = |value: &str| {
        fetch(here, &server.url, &["cyto3"])
            .env("SELFADAPT_OFFLINE", value)
            .output()
            .unwrap()
    };
    for value in ["1", "perhaps"] {
        assert_eq!(by_variable(value).status.code(), Some(2));
    }
    assert!(server.seen().is_empty());
    assert!(left(here).is_empty());
}

#[test]
fn an_empty_address_and_a_dead_port_say_what_to_try() {
    let folder = tempfile::tempdir().unwrap();
    let dead = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", dead.local_addr().unwrap());
    drop(dead);
    let said = told(folder.path(), &url, &["CP"]);
    assert!(
        said.starts_with("exit code 2") && said.contains("SELFADAPT_MODELS_URL"),
        "{said}"
    );
}
