//! `docs/interop.md`: one section a package, replaced one by one.

use std::path::PathBuf;

use crate::steps::{Outcome, root};

const HEADING: &str = "\
# Our files in the real packages

Written by `cargo xtask interop`, each section by itself (`cargo xtask interop stardist`).
";

/// Replaces the section `## NAME`, or appends it, and prints it.
///
/// # Errors
/// If the page cannot be read or written.
pub fn write(name: &str, text: &str) -> Outcome {
    let path = path();
    let fail = |reason: std::io::Error| format!("{}: {reason}", path.display());
    let before = match std::fs::read_to_string(&path) {
        Ok(before) => before,
        Err(reason) if reason.kind() == std::io::ErrorKind::NotFound => HEADING.to_owned(),
        Err(reason) => return Err(fail(reason)),
    };
    let page = replaced(&before, name, text);
    std::fs::create_dir_all(root().join("docs")).map_err(fail)?;
    std::fs::write(&path, page).map_err(fail)?;
    print!("{text}");
    Ok(())
}

fn path() -> PathBuf {
    root().join("docs/interop.md")
}

fn replaced(page: &str, name: &str, text: &str) -> String {
    let mark = format!("## {name}\n");
    let section = format!("{mark}\n{}\n", text.trim_end());
    let mut parts: Vec<String> = Vec::new();
    for line in page.split_inclusive('\n') {
        match parts.last_mut() {
            Some(part) if !line.starts_with("## ") => part.push_str(line),
            _ => parts.push(line.to_owned()),
        }
    }
    match parts.iter_mut().find(|part| part.starts_with(&mark)) {
        Some(part) => *part = section,
        None => parts.push(section),
    }
    let parts: Vec<&str> = parts.iter().map(|part| part.trim_end()).collect();
    parts.join("\n\n") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_named_section_changes() {
        let page = "# Title\n\ntext\n\n## A\n\nold\n\n## B\n\nb\n";
        let after = replaced(page, "A", "new\n");
        assert_eq!(after, "# Title\n\ntext\n\n## A\n\nnew\n\n## B\n\nb\n");
        let after = replaced(&after, "C", "c");
        assert!(after.ends_with("## B\n\nb\n\n## C\n\nc\n"), "{after}");
        assert_eq!(replaced(&after, "C", "c"), after);
    }
}
