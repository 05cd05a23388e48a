//! Builds the guests of `plugin/` for wasm32-unknown-unknown and makes components of them, in `OUT_DIR`:
//! `standard.wasm`, which the library embeds, and the others, which only tests read; and the core modules of all.
//!
//! Beside them lie the components that were written by hand, of [`by_hand`].
//!
//! The guests have a workspace, a lock file and a target directory of their own. Flags and wrappers meant for the host
//! are kept from them.

#[path = "build/by_hand.rs"]
mod by_hand;

use std::env;
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use wit_component::ComponentEncoder;

const TARGET: &str = "wasm32-unknown-unknown";
/// Names of packages, and folders of `plugin/`.
const GUESTS: [(&str, &str); 9] = [
    ("standard", "standard"),
    ("hostile", "hostile"),
    ("scripted", "scripted"),
    ("next", "next"),
    ("quiet-hours", "examples/quiet-hours"),
    ("paid-tiers", "examples/paid-tiers"),
    ("spam-brake", "examples/spam-brake"),
    ("emergency-first", "examples/emergency-first"),
    ("guardian-hold", "examples/guardian-hold"),
];

/// What cargo or its user set for the host.
const HOST_VARIABLES: [&str; 9] = [
    "RUSTFLAGS",
    "CARGO_ENCODED_RUSTFLAGS",
    "CARGO_BUILD_RUSTFLAGS",
    "RUSTC_WRAPPER",
    "RUSTC_WORKSPACE_WRAPPER",
    "CARGO_BUILD_RUSTC_WRAPPER",
    "CARGO_BUILD_TARGET",
    "CARGO_TARGET_DIR",
    "CLIPPY_ARGS",
];

fn main() {
    if let Err(error) = build() {
        println!("cargo::error={error}");
        std::process::exit(1);
    }
}

fn build() -> Result<(), Box<dyn Error>> {
    let root = PathBuf::from(variable("CARGO_MANIFEST_DIR")?).join("../..");
    let plugin = root.join("plugin");
    let out = PathBuf::from(variable("OUT_DIR")?);
    for watched in ["Cargo.toml", "Cargo.lock", ".cargo/config.toml"] {
        println!("cargo::rerun-if-changed={}", plugin.join(watched).display());
    }
    for folder in GUESTS.map(|(_, folder)| folder).into_iter().chain(["sdk"]) {
        for watched in ["Cargo.toml", "src"] {
            println!("cargo::rerun-if-changed={}", plugin.join(folder).join(watched).display());
        }
    }
    println!("cargo::rerun-if-changed={}", plugin.join(by_hand::SOURCE).display());
    println!("cargo::rerun-if-changed={}", root.join("wit").display());
    println!("cargo::rerun-if-changed=src/contract/next/wit");
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=build");
    println!("cargo::metadata=directory={}", out.display());

    check_target()?;
    let built = compile(&plugin, &out.join("guest"))?;
    for (guest, _) in GUESTS {
        let core_module = fs::read(built.join(format!("{}.wasm", guest.replace('-', "_"))))?;
        fs::write(out.join(format!("{guest}.core.wasm")), &core_module)?;
        let component = ComponentEncoder::default()
            .module(&core_module)
            .and_then(|encoder| encoder.validate(true).encode())
            .map_err(|error| format!("the guest {guest} cannot be made a component: {error:#}"))?;
        fs::write(out.join(format!("{guest}.wasm")), component)?;
    }
    by_hand::build(&plugin, &root.join("wit"), &out)
}

fn variable(name: &str) -> Result<String, String> {
    env::var(name).map_err(|_| format!("{name} is not set: this is run by cargo"))
}

/// Says what to do when the target's standard library is missing, which cargo would say less clearly.
fn check_target() -> Result<(), Box<dyn Error>> {
    let found = Command::new(variable("RUSTC")?).args(["--print", "target-libdir", "--target", TARGET]).output()?;
    let directory = String::from_utf8_lossy(&found.stdout).trim().to_owned();
    if found.status.success() && Path::new(&directory).is_dir() {
        return Ok(());
    }
    Err(format!("policies are built for {TARGET}, which is not installed; run: rustup target add {TARGET}").into())
}

/// Builds the guests; gives the directory of the core modules.
fn compile(plugin: &Path, target_directory: &Path) -> Result<PathBuf, Box<dyn Error>> {
    let mut cargo = Command::new(variable("CARGO")?);
    cargo.current_dir(plugin).args(["build", "--release", "--locked", "--target", TARGET, "--target-dir"]);
    cargo.arg(target_directory);
    for (guest, _) in GUESTS {
        cargo.args(["--package", guest]);
    }
    for name in HOST_VARIABLES {
        cargo.env_remove(name);
    }
    let output = cargo.output()?;
    if !output.status.success() {
        return Err(format!("the guests do not build:\n{}", String::from_utf8_lossy(&output.stderr)).into());
    }
    Ok(target_directory.join(TARGET).join("release"))
}
