//! The patches of `tests/mutations` apply to the files as they are, each breaks something, and each says what and who is to
//! notice. A target of its own, which no patch names as its suite: it fails while one is applied.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// What a patch makes of a file: the lines that it finds there, and those that it leaves instead.
struct Hunk {
    found: Vec<String>,
    left: Vec<String>,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Names and texts of the patches.
fn patches() -> BTreeMap<String, String> {
    let entries = std::fs::read_dir(root().join("tests/mutations")).expect("the patches");
    let paths = entries.map(|entry| entry.expect("an entry").path());
    let patches = paths.filter(|path| path.extension().is_some_and(|ending| ending == "patch"));
    patches
        .map(|path| {
            let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
            (name, std::fs::read_to_string(path).expect("text"))
        })
        .collect()
}

/// The hunks of a patch by file, as `git diff` writes them.
fn hunks(diff: &str) -> BTreeMap<&str, Vec<Hunk>> {
    let mut files: BTreeMap<&str, Vec<Hunk>> = BTreeMap::new();
    let mut file = None;
    for line in diff.lines() {
        if let Some(name) = line.strip_prefix("+++ b/") {
            file = Some(files.entry(name).or_default());
        } else if line.starts_with("@@ ") {
            let file = file.as_deref_mut().expect("a file before its hunks");
            file.push(Hunk { found: Vec::new(), left: Vec::new() });
        } else if !line.starts_with("--- ")
            && let Some(hunk) = file.as_deref_mut().and_then(|file| file.last_mut())
        {
            let rest = line.get(1..).unwrap_or("").to_owned();
            match line.as_bytes().first() {
                Some(b'-') => hunk.found.push(rest),
                Some(b'+') => hunk.left.push(rest),
                Some(b' ') | None => {
                    hunk.found.push(rest.clone());
                    hunk.left.push(rest);
                }
                // The next file.
                _ => file = None,
            }
        }
    }
    files
}

/// What keeps a hunk from being applied.
fn objection(text: &str, hunk: &Hunk) -> Option<&'static str> {
    let lines: Vec<&str> = text.lines().collect();
    let count = lines.windows(hunk.found.len().max(1)).filter(|window| *window == hunk.found).count();
    match count {
        0 => Some("finds nothing of it"),
        _ if hunk.found == hunk.left => Some("breaks nothing"),
        _ => None,
    }
}

#[test]
fn every_patch_applies_to_the_files_as_they_are() {
    let patches = patches();
    assert!(patches.len() > 80, "{} patches", patches.len());
    let mut objections = Vec::new();
    for (name, patch) in &patches {
        let files = hunks(patch);
        if files.values().all(Vec::is_empty) {
            objections.push(format!("{name}: no hunk"));
        }
        for (file, hunks) in files {
            let text = std::fs::read_to_string(root().join(file)).unwrap_or_default();
            let wrong = hunks.iter().filter_map(|hunk| objection(&text, hunk));
            objections.extend(wrong.map(|wrong| format!("{name}: {file}: {wrong}")));
        }
    }
    assert_eq!(objections, [""; 0]);
}

#[test]
fn every_patch_says_which_rule_it_breaks_and_who_notices() {
    for (name, patch) in patches() {
        let mut lines = patch.lines();
        for key in ["Breaks: ", "Suite: "] {
            let said = lines.next().and_then(|line| line.strip_prefix(key));
            assert!(said.is_some_and(|said| !said.trim().is_empty()), "{name}: {key}");
            let suites = said.filter(|_| key == "Suite: ").unwrap_or("").split_whitespace().collect::<Vec<_>>();
            let targets = suites.windows(2).filter(|pair| pair[0] == "--test").map(|pair| pair[1]);
            for target in targets {
                assert_ne!(target, "mutations", "{name}: notices every patch");
            }
        }
        assert_eq!(lines.next(), Some(""), "{name}: an empty line before the patch");
    }
}
