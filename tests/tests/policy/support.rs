//! A directory with files, and commands about them.

use std::path::PathBuf;

use restante_tests::{Finished, guest, run};
use serde_json::Value;
use tempfile::TempDir;

/// A directory of an author.
pub struct Desk {
    directory: TempDir,
}

impl Desk {
    pub fn new() -> Desk {
        Desk { directory: tempfile::tempdir().expect("a directory") }
    }

    /// The path of a file here.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Its path as an argument.
    pub fn argument(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    /// Writes a file; gives its path as an argument.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> String {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().expect("a directory")).expect("a directory");
        std::fs::write(&path, content).expect("a file");
        path.display().to_string()
    }

    /// What a command said, the directory's own path written as DESK.
    pub fn shown(&self, text: &str) -> String {
        text.replace(&self.directory.path().display().to_string(), "DESK")
    }
}

/// The core module that a guest was before it was made a component.
pub fn core_module(name: &str) -> String {
    guest(name).replace(".wasm", ".core.wasm")
}

/// Runs `restante policy`.
pub fn policy(arguments: &[&str]) -> Finished {
    run(&[&["policy"], arguments].concat())
}

/// Runs it with `--json`; its status and what it wrote.
pub fn policy_json(arguments: &[&str]) -> (Option<i32>, Value) {
    let finished = policy(&[arguments, &["--json"]].concat());
    let value = serde_json::from_str(&finished.stdout).unwrap_or_else(|error| panic!("{error}: {finished:?}"));
    (finished.status.code(), value)
}
