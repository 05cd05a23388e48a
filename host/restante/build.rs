//! Lists the files that `restante policy new` writes into projects, so that a new one is not forgotten.

use std::env;
use std::error::Error;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

/// Names of constants, and the folders whose files they have.
const EMBEDDED: [(&str, &str); 3] =
    [("SDK", "plugin/sdk"), ("C", "plugin/examples/metered-link"), ("JAVASCRIPT", "plugin/examples/sender-rules")];
/// What builds leave behind.
const LEFT_OUT: [&str; 4] = ["target", "node_modules", "package-lock.json.tmp", "build"];

fn main() {
    if let Err(error) = embed() {
        println!("cargo::error={error}");
        std::process::exit(1);
    }
}

fn embed() -> Result<(), Box<dyn Error>> {
    let root = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?).join("../..").canonicalize()?;
    let mut text = String::new();
    for (name, folder) in EMBEDDED {
        let folder = root.join(folder);
        let mut files = Vec::new();
        list(&folder, &mut files)?;
        files.sort();
        writeln!(text, "pub const {name}: &[(&str, &[u8])] = &[")?;
        for file in files {
            let place = file.strip_prefix(&folder)?.to_string_lossy();
            writeln!(text, "    ({place:?}, include_bytes!({:?})),", file.to_string_lossy())?;
        }
        writeln!(text, "];")?;
    }
    fs::write(PathBuf::from(env::var("OUT_DIR")?).join("embedded.rs"), text)?;
    println!("cargo::rerun-if-changed=build.rs");
    Ok(())
}

fn list(folder: &Path, files: &mut Vec<PathBuf>) -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed={}", folder.display());
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let is_left_out = path.file_name().is_some_and(|name| LEFT_OUT.iter().any(|left_out| name == *left_out));
        if is_left_out || path.extension().is_some_and(|ending| ending == "wasm") {
            continue;
        }
        if path.is_dir() {
            list(&path, files)?;
        } else {
            files.push(path);
        }
    }
    Ok(())
}
