//! libFuzzer around one reader, named by SELFADAPT_FUZZ_READER; SELFADAPT_FUZZ_SEEDS=FOLDER writes the seeds of all.
#![no_main]

use std::alloc::System;
use std::sync::OnceLock;

use cap::Cap;
use libfuzzer_sys::fuzz_target;
use selfadapt_fuzz::readers::Reader;

/// What a file of a few kilobytes may make a reader allocate, in bytes.
const MOST_MEMORY: usize = 768 << 20;

#[global_allocator]
static ALLOCATOR: Cap<System> = Cap::new(System, MOST_MEMORY);

static READER: OnceLock<Reader> = OnceLock::new();

fuzz_target!(
    init: {
        if let Some(folder) = std::env::var_os("SELFADAPT_FUZZ_SEEDS") {
            // A program of its own would lack what the instrumented crates are linked with here.
            match selfadapt_fuzz::write_seeds(folder.as_ref()) {
                Ok(()) => std::process::exit(0),
                Err(reason) => panic!("cannot write the seeds: {reason}"),
            }
        }
        let name = std::env::var("SELFADAPT_FUZZ_READER").unwrap_or_default();
        match selfadapt_fuzz::all().into_iter().find(|reader| reader.name == name) {
            Some(reader) => drop(READER.set(reader)),
            None => panic!("SELFADAPT_FUZZ_READER: no reader is called {name:?}"),
        }
    },
    |bytes: &[u8]| {
        if let Some(reader) = READER.get() {
            (reader.read)(bytes);
        }
    }
);
