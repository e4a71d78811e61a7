//! The arrows between crates, read from their manifests: who may depend on whom.

use std::collections::BTreeSet;
use std::path::Path;

/// Each member and the siblings that it may depend on.
const ALLOWED: [(&str, &[&str]); 7] = [
    ("selfadapt-kernels", &[]),
    ("selfadapt-core", &["selfadapt-kernels"]),
    (
        "selfadapt-metrics",
        &["selfadapt-core", "selfadapt-kernels"],
    ),
    ("selfadapt-models", &["selfadapt-core", "selfadapt-kernels"]),
    (
        "selfadapt-cli",
        &[
            "selfadapt-core",
            "selfadapt-kernels",
            "selfadapt-metrics",
            "selfadapt-models",
        ],
    ),
    ("xtask", &[]),
    (
        "tests",
        &[
            "selfadapt-core",
            "selfadapt-kernels",
            "selfadapt-metrics",
            "selfadapt-models",
        ],
    ),
];

fn manifest(folder: &str) -> toml::Table {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("..")
        .join(folder)
        .join("Cargo.toml");
    std::fs::read_to_string(&path)
        .unwrap_or_else(|reason| panic!("{}: {reason}", path.display()))
        .parse()
        .unwrap()
}

/// Names in every dependency table of a manifest, those of `[target.*]` and dev-dependencies included.
fn dependencies(table: &toml::Table) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for (key, value) in table {
        let Some(inner) = value.as_table() else {
            continue;
        };
        if key.ends_with("dependencies") {
            names.extend(inner.keys().cloned());
        } else if key == "target" {
            for target in inner.values().filter_map(toml::Value::as_table) {
                names.extend(dependencies(target));
            }
        }
    }
    names
}

#[test]
fn every_member_has_a_rule() {
    let workspace = manifest(".");
    let members: BTreeSet<&str> = workspace["workspace"]["members"]
        .as_array()
        .unwrap()
        .iter()
        .map(|member| member.as_str().unwrap())
        .collect();
    let ruled: BTreeSet<&str> = ALLOWED.iter().map(|(member, _)| *member).collect();
    assert_eq!(members, ruled);
}

#[test]
fn arrows_point_down_only() {
    let siblings: BTreeSet<&str> = ALLOWED.iter().map(|(member, _)| *member).collect();
    for (member, allowed) in ALLOWED {
        for name in dependencies(&manifest(member)) {
            assert!(
                !siblings.contains(name.as_str()) || allowed.contains(&name.as_str()),
                "{member} must not depend on {name}; it may depend on {allowed:?}"
            );
        }
    }
}
