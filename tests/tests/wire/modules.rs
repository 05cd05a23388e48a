//! The contributors' page has every module of the program.

use std::collections::BTreeSet;
use std::path::Path;

/// The modules that lie in a folder, files and folders alike, each behind the path of the folder's own.
fn modules(folder: &Path, path: &str, found: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let place = entry.expect("an entry").path();
        let name = place.file_stem().expect("a name").to_string_lossy();
        if !["lib", "main", "mod", "tests"].contains(&name.as_ref()) {
            found.insert(format!("{path}{name}"));
        }
    }
}

#[test]
fn every_module_of_the_program_is_in_the_contributors_table() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let program = root.join("host/restante/src");
    let mut there = BTreeSet::new();
    modules(&program, "", &mut there);
    modules(&program.join("policies"), "policies::", &mut there);
    modules(&program.join("server"), "server::", &mut there);
    let page = std::fs::read_to_string(root.join("docs/architecture.md")).expect("the page");
    let (_, section) = page.split_once("\n### `host/restante`\n").expect("the section");
    let (section, _) = section.split_once("\n### ").expect("what follows it");
    let told: BTreeSet<String> = section
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split(" | ").next())
        .flat_map(|cell| cell.split("`, `"))
        .map(|name| name.trim_end_matches('`').to_owned())
        .collect();
    let untold: Vec<_> = there.difference(&told).collect();
    assert!(untold.is_empty(), "not in the table: {untold:?}");
    let unknown: Vec<_> = told.difference(&there).collect();
    assert!(unknown.is_empty(), "in the table and nowhere else: {unknown:?}");
}
