//! Tells the stories where the guests are that the build script of `host/policy` made.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let directory = std::env::var("DEP_RESTANTE_GUESTS_DIRECTORY").unwrap_or_default();
    println!("cargo::rustc-env=RESTANTE_GUESTS={directory}");
}
