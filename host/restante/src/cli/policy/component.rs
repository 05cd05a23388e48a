//! `restante policy component`

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Args;

use super::subject::Subject;
use crate::cli::output::say;
use crate::cli::table::harmless;

#[derive(Args, Debug)]
pub struct Arguments {
    /// A core module for wasm32-unknown-unknown. A component is copied as it is.
    file: PathBuf,
    /// File to write the component to.
    #[arg(long, short, value_name = "FILE")]
    output: PathBuf,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// # Errors
/// No component can be made of it, or it cannot be written.
pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    let subject = Subject::read(&arguments.file)?;
    let output = arguments.output.display().to_string();
    std::fs::write(&arguments.output, &subject.component).with_context(|| output.clone())?;
    let size = subject.component.len();
    if arguments.json {
        let made = serde_json::json!({ "output": output, "size-bytes": size, "was-core-module": subject.was_module });
        say!("{}", serde_json::to_string_pretty(&made)?);
    } else {
        let was = if subject.was_module { "made of a core module" } else { "was one already" };
        say!("{}: a component of {size} bytes, {was}", harmless(&output));
    }
    Ok(ExitCode::SUCCESS)
}
