//! Contracts that were released stay as they are.

use std::path::{Path, PathBuf};

use data_encoding::HEXLOWER;
use sha2::{Digest, Sha256};

/// Every version that was released, and the SHA-256 of its text.
const RELEASED: [(&str, &str); 1] = [("0.1.0", "b8ca88924d3f8fbb81a1d6b31f785c18aeeda3edc33cdc02771806d45b7cc75b")];

fn wit() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../wit")
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn digest(text: &str) -> String {
    HEXLOWER.encode(&Sha256::digest(text))
}

#[test]
fn a_released_contract_is_word_for_word_what_it_was() {
    let mut found: Vec<String> = std::fs::read_dir(wit().join("released"))
        .expect("released versions")
        .map(|entry| entry.expect("an entry").file_name().into_string().expect("a version"))
        .collect();
    found.sort();
    assert_eq!(found, RELEASED.map(|(version, _)| version));
    for (version, expected) in RELEASED {
        let text = read(&wit().join("released").join(version).join("policy.wit"));
        assert_eq!(digest(&text), expected, "{version} changed: what is new belongs into another version");
        assert!(text.contains(&format!("package restante:policy@{version};")), "{version}");
    }
}

#[test]
fn the_newest_contract_is_a_released_one_or_has_a_number_of_its_own() {
    let text = read(&wit().join("policy.wit"));
    let (_, rest) = text.split_once("package restante:policy@").expect("a package");
    let (version, _) = rest.split_once(';').expect("its version");
    if RELEASED.iter().any(|(released, _)| *released == version) {
        let released = read(&wit().join("released").join(version).join("policy.wit"));
        assert!(text == released, "wit/policy.wit differs from what was released as {version}");
    }
    let changes = read(&wit().join("CHANGES.md"));
    for version in RELEASED.iter().map(|(version, _)| *version).chain([version]) {
        assert!(changes.contains(&format!("\n## {version}\n")), "{version} is not in the log of changes");
    }
}
