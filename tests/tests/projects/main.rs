//! What `restante policy new` makes is built by the tools that its README names, holds to its cases, and is taken by a
//! server. A project in a language whose toolchain is not there is skipped (tests/toolchains/README.md).

use std::io::Write as _;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use restante_deferral::decision::HostAbilities;
use restante_policy::{Loader, PolicyEngine, PolicyLimits};
use restante_tests::{binary, run};
use tempfile::TempDir;

const TARGET: &str = "wasm32-unknown-unknown";
/// What cargo says to the tests and is not meant for projects.
const OTHERS: [&str; 5] =
    ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "CARGO_BUILD_TARGET", "CARGO_TARGET_DIR", "RUSTC_WORKSPACE_WRAPPER"];

/// A new project of this name, in a directory of its own.
fn project(name: &str, language: &str) -> TempDir {
    let directory = tempfile::tempdir().expect("a directory");
    let place = text(directory.path());
    let made = run(&["policy", "new", name, "--lang", language, "--directory", place]);
    assert!(made.status.success(), "{}", made.stderr);
    directory
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path in Unicode")
}

fn succeed(command: &mut Command) {
    let output = command.output().expect("a program that runs");
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{command:?}\n{said}");
}

/// The target directory of this workspace.
fn target() -> PathBuf {
    binary().parent().and_then(Path::parent).expect("target/release").to_owned()
}

fn cargo(project: &Path, target: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    // What the guests were built of is on this machine.
    command.current_dir(project).args(arguments).arg("--offline").arg("--target-dir").arg(target);
    for name in OTHERS {
        command.env_remove(name);
    }
    command
}

/// Every case of the project holds.
fn hold_to_cases(project: &Path, policy: &Path) {
    let tested = run(&["policy", "test", text(project), "--policy", text(policy)]);
    assert!(tested.status.success(), "{}{}", tested.stdout, tested.stderr);
}

/// A server takes it, by this name and with a schema.
fn is_taken(policy: &Path, name: &str, limits: PolicyLimits) {
    let loader = Loader::new(PolicyEngine::new(limits).expect("an engine"), None).expect("a loader");
    let bytes = std::fs::read(policy).expect("a policy");
    let host = HostAbilities { max_page_bytes: 1_300, max_message_bytes: 1 << 20, hand_over_targets: Vec::new() };
    let loaded = loader.load(&bytes, "{}", &host).unwrap_or_else(|error| panic!("{error}"));
    let description = loaded.generation.description();
    assert_eq!(description.name, name);
    assert!(description.settings_schema.as_deref().is_some_and(|schema| schema.contains("properties")));
}

fn skip(id: &str, script: &str) {
    // Past the capture of the test harness.
    let _ = writeln!(std::io::stderr(), "SKIPPED {id}: see tests/toolchains/{script}");
}

#[test]
fn a_project_in_rust_is_tested_built_and_taken() {
    let project = project("my-own", "rust");
    // The same dependencies as the guests of the repository, which are built already.
    succeed(&mut cargo(project.path(), &target().join("guest-tests"), &["test"]));
    let guests = Path::new(env!("RESTANTE_GUESTS")).join("guest");
    succeed(&mut cargo(project.path(), &guests, &["build", "--release", "--target", TARGET]));
    let module = guests.join(TARGET).join("release/my_own.wasm");
    hold_to_cases(project.path(), &module);
    let component = project.path().join("my-own.component");
    let made = run(&["policy", "component", text(&module), "--output", text(&component)]);
    assert!(made.status.success(), "{}", made.stderr);
    is_taken(&component, "my-own", PolicyLimits::default());
}

#[test]
fn a_project_in_c_is_built_and_taken() {
    let clang = target().join("toolchains/c/clang");
    if !clang.is_file() {
        return skip("c-policy", "c.sh");
    }
    let project = project("my-own", "c");
    let mut make = Command::new("make");
    make.current_dir(project.path()).env_remove("MAKEFLAGS").arg("test");
    make.arg(format!("CLANG={}", clang.display())).arg(format!("RESTANTE={}", binary().display()));
    succeed(&mut make);
    let component = project.path().join("my-own.wasm");
    hold_to_cases(project.path(), &component);
    is_taken(&component, "my-own", PolicyLimits::default());
}

#[test]
fn a_project_in_javascript_is_built_and_taken_where_it_may_be_large() {
    let modules = target().join("toolchains/javascript/node_modules");
    if !modules.join("@bytecodealliance/componentize-js").is_dir() {
        return skip("javascript-policy", "javascript.sh");
    }
    let project = project("my-own", "js");
    symlink(modules, project.path().join("node_modules")).expect("a link");
    succeed(Command::new("node").current_dir(project.path()).arg("build.js"));
    let component = project.path().join("my-own.wasm");
    hold_to_cases(project.path(), &component);
    // As the README of the project has it.
    is_taken(&component, "my-own", PolicyLimits { max_component_bytes: 13_631_488, ..PolicyLimits::default() });
}
