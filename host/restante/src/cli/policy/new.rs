//! `restante policy new`: a project that builds at once, without this repository. What it needs of it, the SDK and the
//! contract, is in the program.

mod embedded {
    //! Files of this repository, by their paths in a folder of it.
    include!(concat!(env!("OUT_DIR"), "/embedded.rs"));

    /// The contract.
    pub const CONTRACT: &[u8] = include_bytes!("../../../../../wit/policy.wit");
    /// The versions that the examples are built and tested with.
    pub const LOCK: &[u8] = include_bytes!("../../../../../plugin/Cargo.lock");
}

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};

use crate::cli::output::say;
use crate::cli::table::harmless;

const MAX_NAME_BYTES: usize = 60;
/// Names that cargo, or the SDK, has already.
const TAKEN: [&str; 7] = ["alloc", "build", "core", "restante-policy-sdk", "std", "target", "test"];

#[derive(Args, Debug)]
pub struct Arguments {
    /// The policy's name: lowercase letters, digits and hyphens.
    #[arg(value_parser = checked_name)]
    name: String,
    /// Programming language.
    #[arg(long, value_enum, default_value_t = Language::Rust)]
    lang: Language,
    /// Directory for the project; by default a new one with the policy's name.
    #[arg(long, value_name = "DIRECTORY")]
    directory: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Language {
    /// With the SDK.
    Rust,
    /// Freestanding, with clang.
    C,
    /// With componentize-js, which brings an engine of its own.
    #[value(name = "js", alias = "javascript")]
    JavaScript,
}

/// # Errors
/// The directory is there already, or cannot be written.
pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    let directory = arguments.directory.clone().unwrap_or_else(|| PathBuf::from(&arguments.name));
    create(&directory, &files(&arguments.name, arguments.lang))?;
    say!("{}: a policy in {}", harmless(&directory.display().to_string()), language(arguments.lang));
    say!("README.md says how to build, test and use it.");
    Ok(ExitCode::SUCCESS)
}

fn language(language: Language) -> &'static str {
    match language {
        Language::Rust => "Rust",
        Language::C => "C",
        Language::JavaScript => "JavaScript",
    }
}

fn checked_name(name: &str) -> Result<String, String> {
    let starts_well = name.starts_with(|first: char| first.is_ascii_lowercase()) && !name.ends_with('-');
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if !starts_well || name.len() > MAX_NAME_BYTES || !name.bytes().all(allowed) {
        return Err(format!(
            "expected a lowercase letter, then lowercase letters, digits and hyphens, at most {MAX_NAME_BYTES} in all"
        ));
    }
    if TAKEN.contains(&name) {
        return Err("is taken; expected another name".to_owned());
    }
    Ok(name.to_owned())
}

/// A file of a project: its path, and what is in it.
type File = (String, Vec<u8>);

fn files(name: &str, language: Language) -> Vec<File> {
    let mut files = match language {
        Language::Rust => rust(name),
        Language::C => example(embedded::C, "metered-link", name),
        Language::JavaScript => example(embedded::JAVASCRIPT, "sender-rules", name),
    };
    files.push(("wit/policy.wit".to_owned(), embedded::CONTRACT.to_vec()));
    files
}

fn rust(name: &str) -> Vec<File> {
    /// The files of a project that are its author's.
    const OWN: [(&str, &str); 6] = [
        ("Cargo.toml", include_str!("new/rust/Cargo.toml.txt")),
        (".cargo/config.toml", include_str!("../../../../../plugin/.cargo/config.toml")),
        (".gitignore", include_str!("new/rust/gitignore.txt")),
        ("README.md", include_str!("new/rust/README.md")),
        ("src/lib.rs", include_str!("new/rust/lib.rs")),
        ("cases/kept.json", include_str!("new/rust/kept.json")),
    ];
    let named = |text: &str| text.replace("my-policy", name).replace("my_policy", &name.replace('-', "_"));
    let own = OWN.iter().map(|(place, text)| ((*place).to_owned(), named(text).into_bytes()));
    let lock = [("Cargo.lock".to_owned(), embedded::LOCK.to_vec())];
    let sdk =
        embedded::SDK.iter().map(|(place, bytes)| (format!("vendor/restante-policy-sdk/{place}"), bytes.to_vec()));
    own.chain(lock).chain(sdk).collect()
}

/// An example of the repository under another name.
fn example(files: &[(&str, &[u8])], its_name: &str, name: &str) -> Vec<File> {
    let renamed = |bytes: &[u8]| match std::str::from_utf8(bytes) {
        Ok(text) => text.replace(its_name, name).into_bytes(),
        Err(_) => bytes.to_vec(),
    };
    files.iter().map(|(place, bytes)| ((*place).to_owned(), renamed(bytes))).collect()
}

/// Writes a project into a directory that is not there yet, or is empty.
fn create(directory: &Path, files: &[File]) -> Result<()> {
    let place = || directory.display().to_string();
    match fs::read_dir(directory).map(|mut entries| entries.next().is_none()) {
        Ok(true) => {}
        Ok(false) => bail!("{}: is not empty; expected a new directory", place()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error).with_context(place),
    }
    for (name, bytes) in files {
        let path = directory.join(name);
        let folder = path.parent().unwrap_or(directory);
        fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
        fs::write(&path, bytes).with_context(|| path.display().to_string())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_what_cargo_and_npm_take() {
        for good in ["a", "quiet-hours", "tier2"] {
            assert!(checked_name(good).is_ok(), "{good}");
        }
        let long = "x".repeat(61);
        for bad in ["", "-a", "a-", "2a", "Quiet", "a_b", "a/b", "..", "ä", "test", "std", long.as_str()] {
            assert!(checked_name(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_project_is_written_into_a_new_directory_and_over_nothing() {
        let parent = tempfile::tempdir().unwrap();
        for language in [Language::Rust, Language::C, Language::JavaScript] {
            let directory = parent.path().join(format!("{language:?}"));
            create(&directory, &files("my-own", language)).unwrap();
            let read = |name: &str| fs::read_to_string(directory.join(name)).unwrap();
            assert!(read("README.md").contains("my-own"));
            assert_eq!(read("wit/policy.wit").as_bytes(), embedded::CONTRACT);
            assert!(directory.join("cases").read_dir().unwrap().count() > 0);
            let error = create(&directory, &[]).unwrap_err().to_string();
            assert!(error.contains("is not empty"), "{error}");
        }
    }
}
