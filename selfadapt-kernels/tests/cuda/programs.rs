//! What holds for all programs: NVRTC takes them, and their lists name their kernels.

use selfadapt_kernels::cuda::{PROGRAMS, Program, compile, present};

/// Compute capabilities of an A100 and an H100.
const CAPABILITIES: [(u32, u32); 2] = [(8, 0), (9, 0)];

/// Names of the kernels that a text defines.
fn defined(text: &str) -> Vec<&str> {
    text.split("__global__ void ")
        .skip(1)
        .map(|rest| rest.split('(').next().unwrap_or_default())
        .collect()
}

#[test]
fn lists_name_what_the_files_define() {
    for program in PROGRAMS {
        assert_eq!(defined(program.source), program.kernels, "{}", program.name);
    }
    let mut all: Vec<&str> = PROGRAMS.iter().flat_map(|p| p.kernels).copied().collect();
    let count = all.len();
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), count, "the emulator needs names of their own");
}

#[test]
fn every_kernel_compiles_for_gpus_that_are_not_here() {
    if !present().unwrap() {
        assert!(
            std::env::var_os("SELFADAPT_REQUIRE_NVRTC").is_none(),
            "SELFADAPT_REQUIRE_NVRTC is set and NVRTC is not there"
        );
        println!("skipped: no NVRTC; name the folder of libnvrtc in SELFADAPT_NVRTC");
        return;
    }
    for program in PROGRAMS {
        for (major, minor) in CAPABILITIES {
            let ptx = compile(program, (major, minor)).unwrap();
            let target = format!(".target sm_{major}{minor}");
            assert!(ptx.contains(&target), "{}: no {target}", program.name);
            for kernel in program.kernels {
                assert!(
                    ptx.contains(&format!(".entry {kernel}(")),
                    "{}: no {kernel}",
                    program.name
                );
            }
        }
    }
}

#[test]
fn a_text_that_does_not_compile_is_an_error_with_the_compilers_words() {
    static WRONG: Program = Program {
        name: "wrong.cu",
        source: "extern \"C\" __global__ void wrong() { nothing_of_this_name(); }",
        kernels: &["wrong"],
    };
    if present().unwrap() {
        let error = compile(&WRONG, (9, 0)).unwrap_err().to_string();
        assert!(error.contains("wrong.cu(1)"), "{error}");
        assert!(error.contains("nothing_of_this_name"), "{error}");
    }
}
