//! Parts of the book that are made from code: compared with it, or written anew with `SELFADAPT_WRITE_DOCS=1`.

use std::path::PathBuf;

/// Where a page lies.
pub fn page(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../docs")
        .join(name)
}

/// Checks that what stands in `page` between `<!-- generated: NAME -->` and `<!-- end -->` is `expected`.
pub fn assert_generated(page_name: &str, name: &str, expected: &str) {
    let path = page(page_name);
    let text = std::fs::read_to_string(&path).unwrap();
    let mark = format!("<!-- generated: {name} -->\n");
    let (before, rest) = text.split_once(&mark).unwrap();
    let (found, after) = rest.split_once("<!-- end -->").unwrap();
    if std::env::var("SELFADAPT_WRITE_DOCS").as_deref() == Ok("1") {
        let text = format!("{before}{mark}{expected}<!-- end -->{after}");
        std::fs::write(&path, text).unwrap();
        return;
    }
    assert!(
        found == expected,
        "docs/{page_name} does not say what the code does; write it anew with SELFADAPT_WRITE_DOCS=1 in this test's \
         environment. Expected:\n{expected}"
    );
}
